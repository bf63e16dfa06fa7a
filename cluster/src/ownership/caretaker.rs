//! Decides which matches of dead nodes this node claims, and why the others do not run. Pure: what
//! was read from the store and the time are arguments, decisions are values.
//!
//! One look has four steps. [`super::round`] takes the first three with a store: it says which
//! leases it read ([`Caretaker::leases_read`]: who looks dead), what the directory has
//! ([`Caretaker::directory_read`]: which matches nobody runs), secures the logs that
//! [`Caretaker::to_secure`] names and asks which matches to claim now ([`Caretaker::choose`]).
//! Whoever runs matches claims those and says what came of it ([`Caretaker::refused`],
//! [`Caretaker::decided`], [`Caretaker::finished`]).
//!
//! A wrong decision costs time and never a tick: the store decides every claim.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_schema::lease::{MatchLease, MatchState, NodeLease, NodeState};
use rekindle_schema::{Incarnation, MatchId};

use super::parked::ParkedFor;
use super::standing::Standing;
use super::suspicion::{Observer, PATIENCE_MS, Process};
use crate::placement;

/// How long the survivor that comes first for a match has it to itself, in milliseconds.
const FIRST_CHOICE_MS: u64 = 3_000;
/// The directory is read at least at every so many looks, whether or not anything has changed.
const RESCAN: u32 = 10;
/// A row that says that this node runs a match which it does not run is believed to be left over
/// from a claim or a creation that was cut off after so many milliseconds.
const STRAY_MS: u64 = 10_000;

const _: () = assert!(FIRST_CHOICE_MS < PATIENCE_MS, "a survivor that hangs is dead soon after");
const _: () = assert!(STRAY_MS > FIRST_CHOICE_MS + PATIENCE_MS, "a slow claim is no stray");
const _: () = assert!(RESCAN > 0);

/// The node on whose behalf matches are claimed.
#[derive(Debug, Clone)]
pub struct Claimant {
    /// Its incarnation.
    pub me: Incarnation,
    /// Its region: matches of other regions are left alone.
    pub region: String,
    /// So many deaths in a row park a match that is tried; `None` where nothing is tried.
    pub deaths: Option<u32>,
}

/// One look.
#[derive(Debug, Clone, Copy)]
pub struct Look<'a> {
    /// This process's own monotonic time in milliseconds.
    pub now_ms: u64,
    /// Matches that an operator wants to be tried again, whatever came of them before.
    pub asked: &'a BTreeSet<MatchId>,
}

/// A log that has to be fenced and sealed before matches of it are claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToSecure {
    /// The lease of the node that wrote it.
    pub node: NodeLease,
    /// Its matches are here because an operator promoted this region, and was told that what had
    /// not been replicated is lost.
    pub loss_accepted: bool,
}

/// A row that says that this node runs a match which it does not run.
#[derive(Debug, Clone, Copy)]
struct Stray {
    /// The version of the row.
    version: u64,
    /// Since when it has said so, by [`Look::now_ms`].
    since_ms: u64,
}

/// A match that this build cannot run.
#[derive(Debug, Clone)]
struct Refused {
    /// The version of its row when it was found out: another version is looked at anew.
    version: u64,
    /// What the build lacks.
    standing: Standing,
}

/// Remembers from look to look what is known of the matches that nobody runs.
#[derive(Debug)]
pub struct Caretaker {
    claimant: Claimant,
    observer: Observer,
    /// Who was dead at the last look that found nothing more to do.
    settled: BTreeSet<Incarnation>,
    looks: u32,
    /// Orphans that another survivor should take, and since when they have been waiting.
    waiting: BTreeMap<MatchId, u64>,
    strays: BTreeMap<MatchId, Stray>,
    refused: BTreeMap<MatchId, Refused>,
}

