//! The store of a simulation: the memory backend behind the faults of a schedule, and a memory of
//! all that was ever written.
//!
//! A node reaches its store only through [`Disk::store`]. When the simulation is over,
//! [`Disk::account`] reads the journal past all trimming.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_schema::batch::Batch;
use rekindle_schema::lease::{Lineage, MatchLease, NodeLease, Reached};
use rekindle_schema::record::Effect;
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId};
use rekindle_store::history::{self, End, LoadOptions, Start};
use rekindle_store::{Journal, Leases, LogInfo, Renewal, Store, StoreError, StoreResult, Tail};
use rekindle_store_memory::{Fate, FaultPlan, MemoryStore, Op};

use crate::faults::{Fault, Schedule};
use crate::history::{Account, Logs};
use crate::oracle::{Rule, Violation};
use crate::seed::Dice;

/// A defect that is built in on purpose: the oracles must find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// A batch is acknowledged when it is written, before it is synced.
    AcknowledgeBeforeSync,
    /// A batch that was not synced when its writer died is not written again at a takeover.
    SkipSettle,
    /// Every fortieth batch is acknowledged and never written.
    DropBatch,
}

/// A store with the faults of one seed. It outlives the processes that use it.
#[derive(Clone)]
pub struct Disk {
    memory: MemoryStore,
    trouble: Arc<Trouble>,
    clock: Clock,
    archive: Arc<Mutex<Archive>>,
    mutant: Option<Mutant>,
}

/// Virtual time since the beginning.
type Clock = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Which faults of the schedule are at work, and the dice that decide about single requests.
struct Trouble {
    faults: Vec<(Duration, Fault)>,
    dice: Mutex<Dice>,
    failed_writes: Mutex<usize>,
}

/// What trimming removed: batches, seals of dead nodes, stretches of lineage.
#[derive(Default)]
struct Archive {
    trimmed: Logs,
    lineage: BTreeMap<(MatchId, Epoch), Lineage>,
    seals: BTreeMap<Incarnation, BatchNo>,
}

impl Archive {
    fn remember(&mut self, lease: &MatchLease) {
        self.lineage.extend(
            lease.lineage.iter().map(|stretch| ((lease.match_id, stretch.epoch), *stretch)),
        );
    }
}

impl Trouble {
    fn fate(&self, op: Op, now: Duration) -> Fate {
        let mut dice = self.dice.lock();
        let mut micros = |low, high| Duration::from_micros(dice.between(low, high));
        let mut fate = match op {
            Op::Append(..) => {
                Fate { before: micros(0, 1_000), sync: micros(500, 4_000), ..Fate::default() }
            }
            Op::PutCheckpoint(..) | Op::PutChunk(..) => {
                Fate { before: micros(0, 1_000), sync: micros(2_000, 20_000), ..Fate::default() }
            }
            _ => Fate { before: micros(100, 3_000), after: micros(100, 1_000), ..Fate::default() },
        };
        let durable = matches!(op, Op::Append(..) | Op::PutCheckpoint(..) | Op::PutChunk(..));
        let broken = |cause: &str| {
            Some(StoreError::Io {
                what: "write",
                path: "simulated disk".to_owned(),
                cause: cause.to_owned(),
            })
        };
        let begun = self.faults.iter().take_while(|(at, _)| *at <= now);
        let mut failures_due = 0;
        for (at, fault) in begun {
            let over = now > *at + fault.lasts();
            match *fault {
                Fault::SlowDisk { sync, .. } if !over && durable => fate.sync += sync,
                Fault::FullDisk { .. } if !over && durable => {
                    fate.fail = broken("no space left on device");
                }
                Fault::FailedWrite => failures_due += 1,
                Fault::Unanswered { percent, .. } if !over && dice.chance(percent) => {
                    if dice.chance(50) {
                        fate.lose_answer = true;
                    } else {
                        fate.fail =
                            Some(StoreError::Unavailable(format!("{op:?} was not carried out")));
                    }
                }
                _ => {}
            }
        }
        let mut failed = self.failed_writes.lock();
        if *failed < failures_due && matches!(op, Op::Append(..)) {
            *failed += 1;
            fate.fail = broken("input/output error");
        }
        fate
    }
}

impl Disk {
    /// An empty store that `schedule` is hard on.
    pub fn new(seed: u64, schedule: &Schedule, mutant: Option<Mutant>) -> Self {
        let trouble = Trouble {
            faults: schedule.0.clone(),
            dice: Mutex::new(Dice::new(seed, "disk")),
            failed_writes: Mutex::new(0),
        };
        Self {
            memory: MemoryStore::new(),
            trouble: Arc::new(trouble),
            clock: Arc::new(|| turmoil::sim_elapsed().unwrap_or_default()),
            archive: Arc::default(),
            mutant,
        }
    }

