//! Decides which matches this node follows, when it begins anew, and with which it goes on. Pure.

use std::collections::BTreeMap;

use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_schema::peer::Purpose;
use rekindle_schema::{Epoch, Incarnation, MatchId, Tick};

use super::wishes::Wishes;
use crate::placement::{self, Candidate};

/// A match that was followed and is no longer is begun anew after so many milliseconds.
const AGAIN_MS: u64 = 1_000;
/// One that could not be restored is tried again after so many: each try reads its history.
const RESTORE_AGAIN_MS: u64 = 8_000;

const _: () = assert!(AGAIN_MS <= RESTORE_AGAIN_MS);

/// How much a node follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most matches at once: each costs its memory and the CPU of its ticks.
    pub most: usize,
    /// Most of them that are being restored at once.
    pub starting: usize,
}

/// Where a followed world stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// The last tick that was made here.
    pub tick: Tick,
    /// How many ticks it was behind the end of its owner's log when that had grown last.
    pub lag: u64,
    /// Sessions in it: those with most players are promoted first.
    pub sessions: usize,
}

/// Why a match is not followed any further.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// For now: its history cannot be had, or has been trimmed. It is begun anew.
    Later(String),
    /// This build cannot run it. It is tried again under its next owner.
    Never(String),
    /// A recorded hash is not that of the world here.
    Differs(String),
}

/// What happens.
#[derive(Debug)]
pub enum Event<'a> {
    /// Directory and members were read.
    Read {
        /// The directory.
        rows: &'a [MatchLease],
        /// The live nodes, this one among them.
        nodes: &'a [Candidate],
        /// What is wanted.
        wishes: &'a Wishes,
        /// Milliseconds since 1970: which matches are audited depends on the hour.
        wall_ms: u64,
    },
    /// A match is followed this far.
    Stands(MatchId, Stand),
    /// A match is not followed any further: its world is gone.
    Failed(MatchId, Failure),
    /// The owners of these matches are fenced and sealed, and this node is about to claim them.
    Secured(&'a [MatchLease]),
    /// The world of a match was handed out: it is not followed any more, whatever becomes of it.
    Taken(MatchId),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Restore this match, and follow it. Its row, as it was read.
    Follow(Box<MatchLease>, Purpose),
    /// Give the world of this match up.
    Drop(MatchId),
    /// Go on with this match: catch up to the seal, and claim it with its followed world. In this
    /// order.
    Promote(MatchId),
    /// Operators must know: what two nodes computed of this match differs.
    Alarm {
        /// The match.
        match_id: MatchId,
        /// The ownership under which it happened.
        epoch: Epoch,
        /// What differs, for people.
        words: String,
    },
}

/// How far a match is that this node has to do with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// It is being restored.
    Starting,
    /// It is followed.
    Follows(Stand),
    /// It is begun anew at this time.
    Waits {
        /// In this process's own milliseconds.
        until_ms: u64,
        /// What failed, for people.
        why: String,
    },
    /// It is not followed under this owner: this build cannot run it.
    Cannot(String),
    /// It is not followed under this owner: what is computed here differs.
    Differs(String),
}

/// A match that this node has to do with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The ownership that is followed.
    pub epoch: Epoch,
    /// The owner.
    pub owner: Incarnation,
    /// What for.
    pub purpose: Purpose,
    /// How far.
    pub phase: Phase,
}

impl Entry {
    fn is_of(&self, row: &MatchLease) -> bool {
        (self.epoch, self.owner) == (row.epoch, row.incarnation)
    }

    /// Whether there is, or will be, a world of it.
    fn has_world(&self) -> bool {
        matches!(self.phase, Phase::Starting | Phase::Follows(_))
    }
}

/// Remembers what is followed.
#[derive(Debug)]
pub struct Standbys {
    me: Incarnation,
    region: String,
    limits: Limits,
    entries: BTreeMap<MatchId, Entry>,
    /// Matches that this node should follow and does not, because it follows as many as it may.
    left_out: usize,
}

impl Standbys {
    /// Follows nothing yet. Matches of other regions than `region` are left alone.
    pub fn new(me: Incarnation, region: String, limits: Limits) -> Self {
        Self { me, region, limits, entries: BTreeMap::new(), left_out: 0 }
    }

