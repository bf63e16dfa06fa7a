//! The last views of a match, shared by all its sessions: what baselines are read from.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use rekindle_schema::Tick;
use rekindle_schema::net::NetView;

use crate::bodies::Bodies;
use crate::deltas::{Deltas, Subject};

/// How many ticks back a baseline may lie. Older ones are forgotten on both sides.
pub const HISTORY: u64 = 64;

// The receiver keeps in a `u64` which snapshots it has; the acknowledgement names 33 of them.
const _: () = assert!(HISTORY == u64::BITS as u64);

/// A ring of the last [`HISTORY`] views of one match. The edge pushes each published view once; all
/// sessions read it.
#[derive(Debug, Default)]
pub struct ViewHistory {
    views: VecDeque<Arc<NetView>>,
    findings: Mutex<Findings>,
}

/// What sessions have found out about the newest view.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    subject: Option<Subject>,
    pub(crate) deltas: Deltas,
    pub(crate) bodies: Bodies,
}

impl Findings {
    /// Whatever was found out about anything else is forgotten.
    pub(crate) fn start(&mut self, subject: Subject) {
        if self.subject != Some(subject) {
            self.subject = Some(subject);
            self.deltas.start(subject);
            self.bodies.clear();
        }
    }

    /// Other views may come to stand at the same addresses.
    fn forget(&mut self) {
        self.subject = None;
        self.bodies.clear();
    }
}

impl Clone for ViewHistory {
    fn clone(&self) -> Self {
        Self { views: self.views.clone(), findings: Mutex::default() }
    }
}

impl ViewHistory {
    /// Without views.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn findings(&self) -> &Mutex<Findings> {
        &self.findings
    }

    /// Adds the view of a newer tick and forgets those that are [`HISTORY`] ticks older. A view
    /// that is not newer replaces what is not older than it: that is a rewind.
    pub fn push(&mut self, view: Arc<NetView>) {
        while self.views.back().is_some_and(|last| last.tick >= view.tick) {
            self.views.pop_back();
        }
        while self
            .views
            .front()
            .is_some_and(|first| first.tick.0.saturating_add(HISTORY) <= view.tick.0)
        {
            self.views.pop_front();
        }
        self.views.push_back(view);
        self.findings.get_mut().forget();
    }

    /// The view of `tick`, if it is still there.
    pub fn get(&self, tick: Tick) -> Option<&Arc<NetView>> {
        let newest = self.views.back()?;
        let back = usize::try_from(newest.tick.0.checked_sub(tick.0)?).ok()?;
        // Ticks rarely skip, so the view usually stands where counting back from the newest finds
        // it.
        let guess = self
            .views
            .len()
            .checked_sub(1 + back)
            .and_then(|index| self.views.get(index))
            .filter(|view| view.tick == tick);
        guess.or_else(|| {
            self.views
                .binary_search_by_key(&tick, |view| view.tick)
                .ok()
                .map(|index| &self.views[index])
        })
    }

    /// The view pushed last.
    pub fn newest(&self) -> Option<&Arc<NetView>> {
        self.views.back()
    }

    /// Forgets all views: the match went back behind them, or another one is served.
    pub fn clear(&mut self) {
        self.views.clear();
        self.findings.get_mut().forget();
    }
}
