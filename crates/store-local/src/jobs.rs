//! The job port: four tables of `node.db`.
//!
//! A job is one row of `job`. Three tables find it: `job_due` while it is open, `job_finished`
//! afterwards, `job_key` while it holds a key. They are changed with it in one transaction, by
//! [`put`] alone, so they never say anything else than it does.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use rekindle_schema::JobId;
use rekindle_schema::job::Job;
use rekindle_store::jobs::{self, Change};
use rekindle_store::{
    Claim, Hold, JobFilter, Jobs, NewJob, Outcome, QueueCounts, StoreError, StoreResult,
};

use super::LocalStore;
use super::facts::{Key, Order, Rows, Table, decoded};

/// `SQLite`'s numbers are signed; times behind the end of the world are as good as the end.
pub(super) fn time(ms: u64) -> u64 {
    ms.min(i64::MAX as u64)
}

/// Names in keys of rows: 127 bits, as two numbers that are not negative.
pub(super) fn hash(text: &str) -> [u64; 2] {
    let hash = blake3::hash(text.as_bytes());
    let half = |at: usize| {
        u64::from_le_bytes(std::array::from_fn(|index| hash.as_bytes()[at + index])) >> 1
    };
    [half(0), half(8)]
}

/// The rows of other tables that belong to a job.
fn index(job: &Job) -> impl Iterator<Item = (Table, Key)> {
    let due = job.due_ms().map(|due| (Table::JobDue, [hash(&job.queue)[0], time(due), job.id.0]));
    let finished = job.finished_ms().map(|at| (Table::JobFinished, [time(at), job.id.0, 0]));
    let key = job.held_key().map(hash).map(|[a, b]| (Table::JobKey, [a, b, 0]));
    due.into_iter().chain(finished).chain(key)
}

fn get(rows: &Rows<'_>, id: JobId) -> Result<Option<Job>, StoreError> {
    let found = rows.get(Table::Job, [id.0, 0, 0])?;
    found.map(|value| decoded(Table::Job, Job::decode(&value))).transpose()
}

fn row(rows: &Rows<'_>, id: JobId) -> Result<Job, StoreError> {
    get(rows, id)?.ok_or_else(|| StoreError::NotFound(format!("job {id}")))
}

/// A job that an index row leads to.
fn indexed(rows: &Rows<'_>, table: Table, id: JobId) -> Result<Job, StoreError> {
    get(rows, id)?.ok_or_else(|| StoreError::Corrupt {
        place: format!("node.db, table {}", table.name()),
        problem: format!("it names job {id}, which is not there"),
    })
}

/// Which job holds a key.
fn holder(rows: &Rows<'_>, key: &str) -> Result<Option<JobId>, StoreError> {
    let [a, b] = hash(key);
    let Some(value) = rows.get(Table::JobKey, [a, b, 0])? else { return Ok(None) };
    let id = <[u8; 8]>::try_from(value).map(u64::from_le_bytes).map_err(|value| {
        StoreError::Corrupt {
            place: "node.db, table job_key".to_owned(),
            problem: format!("a value has {} bytes instead of 8", value.len()),
        }
    })?;
    Ok(Some(JobId(id)))
}

/// Replaces a job's row, and what finds it.
fn put(rows: &Rows<'_>, before: Option<&Job>, after: Option<&Job>) -> Result<(), StoreError> {
    let old: BTreeSet<(Table, Key)> = before.into_iter().flat_map(index).collect();
    let new: BTreeSet<(Table, Key)> = after.into_iter().flat_map(index).collect();
    for &(table, key) in old.difference(&new) {
        rows.put(table, key, None)?;
    }
    let Some(id) = after.or(before).map(|job| job.id) else { return Ok(()) };
    for &(table, key) in new.difference(&old) {
        let value = if table == Table::JobKey { &id.0.to_le_bytes()[..] } else { &[] };
        rows.put(table, key, Some(value))?;
    }
    rows.put(Table::Job, [id.0, 0, 0], after.map(Job::encode).as_deref())
}

fn apply(
    rows: &Rows<'_>,
    id: JobId,
    change: impl FnOnce(&Job) -> Change,
) -> Result<Hold, StoreError> {
    let Some(job) = get(rows, id)? else { return Ok(Hold::Lost) };
    match change(&job) {
        Change::To(after) => put(rows, Some(&job), Some(&after)).map(|()| Hold::Kept),
        Change::None => Ok(Hold::Kept),
        Change::Lost => Ok(Hold::Lost),
    }
}

/// Compares the rows that find jobs with the jobs, for whoever checks the directory.
#[derive(Default)]
pub(super) struct Indexed {
    expected: BTreeSet<(Table, Key)>,
    found: BTreeSet<(Table, Key)>,
}

impl Indexed {
    /// A job is there.
    pub(super) fn expect(&mut self, job: &Job) {
        self.expected.extend(index(job));
    }

    /// A row of another table is there.
    pub(super) fn found(&mut self, table: Table, key: Key) {
        self.found.insert((table, key));
    }

    /// Rows that are there and should not be, or the other way round.
    pub(super) fn differences(&self) -> Vec<(Table, Key)> {
        self.expected.symmetric_difference(&self.found).copied().collect()
    }
}

