//! The layer rules of `docs/ARCHITECTURE.md`, checked against what the manifests and sources say.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// What a crate may import of the workspace. Development dependencies are free.
const ALLOWED: &[(&str, &[&str])] = &[
    ("rekindle-schema", &[]),
    ("rekindle-derive", &[]),
    ("rekindle-sim", &["rekindle-schema", "rekindle-derive"]),
    ("rekindle-workers", &["rekindle-sim"]),
    ("rekindle-physics-rapier", &["rekindle-schema", "rekindle-sim"]),
    ("rekindle-zone", &["rekindle-sim"]),
    ("rekindle-netcode", &["rekindle-schema"]),
    ("rekindle-door", &["rekindle-schema"]),
    ("rekindle-transport", &["rekindle-schema"]),
    ("rekindle-store", &["rekindle-schema"]),
    ("rekindle-store-conformance", &["rekindle-schema", "rekindle-store"]),
    ("rekindle-store-cql", &["rekindle-schema", "rekindle-store"]),
    ("rekindle-store-local", &["rekindle-schema", "rekindle-store"]),
    ("rekindle-store-memory", &["rekindle-schema", "rekindle-store"]),
    (
        "rekindle-store-open",
        &[
            "rekindle-store",
            "rekindle-store-cql",
            "rekindle-store-local",
            "rekindle-store-memory",
            "rekindle-store-postgres",
        ],
    ),
    ("rekindle-store-postgres", &["rekindle-schema", "rekindle-store"]),
    ("rekindle-cluster", &["rekindle-schema", "rekindle-store"]),
    ("rekindle-admin", &["rekindle-schema"]),
    ("rekindle-actors", &["rekindle-schema", "rekindle-sim", "rekindle-store", "rekindle-door"]),
    ("rekindle-jobs", &["rekindle-schema", "rekindle-store"]),
    (
        "rekindle-gateway",
        &["rekindle-schema", "rekindle-netcode", "rekindle-door", "rekindle-transport"],
    ),
    ("rekindle-web", &["rekindle-gateway", "rekindle-transport"]),
    (
        "rekindle-client",
        &["rekindle-schema", "rekindle-netcode", "rekindle-transport", "rekindle-sim"],
    ),
    (
        "rekindle-loadtest",
        &["rekindle-schema", "rekindle-client", "rekindle-netcode", "rekindle-transport"],
    ),
    ("rekindle-arena", &["rekindle-sim"]),
    ("rekindle-duel", &["rekindle-sim", "rekindle"]),
    ("rekindle-royale", &["rekindle-sim", "rekindle-zone"]),
    ("rekindle-skirmish", &["rekindle-sim"]),
    ("rekindle-tictactoe", &["rekindle-sim"]),
    ("template-arena", &["rekindle-sim", "rekindle"]),
    ("template-strategy", &["rekindle-sim", "rekindle"]),
    ("template-turns", &["rekindle-sim", "rekindle"]),
    ("rekindle-allocations", &[]),
    ("rekindle-new", &[]),
    ("rekindle-testservers", &[]),
    (
        "rekindle-server",
        &[
            "rekindle",
            "rekindle-arena",
            "rekindle-royale",
            "rekindle-skirmish",
            "rekindle-tictactoe",
        ],
    ),
];

