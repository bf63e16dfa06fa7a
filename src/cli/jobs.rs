//! `rekindle jobs ls|show|run|retry|cancel`: questions to a running node.

use std::time::Duration;

use rekindle_schema::job::JobStatus;
use tokio::time::{Instant, sleep};

use super::args::JobsCommand;
use super::context::{Context, block_on};
use super::matches::explain;
use crate::exit::{Exit, Failure};
use crate::moment;
use rekindle_admin::api::{JobView, Nothing, RunJob};
use rekindle_admin::client::AdminClient;

/// How many jobs a prefix is looked for in.
const LATEST: usize = 1_000;
/// How often a job that is waited for is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(200);

pub(super) fn run(context: &Context, command: JobsCommand) -> Result<Exit, Failure> {
    let node = context.node()?;
    block_on(async {
        match command {
            JobsCommand::Ls { queue, kind, state, limit } => {
                let named = [
                    ("queue", queue),
                    ("kind", kind),
                    ("state", state.map(|state| state.to_string())),
                ];
                let named: Vec<String> = named
                    .into_iter()
                    .filter_map(|(name, value)| Some(format!("&{name}={}", escaped(&value?))))
                    .collect();
                let jobs: Vec<JobView> = node
                    .get(&format!("/v1/jobs?limit={limit}{}", named.concat()))
                    .await
                    .map_err(explain)?;
                context.answer(&jobs, || table(&jobs))?;
            }
            JobsCommand::Show { prefix } => {
                let job = find(&node, &prefix).await?;
                context.answer(&job, || details(&job))?;
            }
            JobsCommand::Run { kind, payload, wait } => {
                let started: JobView =
                    node.post("/v1/jobs", &RunJob { kind, payload }).await.map_err(explain)?;
                let job = match wait {
                    Some(seconds) => wait_for(&node, started, Duration::from_secs(seconds)).await?,
                    None => started,
                };
                context.answer(&job, || details(&job))?;
                return Ok(if matches!(job.state, JobStatus::Dead | JobStatus::Cancelled) {
                    Exit::Broken
                } else {
                    Exit::Done
                });
            }
            JobsCommand::Retry { prefix } => change(context, &node, &prefix, "retry").await?,
            JobsCommand::Cancel { prefix } => change(context, &node, &prefix, "cancel").await?,
        }
        Ok(Exit::Done)
    })
}

async fn change(
    context: &Context,
    node: &AdminClient,
    prefix: &str,
    what: &str,
) -> Result<(), Failure> {
    let found = find(node, prefix).await?;
    let job: JobView =
        node.post(&format!("/v1/jobs/{}/{what}", found.id), &Nothing {}).await.map_err(explain)?;
    context.answer(&job, || details(&job))
}

/// The job whose id begins with `prefix`: any with a whole id, else among the latest.
async fn find(node: &AdminClient, prefix: &str) -> Result<JobView, Failure> {
    let missing = |problem: String| Failure::new(Exit::NotFound, problem);
    if prefix.is_empty()
        || prefix.len() > 16
        || !prefix.bytes().all(|byte| byte.is_ascii_hexdigit())
    {
        return Err(missing(format!(
            "RK-CLI-031: no job begins with `{prefix}`: ids have up to 16 hexadecimal digits; \
             `rekindle jobs ls`"
        )));
    }
    if prefix.len() == 16 {
        return node.get(&format!("/v1/jobs/{prefix}")).await.map_err(explain);
    }
    let jobs: Vec<JobView> =
        node.get(&format!("/v1/jobs?limit={LATEST}")).await.map_err(explain)?;
    let mut fitting =
        jobs.into_iter().filter(|job| job.id.starts_with(&prefix.to_ascii_lowercase()));
    match (fitting.next(), fitting.next()) {
        (Some(job), None) => Ok(job),
        (Some(_), Some(_)) => Err(missing(format!(
            "RK-CLI-032: several jobs begin with `{prefix}`; give more digits"
        ))),
        (None, _) => Err(missing(format!(
            "RK-CLI-031: none of the latest {LATEST} jobs begins with `{prefix}`; `rekindle jobs \
             ls`"
        ))),
    }
}

async fn wait_for(
    node: &AdminClient,
    mut job: JobView,
    patience: Duration,
) -> Result<JobView, Failure> {
    let deadline = Instant::now() + patience;
    while matches!(job.state, JobStatus::Ready | JobStatus::Running) {
        if Instant::now() >= deadline {
            let message = format!(
                "RK-CLI-033: job {} is still {} after {} s; it goes on",
                job.id,
                job.state,
                patience.as_secs()
            );
            return Err(Failure::new(Exit::Failed, message));
        }
        sleep(LOOK_EVERY).await;
        job = node.get(&format!("/v1/jobs/{}", job.id)).await.map_err(explain)?;
    }
    Ok(job)
}

/// A value as it may stand in a query.
fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    value
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn table(jobs: &[JobView]) -> Vec<String> {
    if jobs.is_empty() {
        return vec!["no such jobs".to_owned()];
    }
    let mut lines = vec![format!(
        "{:<16}  {:<16}  {:<9}  {:>7}  {:<24}  {}",
        "JOB", "KIND", "STATE", "ATTEMPT", "SINCE OR DUE", "WHAT CAME OF IT"
    )];
    for job in jobs {
        let when = job.finished_ms.or(job.due_ms).unwrap_or(job.created_ms);
        let attempts = format!("{}/{}", job.attempt, job.max_attempts);
        let result = job.note.as_deref().or(job.error.as_deref()).unwrap_or_default();
        let result: String = result.chars().take(80).collect();
        let line = format!(
            "{:<16}  {:<16}  {:<9}  {:>7}  {:<24}  {result}",
            job.id,
            job.kind,
            job.state,
            attempts,
            moment::show(when)
        );
        lines.push(line.trim_end().to_owned());
    }
    lines
}

fn details(job: &JobView) -> Vec<String> {
    let mut lines = vec![
        format!("job        {}", job.id),
        format!("kind       {} in queue {}", job.kind, job.queue),
        format!("state      {}", job.state),
        format!("attempt    {} of {}", job.attempt, job.max_attempts),
        format!("created    {}", moment::show(job.created_ms)),
    ];
    let times = [("due", job.due_ms), ("finished", job.finished_ms)];
    lines.extend(
        times
            .into_iter()
            .filter_map(|(name, ms)| Some(format!("{name:<10} {}", moment::show(ms?)))),
    );
    let words = [("by", &job.by), ("key", &job.key), ("note", &job.note), ("error", &job.error)];
    lines.extend(
        words
            .into_iter()
            .filter_map(|(name, words)| Some(format!("{name:<10} {}", words.as_ref()?))),
    );
    if !job.payload.is_empty() {
        lines.push(format!("payload    {}", job.payload));
    }
    lines
}
