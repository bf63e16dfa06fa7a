//! Jobs: each to one holder at a time, none lost, keys held.

use std::collections::BTreeSet;

use rekindle_schema::JobId;
use rekindle_schema::job::{Job, JobState, JobStatus, MAX_NOTE, MAX_PAYLOAD, Unique};
use rekindle_store::Store;
use rekindle_store::{Claim, Hold, JobFilter, NewJob, Outcome, QueueCounts, StoreError};

use super::{Backend, NODE, OTHER, open_many};

const NOW: u64 = 1_700_000_000_000;

/// A job of the queue `work` that can be run at once and is created `number` milliseconds after the
/// others.
pub fn job(number: u64) -> NewJob {
    NewJob {
        id: JobId::at(NOW + number, number),
        queue: "work".to_owned(),
        kind: "copy".to_owned(),
        payload: number.to_le_bytes().to_vec().into(),
        unique: None,
        run_at_ms: NOW + number,
        max_attempts: 3,
        created_ms: NOW + number,
    }
}

fn unique(number: u64, unique: Unique) -> NewJob {
    NewJob { unique: Some(unique), ..job(number) }
}

fn while_open() -> Unique {
    Unique::WhileOpen("nightly".to_owned())
}

fn once() -> Unique {
    Unique::Once("cron:nightly:1700000000".to_owned())
}

fn claim(now_ms: u64, limit: usize) -> Claim {
    Claim { queue: "work".to_owned(), by: NODE, now_ms, until_ms: now_ms + 1_000, limit }
}

async fn enqueue(store: &Store, new: NewJob) -> JobId {
    store.jobs.enqueue(new).await.expect("a well-formed job is taken")
}

async fn get(store: &Store, id: JobId) -> Job {
    store.jobs.get(id).await.expect("jobs can be read").expect("the job is there")
}

async fn ids(store: &Store, filter: JobFilter) -> Vec<JobId> {
    store
        .jobs
        .list(filter)
        .await
        .expect("jobs can be listed")
        .into_iter()
        .map(|job| job.id)
        .collect()
}

fn done() -> Outcome {
    Outcome::Done { note: "copied".to_owned() }
}

/// What was enqueued comes back, from another process too, and is listed newest first.
pub async fn jobs_come_back(backend: &impl Backend) {
    let (store, other) = (backend.open().await, backend.open().await);
    assert_eq!(other.jobs.list(JobFilter { limit: 10, ..JobFilter::default() }).await.unwrap(), []);
    assert_eq!(other.jobs.get(JobId(5)).await.unwrap(), None);
    let wanted = [
        job(1),
        NewJob { queue: "maintenance".to_owned(), ..unique(2, while_open()) },
        NewJob {
            kind: "verify.all-0_1".to_owned(),
            payload: vec![0xa5; MAX_PAYLOAD].into(),
            ..unique(3, once())
        },
    ];
    for new in &wanted {
        assert_eq!(enqueue(&store, new.clone()).await, new.id);
    }
    for new in wanted.clone() {
        let found = get(&other, new.id).await;
        let state = JobState::Ready { run_at_ms: new.run_at_ms };
        assert_eq!(
            (found.version, found.attempt, &found.state, found.last_error.as_ref()),
            (1, 0, &state, None)
        );
        assert_eq!(
            (found.queue, found.kind, found.payload, found.unique),
            (new.queue, new.kind, new.payload, new.unique)
        );
        assert_eq!((found.max_attempts, found.created_ms), (new.max_attempts, new.created_ms));
    }
    let all = JobFilter { limit: 10, ..JobFilter::default() };
    let [first, second, third] = wanted.map(|new| new.id);
    assert_eq!(ids(&other, all.clone()).await, [third, second, first]);
    assert_eq!(ids(&other, JobFilter { limit: 2, ..all.clone() }).await, [third, second]);
    assert_eq!(
        ids(&other, JobFilter { queue: Some("work".to_owned()), ..all.clone() }).await,
        [third, first]
    );
    assert_eq!(
        ids(&other, JobFilter { queue: Some("work".to_owned()), limit: 1, ..all.clone() }).await,
        [third]
    );
    assert_eq!(
        ids(&other, JobFilter { kind: Some("copy".to_owned()), ..all.clone() }).await,
        [second, first]
    );
    store.jobs.cancel(second, NOW).await.unwrap();
    assert_eq!(
        ids(&other, JobFilter { status: Some(JobStatus::Ready), ..all.clone() }).await,
        [third, first]
    );
    assert_eq!(
        ids(&other, JobFilter { status: Some(JobStatus::Cancelled), ..all }).await,
        [second]
    );
}

