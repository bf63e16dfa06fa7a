//! A node with too much to do slows matches down whose game allows it: the journal says so, whoever
//! goes on with them keeps the rate, and no tick computes anything else.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rekindle_actors::core::shedding::Rules;
use rekindle_actors::{Games, HostConfig, MatchStatus, Overload};
use rekindle_schema::record::{Decision, LeaveReason};
use rekindle_schema::{MatchId, PlayerId, Tick};
use rekindle_sim::{Game, GameBuilder, GameType, ResMut, Resource, Stage, Time, Typed, World};
use rekindle_store::Store;
use rekindle_store_memory::MemoryStore;
use support::{Node, journal};
use tokio::time::{sleep, timeout};

/// How long a step takes, in milliseconds, by what the game allows. Sleeping takes as long however
/// busy the machine is.
static STEP_MS: [AtomicU64; 5] = [const { AtomicU64::new(0) }; 5];
const PATIENCE: Duration = Duration::from_secs(30);

/// What the steps have made.
#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "heap")]
struct Heap {
    sum: u64,
}

fn steps_take<const MOST: u8>(ms: u64) {
    STEP_MS[usize::from(MOST)].store(ms, Ordering::Relaxed);
}

fn shovel<const MOST: u8>(mut heap: ResMut<Heap>, time: Time) {
    let ms = STEP_MS[usize::from(MOST)].load(Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(ms));
    heap.sum = heap.sum.wrapping_mul(31).wrapping_add(time.tick.0);
}

#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
struct NoConfig {}

/// A game whose steps take as long as [`steps_take`] says, and that may be slowed to `MOST`
/// periods.
struct Furnace<const MOST: u8>;

impl<const MOST: u8> Game for Furnace<MOST> {
    const NAME: &'static str = "furnace";
    const TICK_RATE: u16 = 60;
    const MAX_SLOWDOWN: u8 = MOST;
    type Config = NoConfig;
    type Input = ();
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.resource::<Heap>().add_systems(Stage::Update, shovel::<MOST>);
    }
    fn max_players(_: &NoConfig) -> usize {
        4
    }
    fn setup(_: &mut World, _: &NoConfig) {}
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

const MATCH: MatchId = MatchId(7);
const RATE: u16 = 60;
/// More than a tick's period, and less than two: with room.
const TOO_LONG_MS: u64 = 20;

fn furnace<const MOST: u8>() -> Arc<dyn GameType> {
    Arc::new(Typed::<Furnace<MOST>>::new().expect("a game"))
}

async fn node(store: &Store, me: u64, game: Arc<dyn GameType>) -> Node {
    let overload = Overload { look: Duration::from_millis(100), rules: Rules { late: 3, calm: 5 } };
    let resume_grace = Duration::ZERO;
    let config = HostConfig { shards: 1, overload, resume_grace, ..HostConfig::default() };
    Node::with_games(store, me, config, Games::new().with(game)).await
}

async fn create(node: &Node, game: &dyn GameType) {
    let config = game.config_from_json("{}").expect("a configuration");
    let mut row = node.row(MATCH.0, game.name(), config);
    row.spec.tick_rate = RATE;
    node.store.leases.create(row.clone()).await.expect("row");
    node.host.create(row).await.expect("create");
}

fn status(node: &Node) -> MatchStatus {
    let mut all = node.host.list();
    all.pop().expect("its match")
}

