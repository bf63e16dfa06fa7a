//! What changed in the newest view since earlier ones, computed once for all sessions of a match.
//!
//! Most clients of a match stand at one of a few baselines and know the same of most entities. The
//! first session that asks for the difference between an entity's row and what a client knows of it
//! computes it; the others find it here. Lives in [`crate::ViewHistory`], used by the sender.

use rekindle_schema::Tick;

/// What the deltas are of, and by which schema and rate: anything else starts anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subject {
    pub(crate) tick: Tick,
    /// Address of the view.
    pub(crate) view: usize,
    /// Address of the schema.
    pub(crate) schema: usize,
    pub(crate) tick_rate: u16,
    pub(crate) entities: usize,
    pub(crate) stride: usize,
}

/// How the row of an entity compares with what a client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delta {
    /// What the client knows is not in the history, or is of other components.
    Unrelated,
    /// The row is what the client knows.
    Equal,
    /// It is not: mask of the residuals that are not 0.
    Changed(u128),
}

/// What a client knows of an entity: a row of the view of a tick, and the tick at which
/// expectations start. All in low bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    row: u32,
    stamp: u32,
}

/// Deltas of all entities against one earlier view.
#[derive(Debug, Default)]
struct Sheet {
    as_of: u32,
    /// By index in the newest view.
    cells: Vec<Option<(Key, Delta)>>,
}

/// The deltas of one view.
#[derive(Debug, Default)]
pub(crate) struct Deltas {
    entities: usize,
    stride: usize,
    /// The first `used` are of this view, the others wait to be used again.
    sheets: Vec<Sheet>,
    used: usize,
    last: usize,
    /// Rows of residuals: entity `i` of sheet `s` has row `s * entities + i`.
    residuals: Vec<u32>,
}

impl Deltas {
    /// Forgets all deltas: those that follow are of `subject`.
    pub(crate) fn start(&mut self, subject: Subject) {
        (self.entities, self.stride) = (subject.entities, subject.stride);
        self.used = 0;
        self.last = 0;
    }

    /// Rows of residuals, as [`Self::delta`] numbered them.
    pub(crate) fn residuals(&self) -> &[u32] {
        &self.residuals
    }

    /// The delta of the `index`th entity against row `row` of the view of `as_of`, with
    /// expectations from `stamp` on, and the number of its row of residuals. Each call for an
    /// entity makes the residuals of earlier calls for it void.
    #[inline]
    pub(crate) fn delta(
        &mut self,
        index: usize,
        as_of: u32,
        row: u32,
        stamp: u32,
        compute: impl FnOnce(&mut [u32]) -> Delta,
    ) -> (u32, Delta) {
        let Self { entities, stride, .. } = *self;
        if self.last >= self.used || self.sheets[self.last].as_of != as_of {
            self.last = self.turn_to(as_of, entities, stride);
        }
        let number = self.last * entities + index;
        let key = Key { row, stamp };
        let cell = &mut self.sheets[self.last].cells[index];
        let delta = match *cell {
            Some((known, delta)) if known == key => delta,
            _ => {
                let delta = compute(&mut self.residuals[number * stride..][..stride]);
                *cell = Some((key, delta));
                delta
            }
        };
        (number as u32, delta)
    }

    #[cold]
    fn turn_to(&mut self, as_of: u32, entities: usize, stride: usize) -> usize {
        if let Some(found) = self.sheets[..self.used].iter().position(|sheet| sheet.as_of == as_of)
        {
            return found;
        }
        if self.used == self.sheets.len() {
            self.sheets.push(Sheet::default());
        }
        let sheet = &mut self.sheets[self.used];
        sheet.as_of = as_of;
        sheet.cells.clear();
        sheet.cells.resize(entities, None);
        self.used += 1;
        let rows = self.used * entities * stride;
        if self.residuals.len() < rows {
            self.residuals.resize(rows, 0);
        }
        self.used - 1
    }
}
