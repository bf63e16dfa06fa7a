//! Nodes under load on Postgres, each a real process, with bots that know all of them: one is
//! frozen, one is cut off from the store. And what the checker is worth that judges them: it finds
//! each of several falsified histories.

use rekindle_loadtest::{Evidence, Fact};
use rekindle_schema::{Epoch, MatchId, SessionId, StateHash, Tick};
use rekindle_testservers as servers;

use crate::checker;
use crate::fleet::{FENCED, Fleet, Size, all_play, evidence, runtime};
use crate::store::Tables;
use crate::support::rekindle;

/// Bots in each match.
const SEATS: usize = 3;
/// Two nodes with a match each.
const TWO: Size = Size { nodes: 2, matches: 2, seats: SEATS };

#[test]
fn a_frozen_node_that_wakes_acknowledges_nothing_more_and_ends() {
    let Some(tables) = Tables::postgres() else {
        return servers::skipped("a frozen node on Postgres", "no such server");
    };
    let store = tables.url();
    let mut fleet = Fleet::new(TWO);
    rekindle(&fleet.place(0), &["store", "migrate", "--store", &store]).expect(0);
    let (mut frozen, other) = (fleet.start(0, &store), fleet.start(1, &store));
    let runtime = runtime();
    let swarm = runtime.block_on(async { fleet.swarm() });
    let players = fleet.players();
    all_play(&runtime, &swarm, players, 0);
    frozen.signal(rustix::process::Signal::STOP);
    all_play(&runtime, &swarm, players, SEATS as u64);
    frozen.signal(rustix::process::Signal::CONT);
    assert_eq!(frozen.wait(), FENCED);
    let evidence = evidence(&runtime, swarm);
    assert_eq!(other.terminate(), 0);
    let judged = checker::check(&store, &evidence);
    assert!(judged.epochs.contains(&Epoch(2)), "{judged:?}");
}

#[test]
fn a_node_that_is_cut_off_from_the_store_loses_its_matches_and_ends_once_back() {
    let Some(tables) = Tables::postgres() else {
        return servers::skipped("a node without its store on Postgres", "no such server");
    };
    let store = tables.url();
    let mut fleet = Fleet::new(TWO);
    let (proxy, through) = tables.proxied(&fleet.place(0));
    let (mut cut_off, mut other) = (fleet.start(0, &through), fleet.start(1, &store));
    let runtime = runtime();
    let swarm = runtime.block_on(async { fleet.swarm() });
    let players = fleet.players();
    all_play(&runtime, &swarm, players, 0);
    proxy.set_up(false);
    // It still lives, and must not tell its players anything that is not in the store.
    other.wait_for("RK-NODE-010");
    // It sends them to the other node, which has their match, while it is still cut off.
    cut_off.wait_for("RK-NODE-208");
    all_play(&runtime, &swarm, players, SEATS as u64);
    proxy.set_up(true);
    assert_eq!(cut_off.wait(), FENCED);
    let evidence = evidence(&runtime, swarm);
    assert_eq!(other.terminate(), 0);
    let judged = checker::check(&store, &evidence);
    assert!(judged.epochs.contains(&Epoch(2)), "{judged:?}");
}

/// A way to falsify what bots saw: what it is called, and what it does to the evidence.
type Lie = (&'static str, fn(&mut Evidence));

/// The first bot's first fact that this finds something in.
fn first<T>(told: &mut Evidence, find: fn(&mut Fact) -> Option<&mut T>) -> &mut T {
    told.bots[0].facts.iter_mut().find_map(find).expect("such a fact")
}

fn durable(fact: &mut Fact) -> Option<&mut rekindle_loadtest::DurableInput> {
    if let Fact::Durable(input) = fact { Some(input) } else { None }
}

const LIES: [Lie; 9] = [
    ("an acknowledgement at another tick", |told| first(told, durable).tick.0 += 1),
    ("an input that was never applied", |told| first(told, durable).seq += 1_000_000),
    ("an acknowledgement of an owner that nobody knows", |told| first(told, durable).epoch.0 += 7),
    ("another hash", |told| {
        let hash = first(told, |fact| match fact {
            Fact::Beat { hash, .. } => Some(hash),
            _ => None,
        });
        *hash = StateHash([7; 32]);
    }),
    ("a tick behind the end of the journal", |told| {
        told.bots[0].tally.newest = Tick(told.bots[0].tally.newest.0 + 100_000);
    }),
    ("ticks that were taken back", |told| {
        let undone = Fact::RolledBack { at_us: 1, from: Tick(9), to: Tick(8) };
        told.bots[0].facts.push(undone);
    }),
    ("a second session", |told| {
        let session = SessionId(u64::MAX);
        told.bots[0].facts.push(Fact::Joined { at_us: 1, session, epoch: Epoch(1), tick: Tick(1) });
    }),
    ("a bot that was sent away", |told| {
        told.bots[0].facts.push(Fact::Closed { at_us: 1, message: "go".to_owned() });
    }),
    ("a match that is gone", |told| told.bots[0].match_id = MatchId(1)),
];

#[test]
fn the_checker_finds_every_falsified_history() {
    let mut fleet = Fleet::new(Size { nodes: 1, matches: 1, seats: SEATS });
    let store = fleet.local();
    let node = fleet.start(0, &store);
    let runtime = runtime();
    let swarm = runtime.block_on(async { fleet.swarm() });
    all_play(&runtime, &swarm, fleet.players(), 0);
    let told = evidence(&runtime, swarm);
    assert_eq!(node.terminate(), 0);
    checker::check(&store, &told);
    for (name, lie) in LIES {
        let mut falsified = told.clone();
        lie(&mut falsified);
        let broken = checker::examine(&store, &falsified).broken;
        assert!(!broken.is_empty(), "{name} was not noticed");
    }
}
