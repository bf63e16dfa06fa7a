//! Reading logs: batches put together from their parts, each checked, and the end of a log.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use rekindle_schema::batch::{BATCH_MAGIC, Batch, Envelope};
use rekindle_schema::{BatchNo, Incarnation};
use rekindle_store::{StoreError, Tail};
use scylla::errors::DeserializationError;
use scylla::response::PagingState;
use scylla::response::query_result::QueryRowsResult;

use super::guards::Guards;
use super::journal::{bucket_of, log_shard};
use super::{CqlStore, LISTS, NODE_SHARDS, PART, id, ordered};

/// Rows of the first page, before it is known how large they are.
const FIRST_PAGE: i32 = 16;
/// The most rows of a page.
const MAX_PAGE: usize = 1_000;

/// The row of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogRow {
    /// The first batch that is kept.
    pub(super) first: u64,
    /// Batches in a bucket.
    pub(super) size: u64,
    /// No batch lies in a later bucket.
    pub(super) last_bucket: u64,
    /// Bytes that were written when the last bucket began.
    pub(super) bytes: u64,
    /// Earlier buckets are deleted, or never were.
    pub(super) dropped: u64,
}

type LogColumns = (Option<i64>, Option<i32>, Option<i64>, Option<i64>, Option<i64>, Option<i64>);

impl LogRow {
    /// `None` for a row without a beginning: a writer that was fenced long ago announced a bucket
    /// after its log was removed.
    fn of((first, size, origin, last_bucket, bytes, dropped): LogColumns) -> Option<Self> {
        let number = |number: Option<i64>| number.map_or(0, |number| number as u64);
        let (first, size) = (number(Some(first?)).max(1), u64::try_from(size?).ok()?.max(1));
        let last_bucket = number(last_bucket).max(bucket_of(first, size));
        let dropped = number(dropped).max(bucket_of(number(origin), size));
        Some(Self { first, size, last_bucket, bytes: number(bytes), dropped })
    }
}

/// What is there under one number.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stored {
    /// Nothing.
    Missing,
    /// Something that is no whole batch: why.
    Broken(String),
    /// A batch.
    Whole(Batch),
}

/// The parts of one batch, as far as they were read.
#[derive(Debug, Default)]
struct Parts {
    bytes: Vec<u8>,
    found: i32,
    of: i32,
    problem: Option<String>,
}

impl Parts {
    fn push(&mut self, part: i32, of: i32, bytes: Option<&[u8]>) {
        let fits = bytes.is_some_and(|bytes| bytes.len() <= PART);
        if part != self.found || self.found > 0 && of != self.of || !fits {
            self.problem.get_or_insert_with(|| {
                format!("part {part} of {of} does not follow {} of {}", self.found, self.of)
            });
        }
        self.bytes.extend_from_slice(bytes.unwrap_or_default());
        self.found += 1;
        self.of = of;
    }

    fn finish(self, log: Incarnation, number: u64, guards: Guards) -> Stored {
        if self.found == 0 {
            return Stored::Missing;
        }
        if let Some(problem) = self.problem {
            return Stored::Broken(problem);
        }
        if self.found != self.of {
            return Stored::Broken(format!("{} of {} parts", self.found, self.of));
        }
        let whole = Envelope::parse(&self.bytes, BATCH_MAGIC, "batch").and_then(|envelope| {
            if Guards::checksums(guards) {
                envelope.check(&self.bytes, "batch")?;
            }
            Ok(envelope)
        });
        match whole {
            Ok(envelope) if (envelope.log, envelope.number.0) == (log, number) => {
                Stored::Whole(Batch {
                    incarnation: log,
                    number: BatchNo(number),
                    bytes: Bytes::from(self.bytes),
                })
            }
            Ok(envelope) => Stored::Broken(format!(
                "its bytes say batch {} of log {}",
                envelope.number, envelope.log
            )),
            Err(error) => Stored::Broken(error.to_string()),
        }
    }
}

impl CqlStore {
    pub(super) fn corrupt(&self, log: Incarnation, number: u64, problem: &str) -> StoreError {
        StoreError::Corrupt {
            place: format!("{}, table log_batch, log {log}, batch {number}", self.driver.place()),
            problem: problem.to_owned(),
        }
    }

