//! The bit-packed part of a snapshot: which of the known entities changed, went or were replaced, and which are new.
//!
//! Both ends hold the same list of known entities (the baseline), ascending by slot; the body walks it. Called by the sender and the
//! receiver, knows nothing of ticks, budgets or interest.

use crate::bits::{BitReader, BitWriter};
use crate::layout::Layout;
use crate::snapshot::SnapshotError;

/// Most entities that one client knows at a time.
pub const MAX_ENTITIES: usize = 8192;

/// Rice parameters of rare things.
const COLD_K: u32 = 2;
const SLOT_K: u32 = 3;
const GENERATION_K: u32 = 2;
const COUNT_K: u32 = 2;

/// What happened to a known entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It has other values: a row of residuals and the mask of those that are not 0.
    Update { residuals: u32, changed: u128 },
    /// It is gone, or out of sight.
    Remove,
    /// Another entity has its slot, or it has other components: row of the view.
    Replace,
}

/// One line of the body, as the sender sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    /// Index in the list of known entities; for new ones, none.
    pub(crate) known: Option<u32>,
    /// Index in the view; none for removals.
    pub(crate) view: u32,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    pub(crate) components: u32,
    pub(crate) change: Change,
    /// A replacement by another entity, not the same one with other components.
    pub(crate) other: bool,
    /// It waits for a later snapshot.
    pub(crate) deferred: bool,
    /// What it took, in bits, without the gap in front of it.
    pub(crate) cost: u32,
}

/// How the residuals of one snapshot are coded: chosen by the encoder from the residuals, told to the decoder.
#[derive(Debug, Default, Clone)]
pub(crate) struct Model {
    /// Columns that every update carries, with their Rice parameter.
    hot: u128,
    k: Vec<u8>,
    /// Rice parameter of the gaps between changes.
    gap_k: u32,
    count: Vec<u32>,
    sum: Vec<u64>,
}

/// The Rice parameter for `count` values that add up to `sum`.
fn parameter(sum: u64, count: u64) -> u32 {
    // 0.7 is about ln 2: the best parameter for geometrically distributed values.
    let mean = sum * 7 / (count.max(1) * 10);
    if mean == 0 { 0 } else { (mean.ilog2() + 1).min(15) }
}

impl Model {
    /// Fits the model to the items that are not deferred.
    pub(crate) fn fit(&mut self, layout: &Layout, known: usize, items: &[Item], residuals: &[u32]) {
        let stride = layout.stride();
        self.count.clear();
        self.count.resize(stride, 0);
        self.sum.clear();
        self.sum.resize(stride, 0);
        self.k.clear();
        self.k.resize(stride, 0);
        let mut having = [0u32; 32];
        let mut changes = 0u64;
        for item in items.iter().filter(|item| !item.deferred && item.known.is_some()) {
            changes += 1;
            let Change::Update { residuals: row, mut changed } = item.change else { continue };
            for_each_bit(u128::from(item.components), |component| having[component] += 1);
            let row = &residuals[row as usize * stride..][..stride];
            while changed != 0 {
                let at = changed.trailing_zeros() as usize;
                changed &= changed - 1;
                self.count[at] += 1;
                self.sum[at] += u64::from(row[at]);
            }
        }
        self.hot = 0;
        for (at, column) in layout.columns.iter().enumerate() {
            let having = having[column.component as usize];
            if self.count[at] * 4 > having {
                self.hot |= 1 << at;
                self.k[at] = parameter(self.sum[at], u64::from(having)) as u8;
            }
        }
        self.gap_k = gap_parameter(known, changes);
    }

    /// Keeps the fit, but for `changes` of the known entities only.
    pub(crate) fn thin_out(&mut self, known: usize, changes: usize) {
        self.gap_k = gap_parameter(known, changes as u64);
    }

    /// Bits that the gap in front of each change takes, and those that all gaps take besides: together an upper bound.
    pub(crate) fn gap_bits(&self, known: usize) -> (usize, usize) {
        (1 + self.gap_k as usize, (known >> self.gap_k) + 1 + self.gap_k as usize)
    }
}

