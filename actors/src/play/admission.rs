//! The doors of a match: who is let in, and who waits to hear that the join is durable.
//!
//! Writers: sessions of the edge (through [`MatchHandle`](crate::MatchHandle)), the match's actor
//! (draws the step, confirms joins), the effects' delivery. All under one short lock.

use std::collections::BTreeMap;

use parking_lot::{Mutex, MutexGuard};
use rekindle_door::{Opened, Refusal};
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{SessionId, Tick};
use rekindle_sim::SessionState;
use tokio::sync::oneshot;

use crate::core::Ingress;

/// Someone waits for a session to be durable.
pub(crate) type OpenReply = oneshot::Sender<Result<Opened, Refusal>>;

/// Admission, and who waits for it.
pub(crate) struct Doors {
    /// What is admitted, and what the next step contains.
    pub(crate) ingress: Ingress,
    /// Who waits for which session to be durable.
    pub(crate) waiters: BTreeMap<SessionId, Vec<OpenReply>>,
    /// Session ids drawn so far under this ownership: the next one is drawn from it.
    pub(crate) drawn_ids: u64,
}

/// The doors behind their lock.
pub(crate) struct Admissions {
    doors: Mutex<Doors>,
}

impl Admissions {
    pub(crate) fn new(ingress: Ingress) -> Self {
        let doors = Doors { ingress, waiters: BTreeMap::new(), drawn_ids: 0 };
        Self { doors: Mutex::new(doors) }
    }

    /// The doors, for a moment.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Doors> {
        self.doors.lock()
    }

    /// Nobody gets in any more; those who wait are told why.
    pub(super) fn close_doors(&self, code: RefuseCode, words: &str) {
        let mut doors = self.doors.lock();
        let refusal = Refusal::new(code, words);
        doors.ingress.close_doors(refusal.clone());
        for reply in std::mem::take(&mut doors.waiters).into_values().flatten() {
            let _ = reply.send(Err(refusal.clone()));
        }
    }

    /// Joins up to `tick` are durable: tells those who wait.
    pub(crate) fn confirm_joins(&self, tick: Tick) {
        let mut doors = self.doors.lock();
        for opened in doors.ingress.durable(tick) {
            for reply in doors.waiters.remove(&opened.session).unwrap_or_default() {
                let _ = reply.send(Ok(opened));
            }
        }
    }

    /// The world was rebuilt: sessions whose join went down with the old one are told to try again.
    pub(crate) fn rebase(&self, tick: Tick, sessions: &[SessionState]) {
        let mut doors = self.doors.lock();
        let Doors { ingress, waiters, .. } = &mut *doors;
        ingress.rebase(tick, sessions);
        let lost: Vec<SessionId> =
            waiters.keys().copied().filter(|session| !ingress.contains(*session)).collect();
        for reply in lost.into_iter().filter_map(|session| waiters.remove(&session)).flatten() {
            let words = "the match had to be restarted: try again";
            let _ = reply.send(Err(Refusal::new(RefuseCode::Unavailable, words)));
        }
    }

    /// The join of `session` was left out of its step.
    pub(crate) fn refuse_join(&self, session: SessionId, words: &str) {
        let mut doors = self.doors.lock();
        doors.ingress.forget(session);
        for reply in doors.waiters.remove(&session).unwrap_or_default() {
            let _ = reply.send(Err(Refusal::new(RefuseCode::Unavailable, words)));
        }
    }
}
