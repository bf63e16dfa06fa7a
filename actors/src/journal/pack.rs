//! One batch out of what all matches of the node have executed.
//!
//! Called by the journal actor. The records of one match have consecutive numbers and the
//! checksum of the one before: its [`Ledger`](crate::core::Ledger) and the builder both refuse a
//! gap.

use std::sync::Arc;

use rekindle_schema::batch::{Batch, BatchBuilder, FrameHeader, PushError};
use rekindle_schema::{BatchNo, BuildId, Incarnation};
use rekindle_store::StoreError;

use super::port::JournalPort;
use crate::config::WallClock;
use crate::core::Durable;
use crate::meters::Meters;
use crate::play::cell::MatchCell;

/// Where the log ends.
pub(crate) struct LogEnd {
    pub(super) number: BatchNo,
    pub(super) prev_crc: u32,
}

/// What a batch makes durable for one match.
pub(super) struct Share {
    pub(super) cell: Arc<MatchCell>,
    pub(super) durable: Durable,
    /// About how many bytes of its records the batch has.
    pub(super) weight: usize,
}

/// The records of a match do not follow each other: nothing may be written behind a gap.
fn gap_of(cell: &MatchCell, error: &impl std::error::Error) -> StoreError {
    StoreError::Corrupt {
        place: format!("outbox of match {}", cell.match_id),
        problem: error.to_string(),
    }
}

/// Makes the batches of one log.
pub(crate) struct Packer {
    pub(crate) port: Arc<JournalPort>,
    pub(crate) incarnation: Incarnation,
    pub(crate) build: BuildId,
    /// For the times in records.
    pub(crate) clock: WallClock,
    /// Largest batch in bytes; a match's first record may exceed it.
    pub(crate) batch_bytes: usize,
    pub(crate) meters: Arc<Meters>,
}

impl Packer {
    /// Puts what all matches have into one batch, as far as it has room. What finds none stays
    /// enlisted. `None` if no match had anything.
    pub(super) fn pack(&self, end: &LogEnd) -> Result<Option<(Batch, Vec<Share>)>, StoreError> {
        let cells = self.port.take_dirty();
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
                match builder.push(&header, &record.flush.encode()) {
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
}
