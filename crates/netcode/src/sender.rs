//! The server's side of snapshots: one [`SnapshotSender`] per session.

mod plan;
mod writer;

use std::collections::VecDeque;
use std::sync::Arc;

use rekindle_schema::net::{NetSchema, NetView};
use rekindle_schema::{PlayerId, Tick};

use crate::bodies::{Knowledge, Known};
use crate::body::{Coding, Item, Packer};
use crate::deltas::Subject;
use crate::header::SnapshotHeader;
use crate::history::{Findings, HISTORY, ViewHistory};
use crate::interest::Interest;
use crate::layout::{Layout, SchemaError};
use crate::priority::Priorities;
use crate::sender::plan::{Plan, part_replacements, remember};
use crate::sender::writer::{Head, Writer};
use crate::sight::{LastSeen, Seen};
use crate::snapshot::EncodeStats;

/// Ticks per second that expectations go by unless told otherwise. A wrong rate costs bytes, never
/// correctness: full snapshots carry it.
pub const DEFAULT_TICK_RATE: u16 = 30;

/// A snapshot that was sent and may become a baseline.
#[derive(Debug, Clone)]
struct Sent {
    tick: Tick,
    known: Knowledge,
}

/// Encodes snapshots for one session. Holds what the client knows after each snapshot that is in
/// flight.
#[derive(Debug, Clone)]
pub struct SnapshotSender {
    schema: Arc<NetSchema>,
    layout: Result<Layout, SchemaError>,
    tick_rate: u16,
    coding: Coding,
    /// Ascending by tick. The front is the baseline if `acked`.
    sent: VecDeque<Sent>,
    /// The front of `sent` was acknowledged.
    acked: bool,
    newest: Option<Tick>,
    /// What the newest snapshot was of.
    last_seen: LastSeen,
    priorities: Priorities,
    spare: Vec<Vec<Known>>,
    /// Kept for its memory: see [`Seen::of`].
    entries: Vec<u32>,
    items: Vec<Item>,
    packer: Packer,
}

/// Keeps the memory of lists that nobody else holds.
fn reclaim(spare: &mut Vec<Vec<Known>>, sent: impl Iterator<Item = Sent>) {
    spare.extend(sent.filter_map(|sent| Arc::into_inner(sent.known)));
    spare.truncate(4);
}

impl SnapshotSender {
    /// For a client that knows nothing yet. A schema that [`crate::check_schema`] refuses gives no
    /// snapshots at all.
    pub fn new(schema: Arc<NetSchema>) -> Self {
        let layout = Layout::new(&schema, DEFAULT_TICK_RATE);
        Self {
            schema,
            layout,
            tick_rate: DEFAULT_TICK_RATE,
            coding: Coding::Rice,
            sent: VecDeque::new(),
            acked: false,
            newest: None,
            last_seen: LastSeen::new(),
            priorities: Priorities::default(),
            spare: Vec::new(),
            entries: Vec::new(),
            items: Vec::new(),
            packer: Packer::default(),
        }
    }

    /// Sets the ticks per second of the match, before the first snapshot.
    #[must_use]
    pub fn with_tick_rate(mut self, tick_rate: u16) -> Self {
        self.tick_rate = tick_rate.max(1);
        self.layout = Layout::new(&self.schema, self.tick_rate);
        self
    }

    /// Sets how the client reads deltas, before the first snapshot.
    #[must_use]
    pub fn with_coding(mut self, coding: Coding) -> Self {
        self.coding = coding;
        self
    }

    /// The client has the snapshots of `newest` and, for each bit `i`, of `newest - 1 - i`. Ticks
    /// that were not sent, or lie behind the present baseline, change nothing; `newest` 0 says that
    /// the client has nothing, or nothing any more: the baseline is dropped.
    pub fn acknowledge(&mut self, newest: Tick, bits: u32) {
        if newest.0 == 0 {
            // What is in flight may still arrive and be acknowledged.
            if std::mem::take(&mut self.acked) {
                reclaim(&mut self.spare, self.sent.pop_front().into_iter());
            }
            return;
        }
        let found = (0..=32u64)
            .filter(|&back| back == 0 || bits & (1 << (back - 1)) != 0)
            .filter_map(|back| newest.0.checked_sub(back))
            .find_map(|tick| self.sent.binary_search_by_key(&Tick(tick), |sent| sent.tick).ok());
        if let Some(index) = found {
            reclaim(&mut self.spare, self.sent.drain(..index));
            self.acked = true;
        }
    }

    /// The client has nothing (any more), but ticks go on.
    fn forget(&mut self) {
        reclaim(&mut self.spare, self.sent.drain(..));
        self.acked = false;
    }