impl Caretaker {
    /// Begins with nothing seen.
    pub fn new(claimant: Claimant) -> Self {
        Self {
            claimant,
            observer: Observer::default(),
            settled: BTreeSet::new(),
            looks: 0,
            waiting: BTreeMap::new(),
            strays: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// On whose behalf it decides.
    pub fn claimant(&self) -> &Claimant {
        &self.claimant
    }

    /// The leases of all other nodes were read, and of those in `gone` the process has ended.
    /// Returns who looks dead, or `None` if there is nothing to do at this look.
    pub fn leases_read(
        &mut self,
        look: Look<'_>,
        others: &[NodeLease],
        gone: &BTreeSet<Incarnation>,
    ) -> Option<BTreeSet<Incarnation>> {
        let me = self.claimant.me;
        assert!(others.iter().all(|node| node.incarnation != me), "{me} does not watch itself");
        let process = |node: &NodeLease| {
            if gone.contains(&node.incarnation) { Process::Gone } else { Process::Unknown }
        };
        let dead = self.observer.look(look.now_ms, others, process);
        self.looks = self.looks.wrapping_add(1);
        if dead == self.settled
            && self.waiting.is_empty()
            && look.asked.is_empty()
            && !self.looks.is_multiple_of(RESCAN)
        {
            return None;
        }
        self.refused.retain(|id, _| !look.asked.contains(id));
        Some(dead)
    }

    /// The directory was read; `running` are the matches that run on this node. Returns the matches
    /// at home here that nobody runs and that this node may be able to.
    pub fn directory_read(
        &mut self,
        look: Look<'_>,
        rows: &[MatchLease],
        running: &BTreeSet<MatchId>,
        dead: &BTreeSet<Incarnation>,
    ) -> Vec<MatchLease> {
        let Claimant { me, region, .. } = &self.claimant;
        let is_stray = |row: &&MatchLease| {
            row.incarnation == *me
                && row.state == MatchState::Running
                && !running.contains(&row.match_id)
        };
        let seen = std::mem::take(&mut self.strays);
        self.strays = rows
            .iter()
            .filter(is_stray)
            .map(|row| {
                let fresh = Stray { version: row.version, since_ms: look.now_ms };
                let before = seen.get(&row.match_id).copied();
                (row.match_id, before.filter(|stray| stray.version == row.version).unwrap_or(fresh))
            })
            .collect();
        let wanted = |row: &&MatchLease| {
            if self.refused_as_it_stands(row).is_some() {
                return false;
            }
            if let Some(stray) = self.strays.get(&row.match_id) {
                return look.asked.contains(&row.match_id)
                    || look.now_ms - stray.since_ms >= STRAY_MS;
            }
            dead.contains(&row.incarnation) && row.region == *region && self.may_run(row)
        };
        rows.iter().filter(wanted).cloned().collect()
    }

    /// What this build lacks for a match, if that was found out of this very row.
    fn refused_as_it_stands(&self, row: &MatchLease) -> Option<&Standing> {
        self.refused
            .get(&row.match_id)
            .filter(|refused| refused.version == row.version)
            .map(|refused| &refused.standing)
    }

    /// Whether a row is to be claimed, as far as it tells itself: it runs, or it was parked for a
    /// reason that may not hold here and now.
    fn may_run(&self, row: &MatchLease) -> bool {
        match &row.state {
            MatchState::Running => true,
            MatchState::Parked { report } => match ParkedFor::of(report) {
                ParkedFor::Trials => self.claimant.deaths.is_none_or(|most| row.attempts < most),
                ParkedFor::Build | ParkedFor::Count => true,
                ParkedFor::Fault => false,
            },
            MatchState::Ended { .. } => false,
        }
    }

    /// The logs of dead nodes that have to be secured: those of this region, and those of owners of
    /// `orphans`.
    pub fn to_secure(
        &self,
        others: &[NodeLease],
        orphans: &[MatchLease],
        dead: &BTreeSet<Incarnation>,
    ) -> Vec<ToSecure> {
        let owners: BTreeSet<Incarnation> = orphans.iter().map(|row| row.incarnation).collect();
        others
            .iter()
            .filter(|node| dead.contains(&node.incarnation))
            .filter(|node| !(node.state == NodeState::Fenced && node.seal.is_some()))
            .map(|node| (node, node.region == self.claimant.region))
            .filter(|(node, at_home)| *at_home || owners.contains(&node.incarnation))
            .map(|(node, at_home)| ToSecure { node: node.clone(), loss_accepted: !at_home })
            .collect()
    }

    /// Which of the orphans this node claims now: those for which it comes first among the
    /// survivors, its own, those that an operator asked for, and those that the first one has left
    /// lying for too long.
    pub fn choose(
        &mut self,
        look: Look<'_>,
        mut orphans: Vec<MatchLease>,
        others: &[NodeLease],
        dead: &BTreeSet<Incarnation>,
    ) -> Vec<MatchLease> {
        let Claimant { me, region, .. } = &self.claimant;
        let survivors: Vec<Incarnation> = others
            .iter()
            .filter(|node| node.region == *region && !dead.contains(&node.incarnation))
            .map(|node| node.incarnation)
            .collect();
        let orphaned: BTreeSet<MatchId> = orphans.iter().map(|row| row.match_id).collect();
        self.waiting.retain(|id, _| orphaned.contains(id));
        orphans.retain(|row| {
            let since = *self.waiting.entry(row.match_id).or_insert(look.now_ms);
            placement::is_first(row.match_id, *me, survivors.iter().copied())
                || row.incarnation == *me
                || look.asked.contains(&row.match_id)
                || look.now_ms - since >= FIRST_CHOICE_MS
        });
        orphans
    }

    /// What keeps a match from running here, by its row; `None` if it runs, is over or is the
    /// business of others.
    pub fn standing(&self, row: &MatchLease, dead: &BTreeSet<Incarnation>) -> Option<Standing> {
        let Claimant { me, region, .. } = &self.claimant;
        let mine = row.incarnation == *me;
        if !(mine || row.region == *region && dead.contains(&row.incarnation)) {
            return None;
        }
        match &row.state {
            MatchState::Ended { .. } => None,
            MatchState::Parked { report } => Some(Standing::Parked(report.clone())),
            MatchState::Running => match self.refused_as_it_stands(row) {
                Some(standing) => Some(standing.clone()),
                None if mine => {
                    self.strays.contains_key(&row.match_id).then_some(Standing::Recovering)
                }
                None => Some(Standing::Recovering),
            },
        }
    }

    /// This build cannot run a match: it is not looked at again while its row stands as it is.
    pub fn refused(&mut self, row: &MatchLease, standing: Standing) {
        self.refused.insert(row.match_id, Refused { version: row.version, standing });
    }

    /// It is decided what becomes of a match: nobody waits for another survivor any more.
    pub fn decided(&mut self, id: MatchId) {
        self.waiting.remove(&id);
    }

    /// The look has come to its end. Until somebody else looks dead the directory need not be read
    /// at every look.
    pub fn finished(&mut self, dead: BTreeSet<Incarnation>) {
        self.settled = dead;
    }
}

/// Matches in the order in which they are claimed. Those whose owners died before they had run
/// healthily come last: their trials take time.
pub fn in_order(orphans: Vec<MatchLease>) -> [Vec<MatchLease>; 2] {
    let (suspects, healthy) = orphans.into_iter().partition(|row| row.attempts > 0);
    [healthy, suspects]
}
