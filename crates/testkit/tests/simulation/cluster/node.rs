//! A node of a simulated cluster: lease, host, caretaker, takeovers, trimming. It has no sockets:
//! players reach its matches through their doors. It ends by itself as a real one does: when its
//! journal has failed, or its lease is gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rekindle::node::recover;
use rekindle::node::standby::{Promotions, Standby, StandbyParts};
use rekindle_actors::{Games, GoOn, Host, HostConfig, HostParts, Output};
use rekindle_cluster::ownership::caretaker::{Caretaker, Claimant, Look};
use rekindle_cluster::ownership::lease;
use rekindle_cluster::ownership::round::{self, Hints, Surroundings};
use rekindle_cluster::ownership::takeover::{self, Anything, ClaimOptions, Claimed, TakeoverError};
use rekindle_cluster::standby::wishes::Wishes;
use rekindle_schema::lease::{DEFAULT_REGION, NodeLease, NodeState};
use rekindle_schema::member::Member;
use rekindle_schema::standby::StandbyWish;
use rekindle_schema::{BuildId, Incarnation, MatchId, Tick};
use rekindle_sim::GameType;
use rekindle_store::identity::Fresh;
use rekindle_store::{Store, StoreError, members, standbys};
use rekindle_testkit::seed::Dice;
use tokio::sync::mpsc;

use super::faults::Fault;
use super::link::{Link, Mutant};
use super::mover::Mover;
use super::world::{Reached, World};
use crate::node::{MATCHES, first_row, mark_healthy, tidy};

/// How often a node looks after the matches of others.
const LOOK_EVERY: Duration = Duration::from_millis(80);
/// One in so many seeds has a standby, which costs as much as all else.
const STANDBY_ONE_IN: u64 = 2;
/// The match that has one.
const FOLLOWED: MatchId = MATCHES[1];
/// How often a match is checkpointed.
const CHECKPOINT_EVERY: Duration = Duration::from_millis(700);
/// How long a recovered match waits for its players.
const GRACE: Duration = Duration::from_millis(200);

/// One process of a node.
pub(crate) struct Node {
    pub world: World,
    pub number: usize,
    pub game: Arc<dyn GameType>,
}

type Failure = Box<dyn std::error::Error>;

impl Node {
    fn name(&self) -> String {
        format!("node-{}", self.number)
    }

    /// One life, which is the `life`th of the simulation.
    pub(crate) async fn live(self, life: u64) {
        let mut dice = Dice::new(self.world.seed, &format!("life {life}"));
        // Sorts by age, as real ones do.
        let me = Incarnation(life << 32 | dice.next() >> 32);
        self.world.born(self.number, me);
        self.world.log(&self.name(), format_args!("begins as {me}"));
        let reason = match self.run(me, &mut dice).await {
            Ok(reason) => reason,
            Err(error) => format!("cannot go on: {error}"),
        };
        self.world.log(&self.name(), format_args!("gives up: {reason}"));
        if self.world.woke(self.number) && reason.contains("fenced") {
            self.world.mark(super::FENCED_AWAKE);
        }
        self.world.exit(self.number).await;
    }

    async fn run(&self, me: Incarnation, dice: &mut Dice) -> Result<String, Failure> {
        let store = Link::store(&self.world, self.number, me);
        let fresh = Fresh { now_ms: self.world.clock_ms(self.number), chance: 1 };
        store.identity.ascertain(fresh).await?;
        store.leases.register(self.lease(me)).await?;
        let (world, number) = (self.world.clone(), self.number);
        let shown_early = self.world.mutant == Some(Mutant::ShownBeforeDurable);
        let config = HostConfig {
            output: if shown_early { Output::Immediate } else { Output::Durable },
            checkpoint_every: CHECKPOINT_EVERY,
            resume_grace: GRACE,
            session_timeout: Duration::from_secs(30),
            trim_checkpoints: true,
            ..HostConfig::simulated()
        };
        let parts = HostParts {
            store: store.clone(),
            incarnation: me,
            build: BuildId(1),
            games: Games::new().with(self.game.clone()),
            clock: Arc::new(move || world.clock_ms(number)),
            seed: dice.next(),
            config,
        };
        let host = Host::start(parts).await?;
        let (mover, taking) = Mover::new(&self.world, self.number, me, &host, &store);
        let (orders, wishes) = mpsc::unbounded_channel();
        let runtime = tokio::runtime::Handle::current();
        let reached = Reached { host: host.clone(), peers: taking, runtime, orders };
        self.world.serves(self.number, reached);
        let clock = || self.world.clock_ms(self.number);
        let keep = lease::keep(&*store.leases, me, clock, || host.reached());
        let standby = self.standby(&host, me).await?;
        tokio::select! {
            biased;
            halt = host.fenced() => Ok(halt.to_string()),
            ended = keep => {
                ended?;
                Ok("fenced".to_owned())
            }
            ended = self.watch(&host, &store, &standby, me) => ended,
            never = standby.keep() => match never {},
            () = mover.obey(wishes) => Ok("no orders come any more".to_owned()),
            never = tidy(&store, &self.world.trace) => match never {},
        }
    }

