//! Storage of one component type.
//!
//! | part | changes |
//! |---|---|
//! | presence, one bit per slot | between stages only |
//! | stamp of addition, page by page | between stages only |
//! | stamp of the last change, page by page | at any time, through [`Mut`](crate::Mut) |
//! | values, page by page | at any time, by one system |
//!
//! A page is 64 slots, as the bits of one presence word, and exists once one of its slots has had
//! the component: a rare component in a big world costs one bit per slot. Slots without the
//! component hold its initial value. The pages that exist lie one behind the other, ascending, so
//! that a loop over many entities reads memory from front to back.

mod accepted;
mod canonical;
mod changes;
mod places;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;

use rekindle_schema::delta::DeltaWriter;
use rekindle_schema::net::NetEntity;

use crate::storage::column::accepted::Accepted;
use crate::storage::column::places::Places;
pub(crate) use crate::storage::column::places::place;
use crate::storage::entities::Entities;
use crate::storage::layout::{Before, PageMark};
use crate::storage::stamp::{Stamp, StampOf, age};
use crate::value::component::Component;
use crate::value::entity::Entity;
use crate::value::{DecodeError, Reader, Value};

/// Slots of a page.
pub(crate) const PAGE: usize = 64;

/// Room for so many pages is made at once when a column is read.
const FEW_PAGES: usize = 16;

const _: () = assert!(PAGE == u64::BITS as usize, "a page is what a word of presence bits names");

/// Storage of one component type.
pub struct Column<T> {
    pub(crate) present: Vec<u64>,
    /// Where the slots of each page lie in `values`, `added` and `changed`.
    pub(crate) places: Places,
    pub(crate) added: Vec<Stamp>,
    pub(crate) changed: Vec<Cell<Stamp>>,
    pub(crate) values: RefCell<Vec<T>>,
    /// Of a component that does not accept all values: those that the slots had when they were
    /// last checked. Always the values themselves between ticks, so they are in no checkpoint.
    accepted: Accepted<T>,
    /// Boxes for values that hooks are told of, kept for their memory.
    boxes: Vec<Box<dyn Any + Send>>,
}

impl<T: Component> Column<T> {
    pub(crate) fn new() -> Self {
        Self {
            present: Vec::new(),
            places: Places::default(),
            added: Vec::new(),
            changed: Vec::new(),
            values: RefCell::new(Vec::new()),
            accepted: Accepted::default(),
            boxes: Vec::new(),
        }
    }

    /// Makes sure that the page of a slot exists; where the slot lies.
    fn make(&mut self, slot: usize) -> usize {
        let page = slot / PAGE;
        if page >= self.present.len() {
            self.present.resize(page + 1, 0);
        }
        if let Some(at) = self.places.of(slot) {
            return at;
        }
        let start = self.places.add(page);
        places::open(self.values.get_mut(), start, T::initial);
        places::open(&mut self.added, start, || 0);
        places::open(&mut self.changed, start, || Cell::new(0));
        start + slot % PAGE
    }

    /// Sets the component of a slot; whether it is new there.
    pub(crate) fn insert(&mut self, slot: usize, value: T, now: Stamp) -> bool {
        let (page, bit, at) = (slot / PAGE, slot % PAGE, self.make(slot));
        self.values.get_mut()[at] = value;
        let changed = self.changed[at].replace(now);
        debug_assert!(changed <= now, "slot {slot} is changed with stamp {now} after {changed}");
        let new = self.present[page] >> bit & 1 == 0;
        if new {
            self.added[at] = now;
            self.present[page] |= 1 << bit;
        }
        new
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<(&mut T, &Cell<Stamp>)> {
        let at = self.place(slot)?;
        Some((self.values.get_mut().get_mut(at)?, self.changed.get(at)?))
    }

    pub(crate) fn take(&mut self, slot: usize) -> Option<T> {
        let at = self.place(slot)?;
        self.accepted.forget(slot);
        self.present[slot / PAGE] &= !(1 << (slot % PAGE));
        Some(std::mem::replace(self.values.get_mut().get_mut(at)?, T::initial()))
    }
}

impl<T> Column<T> {
    #[inline]
    pub(crate) fn has(&self, slot: usize) -> bool {
        self.present.get(slot / PAGE).is_some_and(|word| word >> (slot % PAGE) & 1 == 1)
    }

