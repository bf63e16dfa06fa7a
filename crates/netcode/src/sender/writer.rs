//! Writes the items of a snapshot into a datagram: all of them, or those that fit.

use rekindle_schema::Tick;
use rekindle_schema::net::NetView;

use crate::bodies::{Body, Known};
use crate::body::{self, Coding, Item, Packer, Parts};
use crate::header::{self, Framing, SnapshotHeader};
use crate::layout::Layout;

/// What stands in front of the body.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) header: &'a SnapshotHeader,
    /// What the snapshot is a delta of.
    pub(super) baseline: Option<Tick>,
    /// Ticks per second of the match.
    pub(super) tick_rate: u16,
    /// How the client reads deltas.
    pub(super) coding: Coding,
}

impl Head<'_> {
    /// How the body is coded.
    pub(super) fn body_coding(self) -> Coding {
        if self.baseline.is_none() { Coding::Rice } else { self.coding }
    }

    /// Replaces what is in `out`.
    fn encode(self, partial: bool, out: &mut Vec<u8>) {
        let Self { header, baseline, tick_rate, .. } = self;
        out.clear();
        let framing = Framing { baseline, tick_rate, partial, coding: self.body_coding() };
        header::encode(header, framing, out);
    }

    /// Puts a body behind it that another session had encoded; whether both fit into the budget.
    pub(super) fn encode_with(self, body: &Body, budget: usize, out: &mut Vec<u8>) -> bool {
        self.encode(false, out);
        let fits = out.len() + body.bytes.len() <= budget;
        if fits {
            out.extend_from_slice(&body.bytes);
        }
        fits
    }
}

/// Writes the items of one snapshot.
pub(super) struct Writer<'a> {
    pub(super) layout: &'a Layout,
    pub(super) head: Head<'a>,
    /// What the client knows.
    pub(super) known: &'a [Known],
    /// Rows of residuals, as the items name them.
    pub(super) residuals: &'a [u32],
    pub(super) view: &'a NetView,
}

impl Writer<'_> {
    /// Replaces what is in `out` by the whole snapshot. Returns where the body begins.
    pub(super) fn write(
        &self,
        packer: &mut Packer,
        items: &mut [Item],
        partial: bool,
        out: &mut Vec<u8>,
    ) -> usize {
        self.head.encode(partial, out);
        let start = out.len();
        let Self { layout, head, known, residuals, view } = *self;
        let moves = |at: usize| known[at].moves;
        let parts = Parts { known: known.len(), moves, residuals, rows: &view.values };
        packer.encode(head.body_coding(), layout, items, parts, out);
        start
    }

    /// Replaces what is in `out` by a snapshot of those items, heaviest first, that fit into the
    /// budget. `body` is where the body begins. `out` is empty if not even the header fits.
    pub(super) fn write_part(
        &self,
        packer: &mut Packer,
        items: &mut [Item],
        order: &[u32],
        budget: usize,
        body: usize,
        out: &mut Vec<u8>,
    ) {
        // What the body takes besides its items: a few models, the heads of the sets, the number of
        // new entities, and padding.
        let fixed = self.layout.stride() * 12 + 3 * 25 + 30 + 7;
        let mut room = (budget.saturating_sub(body) * 8).saturating_sub(fixed);
        for round in 0..6 {
            choose(items, order, self.known.len(), room);
            self.write(packer, items, true, out);
            if out.len() <= budget {
                return;
            }
            // The estimate was too low. The last round tells nothing but that ticks go on.
            room = if round < 4 { room.saturating_sub((out.len() - budget) * 8 + 8) } else { 0 };
        }
        out.clear();
    }
}

/// Defers items, lightest first, until the rest takes about `room` bits.
fn choose(items: &mut [Item], order: &[u32], known: usize, room: usize) {
    let mut changes = items.iter().filter(|item| item.known.is_some()).count();
    // How many fit decides what naming them takes, and that how many fit: the second pass knows the
    // first one's answer.
    for _ in 0..2 {
        let each = body::set_bits(known, changes);
        let mut used = 0;
        changes = 0;
        for &index in order {
            let item = &mut items[index as usize];
            let old = item.known.is_some();
            let cost = item.cost as usize + if old { each } else { 0 };
            item.deferred = used + cost > room;
            if !item.deferred {
                used += cost;
                changes += usize::from(old);
            }
        }
    }
}
