//! The server's side of snapshots: one [`SnapshotSender`] per session.

use std::collections::VecDeque;
use std::sync::Arc;

use rekindle_schema::Tick;
use rekindle_schema::net::{NetSchema, NetView};

use crate::bodies::{Knowledge, Known};
use crate::body::{self, Change, Item, MAX_ENTITIES, Models};
use crate::deltas::{Delta, Deltas, Subject};
use crate::header::{self, Framing, SnapshotHeader};
use crate::history::{HISTORY, Shared, ViewHistory};
use crate::interest::Interest;
use crate::layout::{Layout, MAX_EXTRAPOLATION, SchemaError};
use crate::priority::Priorities;
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
    /// Ascending by tick. The front is the baseline if `acked`.
    sent: VecDeque<Sent>,
    /// The front of `sent` was acknowledged.
    acked: bool,
    newest: Option<Tick>,
    priorities: Priorities,
    spare: Vec<Vec<Known>>,
    items: Vec<Item>,
    models: Models,
}

/// Keeps the memory of lists that nobody else holds.
fn reclaim(spare: &mut Vec<Vec<Known>>, sent: impl Iterator<Item = Sent>) {
    spare.extend(sent.filter_map(|sent| Arc::into_inner(sent.known)));
    spare.truncate(4);
}

/// Full ticks from their low bits: `low` is at most 2^32 - 1 ticks before `now`.
fn age(now: Tick, low: u32) -> u64 {
    u64::from((now.0 as u32).wrapping_sub(low))
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
            sent: VecDeque::new(),
            acked: false,
            newest: None,
            priorities: Priorities::default(),
            spare: Vec::new(),
            items: Vec::new(),
            models: Models::default(),
        }
    }

    /// Sets the ticks per second of the match, before the first snapshot.
    pub fn with_tick_rate(mut self, tick_rate: u16) -> Self {
        self.tick_rate = tick_rate.max(1);
        self.layout = Layout::new(&self.schema, self.tick_rate);
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
        self.priorities = Priorities::default();
    }

    /// The tick of the present baseline.
    pub fn baseline(&self) -> Option<Tick> {
        self.sent.front().filter(|_| self.acked).map(|sent| sent.tick)
    }

    /// Encodes `view`, which must be the one of `header.tick` and already pushed into `history`,
    /// into `out`, whose contents are replaced.
    ///
    /// * `focus`: slot of the client's own avatar. It is never deferred for others, and the world
    ///   is seen from it.
    /// * `interest_radius`: entities with a position farther than this from the avatar are left
    ///   out; `None` shows all. Entities without position are always shown.
    /// * `budget`: most bytes of the datagram. What does not fit waits, and what waits gains
    ///   priority.
    #[expect(
        clippy::too_many_arguments,
        reason = "all are plain facts of one call; a struct would only rename them"
    )]
    pub fn encode(
        &mut self,
        header: &SnapshotHeader,
        view: &NetView,
        history: &ViewHistory,
        focus: Option<u32>,
        interest_radius: Option<f32>,
        budget: usize,
        out: &mut Vec<u8>,
    ) -> EncodeStats {
        out.clear();
        let Ok(layout) = &self.layout else { return EncodeStats::default() };
        let tick = view.tick;
        if self.newest.is_some_and(|newest| newest >= tick) {
            return EncodeStats::default();
        }
        let reach = tick.0.saturating_sub(HISTORY - 1);
        while self.sent.front().is_some_and(|sent| sent.tick.0 < reach) {
            reclaim(&mut self.spare, self.sent.pop_front().into_iter());
            self.acked = false;
        }
        let baseline = self.sent.front().filter(|_| self.acked);
        let knowledge = baseline.map(|sent| Arc::clone(&sent.known));
        let known: &[Known] = knowledge.as_ref().map_or(&[], |known| known);
        let baseline = baseline.map(|sent| sent.tick);

        debug_assert_eq!(header.tick, tick, "the header is of another tick than the view");
        debug_assert!(view.is_consistent(layout.stride()), "the view of tick {tick} is broken");
        debug_assert!(
            baseline.is_none_or(|baseline| baseline < tick && tick.0 - baseline.0 < HISTORY),
            "the baseline {baseline:?} of tick {tick} is beyond what clients keep"
        );
        let interest = Interest::new(layout, view, focus, interest_radius);
        let mut shared = history.shared().lock();
        shared.start(Subject {
            tick,
            view: std::ptr::from_ref(view) as usize,
            schema: Arc::as_ptr(&self.schema) as usize,
            tick_rate: self.tick_rate,
            entities: view.entities.len(),
            stride: layout.stride(),
        });
        let Shared { deltas, bodies, .. } = &mut *shared;
        // What a client may see is its own matter; without such a bound, clients that know the same
        // are told the same.
        let bodies = if interest.is_bounded() { None } else { Some(bodies) };
        if let Some(body) = bodies.as_ref().and_then(|bodies| bodies.find(knowledge.as_ref())) {
            header::encode(
                header,
                Framing { baseline, tick_rate: self.tick_rate, partial: false },
                out,
            );
            if out.len() + body.bytes.len() <= budget {
                out.extend_from_slice(&body.bytes);
                self.priorities.clear();
                self.sent.push_back(Sent { tick, known: Arc::clone(&body.next) });
                self.newest = Some(tick);
                return EncodeStats {
                    bytes: out.len(),
                    baseline,
                    visible: body.visible,
                    sent: body.sent,
                    deferred: 0,
                    shared: true,
                };
            }
        }
        let (items, new) = (std::mem::take(&mut self.items), Vec::new());
        let mut plan =
            Plan { layout, view, history, tick, deltas, items, new, old: None, visible: 0 };
        plan.compare(known, &interest);
        let Plan { mut items, visible, .. } = plan;
        let residuals = deltas.residuals();

        let mut stats = EncodeStats { baseline, visible, ..EncodeStats::default() };
        let tick_rate = self.tick_rate;
        let write = |models: &mut Models, items: &mut [Item], partial: bool, out: &mut Vec<u8>| {
            out.clear();
            header::encode(header, Framing { baseline, tick_rate, partial }, out);
            let head = out.len();
            body::encode(layout, models, known.len(), items, residuals, &view.values, out);
            head
        };
        let models = &mut self.models;
        models.fit(layout, &mut items, residuals);
        let head = write(models, &mut items, false, out);
        let whole = out.len() <= budget;
        if whole {
            self.priorities.clear();
        } else {
            part_replacements(&mut items);
            self.priorities.grow(&items, &interest, focus);
            let order = self.priorities.order(&items);
            // What the body takes besides its items: a few models, the heads of the sets, the
            // number of new entities, and padding.
            let fixed = layout.stride() * 12 + 3 * 25 + 30 + 7;
            let mut room = (budget.saturating_sub(head) * 8).saturating_sub(fixed);
            for round in 0..6 {
                choose(&mut items, &order, known.len(), room);
                write(models, &mut items, true, out);
                if out.len() <= budget {
                    break;
                }
                // The estimate was too low. The last round tells nothing but that ticks go on.
                room =
                    if round < 4 { room.saturating_sub((out.len() - budget) * 8 + 8) } else { 0 };
            }
            if out.len() > budget {
                out.clear();
            } else {
                self.priorities.keep_waiting(&items);
            }
        }
        stats.bytes = out.len();
        if !out.is_empty() {
            stats.deferred = items.iter().filter(|item| item.deferred).count();
            stats.sent = items.len() - stats.deferred;
            let mut next = self.spare.pop().unwrap_or_default();
            remember(layout, tick, known, view, &items, &mut next);
            let next = match bodies {
                Some(bodies) if whole => {
                    bodies.keep(knowledge.clone(), &out[head..], next, visible, stats.sent)
                }
                _ => Arc::new(next),
            };
            self.sent.push_back(Sent { tick, known: next });
            self.newest = Some(tick);
        }
        self.items = items;
        stats
    }
}

