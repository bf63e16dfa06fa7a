//! Whether a match's next checkpoint is full or a delta to the last one.
//!
//! Deltas go on what this owner has stored itself: the first checkpoint under an owner is full. A
//! chain has at most so many deltas; then comes a full one, made from the world and not from a
//! delta, so that no chain outlives a mistake. Where deltas do not pay, full ones are taken for a
//! while without asking again: after two misses in a row four times, after three eight, and so on
//! up to the length of a chain.

use std::sync::Arc;

use bytes::Bytes;
use rekindle_schema::Seq;
use rekindle_schema::checkpoint::CheckpointBase;
use rekindle_schema::delta::{self, DeltaError};
use rekindle_sim::{Marks, Simulation};

/// A delta must take less than the state divided by this.
const PAYS: usize = 2;

/// A stored checkpoint that the next one can be a delta to.
#[derive(Debug)]
pub(crate) struct Baseline {
    /// What deltas to it name.
    pub(crate) name: CheckpointBase,
    /// Its state.
    pub(crate) state: Bytes,
    /// Where the parts of the state lie.
    pub(crate) marks: Marks,
    /// What the full checkpoint of its chain covers.
    pub(crate) root: Seq,
    /// Deltas of its chain, itself included.
    pub(crate) links: u32,
}

/// Whether a checkpoint stands alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CheckpointKind {
    /// It has all of the state.
    Full,
    /// It has what changed since another one.
    Delta,
}

impl CheckpointKind {
    /// Both, in the order of their discriminants.
    pub(crate) const ALL: [Self; 2] = [Self::Full, Self::Delta];

    /// Its name in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Delta => "delta",
        }
    }
}

/// The bytes of a checkpoint as the match hands them over.
#[derive(Debug, Clone)]
pub(crate) enum Captured {
    /// All of the state. `marks`: a delta to it may follow.
    Full {
        /// The canonical bytes.
        state: Bytes,
        /// Where their parts lie.
        marks: Option<Marks>,
    },
    /// What changed since `baseline`.
    Changes {
        /// Since when.
        baseline: Arc<Baseline>,
        /// What leads from its bytes to those of now.
        operations: Vec<u8>,
        /// Where the parts of those lie.
        marks: Marks,
    },
}

/// What is to be stored, and what a next delta can go on.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// The state, or a delta.
    pub(crate) stored: Bytes,
    /// The state.
    pub(crate) state: Bytes,
    /// What `stored` is a delta to.
    pub(crate) base: Option<CheckpointBase>,
    /// Where the parts of the state lie.
    pub(crate) marks: Option<Marks>,
    /// What the full checkpoint of its chain covers, if that is another one.
    pub(crate) root: Option<Seq>,
    /// Deltas of its chain, itself included.
    pub(crate) links: u32,
}

impl Captured {
    /// Whether it is full or a delta.
    pub(crate) fn kind(&self) -> CheckpointKind {
        match self {
            Self::Full { .. } => CheckpointKind::Full,
            Self::Changes { .. } => CheckpointKind::Delta,
        }
    }

    /// Puts the bytes together. Takes as long as copying and hashing the state: not for a shard
    /// thread.
    pub(crate) fn prepare(self) -> Result<Prepared, DeltaError> {
        Ok(match self {
            Self::Full { state, marks } => {
                Prepared { stored: state.clone(), state, base: None, marks, root: None, links: 0 }
            }
            Self::Changes { baseline, operations, marks } => {
                let (delta, state) = delta::seal(&baseline.state, &operations)?;
                Prepared {
                    stored: delta.into(),
                    state: state.into(),
                    base: Some(baseline.name),
                    marks: Some(marks),
                    root: Some(baseline.root),
                    links: baseline.links + 1,
                }
            }
        })
    }
}

/// The checkpoints that a match's owner has stored, as far as the next one depends on them.
#[derive(Debug, Default)]
pub(crate) struct Chain {
    baseline: Option<Arc<Baseline>>,
    /// Deltas in a row that did not pay.
    missed: u32,
    /// So many more are full without asking.
    rest: u32,
}

impl Chain {
    /// Takes the next checkpoint of `sim`. `longest` is the most deltas in a chain; 0: full ones
    /// only.
    pub(crate) fn capture(&mut self, sim: &dyn Simulation, longest: u32) -> Captured {
        if longest == 0 || self.rest > 0 {
            self.rest = self.rest.saturating_sub(1);
            self.baseline = None;
            return Captured::Full { state: sim.checkpoint(), marks: None };
        }
        if let Some(baseline) = self.baseline.clone().filter(|baseline| baseline.links < longest) {
            if let Some((operations, marks)) =
                sim.changes(&baseline.state, &baseline.marks, baseline.state.len() / PAYS)
            {
                self.missed = 0;
                return Captured::Changes { baseline, operations, marks };
            }
            // One is no pattern: the world may just have grown out of what it was when the match
            // began.
            self.missed += 1;
            if self.missed > 1 {
                self.rest = longest.min(1 << self.missed.min(16));
                self.baseline = None;
                return Captured::Full { state: sim.checkpoint(), marks: None };
            }
        }
        let (state, marks) = sim.capture();
        Captured::Full { state, marks: Some(marks) }
    }

    /// A checkpoint is stored: the next can be a delta to it.
    pub(crate) fn stored(&mut self, name: CheckpointBase, prepared: Prepared) {
        let Prepared { state, marks, root, links, .. } = prepared;
        self.baseline = marks.map(|marks| {
            Arc::new(Baseline { name, state, marks, root: root.unwrap_or(name.seq), links })
        });
    }

    /// Nothing is known of the world any more, or something of it is wrong: the next checkpoint is
    /// full.
    pub(crate) fn break_off(&mut self) {
        self.baseline = None;
    }
}
