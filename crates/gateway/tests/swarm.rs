//! Many bots, a kill, a flood: the load test library against an edge.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rekindle_gateway::Limits;
use rekindle_loadtest::flood::{Carrier, FloodConfig, flood};
use rekindle_loadtest::{BotSpec, Brain, Evidence, Fact, Move, Swarm, SwarmConfig, Trust};
use rekindle_schema::wire::Role;
use rekindle_schema::{Epoch, PlayerId};
use support::*;

fn swarm(addr: std::net::SocketAddr, count: u64) -> Swarm {
    let brain: Brain = Arc::new(|player, view, config, memory| {
        assert_eq!(config, b"config");
        memory.push(0);
        let input = Bytes::from(vec![memory.len() as u8 & 0x7f; 8]);
        Move::input(view.avatar(player).map(|_| input))
    });
    let bots = (1..=count).map(|player| BotSpec {
        player: PlayerId(player),
        ticket: ticket(player, Role::Player),
        match_id: Some(MATCH),
        first: None,
    });
    let trust = Trust::Fingerprint(keys().fingerprint());
    Swarm::start(SwarmConfig {
        ramp: Duration::from_millis(300),
        ..SwarmConfig::new(vec![addr], trust, bots.collect(), brain)
    })
    .unwrap()
}

/// Everything that bots were told is durable happened, once, at that tick.
fn judge(evidence: &Evidence, game: &FakeMatch) {
    let applied = game.inner.lock().applied.clone();
    for bot in &evidence.bots {
        let truth: Vec<_> = applied
            .iter()
            .filter(|(player, ..)| *player == bot.player)
            .map(|&(_, seq, tick)| (seq, tick))
            .collect();
        assert!(truth.windows(2).all(|pair| pair[0].0 < pair[1].0), "no input twice");
        for fact in &bot.facts {
            if let Fact::Durable(input) = fact {
                assert!(
                    truth.contains(&(input.seq, input.tick)),
                    "bot {}: {input:?} never happened",
                    bot.player
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bot_is_back_in_its_session_after_a_kill() {
    let game = FakeMatch::start(30);
    let node = FakeNode::with(&game);
    let process = Process::start(([127, 0, 0, 1], 0).into(), Limits::default(), &node);
    let addr = process.addr;
    let swarm = swarm(addr, 24);
    assert!(
        swarm
            .wait_until(Duration::from_secs(10), |at| at.connected == 24 && at.durable > 500)
            .await,
        "{:?}",
        swarm.progress()
    );
    let killed = swarm.elapsed();
    process.kill();
    tokio::time::sleep(Duration::from_millis(300)).await;
    game.inner.lock().epoch = Epoch(2);
    let started = swarm.elapsed();
    let _process = Process::start(addr, Limits::default(), &node);
    assert!(
        swarm.wait_until(Duration::from_secs(10), |at| at.resumed == 24).await,
        "{:?}",
        swarm.progress()
    );
    let durable = swarm.progress().durable;
    assert!(
        swarm.wait_until(Duration::from_secs(10), |at| at.durable > durable + 500).await,
        "{:?}",
        swarm.progress()
    );
    let evidence = swarm.stop(true).await;
    judge(&evidence, &game);
    let summary = evidence.summary();
    assert_eq!(
        (summary.sessions_resumed, summary.joins, summary.joins_again, summary.closed),
        (24, 24, 0, 0),
        "{summary:?}"
    );
    assert_eq!(summary.ticks_rolled_back_max, 0);
    let back = evidence.back_after(killed);
    assert_eq!(back.len(), 24);
    let slowest = back.iter().max().unwrap().saturating_sub(started.saturating_sub(killed));
    println!("the slowest of 24 bots saw the next tick {slowest:?} after the port was open again");
    assert!(
        slowest < Duration::from_secs(3),
        "the slowest came {slowest:?} after the port was open"
    );
    let mut lines = Vec::new();
    evidence.write_json_lines(&mut lines).unwrap();
    assert_eq!(Evidence::read_json_lines(&lines[..]).unwrap(), evidence);
    assert!(game.inner.lock().players.is_empty(), "all have left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_garbage_disturbs_no_player() {
    let game = FakeMatch::start(30);
    let limits = Limits {
        handshakes_per_source: rekindle_gateway::Rate::new(50.0, 100.0),
        ..Limits::default()
    };
    let process = Process::start(([127, 0, 0, 1], 0).into(), limits, &FakeNode::with(&game));
    let swarm = swarm(process.addr, 8);
    assert!(swarm.wait_until(Duration::from_secs(10), |at| at.connected == 8).await);
    let config = FloodConfig {
        target: process.addr,
        packets_per_second: 1500,
        connections_per_second: 60,
        carrier: Carrier::Quic,
        duration: Duration::from_secs(2),
        seed: 1,
    };
    let report = flood(&config).await.unwrap();
    assert!(report.handshakes > 10, "{report:?}");
    let (durable, beats) = (swarm.progress().durable, swarm.progress().beats);
    let goes_on = swarm
        .wait_until(Duration::from_secs(10), |at| at.durable > durable + 80 && at.beats > beats + 8)
        .await;
    assert!(goes_on, "{:?} {report:?}", swarm.progress());
    let evidence = swarm.stop(true).await;
    judge(&evidence, &game);
    let summary = evidence.summary();
    assert_eq!(
        (summary.disconnects, summary.closed, summary.sessions_resumed),
        (0, 0, 0),
        "{summary:?} {report:?}"
    );
    assert_eq!((summary.joins, summary.ticks_rolled_back_max), (8, 0));
}
