//! Bodies of snapshots of the newest view, encoded once for all sessions that see the same of it
//! and know exactly the same.
//!
//! Most clients of a match have acknowledged one of a few snapshots, and snapshots of one tick
//! leave them with the same knowledge: lists of known entities that are equal are kept once, so
//! that one comparison of addresses tells. Lives in [`crate::ViewHistory`], used by the sender.

use std::sync::Arc;

use crate::body::Coding;

/// What a client knows of one entity after a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    /// Row in the view of `as_of`.
    pub(crate) row: u32,
    /// A tick at which the world's values of the entity were what the client knows, in low bits.
    pub(crate) as_of: u32,
    /// The tick of the snapshot that carried the entity last: what expectations start at. In low
    /// bits.
    pub(crate) stamp: u32,
    /// Whether it moves by these values: [`crate::layout::Layout::moves`]. Never, if the client
    /// reads a coding that does not ask.
    pub(crate) moves: bool,
}

/// All that a client knows after a snapshot, ascending by slot. Never changed once it is shared.
pub(crate) type Knowledge = Arc<Vec<Known>>;

/// A body, and what it is good for.
#[derive(Debug)]
pub(crate) struct Body {
    /// The number of the sight that the client must have.
    sight: u32,
    /// How the client must read deltas.
    coding: Coding,
    /// What the client must know: the list at this very address, or nothing.
    known: Option<Knowledge>,
    pub(crate) bytes: Vec<u8>,
    /// What it knows then.
    pub(crate) next: Knowledge,
    pub(crate) visible: usize,
    pub(crate) sent: usize,
}

/// The bodies of one view.
#[derive(Debug, Default)]
pub(crate) struct Bodies {
    list: Vec<Body>,
}

/// Most bodies that are kept for one view. A match with more kinds of clients is rare, and looking
/// takes time too.
const MOST: usize = 32;

fn same(one: Option<&Knowledge>, other: Option<&Knowledge>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other),
        (None, None) => true,
        _ => false,
    }
}

impl Bodies {
    pub(crate) fn clear(&mut self) {
        self.list.clear();
    }

    /// The body for a client with this sight that reads `coding` and knows `known`.
    pub(crate) fn find(
        &self,
        (sight, coding): (u32, Coding),
        known: Option<&Knowledge>,
    ) -> Option<&Body> {
        let fits = |body: &&Body| (body.sight, body.coding) == (sight, coding);
        self.list.iter().filter(fits).find(|body| same(body.known.as_ref(), known))
    }

    /// Keeps a body with all of the view that is in the sight. Returns what a client knows that
    /// has it.
    pub(crate) fn keep(
        &mut self,
        (sight, coding): (u32, Coding),
        known: Option<Knowledge>,
        bytes: &[u8],
        next: Vec<Known>,
        visible: usize,
        sent: usize,
    ) -> Knowledge {
        let equal = self.list.iter().map(|body| &body.next).find(|other| ***other == next).cloned();
        let next = equal.unwrap_or_else(|| Arc::new(next));
        if self.list.len() < MOST {
            self.list.push(Body {
                sight,
                coding,
                known,
                bytes: bytes.to_vec(),
                next: Arc::clone(&next),
                visible,
                sent,
            });
        }
        next
    }
}
