//! Builds of one game: the first played a match and died, another one goes on with it, or says why
//! not.

mod support;

use std::sync::Arc;

use bytes::Bytes;
use rekindle_actors::recovery::{Replay, fits};
use rekindle_actors::{
    Aspect, Differs, Games, GoOn, MatchHandle, OtherBuild, RecoveryError, RecoveryReport, Void,
};
use rekindle_door::{Admission, MatchDoor as _};
use rekindle_schema::lease::{Lineage, MatchLease, MatchState};
use rekindle_schema::record::{Decision, Flush, Grounds, LeaveReason};
use rekindle_schema::{BuildId, Epoch, Incarnation, MatchId, PlayerId, Seq, Tick};
use rekindle_sim::{
    Component, Const, Game, GameBuilder, Inputs, IntoSystems as _, Query, Stage, Time, Typed,
    Value, World,
};
use rekindle_store::Store;
use rekindle_store::history::{self, History, LoadOptions};
use rekindle_store_memory::MemoryStore;
use support::{Node, config, enter, input, journal};

/// Where the first build has a bug that ends the match.
const BROKEN_AT: u64 = 130;

#[derive(Clone, Component)]
#[component(id = "position")]
struct Position {
    #[net(bits = 24)]
    x: u32,
}

#[derive(Clone, Component)]
#[component(id = "fuel")]
struct Fuel {
    left: u32,
}

/// As a later build has it.
#[derive(Clone, Component)]
#[component(id = "fuel")]
struct WideFuel {
    left: u32,
    #[value(default = 3)]
    spare: u32,
}

#[derive(Clone, Value)]
struct Push {
    by: u8,
    of: u8,
}

/// In what builds differ.
#[derive(Clone, Copy)]
struct Rules {
    /// Nobody gets further than this, and nobody gets as far in these tests.
    limit: u32,
    /// From this tick on everybody is faster.
    fast_from: u64,
    /// From this tick on fuel burns faster. Players are not shown fuel.
    thirsty_from: u64,
    broken_at: u64,
}

/// The build that played.
const FIRST: u8 = 0;
/// Without the bug, and with another limit.
const FIXED: u8 = 1;
/// Faster from tick 95 on: behind the last hash of the state.
const FASTER: u8 = 2;
/// Burns more from tick 50 on.
const THIRSTY: u8 = 3;
/// Its two systems run the other way round.
const REORDERED: u8 = 4;
/// A component has one more field.
const WIDER: u8 = 5;

struct Race<const BUILD: u8>;

fn rules(build: u8) -> Rules {
    let never = u64::MAX;
    Rules {
        limit: if build == FIXED { 20_000 } else { 10_000 },
        fast_from: if build == FASTER { 95 } else { never },
        thirsty_from: if build == THIRSTY { 50 } else { never },
        broken_at: if build == FIRST { BROKEN_AT } else { never },
    }
}

fn drive<const BUILD: u8>(
    rules: Const<Rules>,
    time: Time,
    inputs: Inputs<Race<BUILD>>,
    mut positions: Query<&mut Position>,
) {
    assert!(time.tick.0 != rules.broken_at, "a bug");
    let pushed: u32 = inputs.iter().map(|input| u32::from(input.input.by)).sum();
    let speed = 1 + u32::from(time.tick.0 >= rules.fast_from);
    for mut position in &mut positions {
        position.x = (position.x + speed + pushed).min(rules.limit);
    }
}

fn burn(rules: Const<Rules>, time: Time, mut tanks: Query<&mut Fuel>) {
    let rate = 1 + u32::from(time.tick.0 >= rules.thirsty_from);
    for mut fuel in &mut tanks {
        fuel.left -= rate;
    }
}

fn burn_wide(mut tanks: Query<&mut WideFuel>) {
    for mut fuel in &mut tanks {
        fuel.left -= 1;
    }
}

impl<const BUILD: u8> Game for Race<BUILD> {
    const NAME: &'static str = "race";
    type Config = ();
    type Input = Push;
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Position>().constant(|()| rules(BUILD));
        let drive = || drive::<BUILD>;
        match BUILD {
            WIDER => {
                game.component::<WideFuel>();
                game.add_systems(
                    Stage::Update,
                    (drive().named("drive"), burn_wide.named("burn")).chain(),
                );
            }
            REORDERED => {
                game.component::<Fuel>();
                game.add_systems(
                    Stage::Update,
                    (burn.named("burn"), drive().named("drive")).chain(),
                );
            }
            _ => {
                game.component::<Fuel>();
                game.add_systems(
                    Stage::Update,
                    (drive().named("drive"), burn.named("burn")).chain(),
                );
            }
        }
    }

    fn max_players((): &()) -> usize {
        4
    }

    fn setup(world: &mut World, (): &()) {
        for x in 0..4 {
            let ship = world.spawn(Position { x });
            if BUILD == WIDER {
                world.insert(ship, WideFuel { left: 100_000, spare: 3 });
            } else {
                world.insert(ship, Fuel { left: 100_000 });
            }
        }
    }

    fn join(_: &mut World, _: PlayerId) {}

    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

