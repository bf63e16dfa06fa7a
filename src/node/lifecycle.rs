//! The life of a node: boot, recover, serve, drain, stop. [`run`] is called by `cli/start.rs`.
//!
//! The parts are put together in `assemble`; what the configuration means for them is in
//! `settings`, who ends a node from outside in [`super::signals`], and what is done about
//! the matches of other nodes in `watch`.

use std::convert::Infallible;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use rekindle_actors::{DrainReport, Games, Host, HostParts, MatchPhase};
use rekindle_cluster::ownership::{lease, takeover};
use rekindle_gateway::keys::CERTIFICATE_FILE;
use rekindle_gateway::{Gateway, Keys};
use rekindle_jobs::{Drained, Kind};
use rekindle_schema::{BuildId, Incarnation, MatchId};
use rekindle_store::{Renewal, Store, StoreError};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::boot::{self, Booted};
use super::browsers::Browsers;
use super::card::{self, NodeCard};
use super::cluster::Cluster;
use super::edge::EdgeThreads;
use super::error::NodeError;
use super::keyring;
use super::links::Links;
use super::lobbies::Lobbies;
use super::matches::NewMatch;
use super::members::{self, Members};
use super::migrate::{EMPTYING, Mover};
use super::milestone::Milestone;
use super::serving::{Parts, Serving};
use super::settings::{gateway_config, host_config};
use super::signals::{Signals, gone};
use super::sinks::Sinks;
use super::standby::{Standby, StandbyParts};
use super::standing::Standings;
use super::successors::{self, Successors};
use super::watch::{keep_watch, recover_all, recoverer};
use super::whereabouts::Lookup;
use super::{READY, cutoff, documents, jobs, rebalance, tickets, web, webhook, wishes};
use crate::config::Config;
use crate::files::About as _;
use crate::{clock, text};