    fn lease(&self, incarnation: Incarnation) -> NodeLease {
        NodeLease {
            incarnation,
            name: self.name(),
            state: NodeState::Live,
            pid: 0,
            pid_start: 0,
            deadline_ms: self.world.clock_ms(self.number) + lease::LEASE_MS,
            seal: None,
            host: "elsewhere".to_owned(),
            region: DEFAULT_REGION.to_owned(),
            reached: None,
            loss_accepted_ms: None,
        }
    }

    /// What follows matches of other nodes, if an operator wants standbys of them.
    async fn standby(&self, host: &Host, me: Incarnation) -> Result<Arc<Standby>, Failure> {
        let store = Link::of_standby(&self.world, self.number, me);
        let member = Member {
            incarnation: me,
            name: self.name(),
            region: DEFAULT_REGION.to_owned(),
            build: BuildId(1),
            host: "elsewhere".to_owned(),
            players: format!("{}:1", self.name()),
            admin: format!("{}:2", self.name()),
            peers: format!("{}:3", self.name()),
            speaks: (1, 1),
            draining: false,
            since_ms: self.world.clock_ms(self.number),
            weight: 1,
        };
        members::announce(&store, &member).await?;
        let host = host.clone();
        let wishes = Wishes::default();
        let (region, most) = (DEFAULT_REGION.to_owned(), MATCHES.len());
        Ok(Standby::new(StandbyParts { host, store, me, region, wishes, most }))
    }

