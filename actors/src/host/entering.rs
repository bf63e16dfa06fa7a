//! One at a time begins to run a match whose row names this node.
//!
//! Several find such rows: the target of a migration, the caretaker that looks for matches that
//! should run here and do not, a source that keeps its match in a later epoch. Each reads or
//! changes the row, and then runs the match under it. Two at once could run it in the epoch that
//! one of them has read while the other has raised it: whatever is acknowledged from then on would
//! be in nobody's history. So each enters first ([`Host::enter`]), reads the row or writes it by
//! compare-and-set after that, and leaves when the match runs.

use std::sync::Arc;

use rekindle_schema::MatchId;

use super::Host;
use crate::services::Services;

/// Nobody else on this node begins to run the match until this is dropped.
#[must_use = "dropping it lets others begin"]
pub struct Entering {
    services: Arc<Services>,
    match_id: MatchId,
}

impl Drop for Entering {
    fn drop(&mut self) {
        self.services.entering.lock().remove(&self.match_id);
    }
}

impl Host {
    /// To be called before the row is read or changed under which a match of this node is to run.
    /// `None`: it runs here already, or somebody else is about to run it.
    pub fn enter(&self, match_id: MatchId) -> Option<Entering> {
        let services = self.services();
        let mut entering = services.entering.lock();
        let runs = services.matches.lock().contains_key(&match_id);
        let free = !runs && entering.insert(match_id);
        drop(entering);
        free.then(|| Entering { services: Arc::clone(services), match_id })
    }
}
