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

    // The cases in which buckets matter.
    rekindle_store::conformance_suite!(@ match fresh().await {
            Some(space) => space,
            None => return,
        },
        batches_come_back_in_order,
        a_duplicate_append_is_harmless,
        a_conflicting_batch_is_refused,
        a_gap_is_refused,
        a_copy_of_a_trimmed_log_begins_where_it_did,
        a_log_can_be_read_while_it_grows,
        overload_is_refused_and_leaves_a_prefix,
        trimming_keeps_what_was_not_trimmed,
        a_dead_log_goes_as_a_whole,
        retention_keeps_what_recovery_needs,
        one_seal_stands,
        a_history_spans_owners,
        a_zombie_behind_the_seal_does_not_count,
    );
}
