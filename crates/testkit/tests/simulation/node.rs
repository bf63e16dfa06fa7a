//! A whole node as one process of the simulation: lease, takeover, host, edge, trimming. It follows
//! `rekindle::node::lifecycle` step by step, with its takeover and its links, on a virtual disk, socket
//! and clock; and it ends by itself when that one would: when it cannot start, when its journal has
//! failed, when its lease is gone, and when it was asked to stop and all is put away.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rekindle::node::links::Links;
use rekindle::node::recover::{Asked, Outcome, Recoverer, RecovererParts};
use rekindle::node::standing::Standings;
use rekindle::node::whereabouts::Lookup;
use rekindle_actors::{Games, Host, HostConfig, HostParts, MatchPhase, Output};
use rekindle_cluster::ownership::{lease, takeover};
use rekindle_cluster::retention::{self, Keep, Policy};
use rekindle_gateway::{Gateway, GatewayConfig, Keys};
use rekindle_schema::lease::{
    DEFAULT_REGION, Lineage, MatchLease, MatchSpec, MatchState, NodeLease, NodeState,
};
use rekindle_schema::{BatchNo, BuildId, Epoch, Incarnation, MatchId, Seq};
use rekindle_sim::{GameType, SimError};
use rekindle_store::Store;
use rekindle_store::identity::Fresh;
use rekindle_testkit::disk::Disk;
use rekindle_testkit::oracle::{Rule, Violation};
use rekindle_testkit::quic;
use rekindle_testkit::seed::Dice;
use rekindle_testkit::stage::{PORT, Signals, clock_ms};
use rekindle_testkit::trace::Trace;

/// The matches of a simulation: their records share batches.
pub(crate) const MATCHES: [MatchId; 2] = [MatchId(0x5eed_0001), MatchId(0x5eed_0002)];
/// All is archived: whatever happens, the history of a match is whole from its first record on.
const POLICY: Policy = Policy {
    journal: Keep::Needed,
    checkpoints: 2,
    archive: Keep::All,
    ended: Keep::All,
    chunk_every: Duration::from_millis(1_500),
};
/// How often a node looks for batches that nobody needs.
const TRIM_EVERY: Duration = Duration::from_millis(700);
/// How often a match is checkpointed: often, so that kills hit checkpoints and recoveries begin
/// with them.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(900);

/// How long a match must run to have recovered.
const HEALTHY_AFTER: Duration = Duration::from_millis(600);

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

/// What the identity of a simulated store is made of.
fn fresh() -> Fresh {
    Fresh { now_ms: clock_ms(), chance: 1 }
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

    async fn run(
        &self,
        me: Incarnation,
        dice: &mut Dice,
        signals: &Signals,
    ) -> Result<String, Box<dyn std::error::Error>> {
        let store = self.disk.store();
        store.identity.ascertain(fresh()).await?;
        store.leases.register(new_lease(me)).await?;
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
        let host = Host::start(parts).await?;
        let recovering = Arc::new(AtomicBool::new(true));
        let standings = Arc::<Standings>::default();
        let links = Arc::new(Links::new(
            host.clone(),
            store.clone(),
            recovering.clone(),
            standings.clone(),
            Arc::new(Lookup::new(store.clone(), me)),
        ));
        let edge = GatewayConfig {
            seed: Some(dice.bytes()),
            ..GatewayConfig::on_port(PORT, Arc::new(clock_ms))
        };
        let socket = quic::socket(PORT).await?;
        let gateway = Gateway::on_socket(edge, links, keys(self.seed), socket)?;
        self.take_over(&host, &store, me, standings).await?;
        recovering.store(false, Ordering::Release);
        for match_id in MATCHES {
            tokio::spawn(mark_healthy(host.clone(), store.clone(), me, match_id));
        }
        let lease = lease::keep(&*store.leases, me, clock_ms, || host.reached());
        tokio::select! {
            biased;
            halt = host.fenced() => Ok(halt.to_string()),
            ended = lease => Ok(ended.map_or_else(|error| error.to_string(), |()| "fenced".to_owned())),
            never = tidy(&store, &self.trace) => match never {},
            () = signals.stopped() => {
                let drained = host.drain().await;
                gateway.shutdown("the node is going down").await;
                let left: Vec<MatchId> = drained.left.iter().map(|&(id, _)| id).collect();
                self.put_away.lock().extend(MATCHES.iter().filter(|id| host.find(**id).is_some() && !left.contains(id)));
                store.leases.renew(me, clock_ms() + lease::LEASE_MS, host.reached()).await?;
                store.leases.stop(me).await?;
                Ok(format!("stopped: {} of {} matches are put away", drained.checkpointed, drained.matches))
            }
        }
    }

    /// Brings back the matches of earlier lives, or makes them in the first.
    async fn take_over(
        &self,
        host: &Host,
        store: &Store,
        me: Incarnation,
        standings: Arc<Standings>,
    ) -> Result<(), Box<dyn std::error::Error>> {
        let put_away = std::mem::take(&mut *self.put_away.lock());
        // Kills come faster here than a match can run healthily, and none of them is the match's
        // fault.
        let (host_of, store_of, region) = (host.clone(), store.clone(), DEFAULT_REGION.to_owned());
        let mut recoverer = Recoverer::new(RecovererParts {
            host: host_of,
            store: store_of,
            me,
            region,
            trials: None,
            standings,
            fresh,
        });
        let nobody_asked = Asked::new();
        let looked = recoverer.look(0, &nobody_asked, |outcome| match outcome {
            Outcome::Resumed(id, report) => {
                let (tick, replayed) = (report.tick, report.replayed);
                self.trace.log(
                    "node",
                    format_args!("match {id} resumed at tick {tick}, {replayed} replayed"),
                );
                if replayed > 0 && put_away.contains(&id) {
                    let detail =
                        format!("match {id}: {replayed} ticks were replayed after a clean stop");
                    self.problems.lock().push(Violation::new(Rule::CleanStop, detail));
                }
            }
            Outcome::Parked(id, why) | Outcome::Left(id, why) => {
                self.trace.log("node", format_args!("match {id} is not resumed: {why}"));
            }
        });
        looked.await.map_err(|trouble| trouble.to_string())?;
        for match_id in MATCHES {
            if store.leases.get(match_id).await?.is_none() {
                let seed = self.seed ^ match_id.0;
                let row =
                    first_row(&*self.game, match_id, me, host.next_batch(), seed, clock_ms())?;
                store.leases.create(row.clone()).await?;
                host.create(row).await?;
                self.trace.log("node", format_args!("made match {match_id}"));
            }
        }
        Ok(())
    }
}

