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
use super::suspicion::{self, Observer, PATIENCE_MS, Process};
use crate::placement;

/// How long the survivor that comes first for a match has it to itself, in milliseconds.
const FIRST_CHOICE_MS: u64 = 3_000;
/// The directory is read at least at every so many looks, whether or not anything has changed.
const RESCAN: u32 = 10;
/// A row that says that this node runs a match which it does not run is believed to be left over
/// from a claim or a creation that was cut off after so many milliseconds. Whoever on this node is
/// about to run it has entered it, so that it is not claimed meanwhile; the time is for the target
/// of a migration that has not read yet that the match is its own.
const STRAY_MS: u64 = 2_000;

const _: () = assert!(FIRST_CHOICE_MS < PATIENCE_MS, "a survivor that hangs is dead soon after");
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
    dead_when_idle: BTreeSet<Incarnation>,
    looks: u32,
    /// Orphans that another survivor should take, and since when they have been waiting.
    waiting: BTreeMap<MatchId, u64>,
    strays: BTreeMap<MatchId, Stray>,
    refused: BTreeMap<MatchId, Refused>,
    /// Matches that a standby follows, as far as is known, and the node on which it does.
    standbys: BTreeMap<MatchId, Incarnation>,
    /// Nodes that operators want to be empty, as far as is known; this one may be among them.
    drained: BTreeSet<Incarnation>,
}

impl Caretaker {
    /// Begins with nothing seen.
    pub fn new(claimant: Claimant) -> Self {
        Self {
            claimant,
            observer: Observer::default(),
            dead_when_idle: BTreeSet::new(),
            looks: 0,
            waiting: BTreeMap::new(),
            strays: BTreeMap::new(),
            refused: BTreeMap::new(),
            standbys: BTreeMap::new(),
            drained: BTreeSet::new(),
        }
    }

    /// On whose behalf it decides.
    pub fn claimant(&self) -> &Claimant {
        &self.claimant
    }

