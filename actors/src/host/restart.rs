//! Starting a match's actor again after it failed.

use std::sync::Arc;
use std::time::Duration;

use crate::core::MatchCore;
use crate::error::HostError;
use crate::play::actor::{MatchArgs, Start};
use crate::play::cell::MatchCell;
use crate::play::supervision::MatchPhase;
use crate::recovery::Replayed;
use crate::services::Services;

/// Restarts are counted over this long.
const BUDGET_WINDOW: Duration = Duration::from_mins(1);

impl Services {
    /// The actor of `cell` failed: starts another from what it had executed, within the restart
    /// budget.
    pub(crate) fn restart(self: &Arc<Self>, cell: Arc<MatchCell>, error: String) {
        let host = Arc::clone(self);
        cell.supervision.take_actor();
        if cell.supervision.fail_moving() {
            // Another node may own it by now: whoever moves it says what becomes of it.
            cell.subscribers.close();
            tracing::error!(
                code = "RK-HOST-053", match_id = %cell.match_id, error,
                "match actor failed while the match was handed over"
            );
            return;
        }
        cell.set_phase(MatchPhase::Repairing);
        // Frames that were waiting in the actor are gone: whoever listens must begin anew.
        cell.subscribers.close();
        let recent = cell.supervision.count_restart(BUDGET_WINDOW);
        if recent > self.config.restarts as usize {
            let report = format!(
                "its actor failed {recent} times within {} seconds, last: {error}",
                BUDGET_WINDOW.as_secs()
            );
            self.park(&cell, report);
            return;
        }
        self.meters.restarts.increment(1);
        self.spawn(async move {
            let report = match host.rebuild(&cell).await {
                Ok(replayed) => match host.rerun(&cell, replayed).await {
                    Ok(()) => return,
                    Err(error) => error.to_string(),
                },
                Err(report) => report,
            };
            host.park(
                &cell,
                format!("its actor failed ({error}) and could not be started again: {report}"),
            );
        });
    }

    async fn rerun(
        self: &Arc<Self>,
        cell: &Arc<MatchCell>,
        replayed: Replayed,
    ) -> Result<(), HostError> {
        cell.doors.rebase(replayed.tick, &replayed.sim.sessions());
        let start = replayed.ended.map_or(Start::Running, Start::Over);
        let core = MatchCore::new(cell.match_id, cell.epoch, self.config.beat_every, replayed.sim)
            .with_workers(self.config.workers.clone());
        let open = core.sim().open_effects();
        let (host, slowdown) = (Arc::clone(self), replayed.slowdown);
        self.spawn_match(MatchArgs { host, cell: Arc::clone(cell), core, start, slowdown }).await?;
        if !open.is_empty() {
            self.deliver(cell, open);
        }
        Ok(())
    }
}
