//! Reads bodies in Rice codes, and the parts that are plain bits in both codings. Called by the
//! receiver.

use crate::bits::{BitReader, GetBits};
use crate::body::item::{COUNT_K, RARE_K, SLOT_K, SUCCESSOR_K};
use crate::body::models::{Models, next_bit};
use crate::layout::Layout;
use crate::snapshot::SnapshotError;

/// Reads a set of `0..len` into `set`, which is replaced.
fn get_set(len: usize, bits: &mut impl GetBits, set: &mut Vec<bool>) -> Result<(), SnapshotError> {
    set.clear();
    if len == 0 {
        return Ok(());
    }
    let inverse = bits.get(1)? == 1;
    let k = bits.get(4)?;
    while set.len() < len {
        let gap = bits.rice(k)? as usize;
        if gap > len - set.len() {
            return Err(SnapshotError::Malformed("a member behind the end of a set"));
        }
        set.resize(set.len() + gap, inverse);
        if set.len() < len {
            set.push(!inverse);
        }
    }
    Ok(())
}

/// What the decoder tells its caller: known entities ascending, then new entities ascending.
pub(crate) trait Sink {
    /// The components of a known entity.
    fn components(&self, known: usize) -> u32;
    /// The generation of a known entity.
    fn generation(&self, known: usize) -> u32;
    /// The row of a known entity, and how many ticks ago it was carried.
    fn old(&self, known: usize) -> (&[u32], u64);
    /// A known entity stays as it is.
    fn keep(&mut self, known: usize);
    /// A known entity changed: its row is `row`.
    fn update(&mut self, known: usize, row: &[u32]);
    /// A known entity is gone.
    fn remove(&mut self, known: usize);
    /// Another entity stands in the slot of a known one.
    fn replace(&mut self, known: usize, generation: u32, components: u32, row: &[u32]);
    /// A new entity.
    fn insert(
        &mut self,
        slot: u32,
        generation: u32,
        components: u32,
        row: &[u32],
    ) -> Result<(), SnapshotError>;
}

/// A known entity that is replaced: its index, and generation, components and row of what stands in
/// its place.
pub(super) type Successor = (usize, u32, u32, Vec<u32>);

/// Reads which known entities are `gone`, which is replaced, and returns what stands in the place
/// of those that are replaced.
pub(super) fn get_gone(
    layout: &Layout,
    known: usize,
    bits: &mut impl GetBits,
    sink: &impl Sink,
    gone: &mut Vec<bool>,
) -> Result<Vec<Successor>, SnapshotError> {
    get_set(known, bits, gone)?;
    let mut row = vec![0; layout.stride()];
    let mut successors = Vec::new();
    for at in (0..known).filter(|&at| gone[at]) {
        if bits.get(1)? == 1 {
            let generation = sink.generation(at).wrapping_add(bits.rice(SUCCESSOR_K)?);
            let components = read_entity(layout, &mut row, bits)?;
            successors.push((at, generation, components, row.clone()));
        }
    }
    Ok(successors)
}

/// Reads a body against `known` entities.
pub(super) fn decode(
    layout: &Layout,
    known: usize,
    bytes: &[u8],
    sink: &mut impl Sink,
) -> Result<(), SnapshotError> {
    let mut bits = BitReader::new(bytes);
    let mut row = vec![0; layout.stride()];
    let (mut gone, mut changed, mut rare) = (Vec::new(), Vec::new(), Vec::new());
    // Replacements stand before the updates in the stream, but between them in the list.
    let successors = get_gone(layout, known, &mut bits, sink, &mut gone)?;
    let staying = known - gone.iter().filter(|&&gone| gone).count();
    get_set(staying, &mut bits, &mut changed)?;
    get_set(changed.iter().filter(|&&changed| changed).count(), &mut bits, &mut rare)?;
    let mut models = Models::default();
    let (mut successors, mut changed, mut rare) =
        (successors.into_iter().peekable(), changed.into_iter(), rare.into_iter());
    for (at, gone) in gone.into_iter().enumerate() {
        if gone {
            match successors.next_if(|successor| successor.0 == at) {
                Some((_, generation, components, row)) => {
                    sink.replace(at, generation, components, &row);
                }
                None => sink.remove(at),
            }
        } else if changed.next() == Some(true) {
            let components = sink.components(at);
            let index = models.find(layout, components);
            let model = &mut models.list[index];
            model.get(&mut bits)?;
            row.fill(0);
            for &(at, code) in &model.codes {
                row[at as usize] = code.get(&mut bits)?;
            }
            if rare.next() == Some(true) {
                let mut left = model.present & !model.hot;
                while let Some(at) = next_bit(&mut left) {
                    if bits.get(1)? == 1 {
                        row[at] = bits.rice(RARE_K)?.wrapping_add(1);
                    }
                }
            }
            let (old, ticks) = sink.old(at);
            layout.apply(components, ticks, old, &mut row);
            sink.update(at, &row);
        } else {
            sink.keep(at);
        }
    }
    get_new(layout, &mut row, &mut bits, sink)?;
    if bits.at_end() {
        Ok(())
    } else {
        Err(SnapshotError::Malformed("bits behind the last entity"))
    }
}

/// Reads the entities that were not known.
pub(super) fn get_new(
    layout: &Layout,
    row: &mut [u32],
    bits: &mut impl GetBits,
    sink: &mut impl Sink,
) -> Result<(), SnapshotError> {
    let new = bits.rice(COUNT_K)?;
    let mut next = Some(0u32);
    for _ in 0..new {
        let gap = bits.rice(SLOT_K)?;
        let slot = next
            .and_then(|next| next.checked_add(gap))
            .ok_or(SnapshotError::Malformed("a slot above 32 bits"))?;
        next = slot.checked_add(1);
        let width = bits.get(6)?;
        if width > 32 {
            return Err(SnapshotError::Malformed("a generation above 32 bits"));
        }
        let generation = bits.get(width)?;
        let components = read_entity(layout, row, bits)?;
        sink.insert(slot, generation, components, row)?;
    }
    Ok(())
}

fn read_entity(
    layout: &Layout,
    row: &mut [u32],
    bits: &mut impl GetBits,
) -> Result<u32, SnapshotError> {
    row.fill(0);
    let components = bits.get(layout.components)?;
    let mut left = layout.present(components);
    while let Some(at) = next_bit(&mut left) {
        if bits.get(1)? == 1 {
            row[at] = bits.get(layout.columns[at].bits)?;
        }
    }
    Ok(components)
}
