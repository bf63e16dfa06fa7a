//! A game that takes turns: there is a pile of stones, each player takes one, two or three of them
//! in turn, and who takes the last one wins the round.
//!
//! Players act by *commands*: each is granted or refused, applied once, and answered when it is
//! durable, so that a move that a player was told about is there after a crash. Whose time is up
//! loses the choice: one stone is taken for them.
//!
//! Read it from `impl Game` on. Everything is in the world, the time that is left too, so a match
//! goes on after a crash, or days later, as if nothing had happened.

use rekindle_sim::sketch::{Ink, Shape, Sketch};
use rekindle_sim::{
    Commands, Component, Entity, Event, Game, GameBuilder, LeaveReason, PlayerId, Players, Query,
    Stage, Time, Timer, Value, View, World,
};
use serde::{Deserialize, Serialize};

/// Stones on the table when a round begins.
const PILE: u8 = 21;
/// Most stones that can be taken at once.
const MOST: u8 = 3;

/// Told to everybody: `rekindle events --type won` lists them.
#[derive(Debug, Clone, PartialEq, Event)]
#[event(id = "won")]
pub struct Won {
    /// Who took the last stone.
    pub player: PlayerId,
}

/// The table: one entity of every match. `#[net]` says what clients see of it.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "template-turns.table")]
pub struct Table {
    /// Stones that are left.
    #[net(bits = 5)]
    pub stones: u8,
    /// The number of the seat whose turn it is; 0 until all seats are taken.
    #[net(bits = 3)]
    pub turn: u8,
    /// When the time of that seat is up.
    pub due: Timer,
}

/// A player's seat. It stays when its player goes, and waits.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "template-turns.seat")]
pub struct Seat {
    /// Whose it is.
    pub player: PlayerId,
    /// From 1.
    #[net(bits = 3)]
    pub number: u8,
    /// Rounds won.
    #[net(bits = 10)]
    pub won: u32,
}

/// What a player asks for: to take stones.
#[derive(Debug, Clone, PartialEq, Value)]
pub struct Take {
    /// How many, 1 to 3.
    pub stones: u8,
}

/// How a match is set up: `match create --game-config '{"seats": 3}'`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rules {
    /// How many play: 2 to 4.
    pub seats: u8,
    /// How long a player may think, seconds.
    pub turn_s: u32,
    /// Whether the next round follows. Without it the match ends with the first.
    pub rematch: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self { seats: 2, turn_s: 60, rematch: false }
    }
}

/// The game.
#[derive(Debug)]
pub struct TemplateTurns;