/// New ones go behind the known ones, both ascending.
fn sort(items: &mut [Item]) {
    items.sort_by_key(|item| (item.known.is_none(), item.slot));
}

/// Parts the removal of an entity from the appearance of its successor in the slot, so that the
/// first is not deferred with the second.
fn part_replacements(items: &mut Vec<Item>) {
    for index in 0..items.len() {
        if items[index].is_successor() {
            let successor = Item { known: None, cost: items[index].cost + 16, ..items[index] };
            items.push(successor);
            items[index] = Item { change: Change::Remove, cost: 1, ..items[index] };
        }
    }
    sort(items);
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

/// Compares the world with what the client knows.
struct Plan<'a> {
    layout: &'a Layout,
    view: &'a NetView,
    history: &'a ViewHistory,
    tick: Tick,
    items: Vec<Item>,
    /// New entities: they go behind the known ones.
    new: Vec<Item>,
    deltas: &'a mut Deltas,
    /// The view that the last known entity was found in.
    old: Option<&'a NetView>,
    visible: usize,
}

impl Plan<'_> {
    fn compare(&mut self, known: &[Known], interest: &Interest<'_>) {
        self.items.clear();
        let mut old = known.iter().enumerate().peekable();
        let mut room = MAX_ENTITIES;
        for (index, entity) in self.view.entities.iter().enumerate() {
            while let Some((at, gone)) = old.next_if(|(_, known)| known.slot < entity.slot) {
                self.remove(at, gone);
            }
            let found = old.next_if(|(_, known)| known.slot == entity.slot);
            if room == 0 || !interest.sees(index, found.is_some()) {
                if let Some((at, gone)) = found {
                    self.remove(at, gone);
                }
                continue;
            }
            room -= 1;
            self.visible += 1;
            let item = Item {
                known: found.map(|(at, _)| at as u32),
                view: index as u32,
                slot: entity.slot,
                generation: entity.generation,
                components: entity.components & self.layout.component_mask(),
                change: Change::Replace,
                predecessor: found.map_or(0, |(_, known)| known.generation),
                model: 0,
                deferred: false,
                cost: 0,
            };
            match found {
                Some((_, known)) if known.generation == entity.generation => {
                    self.update(item, known)
                }
                Some(_) => self.items.push(item),
                None => self.new.push(item),
            }
        }
        for (at, gone) in old {
            self.remove(at, gone);
        }
        self.items.append(&mut self.new);
    }

    fn remove(&mut self, at: usize, gone: &Known) {
        let (slot, generation) = (gone.slot, gone.generation);
        let known = Some(at as u32);
        let change = Change::Remove;
        self.items.push(Item {
            known,
            view: 0,
            slot,
            generation,
            components: 0,
            change,
            predecessor: generation,
            model: 0,
            deferred: false,
            cost: 0,
        });
    }

    #[inline]
    fn update(&mut self, mut item: Item, known: &Known) {
        let Self { layout, view, history, tick, deltas, old, .. } = self;
        let (row, delta) =
            deltas.delta(item.view as usize, known.as_of, known.row, known.stamp, |out| {
                if old.is_none_or(|view| view.tick.0 as u32 != known.as_of) {
                    let as_of = tick.0.checked_sub(age(*tick, known.as_of));
                    *old = as_of.and_then(|as_of| history.get(Tick(as_of))).map(|view| &**view);
                }
                let same = old.filter(|view| {
                    let entity = view.entities.get(known.row as usize);
                    entity.is_some_and(|entity| {
                        entity.slot == item.slot
                            && entity.components & layout.component_mask() == item.components
                    })
                });
                let Some(old) = same else { return Delta::Unrelated };
                let (old, new) = (
                    old.row(known.row as usize, layout.stride()),
                    view.row(item.view as usize, layout.stride()),
                );
                let changed =
                    layout.residuals(item.components, age(*tick, known.stamp), old, new, out);
                changed.map_or(Delta::Equal, Delta::Changed)
            });
        match delta {
            Delta::Equal => return,
            Delta::Unrelated => {}
            Delta::Changed(changed) => item.change = Change::Update { residuals: row, changed },
        }
        self.items.push(item);
    }
}

