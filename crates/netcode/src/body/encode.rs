//! Writes bodies in Rice codes, and the parts that are plain bits in both codings. Called by the
//! sender.

use crate::bits::{BitWriter, PutBits};
use crate::body::Parts;
use crate::body::item::{COUNT_K, Change, Item, RARE_K, SLOT_K, SUCCESSOR_K};
use crate::body::models::{Models, for_each_bit, parameter};
use crate::layout::Layout;

/// Writes which of `0..len` are in a set, as the distances between the members or, if those are
/// more than half, between the others.
fn put_set(len: usize, members: usize, contains: impl Fn(usize) -> bool, bits: &mut impl PutBits) {
    if len == 0 {
        return;
    }
    let inverse = members * 2 > len;
    let listed = if inverse { len - members } else { members };
    let k = parameter((len - listed) as u64, listed as u64 + 1);
    bits.put(u32::from(inverse), 1);
    bits.put(k, 4);
    let mut next = 0;
    for at in (0..len).filter(|&at| contains(at) != inverse) {
        bits.rice((at - next) as u32, k);
        next = at + 1;
    }
    if next < len {
        bits.rice((len - next) as u32, k);
    }
}

/// The most bits that one more member takes in the sets that name it.
pub(crate) fn set_bits(known: usize, changes: usize) -> usize {
    2 * (1 + parameter(known.saturating_sub(changes) as u64, changes as u64 + 1) as usize)
}

/// See [`super::Packer::encode`].
pub(super) fn encode<M>(
    layout: &Layout,
    models: &mut Models,
    items: &mut [Item],
    parts: &Parts<'_, M>,
    out: &mut Vec<u8>,
) {
    let Parts { known, residuals, rows, .. } = *parts;
    let mut bits = BitWriter::new(out);
    models.restart();
    put_known(layout, models, known, items, rows, &mut bits);
    put_updates(layout, models, items, residuals, &mut bits);
    put_new(layout, items, rows, &mut bits);
    bits.finish();
}

/// The row of the entity that an item is of, in the view.
#[inline]
fn row<'a>(layout: &Layout, rows: &'a [u32], item: &Item) -> &'a [u32] {
    let stride = layout.stride();
    &rows[item.view as usize * stride..][..stride]
}

/// Which known entities are gone, and what stands in the place of those that are replaced.
pub(super) fn put_gone(
    layout: &Layout,
    (known, gone): (usize, usize),
    is_gone: impl Fn(usize) -> bool,
    items: &mut [Item],
    rows: &[u32],
    bits: &mut impl PutBits,
) {
    put_set(known, gone, is_gone, bits);
    for item in items.iter_mut().filter(|item| item.goes()) {
        let before = bits.position();
        bits.put(u32::from(item.change == Change::Replace), 1);
        if item.change == Change::Replace {
            bits.rice(item.generation.wrapping_sub(item.predecessor), SUCCESSOR_K);
            entity(layout, item.components, row(layout, rows, item), bits);
        }
        item.cost = bits.position().saturating_sub(before) as u32;
    }
}

/// Which known entities are gone, replaced or changed; and those that stand in the place of one.
fn put_known(
    layout: &Layout,
    models: &mut Models,
    known: usize,
    items: &mut [Item],
    rows: &[u32],
    bits: &mut BitWriter<'_>,
) {
    // Per known entity: 0 stays, 1 changes, 2 changes in rare columns, 3 goes.
    let mut states = std::mem::take(&mut models.states);
    states.clear();
    states.resize(known, 0);
    let (mut gone, mut changed, mut rare) = (0, 0, 0);
    for item in items.iter().filter(|item| !item.deferred) {
        let Some(at) = item.known else { break };
        states[at as usize] = match item.update() {
            None => 3,
            Some((_, columns)) => {
                1 + u8::from(columns & !models.list[item.model as usize].hot != 0)
            }
        };
        match states[at as usize] {
            3 => gone += 1,
            state => (changed, rare) = (changed + 1, rare + usize::from(state == 2)),
        }
    }
    put_gone(layout, (known, gone), |at| states[at] == 3, items, rows, bits);
    states.retain(|&state| state != 3);
    put_set(states.len(), changed, |at| states[at] != 0, bits);
    states.retain(|&state| state != 0);
    put_set(states.len(), rare, |at| states[at] == 2, bits);
    models.states = states;
}

/// The residuals of the known entities that changed. A model stands in front of
/// the first entity that needs it.
fn put_updates(
    layout: &Layout,
    models: &mut Models,
    items: &mut [Item],
    residuals: &[u32],
    bits: &mut BitWriter<'_>,
) {
    let width = layout.width();
    for item in items.iter_mut() {
        let Some((row, changed)) = item.update() else { continue };
        let model = &mut models.list[item.model as usize];
        model.put(bits);
        let before = bits.position();
        let row = &residuals[row as usize * width..][..width];
        model.codes.iter().for_each(|&(at, code)| code.put(row[at as usize], bits));
        if changed & !model.hot != 0 {
            for_each_bit(model.present & !model.hot, |at| {
                let set = changed & (1 << at) != 0;
                bits.put(u32::from(set), 1);
                if set {
                    bits.rice(row[at] - 1, RARE_K);
                }
            });
        }
        item.cost = (bits.position() - before) as u32;
    }
}

/// The entities that the client does not know.
pub(super) fn put_new(layout: &Layout, items: &mut [Item], rows: &[u32], bits: &mut impl PutBits) {
    let new = items.iter().filter(|item| !item.deferred && item.known.is_none()).count();
    bits.rice(new as u32, COUNT_K);
    let mut next = 0;
    for item in items.iter_mut().filter(|item| !item.deferred && item.known.is_none()) {
        let before = bits.position();
        bits.rice(item.slot - next, SLOT_K);
        next = item.slot.wrapping_add(1);
        let width = 32 - item.generation.leading_zeros();
        bits.put(width, 6);
        bits.put(item.generation, width);
        entity(layout, item.components, row(layout, rows, item), bits);
        item.cost = bits.position().saturating_sub(before) as u32;
    }
}

fn entity(layout: &Layout, components: u32, row: &[u32], bits: &mut impl PutBits) {
    bits.put(components, layout.components);
    for_each_bit(layout.present(components), |at| {
        bits.put(u32::from(row[at] != 0), 1);
        if row[at] != 0 {
            bits.put(row[at], layout.columns[at].bits);
        }
    });
}