    /// All matches that this node has to do with.
    pub fn entries(&self) -> &BTreeMap<MatchId, Entry> {
        &self.entries
    }

    /// Matches that this node should follow and does not, because it follows as many as it may.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The matches that would go on here if their owner died now.
    pub fn ready(&self) -> impl Iterator<Item = MatchId> {
        let ready = |entry: &Entry| {
            entry.purpose == Purpose::Standby && matches!(entry.phase, Phase::Follows(_))
        };
        self.entries.iter().filter(move |(_, entry)| ready(entry)).map(|(id, _)| *id)
    }

    /// Takes in what happened at `now_ms` of this process's own time.
    pub fn handle(&mut self, now_ms: u64, event: Event<'_>) -> Vec<Effect> {
        match event {
            Event::Read { rows, nodes, wishes, wall_ms } => {
                let wanted = self.assigned(rows, nodes, wishes, wall_ms);
                self.read(now_ms, rows, nodes, wanted)
            }
            Event::Stands(match_id, stand) => {
                if let Some(entry) = self.entries.get_mut(&match_id).filter(|e| e.has_world()) {
                    entry.phase = Phase::Follows(stand);
                }
                Vec::new()
            }
            Event::Failed(match_id, failure) => self.failed(now_ms, match_id, failure),
            Event::Secured(rows) => self.promotions(rows),
            Event::Taken(match_id) => {
                self.entries.remove(&match_id);
                Vec::new()
            }
        }
    }

