//! The jobs core against a store whose answers are late, lost, or never come, on nodes that die:
//! whatever happens, no job has two holders at work, every job comes to an end, and a slot of the
//! clock has one job.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use rekindle_jobs::core::{Effect, Event, Held, JobsCore, KindConfig, Mend, Open, Times, Verdict};
use rekindle_jobs::{CronEntry, QueueConfig, RetryPolicy, WorkError};
use rekindle_schema::job::{Job, JobState, JobStatus, Unique};
use rekindle_schema::{Incarnation, JobId};
use rekindle_store::jobs::{self, Change};
use rekindle_store::{Hold, NewJob, Outcome, StoreError};

const START: u64 = 1_700_000_000_000;
const LEASE: u64 = 3_000;
const POLL: u64 = 500;
const ATTEMPTS: u32 = 4;
const POLICY: RetryPolicy =
    RetryPolicy { first: Duration::from_millis(400), most: Duration::from_secs(4) };

/// splitmix64: all chance of a run comes from its seed.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: u64) -> u64 {
        self.next() % most
    }

    fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }
}

/// The store as the port describes it: every request is one step.
#[derive(Default)]
struct Table(BTreeMap<JobId, Job>);

impl Table {
    fn enqueue(&mut self, new: NewJob) -> JobId {
        let job = jobs::new(new).unwrap();
        if let Some(holder) = self
            .0
            .values()
            .find(|other| other.held_key().is_some() && other.held_key() == job.held_key())
        {
            return holder.id;
        }
        let id = job.id;
        assert!(self.0.insert(id, job).is_none(), "ids are chosen twice");
        id
    }

    fn claim(
        &mut self,
        queue: &str,
        by: u64,
        now_ms: u64,
        until_ms: u64,
        limit: usize,
    ) -> Vec<Job> {
        let due = self.0.values().filter(|job| job.queue == queue);
        let due: Vec<Job> = due
            .filter_map(|job| jobs::claim(job, Incarnation(by), now_ms, until_ms))
            .take(limit)
            .collect();
        self.0.extend(due.iter().map(|job| (job.id, job.clone())));
        due
    }

    fn put(&mut self, id: JobId, change: impl FnOnce(&Job) -> Change) -> Hold {
        match self.0.get(&id).map_or(Change::Lost, change) {
            Change::To(job) => {
                self.0.insert(id, job);
                Hold::Kept
            }
            Change::None => Hold::Kept,
            Change::Lost => Hold::Lost,
        }
    }
}

struct Node {
    core: JobsCore,
    /// Handlers at work: when each ends.
    work: BTreeMap<Held, u64>,
    /// Answers and results on their way, by time and number.
    inbox: BTreeMap<(u64, u64), Event>,
}

struct World {
    chance: Chance,
    now_ms: u64,
    serial: u64,
    table: Table,
    nodes: BTreeMap<u64, Node>,
    /// How often each job was begun.
    begun: BTreeMap<JobId, u32>,
    cron_slots: BTreeMap<String, BTreeSet<JobId>>,
    /// Steps of the clock that were noticed.
    steps: Vec<i64>,
    faults: bool,
}

fn kinds() -> BTreeMap<String, KindConfig> {
    let kind = |queue: &str, deadline| KindConfig {
        queue: queue.to_owned(),
        attempts: ATTEMPTS,
        deadline: Duration::from_millis(deadline),
    };
    [
        ("quick".to_owned(), kind("work", 60_000)),
        ("slow".to_owned(), kind("work", 5_000)),
        ("beat".to_owned(), kind("clock", 60_000)),
    ]
    .into()
}

fn core(seed: u64) -> JobsCore {
    let times = Times { lease_ms: LEASE, poll_ms: POLL, drain_ms: 2_000 };
    let queue =
        |name: &str, concurrency| QueueConfig { name: name.to_owned(), concurrency, retry: POLICY };
    let entry = CronEntry {
        name: "beat".to_owned(),
        schedule: "every 7s".parse().unwrap(),
        kind: "beat".to_owned(),
        payload: Bytes::new(),
    };
    JobsCore::new(times, vec![queue("work", 3), queue("clock", 1)], kinds(), vec![entry], seed)
}

