//! Rule `release`: nothing that can sabotage a store or that only tests need is compiled into the
//! executable. Cargo is asked which packages and features its normal dependencies turn on.

use std::process::Command;

use anyhow::{Context, Result, bail};

use super::Finding;
use super::tree::root;

/// Packages that are for tests only.
const PACKAGES: [&str; 4] = [
    "rekindle-allocations",
    "rekindle-testkit",
    "rekindle-testservers",
    "rekindle-store-conformance",
];
/// Features that make a crate do wrong on purpose, or that only tests turn on.
const FEATURES: [&str; 4] = ["mutants", "conformance", "faults", "test-support"];
/// What is shipped: the node, the load test, and the example of a studio's own executable.
const SHIPPED: [&str; 3] = ["rekindle-server", "rekindle-loadtest", "rekindle-duel"];

pub(super) fn check() -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for package in SHIPPED {
        findings.extend(look_through(package, &normal_dependencies(package)?));
    }
    Ok(findings)
}

/// What is compiled into `package`, a line each: `name vVERSION (path)|feature,feature`.
pub(super) fn normal_dependencies(package: &str) -> Result<String> {
    let output = Command::new("cargo")
        .args(["tree", "--locked", "--package", package])
        .args(["--edges", "normal", "--prefix", "none", "--format", "{p}|{f}"])
        .current_dir(root())
        .output()
        .context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo tree failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reads lines such as `rekindle-store v0.1.0 (/path)|default,local`.
fn look_through(shipped: &str, tree: &str) -> Vec<Finding> {
    let mut problems = std::collections::BTreeSet::new();
    for line in tree.lines() {
        let (package, features) = line.split_once('|').unwrap_or((line, ""));
        let name = package.split(' ').next().unwrap_or_default();
        if PACKAGES.contains(&name) {
            problems.insert(format!("{shipped} carries {name}, which is for tests only"));
        }
        // Features of other people's crates may have these names and mean something else.
        for feature in features.split(',').filter(|feature| FEATURES.contains(feature)) {
            if name.starts_with("rekindle") {
                problems.insert(format!("{shipped} is built with the feature {name}/{feature}"));
            }
        }
    }
    problems.into_iter().map(|problem| Finding::new("Cargo.toml", 0, problem)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_and_features_for_tests_are_found() {
        let tree = "rekindle v0.1.0 (/x)|default\nrekindle-store-cql v0.1.0 (/x)|default,mutants\n\
                    rekindle-testkit v0.1.0 (/x)|\nother v1.0.0|mutants (*)\n";
        let problems: Vec<_> =
            look_through("rekindle", tree).into_iter().map(|finding| finding.problem).collect();
        assert_eq!(
            problems,
            [
                "rekindle carries rekindle-testkit, which is for tests only",
                "rekindle is built with the feature rekindle-store-cql/mutants",
            ]
        );
    }
}
