//! The life of a node: boot, recover, serve, drain, stop.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use rekindle_actors::jobs::{Drained, Kind};
use rekindle_actors::{
    DrainReport, Games, HANG_EXIT_CODE, Halt, Host, HostConfig, HostParts, MatchPhase, OnStall,
    Output, RecoveryReport,
};
use rekindle_cluster::ownership::{lease, takeover};
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
use super::recover::{Caretaker, CaretakerParts, Outcome, Trouble};
use super::serving::{Parts, Serving};
use super::standing::Standings;
use super::trial::TrialOptions;
use super::{PARKED, READY, RESUMED, bots, descriptors, jobs};
use crate::admin::api::CreateMatch;
use crate::admin::server::{self, Front};
use crate::clock;
use crate::config::{self, Config};
use crate::exit::{About as _, Exit, Failure};
use crate::telemetry;

/// How long the admin listener may finish answers after the matches are put away.
const LAST_ANSWERS: Duration = Duration::from_secs(2);
/// How often a stop that waits for recovery looks whether that is held up.
const HELD_UP_LOOK: Duration = Duration::from_millis(200);
/// How often samples are folded into histograms.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Why a node ends whose parent is gone.
const ABANDONED: &str = "RK-NODE-025: the parent process is gone";

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

/// Runs a node until it is drained, fenced, or its store fails for good. `tell` hears of its
/// milestones.
pub async fn run(run: Run, tell: &mut (dyn FnMut(Milestone<'_>) + Send)) -> Result<Exit, Failure> {
    let Run { config, games, metrics, kinds, first_match, abandoned } = run;
    let mut signals = Signals::listen()?;
    // Whatever can refuse a start does so before anything is claimed: the configuration was looked
    // at before ([`config::check`]).
    let admin = TcpListener::bind(config.admin_listen).await.map_err(|error| {
        let message = format!(
            "RK-NODE-024: admin.listen {}: {error}; choose another address with --admin",
            config.admin_listen
        );
        Failure::new(Exit::Failed, message)
    })?;
    let admin_addr = admin.local_addr()?;
    let (admin_stop, stopped) = oneshot::channel::<()>();
    let until_stopped = async move {
        // An error means that the sender is gone: the node has ended.
        let _ = stopped.await;
    };
    let front = Front::default();
    front.says("opening the store");
    let admin_connections = descriptors::prepare(&config);
    let admin = tokio::spawn(server::serve(admin, front.clone(), admin_connections, until_stopped));
    let mut abandoned = Box::pin(gone(abandoned));
    let waiting = |words: &str| {
        front.says(words);
        tracing::info!(code = "RK-NODE-139", admin = %admin_addr, "the admin listener answers \
            meanwhile: /livez, /startupz");
    };
    let booted = tokio::select! {
        biased;
        () = signals.next() => {
            tracing::info!(code = "RK-NODE-004", "stopped");
            return Ok(Exit::Done);
        }
        () = &mut abandoned => return Err(Failure::new(Exit::Failed, ABANDONED)),
        booted = boot::boot(&config, waiting) => booted?,
    };
    let Booted { lock, keys, store, incarnation, build, pid_start } = booted;
    front.says("recovering matches");
    let started = Arc::new(OnceLock::new());
    let renewal = keep_lease(store.clone(), incarnation, Arc::clone(&started));
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
    // Set once, here.
    let _ = started.set(host.clone());
    let recovering = Arc::new(AtomicBool::new(true));
    let standings = Arc::<Standings>::default();
    let links = Arc::new(Links::new(
        host.clone(),
        store.clone(),
        Arc::clone(&recovering),
        Arc::clone(&standings),
    ));
    let edge = EdgeThreads::start()?;
    let gateway = {
        let _inside = edge.handle().enter();
        Gateway::bind(gateway_config(&config), links, keys)?
    };
    let card = NodeCard {
        pid: std::process::id(),
        pid_start,
        incarnation: incarnation.to_string(),
        admin: admin_addr,
        listen: gateway.local_addr(),
        certificate: std::path::absolute(config.data_dir.join(CERTIFICATE_FILE))?,
    };
    let parts = Parts {
        config: config.clone(),
        games,
        host: host.clone(),
        store: store.clone(),
        gateway,
        incarnation,
        build,
        recovering,
        standings,
    };
    let node = Arc::new(Serving::new(parts));
    let upkeep = keep_metrics(metrics.clone());
    let token = config.admin_token.as_ref().map(|token| token.reveal().to_owned());
    front.open(Arc::clone(&node), metrics, token);
    card.write(&config.data_dir).about("write", &NodeCard::path(&config.data_dir))?;

    let served = async {
        let mut caretaker = caretaker(&node);
        let begun = Instant::now();
        let held_up = AtomicBool::new(false);
        let recovery = async {
            recover_all(&node, &mut caretaker, begun, &held_up, tell).await?;
            if let Some(wanted) = first_match {
                ensure_match(&node, wanted).await?;
            }
            node.works(jobs::start(node.parts(), kinds).await?);
            Ok::<(), Failure>(())
        };
        tokio::select! {
            biased;
            recovered = recovery => recovered?,
            () = signals.insist(&held_up) => return Err(stopped_at_once()),
        }
        node.parts().recovering.store(false, Ordering::Release);
        front.started();
        tracing::info!(
            code = READY, listen = %card.listen, admin = %card.admin, %incarnation, %build,
            "ready"
        );
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
        () = node.parts().gateway.lost() => Some(port_lost()),
        () = &mut abandoned => Some(Failure::new(Exit::Failed, ABANDONED)),
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
        node.parts()
            .gateway
            .shutdown("RK-NODE-033: this node is going down; reconnect in a moment")
            .await;
        report
    };
    let report = tokio::select! {
        biased;
        report = put_away => report,
        () = signals.next() => return Err(stopped_at_once()),
    };
    for (match_id, problem) in &report.left {
        tracing::warn!(code = "RK-NODE-015", %match_id, problem, "this match will be replayed at \
            the next start");
    }
    forget_attempts(&host, &store, incarnation, &report).await;
    // The last word about how far the log has come.
    store.leases.renew(incarnation, clock::now_ms() + lease::LEASE_MS, host.reached()).await?;
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
        let message = format!(
            "RK-NODE-018: {} matches could not be put away: the next start replays them",
            report.left.len()
        );
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
    let Parts { host, store, incarnation, config, build, standings, .. } = node.parts();
    Caretaker::new(CaretakerParts {
        host: host.clone(),
        store: store.clone(),
        me: *incarnation,
        region: config.node_region.clone(),
        trials: Some(TrialOptions {
            build: *build,
            accept_build: config.accept_build,
            deaths: config.recovery_attempts,
            healthy_after: config.healthy_after,
            watchdog: config.watchdog,
        }),
        standings: Arc::clone(standings),
        fresh: clock::fresh,
    })
}

/// The first look: brings back what is left of earlier nodes. A store that is away in between is
/// waited for, as it is later on.
async fn recover_all(
    node: &Arc<Serving>,
    caretaker: &mut Caretaker,
    begun: Instant,
    held_up: &AtomicBool,
    tell: &mut (dyn FnMut(Milestone<'_>) + Send),
) -> Result<(), Failure> {
    loop {
        let now_ms = begun.elapsed().as_millis() as u64;
        match caretaker
            .look(now_ms, &BTreeSet::new(), |outcome| brought_back(node, &outcome, tell))
            .await
        {
            Ok(()) => {
                held_up.store(false, Ordering::Release);
                return Ok(());
            }
            Err(trouble) if trouble.transient => not_looked_after(&trouble),
            Err(trouble) => return Err(trouble.failure),
        }
        held_up.store(true, Ordering::Release);
        tokio::time::sleep(lease::RENEW_EVERY).await;
    }
}

/// Takes over what other nodes leave, as long as this one runs. What the store refuses now it may
/// give at the next look.
async fn keep_watch(
    node: &Arc<Serving>,
    mut caretaker: Caretaker,
    begun: Instant,
    tell: &mut (dyn FnMut(Milestone<'_>) + Send),
) -> Infallible {
    loop {
        tokio::select! {
            () = tokio::time::sleep(lease::RENEW_EVERY) => {}
            () = node.asking() => {}
        }
        let now_ms = begun.elapsed().as_millis() as u64;
        let asked = node.take_asked();
        if let Err(trouble) =
            caretaker.look(now_ms, &asked, |outcome| brought_back(node, &outcome, tell)).await
        {
            not_looked_after(&trouble);
        }
    }
}

fn not_looked_after(trouble: &Trouble) {
    let reason = &trouble.failure.message;
    tracing::warn!(code = "RK-NODE-035", %reason, "matches of dead nodes could not be looked \
        after; trying again");
}

/// A match of a dead node goes on here, or does not.
fn brought_back(
    node: &Arc<Serving>,
    outcome: &Outcome,
    tell: &mut (dyn FnMut(Milestone<'_>) + Send),
) {
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
            write_down_difference(node, report);
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

/// What players were shown has been computed again with another result: that stays in the audit
/// log.
fn write_down_difference(node: &Arc<Serving>, report: &RecoveryReport) {
    let (Some((from, to)), Some(holds)) = (report.resimulated, report.holds_until) else { return };
    let (node, target) = (Arc::clone(node), report.match_id.to_string());
    tokio::spawn(async move {
        let who = format!("node {} (accept_build)", node.name());
        let detail = format!(
            "ticks {from} to {to} of another build were computed again with another result: {holds} is the last tick that holds; players who saw \
             later ones are told so when they come back"
        );
        match node.operators().begin(&who, "match.rewound", &target, &detail).await {
            Ok(action) => action.end(None, None).await,
            Err(error) => {
                tracing::warn!(
                    code = "RK-NODE-122", match_id = target, %error, detail,
                    "this is not in the audit log"
                )
            }
        }
    });
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
            tracing::warn!(code = "RK-NODE-014", %match_id, %error, "recovery attempts are not \
                forgotten");
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

/// Renews the lease beside everything else; a fence found by it ends the node as one found by a
/// commit does. From when `host` is set each renewal says how far the log has come.
fn keep_lease(
    store: Store,
    me: Incarnation,
    host: Arc<OnceLock<Host>>,
) -> JoinHandle<Result<(), StoreError>> {
    tokio::spawn(async move {
        lease::keep(&*store.leases, me, clock::now_ms, || host.get()?.reached()).await
    })
}

fn lease_lost(fault: Result<Result<(), StoreError>, tokio::task::JoinError>) -> Failure {
    match fault {
        Ok(Ok(())) => fenced(),
        Ok(Err(error)) => error.into(),
        Err(error) => error.into(),
    }
}

fn fenced() -> Failure {
    Failure::new(
        Exit::Fenced,
        "RK-NODE-005: this node's lease is fenced: another node took its matches",
    )
}

fn halted(halt: &Halt) -> Failure {
    let exit = if matches!(halt, Halt::Store(StoreError::Fenced(_))) {
        Exit::Fenced
    } else {
        Exit::Failed
    };
    Failure::new(exit, halt.to_string())
}

/// Nobody can play here any more, and only a new process gets the port back.
fn port_lost() -> Failure {
    let message = "RK-NODE-121: QUIC has given up the game port: the node ends so that its matches \
        go on in a new process; see RK-GATE-123 in the log";
    Failure::new(Exit::Failed, message)
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
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            asked: false,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.asked = true;
    }

    /// Two of them: whoever asks twice wants it now. One is enough while recovery is `held_up` by a
    /// store that does not answer: that may take for ever.
    async fn insist(&mut self, held_up: &AtomicBool) {
        self.next().await;
        tracing::info!(
            code = "RK-NODE-047",
            "the node stops once its matches are recovered; a second signal ends it at once"
        );
        let for_ever = async {
            while !held_up.load(Ordering::Acquire) {
                tokio::time::sleep(HELD_UP_LOOK).await;
            }
        };
        tokio::select! {
            () = self.next() => {}
            () = for_ever => {}
        }
    }
}

fn stopped_at_once() -> Failure {
    Failure::new(
        Exit::Failed,
        "RK-NODE-026: stopped before all matches were put away: they resume from the journal at \
         the next start",
    )
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
    let rate = |per_second: u32, burst: f64| {
        Rate::new(f64::from(per_second), f64::from(per_second) * burst)
    };
    let mut gateway = GatewayConfig::new(config.listen, clock::wall());
    gateway.limits = Limits {
        max_connections: config.limits.connections,
        reserve: config.limits.reserve,
        max_spectators: config.limits.spectators,
        per_player: config.limits.connections_per_player,
        per_source: config.limits.connections_per_address,
        first_own_player: bots::FIRST_HOUSE_PLAYER,
        datagrams: rate(config.limits.datagrams, 0.5),
        handshakes: rate(config.limits.handshakes, 2.0),
        handshakes_per_source: rate(config.limits.handshakes_per_source, 10.0),
        ..Limits::default()
    };
    gateway
}