fn new_job(id: u64, kind: &str, unique: Option<Unique>) -> NewJob {
    NewJob {
        id: JobId(id),
        queue: "work".to_owned(),
        kind: kind.to_owned(),
        payload: Bytes::new(),
        unique,
        run_at_ms: START,
        max_attempts: ATTEMPTS,
        created_ms: START,
    }
}

impl World {
    fn new(seed: u64, nodes: u64) -> Self {
        let mut world = Self {
            chance: Chance(seed),
            now_ms: START,
            serial: 0,
            table: Table::default(),
            nodes: BTreeMap::new(),
            begun: BTreeMap::new(),
            cron_slots: BTreeMap::new(),
            steps: Vec::new(),
            faults: true,
        };
        (1..=nodes).for_each(|_| world.start());
        world
    }

    fn start(&mut self) {
        self.serial += 1;
        let seed = self.chance.next();
        self.nodes.insert(
            self.serial,
            Node { core: core(seed), work: BTreeMap::new(), inbox: BTreeMap::new() },
        );
    }

    fn unavailable() -> StoreError {
        StoreError::Unavailable("lost".to_owned())
    }

    /// Sends an answer, late or with its content lost.
    fn answer<T>(
        &mut self,
        node: u64,
        result: T,
        event: impl FnOnce(Result<T, StoreError>) -> Event,
    ) {
        let lost = self.faults && self.chance.percent(8);
        let late = if self.faults && self.chance.percent(5) {
            self.chance.below(2 * LEASE)
        } else {
            self.chance.below(40)
        };
        let event = event(if lost { Err(Self::unavailable()) } else { Ok(result) });
        self.post(node, self.now_ms + late, event);
    }

    fn post(&mut self, node: u64, at: u64, event: Event) {
        self.serial += 1;
        if let Some(node) = self.nodes.get_mut(&node) {
            node.inbox.insert((at, self.serial), event);
        }
    }

