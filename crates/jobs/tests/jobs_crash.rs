//! kill -9 of a process that works on a job: its heartbeats end with it, and whoever looks after
//! the lease goes on.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rekindle_jobs::{JobsConfig, JobsHandle, JobsParts, Kind, QueueConfig, RetryPolicy};
use rekindle_schema::job::{Job, JobState, JobStatus};
use rekindle_schema::{Incarnation, JobId};
use rekindle_store::{NewJob, Store};
use rekindle_store_local::{LocalOptions, LocalStore};

const DIR: &str = "REKINDLE_JOBS_CRASH_DIR";
const LEASE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_mins(1);
const JOB: JobId = JobId(1);

fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64
}

fn open(dir: &Path) -> Store {
    LocalStore::open(dir, LocalOptions::default()).unwrap()
}

async fn work(store: Store, number: u64, kind: Kind) -> JobsHandle {
    let retry = RetryPolicy { first: Duration::from_millis(100), most: Duration::from_secs(1) };
    let queues = vec![QueueConfig { name: "work".to_owned(), concurrency: 1, retry }];
    let config = JobsConfig {
        lease: LEASE,
        poll: Duration::from_millis(100),
        step: Duration::from_millis(50),
        queues,
        ..JobsConfig::default()
    };
    let parts = JobsParts {
        store,
        incarnation: Incarnation(number),
        clock: Arc::new(now_ms),
        seed: number,
        kinds: vec![kind],
        config,
    };
    rekindle_jobs::start(parts).await.unwrap()
}

async fn until(store: &Store, wanted: impl Fn(&Job) -> bool) -> Job {
    let look = async {
        loop {
            if let Some(job) = store.jobs.get(JOB).await.unwrap().filter(|job| wanted(job)) {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, look).await.expect("it comes true")
}

/// Killed when dropped.
struct Victim(Child);

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
#[ignore = "runs as a child of a_killed_process_loses_its_job_when_the_lease_ends"]
async fn the_process_that_is_killed() {
    let dir = std::env::var_os(DIR).expect("its parent says where");
    let _jobs =
        work(open(Path::new(&dir)), 1, Kind::new("move", "work", |_: Job| std::future::pending()))
            .await;
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_its_job_when_the_lease_ends() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let new = NewJob {
        id: JOB,
        queue: "work".to_owned(),
        kind: "move".to_owned(),
        payload: Bytes::new(),
        unique: None,
        run_at_ms: now_ms(),
        max_attempts: 3,
        created_ms: now_ms(),
    };
    store.jobs.enqueue(new).await.unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args(["--ignored", "--exact", "the_process_that_is_killed"])
        .env(DIR, dir.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut victim = Victim(child.spawn().unwrap());
    let first = until(&store, |job| job.status() == JobStatus::Running).await;
    // Heartbeats keep it alive beyond its first lease.
    until(&store, |job| job.due_ms() > first.due_ms().map(|due| due + LEASE.as_millis() as u64))
        .await;
    let heir = work(
        open(dir.path()),
        2,
        Kind::new("move", "work", |job: Job| async move { Ok(format!("attempt {}", job.attempt)) }),
    )
    .await;
    victim.0.kill().unwrap();
    assert_eq!(victim.0.wait().unwrap().signal(), Some(9));
    let left = store.jobs.get(JOB).await.unwrap().unwrap();
    assert_eq!((left.status(), left.attempt), (JobStatus::Running, 1), "the store cannot know yet");
    let done = until(&store, |job| job.status() == JobStatus::Done).await;
    let JobState::Done { at_ms, note } = done.state else { unreachable!() };
    assert_eq!(note, "attempt 2");
    assert!(Some(at_ms) >= left.due_ms(), "before the lease was over");
    heir.drain().await;
}