/// What the client knows once it has the snapshot.
fn remember(
    layout: &Layout,
    tick: Tick,
    known: &[Known],
    view: &NetView,
    items: &[Item],
    next: &mut Vec<Known>,
) {
    next.clear();
    let now = tick.0 as u32;
    let sent = |item: &Item| Known {
        slot: item.slot,
        generation: item.generation,
        row: item.view,
        as_of: now,
        stamp: now,
    };
    let mut changes = items.iter().take_while(|item| item.known.is_some()).peekable();
    let mut new = items.iter().filter(|item| item.known.is_none() && !item.deferred).peekable();
    let mut row = 0;
    for (at, old) in known.iter().enumerate() {
        while let Some(item) = new.next_if(|item| item.slot < old.slot) {
            next.push(sent(item));
        }
        match changes.next_if(|item| item.known == Some(at as u32)) {
            Some(item) if item.deferred => next.push(*old),
            Some(item) if item.change == Change::Remove => {}
            Some(item) => next.push(sent(item)),
            None => {
                // Unchanged: the values stand in today's view as well, and that one will be there
                // for longer.
                while view.entities[row].slot < old.slot {
                    row += 1;
                }
                // Where it was carried last no longer matters once nothing is expected of it. Then
                // it is the same for all clients.
                let expects = layout.expects(view.entities[row].components, age(tick, old.stamp));
                let stamp =
                    if expects { old.stamp } else { now.wrapping_sub(MAX_EXTRAPOLATION as u32) };
                next.push(Known { row: row as u32, as_of: now, stamp, ..*old });
            }
        }
    }
    next.extend(new.map(sent));
    debug_assert!(
        next.is_sorted_by(|a, b| a.slot < b.slot),
        "what a client knows ascends by slot, each once"
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
        })
    }

    /// Sends the snapshot of a view to a client that nothing is known of.
    fn send(sender: &mut SnapshotSender, tick: u64, view: &Arc<NetView>) -> usize {
        let mut history = ViewHistory::new();
        history.push(Arc::clone(view));
        let header = SnapshotHeader { tick: Tick(tick), ..SnapshotHeader::default() };
        let mut out = Vec::new();
        sender.encode(&header, view, &history, None, None, 1000, &mut out).sent
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
        let known = |slot| Known { slot, generation: 0, row: 0, as_of: 1, stamp: 1 };
        let view = view(2, &[2, 5]);
        remember(&layout, Tick(2), &[known(5), known(2)], &view, &[], &mut Vec::new());
    }
}