fn games<const BUILD: u8>() -> Games {
    Games::new().with(Arc::new(Typed::<Race<BUILD>>::new().expect("the game is right")))
}

fn id_of(build: u8) -> BuildId {
    BuildId(0xb0 + u64::from(build))
}

async fn start<const BUILD: u8>(store: &Store, me: u64) -> Node {
    Node::with_build(store, me, config(), games::<BUILD>(), id_of(BUILD)).await
}

/// Plays match 7 with one player, who looks on, until tick `until` is durable; then the node dies.
async fn played(store: &Store, until: u64) -> Tick {
    let node = start::<FIRST>(store, 1).await;
    let link = node.create_with(7, "race", Bytes::new()).await;
    let mut frames = link.subscribe();
    let looks_on = tokio::spawn(async move { while frames.recv().await.is_some() {} });
    let session = enter(&link, 1).await;
    let mut seq = 0;
    while link.durable().tick.0 < until {
        seq += 1;
        let push = Bytes::from(vec![seq as u8 % 3, 0]);
        assert_eq!(link.input(input(session, seq, Tick(0), push)), Admission::Queued);
        let now = link.durable().tick;
        link.wait_durable(now.next()).await.expect("it lives");
    }
    node.host.abort();
    looks_on.abort();
    let (_, flushes) = journal(store, 7).await;
    flushes.last().expect("records").last
}

async fn history(store: &Store) -> (MatchLease, History) {
    let lease = store.leases.get(MatchId(7)).await.expect("get").expect("row");
    let loaded = history::load(store, &lease, &LoadOptions::default()).await.expect("history");
    (lease, loaded)
}

/// The node of `me` takes match 7 over from `dead`, as an operator wishes.
async fn go_on(
    node: &Node,
    dead: u64,
    wish: Option<OtherBuild>,
) -> Result<(MatchHandle, RecoveryReport), RecoveryError> {
    let (store, dead) = (&node.store, Incarnation(dead));
    store.leases.fence(dead).await.expect("fence");
    let tail = store.journal.tail(dead).await.expect("tail");
    store.journal.settle(dead, tail.last).await.expect("settle");
    store.leases.seal(dead, tail.last).await.expect("seal");
    let (mut row, mut history) = history(store).await;
    let usable = node.host.fits(&row, &history, wish).await?;
    let mut void = None;
    if let Some(last) = usable {
        void = history
            .frames
            .last()
            .map(|frame| Void { to: frame.header.last_tick, build: frame.header.build });
        history.frames.retain(|frame| frame.header.seq <= last);
    }
    row.version += 1;
    row.epoch = row.epoch.next();
    row.incarnation = node.me;
    row.lineage.push(Lineage {
        epoch: row.epoch,
        incarnation: node.me,
        first_batch: node.host.next_batch(),
        first_seq: history.last_seq().next(),
    });
    store.leases.compare_and_set(row.clone()).await.expect("cas").expect("version");
    let report = node.host.recover(row, history, GoOn { other_build: wish, void }).await?;
    let link = node.host.find(MatchId(7)).expect("it runs");
    link.wait_durable(report.tick.next()).await.expect("it makes ticks");
    Ok((link, report))
}

/// What the report of a match says that waits.
async fn refused(node: &Node, dead: u64) -> Differs {
    let before = history(&node.store).await.0;
    match go_on(node, dead, None).await {
        Err(error @ RecoveryError::Differs(_)) => {
            assert!(!error.parks() && error.lacks() == "other_build", "it waits: {error}");
            let RecoveryError::Differs(differs) = error else { unreachable!() };
            assert_eq!(history(&node.store).await.0, before, "its row is as it was");
            *differs
        }
        Err(error) => panic!("{error}"),
        Ok((_, report)) => panic!("{report:?}"),
    }
}

/// What the journal says of changes of builds.
async fn changes(store: &Store) -> Vec<(Tick, BuildId, Grounds)> {
    let (_, flushes) = journal(store, 7).await;
    let decisions = flushes.into_iter().flat_map(|flush| flush.decisions);
    let change = |decision| match decision {
        Decision::OtherBuild { tick, build, grounds } => Some((tick, build, grounds)),
        _ => None,
    };
    decisions.filter_map(change).collect()
}

