//! The values of a column in canonical form, at the end of each tick.
//!
//! Called by the world through [`AnyColumn::canonicalise`].
//!
//! [`AnyColumn::canonicalise`]: crate::storage::column::AnyColumn::canonicalise

use std::cell::Cell;

use crate::storage::column::{Column, bits};
use crate::storage::stamp::Stamp;
use crate::value::component::Component;

/// So many stamps are looked at in one go for one that is newer.
const FEW: usize = 16;

impl<T: Component> Column<T> {
    /// Brings into canonical form the values that were changed after `since`; the others have it.
    ///
    /// Loops without conditions over a whole page, which the compiler makes into few instructions,
    /// mostly tell that there is nothing to do: nothing was changed, or all values have the form.
    /// Slots without the component have values too.
    pub(super) fn canonicalise_after(&mut self, since: Stamp) {
        if !T::CANONICALISES {
            return;
        }
        let newer = |stamp: &Cell<Stamp>| stamp.get() > since;
        let any = |few: &[Cell<Stamp>]| few.iter().fold(false, |any, stamp| any | newer(stamp));
        let values = self.values.get_mut();
        for (page, present) in self.present.iter().enumerate() {
            let Some(range) = self.places.range(page) else { continue };
            let (stamps, values) = (&self.changed[range.clone()], &mut values[range]);
            if !stamps.chunks(FEW).any(any)
                || values.iter().fold(true, |all, value| all & value.is_canonical())
            {
                continue;
            }
            for bit in bits(*present).filter(|bit| newer(&stamps[*bit])) {
                values[bit].canonicalise();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::game::doc_game::Position;
    use crate::value::Value as _;

    #[test]
    fn what_was_changed_gets_its_form_and_nothing_else_is_touched() {
        let strange = f32::from_bits(0xffc1_2345);
        let mut formed = Position { x: strange, y: 1.0 };
        formed.canonicalise();
        let (known, canonical) = (strange.to_bits(), formed.x.to_bits());
        let mut column = Column::new();
        for slot in [0, 1, 63, 64, 200, 201] {
            let stamp = if slot % 2 == 0 { 10 } else { 11 };
            column.insert(slot, Position { x: strange, y: 1.0 }, stamp);
        }
        column.insert(1_000, Position { x: strange, y: 1.0 }, 10);
        column.canonicalise_after(10);
        let forms = [0, 1, 63, 64, 200, 201, 1_000]
            .map(|slot| column.with(slot, |position| position.x.to_bits()).unwrap());
        assert_eq!(forms, [known, canonical, canonical, known, known, canonical, known]);
    }
}
