//! A game that goes wrong stops its own match at most: the others keep their state and their pace,
//! and the report names player, system and tick.

mod support;

#[path = "../../crates/testkit/src/hazard.rs"]
#[expect(unreachable_pub, reason = "a module of a library, used here as a part of a test program")]
mod hazard;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use hazard::{Ask, CLIFF, Hazard, Move, command};
use rekindle_actors::{Games, Hang, HostConfig, MatchHandle, MatchPhase};
use rekindle_door::{Admission, MatchDoor as _};
use rekindle_schema::lease::MatchState;
use rekindle_schema::record::{Decision, LeaveReason};
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{Incarnation, MatchId, PlayerId, Tick};
use rekindle_sim::{GameType, Typed};
use rekindle_store_memory::MemoryStore;
use support::*;
use tokio::time::{sleep, timeout};

fn hazards() -> Games {
    games().with(Arc::new(Typed::<Hazard>::new().expect("the game fits together")))
}

fn settings(json: &str) -> Bytes {
    Typed::<Hazard>::new().expect("the game").config_from_json(json).expect("settings")
}

fn act(what: &Move) -> Bytes {
    hazard::input(what).into()
}

/// Asserts that a match made every tick on time for a while.
async fn keeps_pace(link: &MatchHandle, around: impl Future<Output = ()>) {
    let before = link.info().tick;
    let started = tokio::time::Instant::now();
    around.await;
    let made = link.info().tick.0 - before.0;
    let due = (started.elapsed().as_secs_f64() * f64::from(RATE)).floor() as u64;
    assert!(made + 2 >= due, "{made} ticks where {due} were due");
}

