//! What a match promises when its node dies: the same world, nothing lost that was durable, nothing
//! twice.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rekindle_actors::recovery::{Replay, replay};
use rekindle_actors::{
    Games, GoOn, HostConfig, MatchHandle, MatchPhase, OtherBuild, RecoveryError,
};
use rekindle_door::{Admission, MatchDoor as _, Recalled};
use rekindle_schema::lease::MatchState;
use rekindle_schema::record::{Decision, Step};
use rekindle_schema::{BuildId, Incarnation, MatchId, PlayerId, SessionId, StateHash, Tick};
use rekindle_sim::GameType;
use rekindle_store::history::{self, End, LoadOptions, Start};
use rekindle_store::{Store, StoreError};
use rekindle_store_memory::{Fate, MemoryStore, Op};
use support::*;
use tokio::time::{sleep, timeout};

/// Makes every step of the journal again in a fresh world: an implementation of replay that shares
/// nothing with the product's.
async fn resimulate(store: &Store, match_id: u64) -> (Tick, StateHash) {
    let (lease, flushes) = journal(store, match_id).await;
    let mut sim = Tally::new().create(&lease.spec.config, lease.spec.seed).expect("create");
    let mut next = Tick(1);
    for flush in flushes {
        assert_eq!(flush.first, next, "no tick is missing");
        for number in flush.first.0..=flush.last.0 {
            let tick = Tick(number);
            let step = flush
                .steps
                .iter()
                .find(|step| step.tick == tick)
                .cloned()
                .unwrap_or(Step { tick, ..Step::default() });
            sim.step(&step).expect("step");
            if let Some(beat) = flush.beats.iter().find(|beat| beat.tick == tick) {
                assert_eq!(beat.hash, sim.state_hash(), "beat at {tick}");
            }
        }
        next = flush.last.next();
    }
    (sim.tick(), sim.state_hash())
}

/// Sends one input per tick for each session, for `ticks` ticks; numbers go on from `first`.
async fn play(link: &MatchHandle, sessions: &[SessionId], first: u64, ticks: u64) {
    for seq in first..first + ticks {
        for &session in sessions {
            assert_eq!(
                link.input(input(session, seq, Tick(0), add(seq as u8))),
                Admission::Queued,
                "input {seq}"
            );
        }
        let now = link.inspect().await.expect("it lives").0;
        link.wait_durable(now.next()).await.expect("it lives");
    }
}

#[tokio::test(start_paused = true)]
async fn a_match_goes_on_bit_for_bit_after_its_node_died() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let first = Node::start(&store, 1, config()).await;
    let link = first.create(7).await;
    let sessions = [enter(&link, 1).await, enter(&link, 2).await];
    play(&link, &sessions, 1, 100).await;
    let durable = link.durable().tick;
    first.host.abort();
    drop(first);

    let second = Node::start(&store, 2, config()).await;
    let report = second.take_over(Incarnation(1)).await.remove(0).expect("recovered");
    assert!(
        report.tick >= durable,
        "tick {durable} was acknowledged, recovery stands at {}",
        report.tick
    );
    assert!(report.hash_ok);
    let link = second.host.find(MatchId(7)).expect("it runs");
    let (tick, hash) = link.inspect().await.expect("it lives");
    assert_eq!((tick, hash), resimulate(&store, 7).await);

    // The sessions are as they were: what was applied is stale, the next is taken.
    for (player, session) in [1, 2].into_iter().zip(sessions) {
        let opened =
            link.open(PlayerId(player), String::new(), Some(session)).await.expect("resume");
        assert!(opened.resumed);
        assert_eq!(
            link.input(input(session, opened.next_input - 1, Tick(0), add(0))),
            Admission::Stale
        );
    }
    play(&link, &sessions, 200, 40).await;
    let (_, flushes) = journal(&store, 7).await;
    inputs_of(&flushes);
    let at = resimulate(&store, 7).await.0;
    assert!(at.0 >= durable.0 + 40);
}

