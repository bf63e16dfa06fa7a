//! Delivery of effects: at least once, after their tick is durable, until the sink has
//! acknowledged.
//!
//! One delivery at a time per match, in the order of ids. An acknowledged effect is fed into the
//! match's next step, which journals that it is done; until then a recovery delivers it again, and
//! the sink knows its id.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_schema::record::{Effect, EffectId};
use rekindle_store::StoreError;
use tokio::time::sleep;

use crate::host::Inner;
use crate::play::cell::MatchCell;

const FIRST_RETRY: Duration = Duration::from_millis(50);
const LAST_RETRY: Duration = Duration::from_secs(5);

/// Effects whose tick is durable and which no sink has acknowledged. Written by the match's actor
/// (adds) and the delivery (takes); read by whoever waits for the match's end.
#[derive(Default)]
pub(crate) struct EffectOutbox {
    open: Mutex<BTreeMap<EffectId, Effect>>,
    /// A delivery runs.
    delivering: AtomicBool,
}

impl EffectOutbox {
    /// Nothing is left to deliver.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.lock().is_empty()
    }

    /// Adds effects; true if the caller must start a delivery, because none runs.
    fn add(&self, effects: Vec<Effect>) -> bool {
        self.open.lock().extend(effects.into_iter().map(|effect| (effect.id, effect)));
        !self.delivering.swap(true, Ordering::AcqRel)
    }

    /// The next one to deliver. `None` ends the delivery: another is started by whoever adds more.
    fn next(&self) -> Option<Effect> {
        loop {
            if let Some(effect) = self.open.lock().values().next().cloned() {
                return Some(effect);
            }
            self.give_up();
            // Something may have been added before the mark was taken away.
            if self.is_empty() || self.delivering.swap(true, Ordering::AcqRel) {
                return None;
            }
        }
    }

    /// The delivery ends, whatever is left.
    fn give_up(&self) {
        self.delivering.store(false, Ordering::Release);
    }

    /// The sink has it.
    fn delivered(&self, id: EffectId) {
        self.open.lock().remove(&id);
    }
}

impl Inner {
    /// These effects of `cell` are durable and open.
    pub(crate) fn deliver(self: &Arc<Self>, cell: &Arc<MatchCell>, effects: Vec<Effect>) {
        if cell.effects.add(effects) {
            self.spawn(run(Arc::clone(self), Arc::clone(cell)));
        }
    }
}

async fn run(host: Arc<Inner>, cell: Arc<MatchCell>) {
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