    fn tell(&mut self, id: u64, event: Event) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(&id) else { return };
        for effect in node.core.handle(now_ms, event) {
            self.carry_out(id, effect);
        }
    }

    fn carry_out(&mut self, id: u64, effect: Effect) {
        // A request may be lost before it takes effect.
        let lost = self.faults && self.chance.percent(8);
        match effect {
            Effect::Enqueue(place, job) => {
                let key = job.unique.clone().unwrap().key().to_owned();
                let stands = if lost { None } else { Some(self.table.enqueue(job)) };
                if let Some(stands) = stands {
                    self.cron_slots.entry(key).or_default().insert(stands);
                    self.answer(id, stands, |answer| Event::Enqueued(place, answer));
                } else {
                    self.post(
                        id,
                        self.now_ms + 20,
                        Event::Enqueued(place, Err(Self::unavailable())),
                    );
                }
            }
            Effect::Claim { queue, now_ms, until_ms, limit } => {
                assert!(limit > 0);
                let jobs = if lost {
                    Vec::new()
                } else {
                    self.table.claim(&queue, id, now_ms, until_ms, limit)
                };
                self.answer(id, jobs, |answer| Event::Claimed(queue, answer));
            }
            Effect::Extend(held, until_ms) => {
                if lost {
                    return self.post(
                        id,
                        self.now_ms + 20,
                        Event::Extended(held, until_ms, Err(Self::unavailable())),
                    );
                }
                let hold = self.table.put(held.id, |job| jobs::extend(job, held.attempt, until_ms));
                self.answer(id, hold, |answer| Event::Extended(held, until_ms, answer));
            }
            Effect::Finish { held, now_ms, outcome } => {
                if let Outcome::Retry { at_ms, .. } = &outcome {
                    let wait = at_ms - now_ms;
                    assert!(
                        (200..=4_000).contains(&wait),
                        "waits {wait} ms after attempt {}",
                        held.attempt
                    );
                }
                if lost {
                    return self.post(
                        id,
                        self.now_ms + 20,
                        Event::Finished(held, Err(Self::unavailable())),
                    );
                }
                let hold =
                    self.table.put(held.id, |job| jobs::finish(job, held.attempt, now_ms, outcome));
                self.answer(id, hold, |answer| Event::Finished(held, answer));
            }
            Effect::Review => {
                let live = self.nodes.keys().map(|&node| Incarnation(node)).collect();
                let jobs =
                    self.table.0.values().filter(|job| job.due_ms().is_some()).cloned().collect();
                self.answer(id, Open { jobs, live }, Event::Reviewed);
            }
            Effect::Mend(Mend::Free(held, until_ms)) => {
                self.table.put(held.id, |job| jobs::extend(job, held.attempt, until_ms));
            }
            Effect::Mend(Mend::Due(job, attempts)) => {
                if let Ok(ready) = jobs::retry(&self.table.0[&job], self.now_ms, attempts) {
                    self.table.0.insert(job, ready);
                }
            }
            Effect::Stepped(by_ms) => self.steps.push(by_ms),
            Effect::Start(job) => self.begin(id, &job),
            Effect::Stop(held) => {
                self.nodes.get_mut(&id).unwrap().work.remove(&held);
            }
            Effect::Over { held, .. } => {
                let at_work = self.nodes[&id].work.contains_key(&held);
                assert!(!at_work, "{held:?} is said to be over while its handler works");
            }
            Effect::Drained { .. } => {}
        }
    }

    fn begin(&mut self, id: u64, job: &Job) {
        let held = Held { id: job.id, attempt: job.attempt };
        assert!(job.attempt <= job.max_attempts, "attempt {} of {}", job.attempt, job.max_attempts);
        for (other, node) in &self.nodes {
            let beside = node.work.keys().find(|other| other.id == job.id);
            assert!(
                beside.is_none(),
                "node {other} works on {beside:?} while node {id} begins {held:?}"
            );
        }
        *self.begun.entry(job.id).or_default() += 1;
        let takes = if job.kind == "slow" {
            self.chance.below(8_000)
        } else {
            self.chance.below(2 * LEASE)
        };
        let ends = self.now_ms + takes;
        let result = match self.chance.below(10) {
            0 | 1 => Ok(Err(WorkError::Retry("no luck".to_owned()))),
            2 => Err("a panic".to_owned()),
            _ => Ok(Ok("done".to_owned())),
        };
        self.nodes.get_mut(&id).unwrap().work.insert(held, ends);
        self.post(id, ends, Event::Worked(held, result));
    }

    /// Lets `ms` milliseconds go by.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.now_ms += 10;
            let ids: Vec<u64> = self.nodes.keys().copied().collect();
            for id in ids {
                // A node that got no time for a while sees everything late, its own timer too.
                if self.faults && self.chance.below(2_000) == 0 {
                    self.crash(id);
                    continue;
                }
                let now_ms = self.now_ms;
                // The time comes first: a node that was held up learns of it before it goes on.
                self.tell(id, Event::Tick);
                while let Some(entry) =
                    self.nodes.get_mut(&id).and_then(|node| node.inbox.first_entry())
                {
                    if entry.key().0 > now_ms {
                        break;
                    }
                    let event = entry.remove();
                    if let Event::Worked(held, _) = &event
                        && self.nodes.get_mut(&id).unwrap().work.remove(held).is_none()
                    {
                        // It was stopped.
                        continue;
                    }
                    self.tell(id, event);
                }
            }
        }
    }

    /// The wall clock is set: what is on its way arrives no sooner and no later.
    fn step(&mut self, by_ms: i64) {
        self.now_ms = self.now_ms.checked_add_signed(by_ms).unwrap();
        for node in self.nodes.values_mut() {
            let inbox = std::mem::take(&mut node.inbox);
            node.inbox = inbox
                .into_iter()
                .map(|((at, serial), event)| ((at.saturating_add_signed(by_ms), serial), event))
                .collect();
        }
    }

    /// The slots of the clock that came in the last `ms` milliseconds and whose job is done.
    fn slots_done(&self, ms: u64) -> usize {
        let slots = self.cron_slots.iter().filter(|(key, _)| {
            let slot = key.rsplit(':').next().unwrap().parse::<u64>().unwrap() * 1_000;
            (self.now_ms - ms..=self.now_ms).contains(&slot)
        });
        slots
            .filter(|(_, jobs)| jobs.iter().all(|id| self.table.0[id].finished_ms().is_some()))
            .count()
    }

    /// kill -9, and a new process.
    fn crash(&mut self, id: u64) {
        self.nodes.remove(&id);
        self.start();
    }
}

