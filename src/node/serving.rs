//! A node that runs matches, as its operators see it. Called by the admin listener and by
//! [`super::lifecycle`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use rekindle_actors::jobs::JobsHandle;
use rekindle_actors::{Games, Host, MatchPhase, MatchStatus};
use rekindle_cluster::ownership::directory::{self, Updated};
use rekindle_cluster::ownership::takeover;
use rekindle_cluster::retention;
use rekindle_gateway::Gateway;
use rekindle_schema::lease::{Lineage, MatchLease, MatchSpec, MatchState, NodeLease, NodeState};
use rekindle_schema::{BuildId, Epoch, Incarnation, MatchId, Seq, Tick};
use rekindle_store::{AuditQuery, Store, StoreError};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout};

use super::operator::{Abandoned, NotWritten, Operators};
use super::standing::{Standing, Standings};
use super::{bots, tickets};
use crate::admin::api::{
    AuditView, CreateMatch, Draining, IssueTicket, MatchView, NodeView, Ticket,
};
use crate::clock;
use crate::config::Config;
use crate::hex;

/// Why a node does not do what an operator asks.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// No such match.
    #[error("RK-ADMIN-404: there is no match {0}; `rekindle match ls` lists them")]
    NoMatch(String),
    /// No such game type.
    #[error("RK-ADMIN-410: no game `{name}` here; this node has: {known}")]
    NoGame {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The request makes no sense.
    #[error("RK-ADMIN-411: {0}")]
    Invalid(String),
    /// The request is understood and not allowed.
    #[error("RK-ADMIN-403: {0}")]
    Forbidden(String),
    /// No such job.
    #[error("RK-ADMIN-404: there is no job {0}; `rekindle jobs ls` lists them")]
    NoJob(String),
    /// It cannot be done to the thing as it stands.
    #[error("RK-ADMIN-409: {0}")]
    Refused(String),
    /// The node goes down.
    #[error("RK-ADMIN-503: this node is draining and takes no new matches")]
    Draining,
    /// The node is not far enough yet.
    #[error(
        "RK-ADMIN-503: this node works on jobs once its matches are recovered; ask again in a \
         moment"
    )]
    NotReady,
    /// The audit log could not be written.
    #[error(transparent)]
    NotWritten(#[from] NotWritten),
    /// The store does not answer.
    #[error("RK-ADMIN-503: {0}")]
    Unavailable(String),
    /// It was tried and failed.
    #[error("RK-ADMIN-500: {0}")]
    Failed(String),
}

impl ControlError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoMatch(_) => "RK-ADMIN-404",
            Self::NoGame { .. } => "RK-ADMIN-410",
            Self::Invalid(_) => "RK-ADMIN-411",
            Self::Forbidden(_) => "RK-ADMIN-403",
            Self::NoJob(_) => "RK-ADMIN-404",
            Self::Refused(_) => "RK-ADMIN-409",
            Self::Draining | Self::NotReady | Self::Unavailable(_) => "RK-ADMIN-503",
            Self::NotWritten(_) => "RK-ADMIN-507",
            Self::Failed(_) => "RK-ADMIN-500",
        }
    }
}

impl From<StoreError> for ControlError {
    fn from(error: StoreError) -> Self {
        if error.is_transient() {
            Self::Unavailable(error.to_string())
        } else {
            Self::Failed(error.to_string())
        }
    }
}

impl From<Abandoned> for ControlError {
    fn from(error: Abandoned) -> Self {
        Self::Failed(error.to_string())
    }
}

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
    /// This run.
    pub incarnation: Incarnation,
    /// What computes the games.
    pub build: BuildId,
    /// Set while matches are still to come.
    pub recovering: Arc<AtomicBool>,
    /// What does not run, and why.
    pub standings: Arc<Standings>,
}

