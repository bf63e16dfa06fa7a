//! Jobs on running nodes: actors on one store in memory, with tokio's clock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rekindle_jobs::{
    CronEntry, Drained, JobsConfig, JobsHandle, JobsParts, Kind, QueueConfig, RetryPolicy,
    WorkError,
};
use rekindle_schema::job::{Job, JobState, JobStatus, Unique};
use rekindle_schema::{Incarnation, JobId};
use rekindle_store::{JobFilter, NewJob, Store, StoreError};
use rekindle_store_memory::{Fate, MemoryStore, Op};
use tokio::sync::watch;
use tokio::time::Instant;

const START: u64 = 1_700_000_000_000;

/// Tokio's clock as milliseconds since 1970.
#[derive(Clone)]
struct Clock(Instant);

impl Clock {
    fn new() -> Self {
        Self(Instant::now())
    }

    fn now_ms(&self) -> u64 {
        START + self.0.elapsed().as_millis() as u64
    }
}

fn config(cron: Vec<CronEntry>) -> JobsConfig {
    let retry = RetryPolicy { first: Duration::from_millis(100), most: Duration::from_secs(2) };
    let queue = QueueConfig { name: "work".to_owned(), concurrency: 2, retry };
    JobsConfig { lease: Duration::from_secs(3), queues: vec![queue], cron, ..JobsConfig::default() }
}

async fn node(
    store: Store,
    number: u64,
    clock: &Clock,
    kinds: Vec<Kind>,
    cron: Vec<CronEntry>,
) -> JobsHandle {
    let clock = clock.clone();
    let clock: Arc<dyn Fn() -> u64 + Send + Sync> = Arc::new(move || clock.now_ms());
    let parts = JobsParts {
        store,
        incarnation: Incarnation(number),
        clock,
        seed: number,
        kinds,
        config: config(cron),
    };
    rekindle_jobs::start(parts).await.unwrap()
}

fn new_job(id: u64, kind: &str, attempts: u32) -> NewJob {
    NewJob {
        id: JobId(id),
        queue: "work".to_owned(),
        kind: kind.to_owned(),
        payload: Bytes::from(id.to_string()),
        unique: None,
        run_at_ms: START,
        max_attempts: attempts,
        created_ms: START,
    }
}

