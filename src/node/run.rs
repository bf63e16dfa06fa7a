//! The life of a node: boot, recover, serve, drain, stop.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use rekindle_actors::jobs::{Drained, Kind};
use rekindle_actors::{DrainReport, Games, HANG_EXIT_CODE, Halt, Host, HostConfig, HostParts, MatchPhase, OnStall, Output, RecoveryReport};
use rekindle_cluster::{lease, takeover};
use rekindle_gateway::keys::CERTIFICATE_FILE;
use rekindle_gateway::{Gateway, GatewayConfig, Limits, Rate};
use rekindle_schema::{Incarnation, MatchId};
use rekindle_store::{Renewal, Store, StoreError};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::boot::{self, Booted};
use super::card::NodeCard;
use super::edge::EdgeThreads;
use super::links::Links;
use super::recover::{Caretaker, Outcome};
use super::serving::{Parts, Serving};
use super::{PARKED, READY, RESUMED, clock, jobs};
use crate::admin::api::CreateMatch;
use crate::admin::server;
use crate::cli::exit::{Exit, Failure};
use crate::config::{self, Config};
use crate::telemetry;

/// How long the admin listener may finish answers after the matches are put away.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// How often samples are folded into histograms.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// What a node is run with.
pub struct Run {
    /// The checked configuration.
    pub config: Config,
    /// The game types.
    pub games: Games,
    /// Renders `/metrics`.
    pub metrics: PrometheusHandle,
    /// Kinds of job that the executable brings along.
    pub kinds: Vec<Kind>,
    /// Created when no match runs after the recovery.
    pub first_match: Option<CreateMatch>,
    /// Ends the process at once when this resolves.
    pub abandoned: Option<oneshot::Receiver<()>>,
}

