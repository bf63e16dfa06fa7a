//! Standing still at a cut, between two owners.

use rekindle_schema::peer::Cut;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::actor::{MatchState, Mode};

impl MatchState {
    /// Stops behind the next tick, so that it stands still for the hand-over alone and not for what
    /// was left of a period besides. A match whose next tick may not come soon stops at once. What
    /// waits for a later tick keeps waiting.
    pub(super) fn on_hand_off(&mut self, reply: oneshot::Sender<Result<Cut, String>>) {
        if let Some(why) = self.cannot_move() {
            let _ = reply.send(Err(why.to_owned()));
            return;
        }
        self.leaving = Some(reply);
        if !matches!(self.mode, Mode::Running) || self.stalled() {
            self.leave();
        }
    }

    /// Stops behind the last executed tick, if somebody asked for it. Whether it stopped.
    pub(super) fn leave(&mut self) -> bool {
        let Some(reply) = self.leaving.take() else { return false };
        if let Some(why) = self.cannot_move() {
            let _ = reply.send(Err(why.to_owned()));
            return false;
        }
        let cut = Cut {
            epoch: self.cell.epoch,
            tick: self.core.tick(),
            seq: self.cell.books.cut(),
            hash: self.core.sim().state_hash(),
        };
        self.set_mode(Mode::Moving { cut, reply: Some(reply) });
        self.tell_cut_if_durable();
        true
    }

    /// Why the match cannot be handed over now, in words.
    fn cannot_move(&self) -> Option<&'static str> {
        match self.mode {
            Mode::Running | Mode::Waiting { .. } => None,
            Mode::Poisoned { .. } => Some("it is being repaired"),
            Mode::Moving { .. } => Some("it is being handed over already"),
            Mode::Ending { .. } => Some("it is over"),
            Mode::Stopped => Some("it has stopped"),
        }
    }

    /// Says where the match stands, if it was stopped and all of it is durable and published.
    ///
    /// # Panics
    ///
    /// If the ledger contradicts the cut: a tick was made or shown behind it.
    pub(super) fn tell_cut_if_durable(&mut self) {
        let standing = self.cell.books.standing();
        let Mode::Moving { cut, reply } = &mut self.mode else { return };
        assert_eq!(standing.executed, cut.tick, "a tick was made behind the cut");
        // What is durable is published when the journal's word arrives here.
        if standing.durable.seq < cut.seq || !self.pending.is_empty() {
            return;
        }
        let Some(reply) = reply.take() else { return };
        assert!(standing.published <= cut.tick, "a tick was shown behind the cut");
        let _ = reply.send(Ok(*cut));
    }

    /// It goes on here: at once, for it is late.
    pub(super) fn on_keep(&mut self) {
        self.leaving = None;
        if matches!(self.mode, Mode::Moving { .. }) {
            self.set_mode(Mode::Running);
            self.wake_at(Instant::now());
        }
    }
}
