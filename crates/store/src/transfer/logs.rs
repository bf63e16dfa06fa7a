//! One log, from where it begins in the source to where it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use rekindle_schema::batch::{Batch, BatchView};
use rekindle_schema::lease::{NodeLease, NodeState, Reached};
use rekindle_schema::{BatchNo, Incarnation, MatchId, Tick};

use super::TransferError;
use super::plan::{Ending, PlannedLog};
use crate::Store;
use crate::witness;
use crate::{Renewal, StoreError};

/// How many bytes of a log are in memory at once.
const CHUNK: usize = 4 << 20;
/// The lease under which a log is written runs for so long unless it is renewed, in milliseconds:
/// longer than one chunk takes.
const LEASE_MS: u64 = 600_000;
/// A request that a store cannot serve now is repeated so often.
const ATTEMPTS: u32 = 8;
/// The wait before the first repetition; each later one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// Repeats a request while the store says that it may succeed later.
pub(super) async fn persist<T, F: Future<Output = Result<T, StoreError>>>(
    mut request: impl FnMut() -> F,
) -> Result<T, StoreError> {
    let mut wait = FIRST_WAIT;
    for _ in 1..ATTEMPTS {
        match request().await {
            Err(error) if error.is_transient() => tokio::time::sleep(wait).await,
            outcome => return outcome,
        }
        wait *= 2;
    }
    request().await
}

/// What was done with a log's batches.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) written: u64,
    pub(super) written_bytes: u64,
    pub(super) compared: u64,
    compared_bytes: u64,
}

impl Counts {
    pub(super) fn bytes(&self) -> u64 {
        self.written_bytes + self.compared_bytes
    }
}

/// A log on its way.
pub(super) struct LogCopy {
    pub(super) log: Incarnation,
    pub(super) counts: Counts,
    /// The last tick of each match with records in it.
    pub(super) ends: BTreeMap<MatchId, Tick>,
    /// All batches up to this one are in the target, compared; `None`: it was not looked at yet.
    verified: Option<BatchNo>,
    /// It was in the target before, whole, and is not to be touched.
    closed: bool,
}

impl LogCopy {
    pub(super) fn new(log: Incarnation) -> Self {
        Self {
            log,
            counts: Counts::default(),
            ends: BTreeMap::new(),
            verified: None,
            closed: false,
        }
    }

    /// Brings the copy to where the source ends now.
    pub(super) async fn advance(
        &mut self,
        from: &Store,
        to: &Store,
        planned: &PlannedLog,
        clock: &(dyn Fn() -> u64 + Sync),
        grown: &(dyn Fn(u64) + Sync),
    ) -> Result<(), TransferError> {
        let log = self.log;
        let limit = self.limit(from, planned).await?;
        let mut next = match self.verified {
            Some(verified) => verified.next(),
            None => self.open(to, planned, limit, clock).await?,
        };
        let there = to.journal.tail(log).await?.last;
        // A copy is held to the checkpoint that the source had stored, if the source still has it.
        let lacks = witness::missing_checkpoint(from, &planned.lease).await?.is_some();
        let checkpoint =
            planned.lease.reached.and_then(|reached| reached.checkpoint).filter(|_| !lacks);
        while planned.first.is_some() && next <= limit {
            let chunk = read_source(from, log, next, limit).await?;
            let (Some(first), Some(last)) = (chunk.first(), chunk.last()) else {
                return Err(TransferError::Damaged(format!(
                    "log {log} ends before batch {next}, but should reach batch {limit}"
                )));
            };
            let (first, last) = (first.number, last.number);
            self.write(to, &chunk, there, grown).await?;
            read_back(to, &chunk, first, last, there).await?;
            (self.verified, next) = (Some(last), last.next());
            if !self.closed {
                let crc = chunk.last().map_or(0, Batch::crc);
                let reached = Reached { batch: last, crc, at_ms: clock(), checkpoint };
                to.leases.renew(log, clock() + LEASE_MS, Some(reached)).await?;
            }
        }
        Ok(())
    }

