//! Matches that change their node again and again, at random ticks, while either side may die: what
//! the journal holds in the end is one run without a break.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;
use rekindle_actors::{Following, GoOn};
use rekindle_door::{MatchDoor as _, Opened};
use rekindle_schema::lease::MatchLease;
use rekindle_schema::peer::Cut;
use rekindle_schema::record::{Flush, Step};
use rekindle_schema::{MatchId, PlayerId, SessionId, Tick};
use rekindle_sim::GameType as _;
use rekindle_store::Store;
use rekindle_store::history::{self, LoadOptions};
use rekindle_store_memory::MemoryStore;
use support::{Node, Tally, add, config, frame, input, inputs_of, journal};
use tokio::sync::mpsc;

const MATCH: MatchId = MatchId(7);

/// How a stay at one node ends.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// The match goes on at another node.
    Move,
    /// It is stopped and kept.
    Keep,
    /// It is stopped, and goes on here in a later epoch: the change of its row was unknown.
    KeepAs,
    /// Its node dies while another one follows.
    DieFollowed,
    /// Both die when it stands at the cut.
    DieAtCut,
    /// Both die when the row names the other node.
    DieOwned,
}

fn act() -> impl Strategy<Value = Act> {
    use Act::{DieAtCut, DieFollowed, DieOwned, Keep, KeepAs, Move};
    prop_oneof![
        4 => Just(Move), 1 => Just(Keep), 1 => Just(KeepAs),
        1 => Just(DieFollowed), 1 => Just(DieAtCut), 1 => Just(DieOwned)
    ]
}

/// A player that sends one input a tick, and again what it has not seen applied.
#[derive(Default)]
struct Player {
    session: Option<SessionId>,
    /// The number of its newest input.
    sent: u64,
    /// In which tick each input was, as it was shown.
    seen: BTreeMap<u64, Tick>,
}

impl Player {
    /// Plays `ticks` ticks at `node`. Whether its frames go on where the ones before ended is told
    /// by the journal.
    async fn play(&mut self, node: &Node, ticks: u64) {
        let link = node.host.find(MATCH).expect("it is here");
        let mut frames = link.subscribe();
        let opened: Opened =
            link.open(PlayerId(1), "p1".into(), self.session).await.expect("it opens");
        assert!(self.session.is_none_or(|session| session == opened.session), "the same session");
        self.session = Some(opened.session);
        let first = opened.next_input;
        let shown = self.seen.last_key_value().map_or(0, |(&seq, _)| seq);
        assert!(first > shown, "input {shown} was shown, and {first} is asked for");
        for next in first..first + ticks {
            let tick = self.watch(&mut frames).await;
            self.sent = self.sent.max(next);
            link.input(input(opened.session, next, tick.next(), add((next % 200) as u8)));
        }
    }

    async fn watch(
        &mut self,
        frames: &mut mpsc::Receiver<std::sync::Arc<rekindle_door::TickFrame>>,
    ) -> Tick {
        let shown = frame(frames).await;
        for applied in &shown.applied {
            let before = self.seen.insert(applied.seq, shown.tick);
            assert!(before.is_none(), "input {} was shown twice", applied.seq);
        }
        shown.tick
    }
}

async fn cut_with(from: &Node, to: &Node, following: &mut Following) -> Cut {
    let cut = from.host.hand_off(MATCH).await.expect("it stops");
    while !following.is_at(&cut).expect("the same world") {
        to.host.catch_up(following).await.expect("it follows");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    cut
}

async fn set(store: &Store, row: &MatchLease) {
    store.leases.compare_and_set(row.clone()).await.expect("the store").expect("the version");
}

/// A new node that takes over from both: exactly one of them owned the match.
async fn succeed(store: &Store, nodes: [&Node; 2], me: u64) -> Node {
    for node in &nodes {
        node.host.abort();
    }
    let heir = Node::start(store, me, config()).await;
    let mut recovered = 0;
    for dead in nodes {
        for report in heir.take_over(dead.me).await {
            report.expect("it recovers");
            recovered += 1;
        }
    }
    assert_eq!(recovered, 1, "one of them owned it");
    heir
}

/// Does `act` to the match at `owner` and returns the node that has it then.
async fn perform(store: &Store, owner: Node, act: Act, me: u64) -> Node {
    let row = owner.lease(MATCH.0).await;
    let other = Node::start(store, me, config()).await;
    let mut following = other.host.follow(&row).await.expect("it can be followed");
    if matches!(act, Act::DieFollowed) {
        return succeed(store, [&owner, &other], me + 1).await;
    }
    let cut = cut_with(&owner, &other, &mut following).await;
    match act {
        Act::Move | Act::DieOwned => {
            let next = other.next_row(&row, &cut);
            set(store, &next).await;
            if matches!(act, Act::DieOwned) {
                return succeed(store, [&owner, &other], me + 1).await;
            }
            assert!(owner.host.let_go(MATCH));
            let report = other.host.run_followed(&next, following).await.expect("it runs");
            assert_eq!(report.tick, cut.tick);
            other
        }
        Act::Keep => {
            owner.host.keep(MATCH);
            owner
        }
        Act::KeepAs => {
            let next = owner.next_row(&row, &cut);
            set(store, &next).await;
            assert!(owner.host.let_go(MATCH));
            let history = history::load(store, &next, &LoadOptions::default()).await.unwrap();
            let report =
                owner.host.recover(next, history, GoOn::default()).await.expect("it goes on");
            assert_eq!(report.tick, cut.tick);
            owner
        }
        Act::DieFollowed | Act::DieAtCut => succeed(store, [&owner, &other], me + 1).await,
    }
}

/// Makes all ticks of a journal in one world that never moved: every recorded hash must be its.
fn hashes_of_one_run(flushes: &[Flush]) -> usize {
    let mut world = Tally::new().create(&[], MATCH.0).expect("a world");
    let mut beats = 0;
    for flush in flushes {
        assert_eq!(flush.first, world.tick().next(), "the journal has no gap and no tick twice");
        for tick in flush.first.0..=flush.last.0 {
            let tick = Tick(tick);
            let empty = || Step { tick, ..Step::default() };
            let step = flush.steps.iter().find(|step| step.tick == tick);
            world.step(&step.cloned().unwrap_or_else(empty)).expect("a step");
            for beat in flush.beats.iter().filter(|beat| beat.tick == tick) {
                assert_eq!(beat.hash, world.state_hash(), "the world of tick {tick}");
                beats += 1;
            }
        }
    }
    beats
}

async fn run(plan: Vec<(u64, Act)>) {
    let store = MemoryStore::new().store();
    let mut owner = Node::start(&store, 1, config()).await;
    owner.create(MATCH.0).await;
    let mut player = Player::default();
    for (at, (ticks, act)) in plan.into_iter().enumerate() {
        player.play(&owner, ticks).await;
        owner = perform(&store, owner, act, 10 + 2 * at as u64).await;
    }
    player.play(&owner, 65).await;
    let (_, flushes) = journal(&store, MATCH.0).await;
    assert!(hashes_of_one_run(&flushes) >= 2, "hashes were recorded");
    let applied = inputs_of(&flushes);
    for (&seq, &tick) in &player.seen {
        let session = player.session.expect("it played");
        assert_eq!(applied.get(&(session, seq)), Some(&tick), "input {seq}, as it was shown");
    }
    assert!(!player.seen.is_empty() && applied.len() as u64 <= player.sent);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_match_that_moves_and_dies_at_random_is_one_run_and_keeps_what_was_shown(
        plan in proptest::collection::vec((1_u64..45, act()), 1..7)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(run(plan));
    }
}