    /// Starts anew: the match went back, or another connection carries the session. The next
    /// snapshot is full.
    pub fn reset(&mut self) {
        self.forget();
        self.newest = None;
        self.last_seen.clear();
        self.priorities = Priorities::default();
    }

    /// The tick of the present baseline.
    pub fn baseline(&self) -> Option<Tick> {
        self.sent.front().filter(|_| self.acked).map(|sent| sent.tick)
    }

    /// Encodes what `viewer` sees of `view`, which must be the one of `header.tick` and already
    /// pushed into `history`, into `out`, whose contents are replaced.
    ///
    /// * `viewer`: the player whose client it is, none for a spectator. What
    ///   [`NetView::sight`] does not give to this viewer is in no byte of the datagram; what it has
    ///   at the margin is, if the snapshot before was of that entity as well.
    /// * `header.avatar`: slot of the client's own avatar. It is never deferred for others, and
    ///   what is near it goes first.
    /// * `budget`: most bytes of the datagram. What does not fit waits, and what waits gains
    ///   priority.
    pub fn encode(
        &mut self,
        header: &SnapshotHeader,
        view: &NetView,
        history: &ViewHistory,
        viewer: Option<PlayerId>,
        budget: usize,
        out: &mut Vec<u8>,
    ) -> EncodeStats {
        out.clear();
        let tick = view.tick;
        if self.newest.is_some_and(|newest| newest >= tick) {
            return EncodeStats::default();
        }
        self.drop_before(tick.0.saturating_sub(HISTORY - 1));
        let mut entries = std::mem::take(&mut self.entries);
        let seen = Seen::of(view, viewer, &self.last_seen, &mut entries);
        let stats = self.encode_seen(header, seen, history, budget, out);
        if stats.bytes > 0 {
            seen.note(&mut self.last_seen);
        }
        self.entries = entries;
        stats
    }

    fn encode_seen(
        &mut self,
        header: &SnapshotHeader,
        seen: Seen<'_>,
        history: &ViewHistory,
        budget: usize,
        out: &mut Vec<u8>,
    ) -> EncodeStats {
        let view = seen.view;
        let baseline = self.baseline();
        let knowledge = self.knowledge();
        let known: &[Known] = knowledge.as_ref().map_or(&[], |known| known);
        let Ok(layout) = &self.layout else { return EncodeStats::default() };
        debug_assert_sound(layout, header, view, baseline);

        let mut findings = history.findings().lock();
        findings.start(self.subject(view, layout.width()));
        let Findings { deltas, bodies, .. } = &mut *findings;
        let head = Head { header, baseline, tick_rate: self.tick_rate, coding: self.coding };
        // Clients that see the same and know the same are told the same.
        if let Some(sight) = seen.shared
            && let Some(body) = bodies.find((sight, self.coding), knowledge.as_ref())
            && head.encode_with(body, budget, out)
        {
            self.priorities.clear();
            self.note(view.tick, Arc::clone(&body.next));
            let (visible, sent) = (body.visible, body.sent);
            let bytes = out.len();
            return EncodeStats { bytes, baseline, visible, sent, deferred: 0, shared: true };
        }
        let items = std::mem::take(&mut self.items);
        let mut plan = Plan::new(layout, view, history, deltas, items);
        plan.compare(known, seen);
        let Plan { mut items, visible, .. } = plan;
        let writer = Writer { layout, head, known, residuals: deltas.residuals(), view };
        self.packer.fit(head.body_coding(), layout, &mut items, writer.residuals);
        let body = writer.write(&mut self.packer, &mut items, false, out);
        let whole = out.len() <= budget;
        if whole {
            self.priorities.clear();
        } else {
            let interest = Interest::new(layout, seen, header.avatar);
            part_replacements(&mut items);
            self.priorities.grow(&items, &interest, header.avatar);
            let order = self.priorities.order(&items);
            writer.write_part(&mut self.packer, &mut items, &order, budget, body, out);
            if !out.is_empty() {
                self.priorities.keep_waiting(&items);
            }
        }
        let mut stats =
            EncodeStats { bytes: out.len(), baseline, visible, ..EncodeStats::default() };
        if !out.is_empty() {
            stats.deferred = items.iter().filter(|item| item.deferred).count();
            stats.sent = items.len() - stats.deferred;
            let mut next = self.spare.pop().unwrap_or_default();
            remember(layout, self.coding, known, seen, &items, &mut next);
            let next = match seen.shared.filter(|_| whole) {
                Some(sight) => {
                    let (of, body) = ((sight, self.coding), &out[body..]);
                    bodies.keep(of, knowledge.clone(), body, next, visible, stats.sent)
                }
                None => Arc::new(next),
            };
            self.note(view.tick, next);
        }
        self.items = items;
        stats
    }