#[tokio::test(start_paused = true)]
async fn only_what_is_behind_the_checkpoint_is_replayed_and_two_checkpoints_are_kept() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let config =
        HostConfig { checkpoint_every: Duration::from_secs(1), checkpoint_chain: 0, ..config() };
    let first = Node::start(&store, 1, config.clone()).await;
    let link = first.create(7).await;
    link.wait_durable(Tick(300)).await.expect("runs");
    let (kept, damaged) = store.checkpoints.list(MatchId(7)).await.expect("list");
    assert!(damaged.is_empty());
    assert_eq!(kept.len(), 2, "{kept:?}");
    assert!(kept[0].tick.0 > 250);
    first.host.abort();
    let second = Node::start(&store, 2, config).await;
    let report = second.take_over(Incarnation(1)).await.remove(0).expect("recovered");
    assert!(report.replayed < 60, "{} ticks replayed", report.replayed);
    assert!(report.tick >= Tick(300));
}

#[tokio::test(start_paused = true)]
async fn the_costliest_match_is_checkpointed_when_the_budget_is_used_up() {
    let memory = MemoryStore::new();
    let store = memory.store();
    // Virtual time: a step costs nothing, so only the overhead counts; 1e-3 s is about 300 ticks of
    // one match.
    let config =
        HostConfig { recovery_budget: 2e-3, checkpoint_every: Duration::from_hours(1), ..config() };
    let node = Node::start(&store, 1, config).await;
    let links = [node.create(1).await, node.create(2).await];
    links[0].wait_durable(Tick(1_500)).await.expect("runs");
    for status in node.host.list() {
        let (_, tick, _) = status.checkpoint.expect("has one");
        assert!(
            status.tick.0 - tick.0 < 400,
            "match {} would replay {} ticks",
            status.match_id,
            status.tick.0 - tick.0
        );
    }
    let puts = store.checkpoints.list(MatchId(1)).await.expect("list").0[0].tick;
    assert!(puts.0 > 100, "checkpoints go on: {puts}");
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_stored_only_when_its_record_is_durable() {
    let delay = Arc::new(AtomicU64::new(0));
    let (appended, put) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let plan = {
        let (delay, appended, put) = (Arc::clone(&delay), Arc::clone(&appended), Arc::clone(&put));
        move |op| match op {
            Op::Append(..) => {
                appended.fetch_add(1, Ordering::Relaxed);
                Fate {
                    before: Duration::from_millis(delay.load(Ordering::Relaxed)),
                    ..Fate::default()
                }
            }
            Op::PutCheckpoint(..) => {
                put.store(true, Ordering::Relaxed);
                Fate::default()
            }
            _ => Fate::default(),
        }
    };
    let memory = MemoryStore::new().with_faults(Arc::new(plan));
    delay.store(60_000, Ordering::Relaxed);
    let node = Node::start(&memory.store(), 1, config()).await;
    let link = node.create(7).await;
    // The first tick is executed before the checkpointer asks, and is not durable for a minute.
    sleep(Duration::from_secs(30)).await;
    assert!(appended.load(Ordering::Relaxed) > 0);
    let stored = node.store.checkpoints.list(MatchId(7)).await.expect("list").0;
    assert!(
        stored.iter().all(|meta| meta.seq.0 == 0),
        "covers records that are not durable: {stored:?}"
    );
    link.wait_durable(Tick(1)).await.expect("lives");
    sleep(Duration::from_secs(1)).await;
    assert!(put.load(Ordering::Relaxed));
}

#[tokio::test(start_paused = true)]
async fn a_recovered_match_waits_for_its_sessions_but_not_for_ever() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let first = Node::start(&store, 1, config()).await;
    let link = first.create(7).await;
    let session = enter(&link, 1).await;
    let other = enter(&link, 2).await;
    first.host.abort();

    let second = Node::start(&store, 2, config()).await;
    let stood = second.take_over(Incarnation(1)).await.remove(0).expect("recovered").tick;
    let link = second.host.find(MatchId(7)).expect("runs");
    sleep(Duration::from_millis(500)).await;
    assert_eq!(
        (link.phase(), link.inspect().await.expect("lives").0),
        (MatchPhase::Waiting, stood)
    );
    link.back(session);
    link.open(PlayerId(2), String::new(), Some(other)).await.expect("resume");
    // All are back: it goes on at once, not after the second is over.
    timeout(Duration::from_millis(50), link.wait_durable(stood.next()))
        .await
        .expect("at once")
        .expect("lives");
    second.host.abort();

    let third = Node::start(&store, 3, config()).await;
    let stood = third.take_over(Incarnation(2)).await.remove(0).expect("recovered").tick;
    let link = third.host.find(MatchId(7)).expect("runs");
    sleep(Duration::from_millis(900)).await;
    assert_eq!(link.inspect().await.expect("lives").0, stood);
    timeout(Duration::from_millis(300), link.wait_durable(stood.next()))
        .await
        .expect("after a second")
        .expect("lives");
}

