//! The lives of matches and their sessions as tables ([`Life`]). A panic about a way that is not in
//! a table rebuilds or parks the match, as with the [`Ledger`](super::Ledger).

use rekindle_door::life::{Life, way};

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
    use std::fmt::Debug;

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
