//! The job port. What a request makes of a job is decided by [`rekindle_store::jobs`] on a row that
//! was just read; the row is replaced if its version still stands.
//!
//! Claiming takes row locks and passes over those that others hold (`SKIP LOCKED`), so nodes that
//! claim at the same time get different jobs instead of waiting for each other.

use rekindle_schema::JobId;
use rekindle_schema::job::Job;
use rekindle_store::jobs::{self, Change};
use rekindle_store::{
    Claim, Hold, JobFilter, Jobs, NewJob, Outcome, QueueCounts, StoreError, StoreResult,
};
use tokio_postgres::Row;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::convert::{bound, column, count, decoded, id};
use super::pools::{Failure, Lane};
use super::{Inner, PostgresStore};

const TABLE: &str = "job";
/// How often a row that others change at the same time is read anew before it is left to the
/// caller.
const TRIES: usize = 16;

const REPLACE: &str = "UPDATE job SET version = $3, queue = $4, kind = $5, status = $6, due_ms = \
                       $7, finished_ms = $8, held_key = $9, job = $10 \
                       WHERE id = $1 AND version = $2 RETURNING true";

fn job(row: &Row) -> Result<Job, StoreError> {
    decoded(TABLE, Job::decode(column(row, 0, TABLE)?))
}

fn not_there(id: JobId) -> StoreError {
    StoreError::NotFound(format!("job {id}"))
}

fn contended(id: JobId) -> StoreError {
    StoreError::Unavailable(format!("job {id} is changed by others all the time"))
}

impl Inner {
    async fn job(&self, job_id: JobId) -> Result<Option<Job>, StoreError> {
        let rows = self
            .pools
            .rows(
                Lane::Facts,
                "reading a job",
                "SELECT job FROM job WHERE id = $1",
                &[&id(job_id.0)],
            )
            .await?;
        rows.first().map(job).transpose()
    }

    /// Which job holds a key.
    async fn holder(&self, key: &str) -> Result<Option<JobId>, StoreError> {
        let rows = self
            .pools
            .rows(
                Lane::Facts,
                "looking up a job's key",
                "SELECT id FROM job WHERE held_key = $1",
                &[&key],
            )
            .await?;
        rows.first().map(|row| Ok(JobId(column::<i64>(row, 0, TABLE)?.cast_unsigned()))).transpose()
    }

    /// Puts `after` in the place of `before`. False if that does not stand any more, or if another
    /// job has the key of `after`.
    async fn replace(&self, before: &Job, after: &Job) -> Result<bool, StoreError> {
        const DOING: &str = "changing a job";
        let mut lent = self.pools.lend(Lane::Facts, DOING).await?;
        let (old, new) = (count("version", before.version)?, count("version", after.version)?);
        let (due, finished) = (after.due_ms().map(bound), after.finished_ms().map(bound));
        let (status, key, bytes) = (after.status().name(), after.held_key(), after.encode());
        let parameters: [&(dyn ToSql + Sync); 10] = [
            &id(after.id.0),
            &old,
            &new,
            &after.queue,
            &after.kind,
            &status,
            &due,
            &finished,
            &key,
            &bytes,
        ];
        match lent.ask(REPLACE, &parameters).await {
            Ok(rows) => Ok(!rows.is_empty()),
            Err(Failure::Failed(error)) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => {
                Ok(false)
            }
            Err(failure) => Err(failure.told(DOING)),
        }
    }

    async fn apply(
        &self,
        job_id: JobId,
        change: impl Fn(&Job) -> Change,
    ) -> Result<Hold, StoreError> {
        for _ in 0..TRIES {
            let Some(before) = self.job(job_id).await? else { return Ok(Hold::Lost) };
            match change(&before) {
                Change::To(after) if self.replace(&before, &after).await? => return Ok(Hold::Kept),
                Change::To(_) => {}
                Change::None => return Ok(Hold::Kept),
                Change::Lost => return Ok(Hold::Lost),
            }
        }
        Err(contended(job_id))
    }