    /// The matches for which this node comes first among those that may follow them, as many as it
    /// may have, the most important ones first.
    fn assigned<'a>(
        &mut self,
        rows: &'a [MatchLease],
        nodes: &[Candidate],
        wishes: &Wishes,
        wall_ms: u64,
    ) -> Vec<(&'a MatchLease, Purpose)> {
        let takes = |node: &&Candidate| !node.draining && node.region == self.region;
        self.left_out = 0;
        if !nodes.iter().filter(takes).any(|node| node.node == self.me) {
            return Vec::new();
        }
        let purpose_of = |row: &MatchLease| {
            let others = nodes.iter().filter(takes).map(|node| node.node);
            let others = others.filter(|node| *node != row.incarnation);
            let place = placement::place(row.match_id, self.me, others);
            let standbys = usize::from(wishes.standbys_of(row));
            if place < standbys {
                Some(Purpose::Standby)
            } else {
                // A standby compares every hash as well.
                (standbys == 0 && place == 0 && wishes.audits(row.match_id, wall_ms))
                    .then_some(Purpose::Audit)
            }
        };
        let mut wanted: Vec<(&MatchLease, Purpose)> = rows
            .iter()
            .filter(|row| {
                row.state == MatchState::Running
                    && row.region == self.region
                    && row.incarnation != self.me
                    && nodes.iter().any(|node| node.node == row.incarnation)
            })
            .filter_map(|row| purpose_of(row).map(|purpose| (row, purpose)))
            .collect();
        // Standbys before audits, and what is followed already before what is not.
        wanted.sort_by_key(|(row, purpose)| {
            let followed = self.entries.get(&row.match_id).is_some_and(Entry::has_world);
            (*purpose != Purpose::Standby, !followed, row.match_id)
        });
        self.left_out = wanted.len().saturating_sub(self.limits.most);
        wanted.truncate(self.limits.most);
        wanted
    }

    fn read(
        &mut self,
        now_ms: u64,
        rows: &[MatchLease],
        nodes: &[Candidate],
        wanted: Vec<(&MatchLease, Purpose)>,
    ) -> Vec<Effect> {
        let by_id: BTreeMap<MatchId, &MatchLease> =
            rows.iter().map(|row| (row.match_id, row)).collect();
        let purposes: BTreeMap<MatchId, Purpose> =
            wanted.iter().map(|(row, purpose)| (row.match_id, *purpose)).collect();
        let is_live = |owner: Incarnation| nodes.iter().any(|node| node.node == owner);
        let mut effects = Vec::new();
        self.entries.retain(|id, entry| {
            let row = by_id.get(id).filter(|row| entry.is_of(row));
            let runs = row.is_some_and(|row| row.state == MatchState::Running);
            // Of a dead owner nobody takes the follower away: it is needed now. That two nodes
            // differ is remembered as long as this owner has the match.
            let differs = matches!(entry.phase, Phase::Differs(_));
            let kept = runs && (purposes.contains_key(id) || !is_live(entry.owner) || differs);
            if kept {
                entry.purpose = purposes.get(id).copied().unwrap_or(entry.purpose);
            } else if entry.has_world() {
                effects.push(Effect::Drop(*id));
            }
            kept
        });
        let starting = self.entries.values().filter(|entry| entry.phase == Phase::Starting).count();
        let mut places = self.limits.starting.saturating_sub(starting);
        let followed = self.entries.values().filter(|entry| entry.has_world()).count();
        places = places.min(self.limits.most.saturating_sub(followed));
        for (row, purpose) in wanted {
            let due = match self.entries.get(&row.match_id).map(|entry| &entry.phase) {
                None => true,
                Some(Phase::Waits { until_ms, .. }) => *until_ms <= now_ms,
                Some(_) => false,
            };
            if !due || places == 0 {
                continue;
            }
            places -= 1;
            self.start(row, purpose);
            effects.push(Effect::Follow(Box::new(row.clone()), purpose));
        }
        effects
    }

    /// Notes that a match is being restored.
    fn start(&mut self, row: &MatchLease, purpose: Purpose) {
        let (epoch, owner) = (row.epoch, row.incarnation);
        self.entries.insert(row.match_id, Entry { epoch, owner, purpose, phase: Phase::Starting });
    }

    fn failed(&mut self, now_ms: u64, match_id: MatchId, failure: Failure) -> Vec<Effect> {
        let Some(entry) = self.entries.get_mut(&match_id).filter(|entry| entry.has_world()) else {
            return Vec::new();
        };
        let (phase, effects) = match failure {
            Failure::Later(why) => {
                let restored = entry.phase != Phase::Starting;
                let pause = if restored { AGAIN_MS } else { RESTORE_AGAIN_MS };
                (Phase::Waits { until_ms: now_ms + pause, why }, Vec::new())
            }
            Failure::Never(why) => (Phase::Cannot(why), Vec::new()),
            Failure::Differs(words) => {
                let alarm = Effect::Alarm { match_id, epoch: entry.epoch, words: words.clone() };
                (Phase::Differs(words), vec![alarm])
            }
        };
        entry.phase = phase;
        effects
    }

    /// Of the matches that are claimed now, those that go on with their followed worlds: most
    /// players first.
    fn promotions(&self, rows: &[MatchLease]) -> Vec<Effect> {
        let mut chosen: Vec<(usize, MatchId)> = rows
            .iter()
            // A suspect is tried before anybody runs it.
            .filter(|row| row.state == MatchState::Running && row.attempts == 0)
            .filter_map(|row| {
                let entry = self.entries.get(&row.match_id).filter(|entry| entry.is_of(row))?;
                match &entry.phase {
                    Phase::Follows(stand) if entry.purpose == Purpose::Standby => {
                        Some((stand.sessions, row.match_id))
                    }
                    _ => None,
                }
            })
            .collect();
        chosen.sort_by_key(|(sessions, id)| (std::cmp::Reverse(*sessions), *id));
        chosen.into_iter().map(|(_, id)| Effect::Promote(id)).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use rekindle_schema::lease::{DEFAULT_REGION, MatchSpec};

    use super::*;

    const ME: u64 = 1;
    const LIMITS: Limits = Limits { most: 3, starting: 2 };

    pub(crate) fn row(id: u64, owner: u64) -> MatchLease {
        MatchLease {
            match_id: MatchId(id),
            version: 1,
            epoch: Epoch(1),
            incarnation: Incarnation(owner),
            state: MatchState::Running,
            attempts: 0,
            lineage: Vec::new(),
            spec: MatchSpec {
                game: "test".to_owned(),
                config: bytes::Bytes::new(),
                seed: 1,
                tick_rate: 30,
                house_bots: 0,
                created_ms: 0,
            },
            region: DEFAULT_REGION.to_owned(),
        }
    }

    fn node(incarnation: u64) -> Candidate {
        Candidate {
            node: Incarnation(incarnation),
            weight: 1,
            matches: 0,
            draining: false,
            region: DEFAULT_REGION.to_owned(),
        }
    }

    fn new(limits: Limits) -> Standbys {
        Standbys::new(Incarnation(ME), DEFAULT_REGION.to_owned(), limits)
    }

    fn all_wanted() -> Wishes {
        Wishes { any: 1, ..Wishes::default() }
    }

    fn stand(sessions: usize) -> Stand {
        Stand { tick: Tick(5), lag: 0, sessions }
    }

    fn read(
        standbys: &mut Standbys,
        now_ms: u64,
        rows: &[MatchLease],
        nodes: &[Candidate],
    ) -> Vec<Effect> {
        let wishes = all_wanted();
        standbys.handle(now_ms, Event::Read { rows, nodes, wishes: &wishes, wall_ms: 0 })
    }

    fn follows(effects: &[Effect]) -> Vec<u64> {
        let id = |effect: &Effect| match effect {
            Effect::Follow(row, _) => Some(row.match_id.0),
            _ => None,
        };
        effects.iter().filter_map(id).collect()
    }

    #[test]
    fn each_match_has_one_standby_which_is_the_first_to_claim_it() {
        let nodes: Vec<Candidate> = (1..=4).map(node).collect();
        let rows: Vec<MatchLease> = (0..400).map(|id| row(id, 1 + id % 4)).collect();
        let mut followed = BTreeMap::new();
        for me in 1..=4 {
            let limits = Limits { most: 400, starting: 400 };
            let mut standbys = Standbys::new(Incarnation(me), DEFAULT_REGION.to_owned(), limits);
            for id in follows(&read(&mut standbys, 0, &rows, &nodes)) {
                assert_eq!(followed.insert(id, me), None, "match {id} has one standby");
            }
        }
        assert_eq!(followed.len(), 400);
        for (id, me) in followed {
            let survivors = (1..=4).filter(|node| *node != 1 + id % 4).map(Incarnation);
            assert!(placement::is_first(MatchId(id), Incarnation(me), survivors));
        }
    }

    #[test]
    fn a_node_follows_and_begins_no_more_than_it_may_and_drained_ones_nothing() {
        let nodes = [node(ME), node(2)];
        let rows: Vec<MatchLease> = (0..10).map(|id| row(id, 2)).collect();
        let mut standbys = new(LIMITS);
        assert_eq!(follows(&read(&mut standbys, 0, &rows, &nodes)), [0, 1]);
        assert_eq!(follows(&read(&mut standbys, 1, &rows, &nodes)), [0; 0], "two are starting");
        standbys.handle(2, Event::Stands(MatchId(0), stand(1)));
        assert_eq!(follows(&read(&mut standbys, 3, &rows, &nodes)), [2]);
        standbys.handle(4, Event::Stands(MatchId(1), stand(1)));
        standbys.handle(4, Event::Stands(MatchId(2), stand(1)));
        assert_eq!(follows(&read(&mut standbys, 5, &rows, &nodes)), [0; 0]);
        assert_eq!((standbys.left_out(), standbys.ready().count()), (7, 3));
        let mut drained = nodes.clone();
        drained[0].draining = true;
        let dropped = read(&mut standbys, 6, &rows, &drained);
        assert_eq!(dropped, [0, 1, 2].map(|id| Effect::Drop(MatchId(id))));
    }

    #[test]
    fn a_follower_is_kept_when_its_owner_dies_and_dropped_when_somebody_else_goes_on() {
        let nodes = [node(ME), node(2)];
        let mut rows = [row(7, 2)];
        let mut standbys = new(LIMITS);
        read(&mut standbys, 0, &rows, &nodes);
        standbys.handle(1, Event::Stands(MatchId(7), stand(1)));
        assert_eq!(read(&mut standbys, 2, &rows, &nodes[..1]), [], "it is needed now");
        rows[0].epoch = Epoch(2);
        rows[0].incarnation = Incarnation(3);
        let nodes = [node(ME), node(3)];
        let effects = read(&mut standbys, 3, &rows, &nodes);
        let again = Effect::Follow(Box::new(rows[0].clone()), Purpose::Standby);
        assert_eq!(effects, [Effect::Drop(MatchId(7)), again]);
        // Its row names this node.
        rows[0].incarnation = Incarnation(ME);
        assert_eq!(read(&mut standbys, 4, &rows, &nodes), [Effect::Drop(MatchId(7))]);
    }

    #[test]
    fn those_with_most_players_are_promoted_first_and_suspects_not_at_all() {
        let nodes = [node(ME), node(2)];
        let mut rows: Vec<MatchLease> = (0..4).map(|id| row(id, 2)).collect();
        let mut standbys = new(Limits { most: 9, starting: 9 });
        read(&mut standbys, 0, &rows, &nodes);
        for id in 0..3 {
            standbys.handle(1, Event::Stands(MatchId(id), stand(id as usize)));
        }
        rows[1].attempts = 1;
        let effects = standbys.handle(2, Event::Secured(&rows));
        assert_eq!(effects, [Effect::Promote(MatchId(2)), Effect::Promote(MatchId(0))]);
        standbys.handle(3, Event::Taken(MatchId(2)));
        assert_eq!(standbys.handle(4, Event::Secured(&rows)), [Effect::Promote(MatchId(0))]);
        // Somebody else was faster: what is followed is another epoch.
        rows[0].epoch = Epoch(2);
        assert_eq!(standbys.handle(5, Event::Secured(&rows)), []);
    }

    #[test]
    fn a_world_that_differs_is_told_once_and_neither_promoted_nor_begun_anew_under_this_owner() {
        let nodes = [node(ME), node(2)];
        let mut rows = [row(7, 2)];
        let mut standbys = new(LIMITS);
        read(&mut standbys, 0, &rows, &nodes);
        standbys.handle(1, Event::Stands(MatchId(7), stand(1)));
        let differs = || Event::Failed(MatchId(7), Failure::Differs("position".to_owned()));
        let alarms = standbys.handle(2, differs());
        assert!(matches!(&alarms[..], [Effect::Alarm { words, .. }] if words == "position"));
        assert_eq!(standbys.handle(3, differs()), [], "said once");
        // A step that was under way when it was found out.
        standbys.handle(4, Event::Stands(MatchId(7), stand(1)));
        assert_eq!(standbys.handle(5, Event::Secured(&rows)), []);
        assert_eq!(read(&mut standbys, 1_000_000, &rows, &nodes), []);
        rows[0].epoch = Epoch(2);
        assert_eq!(follows(&read(&mut standbys, 1_000_001, &rows, &nodes)), [7]);
    }

    #[test]
    fn what_failed_is_begun_anew_after_a_pause() {
        let nodes = [node(ME), node(2)];
        let rows = [row(7, 2)];
        let mut standbys = new(LIMITS);
        let later = || Event::Failed(MatchId(7), Failure::Later("trimmed".to_owned()));
        read(&mut standbys, 0, &rows, &nodes);
        standbys.handle(0, later());
        assert_eq!(follows(&read(&mut standbys, RESTORE_AGAIN_MS - 1, &rows, &nodes)), [0; 0]);
        assert_eq!(follows(&read(&mut standbys, RESTORE_AGAIN_MS, &rows, &nodes)), [7]);
        standbys.handle(RESTORE_AGAIN_MS, Event::Stands(MatchId(7), stand(1)));
        standbys.handle(RESTORE_AGAIN_MS, later());
        let soon = RESTORE_AGAIN_MS + AGAIN_MS;
        assert_eq!(follows(&read(&mut standbys, soon, &rows, &nodes)), [7]);
    }

    #[test]
    fn an_audit_compares_and_never_takes_over() {
        let (nodes, rows) = ([node(ME), node(2)], [row(7, 2)]);
        let wishes = Wishes { audit: 1_000_000, ..Wishes::default() };
        let mut standbys = new(LIMITS);
        let read = Event::Read { rows: &rows, nodes: &nodes, wishes: &wishes, wall_ms: 0 };
        let effects = standbys.handle(0, read);
        assert!(matches!(&effects[..], [Effect::Follow(_, Purpose::Audit)]), "{effects:?}");
        standbys.handle(1, Event::Stands(MatchId(7), stand(1)));
        assert_eq!(standbys.handle(2, Event::Secured(&rows)), []);
        assert_eq!(standbys.ready().count(), 0);
    }

    #[derive(Debug, Clone)]
    enum Step {
        Read { live: u8, epochs: [u8; 5], wanted: u8 },
        Stands(u64),
        Later(u64),
        Differs(u64),
        Secured,
        Pass(u64),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let read =
            (any::<u8>(), any::<[u8; 5]>(), any::<u8>()).prop_map(|(live, epochs, wanted)| {
                Step::Read { live, epochs: epochs.map(|epoch| epoch % 3), wanted }
            });
        let step = prop_oneof![
            4 => read,
            4 => (0..5_u64).prop_map(Step::Stands),
            1 => (0..5_u64).prop_map(Step::Later),
            1 => (0..5_u64).prop_map(Step::Differs),
            2 => Just(Step::Secured),
            1 => (0..20_000_u64).prop_map(Step::Pass),
        ];
        proptest::collection::vec(step, 1..80)
    }

    proptest! {
        /// Whatever happens: as many worlds as effects say and never more than may be, promoted is
        /// only what is followed under the row's own epoch, and nothing that differed.
        #[test]
        fn worlds_are_bounded_and_only_what_is_followed_is_promoted(steps in steps()) {
            let mut standbys = new(LIMITS);
            let (mut worlds, mut differed) = (BTreeMap::new(), BTreeSet::new());
            let mut rows: Vec<MatchLease> = (0..5).map(|id| row(id, 2)).collect();
            let mut now = 0;
            for step in steps {
                let effects = match step {
                    Step::Read { live, epochs, wanted } => {
                        for (row, epoch) in rows.iter_mut().zip(epochs) {
                            row.epoch = Epoch(row.epoch.0.max(u64::from(epoch)));
                            row.incarnation = Incarnation(1 + row.epoch.0 % 3);
                        }
                        let nodes: Vec<Candidate> = [1, 2, 3]
                            .into_iter()
                            .filter(|id| *id == ME || live & (1 << id) != 0)
                            .map(node)
                            .collect();
                        let wishes = Wishes { any: wanted % 2, ..Wishes::default() };
                        let wishes = &wishes;
                        standbys.handle(
                            now,
                            Event::Read { rows: &rows, nodes: &nodes, wishes, wall_ms: 0 },
                        )
                    }
                    Step::Stands(id) => {
                        standbys.handle(now, Event::Stands(MatchId(id), stand(id as usize)))
                    }
                    Step::Later(id) | Step::Differs(id) => {
                        let failure = if matches!(step, Step::Later(_)) {
                            Failure::Later(String::new())
                        } else {
                            if let Some(epoch) = worlds.get(&MatchId(id)) {
                                differed.insert((MatchId(id), *epoch));
                            }
                            Failure::Differs(String::new())
                        };
                        worlds.remove(&MatchId(id));
                        standbys.handle(now, Event::Failed(MatchId(id), failure))
                    }
                    Step::Secured => standbys.handle(now, Event::Secured(&rows)),
                    Step::Pass(time) => {
                        now += time;
                        Vec::new()
                    }
                };
                for effect in effects {
                    match effect {
                        Effect::Follow(row, _) => {
                            let before = worlds.insert(row.match_id, row.epoch);
                            prop_assert_eq!(before, None);
                            prop_assert!(!differed.contains(&(row.match_id, row.epoch)));
                            prop_assert!(row.incarnation != Incarnation(ME));
                        }
                        Effect::Drop(id) => prop_assert!(worlds.remove(&id).is_some()),
                        Effect::Promote(id) => {
                            let epoch = rows[id.0 as usize].epoch;
                            prop_assert_eq!(worlds.remove(&id), Some(epoch));
                            prop_assert!(!differed.contains(&(id, epoch)));
                            standbys.handle(now, Event::Taken(id));
                        }
                        Effect::Alarm { match_id, epoch, .. } => {
                            prop_assert!(differed.contains(&(match_id, epoch)));
                        }
                    }
                }
                prop_assert!(worlds.len() <= LIMITS.most);
            }
        }
    }
}
