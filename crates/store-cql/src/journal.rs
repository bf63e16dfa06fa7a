//! Logs: write, verify, acknowledge; trimming by whole buckets.

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use rekindle_schema::batch::{Batch, Envelope, MAX_BATCH};
use rekindle_schema::lease::NodeState;
use rekindle_schema::{BatchNo, Incarnation};
use rekindle_store::backend;
use rekindle_store::{Journal, LogInfo, StoreError, StoreResult, Tail};
use tokio::sync::{Mutex, Semaphore};

#[cfg(feature = "mutants")]
use super::guards::Mutant;
use super::reader::{LogRow, Stored};
use super::{CqlStore, NODE_SHARDS, PART, PARTS_AT_ONCE, id, ordered, shard};

/// The writing side of a log, in memory.
pub(super) struct LogWriter {
    /// One permit for each append that waits or is under way.
    queue: Semaphore,
    /// Appends go one after the other, in the order in which they came.
    end: Mutex<Option<End>>,
}

/// Where a log ends, as its one writer knows.
struct End {
    /// Batches in a bucket.
    size: u64,
    /// The last batch whose write was answered.
    last: u64,
    /// Its checksum, unless it is not there.
    crc: Option<u32>,
    /// A batch that was sent and not answered: its number may only ever be used for the same bytes.
    sent: Option<(u64, u32)>,
    /// Readers look for batches up to this bucket.
    announced: u64,
    /// Bytes that were written.
    bytes: u64,
    /// Its row is there.
    begun: bool,
    /// The lease was seen not to be live. Terminal.
    fenced: bool,
}

/// The bucket in which a batch lies.
pub(super) fn bucket_of(number: u64, size: u64) -> u64 {
    number.saturating_sub(1) / size
}

/// The partition of a log's row.
pub(super) fn log_shard(log: Incarnation) -> i32 {
    shard(log.0, NODE_SHARDS)
}

impl CqlStore {
    fn writer(&self, log: Incarnation) -> Arc<LogWriter> {
        let mut writers = self.writers.lock();
        let new = || {
            Arc::new(LogWriter {
                queue: Semaphore::new(self.options.append_queue),
                end: Mutex::new(None),
            })
        };
        Arc::clone(writers.entry(log).or_insert_with(new))
    }

    /// Finds where the log ends. A node that is not live does not get so far.
    async fn open_log(&self, log: Incarnation) -> Result<End, StoreError> {
        if !self.is_live(log).await? {
            return Err(StoreError::Fenced(log));
        }
        let Some(row) = self.log_row(log).await? else {
            let first = self.begins.lock().get(&log).copied().unwrap_or(1);
            let size = u64::from(self.options.bucket);
            let announced = bucket_of(first, size);
            return Ok(End {
                size,
                last: first - 1,
                crc: None,
                sent: None,
                announced,
                bytes: 0,
                begun: false,
                fenced: false,
            });
        };
        let last = self.find_tail(log, &row).await?.last.0;
        let crc = match self.stored(log, row.size, last).await? {
            Stored::Whole(batch) => Some(batch.crc()),
            _ => None,
        };
        Ok(End {
            size: row.size,
            last,
            crc,
            sent: None,
            announced: row.last_bucket,
            bytes: row.bytes,
            begun: true,
            fenced: false,
        })
    }

    /// Makes the row of a log that has none.
    async fn begin_log(&self, log: Incarnation, first: u64) -> Result<(), StoreError> {
        let values = (
            self.space(),
            log_shard(log),
            id(log.0),
            ordered(first),
            ordered(first),
            self.options.bucket as i32,
        );
        let what = "begin a log";
        let answer = self.settled(what, &self.statements.log_begin, &values).await?;
        // Of its own, after an unknown outcome, or of another writer with this incarnation, whose
        // buckets may be of another size.
        let same = answer.applied
            || answer.number("first") == Some(ordered(first))
                && answer.number("size") == Some(i64::from(self.options.bucket));
        if same { Ok(()) } else { Err(StoreError::Conflict { log, number: BatchNo(first) }) }
    }

    /// The log is to begin with this batch, unless it holds batches already.
    async fn begin_with(&self, log: Incarnation, first: BatchNo) -> Result<(), StoreError> {
        let first = first.max(BatchNo(1));
        if let Some(row) = self.log_row(log).await? {
            if self.find_tail(log, &row).await?.last.0 >= row.first {
                let found = BatchNo(row.first);
                return if found == first {
                    Ok(())
                } else {
                    Err(backend::begun_elsewhere(log, found, first))
                };
            }
            // Its first append failed, whatever it was to begin with.
            self.remove_log(log, &row).await?;
        }
        self.begins.lock().insert(log, first.0);
        self.writers.lock().remove(&log);
        Ok(())
    }

