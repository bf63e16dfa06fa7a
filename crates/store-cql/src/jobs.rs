//! Jobs without a queue's tombstones.
//!
//! A *job* is one row in a partition of its own, overwritten by transactions on its version until
//! it is pruned. Two indexes point to it: its day, for lists, and the windows of ten minutes in
//! which it is to be looked at. An entry is written *before* the job gets the version that it
//! names, so a job is never without one; an entry of an earlier version than the job has is stale
//! and is removed by whoever claims next. Nobody reads in front of the first window of a queue, and
//! windows are deleted whole once they are over and hold nothing but stale entries. So what a claim
//! reads is bounded by what happened in the last windows, however many jobs were done before.
//!
//! A window is left behind ten minutes after its end at the earliest: clocks of nodes may differ by
//! less than that.
//!
//! A *key* is a row that names its holder. Before a job is entered (or made ready again) under its
//! key, the key's row gets the job's row as *pending*; whoever finds that carries it out. A key
//! whose holder does not hold it any more is free, and is overwritten.

use std::collections::BTreeMap;

use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt};
use rekindle_schema::JobId;
use rekindle_schema::job::{Job, Unique};
use rekindle_store::jobs::{self, Change};
use rekindle_store::{
    Claim, Hold, JobFilter, Jobs, NewJob, Outcome, QueueCounts, StoreError, StoreResult,
};
use scylla::errors::DeserializationError;
use scylla::response::query_result::QueryRowsResult;

use super::audit::DAY;
use super::driver::{Prepared, Values};
use super::{CqlStore, id, migrate, ordered};

/// Milliseconds of a window.
const WINDOW: u64 = 600_000;
/// How long after its end a window may be left behind.
const GRACE: u64 = 600_000;
/// How many windows are looked into at each end of those that were not left behind.
const AT_ONCE: u64 = 256;
/// Rows that are read at once.
const LOOKS: usize = 16;
/// How often a change is tried on a row that others keep changing.
const TRIES: usize = 100;

/// When a job is to be looked at.
#[derive(Debug, Clone, Copy)]
struct Due {
    window: u64,
    at: u64,
    job: JobId,
    version: u64,
}

/// Who has a key.
struct Key {
    holder: JobId,
    /// The row that the holder may not have got yet.
    pending: Option<Job>,
}

fn day_of(job: JobId) -> i64 {
    ordered((job.0 >> 22) / DAY)
}

/// A number that nobody else has chosen.
fn fresh_tag() -> i64 {
    use std::hash::{BuildHasher, RandomState};
    // Seeded from the system's random numbers, and different for each one made.
    id(RandomState::new().hash_one(0))
}

fn no_job(job: JobId) -> StoreError {
    StoreError::NotFound(format!("job {job}"))
}

impl CqlStore {
    /// A query for numbers, ascending.
    pub(super) async fn numbers_of(
        &self,
        what: &'static str,
        prepared: &Prepared,
        key: Values<'_>,
    ) -> Result<Vec<u64>, StoreError> {
        let read = |rows: &QueryRowsResult| {
            let rows =
                rows.rows::<(i64,)>().map_err(|error| self.driver.unreadable(what, &error))?;
            rows.map(|row| {
                row.map(|(number,)| number as u64)
                    .map_err(|error| self.driver.unreadable(what, &error))
            })
            .collect()
        };
        let mut numbers = self.driver.all(what, prepared, key, read).await?;
        numbers.sort_unstable();
        Ok(numbers)
    }

    async fn job_row(&self, prepared: &Prepared, job: JobId) -> Result<Option<Job>, StoreError> {
        let what = "read a job";
        let rows = self.driver.rows(what, prepared, &(self.space(), id(job.0))).await?;
        let value: Option<(&[u8],)> =
            rows.maybe_first_row().map_err(|error| self.driver.unreadable(what, &error))?;
        let decode = |(value,): (&[u8],)| {
            Job::decode(value).map_err(|error| migrate::undecodable(&self.driver, "job", &error))
        };
        value.map(decode).transpose()
    }