/// A node that serves.
pub struct Serving {
    parts: Parts,
    started: Instant,
    drain: watch::Sender<bool>,
    jobs: OnceLock<JobsHandle>,
    /// Matches that an operator wants to be tried again.
    asked: Mutex<BTreeSet<MatchId>>,
    asking: Notify,
    /// Where matches that do not run ended: the version of the row, and the tick if there is a
    /// checkpoint.
    last_ticks: Mutex<BTreeMap<MatchId, (u64, Option<Tick>)>>,
}

/// How long an answer waits for the store before it is given from what the node knows.
const STORE_PATIENCE: Duration = Duration::from_secs(1);
/// How long a list of matches waits for the last ticks of those that do not run.
const TICKS_PATIENCE: Duration = Duration::from_millis(500);
/// So many last ticks are looked up for one list, so many at once, and so many are remembered.
const TICK_LOOKUPS: usize = 256;
const TICKS_AT_ONCE: usize = 8;
const TICKS_KEPT: usize = 10_000;
/// How long [`Serving::resume_match`] waits for what comes of it.
const RESUME_PATIENCE: Duration = Duration::from_secs(20);
/// How often it looks.
const RESUME_LOOK: Duration = Duration::from_millis(50);
/// Most matches that the detail of a readiness answer names.
const NAMED: usize = 20;

