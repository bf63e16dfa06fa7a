//! Copies are the same as their originals, whatever ends them in the middle, and never put half a
//! match where a node finds it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use rekindle_schema::archive::{ChunkMeta, Pin};
use rekindle_schema::audit::{AuditEntry, Stage};
use rekindle_schema::batch::Batch;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::job::JobStatus;
use rekindle_schema::lease::{MatchLease, MatchState, NodeLease, NodeState, Reached};
use rekindle_schema::posting::{POSTINGS, Posted, Posting};
use rekindle_schema::record::{Effect, EffectId};
use rekindle_schema::{ActionId, BatchNo, Epoch, Incarnation, JobId, MatchId, Seq, Tick};
use rekindle_store::history::{self, LoadOptions};
use rekindle_store::transfer::{Copied, CopyOptions, TransferError, copy};
use rekindle_store::{AuditQuery, Claim, JobFilter, Outcome, Store, StoreError, registry};
use rekindle_store_conformance::{
    Scribe, checkpoint, chunk, job, match_lease, node_lease, read_all, register,
};
use rekindle_store_local::{LocalOptions, LocalStore};
use rekindle_store_memory::{Fate, MemoryStore, Op};

const FIRST: Incarnation = Incarnation(1);
const SECOND: Incarnation = Incarnation(2);
const LAST: Incarnation = Incarnation(3);
const STRANGER: Incarnation = Incarnation(9);
const A: MatchId = MatchId(0xa);
const B: MatchId = MatchId(0xb);
const ENDED: MatchId = MatchId(0xe);
/// It is no longer in the directory; its archive is kept.
const GONE: MatchId = MatchId(0xf);

fn effect(tick: u64) -> Effect {
    Effect {
        id: EffectId { tick: Tick(tick), ordinal: 0 },
        kind: "result".to_owned(),
        payload: Bytes::from(tick.to_string()),
    }
}

/// Enters an effect into the outbox of a webhook.
async fn post(store: &Store, match_id: MatchId, tick: u64) {
    let place = Posted { webhook: "studio".to_owned(), match_id, id: effect(tick).id };
    let posting = Posting {
        effect: effect(tick),
        by: LAST,
        entered_ms: 1,
        attempts: 2,
        due_ms: 9,
        last: "503".to_owned(),
        given_up: false,
    };
    registry::set(store, &place.name(), posting.encode().into()).await.unwrap();
}

/// Names and values of what is to be posted.
async fn postings(store: &Store) -> Vec<(String, Bytes)> {
    let entries = store.registry.list(POSTINGS).await.unwrap();
    entries.into_iter().map(|entry| (entry.name, entry.value)).collect()
}

async fn copy_all(from: &Store, to: &Store, cut: bool) -> Result<Copied, TransferError> {
    copy(from, to, &CopyOptions { cut, only: None, clock: &|| 5_000, chance: 7, progress: &|_| () })
        .await
}

