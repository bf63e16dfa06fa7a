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
use rekindle_testkit::history::Account;
use rekindle_testkit::oracle::{self, Rule, Violation};

use super::faults::{PLAYERS, QUIET_FROM, Schedule, TOTAL};
use super::link::Mutant;
use super::node::Node;
use super::player::Player;
use super::world::{World, advance, play, runtime};
use crate::game::Sparks;
use crate::node::MATCHES;

/// How a simulation went.
pub(crate) struct Outcome {
    /// What does not hold.
    pub violations: Vec<Violation>,
    /// What happened.
    pub trace: Vec<String>,
    /// What was marked on the way.
    pub marks: BTreeSet<&'static str>,
    /// Ticks and inputs that were judged.
    pub judged: (u64, usize),
}

/// Plays a seed with these faults, and judges it.
pub(crate) fn run(seed: u64, schedule: &Schedule, mutant: Option<Mutant>) -> Outcome {
    let network = runtime(seed, "network");
    let players = runtime(seed, "players");
    let world = World::new(seed, schedule.clone(), mutant, network.handle().clone());
    let game: Arc<dyn GameType> =
        Arc::new(Typed::<Sparks>::new().expect("the parts of the game fit together"));
    let evidence: Vec<Arc<Mutex<Evidence>>> = (0..PLAYERS)
        .map(|number| {
            let player = Player::new(&world, number);
            let evidence = player.evidence();
            players.spawn(player.play());
            evidence
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
    let evidence: Vec<Evidence> = evidence.iter().map(|shared| shared.lock().clone()).collect();
    let mut violations = std::mem::take(&mut *world.problems.lock());
    let mut judged = (0, 0);
    for match_id in MATCHES {
        let of: Vec<&Evidence> = evidence.iter().filter(|of| of.match_id == match_id).collect();
        let mut found = Vec::new();
        let result = weigh(&world, match_id, &*game, &of, &mut found, &mut judged);
        found.extend(result.err());
        violations.extend(found.into_iter().map(|violation| Violation {
            detail: format!("match {match_id}: {}", violation.detail),
            ..violation
        }));
    }
    Outcome { violations, trace: world.trace.lines(), marks: world.marks(), judged }
}

fn weigh(
    world: &World,
    match_id: MatchId,
    game: &dyn GameType,
    evidence: &[&Evidence],
    found: &mut Vec<Violation>,
    judged: &mut (u64, usize),
) -> Result<(), Violation> {
    let broken = |error: String| Violation::new(Rule::JournalWhole, error);
    let (lease, account, problems) =
        world.disk.account(match_id).map_err(|error| broken(error.to_string()))?;
    found.extend(problems);
    found.extend(world.disk.kept(match_id, &account));
    found.extend(one_owner(&lease, &account));
    judged.0 += account.last_tick().0;
    let recomputed = account
        .resimulate(game, &lease)
        .map_err(|error| Violation::new(Rule::HashesAgree, error))?;
    found.extend(oracle::journal_hashes(&account, &recomputed));
    for of in evidence {
        judged.1 += of.inputs.len();
        found.extend(oracle::inputs_once(&account, of));
        found.extend(oracle::seen_hashes(&recomputed, of));
        found.extend(oracle::nothing_undone(&account, &recomputed, of));
        found.extend(oracle::sessions_kept(&account, of));
        found.extend(oracle::progress(of, QUIET_FROM, TOTAL));
        found.extend(oracle::enough_evidence(of, 20, 2));
    }
    Ok(())
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