    /// The same with another clock than that of [`crate::stage`].
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { clock: Arc::new(clock), ..self }
    }

    /// The ports, as a node process sees them.
    pub fn store(&self) -> Store {
        let (trouble, clock) = (self.trouble.clone(), self.clock.clone());
        let plan: FaultPlan = Arc::new(move |op| trouble.fate(op, clock()));
        let faulty = self.memory.with_faults(plan).store();
        let seen = Arc::new(Watched {
            disk: self.clone(),
            journal: faulty.journal.clone(),
            leases: faulty.leases.clone(),
        });
        Store { journal: seen.clone(), leases: seen, ..faulty }
    }

    /// The power fails: of the batches that were not synced, each reaches the disk with a chance of
    /// `survive` in 100, in order; the last of them may be damaged.
    pub fn power_cut(&self, survive: u64) {
        let mut dice = self.trouble.dice.lock();
        let mut doubtful = vec![];
        self.memory.power_cut_keeping(|log, unsynced| {
            let kept =
                (0..unsynced).take_while(|_| survive > 0 && dice.chance(survive)).count() as u64;
            if kept > 0 && dice.chance(50) {
                doubtful.push(log);
            }
            kept
        });
        let journal = self.memory.store().journal;
        for log in doubtful {
            if let Ok(Tail { last, .. }) = at_once(journal.tail(log))
                && let Ok(batches) = at_once(journal.read(log, last, usize::MAX))
            {
                let bits = batches.first().map_or(0, |batch| batch.bytes.len() as u64 * 8);
                self.memory.flip_bit(log, last, dice.between(0, bits.max(1) - 1) as usize);
            }
        }
    }

    /// The whole journal of a match, from its first record, and what is wrong with it. Call it
    /// outside of the virtual network.
    pub fn account(
        &self,
        match_id: MatchId,
    ) -> Result<(MatchLease, Account, Vec<Violation>), StoreError> {
        let (mut lease, logs) = at_once(async {
            let store = self.memory.store();
            let lease = store
                .leases
                .get(match_id)
                .await?
                .ok_or_else(|| StoreError::NotFound(format!("match {match_id}")))?;
            let mut logs = self.archive.lock().trimmed.clone();
            for info in store.journal.logs().await? {
                let batches = store.journal.read(info.log, info.first, usize::MAX).await?;
                logs.entry(info.log)
                    .or_default()
                    .extend(batches.into_iter().map(|batch| (batch.number, batch)));
            }
            Ok::<_, StoreError>((lease, logs))
        })?;
        let mut archive = self.archive.lock();
        archive.remember(&lease);
        lease.lineage = archive
            .lineage
            .range((match_id, Epoch(0))..=(match_id, Epoch(u64::MAX)))
            .map(|(_, stretch)| *stretch)
            .collect();
        let (account, problems) = Account::read(&lease, &logs, &archive.seals);
        Ok((lease, account, problems))
    }

    /// What is wrong with a match's history as everybody reads it, from archive and logs, held
    /// against the whole journal. Call it outside of the virtual network.
    pub fn kept(&self, match_id: MatchId, account: &Account) -> Option<Violation> {
        let loaded = at_once(async {
            let store = self.memory.store();
            let lease = store
                .leases
                .get(match_id)
                .await?
                .ok_or_else(|| StoreError::NotFound(format!("match {match_id}")))?;
            history::load(
                &store,
                &lease,
                &LoadOptions { start: Start::Beginning, end: End::Newest },
            )
            .await
        });
        let problem = match loaded {
            Err(error) => error.to_string(),
            Ok(history) => {
                let found = (
                    history.frames.len(),
                    history.frames.last().map(|frame| frame.header.last_tick).unwrap_or_default(),
                );
                let expected = (account.records.len(), account.last_tick());
                if found == expected {
                    return None;
                }
                format!("it has {found:?} records and ticks, {expected:?} were written")
            }
        };
        Some(Violation::new(
            Rule::JournalWhole,
            format!("history across archive and logs: {problem}"),
        ))
    }

    /// Effects of a match that reached a sink.
    pub fn delivered(&self, match_id: MatchId) -> Result<Vec<Effect>, StoreError> {
        let all = at_once(async { self.memory.store().effects.delivered().await })?;
        Ok(all.into_iter().filter(|(of, _)| *of == match_id).map(|(_, effect)| effect).collect())
    }
}

/// Runs a future that never waits: without faults the memory store answers at once.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}

/// The ports that matter to the judges, with an eye on what passes through them.
struct Watched {
    disk: Disk,
    journal: Arc<dyn Journal>,
    leases: Arc<dyn Leases>,
}

impl Watched {
    fn remember(&self, lease: &MatchLease) {
        self.disk.archive.lock().remember(lease);
    }
}

