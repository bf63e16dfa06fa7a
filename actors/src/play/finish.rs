//! The end of a match: what it promised is delivered, its last checkpoint kept, its row closed.
//!
//! Called by the match's actor when the last tick is durable.

use std::sync::Arc;
use std::time::Duration;

use rekindle_schema::lease::MatchState;
use tokio::time::sleep;

use super::cell::MatchCell;
use crate::checkpoint::ticket::Taken;
use crate::checkpoint::writer;
use crate::services::Services;

/// Pause before the last checkpoint of an ended match is written again.
const LAST_CHECKPOINT_RETRY: Duration = Duration::from_secs(1);

impl Services {
    /// A match has ended and its last tick is durable: delivers what it promised, keeps its last
    /// checkpoint, closes its row, lets it go.
    pub(crate) fn finish_match(
        self: &Arc<Self>,
        cell: Arc<MatchCell>,
        taken: Taken,
        reason: String,
    ) {
        let host = Arc::clone(self);
        self.spawn(async move {
            loop {
                let delivered = host.effect_delivered.notified();
                if cell.effects.is_empty() {
                    break;
                }
                delivered.await;
            }
            let last = taken.seq;
            while let Err(error) = writer::store(&host, &cell, taken.clone()).await {
                tracing::error!(
                    code = "RK-HOST-036", match_id = %cell.match_id, %error,
                    "the last checkpoint is not stored yet"
                );
                if host.journal.is_halted() {
                    return;
                }
                sleep(LAST_CHECKPOINT_RETRY).await;
            }
            match host.set_row(cell.match_id, MatchState::Ended { reason: reason.clone() }).await {
                Ok(ours) => {
                    tracing::info!(
                        code = "RK-HOST-016", match_id = %cell.match_id, tick = %cell.tick(),
                        reason,
                        "match ended"
                    );
                    if ours
                        && let Err(error) = host.store.checkpoints.trim(cell.match_id, last).await
                    {
                        tracing::warn!(
                            code = "RK-HOST-030", match_id = %cell.match_id, %error,
                            "old checkpoints of an ended match are still there"
                        );
                    }
                    host.remove(cell.match_id);
                }
                Err(error) => {
                    tracing::error!(
                        code = "RK-HOST-037", match_id = %cell.match_id, %error,
                        "the row of an ended match still says that it runs"
                    );
                }
            }
        });
    }
}
