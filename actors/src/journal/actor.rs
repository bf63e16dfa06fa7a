//! The journal actor: one log, one batch at a time, one write for all matches of the node.
//!
//! Matches do not send records, they say that there are some ([`JournalPort::submit`]). The actor
//! collects what all of them have, closes their open records, packs a batch and waits for the
//! store; what is executed meanwhile gathers in the matches' outboxes. So nothing queues here, and
//! what queues there is bounded: [`JournalPort::overloaded`] makes matches pause.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use rekindle_schema::batch::{Batch, BatchBuilder, FrameHeader, PushError};
use rekindle_schema::codec;
use rekindle_schema::lease::StoredCheckpoint;
use rekindle_schema::record::FLUSH_TAG;
use rekindle_schema::{BatchNo, BuildId, Incarnation};
use rekindle_store::{Store, StoreError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::config::WallClock;
use crate::core::Durable;
use crate::messages::MatchMsg;
use crate::meters::Meters;
use crate::play::cell::MatchCell;

const FIRST_RETRY: Duration = Duration::from_millis(10);
const LAST_RETRY: Duration = Duration::from_secs(1);

/// Why a host can acknowledge nothing any more. The process must end.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Halt {
    /// Fenced, or the log's end is unknown.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An actor that nothing works without has failed.
    #[error("RK-HOST-009: the {0} actor failed: {1}")]
    Actor(&'static str, String),
}

/// What matches see of the journal.
pub(crate) struct JournalPort {
    dirty: Mutex<Vec<Arc<MatchCell>>>,
    awake: AtomicBool,
    /// Signed: a record may be durable before the match that made it has counted it.
    backlog: AtomicIsize,
    limit: isize,
    next: AtomicU64,
    /// The last durable batch and its checksum: what a renewal of the lease says.
    reached: Mutex<Option<(BatchNo, u32)>>,
    /// The last checkpoint that was stored, whatever match it is of.
    checkpoint: Mutex<Option<StoredCheckpoint>>,
    halted: watch::Sender<Option<Halt>>,
    actor: OnceLock<ActorRef<JournalMsg>>,
}

impl JournalPort {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            dirty: Mutex::default(),
            awake: AtomicBool::new(false),
            backlog: AtomicIsize::new(0),
            limit: isize::try_from(limit).unwrap_or(isize::MAX),
            next: AtomicU64::new(1),
            reached: Mutex::default(),
            checkpoint: Mutex::default(),
            halted: watch::Sender::new(None),
            actor: OnceLock::new(),
        }
    }

    pub(crate) fn attach(&self, actor: ActorRef<JournalMsg>) {
        let _ = self.actor.set(actor);
    }

    /// `cell` has `bytes` more in its outbox.
    pub(crate) fn submit(&self, cell: &Arc<MatchCell>, bytes: usize) {
        self.backlog.fetch_add(bytes as isize, Ordering::AcqRel);
        self.enlist(cell);
        if !self.awake.swap(true, Ordering::AcqRel)
            && let Some(actor) = self.actor.get()
        {
            let _ = actor.cast(JournalMsg::Wake);
        }
    }

    fn enlist(&self, cell: &Arc<MatchCell>) {
        if cell.enlist() {
            self.dirty.lock().push(Arc::clone(cell));
        }
    }

    /// As much waits as may wait.
    pub(crate) fn overloaded(&self) -> bool {
        self.backlog.load(Ordering::Acquire) >= self.limit
    }

    /// Bytes that wait.
    pub(crate) fn backlog(&self) -> usize {
        self.backlog.load(Ordering::Acquire).max(0) as usize
    }

    /// The batch that will be written next: no record that is made from now on lies in an earlier
    /// one.
    pub(crate) fn next_batch(&self) -> BatchNo {
        BatchNo(self.next.load(Ordering::Acquire))
    }

    /// The last batch that is durable and verified, and its checksum; `None` before the first.
    pub(crate) fn reached(&self) -> Option<(BatchNo, u32)> {
        *self.reached.lock()
    }

    /// A checkpoint is stored.
    pub(crate) fn stored_checkpoint(&self, checkpoint: StoredCheckpoint) {
        *self.checkpoint.lock() = Some(checkpoint);
    }

    /// The last checkpoint that was stored.
    pub(crate) fn last_checkpoint(&self) -> Option<StoredCheckpoint> {
        *self.checkpoint.lock()
    }

    pub(crate) fn halt(&self, halt: Halt) {
        self.halted.send_if_modified(|slot| {
            let first = slot.is_none();
            if first {
                tracing::error!(code = "RK-HOST-010", error = %halt, "nothing is acknowledged any \
                    more: the process must end");
                *slot = Some(halt);
            }
            first
        });
    }

    pub(crate) fn halted(&self) -> watch::Receiver<Option<Halt>> {
        self.halted.subscribe()
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.halted.borrow().is_some()
    }
}

/// Messages of the journal actor.
pub(crate) enum JournalMsg {
    /// Some match has records. At most one of these is in the mailbox.
    Wake,
}

impl ractor::Message for JournalMsg {}

/// What the journal actor works with.
pub(crate) struct Journal {
    pub(crate) store: Store,
    pub(crate) port: Arc<JournalPort>,
    pub(crate) incarnation: Incarnation,
    pub(crate) build: BuildId,
    pub(crate) clock: WallClock,
    pub(crate) linger: Duration,
    pub(crate) batch_bytes: usize,
    pub(crate) meters: Arc<Meters>,
}

