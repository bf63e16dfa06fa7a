//! Asks the node where matches are, and its directory what became of those that are not here.
//!
//! Called by [`crate::connection`] for each hello and by [`crate::room`] for a match whose frames
//! broke off. Bounds how many clients may have the directory asked, and for how long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_door::{Location, MatchFinder, Refusal, Wanted};
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{Epoch, MatchId, PlayerId};
use tokio::sync::Semaphore;
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

    /// Where the wanted match is. The directory is asked what became of one that is not here (any
    /// more).
    pub(crate) async fn locate(&self, wanted: Wanted<'_>) -> Location {
        let location = self.finder.locate(wanted);
        let (Some(match_id), Location::Refused(Refusal { code: RefuseCode::NoMatch, .. })) =
            (wanted.match_id, &location)
        else {
            return location;
        };
        if let Some(reason) = self.over.lock().get(&match_id).cloned() {
            return Location::Refused(Refusal::new(RefuseCode::Ended, reason));
        }
        let Some(refusal) = self.ask(self.finder.fate(match_id)).await.flatten() else {
            return location;
        };
        if refusal.code == RefuseCode::Ended {
            let mut over = self.over.lock();
            if over.len() >= MAX_OVER {
                over.pop_first();
            }
            over.insert(match_id, refusal.words.clone());
        }
        Location::Refused(refusal)
    }

    /// The match of this node in which `player` has a session.
    pub(crate) fn plays_in(&self, player: PlayerId) -> Option<MatchId> {
        self.finder.plays_in(player)
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
