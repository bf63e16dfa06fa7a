//! The Postgres store runs the conformance suite on a real server: with partitions of the usual
//! size, and with ones so small that every few batches begin a new one.

mod support;

mod usual {
    use super::support::Fresh;

    rekindle_store_conformance::conformance_suite!(match Fresh::new().await {
        Some(fresh) => fresh,
        None => return,
    });
}

mod tiny_partitions {
    use super::support::Fresh;

    async fn fresh() -> Option<Fresh> {
        let mut fresh = Fresh::new().await?;
        fresh.options.segment_batches = 4;
        Some(fresh)
    }

    // The cases in which partitions matter.
    rekindle_store_conformance::conformance_suite!(@ match fresh().await {
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

mod lost {
    use rekindle_schema::lease::Reached;
    use rekindle_schema::{Incarnation, MatchId};
    use rekindle_store::history::{self, HistoryError, LoadOptions};
    use rekindle_store::{Store, witness};
    use rekindle_store_conformance::{Scribe, match_lease, register};

    use super::support::Fresh;

    const NODE: Incarnation = Incarnation(0x51);
    const A: MatchId = MatchId(0x0a);

    async fn noticed(store: &Store, what: &str) {
        let lost =
            history::load(store, &match_lease(A, &[(NODE, 1)]), &LoadOptions::default()).await;
        assert!(
            matches!(lost, Err(HistoryError::Damaged { match_id: A, log: NODE, .. })),
            "{what}: {lost:?}"
        );
        let found = witness::look(store).await.unwrap();
        assert!(found.len() == 1 && found[0].contains("RK-STORE-110"), "{what}: {found:?}");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn rows_and_partitions_that_are_gone_at_the_end_of_a_log_are_noticed() {
        let Some(mut fresh) = Fresh::new().await else { return };
        fresh.options.segment_batches = 4;
        let store = fresh.store().await;
        register(&store, NODE).await;
        let written = Scribe::new(NODE).append(&store, 10, &[A]).await;
        let reached = Reached {
            batch: written[9].number,
            crc: written[9].crc(),
            at_ms: 1_700_000_001_000,
            checkpoint: None,
        };
        store.leases.renew(NODE, 5_000, Some(reached)).await.unwrap();
        assert_eq!(witness::look(&store).await.unwrap(), [""; 0]);
        let sql = fresh.client().await;
        sql.execute(&format!("DELETE FROM batch_{NODE}_9 WHERE number = 10"), &[]).await.unwrap();
        noticed(&store, "a row").await;
        sql.batch_execute(&format!("DROP TABLE batch_{NODE}_9")).await.unwrap();
        noticed(&store, "a table whose partition is still listed").await;
        sql.batch_execute(&format!(
            "DROP TABLE batch_{NODE}_1, batch_{NODE}_5; DELETE FROM segment"
        ))
        .await
        .unwrap();
        noticed(&store, "everything").await;
    }
}