    /// Writes all parts of a batch; returns once each is on a majority.
    async fn write_batch(&self, batch: &Batch, size: u64) -> Result<(), StoreError> {
        let Batch { incarnation: log, number, bytes } = batch;
        let bucket = ordered(bucket_of(number.0, size));
        let parts = bytes.len().div_ceil(PART) as i32;
        let write = |(part, bytes): (i32, &[u8])| {
            let values = (
                self.space().to_owned(),
                id(log.0),
                bucket,
                ordered(number.0),
                part,
                parts,
                bytes.to_vec(),
            );
            async move { self.driver.write("write a batch", &self.statements.part_write, &values).await }
        };
        let writes: Vec<futures::future::BoxFuture<'_, _>> =
            (0..).zip(bytes.chunks(PART)).map(|part| Box::pin(write(part)) as _).collect();
        futures::stream::iter(writes).buffer_unordered(PARTS_AT_ONCE).try_collect::<()>().await
    }

    async fn append_next(
        &self,
        batch: &Batch,
        envelope: &Envelope,
        end: &mut End,
    ) -> Result<(), StoreError> {
        let (log, number) = (batch.incarnation, batch.number);
        let conflict = || StoreError::Conflict { log, number };
        if end.fenced {
            return Err(StoreError::Fenced(log));
        }
        if number.0 <= end.last {
            let same = if number.0 == end.last && end.crc.is_some() {
                end.crc == Some(envelope.crc)
            } else {
                match self.stored(log, end.size, number.0).await? {
                    Stored::Whole(there) => there.bytes == batch.bytes,
                    // It was trimmed: nobody can tell any more.
                    Stored::Missing => true,
                    Stored::Broken(_) => false,
                }
            };
            return if same { self.verify(log, end).await } else { Err(conflict()) };
        }
        if number.0 != end.last + 1 {
            return Err(StoreError::Gap { log, last: BatchNo(end.last), got: number });
        }
        let follows = end.crc.is_none_or(|crc| crc == envelope.prev_crc);
        let again = end.sent.is_none_or(|sent| sent == (number.0, envelope.crc));
        if !follows || !again {
            return Err(conflict());
        }
        let bucket = bucket_of(number.0, end.size);
        if bucket > end.announced {
            // Before its first batch: a reader that sees the batch must know where to look for it.
            let values =
                (ordered(bucket), ordered(end.bytes), self.space(), log_shard(log), id(log.0));
            self.driver.write("begin a bucket", &self.statements.log_announce, &values).await?;
            end.announced = bucket;
        }
        if !end.begun {
            self.begin_log(log, number.0).await?;
            end.begun = true;
            self.begins.lock().remove(&log);
        }
        end.sent = Some((number.0, envelope.crc));
        #[cfg(feature = "mutants")]
        if self.options.mutant == Mutant::AcknowledgeFirst {
            self.verify(log, end).await?;
            tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        }
        self.write_batch(batch, end.size).await?;
        (end.last, end.crc, end.sent) = (number.0, Some(envelope.crc), None);
        end.bytes += batch.bytes.len() as u64;
        #[cfg(feature = "mutants")]
        if matches!(self.options.mutant, Mutant::NoVerify | Mutant::AcknowledgeFirst) {
            return Ok(());
        }
        self.verify(log, end).await
    }

    /// The verifying read: only a node that is still live may acknowledge what it wrote.
    async fn verify(&self, log: Incarnation, end: &mut End) -> Result<(), StoreError> {
        if self.is_live(log).await? {
            return Ok(());
        }
        end.fenced = true;
        Err(StoreError::Fenced(log))
    }

    async fn append_batch(&self, batch: Batch) -> Result<(), StoreError> {
        let log = batch.incarnation;
        if batch.bytes.len() > MAX_BATCH {
            return Err(StoreError::TooLarge {
                what: "a batch",
                size: batch.bytes.len(),
                limit: MAX_BATCH,
            });
        }
        let envelope = backend::check_batch(&batch)?;
        let writer = self.writer(log);
        let full = || {
            StoreError::Overloaded(format!(
                "{} batches of log {log} wait for {}",
                self.options.append_queue,
                self.driver.place()
            ))
        };
        let _permit = writer.queue.try_acquire().map_err(|_| full())?;
        let mut end = writer.end.lock().await;
        if end.is_none() {
            *end = Some(self.open_log(log).await?);
        }
        match end.as_mut() {
            Some(end) => self.append_next(&batch, &envelope, end).await,
            None => Err(full()),
        }
    }

    async fn trim_log(&self, log: Incarnation, before: BatchNo) -> Result<(), StoreError> {
        let Some(row) = self.log_row(log).await? else { return Ok(()) };
        let lease = self.leases_node(log).await?;
        let live = lease.as_ref().is_some_and(|(state, _)| *state == NodeState::Live);
        let counted = match lease.and_then(|(_, seal)| seal) {
            Some(seal) => seal.0,
            None if live => u64::MAX,
            None => self.find_tail(log, &row).await?.last.0,
        };
        if !live && before.0 > counted {
            return self.remove_log(log, &row).await;
        }
        // The last bucket may be announced and still empty: the one before it holds the last batch
        // then, and stays.
        let keep = bucket_of(before.0.max(1), row.size).min(row.last_bucket.saturating_sub(1));
        let first = keep * row.size + 1;
        if first <= row.first && row.dropped >= bucket_of(row.first, row.size) {
            return Ok(());
        }
        self.forget_before(log, first).await?;
        self.drop_buckets(log, row.dropped, keep.max(bucket_of(row.first, row.size))).await
    }

