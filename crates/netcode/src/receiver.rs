//! The client's side of snapshots.

use std::collections::VecDeque;
use std::sync::Arc;

use rekindle_schema::net::{NetEntity, NetSchema, NetView};
use rekindle_schema::{Epoch, PlayerId, Tick};

use crate::body::{self, MAX_ENTITIES, Sink};
use crate::header::{self, SnapshotHeader};
use crate::history::HISTORY;
use crate::layout::{Layout, SchemaError};
use crate::snapshot::SnapshotError;

/// A snapshot, decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// What it says besides the world.
    pub header: SnapshotHeader,
    /// The world as this client knows it: of each entity the newest that it has been told. Its
    /// avatars are the client's own one, if [`SnapshotReceiver::for_player`] was told who that is.
    pub view: Arc<NetView>,
    /// For each entity of the view, the tick of the snapshot that carried it last.
    pub stamps: Arc<Vec<Tick>>,
    /// All entities are as they were at the snapshot's tick. If not, some did not fit: those with
    /// an older stamp may be out of date.
    pub complete: bool,
}

/// What is known after one snapshot.
#[derive(Debug, Clone)]
struct State {
    tick: Tick,
    tick_rate: u16,
    view: Arc<NetView>,
    stamps: Arc<Vec<Tick>>,
}

/// Decodes the snapshots of one connection. Make a new one, or [`reset`](Self::reset) it, for each
/// new connection: what was received over another one must not be acknowledged on this one.
#[derive(Debug, Clone)]
pub struct SnapshotReceiver {
    schema: Arc<NetSchema>,
    layout: Result<Layout, SchemaError>,
    tick_rate: u16,
    player: Option<PlayerId>,
    epoch: Epoch,
    /// What may become a baseline, ascending by tick.
    states: VecDeque<State>,
    /// The newest view as the caller got it.
    shown: Option<(Arc<NetView>, Arc<Vec<Tick>>)>,
    /// Bit `i`: the snapshot of `newest - i` was received.
    seen: u64,
    newest: Tick,
}

impl SnapshotReceiver {
    /// Knows nothing yet. With a schema that [`crate::check_schema`] refuses, every datagram is an
    /// error.
    pub fn new(schema: Arc<NetSchema>) -> Self {
        let tick_rate = crate::sender::DEFAULT_TICK_RATE;
        let layout = Layout::new(&schema, tick_rate);
        Self {
            schema,
            layout,
            tick_rate,
            player: None,
            epoch: Epoch(0),
            states: VecDeque::new(),
            shown: None,
            seen: 0,
            newest: Tick(0),
        }
    }

    /// Names the player whose avatar the snapshots tell, so that views have it in their list of
    /// avatars.
    #[must_use]
    pub fn for_player(mut self, player: PlayerId) -> Self {
        self.player = Some(player);
        self
    }

    /// Forgets everything: a new connection, or a rewind.
    pub fn reset(&mut self) {
        self.epoch = Epoch(0);
        self.forget();
    }

    fn forget(&mut self) {
        self.states.clear();
        self.shown = None;
        self.seen = 0;
        self.newest = Tick(0);
    }

    /// What to put into the next input packet: the newest snapshot received, and bit `i` for the
    /// one `i + 1` ticks before.
    pub fn acknowledgement(&self) -> (Tick, u32) {
        (self.newest, (self.seen >> 1) as u32)
    }

    /// The part of the last snapshots that did not come, up to [`HISTORY`] of them, 0 to 1. One is
    /// made for each tick.
    pub fn loss(&self) -> f64 {
        let span = u64::BITS - self.seen.leading_zeros();
        let came = self.seen.count_ones();
        f64::from(span - came) / f64::from(span.max(1))
    }

    /// The newest view, as [`Received::view`] had it.
    pub fn newest(&self) -> Option<&Arc<NetView>> {
        self.shown.as_ref().map(|(view, _)| view)
    }