impl Game for TemplateTurns {
    const NAME: &'static str = "template-turns";
    const TICK_RATE: u16 = 10;
    type Config = Rules;
    type Input = ();
    type Command = Take;
    /// How many stones there were when the bot moved.
    type Bot = u8;

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Table>().component::<Seat>().tells::<Won>();
        game.add_systems(Stage::Update, hurry);
    }

    fn validate(rules: &Rules) -> Result<(), String> {
        match rules {
            Rules { seats: 2..=4, turn_s: 1.., .. } => Ok(()),
            _ => Err("`seats` must be 2 to 4, `turn_s` at least 1".to_owned()),
        }
    }

    fn max_players(rules: &Rules) -> usize {
        usize::from(rules.seats)
    }

    fn setup(world: &mut World, _rules: &Rules) {
        world.spawn(Table { stones: PILE, turn: 0, due: Timer::default() });
    }

    fn join(world: &mut World, player: PlayerId) {
        let seats = seats(world);
        let known = seats.iter().find(|(_, seat)| seat.player == player).map(|(own, _)| *own);
        let number = seats.len() as u8 + 1;
        let all = world.constant::<Rules>().seats;
        // A player who comes back finds the seat again.
        let own =
            known.or_else(|| (number <= all).then(|| world.spawn(Seat { player, number, won: 0 })));
        world.resource_mut::<Players>().set_avatar(player, own.unwrap_or_default());
        if known.is_none() && number == all {
            give_turn(world, 1);
        }
    }

    fn leave(_world: &mut World, _player: PlayerId, _reason: LeaveReason) {}

    fn command(world: &mut World, player: PlayerId, Take { stones }: Take) -> bool {
        let seat = seats(world).into_iter().find(|(_, seat)| seat.player == player);
        let table = table(world);
        let turn = seat.is_some_and(|(_, seat)| seat.number == table.1.turn);
        let granted = turn && (1..=MOST).contains(&stones) && stones <= table.1.stones;
        if granted {
            take(world, stones);
        }
        granted
    }

    /// Leaves a multiple of four if it can. A bot sees what a client sees, and nothing else.
    fn bot_command(
        player: PlayerId,
        view: &View<'_>,
        _rules: &Rules,
        moved_at: &mut u8,
    ) -> Option<Take> {
        let seat: Seat = view.avatar(player)?.get()?;
        let table = view.entities().find_map(|entity| entity.get::<Table>())?;
        if table.turn != seat.number {
            *moved_at = 0;
            return None;
        }
        // Until it sees its move it does not move again.
        if *moved_at == table.stones {
            return None;
        }
        *moved_at = table.stones;
        Some(Take { stones: (table.stones % (MOST + 1)).max(1) })
    }

    /// What `watch` draws.
    fn sketch(view: &View<'_>, _rules: &Rules) -> Option<Sketch> {
        let table = view.entities().find_map(|entity| entity.get::<Table>())?;
        let stone = |number: u8| {
            let at = [f32::from(number % 7) + 0.5, f32::from(number / 7) + 0.5];
            Shape::Circle { at, radius: 0.3, ink: Ink::Kind(0) }
        };
        let title = match table.turn {
            0 => "waiting for players".to_owned(),
            seat => format!("seat {seat} is to move"),
        };
        let shapes = (0..table.stones).map(stone).collect();
        Some(Sketch { x: [0.0, 7.0], y: [0.0, 3.0], title, shapes, board: Vec::new() })
    }
}

fn seats(world: &mut World) -> Vec<(Entity, Seat)> {
    world.query::<(Entity, &Seat), (), _>(|seats| {
        seats.iter().map(|(entity, seat)| (entity, seat.clone())).collect()
    })
}

fn table(world: &mut World) -> (Entity, Table) {
    world.query::<(Entity, &Table), (), _>(|tables| {
        let table = tables.iter().next().map(|(entity, table)| (entity, table.clone()));
        table.expect("`setup` makes the table, and nobody takes it away")
    })
}

/// Takes stones for the seat whose turn it is; the last one wins the round.
fn take(world: &mut World, stones: u8) {
    let (entity, Table { stones: before, turn, .. }) = table(world);
    let left = before.saturating_sub(stones);
    let rules = world.constant::<Rules>();
    if left == 0 {
        let winner = seats(world).into_iter().find(|(_, seat)| seat.number == turn);
        let (seat, Seat { player, won, .. }) = winner.expect("only seats take turns");
        world.get_mut::<Seat>(seat).expect("it was there").won = won.saturating_add(1);
        let mut output = world.output();
        output.publish(&Won { player });
        // The effect leaves the node once, whatever happens to the node.
        output.effect_json("result", &player.0);
        if !rules.rematch {
            output.end_match("the last stone is taken");
        }
    }
    world.get_mut::<Table>(entity).expect("it was there").stones =
        if left == 0 { PILE } else { left };
    give_turn(world, turn % rules.seats + 1);
}

/// It is this seat's turn now, and its time runs.
fn give_turn(world: &mut World, seat: u8) {
    let think = u64::from(world.constant::<Rules>().turn_s) * u64::from(world.tick_rate());
    let due = Timer::after(world.tick(), think);
    let (entity, Table { stones, .. }) = table(world);
    world.insert(entity, Table { stones, turn: seat, due });
}

/// Takes one stone for a seat whose time is up.
fn hurry(time: Time, tables: Query<&Table>, mut commands: Commands) {
    if tables.iter().any(|table| table.due.is_due(time.tick)) {
        commands.add(|world| take(world, 1));
    }
}
