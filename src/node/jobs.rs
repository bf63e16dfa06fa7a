//! Jobs, as operators see them: what the admin listener asks of a node about them.

use bytes::Bytes;
use rekindle_jobs::{CronEntry, JobsConfig, JobsHandle, JobsParts, Kind};
use rekindle_schema::JobId;
use rekindle_schema::job::{Job, Unique};
use rekindle_store::{JobFilter, NewJob, StoreError};

use super::calendar::Calendar;
use super::chores::{self, Tools};
use super::error::{ControlError, NodeError};
use super::operator;
use super::serving::{Parts, Serving};
use crate::clock;

/// How often an operator's retry tries a job.
pub const RETRY_ATTEMPTS: u32 = 3;

/// Starts working on jobs: the node's chores, and the kinds that its executable brings along.
pub async fn start(parts: &Parts, more: Vec<Kind>) -> Result<JobsHandle, NodeError> {
    let Parts { config, host, store, incarnation, .. } = parts;
    let tools = Tools {
        store: store.clone(),
        host: host.clone(),
        incarnation: *incarnation,
        calendar: Calendar::new(),
        operators: operator::Operators::new(store.clone(), *incarnation),
    };
    let mut kinds = chores::kinds(config, &tools);
    kinds.extend(more);
    let cron = config.jobs.cron.iter().map(|(kind, schedule)| CronEntry {
        name: kind.clone(),
        schedule: schedule.clone(),
        kind: kind.clone(),
        payload: Vec::new().into(),
    });
    let cron: Vec<CronEntry> = cron.collect();
    let jobs = JobsConfig {
        lease: config.jobs.lease,
        queues: chores::queues(config, *incarnation),
        cron,
        ..JobsConfig::default()
    };
    let parts = JobsParts {
        store: store.clone(),
        incarnation: *incarnation,
        clock: clock::wall(),
        seed: clock::random(),
        kinds,
        config: jobs,
    };
    Ok(rekindle_jobs::start(parts).await?)
}

impl Serving {
    /// Jobs of the store, newest first.
    pub async fn jobs(&self, filter: JobFilter) -> Result<Vec<Job>, ControlError> {
        Ok(self.parts().store.jobs.list(filter).await?)
    }

    /// One job.
    pub async fn job(&self, id: JobId) -> Result<Job, ControlError> {
        let job = self.parts().store.jobs.get(id).await?;
        job.ok_or_else(|| ControlError::NoJob(id.to_string()))
    }

    /// Enqueues a job, unless an operator's job of this kind is open: then that one is returned.
    pub async fn run_job(&self, name: String, payload: Bytes) -> Result<Job, ControlError> {
        let jobs = self.working().ok_or(ControlError::NotReady)?;
        let kind = jobs.kind(&name).ok_or_else(|| {
            let mut known = jobs.kinds();
            known.sort_unstable();
            ControlError::Invalid(format!(
                "no job of kind `{name}` here; this node knows: {}",
                known.join(", ")
            ))
        })?;
        let now_ms = clock::now_ms();
        let job = NewJob {
            id: JobId::at(now_ms, clock::random()),
            queue: kind.queue.clone(),
            kind: name,
            payload,
            unique: Some(Unique::WhileOpen(format!("run:{}:{}", kind.queue, kind.name))),
            run_at_ms: now_ms,
            max_attempts: kind.attempts,
            created_ms: now_ms,
        };
        let id = self.parts().store.jobs.enqueue(job).await.map_err(refused)?;
        jobs.nudge();
        self.job(id).await
    }

    /// Makes a dead, cancelled or waiting job ready now.
    pub async fn retry_job(&self, id: JobId) -> Result<Job, ControlError> {
        let job = self
            .parts()
            .store
            .jobs
            .retry(id, clock::now_ms(), RETRY_ATTEMPTS)
            .await
            .map_err(refused)?;
        if let Some(jobs) = self.working() {
            jobs.nudge();
        }
        Ok(job)
    }

    /// Calls a job off.
    pub async fn cancel_job(&self, id: JobId) -> Result<Job, ControlError> {
        self.parts().store.jobs.cancel(id, clock::now_ms()).await.map_err(refused)
    }
}

/// What the store says about a wish of an operator, as the operator is to hear it.
fn refused(error: StoreError) -> ControlError {
    match error {
        StoreError::NotFound(_) => ControlError::NoJob(error.to_string()),
        StoreError::Refused { .. } | StoreError::TooLarge { .. } => {
            ControlError::Refused(error.to_string())
        }
        other => other.into(),
    }
}
