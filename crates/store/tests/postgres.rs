//! The Postgres store runs the conformance suite on a real server: with partitions of the usual size, and with ones so small that every few batches
//! begin a new one.

mod postgres_support;

mod usual {
    use crate::postgres_support::Suite;

    rekindle_store::conformance_suite!(Suite::new(None).await);
}

mod tiny_partitions {
    use crate::postgres_support::Suite;

    rekindle_store::conformance_suite!(Suite::new(Some(4)).await);
}