    /// The rows of many jobs, in the order of `ids`; those that are not there are left out.
    async fn look(&self, ids: impl IntoIterator<Item = JobId>) -> Result<Vec<Job>, StoreError> {
        let looks: Vec<BoxFuture<'_, Result<Option<Job>, StoreError>>> = ids
            .into_iter()
            .map(|job| Box::pin(self.job_row(&self.statements.job_look, job)) as _)
            .collect();
        let found: Vec<Option<Job>> =
            futures::stream::iter(looks).buffered(LOOKS).try_collect().await?;
        Ok(found.into_iter().flatten().collect())
    }

    /// Enters a row, or replaces the one of the version before. Whether this call did it.
    async fn put_job(&self, job: &Job) -> Result<bool, StoreError> {
        let (what, value, tag) = ("change a job", job.encode(), fresh_tag());
        let answer = if job.version == 1 {
            let values = (self.space(), id(job.id.0), id(job.version), tag, value.as_slice());
            self.settled(what, &self.statements.job_enter, &values).await?
        } else {
            let values = (
                id(job.version),
                tag,
                value.as_slice(),
                self.space(),
                id(job.id.0),
                id(job.version - 1),
            );
            self.settled(what, &self.statements.job_set, &values).await?
        };
        if answer.applied || !answer.doubt {
            return Ok(answer.applied);
        }
        // An attempt whose answer was lost may have done it. Not so if somebody has changed the row
        // since; then it is as if that had come first.
        let rows =
            self.driver.rows(what, &self.statements.job_tag, &(self.space(), id(job.id.0))).await?;
        let stands: Option<(Option<i64>,)> =
            rows.maybe_first_row().map_err(|error| self.driver.unreadable(what, &error))?;
        Ok(stands == Some((Some(tag),)))
    }

    /// As [`put_job`](Self::put_job), for a row that others may put in its place as well: whether
    /// it is there.
    async fn put_shared(&self, job: &Job) -> Result<bool, StoreError> {
        Ok(self.put_job(job).await?
            || self.job_row(&self.statements.job_row, job.id).await?.as_ref() == Some(job))
    }

    /// Notes when an open job is to be looked at: not before `now_ms`, nor in a window that was
    /// left behind.
    async fn note_due(
        &self,
        job: &Job,
        now_ms: u64,
        first_window: u64,
    ) -> Result<Option<Due>, StoreError> {
        let Some(due) = job.due_ms() else { return Ok(None) };
        let at = due.max(now_ms);
        let due =
            Due { window: (at / WINDOW).max(first_window), at, job: job.id, version: job.version };
        let values = (
            self.space(),
            job.queue.as_str(),
            ordered(due.window),
            ordered(at),
            id(job.id.0),
            ordered(job.version),
        );
        self.driver
            .write("note when a job is due", &self.statements.job_due_enter, &values)
            .await?;
        Ok(Some(due))
    }

    async fn forget_due(&self, queue: &str, due: Due) -> Result<(), StoreError> {
        let values = (
            self.space(),
            queue,
            ordered(due.window),
            ordered(due.at),
            id(due.job.0),
            ordered(due.version),
        );
        self.driver
            .write("forget when a job was due", &self.statements.job_due_remove, &values)
            .await
    }

    async fn first_window(&self, queue: &str) -> Result<Option<u64>, StoreError> {
        let what = "read the row of a queue";
        let rows =
            self.driver.rows(what, &self.statements.job_queue_row, &(self.space(), queue)).await?;
        let row: Option<(i64,)> =
            rows.maybe_first_row().map_err(|error| self.driver.unreadable(what, &error))?;
        Ok(row.map(|(window,)| window as u64))
    }

    async fn enter_queue(&self, queue: &str, now_ms: u64) -> Result<u64, StoreError> {
        if let Some(window) = self.first_window(queue).await? {
            return Ok(window);
        }
        let window = (now_ms / WINDOW).saturating_sub(1);
        let what = "begin a queue";
        let values = (self.space(), queue, ordered(window));
        self.settled(what, &self.statements.job_queue_enter, &values).await?;
        Ok(self.first_window(queue).await?.unwrap_or(window))
    }