/// Three owners one after the other: the first was fenced and sealed, and is trimmed; the second
/// stopped cleanly; the last died just now.
async fn fill(store: &Store) {
    for node in [FIRST, SECOND, LAST] {
        register(store, node).await;
    }
    let mut scribe = Scribe::new(FIRST);
    scribe.append(store, 40, &[A, B, ENDED]).await;
    let (meta, state) = checkpoint(ENDED, 1, FIRST, 38, 38, 300);
    store.checkpoints.put(meta, state).await.unwrap();
    for seq in [20, 30] {
        let (meta, state) = checkpoint(A, 1, FIRST, seq, seq, 500);
        store.checkpoints.put(meta, state).await.unwrap();
        let (meta, state) = checkpoint(B, 1, FIRST, seq, seq, 2_000);
        store.checkpoints.put(meta, state).await.unwrap();
    }
    store.leases.fence(FIRST).await.unwrap();
    // Its last two batches are those of a zombie.
    store.leases.seal(FIRST, BatchNo(38)).await.unwrap();
    store.journal.trim(FIRST, BatchNo(21)).await.unwrap();

    let mut scribe = Scribe::new(SECOND);
    scribe.own(A, 2, 39);
    scribe.own(B, 2, 39);
    scribe.append(store, 20, &[A, B]).await;
    let (meta, state) = checkpoint(A, 2, SECOND, 58, 20, 500);
    store.checkpoints.put(meta, state).await.unwrap();
    store.leases.stop(SECOND).await.unwrap();

    let mut scribe = Scribe::new(LAST);
    scribe.own(A, 3, 59);
    scribe.append(store, 5, &[A]).await;

    store.leases.create(match_lease(A, &[(FIRST, 1), (SECOND, 39), (LAST, 59)])).await.unwrap();
    let mut b = match_lease(B, &[(FIRST, 1), (SECOND, 39)]);
    (b.version, b.attempts) = (17, 2);
    store.leases.create(b).await.unwrap();
    let mut ended = match_lease(ENDED, &[(FIRST, 1)]);
    ended.state = MatchState::Ended { reason: "over".to_owned() };
    store.leases.create(ended).await.unwrap();
    for (match_id, tick) in [(A, 4), (A, 80), (ENDED, 70)] {
        store.effects.deliver(match_id, effect(tick)).await.unwrap();
    }
    for (match_id, tick) in [(A, 80), (ENDED, 70), (GONE, 7)] {
        post(store, match_id, tick).await;
    }
    for (meta, bytes) in [chunk(A, 1, 20), chunk(GONE, 1, 7)] {
        store.archive.put(meta, bytes).await.unwrap();
    }
    store
        .archive
        .pin(Pin { match_id: A, from: Tick(3), to: Some(Tick(9)), created_ms: 7 })
        .await
        .unwrap();
    for number in 1..=3 {
        store.jobs.enqueue(job(number)).await.unwrap();
    }
    let claim = Claim {
        queue: job(1).queue,
        by: LAST,
        now_ms: 1_800_000_000_000,
        until_ms: 1_800_000_009_000,
        limit: 2,
    };
    let claimed = store.jobs.claim(claim).await.unwrap();
    store.jobs.finish(claimed[0].id, 1, 7, Outcome::Done { note: String::new() }).await.unwrap();
    for number in 1..=5 {
        let (action_id, stage) = (ActionId::at(number, number), Stage::Done);
        let [who, action, target, detail] = ["cli", "match.create", "", ""].map(str::to_owned);
        let entry = AuditEntry {
            time_ms: number,
            action_id,
            stage,
            node: LAST,
            who,
            action,
            target,
            detail,
        };
        store.audit.append(entry).await.unwrap();
    }
    // Nothing of what is copied rests on it.
    register(store, STRANGER).await;
    Scribe::new(STRANGER).append(store, 3, &[MatchId(0xfff)]).await;
}

/// All that a node could find in a store. Leases without what only means something on one host.
#[derive(Debug, PartialEq)]
struct Everything {
    rows: Vec<MatchLease>,
    nodes: Vec<NodeLease>,
    logs: BTreeMap<Incarnation, Vec<Batch>>,
    checkpoints: BTreeMap<MatchId, Vec<(CheckpointMeta, Bytes)>>,
    effects: Vec<(MatchId, Effect)>,
    postings: Vec<(String, Bytes)>,
    archive: Vec<(ChunkMeta, Bytes)>,
    pins: Vec<Pin>,
    /// Open ones: id, and whether somebody works on it.
    jobs: Vec<(JobId, bool)>,
    audit: Vec<AuditEntry>,
}