    /// The last batch that is copied now.
    async fn limit(&self, from: &Store, planned: &PlannedLog) -> Result<BatchNo, TransferError> {
        let log = self.log;
        let tail = witness::tail_of(from, &planned.lease).await?;
        if let Some(damage) = tail.damage {
            return Err(TransferError::Damaged(damage));
        }
        let known = planned.lease.reached.map(|reached| reached.batch);
        let is_there = planned.first.is_some() || planned.lease.state == NodeState::Live;
        if is_there
            && let Some(short) =
                witness::short(&planned.lease, &tail).filter(|short| known >= Some(short.known))
        {
            return Err(TransferError::Damaged(short.to_string()));
        }
        match planned.ending {
            Ending::Sealed(seal) if planned.first.is_some() && tail.last < seal => {
                Err(TransferError::Damaged(format!(
                    "log {log} is sealed at batch {seal}, but ends with batch {}",
                    tail.last
                )))
            }
            Ending::Sealed(seal) => Ok(seal),
            Ending::Stopped | Ending::AtEnd => Ok(tail.last),
        }
    }

    /// Appends those of `batches` that the target does not have: those behind batch `there`.
    async fn write(
        &mut self,
        to: &Store,
        batches: &[Batch],
        there: BatchNo,
        grown: &(dyn Fn(u64) + Sync),
    ) -> Result<(), TransferError> {
        for batch in batches {
            self.note(batch)?;
            let bytes = batch.bytes.len() as u64;
            if batch.number > there {
                persist(|| to.journal.append(batch.clone())).await.map_err(
                    |error| match error {
                        StoreError::Fenced(log) => TransferError::Disturbed(log),
                        error => error.into(),
                    },
                )?;
                self.counts.written += 1;
                self.counts.written_bytes += bytes;
            } else {
                self.counts.compared += 1;
                self.counts.compared_bytes += bytes;
            }
            grown(bytes);
        }
        Ok(())
    }

    /// Makes the log ready to be written, and says which batch comes first.
    async fn open(
        &mut self,
        to: &Store,
        planned: &PlannedLog,
        limit: BatchNo,
        clock: &(dyn Fn() -> u64 + Sync),
    ) -> Result<BatchNo, TransferError> {
        let log = self.log;
        let first = planned.first.unwrap_or(BatchNo(1));
        if let Some(found) = &planned.found {
            let info = to.journal.logs().await?.into_iter().find(|info| info.log == log);
            let end = found.seal.unwrap_or(to.journal.tail(log).await?.last);
            let begins = info.map(|info| info.first);
            let live = found.state == NodeState::Live;
            if !live
                && end == limit
                && (planned.first.is_none() || begins.is_some_and(|begins| begins <= first))
            {
                self.closed = true;
                return Ok(first);
            }
            if live && end <= limit && begins.is_none_or(|begins| begins == first) {
                to.leases.renew(log, clock() + LEASE_MS, None).await?;
                self.begin(to, first).await?;
                return Ok(first);
            }
            if planned.in_use {
                let problem = format!(
                    "log {log} ends with batch {end} there and with batch {limit} here, and \
                     matches rest on it"
                );
                return Err(TransferError::Conflict(vec![problem]));
            }
            // An earlier copy left it, and a node has fenced it since, or the source has been
            // trimmed: nothing rests on it.
            to.leases.fence(log).await?;
            to.journal.trim(log, end.next()).await?;
            to.leases.forget(log).await?;
        }
        let NodeLease { incarnation, name, region, .. } = planned.lease.clone();
        let lease = NodeLease {
            incarnation,
            name,
            region,
            state: NodeState::Live,
            // It names no process: fencing it kills nobody, and nobody takes it for a node that
            // runs.
            pid: 0,
            pid_start: 0,
            host: String::new(),
            deadline_ms: clock() + LEASE_MS,
            seal: None,
            // Said as batches arrive.
            reached: None,
            loss_accepted_ms: planned.lease.loss_accepted_ms,
        };
        to.leases.register(lease).await?;
        self.begin(to, first).await?;
        Ok(first)
    }