    async fn key_row(&self, key: &str) -> Result<Option<Key>, StoreError> {
        let what = "read a key of jobs";
        let rows =
            self.driver.rows(what, &self.statements.job_key_row, &(self.space(), key)).await?;
        let row: Option<(i64, bool, &[u8])> =
            rows.maybe_first_row().map_err(|error| self.driver.unreadable(what, &error))?;
        let Some((holder, pending, value)) = row else { return Ok(None) };
        let decode = || {
            Job::decode(value)
                .map_err(|error| migrate::undecodable(&self.driver, "job_key", &error))
        };
        Ok(Some(Key { holder: JobId(holder as u64), pending: pending.then(decode).transpose()? }))
    }

    /// Gives a holder the row that is pending. Whether it has it, or had it.
    async fn carry_out(&self, key: &str, pending: &Job) -> Result<bool, StoreError> {
        let stands = self.put_shared(pending).await?;
        let (what, value) = ("give a job its key", pending.encode());
        let values = (self.space(), key, id(pending.id.0), value.as_slice());
        self.settled(what, &self.statements.job_key_given, &values).await?;
        Ok(stands)
    }

    /// Puts `wanted` in its place under its key. `Ok(Err(holder))` if another job holds the key;
    /// `Ok(Ok(false))` if its row has changed since it was read.
    async fn put_keyed(&self, wanted: &Job, key: &str) -> Result<Result<bool, JobId>, StoreError> {
        let (what, value) = ("take a key", wanted.encode());
        for _ in 0..TRIES {
            if let Some(stands) = self
                .job_row(&self.statements.job_row, wanted.id)
                .await?
                .filter(|row| row.version >= wanted.version)
            {
                return Ok(Ok(stands == *wanted || wanted.version == 1));
            }
            match self.key_row(key).await? {
                None => {
                    let values = (self.space(), key, id(wanted.id.0), value.as_slice());
                    self.settled(what, &self.statements.job_key_enter, &values).await?;
                }
                Some(Key { pending: Some(pending), .. }) => {
                    let stands = self.carry_out(key, &pending).await?;
                    if pending == *wanted {
                        return Ok(Ok(stands || wanted.version == 1));
                    }
                }
                Some(Key { holder, pending: None }) => {
                    let other = self.job_row(&self.statements.job_row, holder).await?;
                    if other.as_ref().is_some_and(|other| other.held_key() == Some(key)) {
                        return Ok(if holder == wanted.id { Ok(false) } else { Err(holder) });
                    }
                    let values =
                        (id(wanted.id.0), value.as_slice(), self.space(), key, id(holder.0));
                    self.settled(what, &self.statements.job_key_take, &values).await?;
                }
            }
        }
        Err(self.busy("a key of jobs"))
    }

    fn busy(&self, what: &str) -> StoreError {
        StoreError::Unavailable(format!(
            "{}: {what} was changed by others {TRIES} times in a row",
            self.driver.place()
        ))
    }

    async fn enqueue_job(&self, new: NewJob) -> Result<JobId, StoreError> {
        let created_ms = new.created_ms;
        let job = jobs::new(new)?;
        let repeat = |stands: &Job| jobs::is_repeat(stands, &job).map(|()| job.id);
        if let Some(stands) = self.job_row(&self.statements.job_row, job.id).await? {
            return repeat(&stands);
        }
        let first = self.enter_queue(&job.queue, created_ms).await?;
        self.driver
            .write(
                "begin a day of jobs",
                &self.statements.job_days_enter,
                &(self.space(), day_of(job.id)),
            )
            .await?;
        self.driver
            .write(
                "list a job",
                &self.statements.job_day_enter,
                &(self.space(), day_of(job.id), id(job.id.0)),
            )
            .await?;
        let due = self.note_due(&job, created_ms, first).await?;
        if let Some(key) = job.held_key() {
            return match self.put_keyed(&job, key).await? {
                Ok(_) => Ok(job.id),
                Err(holder) => {
                    self.driver
                        .write(
                            "unlist a job",
                            &self.statements.job_day_remove,
                            &(self.space(), day_of(job.id), id(job.id.0)),
                        )
                        .await?;
                    if let Some(due) = due {
                        self.forget_due(&job.queue, due).await?;
                    }
                    Ok(holder)
                }
            };
        }
        if self.put_job(&job).await? {
            return Ok(job.id);
        }
        repeat(
            &self.job_row(&self.statements.job_row, job.id).await?.ok_or_else(|| no_job(job.id))?,
        )
    }

