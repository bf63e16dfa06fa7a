//! Whoever fences an owner and then reads its log finds everything that the owner was told is safe:
//! on a real server, in a thousand races, and with the decisive moment held open. Mutants that
//! leave a part of the protocol out are caught by the same tests.

mod support;

use std::sync::{Arc, Mutex};

use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId};
use rekindle_store::history::{self, LoadOptions};
use rekindle_store::{Store, StoreError};
use rekindle_store_conformance::{Scribe, Taker, fence_and_seal, match_lease, races, register};
use rekindle_store_postgres::Mutant;
use support::{Fresh, PrivateServer, until};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

const NODE: Incarnation = Incarnation(0xa1);
const HEIR: Incarnation = Incarnation(0xb2);
const A: MatchId = MatchId(0x0a);

/// Races in `lanes` that run at the same time. Returns how many acknowledged batches were lost.
async fn lost(fresh: &Fresh, rounds: u64, lanes: usize, order: Taker) -> u64 {
    let (owner, taker) = (
        fresh.store_with(|options| options.pool = 16).await,
        fresh.store_with(|options| options.pool = 16).await,
    );
    races(&owner, &taker, rounds, lanes, order, |_| false).await.lost
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_in_a_thousand_races() {
    let Some(fresh) = Fresh::new().await else { return };
    assert_eq!(lost(&fresh, 1_000, 8, Taker::FenceThenTail).await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taker_that_reads_the_tail_before_the_fence_is_caught() {
    let Some(fresh) = Fresh::new().await else { return };
    assert!(lost(&fresh, 10, 4, Taker::TailThenFence).await > 0, "the mutant went unnoticed");
}

/// What became of an append that was held up right before it could insert, while a taker did its
/// work.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    acknowledged: bool,
    /// The last batch that the taker saw after its fence.
    tail: BatchNo,
}

/// Holds the third batch open between the reading of the lease and the insert: the test has
/// inserted a row with its number and not yet committed, so the append waits for it. Then a taker
/// fences and reads the tail; then the test's row is withdrawn.
async fn held_open(fresh: &Fresh, mutant: Mutant) -> Held {
    let owner = fresh.store_with(|options| options.mutant = mutant).await;
    let taker = fresh.store().await;
    register(&owner, NODE).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(&owner, 2, &[A]).await;
    let (obstacle, observer) = (fresh.client().await, fresh.client().await);
    let row = format!("BEGIN; INSERT INTO batch_{NODE}_1 VALUES (3, 0, 0, 0, '')");
    obstacle.batch_execute(&row).await.unwrap();
    let waiting = async |text: &str| {
        let sql = "SELECT FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = \
            'Lock' AND query LIKE $2";
        !observer.query(sql, &[&fresh.schema(), &text]).await.unwrap().is_empty()
    };
    let third = scribe.small(&[A]);
    let append = tokio::spawn(async move { owner.journal.append(third).await });
    until("the append waits", async || waiting("%INSERT INTO batch_%").await).await;
    let seen = Arc::new(Mutex::new(None));
    let taking = tokio::spawn({
        let seen = Arc::clone(&seen);
        async move {
            taker.leases.fence(NODE).await.unwrap();
            let tail = taker.journal.tail(NODE).await.unwrap().last;
            *seen.lock().unwrap() = Some(tail);
        }
    });
    until("the fence waits, or is through", async || {
        seen.lock().unwrap().is_some() || waiting("UPDATE node_lease%").await
    })
    .await;
    obstacle.batch_execute("ROLLBACK").await.unwrap();
    let acknowledged = match append.await.unwrap() {
        Ok(()) => true,
        Err(StoreError::Fenced(_)) => false,
        Err(other) => panic!("{other}"),
    };
    taking.await.unwrap();
    let tail = seen.lock().unwrap().expect("the taker has read the tail");
    Held { acknowledged, tail }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_waits_for_the_batch_that_has_read_the_lease() {
    let Some(fresh) = Fresh::new().await else { return };
    assert_eq!(
        held_open(&fresh, Mutant::None).await,
        Held { acknowledged: true, tail: BatchNo(3) }
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fence_without_for_share_is_caught() {
    let Some(fresh) = Fresh::new().await else { return };
    let lost = Held { acknowledged: true, tail: BatchNo(2) };
    assert_eq!(
        held_open(&fresh, Mutant::FenceWithoutLock).await,
        lost,
        "the mutant went unnoticed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_acknowledgement_decided_before_the_write_is_caught() {
    let Some(fresh) = Fresh::new().await else { return };
    let lost = Held { acknowledged: true, tail: BatchNo(2) };
    assert_eq!(
        held_open(&fresh, Mutant::AcknowledgeFirst).await,
        lost,
        "the mutant went unnoticed"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_without_a_fence_is_caught() {
    let Some(fresh) = Fresh::new().await else { return };
    for (mutant, refused) in [(Mutant::None, true), (Mutant::NoFence, false)] {
        let node = Incarnation(0xc0 + u64::from(refused));
        let owner = fresh.store_with(|options| options.mutant = mutant).await;
        register(&owner, node).await;
        let mut scribe = Scribe::new(node);
        scribe.append(&owner, 1, &[A]).await;
        fresh.store().await.leases.fence(node).await.unwrap();
        let outcome = owner.journal.append(scribe.small(&[A])).await;
        assert_eq!(
            matches!(outcome, Err(StoreError::Fenced(_))),
            refused,
            "{mutant:?}: {outcome:?}"
        );
    }
}

/// A snapshot that is older than the fence does not help: the row that is locked is read in its
/// newest version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_waited_for_a_fence_is_refused() {
    let Some(fresh) = Fresh::new().await else { return };
    let owner = fresh.store().await;
    register(&owner, NODE).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(&owner, 2, &[A]).await;
    let (fence, observer) = (fresh.client().await, fresh.client().await);
    fence.batch_execute("BEGIN; UPDATE node_lease SET state = 'fenced'").await.unwrap();
    let third = scribe.small(&[A]);
    let append = tokio::spawn({
        let owner = owner.clone();
        async move { owner.journal.append(third).await }
    });
    until("the append waits for the fence", async || {
        let sql =
            "SELECT FROM pg_stat_activity WHERE application_name = $1 AND wait_event_type = 'Lock' \
             AND query LIKE '%INSERT INTO batch_%'";
        !observer.query(sql, &[&fresh.schema()]).await.unwrap().is_empty()
    })
    .await;
    fence.batch_execute("COMMIT").await.unwrap();
    let outcome = append.await.unwrap();
    assert!(matches!(outcome, Err(StoreError::Fenced(NODE))), "{outcome:?}");
    assert_eq!(
        owner.journal.tail(NODE).await.unwrap().last,
        BatchNo(2),
        "a fenced node's batch was written"
    );
}

/// One message of Postgres's protocol.
fn message(kind: &[u8], body: &[u8]) -> Vec<u8> {
    [kind, &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

/// A node that is stopped after the server has carried out its statement and before it has sent the
/// end of the request keeps the lock on its lease. It is fenced all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_stops_in_the_middle_of_a_request_can_be_fenced() {
    let Some(server) = PrivateServer::start("") else { return };
    let fresh = Fresh::on(&server.address()).await;
    let store = fresh.store().await;
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(&store, 2, &[A]).await;

    let mut stopped = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
    let options = format!(
        "-c search_path={} -c statement_timeout=300 -c idle_in_transaction_session_timeout=300",
        fresh.schema()
    );
    let hello = [
        "user",
        "rekindle",
        "database",
        "postgres",
        "application_name",
        "stopped",
        "options",
        &options,
        "",
    ]
    .join("\0")
        + "\0";
    let version = 196_608_u32.to_be_bytes();
    stopped.write_all(&message(&[], &[&version, hello.as_bytes()].concat())).await.unwrap();
    let observer = fresh.client().await;
    let state = async |state: &'static str| {
        let sql = "SELECT FROM pg_stat_activity WHERE application_name = 'stopped' AND wait_event \
            = 'ClientRead' AND state = $1";
        !observer.query(sql, &[&state]).await.unwrap().is_empty()
    };
    until("it is connected", async || state("idle").await).await;
    let sql = b"\0SELECT state FROM node_lease FOR SHARE\0\0\0";
    let flushed_but_not_synced =
        [message(b"P", sql), message(b"B", &[0; 8]), message(b"E", &[0; 5]), message(b"H", &[])]
            .concat();
    stopped.write_all(&flushed_but_not_synced).await.unwrap();
    until("it holds the lock and waits for the rest", async || state("active").await).await;

    let began = Instant::now();
    store.leases.fence(NODE).await.expect("it can be fenced");
    println!("fenced after {:?}", began.elapsed());
    assert_eq!(store.journal.tail(NODE).await.unwrap().last, BatchNo(2));
    assert!(!state("active").await, "its session is over");
}

/// Rows that get into a sealed log in whatever way do not count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_of_a_zombie_behind_the_seal_are_ignored() {
    let Some(fresh) = Fresh::new().await else { return };
    let zombie = fresh.store_with(|options| options.mutant = Mutant::NoFence).await;
    let store = fresh.store().await;
    register(&store, NODE).await;
    register(&store, HEIR).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(&zombie, 6, &[A]).await;
    assert_eq!(fence_and_seal(&store, NODE).await, BatchNo(6));
    scribe.append(&zombie, 3, &[A]).await;
    assert_eq!(store.journal.tail(NODE).await.unwrap().last, BatchNo(9), "the rows are there");
    assert_eq!(
        store.leases.seal(NODE, BatchNo(9)).await.unwrap(),
        BatchNo(6),
        "the first seal stands"
    );
    let mut heir = Scribe::new(HEIR);
    heir.own(A, 2, 7);
    heir.append(&store, 2, &[A]).await;
    let lease = match_lease(A, &[(NODE, 1), (HEIR, 7)]);
    let found = history::load(&store, &lease, &LoadOptions::default()).await.unwrap();
    let owners: Vec<(u64, Epoch)> =
        found.frames.iter().map(|frame| (frame.header.seq.0, frame.header.epoch)).collect();
    assert_eq!(owners[5..], [(6, Epoch(1)), (7, Epoch(2)), (8, Epoch(2))]);
}

/// Two takers at once: both see the same log and the same seal, and one of them gets the match.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_takers_one_wins() {
    let Some(fresh) = Fresh::new().await else { return };
    let (owner, one, two) = (fresh.store().await, fresh.store().await, fresh.store().await);
    for round in 1..=20_u64 {
        let (node, match_id) = (Incarnation(round), MatchId(round));
        register(&owner, node).await;
        owner.leases.create(match_lease(match_id, &[(node, 1)])).await.unwrap();
        let writer = async {
            let mut scribe = Scribe::new(node);
            let mut acknowledged = 0;
            while owner.journal.append(scribe.small(&[match_id])).await.is_ok() {
                acknowledged += 1;
            }
            acknowledged
        };
        // Both begin with the row as it stands now: whoever read it after the other had won would
        // take the match over from the winner.
        let row = owner.leases.get(match_id).await.unwrap().unwrap();
        let take = async |store: &Store, me: u64| {
            let seal = fence_and_seal(store, node).await;
            let mut wanted = row.clone();
            (wanted.version, wanted.epoch, wanted.incarnation) =
                (wanted.version + 1, wanted.epoch.next(), Incarnation(me));
            (seal, store.leases.compare_and_set(wanted).await.unwrap().is_ok())
        };
        let (acknowledged, (seal, won), (other_seal, other_won)) =
            futures::join!(writer, take(&one, 1_001), take(&two, 1_002));
        assert_eq!(seal, other_seal, "round {round}");
        assert!(won != other_won, "round {round}: {won} {other_won}");
        assert!(
            seal.0 >= acknowledged,
            "round {round}: {acknowledged} batches were acknowledged, the log is sealed at {seal}"
        );
    }
}