    async fn begin(&self, to: &Store, first: BatchNo) -> Result<(), StoreError> {
        if first > BatchNo(1) { to.journal.begin(self.log, first).await } else { Ok(()) }
    }

    /// Remembers how far each match's records go.
    fn note(&mut self, batch: &Batch) -> Result<(), TransferError> {
        let place = || format!("log {}, batch {}", self.log, batch.number);
        let view = BatchView::parse(&batch.bytes)
            .map_err(|error| TransferError::Damaged(format!("{}: {error}", place())))?;
        for frame in view.all_frames() {
            let end = self.ends.entry(frame.header.match_id).or_default();
            *end = frame.header.last_tick.max(*end);
        }
        Ok(())
    }

    /// Leaves the lease in the target as the source has it, or sealed at the cut.
    pub(super) async fn close(
        &self,
        to: &Store,
        planned: &PlannedLog,
    ) -> Result<(), TransferError> {
        let log = self.log;
        let unsealed = |found: &NodeLease| found.state == NodeState::Fenced && found.seal.is_none();
        if self.closed && !planned.found.as_ref().is_some_and(unsealed) {
            return Ok(());
        }
        let seal = match planned.ending {
            Ending::Stopped if self.closed => to.journal.tail(log).await?.last,
            Ending::Stopped => {
                return match to.leases.stop(log).await? {
                    Renewal::Live => Ok(()),
                    Renewal::Fenced => Err(TransferError::Disturbed(log)),
                };
            }
            Ending::Sealed(seal) => seal,
            Ending::AtEnd => self.verified.unwrap_or_default(),
        };
        to.leases.fence(log).await?;
        let tail = to.journal.tail(log).await?.last;
        to.journal.settle(log, tail).await?;
        let standing = to.leases.seal(log, seal).await?;
        if standing != seal {
            return Err(TransferError::Differs(format!(
                "the seal of log {log}, which is {standing} instead of {seal},"
            )));
        }
        Ok(())
    }
}

/// Reads what was written, or was there before, and compares it.
async fn read_back(
    to: &Store,
    chunk: &[Batch],
    first: BatchNo,
    last: BatchNo,
    there: BatchNo,
) -> Result<(), TransferError> {
    let Some(log) = chunk.first().map(|batch| batch.incarnation) else { return Ok(()) };
    let mut next = first;
    while next <= last {
        let found = to.journal.read(log, next, CHUNK).await?;
        if found.is_empty() {
            return Err(TransferError::Differs(format!(
                "batch {next} of log {log}, which is not there,"
            )));
        }
        for batch in found.into_iter().take_while(|batch| batch.number <= last) {
            let written = chunk.get((batch.number.0 - first.0) as usize);
            if written != Some(&batch) {
                let number = batch.number;
                return Err(if number > there {
                    TransferError::Differs(format!("batch {number} of log {log}"))
                } else {
                    StoreError::Conflict { log, number }.into()
                });
            }
            next = batch.number.next();
        }
    }
    Ok(())
}

/// The next batches of a log of the source, from `next` up to `limit`; empty if they are not there.
async fn read_source(
    from: &Store,
    log: Incarnation,
    next: BatchNo,
    limit: BatchNo,
) -> Result<Vec<Batch>, TransferError> {
    let read = from.journal.read(log, next, CHUNK).await.map_err(|error| match error {
        StoreError::NotFound(_) => TransferError::Overtaken { log, number: next },
        StoreError::Corrupt { .. } => TransferError::Damaged(error.to_string()),
        error => error.into(),
    })?;
    Ok(read.into_iter().take_while(|batch| batch.number <= limit).collect())
}
