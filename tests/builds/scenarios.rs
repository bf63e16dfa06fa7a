//! What a new build makes of matches whose node was killed, one kind of change after the other:
//! what the operator sees and does, and what players do who are connected all the while.

use rekindle_schema::record::LeaveReason;
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{PlayerId, Tick};
use rekindle_sim::{Game, GameBuilder, IntoSystems as _, ResMut, Resource, Stage, World};
use serde_json::Value;

use super::witness::Witness;
use super::{PANIC, Studio, state};

/// A build of the game `tank`: the fields of its resource, what refills an empty tank (no tank ever
/// is), what `puff` does, and the order of its two systems.
macro_rules! tank {
    (
        $module:ident, { $($field:ident)* }, $refill:literal, $puff:expr,
        ($first:ident, $second:ident)
    ) => {
        mod $module {
            use super::*;

            /// What is in the tank.
            #[derive(Clone, Resource)]
            #[resource(id = "fuel")]
            struct Fuel {
                left: u32,
                $($field: u32,)*
            }

            fn burn(mut fuel: ResMut<Fuel>) {
                fuel.left = fuel.left.checked_sub(1).unwrap_or($refill);
                let fatal = std::env::var(PANIC).ok().and_then(|left| left.parse::<u32>().ok());
                assert!(fatal != Some(fuel.left), "no fuel for {}", fuel.left);
            }

            fn puff(mut fuel: ResMut<Fuel>) {
                let puff: fn(&mut Fuel) = $puff;
                puff(&mut fuel);
            }

            pub(crate) struct Tank;

            impl Game for Tank {
                const NAME: &'static str = "tank";
                type Config = ();
                type Input = ();
                type Command = ();
                type Bot = ();
                fn build(game: &mut GameBuilder<Self>) {
                    game.resource::<Fuel>();
                    game.add_systems(Stage::Update, ($first, $second).chain());
                }
                fn max_players((): &()) -> usize {
                    4
                }
                fn setup(world: &mut World, (): &()) {
                    world.insert_resource(Fuel { left: 1_000_000, $($field: 0,)* });
                }
                fn join(_: &mut World, _: PlayerId) {}
                fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
            }
        }
    };
}

tank!(old, { smoke }, 10, |fuel| fuel.smoke += 1, (burn, puff));
tank!(constant, { smoke }, 20, |fuel| fuel.smoke += 1, (burn, puff));
tank!(added, { smoke heat }, 10, |fuel| fuel.smoke += 1, (burn, puff));
tank!(removed, {}, 10, |_| (), (burn, puff));
tank!(reordered, { smoke }, 10, |fuel| fuel.smoke += 1, (puff, burn));

/// Runs a build of it, if `variant` is one.
pub(super) fn run(variant: &str) -> Option<std::process::ExitCode> {
    let node = rekindle::Node::new();
    Some(match variant {
        "tank" => node.game::<old::Tank>().run(),
        "tank-constant" => node.game::<constant::Tank>().run(),
        "tank-added" => node.game::<added::Tank>().run(),
        "tank-removed" => node.game::<removed::Tank>().run(),
        "tank-reordered" => node.game::<reordered::Tank>().run(),
        _ => return None,
    })
}

fn create(studio: &Studio) -> String {
    let created = studio.ask(&["match", "create", "--game", "tank"], 0);
    created["id"].as_str().unwrap().to_owned()
}

fn change(view: &Value) -> &str {
    view["build_change"].as_str().unwrap_or_default()
}

pub(super) fn a_fix() {
    let studio = Studio::new();
    // Whoever burns down to this panics: a bug of the old build.
    let node = studio.start("tank", &[(PANIC, "999850")], &[]);
    let id = create(&studio);
    let player = Witness::enter(&studio, 1, &id);
    parked(&studio, &id);
    // The player's client does not knock for ever: only an operator brings the match back.
    let (code, words) = player.end();
    assert!(code == Some(RefuseCode::Ended) && words.contains("RK-NODE-034"), "{words}");
    node.kill();

    // The fixed build leaves it parked until somebody asks, and then plays on past that tick.
    let tried = studio.ask_of("tank-constant", &[], &["preflight"], 0);
    assert_eq!(tried["matches"][0]["verdict"], "goes_on", "{tried}");
    let _node = studio.start("tank-constant", &[], &[]);
    assert_eq!(state(&studio.show(&id)).0, "parked");
    let resumed = studio.ask(&["match", "resume", &id], 0);
    assert_eq!(state(&resumed).0, "running", "{resumed}");
    assert!(change(&resumed).ends_with("equal"), "{resumed}");
    Witness::enter(&studio, 1, &id).is_shown(Tick(160));
}

