//! A match changes its node: the source stops it at a cut, the target follows it there and runs it.
//!
//! Called by the migration of the node, which asks the other side and changes the match's row.
//! From [`Host::hand_off`] on the match stands still until the caller says one of [`Host::keep`]
//! (it goes on here, in its epoch) and [`Host::let_go`] (its row names another owner, or a later
//! epoch of this one). The caller must not say `keep` while a change of the row may still be
//! under way.

use std::sync::Arc;

use rekindle_schema::lease::MatchLease;
use rekindle_schema::peer::Cut;
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{BatchNo, Incarnation, MatchId, StateHash, Tick};
use rekindle_store::history::{HistoryError, LogFollower};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Host;
use super::lifecycle::{Origin, RecoveryReport};
use crate::error::{HostError, RecoveryError};
use crate::messages::MatchMsg;
use crate::play::cell::MatchCell;
use crate::play::supervision::Kept;
use crate::recovery::diverge::Divergence;
use crate::recovery::follow::{CaughtUp, FollowError, Following};
use crate::services::Services;

impl Host {
    /// Begins to follow a match that another node runs: `lease` is its row as it was just read.
    /// Resolves when the world stands where the match's history ended; [`Host::catch_up`] goes on.
    pub async fn follow(&self, lease: &MatchLease) -> Result<Following, FollowError> {
        let services = self.services();
        let (history, log) = LogFollower::begin(&services.store, lease).await?;
        services.begin_following(lease.match_id, lease.spec.clone(), history, log).await
    }

    /// Reads what has become durable of a followed match, and makes those ticks. Returns how many
    /// records that were; 0: it is as far as its owner's log is.
    pub async fn catch_up(&self, following: &mut Following) -> Result<usize, FollowError> {
        self.services().catch_up(following).await
    }

    /// Reads one chunk of `log` for all that follow it, no batch behind `until`, and makes the
    /// ticks that are in it: the log is read once for all of them. Call it again until it has read
    /// nothing. What it reports as failed must be dropped; the others go on.
    pub async fn catch_up_together(
        &self,
        log: Incarnation,
        followings: &mut [&mut Following],
        until: Option<BatchNo>,
    ) -> Result<CaughtUp, HistoryError> {
        self.services().catch_up_together(log, followings, until).await
    }

    /// Finds out what a followed world whose hash is not the recorded one differs in: see
    /// [`Divergence`]. `lease` is the row under which it was followed.
    pub async fn diagnose(
        &self,
        lease: &MatchLease,
        following: Following,
        difference: (Tick, StateHash, StateHash),
    ) -> Divergence {
        self.services().diagnose(lease, following, difference).await
    }

    /// Runs a match that was followed up to its last record: its row names this incarnation under a
    /// later epoch, whose first record is the next one. It ticks at once.
    ///
    /// # Errors
    ///
    /// `Lineage` if the row's newest stretch does not begin right behind the followed world. The
    /// match is then recovered from the store as after a death.
    pub async fn run_followed(
        &self,
        lease: &MatchLease,
        following: Following,
    ) -> Result<RecoveryReport, RecoveryError> {
        self.run_world(lease, following, Origin::Moved).await
    }

    /// As [`Host::run_followed`], for a match whose owner has died: it waits for its sessions for
    /// one tick at most.
    pub async fn promote_followed(
        &self,
        lease: &MatchLease,
        following: Following,
    ) -> Result<RecoveryReport, RecoveryError> {
        self.run_world(lease, following, Origin::Promoted).await
    }

    async fn run_world(
        &self,
        lease: &MatchLease,
        following: Following,
        origin: Origin,
    ) -> Result<RecoveryReport, RecoveryError> {
        let services = self.services();
        let started = Instant::now();
        let game = services.admit(lease)?;
        let (match_id, followed) = (lease.match_id, following.epoch());
        assert_eq!(match_id, following.match_id(), "another match was followed");
        assert!(lease.epoch > followed, "match {match_id} goes on in epoch {followed} again");
        let abandoned = || {
            let cause = "its world was given up".to_owned();
            HostError::Spawn { what: "a followed match", cause }
        };
        let world = following.into_world().ok_or_else(abandoned)?;
        let (tick, beats_checked) = (world.tick, world.beats_checked);
        services.launch(lease, game, world, origin).await?;
        tracing::info!(
            code = "RK-HOST-050", %match_id, %tick, epoch = %lease.epoch, "match goes on here"
        );
        Ok(RecoveryReport {
            match_id,
            tick,
            replayed: 0,
            took_ms: started.elapsed().as_millis() as u64,
            hash_ok: true,
            beats_checked,
            build_change: None,
            holds_until: None,
            notes: Vec::new(),
        })
    }

    /// Stops a match behind its last executed tick and resolves when all of it is durable and
    /// published. It stands still from then on: its inputs, commands and joins wait.
    ///
    /// Giving up the future leaves it standing: say [`Host::keep`].
    ///
    /// # Errors
    ///
    /// `NotHere`; `NotMoved` if it cannot be handed over now. It then goes on as if nothing had
    /// been asked (or stands still for another caller, who was first): there is nothing to undo.
    pub async fn hand_off(&self, match_id: MatchId) -> Result<Cut, HostError> {
        let cell = self.services().cell(match_id)?;
        let (reply, answer) = oneshot::channel();
        if !cell.supervision.begin_moving() {
            let why = "it is being handed over already".to_owned();
            return Err(HostError::NotMoved(match_id, why));
        }
        let why = if cell.cast(MatchMsg::HandOff(reply)) {
            match answer.await {
                Ok(Ok(cut)) => return Ok(cut),
                Ok(Err(why)) => why,
                Err(_) => "its actor has stopped".to_owned(),
            }
        } else {
            "it has no actor now".to_owned()
        };
        self.services().keep(&cell);
        Err(HostError::NotMoved(match_id, why))
    }

    /// A match that was handed off goes on here, in its epoch: no tick is skipped. Harmless if it
    /// was not handed off, or is not here.
    pub fn keep(&self, match_id: MatchId) {
        let services = self.services();
        if let Ok(cell) = services.cell(match_id) {
            services.keep(&cell);
        }
    }

    /// A match that was handed off is no longer this node's under the epoch in which it ran here:
    /// its sessions are told to ask where it is. Whether there was one.
    pub fn let_go(&self, match_id: MatchId) -> bool {
        let services = self.services();
        let Ok(cell) = services.cell(match_id) else { return false };
        let words = "RK-HOST-051: the match has moved to another node: connect again";
        cell.close_doors(RefuseCode::Unavailable, words);
        services.remove(match_id);
        services.meters.moved.increment(1);
        true
    }
}

impl Services {
    fn keep(self: &Arc<Self>, cell: &Arc<MatchCell>) {
        match cell.supervision.end_moving() {
            Kept::Untouched => {}
            Kept::GoesOn => {
                cell.cast(MatchMsg::Keep);
            }
            Kept::Failed => {
                self.restart(Arc::clone(cell), "it failed while it was handed over".to_owned());
            }
        }
    }

    /// The cell of a match that is here.
    fn cell(&self, match_id: MatchId) -> Result<Arc<MatchCell>, HostError> {
        self.matches.lock().get(&match_id).cloned().ok_or(HostError::NotHere(match_id))
    }
}