/// Outside crates that a layer must never see, and why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    (
        "rekindle-schema",
        &["tokio", "ractor", "quinn", "rusqlite"],
        "bytes have no runtime and no driver",
    ),
    (
        "rekindle-sim",
        &["tokio", "rand", "getrandom", "ractor", "quinn"],
        "the simulation has no clock, no threads, no OS randomness",
    ),
    (
        "rekindle-netcode",
        &["tokio", "quinn", "rand", "getrandom"],
        "netcode is sans-IO: time and bytes are arguments",
    ),
    ("rekindle-door", &["quinn", "rusqlite"], "the contract knows no carrier and no driver"),
    (
        "rekindle-gateway",
        &["quinn", "quinn-proto", "rusqlite"],
        "carriers are in rekindle-transport",
    ),
    (
        "rekindle-client",
        &["quinn", "quinn-proto", "rusqlite"],
        "carriers are in rekindle-transport",
    ),
    (
        "rekindle-store",
        &["rusqlite", "tokio-postgres", "deadpool-postgres", "scylla", "rustls"],
        "who uses a port builds no database driver",
    ),
    (
        "rekindle-store-conformance",
        &["rusqlite", "tokio-postgres", "deadpool-postgres", "scylla", "rustls"],
        "the suite knows ports only, so that any backend can run it",
    ),
    (
        "rekindle-cluster",
        &["rusqlite", "tokio-postgres", "scylla", "quinn"],
        "ownership speaks to ports, never to a backend",
    ),
    (
        "rekindle-actors",
        &["rusqlite", "tokio-postgres", "scylla", "quinn"],
        "actors speak to ports, never to a backend or a socket",
    ),
    (
        "rekindle",
        &[
            "rekindle-arena",
            "rekindle-duel",
            "rekindle-royale",
            "rekindle-skirmish",
            "rekindle-tictactoe",
        ],
        "the node knows no game: an executable brings its own, and is all that a change rebuilds",
    ),
];

/// What no product may carry, and what is not part of it.
const FOR_TESTS: &[&str] = &[
    "rekindle-allocations",
    "rekindle-store-conformance",
    "rekindle-testkit",
    "rekindle-testservers",
];
const MAY_TEST: &[&str] = &["rekindle-testkit", "xtask"];
/// The cargo feature with which a test leaves out a guard of a store. No product may turn it on.
const SABOTAGE: &str = "mutants";

/// Words that must not stand in the simulation's sources: each would let something else than the
/// inputs decide.
const FORBIDDEN_IN_SIM: &[&str] =
    &["Instant::now", "SystemTime", "HashMap", "HashSet", "thread_rng", "std::thread"];

/// Macros that panic when nobody reads what they print, or lose it in silence. Commands write
/// through `src/output.rs`, nodes log.
const FORBIDDEN_IN_PRODUCTS: &[&str] = &["print!", "println!", "eprint!", "eprintln!", "dbg!"];
/// Where products have their sources. What measures and what tests may print.
const PRODUCTS: &[&str] =
    &["src", "schema/src", "actors/src", "cluster/src", "loadtest/src", "crates", "games"];
const NO_PRODUCTS: &[&str] =
    &["/tests/", "/benches/", "/allocations/", "/store-conformance/", "/testkit/", "/testservers/"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
    /// Its cargo features, and what each turns on.
    #[serde(default)]
    features: BTreeMap<String, Vec<String>>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    /// `None`: a normal dependency; `dev` and `build` are the others.
    kind: Option<String>,
    /// Features of the dependency that are turned on.
    #[serde(default)]
    features: Vec<String>,
}

/// Reports every import that a rule forbids.
pub(crate) fn check() -> Result<()> {
    let output = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1", "--locked"])
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)
        .context("cargo metadata printed something else than JSON")?;
    let mut problems = imports(&metadata);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let sim = Rule { words: FORBIDDEN_IN_SIM, place: "in the simulation" };
    scan(&root.join("crates/sim/src"), &sim, &mut problems)?;
    for game in std::fs::read_dir(root.join("games")).context("cannot list games")? {
        let sources = game?.path().join("src");
        if sources.is_dir() {
            scan(&sources, &sim, &mut problems)?;
        }
    }
    let printing = Rule {
        words: FORBIDDEN_IN_PRODUCTS,
        place: "outside of tests: write through `src/output.rs`, or log",
    };
    for product in PRODUCTS {
        scan(&root.join(product), &printing, &mut problems)?;
    }
    if !problems.is_empty() {
        bail!("layer rules broken:\n  {}", problems.join("\n  "));
    }
    println!("layers: {} crates keep to their layers", metadata.packages.len());
    Ok(())
}