    /// Replaces a job's row by what `change` makes of it, until nobody else comes in between.
    async fn change_job(
        &self,
        job: JobId,
        now_ms: u64,
        change: impl Fn(&Job) -> Result<Change, StoreError>,
    ) -> Result<Option<(Hold, Job)>, StoreError> {
        for _ in 0..TRIES {
            let Some(row) = self.job_row(&self.statements.job_row, job).await? else {
                return Ok(None);
            };
            match change(&row)? {
                Change::None => return Ok(Some((Hold::Kept, row))),
                Change::Lost => return Ok(Some((Hold::Lost, row))),
                Change::To(wanted) => {
                    self.note_due(&wanted, now_ms, 0).await?;
                    if self.put_job(&wanted).await? {
                        return Ok(Some((Hold::Kept, wanted)));
                    }
                }
            }
        }
        Err(self.busy("a job"))
    }

    async fn retry_job(&self, job: JobId, now_ms: u64, attempts: u32) -> Result<Job, StoreError> {
        for _ in 0..TRIES {
            let row =
                self.job_row(&self.statements.job_row, job).await?.ok_or_else(|| no_job(job))?;
            let wanted = jobs::retry(&row, now_ms, attempts)?;
            let first = self.enter_queue(&wanted.queue, now_ms).await?;
            let due = self.note_due(&wanted, now_ms, first).await?;
            let stands = match wanted.held_key().filter(|_| row.held_key().is_none()) {
                None => self.put_job(&wanted).await?,
                Some(key) => match self.put_keyed(&wanted, key).await? {
                    Ok(stands) => stands,
                    Err(holder) => {
                        if let Some(due) = due {
                            self.forget_due(&wanted.queue, due).await?;
                        }
                        return Err(jobs::key_taken(&wanted, holder));
                    }
                },
            };
            if stands {
                return Ok(wanted);
            }
        }
        Err(self.busy("a job"))
    }

    /// What is noted in a window up to `now_ms`.
    async fn due_in(&self, queue: &str, window: u64, now_ms: u64) -> Result<Vec<Due>, StoreError> {
        let what = "look for jobs that are due";
        let key = (self.space(), queue, ordered(window), ordered(now_ms));
        let read = |rows: &QueryRowsResult| {
            let rows = rows
                .rows::<(i64, i64, i64)>()
                .map_err(|error| self.driver.unreadable(what, &error))?;
            let due = |row: Result<(i64, i64, i64), DeserializationError>| {
                let (at, job, version) =
                    row.map_err(|error| self.driver.unreadable(what, &error))?;
                Ok(Due { window, at: at as u64, job: JobId(job as u64), version: version as u64 })
            };
            rows.map(due).collect::<Result<Vec<_>, StoreError>>()
        };
        self.driver.all(what, &self.statements.job_due_rows, &key, read).await
    }