/// A request whose answer was lost is repeated without harm; what is no job is refused.
pub async fn enqueueing_again_is_harmless(backend: &impl Backend) {
    let store = backend.open().await;
    let new = unique(1, while_open());
    enqueue(&store, new.clone()).await;
    assert_eq!(enqueue(&store, new.clone()).await, new.id);
    let claimed = store.jobs.claim(claim(NOW + 1, 9)).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(store.jobs.finish(new.id, 1, NOW + 2, done()).await.unwrap(), Hold::Kept);
    assert_eq!(enqueue(&store, new.clone()).await, new.id, "it was done meanwhile");
    assert_eq!(get(&store, new.id).await.status(), JobStatus::Done);
    let other = NewJob { kind: "delete".to_owned(), ..new };
    assert!(matches!(store.jobs.enqueue(other).await, Err(StoreError::Refused { .. })));
    let long = "k".repeat(201);
    for bad in [
        NewJob { queue: String::new(), ..job(2) },
        NewJob { queue: "Work".to_owned(), ..job(2) },
        NewJob { kind: "a".repeat(65), ..job(2) },
        NewJob { kind: "a b".to_owned(), ..job(2) },
        NewJob { max_attempts: 0, ..job(2) },
        NewJob { run_at_ms: u64::MAX, ..job(2) },
        unique(2, Unique::Once(String::new())),
        unique(2, Unique::WhileOpen(long)),
    ] {
        let refused = store.jobs.enqueue(bad.clone()).await;
        assert!(matches!(refused, Err(StoreError::Refused { .. })), "{bad:?}: {refused:?}");
    }
    let large = NewJob { payload: vec![0; MAX_PAYLOAD + 1].into(), ..job(2) };
    assert!(matches!(store.jobs.enqueue(large).await, Err(StoreError::TooLarge { .. })));
    assert_eq!(store.jobs.get(job(2).id).await.unwrap(), None);
}

/// Of jobs with one key that many enqueue at once, one stands, and all are told which.
pub async fn one_of_many_gets_the_key(backend: &impl Backend) {
    const NODES: u64 = 8;
    let stores = open_many(backend, NODES as usize).await;
    for round in 0..4u64 {
        let key = Unique::Once(format!("cron:beat:{round}"));
        let wanted = (0..NODES).map(|node| unique(round * 100 + node, key.clone()));
        let told = stores.iter().zip(wanted).map(|(store, new)| store.jobs.enqueue(new));
        let told: BTreeSet<JobId> =
            futures::future::join_all(told).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(told.len(), 1, "round {round}: {told:?}");
        let all = ids(&stores[0], JobFilter { limit: 100, ..JobFilter::default() }).await;
        assert_eq!(all.len() as u64, round + 1);
        assert!(told.contains(&all[0]));
    }
}

