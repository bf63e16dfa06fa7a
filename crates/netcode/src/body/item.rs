//! One line of a body, and the numbers that both ends code by.

/// Most entities that one client knows at a time.
pub const MAX_ENTITIES: usize = 8192;

/// Rice parameters of rare things.
pub(super) const RARE_K: u32 = 2;
pub(super) const SLOT_K: u32 = 3;
pub(super) const SUCCESSOR_K: u32 = 1;
pub(super) const COUNT_K: u32 = 2;

/// What happened to a known entity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// It has other values: a row of residuals and the mask of those that are not 0.
    Update { residuals: u32, changed: u128 },
    /// It is gone, or out of sight.
    Remove,
    /// Another entity has its slot, or it has other components.
    Replace,
}

/// One line of the body, as the sender sees it. New entities are replacements of none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    /// Index in the list of known entities; for new ones, none.
    pub(crate) known: Option<u32>,
    /// Index in the view; none for removals.
    pub(crate) view: u32,
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    /// Generation of the known entity.
    pub(crate) predecessor: u32,
    pub(crate) components: u32,
    pub(crate) change: Change,
    /// Index of the model that codes an update.
    pub(crate) model: u32,
    /// It waits for a later snapshot.
    pub(crate) deferred: bool,
    /// What it took, in bits, without its share in the sets.
    pub(crate) cost: u32,
}

impl Item {
    /// Another entity than the known one takes the slot, not the same with other components.
    pub(crate) fn is_successor(&self) -> bool {
        self.known.is_some()
            && self.change == Change::Replace
            && self.generation != self.predecessor
    }

    /// It says of a known entity that it is gone or replaced.
    pub(super) fn goes(&self) -> bool {
        self.known.is_some() && !self.deferred && self.update().is_none()
    }

    pub(super) fn update(&self) -> Option<(u32, u128)> {
        match self.change {
            Change::Update { residuals, changed } if !self.deferred => Some((residuals, changed)),
            _ => None,
        }
    }
}
