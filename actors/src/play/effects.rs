//! Delivery of effects: at least once, after their tick is durable, until the sink has
//! acknowledged.
//!
//! One delivery at a time per match, in the order of ids. An acknowledged effect is fed into the
//! match's next step, which journals that it is done; until then a recovery delivers it again, and
//! the sink knows its id.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rekindle_schema::record::Effect;
use rekindle_store::StoreError;
use tokio::time::sleep;

use crate::host::Inner;
use crate::play::cell::MatchCell;

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

impl Inner {
    /// These effects of `cell` are durable and open.
    pub(crate) fn deliver(self: &Arc<Self>, cell: &Arc<MatchCell>, effects: Vec<Effect>) {
        cell.effects.lock().extend(effects.into_iter().map(|effect| (effect.id, effect)));
        if !cell.delivering.swap(true, Ordering::AcqRel) {
            self.spawn(run(Arc::clone(self), Arc::clone(cell)));
        }
    }
}

async fn run(host: Arc<Inner>, cell: Arc<MatchCell>) {
    loop {
        let Some(effect) = cell.effects.lock().values().next().cloned() else {
            cell.delivering.store(false, Ordering::Release);
            // Something may have been added between the look and the store.
            if cell.effects.lock().is_empty() || cell.delivering.swap(true, Ordering::AcqRel) {
                return;
            }
            continue;
        };
        let id = effect.id;
        if deliver(&host, &cell, effect).await.is_err() {
            cell.delivering.store(false, Ordering::Release);
            return;
        }
        cell.doors.lock().ingress.effect_done(id);
        cell.effects.lock().remove(&id);
        host.effect_delivered.notify_waiters();
    }
}

/// Repeats until the sink has it. Fails only if this node may not speak for the match any more.
async fn deliver(host: &Inner, cell: &MatchCell, effect: Effect) -> Result<(), StoreError> {
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