#[tokio::test(start_paused = true)]
async fn who_was_idle_before_the_crash_is_not_waited_for() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let first = Node::start(&store, 1, config()).await;
    let link = first.create(7).await;
    let active = enter(&link, 1).await;
    let idle = enter(&link, 2).await;
    link.away(idle);
    play(&link, &[active], 1, 90).await;
    first.host.abort();

    let second = Node::start(&store, 2, config()).await;
    let stood = second.take_over(Incarnation(1)).await.remove(0).expect("recovered").tick;
    let link = second.host.find(MatchId(7)).expect("runs");
    sleep(Duration::from_millis(500)).await;
    assert_eq!(link.inspect().await.expect("lives").0, stood, "it waits for who was there");
    link.back(active);
    timeout(Duration::from_millis(50), link.wait_durable(stood.next()))
        .await
        .expect("at once: nobody else is worth waiting for")
        .expect("lives");
    assert_eq!(link.session_of(PlayerId(2)), Some(idle), "the other one may come back as before");
}

#[tokio::test(start_paused = true)]
async fn events_are_remembered_without_listeners_and_across_a_recovery() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let first = Node::start(&store, 1, config()).await;
    let link = first.create(7).await;
    let session = enter(&link, 1).await;
    assert_eq!(link.command(session, 1, Bytes::from_static(&[4, 0])), Admission::Queued);
    play(&link, &[session], 1, 20).await;
    let told = link.events_from(Tick(0));
    assert_eq!(told.events.len(), 1, "{told:?}");
    let at = told.events[0].tick;
    assert_eq!(link.events_from(at), Recalled { from: at, events: told.events.clone() });
    assert_eq!(link.events_from(at.next()).events, []);
    first.host.abort();

    let second = Node::start(&store, 2, config()).await;
    second.take_over(Incarnation(1)).await.remove(0).expect("recovered");
    let again = second.host.find(MatchId(7)).expect("runs").events_from(Tick(0));
    assert_eq!((again.events, again.from), (told.events, Tick(1)));
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_leaves_nothing_to_replay() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let first = Node::start(&store, 1, config()).await;
    let mut ends = Vec::new();
    for id in 1..=5 {
        let link = first.create(id).await;
        let session = enter(&link, 1).await;
        play(&link, &[session], 1, 20).await;
        ends.push(link);
    }
    let report = first.host.drain().await;
    assert_eq!((report.matches, report.checkpointed), (5, 5), "{report:?}");
    for link in &ends {
        let refused = link.open(PlayerId(9), String::new(), None).await.expect_err("draining");
        assert_eq!(refused.code, rekindle_schema::wire::RefuseCode::Draining);
    }
    let hashes: Vec<_> = futures::future::join_all(
        ends.iter().map(|link| async move { link.inspect().await.expect("lives") }),
    )
    .await;
    first.host.abort();
    let second = Node::start(&store, 2, config()).await;
    for (report, (tick, hash)) in second.take_over(Incarnation(1)).await.into_iter().zip(hashes) {
        let report = report.expect("recovered");
        assert_eq!((report.replayed, report.tick), (0, tick));
        let link = second.host.find(report.match_id).expect("runs");
        assert_eq!(link.inspect().await.expect("lives"), (tick, hash));
    }
}