fn imports(metadata: &Metadata) -> Vec<String> {
    let members: BTreeSet<&str> =
        metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut problems = Vec::new();
    for package in &metadata.packages {
        let normal = package.dependencies.iter().filter(|dependency| dependency.kind.is_none());
        for dependency in normal {
            let name = dependency.name.as_str();
            if let Some(allowed) = allowed.get(package.name.as_str())
                && members.contains(name)
                && !allowed.contains(&name)
            {
                problems
                    .push(format!("{} imports {name}; it may import {allowed:?}", package.name));
            }
            for (layer, names, why) in FORBIDDEN {
                if *layer == package.name && names.contains(&name) {
                    problems.push(format!("{layer} imports {name}: {why}"));
                }
            }
            if FOR_TESTS.contains(&name) && !MAY_TEST.contains(&package.name.as_str()) {
                problems.push(format!("{} imports {name}, which is for tests only", package.name));
            }
        }
        problems.extend(sabotage(package));
    }
    problems
}

/// How a package turns the guards of a store off outside of tests: through a dependency that is not
/// for development, or through a feature of its own (a default one included).
fn sabotage(package: &Package) -> Vec<String> {
    let name = &package.name;
    let dependencies = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind.as_deref() != Some("dev"))
        .filter(|dependency| dependency.features.iter().any(|feature| feature == SABOTAGE))
        .map(|dependency| {
            format!("{name} turns `{SABOTAGE}` of {} on outside of tests", dependency.name)
        });
    let turns_on = |feature: &String| {
        feature == SABOTAGE || feature.split_once('/').is_some_and(|(_, of)| of == SABOTAGE)
    };
    let features = package
        .features
        .iter()
        .filter(|(_, on)| on.iter().any(turns_on))
        .map(|(feature, _)| format!("{name}: its feature `{feature}` turns `{SABOTAGE}` on"));
    dependencies.chain(features).collect()
}

/// Words that sources must not contain.
struct Rule {
    words: &'static [&'static str],
    /// Where they must not stand, for the report.
    place: &'static str,
}

fn scan(folder: &Path, rule: &Rule, problems: &mut Vec<String>) -> Result<()> {
    let of_products = rule.words == FORBIDDEN_IN_PRODUCTS;
    for entry in
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?
    {
        let path = entry?.path();
        if path.is_dir() {
            scan(&path, rule, problems)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            if of_products && NO_PRODUCTS.iter().any(|part| path.to_string_lossy().contains(part)) {
                continue;
            }
            // Tests of a module stand at its end.
            let own = text
                .find("\n#[cfg(test)]\nmod ")
                .filter(|_| of_products)
                .map_or(&text[..], |end| &text[..end]);
            for (number, line) in own.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                // `eprintln!` is not `println!`.
                let whole = |at: usize| {
                    !of_products || !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
                };
                let found = |word: &str| code.match_indices(word).any(|(at, _)| whole(at));
                for word in rule.words.iter().filter(|word| found(word)) {
                    problems.push(format!(
                        "{}:{}: `{word}` {}",
                        path.display(),
                        number + 1,
                        rule.place
                    ));
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<String> {
        imports(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn guards_of_a_store_are_turned_off_in_tests_only() {
        let metadata = |kind: &str, feature: &str, own: &str| {
            format!(
                r#"{{"packages": [{{"name": "rekindle-store-cql", "features": {{"mutants": []}},
                "dependencies": []}}, {{"name": "rekindle", "features": {{{own}}}, "dependencies":
                [{{"name": "rekindle-store-cql", "kind": {kind}, "features": ["{feature}"]}}]}}]}}"#
            )
        };
        assert_eq!(problems(&metadata("null", "x", "")), [""; 0]);
        assert_eq!(problems(&metadata(r#""dev""#, "mutants", "")), [""; 0]);
        assert_eq!(problems(&metadata("null", "mutants", "")).len(), 1);
        assert_eq!(problems(&metadata(r#""build""#, "mutants", "")).len(), 1);
        let own = r#""default": ["rekindle-store-cql/mutants"]"#;
        assert_eq!(problems(&metadata("null", "x", own)).len(), 1);
    }

    #[test]
    fn the_conformance_suite_is_no_part_of_a_product() {
        let metadata = |kind: &str| {
            format!(
                r#"{{"packages": [{{"name": "rekindle-store-conformance", "dependencies": []}},
                {{"name": "rekindle", "dependencies": [{{"name": "rekindle-store-conformance",
                "kind": {kind}}}]}}]}}"#
            )
        };
        assert_eq!(problems(&metadata(r#""dev""#)), [""; 0]);
        assert_eq!(problems(&metadata("null")).len(), 1);
    }
}
