//! Why matches do not run on a node: data that the caretaker fills and that lists, metrics and
//! words for clients are made of. Pure; whoever shares a [`StandingTable`] between threads guards
//! it (the node does).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use rekindle_schema::condition::Condition;
use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_schema::{Incarnation, MatchId};

/// What a build lacks to run a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// The game itself.
    UnknownGame,
    /// It did not compute the match's records, and is not told to accept those of others.
    OtherBuild,
    /// It does not understand the match's configuration.
    Config,
    /// It does not understand the match's checkpoint.
    Checkpoint,
    /// It cannot replay the match, for another reason.
    Replay,
}

impl Lack {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::UnknownGame, Self::OtherBuild, Self::Config, Self::Checkpoint, Self::Replay];

    /// One word: the value of the label `reason` of the metric.
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnknownGame => "unknown_game",
            Self::OtherBuild => "other_build",
            Self::Config => "config",
            Self::Checkpoint => "checkpoint",
            Self::Replay => "replay",
        }
    }

    /// The lack with this label.
    pub fn from_label(label: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|lack| lack.label() == label)
    }
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.label())
    }
}

/// The label of a parked match.
const PARKED: &str = "parked";

/// All labels that [`Standing::label`] gives.
pub fn labels() -> impl Iterator<Item = &'static str> {
    Lack::ALL.into_iter().map(Lack::label).chain([PARKED])
}

/// What keeps a match from running on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Its owner is gone, and it is about to be recovered.
    Recovering,
    /// This build cannot run it, another one may: what it lacks, in one word and in words.
    Waits(Lack, String),
    /// An operator decides: the report.
    Parked(String),
}

impl Standing {
    /// As it is listed.
    pub fn condition(&self) -> Condition {
        match self {
            Self::Recovering => Condition::Recovering,
            Self::Waits(..) => Condition::Waits,
            Self::Parked(_) => Condition::Parked,
        }
    }

    /// The label of the metric; a match that is about to be recovered has none.
    pub fn label(&self) -> Option<&'static str> {
        match self {
            Self::Recovering => None,
            Self::Waits(lack, _) => Some(lack.label()),
            Self::Parked(_) => Some(PARKED),
        }
    }

    /// In words, for operators.
    pub fn words(&self) -> String {
        match self {
            Self::Recovering => {
                "the node that ran it is gone; it is about to be recovered".to_owned()
            }
            Self::Waits(_, words) | Self::Parked(words) => words.clone(),
        }
    }
}

/// Matches that do not run on a node although their home is in its region or they are its own, each
/// with its row as last seen.
#[derive(Debug, Default)]
pub struct StandingTable {
    matches: BTreeMap<MatchId, (MatchLease, Standing)>,
    /// Nodes that look dead to this one.
    dead: BTreeSet<Incarnation>,
}

impl StandingTable {
    /// Puts what the directory says now in place of what was known.
    pub fn replace(
        &mut self,
        matches: impl IntoIterator<Item = (MatchLease, Standing)>,
        dead: &BTreeSet<Incarnation>,
    ) {
        self.dead.clone_from(dead);
        self.matches = matches.into_iter().map(|entry| (entry.0.match_id, entry)).collect();
    }

    /// What has come of one match: no `standing` if it runs or is over. Without a `row` the one
    /// that is known stays.
    pub fn set(&mut self, id: MatchId, row: Option<&MatchLease>, standing: Option<Standing>) {
        let Some(standing) = standing else {
            self.matches.remove(&id);
            return;
        };
        if let Some(row) = row {
            assert_eq!(row.match_id, id, "the row of another match");
            self.matches.insert(id, (row.clone(), standing));
        } else if let Some((row, known)) = self.matches.get_mut(&id) {
            if let Standing::Parked(report) = &standing {
                row.state = MatchState::Parked { report: report.clone() };
            }
            *known = standing;
        }
    }

    /// What keeps a match from running here.
    pub fn of(&self, id: MatchId) -> Option<&Standing> {
        self.matches.get(&id).map(|(_, standing)| standing)
    }

    /// All of them, ascending by match.
    pub fn all(&self) -> impl Iterator<Item = &(MatchLease, Standing)> {
        self.matches.values()
    }

    /// How many have this label.
    pub fn count(&self, label: &str) -> usize {
        self.all().filter(|(_, standing)| standing.label() == Some(label)).count()
    }

    /// Whether a node looks dead to this one.
    pub fn is_dead(&self, node: Incarnation) -> bool {
        self.dead.contains(&node)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rekindle_schema::Epoch;
    use rekindle_schema::lease::{DEFAULT_REGION, MatchSpec};

    use super::*;

    fn row(id: u64) -> MatchLease {
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
            incarnation: Incarnation(1),
            state: MatchState::Running,
            attempts: 0,
            lineage: Vec::new(),
            spec,
            region: DEFAULT_REGION.to_owned(),
        }
    }

    #[test]
    fn every_lack_is_found_by_its_label_and_has_its_own() {
        for lack in Lack::ALL {
            assert_eq!(Lack::from_label(lack.label()), Some(lack));
        }
        assert_eq!(Lack::from_label("parked"), None);
        let all: BTreeSet<&str> = labels().collect();
        assert_eq!(all.len(), Lack::ALL.len() + 1);
    }

    #[test]
    fn what_comes_of_a_match_stands_in_the_table_until_the_next_scan() {
        let mut table = StandingTable::default();
        let dead = BTreeSet::from([Incarnation(9)]);
        table.replace([(row(1), Standing::Recovering), (row(2), Standing::Recovering)], &dead);
        assert!(table.is_dead(Incarnation(9)));
        table.set(MatchId(1), None, Some(Standing::Parked("why".to_owned())));
        let (parked, _) = table.all().next().unwrap();
        assert_eq!(parked.state, MatchState::Parked { report: "why".to_owned() });
        table.set(MatchId(2), None, None);
        assert_eq!((table.of(MatchId(2)), table.count("parked")), (None, 1));
        table.set(MatchId(3), None, Some(Standing::Recovering));
        assert_eq!(table.of(MatchId(3)), None, "nothing is known of it");
        table.replace([], &BTreeSet::new());
        assert!(table.all().next().is_none() && !table.is_dead(Incarnation(9)));
    }

    #[test]
    #[should_panic = "the row of another match"]
    fn a_row_of_another_match_is_refused() {
        StandingTable::default().set(MatchId(1), Some(&row(2)), Some(Standing::Recovering));
    }
}
