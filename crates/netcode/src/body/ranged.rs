//! Bodies whose residuals are range coded: each bit by what both ends foresee of it.
//!
//! Removals, replacements and new entities are plain bits, as in the other coding: they are few.
//! Called by the sender through [`super::Packer`] and by the receiver.

use crate::bits::{GetBits, PutBits};
use crate::body::Parts;
use crate::body::contexts::{Moving, Place, Set, Sets, Turn};
use crate::body::decode::{Sink, get_gone, get_new};
use crate::body::encode::{put_gone, put_new};
use crate::body::item::Item;
use crate::layout::{Layout, Phase};
use crate::range::{Chance, RangeReader, RangeWriter};
use crate::snapshot::SnapshotError;

/// That any known entity went or was replaced, and that there are new ones.
const SELDOM: Chance = Chance::new(4_096);

/// What foresees whether a known entity changed: by whether it moves, and whether the one before
/// that moves likewise did.
struct Flags {
    chances: [Chance; 4],
    before: [bool; 2],
}

impl Flags {
    fn new() -> Self {
        let (rests, moves) = (Chance::new(6_500), Chance::new(59_000));
        Self { chances: [rests, rests, moves, moves], before: [false; 2] }
    }

    #[inline]
    fn code<E>(
        &mut self,
        moves: bool,
        code: impl FnOnce(&mut Chance) -> Result<bool, E>,
    ) -> Result<bool, E> {
        let moves = usize::from(moves);
        let before = usize::from(self.before[moves]);
        let changed = code(&mut self.chances[moves * 2 + before])?;
        self.before[moves] = changed;
        Ok(changed)
    }
}

/// The column that was coded before in the same row: its component, if its residual was not 0.
#[derive(Default)]
struct Before(Option<u32>);

impl Before {
    #[inline]
    fn new(component: u32, residual: u32) -> Self {
        Self((residual != 0).then_some(component))
    }

    #[inline]
    fn is(&self, component: u32) -> bool {
        self.0 == Some(component)
    }
}

/// What the receiver knows of an entity.
struct Old<'a> {
    components: u32,
    row: &'a [u32],
    /// How many ticks ago it was carried.
    ticks: u64,
}

/// See [`super::Packer::encode`].
pub(super) fn encode(
    layout: &Layout,
    sets: &mut Sets,
    items: &mut [Item],
    parts: &Parts<'_, impl Fn(usize) -> bool>,
    out: &mut Vec<u8>,
) {
    let Parts { known, ref moves, residuals, rows } = *parts;
    let mut bits = RangeWriter::new(out);
    let gone = items.iter().filter(|item| item.goes()).count();
    bits.bit(&mut SELDOM.clone(), gone > 0);
    if gone > 0 {
        let mut list = vec![false; known];
        items.iter().filter(|item| item.goes()).filter_map(|item| item.known).for_each(|at| {
            list[at as usize] = true;
        });
        put_gone(layout, (known, gone), |at| list[at], items, rows, &mut bits);
    }
    sets.start();
    let mut flags = Flags::new();
    let width = layout.width();
    let mut known_items = items.iter_mut().take_while(|item| item.known.is_some()).peekable();
    for at in 0..known {
        let item = known_items.next_if(|item| item.known == Some(at as u32));
        let item = item.filter(|item| !item.deferred);
        let update = item.as_ref().and_then(|item| item.update());
        if item.is_some() && update.is_none() {
            continue;
        }
        let changed = update.is_some();
        let Ok(_) = flags.code(moves(at), |chance| {
            bits.bit(chance, changed);
            Ok::<_, std::convert::Infallible>(changed)
        });
        if let (Some(item), Some((row, _))) = (item, update) {
            let before = bits.position();
            let row = &residuals[row as usize * width..][..width];
            let set = sets.find(layout, item.components);
            bits.locally(|bits| put_row(layout, set, row, bits));
            item.cost = bits.position().saturating_sub(before) as u32;
        }
    }
    let new = items.iter().any(|item| !item.deferred && item.known.is_none());
    bits.bit(&mut SELDOM.clone(), new);
    if new {
        put_new(layout, items, rows, &mut bits);
    }
    bits.finish();
}

/// The residuals of an update.
fn put_row(layout: &Layout, set: &mut Set, row: &[u32], bits: &mut RangeWriter<'_>) {
    let Set { steady, moving, chances, .. } = set;
    let (residuals, phases) = row.split_at(layout.stride());
    let mut before = Before::default();
    for &Turn { at, component } in steady.iter() {
        let place = layout.template.steady(at, before.is(component));
        put_residual(residuals[at], place, chances, bits);
        before = Before::new(component, residuals[at]);
    }
    for &Moving { turn: Turn { at, component }, index, rate } in moving.iter() {
        let (again, rate) = (before.is(component), residuals[rate]);
        let place = layout.template.moving(at, again, rate, Phase(phases[index]));
        put_residual(residuals[at], place, chances, bits);
        before = Before::new(component, residuals[at]);
    }
}

