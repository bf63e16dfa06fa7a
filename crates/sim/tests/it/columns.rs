//! Networked fields that take several columns: whole numbers of more than 32 bits, lists. Resources
//! that clients see.

use std::collections::VecDeque;

use rekindle_schema::net::{FieldKind, NetView};
use rekindle_sim::{
    Component, Game, GameBuilder, GameType as _, Harness, IntoSystems as _, LeaveReason, PlayerId,
    Players, ResMut, Resource, Simulation as _, Stage, Tick, Typed, Value, View, World,
};

use crate::family::shadowed;

/// What lies on a table, a number for each player.
#[derive(Debug, Clone, Copy, PartialEq, Value)]
enum Suit {
    Hearts,
    Spades,
    Clubs,
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "hand")]
struct Hand {
    #[net(bits = 64)]
    player: PlayerId,
    #[net(bits = 3)]
    round: u8,
    #[net(bits = 40)]
    chips: u64,
    #[net(bits = 48)]
    dealt: Tick,
    #[net(list = 3, bits = 2)]
    suits: Vec<Suit>,
    #[net(list = 2, min = -1.0, max = 1.0, bits = 9)]
    lean: [f32; 2],
    #[net(list = 2, owner)]
    raised: VecDeque<bool>,
}

fn hand(player: PlayerId) -> Hand {
    Hand {
        player,
        round: 5,
        chips: (1 << 39) + 7,
        dealt: Tick(1 << 33),
        suits: vec![Suit::Spades, Suit::Clubs],
        lean: [1.0, -1.0],
        raised: [true].into(),
    }
}

struct Cards;

impl Game for Cards {
    const NAME: &'static str = "cards";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Hand>();
    }
    fn max_players((): &()) -> usize {
        4
    }
    fn setup(_: &mut World, (): &()) {}
    fn join(world: &mut World, player: PlayerId) {
        let hand = world.spawn(hand(player));
        world.resource_mut::<Players>().set_avatar(player, hand);
    }
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

fn columns_of(hand: &Hand) -> Vec<u32> {
    let mut quanta = vec![u32::MAX; Hand::NET.len()];
    hand.to_quanta(&mut quanta);
    quanta
}

/// These numbers are what clients of released builds read: a change of them is another version of
/// every game that has such fields.
#[test]
fn a_field_takes_the_columns_that_clients_know() {
    let whole = |bits| FieldKind::Unsigned { bits };
    let lean = FieldKind::Float { min: -1.0, max: 1.0, bits: 9 };
    let names: Vec<(&str, FieldKind)> =
        Hand::NET.iter().map(|column| (column.name, column.kind)).collect();
    let expected = [
        ("player", whole(32)),
        ("player.high", whole(32)),
        ("round", whole(3)),
        ("chips", whole(32)),
        ("chips.high", whole(8)),
        ("dealt", whole(32)),
        ("dealt.high", whole(16)),
        ("suits.len", whole(2)),
        ("suits.0", whole(2)),
        ("suits.1", whole(2)),
        ("suits.2", whole(2)),
        ("lean.len", whole(2)),
        ("lean.0", lean),
        ("lean.1", lean),
        ("raised.len", whole(2)),
        ("raised.0", FieldKind::Bool),
        ("raised.1", FieldKind::Bool),
    ];
    assert_eq!(names, expected);
    let quanta = columns_of(&hand(PlayerId(0x7f3a_91c2_0000_0001)));
    let expected = [1, 0x7f3a_91c2, 5, 7, 128, 0, 2, 2, 1, 2, 0, 2, 511, 0, 1, 1, 0];
    assert_eq!(quanta, expected);
}

#[test]
fn what_a_client_reads_is_what_the_game_has() {
    let mut cards = Harness::<Cards>::new(1);
    let player = PlayerId(u64::MAX - 6);
    cards.join(player);
    cards.tick();
    let mut view = NetView::default();
    cards.simulation().extract(&mut view);
    let game = Typed::<Cards>::new().unwrap();
    let seen = view.seen_by(player);
    let own = View::new(game.net_schema(), &seen).avatar(player);
    assert_eq!(own.unwrap().get::<Hand>(), Some(hand(player)));
    let seen = View::new(game.net_schema(), &view).entities().next().unwrap();
    let other = Hand { raised: VecDeque::new(), ..hand(player) };
    assert_eq!(seen.get::<Hand>(), Some(other), "the list of an owner is for the owner");
}

