//! Rebuilding the world of a match of this node from the store, after a tick that panicked or after
//! its actor failed; and parking a match that cannot go on.
//!
//! Called by the match's actor and by the host, which starts the actor again.

use std::sync::Arc;
use std::time::Duration;

use rekindle_schema::lease::MatchState;
use rekindle_schema::record::Step;
use rekindle_schema::wire::RefuseCode;
use rekindle_store::history::{self, HistoryError, LoadOptions};
use tokio::time::sleep;

use crate::messages::MatchMsg;
use crate::play::cell::MatchCell;
use crate::play::supervision::MatchPhase;
use crate::recovery::poison::{self, Outcome};
use crate::recovery::{Replayed, replay};
use crate::services::Services;

impl Services {
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

    /// The game stops a match at its next tick: answers the match with the report once all that it
    /// has made is durable, and so can be published.
    pub(crate) fn stop_behind(self: &Arc<Self>, cell: Arc<MatchCell>, report: String) {
        self.spawn(async move {
            let wanted = cell.tick();
            let mut ledger = cell.books.subscribe();
            // An error means that the journal ends, and the node with it.
            let _ = ledger.wait_for(|ledger| ledger.durable().tick >= wanted).await;
            cell.cast(MatchMsg::Repaired(Box::new(Outcome::Hopeless(report))));
        });
    }

    /// The world of `cell` after its last executed tick, from the store, once that tick is durable.
    pub(crate) async fn rebuild(
        self: &Arc<Self>,
        cell: &Arc<MatchCell>,
    ) -> Result<Replayed, String> {
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