fn gap_parameter(known: usize, changes: u64) -> u32 {
    parameter((known as u64).saturating_sub(changes), changes + 1)
}

#[inline]
fn for_each_bit(mut mask: u128, mut f: impl FnMut(usize)) {
    while mask != 0 {
        f(mask.trailing_zeros() as usize);
        mask &= mask - 1;
    }
}

/// Appends the body and notes what each item took. `rows` is the view, row by row.
pub(crate) fn encode(layout: &Layout, model: &Model, known: usize, items: &mut [Item], residuals: &[u32], rows: &[u32], out: &mut Vec<u8>) {
    let stride = layout.stride();
    let mut bits = BitWriter::new(out);
    if known > 0 {
        bits.put(model.gap_k, 4);
        let updates = items.iter().any(|item| !item.deferred && matches!(item.change, Change::Update { .. }));
        bits.put(u32::from(updates), 1);
        if updates {
            for at in 0..stride {
                let hot = model.hot & (1 << at) != 0;
                bits.put(u32::from(hot), 1);
                if hot {
                    bits.put(u32::from(model.k[at]), 4);
                }
            }
        }
        let mut next = 0;
        for item in items.iter_mut().filter(|item| !item.deferred) {
            let Some(at) = item.known else { continue };
            bits.rice(at - next, model.gap_k);
            next = at + 1;
            let before = bits.position();
            match item.change {
                Change::Update { residuals: row, changed } => {
                    bits.put(0, 1);
                    update(layout, model, item.components, changed, &residuals[row as usize * stride..][..stride], &mut bits);
                }
                Change::Remove => bits.put(0b01, 2),
                Change::Replace => {
                    bits.put(0b11, 2);
                    entity(layout, item, &rows[item.view as usize * stride..][..stride], &mut bits);
                }
            }
            item.cost = (bits.position() - before) as u32;
        }
        if (next as usize) < known {
            bits.rice(known as u32 - next, model.gap_k);
        }
    }
    let new = items.iter().filter(|item| !item.deferred && item.known.is_none()).count();
    bits.rice(new as u32, COUNT_K);
    let mut next = 0;
    for item in items.iter_mut().filter(|item| !item.deferred && item.known.is_none()) {
        let before = bits.position();
        bits.rice(item.slot - next, SLOT_K);
        next = item.slot.wrapping_add(1);
        entity(layout, item, &rows[item.view as usize * stride..][..stride], &mut bits);
        item.cost = (bits.position() - before) as u32;
    }
    bits.finish();
}

#[inline]
fn update(layout: &Layout, model: &Model, components: u32, changed: u128, row: &[u32], bits: &mut BitWriter<'_>) {
    let present = layout.present(components);
    for_each_bit(model.hot & present, |at| bits.rice(row[at], u32::from(model.k[at])));
    let cold = present & !model.hot;
    let rare = changed & cold;
    bits.put(u32::from(rare != 0), 1);
    if rare != 0 {
        for_each_bit(cold, |at| {
            let set = rare & (1 << at) != 0;
            bits.put(u32::from(set), 1);
            if set {
                bits.rice(row[at] - 1, COLD_K);
            }
        });
    }
}

fn entity(layout: &Layout, item: &Item, row: &[u32], bits: &mut BitWriter<'_>) {
    bits.rice(item.generation, GENERATION_K);
    bits.put(item.components, layout.components);
    for_each_bit(layout.present(item.components), |at| {
        bits.put(u32::from(row[at] != 0), 1);
        if row[at] != 0 {
            bits.put(row[at], layout.columns[at].bits);
        }
    });
}

