//! Logs: one row for each batch, in partitions that are made ahead and dropped whole.
//!
//! Why an acknowledged batch is in every taker's view. [`append_sql`] is one statement, so one
//! transaction, in READ COMMITTED, and does three things:
//!
//! 1. It locks the row of its owner's lease `FOR SHARE`, if that is live. The statement's snapshot
//!    may be older than a fence: a row that changed since is fetched again in its newest version,
//!    after waiting for whoever is changing it, and the condition is evaluated on *the version that
//!    is locked*. So `live` is true of the moment of the lock, not of the moment of the snapshot;
//!    that is what a plain `SELECT` or `EXISTS` does not give.
//! 2. Only then, and only if it is live, it inserts the batch.
//! 3. The lock is kept until the transaction has committed, its WAL is flushed, and it is visible.
//!
//! A fence is an `UPDATE` of the same row, and conflicts with `FOR SHARE` (it would not with
//! `FOR KEY SHARE`). Either the append has the lock first: then the fence waits until the batch is
//! committed, and whoever reads the tail after the fence, with a later snapshot, finds it. Or the
//! fence has committed first: then there is no live row and nothing is written. There is no third
//! order, and no clock in the argument.
//!
//! One row changed means: live, and inserted. It is the answer to all but a repeated batch and a
//! fenced owner, so the statement asks for nothing more, which is a tenth of its time. With none
//! changed, [`Inner::look_again`] finds out why. `ON CONFLICT DO NOTHING` waits for a first try
//! that is being committed, so it is there by then. A first try that is still waiting somewhere in
//! the network does no harm whenever it arrives: the row is there, or the lease is fenced.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rekindle_schema::batch::{Batch, BatchView, Envelope};
use rekindle_schema::lease::NodeState;
use rekindle_schema::{BatchNo, Incarnation};
use rekindle_store::backend;
use rekindle_store::{Journal, LogInfo, StoreError, StoreResult, Tail};
use tokio::sync::Semaphore;
use tokio_postgres::Row;

use super::convert::{batch_no, bound, column, corrupt, count, id};
use super::errors;
use super::guards::Guards;
use super::pools::{Failure, Lane};
use super::{Inner, PostgresStore};

const BATCHES: &str = "batch";
const SEGMENTS: &str = "segment";
/// How often an unknown `identical` is asked about before it is left to the caller to repeat.
const ASK_AGAIN: usize = 8;
/// Most batches of one answer.
const MAX_ROWS: i64 = 2_048;
/// How much of a log's end is checked when its tail is looked for, in batches and bytes: the rest
/// is checked when it is read.
const TAIL_ROWS: i64 = 64;
const TAIL_BYTES: i64 = 8 << 20;

/// A partition of a log: batches from `first` up to, without, `next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    log: Incarnation,
    first: u64,
    next: u64,
}

impl Segment {
    fn of(log: Incarnation, row: &Row) -> Result<Self, StoreError> {
        Ok(Self { log, first: batch_no(row, 0, SEGMENTS)?.0, next: batch_no(row, 1, SEGMENTS)?.0 })
    }

    /// The table's name, as `segment_name` in the schema makes it.
    fn table(&self) -> String {
        format!("batch_{}_{}", self.log, self.first)
    }

    fn holds(&self, number: BatchNo) -> bool {
        (self.first..self.next).contains(&number.0)
    }
}

/// What a writer knows of the log that it writes.
struct Position {
    /// What the first batch of the log is called, should it have none yet.
    origin: BatchNo,
    /// The last batch that is known to be there, and its checksum. That of the batch before the
    /// origin of a copy is not known.
    last: Option<(BatchNo, Option<u32>)>,
    /// The partition of the next batch, and the statement that appends to it.
    segment: Option<(Segment, String)>,
    /// A partition behind that one was asked for.
    ahead: bool,
}

impl Default for Position {
    fn default() -> Self {
        Self { origin: BatchNo(1), last: None, segment: None, ahead: false }
    }
}

impl Position {
    /// Where a log stands that holds no batch yet.
    fn empty(&self) -> (BatchNo, Option<u32>) {
        (BatchNo(self.origin.0 - 1), (self.origin.0 == 1).then_some(0))
    }
}

struct Writer {
    queue: Semaphore,
    position: tokio::sync::Mutex<Position>,
}