/// The row of a new match of `game`.
pub(crate) fn first_row(
    game: &dyn GameType,
    match_id: MatchId,
    me: Incarnation,
    first_batch: BatchNo,
    seed: u64,
    created_ms: u64,
) -> Result<MatchLease, SimError> {
    let epoch = Epoch(1);
    let lineage = vec![Lineage { epoch, incarnation: me, first_batch, first_seq: Seq(1) }];
    let spec = MatchSpec {
        game: game.name().to_owned(),
        config: game.config_from_json("{}")?,
        seed,
        tick_rate: game.tick_rate(),
        house_bots: 0,
        created_ms,
    };
    Ok(MatchLease {
        match_id,
        version: 1,
        epoch,
        incarnation: me,
        state: MatchState::Running,
        attempts: 0,
        lineage,
        spec,
        region: DEFAULT_REGION.to_owned(),
    })
}

fn new_lease(incarnation: Incarnation) -> NodeLease {
    NodeLease {
        incarnation,
        name: "node".to_owned(),
        state: NodeState::Live,
        pid: 0,
        pid_start: 0,
        deadline_ms: clock_ms() + lease::LEASE_MS,
        seal: None,
        host: String::new(),
        region: DEFAULT_REGION.to_owned(),
        reached: None,
        loss_accepted_ms: None,
    }
}

/// A match that has run for a while has recovered: its attempts are forgotten, and its lineage is
/// cut, as `rekindle::node::serving` does it.
pub(crate) async fn mark_healthy(host: Host, store: Store, me: Incarnation, match_id: MatchId) {
    tokio::time::sleep(HEALTHY_AFTER).await;
    if host.find(match_id).is_none_or(|handle| {
        matches!(handle.phase(), MatchPhase::Parked(_) | MatchPhase::Repairing)
    }) {
        return;
    }
    // A store in trouble leaves it for the next life.
    let Ok(keep_from) = retention::lineage_needed(&store, &POLICY, match_id).await else { return };
    let _ = takeover::mark_healthy(&store, me, match_id, keep_from).await;
}

/// Archives, and cuts what nobody needs off the logs, for ever.
pub(crate) async fn tidy(store: &Store, trace: &Trace) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(TRIM_EVERY).await;
        // A store in trouble is the business of the journal; tidying waits for better times.
        for cut in retention::run(store, &POLICY, clock_ms()).await.unwrap_or_default().cuts {
            trace.log("node", format_args!("cut log {} before batch {}", cut.log, cut.before));
        }
    }
}
