//! One seed of a cluster from beginning to end: the world is played, then the judges look at what
//! is left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_schema::lease::MatchLease;
use rekindle_schema::{Epoch, Incarnation, MatchId, Seq};
use rekindle_sim::{GameType, Typed};
use rekindle_testkit::evidence::Evidence;
use rekindle_testkit::history::{Account, Recomputed};
use rekindle_testkit::oracle::{self, Rule, Violation};

use super::faults::{PLAYERS, QUIET_FROM, Schedule, TOTAL};
use super::link::Mutant;
use super::mover::Moved;
use super::node::Node;
use super::player::{Player, Sent};
use super::world::{World, advance, play, runtime};
use crate::game::Sparks;
use crate::node::MATCHES;

/// What was sent so long before the end must be done.
const IN_TIME: Duration = Duration::from_millis(900);

/// How a simulation went.
pub(crate) struct Outcome {
    /// What does not hold.
    pub violations: Vec<Violation>,
    /// What was marked on the way.
    pub marks: BTreeSet<&'static str>,
    /// What befell nodes in the middle of migrations.
    pub blows: Vec<&'static str>,
    /// Ticks and inputs that were judged.
    pub judged: (u64, usize),
}

/// A simulation that is over and not judged yet.
pub(crate) struct Played {
    world: World,
    game: Arc<dyn GameType>,
    players: Vec<(Evidence, Sent)>,
}

/// What a player was told, and the commands that it sent.
type Told = (Arc<Mutex<Evidence>>, Arc<Mutex<Sent>>);

/// Plays a seed with these faults.
pub(crate) fn play_seed(seed: u64, schedule: &Schedule, mutant: Option<Mutant>) -> Played {
    let network = runtime(seed, "network");
    let players = runtime(seed, "players");
    let world = World::new(seed, schedule.clone(), mutant, network.handle().clone());
    let game: Arc<dyn GameType> =
        Arc::new(Typed::<Sparks>::new().expect("the parts of the game fit together"));
    let seen: Vec<Told> = (0..PLAYERS)
        .map(|number| {
            let player = Player::new(&world, number);
            let seen = (player.evidence(), player.sent());
            players.spawn(player.play());
            seen
        })
        .collect();
    let mut lives = 0;
    play(&world, &network, &players, |number, process| {
        lives += 1;
        process.spawn(Node { world: world.clone(), number, game: game.clone() }.live(lives));
    });
    drop(players);
    // What is still under way arrives: it must change nothing.
    advance(&network, Duration::from_secs(1));
    drop(network);
    let players = seen
        .iter()
        .map(|(evidence, sent)| (evidence.lock().clone(), sent.lock().clone()))
        .collect();
    Played { world, game, players }
}

/// Plays a seed with these faults, and judges it.
pub(crate) fn run(seed: u64, schedule: &Schedule, mutant: Option<Mutant>) -> Outcome {
    play_seed(seed, schedule, mutant).judge()
}

impl Played {
    /// What happened.
    pub(crate) fn trace(&self) -> Vec<String> {
        self.world.trace.lines()
    }

    /// Holds what players saw against what is left.
    pub(crate) fn judge(&self) -> Outcome {
        let world = &self.world;
        let mut violations = world.problems.lock().clone();
        let mut judged = (0, 0);
        for match_id in MATCHES {
            let mut found = Vec::new();
            let result = self.weigh(match_id, &mut found, &mut judged);
            found.extend(result.err());
            violations.extend(found.into_iter().map(|violation| Violation {
                detail: format!("match {match_id}: {}", violation.detail),
                ..violation
            }));
        }
        Outcome { violations, marks: world.marks(), blows: world.blows(), judged }
    }