/// Waits until a job is as it should be.
async fn until(store: &Store, id: u64, wanted: impl Fn(&Job) -> bool) -> Job {
    let look = async {
        loop {
            if let Some(job) = store.jobs.get(JobId(id)).await.unwrap().filter(|job| wanted(job)) {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(5), look).await.expect("it comes true")
}

fn is(status: JobStatus) -> impl Fn(&Job) -> bool {
    move |job| job.status() == status
}

#[tokio::test(start_paused = true)]
async fn work_is_done_once_and_failures_are_followed_up() {
    let (memory, clock) = (MemoryStore::new(), Clock::new());
    let store = memory.store();
    let done = Arc::new(Mutex::new(BTreeMap::<String, u32>::new()));
    let count = Arc::clone(&done);
    let kinds = vec![
        Kind::new("count", "work", move |job: Job| {
            *count.lock().entry(String::from_utf8_lossy(&job.payload).into_owned()).or_default() +=
                1;
            async { Ok("counted".to_owned()) }
        }),
        Kind::new("third-time-lucky", "work", |job: Job| async move {
            match job.attempt {
                1 => Err(WorkError::Retry("not yet".to_owned())),
                2 => panic!("out of cheese"),
                _ => Ok(format!("after {}", job.last_error.unwrap_or_default())),
            }
        }),
        Kind::new("hopeless", "work", |_: Job| async {
            Err(WorkError::Fatal("no such thing".to_owned()))
        }),
        Kind::new("endless", "work", |_: Job| std::future::pending())
            .with(2, Duration::from_secs(7)),
    ];
    for id in 1..=30 {
        store.jobs.enqueue(new_job(id, "count", 3)).await.unwrap();
    }
    for (id, kind, attempts) in
        [(51, "third-time-lucky", 3), (52, "hopeless", 9), (53, "endless", 2)]
    {
        store.jobs.enqueue(new_job(id, kind, attempts)).await.unwrap();
    }
    let nodes = [
        node(memory.store(), 1, &clock, kinds.clone(), vec![]).await,
        node(memory.store(), 2, &clock, kinds, vec![]).await,
    ];
    for id in 1..=30 {
        until(&store, id, is(JobStatus::Done)).await;
    }
    assert_eq!(done.lock().len(), 30);
    assert!(done.lock().values().all(|times| *times == 1), "{:?}", done.lock());
    let lucky = until(&store, 51, is(JobStatus::Done)).await;
    let JobState::Done { note, .. } = lucky.state else { unreachable!() };
    assert!(lucky.attempt == 3 && note.contains("panicked: out of cheese"), "{note}");
    let hopeless = until(&store, 52, is(JobStatus::Dead)).await;
    assert_eq!((hopeless.attempt, hopeless.last_error.as_deref()), (1, Some("no such thing")));
    // Two attempts of seven seconds, kept alive over leases of three.
    let endless = until(&store, 53, is(JobStatus::Dead)).await;
    assert_eq!(endless.attempt, 2);
    assert!(endless.last_error.unwrap().contains("deadline of 7000 ms"));
    assert!(clock.now_ms() >= START + 14_000);
    for node in nodes {
        assert_eq!(node.drain().await, Drained::default());
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_of_the_clock_is_worked_on_once_by_one_of_two_nodes() {
    let (memory, clock) = (MemoryStore::new(), Clock::new());
    let seen = Arc::new(Mutex::new(Vec::<(u64, u64)>::new()));
    let entry = CronEntry {
        name: "beat".to_owned(),
        schedule: "every 10s".parse().unwrap(),
        kind: "beat".to_owned(),
        payload: Bytes::new(),
    };
    let kinds = |number: u64| {
        let (seen, clock) = (Arc::clone(&seen), clock.clone());
        vec![Kind::new("beat", "work", move |job: Job| {
            let key = job.unique.as_ref().map(Unique::key).unwrap().to_owned();
            let slot: u64 = key.rsplit(':').next().unwrap().parse().unwrap();
            assert!(clock.now_ms() >= slot * 1_000, "before its time");
            seen.lock().push((slot, number));
            async { Ok(String::new()) }
        })]
    };
    let one = node(memory.store(), 1, &clock, kinds(1), vec![entry.clone()]).await;
    let two = node(memory.store(), 2, &clock, kinds(2), vec![entry.clone()]).await;
    tokio::time::sleep(Duration::from_millis(101_500)).await;
    let slots: Vec<u64> = seen.lock().iter().map(|(slot, _)| *slot).collect();
    assert_eq!(slots, (1..=10).map(|n| START / 1_000 + n * 10).collect::<Vec<_>>());
    one.drain().await;
    two.drain().await;

    // Nobody is there for five minutes: of the thirty slots that were missed one is made up for,
    // and none is afterwards.
    seen.lock().clear();
    tokio::time::sleep(Duration::from_mins(5)).await;
    assert_eq!(seen.lock().len(), 0);
    let back = clock.now_ms();
    let three = node(memory.store(), 3, &clock, kinds(3), vec![entry]).await;
    tokio::time::sleep(Duration::from_millis(21_500)).await;
    let slots: Vec<u64> = seen.lock().iter().map(|(slot, _)| *slot).collect();
    assert_eq!(slots.len(), 3, "one made up for, two on time: {slots:?}");
    assert!(
        slots[0] * 1_000 < back && slots[1] * 1_000 > back && slots[2] == slots[1] + 10,
        "{slots:?}"
    );
    three.stop();
}

#[tokio::test(start_paused = true)]
async fn a_dead_nodes_job_goes_on_elsewhere() {
    let (memory, clock) = (MemoryStore::new(), Clock::new());
    let store = memory.store();
    let begun = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&begun);
    let stuck = Kind::new("move", "work", move |_: Job| {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::pending()
    });
    let healthy =
        Kind::new("move", "work", |job: Job| async move { Ok(format!("attempt {}", job.attempt)) });
    store.jobs.enqueue(new_job(1, "move", 3)).await.unwrap();
    let dying = node(memory.store(), 1, &clock, vec![stuck], vec![]).await;
    // It is alive for three leases, and the job stays its own.
    until(&store, 1, |job| {
        job.status() == JobStatus::Running && job.due_ms() > Some(START + 9_000)
    })
    .await;
    let heir = node(memory.store(), 2, &clock, vec![healthy], vec![]).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(
        (store.jobs.get(JobId(1)).await.unwrap().unwrap().attempt, begun.load(Ordering::SeqCst)),
        (1, 1)
    );
    dying.stop();
    let died = clock.now_ms();
    let job = until(&store, 1, is(JobStatus::Done)).await;
    assert_eq!(
        job.state,
        JobState::Done { at_ms: job.finished_ms().unwrap(), note: "attempt 2".to_owned() }
    );
    assert!(clock.now_ms() < died + 3_000 + 1_500, "a lease and a look");
    heir.stop();
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_job_is_stopped() {
    let (memory, clock) = (MemoryStore::new(), Clock::new());
    let store = memory.store();
    let (alive, mut gone) = watch::channel(());
    let alive = Arc::new(Mutex::new(Some(alive)));
    let endless = Kind::new("endless", "work", move |_: Job| {
        // Held by the handler alone: it goes when the handler is dropped.
        let held = alive.lock().take();
        async move {
            let _held = held;
            std::future::pending().await
        }
    });
    store.jobs.enqueue(new_job(1, "endless", 3)).await.unwrap();
    let node = node(memory.store(), 1, &clock, vec![endless], vec![]).await;
    until(&store, 1, is(JobStatus::Running)).await;
    store.jobs.cancel(JobId(1), clock.now_ms()).await.unwrap();
    let cancelled = clock.now_ms();
    assert!(
        tokio::time::timeout(Duration::from_secs(10), gone.changed())
            .await
            .expect("it is stopped")
            .is_err()
    );
    assert!(clock.now_ms() < cancelled + 2_000, "at its next heartbeat");
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(store.jobs.get(JobId(1)).await.unwrap().unwrap().status(), JobStatus::Cancelled);
    node.stop();
}

#[tokio::test(start_paused = true)]
async fn a_clean_stop_gives_back_what_is_not_done() {
    let (memory, clock) = (MemoryStore::new(), Clock::new());
    let store = memory.store();
    let kinds = vec![
        Kind::new("short", "work", |_: Job| async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Ok("done".to_owned())
        }),
        Kind::new("endless", "work", |_: Job| std::future::pending()),
    ];
    store.jobs.enqueue(new_job(1, "short", 3)).await.unwrap();
    store.jobs.enqueue(new_job(2, "endless", 3)).await.unwrap();
    store.jobs.enqueue(new_job(3, "short", 3)).await.unwrap();
    let node = node(memory.store(), 1, &clock, kinds, vec![]).await;
    until(&store, 2, is(JobStatus::Running)).await;
    assert_eq!(node.drain().await, Drained { finished: 1, given_back: 1 });
    let given_back = store.jobs.get(JobId(2)).await.unwrap().unwrap();
    assert_eq!(
        (given_back.status(), given_back.attempt, given_back.max_attempts),
        (JobStatus::Ready, 1, 4),
        "it costs no attempt"
    );
    let untouched = store.jobs.get(JobId(3)).await.unwrap().unwrap();
    assert_eq!((untouched.status(), untouched.attempt), (JobStatus::Ready, 0));
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_the_store_is_sat_out() {
    let (memory, clock) = (MemoryStore::new(), Clock::new());
    let down = clock.clone();
    let flaky = memory.with_faults(Arc::new(move |op| {
        let out = op == Op::Jobs && (START + 2_000..START + 22_000).contains(&down.now_ms());
        Fate {
            fail: out.then(|| StoreError::Unavailable("the store is away".to_owned())),
            ..Fate::default()
        }
    }));
    let begun = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&begun);
    let slow = Kind::new("slow", "work", move |_: Job| {
        counter.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(Duration::from_secs(4)).await;
            Ok("done".to_owned())
        }
    });
    let store = memory.store();
    store.jobs.enqueue(new_job(1, "slow", 5)).await.unwrap();
    store.jobs.enqueue(NewJob { run_at_ms: START + 5_000, ..new_job(2, "slow", 5) }).await.unwrap();
    let node = node(flaky.store(), 1, &clock, vec![slow], vec![]).await;
    let first = until(&store, 1, is(JobStatus::Done)).await;
    let second = until(&store, 2, is(JobStatus::Done)).await;
    assert_eq!(
        (first.attempt, second.attempt),
        (2, 1),
        "the lease of the first could not be extended: {first:?}"
    );
    assert!(clock.now_ms() < START + 40_000);
    let all = store.jobs.list(JobFilter { limit: 9, ..JobFilter::default() }).await.unwrap();
    assert_eq!((all.len(), begun.load(Ordering::SeqCst)), (2, 3));
    node.stop();
}

#[tokio::test]
async fn what_does_not_fit_together_is_refused_at_the_start() {
    let (memory, clock) = (MemoryStore::new(), Clock::new());
    let start = async |kinds: Vec<Kind>, cron: Vec<CronEntry>| {
        let clock = clock.clone();
        let clock: Arc<dyn Fn() -> u64 + Send + Sync> = Arc::new(move || clock.now_ms());
        let parts = JobsParts {
            store: memory.store(),
            incarnation: Incarnation(1),
            clock,
            seed: 1,
            kinds,
            config: config(cron),
        };
        rekindle_jobs::start(parts).await.unwrap_err().to_string()
    };
    let stray = Kind::new("stray", "nowhere", |_: Job| async { Ok(String::new()) });
    assert!(start(vec![stray], vec![]).await.contains("queue nowhere"));
    let entry = CronEntry {
        name: "a".to_owned(),
        schedule: "every 1m".parse().unwrap(),
        kind: "ghost".to_owned(),
        payload: Bytes::new(),
    };
    assert!(start(vec![], vec![entry]).await.contains("kind ghost"));
}