    /// Decodes a datagram. Late ones are decoded as long as what they build on is still there.
    /// After an error the receiver is as before it, except that the first datagram of a higher
    /// epoch, if it builds on something unknown, makes it forget the lower one.
    pub fn receive(&mut self, datagram: &[u8]) -> Result<Received, SnapshotError> {
        let (header, framing, bytes) = header::decode(datagram)?;
        self.refuse_known(&header)?;
        let tick = header.tick;
        let found = framing.baseline.map(|baseline| self.find(&header, baseline)).transpose()?;
        let empty = State {
            tick: Tick(0),
            tick_rate: framing.tick_rate,
            view: Arc::default(),
            stamps: Arc::default(),
        };
        let base = found.map_or(&empty, |found| &self.states[found]);
        let tick_rate = base.tick_rate;
        if tick_rate != self.tick_rate {
            self.tick_rate = tick_rate;
            self.layout = Layout::new(&self.schema, tick_rate);
        }
        let layout = self.layout.as_ref().map_err(Clone::clone)?;
        let mut next = Next::new(layout, base, tick);
        body::decode(framing.coding, layout, base.view.entities.len(), bytes, &mut next)?;
        let removed = std::mem::take(&mut next.removed);
        let (mut view, stamps) = next.finish();
        if let (Some(player), Some(slot)) = (self.player, header.avatar) {
            view.avatars.push((player, slot));
        }

        if header.epoch != self.epoch {
            self.forget();
            self.epoch = header.epoch;
        }
        self.note(tick);
        let state = State { tick, tick_rate, view: Arc::new(view), stamps: Arc::new(stamps) };
        let (mut view, mut stamps) = (Arc::clone(&state.view), Arc::clone(&state.stamps));
        if tick == self.newest {
            self.drop_useless(tick, framing.baseline);
            if let Some((shown, shown_stamps)) = self.shown.as_ref().filter(|_| framing.partial) {
                let newer = overlay(
                    &state,
                    (shown, shown_stamps),
                    framing.baseline.unwrap_or(Tick(0)),
                    &removed,
                    self.schema.stride(),
                );
                (view, stamps) = (Arc::new(newer.0), Arc::new(newer.1));
            }
            self.shown = Some((Arc::clone(&view), Arc::clone(&stamps)));
        }
        let at = self.states.partition_point(|state| state.tick < tick);
        self.states.insert(at, state);
        debug_assert!(self.states.iter().is_sorted_by(|a, b| a.tick < b.tick));
        Ok(Received { header, view, stamps, complete: !framing.partial })
    }

    /// Refuses a snapshot of an earlier ownership, one that was received before, and one that is
    /// too old for anything to build on it.
    fn refuse_known(&self, header: &SnapshotHeader) -> Result<(), SnapshotError> {
        let tick = header.tick;
        if header.epoch < self.epoch {
            return Err(SnapshotError::StaleEpoch { found: header.epoch, current: self.epoch });
        }
        if header.epoch == self.epoch && self.seen != 0 && tick <= self.newest {
            let back = self.newest.0 - tick.0;
            if back >= HISTORY {
                return Err(SnapshotError::TooOld(tick));
            }
            if self.seen & (1 << back) != 0 {
                return Err(SnapshotError::Duplicate(tick));
            }
        }
        Ok(())
    }

    /// Where the baseline of a snapshot stands among the states.
    fn find(&mut self, header: &SnapshotHeader, baseline: Tick) -> Result<usize, SnapshotError> {
        let same_epoch = header.epoch == self.epoch;
        let found = self.states.binary_search_by_key(&baseline, |state| state.tick).ok();
        found.filter(|_| same_epoch).ok_or_else(|| {
            if !same_epoch {
                // What the server takes for acknowledged is of the epoch before. It hears that
                // nothing of the new one is here.
                self.forget();
                self.epoch = header.epoch;
            }
            SnapshotError::UnknownBaseline { tick: header.tick, baseline }
        })
    }

    /// Drops the states that no later snapshot can build on, now that the one of `tick` built on
    /// `baseline`.
    fn drop_useless(&mut self, tick: Tick, baseline: Option<Tick>) {
        // The sender never goes back behind a baseline that it has used.
        if let Some(baseline) = baseline {
            while self.states.front().is_some_and(|state| state.tick < baseline) {
                self.states.pop_front();
            }
        }
        while self
            .states
            .front()
            .is_some_and(|state| state.tick.0.saturating_add(HISTORY) <= tick.0)
        {
            self.states.pop_front();
        }
    }

    fn note(&mut self, tick: Tick) {
        if self.seen == 0 {
            self.seen = 1;
            self.newest = tick;
        } else if tick > self.newest {
            let by = tick.0 - self.newest.0;
            self.seen = if by >= 64 { 1 } else { self.seen << by | 1 };
            self.newest = tick;
        } else {
            self.seen |= 1 << (self.newest.0 - tick.0);
        }
    }
}

