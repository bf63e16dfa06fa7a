//! A server that is slow, silent, gone, restarted or damaged: nothing acknowledged is lost, the
//! store goes on by itself, and what waits stays bounded.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::FutureExt;
use rekindle_schema::batch::Batch;
use rekindle_schema::{BatchNo, Incarnation, MatchId};
use rekindle_store::history::{self, HistoryError, LoadOptions};
use rekindle_store::{Store, StoreError};
use rekindle_store_conformance::{Scribe, checkpoint, match_lease, read_all, register};
use rekindle_store_postgres::{Mutant, PostgresOptions, PostgresStore};
use support::{Fresh, PrivateServer, beside, until};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

const NODE: Incarnation = Incarnation(0xa1);
const A: MatchId = MatchId(0x0a);

fn quick(mut options: PostgresOptions) -> PostgresOptions {
    (options.timeout, options.connect_timeout) =
        (Duration::from_millis(300), Duration::from_millis(500));
    options
}

/// Appends as the journal actor does: the same batch until it is verified.
async fn persistently(store: &Store, batch: &Batch) -> usize {
    for repeated in 0..100_000 {
        match store.journal.append(batch.clone()).await {
            Ok(()) => return repeated,
            Err(error) if error.is_transient() => sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("batch {}: {error}", batch.number),
        }
    }
    panic!("batch {} was never taken", batch.number)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_whose_answer_was_lost_is_there_once() {
    let Some(fresh) = Fresh::new().await else { return };
    let (proxy, options) = fresh.proxied();
    let store = PostgresStore::connect(quick(options)).await.unwrap();
    let direct = fresh.store().await;
    register(&direct, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let mut written = scribe.append(&store, 3, &[A]).await;
    for lost in 4..=6 {
        let batch = scribe.small(&[A]);
        proxy.swallow_answers(true);
        let unknown = store.journal.append(batch.clone()).await.unwrap_err();
        assert!(matches!(unknown, StoreError::Unavailable(_)), "{unknown}");
        assert_eq!(
            direct.journal.tail(NODE).await.unwrap().last,
            BatchNo(lost),
            "it was committed, only the answer was lost"
        );
        proxy.swallow_answers(false);
        persistently(&store, &batch).await;
        written.push(batch);
    }
    assert_eq!(read_all(&direct, NODE, 1, 1 << 20).await, written);
    // The same of a lease and of a checkpoint.
    proxy.swallow_answers(true);
    assert!(store.leases.create(match_lease(A, &[(NODE, 1)])).await.unwrap_err().is_transient());
    let (meta, state) = checkpoint(A, 1, NODE, 2, 2, 500_000);
    assert!(store.checkpoints.put(meta.clone(), state.clone()).await.unwrap_err().is_transient());
    proxy.swallow_answers(false);
    until("the store answers again", async || {
        store.leases.create(match_lease(A, &[(NODE, 1)])).await.is_ok()
    })
    .await;
    store.checkpoints.put(meta.clone(), state.clone()).await.unwrap();
    assert_eq!(direct.checkpoints.get(&meta).await.unwrap(), state);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_store_pushes_back_instead_of_growing() {
    let Some(fresh) = Fresh::new().await else { return };
    let (proxy, options) = fresh.proxied();
    let (queue, puts) = (options.append_queue, options.checkpoint_queue);
    let opened = PostgresStore::open(options.clone()).await.unwrap();
    let store = opened.store();
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(&store, 1, &[A]).await;
    proxy.delay(Duration::from_millis(120));
    let batches: Vec<Batch> = (0..200).map(|_| scribe.small(&[A])).collect();
    let appends = batches.iter().map(|batch| store.journal.append(batch.clone()));
    let (meta, state) = checkpoint(A, 1, NODE, 1, 1, 100_000);
    let checkpoints = (0..50).map(|_| store.checkpoints.put(meta.clone(), state.clone()));
    let (appended, put) =
        futures::join!(futures::future::join_all(appends), futures::future::join_all(checkpoints));
    let taken = appended.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(taken, queue, "as many wait as may wait");
    for outcome in appended.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert!(matches!(outcome, StoreError::Overloaded(_)), "{outcome}");
    }
    assert_eq!(put.iter().filter(|outcome| outcome.is_ok()).count(), puts);
    assert!(
        put.iter()
            .filter_map(|outcome| outcome.as_ref().err())
            .all(|error| matches!(error, StoreError::Overloaded(_)))
    );
    assert!(opened.connections() <= options.pool, "{} connections", opened.connections());
    proxy.delay(Duration::ZERO);
    assert_eq!(read_all(&fresh.store().await, NODE, 2, 1 << 20).await, batches[..queue]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_connection_is_tried_again_and_never_in_a_storm() {
    let Some(fresh) = Fresh::new().await else { return };
    let (proxy, options) = fresh.proxied();
    let opened = PostgresStore::open(quick(options)).await.unwrap();
    let store = opened.store();
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    scribe.append(&store, 1, &[A]).await;
    proxy.set_up(false);
    let began = Instant::now();
    let batch = scribe.small(&[A]);
    let mut failures = 0;
    while began.elapsed() < Duration::from_secs(3) {
        let error = store.journal.append(batch.clone()).await.unwrap_err();
        assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
        failures += 1;
    }
    assert!(failures < 40, "{failures} attempts in three seconds");
    proxy.set_up(true);
    let recovered = Instant::now();
    persistently(&store, &batch).await;
    assert!(
        recovered.elapsed() < Duration::from_secs(5),
        "it took {:?} to notice that the server is back",
        recovered.elapsed()
    );
    assert_eq!(fresh.store().await.journal.tail(NODE).await.unwrap().last, BatchNo(2));
}

/// A writer with checkpoints and renewals beside it, as a node has them, until it is told to stop.
/// Returns what was acknowledged.
struct Load {
    written: Vec<Batch>,
    repeated: usize,
    checkpoints: usize,
}

async fn load(store: &Store, stop: &AtomicBool, acknowledged: &watch::Sender<usize>) -> Load {
    let mut scribe = Scribe::new(NODE);
    let mut load = Load { written: Vec::new(), repeated: 0, checkpoints: 0 };
    while !stop.load(Ordering::Relaxed) {
        let batch = scribe.batch(&[(A, &[7; 3_000])]);
        load.repeated += persistently(store, &batch).await;
        load.written.push(batch);
        let count = load.written.len();
        acknowledged.send_replace(count);
        if count.is_multiple_of(20) {
            let (meta, state) = checkpoint(A, 1, NODE, count as u64, count as u64, 400_000);
            load.checkpoints += usize::from(store.checkpoints.put(meta, state).await.is_ok());
        }
        if count.is_multiple_of(5) {
            let _ = store.leases.renew(NODE, count as u64, None).await;
        }
    }
    load
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_in_mid_load_loses_nothing_acknowledged() {
    let Some(server) = PrivateServer::start("") else { return };
    let server = Arc::new(server);
    let fresh = Fresh::on(&server.address()).await;
    let mut options = fresh.options.clone();
    (options.segment_batches, options.timeout) = (64, Duration::from_secs(2));
    let opened = PostgresStore::open(options.clone()).await.unwrap();
    let store = opened.store();
    register(&store, NODE).await;
    let stop = Arc::new(AtomicBool::new(false));
    let (acknowledged, mut progress) = watch::channel(0_usize);
    let task = tokio::spawn({
        let (store, stop) = (store.clone(), Arc::clone(&stop));
        async move { load(&store, &stop, &acknowledged).await }
    });
    for kill in 0..3 {
        let before = *progress.borrow();
        timeout(Duration::from_mins(1), progress.wait_for(|&count| count >= before + 40))
            .await
            .expect("the writer goes on")
            .unwrap();
        println!("kill {kill} at batch {}", *progress.borrow());
        let server = Arc::clone(&server);
        beside(move || server.restart()).await;
    }
    let before = *progress.borrow();
    timeout(Duration::from_mins(1), progress.wait_for(|&count| count >= before + 40))
        .await
        .expect("the writer goes on")
        .unwrap();
    stop.store(true, Ordering::Relaxed);
    let load = task.await.unwrap();
    println!(
        "{} batches, {} repeated, {} checkpoints",
        load.written.len(),
        load.repeated,
        load.checkpoints
    );
    assert!(load.repeated > 0, "no kill hit the load");
    assert!(opened.connections() <= options.pool);
    let reader = fresh.store().await;
    assert_eq!(read_all(&reader, NODE, 1, 1 << 20).await, load.written);
    let (found, damaged) = reader.checkpoints.list(A).await.unwrap();
    assert!(
        damaged.is_empty() && found.len() >= load.checkpoints && load.checkpoints > 0,
        "{damaged:?}"
    );
    let history = history::load(&reader, &match_lease(A, &[(NODE, 1)]), &LoadOptions::default())
        .await
        .unwrap();
    assert_eq!(history.last_seq().0, load.written.len() as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_twenty_seconds_is_waited_out() {
    let Some(server) = PrivateServer::start("") else { return };
    let server = Arc::new(server);
    let fresh = Fresh::on(&server.address()).await;
    let mut options = fresh.options.clone();
    options.timeout = Duration::from_secs(1);
    let opened = PostgresStore::open(options.clone()).await.unwrap();
    let store = opened.store();
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let mut written = scribe.append(&store, 10, &[A]).await;
    beside({
        let server = Arc::clone(&server);
        move || server.down()
    })
    .await;
    let back = Instant::now() + Duration::from_secs(20);
    // Everybody asks all the time: what waits is bounded, and each answer is that it may be
    // repeated.
    let batch = scribe.small(&[A]);
    let most = AtomicUsize::new(0);
    let refused = AtomicUsize::new(0);
    let asking = (0..64).map(|_| async {
        while Instant::now() < back {
            let error = store.journal.append(batch.clone()).await.unwrap_err();
            assert!(error.is_transient(), "{error}");
            refused.fetch_add(1, Ordering::Relaxed);
            most.fetch_max(opened.connections(), Ordering::Relaxed);
            sleep(Duration::from_millis(50)).await;
        }
    });
    futures::future::join_all(asking).await;
    assert!(most.into_inner() <= options.pool);
    assert!(refused.into_inner() > 64);
    beside({
        let server = Arc::clone(&server);
        move || server.up()
    })
    .await;
    let began = Instant::now();
    persistently(&store, &batch).await;
    println!("{:?} after the server was back the batch was acknowledged", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(10));
    written.push(batch);
    written.extend(scribe.append(&store, 10, &[A]).await);
    assert_eq!(read_all(&fresh.store().await, NODE, 1, 1 << 20).await, written);
}

/// Reads a damaged log and checkpoint through a store, honest or not.
async fn damage_seen(fresh: &Fresh, mutant: Mutant) -> [bool; 4] {
    let store = fresh.store_with(|options| options.mutant = mutant).await;
    let tail = store.journal.tail(NODE).await.unwrap();
    assert_eq!(
        tail.last,
        BatchNo(9),
        "a damaged batch still counts: its owner was told that it is safe"
    );
    let read = store.journal.read(NODE, BatchNo(5), 1 << 20).await;
    let (good, bad) = store.checkpoints.list(A).await.unwrap();
    let (meta, _) = checkpoint(A, 1, NODE, 3, 3, 300_000);
    let got = store.checkpoints.get(&meta).await;
    [
        tail.damage.is_some_and(|damage| damage.contains("batch 5")),
        matches!(read, Err(StoreError::Corrupt { .. })),
        good.iter().all(|meta| meta.seq.0 != 3) && bad.len() == 1,
        matches!(got, Err(StoreError::Corrupt { .. })),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_reported_and_a_store_without_checksums_is_caught() {
    let Some(fresh) = Fresh::new().await else { return };
    let store = fresh.store().await;
    register(&store, NODE).await;
    let written = Scribe::new(NODE).append(&store, 9, &[A]).await;
    for seq in [3, 6] {
        let (meta, state) = checkpoint(A, 1, NODE, seq, seq, 300_000);
        store.checkpoints.put(meta, state).await.unwrap();
    }
    let sql = fresh.client().await;
    let flip = "UPDATE %t SET bytes = set_byte(bytes, 90, get_byte(bytes, 90) # 4) WHERE ";
    let batch = flip.replace("%t", &format!("batch_{NODE}_1")) + "number = 5";
    assert_eq!(sql.execute(&batch, &[]).await.unwrap(), 1);
    let chunk = flip.replace("%t", "checkpoint_chunk")
        + "(put, ordinal) = (SELECT min(put), 0 FROM checkpoint)";
    assert_eq!(sql.execute(&chunk, &[]).await.unwrap(), 1);

    assert_eq!(damage_seen(&fresh, Mutant::None).await, [true; 4]);
    assert_eq!(
        damage_seen(&fresh, Mutant::NoChecksums).await,
        [false; 4],
        "the mutant went unnoticed"
    );

    // The batches before and behind it are read, and a history that needs it says so.
    assert_eq!(store.journal.read(NODE, BatchNo(1), 1 << 20).await.unwrap(), written[..4]);
    assert_eq!(store.journal.read(NODE, BatchNo(6), 1 << 20).await.unwrap(), written[5..]);
    let row = match_lease(A, &[(NODE, 1)]);
    assert_eq!(
        history::load(&store, &row, &LoadOptions::default()).await.unwrap().last_seq().0,
        9,
        "the newest checkpoint covers it"
    );
    let options = LoadOptions { start: history::Start::Beginning, ..LoadOptions::default() };
    let lost = history::load(&store, &row, &options).await.unwrap_err();
    assert!(matches!(lost, HistoryError::Damaged { log: NODE, .. }), "{lost}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_last_batch_is_no_torn_tail() {
    let Some(fresh) = Fresh::new().await else { return };
    let store = fresh.store().await;
    register(&store, NODE).await;
    Scribe::new(NODE).append(&store, 9, &[A]).await;
    let sql = fresh.client().await;
    sql.execute(
        &format!("UPDATE batch_{NODE}_1 SET bytes = substr(bytes, 1, 99) WHERE number = 9"),
        &[],
    )
    .await
    .unwrap();
    let row = match_lease(A, &[(NODE, 1)]);
    store.leases.fence(NODE).await.unwrap();
    let tail = store.journal.tail(NODE).await.unwrap();
    assert!(tail.last == BatchNo(9) && tail.torn.is_none() && tail.damage.is_some(), "{tail:?}");
    store.journal.settle(NODE, tail.last).await.unwrap();
    store.leases.seal(NODE, tail.last).await.unwrap();
    let lost = history::load(&store, &row, &LoadOptions::default()).await.unwrap_err();
    assert!(
        matches!(lost, HistoryError::Damaged { log: NODE, .. }),
        "what was acknowledged is not passed over: {lost}"
    );
    // A row that is missing altogether is noticed too.
    sql.execute(&format!("DELETE FROM batch_{NODE}_1 WHERE number = 4"), &[]).await.unwrap();
    assert!(store.journal.tail(NODE).await.unwrap().damage.unwrap().contains("missing"));
    assert!(matches!(
        store.journal.read(NODE, BatchNo(4), 1000).await,
        Err(StoreError::Corrupt { .. })
    ));
    assert_eq!(store.journal.read(NODE, BatchNo(1), 1 << 20).await.unwrap().len(), 3);
}

/// Appends and checkpoints whose callers lose patience leave nothing behind that harms the next
/// one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_leave_the_store_whole() {
    let Some(fresh) = Fresh::new().await else { return };
    let opened = PostgresStore::open(fresh.options.clone()).await.unwrap();
    let store = opened.store();
    register(&store, NODE).await;
    let mut scribe = Scribe::new(NODE);
    let mut written = scribe.append(&store, 1, &[A]).await;
    for round in 0..40_u64 {
        let batch = scribe.small(&[A]);
        let (meta, state) = checkpoint(A, 1, NODE, round + 1, 1, 700_000);
        let patience = Duration::from_micros(round * 150);
        let _ = timeout(patience, store.journal.append(batch.clone())).await;
        let _ = timeout(patience, store.checkpoints.put(meta.clone(), state.clone())).await;
        let _ = store.leases.renew(NODE, round, None).now_or_never();
        persistently(&store, &batch).await;
        until("the checkpoint is taken", async || {
            store.checkpoints.put(meta.clone(), state.clone()).await.is_ok()
        })
        .await;
        assert_eq!(store.checkpoints.get(&meta).await.unwrap(), state);
        written.push(batch);
    }
    assert_eq!(read_all(&fresh.store().await, NODE, 1, 1 << 20).await, written);
    assert!(opened.connections() <= fresh.options.pool);
}