#[tokio::test(start_paused = true)]
async fn a_build_that_computes_the_same_goes_on_by_itself_and_says_so() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let last = played(&store, 100).await;
    let second = start::<FIXED>(&store, 2).await;
    let (link, report) = go_on(&second, 1, None).await.expect("it is equal");
    assert_eq!((report.tick, report.hash_ok, report.holds_until), (last, true, None));
    assert_eq!(
        report.build_change.map(|change| change.to_string()),
        Some(format!(
            "build changed {} -> {}, {last} ticks replayed, equal",
            id_of(FIRST),
            id_of(FIXED)
        ))
    );
    assert_eq!(second.host.list()[0].build_change, report.build_change);
    assert_eq!(changes(&store).await, [(last.next(), id_of(FIRST), Grounds::Equal)]);
    // What was proven up to the last tick that was shown is proven again by the next one, also
    // across the records of both.
    let reached = link.durable().tick;
    second.host.abort();
    let third = start::<FIXED>(&store, 3).await;
    let (_, report) = go_on(&third, 2, None).await.expect("it is equal");
    assert!(report.tick >= reached && report.hash_ok);
}

#[tokio::test(start_paused = true)]
async fn every_tick_that_was_shown_is_proven_and_not_only_those_with_a_hash() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let last = played(&store, 100).await;
    let (lease, history) = history(&store).await;
    let game = Typed::<Race<FIXED>>::new().expect("right");
    let replay = Replay {
        game: &game,
        spec: &lease.spec,
        build: id_of(FIXED),
        other_build: OtherBuild::Prove,
        until: None,
        match_id: None,
    };
    let proof = replay.run(&history, &mut |_| {}).expect("equal").proof.expect("another build");
    assert_eq!((proof.count, proof.hashes), (last.0, 3));
    assert!(proof.shown + 5 > last.0, "all but those before anybody looked: {proof:?}");
    // Records of the first releases prove nothing behind their last hash.
    let mut silent = history.clone();
    for frame in &mut silent.frames {
        let flush = Flush::decode(&frame.payload).expect("flush");
        frame.payload = Flush { shown: None, ..flush }.encode().into();
    }
    let error = replay.run(&silent, &mut |_| {}).err().expect("nobody knows");
    let RecoveryError::OtherBuild { tick, found, .. } = error else { panic!("{error}") };
    assert_eq!((tick, found), (Tick(91), id_of(FIRST)));
    silent.frames.retain(|frame| frame.header.last_tick <= Tick(90));
    replay.run(&silent, &mut |_| {}).expect("equal up to the last hash");
}

#[tokio::test(start_paused = true)]
async fn a_build_that_shows_something_else_waits_and_goes_on_from_the_last_equal_state() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let last = played(&store, 125).await;
    let second = start::<FASTER>(&store, 2).await;
    let differs = refused(&second, 1).await;
    let difference = differs.proof.difference.clone().expect("it differs");
    assert_eq!((difference.tick, difference.what), (Tick(95), Aspect::Shown));
    assert_eq!((difference.seen, differs.proof.equal.0), (Some(Tick(95)), Tick(90)));
    assert_eq!(difference.parts, ["component `position` field `x`, written by `drive`"]);
    let text = differs.to_string();
    for part in [
        "makes another tick 95",
        "what players were shown differs",
        "position",
        "drive",
        "match resume 00000000 --from-last-equal",
        "--accept",
        "behind tick 90",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let (link, report) = go_on(&second, 1, Some(OtherBuild::LastEqual)).await.expect("it goes on");
    assert_eq!((report.tick, report.holds_until), (Tick(90), Some(Tick(90))));
    assert_eq!(link.holds_of(Epoch(1)), Some(Tick(90)), "players of before are told");
    assert_eq!(
        changes(&store).await,
        [(Tick(91), id_of(FIRST), Grounds::Rewound(last))],
        "what was undone stands in no history any more, and the journal says why"
    );
    // It plays past what was undone, and the next owner reads one history.
    link.wait_durable(Tick(last.0 + 40)).await.expect("lives");
    let (stood, hash) = link.inspect().await.expect("lives");
    link.wait_durable(stood).await.expect("lives");
    second.host.abort();
    let third = start::<FASTER>(&store, 3).await;
    let (_, report) = go_on(&third, 2, None).await.expect("nobody is asked again");
    assert!(report.tick >= stood && report.hash_ok, "{report:?} {hash}");
}