/// A key is held while its job is open, or for as long as the job is remembered.
pub async fn keys_are_held_and_freed(backend: &impl Backend) {
    let store = backend.open().await;
    let open = enqueue(&store, unique(1, while_open())).await;
    let kept = enqueue(&store, unique(2, once())).await;
    for number in [3, 4] {
        assert_eq!(enqueue(&store, unique(number, while_open())).await, open);
        assert_eq!(enqueue(&store, unique(number, once())).await, kept);
        assert_eq!(
            enqueue(&store, unique(number, Unique::Once("nightly".to_owned()))).await,
            open,
            "keys have one space"
        );
        store.jobs.claim(claim(NOW + 10, 9)).await.unwrap();
    }
    for id in [open, kept] {
        assert_eq!(
            store
                .jobs
                .finish(id, 1, NOW + 20, Outcome::Retry { at_ms: NOW + 30, error: "no".to_owned() })
                .await
                .unwrap(),
            Hold::Kept
        );
    }
    assert_eq!(enqueue(&store, unique(5, while_open())).await, open, "it will be tried again");
    assert_eq!(store.jobs.claim(claim(NOW + 40, 9)).await.unwrap().len(), 2);
    assert_eq!(
        store
            .jobs
            .finish(open, 2, NOW + 50, Outcome::Dead { error: "never".to_owned() })
            .await
            .unwrap(),
        Hold::Kept
    );
    assert_eq!(store.jobs.finish(kept, 2, NOW + 50, done()).await.unwrap(), Hold::Kept);
    let next = enqueue(&store, unique(6, while_open())).await;
    assert_eq!(next, unique(6, while_open()).id, "the key of a dead job is free");
    assert_eq!(enqueue(&store, unique(7, once())).await, kept);
    let taken = store.jobs.retry(open, NOW + 60, 1).await.unwrap_err();
    assert!(
        matches!(&taken, StoreError::Refused { problem, .. } if problem.contains(&next.to_string())),
        "{taken}"
    );
    store.jobs.cancel(next, NOW + 60).await.unwrap();
    assert_eq!(store.jobs.retry(open, NOW + 60, 1).await.unwrap().status(), JobStatus::Ready);
    assert_eq!(
        enqueue(&store, unique(8, while_open())).await,
        open,
        "retried, it has its key again"
    );
    assert_eq!(store.jobs.prune(NOW + 51, 9).await.unwrap(), 1);
    assert_eq!(store.jobs.get(kept).await.unwrap(), None);
    assert_eq!(
        enqueue(&store, unique(9, once())).await,
        unique(9, once()).id,
        "pruned, and so its key is free"
    );
}

/// Many claimers at once share the jobs: nobody gets one that another has.
pub async fn each_job_goes_to_one_claimer(backend: &impl Backend) {
    const JOBS: u64 = 40;
    let stores = open_many(backend, 4).await;
    for number in 0..JOBS {
        enqueue(&stores[0], job(number)).await;
    }
    enqueue(&stores[0], NewJob { run_at_ms: NOW + 500, ..job(100) }).await;
    enqueue(&stores[0], NewJob { queue: "other".to_owned(), ..job(101) }).await;
    let claims = stores.iter().map(|store| async move {
        let mut mine = Vec::new();
        loop {
            let claimed = store.jobs.claim(claim(NOW + 100, 3)).await.unwrap();
            assert!(claimed.len() <= 3);
            if claimed.is_empty() {
                return mine;
            }
            mine.extend(claimed);
        }
    });
    let claimed: Vec<Job> = futures::future::join_all(claims).await.into_iter().flatten().collect();
    let ids: BTreeSet<JobId> = claimed.iter().map(|job| job.id).collect();
    assert_eq!(
        (claimed.len() as u64, ids.len() as u64),
        (JOBS, JOBS),
        "a job went to two, or to nobody"
    );
    let running = JobState::Running { by: NODE, since_ms: NOW + 100, until_ms: NOW + 1_100 };
    for job in claimed {
        assert_eq!((job.attempt, &job.state), (1, &running));
        assert_eq!(
            get(&stores[1], job.id).await,
            job,
            "what is stored is what the claimer was given"
        );
    }
}

/// Whoever waits longest comes first, and nobody before their time.
pub async fn the_oldest_jobs_come_first(backend: &impl Backend) {
    let store = backend.open().await;
    for (number, run_at_ms) in [(1, NOW + 300), (2, NOW + 100), (3, NOW + 200), (4, NOW + 400)] {
        enqueue(&store, NewJob { run_at_ms, ..job(number) }).await;
    }
    assert_eq!(store.jobs.claim(claim(NOW + 99, 9)).await.unwrap(), []);
    assert_eq!(store.jobs.claim(claim(NOW + 300, 0)).await.unwrap(), []);
    let numbers = async |now_ms, limit| {
        let claimed = store.jobs.claim(claim(now_ms, limit)).await.unwrap();
        claimed.iter().map(|job| u64::from(job.payload[0])).collect::<Vec<_>>()
    };
    assert_eq!(numbers(NOW + 300, 2).await, [2, 3]);
    assert_eq!(numbers(NOW + 300, 2).await, [1]);
    assert_eq!(numbers(NOW + 400, 2).await, [4]);
}

