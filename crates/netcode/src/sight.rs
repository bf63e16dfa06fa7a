//! What one client gets of a view: its sight, with the margin decided.
//!
//! Who may see what is decided before a view comes here ([`rekindle_schema::net::Sight`]); what is
//! at the margin of sight depends on the client's last snapshot. Used by the sender, which encodes
//! nothing else.

use rekindle_schema::PlayerId;
use rekindle_schema::net::{NetEntity, NetView, Sight};

/// The entries of a view that one client gets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) view: &'a NetView,
    /// Numbers of entries, ascending by slot. None: the view's own entities.
    entries: Option<&'a [u32]>,
    /// Clients with equal numbers see the same of this view. None: nobody else does.
    pub(crate) shared: Option<u32>,
}

/// The number of the sight of all who see the view's own entities.
const PUBLIC: u32 = u32::MAX;

/// All of a view's own entities with their numbers, ascending.
#[inline]
pub(crate) fn all(view: &NetView) -> impl Iterator<Item = (u32, &NetEntity)> {
    (0..).zip(&view.entities)
}

/// Some entries of a view.
#[inline]
pub(crate) fn some<'a>(
    view: &'a NetView,
    entries: &'a [u32],
) -> impl Iterator<Item = (u32, &'a NetEntity)> {
    let entity = |number: u32| view.entry(number as usize).map(|entity| (number, entity));
    entries.iter().filter_map(move |&number| entity(number))
}

impl<'a> Seen<'a> {
    /// The numbers of the entries, ascending by slot. None: the view's own entities.
    pub(crate) fn entries(self) -> Option<&'a [u32]> {
        self.entries
    }

    /// The entry of the entity in a slot.
    pub(crate) fn find(self, slot: u32) -> Option<u32> {
        let Some(entries) = self.entries else {
            return self.view.index_of(slot).map(|index| index as u32);
        };
        let slot_of = |&number: &u32| self.view.entry(number as usize).map(|entity| entity.slot);
        entries.binary_search_by_key(&Some(slot), slot_of).ok().map(|place| entries[place])
    }
}

/// Slots and generations of the entities that a client's last snapshot was of, ascending.
pub(crate) type LastSeen = Vec<(u32, u32)>;

impl<'a> Seen<'a> {
    /// What the client of `viewer` gets of a view. `entries` is memory for a sight whose margin has
    /// to be decided.
    pub(crate) fn of(
        view: &'a NetView,
        viewer: Option<PlayerId>,
        last: &LastSeen,
        entries: &'a mut Vec<u32>,
    ) -> Self {
        let Some((number, sight)) = view.sight(viewer) else {
            return Self { view, entries: None, shared: Some(PUBLIC) };
        };
        if sight.margin.is_empty() {
            return Self { view, entries: Some(&sight.entries), shared: Some(number) };
        }
        decide(view, sight, last, entries);
        Self { view, entries: Some(entries), shared: None }
    }

    /// Notes what the client was sent.
    pub(crate) fn note(self, last: &mut LastSeen) {
        last.clear();
        // Nobody asks for it where everybody sees everything.
        if self.view.restricted.is_none() {
            return;
        }
        let name = |(_, entity): (u32, &NetEntity)| (entity.slot, entity.generation);
        match self.entries {
            None => last.extend(all(self.view).map(name)),
            Some(entries) => last.extend(some(self.view, entries).map(name)),
        }
    }
}

/// Takes the entries of a sight, of those at its margin only the ones that the client was shown.
fn decide(view: &NetView, sight: &Sight, last: &LastSeen, entries: &mut Vec<u32>) {
    entries.clear();
    let mut margin = sight.margin.iter().peekable();
    let shown = |number: u32| {
        view.entry(number as usize)
            .is_some_and(|entity| last.binary_search(&(entity.slot, entity.generation)).is_ok())
    };
    for &number in &sight.entries {
        if margin.next_if_eq(&&number).is_none() || shown(number) {
            entries.push(number);
        }
    }
}
