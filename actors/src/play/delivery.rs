//! Delivery of effects: at least once, after their tick is durable, until the sink has
//! acknowledged.
//!
//! One delivery at a time per match, in the order of ids. An acknowledged effect is fed into the
//! match's next step, which journals that it is done; until then a recovery delivers it again, and
//! the sink knows its id.

use std::sync::Arc;
use std::time::Duration;

use rekindle_schema::record::Effect;
use rekindle_store::StoreError;
use tokio::time::sleep;

use crate::play::cell::MatchCell;
use crate::services::Services;

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

impl Services {
    /// These effects of `cell` are durable and open.
    pub(crate) fn deliver(self: &Arc<Self>, cell: &Arc<MatchCell>, effects: Vec<Effect>) {
        if cell.effects.add(effects) {
            self.spawn(run(Arc::clone(self), Arc::clone(cell)));
        }
    }
}

async fn run(host: Arc<Services>, cell: Arc<MatchCell>) {
    while let Some(effect) = cell.effects.next() {
        let id = effect.id;
        if deliver(&host, &cell, effect).await.is_err() {
            return cell.effects.give_up();
        }
        cell.doors.lock().ingress.effect_done(id);
        cell.effects.delivered(id);
        host.effect_delivered.notify_waiters();
    }
}

/// Repeats until the sink has it. Fails only if this node may not speak for the match any more.
async fn deliver(host: &Services, cell: &MatchCell, effect: Effect) -> Result<(), StoreError> {
    let mut pause = FIRST_RETRY;
    loop {
        if host.journal.is_halted() {
            return Err(StoreError::Fenced(host.incarnation));
        }
        match host.store.effects.deliver(cell.match_id, effect.clone()).await {
            Ok(new) => {
                host.meters.effects.increment(u64::from(new));
                return Ok(());
            }
            Err(error @ StoreError::Fenced(_)) => return Err(error),
            Err(error) => {
                let (tick, ordinal) = (effect.id.tick, effect.id.ordinal);
                tracing::warn!(
                    code = "RK-HOST-032", match_id = %cell.match_id, %tick, ordinal, %error,
                    "effect will be delivered again"
                );
                sleep(pause).await;
                pause = (pause * 2).min(LAST_RETRY);
            }
        }
    }
}