#[test]
fn what_does_not_fit_is_the_most_that_does() {
    let many = Hand {
        chips: 1 << 41,
        suits: vec![Suit::Clubs; 9],
        raised: [true; 5].into(),
        ..hand(PlayerId(1))
    };
    let quanta = columns_of(&many);
    let read = Hand::from_quanta(&quanta);
    assert_eq!(read.chips, (1 << 40) - 1);
    assert_eq!((read.suits.len(), read.raised.len()), (3, 2), "the first ones");
    let none = Hand { suits: Vec::new(), raised: VecDeque::new(), ..many };
    assert_eq!(columns_of(&none)[7..11], [0; 4]);
    // From the network a length may be more than there are columns.
    let mut wrong = columns_of(&none);
    wrong[7] = 3;
    assert_eq!(Hand::from_quanta(&wrong).suits, [Suit::Hearts; 3]);
}

/// What a match knows as a whole, and what its players may know of it.
#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "pot")]
struct Pot {
    #[net(bits = 40)]
    chips: u64,
    #[net(list = 3, bits = 6)]
    board: Vec<u8>,
    deck: Vec<u8>,
}

struct Poker;

impl Game for Poker {
    const NAME: &'static str = "poker";
    type Config = ();
    type Input = ();
    type Command = u8;
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        game.shows::<Pot>();
    }
    fn max_players((): &()) -> usize {
        4
    }
    fn setup(world: &mut World, (): &()) {
        world.insert_resource(Pot { chips: 5, board: Vec::new(), deck: vec![9, 8, 7] });
    }
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
    fn command(world: &mut World, _: PlayerId, raise: u8) -> bool {
        let mut pot = world.resource_mut::<Pot>();
        pot.chips += u64::from(raise) << 32;
        let next = pot.deck.pop();
        if raise > 0 {
            pot.board.extend(next);
        }
        true
    }
}

#[test]
fn a_resource_is_shown_as_one_entity_that_changes_when_players_would_see_it() {
    let game = Typed::<Poker>::new().unwrap();
    let mut poker = Harness::<Poker>::new(1);
    poker.join(PlayerId(1));
    let seen = |poker: &Harness<Poker>| {
        let mut view = NetView::default();
        poker.simulation().extract(&mut view);
        assert!(view.entities.len() <= 1, "{view:?}");
        View::new(game.net_schema(), &view).resource::<Pot>()
    };
    assert_eq!(seen(&poker), None, "no tick was made");
    poker.tick();
    let shown = |chips, board: &[u8]| Some(Pot { chips, board: board.to_vec(), deck: Vec::new() });
    assert_eq!(seen(&poker), shown(5, &[]));
    poker.command(PlayerId(1), &3);
    poker.tick();
    assert_eq!(seen(&poker), shown((3 << 32) + 5, &[7]));
    let kept =
        |poker: &Harness<Poker>| poker.world().all::<Pot>().next().map(|(_, pot)| pot.deck.len());
    assert_eq!(kept(&poker), Some(2));
    // A card that nobody sees is drawn: nothing is written for clients.
    poker.command(PlayerId(1), &0);
    poker.tick();
    assert_eq!((kept(&poker), poker.world().resource::<Pot>().deck.len()), (Some(2), 1));
    poker.assert_replay_identical();
}

/// Counted by systems: what is shown seldom, the rest in each tick.
#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "laps")]
struct Laps {
    #[net(bits = 40)]
    shown: u64,
    hidden: u64,
}

struct Race;

impl Game for Race {
    const NAME: &'static str = "race";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        let lap = |mut laps: ResMut<Laps>| laps.shown += 1 << 31;
        let step = |mut laps: ResMut<Laps>| laps.hidden += 1;
        game.shows::<Laps>();
        let systems = (lap.named("lap").every(5), step.named("step"));
        game.add_systems(Stage::Update, systems.chain());
    }
    fn max_players((): &()) -> usize {
        1
    }
    fn setup(_: &mut World, (): &()) {}
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

#[test]
fn a_world_that_shows_a_resource_and_is_restored_all_the_time_stays_identical() {
    for seed in 1..=3 {
        let live = shadowed::<Race>(seed, 100);
        let shown: Vec<Laps> = live.world().all::<Laps>().map(|(_, laps)| laps).collect();
        assert_eq!(shown.len(), 1);
        assert_eq!(shown[0].shown, live.world().resource::<Laps>().shown);
        assert!(shown[0].shown >= 19 << 31 && live.world().resource::<Laps>().hidden == 100);
    }
}