    /// What the client knows as of the present baseline.
    fn knowledge(&self) -> Option<Knowledge> {
        self.sent.front().filter(|_| self.acked).map(|sent| Arc::clone(&sent.known))
    }

    /// What other sessions' findings must be of to be of use for this one.
    fn subject(&self, view: &NetView, width: usize) -> Subject {
        Subject {
            tick: view.tick,
            view: std::ptr::from_ref(view) as usize,
            schema: Arc::as_ptr(&self.schema) as usize,
            tick_rate: self.tick_rate,
            entities: view.entries(),
            stride: width,
        }
    }

    /// Forgets the snapshots of ticks before `reach`: clients have forgotten them as well.
    fn drop_before(&mut self, reach: u64) {
        while self.sent.front().is_some_and(|sent| sent.tick.0 < reach) {
            reclaim(&mut self.spare, self.sent.pop_front().into_iter());
            self.acked = false;
        }
    }

    /// A snapshot was made: it may become a baseline.
    fn note(&mut self, tick: Tick, known: Knowledge) {
        self.sent.push_back(Sent { tick, known });
        self.newest = Some(tick);
    }
}

/// What a snapshot must hold to before it is encoded. In builds with debug assertions only.
#[inline]
fn debug_assert_sound(
    layout: &Layout,
    header: &SnapshotHeader,
    view: &NetView,
    baseline: Option<Tick>,
) {
    let tick = view.tick;
    debug_assert_eq!(header.tick, tick, "the header is of another tick than the view");
    debug_assert!(view.is_consistent(layout.stride()), "the view of tick {tick} is broken");
    debug_assert!(
        baseline.is_none_or(|baseline| baseline < tick && tick.0 - baseline.0 < HISTORY),
        "the baseline {baseline:?} of tick {tick} is beyond what clients keep"
    );
}

#[cfg(test)]
mod tests {
    use rekindle_schema::net::{FieldKind, NetComponent, NetEntity, NetField};

    use super::*;

    fn schema() -> Arc<NetSchema> {
        let field =
            NetField { name: "x".to_owned(), kind: FieldKind::Unsigned { bits: 8 }, rate: None };
        let component = NetComponent { name: "place".to_owned(), fields: vec![field] };
        Arc::new(NetSchema { components: vec![component], position: None })
    }

    fn view(tick: u64, slots: &[u32]) -> Arc<NetView> {
        let entity = |slot: &u32| NetEntity { slot: *slot, generation: 0, components: 1 };
        Arc::new(NetView {
            tick: Tick(tick),
            entities: slots.iter().map(entity).collect(),
            values: slots.to_vec(),
            avatars: Vec::new(),
            restricted: None,
        })
    }

    /// Sends the snapshot of a view to a client that nothing is known of.
    fn send(sender: &mut SnapshotSender, tick: u64, view: &Arc<NetView>) -> usize {
        let mut history = ViewHistory::new();
        history.push(Arc::clone(view));
        let header = SnapshotHeader { tick: Tick(tick), ..SnapshotHeader::default() };
        let mut out = Vec::new();
        sender.encode(&header, view, &history, None, 1000, &mut out).sent
    }

    #[test]
    fn a_sound_view_is_sent() {
        assert_eq!(send(&mut SnapshotSender::new(schema()), 1, &view(1, &[2, 5])), 2);
    }

    #[test]
    #[should_panic(expected = "the view of tick 1 is broken")]
    fn a_view_that_does_not_ascend_is_noticed() {
        send(&mut SnapshotSender::new(schema()), 1, &view(1, &[5, 2]));
    }

    #[test]
    #[should_panic(expected = "the header is of another tick than the view")]
    fn a_header_of_another_tick_is_noticed() {
        send(&mut SnapshotSender::new(schema()), 2, &view(1, &[2]));
    }

    #[test]
    #[should_panic(expected = "300 has over 8 bits")]
    fn a_quantum_out_of_range_is_noticed() {
        let mut broken = NetView::clone(&view(1, &[2]));
        broken.values[0] = 300;
        send(&mut SnapshotSender::new(schema()), 1, &Arc::new(broken));
    }

    #[test]
    #[should_panic(expected = "what a client knows ascends by slot")]
    fn knowledge_that_does_not_ascend_is_noticed() {
        let layout = Layout::new(&schema(), 30).unwrap();
        let known = |slot| Known { slot, generation: 0, row: 0, as_of: 1, stamp: 1, moves: false };
        let view = view(2, &[2, 5]);
        let mut entries = Vec::new();
        let seen = Seen::of(&view, None, &LastSeen::new(), &mut entries);
        let known = [known(5), known(2)];
        remember(&layout, Coding::Rice, &known, seen, &[], &mut Vec::new());
    }
}
