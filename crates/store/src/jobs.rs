//! The changes that a job goes through, as functions of its row: what all backends do when they
//! replace one.
//!
//! A backend reads a row, asks here what it becomes, and replaces it if its version is still the
//! one that was read.

use rekindle_schema::Incarnation;
use rekindle_schema::job::{
    Job, JobState, JobStatus, MAX_KEY, MAX_NAME, MAX_NOTE, MAX_PAYLOAD, Unique,
};

use crate::{JobFilter, NewJob, Outcome, QueueCounts, StoreError};

/// What a request makes of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "made once for a request, and taken apart at once")]
pub enum Change {
    /// This row stands in its place, its version one higher.
    To(Job),
    /// Nothing: it is as the request wants it already.
    None,
    /// Nothing: whoever asks does not hold the job any more.
    Lost,
}

fn changed(job: &Job, change: impl FnOnce(&mut Job)) -> Job {
    let mut job = Job { version: job.version + 1, ..job.clone() };
    change(&mut job);
    job
}

fn cut(mut text: String) -> String {
    if text.len() > MAX_NOTE {
        let end = (0..=MAX_NOTE).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

fn refused(job: &Job, problem: String) -> StoreError {
    StoreError::Refused { place: format!("job {}", job.id), problem }
}

/// The row of a new job, if it is well formed.
pub fn new(new: NewJob) -> Result<Job, StoreError> {
    let malformed =
        |problem: String| StoreError::Refused { place: format!("job {}", new.id), problem };
    for (what, name) in [("queue", &new.queue), ("kind", &new.kind)] {
        let fine =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(fine) {
            return Err(malformed(format!(
                "its {what} {name:?} is not 1 to {MAX_NAME} characters of a-z, 0-9, `-`, `_`, `.`"
            )));
        }
    }
    if let Some(key) = new.unique.as_ref().map(Unique::key)
        && (key.is_empty() || key.len() > MAX_KEY)
    {
        return Err(malformed(format!(
            "its key has {} bytes, it may have 1 to {MAX_KEY}",
            key.len()
        )));
    }
    if new.max_attempts == 0 {
        return Err(malformed("it may not be tried even once".to_owned()));
    }
    // Every backend keeps times as signed numbers.
    if i64::try_from(new.run_at_ms.max(new.created_ms)).is_err() {
        return Err(malformed("its time is out of range".to_owned()));
    }
    if new.payload.len() > MAX_PAYLOAD {
        return Err(StoreError::TooLarge {
            what: "a job's payload",
            size: new.payload.len(),
            limit: MAX_PAYLOAD,
        });
    }
    let NewJob { id, queue, kind, payload, unique, run_at_ms, max_attempts, created_ms } = new;
    let state = JobState::Ready { run_at_ms };
    Ok(Job {
        id,
        version: 1,
        queue,
        kind,
        payload,
        unique,
        attempt: 0,
        max_attempts,
        created_ms,
        last_error: None,
        state,
    })
}

/// Whether the row that has the id of `new` came from the same request; `Refused` if it is another
/// job.
pub fn is_repeat(stands: &Job, new: &Job) -> Result<(), StoreError> {
    let made_of = |job: &Job| {
        (
            job.queue.clone(),
            job.kind.clone(),
            job.payload.clone(),
            job.unique.clone(),
            job.created_ms,
        )
    };
    if made_of(stands) == made_of(new) {
        Ok(())
    } else {
        Err(refused(stands, "it exists already, with other content".to_owned()))
    }
}

/// Claims a job, if it is due.
pub fn claim(job: &Job, by: Incarnation, now_ms: u64, until_ms: u64) -> Option<Job> {
    let due = job.due_ms().is_some_and(|due| due <= now_ms);
    due.then(|| {
        changed(job, |job| {
            job.attempt += 1;
            job.state = JobState::Running { by, since_ms: now_ms, until_ms };
        })
    })
}

/// Moves the end of the lease of a claim.
pub fn extend(job: &Job, attempt: u32, until_ms: u64) -> Change {
    match job.state {
        JobState::Running { until_ms: stands, .. }
            if job.attempt == attempt && stands == until_ms =>
        {
            Change::None
        }
        JobState::Running { by, since_ms, .. } if job.attempt == attempt => {
            Change::To(changed(job, |job| job.state = JobState::Running { by, since_ms, until_ms }))
        }
        _ => Change::Lost,
    }
}

/// Ends a claim.
pub fn finish(job: &Job, attempt: u32, now_ms: u64, outcome: Outcome) -> Change {
    if job.attempt != attempt {
        return Change::Lost;
    }
    let (state, failed, given_back) = match outcome {
        Outcome::Done { note } => (JobState::Done { at_ms: now_ms, note: cut(note) }, None, 0),
        Outcome::Retry { at_ms, error } => {
            (JobState::Ready { run_at_ms: at_ms }, Some(cut(error)), 0)
        }
        Outcome::Dead { error } => {
            (JobState::Dead { at_ms: now_ms, error: cut(error.clone()) }, Some(cut(error)), 0)
        }
        Outcome::GiveBack { at_ms } => (JobState::Ready { run_at_ms: at_ms }, None, 1),
    };
    if job.status() != JobStatus::Running {
        return if job.state == state { Change::None } else { Change::Lost };
    }
    Change::To(changed(job, |job| {
        job.state = state;
        job.max_attempts = job.max_attempts.saturating_add(given_back);
        job.last_error = failed.or(job.last_error.take());
    }))
}

/// Makes a job ready again, at an operator's word.
pub fn retry(job: &Job, now_ms: u64, attempts: u32) -> Result<Job, StoreError> {
    match job.status() {
        JobStatus::Dead | JobStatus::Cancelled | JobStatus::Ready => Ok(changed(job, |job| {
            job.state = JobState::Ready { run_at_ms: now_ms };
            job.max_attempts = job.attempt.saturating_add(attempts.max(1));
        })),
        JobStatus::Running => Err(refused(
            job,
            format!("it is running, attempt {}; cancel it first to run it anew", job.attempt),
        )),
        JobStatus::Done => Err(refused(job, "it is done; enqueue a new one".to_owned())),
    }
}

/// A retry that is refused because `holder` has the key of the job.
pub fn key_taken(job: &Job, holder: rekindle_schema::JobId) -> StoreError {
    refused(
        job,
        format!(
            "job {holder} has its key {:?} meanwhile",
            job.unique.as_ref().map_or("", Unique::key)
        ),
    )
}

/// Calls a job off, at an operator's word. `Ok(None)` if it was already.
pub fn cancel(job: &Job, now_ms: u64) -> Result<Option<Job>, StoreError> {
    match job.status() {
        JobStatus::Cancelled => Ok(None),
        JobStatus::Ready | JobStatus::Running => {
            Ok(Some(changed(job, |job| job.state = JobState::Cancelled { at_ms: now_ms })))
        }
        status @ (JobStatus::Done | JobStatus::Dead) => {
            Err(refused(job, format!("it is {status}: there is nothing to cancel")))
        }
    }
}

/// Whether a filter lets a job through.
pub fn passes(filter: &JobFilter, job: &Job) -> bool {
    filter.queue.as_ref().is_none_or(|queue| *queue == job.queue)
        && filter.kind.as_ref().is_none_or(|kind| *kind == job.kind)
        && filter.status.is_none_or(|status| status == job.status())
}

/// Counts jobs by queue, ascending by name.
pub fn count<'a>(jobs: impl IntoIterator<Item = &'a Job>) -> Vec<QueueCounts> {
    let mut queues = std::collections::BTreeMap::<&str, QueueCounts>::new();
    for job in jobs {
        let counts = queues
            .entry(&job.queue)
            .or_insert_with(|| QueueCounts { queue: job.queue.clone(), ..QueueCounts::default() });
        match job.state {
            JobState::Ready { run_at_ms } => {
                counts.ready += 1;
                counts.oldest_ready_ms =
                    Some(counts.oldest_ready_ms.map_or(run_at_ms, |oldest| oldest.min(run_at_ms)));
            }
            JobState::Running { .. } => counts.running += 1,
            JobState::Done { .. } => counts.done += 1,
            JobState::Dead { .. } => counts.dead += 1,
            JobState::Cancelled { .. } => counts.cancelled += 1,
        }
    }
    queues.into_values().collect()
}
