//! Why matches do not run here: one table for all who ask, which are `match ls`, `match show`, the
//! detail of `/readyz`, the metrics and the words for clients. The caretaker fills it
//! ([`super::recover`]) with what it sees in the directory and with what comes of its claims.

use std::collections::{BTreeMap, BTreeSet};

use metrics::gauge;
use parking_lot::Mutex;
use rekindle_schema::condition::Condition;
use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_schema::{Incarnation, MatchId};

/// Why a match waits or is parked, in one word: the values of the label `reason` of the metric.
pub const REASONS: [&str; 6] =
    ["unknown_game", "other_build", "config", "checkpoint", "replay", "parked"];

/// What keeps a match from running here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Its owner is gone, and it is about to be recovered.
    Recovering,
    /// This build cannot run it, another one may: one of [`REASONS`], and the words.
    Waits(&'static str, String),
    /// An operator decides: the report.
    Parked(String),
}

impl Standing {
    /// As it is listed.
    pub fn condition(&self) -> Condition {
        match self {
            Self::Recovering => Condition::Recovering,
            Self::Waits(..) => Condition::Waits,
            Self::Parked(_) => Condition::Parked,
        }
    }

    /// The label of the metric.
    pub fn label(&self) -> Option<&'static str> {
        match self {
            Self::Recovering => None,
            Self::Waits(reason, _) => Some(reason),
            Self::Parked(_) => Some("parked"),
        }
    }

    /// In words, for operators.
    pub fn words(&self) -> String {
        match self {
            Self::Recovering => {
                "the node that ran it is gone; it is about to be recovered".to_owned()
            }
            Self::Waits(_, words) | Self::Parked(words) => words.clone(),
        }
    }
}

/// Matches that do not run here although their home is here or they are this node's, each with its
/// row as last seen.
#[derive(Default)]
pub struct Standings(Mutex<Table>);

#[derive(Default)]
struct Table {
    matches: BTreeMap<MatchId, (MatchLease, Standing)>,
    /// Nodes that look dead to this one.
    dead: BTreeSet<Incarnation>,
}

impl Standings {
    /// What the directory says, as just read: `standing` tells for a row what keeps it from running
    /// here, if anything does.
    pub fn scan(
        &self,
        rows: &[MatchLease],
        dead: &BTreeSet<Incarnation>,
        standing: impl Fn(&MatchLease) -> Option<Standing>,
    ) {
        let mut table = self.0.lock();
        table.dead.clone_from(dead);
        table.matches = rows
            .iter()
            .filter_map(|row| Some((row.match_id, (row.clone(), standing(row)?))))
            .collect();
        table.publish();
    }

    /// What has come of one match: `None` if it runs.
    pub fn set(&self, match_id: MatchId, row: Option<&MatchLease>, standing: Option<Standing>) {
        let mut table = self.0.lock();
        match (standing, row) {
            (None, _) => drop(table.matches.remove(&match_id)),
            (Some(standing), Some(row)) => {
                drop(table.matches.insert(match_id, (row.clone(), standing)))
            }
            (Some(standing), None) => {
                if let Some((row, known)) = table.matches.get_mut(&match_id) {
                    if let Standing::Parked(report) = &standing {
                        row.state = MatchState::Parked { report: report.clone() };
                    }
                    *known = standing;
                }
            }
        }
        table.publish();
    }

    /// What keeps a match from running here.
    pub fn of(&self, match_id: MatchId) -> Option<Standing> {
        self.0.lock().matches.get(&match_id).map(|(_, standing)| standing.clone())
    }

    /// All of them, ascending by match.
    pub fn all(&self) -> Vec<(MatchLease, Standing)> {
        self.0.lock().matches.values().cloned().collect()
    }

    /// Whether a node looks dead to this one.
    pub fn is_dead(&self, node: Incarnation) -> bool {
        self.0.lock().dead.contains(&node)
    }
}

impl Table {
    fn publish(&self) {
        for reason in REASONS {
            let count = self
                .matches
                .values()
                .filter(|(_, standing)| standing.label() == Some(reason))
                .count();
            gauge!("rekindle_matches_not_running", "reason" => reason).set(count as f64);
        }
    }
}