    /// Where the component of a slot lies in `values`, `added` and `changed`; none if the slot has
    /// no component.
    #[inline]
    pub(crate) fn place(&self, slot: usize) -> Option<usize> {
        if self.has(slot) { self.places.of(slot) } else { None }
    }

    /// The stamps of change of a page, also of slots without the component; none if there is no
    /// such page.
    pub(crate) fn changed_in(&self, page: usize) -> Option<&[Cell<Stamp>; PAGE]> {
        self.changed.get(self.places.of(page * PAGE)?..)?.first_chunk()
    }

    /// The stamps of addition of a page, in the same way.
    pub(crate) fn added_in(&self, page: usize) -> Option<&[Stamp; PAGE]> {
        self.added.get(self.places.of(page * PAGE)?..)?.first_chunk()
    }

    /// Whether no slot of a page has a stamp of change that is newer than `last`.
    pub(crate) fn still_since(&self, page: usize, last: Stamp) -> bool {
        let newer = |any, stamp: &Cell<Stamp>| any | (stamp.get() > last);
        self.changed_in(page).is_none_or(|stamps| !stamps.iter().fold(false, newer))
    }

    /// The slots of a page that have the component, as bits.
    #[inline]
    pub(crate) fn presence(&self, page: usize) -> u64 {
        self.present.get(page).copied().unwrap_or(0)
    }

    /// The pages with anything in them: number and presence.
    pub(crate) fn pages(&self) -> impl Iterator<Item = (usize, u64)> {
        self.present.iter().copied().enumerate().filter(|(_, present)| *present != 0)
    }

    /// The bits of a page whose stamp of this sort is newer than `last`.
    pub(crate) fn newer(&self, page: usize, last: Stamp, of: StampOf) -> u64 {
        let present = bits(self.presence(page));
        let mark = |mask, (stamp, bit): (Stamp, usize)| mask | u64::from(stamp > last) << bit;
        match of {
            StampOf::Addition => self
                .added_in(page)
                .map_or(0, |stamps| present.map(|bit| (stamps[bit], bit)).fold(0, mark)),
            StampOf::Change => self
                .changed_in(page)
                .map_or(0, |stamps| present.map(|bit| (stamps[bit].get(), bit)).fold(0, mark)),
        }
    }
}

/// The set bits of a word, ascending.
#[inline]
pub(crate) fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = word.trailing_zeros() as usize;
        word &= word.wrapping_sub(1);
        (bit < 64).then_some(bit)
    })
}

/// The slots that words of bits name, ascending: bit `i % 64` of word `i / 64` names slot `i`.
pub(crate) fn slots(words: &[u64]) -> impl Iterator<Item = usize> {
    words.iter().enumerate().flat_map(|(page, word)| bits(*word).map(move |bit| page * PAGE + bit))
}

/// A value that a component does not accept.
pub(crate) struct Refused {
    pub(crate) slot: usize,
    /// When it was written.
    pub(crate) stamp: Stamp,
    pub(crate) problem: String,
    /// The component has its former value again; otherwise it had none, and goes.
    pub(crate) kept: bool,
}