    /// Looks after matches that nobody runs until this node is fenced.
    async fn watch(
        &self,
        host: &Host,
        store: &Store,
        standby: &Arc<Standby>,
        me: Incarnation,
    ) -> Result<String, Failure> {
        let claimant = Claimant { me, region: DEFAULT_REGION.to_owned(), deaths: None };
        let mut caretaker = Caretaker::new(claimant);
        let began = tokio::time::Instant::now();
        let all: BTreeSet<MatchId> = MATCHES.into();
        let nobody = BTreeSet::new();
        // What was asked for and not answered is asked for again at once.
        let mut again = false;
        loop {
            if let Err(error) = self.create(host, store, me).await {
                self.world.log(&self.name(), format_args!("no match made: {error}"));
            }
            let now_ms = began.elapsed().as_millis() as u64;
            let look = Look { now_ms, asked: if again { &all } else { &nobody } };
            caretaker.followed(standby.first_claimants());
            match self.look(&mut caretaker, (host, standby), store, look).await {
                Ok(()) => again = false,
                Err(TakeoverError::Store(error)) => {
                    self.world.log(&self.name(), format_args!("looks in vain: {error}"));
                    again = true;
                }
                Err(error) => return Ok(error.to_string()),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look(
        &self,
        caretaker: &mut Caretaker,
        (host, standby): (&Host, &Arc<Standby>),
        store: &Store,
        look: Look<'_>,
    ) -> Result<(), TakeoverError> {
        let around = Around { node: self, host };
        let hints = Rumours { world: self.world.clone(), node: self.number };
        let Some(found) = round::look(caretaker, store, &around, &hints, look).await? else {
            return Ok(());
        };
        if !found.claims.is_empty() {
            let fresh = Fresh { now_ms: self.world.clock_ms(self.number), chance: 1 };
            let floor = store.identity.ascertain(fresh).await?.floor;
            let me = caretaker.claimant().me;
            let options = ClaimOptions { me, first_batch: host.next_batch(), floor };
            let (rows, _entered) = match self.world.mutant {
                Some(Mutant::RunTwice) => (found.claims, Vec::new()),
                _ => recover::enter(host, me, found.claims),
            };
            let followed: BTreeSet<MatchId> = standby
                .first_claimants()
                .into_iter()
                .filter(|of| of.1 == me)
                .map(|of| of.0)
                .collect();
            let Promotions { resumed, rest } = standby.promote(rows, options).await?;
            for (id, report) in resumed {
                self.promoted(id, report.tick);
                tokio::spawn(mark_healthy(host.clone(), store.clone(), me, id));
                caretaker.decided(id);
            }
            if rest.iter().any(|row| followed.contains(&row.match_id)) {
                self.world.mark(super::FELL_BACK);
            }
            for claimed in takeover::claim(store, rest, options, &Anything).await? {
                let match_id = match &claimed {
                    Claimed::Ours(claim) => claim.lease.match_id,
                    Claimed::Lost(id) | Claimed::Parked(id, _) => *id,
                    Claimed::Waits(row) => row.match_id,
                };
                self.settle(host, store, claimed).await?;
                caretaker.decided(match_id);
            }
        }
        caretaker.finished(found.dead);
        Ok(())
    }

    /// Runs a match that was claimed.
    async fn settle(
        &self,
        host: &Host,
        store: &Store,
        claimed: Claimed,
    ) -> Result<(), TakeoverError> {
        match claimed {
            Claimed::Ours(claim) => {
                let (id, epoch, me) =
                    (claim.lease.match_id, claim.lease.epoch, claim.lease.incarnation);
                match host.recover(claim.lease, claim.history, GoOn::default()).await {
                    Ok(report) => {
                        self.world.log(
                            &self.name(),
                            format_args!(
                                "match {id} goes on in epoch {epoch} at tick {}, {} replayed",
                                report.tick, report.replayed
                            ),
                        );
                        self.taken(epoch.0);
                        self.world.goes_on(id);
                        tokio::spawn(mark_healthy(host.clone(), store.clone(), me, id));
                    }
                    Err(error) => self
                        .world
                        .log(&self.name(), format_args!("match {id} does not go on: {error}")),
                }
            }
            Claimed::Lost(id) => {
                self.world.mark(super::RACED);
                self.world.log(&self.name(), format_args!("lost the race for match {id}"));
            }
            Claimed::Parked(id, report) => {
                self.world.log(&self.name(), format_args!("match {id} is parked: {report}"));
            }
            Claimed::Waits(_) => {}
        }
        Ok(())
    }

    /// A match goes on with its standby.
    fn promoted(&self, id: MatchId, tick: Tick) {
        self.world.log(&self.name(), format_args!("match {id} is promoted at tick {tick}"));
        self.world.mark(super::PROMOTED);
        if self.world.goes_on(id) {
            self.world.mark(super::PROMOTED_ON_ITS_WAY);
        }
    }

    /// What a takeover is marked as.
    fn taken(&self, epoch: u64) {
        if self.world.at_work().any(Fault::is_between) {
            self.world.mark(super::DURING_TROUBLE);
        }
        if epoch >= 4 {
            self.world.mark(super::OFTEN);
        }
    }

    /// Makes the matches, if nobody has.
    async fn create(&self, host: &Host, store: &Store, me: Incarnation) -> Result<(), Failure> {
        if self.number != 0 || self.world.now() > super::faults::CALM / 2 {
            return Ok(());
        }
        for match_id in MATCHES {
            if store.leases.get(match_id).await?.is_none() {
                let created = self.world.clock_ms(self.number);
                let seed = self.world.seed ^ match_id.0;
                let row = first_row(&*self.game, match_id, me, host.next_batch(), seed, created)?;
                store.leases.create(row.clone()).await?;
                host.create(row).await?;
                if match_id == FOLLOWED && self.world.seed.is_multiple_of(STANDBY_ONE_IN) {
                    let wish = StandbyWish { standbys: 1 };
                    standbys::wish(store, match_id, Some(wish)).await?;
                }
                self.world.log(&self.name(), format_args!("made match {match_id}"));
            }
        }
        Ok(())
    }
}

/// What membership says: who hangs, and who is believed to be dead although it is not.
struct Rumours {
    world: World,
    node: usize,
}

impl Hints for Rumours {
    fn suspected(&self, live: BTreeSet<Incarnation>) -> BTreeSet<Incarnation> {
        live.into_iter().filter(|other| self.world.suspects(self.node, *other)).collect()
    }
}

/// What a node knows of the others for certain.
struct Around<'a> {
    node: &'a Node,
    host: &'a Host,
}

impl Surroundings for Around<'_> {
    fn gone<'a>(
        &'a self,
        others: &'a [NodeLease],
    ) -> BoxFuture<'a, Result<BTreeSet<Incarnation>, StoreError>> {
        let node = self.node;
        let gone = others
            .iter()
            .filter(|other| other.state == NodeState::Live)
            .map(|other| other.incarnation)
            .filter(|other| node.world.has_ended(*other))
            .collect();
        async { Ok(gone) }.boxed()
    }

    fn running(&self) -> BTreeSet<MatchId> {
        self.host.list().into_iter().map(|status| status.match_id).collect()
    }

    fn wall_ms(&self) -> u64 {
        self.node.world.clock_ms(self.node.number)
    }
}
