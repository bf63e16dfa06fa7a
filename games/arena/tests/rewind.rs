//! Lag compensation: a shot hits what its player saw.

use rekindle_arena::Arena;
use rekindle_arena::components::{Health, Position, REWIND, Trail};
use rekindle_arena::geometry::{Vec2, vec2};
use rekindle_arena::input::Input;
use rekindle_schema::record::{AppliedInput, Join, Step};
use rekindle_sim::value::to_bytes;
use rekindle_sim::{Match, PlayerId, Players, SessionId, Simulation, Tick, Typed};

const SHOOTER: PlayerId = PlayerId(1);
const RUNNER: PlayerId = PlayerId(2);

/// A runner passes in front of a shooter.
struct Range {
    game: Typed<Arena>,
    running: Match<Arena>,
}

impl Range {
    fn new() -> Self {
        let game = Typed::<Arena>::new().unwrap();
        let config = br#"{"map": "open", "endless": true, "lobby_s": 0, "countdown_s": 0}"#;
        let running = game.create(config, 1).unwrap();
        let mut range = Self { game, running };
        let join =
            |player: PlayerId| Join { player, session: SessionId(player.0), name: String::new() };
        range.step(Step { joins: vec![join(SHOOTER), join(RUNNER)], ..Step::default() });
        for _ in 0..3 {
            range.step(Step::default());
        }
        range.place(SHOOTER, vec2(-8.0, 0.0));
        range.place(RUNNER, vec2(0.0, -4.0));
        for _ in 0..20 {
            range.tick(None);
        }
        range
    }

    fn step(&mut self, step: Step) {
        let tick = self.running.tick().next();
        self.running.step(&Step { tick, ..step }).unwrap();
    }

    /// The runner runs upwards; the shooter may shoot at a place, looking at some tick.
    fn tick(&mut self, shot: Option<(Vec2, Tick)>) {
        let seq = self.running.tick().0 + 1;
        let input = |player: PlayerId, view_tick, input: Input| {
            let payload = to_bytes(&input).into();
            AppliedInput { player, session: SessionId(player.0), seq, view_tick, payload }
        };
        let mut inputs = Vec::new();
        if let Some((at, view_tick)) = shot {
            inputs.push(input(
                SHOOTER,
                view_tick,
                Input::new(Vec2::ZERO, (at - vec2(-8.0, 0.0)).angle(), true),
            ));
        }
        inputs.push(input(RUNNER, Tick(seq), Input::new(vec2(0.0, 1.0), 0.0, false)));
        self.step(Step { inputs, ..Step::default() });
    }

    fn place(&mut self, player: PlayerId, at: Vec2) {
        let avatar = self.running.world().resource::<Players>().avatar(player).unwrap();
        self.running.world_mut().insert(avatar, (Position::from(at), Trail::at(at)));
    }

    fn runner(&self) -> (Vec2, u8) {
        let world = self.running.world();
        let avatar = world.resource::<Players>().avatar(RUNNER).unwrap();
        (world.get::<Position>(avatar).unwrap().vec(), world.get::<Health>(avatar).unwrap().points)
    }

    fn restored(mut self) -> Self {
        self.running = self.game.restore(&self.running.checkpoint()).unwrap();
        self
    }
}

/// Health that the runner loses by a shot at where it was `ago` ticks before, by a player who says
/// to have looked `behind` ticks back.
fn lost(ago: usize, behind: u64, restore: bool) -> u8 {
    let mut range = Range::new();
    let mut places = vec![range.runner().0];
    for _ in 0..ago {
        range.tick(None);
        places.push(range.runner().0);
    }
    if restore {
        range = range.restored();
    }
    let shot = places[places.len() - ago];
    let next = range.running.tick().0 + 1;
    range.tick(Some((shot, Tick(next.saturating_sub(behind)))));
    100 - range.runner().1
}

#[test]
fn a_shot_hits_where_the_target_was_when_the_shooter_looked() {
    for ago in 3..=usize::from(REWIND) {
        assert!(lost(ago, ago as u64, false) > 0, "{ago} ticks ago, seen then");
        assert_eq!(
            lost(ago, 0, false),
            0,
            "{ago} ticks ago, but the shooter says to see the present"
        );
    }
    assert!(lost(1, 1, false) > 0);
}

#[test]
fn nobody_shoots_further_into_the_past_than_a_quarter_of_a_second() {
    const { assert!(REWIND as u32 * 1000 <= 250 * 30) };
    assert!(
        lost(usize::from(REWIND), 300, false) > 0,
        "an old view counts as the oldest that is allowed"
    );
    assert_eq!(lost(15, 15, false), 0);
}

#[test]
fn the_past_is_part_of_the_checkpoint() {
    assert!(lost(usize::from(REWIND), u64::from(REWIND), true) > 0);
    assert_eq!(lost(usize::from(REWIND), 0, true), 0);
}
