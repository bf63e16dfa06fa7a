//! `cargo xtask tidy`: the rules that a tool keeps. `.ci/run` calls it first, because it is quick.
//!
//! Each rule is one file in `tidy/`: a function from the tree of files to a list of [`Finding`]s.
//! [`ratchet`] compares the findings with what `xtask/tidy-ratchet.toml` still allows. The rules
//! are explained to people in `docs/CONTRIBUTING.md`.

mod book;
mod codes;
mod drivers;
mod functions;
mod lints;
mod modules;
mod node;
mod paths;
mod ratchet;
mod release;
mod rust;
mod tree;
mod width;

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use clap::Args;

use self::ratchet::Ratchet;
use self::tree::Tree;

/// `cargo xtask tidy`.
#[derive(Args)]
pub(crate) struct Tidy {
    /// Write the counts of today into `xtask/tidy-ratchet.toml`. Refused for a rule whose total
    /// would grow
    #[arg(long)]
    ratchet: bool,
}

/// One place that breaks a rule.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    /// The file, relative to the root of the workspace.
    file: String,
    /// The line, counted from 1; 0 if it is about the file as a whole.
    line: usize,
    /// What is wrong and what to do, for the person who reads the report.
    problem: String,
}

impl Finding {
    fn new(file: &str, line: usize, problem: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, problem: problem.into() }
    }
}

/// All findings, by the name of the rule.
type Findings = BTreeMap<&'static str, Vec<Finding>>;

/// Runs every rule and compares with the ratchet; then runs the layer rules.
pub(crate) fn tidy(wanted: &Tidy) -> Result<()> {
    let tree = Tree::of_workspace()?;
    let findings = all(&tree)?;
    let allowed = Ratchet::load()?;
    let today = Ratchet::of(&findings);
    if wanted.ratchet {
        today.save_over(&allowed)?;
        println!("tidy: xtask/tidy-ratchet.toml is written");
        return Ok(());
    }
    let problems = allowed.compare(&findings);
    if !problems.is_empty() {
        bail!("tidy:\n  {}", problems.join("\n  "));
    }
    crate::layers::check()?;
    println!("tidy: {} files, {} places still to mend", tree.files().len(), today.total());
    Ok(())
}

fn all(tree: &Tree) -> Result<Findings> {
    Ok(BTreeMap::from([
        ("book", book::check(tree)),
        ("codes", codes::check(tree)),
        ("drivers", drivers::check(tree)?),
        ("functions", functions::check(tree)),
        ("lints", lints::check(tree)),
        ("modules", modules::check(tree)),
        ("node", node::check(tree)),
        ("paths", paths::check(tree)),
        ("release", release::check()?),
        ("width", width::check(tree)),
    ]))
}