    /// The row of one log.
    pub(super) async fn log_row(&self, log: Incarnation) -> Result<Option<LogRow>, StoreError> {
        let what = "read the row of a log";
        let rows = self
            .driver
            .rows(what, &self.statements.log_row, &(self.space(), log_shard(log), id(log.0)))
            .await?;
        let row: Option<LogColumns> =
            rows.maybe_first_row().map_err(|error| self.driver.unreadable(what, &error))?;
        Ok(row.and_then(LogRow::of))
    }

    /// The rows of all logs, ascending: few partitions.
    pub(super) async fn log_rows(&self) -> Result<Vec<(Incarnation, LogRow)>, StoreError> {
        type Columns =
            (i64, Option<i64>, Option<i32>, Option<i64>, Option<i64>, Option<i64>, Option<i64>);
        let what = "list logs";
        let read = |rows: &QueryRowsResult| {
            let unreadable = |error: &dyn std::fmt::Display| self.driver.unreadable(what, error);
            let rows = rows.rows::<Columns>().map_err(|error| unreadable(&error))?;
            let row = |row: Result<Columns, DeserializationError>| {
                let (log, first, size, origin, last, bytes, dropped) =
                    row.map_err(|error| unreadable(&error))?;
                Ok((
                    Incarnation(log as u64),
                    LogRow::of((first, size, origin, last, bytes, dropped)),
                ))
            };
            rows.map(row).collect::<Result<Vec<_>, StoreError>>()
        };
        let lists: Vec<futures::future::BoxFuture<'_, _>> = (0..NODE_SHARDS as i32)
            .map(|shard| {
                let key = (self.space(), shard);
                Box::pin(async move {
                    self.driver.all(what, &self.statements.log_rows, &key, read).await
                }) as _
            })
            .collect();
        let all: Vec<(Incarnation, Option<LogRow>)> =
            futures::stream::iter(lists).buffer_unordered(LISTS).try_concat().await?;
        let mut found: Vec<_> =
            all.into_iter().filter_map(|(log, row)| Some((log, row?))).collect();
        found.sort_by_key(|(log, _)| *log);
        Ok(found)
    }

    /// What is there under one number.
    pub(super) async fn stored(
        &self,
        log: Incarnation,
        size: u64,
        number: u64,
    ) -> Result<Stored, StoreError> {
        let key = (self.space(), id(log.0), ordered(bucket_of(number, size)), ordered(number));
        let what = "read a batch";
        let rows = self.driver.rows(what, &self.statements.batch_read, &key).await?;
        let mut parts = Parts::default();
        for row in rows
            .rows::<(i32, Option<i32>, Option<&[u8]>)>()
            .map_err(|error| self.driver.unreadable(what, &error))?
        {
            let (part, of, bytes) = row.map_err(|error| self.driver.unreadable(what, &error))?;
            parts.push(part, of.unwrap_or_default(), bytes);
        }
        Ok(parts.finish(log, number, Guards::of(&self.options)))
    }

    /// Whole batches from `from` on, as [`Journal::read`](rekindle_store::Journal::read) says.
    pub(super) async fn read_log(
        &self,
        log: Incarnation,
        from: u64,
        max_bytes: usize,
    ) -> Result<Vec<Batch>, StoreError> {
        let Some(row) = self.log_row(log).await? else { return Ok(Vec::new()) };
        if from < row.first {
            return Err(StoreError::NotFound(format!(
                "batch {from} of log {log}: it was trimmed up to batch {},",
                row.first
            )));
        }
        let mut reading = Reading {
            log,
            next: from,
            max_bytes,
            bytes: 0,
            found: Vec::new(),
            guards: Guards::of(&self.options),
        };
        for bucket in bucket_of(from, row.size)..=row.last_bucket {
            match self.read_bucket(&mut reading, bucket).await? {
                Bucket::Enough => return Ok(reading.found),
                Bucket::End if bucket == row.last_bucket => return Ok(reading.found),
                // Buckets are full before the next one is begun.
                Bucket::End if reading.next == (bucket + 1) * row.size + 1 => {}
                Bucket::End | Bucket::Hole => break,
            }
        }
        if !reading.found.is_empty() || bucket_of(from, row.size) > row.last_bucket {
            return Ok(reading.found);
        }
        self.look_again(log, &row, reading.next).await
    }

