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
//! component hold its initial value.

mod accepted;
mod changes;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ops::Range;

use rekindle_schema::delta::DeltaWriter;
use rekindle_schema::net::NetEntity;

use crate::storage::column::accepted::Accepted;
use crate::storage::entities::Entities;
use crate::storage::layout::{Before, PageMark};
use crate::storage::stamp::{Stamp, StampOf, age};
use crate::value::component::Component;
use crate::value::entity::Entity;
use crate::value::{DecodeError, Reader, Value};

/// Slots of a page.
pub(crate) const PAGE: usize = 64;

const _: () = assert!(PAGE == u64::BITS as usize, "a page is what a word of presence bits names");

/// Stamps of a page.
#[derive(Debug, Clone)]
pub(crate) struct Stamps {
    pub(crate) added: [Stamp; PAGE],
    pub(crate) changed: [Cell<Stamp>; PAGE],
}

impl Stamps {
    /// No slot has a stamp of change that is newer than `last`.
    pub(crate) fn still_since(&self, last: Stamp) -> bool {
        self.changed.iter().fold(0, |newest, stamp| newest.max(stamp.get())) <= last
    }
}

impl Default for Stamps {
    fn default() -> Self {
        Self { added: [0; PAGE], changed: [const { Cell::new(0) }; PAGE] }
    }
}

/// Values of a column, page by page.
pub(crate) type Pages<T> = Vec<Option<Box<[T]>>>;

/// Storage of one component type.
pub struct Column<T> {
    pub(crate) present: Vec<u64>,
    pub(crate) stamps: Vec<Option<Box<Stamps>>>,
    pub(crate) values: RefCell<Pages<T>>,
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
            stamps: Vec::new(),
            values: RefCell::new(Vec::new()),
            accepted: Accepted::default(),
            boxes: Vec::new(),
        }
    }

    /// Makes sure that a page exists, and returns its values and stamps.
    fn page(&mut self, page: usize) -> (&mut [T], &mut Stamps) {
        let values = self.values.get_mut();
        if page >= values.len() {
            values.resize_with(page + 1, || None);
            self.stamps.resize_with(page + 1, || None);
            self.present.resize(page + 1, 0);
        }
        let values = values[page].get_or_insert_with(|| (0..PAGE).map(|_| T::initial()).collect());
        (values, self.stamps[page].get_or_insert_default())
    }

    /// Sets the component of a slot; whether it is new there.
    pub(crate) fn insert(&mut self, slot: usize, value: T, now: Stamp) -> bool {
        let (page, bit) = (slot / PAGE, slot % PAGE);
        let (values, stamps) = self.page(page);
        values[bit] = value;
        debug_assert!(
            stamps.changed[bit].get() <= now,
            "slot {slot} is changed with stamp {now} after {}",
            stamps.changed[bit].get()
        );
        stamps.changed[bit].set(now);
        let new = self.present[page] >> bit & 1 == 0;
        if new {
            self.stamps[page].get_or_insert_default().added[bit] = now;
            self.present[page] |= 1 << bit;
        }
        new
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, slot: usize) -> Option<(&mut T, &Cell<Stamp>)> {
        let (page, bit) = (slot / PAGE, slot % PAGE);
        if !self.has(slot) {
            return None;
        }
        let value = self.values.get_mut().get_mut(page)?.as_mut()?.get_mut(bit)?;
        Some((value, &self.stamps.get(page)?.as_ref()?.changed[bit]))
    }

    pub(crate) fn take(&mut self, slot: usize) -> Option<T> {
        let (page, bit) = (slot / PAGE, slot % PAGE);
        if !self.has(slot) {
            return None;
        }
        self.accepted.forget(slot);
        self.present[page] &= !(1 << bit);
        let value = self.values.get_mut().get_mut(page)?.as_mut()?.get_mut(bit)?;
        Some(std::mem::replace(value, T::initial()))
    }
}