async fn everything(store: &Store) -> Everything {
    let rows = store.leases.matches().await.unwrap();
    let mut nodes = store.leases.nodes().await.unwrap();
    for node in &mut nodes {
        node.deadline_ms = 0;
    }
    let mut logs = BTreeMap::new();
    for info in store.journal.logs().await.unwrap() {
        logs.insert(info.log, read_all(store, info.log, info.first.0, 10_000).await);
    }
    // How far a log had come is said of each copy anew, and it fits the copy.
    for node in &mut nodes {
        let Some(reached) = node.reached.take() else { continue };
        let said = logs
            .get(&node.incarnation)
            .and_then(|log: &Vec<Batch>| log.iter().find(|batch| batch.number == reached.batch));
        assert_eq!(said.map(Batch::crc), Some(reached.crc), "{node:?}");
    }
    let mut checkpoints = BTreeMap::new();
    for match_id in [A, B, ENDED] {
        let mut found = Vec::new();
        for meta in store.checkpoints.list(match_id).await.unwrap().0 {
            let state = store.checkpoints.get(&meta).await.unwrap();
            found.push((meta, state));
        }
        checkpoints.insert(match_id, found);
    }
    let mut archive = Vec::new();
    for match_id in store.archive.matches().await.unwrap() {
        for meta in store.archive.list(match_id).await.unwrap().0 {
            let bytes = store.archive.get(&meta).await.unwrap();
            archive.push((meta, bytes));
        }
    }
    let pins = store.archive.pins().await.unwrap();
    let all = JobFilter { queue: None, kind: None, status: None, limit: 99 };
    let jobs =
        store.jobs.list(all).await.unwrap().into_iter().filter(|job| job.finished_ms().is_none());
    let jobs = jobs.map(|job| (job.id, job.status() == JobStatus::Running)).collect();
    let audit =
        store.audit.list(AuditQuery { since_ms: 0, until_ms: u64::MAX, limit: 99 }).await.unwrap();
    Everything {
        rows,
        nodes,
        logs,
        checkpoints,
        effects: store.effects.delivered().await.unwrap(),
        postings: postings(store).await,
        archive,
        pins,
        jobs,
        audit,
    }
}

/// What a copy of it must be: the log of the dead node sealed where it ends, nothing behind a seal,
/// and nothing that no match rests on.
fn as_copied(mut original: Everything) -> Everything {
    original.nodes.retain(|node| node.incarnation != STRANGER);
    original.logs.remove(&STRANGER);
    for node in original.nodes.iter_mut().filter(|node| node.state == NodeState::Live) {
        let last = end_of(&original.logs, node.incarnation);
        (node.state, node.seal) = (NodeState::Fenced, Some(last));
    }
    original.jobs.iter_mut().for_each(|(_, running)| *running = false);
    for node in &original.nodes {
        if let (Some(seal), Some(log)) = (node.seal, original.logs.get_mut(&node.incarnation)) {
            log.retain(|batch| batch.number <= seal);
        }
    }
    original
}

#[tokio::test]
async fn a_copy_goes_around_and_stays_the_same() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    // Segments so small that trimming frees some.
    let open = |at: usize| {
        LocalStore::open(
            dirs[at].path(),
            LocalOptions { segment_bytes: 700, ..LocalOptions::default() },
        )
        .unwrap()
    };
    let (origin, between, end) = (open(0), MemoryStore::new().store(), open(1));
    fill(&origin).await;
    let expected = as_copied(everything(&origin).await);
    assert!(expected.logs[&FIRST][0].number > BatchNo(1), "the first log was to be trimmed");

    let done = copy_all(&origin, &between, false).await.unwrap();
    assert_eq!(
        (done.matches, done.present, done.nodes, done.batches_present),
        (3, 0, 3, 0),
        "{done:?}"
    );
    assert_eq!(
        (done.checkpoints, done.effects, done.chunks, done.jobs, done.audit, done.postings),
        (6, 3, 2, 2, 5, 3),
        "{done:?}"
    );
    assert_eq!(everything(&between).await, expected);
    copy_all(&between, &end, false).await.unwrap();
    drop(end);
    assert_eq!(everything(&open(1)).await, expected);
    assert!(LocalStore::audit(dirs[1].path()).unwrap().is_clean());

    let again = copy_all(&between, &open(1), false).await.unwrap();
    assert_eq!(
        (again.present, again.batches, again.batches_present),
        (3, 0, done.batches),
        "{again:?}"
    );
    assert_eq!(everything(&open(1)).await, expected);
}

fn end_of(logs: &BTreeMap<Incarnation, Vec<Batch>>, log: Incarnation) -> BatchNo {
    logs.get(&log).and_then(|log| log.last()).map_or(BatchNo(0), |batch| batch.number)
}