/// The logs that were written through this store.
#[derive(Default)]
pub(super) struct Writers(Mutex<BTreeMap<Incarnation, Arc<Writer>>>);

impl Writers {
    fn of(&self, log: Incarnation, queue: usize) -> Arc<Writer> {
        let new = || {
            Arc::new(Writer {
                queue: Semaphore::new(queue),
                position: tokio::sync::Mutex::default(),
            })
        };
        Arc::clone(self.0.lock().entry(log).or_insert_with(new))
    }

    fn forget(&self, log: Incarnation) {
        self.0.lock().remove(&log);
    }
}

/// Inserts a batch if the query `lease` finds a row. Parameters: incarnation, number, checksum of
/// the batch before, checksum, size, bytes.
fn append_sql(segment: &Segment, lease: &str) -> String {
    let table = segment.table();
    format!(
        "INSERT INTO {table} (number, prev_crc, crc, size, bytes) \
         SELECT $2::bigint, $3::bigint, $4::bigint, $5::int, $6::bytea FROM ({lease}) AS lease \
         ON CONFLICT (number) DO NOTHING"
    )
}

/// A batch as it comes out of a row, checked: its own checksums, its place, its predecessor if that
/// is known. Returns its checksum.
fn check(
    log: Incarnation,
    number: BatchNo,
    bytes: &Bytes,
    before: Option<u32>,
) -> Result<u32, String> {
    let view = BatchView::parse(bytes).map_err(|error| error.to_string())?;
    if (view.incarnation(), view.number()) != (log, number) {
        return Err(format!("its bytes say batch {} of log {}", view.number(), view.incarnation()));
    }
    if before.is_some_and(|crc| crc != view.prev_crc()) {
        return Err("it does not follow the batch before it".to_owned());
    }
    Ok(view.crc())
}

fn place(log: Incarnation, number: BatchNo) -> String {
    format!("log {log}, batch {number}")
}

impl Inner {
    async fn segments(&self, lane: Lane, log: Incarnation) -> Result<Vec<Segment>, StoreError> {
        let sql = "SELECT first, next FROM segment WHERE log = $1 ORDER BY first";
        let rows =
            self.pools.rows(lane, "listing the partitions of a log", sql, &[&id(log.0)]).await?;
        rows.iter().map(|row| Segment::of(log, row)).collect()
    }

    /// The last batch of a log and its checksum.
    async fn log_end(
        &self,
        lane: Lane,
        log: Incarnation,
    ) -> Result<Option<(BatchNo, u32)>, StoreError> {
        let sql = "SELECT last_number, last_crc FROM log_end($1)";
        let rows =
            self.pools.rows(lane, "looking for the end of a log", sql, &[&id(log.0)]).await?;
        let read =
            |row: &Row| Ok((batch_no(row, 0, BATCHES)?, column::<i64>(row, 1, BATCHES)? as u32));
        rows.first().map(read).transpose()
    }