/// A partial snapshot says nothing of entities that did not fit, and is built on a baseline that
/// lies a round trip back: what later snapshots told of those still stands. Takes over from `shown`
/// what is newer there, and entities that the baseline did not have, unless the snapshot removed
/// them.
fn overlay(
    state: &State,
    shown: (&NetView, &[Tick]),
    baseline: Tick,
    removed: &[u32],
    stride: usize,
) -> (NetView, Vec<Tick>) {
    let mut view =
        NetView { tick: state.tick, avatars: state.view.avatars.clone(), ..NetView::default() };
    let mut stamps = Vec::new();
    let mut push = |(from, at): (&NetView, &[Tick]), index: usize| {
        view.entities.push(from.entities[index]);
        view.values.extend_from_slice(from.row(index, stride));
        stamps.push(at[index]);
    };
    let new: (&NetView, &[Tick]) = (&state.view, &state.stamps);
    let kept = |index: usize| {
        shown.1[index] > baseline && removed.binary_search(&shown.0.entities[index].slot).is_err()
    };
    let mut before = 0..shown.0.entities.len();
    for (index, entity) in state.view.entities.iter().enumerate() {
        while before.start < before.end && shown.0.entities[before.start].slot < entity.slot {
            if kept(before.start) {
                push(shown, before.start);
            }
            before.start += 1;
        }
        let same =
            before.clone().next().filter(|&other| shown.0.entities[other].slot == entity.slot);
        before.start += usize::from(same.is_some());
        match same.filter(|&other| shown.1[other] > state.stamps[index]) {
            Some(other) => push(shown, other),
            None => push(new, index),
        }
    }
    before.filter(|&index| kept(index)).for_each(|index| push(shown, index));
    (view, stamps)
}

/// The state that a body makes from another.
struct Next<'a> {
    layout: &'a Layout,
    base: &'a State,
    tick: Tick,
    view: NetView,
    stamps: Vec<Tick>,
    /// Known entities end here in `view`; new ones follow.
    known: usize,
    /// Slots of known entities that are gone, ascending.
    removed: Vec<u32>,
}

impl<'a> Next<'a> {
    fn new(layout: &'a Layout, base: &'a State, tick: Tick) -> Self {
        let view = NetView { tick, ..NetView::default() };
        Self { layout, base, tick, view, stamps: Vec::new(), known: 0, removed: Vec::new() }
    }

    fn push(&mut self, entity: NetEntity, stamp: Tick) {
        self.view.entities.push(entity);
        self.stamps.push(stamp);
    }

    /// New entities stand behind the known ones: brings all into the order of their slots.
    fn finish(self) -> (NetView, Vec<Tick>) {
        let stride = self.layout.stride();
        let entities = &self.view.entities;
        if self.known == entities.len() || self.known == 0 {
            return (self.view, self.stamps);
        }
        let mut order: Vec<usize> = (0..entities.len()).collect();
        order.sort_by_key(|&index| entities[index].slot);
        let mut view = NetView { tick: self.tick, ..NetView::default() };
        view.values.reserve(self.view.values.len());
        for &index in &order {
            view.entities.push(entities[index]);
            view.values.extend_from_slice(self.view.row(index, stride));
        }
        (view, order.iter().map(|&index| self.stamps[index]).collect())
    }
}

impl Sink for Next<'_> {
    fn components(&self, known: usize) -> u32 {
        self.base.view.entities[known].components
    }

    fn generation(&self, known: usize) -> u32 {
        self.base.view.entities[known].generation
    }

    fn old(&self, known: usize) -> (&[u32], u64) {
        let row = self.base.view.row(known, self.layout.stride());
        (row, self.tick.0 - self.base.stamps[known].0)
    }

    fn keep(&mut self, known: usize) {
        self.view.values.extend_from_slice(self.base.view.row(known, self.layout.stride()));
        self.push(self.base.view.entities[known], self.base.stamps[known]);
        self.known = self.view.entities.len();
    }

    fn update(&mut self, known: usize, row: &[u32]) {
        self.view.values.extend_from_slice(row);
        self.push(self.base.view.entities[known], self.tick);
        self.known = self.view.entities.len();
    }

    fn remove(&mut self, known: usize) {
        self.removed.push(self.base.view.entities[known].slot);
    }

    fn replace(&mut self, known: usize, generation: u32, components: u32, row: &[u32]) {
        self.view.values.extend_from_slice(row);
        self.push(
            NetEntity { slot: self.base.view.entities[known].slot, generation, components },
            self.tick,
        );
        self.known = self.view.entities.len();
    }

    fn insert(
        &mut self,
        slot: u32,
        generation: u32,
        components: u32,
        row: &[u32],
    ) -> Result<(), SnapshotError> {
        if self.view.entities.len() >= MAX_ENTITIES {
            return Err(SnapshotError::Malformed("more than 8192 entities"));
        }
        if self.view.entities[..self.known]
            .binary_search_by_key(&slot, |entity| entity.slot)
            .is_ok()
        {
            return Err(SnapshotError::Malformed("a new entity in a slot that is taken"));
        }
        self.view.values.extend_from_slice(row);
        self.push(NetEntity { slot, generation, components }, self.tick);
        Ok(())
    }
}
