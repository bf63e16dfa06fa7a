//! Jobs, as operators see them: what the admin listener asks of a node about them.

use rekindle_actors::jobs::{self, CronEntry, JobsConfig, JobsHandle, JobsParts, Kind};
use rekindle_schema::JobId;
use rekindle_schema::job::{Job, JobState, Unique};
use rekindle_store::{JobFilter, NewJob, StoreError};

use super::calendar::Calendar;
use super::chores::{self, Tools};
use super::operator;
use super::serving::{ControlError, Parts, Serving};
use crate::admin::api::{JobView, RunJob};
use crate::clock;
use crate::exit::Failure;
use crate::hex;

/// How often an operator's retry tries a job.
pub const RETRY_ATTEMPTS: u32 = 3;

/// Starts working on jobs: the node's chores, and the kinds that its executable brings along.
pub async fn start(parts: &Parts, more: Vec<Kind>) -> Result<JobsHandle, Failure> {
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
    Ok(jobs::start(parts).await?)
}

impl Serving {
    /// Jobs of the store, newest first.
    pub async fn jobs(&self, filter: JobFilter) -> Result<Vec<JobView>, ControlError> {
        Ok(self.parts().store.jobs.list(filter).await?.iter().map(view).collect())
    }

    /// One job.
    pub async fn job(&self, id: JobId) -> Result<JobView, ControlError> {
        let job = self.parts().store.jobs.get(id).await?;
        job.as_ref().map(view).ok_or_else(|| ControlError::NoJob(id.to_string()))
    }

    /// Enqueues a job, unless an operator's job of this kind is open: then that one is returned.
    pub async fn run_job(&self, wanted: RunJob) -> Result<JobView, ControlError> {
        let jobs = self.working().ok_or(ControlError::NotReady)?;
        let kind = jobs.kind(&wanted.kind).ok_or_else(|| {
            let mut known = jobs.kinds();
            known.sort_unstable();
            ControlError::Invalid(format!(
                "no job of kind `{}` here; this node knows: {}",
                wanted.kind,
                known.join(", ")
            ))
        })?;
        let now_ms = clock::now_ms();
        let job = NewJob {
            id: JobId::at(now_ms, clock::random()),
            queue: kind.queue.clone(),
            kind: wanted.kind,
            payload: wanted.payload.into(),
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
    pub async fn retry_job(&self, id: JobId) -> Result<JobView, ControlError> {
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
        Ok(view(&job))
    }

    /// Calls a job off.
    pub async fn cancel_job(&self, id: JobId) -> Result<JobView, ControlError> {
        Ok(view(&self.parts().store.jobs.cancel(id, clock::now_ms()).await.map_err(refused)?))
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

fn view(job: &Job) -> JobView {
    let payload =
        std::str::from_utf8(&job.payload).ok().filter(|text| !text.chars().any(char::is_control));
    let mut view = JobView {
        id: job.id.to_string(),
        queue: job.queue.clone(),
        kind: job.kind.clone(),
        state: job.status().name().to_owned(),
        attempt: job.attempt,
        max_attempts: job.max_attempts,
        created_ms: job.created_ms,
        due_ms: job.due_ms(),
        finished_ms: job.finished_ms(),
        by: None,
        note: None,
        error: job.last_error.clone(),
        key: job.unique.as_ref().map(|unique| unique.key().to_owned()),
        payload: payload.map_or_else(|| format!("0x{}", hex::encode(&job.payload)), str::to_owned),
    };
    match &job.state {
        JobState::Running { by, .. } => view.by = Some(by.to_string()),
        JobState::Done { note, .. } => view.note = Some(note.clone()),
        JobState::Dead { error, .. } => view.error = Some(error.clone()),
        JobState::Ready { .. } | JobState::Cancelled { .. } => {}
    }
    view
}