    fn weigh(
        &self,
        match_id: MatchId,
        found: &mut Vec<Violation>,
        judged: &mut (u64, usize),
    ) -> Result<(), Violation> {
        let Self { world, game, players } = self;
        let broken = |error: String| Violation::new(Rule::JournalWhole, error);
        let (lease, account, problems) =
            world.disk.account(match_id).map_err(|error| broken(error.to_string()))?;
        found.extend(problems);
        found.extend(world.disk.kept(match_id, &account));
        found.extend(one_owner(&lease, &account));
        found.extend(moves_hold(world, match_id, &account));
        judged.0 += account.last_tick().0;
        let recomputed = account
            .resimulate(&**game, &lease)
            .map_err(|error| Violation::new(Rule::HashesAgree, error))?;
        found.extend(oracle::journal_hashes(&account, &recomputed));
        for (of, sent) in players.iter().filter(|(of, _)| of.match_id == match_id) {
            judged.1 += of.inputs.len();
            found.extend(oracle::inputs_once(&account, of));
            found.extend(oracle::commands_once(&account, &recomputed, of));
            found.extend(commands_arrive(&recomputed, of, sent));
            found.extend(oracle::seen_hashes(&recomputed, of));
            found.extend(oracle::nothing_undone(&account, &recomputed, of));
            found.extend(oracle::sessions_kept(&account, of));
            found.extend(oracle::progress(of, QUIET_FROM, TOTAL));
            // A run has four or five hashes, and a player may be on its way at most of them.
            found.extend(oracle::enough_evidence(of, 20, 1));
        }
        Ok(())
    }
}

/// Every command that a player sent in time is done, whatever moved or died meanwhile.
fn commands_arrive(recomputed: &Recomputed, evidence: &Evidence, sent: &Sent) -> Vec<Violation> {
    let lost = sent.all.iter().filter(|(session, seq, at)| {
        *at + IN_TIME <= TOTAL && !recomputed.commands.contains_key(&(*session, *seq))
    });
    lost.map(|(session, seq, at)| {
        let detail = format!(
            "{}: command {seq} of session {session}, sent at {at:?}, was never done",
            evidence.name
        );
        Violation::new(Rule::CommandsOnce, detail)
    })
    .collect()
}

/// Behind a cut nothing was made in the epoch that ended there, the next begins with the next
/// record; and what was moved in calm times was run by its follower.
fn moves_hold(world: &World, match_id: MatchId, account: &Account) -> Vec<Violation> {
    let mut bad = Vec::new();
    for moved in world.moved().into_iter().filter(|moved| moved.match_id == match_id) {
        let Moved { cut, target, calm_pause_ms, .. } = moved;
        let last = account.records.iter().rfind(|record| record.epoch == cut.epoch);
        let stands = last.map(|record| (record.seq, record.flush.last));
        // A cut behind the last record that the epoch before wrote has none of its own.
        if stands.is_some_and(|(seq, tick)| seq > cut.seq || tick > cut.tick) {
            bad.push(format!("{stands:?} (record, tick) lie behind {cut:?}"));
        }
        let first = account.records.iter().find(|record| record.epoch > cut.epoch);
        if first.is_some_and(|first| {
            (first.seq, first.flush.first) != (cut.seq.next(), cut.tick.next())
        }) {
            bad.push(format!("the first record behind {cut:?} is {first:?}"));
        }
        if calm_pause_ms.is_some() && world.was_recovered(match_id, cut.epoch.next()) {
            bad.push(format!("{target} had to recover what it followed up to {cut:?}"));
        }
    }
    bad.into_iter().map(|detail| Violation::new(Rule::JournalWhole, detail)).collect()
}

/// Each epoch has one owner, epochs only grow, and each record is of the epoch whose turn it is.
fn one_owner(lease: &MatchLease, account: &Account) -> Vec<Violation> {
    let mut bad = Vec::new();
    let mut owners: BTreeMap<Epoch, Incarnation> = BTreeMap::new();
    let mut before = (Epoch(0), Seq(0));
    for line in &lease.lineage {
        let other = owners.insert(line.epoch, line.incarnation);
        if other.is_some() || line.epoch <= before.0 || line.first_seq < before.1 {
            bad.push(format!("the lineage has {line:?} behind {before:?}"));
        }
        before = (line.epoch, line.first_seq);
    }
    for record in &account.records {
        let turn = lease.lineage.iter().rev().find(|line| line.first_seq <= record.seq);
        if turn.is_none_or(|line| line.epoch != record.epoch) {
            bad.push(format!(
                "record {} is of epoch {}, it was the turn of {turn:?}",
                record.seq, record.epoch
            ));
        }
    }
    bad.into_iter().map(|detail| Violation::new(Rule::JournalWhole, detail)).collect()
}