/// Waits for the match to stand as wanted.
async fn until(node: &Node, what: &str, wanted: impl Fn(&MatchStatus) -> bool) {
    let waiting = async {
        while !wanted(&status(node)) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let waited = timeout(PATIENCE, waiting).await;
    waited.unwrap_or_else(|_| panic!("{what}: {:?}", status(node)));
}

/// All that the journal says of rates: the tick from which each counts.
async fn slowdowns(store: &Store) -> Vec<(Tick, u8)> {
    let (_, flushes) = journal(store, MATCH.0).await;
    let decisions = flushes.into_iter().flat_map(|flush| flush.decisions);
    let slowdown = |decision| match decision {
        Decision::Slowdown { tick, periods } => Some((tick, periods)),
        _ => None,
    };
    decisions.filter_map(slowdown).collect()
}

/// As the migration of a node does it.
async fn move_on(from: &Node, to: &Node) {
    let row = from.lease(MATCH.0).await;
    let mut following = to.host.follow(&row).await.expect("it can be followed");
    let cut = from.host.hand_off(MATCH).await.expect("it stops");
    while !following.is_at(&cut).expect("the same world") {
        to.host.catch_up(&mut following).await.expect("it follows");
        sleep(Duration::from_millis(2)).await;
    }
    let next = to.next_row(&row, &cut);
    to.store.leases.compare_and_set(next.clone()).await.expect("store").expect("version");
    assert!(from.host.let_go(MATCH));
    to.host.run_followed(&next, following).await.expect("it runs");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_overloaded_match_is_slowed_and_keeps_its_rate_through_crash_and_move() {
    let store = MemoryStore::new().store();
    let game = furnace::<4>();
    let a = node(&store, 1, Arc::clone(&game)).await;
    create(&a, &*game).await;
    until(&a, "it goes at its own rate", |status| status.tick.0 > 120).await;
    assert_eq!((status(&a).slowdown, slowdowns(&store).await), (1, vec![]));

    steps_take::<4>(TOO_LONG_MS);
    until(&a, "it is slowed", |status| status.slowdown > 1).await;
    // A busy machine may have it slowed by more than the 2 that it takes.
    let before = status(&a);
    until(&a, "it goes on", |status| status.tick.0 > before.tick.0 + 60).await;
    let slowed = status(&a).slowdown;
    let late = status(&a).late_ticks - before.late_ticks;
    assert!(late < 30, "{late} of 60 ticks were late although it is slowed by {slowed}");

    // Its newest checkpoint covers the decision: what is behind says it again.
    assert_eq!(a.host.checkpoint_all().await, 1);
    let covered = status(&a).checkpoint.expect("it is stored").1;
    until(&a, "more is durable", |status| status.durable > covered.next()).await;
    let said = slowdowns(&store).await;
    assert!(said.iter().any(|(tick, _)| *tick > covered), "{said:?} behind tick {covered}");

    let rate = status(&a).slowdown;
    a.host.abort();
    let b = node(&store, 2, Arc::clone(&game)).await;
    let reports = b.take_over(a.me).await;
    let report = reports[0].as_ref().expect("it is recovered");
    assert!(report.hash_ok && report.beats_checked > 0, "{report:?}");
    assert_eq!(status(&b).slowdown, rate, "the recovery keeps the rate");
    let crashed = report.tick;
    until(&b, "it goes on", |status| status.tick.0 > crashed.0 + 20).await;

    let c = node(&store, 3, Arc::clone(&game)).await;
    let rate = status(&b).slowdown;
    move_on(&b, &c).await;
    assert_eq!(status(&c).slowdown, rate, "the move keeps the rate");

    steps_take::<4>(1);
    until(&c, "there is room again", |status| status.slowdown == 1).await;
    let at = status(&c).tick;
    until(&c, "that is durable", |status| status.durable > at.next()).await;
    let said = slowdowns(&store).await;
    assert!(said.is_sorted_by_key(|(tick, _)| *tick), "{said:?}");
    let (first, last) = (said[0], said[said.len() - 1]);
    assert!(first.1 > 1 && last.1 == 1, "{said:?}");
    assert!(said[..said.len() - 1].iter().all(|(_, periods)| *periods > 1), "{said:?}");
    // A world that goes on from all of this computes what the nodes computed.
    c.host.abort();
    let d = node(&store, 4, Arc::clone(&game)).await;
    let report = d.take_over(c.me).await.remove(0).expect("it is recovered");
    assert!(report.hash_ok && report.tick >= last.0, "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_match_whose_game_may_not_be_slowed_is_late_and_stays_as_it_is() {
    let store = MemoryStore::new().store();
    let game = furnace::<1>();
    let a = node(&store, 1, Arc::clone(&game)).await;
    steps_take::<1>(TOO_LONG_MS);
    create(&a, &*game).await;
    until(&a, "it is late for longer than it takes", |status| status.late_ticks > 60).await;
    assert_eq!((status(&a).slowdown, slowdowns(&store).await), (1, vec![]));
}
