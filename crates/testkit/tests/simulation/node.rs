//! A whole node as one process of the simulation: lease, takeover, host, edge, trimming. It does what a real node does at its start and ends
//! itself, as a real one does, when its journal fails or its lease is gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rekindle_actors::{Games, Host, HostConfig, HostParts, MatchHandle, Output};
use rekindle_cluster::takeover::{self, ClaimOptions, Claimed};
use rekindle_cluster::{lease, trim};
use rekindle_gateway::port::{Admission, Location, MatchInfo, MatchLink, Matches, Opened, RawInput};
use rekindle_gateway::{Gateway, GatewayConfig, Keys};
use rekindle_schema::frame::TickFrame;
use rekindle_schema::lease::{Lineage, MatchLease, MatchSpec, MatchState, NodeLease, NodeState};
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{BatchNo, BuildId, Epoch, Incarnation, MatchId, PlayerId, Seq, SessionId};
use rekindle_sim::{GameType, SimError};
use rekindle_store::Store;
use rekindle_testkit::disk::Disk;
use rekindle_testkit::oracle::{Rule, Violation};
use rekindle_testkit::quic::{self, VirtualRuntime};
use rekindle_testkit::seed::Dice;
use rekindle_testkit::stage::{PORT, Signals, clock_ms};
use rekindle_testkit::trace::Trace;
use tokio::sync::mpsc;

/// The matches of a simulation: their records share batches.
pub(crate) const MATCHES: [MatchId; 2] = [MatchId(0x5eed_0001), MatchId(0x5eed_0002)];
/// How often a node looks for batches that nobody needs.
const TRIM_EVERY: Duration = Duration::from_millis(700);
/// How often a match is checkpointed: often, so that kills hit checkpoints and recoveries begin with them.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(900);

/// What all lives of the node have in common.
#[derive(Clone)]
pub(crate) struct Node {
    /// Decides incarnations, keys, connection ids.
    pub seed: u64,
    /// What it runs.
    pub game: Arc<dyn GameType>,
    /// When frames leave.
    pub output: Output,
    /// Its disk.
    pub disk: Disk,
    /// What happened.
    pub trace: Trace,
    /// How often it was started.
    pub lives: Arc<AtomicU64>,
    /// Matches that the life before this one put away by a clean stop.
    pub put_away: Arc<Mutex<BTreeSet<MatchId>>>,
    /// What a node itself noticed that should not be.
    pub problems: Arc<Mutex<Vec<Violation>>>,
}

/// The keys of the node of a seed: also for those who issue tickets.
pub(crate) fn keys(seed: u64) -> Keys {
    Keys::ephemeral(Dice::new(seed, "keys").bytes()).expect("keys follow from any seed")
}

impl Node {
    /// One life of the process.
    pub(crate) async fn live(self, signals: Signals) -> turmoil::Result {
        let life = self.lives.fetch_add(1, Ordering::Relaxed) + 1;
        let mut dice = Dice::new(self.seed, &format!("life {life}"));
        let me = Incarnation(dice.next());
        self.trace.log("node", format_args!("life {life} is incarnation {me}"));
        let reason = match self.run(me, &mut dice, &signals).await {
            Ok(reason) => reason,
            Err(error) => format!("cannot start: {error}"),
        };
        self.trace.log("node", format_args!("gives up: {reason}"));
        signals.exit().await;
        Ok(())
    }

    async fn run(&self, me: Incarnation, dice: &mut Dice, signals: &Signals) -> Result<String, Box<dyn std::error::Error>> {
        let store = self.disk.store();
        store.leases.register(self.lease(me)).await?;
        let config = HostConfig {
            output: self.output,
            checkpoint_every: CHECKPOINT_EVERY,
            session_timeout: Duration::from_secs(30),
            ..HostConfig::simulated()
        };
        let parts = HostParts {
            store: store.clone(),
            incarnation: me,
            build: BuildId(1),
            games: Games::new().with(self.game.clone()),
            clock: Arc::new(clock_ms),
            seed: dice.next(),
            config,
        };
        let host = Arc::new(Host::start(parts).await?);
        let ready = Arc::new(AtomicBool::new(false));
        let links = Arc::new(Links { host: host.clone(), ready: ready.clone() });
        let edge = GatewayConfig { seed: Some(dice.bytes()), ..GatewayConfig::on_port(PORT, Arc::new(clock_ms)) };
        let socket = quic::socket(PORT).await?;
        let gateway = Gateway::on_socket(edge, links, keys(self.seed), socket, Arc::new(VirtualRuntime))?;
        self.take_over(&host, &store, me).await?;
        ready.store(true, Ordering::Release);
        let lease = lease::keep(&*store.leases, me, clock_ms);
        tokio::select! {
            biased;
            halt = host.fenced() => Ok(halt.to_string()),
            ended = lease => Ok(ended.map_or_else(|error| error.to_string(), |()| "fenced".to_owned())),
            never = tidy(&store) => match never {},
            () = signals.stopped() => {
                gateway.shutdown("the node is going down").await;
                let drained = host.drain().await;
                let left: Vec<MatchId> = drained.left.iter().map(|&(id, _)| id).collect();
                self.put_away.lock().extend(MATCHES.iter().filter(|id| host.find(**id).is_some() && !left.contains(id)));
                store.leases.stop(me).await?;
                Ok(format!("stopped: {} of {} matches are put away", drained.checkpointed, drained.matches))
            }
        }
    }

    fn lease(&self, incarnation: Incarnation) -> NodeLease {
        NodeLease {
            incarnation,
            name: "node".to_owned(),
            state: NodeState::Live,
            pid: 0,
            pid_start: 0,
            deadline_ms: clock_ms() + lease::LEASE_MS,
            seal: None,
        }
    }