fn parked(studio: &Studio, id: &str) {
    let view = super::eventually("it is parked", || {
        Some(studio.show(id)).filter(|view| state(view).0 == "parked")
    });
    assert!(state(&view).1.contains("system `burn` panicked at tick 150"), "{view}");
}

/// A constant that nothing which was played depends on.
pub(super) fn a_constant() {
    let studio = Studio::new();
    let node = studio.start("tank", &[], &[]);
    let id = create(&studio);
    let mut player = Witness::enter(&studio, 1, &id);
    player.is_shown(Tick(70));
    node.kill();
    let _node = studio.start("tank-constant", &[], &[]);
    let view = studio.show(&id);
    assert_eq!((state(&view).0, view["epoch"].as_u64()), ("running", Some(2)), "{view}");
    assert!(change(&view).ends_with("equal"), "{view}");
    let back = player.is_back();
    assert!(back.is_seamless(), "{back:?}");
    player.is_shown(Tick(75));
}

/// Two systems that changed places, and write the same as before: the same place in the order wrote
/// last, so the stamps in the state are equal, too.
pub(super) fn an_order() {
    let studio = Studio::new();
    let node = studio.start("tank", &[], &[]);
    let id = create(&studio);
    let mut player = Witness::enter(&studio, 1, &id);
    player.is_shown(Tick(70));
    node.kill();
    let _node = studio.start("tank-reordered", &[], &[]);
    let view = studio.show(&id);
    assert_eq!((state(&view).0, view["epoch"].as_u64()), ("running", Some(2)), "{view}");
    assert!(change(&view).ends_with("equal"), "{view}");
    let back = player.is_back();
    assert!(back.is_seamless(), "{back:?}");
    player.is_shown(Tick(75));
}

/// Other fields: after a crash an operator decides, after a clean stop nobody is asked.
pub(super) fn a_schema() {
    for (variant, words) in [
        ("tank-added", "resource `fuel`: field `heat` is new"),
        ("tank-removed", "resource `fuel`: field `smoke` is gone"),
    ] {
        let studio = Studio::new();
        let mut node = studio.start("tank", &[], &[]);
        let id = create(&studio);
        let mut player = Witness::enter(&studio, 1, &id);
        player.is_shown(Tick(70));
        node.kill();

        // It waits, untouched, and says that players saw no difference.
        let other = studio.start(variant, &[], &[]);
        let view = studio.show(&id);
        let (word, reason) = state(&view);
        assert_eq!((word, view["epoch"].as_u64()), ("waits", Some(1)), "{variant}: {view}");
        assert!(
            reason.contains("RK-RECOVERY-005")
                && reason.contains("the state differs")
                && reason.contains("players saw no difference"),
            "{variant}: {view}"
        );
        // Players are told that it waits, and why: they try again, and so does who was there.
        let (_, told) = Witness::refused(&studio, 2, &id);
        assert!(told.contains("RK-NODE-137") && told.contains("ask the operator"), "{told}");
        other.kill();

        // The old build goes on with it and stops cleanly: then the new one goes on at once, and
        // what its schema needs was to be seen before.
        node = studio.start("tank", &[], &[]);
        let back = player.is_back();
        assert!(back.is_seamless(), "{variant}: {back:?}");
        assert_eq!(node.terminate(), 0);
        let tried = studio.ask_of(variant, &[], &["preflight"], 10);
        let schema = tried["matches"][0]["schema"].to_string();
        assert!(schema.contains(words), "{variant}: {tried}");
        let dropped = &tried["matches"][0]["dropped"];
        assert_eq!(dropped.to_string().contains("fuel.smoke"), variant == "tank-removed");
        let node = studio.start(variant, &[], &[]);
        let view = studio.show(&id);
        assert_eq!(state(&view).0, "running", "{variant}: {view}");
        let back = player.is_back();
        assert!(back.is_seamless(), "{variant}: {back:?}");
        player.is_shown(Tick(back.next.0 + 5));
        assert_eq!(node.terminate(), 0);
    }
}
