//! Matches that change their node: two hosts on one store, one process, virtual time.

mod support;

use std::time::Duration;

use rekindle_actors::{Following, HostError, MatchPhase};
use rekindle_door::MatchDoor as _;
use rekindle_schema::lease::{Lineage, MatchLease, MatchState};
use rekindle_schema::peer::Cut;
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{BatchNo, MatchId, PlayerId, Tick};
use rekindle_store::Store;
use rekindle_store_memory::MemoryStore;
use support::{
    Node, add, ask_effect, config, enter, finish, frame, frame_where, input, inputs_of, journal,
};

const MATCH: MatchId = MatchId(7);

/// The row under which `node` continues a match that was stopped at `cut`.
fn next_row(row: &MatchLease, node: &Node, first_batch: BatchNo, cut: &Cut) -> MatchLease {
    let mut next = row.clone();
    next.version += 1;
    next.epoch = row.epoch.next();
    next.incarnation = node.me;
    next.lineage.push(Lineage {
        epoch: next.epoch,
        incarnation: node.me,
        first_batch,
        first_seq: cut.seq.next(),
    });
    next
}

/// Follows up to a cut.
async fn arrive(node: &Node, following: &mut Following, cut: &Cut) {
    while !following.is_at(cut).expect("the same world") {
        node.host.catch_up(following).await.expect("it follows");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Moves the match as the migration of a node does.
async fn move_to(from: &Node, to: &Node) -> Cut {
    let row = from.lease(MATCH.0).await;
    let mut following = to.host.follow(&row).await.expect("it can be followed");
    let cut = from.host.hand_off(MATCH).await.expect("it stops");
    assert_eq!(from.host.find(MATCH).unwrap().phase(), MatchPhase::Moving);
    arrive(to, &mut following, &cut).await;
    let next = next_row(&row, to, to.host.next_batch(), &cut);
    from.store.leases.compare_and_set(next.clone()).await.unwrap().unwrap();
    assert!(from.host.let_go(MATCH));
    let report = to.host.run_followed(&next, following).await.expect("it runs");
    assert_eq!(report.tick, cut.tick);
    cut
}

async fn two_nodes() -> (Store, Node, Node) {
    let store = MemoryStore::new().store();
    let (a, b) = (Node::start(&store, 1, config()).await, Node::start(&store, 2, config()).await);
    (store, a, b)
}

#[tokio::test(start_paused = true)]
async fn a_match_is_entered_by_one_at_a_time_and_not_while_it_runs() {
    let (_, a, _) = two_nodes().await;
    let first = a.host.enter(MATCH).expect("nobody else begins to run it");
    assert!(a.host.enter(MATCH).is_none(), "somebody is about to run it");
    assert!(a.host.enter(MatchId(8)).is_some(), "another match");
    a.create(MATCH.0).await;
    drop(first);
    assert!(a.host.enter(MATCH).is_none(), "it runs");
    a.host.hand_off(MATCH).await.expect("it stops");
    assert!(a.host.enter(MATCH).is_none(), "it stands still here, and may go on");
    assert!(a.host.let_go(MATCH));
    assert!(a.host.enter(MATCH).is_some(), "it is gone");
}

#[tokio::test(start_paused = true)]
async fn a_match_goes_on_at_the_next_tick_with_its_sessions_and_nothing_is_lost() {
    let (store, a, b) = two_nodes().await;
    let link = a.create(MATCH.0).await;
    let session = enter(&link, 1).await;
    let (mut nodes, mut seq, mut durable) = ([&a, &b], 0, 0);
    for _ in 0..10 {
        let link = nodes[0].host.find(MATCH).unwrap();
        let opened = link.open(PlayerId(1), "p1".into(), Some(session)).await.unwrap();
        assert!(opened.session == session && opened.next_input == durable + 1);
        let mut frames = link.subscribe();
        for _ in 0..20 {
            seq += 1;
            let tick = frame(&mut frames).await.tick;
            link.input(input(session, seq, tick.next(), add(1)));
        }
        // What was published is durable: the next owner has it.
        let last = frame_where(&mut frames, |frame| {
            frame.applied.iter().any(|applied| applied.seq == seq)
        });
        durable = last.await.applied[0].seq;
        let cut = move_to(nodes[0], nodes[1]).await;
        assert!(nodes[0].host.find(MATCH).is_none());
        while let Some(frame) = frames.recv().await {
            assert!(frame.tick <= cut.tick, "nothing is shown behind the cut");
        }
        let mut frames = nodes[1].host.find(MATCH).unwrap().subscribe();
        assert_eq!(frame(&mut frames).await.tick, cut.tick.next(), "no tick is skipped or doubled");
        nodes.swap(0, 1);
    }
    let (lease, flushes) = journal(&store, MATCH.0).await;
    assert_eq!(lease.epoch.0, 11);
    assert_eq!(inputs_of(&flushes).len() as u64, seq, "each input once");
    let ticks = flushes.windows(2).all(|pair| pair[1].first == pair[0].last.next());
    assert!(ticks, "the journal has no gap");
}

#[tokio::test(start_paused = true)]
async fn a_match_that_is_handed_over_makes_its_next_tick_first() {
    let (_, a, _) = two_nodes().await;
    let link = a.create(MATCH.0).await;
    enter(&link, 1).await;
    let mut frames = link.subscribe();
    let last = frame(&mut frames).await.tick;
    let period = Duration::from_secs(1) / u32::from(link.spec().tick_rate);
    tokio::time::sleep(period / 2).await;
    let asked = tokio::time::Instant::now();
    let cut = a.host.hand_off(MATCH).await.unwrap();
    assert_eq!(cut.tick, last.next(), "it does not stand still in the middle of a period");
    assert!(asked.elapsed() <= period, "it waits for no second tick");
    assert!(a.host.let_go(MATCH));
}

#[tokio::test(start_paused = true)]
async fn a_match_that_is_kept_goes_on_where_it_stood() {
    let (_, a, b) = two_nodes().await;
    let link = a.create(MATCH.0).await;
    let session = enter(&link, 1).await;
    let mut frames = link.subscribe();
    let following = b.host.follow(&a.lease(MATCH.0).await).await.unwrap();
    let cut = a.host.hand_off(MATCH).await.unwrap();
    let twice = a.host.hand_off(MATCH).await;
    assert!(matches!(twice, Err(HostError::NotMoved(..))), "{twice:?}");
    // That refusal must not let the match be restarted or stopped as if nothing were under way.
    let stopped = a.host.stop_match(MATCH, "enough").await;
    assert!(matches!(stopped, Err(HostError::OnTheMove(_))), "{stopped:?}");
    // What arrives while it stands still waits for the next tick.
    link.input(input(session, 1, cut.tick.next(), add(3)));
    tokio::time::sleep(Duration::from_secs(2)).await;
    a.host.keep(MATCH);
    let next = frame_where(&mut frames, |frame| frame.tick > cut.tick).await;
    assert_eq!((next.tick, next.applied.len()), (cut.tick.next(), 1));
    assert_eq!(link.phase(), MatchPhase::Running);
    drop(following);
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_is_not_at_the_cut_says_so() {
    let (_, a, b) = two_nodes().await;
    let link = a.create(MATCH.0).await;
    let mut frames = link.subscribe();
    frame_where(&mut frames, |frame| frame.tick >= Tick(40)).await;
    let mut following = b.host.follow(&a.lease(MATCH.0).await).await.unwrap();
    let cut = a.host.hand_off(MATCH).await.unwrap();
    arrive(&b, &mut following, &cut).await;
    let mut other = cut;
    other.hash.0[5] ^= 1;
    let error = following.is_at(&other).unwrap_err().to_string();
    assert!(error.starts_with("RK-RECOVERY-140"), "{error}");
    a.host.keep(MATCH);
    frame_where(&mut frames, |frame| frame.tick > cut.tick).await;
    while following.seq() <= cut.seq {
        b.host.catch_up(&mut following).await.unwrap();
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!(following.is_at(&cut).is_err(), "it has gone past it");
}

#[tokio::test(start_paused = true)]
async fn effects_are_delivered_once_whoever_owns_the_match() {
    let (store, a, b) = two_nodes().await;
    let link = a.create(MATCH.0).await;
    let session = enter(&link, 1).await;
    let mut frames = link.subscribe();
    for seq in 1..=3 {
        link.command(session, seq, ask_effect());
    }
    frame_where(&mut frames, |frame| !frame.commands.is_empty()).await;
    move_to(&a, &b).await;
    let mut frames = b.host.find(MATCH).unwrap().subscribe();
    let begun = frame(&mut frames).await.tick;
    frame_where(&mut frames, |frame| frame.tick.0 > begun.0 + 30).await;
    assert_eq!(store.effects.delivered().await.unwrap().len(), 3);
    assert!(b.host.stop_match(MATCH, "enough").await.is_ok(), "none is left open");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_drains_leaves_a_match_that_is_handed_over_to_who_moves_it() {
    let (store, a, b) = two_nodes().await;
    let link = a.create(MATCH.0).await;
    let mut frames = link.subscribe();
    frame_where(&mut frames, |frame| frame.tick >= Tick(5)).await;
    let row = a.lease(MATCH.0).await;
    let mut following = b.host.follow(&row).await.unwrap();
    let cut = a.host.hand_off(MATCH).await.unwrap();
    let report = a.host.drain().await;
    assert_eq!(report.checkpointed, 0, "{report:?}");
    assert!(report.left[0].1.contains("handed to another node"), "{report:?}");
    arrive(&b, &mut following, &cut).await;
    let next = next_row(&row, &b, b.host.next_batch(), &cut);
    store.leases.compare_and_set(next.clone()).await.unwrap().unwrap();
    assert!(a.host.let_go(MATCH));
    b.host.run_followed(&next, following).await.unwrap();
    let mut frames = b.host.find(MATCH).unwrap().subscribe();
    assert_eq!(frame(&mut frames).await.tick, cut.tick.next());
}

#[tokio::test(start_paused = true)]
async fn who_waits_to_enter_a_match_that_leaves_is_told_to_come_again() {
    let (_, a, b) = two_nodes().await;
    let link = a.create(MATCH.0).await;
    let mut frames = link.subscribe();
    frame(&mut frames).await;
    let row = a.lease(MATCH.0).await;
    let following = b.host.follow(&row).await.unwrap();
    a.host.hand_off(MATCH).await.unwrap();
    let mut entering = link.open(PlayerId(1), "p1".into(), None);
    let early = tokio::time::timeout(Duration::from_millis(200), &mut entering).await;
    assert!(early.is_err(), "nobody enters while it stands still");
    assert!(a.host.let_go(MATCH));
    let refusal = entering.await.expect_err("it is gone");
    assert_eq!(refusal.code, RefuseCode::Unavailable, "{refusal:?}");
    drop(following);
}

#[tokio::test(start_paused = true)]
async fn a_match_that_is_over_is_not_handed_over() {
    let (_, a, _) = two_nodes().await;
    let link = a.create(MATCH.0).await;
    let session = enter(&link, 1).await;
    link.command(session, 1, finish());
    assert!(matches!(a.settled(MATCH.0).await, MatchState::Ended { .. }));
    let refused = a.host.hand_off(MATCH).await;
    assert!(matches!(refused, Err(HostError::NotHere(_) | HostError::NotMoved(..))), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn when_either_side_dies_at_any_step_a_takeover_goes_on_with_all_that_was_acknowledged() {
    for step in 0..4 {
        let (store, a, b) = two_nodes().await;
        let link = a.create(MATCH.0).await;
        let session = enter(&link, 1).await;
        let mut frames = link.subscribe();
        let tick = frame(&mut frames).await.tick;
        link.input(input(session, 1, tick.next(), add(1)));
        frame_where(&mut frames, |frame| !frame.applied.is_empty()).await;
        let row = a.lease(MATCH.0).await;
        let mut following = b.host.follow(&row).await.unwrap();
        let mut owner = a.me;
        if step > 0 {
            let cut = a.host.hand_off(MATCH).await.unwrap();
            arrive(&b, &mut following, &cut).await;
            if step > 1 {
                let next = next_row(&row, &b, b.host.next_batch(), &cut);
                store.leases.compare_and_set(next.clone()).await.unwrap().unwrap();
                owner = b.me;
                if step > 2 {
                    b.host.run_followed(&next, following).await.unwrap();
                    let mut frames = b.host.find(MATCH).unwrap().subscribe();
                    frame(&mut frames).await;
                }
            }
        }
        a.host.abort();
        b.host.abort();
        let c = Node::start(&store, 3, config()).await;
        // Both are dead: whoever is named by the row, its log is secured first.
        for dead in [a.me, b.me].into_iter().filter(|dead| *dead != owner) {
            assert!(c.take_over(dead).await.is_empty(), "step {step}");
        }
        let reports = c.take_over(owner).await;
        assert!(reports.len() == 1 && reports[0].is_ok(), "step {step}: {reports:?}");
        let (_, flushes) = journal(&store, MATCH.0).await;
        assert_eq!(inputs_of(&flushes).len(), 1, "step {step}");
    }
}