    /// Batch `number` was not there as a whole, but something behind it may be. If the log was
    /// growing meanwhile, it is there now: whatever is behind it was sent after it was answered.
    async fn look_again(
        &self,
        log: Incarnation,
        row: &LogRow,
        number: u64,
    ) -> Result<Vec<Batch>, StoreError> {
        let problem = match self.stored(log, row.size, number).await? {
            Stored::Whole(batch) => return Ok(vec![batch]),
            Stored::Missing => "it is missing".to_owned(),
            Stored::Broken(problem) => problem,
        };
        let Some(row) = self.log_row(log).await? else {
            return Err(StoreError::NotFound(format!(
                "log {log}: it was removed; batch {number} of it"
            )));
        };
        if number < row.first {
            return Err(StoreError::NotFound(format!(
                "batch {number} of log {log}: it was trimmed up to batch {},",
                row.first
            )));
        }
        let tail = self.find_tail(log, &row).await?;
        if tail.last.0 > number { Err(self.corrupt(log, number, &problem)) } else { Ok(Vec::new()) }
    }

    async fn read_bucket(&self, reading: &mut Reading, bucket: u64) -> Result<Bucket, StoreError> {
        let what = "read batches";
        let key = (self.space(), id(reading.log.0), ordered(bucket), ordered(reading.next));
        let (mut page, mut state) = (FIRST_PAGE, PagingState::start());
        let mut open: Option<(u64, Parts)> = None;
        loop {
            let (rows, next) =
                self.driver.page(what, &self.statements.parts_from, &key, page, state).await?;
            let typed = rows
                .rows::<(i64, i32, Option<i32>, Option<&[u8]>)>()
                .map_err(|error| self.driver.unreadable(what, &error))?;
            for row in typed {
                let (number, part, of, bytes) =
                    row.map_err(|error| self.driver.unreadable(what, &error))?;
                let number = number as u64;
                if open.as_ref().is_some_and(|(open, _)| *open != number)
                    && let Some(over) = reading.close(open.take())
                {
                    return Ok(over);
                }
                let (_, parts) = open.get_or_insert_with(|| (number, Parts::default()));
                parts.push(part, of.unwrap_or_default(), bytes);
                if reading.is_full_with(parts.bytes.len()) {
                    return Ok(Bucket::Enough);
                }
            }
            match next.into_paging_control_flow() {
                ControlFlow::Continue(next) => state = next,
                ControlFlow::Break(()) => break,
            }
            let each = rows.rows_bytes_size() / rows.rows_num().max(1);
            let wanted = reading.max_bytes.saturating_sub(reading.bytes) / each.max(1);
            page = wanted.clamp(1, MAX_PAGE.min((4 * PART) / each.max(1)).max(4)) as i32;
        }
        Ok(reading.close(open).unwrap_or(Bucket::End))
    }

    /// Where a log ends. Only its last buckets are looked at: whoever reads the log finds what is
    /// wrong before them.
    pub(super) async fn find_tail(
        &self,
        log: Incarnation,
        row: &LogRow,
    ) -> Result<Tail, StoreError> {
        let mut torn: Option<String> = None;
        for bucket in (bucket_of(row.first, row.size)..=row.last_bucket).rev() {
            let numbers = self.numbers(log, bucket).await?;
            for &number in numbers.keys().rev().filter(|&&number| number >= row.first) {
                match self.stored(log, row.size, number).await? {
                    Stored::Whole(batch) => {
                        let damage = hole((bucket * row.size + 1).max(row.first), number, &numbers);
                        let damage = damage.map(|(number, problem)| {
                            format!("log {log}, batch {number}: {problem}")
                        });
                        return Ok(Tail { last: batch.number, proven: batch.number, torn, damage });
                    }
                    Stored::Broken(problem) => {
                        torn.get_or_insert_with(|| format!("log {log}, batch {number}: {problem}"));
                    }
                    Stored::Missing => {}
                }
            }
        }
        let last = BatchNo(row.first - 1);
        Ok(Tail { last, proven: last, torn, damage: None })
    }

    /// The numbers in a bucket, with how many parts of each are there and should be.
    async fn numbers(
        &self,
        log: Incarnation,
        bucket: u64,
    ) -> Result<BTreeMap<u64, (i32, i32)>, StoreError> {
        let what = "list batches";
        let key = (self.space(), id(log.0), ordered(bucket));
        let read = |rows: &QueryRowsResult| {
            let unreadable = |error: &dyn std::fmt::Display| self.driver.unreadable(what, error);
            let rows =
                rows.rows::<(i64, i32, Option<i32>)>().map_err(|error| unreadable(&error))?;
            rows.map(|row| row.map_err(|error| unreadable(&error)))
                .collect::<Result<Vec<_>, StoreError>>()
        };
        let mut numbers = BTreeMap::new();
        for (number, _, of) in
            self.driver.all(what, &self.statements.parts_list, &key, read).await?
        {
            let (found, should) = numbers.entry(number as u64).or_insert((0, 0));
            *found += 1;
            *should = of.unwrap_or_default();
        }
        Ok(numbers)
    }
}

