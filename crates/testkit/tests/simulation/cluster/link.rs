//! How a node reaches the store: requests are carried by a network that outlives the process, so
//! they are late, overtake each other, are lost, or arrive after their sender has died.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rekindle_schema::batch::Batch;
use rekindle_schema::lease::{Lineage, MatchLease, NodeLease, Reached};
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId};
use rekindle_store::{Journal, Leases, LogInfo, Renewal, Store, StoreError, StoreResult, Tail};
use tokio::sync::oneshot;

use super::faults::Step;
use super::world::World;

/// How long a node waits for an answer. What becomes of the request is unknown then.
const PATIENCE: Duration = Duration::from_millis(250);

/// How long a node that reads a tail too early waits before it fences.
const BETWEEN: Duration = Duration::from_millis(60);

/// A defect that is built in on purpose: the judges must find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A batch is acknowledged when it is sent.
    EarlyAcknowledgement,
    /// A batch is acknowledged when it is written, whether or not its writer is live.
    NoVerifyingRead,
    /// A fence is reported and not made.
    NoFence,
    /// The tail of a log is read before its writer is fenced.
    TailBeforeFence,
    /// Whoever takes over reads an epoch that is one too low, and goes on in the old one.
    EpochNotBumped,
    /// A node goes on with the lineage that it read first.
    StaleLineage,
    /// Seals are not read.
    SealIgnored,
    /// A claim that lost its race is taken for won.
    LostClaimWon,
    /// A log is cut up to its end.
    TrimTooEarly,
    /// Every fortieth batch is acknowledged and not written.
    DropBatch,
    /// Frames are shown before their tick is durable.
    ShownBeforeDurable,
    /// What is found at the end of a log is not made durable before it counts.
    NoSettle,
    /// A source whose commit got no answer goes on if the row still names it.
    SettledByRead,
    /// A source commits without waiting for the target to stand at the cut.
    CommitsTooEarly,
    /// Whoever finds a row that names its node begins to run the match, whether or not another part
    /// of the node does.
    RunTwice,
    /// A standby takes the end of its owner's log for the seal.
    PromotedPastSeal,
    /// A process that was paused acknowledges what it makes afterwards, whether or not it is live:
    /// another may have made the same ticks meanwhile.
    TicksTwiceAfterWake,
    /// What a player had sent and was not answered is not sent again where it follows its match.
    DroppedInFlight,
}

/// The store as one process sees it.
pub(crate) struct Link {
    world: World,
    node: usize,
    me: Incarnation,
    plain: Store,
    mutant: Option<Mutant>,
    /// What follows matches of other nodes asks over it.
    follows: bool,
    /// What mutants remember.
    tails: Mutex<BTreeMap<Incarnation, Tail>>,
    lineages: Mutex<BTreeMap<MatchId, Vec<Lineage>>>,
}

impl Link {
    /// The ports of a process of `node` that runs as `me`.
    pub(crate) fn store(world: &World, node: usize, me: Incarnation) -> Store {
        Self::made(world, node, me, false)
    }

    /// The same, for what follows matches of other nodes.
    pub(crate) fn of_standby(world: &World, node: usize, me: Incarnation) -> Store {
        Self::made(world, node, me, true)
    }

    fn made(world: &World, node: usize, me: Incarnation, follows: bool) -> Store {
        let plain = world.disk.store();
        let link = Arc::new(Self {
            world: world.clone(),
            node,
            me,
            plain: plain.clone(),
            mutant: world.mutant,
            follows,
            tails: Mutex::default(),
            lineages: Mutex::default(),
        });
        Store { journal: link.clone(), leases: link, ..plain }
    }

    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    /// Carries a request to the store and its answer back.
    fn carry<T: Send + 'static>(
        &self,
        work: impl FnOnce(Store) -> BoxFuture<'static, Result<T, StoreError>> + Send + 'static,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (world, me, plain) = (self.world.clone(), self.me, self.plain.clone());
        let route = world.route(self.node);
        let (reply, answer) = oneshot::channel();
        self.world.network.spawn(async move {
            tokio::time::sleep(route.there).await;
            if route.lose_request {
                return;
            }
            if !world.lives(me) {
                world.mark(super::LATE);
            }
            let done = work(plain).await;
            tokio::time::sleep(route.back).await;
            if route.lose_answer {
                world.mark(super::UNKNOWN);
                return;
            }
            let _ = reply.send(done);
        });
        async move {
            match tokio::time::timeout(PATIENCE, answer).await {
                Ok(Ok(done)) => done,
                _ => Err(StoreError::Unavailable("no answer in time".to_owned())),
            }
        }
        .boxed()
    }

    /// A row as the process reads it.
    fn read(&self, mut row: MatchLease) -> MatchLease {
        if self.is(Mutant::EpochNotBumped) {
            row.epoch = Epoch(row.epoch.0.saturating_sub(1));
        }
        if self.is(Mutant::StaleLineage) {
            let mut lineages = self.lineages.lock();
            let first = lineages.entry(row.match_id).or_insert_with(|| row.lineage.clone());
            row.lineage.clone_from(first);
        }
        row
    }

    fn lease(&self, lease: NodeLease) -> NodeLease {
        let seal = lease.seal.filter(|_| !self.is(Mutant::SealIgnored));
        NodeLease { seal, ..lease }
    }
}