fn run(seed: u64) {
    let mut world = World::new(seed, 3);
    let ids: Vec<JobId> = (1..=20)
        .map(|id| {
            world.table.enqueue(new_job(id, if id % 4 == 0 { "slow" } else { "quick" }, None))
        })
        .collect();
    let unknown = world.table.enqueue(new_job(99, "unknown", None));
    let open = Unique::WhileOpen("one".to_owned());
    let one = world.table.enqueue(new_job(50, "quick", Some(open.clone())));
    assert_eq!(world.table.enqueue(new_job(51, "quick", Some(open))), one);
    world.pass(60_000);
    world.faults = false;
    world.pass(90_000);
    for id in ids.iter().chain([&one]) {
        let job = &world.table.0[id];
        let begun = world.begun.get(id).copied().unwrap_or(0);
        match &job.state {
            JobState::Done { .. } => assert!(begun >= 1, "done without having been begun: {job:?}"),
            // A node that dies between claim and start uses an attempt up: that is what attempts
            // are for.
            JobState::Dead { error, .. } => {
                assert!(job.attempt >= ATTEMPTS && !error.is_empty(), "{job:?}");
            }
            _ => panic!("it came to no end in 150 seconds: {job:?}"),
        }
    }
    let unknown = &world.table.0[&unknown];
    assert_eq!(
        unknown.last_error, None,
        "nobody here can do it, so nobody may fail at it: {unknown:?}"
    );
    assert!(matches!(unknown.status(), JobStatus::Ready | JobStatus::Running));
    for (slot, jobs) in &world.cron_slots {
        assert_eq!(jobs.len(), 1, "{slot}: {jobs:?}");
    }
    assert!(
        world.cron_slots.len() >= 20,
        "150 seconds have 21 slots of 7 seconds: {}",
        world.cron_slots.len()
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_job_ends_and_none_has_two_holders(seed in any::<u64>()) {
        run(seed);
    }

    #[test]
    fn waits_double_within_their_bounds(attempt in 1u32..200, chance in any::<u64>()) {
        let full = 400u64.checked_shl(attempt - 1).filter(|full| full >> (attempt - 1) == 400).unwrap_or(u64::MAX).min(4_000);
        let wait = POLICY.wait_ms(attempt, chance);
        prop_assert!((full / 2..=full).contains(&wait), "{} after attempt {}", wait, attempt);
    }
}

fn claimed(core: &mut JobsCore, now_ms: u64, jobs: Vec<Job>) -> Vec<Effect> {
    core.handle(now_ms, Event::Tick);
    core.handle(now_ms, Event::Claimed("work".to_owned(), Ok(jobs)))
}

fn running(id: u64, attempt: u32, now_ms: u64) -> Job {
    let mut job = jobs::new(new_job(id, "quick", None)).unwrap();
    job.attempt = attempt - 1;
    jobs::claim(&job, Incarnation(1), now_ms, now_ms + LEASE).unwrap()
}

#[test]
fn a_lost_lease_stops_the_handler_at_once() {
    let mut core = core(1);
    let held = Held { id: JobId(7), attempt: 1 };
    assert!(
        claimed(&mut core, START, vec![running(7, 1, START)])
            .iter()
            .any(|effect| matches!(effect, Effect::Start(_)))
    );
    let asked = core.handle(START + LEASE / 2, Event::Tick);
    assert!(asked.contains(&Effect::Extend(held, START + LEASE / 2 + LEASE)), "{asked:?}");
    let lost = core.handle(
        START + LEASE / 2 + 5,
        Event::Extended(held, START + LEASE / 2 + LEASE, Ok(Hold::Lost)),
    );
    assert!(lost.contains(&Effect::Stop(held)), "{lost:?}");
    assert!(
        lost.iter().any(|effect| matches!(effect, Effect::Over { verdict: Verdict::Lost, .. }))
    );
    // Asleep for longer than its lease: the first thing it learns stops its handler.
    claimed(&mut core, START + 10_000, vec![running(8, 2, START + 10_000)]);
    let woken = core.handle(START + 10_000 + LEASE, Event::Nudge);
    assert!(woken.contains(&Effect::Stop(Held { id: JobId(8), attempt: 2 })), "{woken:?}");
}

#[test]
fn after_the_last_attempt_a_job_is_buried_unopened() {
    let mut core = core(1);
    let effects = claimed(&mut core, START, vec![running(7, ATTEMPTS + 1, START)]);
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Start(_))), "{effects:?}");
    assert!(
        effects
            .iter()
            .any(|effect| matches!(effect, Effect::Finish { outcome: Outcome::Dead { .. }, .. })),
        "{effects:?}"
    );
}

