//! Rebuilding a match of this node in place: after a tick that panicked, or after its actor failed.

use std::sync::Arc;
use std::time::Duration;

use rekindle_schema::lease::MatchState;
use rekindle_schema::record::Step;
use rekindle_schema::wire::RefuseCode;
use rekindle_store::history::{self, HistoryError, LoadOptions};
use tokio::time::sleep;

use crate::core::MatchCore;
use crate::host::Inner;
use crate::messages::MatchMsg;
use crate::play::actor::{MatchArgs, Start};
use crate::play::cell::MatchCell;
use crate::play::supervision::MatchPhase;
use crate::recovery::poison::{self, Outcome};
use crate::recovery::{Replayed, replay};

/// Restarts are counted over this long.
const BUDGET_WINDOW: Duration = Duration::from_mins(1);

impl Inner {
    /// Finds out what makes `step` panic and answers the match with the step made without it.
    pub(crate) fn repair(self: &Arc<Self>, cell: Arc<MatchCell>, step: Step) {
        let host = Arc::clone(self);
        self.spawn(async move {
            let outcome = match host.rebuild(&cell).await {
                Ok(replayed) => {
                    let game = Arc::clone(&cell.game);
                    let work = move || poison::isolate(&*game, &replayed.sim.checkpoint(), &step);
                    host.offload(work).await.unwrap_or_else(Outcome::Hopeless)
                }
                Err(report) => Outcome::Hopeless(report),
            };
            cell.cast(MatchMsg::Repaired(Box::new(outcome)));
        });
    }

    /// The actor of `cell` failed: starts another from what it had executed, within the restart
    /// budget.
    pub(crate) fn restart(self: &Arc<Self>, cell: Arc<MatchCell>, error: String) {
        let host = Arc::clone(self);
        cell.supervision.take_actor();
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
    ) -> Result<(), crate::error::HostError> {
        cell.doors.rebase(replayed.tick, &replayed.sim.sessions());
        let start = replayed.ended.map_or(Start::Running, Start::Over);
        let core = MatchCore::new(cell.match_id, cell.epoch, self.config.beat_every, replayed.sim);
        let open = core.sim().open_effects();
        self.spawn_match(MatchArgs { host: Arc::clone(self), cell: Arc::clone(cell), core, start })
            .await?;
        if !open.is_empty() {
            self.deliver(cell, open);
        }
        Ok(())
    }

    /// The world of `cell` after its last executed tick, from the store, once that tick is durable.
    async fn rebuild(self: &Arc<Self>, cell: &Arc<MatchCell>) -> Result<Replayed, String> {
        let wanted = cell.tick();
        let mut ledger = cell.books.subscribe();
        ledger
            .wait_for(|ledger| ledger.durable().tick >= wanted)
            .await
            .map_err(|error| error.to_string())?;
        let mut pause = Duration::from_millis(20);
        let (lease, history) = loop {
            let attempt = async {
                let lease = self.store.leases.get(cell.match_id).await?;
                let lease = lease.ok_or_else(|| {
                    rekindle_store::StoreError::NotFound(format!("match {}", cell.match_id))
                })?;
                let history = history::load(&self.store, &lease, &LoadOptions::default()).await?;
                Ok::<_, HistoryError>((lease, history))
            };
            match attempt.await {
                Ok(loaded) => break loaded,
                Err(HistoryError::Store(error)) if error.is_transient() => {
                    sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
                Err(error) => return Err(error.to_string()),
            }
        };
        if lease.incarnation != self.incarnation || lease.epoch != cell.epoch {
            return Err(format!("the match now belongs to incarnation {}", lease.incarnation));
        }
        let (game, build, accept) = (Arc::clone(&cell.game), self.build, self.config.other_build);
        let work = move || replay(&*game, &lease.spec, &history, build, accept, &mut |_| {});
        let replayed = self.offload(work).await?.map_err(|error| error.to_string())?;
        if replayed.tick != wanted {
            return Err(format!(
                "the store leads to tick {}, {wanted} was executed",
                replayed.tick
            ));
        }
        Ok(replayed)
    }

    /// The match cannot go on: stops serving it and says so in its row. The actor, if there is one,
    /// has stopped.
    pub(crate) fn park(self: &Arc<Self>, cell: &Arc<MatchCell>, report: String) {
        self.meters.parked.increment(1);
        tracing::error!(code = "RK-HOST-026", match_id = %cell.match_id, report, "match parked");
        cell.set_phase(MatchPhase::Parked(report.clone()));
        cell.subscribers.close();
        cell.supervision.take_actor();
        cell.close_doors(
            RefuseCode::Unavailable,
            "the match is parked after a failure: ask the operator",
        );
        self.changed.notify_waiters();
        let (host, cell) = (Arc::clone(self), Arc::clone(cell));
        self.spawn(async move {
            if let Err(error) = host.set_row(cell.match_id, MatchState::Parked { report }).await {
                tracing::error!(
                    code = "RK-HOST-035", match_id = %cell.match_id, %error,
                    "the lease row does not say that the match is parked"
                );
            }
        });
    }
}