    /// Brings back the match of an earlier life, or makes it in the first.
    async fn take_over(&self, host: &Host, store: &Store, me: Incarnation) -> Result<(), Box<dyn std::error::Error>> {
        let mut dead = BTreeSet::new();
        for node in store.leases.nodes().await?.into_iter().filter(|node| node.incarnation != me) {
            if node.state == NodeState::Live || node.seal.is_none() {
                let secured = takeover::secure(store, me, node.incarnation).await?;
                self.trace.log("node", format_args!("sealed {} at {}", secured.incarnation, secured.seal));
            }
            dead.insert(node.incarnation);
        }
        let put_away = std::mem::take(&mut *self.put_away.lock());
        // Kills come faster here than a match can run healthily, and none of them is the match's fault.
        let options = ClaimOptions { me, first_batch: host.next_batch(), max_attempts: u32::MAX };
        let rows = takeover::orphans(store, &dead).await?;
        for claimed in takeover::claim(store, rows, options).await? {
            match claimed {
                Claimed::Ours(claim) => {
                    let report = host.recover(claim.lease, claim.history).await?;
                    let (id, tick, replayed) = (report.match_id, report.tick, report.replayed);
                    self.trace.log("node", format_args!("match {id} resumed at tick {tick}, {replayed} replayed"));
                    if replayed > 0 && put_away.contains(&id) {
                        let detail = format!("match {id}: {replayed} ticks were replayed after a clean stop");
                        self.problems.lock().push(Violation::new(Rule::CleanStop, detail));
                    }
                }
                Claimed::Lost(id) => self.trace.log("node", format_args!("match {id} was claimed by another")),
                Claimed::Parked(id, report) => self.trace.log("node", format_args!("match {id} is parked: {report}")),
            }
        }
        for match_id in MATCHES {
            if store.leases.get(match_id).await?.is_none() {
                let row = self.row(match_id, me, host.next_batch())?;
                store.leases.create(row.clone()).await?;
                host.create(row).await?;
                self.trace.log("node", format_args!("made match {match_id}"));
            }
        }
        Ok(())
    }

    fn row(&self, match_id: MatchId, me: Incarnation, first_batch: BatchNo) -> Result<MatchLease, SimError> {
        Ok(MatchLease {
            match_id,
            version: 1,
            epoch: Epoch(1),
            incarnation: me,
            state: MatchState::Running,
            attempts: 0,
            lineage: vec![Lineage { epoch: Epoch(1), incarnation: me, first_batch, first_seq: Seq(1) }],
            spec: MatchSpec {
                game: self.game.name().to_owned(),
                config: self.game.config_from_json("{}")?,
                seed: self.seed ^ match_id.0,
                tick_rate: self.game.tick_rate(),
                house_bots: 0,
                created_ms: clock_ms(),
            },
        })
    }
}

/// Cuts what nobody needs off the logs, for ever.
async fn tidy(store: &Store) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(TRIM_EVERY).await;
        // A store in trouble is the business of the journal; tidying waits for better times.
        let _ = trim::run(store).await;
    }
}

/// Lets the edge see the matches of the host.
struct Links {
    host: Arc<Host>,
    ready: Arc<AtomicBool>,
}

impl Matches for Links {
    fn locate(&self, wanted: Option<MatchId>) -> Location {
        match wanted.and_then(|id| self.host.find(id)) {
            Some(handle) => Location::Here(Arc::new(Link(handle))),
            None if self.ready.load(Ordering::Acquire) => Location::Refused(RefuseCode::NoMatch, "no such match".to_owned()),
            None => Location::Refused(RefuseCode::Unavailable, "matches are being recovered".to_owned()),
        }
    }
}

struct Link(MatchHandle);

impl MatchLink for Link {
    fn info(&self) -> MatchInfo {
        let info = self.0.info();
        MatchInfo {
            match_id: info.match_id,
            game: info.game,
            epoch: info.epoch,
            tick: info.tick,
            tick_rate: info.tick_rate,
            schema: info.schema,
            config: info.config,
        }
    }

    fn open(&self, player: PlayerId, name: String, resume: Option<SessionId>) -> BoxFuture<'_, Result<Opened, (RefuseCode, String)>> {
        Box::pin(async move {
            let opened = self.0.open(player, name, resume).await?;
            Ok(Opened {
                session: opened.session,
                resumed: opened.resumed,
                next_input: opened.next_input,
                next_command: opened.next_command,
            })
        })
    }

    fn input(&self, input: RawInput) -> Admission {
        let RawInput { session, seq, target, view, payload } = input;
        admission(self.0.input(rekindle_actors::RawInput { session, seq, target, view, payload }))
    }

    fn command(&self, session: SessionId, seq: u64, payload: Bytes) -> Admission {
        admission(self.0.command(session, seq, payload))
    }

    fn close(&self, session: SessionId) {
        self.0.close(session);
    }

    fn away(&self, session: SessionId) {
        self.0.away(session);
    }

    fn back(&self, session: SessionId) {
        self.0.back(session);
    }

    fn subscribe(&self) -> mpsc::Receiver<Arc<TickFrame>> {
        self.0.subscribe()
    }
}

fn admission(outcome: rekindle_actors::Admission) -> Admission {
    use rekindle_actors::Admission as Inner;
    match outcome {
        Inner::Queued => Admission::Queued,
        Inner::Stale => Admission::Stale,
        Inner::OutOfWindow => Admission::OutOfWindow,
        Inner::Malformed => Admission::Malformed,
        Inner::NoSession => Admission::NoSession,
        Inner::Full => Admission::Full,
    }
}
