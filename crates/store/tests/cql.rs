//! The CQL store runs the conformance suite against a real server: with buckets of the usual size, and with ones so small that every few batches begin a
//! new one.

mod cql_support;

mod usual {
    use super::cql_support::Space;

    rekindle_store::conformance_suite!(match Space::fresh().await {
        Some(space) => space,
        None => return,
    });
}

mod tiny_buckets {
    use super::cql_support::Space;

    async fn fresh() -> Option<Space> {
        let mut space = Space::fresh().await?;
        space.options.bucket = 4;
        Some(space)
    }

    rekindle_store::conformance_suite!(match fresh().await {
        Some(space) => space,
        None => return,
    });
}
