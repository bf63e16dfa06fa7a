//! What servers and networks do wrong: lost answers, slowness, outages.

mod support;

use std::time::{Duration, Instant};

use rekindle_schema::lease::{MatchState, NodeState};
use rekindle_schema::record::{Effect, EffectId};
use rekindle_schema::{BatchNo, Incarnation, MatchId, Tick};
use rekindle_store::Renewal;
use rekindle_store::{Store, StoreError};
use rekindle_store_conformance::{Backend, Scribe, match_lease, node_lease, read_all, register};
use rekindle_store_cql::{CqlOptions, CqlStore};
use rekindle_testservers::Proxy;
use support::{Space, insist};

const A: MatchId = MatchId(0x0a);
const NODE: Incarnation = Incarnation(0xa1);

/// A store that reaches its server through a proxy.
async fn behind(space: &Space, timeout: Duration) -> (Proxy, Store) {
    let server = space.keyspace.address.split(',').next().unwrap_or_default();
    let proxy = Proxy::to(server);
    let store = CqlStore::connect(through(space, &proxy, timeout)).await.expect("the store opens");
    (proxy, store)
}

fn through(space: &Space, proxy: &Proxy, timeout: Duration) -> CqlOptions {
    let mut options = space.options.clone();
    (options.hosts, options.timeout) = (vec![proxy.address().to_string()], timeout);
    options
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_answer_was_lost_is_appended_once() {
    let Some(space) = Space::fresh().await else { return };
    let (proxy, store) = behind(&space, Duration::from_millis(800)).await;
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let mut written = scribe.append(&store, 3, &[A]).await;
    proxy.swallow_answers(true);
    let mut twin = scribe.clone();
    let batch = scribe.small(&[A]);
    let unknown = store.journal.append(batch.clone()).await.unwrap_err();
    assert!(matches!(unknown, StoreError::Unavailable(_)), "{unknown}");
    let direct = space.open().await;
    assert_eq!(direct.journal.tail(NODE).await.unwrap().last, BatchNo(4), "the write had arrived");
    proxy.swallow_answers(false);
    proxy.set_up(false);
    proxy.set_up(true);
    // Its number is taken, as long as nobody knows what became of it.
    let other = twin.batch(&[(A, b"something else")]);
    let refused = store.journal.append(other).await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict { number: BatchNo(4), .. }), "{refused}");
    insist(&store, &batch).await;
    written.push(batch);
    written.extend(scribe.append(&store, 2, &[A]).await);
    assert_eq!(read_all(&direct, NODE, 1, 1 << 20).await, written);
}