/// When a holder falls silent its job goes to another, and what it says afterwards does not count.
pub async fn an_expired_lease_is_claimed_again(backend: &impl Backend) {
    let (mine, theirs) = (backend.open().await, backend.open().await);
    let id = enqueue(&mine, job(0)).await;
    assert_eq!(mine.jobs.claim(claim(NOW, 9)).await.unwrap()[0].attempt, 1);
    assert_eq!(theirs.jobs.claim(claim(NOW + 999, 9)).await.unwrap(), []);
    assert_eq!(mine.jobs.extend(id, 1, NOW + 2_000).await.unwrap(), Hold::Kept);
    assert_eq!(mine.jobs.extend(id, 1, NOW + 2_000).await.unwrap(), Hold::Kept);
    assert_eq!(
        theirs.jobs.claim(claim(NOW + 1_999, 9)).await.unwrap(),
        [],
        "the lease was extended"
    );
    let again = theirs.jobs.claim(Claim { by: OTHER, ..claim(NOW + 2_000, 9) }).await.unwrap();
    assert_eq!((again.len(), again[0].attempt), (1, 2));
    for outcome in
        [done(), Outcome::Dead { error: String::new() }, Outcome::GiveBack { at_ms: NOW }]
    {
        assert_eq!(mine.jobs.finish(id, 1, NOW + 2_001, outcome).await.unwrap(), Hold::Lost);
    }
    assert_eq!(mine.jobs.extend(id, 1, NOW + 9_000).await.unwrap(), Hold::Lost);
    assert_eq!(
        mine.jobs.finish(id, 3, NOW + 2_001, done()).await.unwrap(),
        Hold::Lost,
        "an attempt that has not been made"
    );
    assert_eq!(get(&mine, id).await, again[0]);
    // Nobody else has claimed it: the lease is over, but the work need not be done again.
    assert_eq!(theirs.jobs.extend(id, 2, NOW + 8_000).await.unwrap(), Hold::Kept);
    assert_eq!(theirs.jobs.finish(id, 2, NOW + 8_500, done()).await.unwrap(), Hold::Kept);
    assert_eq!(
        get(&mine, id).await.state,
        JobState::Done { at_ms: NOW + 8_500, note: "copied".to_owned() }
    );
    assert_eq!(theirs.jobs.extend(id, 2, NOW + 9_000).await.unwrap(), Hold::Lost);
    assert_eq!(mine.jobs.claim(claim(NOW + 99_000, 9)).await.unwrap(), []);
    assert_eq!(
        mine.jobs.extend(JobId(77), 1, NOW).await.unwrap(),
        Hold::Lost,
        "there is no such job"
    );
}

/// Of many who find the same lease expired, one gets the job.
pub async fn one_of_many_inherits_a_job(backend: &impl Backend) {
    let stores = open_many(backend, 6).await;
    let id = enqueue(&stores[0], job(0)).await;
    for round in 1..=5u64 {
        let now_ms = NOW + round * 2_000;
        let claims = stores.iter().map(|store| store.jobs.claim(claim(now_ms, 9)));
        let claimed: Vec<Job> =
            futures::future::join_all(claims).await.into_iter().flat_map(Result::unwrap).collect();
        assert_eq!(claimed.len(), 1, "round {round}");
        assert_eq!(
            (claimed[0].id, u64::from(claimed[0].attempt)),
            (id, round),
            "attempts are counted beyond the most that are wanted"
        );
    }
}