    /// The leases of all other nodes were read; of those in `gone` the process has ended, and those
    /// in `suspected` look dead to membership, which is a hint only. Returns who looks dead, or
    /// `None` if there is nothing to do at this look.
    pub fn leases_read(
        &mut self,
        look: Look<'_>,
        others: &[NodeLease],
        gone: &BTreeSet<Incarnation>,
        suspected: &BTreeSet<Incarnation>,
    ) -> Option<BTreeSet<Incarnation>> {
        let me = self.claimant.me;
        assert!(others.iter().all(|node| node.incarnation != me), "{me} does not watch itself");
        let process = |node: &NodeLease| {
            if gone.contains(&node.incarnation) { Process::Gone } else { Process::Unknown }
        };
        let mut dead = self.observer.look(look.now_ms, others, process);
        suspicion::believe(&mut dead, others, suspected);
        self.looks = self.looks.wrapping_add(1);
        if dead == self.dead_when_idle
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

    /// Which matches a standby follows, and on which node: the first to claim them if their owner
    /// dies. To be said before a look.
    pub fn followed(&mut self, standbys: BTreeMap<MatchId, Incarnation>) {
        self.standbys = standbys;
    }

    /// Which nodes, this one included, operators want to be empty: they leave the matches of a dead
    /// node to the others, if there are others. To be said before a look.
    pub fn drained(&mut self, drained: BTreeSet<Incarnation>) {
        self.drained = drained;
    }

    /// Which of the orphans this node claims now: those that it follows, those for which it comes
    /// first among the survivors and that none of them follows, its own, those that an operator
    /// asked for, and those that the first one has left lying for too long. Drained survivors come
    /// first for nothing, unless all are drained.
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
        let mut willing = survivors.clone();
        willing.retain(|node| !self.drained.contains(node));
        let yields = self.drained.contains(me) && !willing.is_empty();
        if self.drained.contains(me) && !yields {
            willing.clone_from(&survivors);
        }
        let orphaned: BTreeSet<MatchId> = orphans.iter().map(|row| row.match_id).collect();
        self.waiting.retain(|id, _| orphaned.contains(id));
        orphans.retain(|row| {
            let since = *self.waiting.entry(row.match_id).or_insert(look.now_ms);
            let standby = self.standbys.get(&row.match_id);
            let standby = standby.filter(|node| *node == me || survivors.contains(node));
            standby.map_or_else(
                || !yields && placement::is_first(row.match_id, *me, willing.iter().copied()),
                |standby| standby == me,
            ) || row.incarnation == *me
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
        self.dead_when_idle = dead;
    }
}

/// Matches in the order in which they are claimed. Those whose owners died before they had run
/// healthily come last: their trials take time.
pub fn in_order(orphans: Vec<MatchLease>) -> [Vec<MatchLease>; 2] {
    let (suspects, healthy) = orphans.into_iter().partition(|row| row.attempts > 0);
    [healthy, suspects]
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rekindle_schema::lease::{DEFAULT_REGION, MatchSpec};
    use rekindle_schema::{BatchNo, Epoch};

    use super::super::standing::Lack;
    use super::*;

    const ME: Incarnation = Incarnation(1);
    const DEAD: Incarnation = Incarnation(2);
    const OTHER: Incarnation = Incarnation(3);

    fn node(incarnation: Incarnation, state: NodeState) -> NodeLease {
        NodeLease {
            incarnation,
            name: "n".into(),
            state,
            pid: 1,
            pid_start: 1,
            deadline_ms: 1,
            seal: None,
            host: String::new(),
            region: DEFAULT_REGION.to_owned(),
            reached: None,
            loss_accepted_ms: None,
        }
    }

    fn row(id: u64, owner: Incarnation, state: MatchState) -> MatchLease {
        let spec = MatchSpec {
            game: "test".into(),
            config: Bytes::new(),
            seed: 1,
            tick_rate: 30,
            house_bots: 0,
            created_ms: 0,
        };
        MatchLease {
            match_id: MatchId(id),
            version: 1,
            epoch: Epoch(1),
            incarnation: owner,
            state,
            attempts: 0,
            lineage: Vec::new(),
            spec,
            region: DEFAULT_REGION.to_owned(),
        }
    }

    fn parked(report: &str) -> MatchState {
        MatchState::Parked { report: report.to_owned() }
    }

    fn new(deaths: Option<u32>) -> Caretaker {
        Caretaker::new(Claimant { me: ME, region: DEFAULT_REGION.to_owned(), deaths })
    }

    /// One look with these nodes and rows, nothing running here: what is claimed.
    fn look(
        caretaker: &mut Caretaker,
        now_ms: u64,
        asked: &[u64],
        others: &[NodeLease],
        rows: &[MatchLease],
    ) -> Vec<u64> {
        let asked = asked.iter().copied().map(MatchId).collect();
        let look = Look { now_ms, asked: &asked };
        let nobody = BTreeSet::new();
        let Some(dead) = caretaker.leases_read(look, others, &nobody, &nobody) else {
            return Vec::new();
        };
        let orphans = caretaker.directory_read(look, rows, &BTreeSet::new(), &dead);
        let chosen = caretaker.choose(look, orphans, others, &dead);
        caretaker.finished(dead);
        chosen.iter().map(|row| row.match_id.0).collect()
    }

    #[test]
    fn matches_of_dead_nodes_of_this_region_are_claimed_and_no_others() {
        let others = [node(DEAD, NodeState::Stopped), node(OTHER, NodeState::Live)];
        let rows = [
            row(1, DEAD, MatchState::Running),
            row(2, OTHER, MatchState::Running),
            row(3, DEAD, MatchState::Ended { reason: String::new() }),
            row(4, DEAD, parked("RK-RECOVERY-001: the hash differs")),
            MatchLease { region: "elsewhere".into(), ..row(5, DEAD, MatchState::Running) },
        ];
        // Late enough that nobody else has the first choice.
        let mut caretaker = new(Some(5));
        look(&mut caretaker, 0, &[], &others, &rows);
        assert_eq!(look(&mut caretaker, FIRST_CHOICE_MS, &[], &others, &rows), [1]);
        let dead = BTreeSet::from([DEAD]);
        let standing = |row: &MatchLease| caretaker.standing(row, &dead);
        assert_eq!(standing(&rows[0]), Some(Standing::Recovering));
        assert_eq!(standing(&rows[1]), None);
        assert_eq!(standing(&rows[2]), None);
        assert!(matches!(standing(&rows[3]), Some(Standing::Parked(_))));
        assert_eq!(standing(&rows[4]), None);
    }

    #[test]
    fn a_drained_survivor_leaves_matches_to_the_others_unless_it_is_the_last() {
        let both = [node(DEAD, NodeState::Stopped), node(OTHER, NodeState::Live)];
        let rows: Vec<MatchLease> = (1..=40).map(|id| row(id, DEAD, MatchState::Running)).collect();
        let drained = |nodes: &[Incarnation]| {
            let mut caretaker = new(None);
            caretaker.drained(nodes.iter().copied().collect());
            caretaker
        };
        let mut me = drained(&[ME]);
        assert!(look(&mut me, 0, &[], &both, &rows).is_empty(), "the other one takes all");
        assert_eq!(look(&mut me, FIRST_CHOICE_MS, &[], &both, &rows).len(), 40, "it did not");
        assert_eq!(look(&mut drained(&[OTHER]), 0, &[], &both, &rows).len(), 40);
        assert_eq!(look(&mut drained(&[ME]), 0, &[], &both[..1], &rows).len(), 40, "the last one");
        let shared = look(&mut drained(&[ME, OTHER]), 0, &[], &both, &rows).len();
        assert!((1..40).contains(&shared), "all are drained: they share as ever, {shared}");
    }

    #[test]
    fn the_first_survivor_has_its_time_and_an_operator_does_not_wait() {
        let others = [node(DEAD, NodeState::Stopped), node(OTHER, NodeState::Live)];
        let rows: Vec<MatchLease> = (1..=40).map(|id| row(id, DEAD, MatchState::Running)).collect();
        let mut caretaker = new(None);
        let first = look(&mut caretaker, 0, &[], &others, &rows);
        assert!(!first.is_empty() && first.len() < rows.len(), "shared out: {first:?}");
        let left = (1..=40).find(|id| !first.contains(id)).unwrap();
        let asked = look(&mut caretaker, 1_000, &[left], &others, &rows);
        assert!(asked.contains(&left));
        assert_eq!(look(&mut caretaker, FIRST_CHOICE_MS, &[], &others, &rows).len(), 40);
    }

    #[test]
    fn what_a_build_cannot_run_is_looked_at_again_when_its_row_changes_or_somebody_asks() {
        let others = [node(DEAD, NodeState::Stopped)];
        let mut rows = [row(1, DEAD, MatchState::Running)];
        let mut caretaker = new(None);
        assert_eq!(look(&mut caretaker, 0, &[], &others, &rows), [1]);
        let lacks = Standing::Waits(Lack::OtherBuild, "RK-RECOVERY-002".to_owned());
        caretaker.refused(&rows[0], lacks.clone());
        caretaker.decided(MatchId(1));
        let dead = BTreeSet::from([DEAD]);
        assert_eq!(caretaker.standing(&rows[0], &dead), Some(lacks.clone()));
        for now in 1..20 {
            assert_eq!(look(&mut caretaker, now * 1_000, &[], &others, &rows), [0; 0]);
        }
        assert_eq!(look(&mut caretaker, 20_000, &[1], &others, &rows), [1], "asked for");
        caretaker.refused(&rows[0], lacks);
        caretaker.decided(MatchId(1));
        rows[0].version += 1;
        let claimed: Vec<u64> = (21..=20 + u64::from(RESCAN))
            .flat_map(|now| look(&mut caretaker, now * 1_000, &[], &others, &rows))
            .collect();
        assert!(claimed.contains(&1), "the directory is read now and then");
    }

    #[test]
    fn parked_matches_come_back_only_if_what_parked_them_may_not_hold_any_more() {
        let by_trials = super::super::parked::report_of_trials(MatchId(1), 3, "it ended");
        let cases = [
            (by_trials.as_str(), 3, Some(5), true),
            (by_trials.as_str(), 5, Some(5), false),
            (by_trials.as_str(), 5, None, true),
            ("RK-HOST-001: no game `zoo` here", 0, Some(5), true),
            ("RK-RECOVERY-001: the hash differs", 0, Some(5), false),
        ];
        for (report, attempts, deaths, comes_back) in cases {
            let rows = [MatchLease { attempts, ..row(1, DEAD, parked(report)) }];
            let others = [node(DEAD, NodeState::Stopped)];
            let claimed = look(&mut new(deaths), 0, &[], &others, &rows);
            assert_eq!(claimed == [1], comes_back, "{report} {attempts} {deaths:?}");
        }
    }

    #[test]
    fn a_row_that_names_this_node_without_a_match_is_taken_up_after_a_while() {
        let rows = [row(1, ME, MatchState::Running)];
        let mut caretaker = new(None);
        let mut claimed_at = None;
        for now in (0..=2 * STRAY_MS).step_by(1_000) {
            if !look(&mut caretaker, now, &[9], &[], &rows).is_empty() {
                claimed_at.get_or_insert(now);
            }
        }
        assert_eq!(claimed_at, Some(STRAY_MS));
        assert_eq!(caretaker.standing(&rows[0], &BTreeSet::new()), Some(Standing::Recovering));
        assert_eq!(look(&mut new(None), 0, &[1], &[], &rows), [1], "an operator does not wait");
    }

    #[test]
    fn logs_are_secured_once_and_a_promotion_accepts_what_is_lost() {
        let mut sealed = node(Incarnation(4), NodeState::Fenced);
        sealed.seal = Some(BatchNo(7));
        let far = |id| NodeLease { region: "far".into(), ..node(id, NodeState::Stopped) };
        let others =
            [node(DEAD, NodeState::Stopped), sealed, far(Incarnation(5)), far(Incarnation(6))];
        let dead = others.iter().map(|node| node.incarnation).collect();
        let orphans = [row(1, Incarnation(5), MatchState::Running)];
        let secured = new(None).to_secure(&others, &orphans, &dead);
        let secured: Vec<(u64, bool)> =
            secured.iter().map(|log| (log.node.incarnation.0, log.loss_accepted)).collect();
        assert_eq!(secured, [(2, false), (5, true)]);
    }

    #[test]
    fn suspects_are_claimed_last() {
        let suspect = MatchLease { attempts: 1, ..row(1, DEAD, MatchState::Running) };
        let [healthy, suspects] = in_order(vec![suspect, row(2, DEAD, MatchState::Running)]);
        assert_eq!((healthy[0].match_id, suspects[0].match_id), (MatchId(2), MatchId(1)));
    }

    #[test]
    fn whoever_follows_a_match_is_the_first_to_claim_it_while_it_lives() {
        let rows = [row(1, DEAD, MatchState::Running)];
        let first = [ME, OTHER]
            .into_iter()
            .find(|node| placement::is_first(MatchId(1), *node, [ME, OTHER]));
        let others = [node(DEAD, NodeState::Stopped), node(OTHER, NodeState::Live)];
        for follower in [ME, OTHER] {
            let mut caretaker = new(None);
            caretaker.followed(BTreeMap::from([(MatchId(1), follower)]));
            let claims = look(&mut caretaker, 0, &[], &others, &rows);
            assert_eq!(claims == [1], follower == ME, "{first:?} comes first, {follower} follows");
        }
        let mut caretaker = new(None);
        caretaker.followed(BTreeMap::from([(MatchId(1), Incarnation(9))]));
        let claims = look(&mut caretaker, 0, &[], &others, &rows);
        assert_eq!(claims == [1], first == Some(ME), "a follower that is gone keeps nobody away");
    }

    #[test]
    #[should_panic = "does not watch itself"]
    fn a_caretaker_that_is_given_its_own_lease_is_stopped() {
        look(&mut new(None), 0, &[], &[node(ME, NodeState::Live)], &[]);
    }
}
