//! What a snapshot has to say: the world compared with what the client knows, and what the client
//! knows once it has the snapshot.

use rekindle_schema::Tick;
use rekindle_schema::net::{NetEntity, NetView};

use crate::bodies::Known;
use crate::body::{Change, Coding, Item, MAX_ENTITIES};
use crate::deltas::{Delta, Deltas};
use crate::history::ViewHistory;
use crate::layout::{Layout, MAX_EXTRAPOLATION};
use crate::sight::{Seen, all, some};

/// How many ticks `now` is after the tick whose low bits are `low`: at most 2^32 - 1.
fn age(now: Tick, low: u32) -> u64 {
    u64::from((now.0 as u32).wrapping_sub(low))
}

/// New ones go behind the known ones, both ascending.
fn sort(items: &mut [Item]) {
    items.sort_by_key(|item| (item.known.is_none(), item.slot));
}

/// Parts the removal of an entity from the appearance of its successor in the slot, so that the
/// first is not deferred with the second.
pub(super) fn part_replacements(items: &mut Vec<Item>) {
    for index in 0..items.len() {
        if items[index].is_successor() {
            let successor = Item { known: None, cost: items[index].cost + 16, ..items[index] };
            items.push(successor);
            items[index] = Item { change: Change::Remove, cost: 1, ..items[index] };
        }
    }
    sort(items);
}

/// Compares the world with what the client knows.
pub(super) struct Plan<'a> {
    layout: &'a Layout,
    view: &'a NetView,
    history: &'a ViewHistory,
    tick: Tick,
    pub(super) items: Vec<Item>,
    /// New entities: they go behind the known ones.
    new: Vec<Item>,
    deltas: &'a mut Deltas,
    /// The view that the last known entity was found in.
    old: Option<&'a NetView>,
    pub(super) visible: usize,
}

impl<'a> Plan<'a> {
    /// `items` are emptied: only their memory is used again.
    pub(super) fn new(
        layout: &'a Layout,
        view: &'a NetView,
        history: &'a ViewHistory,
        deltas: &'a mut Deltas,
        items: Vec<Item>,
    ) -> Self {
        let tick = view.tick;
        Self { layout, view, history, tick, items, new: Vec::new(), deltas, old: None, visible: 0 }
    }

    pub(super) fn compare(&mut self, known: &[Known], seen: Seen<'a>) {
        match seen.entries() {
            None => self.compare_with(known, all(seen.view)),
            Some(entries) => self.compare_with(known, some(seen.view, entries)),
        }
    }

    #[inline]
    fn compare_with(&mut self, known: &[Known], seen: impl Iterator<Item = (u32, &'a NetEntity)>) {
        self.items.clear();
        let mut old = known.iter().enumerate().peekable();
        for (entry, entity) in seen {
            while let Some((at, gone)) = old.next_if(|(_, known)| known.slot < entity.slot) {
                self.remove(at, gone);
            }
            let found = old.next_if(|(_, known)| known.slot == entity.slot);
            if self.visible == MAX_ENTITIES {
                if let Some((at, gone)) = found {
                    self.remove(at, gone);
                }
                continue;
            }
            self.visible += 1;
            let item = Item {
                known: found.map(|(at, _)| at as u32),
                view: entry,
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
                    self.update(item, known);
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
                    let entity = view.entry(known.row as usize);
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
pub(super) fn remember(
    layout: &Layout,
    coding: Coding,
    known: &[Known],
    seen: Seen<'_>,
    items: &[Item],
    next: &mut Vec<Known>,
) {
    let Seen { view, .. } = seen;
    match seen.entries() {
        None => remember_with(layout, coding, known, (view, all(view)), items, next),
        Some(entries) => {
            remember_with(layout, coding, known, (view, some(view, entries)), items, next);
        }
    }
}

#[inline]
fn remember_with<'a>(
    layout: &Layout,
    coding: Coding,
    known: &[Known],
    (view, mut seen): (&NetView, impl Iterator<Item = (u32, &'a NetEntity)>),
    items: &[Item],
    next: &mut Vec<Known>,
) {
    next.clear();
    let tick = view.tick;
    let now = tick.0 as u32;
    let sent = |item: &Item| Known {
        slot: item.slot,
        generation: item.generation,
        row: item.view,
        as_of: now,
        stamp: now,
        moves: coding == Coding::Range
            && layout.moves(item.components, view.row(item.view as usize, layout.stride())),
    };
    let mut changes = items.iter().take_while(|item| item.known.is_some()).peekable();
    let mut new = items.iter().filter(|item| item.known.is_none() && !item.deferred).peekable();
    let mut current = seen.next();
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
                while current.is_some_and(|(_, entity)| entity.slot < old.slot) {
                    current = seen.next();
                }
                let (row, entity) = current.expect("what stays is in the sight");
                // Where it was carried last no longer matters once nothing is expected of it. Then
                // it is the same for all clients.
                let expects = layout.expects(entity.components, age(tick, old.stamp));
                let stamp =
                    if expects { old.stamp } else { now.wrapping_sub(MAX_EXTRAPOLATION as u32) };
                next.push(Known { row, as_of: now, stamp, ..*old });
            }
        }
    }
    next.extend(new.map(sent));
    debug_assert!(
        next.is_sorted_by(|a, b| a.slot < b.slot),
        "what a client knows ascends by slot, each once"
    );
}