/// A target that fails for good from its `nth` changing request on: the process that copies was
/// killed there.
fn killed_at(memory: &MemoryStore, nth: u64) -> Store {
    let seen = Arc::new(AtomicU64::new(0));
    let plan = move |op: Op| {
        // Requests that look only are counted as well: what is not written by then never will be.
        let dead = !matches!(op, Op::Read(_)) && seen.fetch_add(1, Ordering::Relaxed) >= nth;
        let gone = || StoreError::Io {
            what: "reach",
            path: "the target".to_owned(),
            cause: "killed".to_owned(),
        };
        Fate {
            fail: (dead && !matches!(op, Op::Append(..))).then(gone),
            lose_answer: dead,
            ..Fate::default()
        }
    };
    memory.with_faults(Arc::new(plan)).store()
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_is_killed_anywhere_is_finished_by_the_next() {
    let origin = MemoryStore::new().store();
    fill(&origin).await;
    let expected = as_copied(everything(&origin).await);
    let mut kills = 0;
    for nth in 0.. {
        let memory = MemoryStore::new();
        let killed = copy_all(&origin, &killed_at(&memory, nth), false).await;
        let store = memory.store();
        // Whatever is visible is whole.
        for row in store.leases.matches().await.unwrap() {
            let (copy, source) = (
                history::load(&store, &row, &LoadOptions::default()).await,
                history::load(&origin, &row, &LoadOptions::default()).await,
            );
            assert_eq!(
                copy.map_err(|error| error.to_string()).ok(),
                source.ok(),
                "killed at request {nth}"
            );
        }
        let named = store.identity.current().await.unwrap();
        let seen = store.leases.matches().await.unwrap().iter().map(|row| row.epoch).max();
        assert!(
            seen.is_none() || named.as_ref().map(|identity| identity.floor) > seen,
            "killed at request {nth}: {named:?}"
        );
        if nth % 3 == 1 {
            // Meanwhile a node started there, found logs that nothing rests on, and tidied up.
            tidy(&store).await;
        }
        let done = copy_all(&origin, &store, false)
            .await
            .unwrap_or_else(|error| panic!("killed at request {nth}: {error}"));
        assert_eq!(done.matches, 3);
        let mut found = everything(&store).await;
        for (node, expected) in found.nodes.iter_mut().zip(&expected.nodes) {
            // What was whole when the other node found it stays as that node left it: fenced, and
            // sealed where it ends.
            if expected.state == NodeState::Stopped && node.state == NodeState::Fenced {
                let last = end_of(&found.logs, node.incarnation);
                assert_eq!(node.seal, Some(last));
                (node.state, node.seal) = (NodeState::Stopped, None);
            }
        }
        assert_eq!(found, expected, "killed at request {nth}");
        match killed {
            Ok(_) => break,
            Err(_) => kills += 1,
        }
    }
    assert!(kills > 80, "only {kills} kills hit");
}

/// Fences what is live, and forgets what no row names, as a node does at its start and in its
/// housekeeping; now and then only the former.
async fn tidy(store: &Store) {
    let rows = store.leases.matches().await.unwrap();
    let used: BTreeSet<Incarnation> =
        rows.iter().flat_map(|row| &row.lineage).map(|line| line.incarnation).collect();
    for node in store.leases.nodes().await.unwrap() {
        let log = node.incarnation;
        store.leases.fence(log).await.unwrap();
        let tail = store.journal.tail(log).await.unwrap().last;
        store.journal.settle(log, tail).await.unwrap();
        let seal = store.leases.seal(log, tail).await.unwrap();
        if !used.contains(&log) && tail.0.is_multiple_of(2) {
            store.journal.trim(log, seal.next()).await.unwrap();
            store.leases.forget(log).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_is_another_in_the_target_is_refused_before_anything_is_written() {
    type Damage = fn(&mut MatchLease);
    let origin = MemoryStore::new().store();
    fill(&origin).await;
    let cases: &[(&str, Damage)] = &[
        ("gone on there", |row| {
            row.version += 1;
            row.epoch = Epoch(4);
        }),
        ("it is another", |row| row.spec.seed += 1),
    ];
    for (words, damage) in cases {
        let target = MemoryStore::new().store();
        let mut row = origin.leases.get(A).await.unwrap().unwrap();
        damage(&mut row);
        target.leases.create(row).await.unwrap();
        let before = everything(&target).await;
        let error = copy_all(&origin, &target, false).await.unwrap_err();
        assert!(
            matches!(error, TransferError::Conflict(_)) && error.to_string().contains(words),
            "{error}"
        );
        assert_eq!(everything(&target).await, before);
    }
    let target = MemoryStore::new().store();
    let mut lease = node_lease(LAST);
    lease.pid = 77;
    target.leases.register(lease).await.unwrap();
    let error = copy_all(&origin, &target, false).await.unwrap_err();
    assert!(error.to_string().contains("not known to be dead"), "{error}");
}

#[tokio::test]
async fn a_match_that_is_there_up_to_another_point_is_not_taken_for_the_same() {
    let origin = MemoryStore::new();
    register(&origin.store(), FIRST).await;
    let mut scribe = Scribe::new(FIRST);
    origin.store().leases.create(match_lease(A, &[(FIRST, 1)])).await.unwrap();
    scribe.append(&origin.store(), 10, &[A]).await;
    let (early, late) = (MemoryStore::new().store(), MemoryStore::new().store());
    copy_all(&origin.store(), &early, true).await.unwrap();
    scribe.append(&origin.store(), 10, &[A]).await;
    copy_all(&origin.store(), &late, true).await.unwrap();
    for (from, to) in [(&early, &late), (&late, &early), (&origin.store(), &early)] {
        let before = everything(to).await;
        let error = copy_all(from, to, false).await.unwrap_err();
        assert!(
            matches!(error, TransferError::Conflict(_))
                && error.to_string().contains("matches rest on it"),
            "{error}"
        );
        assert_eq!(everything(to).await, before);
    }
}

#[tokio::test]
async fn a_cut_through_a_store_at_work_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let origin = LocalStore::open(dir.path(), LocalOptions::default()).unwrap();
    register(&origin, FIRST).await;
    for match_id in [A, B] {
        origin.leases.create(match_lease(match_id, &[(FIRST, 1)])).await.unwrap();
    }
    let mut scribe = Scribe::new(FIRST);
    scribe.append(&origin, 50, &[A, B]).await;
    let stop = Arc::new(AtomicU64::new(0));
    let writer = tokio::spawn({
        let (origin, stop) = (origin.clone(), Arc::clone(&stop));
        async move {
            let mut seq = 50;
            while stop.load(Ordering::Relaxed) == 0 {
                scribe.append(&origin, 10, &[A, B]).await;
                seq += 10;
                let (meta, state) = checkpoint(A, 1, FIRST, seq, seq, 400);
                origin.checkpoints.put(meta, state).await.unwrap();
                // As a node does it: entered first.
                post(&origin, B, seq * 2).await;
                origin.effects.deliver(B, effect(seq * 2)).await.unwrap();
            }
            seq
        }
    });
    let mut copies = Vec::new();
    for _ in 0..5 {
        let copied = MemoryStore::new().store();
        copy_all(&origin, &copied, true).await.unwrap();
        copies.push(copied);
    }
    stop.store(1, Ordering::Relaxed);
    let last = writer.await.unwrap();
    let mut before = 0;
    for copied in copies {
        let node = copied.leases.node(FIRST).await.unwrap().unwrap();
        let seal = node.seal.unwrap();
        assert!(node.state == NodeState::Fenced && seal.0 >= before && seal.0 <= last, "{node:?}");
        before = seal.0;
        for match_id in [A, B] {
            let row = copied.leases.get(match_id).await.unwrap().unwrap();
            let found = history::load(&copied, &row, &LoadOptions::default()).await.unwrap();
            // One record of each match in every batch: both end with the last batch.
            assert_eq!(found.last_seq(), Seq(seal.0));
        }
        let effects = copied.effects.delivered().await.unwrap();
        assert!(
            effects.iter().all(|(_, effect)| effect.id.tick.0 <= seal.0 * 2),
            "an effect of a tick that the copy does not have"
        );
        // Nobody posted any of them, so each is to be posted in the copy, and none of a later tick.
        let entered: Vec<u64> = postings(&copied)
            .await
            .iter()
            .map(|(name, _)| Posted::parse(name).unwrap().id.tick.0)
            .collect();
        assert!(entered.iter().all(|tick| *tick <= seal.0 * 2), "{entered:?}");
        let missing = effects.iter().find(|(_, effect)| !entered.contains(&effect.id.tick.0));
        assert_eq!(missing, None, "{entered:?}");
        let newest = effects.last().map_or(0, |(_, effect)| effect.id.tick.0);
        assert!(
            newest + 2 * 20 >= seal.0 * 2 || seal.0 < 70,
            "effects of copied ticks are missing: {newest} of {}",
            seal.0 * 2
        );
    }
}

#[tokio::test]
async fn only_the_matches_that_are_named_are_copied() {
    let (origin, target) = (MemoryStore::new().store(), MemoryStore::new().store());
    fill(&origin).await;
    let options = |only: &[MatchId]| CopyOptions {
        cut: false,
        only: Some(only.iter().copied().collect()),
        clock: &|| 1,
        chance: 7,
        progress: &|_| (),
    };
    let error = copy(&origin, &target, &options(&[A, MatchId(77)])).await.unwrap_err();
    assert!(matches!(error, TransferError::Unknown(MatchId(77))), "{error}");
    assert_eq!(copy(&origin, &target, &options(&[B])).await.unwrap().matches, 1);
    let copied = everything(&target).await;
    assert_eq!((copied.rows.len(), copied.nodes.len(), copied.effects.len()), (1, 2, 0));
    assert!(copied.postings.is_empty(), "those are of other matches");
    assert!(copied.archive.is_empty() && copied.jobs.is_empty() && copied.audit.is_empty());
    assert_eq!(copy(&origin, &target, &options(&[A, B])).await.unwrap().present, 1);
    assert_eq!(copy_all(&origin, &target, false).await.unwrap().present, 2);
    assert_eq!(everything(&target).await, as_copied(everything(&origin).await));
}

#[tokio::test]
async fn damage_is_not_copied() {
    let origin = MemoryStore::new();
    fill(&origin.store()).await;
    origin.flip_bit(SECOND, BatchNo(7), 999);
    let target = MemoryStore::new().store();
    let error = copy_all(&origin.store(), &target, false).await.unwrap_err();
    assert!(matches!(error, TransferError::Damaged(_)), "{error}");
    assert!(target.leases.matches().await.unwrap().is_empty());

    // An older checkpoint stands in for a damaged one.
    let origin = MemoryStore::new();
    fill(&origin.store()).await;
    assert!(origin.flip_bit_in_checkpoint(B, 99));
    let done = copy_all(&origin.store(), &MemoryStore::new().store(), false).await.unwrap();
    assert!(done.checkpoints == 5 && done.notes.len() == 1, "{done:?}");
}

/// A copy of a log that has lost its end would look whole: it is refused, until an operator has
/// given up what is missing.
#[tokio::test]
async fn a_log_that_has_lost_its_end_is_not_copied_as_if_it_were_whole() {
    for left in [0, 6] {
        let origin = MemoryStore::new();
        let store = origin.store();
        register(&store, FIRST).await;
        store.leases.create(match_lease(A, &[(FIRST, 1)])).await.unwrap();
        let written = Scribe::new(FIRST).append(&store, 10, &[A]).await;
        let reached =
            Reached { batch: BatchNo(9), crc: written[8].crc(), at_ms: 5, checkpoint: None };
        store.leases.renew(FIRST, 9_000, Some(reached)).await.unwrap();
        origin.lose_batches_behind(FIRST, BatchNo(left));
        let target = MemoryStore::new().store();
        for cut in [false, true] {
            let error = copy_all(&store, &target, cut).await.unwrap_err();
            assert!(
                matches!(&error, TransferError::Damaged(words) if words.contains("RK-STORE-110")),
                "{error}"
            );
        }
        assert!(target.leases.matches().await.unwrap().is_empty());
        store.leases.fence(FIRST).await.unwrap();
        store.leases.seal(FIRST, BatchNo(9)).await.unwrap();
        assert!(
            copy_all(&store, &target, false).await.is_err(),
            "a seal changes nothing about that"
        );
        store.leases.accept_loss(FIRST, BatchNo(left), 7).await.unwrap();
        copy_all(&store, &target, false).await.unwrap();
        let row = target.leases.get(A).await.unwrap().unwrap();
        assert_eq!(
            history::load(&target, &row, &LoadOptions::default()).await.unwrap().last_seq(),
            Seq(left)
        );
    }
}
