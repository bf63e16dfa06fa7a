//! Which entities go first when not all fit into a datagram.
//!
//! An accumulator: what waits gains weight with every snapshot, faster when it is near; what was
//! sent starts again at nothing.

use crate::body::{Change, Item};
use crate::interest::Interest;

/// Removals take two bits and free the client from ghosts: first.
const REMOVAL: f32 = f32::INFINITY;
/// The client's own avatar comes next.
const OWN: f32 = 1e30;
/// A client that does not know an entity at all misses more than one that knows an old state of it.
const UNKNOWN: f32 = 3.0;

/// Accumulated weights of the entities that wait, ascending by slot. Empty as long as everything
/// fits.
#[derive(Debug, Default, Clone)]
pub(crate) struct Priorities {
    waiting: Vec<(u32, f32)>,
    weights: Vec<f32>,
}

impl Priorities {
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }

    fn waited(&self, slot: u32) -> f32 {
        self.waiting
            .binary_search_by_key(&slot, |&(slot, _)| slot)
            .map_or(0.0, |index| self.waiting[index].1)
    }

    /// Weighs the items of one snapshot.
    pub(crate) fn grow(&mut self, items: &[Item], interest: &Interest<'_>, focus: Option<u32>) {
        let weights = items.iter().map(|item| {
            if item.change == Change::Remove {
                return REMOVAL;
            }
            if focus == Some(item.slot) {
                return OWN;
            }
            let near = interest
                .distance2(item.view as usize)
                .map_or(1.0, |distance2| 1.0 + 8.0 / (1.0 + distance2.sqrt() / 8.0));
            self.waited(item.slot) + if item.known.is_none() { near * UNKNOWN } else { near }
        });
        self.weights = weights.collect();
    }

    /// Indices of the items, heaviest first, ties by position.
    pub(crate) fn order(&self, items: &[Item]) -> Vec<u32> {
        let mut order: Vec<u32> = (0..items.len() as u32).collect();
        order.sort_by(|&a, &b| {
            self.weights[b as usize].total_cmp(&self.weights[a as usize]).then(a.cmp(&b))
        });
        order
    }

    /// Keeps the weights of those that wait on.
    pub(crate) fn keep_waiting(&mut self, items: &[Item]) {
        self.waiting.clear();
        let waiting = items.iter().zip(&self.weights).filter(|(item, _)| item.deferred);
        self.waiting.extend(waiting.map(|(item, &weight)| (item.slot, weight)));
        self.waiting.sort_by_key(|&(slot, _)| slot);
    }
}
