//! The checkpoint actor: keeps the cost of recovering the whole node within its budget.
//!
//! Ten times a second, and whenever a checkpoint has been written, it estimates what replaying each
//! match would cost (its measured seconds per tick times the ticks since its checkpoint) and asks
//! the costliest for a checkpoint while the sum is over half the budget. Matches without a
//! checkpoint under their present owner come first, those whose checkpoint is old come when nothing
//! else is due. The match hands over a copy of its bytes, or what changed since the last
//! checkpoint, between two ticks; hashes, checksums, the wait for durability and the writing happen
//! elsewhere.
//!
//! Whether a checkpoint is full or a delta is decided by [`Chain`](super::chain::Chain). Kept are
//! the newest chain and the one before it, whole: they share no byte, so no damage to one keeps the
//! match from being restored from the other (`rekindle_store::chains`).

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::time::Instant;

use super::ticket::{CheckpointMsg, Due};
use crate::messages::MatchMsg;
use crate::play::cell::MatchCell;
use crate::play::supervision::MatchPhase;
use crate::services::Services;

/// How often the scheduler asks by itself whether a checkpoint is due.
const ASK_EVERY: Duration = Duration::from_millis(100);
/// Checkpoints are taken from this share of the budget on.
const START_AT: f64 = 0.5;
/// The checkpoint actor.
pub(crate) struct Checkpointer {
    pub(crate) host: Arc<Services>,
}

impl Actor for Checkpointer {
    type Msg = CheckpointMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        me: ActorRef<CheckpointMsg>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        me.send_after(ASK_EVERY, || CheckpointMsg::Timer);
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<CheckpointMsg>,
        message: CheckpointMsg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            CheckpointMsg::Timer => {
                me.send_after(ASK_EVERY, || CheckpointMsg::Timer);
                self.survey();
            }
            CheckpointMsg::Ask => self.host.checkpoints.heard(),
        }
        self.request();
        Ok(())
    }
}

impl Checkpointer {
    /// Asks matches for checkpoints while there is room and need.
    fn request(&self) {
        while !self.host.journal.is_halted() {
            let Some(permit) = self.host.checkpoints.place() else { return };
            let Some(cell) = self.next(Instant::now()) else { return };
            let ticket = self.host.checkpoints.issue(permit, &cell.checkpoints);
            if !cell.cast(MatchMsg::Checkpoint(ticket)) {
                // It is just starting or stopping: the timer asks again.
                return;
            }
        }
    }

    /// The match whose checkpoint is due, if one is.
    fn next(&self, now: Instant) -> Option<Arc<MatchCell>> {
        let config = &self.host.config;
        let mut total = 0.0;
        let mut costliest: Option<(f64, Arc<MatchCell>)> = None;
        let mut oldest: Option<(Duration, Arc<MatchCell>)> = None;
        for cell in self.host.matches.lock().values() {
            if !matches!(
                cell.phase(),
                MatchPhase::Running | MatchPhase::Waiting | MatchPhase::Stalled
            ) {
                continue;
            }
            let executed = cell.tick();
            let (seconds, due) = cell
                .checkpoints
                .with_cost(|cost| (cost.seconds(executed), cost.due(executed, now)));
            total += seconds;
            match due {
                Due::Now => return Some(Arc::clone(cell)),
                Due::No => {}
                Due::ByCostOrAge(age) => {
                    if costliest.as_ref().is_none_or(|(most, _)| seconds > *most) {
                        costliest = Some((seconds, Arc::clone(cell)));
                    }
                    if age >= config.checkpoint_every
                        && oldest.as_ref().is_none_or(|(most, _)| age > *most)
                    {
                        oldest = Some((age, Arc::clone(cell)));
                    }
                }
            }
        }
        let over = total > START_AT * config.recovery_budget * config.cores as f64;
        if over { costliest.map(|(_, cell)| cell) } else { oldest.map(|(_, cell)| cell) }
    }

    /// Keeps the gauges that nobody else keeps.
    fn survey(&self) {
        let now = Instant::now();
        let (mut sessions, mut age, mut estimate) = (0, 0.0f64, 0.0);
        let matches = self.host.matches.lock();
        for cell in matches.values() {
            sessions += cell.doors.lock().ingress.len();
            estimate += cell.checkpoints.with_cost(|cost| cost.seconds(cell.tick()));
            if let Some(stored) = cell.checkpoints.newest() {
                age = age.max(now.saturating_duration_since(stored.at).as_secs_f64());
            }
        }
        self.host.meters.matches.set(matches.len() as f64);
        self.host.meters.sessions.set(sessions as f64);
        self.host.meters.backlog.set(self.host.journal.backlog() as f64);
        self.host.meters.checkpoint_age.set(age);
        self.host.meters.replay_estimate.set(estimate);
    }
}