impl Serving {
    /// Around parts that work.
    pub fn new(parts: Parts) -> Self {
        Self {
            parts,
            started: Instant::now(),
            drain: watch::Sender::new(false),
            jobs: OnceLock::new(),
            asked: Mutex::default(),
            asking: Notify::new(),
            last_ticks: Mutex::default(),
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
    pub async fn audit(&self, query: AuditQuery) -> Result<Vec<AuditView>, ControlError> {
        Ok(self.parts.store.audit.list(query).await?.iter().map(AuditView::of).collect())
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
        if *self.drain.borrow() {
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
    pub fn view(&self) -> NodeView {
        let parts = &self.parts;
        NodeView {
            name: parts.config.node_name.clone(),
            incarnation: parts.incarnation.to_string(),
            build: parts.build.to_string(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            listen: parts.gateway.local_addr().to_string(),
            public: parts.config.public.map(|address| address.to_string()),
            certificate: hex::encode(parts.gateway.keys().certificate_der()),
            games: parts.games.names().map(str::to_owned).collect(),
            uptime_s: self.started.elapsed().as_secs(),
            draining: *self.drain.borrow(),
        }
    }

    /// Which matches do not run as they should, one line each, with no words that players or games
    /// wrote: the answer is for everybody.
    pub fn detail(&self) -> Vec<String> {
        let line = |id: MatchId, state: &str, label: Option<&str>| {
            let label = label
                .filter(|label| *label != state)
                .map(|label| format!(" ({label})"))
                .unwrap_or_default();
            format!("match {id} {state}{label}: `rekindle match show {}`", id.short())
        };
        let mut lines = BTreeMap::new();
        for (row, standing) in self.parts.standings.all() {
            lines.insert(row.match_id, line(row.match_id, standing.state(), standing.label()));
        }
        for status in self.parts.host.list() {
            let state = match status.phase {
                MatchPhase::Stalled => "stalled",
                MatchPhase::Parked(_) => "parked",
                MatchPhase::Repairing => "repairing",
                _ => {
                    lines.remove(&status.match_id);
                    continue;
                }
            };
            lines.insert(status.match_id, line(status.match_id, state, None));
        }
        let more = lines.len().saturating_sub(NAMED);
        let mut lines: Vec<String> = lines.into_values().take(NAMED).collect();
        if more > 0 {
            lines.push(format!("and {more} more: `rekindle match ls`"));
        }
        lines
    }

    /// What the store says, if it says it soon.
    async fn soon<T>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let late = |_| {
            StoreError::Unavailable(format!(
                "it has not answered for {} ms",
                STORE_PATIENCE.as_millis()
            ))
        };
        timeout(STORE_PATIENCE, answer).await.map_err(late)?
    }

    /// All matches in the directory, those of this node with where they stand. While the store does
    /// not answer, only what this node knows by itself.
    pub async fn matches(&self) -> Result<Vec<MatchView>, ControlError> {
        let leases = &self.parts.store.leases;
        let answer = self.soon(async { tokio::try_join!(leases.matches(), leases.nodes()) }).await;
        // Afterwards, so that it is not older than the answer.
        let here: BTreeMap<MatchId, MatchStatus> =
            self.parts.host.list().into_iter().map(|status| (status.match_id, status)).collect();
        match answer {
            Ok((rows, nodes)) => {
                let nodes: BTreeMap<Incarnation, NodeLease> =
                    nodes.into_iter().map(|node| (node.incarnation, node)).collect();
                let still: Vec<&MatchLease> =
                    rows.iter().filter(|row| !here.contains_key(&row.match_id)).collect();
                let ticks = self.last_ticks(&still, &nodes).await;
                let view = |row: &MatchLease| {
                    let tick = ticks.get(&row.match_id).copied().flatten();
                    self.match_view_of(row, here.get(&row.match_id), &nodes, tick)
                };
                Ok(rows.iter().map(view).collect())
            }
            Err(error) if error.is_transient() => {
                let mut known: BTreeMap<MatchId, MatchView> = here
                    .values()
                    .map(|status| {
                        (status.match_id, unconfirmed(status, &self.parts.config.node_name, &error))
                    })
                    .collect();
                for (row, standing) in self.parts.standings.all() {
                    known.entry(row.match_id).or_insert_with(|| remembered(&row, &standing));
                }
                if known.is_empty() { Err(error.into()) } else { Ok(known.into_values().collect()) }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// One match. While the store does not answer, what this node knows of it.
    pub async fn match_view(&self, id: MatchId) -> Result<MatchView, ControlError> {
        let leases = &self.parts.store.leases;
        let answer = self.soon(async { tokio::try_join!(leases.get(id), leases.nodes()) }).await;
        // Afterwards, so that it is not older than the answer.
        let here = self.parts.host.list().into_iter().find(|status| status.match_id == id);
        match (answer, here) {
            (Ok((Some(row), nodes)), here) => {
                let nodes: BTreeMap<Incarnation, NodeLease> =
                    nodes.into_iter().map(|node| (node.incarnation, node)).collect();
                let still: Vec<&MatchLease> = if here.is_none() { vec![&row] } else { Vec::new() };
                let tick = self.last_ticks(&still, &nodes).await.remove(&id).flatten();
                Ok(self.match_view_of(&row, here.as_ref(), &nodes, tick))
            }
            (Ok((None, _)), _) => Err(ControlError::NoMatch(id.to_string())),
            (Err(error), Some(status)) if error.is_transient() => {
                Ok(unconfirmed(&status, &self.parts.config.node_name, &error))
            }
            (Err(error), None) if error.is_transient() => {
                let known =
                    self.parts.standings.all().into_iter().find(|(row, _)| row.match_id == id);
                known.map(|(row, standing)| remembered(&row, &standing)).ok_or_else(|| error.into())
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    /// Where matches that nobody runs ended, from their newest checkpoints: as many as can be had
    /// soon.
    async fn last_ticks(
        &self,
        rows: &[&MatchLease],
        nodes: &BTreeMap<Incarnation, NodeLease>,
    ) -> BTreeMap<MatchId, Option<Tick>> {
        let live = |row: &MatchLease| {
            nodes.get(&row.incarnation).is_some_and(|node| node.state == NodeState::Live)
        };
        // One that runs elsewhere is already further.
        let at_rest = rows.iter().filter(|row| {
            row.state != MatchState::Running
                || !live(row)
                || self.parts.standings.is_dead(row.incarnation)
        });
        let mut found = BTreeMap::new();
        let mut open = Vec::new();
        {
            let known = self.last_ticks.lock();
            for row in at_rest {
                match known.get(&row.match_id) {
                    Some(&(version, tick)) if version == row.version => {
                        drop(found.insert(row.match_id, tick))
                    }
                    _ if open.len() < TICK_LOOKUPS => open.push((row.match_id, row.version)),
                    _ => {}
                }
            }
        }
        let checkpoints = &self.parts.store.checkpoints;
        let mut lookups = futures::stream::iter(open)
            .map(|(id, version)| async move { (id, version, checkpoints.list(id).await) })
            .buffer_unordered(TICKS_AT_ONCE);
        let until = Instant::now() + TICKS_PATIENCE;
        while let Ok(Some((id, version, listed))) =
            tokio::time::timeout_at(until, lookups.next()).await
        {
            let Ok((metas, _)) = listed else { continue };
            let tick = metas.iter().map(|meta| meta.tick).max();
            found.insert(id, tick);
            let mut known = self.last_ticks.lock();
            if known.len() >= TICKS_KEPT {
                known.clear();
            }
            known.insert(id, (version, tick));
        }
        found
    }

    fn match_view_of(
        &self,
        row: &MatchLease,
        here: Option<&MatchStatus>,
        nodes: &BTreeMap<Incarnation, NodeLease>,
        last_tick: Option<Tick>,
    ) -> MatchView {
        let parts = &self.parts;
        let node = nodes.get(&row.incarnation);
        let mut view = match_view(row, here);
        view.node = node.map(|node| node.name.clone());
        if here.is_some() {
            return view;
        }
        view.tick = last_tick.map(|tick| tick.0);
        if row.state != MatchState::Running {
            return view;
        }
        let live = node.is_some_and(|node| node.state == NodeState::Live)
            && !parts.standings.is_dead(row.incarnation);
        let standing = parts.standings.of(row.match_id).unwrap_or(Standing::Recovering);
        let name = view.node.as_deref().unwrap_or("another node");
        let (state, reason) = if row.incarnation != parts.incarnation && live {
            ("elsewhere", format!("it runs on node {name}: ask there for where it stands"))
        } else if row.region != parts.config.node_region {
            let words = "its node is gone, and only nodes of its region take it over; `rekindle \
                region promote` moves it";
            ("waits", format!("it is at home in region {}: {words}", row.region))
        } else {
            (standing.state(), standing.words())
        };
        (view.state, view.reason) = (state.to_owned(), Some(reason));
        view
    }

    /// Has a match tried again that is parked, or that waits for another build; returns what has
    /// come of it. A match of another live node is that node's business.
    pub async fn resume_match(&self, id: MatchId) -> Result<MatchView, ControlError> {
        if *self.drain.borrow() {
            return Err(ControlError::Draining);
        }
        let view = self.match_view(id).await?;
        let waits = view.state == "waits";
        if view.state != "parked" && !waits {
            return Err(ControlError::Refused(format!(
                "match {id} is {}, and neither parked nor waiting: there is nothing to resume",
                view.state
            )));
        }
        let Parts { host, store, incarnation, config, standings, .. } = &self.parts;
        let row =
            store.leases.get(id).await?.ok_or_else(|| ControlError::NoMatch(id.to_string()))?;
        let owner =
            store.leases.node(row.incarnation).await?.filter(|node| node.state == NodeState::Live);
        if let Some(owner) = owner.filter(|owner| {
            owner.incarnation != *incarnation && !standings.is_dead(owner.incarnation)
        }) {
            return Err(ControlError::Refused(format!(
                "match {id} belongs to node {}, which is up: resume it there",
                owner.name
            )));
        }
        if row.region != config.node_region {
            let words = format!(
                "match {id} is at home in region {}: resume it on a node there, or move it with \
                 `rekindle region promote`",
                row.region
            );
            return Err(ControlError::Refused(words));
        }
        host.forget_parked(id);
        let begun = directory::update(&*store.leases, id, |row| {
            let parked = matches!(row.state, MatchState::Parked { .. });
            row.state = MatchState::Running;
            // Suspect it stays: it is tried in a process of its own before it runs here.
            row.attempts = row.attempts.max(1);
            parked
        });
        let before = match begun.await? {
            Updated::Done(row) | Updated::Declined(row) => row.version,
        };
        standings.set(id, Some(&row), Some(Standing::Recovering));
        self.asked.lock().insert(id);
        self.asking.notify_one();
        let until = Instant::now() + RESUME_PATIENCE;
        while Instant::now() < until {
            tokio::time::sleep(RESUME_LOOK).await;
            // Whether it runs, is parked again, waits again or was taken by another node.
            let settled = !matches!(standings.of(id), Some(Standing::Recovering));
            let taken = !self.asked.lock().contains(&id);
            if host.find(id).is_some() || taken && settled {
                break;
            }
        }
        let after = self.match_view(id).await?;
        tracing::info!(
            code = "RK-NODE-136", match_id = %id, version = before, state = after.state,
            "a match was tried again, as an operator asked"
        );
        Ok(after)
    }

    /// The matches that operators want to be tried again since the last call.
    pub fn take_asked(&self) -> BTreeSet<MatchId> {
        std::mem::take(&mut *self.asked.lock())
    }

    /// Resolves when an operator wants a match to be tried again.
    pub async fn asking(&self) {
        self.asking.notified().await;
    }

    /// Creates a match and runs it here.
    pub async fn create_match(&self, wanted: CreateMatch) -> Result<MatchView, ControlError> {
        if *self.drain.borrow() {
            return Err(ControlError::Draining);
        }
        let Parts { config, games, host, store, incarnation, .. } = &self.parts;
        let game = games.get(&wanted.game).map_err(|_| ControlError::NoGame {
            name: wanted.game.clone(),
            known: games.names().collect::<Vec<_>>().join(", "),
        })?;
        if host.list().len() >= config.limits.matches {
            return Err(ControlError::Forbidden(format!(
                "limits.matches = {} matches run here already",
                config.limits.matches
            )));
        }
        let encoded = game
            .config_from_json(&wanted.config.to_string())
            .map_err(|error| ControlError::Invalid(error.to_string()))?;
        let room = game.max_players(&encoded);
        if usize::from(wanted.house_bots) > room {
            return Err(ControlError::Invalid(format!(
                "{} house bots in a match for {room} players",
                wanted.house_bots
            )));
        }
        // The world computes with the game's own rate, whatever the pace: another pace would only
        // be slow or fast motion.
        if let Some(rate) = wanted.tick_rate.filter(|&rate| rate != game.tick_rate()) {
            return Err(ControlError::Invalid(format!(
                "tick_rate {rate}: game `{}` is made for {} ticks a second and for no other rate; \
                 leave it out",
                wanted.game,
                game.tick_rate()
            )));
        }
        let spec = MatchSpec {
            game: wanted.game,
            config: encoded,
            seed: wanted.seed.unwrap_or_else(clock::random),
            tick_rate: game.tick_rate(),
            house_bots: wanted.house_bots,
            created_ms: clock::now_ms(),
        };
        if !(1..=240).contains(&spec.tick_rate) {
            return Err(ControlError::Invalid(format!(
                "tick_rate {}: expected 1 to 240 ticks a second",
                spec.tick_rate
            )));
        }
        let lease = MatchLease {
            match_id: MatchId(clock::random()),
            version: 1,
            epoch: Epoch(1),
            incarnation: *incarnation,
            state: MatchState::Running,
            attempts: 0,
            lineage: vec![Lineage {
                epoch: Epoch(1),
                incarnation: *incarnation,
                first_batch: host.next_batch(),
                first_seq: Seq(1),
            }],
            spec,
            region: config.node_region.clone(),
        };
        let id = lease.match_id;
        store.leases.create(lease.clone()).await?;
        host.create(lease).await.map_err(|error| ControlError::Failed(error.to_string()))?;
        self.play_house_bots(id);
        self.match_view(id).await
    }

    /// Ends a match; its result is delivered before this returns. Of a parked match that does not
    /// run only the row is closed.
    pub async fn stop_match(&self, id: MatchId, reason: String) -> Result<MatchView, ControlError> {
        if self.parts.host.find(id).is_none() {
            let closed = directory::update(&*self.parts.store.leases, id, |row| {
                let parked = matches!(row.state, MatchState::Parked { .. });
                row.state = MatchState::Ended { reason: reason.clone() };
                parked
            });
            match closed.await {
                Ok(Updated::Done(row)) => {
                    self.parts.standings.set(id, None, None);
                    return Ok(match_view(&row, None));
                }
                Ok(Updated::Declined(_)) | Err(StoreError::NotFound(_)) => {}
                Err(error) => return Err(error.into()),
            }
            let row = self.match_view(id).await?;
            return Err(ControlError::Invalid(format!(
                "match {id} does not run here: it is {}",
                row.state
            )));
        }
        self.parts
            .host
            .stop_match(id, reason)
            .await
            .map_err(|error| ControlError::Failed(error.to_string()))?;
        self.match_view(id).await
    }

    /// Signs a ticket.
    pub fn issue_ticket(&self, wanted: &IssueTicket) -> Result<Ticket, ControlError> {
        tickets::issue(self.parts.gateway.keys(), wanted)
            .map_err(|error| ControlError::Invalid(error.to_string()))
    }

    /// Begins a clean stop. Harmless to repeat.
    pub fn begin_drain(&self) -> Draining {
        self.drain.send_replace(true);
        Draining { matches: self.parts.host.list().len() }
    }

    /// Resolves when a clean stop is asked for.
    pub async fn draining(&self) {
        let mut drain = self.drain.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = drain.wait_for(|drain| *drain).await;
    }

    /// Plays the house bots of a match of this node.
    pub fn play_house_bots(&self, id: MatchId) {
        let Some(handle) = self.parts.host.find(id) else { return };
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
            while let Err(error) = takeover::settle_in(store, *incarnation, id, keep_from).await {
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

/// Why a match that runs makes no ticks.
const STALLED: &str = "it stands still until the store has caught up";

fn match_view(row: &MatchLease, here: Option<&MatchStatus>) -> MatchView {
    let (state, reason) = match (&row.state, here.map(|status| &status.phase)) {
        (MatchState::Running, Some(MatchPhase::Stalled)) => ("stalled", Some(STALLED.to_owned())),
        (MatchState::Ended { reason }, _) => ("ended", Some(reason.clone())),
        (MatchState::Parked { report }, _) | (_, Some(MatchPhase::Parked(report))) => {
            ("parked", Some(report.clone()))
        }
        (MatchState::Running, Some(_)) => ("running", None),
        (MatchState::Running, None) => ("recovering", None),
    };
    MatchView {
        id: row.match_id.to_string(),
        game: row.spec.game.clone(),
        state: state.to_owned(),
        reason,
        tick: here.map(|status| status.published.0),
        durable: here.map(|status| status.durable.0),
        node: None,
        tick_rate: row.spec.tick_rate,
        epoch: row.epoch.0,
        players: here.map_or(0, |status| status.sessions),
        house_bots: row.spec.house_bots,
        attempts: row.attempts,
    }
}

/// What this node knows of a match by itself.
fn unconfirmed(status: &MatchStatus, node: &str, error: &StoreError) -> MatchView {
    let (state, reason) = match &status.phase {
        MatchPhase::Parked(report) => ("parked", report.clone()),
        MatchPhase::Stalled => ("stalled", format!("{STALLED}: {error}")),
        _ => (
            "running",
            format!(
                "not confirmed by the directory, and matches that do not run on this node are not \
                 listed: {error}"
            ),
        ),
    };
    MatchView {
        id: status.match_id.to_string(),
        game: status.game.clone(),
        state: state.to_owned(),
        reason: Some(reason),
        tick: Some(status.published.0),
        durable: Some(status.durable.0),
        node: Some(node.to_owned()),
        tick_rate: status.tick_rate,
        epoch: status.epoch.0,
        players: status.sessions,
        house_bots: status.house_bots,
        attempts: 0,
    }
}

/// What this node remembers of a match that does not run here, while the store does not answer.
fn remembered(row: &MatchLease, standing: &Standing) -> MatchView {
    MatchView {
        state: standing.state().to_owned(),
        reason: Some(standing.words()),
        ..match_view(row, None)
    }
}
