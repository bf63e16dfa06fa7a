//! Asks the node where matches are, and its directory what became of those that are not here.
//!
//! Called by [`crate::connection`] for each hello and by [`crate::room`] for a match whose frames
//! broke off. Bounds how many clients may have the directory asked, and for how long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_door::{Location, MatchDoor, MatchFinder, Refusal, Wanted};
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{Epoch, MatchId, PlayerId};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

/// How many clients may have the directory asked at once.
const QUESTIONS_AT_ONCE: usize = 8;
/// How long a client waits for its turn and for the directory's answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);
/// Most matches of which it is remembered that they are over.
const MAX_OVER: usize = 1024;

/// The node's matches, as the edge asks for them.
pub(crate) struct Finding {
    finder: Arc<dyn MatchFinder>,
    /// Turns to ask the directory.
    questions: Semaphore,
    /// Matches that are over, and why: for those that come back too late.
    over: Mutex<BTreeMap<MatchId, String>>,
}

impl Finding {
    pub(crate) fn new(finder: Arc<dyn MatchFinder>) -> Self {
        Self { finder, questions: Semaphore::new(QUESTIONS_AT_ONCE), over: Mutex::default() }
    }

    /// Where the wanted match is. The directory is asked for one that is not here (any more), or
    /// that has no room here. `hops`: how many nodes have sent the client on, if it says so.
    pub(crate) async fn locate(&self, wanted: Wanted<'_>, hops: Option<u8>) -> Location {
        let location = self.finder.locate(wanted);
        let Location::Refused(refusal) = &location else { return location };
        // A node that says "not yet" may not know that another was faster.
        let not_yet = refusal.code == RefuseCode::Unavailable;
        let absent = matches!(refusal.code, RefuseCode::NoMatch | RefuseCode::Full);
        let may_be_elsewhere = absent || not_yet && wanted.match_id.is_some();
        if !may_be_elsewhere {
            return location;
        }
        if let Some(match_id) = wanted.match_id
            && let Some(reason) = self.over.lock().get(&match_id).cloned()
        {
            return Location::Refused(Refusal::new(RefuseCode::Ended, reason));
        }
        let sought = match self.ask(self.finder.seek(wanted, hops)).await.flatten() {
            Some(sought) => sought,
            // Nobody knows now; a moment later somebody may.
            None if refusal.code == RefuseCode::NoMatch && wanted.match_id.is_some()
                || wanted.is_lobby() =>
            {
                return silent();
            }
            None => return location,
        };
        match (&sought, wanted.match_id) {
            (Location::Elsewhere(_) | Location::Here(_), _) => sought,
            (Location::Refused(refusal), Some(match_id)) if refusal.code == RefuseCode::Ended => {
                self.note_over(match_id, &refusal.words);
                sought
            }
            _ if not_yet => location,
            _ => sought,
        }
    }

    /// A match is over, for good.
    fn note_over(&self, match_id: MatchId, why: &str) {
        let mut over = self.over.lock();
        if over.len() >= MAX_OVER {
            over.pop_first();
        }
        over.insert(match_id, why.to_owned());
    }

    /// The match of this node in which `player` has a session.
    pub(crate) fn plays_in(&self, player: PlayerId) -> Option<MatchId> {
        self.finder.plays_in(player)
    }

    /// Where the cluster's nodes are, as clients are told.
    pub(crate) fn nodes(&self) -> watch::Receiver<Vec<String>> {
        self.finder.nodes()
    }

    /// Where the standbys of matches are, as clients are told.
    pub(crate) fn standbys(&self) -> watch::Receiver<Arc<BTreeMap<MatchId, String>>> {
        self.finder.standbys()
    }

    /// Changes whenever a match has begun to run here.
    pub(crate) fn arrivals(&self) -> watch::Receiver<u64> {
        self.finder.arrivals()
    }

    /// The match, if it runs here.
    pub(crate) fn here(&self, match_id: MatchId) -> Option<Arc<dyn MatchDoor>> {
        let wanted = Wanted { match_id: Some(match_id), ..Wanted::default() };
        match self.finder.locate(wanted) {
            Location::Here(door) => Some(door),
            Location::Elsewhere(_) | Location::Refused(_) => None,
        }
    }

    /// Whether the directory confirms that this node owns the match: a client has heard of a later
    /// owner, or of a store that has been put back since.
    pub(crate) async fn owns(&self, match_id: MatchId, epoch: Epoch) -> bool {
        self.ask(self.finder.owns(match_id, epoch)).await.unwrap_or(false)
    }

    /// What the directory answers; `None` if that takes too long.
    async fn ask<T>(&self, answer: impl Future<Output = T>) -> Option<T> {
        let asking = async {
            let _turn = self.questions.acquire().await.ok()?;
            Some(answer.await)
        };
        timeout(ANSWER_PATIENCE, asking).await.ok().flatten()
    }
}

/// The directory does not answer.
fn silent() -> Location {
    let words = "RK-GATE-150: the store does not say where the match is: try again";
    Location::Refused(Refusal::new(RefuseCode::Unavailable, words))
}