#[tokio::test(start_paused = true)]
async fn an_effect_is_delivered_exactly_once_through_crashes() {
    // The sink takes an effect, but every second answer is lost, and the node dies before the match
    // has journaled that it is done.
    let count = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&count);
    let memory = MemoryStore::new();
    let faulty = memory.with_faults(Arc::new(move |op| match op {
        Op::Effect => Fate {
            lose_answer: seen.fetch_add(1, Ordering::Relaxed).is_multiple_of(2),
            ..Fate::default()
        },
        _ => Fate::default(),
    }));
    let first = Node::start(&faulty.store(), 1, config()).await;
    let link = first.create(7).await;
    let mut frames = link.subscribe();
    let session = enter(&link, 1).await;
    link.command(session, 1, ask_effect());
    let asked = frame_where(&mut frames, |frame| !frame.commands.is_empty()).await.tick;
    first.host.abort();

    let second = Node::start(&faulty.store(), 2, config()).await;
    second.take_over(Incarnation(1)).await.remove(0).expect("recovered");
    let link = second.host.find(MatchId(7)).expect("runs");
    let done = |flushes: &[rekindle_schema::record::Flush]| {
        flushes
            .iter()
            .flat_map(|flush| &flush.steps)
            .flat_map(|step| step.effects_done.clone())
            .collect::<Vec<_>>()
    };
    let acknowledged = async {
        loop {
            sleep(Duration::from_millis(100)).await;
            let flushes = journal(&second.store, 7).await.1;
            if !done(&flushes).is_empty() {
                return done(&flushes);
            }
        }
    };
    let ids = timeout(Duration::from_mins(1), acknowledged).await.expect("journaled");
    assert_eq!(ids.iter().map(|id| id.tick).collect::<Vec<_>>(), [asked]);
    assert!(count.load(Ordering::Relaxed) >= 2, "it was delivered again");
    let delivered = memory.store().effects.delivered().await.expect("list");
    assert_eq!(delivered.len(), 1, "{delivered:?}");
    assert_eq!((delivered[0].0, delivered[0].1.id), (MatchId(7), ids[0]));
    // Nothing is left for the next owner to deliver.
    let (tick, _) = link.inspect().await.expect("lives");
    link.wait_durable(tick).await.expect("lives");
    second.host.abort();
    let before = count.load(Ordering::Relaxed);
    let third = Node::start(&faulty.store(), 3, config()).await;
    third.take_over(Incarnation(2)).await.remove(0).expect("recovered");
    sleep(Duration::from_secs(5)).await;
    assert_eq!(count.load(Ordering::Relaxed), before);
}