    /// Nobody reads batches before `first` from here on.
    async fn forget_before(&self, log: Incarnation, first: u64) -> Result<(), StoreError> {
        let values = (ordered(first), self.space(), log_shard(log), id(log.0), ordered(first));
        let what = "trim a log";
        self.settled(what, &self.statements.log_trim, &values).await.map(drop)
    }

    /// Deletes the buckets from `from` up to the one before `to`, each with one tombstone.
    async fn drop_buckets(&self, log: Incarnation, from: u64, to: u64) -> Result<(), StoreError> {
        for bucket in from..to {
            let values = (self.space(), id(log.0), ordered(bucket));
            self.driver.write("delete a bucket", &self.statements.bucket_drop, &values).await?;
        }
        let values = (ordered(to), self.space(), log_shard(log), id(log.0));
        self.driver.write("trim a log", &self.statements.log_dropped, &values).await
    }

    /// Removes a log of which nothing is needed. Interrupted, it is done again by whoever trims
    /// next: the row goes last.
    async fn remove_log(&self, log: Incarnation, row: &LogRow) -> Result<(), StoreError> {
        let end = row.last_bucket + 1;
        self.forget_before(log, end * row.size + 1).await?;
        self.drop_buckets(log, row.dropped, end).await?;
        let values = (self.space(), log_shard(log), id(log.0));
        let what = "remove a log";
        self.settled(what, &self.statements.log_remove, &values).await?;
        self.writers.lock().remove(&log);
        Ok(())
    }

    async fn settle_log(&self, log: Incarnation, last: BatchNo) -> Result<(), StoreError> {
        if last.0 == 0 {
            return Ok(());
        }
        let missing = || StoreError::NotFound(format!("batch {last} of log {log}"));
        let row = self.log_row(log).await?.ok_or_else(missing)?;
        match self.stored(log, row.size, last.0).await? {
            Stored::Whole(batch) => self.write_batch(&batch, row.size).await,
            // Trimmed: it was settled by a checkpoint that covers it.
            Stored::Missing if last.0 < row.first => Ok(()),
            Stored::Missing => Err(missing()),
            Stored::Broken(problem) => Err(self.corrupt(log, last.0, &problem)),
        }
    }

    async fn leases_node(
        &self,
        node: Incarnation,
    ) -> Result<Option<(NodeState, Option<BatchNo>)>, StoreError> {
        let lease = rekindle_store::Leases::node(self, node).await?;
        Ok(lease.map(|lease| (lease.state, lease.seal)))
    }
}

impl Journal for CqlStore {
    fn begin(&self, log: Incarnation, first: BatchNo) -> StoreResult<'_, ()> {
        Box::pin(self.begin_with(log, first))
    }

    fn append(&self, batch: Batch) -> StoreResult<'_, ()> {
        Box::pin(self.append_batch(batch))
    }

    fn read(
        &self,
        log: Incarnation,
        from: BatchNo,
        max_bytes: usize,
    ) -> StoreResult<'_, Vec<Batch>> {
        Box::pin(self.read_log(log, from.0.max(1), max_bytes))
    }

    fn tail(&self, log: Incarnation) -> StoreResult<'_, Tail> {
        Box::pin(async move {
            match self.log_row(log).await? {
                Some(row) => self.find_tail(log, &row).await,
                None => Ok(Tail { last: BatchNo(0), proven: BatchNo(0), torn: None, damage: None }),
            }
        })
    }

    fn settle(&self, log: Incarnation, last: BatchNo) -> StoreResult<'_, ()> {
        Box::pin(self.settle_log(log, last))
    }

    fn trim(&self, log: Incarnation, before: BatchNo) -> StoreResult<'_, ()> {
        Box::pin(self.trim_log(log, before))
    }

    fn logs(&self) -> StoreResult<'_, Vec<LogInfo>> {
        Box::pin(async move {
            let rows = self.log_rows().await?;
            let info = |(log, row): (Incarnation, LogRow)| {
                // Bytes are written down when a bucket begins; buckets are taken to be of one size.
                let kept =
                    row.last_bucket + 1 - bucket_of(row.first, row.size).min(row.last_bucket);
                let bytes =
                    u128::from(row.bytes) * u128::from(kept) / u128::from(row.last_bucket + 1);
                LogInfo { log, first: BatchNo(row.first), bytes: bytes as u64 }
            };
            Ok(rows.into_iter().map(info).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_begin_with_batch_one() {
        let buckets: Vec<u64> = (0..=9).map(|number| bucket_of(number, 4)).collect();
        assert_eq!(buckets, [0, 0, 0, 0, 0, 1, 1, 1, 1, 2]);
    }
}
