//! What a node does for itself, as jobs: one function for each chore, and the list that puts them
//! into queues. When they are due is configuration (`jobs.cron`); each slot of it is worked on by
//! one node of the cluster.
//!
//! Checkpoints are not among them: which match needs one next is decided ten times a second from
//! what this process measured, and an answer through the store would come too late and know less.
//! `checkpoint-all` is for operators.

use std::path::PathBuf;
use std::time::Duration;

use rekindle_actors::Host;
use rekindle_cluster::retention::{self, Policy};
use rekindle_jobs::{Kind, QueueConfig, RetryPolicy, WorkError, WorkResult};
use rekindle_schema::Incarnation;
use rekindle_schema::job::JobStatus;
use rekindle_schema::lease::NodeState;
use rekindle_store::{JobFilter, Store};
use tokio::runtime::Handle;

use super::calendar::Calendar;
use super::operator::Operators;
use crate::backup;
use crate::clock;
use crate::config::Config;
use crate::files::About as _;
use crate::node::scrub;

/// The queue of short chores.
const HOUSE: &str = "house";
/// The queue of long ones: they must not hold up the short ones.
const HEAVY: &str = "heavy";
/// The queue of kinds that a studio brings along.
pub const DEFAULT_QUEUE: &str = "default";
/// How many rows are removed in one request.
const AT_ONCE: usize = 500;
/// Queues of single nodes begin with this.
const OF_NODE: &str = "node-";

/// What chores are done to and with.
#[derive(Clone)]
pub struct Tools {
    /// The store.
    pub store: Store,
    /// This node's matches.
    pub host: Host,
    /// This run.
    pub incarnation: Incarnation,
    /// From when on something counts as old.
    pub calendar: Calendar,
    /// Writes down what is removed from the audit log.
    pub operators: Operators,
}

/// The queue of work that only this node can do.
fn own_queue(node: Incarnation) -> String {
    format!("{OF_NODE}{node}")
}

/// The queues that a node serves.
pub fn queues(config: &Config, node: Incarnation) -> Vec<QueueConfig> {
    let retry = RetryPolicy { first: Duration::from_secs(2), most: Duration::from_mins(5) };
    let queue = |name: &str, concurrency| QueueConfig { name: name.to_owned(), concurrency, retry };
    vec![
        queue(DEFAULT_QUEUE, config.jobs.concurrency),
        queue(HOUSE, 2),
        queue(HEAVY, 1),
        queue(&own_queue(node), 1),
    ]
}

/// The names of [`kinds`], for whoever has no node yet.
pub const NAMES: &[&str] =
    &["keep-house", "prune-jobs", "prune-audit", "verify-store", "backup", "checkpoint-all"];

/// The kinds of job that every node knows.
pub fn kinds(config: &Config, tools: &Tools) -> Vec<Kind> {
    let (retention, keep_jobs, keep_audit) =
        (config.retention, config.jobs.keep, config.audit_keep);
    let (store_name, backup) = (config.store.to_string(), config.backup.clone());
    let minutes = Duration::from_mins;
    let with = |tools: &Tools| tools.clone();
    let (house, jobs, audit, verify, checkpoints) =
        (with(tools), with(tools), with(tools), with(tools), with(tools));
    let source = with(tools);
    vec![
        Kind::new("keep-house", HOUSE, move |_| keep_house(house.clone(), retention))
            .with(2, minutes(2)),
        Kind::new("prune-jobs", HOUSE, move |_| prune_jobs(jobs.clone(), keep_jobs))
            .with(3, minutes(2)),
        Kind::new("prune-audit", HOUSE, move |_| prune_audit(audit.clone(), keep_audit))
            .with(3, minutes(2)),
        Kind::new("verify-store", HEAVY, move |_| verify_store(verify.clone()))
            .with(3, minutes(60)),
        Kind::new("backup", HEAVY, move |_| {
            back_up(source.clone(), store_name.clone(), backup.clone())
        })
        .with(3, minutes(360)),
        Kind::new("checkpoint-all", &own_queue(tools.incarnation), move |_| {
            checkpoint_all(checkpoints.clone())
        })
        .with(2, minutes(5)),
    ]
}

/// Archives, trims and removes, as the policy says.
async fn keep_house(tools: Tools, policy: Policy) -> WorkResult {
    let now_ms = tools.calendar.now_ms(&tools.store, tools.incarnation).await?;
    // A task of its own: it compresses.
    let run = tokio::spawn(async move { retention::run(&tools.store, &policy, now_ms).await });
    let done = run.await.map_err(|error| WorkError::Retry(error.to_string()))??;
    let (logs, chunks, matches) =
        (done.cuts.len(), done.chunks_removed, done.matches_removed.len());
    if logs + chunks > 0 {
        tracing::debug!(
            code = "RK-NODE-016",
            logs,
            chunks,
            "logs trimmed, chunks of the archive removed"
        );
    }
    for match_id in done.matches_removed {
        tracing::info!(code = "RK-NODE-038", %match_id, "an ended match is removed, with all that \
            belonged to it");
    }
    Ok(format!(
        "{logs} logs trimmed, {chunks} chunks of the archive and {matches} ended matches removed"
    ))
}

