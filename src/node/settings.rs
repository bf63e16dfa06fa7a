//! What the configuration means for the parts of a node. Called by [`super::lifecycle`] when it
//! puts them together.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rekindle_actors::{HANG_EXIT_CODE, HostConfig, OtherBuild};
use rekindle_gateway::{GatewayConfig, Limits, Rate};

use super::bots;
use crate::config::Config;
use crate::{clock, telemetry};

/// How matches are run. Starts the threads that are lent to them.
pub(super) fn host_config(config: &Config) -> io::Result<HostConfig> {
    Ok(HostConfig {
        shards: config.shards,
        workers: rekindle_workers::lend(config.match_threads)?,
        output: config.output,
        on_stall: config.on_stall,
        resume_grace: config.resume_grace,
        session_timeout: config.session_timeout,
        beat_every: config.beat_every,
        recovery_budget: config.recovery_budget.as_secs_f64(),
        checkpoint_every: config.checkpoint_every,
        trim_checkpoints: config.retention.checkpoints <= 2,
        checkpoint_chain: config.checkpoint_chain,
        watchdog: config.watchdog,
        catch_up: config.catch_up,
        overload: config.overload,
        other_build: OtherBuild::accepted_if(config.accept_build),
        on_hang: Arc::new(|_| {
            // What the watchdog has just said is to be read.
            telemetry::flush();
            std::process::exit(HANG_EXIT_CODE);
        }),
        ..HostConfig::default()
    })
}

/// How the edge lets players in, at `listen`.
pub(super) fn gateway_config(config: &Config, listen: SocketAddr) -> GatewayConfig {
    let rate = |per_second: u32, burst: f64| {
        Rate::new(f64::from(per_second), f64::from(per_second) * burst)
    };
    let mut gateway = GatewayConfig::new(listen, clock::wall());
    gateway.origins = Arc::new(config.edge.origins.clone());
    gateway.loops = config.edge.threads;
    gateway.limits = Limits {
        max_connections: config.limits.connections,
        reserve: config.limits.reserve,
        max_spectators: config.limits.spectators,
        per_player: config.limits.connections_per_player,
        per_source: config.limits.connections_per_address,
        first_own_player: bots::FIRST_HOUSE_PLAYER,
        snapshot_bytes: config.limits.snapshot_bytes,
        datagrams: rate(config.limits.datagrams, 0.5),
        handshakes: rate(config.limits.handshakes, 2.0),
        handshakes_per_source: rate(config.limits.handshakes_per_source, 10.0),
        ..Limits::default()
    };
    gateway
}