#[tokio::test(start_paused = true)]
async fn an_input_that_panics_is_quarantined_and_everything_else_is_applied() {
    let memory = MemoryStore::new();
    let node = Node::with_games(&memory.store(), 1, config(), hazards()).await;
    let link = node.create_with(7, "hazard", Bytes::new()).await;
    let bystander = node.create(8).await;
    let mut sessions = Vec::new();
    for player in 1..=10 {
        sessions.push(enter(&link, player).await);
    }
    let mut frames = link.subscribe();
    let tick = Tick(frame(&mut frames).await.tick.0 + 3);
    for (index, &session) in sessions.iter().enumerate() {
        let what = if [3, 7].contains(&index) { Move::Bomb } else { Move::Walk { by: 1 } };
        assert_eq!(link.input(input(session, 1, tick, act(&what))), Admission::Queued);
    }
    let applied = async {
        let applied = frame_where(&mut frames, |frame| !frame.applied.is_empty()).await;
        assert_eq!(applied.tick, tick);
        let innocent: Vec<_> = sessions
            .iter()
            .enumerate()
            .filter(|(index, _)| ![3, 7].contains(index))
            .map(|(_, &session)| session)
            .collect();
        assert_eq!(applied.applied.iter().map(|input| input.session).collect::<Vec<_>>(), innocent);
        sleep(Duration::from_secs(1)).await;
    };
    keeps_pace(&bystander, applied).await;
    let (_, flushes) = journal(&node.store, 7).await;
    let decisions: Vec<_> = flushes.iter().flat_map(|flush| flush.decisions.clone()).collect();
    let players: Vec<_> = decisions
        .iter()
        .map(|decision| match decision {
            Decision::Quarantine { tick: at, player, seq: 1, reason } => {
                assert_eq!(*at, tick);
                assert!(
                    reason.contains(&format!("player {player}"))
                        && reason.contains("walk")
                        && reason.contains(&format!("tick {tick}")),
                    "{reason}"
                );
                player.0
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(players, [4, 8]);
    assert_eq!(node.lease(7).await.state, MatchState::Running);
    // What went on is what a recovery computes.
    let (stood, hash) = link.inspect().await.expect("lives");
    link.wait_durable(stood).await.expect("lives");
    node.host.abort();
    let second = Node::with_games(&memory.store(), 2, config(), hazards()).await;
    let reports = second.take_over(Incarnation(1)).await;
    let report = reports
        .into_iter()
        .map(|report| report.expect("recovered"))
        .find(|report| report.match_id == MatchId(7))
        .expect("is there");
    assert!(report.tick >= stood);
    if report.tick == stood {
        assert_eq!(
            second.host.find(MatchId(7)).expect("runs").inspect().await.expect("lives").1,
            hash
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_loop_over_entities_is_told_with_the_entity() {
    let memory = MemoryStore::new();
    let node = Node::with_games(&memory.store(), 1, config(), hazards()).await;
    let link = node.create_with(7, "hazard", Bytes::new()).await;
    let mut sessions = Vec::new();
    for player in 1..=4 {
        sessions.push(enter(&link, player).await);
    }
    let mut frames = link.subscribe();
    let tick = Tick(frame(&mut frames).await.tick.0 + 3);
    for (index, &session) in sessions.iter().enumerate() {
        let by = if index == 2 { CLIFF as u8 } else { 1 };
        link.input(input(session, 1, tick, act(&Move::Walk { by })));
    }
    let applied = frame_where(&mut frames, |frame| !frame.applied.is_empty()).await;
    assert_eq!(applied.applied.len(), 3);
    link.wait_durable(applied.tick).await.expect("lives");
    let (_, flushes) = journal(&node.store, 7).await;
    let reasons: Vec<_> = flushes
        .iter()
        .flat_map(|flush| &flush.decisions)
        .map(|decision| match decision {
            Decision::Quarantine { player: PlayerId(3), reason, .. } => reason.as_str(),
            other => panic!("{other:?}"),
        })
        .collect();
    let expected = format!(
        "input 1 of player 3 makes system `stumble` panic at tick {tick}: nobody stands there, at \
         entity 2v0"
    );
    assert_eq!(reasons, [expected]);
}

#[tokio::test(start_paused = true)]
async fn a_player_who_keeps_sending_poison_is_removed() {
    let memory = MemoryStore::new();
    let node = Node::with_games(&memory.store(), 1, config(), hazards()).await;
    let link = node.create_with(7, "hazard", Bytes::new()).await;
    let session = enter(&link, 5).await;
    let mut frames = link.subscribe();
    let mut seq = 0;
    let gone = loop {
        seq += 1;
        link.input(input(session, seq, Tick(0), act(&Move::Bomb)));
        let next = frame(&mut frames).await;
        if let Some(left) = next.left.first() {
            break (left.session, left.reason);
        }
        assert!(seq < 20, "still there");
    };
    assert_eq!(gone, (session, LeaveReason::Removed));
}

#[tokio::test(start_paused = true)]
async fn a_command_and_a_join_that_panic_are_left_out_and_answered() {
    let memory = MemoryStore::new();
    let node = Node::with_games(&memory.store(), 1, config(), hazards()).await;
    let link = node.create_with(7, "hazard", Bytes::new()).await;
    let session = enter(&link, 1).await;
    let mut frames = link.subscribe();
    assert_eq!(link.command(session, 1, command(&Ask::Bomb).into()), Admission::Queued);
    assert_eq!(link.command(session, 2, command(&Ask::Nothing).into()), Admission::Queued);
    let done = frame_where(&mut frames, |frame| !frame.commands.is_empty()).await;
    let mut answers: Vec<_> = done.commands.iter().map(|done| (done.seq, done.accepted)).collect();
    answers.sort_unstable();
    assert_eq!(answers, [(1, false), (2, true)]);
    let refused = timeout(Duration::from_secs(5), link.open(PlayerId(2), "boom".to_owned(), None))
        .await
        .expect("answered");
    assert_eq!(refused.expect_err("refused").code, RefuseCode::Unavailable);
    let tick = link.inspect().await.expect("lives").0;
    timeout(Duration::from_secs(1), link.wait_durable(Tick(tick.0 + 5)))
        .await
        .expect("goes on")
        .expect("lives");
    enter(&link, 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_panics_by_itself_parks_its_match_only() {
    let memory = MemoryStore::new();
    let node = Node::with_games(&memory.store(), 1, config(), hazards()).await;
    let bystander = node.create(8).await;
    let link = node.create_with(7, "hazard", settings(r#"{"panic_at": 40}"#)).await;
    let mut frames = link.subscribe();
    let session = enter(&link, 3).await;
    let parked = async {
        for seq in 1..=60 {
            link.input(input(session, seq, Tick(seq), act(&Move::Walk { by: 1 })));
        }
        let MatchState::Parked { report } = node.settled(7).await else { panic!("not parked") };
        assert!(
            report.contains("curse")
                && report.contains("tick 40")
                && report.contains("player: none"),
            "{report}"
        );
    };
    keeps_pace(&bystander, parked).await;
    let mut last = Tick(0);
    while let Some(frame) = frames.recv().await {
        last = frame.tick;
    }
    assert_eq!(last, Tick(39), "all that was made was published, nothing else");
    assert!(matches!(link.phase(), MatchPhase::Parked(_)));
    assert_eq!(
        link.open(PlayerId(1), String::new(), None).await.expect_err("parked").code,
        RefuseCode::Unavailable
    );
    assert!(link.wait_durable(Tick(40)).await.is_none());
    // A recovery leaves it alone, the other goes on.
    node.host.abort();
    let second = Node::with_games(&memory.store(), 2, config(), hazards()).await;
    let reports = second.take_over(Incarnation(1)).await;
    assert_eq!(reports.len(), 1);
    assert_eq!(reports[0].as_ref().expect("recovered").match_id, MatchId(8));
}

#[tokio::test(start_paused = true)]
async fn a_match_whose_actor_fails_is_started_again_and_parked_if_that_does_not_help() {
    let memory = MemoryStore::new();
    let tally = Tally::new();
    let defects = Arc::clone(&tally.defects);
    let node =
        Node::with_games(&memory.store(), 1, config(), Games::new().with(Arc::new(tally))).await;
    let (link, bystander) = (node.create(7).await, node.create(8).await);
    let session = enter(&link, 1).await;
    let mut frames = link.subscribe();
    link.input(input(session, 1, Tick(0), add(9)));
    let before = frame_where(&mut frames, |frame| !frame.applied.is_empty()).await.tick;
    let fails = async {
        defects.store(1, Ordering::Release);
        while frames.recv().await.is_some() {}
        // The subscription ended, the session did not, and no tick is missing.
        let mut frames = link.subscribe();
        link.input(input(session, 2, Tick(0), add(9)));
        let applied = timeout(
            Duration::from_secs(5),
            frame_where(&mut frames, |frame| !frame.applied.is_empty()),
        )
        .await
        .expect("again");
        assert!(applied.tick > before);
        let (_, flushes) = journal(&node.store, 7).await;
        assert!(flushes.windows(2).all(|pair| pair[1].first == pair[0].last.next()));
        assert_eq!(inputs_of(&flushes).len(), 2);
    };
    keeps_pace(&bystander, fails).await;
    defects.store(u32::MAX, Ordering::Release);
    let mut subscriptions = Vec::new();
    let parked = async {
        loop {
            subscriptions.push(link.subscribe());
            if let MatchPhase::Parked(report) = link.phase() {
                return report;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let report = timeout(Duration::from_secs(30), parked).await.expect("parked in time");
    assert!(report.contains("a defect in the shell"), "{report}");
    assert!(matches!(node.settled(7).await, MatchState::Parked { .. }));
    defects.store(0, Ordering::Release);
    keeps_pace(&bystander, sleep(Duration::from_secs(2))).await;
}

/// Runs a hang on real threads; returns what the watchdog reported and the parked row's report.
async fn hang(provoke: impl AsyncFnOnce(&Node, &MatchHandle), json: &str) -> (Hang, String) {
    let memory = MemoryStore::new();
    let (sender, mut reported) = tokio::sync::mpsc::channel(1);
    let on_hang = Arc::new(move |hang: Hang| {
        let _ = sender.try_send(hang);
    });
    let threads = HostConfig {
        shards: 2,
        watchdog: Duration::from_millis(600),
        on_hang,
        ..HostConfig::default()
    };
    let node = Node::with_games(&memory.store(), 1, threads, hazards()).await;
    let link = node.create_with(7, "hazard", settings(json)).await;
    // On the other shard.
    let bystander = node.create(8).await;
    provoke(&node, &link).await;
    let hang = timeout(Duration::from_secs(10), reported.recv())
        .await
        .expect("in time")
        .expect("reported");
    let tick = bystander.info().tick;
    timeout(Duration::from_secs(5), bystander.wait_durable(Tick(tick.0 + 5)))
        .await
        .expect("goes on")
        .expect("lives");
    let MatchState::Parked { report } = node.lease(7).await.state else { panic!("not parked") };
    let expected = format!("system `{}` did not return from tick {}", hang.system, hang.tick);
    assert!(report.contains(&expected), "{report}");
    assert!(hang.parked);
    // What the process does next is to end; the next one runs the other match and not this one.
    node.host.abort();
    let second = Node::with_games(&memory.store(), 2, config(), hazards()).await;
    let reports = second.take_over(Incarnation(1)).await;
    assert_eq!(
        reports.into_iter().map(|report| report.expect("recovered").match_id).collect::<Vec<_>>(),
        [MatchId(8)]
    );
    (hang, report)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tick_that_never_returns_is_parked_and_reported() {
    let (hang, report) = hang(async |_, _| {}, r#"{"hang_at": 9}"#).await;
    assert_eq!((hang.match_id, hang.tick), (MatchId(7), Tick(9)));
    assert!(hang.system.contains("tar_pit"), "{hang:?}");
    assert!(report.contains("none"), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_input_that_never_returns_is_reported_with_its_player() {
    let provoke = async |_: &Node, link: &MatchHandle| {
        let session = enter(link, 3).await;
        link.input(input(session, 1, Tick(0), act(&Move::Freeze)));
    };
    let (hang, report) = hang(provoke, "{}").await;
    assert!(hang.system.contains("walk"), "{hang:?}");
    assert_eq!(hang.players, [PlayerId(3)]);
    assert!(report.contains('3'), "{report}");
}

#[tokio::test(start_paused = true)]
async fn poison_is_isolated_by_halves() {
    // 64 contributions, one of them poison: found in a handful of trials, all others kept.
    use rekindle_actors::recovery::poison::{Outcome, isolate};
    use rekindle_schema::SessionId;
    use rekindle_schema::record::{AppliedInput, Join, Step};
    let game = Tally::new();
    let mut sim = game.create(&[], 1).expect("create");
    let joins = (1..=64)
        .map(|id| Join { player: PlayerId(id), session: SessionId(id), name: String::new() })
        .collect();
    sim.step(&Step { tick: Tick(1), joins, ..Step::default() }).expect("step");
    let inputs = (1..=64)
        .map(|id| AppliedInput {
            player: PlayerId(id),
            session: SessionId(id),
            seq: 1,
            view_tick: Tick(1),
            payload: if id == 37 { bomb() } else { add(1) },
        })
        .collect();
    let step = Step { tick: Tick(2), inputs, ..Step::default() };
    let Outcome::Fixed(fixed) = isolate(&game, &sim.checkpoint(), &step) else {
        panic!("hopeless")
    };
    assert_eq!(
        fixed.culprits.iter().map(|culprit| culprit.player).collect::<Vec<_>>(),
        [PlayerId(37)]
    );
    assert_eq!(fixed.step.inputs.len(), 63);
    assert!(
        fixed.step.inputs.windows(2).all(|pair| pair[0].player < pair[1].player),
        "canonical order"
    );
    assert_eq!(fixed.sim.tick(), Tick(2));
    let mut again = game.restore(&sim.checkpoint()).expect("restore");
    again.step(&fixed.step).expect("step");
    assert_eq!(again.state_hash(), fixed.sim.state_hash());
}

#[tokio::test(start_paused = true)]
async fn a_tick_too_large_for_the_journal_parks_its_match_and_no_other() {
    let memory = MemoryStore::new();
    let node = Node::with_games(&memory.store(), 1, config(), games()).await;
    let (greedy, bystander) = (node.create(7).await, node.create(8).await);
    let session = enter(&greedy, 1).await;
    greedy.command(session, 1, flood(1));
    let mut frames = greedy.subscribe();
    frame_where(&mut frames, |frame| !frame.events.is_empty()).await;
    greedy.command(session, 2, flood(5));
    keeps_pace(&bystander, async {
        let MatchState::Parked { report } = node.settled(7).await else { panic!("not parked") };
        assert!(report.contains("tick ") && report.contains("52430"), "{report}");
        sleep(Duration::from_secs(1)).await;
    })
    .await;
    let stood = bystander.info().tick;
    timeout(Duration::from_secs(5), bystander.wait_durable(stood))
        .await
        .expect("in time")
        .expect("the journal goes on");
}