    async fn enqueue(&self, job: Job) -> Result<JobId, StoreError> {
        let sql = "INSERT INTO job (id, version, queue, kind, status, due_ms, finished_ms, \
                   held_key, job) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING \
                   RETURNING true";
        let (version, due, finished) =
            (count("version", job.version)?, job.due_ms().map(bound), job.finished_ms().map(bound));
        let (status, key, bytes) = (job.status().name(), job.held_key(), job.encode());
        let parameters: [&(dyn ToSql + Sync); 9] = [
            &id(job.id.0),
            &version,
            &job.queue,
            &job.kind,
            &status,
            &due,
            &finished,
            &key,
            &bytes,
        ];
        for _ in 0..TRIES {
            if let Some(stands) = self.job(job.id).await? {
                return jobs::is_repeat(&stands, &job).map(|()| job.id);
            }
            if !self.pools.rows(Lane::Facts, "enqueueing a job", sql, &parameters).await?.is_empty()
            {
                return Ok(job.id);
            }
            if let Some(key) = key
                && let Some(holder) = self.holder(key).await?
                && holder != job.id
            {
                return Ok(holder);
            }
            // What was in the way has gone since: once more.
        }
        Err(contended(job.id))
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Job>, StoreError> {
        const DOING: &str = "claiming jobs";
        let told = |failure: Failure| failure.told(DOING);
        let (now, limit) = (bound(claim.now_ms), bound(claim.limit as u64));
        // Most who ask find nothing: they need no transaction.
        let idle = "SELECT FROM job WHERE queue = $1 AND due_ms <= $2 LIMIT 1";
        let mut lent = self.pools.lend(Lane::Facts, DOING).await?;
        if limit == 0 || lent.ask(idle, &[&claim.queue, &now]).await.map_err(told)?.is_empty() {
            return Ok(Vec::new());
        }
        lent.begin().await.map_err(told)?;
        let due = "SELECT job FROM job WHERE queue = $1 AND due_ms <= $2 ORDER BY due_ms, id LIMIT \
            $3 FOR UPDATE SKIP LOCKED";
        let rows = lent.ask(due, &[&claim.queue, &now, &limit]).await.map_err(told)?;
        let mut claimed = Vec::with_capacity(rows.len());
        let (mut ids, mut versions, mut dues, mut bytes) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for row in &rows {
            let Some(mine) = jobs::claim(&job(row)?, claim.by, claim.now_ms, claim.until_ms) else {
                continue;
            };
            ids.push(id(mine.id.0));
            versions.push(count("version", mine.version)?);
            dues.push(mine.due_ms().map(bound));
            bytes.push(mine.encode());
            claimed.push(mine);
        }
        let take = "UPDATE job SET version = mine.version, status = 'running', due_ms = \
                    mine.due_ms, job = mine.job \
                    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bytea[]) AS mine \
                    (id, version, due_ms, job) WHERE job.id = mine.id";
        lent.ask(take, &[&ids, &versions, &dues, &bytes]).await.map_err(told)?;
        lent.commit().await.map_err(told)?;
        Ok(claimed)
    }

    async fn retry(&self, job_id: JobId, now_ms: u64, attempts: u32) -> Result<Job, StoreError> {
        for _ in 0..TRIES {
            let before = self.job(job_id).await?.ok_or_else(|| not_there(job_id))?;
            let after = jobs::retry(&before, now_ms, attempts)?;
            if let Some(key) = after.held_key()
                && let Some(holder) = self.holder(key).await?
                && holder != job_id
            {
                return Err(jobs::key_taken(&after, holder));
            }
            if self.replace(&before, &after).await? {
                return Ok(after);
            }
        }
        Err(contended(job_id))
    }

    async fn cancel(&self, job_id: JobId, now_ms: u64) -> Result<Job, StoreError> {
        for _ in 0..TRIES {
            let before = self.job(job_id).await?.ok_or_else(|| not_there(job_id))?;
            let Some(after) = jobs::cancel(&before, now_ms)? else { return Ok(before) };
            if self.replace(&before, &after).await? {
                return Ok(after);
            }
        }
        Err(contended(job_id))
    }
}

impl Jobs for PostgresStore {
    fn enqueue(&self, job: NewJob) -> StoreResult<'_, JobId> {
        Box::pin(async move { self.0.enqueue(jobs::new(job)?).await })
    }