impl Link {
    /// The lease of a fenced node with the end of its log as the seal, as it is a moment later.
    async fn past_seal(&self, lease: NodeLease) -> Result<Option<NodeLease>, StoreError> {
        if lease.seal.is_none() {
            return Ok(Some(lease));
        }
        let log = lease.incarnation;
        if !self.tails.lock().contains_key(&log) {
            tokio::time::sleep(BETWEEN).await;
            let tail = self.plain.journal.tail(log).await?;
            self.tails.lock().insert(log, tail);
        }
        let seal = self.tails.lock().get(&log).map(|tail| tail.last).max(lease.seal);
        Ok(Some(NodeLease { seal, ..lease }))
    }
}

impl Journal for Link {
    fn begin(&self, log: Incarnation, first: BatchNo) -> StoreResult<'_, ()> {
        self.carry(move |store| async move { store.journal.begin(log, first).await }.boxed())
    }

    fn append(&self, batch: Batch) -> StoreResult<'_, ()> {
        if self.is(Mutant::DropBatch) && batch.number.0.is_multiple_of(40) {
            return async { Ok(()) }.boxed();
        }
        let unverified = self.is(Mutant::NoVerifyingRead)
            || self.is(Mutant::TicksTwiceAfterWake) && self.world.woke(self.node);
        let sent = self.carry(move |store| {
            async move {
                match store.journal.append(batch).await {
                    Err(StoreError::Fenced(_)) if unverified => Ok(()),
                    done => done,
                }
            }
            .boxed()
        });
        if self.is(Mutant::EarlyAcknowledgement) {
            return async { Ok(()) }.boxed();
        }
        sent
    }

    fn read(
        &self,
        log: Incarnation,
        from: BatchNo,
        max_bytes: usize,
    ) -> StoreResult<'_, Vec<Batch>> {
        self.carry(move |store| {
            async move { store.journal.read(log, from, max_bytes).await }.boxed()
        })
    }

    fn tail(&self, log: Incarnation) -> StoreResult<'_, Tail> {
        if let Some(tail) = self.tails.lock().get(&log).cloned() {
            return async { Ok(tail) }.boxed();
        }
        self.carry(move |store| async move { store.journal.tail(log).await }.boxed())
    }

    fn settle(&self, log: Incarnation, last: BatchNo) -> StoreResult<'_, ()> {
        if self.is(Mutant::NoSettle) {
            return async { Ok(()) }.boxed();
        }
        self.carry(move |store| async move { store.journal.settle(log, last).await }.boxed())
    }

    fn trim(&self, log: Incarnation, before: BatchNo) -> StoreResult<'_, ()> {
        let all = self.is(Mutant::TrimTooEarly);
        self.carry(move |store| {
            async move {
                let before = if all { store.journal.tail(log).await?.last } else { before };
                store.journal.trim(log, before).await
            }
            .boxed()
        })
    }

    fn logs(&self) -> StoreResult<'_, Vec<LogInfo>> {
        self.carry(|store| async move { store.journal.logs().await }.boxed())
    }
}

