//! The CQL store runs the conformance suite against a real server: with buckets of the usual size,
//! and with ones so small that every few batches begin a new one.

mod support;

mod usual {
    use super::support::Space;

    rekindle_store_conformance::conformance_suite!(match Space::fresh().await {
        Some(space) => space,
        None => return,
    });
}

mod tiny_buckets {
    use super::support::Space;

    async fn fresh() -> Option<Space> {
        let mut space = Space::fresh().await?;
        space.options.bucket = 4;
        Some(space)
    }

    // The cases in which buckets matter.
    rekindle_store_conformance::conformance_suite!(@ match fresh().await {
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

mod lost {
    use rekindle_schema::lease::Reached;
    use rekindle_schema::{Incarnation, MatchId};
    use rekindle_store::history::{self, HistoryError, LoadOptions};
    use rekindle_store::{Store, witness};
    use rekindle_store_conformance::{Backend, Scribe, match_lease, register};

    use super::support::{Space, bare};

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
        let Some(mut space) = Space::fresh().await else { return };
        space.options.bucket = 4;
        let store = space.open().await;
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
        let session = bare(&space.keyspace.address).await;
        let table = format!(
            "DELETE FROM {}.log_batch WHERE space = '{}' AND log = {}",
            space.keyspace.name, space.options.space, NODE.0
        );
        for (rows, what) in [
            (" AND bucket = 2 AND number = 10", "a row"),
            (" AND bucket = 2", "a partition"),
            (" AND bucket = 1", "two partitions"),
            (" AND bucket = 0", "everything"),
        ] {
            session.query_unpaged(format!("{table}{rows}"), ()).await.unwrap();
            noticed(&store, what).await;
        }
    }
}