impl Journal for Watched {
    fn begin(&self, log: Incarnation, first: BatchNo) -> StoreResult<'_, ()> {
        self.journal.begin(log, first)
    }

    fn append(&self, batch: Batch) -> StoreResult<'_, ()> {
        match self.disk.mutant {
            Some(Mutant::AcknowledgeBeforeSync) => {
                let journal = self.journal.clone();
                Box::pin(async move {
                    let writing = tokio::spawn(async move { journal.append(batch).await });
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    if writing.is_finished() { writing.await.unwrap_or(Ok(())) } else { Ok(()) }
                })
            }
            Some(Mutant::DropBatch) if batch.number.0.is_multiple_of(40) => {
                Box::pin(async { Ok(()) })
            }
            _ => self.journal.append(batch),
        }
    }

    fn read(
        &self,
        log: Incarnation,
        from: BatchNo,
        max_bytes: usize,
    ) -> StoreResult<'_, Vec<Batch>> {
        self.journal.read(log, from, max_bytes)
    }

    fn tail(&self, log: Incarnation) -> StoreResult<'_, Tail> {
        self.journal.tail(log)
    }

    fn settle(&self, log: Incarnation, last: BatchNo) -> StoreResult<'_, ()> {
        if self.disk.mutant == Some(Mutant::SkipSettle) {
            return Box::pin(async { Ok(()) });
        }
        self.journal.settle(log, last)
    }

    fn trim(&self, log: Incarnation, before: BatchNo) -> StoreResult<'_, ()> {
        Box::pin(async move {
            let plain = self.disk.memory.store().journal;
            let first =
                plain.logs().await?.into_iter().find(|info| info.log == log).map(|info| info.first);
            if let Some(first) = first {
                let batches = plain.read(log, first, usize::MAX).await?;
                let mut archive = self.disk.archive.lock();
                let trimmed = batches.into_iter().filter(|batch| batch.number < before);
                archive
                    .trimmed
                    .entry(log)
                    .or_default()
                    .extend(trimmed.map(|batch| (batch.number, batch)));
            }
            self.journal.trim(log, before).await
        })
    }

    fn logs(&self) -> StoreResult<'_, Vec<LogInfo>> {
        self.journal.logs()
    }
}

impl Leases for Watched {
    fn register(&self, lease: NodeLease) -> StoreResult<'_, ()> {
        self.leases.register(lease)
    }

    fn renew(
        &self,
        node: Incarnation,
        deadline_ms: u64,
        reached: Option<Reached>,
    ) -> StoreResult<'_, Renewal> {
        self.leases.renew(node, deadline_ms, reached)
    }

    fn stop(&self, node: Incarnation) -> StoreResult<'_, Renewal> {
        self.leases.stop(node)
    }

    fn fence(&self, node: Incarnation) -> StoreResult<'_, ()> {
        self.leases.fence(node)
    }

    fn seal(&self, node: Incarnation, last: BatchNo) -> StoreResult<'_, BatchNo> {
        Box::pin(async move {
            let seal = self.leases.seal(node, last).await?;
            self.disk.archive.lock().seals.insert(node, seal);
            Ok(seal)
        })
    }

    fn accept_loss(&self, node: Incarnation, last: BatchNo, at_ms: u64) -> StoreResult<'_, ()> {
        self.leases.accept_loss(node, last, at_ms)
    }

    fn nodes(&self) -> StoreResult<'_, Vec<NodeLease>> {
        self.leases.nodes()
    }

    fn node(&self, node: Incarnation) -> StoreResult<'_, Option<NodeLease>> {
        self.leases.node(node)
    }

    fn forget(&self, node: Incarnation) -> StoreResult<'_, ()> {
        self.leases.forget(node)
    }

    fn create(&self, lease: MatchLease) -> StoreResult<'_, ()> {
        self.remember(&lease);
        self.leases.create(lease)
    }

    fn compare_and_set(
        &self,
        lease: MatchLease,
    ) -> StoreResult<'_, Result<(), Option<MatchLease>>> {
        self.leases.compare_and_set(lease)
    }

    fn get(&self, match_id: MatchId) -> StoreResult<'_, Option<MatchLease>> {
        Box::pin(async move {
            let found = self.leases.get(match_id).await?;
            if let Some(lease) = &found {
                self.remember(lease);
            }
            Ok(found)
        })
    }

    fn remove(&self, match_id: MatchId, version: u64) -> StoreResult<'_, bool> {
        self.leases.remove(match_id, version)
    }

    fn matches(&self) -> StoreResult<'_, Vec<MatchLease>> {
        Box::pin(async move {
            let found = self.leases.matches().await?;
            for lease in &found {
                self.remember(lease);
            }
            Ok(found)
        })
    }
}
