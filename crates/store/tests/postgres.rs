//! The Postgres store runs the conformance suite on a real server: with partitions of the usual size, and with ones so small that every few batches
//! begin a new one.

mod postgres_support;

mod usual {
    use super::postgres_support::Fresh;

    rekindle_store::conformance_suite!(match Fresh::new().await {
        Some(fresh) => fresh,
        None => return,
    });
}

mod tiny_partitions {
    use super::postgres_support::Fresh;

    async fn fresh() -> Option<Fresh> {
        let mut fresh = Fresh::new().await?;
        fresh.options.segment_batches = 4;
        Some(fresh)
    }

    // The cases in which partitions matter.
    rekindle_store::conformance_suite!(@ match fresh().await {
            Some(fresh) => fresh,
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
        a_fenced_owner_gets_no_acknowledgement,
        one_seal_stands,
        a_history_spans_owners,
        a_zombie_behind_the_seal_does_not_count,
        missing_records_are_not_passed_over,
        many_histories_come_from_one_log,
    );
}