/// While `change` is under way its answer is lost; then the network is well again.
async fn with_lost_answer<T>(proxy: &Proxy, change: impl Future<Output = T>) -> T {
    proxy.swallow_answers(true);
    let heal = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        proxy.swallow_answers(false);
        proxy.set_up(false);
        proxy.set_up(true);
    };
    let (outcome, ()) = tokio::join!(change, heal);
    outcome
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_whose_answer_was_lost_is_looked_up() {
    let Some(space) = Space::fresh().await else { return };
    let (proxy, store) = behind(&space, Duration::from_secs(8)).await;
    let direct = space.open().await;
    with_lost_answer(&proxy, store.leases.register(node_lease(NODE))).await.unwrap();
    assert_eq!(
        with_lost_answer(&proxy, store.leases.renew(NODE, 7_000, None)).await.unwrap(),
        Renewal::Live
    );
    assert_eq!(direct.leases.node(NODE).await.unwrap().unwrap().deadline_ms, 7_000);
    with_lost_answer(&proxy, store.leases.create(match_lease(A, &[(NODE, 1)]))).await.unwrap();
    let mut row = direct.leases.get(A).await.unwrap().unwrap();
    (row.version, row.incarnation) = (2, Incarnation(0xb2));
    assert_eq!(
        with_lost_answer(&proxy, store.leases.compare_and_set(row.clone())).await.unwrap(),
        Ok(()),
        "it had been applied"
    );
    assert_eq!(direct.leases.get(A).await.unwrap(), Some(row.clone()));
    // Somebody else is faster: the answer to a change that lost is lost.
    let mut theirs = row.clone();
    (theirs.version, theirs.incarnation) = (3, Incarnation(0xc3));
    direct.leases.compare_and_set(theirs.clone()).await.unwrap().unwrap();
    (row.version, row.incarnation) = (3, Incarnation(0xd4));
    let lost = with_lost_answer(&proxy, store.leases.compare_and_set(row)).await.unwrap();
    assert_eq!(lost, Err(Some(theirs.clone())));
    with_lost_answer(&proxy, store.leases.fence(NODE)).await.unwrap();
    assert_eq!(
        with_lost_answer(&proxy, store.leases.seal(NODE, BatchNo(0))).await.unwrap(),
        BatchNo(0)
    );
    assert_eq!(
        with_lost_answer(&proxy, store.leases.seal(NODE, BatchNo(9))).await.unwrap(),
        BatchNo(0)
    );
    assert_eq!(direct.leases.node(NODE).await.unwrap().unwrap().state, NodeState::Fenced);
    let effect = Effect {
        id: EffectId { tick: Tick(1), ordinal: 0 },
        kind: "result".to_owned(),
        payload: vec![1].into(),
    };
    with_lost_answer(&proxy, store.effects.deliver(A, effect.clone())).await.unwrap();
    assert_eq!(direct.effects.delivered().await.unwrap(), [(A, effect)]);
    (theirs.version, theirs.state) = (4, MatchState::Ended { reason: "over".to_owned() });
    direct.leases.compare_and_set(theirs).await.unwrap().unwrap();
    // It reads before it writes, and a read whose answer is lost is up to the caller.
    match with_lost_answer(&proxy, store.leases.remove(A, 4)).await {
        Ok(gone) => assert!(gone),
        Err(error) => assert!(error.is_transient(), "{error}"),
    }
    while !store.leases.remove(A, 4).await.unwrap_or(false) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    with_lost_answer(&proxy, store.leases.forget(NODE)).await.unwrap();
    assert!(direct.leases.nodes().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_server_makes_backpressure() {
    const BATCHES: usize = 60;
    let Some(space) = Space::fresh().await else { return };
    let (proxy, store) = behind(&space, Duration::from_secs(10)).await;
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(&store, 1, &[A]).await;
    proxy.delay(Duration::from_millis(250));
    // Not compressible, so that what is sent is as long as what is to be stored.
    let payload: Vec<u8> =
        (0..1u64 << 20).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8).collect();
    let batches: Vec<_> = (0..BATCHES).map(|_| scribe.batch(&[(A, &payload)])).collect();
    let before = proxy.sent();
    let appends =
        futures::future::join_all(batches.iter().map(|batch| store.journal.append(batch.clone())));
    let watch = async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        proxy.sent() - before
    };
    let (outcomes, sent) = tokio::join!(appends, watch);
    assert!(sent < 4 << 20, "{sent} bytes were on the way at once");
    let overloaded =
        outcomes.iter().filter(|outcome| matches!(outcome, Err(StoreError::Overloaded(_)))).count();
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(
        (done, overloaded),
        (16, BATCHES - 16),
        "those that fit into the queue are done, the others refused"
    );
    proxy.delay(Duration::ZERO);
    for batch in &batches[done..] {
        insist(&store, batch).await;
    }
    assert_eq!(read_all(&space.open().await, NODE, 2, 8 << 20).await, batches);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_of_twenty_seconds_the_node_goes_on_by_itself() {
    let Some(space) = Space::fresh().await else { return };
    let (proxy, store) = behind(&space, Duration::from_secs(2)).await;
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let mut written = scribe.append(&store, 5, &[A]).await;
    proxy.set_up(false);
    let begun = Instant::now();
    let batch = scribe.small(&[A]);
    let (mut refused, mut longest) = (0, Duration::ZERO);
    while begun.elapsed() < Duration::from_secs(20) {
        let asked = Instant::now();
        let error = store.journal.append(batch.clone()).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        longest = longest.max(asked.elapsed());
        refused += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(longest < Duration::from_secs(5), "an append waited for {longest:?}");
    assert!(matches!(store.leases.renew(NODE, 1, None).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.leases.matches().await, Err(StoreError::Unavailable(_))));
    proxy.set_up(true);
    let healed = Instant::now();
    insist(&store, &batch).await;
    println!(
        "{refused} appends were refused; the next one was acknowledged {:?} after the end of the \
         outage",
        healed.elapsed()
    );
    assert!(healed.elapsed() < Duration::from_secs(20));
    written.push(batch);
    written.extend(scribe.append(&store, 5, &[A]).await);
    assert_eq!(read_all(&store, NODE, 1, 1 << 20).await, written);
    assert_eq!(store.leases.renew(NODE, 9_000, None).await.unwrap(), Renewal::Live);
}
