//! Effects whose tick is durable and which no sink has acknowledged.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use rekindle_schema::record::{Effect, EffectId};

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
    pub(super) fn add(&self, effects: Vec<Effect>) -> bool {
        self.open.lock().extend(effects.into_iter().map(|effect| (effect.id, effect)));
        !self.delivering.swap(true, Ordering::AcqRel)
    }

    /// The next one to deliver. `None` ends the delivery: another is started by whoever adds more.
    pub(super) fn next(&self) -> Option<Effect> {
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
    pub(super) fn give_up(&self) {
        self.delivering.store(false, Ordering::Release);
    }

    /// The sink has it.
    pub(super) fn delivered(&self, id: EffectId) {
        self.open.lock().remove(&id);
    }
}