/// Forgets jobs that were finished long ago, and calls off those that only a dead node could do.
async fn prune_jobs(tools: Tools, keep: Duration) -> WorkResult {
    let jobs = &tools.store.jobs;
    let now_ms = clock::now_ms();
    let nodes = tools.store.leases.nodes().await?;
    let live: Vec<String> = nodes
        .iter()
        .filter(|node| node.state == NodeState::Live)
        .map(|node| own_queue(node.incarnation))
        .collect();
    let mut orphans = 0;
    for counts in jobs.counts().await? {
        if !counts.queue.starts_with(OF_NODE) || live.contains(&counts.queue) {
            continue;
        }
        // What it was working on when it died counts as well, once the lease is over.
        for status in [JobStatus::Ready, JobStatus::Running] {
            let filter = JobFilter {
                queue: Some(counts.queue.clone()),
                status: Some(status),
                limit: AT_ONCE,
                ..JobFilter::default()
            };
            for job in jobs
                .list(filter)
                .await?
                .into_iter()
                .filter(|job| job.due_ms().is_some_and(|due| due <= now_ms))
            {
                jobs.cancel(job.id, now_ms).await?;
                orphans += 1;
            }
        }
    }
    let before_ms = tools
        .calendar
        .now_ms(&tools.store, tools.incarnation)
        .await?
        .saturating_sub(keep.as_millis() as u64);
    let mut gone = 0;
    loop {
        let removed = jobs.prune(before_ms, AT_ONCE).await?;
        gone += removed;
        if removed < AT_ONCE {
            return Ok(format!(
                "{gone} finished jobs forgotten, {orphans} of dead nodes called off"
            ));
        }
    }
}

/// Removes audit entries that are older than their retention, and writes that down.
async fn prune_audit(tools: Tools, keep: Option<Duration>) -> WorkResult {
    let Some(keep) = keep else { return Ok("the audit log is kept for ever".to_owned()) };
    let before_ms = tools
        .calendar
        .now_ms(&tools.store, tools.incarnation)
        .await?
        .saturating_sub(keep.as_millis() as u64);
    let audit = &tools.store.audit;
    let old = audit
        .list(rekindle_store::AuditQuery { since_ms: 0, until_ms: before_ms, limit: 1 })
        .await?;
    if old.is_empty() {
        return Ok("no audit entry is too old".to_owned());
    }
    let action = tools
        .operators
        .begin(
            "job prune-audit",
            "audit.prune",
            "",
            &format!("older than {} days", keep.as_secs() / 86_400),
        )
        .await?;
    let mut gone = 0;
    let result: Result<(), rekindle_store::StoreError> = loop {
        match audit.prune(before_ms, AT_ONCE).await {
            Ok(removed) => {
                gone += removed;
                if removed < AT_ONCE {
                    break Ok(());
                }
            }
            Err(error) => break Err(error),
        }
    };
    action.end(None, result.as_ref().err().map(ToString::to_string)).await;
    result?;
    Ok(format!("{gone} audit entries removed"))
}

/// Reads every batch and every checkpoint. Damage is a dead letter at once: reading again does not
/// mend it.
async fn verify_store(tools: Tools) -> WorkResult {
    let found = scrub::scrub(&tools.store).await?;
    for fault in &found.faults {
        tracing::error!(
            code = "RK-NODE-044",
            fault,
            "stored bytes are damaged; run `rekindle verify` and restore them from a backup"
        );
    }
    if found.faults.is_empty() {
        Ok(found.to_string())
    } else {
        Err(WorkError::Fatal(found.to_string()))
    }
}

/// Writes a backup of the whole store beside the earlier ones, and removes those that are too many.
async fn back_up(tools: Tools, store_name: String, place: Option<(PathBuf, usize)>) -> WorkResult {
    let Some((dir, keep)) = place else {
        return Err(WorkError::Fatal(
            "RK-NODE-045: backup.dir is not set, so there is no place for a backup".to_owned(),
        ));
    };
    std::fs::create_dir_all(&dir)
        .about("create", &dir)
        .map_err(|error| WorkError::Retry(error.to_string()))?;
    let target = dir.join(backup::name_at(clock::now_ms()));
    // On a thread of its own: it compares every byte that it copies. It does not end before it is
    // done, whatever becomes of the job.
    let (runtime, store, to) = (Handle::current(), tools.store.clone(), target.clone());
    let making = tokio::task::spawn_blocking(move || {
        runtime.block_on(backup::make(&store, &store_name, &to, &|_| ()))
    });
    let made = making.await?.map_err(|failure| WorkError::Retry(failure.message))?;
    let removed = backup::keep_newest(&dir, keep, clock::now_ms())
        .map_err(|failure| WorkError::Retry(failure.message))?;
    let matches = made.copied.matches;
    if made.copied.left_out > 0 {
        let (left_out, notes) = (made.copied.left_out, made.copied.notes.join("; "));
        tracing::error!(
            code = "RK-NODE-156",
            left_out,
            notes,
            "the backup was made without damaged checkpoints; run `rekindle verify`"
        );
    }
    tracing::info!(
        code = "RK-NODE-046", dir = %target.display(), matches, bytes = made.bytes, removed,
        "backup made"
    );
    Ok(format!(
        "{matches} matches, {} bytes in {}; {removed} old backups removed",
        made.bytes,
        target.display()
    ))
}

/// Has all matches of this node checkpointed now.
async fn checkpoint_all(tools: Tools) -> WorkResult {
    Ok(format!("{} matches checkpointed", tools.host.checkpoint_all().await))
}
