//! The table of what does not run here and why, shared by all who ask: `match ls`, `match show`,
//! the detail of `/readyz`, the metrics and the words for clients. The recoverer fills it
//! ([`super::recover`]) with what the caretaker sees in the directory and with what comes of its
//! claims.

use std::collections::BTreeSet;

use metrics::gauge;
use parking_lot::Mutex;
use rekindle_cluster::ownership::standing::{self, Standing, StandingTable};
use rekindle_schema::lease::MatchLease;
use rekindle_schema::{Incarnation, MatchId};

/// A [`StandingTable`] that threads share. Each change is published as metrics.
#[derive(Default)]
pub struct Standings(Mutex<StandingTable>);

impl Standings {
    /// Puts what the directory says now in place of what was known.
    pub fn replace(&self, matches: Vec<(MatchLease, Standing)>, dead: &BTreeSet<Incarnation>) {
        let mut table = self.0.lock();
        table.replace(matches, dead);
        publish(&table);
    }

    /// What has come of one match: no `standing` if it runs or is over. Without a `row` the one
    /// that is known stays.
    pub fn set(&self, match_id: MatchId, row: Option<&MatchLease>, standing: Option<Standing>) {
        let mut table = self.0.lock();
        table.set(match_id, row, standing);
        publish(&table);
    }

    /// What keeps a match from running here.
    pub fn of(&self, match_id: MatchId) -> Option<Standing> {
        self.0.lock().of(match_id).cloned()
    }

    /// All of them, ascending by match.
    pub fn all(&self) -> Vec<(MatchLease, Standing)> {
        self.0.lock().all().cloned().collect()
    }

    /// Whether a node looks dead to this one.
    pub fn is_dead(&self, node: Incarnation) -> bool {
        self.0.lock().is_dead(node)
    }
}

fn publish(table: &StandingTable) {
    for reason in standing::labels() {
        gauge!("rekindle_matches_not_running", "reason" => reason).set(table.count(reason) as f64);
    }
}