/// Where the log ends.
pub(crate) struct LogEnd {
    number: BatchNo,
    prev_crc: u32,
}

/// What a batch makes durable for one match.
struct Share {
    cell: Arc<MatchCell>,
    durable: Durable,
    weight: usize,
}

impl Actor for Journal {
    type Msg = JournalMsg;
    type State = LogEnd;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<JournalMsg>,
        (): (),
    ) -> Result<LogEnd, ActorProcessingErr> {
        Ok(LogEnd { number: BatchNo(1), prev_crc: 0 })
    }

    async fn handle(
        &self,
        _: ActorRef<JournalMsg>,
        message: JournalMsg,
        end: &mut LogEnd,
    ) -> Result<(), ActorProcessingErr> {
        let JournalMsg::Wake = message;
        loop {
            // Cleared before looking: whoever submits afterwards wakes the actor again.
            self.port.awake.store(false, Ordering::Release);
            if self.port.is_halted() || self.port.dirty.lock().is_empty() {
                return Ok(());
            }
            if !self.linger.is_zero() {
                sleep(self.linger).await;
            }
            if let Err(error) = self.commit(end).await {
                self.port.halt(error.into());
                return Ok(());
            }
        }
    }
}

/// The records of a match do not follow each other: nothing may be written behind a gap.
fn gap_of(cell: &MatchCell, error: &impl std::error::Error) -> StoreError {
    StoreError::Corrupt {
        place: format!("outbox of match {}", cell.match_id),
        problem: error.to_string(),
    }
}

impl Journal {
    /// One group commit: pack, append, tell.
    async fn commit(&self, end: &mut LogEnd) -> Result<(), StoreError> {
        let Some((batch, shares)) = self.pack(end)? else { return Ok(()) };
        let started = Instant::now();
        self.append(&batch).await?;
        self.meters.append_seconds.record(started.elapsed());
        end.prev_crc = batch.crc();
        *self.port.reached.lock() = Some((end.number, end.prev_crc));
        end.number = end.number.next();
        self.port.next.store(end.number.0, Ordering::Release);
        for Share { cell, durable, weight } in shares {
            self.port.backlog.fetch_sub(weight as isize, Ordering::AcqRel);
            match cell.books.confirm(durable) {
                Ok(()) => cell.cast(MatchMsg::Durable(durable)),
                Err(fault) => cell.cast(MatchMsg::Faulty(fault)),
            };
        }
        Ok(())
    }

    fn pack(&self, end: &LogEnd) -> Result<Option<(Batch, Vec<Share>)>, StoreError> {
        let mut cells = std::mem::take(&mut *self.port.dirty.lock());
        cells.sort_by_key(|cell| cell.match_id);
        let mut builder =
            BatchBuilder::new(self.incarnation, end.number, end.prev_crc, self.batch_bytes);
        let time_ms = (self.clock)();
        let mut shares = Vec::with_capacity(cells.len());
        let mut full = false;
        for cell in cells {
            cell.delist();
            if full {
                self.port.enlist(&cell);
                continue;
            }
            let mut share: Option<Share> = None;
            let mut packed = None;
            loop {
                let given = cell.books.give(packed.take());
                let Some((record, prev_crc)) = given.map_err(|gap| gap_of(&cell, &gap))? else {
                    break;
                };
                let header = FrameHeader {
                    match_id: cell.match_id,
                    epoch: cell.epoch,
                    seq: record.seq,
                    first_tick: record.flush.first,
                    last_tick: record.flush.last,
                    build: self.build,
                    time_ms,
                    prev_crc,
                };
                match builder.push(&header, &codec::encode(FLUSH_TAG, &record.flush)) {
                    Ok(crc) => {
                        packed = Some(crc);
                        let durable =
                            Durable { seq: record.seq, tick: record.flush.last, batch: end.number };
                        let weight = record.weight + share.as_ref().map_or(0, |share| share.weight);
                        share = Some(Share { cell: Arc::clone(&cell), durable, weight });
                    }
                    Err(PushError::Full) => {
                        cell.books.take_back(record);
                        self.port.enlist(&cell);
                        full = true;
                        break;
                    }
                    Err(PushError::TooLarge(size)) => {
                        return Err(StoreError::TooLarge {
                            what: "record",
                            size,
                            limit: rekindle_schema::batch::MAX_PAYLOAD,
                        });
                    }
                    Err(error @ PushError::NotContiguous { .. }) => {
                        return Err(gap_of(&cell, &error));
                    }
                }
            }
            shares.extend(share);
        }
        if builder.is_empty() {
            return Ok(None);
        }
        self.meters.batch_records.record(f64::from(builder.frames()));
        self.meters.batch_bytes.record(builder.len() as f64);
        Ok(Some((builder.finish(), shares)))
    }

    /// Appends until the store has verified the batch or says that there is no use.
    async fn append(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut pause = FIRST_RETRY;
        loop {
            match self.store.journal.append(batch.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_transient() => {
                    self.meters.append_retries.increment(1);
                    tracing::warn!(
                        code = "RK-HOST-011", %error, batch = %batch.number,
                        "append will be repeated"
                    );
                    sleep(pause).await;
                    pause = (pause * 2).min(LAST_RETRY);
                }
                Err(error) => return Err(error),
            }
        }
    }
}