/// A column without its type.
pub(crate) trait AnyColumn: Any + Send {
    fn as_any(&self) -> &dyn Any;
    fn as_any_mut(&mut self) -> &mut dyn Any;
    /// Takes presence, stamps and values from a column of the same type.
    fn copy_from(&mut self, other: &dyn AnyColumn);
    /// Takes presence alone, for filters: it has no values then to which that leads.
    fn copy_presence_from(&mut self, other: &dyn AnyColumn);
    /// Which slots have the component: bit `i % 64` of word `i / 64`.
    fn present(&self) -> &[u64];
    /// Whether a slot has the component.
    fn holds(&self, slot: usize) -> bool;
    /// The slots of a page whose stamp of this sort is newer than `last`, as bits.
    fn newer_in(&self, page: usize, last: Stamp, of: StampOf) -> u64;
    /// Gives a slot that has no component the initial one; whether it had none.
    fn insert_initial(&mut self, slot: usize, now: Stamp) -> bool;
    /// The entity that the component of a slot names, if it is a relation.
    fn target(&self, slot: usize) -> Option<Entity>;
    /// Checks what was changed after `since`. A value that is not accepted becomes again what it
    /// was; tells slot, stamp of the change and problem of each.
    fn validate(&mut self, since: Stamp) -> Vec<Refused>;
    /// Drops the component of a slot; whether it was there.
    fn remove(&mut self, slot: usize) -> bool;
    /// As `remove`; the value that the component had.
    fn take_boxed(&mut self, slot: usize) -> Option<Box<dyn Any + Send>>;
    /// Takes such a box back, whose value nobody needs any more: the next one is put into it.
    fn give_back(&mut self, boxed: Box<dyn Any + Send>);
    /// Whether any entry has a stamp of this sort that is newer than `last`.
    fn any_newer(&self, last: Stamp, of: StampOf) -> bool;
    /// All stamps of change that are newer than `last`.
    fn changes_after(&self, last: Stamp) -> BTreeSet<Stamp>;
    /// Brings into canonical form the values that were changed after `since`.
    fn canonicalise(&mut self, since: Stamp);
    /// Moves all stamps down by an era.
    fn age(&mut self);
    /// Appends the canonical bytes, and where each page lies in them.
    fn encode(&self, out: &mut Vec<u8>, marks: Option<&mut Vec<PageMark>>);
    /// Writes what leads from the bytes of a base to those that `encode` appends, and where each
    /// page lies in them.
    fn encode_changes(
        &self,
        before: &Before<'_>,
        writer: &mut DeltaWriter<'_>,
        marks: &mut Vec<PageMark>,
    );
    /// Reads what `encode` wrote, into an empty column.
    fn decode(&mut self, input: &mut Reader<'_>, entities: &Entities) -> Result<(), DecodeError>;
    /// As `decode`, for values whose bytes `convert` brings into today's form.
    fn decode_with(
        &mut self,
        input: &mut Reader<'_>,
        entities: &Entities,
        convert: &mut dyn FnMut(&mut Reader<'_>) -> Result<Vec<u8>, String>,
    ) -> Result<(), String>;
    /// Writes the quanta of those `entities` whose bit `place` is set: row by row `stride` values,
    /// from `offset` within each row.
    fn extract(
        &self,
        entities: &[NetEntity],
        place: usize,
        stride: usize,
        offset: usize,
        out: &mut [u32],
    );
    /// Appends the value of a slot.
    fn encode_slot(&self, slot: usize, out: &mut Vec<u8>) -> bool;
}

impl<T: Component> AnyColumn for Column<T> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn as_any_mut(&mut self) -> &mut dyn Any {
        self
    }

    fn copy_from(&mut self, other: &dyn AnyColumn) {
        if let Some(other) = other.as_any().downcast_ref::<Self>() {
            self.present.clone_from(&other.present);
            self.places.copy_from(&other.places);
            self.added.clone_from(&other.added);
            self.changed.clone_from(&other.changed);
            self.values.get_mut().clone_from(&*other.values.borrow());
        }
    }

    fn copy_presence_from(&mut self, other: &dyn AnyColumn) {
        self.present.clear();
        self.present.extend_from_slice(other.present());
    }

    fn present(&self) -> &[u64] {
        &self.present
    }

    fn holds(&self, slot: usize) -> bool {
        self.has(slot)
    }

    fn newer_in(&self, page: usize, last: Stamp, of: StampOf) -> u64 {
        self.newer(page, last, of)
    }

    fn insert_initial(&mut self, slot: usize, now: Stamp) -> bool {
        !self.has(slot) && self.insert(slot, T::initial(), now)
    }

    fn validate(&mut self, since: Stamp) -> Vec<Refused> {
        let mut refused = Vec::new();
        let values = self.values.get_mut();
        for (page, present) in self.present.iter().enumerate() {
            let Some(range) = self.places.range(page) else { continue };
            let (stamps, values) = (&self.changed[range.clone()], &mut values[range]);
            for bit in bits(*present) {
                let stamp = stamps[bit].get();
                if stamp <= since {
                    continue;
                }
                let (slot, value) = (page * PAGE + bit, &mut values[bit]);
                // What is accepted is what a restored world has: the canonical form.
                value.canonicalise();
                match (value.validate(), self.accepted.place(slot)) {
                    (Ok(()), Some(known)) => known.clone_from(value),
                    (Ok(()), accepted @ None) => *accepted = Some(value.clone()),
                    (Err(problem), accepted) => {
                        let kept = accepted.is_some();
                        refused.push(Refused { slot, stamp, problem, kept });
                        if let Some(before) = accepted {
                            value.clone_from(before);
                        }
                    }
                }
            }
        }
        refused
    }

    fn target(&self, slot: usize) -> Option<Entity> {
        self.with(slot, T::target)?
    }

    fn remove(&mut self, slot: usize) -> bool {
        self.take(slot).is_some()
    }

    fn take_boxed(&mut self, slot: usize) -> Option<Box<dyn Any + Send>> {
        let value = self.take(slot)?;
        let mut spare = self.boxes.pop();
        if let Some(place) = spare.as_mut().and_then(|boxed| boxed.downcast_mut()) {
            *place = value;
            return spare;
        }
        Some(Box::new(value))
    }

    fn give_back(&mut self, boxed: Box<dyn Any + Send>) {
        self.boxes.push(boxed);
    }

    fn any_newer(&self, last: Stamp, of: StampOf) -> bool {
        (0..self.present.len()).any(|page| self.newer(page, last, of) != 0)
    }

    fn changes_after(&self, last: Stamp) -> BTreeSet<Stamp> {
        let of_page = |(page, present)| {
            let stamps = self.changed_in(page);
            stamps.into_iter().flat_map(move |stamps| bits(present).map(|bit| stamps[bit].get()))
        };
        let stamps = self.pages().flat_map(of_page);
        stamps.filter(|stamp| *stamp > last).collect()
    }

    fn canonicalise(&mut self, since: Stamp) {
        self.canonicalise_after(since);
    }

    fn age(&mut self) {
        self.added.iter_mut().for_each(age);
        self.changed.iter_mut().for_each(|stamp| age(stamp.get_mut()));
    }

    fn encode(&self, out: &mut Vec<u8>, mut marks: Option<&mut Vec<PageMark>>) {
        let values = self.values.borrow();
        (self.pages().count() as u32).encode(out);
        for (page, present) in self.pages() {
            let start = out.len() as u32;
            encode_page_head(page, present, out);
            let (Some(range), Some(added_at), Some(changed_at)) =
                (self.places.range(page), self.added_in(page), self.changed_in(page))
            else {
                missing(page)
            };
            let values = &values[range];
            bits(present).for_each(|bit| values[bit].encode(out));
            let added = out.len() as u32;
            encode_stamps(present, |bit| added_at[bit], out);
            let changed = out.len() as u32;
            encode_stamps(present, |bit| changed_at[bit].get(), out);
            if let Some(marks) = &mut marks {
                marks.push(PageMark {
                    page: page as u32,
                    start,
                    added,
                    changed,
                    end: out.len() as u32,
                });
            }
        }
    }

    fn encode_changes(
        &self,
        before: &Before<'_>,
        writer: &mut DeltaWriter<'_>,
        marks: &mut Vec<PageMark>,
    ) {
        self.write_changes(before, writer, marks);
    }

    fn decode(&mut self, input: &mut Reader<'_>, entities: &Entities) -> Result<(), DecodeError> {
        self.decode_pages(input, entities, |input| T::decode(input))
    }

    fn decode_with(
        &mut self,
        input: &mut Reader<'_>,
        entities: &Entities,
        convert: &mut dyn FnMut(&mut Reader<'_>) -> Result<Vec<u8>, String>,
    ) -> Result<(), String> {
        let mut problem = None;
        let result = self.decode_pages(input, entities, |input| match convert(input) {
            Ok(bytes) => crate::value::from_bytes(&bytes),
            Err(error) => {
                problem = Some(error);
                Err(DecodeError::Invalid("conversion failed"))
            }
        });
        result.map_err(|error| problem.unwrap_or_else(|| error.to_string()))
    }

    fn extract(
        &self,
        entities: &[NetEntity],
        place: usize,
        stride: usize,
        offset: usize,
        out: &mut [u32],
    ) {
        let values = self.values.borrow();
        for (entity, row) in entities.iter().zip(out.chunks_exact_mut(stride)) {
            let slot = entity.slot as usize;
            if entity.components >> place & 1 == 1 {
                let Some(at) = self.places.of(slot) else { missing(slot / PAGE) };
                values[at].to_quanta(&mut row[offset..]);
            }
        }
    }

    fn encode_slot(&self, slot: usize, out: &mut Vec<u8>) -> bool {
        self.with(slot, |value| value.encode(out)).is_some()
    }
}

impl<T: Component> Column<T> {
    pub(crate) fn with<R>(&self, slot: usize, read: impl FnOnce(&T) -> R) -> Option<R> {
        self.values.borrow().get(self.place(slot)?).map(read)
    }

    /// Reads what `encode` wrote, into an empty column; `read` reads the values.
    pub(crate) fn decode_pages<E: From<DecodeError>>(
        &mut self,
        input: &mut Reader<'_>,
        entities: &Entities,
        mut read: impl FnMut(&mut Reader<'_>) -> Result<T, E>,
    ) -> Result<(), E> {
        let mut next = 0;
        let pages = input.count(12)?;
        // A small world needs no more memory than this; what a big one claims is not believed.
        let room = pages.min(FEW_PAGES) * PAGE;
        self.values.get_mut().reserve_exact(room);
        self.added.reserve_exact(room);
        self.changed.reserve_exact(room);
        for _ in 0..pages {
            let page = u32::decode(input)? as usize;
            let present = u64::decode(input)?;
            let alive = entities.words().get(page).copied().unwrap_or(0);
            if page < next || present == 0 || present & !alive != 0 {
                return Err(DecodeError::Invalid(
                    "a component belongs to no entity, or its pages do not ascend",
                )
                .into());
            }
            next = page + 1;
            let values = self.values.get_mut();
            places::room(values);
            for bit in 0..PAGE {
                let present = present >> bit & 1 == 1;
                let value = if present { read(input)? } else { T::initial() };
                if T::VALIDATES && present {
                    *self.accepted.place(page * PAGE + bit) = Some(value.clone());
                }
                values.push(value);
            }
            places::room(&mut self.added);
            self.added.extend(decode_stamps(present, input)?);
            places::room(&mut self.changed);
            self.changed.extend(decode_stamps(present, input)?.map(Cell::new));
            self.places.add(page);
            self.present.resize(page, 0);
            self.present.push(present);
        }
        Ok(())
    }
}

/// A page has entities and no storage. Encoding must not go on: it has written how many pages
/// there are, and would write fewer.
#[cold]
pub(crate) fn missing(page: usize) -> ! {
    panic!("page {page} of a column has entities, but neither values nor stamps");
}

pub(crate) fn encode_page_head(page: usize, present: u64, out: &mut Vec<u8>) {
    (page as u32).encode(out);
    present.encode(out);
}

/// One byte 0 and the one stamp that all have, or one byte 1 and each one's stamp.
pub(crate) fn encode_stamps(present: u64, stamp: impl Fn(usize) -> Stamp, out: &mut Vec<u8>) {
    let first = stamp(present.trailing_zeros() as usize);
    let equal = bits(present).all(|bit| stamp(bit) == first);
    out.push(u8::from(!equal));
    if equal {
        first.encode(out);
    } else {
        bits(present).for_each(|bit| stamp(bit).encode(out));
    }
}

/// Stamps of a page; what slots without the component have does not matter.
fn decode_stamps(present: u64, input: &mut Reader<'_>) -> Result<[Stamp; PAGE], DecodeError> {
    if !bool::decode(input)? {
        return Ok([u32::decode(input)?; PAGE]);
    }
    let mut stamps = [0; PAGE];
    let bytes = input.slice(4 * present.count_ones() as usize)?;
    for (bit, bytes) in bits(present).zip(bytes.chunks_exact(4)) {
        stamps[bit] = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    Ok(stamps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::game::doc_game::Coin;

    fn column() -> Column<Coin> {
        let mut column = Column::new();
        column.insert(3, Coin { worth: 7 }, 10);
        column.insert(70, Coin { worth: 8 }, 11);
        column
    }

    /// Presence bits without a page: the bug that encoding once passed over in silence.
    fn broken() -> Column<Coin> {
        let mut column = column();
        column.places.lose(1);
        column
    }

    #[test]
    fn pages_come_in_order_with_their_stamps() {
        let column = column();
        assert_eq!(column.pages().map(|(page, _)| page).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(column.newer(0, 9, StampOf::Change), 1 << 3);
        assert_eq!(column.newer(1, 11, StampOf::Addition), 0);
    }

    #[test]
    #[should_panic(expected = "page 1 of a column has entities")]
    fn an_impossible_page_is_not_encoded() {
        broken().encode(&mut Vec::new(), None);
    }

    #[test]
    #[should_panic(expected = "page 1 of a column has entities")]
    fn an_impossible_page_is_in_no_snapshot() {
        let entity = NetEntity { slot: 70, generation: 0, components: 1 };
        broken().extract(&[entity], 0, 1, 0, &mut [0]);
    }

    #[test]
    #[should_panic(expected = "slot 3 is changed with stamp 9 after 10")]
    fn a_stamp_that_goes_back_is_noticed() {
        column().insert(3, Coin { worth: 1 }, 9);
    }
}