/// Done, to be tried again, dead, given back: each leaves what it should, and saying it again
/// changes nothing.
pub async fn outcomes_leave_what_they_should(backend: &impl Backend) {
    let store = backend.open().await;
    for number in 0..4 {
        enqueue(&store, job(number)).await;
    }
    assert_eq!(store.jobs.claim(claim(NOW + 5, 9)).await.unwrap().len(), 4);
    let outcomes = [
        done(),
        Outcome::Retry { at_ms: NOW + 700, error: "disk full".to_owned() },
        Outcome::Dead { error: "é".repeat(MAX_NOTE) },
        Outcome::GiveBack { at_ms: NOW + 60 },
    ];
    for _ in 0..2 {
        for (number, outcome) in (0..).zip(outcomes.clone()) {
            assert_eq!(
                store.jobs.finish(job(number).id, 1, NOW + 50, outcome).await.unwrap(),
                Hold::Kept,
                "job {number}"
            );
        }
    }
    let [finished, retried, dead, back] =
        futures::future::join_all((0..4).map(|number| get(&store, job(number).id)))
            .await
            .try_into()
            .unwrap();
    assert_eq!(finished.state, JobState::Done { at_ms: NOW + 50, note: "copied".to_owned() });
    assert_eq!(
        (retried.state, retried.attempt, retried.max_attempts),
        (JobState::Ready { run_at_ms: NOW + 700 }, 1, 3)
    );
    assert_eq!(retried.last_error.as_deref(), Some("disk full"));
    let error = "é".repeat(MAX_NOTE / 2);
    assert_eq!(
        (dead.last_error, dead.state),
        (Some(error.clone()), JobState::Dead { at_ms: NOW + 50, error })
    );
    assert_eq!(
        (back.state, back.attempt, back.max_attempts),
        (JobState::Ready { run_at_ms: NOW + 60 }, 1, 4),
        "no attempt was used up"
    );
    assert_eq!(back.last_error, None);
    assert_eq!(
        store.jobs.finish(job(0).id, 1, NOW + 51, outcomes[1].clone()).await.unwrap(),
        Hold::Lost,
        "its outcome stands"
    );
    let again = store.jobs.claim(claim(NOW + 699, 9)).await.unwrap();
    assert_eq!(again.iter().map(|job| (job.id, job.attempt)).collect::<Vec<_>>(), [(job(3).id, 2)]);
    let again = store.jobs.claim(claim(NOW + 700, 9)).await.unwrap();
    assert_eq!(again.iter().map(|job| (job.id, job.attempt)).collect::<Vec<_>>(), [(job(1).id, 2)]);
    assert_eq!(
        again[0].last_error.as_deref(),
        Some("disk full"),
        "the next attempt may read why the last one failed"
    );
}

/// Operators have dead jobs tried again and call jobs off.
pub async fn operators_retry_and_cancel(backend: &impl Backend) {
    let store = backend.open().await;
    let id = enqueue(&store, job(0)).await;
    let missing = JobId(77);
    assert!(matches!(store.jobs.retry(missing, NOW, 1).await, Err(StoreError::NotFound(_))));
    assert!(matches!(store.jobs.cancel(missing, NOW).await, Err(StoreError::NotFound(_))));
    store.jobs.claim(claim(NOW, 9)).await.unwrap();
    assert!(
        matches!(store.jobs.retry(id, NOW, 1).await, Err(StoreError::Refused { .. })),
        "it is running"
    );
    store.jobs.finish(id, 1, NOW + 1, Outcome::Dead { error: "no disk".to_owned() }).await.unwrap();
    assert!(
        matches!(store.jobs.cancel(id, NOW).await, Err(StoreError::Refused { .. })),
        "there is nothing to cancel"
    );
    assert_eq!(store.jobs.claim(claim(NOW + 9_000, 9)).await.unwrap(), []);
    let retried = store.jobs.retry(id, NOW + 9_000, 2).await.unwrap();
    assert_eq!((retried.attempt, retried.max_attempts), (1, 3));
    assert_eq!(get(&store, id).await, retried);
    let claimed = store.jobs.claim(claim(NOW + 9_000, 9)).await.unwrap();
    assert_eq!(
        claimed[0].attempt, 2,
        "attempts go on counting: the first holder has lost it for good"
    );
    assert_eq!(store.jobs.finish(id, 1, NOW + 9_001, done()).await.unwrap(), Hold::Lost);
    let called_off = store.jobs.cancel(id, NOW + 9_100).await.unwrap();
    assert_eq!(called_off.state, JobState::Cancelled { at_ms: NOW + 9_100 });
    assert_eq!(store.jobs.cancel(id, NOW + 9_200).await.unwrap(), called_off);
    assert_eq!(
        store.jobs.extend(id, 2, NOW + 99_000).await.unwrap(),
        Hold::Lost,
        "the holder learns it"
    );
    assert_eq!(store.jobs.finish(id, 2, NOW + 9_300, done()).await.unwrap(), Hold::Lost);
    assert_eq!(store.jobs.claim(claim(NOW + 99_000, 9)).await.unwrap(), []);
    assert_eq!(store.jobs.retry(id, NOW + 99_000, 1).await.unwrap().status(), JobStatus::Ready);
    let hurried = NewJob { run_at_ms: NOW + 999_000, ..job(1) };
    let hurried = enqueue(&store, hurried).await;
    assert_eq!(
        store.jobs.retry(hurried, NOW + 99_000, 3).await.unwrap().due_ms(),
        Some(NOW + 99_000),
        "one that waits is run now"
    );
    assert_eq!(store.jobs.claim(claim(NOW + 99_000, 9)).await.unwrap().len(), 2);
    store.jobs.finish(hurried, 1, NOW + 99_001, done()).await.unwrap();
    assert!(
        matches!(store.jobs.retry(hurried, NOW, 1).await, Err(StoreError::Refused { .. })),
        "it is done"
    );
    let waiting = enqueue(&store, job(2)).await;
    store.jobs.cancel(waiting, NOW + 99_002).await.unwrap();
    assert_eq!(store.jobs.claim(claim(NOW + 99_002, 9)).await.unwrap(), []);
}

