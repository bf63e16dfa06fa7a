//! A node that runs matches: its parts, what it is, and its stop. Made by [`super::lifecycle`],
//! asked by the admin listener (`src/control.rs`). What is told of matches is in
//! [`super::listing`], what is done to them in [`super::matches`], jobs in [`super::jobs`].

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_actors::{Games, Host, MatchPhase, OtherBuild};
use rekindle_cluster::bus::PeerBus;
use rekindle_cluster::ownership::takeover;
use rekindle_cluster::retention;
use rekindle_gateway::Gateway;
use rekindle_jobs::JobsHandle;
use rekindle_schema::audit::AuditEntry;
use rekindle_schema::{BuildId, Incarnation, MatchId};
use rekindle_store::{AuditQuery, Store};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::browsers::Browsers;
use super::cluster::Cluster;
use super::documents::Clerks;
use super::documents::stored::Shelf;
use super::listing::LastTicks;
use super::lobbies::Lobbies;
use super::members::Members;
use super::migrate::Mover;
use super::operator::Operators;
use super::recover::Asked;
use super::standby::Standby;
use super::standing::Standings;
use super::successors::Successors;
use super::trial::TrialOptions;
use super::whereabouts::Lookup;
use super::{ControlError, bots, tickets};
use crate::config::Config;

/// What a [`Serving`] is made of.
pub struct Parts {
    /// The checked configuration.
    pub config: Config,
    /// The game types.
    pub games: Games,
    /// Runs the matches.
    pub host: Host,
    /// Where durable things go.
    pub store: Store,
    /// The edge.
    pub gateway: Gateway,
    /// What it shows to browsers.
    pub browsers: Arc<Browsers>,
    /// This run.
    pub incarnation: Incarnation,
    /// What computes the games.
    pub build: BuildId,
    /// Asks other nodes.
    pub peers: Arc<dyn PeerBus>,
    /// This node's part among them.
    pub cluster: Arc<Cluster>,
    /// Moves matches to and from others.
    pub mover: Arc<Mover>,
    /// Follows matches of others.
    pub standby: Arc<Standby>,
    /// Where its matches go on next.
    pub successors: Arc<Successors>,
    /// Set while matches are still to come.
    pub recovering: Arc<AtomicBool>,
    /// What does not run, and why.
    pub standings: Arc<Standings>,
    /// Finds the matches of other nodes.
    pub lookup: Arc<Lookup>,
    /// Finds matches for clients that look for one by its properties.
    pub lobbies: Arc<Lobbies>,
    /// The nodes of this store.
    pub members: Arc<Members>,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeReport {
    /// The configured name.
    pub name: String,
    /// This run of the process.
    pub incarnation: Incarnation,
    /// The build of the executable.
    pub build: BuildId,
    /// UDP address for players, as it is bound here.
    pub listen: SocketAddr,
    /// Where players reach it from elsewhere, if that is configured.
    pub public: Option<SocketAddr>,
    /// The certificate that it shows to players, DER.
    pub certificate: Vec<u8>,
    /// Those that players are to trust: that one, then those that it will show.
    pub certificates: Vec<Vec<u8>>,
    /// Names of the registered game types.
    pub games: Vec<String>,
    /// How long the node has been serving.
    pub uptime: Duration,
    /// It stops as soon as its matches are checkpointed.
    pub draining: bool,
}

/// A node that serves.
pub struct Serving {
    parts: Parts,
    /// When it began to serve.
    started: Instant,
    /// Set once a clean stop is asked for.
    drain: watch::Sender<bool>,
    /// Set once work on jobs has begun.
    jobs: OnceLock<JobsHandle>,
    /// Matches that an operator wants to be tried again; taken by the watch over dead nodes.
    asked: Mutex<Asked>,
    /// Wakes that watch.
    asking: Notify,
    /// Where matches that do not run ended.
    pub(super) last_ticks: LastTicks,
    /// Who brings orders to the collections of documents that run here.
    pub(super) clerks: Clerks,
    /// Reads collections that no node runs from the store.
    pub(super) shelf: Shelf,
}

impl Serving {
    /// Around parts that work.
    pub fn new(parts: Parts) -> Self {
        let Parts { config, store, games, build, .. } = &parts;
        let (store, games) = (store.clone(), games.clone());
        let other_build = OtherBuild::accepted_if(config.accept_build);
        let shelf = Shelf::new(store, games, TrialOptions::of(config, *build), other_build);
        Self {
            shelf,
            parts,
            started: Instant::now(),
            drain: watch::Sender::new(false),
            jobs: OnceLock::new(),
            asked: Mutex::default(),
            asking: Notify::new(),
            last_ticks: LastTicks::default(),
            clerks: Clerks::default(),
        }
    }

    /// Work on jobs has begun.
    pub fn works(&self, jobs: JobsHandle) {
        // It begins once.
        let _ = self.jobs.set(jobs);
    }