    /// The partition of this batch, made if need be. `Fenced` if the owner is not live.
    async fn open_segment(
        &self,
        lane: Lane,
        log: Incarnation,
        number: BatchNo,
        origin: BatchNo,
    ) -> Result<Segment, StoreError> {
        let sql = "SELECT segment_first, segment_next FROM open_segment($1, $2, $3, $4)";
        let batches = bound(self.options.segment_batches.max(1));
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 4] =
            [&id(log.0), &count("batch", number.0)?, &batches, &bound(origin.0)];
        let rows = self.pools.rows(lane, "making a partition", sql, &parameters).await?;
        rows.first().map_or(Err(StoreError::Fenced(log)), |row| Segment::of(log, row))
    }

    /// Makes the partition behind `current`, so that the first batch in it does not wait. Failing
    /// is harmless: then it is made when it is needed.
    fn open_ahead(self: &Arc<Self>, current: Segment) {
        let this = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) =
                this.open_segment(Lane::Bulk, current.log, BatchNo(current.next), BatchNo(1)).await
                && !matches!(error, StoreError::Fenced(_))
            {
                tracing::warn!(code = "RK-STORE-032", log = %current.log, %error, "the next \
                    partition of the log could not be made ahead");
            }
        });
    }

    async fn begin(&self, log: Incarnation, first: BatchNo) -> Result<(), StoreError> {
        let first = first.max(BatchNo(1));
        let writer = self.writers.of(log, self.options.append_queue);
        let mut position = writer.position.lock().await;
        let emptied = self
            .pools
            .rows(Lane::Bulk, "beginning a log", "SELECT empty_log($1)", &[&id(log.0)])
            .await?;
        if !emptied.first().map_or(Ok(true), |row| column(row, 0, SEGMENTS))? {
            let found = self
                .segments(Lane::Bulk, log)
                .await?
                .first()
                .map_or(first, |oldest| BatchNo(oldest.first));
            return if found == first {
                Ok(())
            } else {
                Err(backend::begun_elsewhere(log, found, first))
            };
        }
        *position = Position { origin: first, ..Position::default() };
        Ok(())
    }

    async fn append(self: &Arc<Self>, batch: &Batch) -> Result<(), StoreError> {
        let envelope = backend::check_batch(batch)?;
        let (log, number) = (batch.incarnation, batch.number);
        let writer = self.writers.of(log, self.options.append_queue);
        let Ok(_place) = writer.queue.try_acquire() else {
            return Err(StoreError::Overloaded(format!(
                "{} batches of log {log} wait already",
                self.options.append_queue
            )));
        };
        let mut position = writer.position.lock().await;
        let follows = |position: &Position| position.last.filter(|(last, _)| last.next() == number);
        if follows(&position).is_none() && position.last.is_none_or(|(last, _)| number > last) {
            let end = self.log_end(Lane::Commit, log).await?;
            position.last = Some(end.map_or(position.empty(), |(last, crc)| (last, Some(crc))));
        }
        let Some((last, crc)) = position.last else {
            return Err(corrupt(place(log, number), "the end of the log is not known"));
        };
        if number <= last {
            return match self.look_again(batch).await? {
                Some(true) => Ok(()),
                Some(false) | None => Err(StoreError::Conflict { log, number }),
            };
        }
        if number != last.next() {
            return Err(StoreError::Gap { log, last, got: number });
        }
        if crc.is_some_and(|crc| crc != envelope.prev_crc) {
            return Err(StoreError::Conflict { log, number });
        }
        for _ in 0..ASK_AGAIN {
            let there = if self.try_append(&mut position, batch, &envelope).await? {
                Some(true)
            } else {
                self.look_again(batch).await?
            };
            match there {
                Some(true) => {
                    position.last = Some((number, Some(envelope.crc)));
                    if let Some((segment, _)) = position.segment
                        && !position.ahead
                        && number.0 - segment.first >= (segment.next - segment.first) / 2
                    {
                        position.ahead = true;
                        self.open_ahead(segment);
                    }
                    return Ok(());
                }
                Some(false) => return Err(StoreError::Conflict { log, number }),
                None => {
                    tracing::debug!(code = "RK-STORE-033", %log, %number, "a batch was not \
                        inserted and is not there; asked again");
                }
            }
        }
        Err(StoreError::Unavailable(format!(
            "whether batch {number} of log {log} is there could not be found out"
        )))
    }

    /// True: its owner is live, and the batch was inserted. False: one of the two is not so.
    async fn try_append(
        &self,
        position: &mut Position,
        batch: &Batch,
        envelope: &Envelope,
    ) -> Result<bool, StoreError> {
        let (log, number) = (batch.incarnation, batch.number);
        let doing = "appending a batch";
        if position.segment.as_ref().is_none_or(|(segment, _)| !segment.holds(number)) {
            let segment = self.open_segment(Lane::Commit, log, number, position.origin).await?;
            let sql = append_sql(&segment, Guards::live_lease(&self.options));
            (position.segment, position.ahead) = (Some((segment, sql)), false);
        }
        let Some((_, sql)) = &position.segment else {
            return Err(corrupt(place(log, number), "it has no partition"));
        };
        #[cfg(feature = "mutants")]
        if self.options.mutant == super::Mutant::AcknowledgeFirst && !self.is_live(log).await? {
            return Err(StoreError::Fenced(log));
        }
        let mut lent = self.pools.lend(Lane::Commit, doing).await?;
        let (prev_crc, crc) = (i64::from(envelope.prev_crc), i64::from(envelope.crc));
        let (size, bytes) = (batch.bytes.len() as i32, &batch.bytes[..]);
        let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
            [&id(log.0), &count("batch", number.0)?, &prev_crc, &crc, &size, &bytes];
        match lent.change(sql, &parameters).await {
            Ok(inserted) => Ok(inserted == 1),
            Err(Failure::Failed(error)) if errors::is_undefined_table(&error) => {
                position.segment = None;
                drop(lent);
                // The log was removed, which happens to those of dead incarnations only.
                if self.is_live(log).await? {
                    Err(errors::classify(&error, doing))
                } else {
                    Err(StoreError::Fenced(log))
                }
            }
            Err(failure) => Err(failure.told(doing)),
        }
    }

    /// A batch that may be there already: whether it is the same, `None` if there is none of its
    /// number. One that was trimmed was the same. `Fenced` if its owner is not live.
    async fn look_again(&self, batch: &Batch) -> Result<Option<bool>, StoreError> {
        let (log, number) = (batch.incarnation, batch.number);
        let segments = self.segments(Lane::Commit, log).await?;
        let same = match segments.iter().find(|segment| segment.holds(number)) {
            None => Some(true),
            Some(segment) => {
                let sql = format!("SELECT bytes = $2 FROM {} WHERE number = $1", segment.table());
                let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 2] =
                    [&count("batch", number.0)?, &&batch.bytes[..]];
                let rows =
                    self.pools.rows(Lane::Commit, "comparing a batch", &sql, &parameters).await?;
                rows.first().map(|row| column(row, 0, BATCHES)).transpose()?
            }
        };
        // Read after the batch was seen to be there: what a fence that came before this finds
        // includes it.
        if self.is_live(log).await? { Ok(same) } else { Err(StoreError::Fenced(log)) }
    }

    async fn is_live(&self, log: Incarnation) -> Result<bool, StoreError> {
        #[cfg(feature = "mutants")]
        if self.options.mutant == super::Mutant::NoFence {
            return Ok(true);
        }
        let sql = "SELECT state = 'live' FROM node_lease WHERE incarnation = $1 FOR SHARE";
        let rows =
            self.pools.rows(Lane::Facts, "reading a node's lease", sql, &[&id(log.0)]).await?;
        rows.first().map_or(Ok(false), |row| column(row, 0, BATCHES))
    }

    /// Whole batches of one partition from `from` on.
    async fn read_segment(
        &self,
        segment: Segment,
        from: BatchNo,
        max_bytes: usize,
    ) -> Result<Option<Vec<Batch>>, StoreError> {
        let doing = "reading a log";
        let table = segment.table();
        let sql = format!(
            "SELECT number, bytes FROM (SELECT number, bytes, sum(size) OVER (ORDER BY number) AS \
             total, row_number() OVER (ORDER BY number) AS nth \
             FROM (SELECT number, size, bytes FROM {table} WHERE number >= $1 ORDER BY number \
             LIMIT $3) near) counted \
             WHERE total <= $2 OR nth = 1 ORDER BY number"
        );
        let mut lent = self.pools.lend(Lane::Bulk, doing).await?;
        let rows = match lent
            .ask(&sql, &[&bound(from.0), &bound(max_bytes as u64), &MAX_ROWS])
            .await
        {
            Ok(rows) => rows,
            Err(Failure::Failed(error)) if errors::is_undefined_table(&error) => return Ok(None),
            Err(failure) => return Err(failure.told(doing)),
        };
        drop(lent);
        let log = segment.log;
        let (mut found, mut before) = (Vec::with_capacity(rows.len()), None);
        for (expected, row) in (from.0.max(segment.first)..).map(BatchNo).zip(&rows) {
            let number = batch_no(row, 0, &table)?;
            let bytes = Bytes::copy_from_slice(column(row, 1, &table)?);
            let checked = if number != expected {
                Err(format!("it is missing; the log goes on with batch {number}"))
            } else if Guards::checksums(&self.options) {
                check(log, number, &bytes, before).map(Some)
            } else {
                Ok(None)
            };
            match checked {
                Ok(crc) => {
                    before = crc;
                    found.push(Batch { incarnation: log, number, bytes });
                }
                Err(_) if !found.is_empty() => break,
                Err(problem) => {
                    return Err(corrupt(
                        format!("table {table}, {}", place(log, expected)),
                        problem,
                    ));
                }
            }
        }
        Ok(Some(found))
    }

    async fn read(
        &self,
        log: Incarnation,
        from: BatchNo,
        max_bytes: usize,
    ) -> Result<Vec<Batch>, StoreError> {
        let from = BatchNo(from.0.max(1));
        let mut gone = None;
        'listed: for _ in 0..ASK_AGAIN {
            let segments = self.segments(Lane::Bulk, log).await?;
            let Some(oldest) = segments.first() else { return Ok(Vec::new()) };
            if from.0 < oldest.first {
                return Err(StoreError::NotFound(format!(
                    "batch {from} of log {log}: it was trimmed up to batch {},",
                    oldest.first
                )));
            }
            let mut begin = from;
            for segment in segments.into_iter().filter(|segment| segment.next > from.0) {
                match self.read_segment(segment, begin, max_bytes).await? {
                    // A partition and its line in the list go in one transaction.
                    None if gone == Some(segment) => {
                        return Err(corrupt(
                            place(log, from.max(BatchNo(segment.first))),
                            format!("the table {} is gone", segment.table()),
                        ));
                    }
                    // It was trimmed meanwhile.
                    None => {
                        gone = Some(segment);
                        continue 'listed;
                    }
                    Some(found) if found.is_empty() => begin = BatchNo(segment.next),
                    // The first batch asked for is not there, but later ones are.
                    Some(_) if begin != from && begin.0 > from.0 => {
                        let problem = format!("it is missing; the log goes on with batch {begin}");
                        return Err(corrupt(place(log, from), problem));
                    }
                    Some(found) => return Ok(found),
                }
            }
            return Ok(Vec::new());
        }
        Err(StoreError::Unavailable(format!("log {log} is being trimmed while it is read")))
    }

    /// Looks over the end of a partition: the first thing that is wrong with it, in words.
    async fn look_over(
        &self,
        segment: Segment,
        last: BatchNo,
    ) -> Result<Option<String>, StoreError> {
        let doing = "checking the end of a log";
        let table = segment.table();
        let counted = format!("SELECT count(*), coalesce(min(number), 0) FROM {table}");
        let counted = self.pools.rows(Lane::Bulk, doing, &counted, &[]).await?;
        let mut damage = String::new();
        if let Some(row) = counted.first() {
            let (there, first) =
                (column::<i64>(row, 0, &table)?.cast_unsigned(), batch_no(row, 1, &table)?);
            let missing = (last.0 + 1 - segment.first).saturating_sub(there);
            if missing > 0 || first.0 != segment.first {
                let _ = write!(
                    damage,
                    "table {table}: {missing} of the batches before {last} are missing"
                );
            }
        }
        let sql = format!(
            "SELECT number, bytes FROM (SELECT number, bytes, sum(size) OVER (ORDER BY number \
             DESC) AS total FROM \
             (SELECT number, size, bytes FROM {table} ORDER BY number DESC LIMIT $1) near) counted \
             WHERE total <= $2 OR number = $3 ORDER BY number"
        );
        let rows = self
            .pools
            .rows(Lane::Bulk, doing, &sql, &[&TAIL_ROWS, &TAIL_BYTES, &bound(last.0)])
            .await?;
        let mut before: Option<(BatchNo, u32)> = None;
        for row in rows.iter().filter(|_| Guards::checksums(&self.options)) {
            let number = batch_no(row, 0, &table)?;
            let crc = before.filter(|(earlier, _)| earlier.next() == number).map(|(_, crc)| crc);
            match check(segment.log, number, &Bytes::copy_from_slice(column(row, 1, &table)?), crc)
            {
                Ok(crc) => before = Some((number, crc)),
                Err(problem) => {
                    before = None;
                    if damage.is_empty() {
                        let _ = write!(
                            damage,
                            "table {table}, {}: {problem}",
                            place(segment.log, number)
                        );
                    }
                }
            }
        }
        Ok(Some(damage).filter(|damage| !damage.is_empty()))
    }

    /// A row is there as a whole or not at all, so nothing is ever torn, and a bad row is damage
    /// also if it is the last one: it was acknowledged.
    async fn tail(&self, log: Incarnation) -> Result<Tail, StoreError> {
        let segments = self.segments(Lane::Bulk, log).await?;
        let Some(oldest) = segments.first() else {
            return Ok(Tail { last: BatchNo(0), proven: BatchNo(0), torn: None, damage: None });
        };
        let Some((last, _)) = self.log_end(Lane::Bulk, log).await? else {
            let last = BatchNo(oldest.first - 1);
            return Ok(Tail { last, proven: last, torn: None, damage: None });
        };
        let damage = match segments.into_iter().find(|segment| segment.holds(last)) {
            Some(segment) => self.look_over(segment, last).await?,
            // Made after the list was read, by an owner that is live.
            None => None,
        };
        Ok(Tail { last, proven: last, torn: None, damage })
    }

    /// What a reader sees here is durable already: a transaction becomes visible after its WAL is
    /// flushed, on the standbys too that `synchronous_standby_names` asks for. There is one
    /// exception: a primary that crashes while it waits for such a standby shows the transaction
    /// after its restart. Writing the row again, in a transaction that waits for its own flush,
    /// covers it: the log of the earlier one comes before.
    async fn settle(&self, log: Incarnation, last: BatchNo) -> Result<(), StoreError> {
        let segments = self.segments(Lane::Facts, log).await?;
        if last.0 == 0 || segments.first().is_some_and(|oldest| oldest.first == last.0 + 1) {
            return Ok(());
        }
        let missing = || StoreError::NotFound(format!("batch {last} of log {log}"));
        let segment =
            segments.into_iter().find(|segment| segment.holds(last)).ok_or_else(missing)?;
        let sql =
            format!("UPDATE {} SET size = size WHERE number = $1 RETURNING true", segment.table());
        let rows = self
            .pools
            .rows(Lane::Facts, "settling a log", &sql, &[&count("batch", last.0)?])
            .await?;
        if rows.is_empty() { Err(missing()) } else { Ok(()) }
    }

    async fn trim(&self, log: Incarnation, before: BatchNo) -> Result<(), StoreError> {
        let lease = self.node_row(log).await?;
        let live = lease.as_ref().is_some_and(|lease| lease.state == NodeState::Live);
        if !live {
            let end = self.log_end(Lane::Bulk, log).await?.map_or(BatchNo(0), |(last, _)| last);
            let counted = lease.and_then(|lease| lease.seal).map_or(end, |seal| seal.min(end));
            if before > counted {
                self.pools
                    .rows(Lane::Bulk, "removing a log", "SELECT drop_log($1)", &[&id(log.0)])
                    .await?;
                self.writers.forget(log);
                return Ok(());
            }
        }
        self.pools
            .rows(
                Lane::Bulk,
                "trimming a log",
                "SELECT trim_log($1, $2)",
                &[&id(log.0), &bound(before.0)],
            )
            .await?;
        Ok(())
    }

    async fn logs(&self) -> Result<Vec<LogInfo>, StoreError> {
        let sql = "SELECT log, min(first), \
                   coalesce(sum(pg_total_relation_size(to_regclass(segment_name(log, first)))), \
                   0)::bigint \
                   FROM segment GROUP BY log";
        let rows = self.pools.rows(Lane::Bulk, "listing logs", sql, &[]).await?;
        let read = |row: &Row| {
            let log = Incarnation(column::<i64>(row, 0, SEGMENTS)?.cast_unsigned());
            let bytes = column::<i64>(row, 2, SEGMENTS)?.cast_unsigned();
            Ok(LogInfo { log, first: batch_no(row, 1, SEGMENTS)?, bytes })
        };
        let mut found = rows.iter().map(read).collect::<Result<Vec<_>, StoreError>>()?;
        found.sort_by_key(|info| info.log);
        Ok(found)
    }
}

impl Journal for PostgresStore {
    fn begin(&self, log: Incarnation, first: BatchNo) -> StoreResult<'_, ()> {
        Box::pin(self.0.begin(log, first))
    }

    fn append(&self, batch: Batch) -> StoreResult<'_, ()> {
        Box::pin(async move { self.0.append(&batch).await })
    }

    fn read(
        &self,
        log: Incarnation,
        from: BatchNo,
        max_bytes: usize,
    ) -> StoreResult<'_, Vec<Batch>> {
        Box::pin(self.0.read(log, from, max_bytes))
    }

    fn tail(&self, log: Incarnation) -> StoreResult<'_, Tail> {
        Box::pin(self.0.tail(log))
    }

    fn settle(&self, log: Incarnation, last: BatchNo) -> StoreResult<'_, ()> {
        Box::pin(self.0.settle(log, last))
    }

    fn trim(&self, log: Incarnation, before: BatchNo) -> StoreResult<'_, ()> {
        Box::pin(self.0.trim(log, before))
    }

    fn logs(&self) -> StoreResult<'_, Vec<LogInfo>> {
        Box::pin(self.0.logs())
    }
}
