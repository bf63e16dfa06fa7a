//! Everything that a game can declare is used by a game whose shadow is restored all the time. The
//! features are read from the sources, so one that is added without such a game is named here.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Games that run with a shadow: restored every few ticks, from full checkpoints and from deltas.
const SHADOWED: [&str; 15] = [
    "beside",
    "custom",
    "zoo",
    "family",
    "rules",
    "life",
    "swarm",
    "states",
    "entity_states",
    "threads",
    "stats",
    "bodies",
    "columns",
    "values",
    "extensions",
];

/// What keeps no state and moves nothing in a world, and where it is tested.
const STATELESS: [(&str, &str); 9] = [
    ("position", "how snapshots are ordered: net.rs"),
    ("visibility", "who is sent what: it/visibility.rs, netcode/tests/visibility.rs"),
    ("interest", "who is sent what: it/visibility.rs, netcode/tests/visibility.rs"),
    ("retired", "what a checkpoint may have too much: it/migrate.rs"),
    ("config_retired", "how a configuration is read: it/migrate.rs"),
    ("config_renamed", "how a configuration is read: it/migrate.rs"),
    ("RulesVersion", "a number that the configuration names: src/game/config.rs"),
    ("migrate", "how an old checkpoint is read: it/migrate.rs, it/family.rs"),
    ("alias", "how an old checkpoint is read: it/family.rs"),
];

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The source of a game with a shadow: of most in one test program, of others each in its own.
fn source(game: &str) -> String {
    read(&if game == "custom" { format!("tests/{game}.rs") } else { format!("tests/it/{game}.rs") })
}

/// The names behind each `start` in a text, up to the first character that is not of a name.
fn names<'t>(text: &'t str, start: &'t str) -> impl Iterator<Item = String> + 't {
    text.split(start).skip(1).map(|rest| {
        rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
    })
}

/// The part of a text from one line that begins so up to the next `}` at the margin.
fn block<'t>(text: &'t str, start: &str) -> &'t str {
    let from = text.find(start).unwrap_or_else(|| panic!("`{start}` is gone: mend this test"));
    let rest = &text[from..];
    &rest[..rest.find("\n}").unwrap_or(rest.len())]
}

/// Whether a name stands in a text as a word of its own.
fn stands_in(text: &str, name: &str) -> bool {
    let of_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(name).any(|(at, _)| {
        !text[..at].ends_with(of_name) && !text[at + name.len()..].starts_with(of_name)
    })
}

/// Methods of the builder, declarations of systems, parameters and filters of systems, attributes.
fn features() -> BTreeSet<String> {
    let mut features = BTreeSet::new();
    for file in
        ["builder", "builder/extensions", "builder/shows", "builder/space", "builder/values"]
    {
        let builder = read(&format!("src/game/{file}.rs"));
        features.extend(names(block(&builder, "impl<G: Game> GameBuilder<G> {"), "    pub fn "));
    }
    let declare = read("src/ecs/schedule/declare.rs");
    let declared = names(block(&declare, "pub trait IntoSystems<"), "    fn ");
    features.extend(declared.filter(|name| name != "into_systems" && name != "trigger"));
    for file in [
        "events",
        "index",
        "local",
        "params",
        "relations",
        "resources",
        "rng",
        "states/of_entity",
        "states/of_match",
        "stats",
    ] {
        let source = read(&format!("src/ecs/{file}.rs"));
        features.extend(names(&source, "SystemParam for "));
    }
    for file in ["grid", "past"] {
        features.extend(names(&read(&format!("src/space/{file}.rs")), "SystemParam for "));
    }
    features.extend(names(&read("src/custom/systems.rs"), "SystemParam for "));
    let custom = read("src/custom/systems.rs");
    features.extend(names(block(&custom, "impl Commands<'_> {"), "    pub fn "));
    features.extend(names(&read("src/ecs/query/filter.rs"), "pub struct "));
    let parallel = read("src/ecs/query/parallel.rs");
    let of_query = block(&parallel, "impl<D: ParallelData, F: QueryFilter> Query<");
    features.extend(names(of_query, "    pub fn "));
    features.extend(machine_methods("of_match", "Machine"));
    let values = read("src/ecs/values.rs");
    features.extend(names(block(&values, "impl<'d, T: Component> Aggregates<"), "    pub fn "));
    let template = read("src/ecs/template.rs");
    features.extend(names(block(&template, "impl Template {"), "    pub fn "));
    let attributes = read("../derive/src/attributes.rs");
    let keys = names(&attributes, "meta.path.is_ident(\"");
    // The keys of `net` say what snapshots carry, which every shadowed game with clients compares.
    let net = ["min", "max", "bits", "list", "angle", "rate", "owner", "team", "id", "version"];
    features.extend(keys.filter(|key| !net.contains(&key.as_str())));
    features
}

/// What can be said of a state machine.
fn machine_methods(file: &str, machine: &str) -> BTreeSet<String> {
    let source = read(&format!("src/ecs/states/{file}.rs"));
    names(block(&source, &format!("impl<S: States> {machine}<S> {{")), "    pub fn ").collect()
}

#[test]
fn machines_of_entities_and_of_the_match_are_both_shadowed_with_all_that_they_can_say() {
    for (file, machine, game) in
        [("of_match", "Machine", "states"), ("of_entity", "EntityMachine", "entity_states")]
    {
        let (methods, source) =
            (machine_methods(file, machine), read(&format!("tests/it/{game}.rs")));
        assert_eq!(methods.len(), 5, "{machine}: {methods:?}");
        for method in methods {
            assert!(stands_in(&source, &method), "{game}.rs does not use `{machine}::{method}`");
        }
    }
}

#[test]
fn every_feature_of_the_definition_api_is_used_by_a_game_with_a_shadow() {
    let sources: Vec<(&str, String)> = SHADOWED.iter().map(|game| (*game, source(game))).collect();
    let shadow = read("tests/it/shadow.rs");
    for (game, source) in &sources {
        let shadowed = source.contains("shadowed::<") || shadow.contains(&format!("crate::{game}"));
        assert!(shadowed, "no shadow runs beside the game of {game}.rs");
    }
    let features = features();
    assert!(features.len() > 60, "features are no longer found in the sources: {features:?}");
    for (name, _) in STATELESS {
        assert!(features.contains(name), "`{name}` is no feature any more: take it out");
    }
    let stateless: BTreeSet<&str> = STATELESS.iter().map(|(name, _)| *name).collect();
    let missing: Vec<_> = features
        .iter()
        .filter(|feature| !stateless.contains(feature.as_str()))
        .filter(|feature| !sources.iter().any(|(_, source)| stands_in(source, feature)))
        .collect();
    assert!(
        missing.is_empty(),
        "no game with a shadow uses {missing:?}: use each in one of tests/it/{SHADOWED:?}, or say \
         in STATELESS why it needs none"
    );
}

#[test]
fn a_feature_that_no_game_uses_would_be_missed() {
    assert!(stands_in("game.on_add::<T>(f)", "on_add"));
    assert!(!stands_in("game.on_added::<T>(f)", "on_add") && !stands_in("non_add", "on_add"));
    let features = features();
    for known in [
        "on_despawn",
        "run_if",
        "par_map",
        "Indexed",
        "Or",
        "allow_if",
        "extends",
        "within",
        "physics",
        "entity_states",
        "EntityTransitions",
        "CustomMut",
        "insert_custom",
        "validation",
        "count_by",
    ] {
        assert!(features.contains(known), "{known} is not found: {features:?}");
    }
}