    fn claim(&self, claim: Claim) -> StoreResult<'_, Vec<Job>> {
        Box::pin(async move { self.0.claim(&claim).await })
    }

    fn extend(&self, id: JobId, attempt: u32, until_ms: u64) -> StoreResult<'_, Hold> {
        Box::pin(self.0.apply(id, move |job| jobs::extend(job, attempt, until_ms)))
    }

    fn finish(
        &self,
        id: JobId,
        attempt: u32,
        now_ms: u64,
        outcome: Outcome,
    ) -> StoreResult<'_, Hold> {
        Box::pin(self.0.apply(id, move |job| jobs::finish(job, attempt, now_ms, outcome.clone())))
    }

    fn get(&self, id: JobId) -> StoreResult<'_, Option<Job>> {
        Box::pin(self.0.job(id))
    }

    fn list(&self, filter: JobFilter) -> StoreResult<'_, Vec<Job>> {
        Box::pin(async move {
            // Ids from 2^63 on are the highest, though SQL takes them for negative.
            let sql = "SELECT job FROM job WHERE ($1::text IS NULL OR queue = $1) \
                       AND ($2::text IS NULL OR kind = $2) \
                       AND ($3::text IS NULL OR status = $3) ORDER BY (id >= 0), id DESC LIMIT $4";
            let (status, limit) = (
                filter.status.map(rekindle_schema::job::JobStatus::name),
                bound(filter.limit as u64),
            );
            let rows = self
                .0
                .pools
                .rows(
                    Lane::Facts,
                    "listing jobs",
                    sql,
                    &[&filter.queue, &filter.kind, &status, &limit],
                )
                .await?;
            rows.iter().map(job).collect()
        })
    }

    fn counts(&self) -> StoreResult<'_, Vec<QueueCounts>> {
        Box::pin(async move {
            let sql = "SELECT queue, count(*) FILTER (WHERE status = 'ready'), count(*) FILTER \
                       (WHERE status = 'running'), \
                              count(*) FILTER (WHERE status = 'done'), count(*) FILTER (WHERE \
                              status = 'dead'), \
                              count(*) FILTER (WHERE status = 'cancelled'), min(due_ms) FILTER \
                              (WHERE status = 'ready') \
                       FROM job GROUP BY queue";
            let rows = self.0.pools.rows(Lane::Facts, "counting jobs", sql, &[]).await?;
            let number =
                |row: &Row, index| column::<i64>(row, index, TABLE).map(i64::cast_unsigned);
            let read = |row: &Row| -> Result<QueueCounts, StoreError> {
                Ok(QueueCounts {
                    queue: column(row, 0, TABLE)?,
                    ready: number(row, 1)?,
                    running: number(row, 2)?,
                    done: number(row, 3)?,
                    dead: number(row, 4)?,
                    cancelled: number(row, 5)?,
                    oldest_ready_ms: column::<Option<i64>>(row, 6, TABLE)?.map(i64::cast_unsigned),
                })
            };
            let mut found = rows.iter().map(read).collect::<Result<Vec<_>, _>>()?;
            found.sort_by(|a, b| a.queue.cmp(&b.queue));
            Ok(found)
        })
    }

    fn retry(&self, id: JobId, now_ms: u64, attempts: u32) -> StoreResult<'_, Job> {
        Box::pin(self.0.retry(id, now_ms, attempts))
    }

    fn cancel(&self, id: JobId, now_ms: u64) -> StoreResult<'_, Job> {
        Box::pin(self.0.cancel(id, now_ms))
    }

    fn prune(&self, before_ms: u64, limit: usize) -> StoreResult<'_, usize> {
        Box::pin(async move {
            let sql = "DELETE FROM job WHERE id IN (SELECT id FROM job WHERE finished_ms < $1 \
                       ORDER BY finished_ms, id LIMIT $2 \
                       FOR UPDATE SKIP LOCKED) RETURNING true";
            let rows = self
                .0
                .pools
                .rows(Lane::Facts, "pruning jobs", sql, &[&bound(before_ms), &bound(limit as u64)])
                .await?;
            Ok(rows.len())
        })
    }
}
