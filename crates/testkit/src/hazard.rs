//! A game that goes wrong on purpose: on an input, on a command, when somebody enters, by itself,
//! and by never returning.
//!
//! Used by tests of poison handling: the other matches of a node must not notice, and the report
//! must name player, system and tick.

use rekindle_sim::{
    Component, Entity, Game, GameBuilder, IfBroken, Inputs, LeaveReason, PlayerId, Players, Query,
    Res, Stage, Time, Value, World, value,
};
use serde::{Deserialize, Serialize};

/// When a match goes wrong by itself. 0 is never.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Hazards {
    /// In this tick system `curse` panics.
    pub panic_at: u64,
    /// In this tick system `tar_pit` does not return.
    pub hang_at: u64,
    /// From this tick on validation `steady` does not hold, and warns.
    pub warn_from: u64,
    /// In this tick validation `whole` does not hold, and stops the match.
    pub break_at: u64,
}

/// What a player does.
#[derive(Debug, Clone, PartialEq, Value)]
pub enum Move {
    /// Goes so far to the right.
    Walk {
        /// In metres.
        by: u8,
    },
    /// Makes system `walk` panic.
    Bomb,
    /// Makes system `walk` never return.
    Freeze,
}

/// Where system `stumble` panics, in metres from the start.
pub const CLIFF: u32 = 200;

/// What a player asks for.
#[derive(Debug, Clone, PartialEq, Value)]
pub enum Ask {
    /// Granted.
    Nothing,
    /// Panics.
    Bomb,
}

/// A player's figure.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "walker")]
pub struct Walker {
    /// Metres from the start.
    #[net(bits = 16)]
    pub at: u32,
}

/// The game.
pub struct Hazard;

/// An encoded input.
pub fn input(what: &Move) -> Vec<u8> {
    value::to_bytes(what)
}

/// An encoded command.
pub fn command(what: &Ask) -> Vec<u8> {
    value::to_bytes(what)
}

impl Game for Hazard {
    const NAME: &'static str = "hazard";
    type Config = Hazards;
    type Input = Move;
    type Command = Ask;
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Walker>()
            .add_systems(Stage::Update, walk)
            .add_systems(Stage::PostUpdate, (stumble, curse, tar_pit))
            .validation("steady", 1, IfBroken::Warn, steady)
            .validation("whole", 1, IfBroken::Stop, whole);
    }

    fn max_players(_: &Hazards) -> usize {
        16
    }

    fn setup(_: &mut World, _: &Hazards) {}

    fn join(world: &mut World, player: PlayerId) {
        let avatar = world.spawn((Walker { at: 0 },));
        let mut players = world.resource_mut::<Players>();
        assert!(
            players.get(player).is_none_or(|entering| entering.name != "boom"),
            "nobody is called that"
        );
        players.set_avatar(player, avatar);
    }

    fn leave(world: &mut World, player: PlayerId, _: LeaveReason) {
        let avatar = world.resource::<Players>().avatar(player);
        if let Some(avatar) = avatar {
            world.despawn(avatar);
        }
    }

    fn command(_: &mut World, player: PlayerId, command: Ask) -> bool {
        assert!(command != Ask::Bomb, "player {player} sent a bomb by mail");
        true
    }
}

fn walk(inputs: Inputs<Hazard>, players: Res<Players>, mut walkers: Query<&mut Walker>) {
    for input in &inputs {
        match input.input {
            Move::Walk { by } => {
                if let Some(mut walker) =
                    players.avatar(input.player).and_then(|avatar| walkers.get_mut(avatar))
                {
                    walker.at += u32::from(by);
                }
            }
            Move::Bomb => panic!("player {} walked into a bomb", input.player),
            Move::Freeze => for_ever(),
        }
    }
}

fn stumble(walkers: Query<(Entity, &Walker)>) {
    for (_, walker) in &walkers {
        assert!(walker.at != CLIFF, "nobody stands there");
    }
}

fn curse(time: Time, hazards: rekindle_sim::Const<Hazards>) {
    assert!(hazards.panic_at != time.tick.0, "tick {} is cursed", time.tick);
}

fn steady(time: Time, hazards: rekindle_sim::Const<Hazards>) -> Result<(), String> {
    let from = hazards.warn_from;
    if from == 0 || time.tick.0 < from { Ok(()) } else { Err(format!("shaky since {from}")) }
}

fn whole(time: Time, hazards: rekindle_sim::Const<Hazards>) -> Result<(), String> {
    if hazards.break_at == time.tick.0 { Err("it is in two".to_owned()) } else { Ok(()) }
}

fn tar_pit(time: Time, hazards: rekindle_sim::Const<Hazards>) {
    if hazards.hang_at == time.tick.0 {
        for_ever();
    }
}

/// Never returns, and leaves the processor to those who do.
fn for_ever() {
    loop {
        std::thread::park();
    }
}