impl Jobs for LocalStore {
    fn enqueue(&self, job: NewJob) -> StoreResult<'_, JobId> {
        Box::pin(async move {
            let job = jobs::new(job)?;
            self.facts
                .change(move |rows| {
                    if let Some(stands) = get(rows, job.id)? {
                        return jobs::is_repeat(&stands, &job).map(|()| job.id);
                    }
                    if let Some(key) = job.held_key()
                        && let Some(holder) = holder(rows, key)?
                    {
                        return Ok(holder);
                    }
                    put(rows, None, Some(&job)).map(|()| job.id)
                })
                .await
        })
    }

    fn claim(&self, claim: Claim) -> StoreResult<'_, Vec<Job>> {
        Box::pin(async move {
            // Most who ask find nothing: they need no transaction that writes.
            let (queue, now_ms) = (hash(&claim.queue)[0], time(claim.now_ms));
            let idle = self.facts.look(move |rows| {
                let mut idle = true;
                rows.up_to(Table::JobDue, queue, now_ms, |_, _| {
                    idle = false;
                    Ok(ControlFlow::Break(()))
                })?;
                Ok(idle)
            });
            if claim.limit == 0 || idle.await? {
                return Ok(Vec::new());
            }
            self.facts
                .change(move |rows| {
                    let mut due = Vec::new();
                    rows.up_to(Table::JobDue, queue, now_ms, |key, _| {
                        due.push(JobId(key[2]));
                        Ok(if due.len() < claim.limit {
                            ControlFlow::Continue(())
                        } else {
                            ControlFlow::Break(())
                        })
                    })?;
                    let mut claimed = Vec::with_capacity(due.len());
                    for id in due {
                        let job = indexed(rows, Table::JobDue, id)?;
                        if let Some(mine) =
                            jobs::claim(&job, claim.by, claim.now_ms, claim.until_ms)
                        {
                            put(rows, Some(&job), Some(&mine))?;
                            claimed.push(mine);
                        }
                    }
                    Ok(claimed)
                })
                .await
        })
    }

    fn extend(&self, id: JobId, attempt: u32, until_ms: u64) -> StoreResult<'_, Hold> {
        Box::pin(
            self.facts
                .change(move |rows| apply(rows, id, |job| jobs::extend(job, attempt, until_ms))),
        )
    }

    fn finish(
        &self,
        id: JobId,
        attempt: u32,
        now_ms: u64,
        outcome: Outcome,
    ) -> StoreResult<'_, Hold> {
        Box::pin(
            self.facts.change(move |rows| {
                apply(rows, id, |job| jobs::finish(job, attempt, now_ms, outcome))
            }),
        )
    }

    fn get(&self, id: JobId) -> StoreResult<'_, Option<Job>> {
        Box::pin(self.facts.look(move |rows| get(rows, id)))
    }

    fn list(&self, filter: JobFilter) -> StoreResult<'_, Vec<Job>> {
        Box::pin(self.facts.look(move |rows| {
            let mut found = Vec::new();
            if filter.limit == 0 {
                return Ok(found);
            }
            // Ids from 2^63 on are the highest, though SQLite takes them for negative.
            for range in [(1 << 63, 0), (0, i64::MAX as u64)] {
                rows.between(Table::Job, range, Order::Descending, |_, value| {
                    let job = decoded(Table::Job, Job::decode(&value))?;
                    if jobs::passes(&filter, &job) {
                        found.push(job);
                    }
                    Ok(if found.len() < filter.limit {
                        ControlFlow::Continue(())
                    } else {
                        ControlFlow::Break(())
                    })
                })?;
                if found.len() >= filter.limit {
                    break;
                }
            }
            Ok(found)
        }))
    }

    fn counts(&self) -> StoreResult<'_, Vec<QueueCounts>> {
        Box::pin(self.facts.look(|rows| {
            let found = rows.all(Table::Job)?;
            let found = found.iter().map(|(_, value)| decoded(Table::Job, Job::decode(value)));
            Ok(jobs::count(&found.collect::<Result<Vec<Job>, _>>()?))
        }))
    }

    fn retry(&self, id: JobId, now_ms: u64, attempts: u32) -> StoreResult<'_, Job> {
        Box::pin(self.facts.change(move |rows| {
            let before = row(rows, id)?;
            let job = jobs::retry(&before, now_ms, attempts)?;
            if let Some(key) = job.held_key()
                && let Some(holder) = holder(rows, key)?
                && holder != id
            {
                return Err(jobs::key_taken(&job, holder));
            }
            put(rows, Some(&before), Some(&job))?;
            Ok(job)
        }))
    }

    fn cancel(&self, id: JobId, now_ms: u64) -> StoreResult<'_, Job> {
        Box::pin(self.facts.change(move |rows| {
            let before = row(rows, id)?;
            let Some(job) = jobs::cancel(&before, now_ms)? else { return Ok(before) };
            put(rows, Some(&before), Some(&job))?;
            Ok(job)
        }))
    }

    fn prune(&self, before_ms: u64, limit: usize) -> StoreResult<'_, usize> {
        Box::pin(self.facts.change(move |rows| {
            let mut old = Vec::new();
            rows.between(Table::JobFinished, (0, time(before_ms)), Order::Ascending, |key, _| {
                old.push(JobId(key[1]));
                Ok(if old.len() < limit {
                    ControlFlow::Continue(())
                } else {
                    ControlFlow::Break(())
                })
            })?;
            old.truncate(limit);
            for id in &old {
                put(rows, Some(&indexed(rows, Table::JobFinished, *id)?), None)?;
            }
            Ok(old.len())
        }))
    }
}