/// The first number from `first` to before `last` that is not there with all its parts.
fn hole(first: u64, last: u64, numbers: &BTreeMap<u64, (i32, i32)>) -> Option<(u64, String)> {
    (first..last).find_map(|number| match numbers.get(&number) {
        None => Some((number, "it is missing".to_owned())),
        Some((found, of)) if found != of => Some((number, format!("{found} of {of} parts"))),
        Some(_) => None,
    })
}

/// How the reading of a bucket ended.
enum Bucket {
    /// As much was read as was asked for.
    Enough,
    /// The bucket holds no more.
    End,
    /// Something that should be there is not.
    Hole,
}

struct Reading {
    log: Incarnation,
    next: u64,
    max_bytes: usize,
    bytes: usize,
    found: Vec<Batch>,
    guards: Guards,
}

impl Reading {
    fn is_full_with(&self, more: usize) -> bool {
        !self.found.is_empty() && self.bytes + more > self.max_bytes
    }

    /// All parts of a batch were read. Returns how the reading ends, if it does.
    fn close(&mut self, open: Option<(u64, Parts)>) -> Option<Bucket> {
        let (number, parts) = open?;
        if number != self.next {
            return Some(Bucket::Hole);
        }
        match parts.finish(self.log, number, self.guards) {
            Stored::Whole(batch) => {
                self.bytes += batch.bytes.len();
                self.next += 1;
                self.found.push(batch);
                (self.bytes >= self.max_bytes).then_some(Bucket::Enough)
            }
            _ => Some(Bucket::Hole),
        }
    }
}

#[cfg(all(test, feature = "mutants"))]
mod tests {
    use super::super::guards::Mutant;
    use super::*;
    use rekindle_schema::MatchId;
    use rekindle_store_conformance::Scribe;

    const LOG: Incarnation = Incarnation(7);

    fn stored(parts: &[(i32, i32, &[u8])], mutant: Mutant) -> Stored {
        let mut all = Parts::default();
        for &(part, of, bytes) in parts {
            all.push(part, of, Some(bytes));
        }
        all.finish(LOG, 1, Guards { mutant })
    }

    #[test]
    fn a_batch_counts_when_all_its_parts_are_there_and_right() {
        let batch = Scribe::new(LOG).small(&[MatchId(1)]);
        let (front, back) = batch.bytes.split_at(50);
        assert_eq!(
            stored(&[(0, 2, front), (1, 2, back)], Mutant::None),
            Stored::Whole(batch.clone())
        );
        assert_eq!(stored(&[], Mutant::None), Stored::Missing);
        let broken: [&[(i32, i32, &[u8])]; 5] = [
            &[(0, 2, front)],
            &[(1, 2, back)],
            &[(0, 2, front), (1, 3, back)],
            &[(0, 1, front)],
            &[(0, 2, back), (1, 2, front)],
        ];
        for parts in broken {
            assert!(matches!(stored(parts, Mutant::None), Stored::Broken(_)), "{parts:?}");
        }
        let mut flipped = batch.bytes.to_vec();
        flipped[100] ^= 1;
        assert!(matches!(stored(&[(0, 1, &flipped)], Mutant::None), Stored::Broken(_)));
        assert!(
            matches!(stored(&[(0, 1, &flipped)], Mutant::NoChecksums), Stored::Whole(_)),
            "the mutant does not check"
        );
        let other = Scribe::new(Incarnation(8)).small(&[MatchId(1)]);
        assert!(matches!(stored(&[(0, 1, &other.bytes)], Mutant::None), Stored::Broken(_)));
    }

    #[test]
    fn a_row_without_a_beginning_is_no_log() {
        assert_eq!(LogRow::of((None, None, None, Some(4), Some(9), None)), None);
        let row = LogRow::of((Some(1), Some(256), Some(1), None, None, None)).unwrap();
        assert_eq!(row, LogRow { first: 1, size: 256, last_bucket: 0, bytes: 0, dropped: 0 });
        let copied = LogRow::of((Some(300), Some(100), Some(300), None, None, None)).unwrap();
        assert_eq!((copied.last_bucket, copied.dropped), (2, 2));
    }
}
