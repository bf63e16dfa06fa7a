//! Rule `drivers`: who uses a port of the store builds no database driver, and the edge none either.
//! Cargo is asked for everything that their normal dependencies reach.

use anyhow::Result;

use super::Finding;
use super::release::normal_dependencies;
use super::tree::Tree;

/// Packages that must not reach a driver, with their manifests.
const PACKAGES: [(&str, &str); 9] = [
    ("rekindle-actors", "actors/Cargo.toml"),
    ("rekindle-client", "crates/client/Cargo.toml"),
    ("rekindle-cluster", "cluster/Cargo.toml"),
    ("rekindle-door", "crates/door/Cargo.toml"),
    ("rekindle-gateway", "crates/gateway/Cargo.toml"),
    ("rekindle-jobs", "crates/jobs/Cargo.toml"),
    ("rekindle-sim", "crates/sim/Cargo.toml"),
    ("rekindle-store", "crates/store/Cargo.toml"),
    ("rekindle-transport", "crates/transport/Cargo.toml"),
];
/// The drivers.
const DRIVERS: [&str; 4] = ["deadpool-postgres", "rusqlite", "scylla", "tokio-postgres"];

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (package, manifest) in PACKAGES.iter().filter(|(_, manifest)| tree.find(manifest).is_some())
    {
        findings.extend(drivers(package, manifest, &normal_dependencies(package)?));
    }
    Ok(findings)
}

fn drivers(package: &str, manifest: &str, dependencies: &str) -> Vec<Finding> {
    let names: std::collections::BTreeSet<&str> =
        dependencies.lines().filter_map(|line| line.split(' ').next()).collect();
    let reached = DRIVERS.iter().filter(|driver| names.contains(*driver));
    reached
        .map(|driver| Finding::new(manifest, 0, format!("{package} reaches the driver {driver}")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_found_however_deep_it_is() {
        let tree =
            "rekindle-actors v0.1.0 (/x)|\nrekindle-store v0.1.0 (/x)|\nrusqlite v0.42.0|a\n";
        let found = drivers("rekindle-actors", "actors/Cargo.toml", tree);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].problem, "rekindle-actors reaches the driver rusqlite");
    }
}