/// What was finished long ago is forgotten, and nothing else.
pub async fn finished_jobs_are_pruned(backend: &impl Backend) {
    let store = backend.open().await;
    for number in 0..6 {
        enqueue(&store, job(number)).await;
    }
    assert_eq!(store.jobs.claim(claim(NOW + 3, 4)).await.unwrap().len(), 4);
    for (number, outcome) in
        [(0, done()), (1, Outcome::Dead { error: "no".to_owned() }), (2, done())]
    {
        store.jobs.finish(job(number).id, 1, NOW + 100 + number, outcome).await.unwrap();
    }
    store.jobs.cancel(job(4).id, NOW + 103).await.unwrap();
    assert_eq!(store.jobs.prune(NOW + 100, 9).await.unwrap(), 0);
    assert_eq!(store.jobs.prune(NOW + 103, 2).await.unwrap(), 2, "as many as were asked for");
    assert_eq!(store.jobs.prune(NOW + 103, 2).await.unwrap(), 1);
    let all = JobFilter { limit: 9, ..JobFilter::default() };
    assert_eq!(
        ids(&store, all.clone()).await,
        [5, 4, 3].map(|number| job(number).id),
        "ready, just cancelled, running"
    );
    assert_eq!(store.jobs.prune(u64::MAX >> 1, 9).await.unwrap(), 1);
    assert_eq!(ids(&store, all).await, [5, 3].map(|number| job(number).id));
    assert_eq!(store.jobs.finish(job(0).id, 1, NOW + 100, done()).await.unwrap(), Hold::Lost);
}

/// Jobs are counted by queue and state.
pub async fn jobs_are_counted(backend: &impl Backend) {
    let store = backend.open().await;
    assert_eq!(store.jobs.counts().await.unwrap(), []);
    for number in 0..7 {
        enqueue(&store, job(number)).await;
    }
    enqueue(&store, NewJob { queue: "backup".to_owned(), ..job(9) }).await;
    assert_eq!(store.jobs.claim(claim(NOW + 3, 4)).await.unwrap().len(), 4);
    store.jobs.finish(job(0).id, 1, NOW + 4, done()).await.unwrap();
    store
        .jobs
        .finish(job(1).id, 1, NOW + 4, Outcome::Dead { error: "no".to_owned() })
        .await
        .unwrap();
    store.jobs.cancel(job(4).id, NOW + 4).await.unwrap();
    let backup = QueueCounts {
        queue: "backup".to_owned(),
        ready: 1,
        oldest_ready_ms: Some(NOW + 9),
        ..QueueCounts::default()
    };
    let work = QueueCounts {
        queue: "work".to_owned(),
        ready: 2,
        running: 2,
        done: 1,
        dead: 1,
        cancelled: 1,
        oldest_ready_ms: Some(NOW + 5),
    };
    assert_eq!(store.jobs.counts().await.unwrap(), [backup, work]);
}
