//! Lives as declared machines: the states of something that a node keeps, and every way from one
//! to another, in one table.
//!
//! Whoever changes such a state goes through its [`Life`], which does not let pass what is not in
//! the table: a panic ends the actor or the task that would go on in a state that nobody meant.
//! Matches and sessions are in `rekindle_actors::core::life`, connections in `rekindle-gateway`.
//!
//! The same tables are drawn in `docs/ARCHITECTURE.md`, and tests hold the drawings to them. What
//! games declare (`rekindle_sim::States`) has guards and hooks that are given a world; these lives
//! have none, and their guards are the code that asks for a transition, so a table is all it takes.

use std::fmt::{Debug, Write as _};

/// One way from a state to another.
#[derive(Debug, Clone, Copy)]
pub struct Edge<S> {
    /// The state before.
    pub from: S,
    /// The state behind it.
    pub to: S,
    /// When it goes this way, for people.
    pub when: &'static str,
}

/// A state was to follow another that it cannot follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("RK-HOST-063: {life} cannot go from `{from}` to `{to}`; from `{from}` it goes {ways}")]
pub struct Undeclared {
    /// Whose life it is.
    pub life: &'static str,
    /// The state that it is in.
    pub from: String,
    /// The state that was asked for.
    pub to: String,
    /// Where it can go instead.
    pub ways: String,
}

/// All states of something, and the ways between them.
#[derive(Debug, Clone, Copy)]
pub struct Life<S: 'static> {
    /// Whose life it is: `a match`.
    pub name: &'static str,
    /// The states in which it begins.
    pub begins: &'static [S],
    /// The ways.
    pub edges: &'static [Edge<S>],
}

impl<S: Copy + PartialEq + Debug> Life<S> {
    /// Asserts that the one state may follow the other.
    ///
    /// # Panics
    /// If it may not, with what [`Life::check`] says.
    pub fn assert(&self, from: S, to: S) {
        if let Err(undeclared) = self.check(from, to) {
            panic!("{undeclared}");
        }
    }

    /// Whether the one state may follow the other. A state follows itself.
    ///
    /// # Errors
    /// If no way leads there; it names both.
    pub fn check(&self, from: S, to: S) -> Result<(), Undeclared> {
        if from == to || self.edges.iter().any(|edge| edge.from == from && edge.to == to) {
            return Ok(());
        }
        let ways = self.edges.iter().filter(|edge| edge.from == from);
        let ways: Vec<String> = ways.map(|edge| format!("to `{:?}`", edge.to)).collect();
        Err(Undeclared {
            life: self.name,
            from: format!("{from:?}"),
            to: format!("{to:?}"),
            ways: if ways.is_empty() { "nowhere".to_owned() } else { ways.join(" or ") },
        })
    }

    /// The table as a Mermaid diagram, for people.
    pub fn chart(&self) -> String {
        let mut chart = "stateDiagram-v2\n".to_owned();
        for state in self.begins {
            let _ = writeln!(chart, "    [*] --> {state:?}");
        }
        for Edge { from, to, when } in self.edges {
            let _ = writeln!(chart, "    {from:?} --> {to:?} : {when}");
        }
        chart
    }
}

/// A way of a table.
pub const fn way<S>(from: S, to: S, when: &'static str) -> Edge<S> {
    Edge { from, to, when }
}
