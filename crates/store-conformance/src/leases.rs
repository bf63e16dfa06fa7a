//! Leases, the match directory, effects.

use rekindle_schema::checkpoint::CheckpointBase;
use rekindle_schema::lease::{MatchState, NodeState, Reached, StoredCheckpoint};
use rekindle_schema::record::{Effect, EffectId};
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq, Tick};
use rekindle_store::{Renewal, StoreError};

use super::{A, B, Backend, NODE, OTHER, Scribe, match_lease, node_lease, open_many, register};

/// From the moment it is fenced, an owner's batches are not acknowledged, whether or not they are
/// written.
pub async fn a_fenced_owner_gets_no_acknowledgement(backend: &impl Backend) {
    let (mine, theirs) = (backend.open().await, backend.open().await);
    register(&mine, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let written = scribe.append(&mine, 3, &[A]).await;
    theirs.leases.fence(NODE).await.unwrap();
    theirs.leases.fence(NODE).await.unwrap();
    for batch in [scribe.small(&[A]), written[2].clone()] {
        let refused = mine.journal.append(batch).await.unwrap_err();
        assert!(matches!(refused, StoreError::Fenced(NODE)), "{refused}");
        assert!(!refused.is_transient());
    }
    assert_eq!(mine.leases.renew(NODE, 9_999, None).await.unwrap(), Renewal::Fenced);
    assert_eq!(mine.leases.stop(NODE).await.unwrap(), Renewal::Fenced);
    assert_eq!(mine.leases.node(NODE).await.unwrap().unwrap().state, NodeState::Fenced);
    assert_eq!(mine.leases.node(NODE).await.unwrap().unwrap().deadline_ms, 1_000);
    let stranger = Scribe::new(OTHER).small(&[A]);
    assert!(
        matches!(mine.journal.append(stranger).await, Err(StoreError::Fenced(OTHER))),
        "a node without a lease is no live node"
    );
}

/// Of those who seal a log at the same time one is heard, and all are told by whom.
pub async fn one_seal_stands(backend: &impl Backend) {
    let stores = open_many(backend, 4).await;
    register(&stores[0], NODE).await;
    Scribe::new(NODE).append(&stores[0], 8, &[A]).await;
    assert!(
        matches!(stores[0].leases.seal(NODE, BatchNo(8)).await, Err(StoreError::Refused { .. })),
        "a live log cannot be sealed"
    );
    stores[1].leases.fence(NODE).await.unwrap();
    for store in &stores {
        let tail = store.journal.tail(NODE).await.unwrap();
        assert_eq!(tail.last, BatchNo(8));
        store.journal.settle(NODE, tail.last).await.unwrap();
    }
    let seals =
        (0..12).map(|index| stores[index % 4].leases.seal(NODE, BatchNo(index as u64 % 3 + 6)));
    let seals: Vec<BatchNo> =
        futures::future::join_all(seals).await.into_iter().map(Result::unwrap).collect();
    assert!(seals.iter().all(|seal| *seal == seals[0]), "{seals:?}");
    assert_eq!(stores[2].leases.node(NODE).await.unwrap().unwrap().seal, Some(seals[0]));
    assert_eq!(stores[3].leases.seal(NODE, BatchNo(1)).await.unwrap(), seals[0]);
}

/// What a node says of its log at a renewal stays in its lease, until an operator accepts that the
/// log is shorter.
pub async fn a_renewal_says_how_far_the_log_has_come(backend: &impl Backend) {
    let (store, other) = (backend.open().await, backend.open().await);
    register(&store, NODE).await;
    let lease = async || other.leases.node(NODE).await.unwrap().unwrap();
    assert_eq!((lease().await.reached, lease().await.known_end()), (None, None));
    let checkpoint =
        StoredCheckpoint { match_id: A, name: CheckpointBase { epoch: Epoch(3), seq: Seq(77) } };
    let reached = Reached {
        batch: BatchNo(7),
        crc: 0xfedc_ba98,
        at_ms: 1_700_000_000_123,
        checkpoint: Some(checkpoint),
    };
    for (deadline, said, stands) in [
        (2_000, Some(Reached { batch: BatchNo(5), checkpoint: None, ..reached }), BatchNo(5)),
        (3_000, None, BatchNo(5)),
        (4_000, Some(reached), BatchNo(7)),
        (5_000, None, BatchNo(7)),
    ] {
        assert_eq!(store.leases.renew(NODE, deadline, said).await.unwrap(), Renewal::Live);
        assert_eq!(
            (lease().await.deadline_ms, lease().await.known_end()),
            (deadline, Some(stands))
        );
    }
    assert_eq!(lease().await.reached, Some(reached));
    assert_eq!(other.leases.nodes().await.unwrap()[0].reached, Some(reached));
    let early = store.leases.accept_loss(NODE, BatchNo(2), 1).await;
    assert!(
        matches!(early, Err(StoreError::Refused { .. })),
        "the log of a live node is not given up"
    );
    store.leases.fence(NODE).await.unwrap();
    let later = Reached { batch: BatchNo(9), ..reached };
    assert_eq!(store.leases.renew(NODE, 9_000, Some(later)).await.unwrap(), Renewal::Fenced);
    assert_eq!(lease().await.reached, Some(reached), "a fenced node says nothing more");
    assert_eq!(other.leases.seal(NODE, BatchNo(7)).await.unwrap(), BatchNo(7));
    for _ in 0..2 {
        other.leases.accept_loss(NODE, BatchNo(2), 1_700_000_009_000).await.unwrap();
        let given_up = store.leases.node(NODE).await.unwrap().unwrap();
        assert_eq!(
            (given_up.state, given_up.seal, given_up.known_end()),
            (NodeState::Fenced, Some(BatchNo(2)), Some(BatchNo(2)))
        );
        assert_eq!(given_up.loss_accepted_ms, Some(1_700_000_009_000));
    }
    assert_eq!(store.leases.seal(NODE, BatchNo(7)).await.unwrap(), BatchNo(2), "that seal stands");
    assert!(matches!(
        store.leases.accept_loss(OTHER, BatchNo(2), 1).await,
        Err(StoreError::NotFound(_))
    ));
}

/// Live, then stopped or fenced, and never back.
pub async fn the_lease_of_a_node_goes_one_way(backend: &impl Backend) {
    let store = backend.open().await;
    let unknown = store.leases.renew(NODE, 1, None).await.unwrap_err();
    assert!(matches!(unknown, StoreError::NotFound(_)), "{unknown}");
    register(&store, NODE).await;
    register(&store, NODE).await;
    let mut other = node_lease(NODE);
    other.name.push_str(" in disguise");
    assert!(matches!(store.leases.register(other).await, Err(StoreError::Refused { .. })));
    assert_eq!(store.leases.renew(NODE, 5_000, None).await.unwrap(), Renewal::Live);
    assert_eq!(backend.open().await.leases.node(NODE).await.unwrap().unwrap().deadline_ms, 5_000);
    assert!(
        matches!(store.leases.forget(NODE).await, Err(StoreError::Refused { .. })),
        "a live lease cannot be removed"
    );
    register(&store, OTHER).await;
    assert_eq!(store.leases.stop(OTHER).await.unwrap(), Renewal::Live);
    assert_eq!(store.leases.stop(OTHER).await.unwrap(), Renewal::Live);
    assert_eq!(
        store.leases.renew(OTHER, 7_000, None).await.unwrap(),
        Renewal::Fenced,
        "a stopped node does not come back"
    );
    let states: Vec<_> = store
        .leases
        .nodes()
        .await
        .unwrap()
        .iter()
        .map(|lease| (lease.incarnation, lease.state))
        .collect();
    assert_eq!(states, [(NODE, NodeState::Live), (OTHER, NodeState::Stopped)]);
    assert!(matches!(
        store.journal.append(Scribe::new(OTHER).small(&[A])).await,
        Err(StoreError::Fenced(_))
    ));
    store.leases.fence(OTHER).await.unwrap();
    assert_eq!(store.leases.seal(OTHER, BatchNo(0)).await.unwrap(), BatchNo(0));
    store.leases.forget(OTHER).await.unwrap();
    store.leases.forget(OTHER).await.unwrap();
    assert_eq!(store.leases.nodes().await.unwrap().len(), 1);
}

/// Of many who change a row that they all read, one succeeds, round after round; the others are
/// told what stands.
pub async fn one_of_many_takers_gets_the_match(backend: &impl Backend) {
    const TAKERS: u64 = 8;
    let stores = open_many(backend, TAKERS as usize).await;
    stores[0].leases.create(match_lease(A, &[(NODE, 1)])).await.unwrap();
    for round in 1..=5u64 {
        let row = stores[0].leases.get(A).await.unwrap().unwrap();
        assert_eq!((row.version, row.epoch.0), (round, round));
        let takers = stores.iter().zip(1..).map(|(store, taker)| {
            let mut wanted = row.clone();
            wanted.version += 1;
            wanted.epoch = wanted.epoch.next();
            wanted.incarnation = Incarnation(round * 100 + taker);
            async move { (wanted.incarnation, store.leases.compare_and_set(wanted).await.unwrap()) }
        });
        let outcomes = futures::future::join_all(takers).await;
        let won: Vec<_> = outcomes
            .iter()
            .filter(|(_, outcome)| outcome.is_ok())
            .map(|(taker, _)| *taker)
            .collect();
        assert_eq!(won.len(), 1, "round {round}: {won:?}");
        for (_, outcome) in outcomes {
            if let Err(stands) = outcome {
                assert_eq!(stands.unwrap().incarnation, won[0]);
            }
        }
    }
}

/// What is in a row comes back, and rows are listed by match.
pub async fn directory_rows_come_back(backend: &impl Backend) {
    let store = backend.open().await;
    let mut row = match_lease(B, &[(NODE, 1), (OTHER, 17)]);
    row.spec.config = vec![1, 2, 3].into();
    row.state = MatchState::Parked { report: "system `aim` panicked at tick 7".to_owned() };
    store.leases.create(row.clone()).await.unwrap();
    store.leases.create(row.clone()).await.unwrap();
    store.leases.create(match_lease(A, &[(NODE, 1)])).await.unwrap();
    let mut other = row.clone();
    other.attempts = 3;
    assert!(matches!(store.leases.create(other.clone()).await, Err(StoreError::Refused { .. })));
    let reader = backend.open().await;
    assert_eq!(reader.leases.get(B).await.unwrap(), Some(row.clone()));
    assert_eq!(reader.leases.get(MatchId(77)).await.unwrap(), None);
    assert_eq!(
        reader.leases.matches().await.unwrap().iter().map(|row| row.match_id).collect::<Vec<_>>(),
        [A, B]
    );
    assert_eq!(
        store.leases.compare_and_set(other.clone()).await.unwrap(),
        Err(Some(row)),
        "the same version again is no successor"
    );
    other.version = 2;
    assert_eq!(store.leases.compare_and_set(other.clone()).await.unwrap(), Ok(()));
    other.match_id = MatchId(77);
    assert_eq!(store.leases.compare_and_set(other).await.unwrap(), Err(None));
    // Identifiers use all 64 bits.
    let high = MatchId(u64::MAX - 1);
    store.leases.create(match_lease(high, &[(Incarnation(u64::MAX), 1)])).await.unwrap();
    assert_eq!(reader.leases.matches().await.unwrap().last().map(|row| row.match_id), Some(high));
}

/// The same effect, however often and from wherever, counts once; the first delivery stands.
pub async fn effects_are_delivered_once(backend: &impl Backend) {
    let stores = open_many(backend, 3).await;
    let effect = |tick, ordinal, text: &str| Effect {
        id: EffectId { tick: Tick(tick), ordinal },
        kind: "result".to_owned(),
        payload: text.as_bytes().to_vec().into(),
    };
    let deliveries = (0..30)
        .map(|index| stores[index % 3].effects.deliver(A, effect(index as u64 / 10, 0, "won")));
    let new = futures::future::join_all(deliveries)
        .await
        .into_iter()
        .filter(|outcome| *outcome.as_ref().unwrap())
        .count();
    assert_eq!(new, 3);
    assert!(stores[0].effects.deliver(A, effect(0, 1, "lost")).await.unwrap());
    assert!(stores[0].effects.deliver(B, effect(0, 0, "won")).await.unwrap());
    assert!(!stores[1].effects.deliver(B, effect(0, 0, "something else")).await.unwrap());
    let expected = [
        (A, effect(0, 0, "won")),
        (A, effect(0, 1, "lost")),
        (A, effect(1, 0, "won")),
        (A, effect(2, 0, "won")),
    ];
    let found = backend.open().await.effects.delivered().await.unwrap();
    assert_eq!(found[..4], expected);
    assert_eq!(found[4..], [(B, effect(0, 0, "won"))]);
}
