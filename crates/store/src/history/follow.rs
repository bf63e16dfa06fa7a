//! Follows the log of a live node: the records of one match, as they become durable.
//!
//! Called by whoever is to continue a match without a break: it replays the history first, and from
//! then on asks again and again for what has been written since. Who follows several matches of one
//! log reads it once for all of them ([`read_on`], [`LogFollower::offer`]).
//!
//! # What of it counts
//!
//! Only whole batches are read. A batch that a reader has seen is in the log for every later
//! reader: on a local disk it is in the page cache or on the device, on Postgres it is committed,
//! on a CQL server a quorum has answered. Whoever takes the log over fences its writer first,
//! *then* reads the tail, writes the last whole batch again and seals the log there. So what was
//! read before the fence lies before the seal, and counts.
//!
//! What was read after the fence need not count: a writer that does not know that it is fenced may
//! still write, on a local disk and on a CQL server, and such a batch lies behind the seal. Nobody
//! was ever told of it, for a writer acknowledges only after it has seen that its lease was live. A
//! follower that has read one has a world that is nobody's. Two things tell it apart, and one of
//! them has to be asked before a followed world runs:
//!
//! * The owner said where it stopped, after that was durable ([`Cut`](rekindle_schema::peer::Cut)):
//!   it lay before any fence when the owner said so. This is how a match is moved.
//! * The log is sealed, and nothing was read behind the seal: [`LogFollower::counts_under`].

use rekindle_schema::batch::{Batch, BatchView, Frame};
use rekindle_schema::lease::MatchLease;
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq};

use super::{History, HistoryError};
use crate::{Store, StoreError};

/// How many bytes of a log are read at once.
const CHUNK: usize = 1 << 20;

/// Where a follower is in the log of a match's owner.
#[derive(Debug)]
pub struct LogFollower {
    match_id: MatchId,
    epoch: Epoch,
    log: Incarnation,
    /// The batch that is read next.
    next_batch: BatchNo,
    /// The record that is needed next.
    next: Seq,
    /// The checksum of the record before it, if that is of this epoch; 0 for the first of an epoch.
    prev_crc: Option<u32>,
}

impl LogFollower {
    /// Loads the history of a match as it stands, and a follower that goes on right behind it.
    /// `lease` is its row as it was just read.
    pub async fn begin(store: &Store, lease: &MatchLease) -> Result<(History, Self), HistoryError> {
        let (match_id, epoch, log) = (lease.match_id, lease.epoch, lease.incarnation);
        // Read first: the history has all records in batches up to this one, and maybe more.
        let tail = store.journal.tail(log).await?;
        let history = super::load(store, lease, &super::LoadOptions::default()).await?;
        let next = history.last_seq().next();
        let begins = lease.lineage.last().map_or(Seq(1), |stretch| stretch.first_seq);
        let last = history.frames.last().filter(|frame| frame.header.epoch == epoch);
        let prev_crc = if next == begins { Some(0) } else { last.map(|frame| frame.crc) };
        let next_batch = tail.last.next();
        Ok((history, Self { match_id, epoch, log, next_batch, next, prev_crc }))
    }

    /// The log that is followed, named by its writer.
    pub fn log(&self) -> Incarnation {
        self.log
    }

    /// The ownership whose records are followed.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The last batch that was read.
    pub fn read_to(&self) -> BatchNo {
        BatchNo(self.next_batch.0 - 1)
    }

    /// Whether all that was read counts in a log that is sealed behind `seal`. If not, the writer
    /// went on after it was fenced, and the followed world must be given up.
    pub fn counts_under(&self, seal: BatchNo) -> bool {
        self.read_to() <= seal
    }

    /// The batch that is needed next.
    pub fn next_batch(&self) -> BatchNo {
        self.next_batch
    }

    /// What has been written of the match since the last call, in order and without gaps; nothing
    /// if it has written nothing up to the end of the log. Holds one chunk of the log at a time,
    /// and returns the records of the first one that has any: call it again until it is empty.
    pub async fn poll(&mut self, store: &Store) -> Result<Vec<Frame>, HistoryError> {
        let mut frames = Vec::new();
        while frames.is_empty() {
            let batches = read_on(store, self.log, self.next_batch).await?;
            if batches.is_empty() {
                break;
            }
            for view in &batches {
                self.offer(view, &mut frames)?;
            }
        }
        Ok(frames)
    }

    /// Takes the records of the match out of a batch of its log, into `frames`. A batch that was
    /// taken before has nothing more.
    ///
    /// # Errors
    ///
    /// `Gap` if a batch, or a record of the match, before this one is missing; `Chain` if a record
    /// is not the one that followed. What is in `frames` then is not to be used.
    pub fn offer(&mut self, view: &BatchView, frames: &mut Vec<Frame>) -> Result<(), HistoryError> {
        if view.number() < self.next_batch {
            return Ok(());
        }
        if view.number() != self.next_batch {
            let found = format!("batch {} where {} should be", view.number(), self.next_batch);
            return Err(self.gap(found));
        }
        for frame in view.frames(self.match_id, self.epoch) {
            if frame.header.seq >= self.next {
                frames.push(self.take(frame, view.number())?);
            }
        }
        self.next_batch = self.next_batch.next();
        Ok(())
    }

    fn take(&mut self, frame: &Frame, batch: BatchNo) -> Result<Frame, HistoryError> {
        let seq = frame.header.seq;
        if seq != self.next {
            return Err(self.gap(format!("batch {batch} goes on with record {seq}")));
        }
        if let Some(expected) = self.prev_crc.filter(|&crc| crc != frame.header.prev_crc) {
            return Err(HistoryError::Chain {
                match_id: self.match_id,
                log: self.log,
                batch,
                seq,
                found: frame.header.prev_crc,
                expected,
            });
        }
        (self.next, self.prev_crc) = (seq.next(), Some(frame.crc));
        Ok(frame.clone())
    }

    fn gap(&self, found: String) -> HistoryError {
        HistoryError::Gap { match_id: self.match_id, log: self.log, expected: self.next, found }
    }
}

/// The whole batches of a log from `from` on, one chunk of them; nothing at the end of the log.
pub async fn read_on(
    store: &Store,
    log: Incarnation,
    from: BatchNo,
) -> Result<Vec<BatchView>, HistoryError> {
    let batches = store.journal.read(log, from, CHUNK).await?;
    let parse = |batch: Batch| {
        BatchView::parse(&batch.bytes).map_err(|error| {
            StoreError::Corrupt {
                place: format!("log {log}, batch {}", batch.number),
                problem: error.to_string(),
            }
            .into()
        })
    };
    batches.into_iter().map(parse).collect()
}