/// What a node tells whoever runs it.
pub enum Milestone<'a> {
    /// A match goes on.
    Resumed(MatchId, &'a RecoveryReport),
    /// A match could not be continued.
    NotResumed(MatchId, &'a str),
    /// Players are let in.
    Ready(&'a NodeCard, &'a Arc<Serving>),
    /// A clean stop has begun.
    Draining,
    /// All matches are put away: how many, and in how many milliseconds.
    Drained(usize, u64),
}

/// Runs a node until it is drained, fenced, or its store fails for good. `tell` hears of its milestones.
pub async fn run(run: Run, tell: &mut (dyn FnMut(Milestone<'_>) + Send)) -> Result<Exit, Failure> {
    let Run { config, games, metrics, kinds, first_match, abandoned } = run;
    let mut signals = Signals::listen()?;
    let Booted { lock, keys, store, incarnation, build, pid_start } = boot::boot(&config).await?;
    let renewal = keep_lease(store.clone(), incarnation);
    let host = Host::start(HostParts {
        store: store.clone(),
        incarnation,
        build,
        games: games.clone(),
        clock: clock::wall(),
        seed: clock::random(),
        config: host_config(&config),
    })
    .await?;
    let recovering = Arc::new(AtomicBool::new(true));
    let links = Arc::new(Links::new(host.clone(), Arc::clone(&recovering)));
    let edge = EdgeThreads::start()?;
    let gateway = {
        let _inside = edge.handle().enter();
        Gateway::bind(gateway_config(&config), links, keys)?
    };
    let admin = TcpListener::bind(config.admin_listen).await.map_err(|error| {
        let message = format!("RK-NODE-024: admin.listen {}: {error}; choose another address with --admin", config.admin_listen);
        Failure::new(Exit::Failed, message)
    })?;
    let card = NodeCard {
        pid: std::process::id(),
        pid_start,
        incarnation: incarnation.to_string(),
        admin: admin.local_addr()?,
        listen: gateway.local_addr(),
        certificate: std::path::absolute(config.data_dir.join(CERTIFICATE_FILE))?,
    };
    let parts = Parts { config: config.clone(), games, host: host.clone(), store: store.clone(), gateway, incarnation, build, recovering };
    let node = Arc::new(Serving::new(parts));
    let (admin_stop, stopped) = oneshot::channel::<()>();
    let until_stopped = async move {
        // An error means that the sender is gone: the node has ended.
        let _ = stopped.await;
    };
    let upkeep = keep_metrics(metrics.clone());
    let admin = tokio::spawn(server::serve(admin, Arc::clone(&node), metrics, config.admin_token.clone(), until_stopped));
    card.write(&config.data_dir)?;

    let served = async {
        let mut caretaker = caretaker(&node);
        let begun = Instant::now();
        let recovery = async {
            caretaker.look(0, |outcome| brought_back(&node, &outcome, tell)).await?;
            if let Some(wanted) = first_match {
                ensure_match(&node, wanted).await?;
            }
            node.works(jobs::start(node.parts(), kinds).await?);
            Ok::<(), Failure>(())
        };
        tokio::select! {
            biased;
            recovered = recovery => recovered?,
            () = signals.insist() => return Err(stopped_at_once()),
        }
        node.parts().recovering.store(false, Ordering::Release);
        tracing::info!(code = READY, listen = %card.listen, admin = %card.admin, %incarnation, %build, "ready");
        tell(Milestone::Ready(&card, &node));
        tokio::select! {
            biased;
            () = until_drain(&node, &mut signals) => Ok(()),
            never = keep_watch(&node, caretaker, begun, tell) => match never {},
        }
    };
    let ended = tokio::select! {
        biased;
        halt = host.fenced() => Some(halted(&halt)),
        fault = renewal => Some(lease_lost(fault)),
        () = gone(abandoned) => Some(Failure::new(Exit::Failed, "RK-NODE-025: the parent process is gone")),
        served = served => served.err(),
        never = upkeep => match never {},
    };
    if let Some(failure) = ended {
        tracing::error!(code = "RK-NODE-003", reason = %failure.message, "the node ends");
        host.abort();
        if let Some(jobs) = node.working() {
            jobs.stop();
        }
        return Err(failure);
    }

    tracing::info!(code = "RK-NODE-002", "draining");
    tell(Milestone::Draining);
    let put_away = async {
        stop_jobs(&node).await;
        let report = host.drain().await;
        node.parts().gateway.shutdown("RK-NODE-033: this node is going down; reconnect in a moment").await;
        report
    };
    let report = tokio::select! {
        biased;
        report = put_away => report,
        () = signals.next() => return Err(stopped_at_once()),
    };
    for (match_id, problem) in &report.left {
        tracing::warn!(code = "RK-NODE-015", %match_id, problem, "this match will be replayed at the next start");
    }
    forget_attempts(&host, &store, incarnation, &report).await;
    let stopped = store.leases.stop(incarnation).await?;
    let _ = admin_stop.send(());
    let _ = tokio::time::timeout(LAST_ANSWERS, admin).await;
    NodeCard::remove(&config.data_dir);
    tell(Milestone::Drained(report.checkpointed, report.took_ms));
    tracing::info!(code = "RK-NODE-004", "stopped");
    drop(lock);
    if stopped == Renewal::Fenced {
        return Err(fenced());
    }
    if !report.left.is_empty() {
        let message = format!("RK-NODE-018: {} matches could not be put away: the next start replays them", report.left.len());
        return Err(Failure::new(Exit::Failed, message));
    }
    Ok(Exit::Done)
}

/// Lets jobs come to an end for a moment, and gives back those that do not.
async fn stop_jobs(node: &Serving) {
    if let Some(jobs) = node.working() {
        let Drained { finished, given_back } = jobs.drain().await;
        if finished + given_back > 0 {
            tracing::info!(code = "RK-NODE-043", finished, given_back, "jobs put away");
        }
    }
}

fn caretaker(node: &Serving) -> Caretaker {
    let Parts { host, store, incarnation, config, .. } = node.parts();
    Caretaker::new(host.clone(), store.clone(), *incarnation, config.node_region.clone(), config.recovery_attempts)
}

/// Takes over what other nodes leave, as long as this one runs. What the store refuses now it may give at the next look.
async fn keep_watch(
    node: &Arc<Serving>,
    mut caretaker: Caretaker,
    begun: Instant,
    tell: &mut (dyn FnMut(Milestone<'_>) + Send),
) -> Infallible {
    loop {
        tokio::time::sleep(lease::RENEW_EVERY).await;
        let now_ms = begun.elapsed().as_millis() as u64;
        if let Err(failure) = caretaker.look(now_ms, |outcome| brought_back(node, &outcome, tell)).await {
            tracing::warn!(code = "RK-NODE-035", reason = %failure.message, "matches of dead nodes could not be looked after; trying again");
        }
    }
}

/// A match of a dead node goes on here, or does not.
fn brought_back(node: &Arc<Serving>, outcome: &Outcome, tell: &mut (dyn FnMut(Milestone<'_>) + Send)) {
    match outcome {
        Outcome::Resumed(match_id, report) => {
            tracing::info!(
                code = RESUMED,
                %match_id,
                tick = report.tick.0,
                replayed = report.replayed,
                took_ms = report.took_ms,
                beats_checked = report.beats_checked,
                hash_ok = report.hash_ok,
                "match resumed"
            );
            node.play_house_bots(*match_id);
            node.watch_health(*match_id, node.parts().config.healthy_after);
            tell(Milestone::Resumed(*match_id, report));
        }
        Outcome::Parked(match_id, report) | Outcome::Left(match_id, report) => {
            tracing::error!(code = PARKED, %match_id, %report, "match not resumed");
            tell(Milestone::NotResumed(*match_id, report));
        }
    }
}

async fn ensure_match(node: &Serving, wanted: CreateMatch) -> Result<(), Failure> {
    if node.parts().host.list().is_empty() {
        node.create_match(wanted).await?;
    }
    Ok(())
}

/// Matches that were put away in good health are not suspected of anything at the next start.
async fn forget_attempts(host: &Host, store: &Store, me: Incarnation, report: &DrainReport) {
    let left = |id: MatchId| report.left.iter().any(|(match_id, _)| *match_id == id);
    for status in host.list() {
        let match_id = status.match_id;
        if left(match_id) || matches!(status.phase, MatchPhase::Parked(_)) {
            continue;
        }
        if let Err(error) = takeover::settle_in(store, me, match_id, None).await {
            tracing::warn!(code = "RK-NODE-014", %match_id, %error, "recovery attempts are not forgotten");
        }
    }
}

/// Folds samples into histograms: without it they gather until somebody reads `/metrics`.
async fn keep_metrics(metrics: PrometheusHandle) -> Infallible {
    loop {
        tokio::time::sleep(METRICS_UPKEEP).await;
        metrics.run_upkeep();
    }
}

/// Renews the lease beside everything else; a fence found by it ends the node as one found by a commit does.
fn keep_lease(store: Store, me: Incarnation) -> JoinHandle<Result<(), StoreError>> {
    tokio::spawn(async move { lease::keep(&*store.leases, me, clock::now_ms).await })
}

fn lease_lost(fault: Result<Result<(), StoreError>, tokio::task::JoinError>) -> Failure {
    match fault {
        Ok(Ok(())) => fenced(),
        Ok(Err(error)) => error.into(),
        Err(error) => error.into(),
    }
}

fn fenced() -> Failure {
    Failure::new(Exit::Fenced, "RK-NODE-005: this node's lease is fenced: another node took its matches")
}

fn halted(halt: &Halt) -> Failure {
    let exit = if matches!(halt, Halt::Store(StoreError::Fenced(_))) { Exit::Fenced } else { Exit::Failed };
    Failure::new(exit, halt.to_string())
}

async fn gone(abandoned: Option<oneshot::Receiver<()>>) {
    match abandoned {
        // An error is as good: whoever watched the parent has stopped watching.
        Some(parent) => drop(parent.await),
        None => std::future::pending().await,
    }
}

/// Ctrl-C and SIGTERM. From [`Signals::listen`] on they no longer end the process by themselves.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// One has come.
    asked: bool,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())?, asked: false })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.asked = true;
    }

    /// Two of them: whoever asks twice wants it now.
    async fn insist(&mut self) {
        self.next().await;
        tracing::info!(code = "RK-NODE-047", "the node stops once its matches are recovered; a second signal ends it at once");
        self.next().await;
    }
}

fn stopped_at_once() -> Failure {
    Failure::new(Exit::Failed, "RK-NODE-026: stopped a second time: matches resume from the journal at the next start")
}

/// A signal, be it one from before the node was ready, or an operator's word.
async fn until_drain(node: &Serving, signals: &mut Signals) {
    if !signals.asked {
        tokio::select! {
            biased;
            () = signals.next() => {}
            () = node.draining() => {}
        }
    }
    node.begin_drain();
}

fn host_config(config: &Config) -> HostConfig {
    HostConfig {
        shards: config.shards,
        output: match config.output {
            config::Output::Durable => Output::Durable,
            config::Output::Immediate => Output::Immediate,
        },
        on_stall: match config.on_stall {
            config::OnStall::Pause => OnStall::Pause,
            config::OnStall::Run => OnStall::Degrade,
        },
        resume_grace: config.resume_grace,
        session_timeout: config.session_timeout,
        beat_every: config.beat_every,
        recovery_budget: config.recovery_budget.as_secs_f64(),
        checkpoint_every: config.checkpoint_every,
        trim_checkpoints: config.retention.checkpoints <= 2,
        checkpoint_chain: config.checkpoint_chain,
        watchdog: config.watchdog,
        accept_build: config.accept_build,
        on_hang: Arc::new(|_| {
            // What the watchdog has just said is to be read.
            telemetry::flush();
            std::process::exit(HANG_EXIT_CODE);
        }),
        ..HostConfig::default()
    }
}

fn gateway_config(config: &Config) -> GatewayConfig {
    let rate = |per_second: u32, burst: f64| Rate::new(f64::from(per_second), f64::from(per_second) * burst);
    let mut gateway = GatewayConfig::new(config.listen, clock::wall());
    gateway.limits = Limits {
        max_connections: config.limits.connections,
        datagrams: rate(config.limits.datagrams, 0.5),
        handshakes: rate(config.limits.handshakes, 2.0),
        handshakes_per_source: rate(config.limits.handshakes_per_source, 10.0),
        ..Limits::default()
    };
    gateway
}
