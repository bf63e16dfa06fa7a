//! What the rest of the node sees of the journal.
//!
//! Matches do not send records, they say that there are some ([`JournalPort::submit`]). What waits
//! is bounded: [`JournalPort::overloaded`] makes matches pause.
//!
//! Writers: matches (that they have records), the journal actor (how far the log has come), the
//! checkpoint writer (the last checkpoint). Readers: matches, the host, the renewal of the lease.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicU64, Ordering};

use parking_lot::Mutex;
use ractor::ActorRef;
use rekindle_schema::BatchNo;
use rekindle_schema::lease::StoredCheckpoint;
use rekindle_store::StoreError;
use tokio::sync::watch;

use crate::play::cell::MatchCell;

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

    /// The actor is about to ask for what there is: whoever submits afterwards wakes it again.
    /// False if there is nothing to do.
    pub(super) fn begin(&self) -> bool {
        self.awake.store(false, Ordering::Release);
        !self.is_halted() && !self.dirty.lock().is_empty()
    }

    /// The matches that have records, taken off the list; ascending by id.
    pub(super) fn take_dirty(&self) -> Vec<Arc<MatchCell>> {
        let mut cells = std::mem::take(&mut *self.dirty.lock());
        cells.sort_by_key(|cell| cell.match_id);
        cells
    }

    /// Batch `number` with this checksum is durable.
    pub(super) fn advance(&self, number: BatchNo, crc: u32) {
        *self.reached.lock() = Some((number, crc));
        self.next.store(number.next().0, Ordering::Release);
    }

    /// Records of about so many bytes wait no more.
    pub(super) fn relieve(&self, bytes: usize) {
        self.backlog.fetch_sub(bytes as isize, Ordering::AcqRel);
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

    pub(super) fn enlist(&self, cell: &Arc<MatchCell>) {
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