/// How often samples are folded into histograms.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// What tells operators how the node is, from before its start until after its stop. It listens
/// already when the node is run.
pub trait Front: Send + Sync {
    /// The start is at this, in words.
    fn says(&self, phase: &str);
    /// Where it can be asked.
    fn addr(&self) -> SocketAddr;
    /// The node is there: it may be asked for everything. Called once.
    fn open(&self, node: Arc<Serving>);
    /// The start is over: the matches are recovered.
    fn started(&self);
    /// The node has stopped: answers under way are finished, new questions are not taken.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// What a node is run with.
pub struct Run {
    /// The checked configuration.
    pub config: Config,
    /// The game types.
    pub games: Games,
    /// Its samples are folded now and then.
    pub metrics: PrometheusHandle,
    /// Kinds of job that the executable brings along.
    pub kinds: Vec<Kind>,
    /// What the executable does with effects.
    pub sinks: Sinks,
    /// Listened for before anything else: from then on a signal stops the node cleanly.
    pub signals: Signals,
    /// What answers operators.
    pub front: Box<dyn Front>,
    /// Created when no match runs or waits after the recovery.
    pub first_match: Option<NewMatch>,
    /// Ends the process at once when this resolves.
    pub abandoned: Option<oneshot::Receiver<()>>,
}

/// Runs a node until it is drained, fenced, or its store fails for good. `tell` hears of its
/// milestones.
///
/// Whatever can refuse a start does so before anything is claimed: the configuration was looked at
/// before (`config/check.rs`), and `run.front` listens already.
pub async fn run(run: Run, tell: &mut (dyn FnMut(Milestone<'_>) + Send)) -> Result<(), NodeError> {
    let Run { config, games, metrics, kinds, sinks, mut signals, front, first_match, abandoned } =
        run;
    front.says("opening the store");
    let mut abandoned = Box::pin(gone(abandoned));
    let waiting = |words: &str| {
        front.says(words);
        tracing::info!(code = "RK-NODE-139", admin = %front.addr(), "the admin listener answers \
            meanwhile: /livez, /startupz");
    };
    let booted = tokio::select! {
        biased;
        () = signals.next() => {
            tracing::info!(code = "RK-NODE-004", "stopped");
            return Ok(());
        }
        () = &mut abandoned => return Err(NodeError::Abandoned),
        booted = boot::boot(&config, waiting) => booted?,
    };
    front.says("recovering matches");
    // From before the first match on: a drained node stays so over its restart.
    let (drained, config) = (booted.wish.is_some(), config.named(&booted.name));
    let assembled = assemble(&config, (games, sinks), &*front, booted).await?;
    let Assembled { node, renewal, card, lock, edge, web } = assembled;
    let upkeep = keep_metrics(metrics);
    let listing = node.parts().lookup.keep_listing();
    let members = Arc::clone(&node.parts().members);
    let standby = Arc::clone(&node.parts().standby);
    let browsers = Arc::clone(&node.parts().browsers);
    // Until the last match has moved away.
    let mut telling = pin!(successors::tell(node.parts()));
    announce(&node, drained).await;
    front.open(Arc::clone(&node));
    card.write(&config.data_dir).about("write", &NodeCard::path(&config.data_dir))?;

    let wishes = Wishes { kinds, first_match };
    let ended = tokio::select! {
        biased;
        halt = node.parts().host.fenced() => Some(NodeError::Halted(halt)),
        fault = renewal => Some(lease_lost(fault)),
        () = node.parts().gateway.lost() => Some(NodeError::PortLost),
        () = &mut abandoned => Some(NodeError::Abandoned),
        served = serve(&node, &*front, &card, wishes, &mut signals, tell) => served.err(),
        never = upkeep => match never {},
        never = listing => match never {},
        never = members.keep() => match never {},
        never = standby.keep() => match never {},
        never = browsers.keep(&config, &node.parts().store) => match never {},
        never = &mut telling => match never {},
        never = wishes::keep(&node) => match never {},
        never = cutoff::keep(&node) => match never {},
        never = rebalance::keep(&node) => match never {},
        never = keyring::keep(&config, node.parts(), &card) => match never {},
    };
    if let Some(error) = ended {
        give_up(&node, &error);
        return Err(error);
    }
    let stopped = tokio::select! {
        biased;
        stopped = stop(&node, (&*front, web), &mut signals, tell) => stopped,
        never = &mut telling => match never {},
    };
    // Kept until the last: the edge's threads, and the data directory.
    drop((edge, lock));
    stopped
}

/// Tells the other nodes of this one. `drained`: an operator wants it to be empty.
async fn announce(node: &Serving, drained: bool) {
    let Parts { mover, members, .. } = node.parts();
    mover.set_drained(drained);
    if let Err(error) = members.announce(|own| own.draining = drained).await {
        tracing::warn!(code = "RK-NODE-160", %error, "this node is not among the members yet");
    }
}

/// The node cannot go on: everything stops where it is.
fn give_up(node: &Serving, error: &NodeError) {
    let reason = text::with_causes(error);
    tracing::error!(code = "RK-NODE-003", %reason, "the node ends");
    node.parts().host.abort();
    if let Some(jobs) = node.working() {
        jobs.stop();
    }
}

/// What [`run`] makes of what was booted.
struct Assembled {
    /// The node, which lets nobody in yet.
    node: Arc<Serving>,
    /// Renews the lease; ends when that is over.
    renewal: JoinHandle<Result<(), StoreError>>,
    /// How commands on this host find the node.
    card: NodeCard,
    /// Keeps other processes from the data directory.
    lock: File,
    /// The edge runs on these until they are dropped.
    edge: EdgeThreads,
    /// Answers browsers.
    web: Option<web::Listening>,
}

/// Puts the parts together: host, edge, lease.
async fn assemble(
    config: &Config,
    (games, mut sinks): (Games, Sinks),
    front: &dyn Front,
    booted: Booted,
) -> Result<Assembled, NodeError> {
    let Booted { lock, keys, store, incarnation, build, pid_start, name: _, wish: _ } = booted;
    let started = Arc::new(OnceLock::new());
    let renewal = keep_lease(store.clone(), incarnation, Arc::clone(&started));
    let serving = Arc::new(OnceLock::new());
    let webhooks = std::mem::take(&mut sinks.webhooks).into_iter().chain(config.webhook.clone());
    let sinks = sinks.before(&webhook::before(&store, webhooks.collect(), incarnation));
    let delivers = documents::effects::before(&sinks, Arc::clone(&serving));
    let host = Host::start(host_parts(config, &games, delivers, (incarnation, build))?).await?;
    // Set once, here.
    let _ = started.set(host.clone());
    let (recovering, standings) = (Arc::new(AtomicBool::new(true)), Arc::<Standings>::default());
    let lookup = Arc::new(Lookup::new(store.clone(), incarnation));
    let standby = standby(config, &host, &store, incarnation);
    let successors = Successors::new();
    let lobbies = Arc::new(Lobbies::new(config.lobbies.clone(), Arc::clone(&serving)));
    let links = links(&host, &store, (&recovering, &standings), &lookup, &successors);
    let links = links.serving(Arc::clone(&lobbies), Arc::clone(&serving));
    let (edge, gateway, listener) = open_edge(config, Arc::new(links), keys)?;
    let browsers = Browsers::begin(gateway.certificates(), config, &store).await;
    let card = NodeCard {
        pid: std::process::id(),
        pid_start,
        incarnation: incarnation.to_string(),
        admin: front.addr(),
        listen: gateway.local_addr(),
        web: listener.as_ref().and_then(|listener| listener.local_addr().ok()),
        certificate: std::path::absolute(config.data_dir.join(CERTIFICATE_FILE))?,
        certificates: tickets::fingerprints(gateway.keys()),
        store: card::store_text(&config.store),
    };
    let cluster = Arc::new(Cluster::join(config, &store, incarnation).await?);
    let of_this = (incarnation, build);
    let own = members::describe(config, of_this, (card.listen, card.admin), cluster.address());
    let members = Arc::new(Members::new(store.clone(), own));
    cluster.keep(host.clone(), Arc::clone(&members));
    let (runs, others) = ((host.clone(), store.clone()), Arc::clone(&cluster));
    let mover = Mover::start(config, runs, of_this, others, Arc::clone(&successors));
    let parts = Parts {
        standby,
        successors,
        members,
        config: config.clone(),
        games,
        host,
        store,
        gateway,
        browsers,
        incarnation,
        build,
        peers: cluster.peers(),
        cluster,
        mover,
        recovering,
        standings,
        lookup,
        lobbies,
    };
    let node = Arc::new(Serving::new(parts));
    node.parts().mover.serves(&node);
    // Set once, here.
    let _ = serving.set(Arc::downgrade(&node));
    let web = web::begin(&node, edge.handle(), listener)?;
    Ok(Assembled { node, renewal, card, lock, edge, web })
}

/// What the host of the matches works with.
fn host_parts(
    config: &Config,
    games: &Games,
    store: Store,
    (incarnation, build): (Incarnation, BuildId),
) -> Result<HostParts, NodeError> {
    Ok(HostParts {
        store,
        incarnation,
        build,
        games: games.clone(),
        clock: clock::wall(),
        seed: clock::random(),
        config: host_config(config)?,
    })
}

/// Opens the game port on threads of its own, and binds the listener for browsers.
fn open_edge(
    config: &Config,
    links: Arc<Links>,
    keys: Keys,
) -> Result<(EdgeThreads, Gateway, Option<TcpListener>), NodeError> {
    let edge = EdgeThreads::start(config.edge.threads)?;
    let places = web::bind(config)?;
    let gateway = {
        let _inside = edge.handle().enter();
        Gateway::bind(gateway_config(config, places.listen), links, keys)?
    };
    Ok((edge, gateway, places.listener))
}

/// How the edge finds matches.
fn links(
    host: &Host,
    store: &Store,
    (recovering, standings): (&Arc<AtomicBool>, &Arc<Standings>),
    lookup: &Arc<Lookup>,
    successors: &Successors,
) -> Links {
    let (recovering, standings) = (Arc::clone(recovering), Arc::clone(standings));
    let links = Links::new(host.clone(), store.clone(), recovering, standings, Arc::clone(lookup));
    links.followed(successors.told())
}

/// What follows the matches of other nodes.
fn standby(config: &Config, host: &Host, store: &Store, me: Incarnation) -> Arc<Standby> {
    Standby::new(StandbyParts {
        host: host.clone(),
        store: store.clone(),
        me,
        region: config.node_region.clone(),
        wishes: config.cluster.standby.clone(),
        most: config.cluster.standbys_max,
    })
}

/// What a node is to do besides its matches.
struct Wishes {
    /// Kinds of job that the executable brings along.
    kinds: Vec<Kind>,
    /// Created when no match runs or waits after the recovery.
    first_match: Option<NewMatch>,
}

/// Recovers, lets players in and takes over what other nodes leave, until a clean stop is asked
/// for.
async fn serve(
    node: &Arc<Serving>,
    front: &dyn Front,
    card: &NodeCard,
    wishes: Wishes,
    signals: &mut Signals,
    tell: &mut (dyn FnMut(Milestone<'_>) + Send),
) -> Result<(), NodeError> {
    let Parts { incarnation, build, .. } = node.parts();
    let mut recoverer = recoverer(node);
    let begun = Instant::now();
    let held_up = AtomicBool::new(false);
    let recovery = async {
        recover_all(node, &mut recoverer, begun, &held_up, tell).await?;
        if let Some(wanted) = wishes.first_match {
            ensure_match(node, wanted).await?;
        }
        node.works(jobs::start(node.parts(), wishes.kinds).await?);
        Ok::<(), NodeError>(())
    };
    tokio::select! {
        biased;
        recovered = recovery => recovered?,
        () = signals.insist(&held_up) => return Err(NodeError::StoppedAtOnce),
    }
    node.parts().recovering.store(false, Ordering::Release);
    front.started();
    tracing::info!(
        code = READY, listen = %card.listen, admin = %card.admin, %incarnation, %build,
        "ready"
    );
    tell(Milestone::Ready(card, node));
    tokio::select! {
        biased;
        () = until_drain(node, signals) => Ok(()),
        never = keep_watch(node, recoverer, begun, tell) => match never {},
    }
}

/// Puts all matches away and gives up the lease.
async fn stop(
    node: &Serving,
    (front, web): (&dyn Front, Option<web::Listening>),
    signals: &mut Signals,
    tell: &mut (dyn FnMut(Milestone<'_>) + Send),
) -> Result<(), NodeError> {
    let Parts { config, host, store, incarnation, gateway, cluster, .. } = node.parts();
    tracing::info!(code = "RK-NODE-002", "draining");
    tell(Milestone::Draining);
    let members = &node.parts().members;
    let put_away = async {
        if let Err(error) = members.announce(|own| own.draining = true).await {
            tracing::warn!(code = "RK-NODE-161", %error, "other nodes are not told that this one \
                goes down");
        }
        stop_jobs(node).await;
        move_away(node).await;
        let report = host.drain().await;
        gateway.shutdown("RK-NODE-033: this node is going down; reconnect in a moment").await;
        if let Some(web) = web {
            web.close().await;
        }
        report
    };
    let report = tokio::select! {
        biased;
        report = put_away => report,
        () = signals.next() => return Err(NodeError::StoppedAtOnce),
    };
    for (match_id, problem) in &report.left {
        tracing::warn!(code = "RK-NODE-015", %match_id, problem, "this match will be replayed at \
            the next start");
    }
    forget_attempts(host, store, *incarnation, &report).await;
    if let Err(error) = members.withdraw().await {
        tracing::warn!(code = "RK-NODE-162", %error, "this node stays among the members until its \
            lease is gone");
    }
    // The last word about how far the log has come.
    store.leases.renew(*incarnation, clock::now_ms() + lease::LEASE_MS, host.reached()).await?;
    let stopped = store.leases.stop(*incarnation).await?;
    cluster.leave();
    front.close().await;
    NodeCard::remove(&config.data_dir);
    tell(Milestone::Drained(report.checkpointed, report.took_ms));
    tracing::info!(code = "RK-NODE-004", "stopped");
    if stopped == Renewal::Fenced {
        return Err(NodeError::Fenced);
    }
    if !report.left.is_empty() {
        return Err(NodeError::NotPutAway { matches: report.left.len() });
    }
    Ok(())
}

/// Gives the matches to other nodes, as far as there are any that take them. What stays is
/// checkpointed.
async fn move_away(node: &Serving) {
    let Parts { mover, peers, .. } = node.parts();
    if peers.linked().is_empty() {
        return;
    }
    let emptied = mover.empty(Instant::now() + EMPTYING).await;
    for (match_id, why) in &emptied.stayed {
        tracing::warn!(code = "RK-NODE-186", %match_id, why, "a match did not move to another \
            node: it is checkpointed here");
    }
    tracing::info!(
        code = "RK-NODE-187",
        moved = emptied.moved.len(),
        stayed = emptied.stayed.len(),
        worst_pause_ms = emptied.worst_pause_ms(),
        "matches moved to other nodes"
    );
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

/// A first run has a match. One that waits or is parked counts: it is what somebody played here,
/// and [`Milestone::Ready`] says how it goes on.
async fn ensure_match(node: &Serving, wanted: NewMatch) -> Result<(), NodeError> {
    let Parts { host, mover, .. } = node.parts();
    if host.list().is_empty() && node.at_rest().is_empty() && !mover.is_drained() {
        node.create_here(wanted).await?;
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
        if let Err(error) = takeover::mark_healthy(store, me, match_id, None).await {
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

fn lease_lost(fault: Result<Result<(), StoreError>, tokio::task::JoinError>) -> NodeError {
    match fault {
        Ok(Ok(())) => NodeError::Fenced,
        Ok(Err(error)) => error.into(),
        Err(error) => error.into(),
    }
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
