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
    ("rekindle-netcode", &["rekindle-schema"]),
    ("rekindle-store", &["rekindle-schema"]),
    ("rekindle-cluster", &["rekindle-schema", "rekindle-store"]),
    ("rekindle-actors", &["rekindle-schema", "rekindle-sim", "rekindle-store"]),
    ("rekindle-gateway", &["rekindle-schema", "rekindle-netcode"]),
    ("rekindle-client", &["rekindle-schema", "rekindle-netcode", "rekindle-sim"]),
    ("rekindle-loadtest", &["rekindle-schema", "rekindle-client", "rekindle-netcode"]),
    ("rekindle-arena", &["rekindle-sim"]),
    ("rekindle-testservers", &[]),
];

/// Outside crates that a layer must never see, and why.
const FORBIDDEN: &[(&str, &[&str], &str)] = &[
    ("rekindle-schema", &["tokio", "ractor", "quinn", "rusqlite"], "bytes have no runtime and no driver"),
    ("rekindle-sim", &["tokio", "rand", "getrandom", "ractor", "quinn"], "the simulation has no clock, no threads, no OS randomness"),
    ("rekindle-netcode", &["tokio", "quinn", "rand", "getrandom"], "netcode is sans-IO: time and bytes are arguments"),
    ("rekindle-cluster", &["rusqlite", "quinn"], "ownership speaks to ports, never to a backend"),
    ("rekindle-actors", &["rusqlite", "quinn"], "actors speak to ports, never to a backend or a socket"),
];

/// What no product may carry, and what is not part of it.
const FOR_TESTS: &[&str] = &["rekindle-testkit", "rekindle-testservers"];
const MAY_TEST: &[&str] = &["rekindle-testkit", "xtask"];

/// Words that must not stand in the simulation's sources: each would let something else than the inputs decide.
const FORBIDDEN_IN_SIM: &[&str] = &["Instant::now", "SystemTime", "HashMap", "HashSet", "thread_rng", "std::thread"];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
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
    let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo metadata printed something else than JSON")?;
    let mut problems = imports(&metadata);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    scan(&root.join("crates/sim/src"), &mut problems)?;
    for game in std::fs::read_dir(root.join("games")).context("cannot list games")? {
        scan(&game?.path().join("src"), &mut problems)?;
    }
    if !problems.is_empty() {
        bail!("layer rules broken:\n  {}", problems.join("\n  "));
    }
    println!("layers: {} crates keep to their layers", metadata.packages.len());
    Ok(())
}

fn imports(metadata: &Metadata) -> Vec<String> {
    let members: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
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
                problems.push(format!("{} imports {name}; it may import {allowed:?}", package.name));
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
    }
    problems
}

fn scan(folder: &Path, problems: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            scan(&path, problems)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
            for (number, line) in text.lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                for word in FORBIDDEN_IN_SIM.iter().filter(|word| code.contains(**word)) {
                    problems.push(format!("{}:{}: `{word}` in the simulation", path.display(), number + 1));
                }
            }
        }
    }
    Ok(())
}