#[tokio::test(start_paused = true)]
async fn what_players_did_not_see_is_named_and_accepted_without_a_rewind() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let last = played(&store, 100).await;
    let (_, played) = journal(&store, 7).await;
    let shown = played.iter().flat_map(|flush| &flush.beats).last().copied().expect("beats");
    let second = start::<THIRSTY>(&store, 2).await;
    let differs = refused(&second, 1).await;
    let difference = differs.proof.difference.clone().expect("it differs");
    assert_eq!((difference.tick, difference.what), (Tick(60), Aspect::State));
    assert_eq!((difference.seen, differs.proof.equal.0), (None, Tick(30)));
    assert_eq!(difference.parts, ["component `fuel` field `left`, written by `burn`"]);
    assert!(differs.to_string().contains("players saw no difference"), "{differs}");
    let (link, report) = go_on(&second, 1, Some(OtherBuild::Accept)).await.expect("accepted");
    assert_eq!((report.tick, report.hash_ok, report.holds_until), (last, false, None));
    assert_eq!(
        link.hash_at(shown.tick),
        Some(shown.hash),
        "who comes back with the hash of what he saw is told nothing"
    );
    assert_eq!(changes(&store).await, [(last.next(), id_of(FIRST), Grounds::Accepted)]);
    // Nobody is asked again: what was accepted is in a checkpoint, whatever dies next.
    second.host.abort();
    let (_, from) = history(&store).await;
    let (meta, _) = from.checkpoint.expect("it was stored before the match went on");
    assert_eq!((meta.tick, meta.build), (last, id_of(THIRSTY)));
    let third = start::<THIRSTY>(&store, 3).await;
    let (_, report) = go_on(&third, 2, None).await.expect("nobody is asked again");
    assert!(report.tick > last && report.hash_ok);
}

#[tokio::test(start_paused = true)]
async fn an_accepted_difference_that_players_saw_is_told_to_them() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let last = played(&store, 100).await;
    let second = start::<FASTER>(&store, 2).await;
    let (link, report) = go_on(&second, 1, Some(OtherBuild::Accept)).await.expect("accepted");
    assert_eq!((report.tick, report.holds_until), (last, Some(Tick(94))));
    assert_eq!(link.holds_until(), Some(Tick(94)));
}

#[tokio::test(start_paused = true)]
async fn systems_in_another_order_and_new_fields_are_named_and_nobody_is_rewound() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let last = played(&store, 100).await;
    let reordered = refused(&start::<REORDERED>(&store, 2).await, 1).await;
    let parts = reordered.proof.difference.expect("stamps differ").parts;
    let unchanged = |part: &&String| part.contains("not its values");
    assert_eq!(parts.iter().filter(unchanged).count(), 2, "{parts:?}");
    let wider = start::<WIDER>(&store, 3).await;
    let differs = refused(&wider, 1).await;
    let difference = differs.proof.difference.expect("the state is another one");
    let [parts] = &difference.parts[..] else { panic!("{difference:?}") };
    assert!(parts.contains("other components, resources or fields"), "{parts}");
    assert_eq!(difference.seen, None);
    let (_, report) = go_on(&wider, 1, Some(OtherBuild::Accept)).await.expect("accepted");
    assert_eq!((report.tick, report.holds_until), (last, None));
}

#[tokio::test(start_paused = true)]
async fn a_fix_goes_on_with_a_match_that_was_parked_by_the_bug() {
    let memory = MemoryStore::new();
    let store = memory.store();
    let first = start::<FIRST>(&store, 1).await;
    let link = first.create_with(7, "race", Bytes::new()).await;
    let MatchState::Parked { report } = first.settled(7).await else { panic!("it runs on") };
    assert!(report.contains("a bug") && report.contains("drive"), "{report}");
    drop(link);
    first.host.abort();
    // The build with the bug waits or is parked again; the fixed one plays on.
    let second = start::<FIXED>(&store, 2).await;
    let (link, report) = go_on(&second, 1, None).await.expect("it is equal");
    assert_eq!((report.tick, report.hash_ok), (Tick(BROKEN_AT - 1), true));
    assert!(report.build_change.is_some_and(|change| change.grounds == Grounds::Equal));
    link.wait_durable(Tick(BROKEN_AT + 10)).await.expect("past the bug");
}

#[tokio::test(start_paused = true)]
async fn a_build_that_fails_on_what_was_played_harms_nothing_and_can_go_on_from_before() {
    let memory = MemoryStore::new();
    let store = memory.store();
    // The other way round: the build with the bug comes second, and the journal is past the bug.
    let first = start::<FIXED>(&store, 1).await;
    let link = first.create_with(7, "race", Bytes::new()).await;
    link.wait_durable(Tick(150)).await.expect("lives");
    first.host.abort();
    let (lease, history) = history(&store).await;
    let games = games::<FIRST>();
    let asked = |wish| fits(&games, &lease, &history, id_of(FIRST), wish);
    let error = asked(OtherBuild::Prove).expect_err("it cannot");
    assert!(error.to_string().contains("a bug") && error.lacks() == "replay", "{error}");
    let usable = asked(OtherBuild::LastEqual).expect("up to the last hash").expect("not all");
    let frame = history.frames.iter().find(|frame| frame.header.seq == usable).expect("a record");
    assert_eq!((frame.header.last_tick, usable > Seq(0)), (Tick(120), true));
}
