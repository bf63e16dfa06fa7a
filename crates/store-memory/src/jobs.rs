//! The job port: each request is one step under the lock, durable when it is answered.

use std::collections::BTreeMap;

use rekindle_schema::JobId;
use rekindle_schema::job::Job;
use rekindle_store::jobs::{self, Change};
use rekindle_store::{
    Claim, Hold, JobFilter, Jobs, NewJob, Outcome, QueueCounts, StoreError, StoreResult,
};

use super::{MemoryStore, Op};

type Rows = BTreeMap<JobId, Job>;

fn row(rows: &Rows, id: JobId) -> Result<&Job, StoreError> {
    rows.get(&id).ok_or_else(|| StoreError::NotFound(format!("job {id}")))
}

/// Which job holds a key.
fn holder(rows: &Rows, key: &str) -> Option<JobId> {
    rows.values().find(|job| job.held_key() == Some(key)).map(|job| job.id)
}

fn put(rows: &mut Rows, change: Change) -> Hold {
    match change {
        Change::To(job) => {
            rows.insert(job.id, job);
            Hold::Kept
        }
        Change::None => Hold::Kept,
        Change::Lost => Hold::Lost,
    }
}

impl Jobs for MemoryStore {
    fn enqueue(&self, job: NewJob) -> StoreResult<'_, JobId> {
        Box::pin(self.run(Op::Jobs, move |shared| {
            let job = jobs::new(job)?;
            if let Some(stands) = shared.jobs.get(&job.id) {
                return jobs::is_repeat(stands, &job).map(|()| job.id);
            }
            if let Some(holder) = job.held_key().and_then(|key| holder(&shared.jobs, key)) {
                return Ok(holder);
            }
            let id = job.id;
            shared.jobs.insert(id, job);
            Ok(id)
        }))
    }

    fn claim(&self, claim: Claim) -> StoreResult<'_, Vec<Job>> {
        Box::pin(self.run(Op::Jobs, move |shared| {
            let of_queue = shared.jobs.values().filter(|job| job.queue == claim.queue);
            let mut due: Vec<(Option<u64>, Job)> = of_queue
                .filter_map(|job| {
                    Some((job.due_ms(), jobs::claim(job, claim.by, claim.now_ms, claim.until_ms)?))
                })
                .collect();
            due.sort_by_key(|(due, job)| (*due, job.id));
            due.truncate(claim.limit);
            let claimed: Vec<Job> = due.into_iter().map(|(_, job)| job).collect();
            shared.jobs.extend(claimed.iter().map(|job| (job.id, job.clone())));
            Ok(claimed)
        }))
    }

    fn extend(&self, id: JobId, attempt: u32, until_ms: u64) -> StoreResult<'_, Hold> {
        Box::pin(self.run(Op::Jobs, move |shared| {
            let change = shared
                .jobs
                .get(&id)
                .map_or(Change::Lost, |job| jobs::extend(job, attempt, until_ms));
            Ok(put(&mut shared.jobs, change))
        }))
    }

    fn finish(
        &self,
        id: JobId,
        attempt: u32,
        now_ms: u64,
        outcome: Outcome,
    ) -> StoreResult<'_, Hold> {
        Box::pin(self.run(Op::Jobs, move |shared| {
            let change = shared
                .jobs
                .get(&id)
                .map_or(Change::Lost, |job| jobs::finish(job, attempt, now_ms, outcome));
            Ok(put(&mut shared.jobs, change))
        }))
    }

    fn get(&self, id: JobId) -> StoreResult<'_, Option<Job>> {
        Box::pin(self.run(Op::Jobs, move |shared| Ok(shared.jobs.get(&id).cloned())))
    }

    fn list(&self, filter: JobFilter) -> StoreResult<'_, Vec<Job>> {
        Box::pin(self.run(Op::Jobs, move |shared| {
            Ok(shared
                .jobs
                .values()
                .rev()
                .filter(|job| jobs::passes(&filter, job))
                .take(filter.limit)
                .cloned()
                .collect())
        }))
    }

    fn counts(&self) -> StoreResult<'_, Vec<QueueCounts>> {
        Box::pin(self.run(Op::Jobs, |shared| Ok(jobs::count(shared.jobs.values()))))
    }

    fn retry(&self, id: JobId, now_ms: u64, attempts: u32) -> StoreResult<'_, Job> {
        Box::pin(self.run(Op::Jobs, move |shared| {
            let job = jobs::retry(row(&shared.jobs, id)?, now_ms, attempts)?;
            if let Some(holder) = job
                .held_key()
                .and_then(|key| holder(&shared.jobs, key))
                .filter(|&holder| holder != id)
            {
                return Err(jobs::key_taken(&job, holder));
            }
            shared.jobs.insert(id, job.clone());
            Ok(job)
        }))
    }

    fn cancel(&self, id: JobId, now_ms: u64) -> StoreResult<'_, Job> {
        Box::pin(self.run(Op::Jobs, move |shared| {
            if let Some(job) = jobs::cancel(row(&shared.jobs, id)?, now_ms)? {
                shared.jobs.insert(id, job);
            }
            row(&shared.jobs, id).cloned()
        }))
    }

    fn prune(&self, before_ms: u64, limit: usize) -> StoreResult<'_, usize> {
        Box::pin(self.run(Op::Jobs, move |shared| {
            let old = shared
                .jobs
                .values()
                .filter(|job| job.finished_ms().is_some_and(|at| at < before_ms));
            let old: Vec<JobId> = old.map(|job| job.id).take(limit).collect();
            for id in &old {
                shared.jobs.remove(id);
            }
            Ok(old.len())
        }))
    }
}