    /// The jobs, once they are worked on.
    pub fn working(&self) -> Option<&JobsHandle> {
        self.jobs.get()
    }

    /// Writes down what operators do to this node.
    pub fn operators(&self) -> Operators {
        Operators::new(self.parts.store.clone(), self.parts.incarnation)
    }

    /// What operators did, newest first.
    pub async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditEntry>, ControlError> {
        Ok(self.parts.store.audit.list(query).await?)
    }

    /// The parts.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// The configured name.
    pub fn name(&self) -> &str {
        &self.parts.config.node_name
    }

    /// Tickets for whoever asks.
    pub fn is_dev(&self) -> bool {
        self.parts.config.dev
    }

    /// Whether players are let in, and if not, why.
    pub fn ready(&self) -> Result<(), &'static str> {
        if self.is_draining() {
            Err("draining")
        } else if self.parts.recovering.load(Ordering::Acquire) {
            Err("recovering matches")
        } else if !self.parts.gateway.is_open() {
            Err("the game port is lost")
        } else {
            Ok(())
        }
    }

    /// What it is.
    pub fn report(&self) -> NodeReport {
        let parts = &self.parts;
        NodeReport {
            name: parts.config.node_name.clone(),
            incarnation: parts.incarnation,
            build: parts.build,
            listen: parts.gateway.local_addr(),
            public: parts.config.public,
            certificate: parts.gateway.keys().certificate_der().to_vec(),
            certificates: parts
                .gateway
                .keys()
                .certificates_der()
                .iter()
                .map(|der| der.to_vec())
                .collect(),
            games: parts.games.names().map(str::to_owned).collect(),
            uptime: self.started.elapsed(),
            draining: self.is_draining(),
        }
    }

    /// An operator wants this match to be tried again, and this done about records of another
    /// build, if not what the configuration says.
    pub(super) fn ask_for(&self, id: MatchId, other_build: Option<OtherBuild>) {
        self.asked.lock().insert(id, other_build);
        self.asking.notify_one();
    }

    /// Whether the wish for this match has not been taken up yet.
    pub(super) fn is_asked_for(&self, id: MatchId) -> bool {
        self.asked.lock().contains_key(&id)
    }

    /// The matches that operators want to be tried again since the last call.
    pub fn take_asked(&self) -> Asked {
        std::mem::take(&mut *self.asked.lock())
    }

    /// Resolves when an operator wants a match to be tried again.
    pub async fn asking(&self) {
        self.asking.notified().await;
    }

    /// Signs a ticket.
    pub fn issue_ticket(&self, wanted: &tickets::Wanted) -> Result<String, ControlError> {
        tickets::issue(self.parts.gateway.keys(), wanted)
            .map_err(|error| ControlError::Invalid(error.to_string()))
    }

    /// Whether a clean stop was asked for.
    pub fn is_draining(&self) -> bool {
        *self.drain.borrow()
    }

    /// Begins a clean stop; returns how many matches will be checkpointed. Harmless to repeat.
    pub fn begin_drain(&self) -> usize {
        self.drain.send_replace(true);
        self.parts.mover.takes_nothing();
        self.parts.host.list().len()
    }

    /// Resolves when a clean stop is asked for.
    pub async fn draining(&self) {
        let mut drain = self.drain.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = drain.wait_for(|drain| *drain).await;
    }

    /// A match begins to run on this node: its house bots play, and if it is a collection of
    /// documents, its clerk is at work.
    pub fn play_house_bots(&self, id: MatchId) {
        let Some(handle) = self.parts.host.find(id) else { return };
        if self.is_collection(&handle.spec().game) {
            self.clerks.begin(&handle, &self.parts.store);
        }
        let count = handle.spec().house_bots;
        if let (1.., Ok(game)) = (count, self.parts.games.get(&handle.spec().game)) {
            tokio::spawn(bots::play(handle, game, count));
        }
    }

    /// A match that recovered and then ran healthily for a while: its attempts are forgotten.
    pub fn watch_health(self: &Arc<Self>, id: MatchId, healthy_after: Duration) {
        let node = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(healthy_after).await;
            let Parts { host, store, incarnation, config, .. } = &node.parts;
            let healthy = host.find(id).is_some_and(|handle| {
                !matches!(handle.phase(), MatchPhase::Parked(_) | MatchPhase::Repairing)
            });
            if !healthy {
                return;
            }
            // Until it is known what is needed, all of it is.
            let keep_from =
                retention::lineage_needed(store, &config.retention, id).await.unwrap_or_default();
            while let Err(error) = takeover::mark_healthy(store, *incarnation, id, keep_from).await
            {
                tracing::warn!(code = "RK-NODE-014", match_id = %id, %error, "recovery attempts \
                    are not forgotten yet");
                if !error.is_transient() {
                    return;
                }
                tokio::time::sleep(healthy_after).await;
            }
        });
    }
}