/// What the decoder tells its caller, in this order: changes of known entities ascending, then new entities ascending.
pub(crate) trait Sink {
    /// The known entities from `from` up to `to` stay as they are.
    fn keep(&mut self, from: usize, to: usize);
    /// The components of a known entity.
    fn components(&self, known: usize) -> u32;
    /// A known entity changed: `row` are residuals.
    fn update(&mut self, known: usize, row: &[u32]);
    /// A known entity is gone.
    fn remove(&mut self, known: usize);
    /// Another entity stands in the slot of a known one.
    fn replace(&mut self, known: usize, generation: u32, components: u32, row: &[u32]);
    /// A new entity.
    fn insert(&mut self, slot: u32, generation: u32, components: u32, row: &[u32]) -> Result<(), SnapshotError>;
}

/// Reads a body against `known` entities.
pub(crate) fn decode(layout: &Layout, known: usize, bytes: &[u8], sink: &mut impl Sink) -> Result<(), SnapshotError> {
    let stride = layout.stride();
    let mut bits = BitReader::new(bytes);
    let mut row = vec![0; stride];
    if known > 0 {
        let gap_k = bits.get(4)?;
        let mut hot = 0u128;
        let mut k = [0u32; 128];
        let updates = bits.get(1)? == 1;
        if updates {
            for (at, k) in k.iter_mut().enumerate().take(stride) {
                if bits.get(1)? == 1 {
                    hot |= 1 << at;
                    *k = bits.get(4)?;
                }
            }
        }
        let mut next = 0;
        while next < known {
            let gap = bits.rice(gap_k)? as usize;
            let at = next.saturating_add(gap);
            if at > known {
                return Err(SnapshotError::Malformed("a change behind the last known entity"));
            }
            sink.keep(next, at);
            if at == known {
                break;
            }
            next = at + 1;
            if bits.get(1)? == 0 {
                if !updates {
                    return Err(SnapshotError::Malformed("an update where none was announced"));
                }
                read_update(layout, hot, &k, sink.components(at), &mut row, &mut bits)?;
                sink.update(at, &row);
            } else if bits.get(1)? == 0 {
                sink.remove(at);
            } else {
                let (generation, components) = read_entity(layout, &mut row, &mut bits)?;
                sink.replace(at, generation, components, &row);
            }
        }
    }
    let new = bits.rice(COUNT_K)?;
    let mut next = 0u32;
    for index in 0..new {
        let gap = bits.rice(SLOT_K)?;
        let slot = next.checked_add(gap).filter(|&slot| index == 0 || slot >= next && next != 0);
        let slot = slot.ok_or(SnapshotError::Malformed("slots that do not rise"))?;
        next = slot.wrapping_add(1);
        let (generation, components) = read_entity(layout, &mut row, &mut bits)?;
        sink.insert(slot, generation, components, &row)?;
    }
    if bits.at_end() { Ok(()) } else { Err(SnapshotError::Malformed("bits behind the last entity")) }
}

#[inline]
fn read_update(
    layout: &Layout,
    hot: u128,
    k: &[u32; 128],
    components: u32,
    row: &mut [u32],
    bits: &mut BitReader<'_>,
) -> Result<(), SnapshotError> {
    row.fill(0);
    let present = layout.present(components);
    let mut left = present & hot;
    while left != 0 {
        let at = left.trailing_zeros() as usize;
        left &= left - 1;
        row[at] = bits.rice(k[at])?;
    }
    if bits.get(1)? == 1 {
        let mut left = present & !hot;
        while left != 0 {
            let at = left.trailing_zeros() as usize;
            left &= left - 1;
            if bits.get(1)? == 1 {
                row[at] = bits.rice(COLD_K)?.wrapping_add(1);
            }
        }
    }
    Ok(())
}

fn read_entity(layout: &Layout, row: &mut [u32], bits: &mut BitReader<'_>) -> Result<(u32, u32), SnapshotError> {
    row.fill(0);
    let generation = bits.rice(GENERATION_K)?;
    let components = bits.get(layout.components)?;
    let mut left = layout.present(components);
    while left != 0 {
        let at = left.trailing_zeros() as usize;
        left &= left - 1;
        if bits.get(1)? == 1 {
            row[at] = bits.get(layout.columns[at].bits)?;
        }
    }
    Ok((generation, components))
}