    async fn claim_jobs(&self, claim: Claim) -> Result<Vec<Job>, StoreError> {
        let Some(first) = self.first_window(&claim.queue).await?.filter(|_| claim.limit > 0) else {
            return Ok(Vec::new());
        };
        let windows: Vec<BoxFuture<'_, Result<Vec<Due>, StoreError>>> =
            windows(first, claim.now_ms / WINDOW)
                .map(|window| Box::pin(self.due_in(&claim.queue, window, claim.now_ms)) as _)
                .collect();
        let noted: Vec<Vec<Due>> =
            futures::stream::iter(windows).buffered(LOOKS).try_collect().await?;
        let noted: Vec<Due> = noted.into_iter().flatten().collect();
        let ids: std::collections::BTreeSet<JobId> = noted.iter().map(|due| due.job).collect();
        let rows: BTreeMap<JobId, Job> =
            self.look(ids).await?.into_iter().map(|job| (job.id, job)).collect();
        let mut kept = (claim.now_ms / WINDOW).min(first.saturating_add(AT_ONCE));
        for due in &noted {
            match rows.get(&due.job) {
                Some(row) if row.version > due.version => {
                    self.forget_due(&claim.queue, *due).await?;
                }
                Some(_) => kept = kept.min(due.window),
                // Not entered yet, or pruned; in an old window the latter.
                None => {}
            }
        }
        let mut due: Vec<(Option<u64>, Job)> = rows
            .values()
            .filter_map(|row| {
                Some((row.due_ms(), jobs::claim(row, claim.by, claim.now_ms, claim.until_ms)?))
            })
            .collect();
        due.sort_by_key(|(due, job)| (*due, job.id));
        let mut claimed = Vec::new();
        for (_, job) in due {
            if claimed.len() == claim.limit {
                break;
            }
            self.note_due(&job, claim.now_ms, 0).await?;
            if self.put_job(&job).await? {
                claimed.push(job);
            }
        }
        self.leave_windows(
            &claim.queue,
            first,
            kept.min((claim.now_ms.saturating_sub(GRACE)) / WINDOW),
        )
        .await?;
        Ok(claimed)
    }

    /// Leaves the windows before `to` behind and deletes them.
    async fn leave_windows(&self, queue: &str, first: u64, to: u64) -> Result<(), StoreError> {
        if to <= first {
            return Ok(());
        }
        // Deleted before they are left behind, so that an interruption leaves none over.
        for window in first..to {
            self.driver
                .write(
                    "delete a window of jobs",
                    &self.statements.job_due_drop,
                    &(self.space(), queue, ordered(window)),
                )
                .await?;
        }
        let what = "leave windows of jobs behind";
        let values = (ordered(to), self.space(), queue, ordered(to));
        self.settled(what, &self.statements.job_queue_advance, &values).await.map(drop)
    }

    /// Days that may have jobs, ascending.
    async fn job_days(&self) -> Result<Vec<u64>, StoreError> {
        self.numbers_of("list days of jobs", &self.statements.job_days, &(self.space(),)).await
    }

    /// The jobs of a day, ascending.
    async fn jobs_of(&self, day: u64) -> Result<Vec<Job>, StoreError> {
        let ids = self
            .numbers_of("list jobs", &self.statements.job_day_rows, &(self.space(), ordered(day)))
            .await?;
        self.look(ids.into_iter().map(JobId)).await
    }

    async fn prune_jobs(&self, before_ms: u64, limit: usize) -> Result<usize, StoreError> {
        let mut gone = 0;
        for day in self.job_days().await? {
            let all = self.jobs_of(day).await?;
            let mut left = all.len();
            for job in all.iter().filter(|job| job.finished_ms().is_some_and(|at| at < before_ms)) {
                if gone == limit {
                    return Ok(gone);
                }
                let what = "prune a job";
                let values = (self.space(), id(job.id.0), id(job.version));
                let answer = self.settled(what, &self.statements.job_remove, &values).await?;
                if !answer.applied && answer.number("version").is_some() {
                    continue;
                }
                if let Some(key) = job.unique.as_ref().map(Unique::key) {
                    let values = (self.space(), key, id(job.id.0));
                    self.settled(what, &self.statements.job_key_remove, &values).await?;
                }
                self.driver
                    .write(
                        what,
                        &self.statements.job_day_remove,
                        &(self.space(), ordered(day), id(job.id.0)),
                    )
                    .await?;
                gone += 1;
                left -= 1;
            }
            // Nothing is entered any more into a day that is over its retention.
            if left == 0 && (day + 1) * DAY <= before_ms {
                self.driver
                    .write(
                        "delete a day of jobs",
                        &self.statements.job_day_drop,
                        &(self.space(), ordered(day)),
                    )
                    .await?;
                self.driver
                    .write(
                        "delete a day of jobs",
                        &self.statements.job_days_drop,
                        &(self.space(), ordered(day)),
                    )
                    .await?;
            }
        }
        Ok(gone)
    }
}