#[test]
fn a_clean_stop_waits_and_then_gives_back() {
    let mut core = core(1);
    claimed(&mut core, START, vec![running(7, 1, START), running(8, 1, START)]);
    let (seven, eight) = (Held { id: JobId(7), attempt: 1 }, Held { id: JobId(8), attempt: 1 });
    let drained = |effects: &[Effect]| {
        effects.iter().find(|effect| matches!(effect, Effect::Drained { .. })).cloned()
    };
    assert_eq!(drained(&core.handle(START + 10, Event::Drain)), None);
    // A claim that was under way brings another one: it goes back unopened.
    let late =
        core.handle(START + 15, Event::Claimed("work".to_owned(), Ok(vec![running(9, 1, START)])));
    assert!(
        late.iter().any(|effect| matches!(
            effect,
            Effect::Finish { outcome: Outcome::GiveBack { .. }, .. }
        )),
        "{late:?}"
    );
    core.handle(START + 16, Event::Finished(Held { id: JobId(9), attempt: 1 }, Ok(Hold::Kept)));
    core.handle(START + 17, Event::Claimed("clock".to_owned(), Ok(Vec::new())));
    core.handle(START + 20, Event::Worked(seven, Ok(Ok("done".to_owned()))));
    core.handle(START + 30, Event::Finished(seven, Ok(Hold::Kept)));
    let asked = core.handle(START + 1_000, Event::Tick);
    assert!(
        !asked.iter().any(|effect| matches!(
            effect,
            Effect::Claim { .. } | Effect::Enqueue(..) | Effect::Stop(_)
        )),
        "{asked:?}"
    );
    let given_back = core.handle(START + 2_010, Event::Tick);
    assert!(given_back.contains(&Effect::Stop(eight)), "{given_back:?}");
    let end = core.handle(START + 2_020, Event::Finished(eight, Ok(Hold::Kept)));
    assert_eq!(drained(&end), Some(Effect::Drained { finished: 1, given_back: 2 }));
}

const HOUR: i64 = 3_600_000;
const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;