#[expect(clippy::inline_always, reason = "measured: the writer stays in registers")]
#[inline(always)]
fn put_residual(value: u32, place: Place, chances: &mut [Chance], bits: &mut RangeWriter<'_>) {
    bits.bit(&mut chances[place.changes], value != 0);
    if value == 0 {
        return;
    }
    bits.bit(&mut chances[place.negative], value & 1 == 1);
    let size = ((value - 1) >> 1) + 1;
    let digits = size.ilog2();
    for at in 0..digits {
        bits.bit(&mut chances[place.longer(at)], true);
    }
    bits.bit(&mut chances[place.longer(digits)], false);
    if digits > 0 {
        let left = digits - 1;
        bits.bit(&mut chances[place.digit(digits)], size >> left & 1 == 1);
        bits.put(size & ((1 << left) - 1), left);
    }
}

/// Reads a body against `known` entities.
pub(super) fn decode(
    layout: &Layout,
    known: usize,
    bytes: &[u8],
    sink: &mut impl Sink,
) -> Result<(), SnapshotError> {
    let mut bits = RangeReader::new(bytes);
    let (mut gone, mut successors) = (vec![false; known], Vec::new());
    if bits.bit(&mut SELDOM.clone())? {
        successors = get_gone(layout, known, &mut bits, sink, &mut gone)?;
    }
    let mut successors = successors.into_iter().peekable();
    let (mut sets, mut flags) = (Sets::default(), Flags::new());
    let (mut row, mut residuals) = (vec![0; layout.stride()], vec![0; layout.stride()]);
    for (at, gone) in gone.into_iter().enumerate() {
        if gone {
            match successors.next_if(|successor| successor.0 == at) {
                Some((_, generation, components, row)) => {
                    sink.replace(at, generation, components, &row);
                }
                None => sink.remove(at),
            }
            continue;
        }
        let components = sink.components(at);
        let (old, ticks) = sink.old(at);
        let moves = layout.moves(components, old);
        if flags.code(moves, |chance| bits.bit(chance))? {
            let set = sets.find(layout, components);
            let old = Old { components, row: old, ticks };
            get_row(layout, set, &old, &mut residuals, &mut row, &mut bits)?;
            sink.update(at, &row);
        } else {
            sink.keep(at);
        }
    }
    if bits.bit(&mut SELDOM.clone())? {
        get_new(layout, &mut row, &mut bits, sink)?;
    }
    if bits.at_end() {
        Ok(())
    } else {
        Err(SnapshotError::Malformed("bytes behind the last entity"))
    }
}

/// Reads an update of `old` into `row`. Both `row` and `residuals` are replaced.
fn get_row(
    layout: &Layout,
    set: &mut Set,
    known: &Old<'_>,
    residuals: &mut [u32],
    row: &mut [u32],
    bits: &mut RangeReader<'_>,
) -> Result<(), SnapshotError> {
    let Set { steady, moving, chances, .. } = set;
    residuals.fill(0);
    let mut before = Before::default();
    for &Turn { at, component } in steady.iter() {
        let place = layout.template.steady(at, before.is(component));
        residuals[at] = get_residual(place, chances, bits)?;
        before = Before::new(component, residuals[at]);
    }
    row.copy_from_slice(residuals);
    layout.apply_steady(known.row, row);
    for &Moving { turn: Turn { at, component }, index, rate } in moving.iter() {
        let expected = layout.expect(index, known.components, known.ticks, known.row, row);
        let (again, rate) = (before.is(component), residuals[rate]);
        let place = layout.template.moving(at, again, rate, expected.phase);
        row[at] = get_residual(place, chances, bits)?;
        before = Before::new(component, row[at]);
        layout.apply_moving(index, expected, row);
    }
    Ok(())
}

#[inline]
fn get_residual(
    place: Place,
    chances: &mut [Chance],
    bits: &mut RangeReader<'_>,
) -> Result<u32, SnapshotError> {
    if !bits.bit(&mut chances[place.changes])? {
        return Ok(0);
    }
    let negative = bits.bit(&mut chances[place.negative])?;
    let mut digits = 0;
    while bits.bit(&mut chances[place.longer(digits)])? {
        digits += 1;
        if digits == 32 {
            return Err(SnapshotError::Malformed("a residual above 32 bits"));
        }
    }
    let mut size = 1u32;
    if digits > 0 {
        size = 2 | u32::from(bits.bit(&mut chances[place.digit(digits)])?);
        size = size << (digits - 1) | bits.get(digits - 1)?;
    }
    Ok((size.wrapping_mul(2)).wrapping_sub(u32::from(negative)))
}