impl Leases for Link {
    fn register(&self, lease: NodeLease) -> StoreResult<'_, ()> {
        self.carry(move |store| async move { store.leases.register(lease).await }.boxed())
    }

    fn renew(
        &self,
        node: Incarnation,
        deadline_ms: u64,
        reached: Option<Reached>,
    ) -> StoreResult<'_, Renewal> {
        self.carry(move |store| {
            async move { store.leases.renew(node, deadline_ms, reached).await }.boxed()
        })
    }

    fn stop(&self, node: Incarnation) -> StoreResult<'_, Renewal> {
        self.carry(move |store| async move { store.leases.stop(node).await }.boxed())
    }

    fn fence(&self, node: Incarnation) -> StoreResult<'_, ()> {
        if self.is(Mutant::NoFence) {
            return async { Ok(()) }.boxed();
        }
        let early = self.is(Mutant::TailBeforeFence);
        Box::pin(async move {
            if early {
                let tail = self.tail(node).await?;
                self.tails.lock().entry(node).or_insert(tail);
                tokio::time::sleep(BETWEEN).await;
            }
            self.carry(move |store| async move { store.leases.fence(node).await }.boxed()).await
        })
    }

    fn seal(&self, node: Incarnation, last: BatchNo) -> StoreResult<'_, BatchNo> {
        if self.is(Mutant::NoFence) {
            return async move { Ok(last) }.boxed();
        }
        let world = self.world.clone();
        self.carry(move |store| {
            async move {
                let seal = store.leases.seal(node, last).await?;
                if seal != last {
                    world.mark(super::ADOPTED);
                }
                Ok(seal)
            }
            .boxed()
        })
    }

    fn accept_loss(&self, node: Incarnation, last: BatchNo, at_ms: u64) -> StoreResult<'_, ()> {
        self.carry(move |store| {
            async move { store.leases.accept_loss(node, last, at_ms).await }.boxed()
        })
    }

    fn nodes(&self) -> StoreResult<'_, Vec<NodeLease>> {
        let found = self.carry(|store| async move { store.leases.nodes().await }.boxed());
        Box::pin(
            async move { Ok(found.await?.into_iter().map(|lease| self.lease(lease)).collect()) },
        )
    }

    fn node(&self, node: Incarnation) -> StoreResult<'_, Option<NodeLease>> {
        let found = self.carry(move |store| async move { store.leases.node(node).await }.boxed());
        Box::pin(async move {
            let lease = found.await?.map(|lease| self.lease(lease));
            match lease {
                Some(lease) if self.follows && self.is(Mutant::PromotedPastSeal) => {
                    self.past_seal(lease).await
                }
                lease => Ok(lease),
            }
        })
    }

    fn forget(&self, node: Incarnation) -> StoreResult<'_, ()> {
        self.carry(move |store| async move { store.leases.forget(node).await }.boxed())
    }

    fn create(&self, lease: MatchLease) -> StoreResult<'_, ()> {
        self.carry(move |store| async move { store.leases.create(lease).await }.boxed())
    }

    fn compare_and_set(
        &self,
        lease: MatchLease,
    ) -> StoreResult<'_, Result<(), Option<MatchLease>>> {
        let always = self.is(Mutant::LostClaimWon);
        let (match_id, version, me) = (lease.match_id, lease.version, self.me);
        let gives = lease.incarnation != me;
        if gives {
            self.world.comes_to(Step::Sent, match_id, me);
        }
        let world = self.world.clone();
        let sent = self.carry(move |store| {
            async move {
                let done = store.leases.compare_and_set(lease).await?;
                if gives && done.is_ok() {
                    world.comes_to(Step::Committed, match_id, me);
                }
                Ok(if always { Ok(()) } else { done })
            }
            .boxed()
        });
        if !gives || !self.is(Mutant::SettledByRead) {
            return sent;
        }
        async move {
            match sent.await {
                Err(unknown) => match self.get(match_id).await? {
                    Some(row) if row.version < version => Err(StoreError::Refused {
                        place: format!("match {match_id}"),
                        problem: unknown.to_string(),
                    }),
                    row => Ok(Err(row)),
                },
                done => done,
            }
        }
        .boxed()
    }

    fn get(&self, match_id: MatchId) -> StoreResult<'_, Option<MatchLease>> {
        let found =
            self.carry(move |store| async move { store.leases.get(match_id).await }.boxed());
        Box::pin(async move { Ok(found.await?.map(|row| self.read(row))) })
    }

    fn remove(&self, match_id: MatchId, version: u64) -> StoreResult<'_, bool> {
        self.carry(move |store| async move { store.leases.remove(match_id, version).await }.boxed())
    }

    fn matches(&self) -> StoreResult<'_, Vec<MatchLease>> {
        let found = self.carry(|store| async move { store.leases.matches().await }.boxed());
        Box::pin(async move { Ok(found.await?.into_iter().map(|row| self.read(row)).collect()) })
    }
}