#[test]
fn what_is_done_by_the_clock_goes_on_when_the_clock_is_set() {
    for (seed, by_ms) in (1u64..).zip([HOUR, -HOUR, TEN_YEARS, -TEN_YEARS, 30 * 24 * HOUR]) {
        let mut world = World::new(seed, 2);
        world.faults = false;
        world.pass(20_000);
        assert!(world.slots_done(20_000) >= 1, "{by_ms}");
        // Away, for five seconds, and back; then away for good.
        for step in [by_ms, -by_ms, by_ms] {
            world.step(step);
            let job = world.serial + 1_000_000;
            let mut wanted = new_job(job, "quick", None);
            (wanted.run_at_ms, wanted.created_ms) = (world.now_ms, world.now_ms);
            world.table.enqueue(wanted);
            world.pass(5_000);
            if world.steps.len() > 2 {
                world.pass(25_000);
                assert!(
                    world.slots_done(21_000) >= 2,
                    "after a step of {step} ms: {:?}",
                    world.cron_slots
                );
                assert!(
                    world.table.0[&JobId(job)].finished_ms().is_some(),
                    "after a step of {step} ms: {:?}",
                    world.table.0[&JobId(job)]
                );
            }
        }
        // Both nodes notice each of them.
        assert_eq!(
            world.steps.iter().filter(|&&step| (step - by_ms).abs() < 1_000).count(),
            4,
            "{:?}",
            world.steps
        );
        assert_eq!(world.steps.len(), 6, "{:?}", world.steps);
    }
}

#[test]
fn what_a_wrong_clock_has_left_in_the_store_is_due_again_after_a_start() {
    let ahead = START + TEN_YEARS as u64;
    let mut world = World::new(7, 0);
    world.faults = false;
    let mut put = |id: u64, change: &dyn Fn(&mut Job)| {
        let mut job = jobs::new(new_job(id, "quick", None)).unwrap();
        change(&mut job);
        world.table.0.insert(JobId(id), job);
    };
    // Claimed by a node that died before its clock was set back; it failed there; an operator
    // wanted it there.
    put(1, &|job| {
        job.attempt = 1;
        job.state =
            JobState::Running { by: Incarnation(99), since_ms: ahead - LEASE, until_ms: ahead };
    });
    put(2, &|job| (job.attempt, job.state) = (1, JobState::Ready { run_at_ms: ahead }));
    put(3, &|job| {
        (job.created_ms, job.state) = (ahead, JobState::Ready { run_at_ms: ahead });
        job.unique = Some(Unique::WhileOpen("run:work:quick".to_owned()));
    });
    // Somebody wants it tomorrow, and means it.
    put(4, &|job| job.state = JobState::Ready { run_at_ms: START + 24 * HOUR as u64 });
    // A live node has it, whose clock is ahead: nobody takes it away.
    world.start();
    let other = Incarnation(world.serial);
    let mut job = jobs::new(new_job(5, "quick", None)).unwrap();
    (job.attempt, job.state) =
        (1, JobState::Running { by: other, since_ms: ahead - LEASE, until_ms: ahead });
    world.table.0.insert(JobId(5), job);
    world.pass(60_000);
    for id in [1, 2, 3] {
        assert!(
            world.table.0[&JobId(id)].finished_ms().is_some(),
            "{:?}",
            world.table.0[&JobId(id)]
        );
    }
    for id in [4, 5] {
        assert_eq!(world.table.0[&JobId(id)].version, 1, "{:?}", world.table.0[&JobId(id)]);
    }
}

#[test]
fn a_lease_keeps_its_distance_when_the_clock_is_set_back_and_ends_when_it_leaps() {
    let held = Held { id: JobId(7), attempt: 1 };
    let back = START - HOUR as u64;
    let mut core = core(1);
    claimed(&mut core, START, vec![running(7, 1, START)]);
    let effects = core.handle(back, Event::Tick);
    assert!(
        effects.contains(&Effect::Stepped(-HOUR)) && !effects.contains(&Effect::Stop(held)),
        "{effects:?}"
    );
    // The store never hears of an earlier end than it knows: whose clock is right it cannot know.
    let asked = core.handle(back + LEASE / 2, Event::Tick);
    assert!(asked.contains(&Effect::Extend(held, START + LEASE)), "{asked:?}");
    let ended = core.handle(back + LEASE, Event::Tick);
    assert!(
        ended.contains(&Effect::Stop(held)),
        "unconfirmed, it ends as if nothing had happened: {ended:?}"
    );

    let mut core = self::core(2);
    claimed(&mut core, START, vec![running(7, 1, START)]);
    let effects = core.handle(START + HOUR as u64, Event::Tick);
    assert!(effects.contains(&Effect::Stop(held)), "others take it for free: {effects:?}");
}