#[tokio::test(start_paused = true)]
async fn a_finished_match_delivers_its_result_and_ends_in_its_row() {
    let memory = MemoryStore::new();
    let node = Node::start(&memory.store(), 1, config()).await;
    let link = node.create(7).await;
    let mut frames = link.subscribe();
    let session = enter(&link, 1).await;
    link.command(session, 1, finish());
    let last = frame_where(&mut frames, |frame| frame.ended.is_some()).await;
    assert_eq!(last.ended.as_deref(), Some("somebody won"));
    assert!(frames.recv().await.is_none(), "the last frame is the last");
    assert_eq!(node.settled(7).await, MatchState::Ended { reason: "somebody won".to_owned() });
    assert_eq!(node.store.effects.delivered().await.expect("list").len(), 1);
    let (_, flushes) = journal(&node.store, 7).await;
    let end = flushes.last().expect("records");
    assert_eq!(end.last, last.tick);
    assert_eq!(
        end.decisions,
        [Decision::End { tick: last.tick, reason: "somebody won".to_owned() }]
    );
    assert!(node.host.find(MatchId(7)).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_match_that_ended_in_a_crash_delivers_its_result_afterwards() {
    let memory = MemoryStore::new();
    let broken = memory.with_faults(Arc::new(|op| match op {
        Op::Effect => {
            Fate { fail: Some(StoreError::Unavailable("sink".to_owned())), ..Fate::default() }
        }
        _ => Fate::default(),
    }));
    let first = Node::start(&broken.store(), 1, config()).await;
    let link = first.create(7).await;
    let mut frames = link.subscribe();
    let session = enter(&link, 1).await;
    link.command(session, 1, finish());
    let last = frame_where(&mut frames, |frame| frame.ended.is_some()).await.tick;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(
        first.lease(7).await.state,
        MatchState::Running,
        "not over before the result is delivered"
    );
    first.host.abort();

    let second = Node::start(&memory.store(), 2, config()).await;
    let report = second.take_over(Incarnation(1)).await.remove(0).expect("recovered");
    assert_eq!(report.tick, last);
    assert_eq!(second.settled(7).await, MatchState::Ended { reason: "somebody won".to_owned() });
    assert_eq!(memory.store().effects.delivered().await.expect("list").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_operator_ends_a_match() {
    let memory = MemoryStore::new();
    let node = Node::start(&memory.store(), 1, config()).await;
    let link = node.create(7).await;
    let mut frames = link.subscribe();
    timeout(Duration::from_secs(5), node.host.stop_match(MatchId(7), "maintenance"))
        .await
        .expect("in time")
        .expect("stops");
    assert_eq!(node.lease(7).await.state, MatchState::Ended { reason: "maintenance".to_owned() });
    let last = frame_where(&mut frames, |frame| frame.ended.is_some()).await;
    assert_eq!(last.ended.as_deref(), Some("maintenance"));
    assert!(node.host.stop_match(MatchId(7), "again").await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_hash_that_differs_parks_the_match() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let first = Node::start(&store, 1, config()).await;
    first.create(7).await.wait_durable(Tick(65)).await.expect("runs");
    first.host.abort();
    // The same history, but a game that computes something else: the seed of the row is part of
    // what tick 0 is.
    let second = Node::start(&store, 2, config()).await;
    let lease = second.lease(7).await;
    let mut history =
        history::load(&store, &lease, &LoadOptions { start: Start::Beginning, end: End::Newest })
            .await
            .expect("history");
    history.frames.truncate(40);
    let mut claimed = lease.clone();
    claimed.version += 1;
    claimed.epoch = claimed.epoch.next();
    claimed.incarnation = Incarnation(2);
    claimed.spec.seed += 1;
    claimed.lineage.push(rekindle_schema::lease::Lineage {
        epoch: claimed.epoch,
        incarnation: Incarnation(2),
        first_batch: second.host.next_batch(),
        first_seq: history.last_seq().next(),
    });
    store.leases.compare_and_set(claimed.clone()).await.expect("cas").expect("version");
    let error = second.host.recover(claimed, history, GoOn::default()).await.expect_err("differs");
    let RecoveryError::HashMismatch { match_id, tick, recorded, computed, .. } = &error else {
        panic!("{error}")
    };
    assert_eq!((*match_id, *tick), (MatchId(7), Tick(30)));
    assert_ne!(recorded, computed);
    let MatchState::Parked { report } = second.lease(7).await.state else { panic!("not parked") };
    assert!(
        report.contains("tick 30")
            && report.contains(&recorded.to_string())
            && report.contains(&computed.to_string()),
        "{report}"
    );
    assert!(second.host.find(MatchId(7)).is_none());
}

#[tokio::test(start_paused = true)]
async fn another_build_is_refused_unless_accepted_and_then_reported() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let node = Node::start(&store, 1, config()).await;
    node.create(7).await.wait_durable(Tick(100)).await.expect("runs");
    node.host.abort();
    let lease = node.lease(7).await;
    let history =
        history::load(&store, &lease, &LoadOptions { start: Start::Beginning, end: End::Newest })
            .await
            .expect("history");
    let game = Tally::new();
    let other = BuildId(2);
    let refused = replay(&game, &lease.spec, &history, other, OtherBuild::Refuse, &mut |_| {})
        .err()
        .expect("refused");
    assert!(
        matches!(refused, RecoveryError::OtherBuild { found: BUILD, ours, .. } if ours == other),
        "{refused}"
    );
    assert!(!refused.parks(), "the old build can still go on with it");
    let accepted = replay(&game, &lease.spec, &history, other, OtherBuild::Accept, &mut |_| {})
        .expect("accepted");
    let proof = accepted.proof.as_ref().expect("another build computed it");
    assert_eq!((proof.ticks, &proof.difference), ((Tick(1), accepted.tick), &None));
    assert_eq!((accepted.holds_until, proof.unproven), (None, None));
    assert!(
        accepted.hashes.at(Tick(30)).is_some(),
        "what was computed is remembered, to compare with what clients saw"
    );
    // One that computes otherwise. Nobody was there to see it, so there is nobody to be told.
    let mut otherwise = lease.spec.clone();
    otherwise.seed += 1;
    let differing = replay(&game, &otherwise, &history, other, OtherBuild::Accept, &mut |_| {})
        .expect("accepted");
    let found = differing.proof.as_ref().and_then(|proof| proof.difference.as_ref());
    assert!(found.is_some_and(|found| found.hashes > 0 && found.tick == Tick(30)), "{found:?}");
    assert_eq!(differing.hashes.at(Tick(30)), accepted.hashes.at(Tick(30)), "as it was recorded");
    assert_eq!(differing.holds_until, None);
    // Up to a tick in the middle of a record or between two.
    let until = Replay {
        game: &game,
        spec: &lease.spec,
        build: BUILD,
        other_build: OtherBuild::Refuse,
        until: Some(Tick(47)),
        match_id: None,
    };
    let mut seen = Vec::new();
    let stood = until.run(&history, &mut |at| seen.push(at.tick)).expect("replay");
    assert_eq!((stood.tick, stood.sim.tick(), seen.len()), (Tick(47), Tick(47), 47));
}

#[derive(Clone, Default)]
struct Logged(Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn a_recovery_that_drops_values_says_so_once_for_each_match() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let first = Node::start(&store, 1, config()).await;
    for id in 1..=2 {
        first.create(id).await.wait_durable(Tick(5)).await.expect("runs");
    }
    assert_eq!(first.host.drain().await.checkpointed, 2);
    first.host.abort();

    let logged = Logged::default();
    let writer = logged.clone();
    let subscriber =
        tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let mut lossy = Tally::new();
    lossy.dropped = vec!["tally.left".to_owned(), "map".to_owned()];
    let games = Games::new().with(Arc::new(lossy));
    let second = Node::with_games(&store, 2, config(), games).await;
    for report in second.take_over(Incarnation(1)).await {
        report.expect("recovered");
    }
    drop(guard);
    let text = String::from_utf8(logged.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| line.contains("RK-SIM-006")).collect();
    assert_eq!(lines.len(), 2, "{text}");
    for line in lines {
        assert!(line.contains("WARN") && line.contains("tally.left, map"), "{line}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_history_with_a_hole_is_refused() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let node = Node::start(&store, 1, config()).await;
    node.create(7).await.wait_durable(Tick(20)).await.expect("runs");
    let lease = node.lease(7).await;
    let mut history =
        history::load(&store, &lease, &LoadOptions { start: Start::Beginning, end: End::Newest })
            .await
            .expect("history");
    history.frames.remove(5);
    let error =
        replay(&Tally::new(), &lease.spec, &history, BUILD, OtherBuild::Refuse, &mut |_| {})
            .err()
            .expect("refused");
    assert!(matches!(error, RecoveryError::Broken { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_matches_come_back() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let first = Node::start(&store, 1, config()).await;
    let mut links = Vec::new();
    for id in 1..=1_000 {
        links.push(first.create(id).await);
    }
    let session = enter(&links[41], 1).await;
    play(&links[41], &[session], 1, 30).await;
    let stood = links[41].durable().tick;
    first.host.abort();
    let second = Node::start(&store, 2, config()).await;
    let reports = second.take_over(Incarnation(1)).await;
    assert_eq!(reports.len(), 1_000);
    assert!(reports.iter().all(|report| report.as_ref().is_ok_and(|report| report.hash_ok)));
    let link = second.host.find(MatchId(42)).expect("runs");
    assert!(link.inspect().await.expect("lives").0 >= stood);
    link.back(session);
    for status in second.host.list() {
        let link = second.host.find(status.match_id).expect("runs");
        link.wait_durable(Tick(status.tick.0 + 3)).await.expect("goes on");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shards_on_threads_run_and_recover_a_hundred_matches() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let threads = HostConfig { shards: 2, ..HostConfig::default() };
    let first = Node::start(&store, 1, threads.clone()).await;
    let mut links = Vec::new();
    for id in 1..=100 {
        links.push(first.create(id).await);
    }
    for link in &links {
        timeout(Duration::from_secs(20), link.wait_durable(Tick(15)))
            .await
            .expect("in time")
            .expect("runs");
    }
    first.host.abort();
    drop(first);
    let second = Node::start(&store, 2, threads).await;
    for report in second.take_over(Incarnation(1)).await {
        let report = report.expect("recovered");
        assert!(report.tick >= Tick(15));
        let link = second.host.find(report.match_id).expect("runs");
        timeout(Duration::from_secs(20), link.wait_durable(Tick(report.tick.0 + 3)))
            .await
            .expect("in time")
            .expect("goes on");
    }
    let drained = second.host.drain().await;
    assert_eq!(drained.checkpointed, 100, "{drained:?}");
}

#[tokio::test(start_paused = true)]
async fn stopping_a_match_that_is_parked_meanwhile_ends_its_row() {
    let memory = MemoryStore::new();
    let node = Node::start(&memory.store(), 1, config()).await;
    let cursed = node.create_with(7, "tally", 2u64.to_le_bytes().to_vec().into()).await;
    // Its second tick panics by itself; what is asked for here waits for a tick that never comes.
    cursed.wait_durable(Tick(1)).await.expect("lives");
    timeout(Duration::from_mins(1), node.host.stop_match(MatchId(7), "cleared"))
        .await
        .expect("in time")
        .expect("stops");
    assert!(matches!(node.lease(7).await.state, MatchState::Ended { .. }));
    assert!(node.host.find(MatchId(7)).is_none());
}
