//! The bit-packed part of a snapshot: which of the known entities went, were replaced or changed,
//! and which are new.
//!
//! Both ends hold the same list of known entities (the baseline), ascending by slot; the body
//! refers to it by index. Called by the sender and the receiver, knows nothing of ticks, budgets or
//! interest. `docs/PROTOCOL.md` has the layout.

mod contexts;
mod decode;
mod encode;
mod item;
mod models;
mod ranged;

pub(crate) use self::contexts::Template;
pub(crate) use self::decode::Sink;
pub(crate) use self::encode::set_bits;
pub use self::item::MAX_ENTITIES;
pub(crate) use self::item::{Change, Item};

use crate::layout::Layout;
use crate::snapshot::SnapshotError;

/// How what changed is coded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Coding {
    /// Rice codes whose parameters the encoder fits to each snapshot: every client reads them.
    #[default]
    Rice,
    /// Adaptive range coding: smaller. For clients of protocol version 5 and above. Full snapshots
    /// are in Rice codes all the same: there is little in them to foresee.
    Range,
}

/// Writes bodies. Kept from one to the next for its memory alone.
#[derive(Debug, Default, Clone)]
pub(crate) struct Packer {
    models: models::Models,
    sets: contexts::Sets,
}

/// What bodies are made of.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a, M> {
    /// How many entities the client knows.
    pub(crate) known: usize,
    /// Of a known entity, whether it moves by what the client knows of it.
    pub(crate) moves: M,
    /// Rows of residuals, as the items name them.
    pub(crate) residuals: &'a [u32],
    /// The rows of the view.
    pub(crate) rows: &'a [u32],
}

impl Packer {
    /// Looks at the items of a snapshot, before it is encoded with all of them or some.
    pub(crate) fn fit(
        &mut self,
        coding: Coding,
        layout: &Layout,
        items: &mut [Item],
        residuals: &[u32],
    ) {
        if coding == Coding::Rice {
            self.models.fit(layout, items, residuals);
        }
    }

    /// Appends the body and notes what each item took. `items` are those of known entities
    /// ascending, then new ones ascending by slot.
    pub(crate) fn encode(
        &mut self,
        coding: Coding,
        layout: &Layout,
        items: &mut [Item],
        parts: Parts<'_, impl Fn(usize) -> bool>,
        out: &mut Vec<u8>,
    ) {
        debug_assert!(
            items.is_sorted_by_key(|item| (item.known.is_none(), item.slot)),
            "known entities come first, then new ones, both ascending"
        );
        debug_assert!(
            items.iter().filter_map(|item| item.known).all(|at| (at as usize) < parts.known)
        );
        match coding {
            Coding::Rice => encode::encode(layout, &mut self.models, items, &parts, out),
            Coding::Range => ranged::encode(layout, &mut self.sets, items, &parts, out),
        }
    }
}

/// Reads a body against `known` entities.
pub(crate) fn decode(
    coding: Coding,
    layout: &Layout,
    known: usize,
    bytes: &[u8],
    sink: &mut impl Sink,
) -> Result<(), SnapshotError> {
    match coding {
        Coding::Rice => decode::decode(layout, known, bytes, sink),
        Coding::Range => ranged::decode(layout, known, bytes, sink),
    }
}

#[cfg(test)]
mod tests {
    use rekindle_schema::net::NetSchema;

    use super::*;

    #[test]
    #[should_panic(expected = "known entities come first, then new ones, both ascending")]
    fn items_that_do_not_ascend_are_noticed() {
        let layout = Layout::new(&NetSchema::default(), 30).unwrap();
        let item = |slot| Item {
            known: None,
            view: 0,
            slot,
            generation: 0,
            predecessor: 0,
            components: 0,
            change: Change::Replace,
            model: 0,
            deferred: false,
            cost: 0,
        };
        let parts = Parts { known: 0, moves: |_| false, residuals: &[], rows: &[] };
        let items = &mut [item(5), item(2)];
        Packer::default().encode(Coding::Rice, &layout, items, parts, &mut Vec::new());
    }
}
