//! Who sees what: what a game may declare, and what becomes of it in a view. That clients get just
//! that is tested with the codec, in `netcode/tests/visibility.rs`.

use rekindle_schema::PlayerId;
use rekindle_schema::digest;
use rekindle_schema::net::NetView;
use rekindle_schema::record::LeaveReason;
use rekindle_sim::{
    Component, Game, GameBuilder, GameType, Harness, Interest, Players, Query, Simulation, Stage,
    Typed, View, World,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "place")]
pub struct Place {
    #[net(min = -100.0, max = 100.0, bits = 20)]
    pub x: f32,
    #[net(min = -100.0, max = 100.0, bits = 20)]
    pub y: f32,
}

/// Whoever carries one is on its team, and alone knows the code.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "badge")]
pub struct Badge {
    pub team: u8,
    #[net(bits = 16, owner)]
    pub code: u16,
}

#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "spy")]
pub struct Spy {
    #[net(bits = 4)]
    pub rank: u8,
    pub employer: PlayerId,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    pub radius: f32,
}

impl Default for Config {
    fn default() -> Self {
        Self { radius: 20.0 }
    }
}

/// With rules about entities, or with no more than the field that is for its owner.
pub struct Embassy<const SECRET: bool>;

impl<const SECRET: bool> Game for Embassy<SECRET> {
    const NAME: &'static str = "embassy";
    type Config = Config;
    type Input = ();
    type Command = ();
    type Bot = u32;

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Place>().component::<Badge>().component::<Spy>();
        game.position::<Place>("x", "y").add_systems(Stage::Update, walk);
        if SECRET {
            game.interest(|config| Interest::new(config.radius, 10.0)).visibility(|see| {
                see.owned_by(|spy: &Spy| spy.employer)
                    .team(|badge: &Badge| u32::from(badge.team))
                    .owner_only::<Spy>();
            });
        }
    }

    fn max_players(_: &Config) -> usize {
        4
    }

    fn setup(world: &mut World, _: &Config) {
        world.spawn((Place { x: 90.0, y: 0.0 }, Spy { rank: 3, employer: PlayerId(1_000_000) }));
        // Nobody's, and nowhere.
        world.spawn(Spy { rank: 1, employer: PlayerId(5) });
    }

    fn join(world: &mut World, player: PlayerId) {
        let (x, code) = (player.0 as f32 % 10.0, player.0 as u16);
        let avatar = world.spawn((Place { x, y: 0.0 }, Badge { team: 1, code }));
        world.resource_mut::<Players>().set_avatar(player, avatar);
    }

    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}

    /// Looks for what it must not see, and counts what it sees.
    fn bot(player: PlayerId, view: &View<'_>, _: &Config, seen: &mut u32) -> Option<()> {
        let own = view.avatar(player)?;
        if SECRET {
            for entity in view.entities() {
                let badge = entity.get::<Badge>();
                assert!(badge.is_none_or(|_| entity.slot == own.slot), "somebody else's code");
                let spy = entity.has::<Spy>();
                assert!(!spy || player == PlayerId(1_000_000), "somebody else's spy");
            }
        }
        assert_eq!(own.get::<Badge>()?.code, player.0 as u16);
        *seen += 1;
        Some(())
    }
}

fn walk(mut places: Query<&mut Place>) {
    for mut place in &mut places {
        place.y += 0.25;
    }
}

fn view<const SECRET: bool>(game: &Harness<Embassy<SECRET>>) -> NetView {
    let mut view = NetView::default();
    game.simulation().extract(&mut view);
    view
}

#[test]
fn a_bot_sees_what_its_player_sees() {
    let game = Harness::<Embassy<true>>::new(3).bots(3).run(20);
    game.assert_replay_identical();
    let played = game.steps().iter().map(|step| step.inputs.len()).sum::<usize>();
    assert!(played >= 3 * 18, "{played}");
}

#[test]
fn rules_change_neither_the_world_nor_what_is_journaled_of_what_was_shown() {
    let mut open = Harness::<Embassy<false>>::new(3).bots(3);
    let mut secret = Harness::<Embassy<true>>::new(3).bots(3);
    for tick in 0..40 {
        open.tick();
        secret.tick();
        assert_eq!(open.simulation().state_hash(), secret.simulation().state_hash());
        let (open, secret) = (view(&open), view(&secret));
        assert_ne!((&secret.entities, &secret.restricted), (&open.entities, &open.restricted));
        assert_eq!(secret.whole(), open.whole());
        assert_eq!(digest::of_shown(&secret, &[]), digest::of_shown(&open, &[]), "tick {tick}");
    }
}

#[test]
fn the_plain_view_is_what_a_spectator_may_see() {
    let game = Harness::<Embassy<true>>::new(3).bots(3).run(3);
    let view = view(&game);
    // All that has a position is bounded by a distance, and a spectator is nowhere; the spy that is
    // nowhere is its employer's.
    assert_eq!(view.entities, []);
    let restricted = view.restricted.as_ref().expect("rules are declared");
    assert_eq!(restricted.viewers.len(), 3);
    assert_eq!(view.whole().entities.len(), 5);
    let spy = view.seen_by(PlayerId(1_000_000));
    assert_eq!(spy.entities.len(), 4, "three at the door, and the own spy far away");
    assert_eq!(view.seen_by(PlayerId(1_000_001)).entities.len(), 3);
    assert_eq!(view.seen_by(PlayerId(5)).entities, [], "in no match");
}

#[test]
fn a_radius_that_makes_no_sense_is_refused_with_the_match() {
    let game = Typed::<Embassy<true>>::new().expect("sound rules");
    for radius in ["0.0", "-3.0", "1e-50"] {
        let config = game.config_from_json(&format!(r#"{{"radius": {radius}}}"#));
        let refused = config.and_then(|config| game.create(&config, 1).map(drop));
        let problem = refused.expect_err(radius).to_string();
        assert!(problem.starts_with("RK-SIM-001") && problem.contains("radius"), "{problem}");
    }
}

/// Moves, and not everybody sees how fast.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "drift")]
pub struct Drift {
    #[net(min = -1.0, max = 1.0, bits = 8, rate = "drift.by")]
    pub at: f32,
    #[net(min = -1.0, max = 1.0, bits = 8, team)]
    pub by: f32,
}

pub struct Muddle;

impl Game for Muddle {
    const NAME: &'static str = "muddle";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();

    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Drift>()
            .interest(|()| Interest::new(1.0, 0.0))
            .interest(|()| Interest::new(2.0, 0.0))
            .visibility(|see| {
                see.owned_by(|spy: &Spy| spy.employer).owned_by(|spy: &Spy| spy.employer);
                see.player_team(|_, _| None).player_team(|_, _| Some(1));
            });
    }

    fn max_players((): &()) -> usize {
        1
    }
    fn setup(_: &mut World, (): &()) {}
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

#[test]
fn every_mistake_in_the_rules_is_named_at_the_start() {
    let problem = Typed::<Muddle>::new().err().expect("full of mistakes").to_string();
    for part in [
        "RK-SIM-003",
        "`interest` is said twice",
        "`owned_by::<it::visibility::Spy>` is said twice",
        "`player_team` is said twice",
        "no component of the game: add `game.component::<it::visibility::Spy>()`",
        "something is for teams only, and no entity has a team",
        "networked field `drift.at` is seen by more than its rate `drift.by`",
        "no entity has a position: add `game.position",
    ] {
        assert!(problem.contains(part), "`{part}` is not in: {problem}");
    }
}