impl<T> Column<T> {
    #[inline]
    pub(crate) fn has(&self, slot: usize) -> bool {
        self.present.get(slot / PAGE).is_some_and(|word| word >> (slot % PAGE) & 1 == 1)
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
        let (Some(present), Some(Some(stamps))) = (self.present.get(page), self.stamps.get(page))
        else {
            return 0;
        };
        let mut mask = 0;
        for bit in bits(*present) {
            let stamp = match of {
                StampOf::Addition => stamps.added[bit],
                StampOf::Change => stamps.changed[bit].get(),
            };
            mask |= u64::from(stamp > last) << bit;
        }
        mask
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

/// The runs of set bits of a word, ascending.
#[inline]
pub(crate) fn runs(mut word: u64) -> impl Iterator<Item = Range<usize>> {
    std::iter::from_fn(move || {
        let run = first_run(word)?;
        word &= !bits_of(&run);
        Some(run)
    })
}

/// The first run of set bits of a word.
#[inline]
pub(crate) fn first_run(word: u64) -> Option<Range<usize>> {
    let start = word.trailing_zeros();
    let length = word.checked_shr(start)?.trailing_ones();
    Some(start as usize..(start + length) as usize)
}

/// A word in which the bits of a run are set; the run is not empty.
#[inline]
pub(crate) fn bits_of(run: &Range<usize>) -> u64 {
    u64::MAX >> (PAGE - run.len()) << run.start
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
            self.stamps.clone_from(&other.stamps);
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
        let pages = self.present.iter().zip(&self.stamps).zip(self.values.get_mut());
        for (page, ((present, stamps), values)) in pages.enumerate() {
            let (Some(stamps), Some(values)) = (stamps, values) else { continue };
            for bit in bits(*present) {
                let stamp = stamps.changed[bit].get();
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
        let pages = self.present.iter().zip(&self.stamps);
        let of_page = |(present, stamps): (&u64, &Option<Box<Stamps>>)| {
            let stamps = stamps
                .iter()
                .flat_map(|stamps| bits(*present).map(|bit| stamps.changed[bit].get()));
            stamps.filter(|stamp| *stamp > last).collect::<Vec<_>>()
        };
        pages.flat_map(of_page).collect()
    }

    fn canonicalise(&mut self, since: Stamp) {
        if !T::CANONICALISES {
            return;
        }
        let pages = self.present.iter().zip(&self.stamps).zip(self.values.get_mut());
        for ((present, stamps), values) in pages {
            let (Some(stamps), Some(values)) = (stamps, values) else { continue };
            for run in runs(*present) {
                let (stamps, values) = (&stamps.changed[run.clone()], &mut values[run]);
                // Mostly all neighbours were changed: a loop without conditions is fastest.
                if stamps.iter().all(|stamp| stamp.get() > since) {
                    values.iter_mut().for_each(T::canonicalise);
                } else {
                    let changed = values.iter_mut().zip(stamps).filter(|(_, at)| at.get() > since);
                    changed.for_each(|(value, _)| value.canonicalise());
                }
            }
        }
    }

    fn age(&mut self) {
        for stamps in self.stamps.iter_mut().flatten() {
            stamps.added.iter_mut().for_each(age);
            stamps.changed.iter_mut().for_each(|stamp| age(stamp.get_mut()));
        }
    }

    fn encode(&self, out: &mut Vec<u8>, mut marks: Option<&mut Vec<PageMark>>) {
        let values = self.values.borrow();
        (self.pages().count() as u32).encode(out);
        for (page, present) in self.pages() {
            let start = out.len() as u32;
            encode_page_head(page, present, out);
            let (Some(values), Some(stamps)) = (&values[page], &self.stamps[page]) else {
                missing(page);
            };
            bits(present).for_each(|bit| values[bit].encode(out));
            let added = out.len() as u32;
            encode_stamps(present, |bit| stamps.added[bit], out);
            let changed = out.len() as u32;
            encode_stamps(present, |bit| stamps.changed[bit].get(), out);
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
        let pages = self.values.borrow();
        for (entity, row) in entities.iter().zip(out.chunks_exact_mut(stride)) {
            let slot = entity.slot as usize;
            if entity.components >> place & 1 == 1 {
                let Some(Some(values)) = pages.get(slot / PAGE) else { missing(slot / PAGE) };
                values[slot % PAGE].to_quanta(&mut row[offset..]);
            }
        }
    }

    fn encode_slot(&self, slot: usize, out: &mut Vec<u8>) -> bool {
        self.with(slot, |value| value.encode(out)).is_some()
    }
}

impl<T: Component> Column<T> {
    pub(crate) fn with<R>(&self, slot: usize, read: impl FnOnce(&T) -> R) -> Option<R> {
        if !self.has(slot) {
            return None;
        }
        self.values.borrow().get(slot / PAGE)?.as_ref()?.get(slot % PAGE).map(read)
    }

    /// Reads what `encode` wrote, into an empty column; `read` reads the values.
    pub(crate) fn decode_pages<E: From<DecodeError>>(
        &mut self,
        input: &mut Reader<'_>,
        entities: &Entities,
        mut read: impl FnMut(&mut Reader<'_>) -> Result<T, E>,
    ) -> Result<(), E> {
        let mut next = 0;
        for _ in 0..input.count(12)? {
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
            let mut values = Vec::with_capacity(PAGE);
            for bit in 0..PAGE {
                values.push(if present >> bit & 1 == 1 { read(input)? } else { T::initial() });
            }
            if T::VALIDATES {
                for bit in bits(present) {
                    *self.accepted.place(page * PAGE + bit) = Some(values[bit].clone());
                }
            }
            let added = decode_stamps(present, input)?;
            let changed = decode_stamps(present, input)?.map(Cell::new);
            self.values.get_mut().resize_with(page, || None);
            self.values.get_mut().push(Some(values.into_boxed_slice()));
            self.stamps.resize_with(page, || None);
            self.stamps.push(Some(Box::new(Stamps { added, changed })));
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
        column.values.get_mut()[1] = None;
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
    fn runs_of_a_word_are_its_bits() {
        for word in [0, 1, 1 << 63, u64::MAX, 0x8000_0000_ffff_0ff1, u64::MAX >> 1, u64::MAX << 1] {
            let of_runs: Vec<usize> = runs(word).flatten().collect();
            assert_eq!(of_runs, bits(word).collect::<Vec<_>>());
            assert_eq!(runs(word).fold(0, |all, run| all | bits_of(&run)), word);
        }
        assert_eq!(runs(u64::MAX).count(), 1);
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