/// The windows that are looked into: those from the first on that was not left behind, and the last
/// ones up to now. After months without a node, or beside a clock that has leapt ahead, those
/// between them come one call after the other.
///
/// A clock that leapt ahead may have left windows behind that are still to come: what is entered
/// since then lies in the first of the others.
fn windows(first: u64, now: u64) -> impl Iterator<Item = u64> {
    let now = now.max(first);
    let early = first..=now.min(first.saturating_add(AT_ONCE));
    let late = now.saturating_sub(AT_ONCE).max(early.end().saturating_add(1))..=now;
    early.chain(late)
}

impl Jobs for CqlStore {
    fn enqueue(&self, job: NewJob) -> StoreResult<'_, JobId> {
        Box::pin(self.enqueue_job(job))
    }

    fn claim(&self, claim: Claim) -> StoreResult<'_, Vec<Job>> {
        Box::pin(self.claim_jobs(claim))
    }

    fn extend(&self, job: JobId, attempt: u32, until_ms: u64) -> StoreResult<'_, Hold> {
        Box::pin(async move {
            let done = self
                .change_job(job, until_ms, |row| Ok(jobs::extend(row, attempt, until_ms)))
                .await?;
            Ok(done.map_or(Hold::Lost, |(hold, _)| hold))
        })
    }

    fn finish(
        &self,
        job: JobId,
        attempt: u32,
        now_ms: u64,
        outcome: Outcome,
    ) -> StoreResult<'_, Hold> {
        Box::pin(async move {
            let done = self
                .change_job(job, now_ms, |row| {
                    Ok(jobs::finish(row, attempt, now_ms, outcome.clone()))
                })
                .await?;
            Ok(done.map_or(Hold::Lost, |(hold, _)| hold))
        })
    }

    fn get(&self, job: JobId) -> StoreResult<'_, Option<Job>> {
        Box::pin(self.job_row(&self.statements.job_row, job))
    }

    fn list(&self, filter: JobFilter) -> StoreResult<'_, Vec<Job>> {
        Box::pin(async move {
            let mut found = Vec::new();
            for day in self.job_days().await?.into_iter().rev() {
                if found.len() >= filter.limit {
                    break;
                }
                found.extend(
                    self.jobs_of(day)
                        .await?
                        .into_iter()
                        .rev()
                        .filter(|job| jobs::passes(&filter, job)),
                );
            }
            found.truncate(filter.limit);
            Ok(found)
        })
    }

    fn counts(&self) -> StoreResult<'_, Vec<QueueCounts>> {
        Box::pin(async move {
            let mut all = Vec::new();
            for day in self.job_days().await? {
                all.append(&mut self.jobs_of(day).await?);
            }
            Ok(jobs::count(&all))
        })
    }

    fn retry(&self, job: JobId, now_ms: u64, attempts: u32) -> StoreResult<'_, Job> {
        Box::pin(self.retry_job(job, now_ms, attempts))
    }

    fn cancel(&self, job: JobId, now_ms: u64) -> StoreResult<'_, Job> {
        Box::pin(async move {
            let cancel =
                |row: &Job| Ok(jobs::cancel(row, now_ms)?.map_or(Change::None, Change::To));
            self.change_job(job, now_ms, cancel)
                .await?
                .map(|(_, row)| row)
                .ok_or_else(|| no_job(job))
        })
    }

    fn prune(&self, before_ms: u64, limit: usize) -> StoreResult<'_, usize> {
        Box::pin(self.prune_jobs(before_ms, limit))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_and_the_newest_windows_are_looked_into_whatever_the_clock_says() {
        let all = |first, now| windows(first, now).collect::<Vec<u64>>();
        assert_eq!(all(7, 9), [7, 8, 9]);
        assert_eq!(all(7, 7), [7]);
        // The clock was ahead when windows were left behind.
        assert_eq!(all(5_000, 7), [5_000]);
        // Ten years of windows.
        let many = all(1_000, 1_000 + 525_600);
        assert!(many.windows(2).all(|pair| pair[0] < pair[1]), "each once");
        assert!(
            many.len() as u64 <= 2 * AT_ONCE + 2
                && many[0] == 1_000
                && many.last() == Some(&526_600),
            "{}",
            many.len()
        );
        assert!(many.contains(&(1_000 + AT_ONCE)) && !many.contains(&(1_001 + AT_ONCE)));
    }
}
