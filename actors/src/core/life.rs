//! Lives as declared machines: the states of something that the node keeps, and every way from one
//! to another, in one table.
//!
//! Whoever changes such a state goes through its [`Life`], which does not let pass what is not in
//! the table: a panic, as with the [`Ledger`](super::Ledger), so that the match is rebuilt or
//! parked instead of going on in a state that nobody meant.
//!
//! The same table is drawn in `docs/ARCHITECTURE.md`, and a test holds the drawing to it. What
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

/// What the actor of a match does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchStage {
    /// It waits for its sessions.
    Waiting,
    /// It ticks, or pauses until the store has caught up.
    Running,
    /// A tick panicked: what made it panic is looked for.
    Poisoned,
    /// It stands still, and goes on at another node or here.
    Moving,
    /// Its last tick is made, and what it promised is delivered.
    Ending,
    /// It makes no more ticks.
    Stopped,
}

/// Where a session of a match stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionStage {
    /// Enters with the next step.
    Joining,
    /// Entered; that is not durable yet.
    In,
    /// Entered for good.
    Durable,
    /// Ends with the next step.
    Leaving,
}

const fn way<S>(from: S, to: S, when: &'static str) -> Edge<S> {
    Edge { from, to, when }
}

/// The life of a match's actor. One that fails is followed by another, which begins anew; what
/// becomes of the match in the end stands in its row.
pub const MATCH: Life<MatchStage> = {
    use MatchStage::{Ending, Moving, Poisoned, Running, Stopped, Waiting};
    Life {
        name: "a match",
        begins: &[Running, Waiting, Ending],
        edges: &[
            way(Waiting, Running, "its players are back, or the grace is over"),
            way(Waiting, Moving, "handed over"),
            way(Waiting, Stopped, "drained or parked"),
            way(Running, Poisoned, "a tick panicked"),
            way(Running, Moving, "handed over"),
            way(Running, Ending, "the game or an operator ends it"),
            way(Running, Stopped, "drained or parked"),
            way(Poisoned, Running, "made again without the culprit"),
            way(Poisoned, Stopped, "drained or parked"),
            way(Moving, Running, "it stays"),
            way(Moving, Stopped, "parked"),
            way(Ending, Stopped, "parked"),
        ],
    }
};

/// The life of a session in a match. What ends a session takes it out of the match.
pub const SESSION: Life<SessionStage> = {
    use SessionStage::{Durable, In, Joining, Leaving};
    Life {
        name: "a session",
        begins: &[Joining, Durable],
        edges: &[
            way(Joining, In, "a step lets it in"),
            way(In, Durable, "that step is durable"),
            way(In, Leaving, "it ends"),
            way(Durable, Leaving, "it ends, or was away for too long"),
        ],
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/ARCHITECTURE.md");

    fn is_drawn<S: Copy + PartialEq + Debug>(life: &Life<S>) {
        let chart = format!("```mermaid\n{}```\n", life.chart());
        assert!(PAGE.contains(&chart), "docs/ARCHITECTURE.md has another drawing than:\n{chart}");
    }

    #[test]
    fn the_page_draws_what_the_tables_say() {
        is_drawn(&MATCH);
        is_drawn(&SESSION);
    }

    #[test]
    fn what_is_not_in_the_table_is_an_error_that_names_both_states() {
        let error = SESSION.check(SessionStage::Leaving, SessionStage::Durable).unwrap_err();
        let words = error.to_string();
        assert!(words.contains("a session cannot go from `Leaving` to `Durable`"), "{words}");
        assert!(words.ends_with("it goes nowhere"), "{words}");
        assert!(SESSION.check(SessionStage::In, SessionStage::In).is_ok(), "it stays");
        let error = MATCH.check(MatchStage::Poisoned, MatchStage::Moving).unwrap_err();
        assert_eq!(error.ways, "to `Running` or to `Stopped`");
    }
}
