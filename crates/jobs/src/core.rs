//! What a node does about jobs, as a function of what happened and when: no clock, no store, no
//! task.
//!
//! The one rule about duplicates: whatever the core believes, a job counts as held only until the
//! end of the lease that the store has confirmed. At that moment its handler is stopped, so that
//! nobody who claims it then works beside it.
//!
//! Times are those of a wall clock, which may be set. A step moves what this node waits for along
//! with it (`JobsCore::stepped`): slots of the clock are found anew, patience and leases keep what
//! was left of them. What a clock that was wrong has left in the store, further ahead than anything
//! can be, is looked for after a step, at the start and now and then, and put right
//! ([`Effect::Review`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use rekindle_schema::job::{Job, JobState, Unique};
use rekindle_schema::{Incarnation, JobId};
use rekindle_store::{Hold, NewJob, Outcome, StoreError};

use super::cron::Schedule;
use super::{WorkError, WorkResult};

/// How long a failed attempt is followed by nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// After the first.
    pub first: Duration,
    /// It doubles with each further one, up to this.
    pub most: Duration,
}

impl RetryPolicy {
    /// How long to wait after attempt number `attempt` (from 1): between half of the full wait and
    /// all of it, as `chance` says, so that what failed together is not tried again together.
    pub fn wait_ms(&self, attempt: u32, chance: u64) -> u64 {
        let full = (self.first.as_millis() as u64)
            .saturating_mul(1 << (attempt.clamp(1, 32) - 1))
            .min(self.most.as_millis() as u64);
        full / 2 + (chance % 1_001) * (full - full / 2) / 1_000
    }
}

/// A queue that a node serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueConfig {
    /// Its name.
    pub name: String,
    /// How many of its jobs this node works on at once.
    pub concurrency: usize,
    /// How failures are followed up.
    pub retry: RetryPolicy,
}

/// Something that is enqueued by the clock. Each of its moments is a *slot*; all nodes enqueue the
/// next one, and its unique key lets one job stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CronEntry {
    /// Its name, unique in a cluster.
    pub name: String,
    /// When.
    pub schedule: Schedule,
    /// Which kind of job.
    pub kind: String,
    /// Its arguments.
    pub payload: Bytes,
}

/// What the core knows of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KindConfig {
    /// Where its jobs wait.
    pub queue: String,
    /// How often one is tried.
    pub attempts: u32,
    /// How long an attempt may take.
    pub deadline: Duration,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// Time went by.
    Tick,
    /// Something was enqueued here: look at once.
    Nudge,
    /// The answer to [`Effect::Enqueue`]; the place is that of the entry.
    Enqueued(usize, Result<JobId, StoreError>),
    /// The answer to [`Effect::Claim`].
    Claimed(String, Result<Vec<Job>, StoreError>),
    /// The answer to [`Effect::Extend`].
    Extended(Held, u64, Result<Hold, StoreError>),
    /// A handler is through, or has panicked.
    Worked(Held, Result<WorkResult, String>),
    /// The answer to [`Effect::Finish`].
    Finished(Held, Result<Hold, StoreError>),
    /// The answer to [`Effect::Review`].
    Reviewed(Result<Open, StoreError>),
    /// Take nothing new, and come to an end.
    Drain,
}

/// What a store has open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Open {
    /// Jobs that wait or are at work, of whatever queue.
    pub jobs: Vec<Job>,
    /// The incarnations that are live, as their leases say: what they hold is theirs.
    pub live: BTreeSet<Incarnation>,
}

/// How a job is put right that a wrong clock has put off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mend {
    /// Its holder is dead: others may claim it from this moment on.
    Free(Held, u64),
    /// It is due now, with so many further attempts.
    Due(JobId, u32),
}

/// A job in the hands of this node: which, and by which claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Held {
    /// Which job.
    pub id: JobId,
    /// The number of the claim.
    pub attempt: u32,
}

/// How an attempt ended, for those who count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is done.
    Done,
    /// It will be tried again.
    Retried,
    /// It is a dead letter.
    Dead,
    /// It was given back.
    GivenBack,
    /// It was lost to another node, or cancelled.
    Lost,
}

impl Verdict {
    /// As a label of a metric.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retried => "retried",
            Self::Dead => "dead",
            Self::GivenBack => "given_back",
            Self::Lost => "lost",
        }
    }
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Enqueue the next slot of an entry.
    Enqueue(usize, NewJob),
    /// Claim jobs of a queue.
    Claim {
        /// Which.
        queue: String,
        /// Now.
        now_ms: u64,
        /// The end of the lease.
        until_ms: u64,
        /// At most so many.
        limit: usize,
    },
    /// Move the end of a lease.
    Extend(Held, u64),
    /// Let the handler work.
    Start(Job),
    /// Stop the handler at its next await.
    Stop(Held),
    /// Say what came of it.
    Finish {
        /// Of what.
        held: Held,
        /// Now.
        now_ms: u64,
        /// What.
        outcome: Outcome,
    },
    /// An attempt is over: count it, and say so in the log.
    Over {
        /// Which.
        held: Held,
        /// What kind of job.
        kind: String,
        /// How it ended.
        verdict: Verdict,
        /// Since it was claimed.
        took_ms: u64,
        /// Why, if it failed.
        error: Option<String>,
    },
    /// The wall clock was set by so many milliseconds, forwards or backwards: count it, and say so
    /// in the log.
    Stepped(i64),
    /// Read what is open in the store.
    Review,
    /// Put a job right.
    Mend(Mend),
    /// Nothing is in hand any more, and nothing will be.
    Drained {
        /// Jobs that were at work when the drain began and came to their own end.
        finished: usize,
        /// Jobs that were given back.
        given_back: usize,
    },
}

/// What came of an attempt, on its way to the store.
#[derive(Debug)]
struct Told {
    outcome: Outcome,
    /// When it was over. It stays the same however often the store is told.
    now_ms: u64,
    /// The store has been asked and has not answered.
    asked: bool,
    /// After a failed request: not before.
    from_ms: u64,
}

#[derive(Debug)]
struct Run {
    queue: String,
    kind: String,
    attempt: u32,
    max_attempts: u32,
    since_ms: u64,
    deadline_ms: u64,
    /// The end of the lease, as this node counts it.
    until_ms: u64,
    /// The end of the lease in the store; later than `until_ms` after the clock was set back. It
    /// never goes back: a clock that is wrong must not end a lease before its handler ends.
    stored_ms: u64,
    /// An extension is asked for: the end that it stands for.
    extending: Option<u64>,
    /// After a failed extension: not before.
    extend_from_ms: u64,
    /// `None` while the handler works.
    told: Option<Told>,
}

impl Run {
    fn end(&mut self, now_ms: u64, outcome: Outcome) {
        self.told = Some(Told { outcome, now_ms, asked: false, from_ms: now_ms });
    }

    fn over(&self, id: JobId, now_ms: u64, verdict: Verdict) -> Effect {
        let error = match self.told.as_ref().map(|told| &told.outcome) {
            Some(Outcome::Retry { error, .. } | Outcome::Dead { error }) => Some(error.clone()),
            _ => None,
        };
        let held = Held { id, attempt: self.attempt };
        Effect::Over {
            held,
            kind: self.kind.clone(),
            verdict,
            took_ms: now_ms.saturating_sub(self.since_ms),
            error,
        }
    }
}

#[derive(Debug)]
struct Queue {
    config: QueueConfig,
    claiming: bool,
    next_ms: u64,
}

#[derive(Debug)]
struct Entry {
    config: CronEntry,
    /// The next slot. When its time has come, the one after it follows.
    slot: Option<u64>,
    /// The slot has its job.
    enqueued: bool,
    asking: bool,
    /// After a failed request: not before.
    from_ms: u64,
}

#[derive(Debug, Default)]
struct Drain {
    finished: usize,
    given_back: usize,
    until_ms: u64,
    told: bool,
}

/// Times that the core goes by, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Of a claim.
    pub lease_ms: u64,
    /// Between two looks into a queue, and between two attempts at a request that failed.
    pub poll_ms: u64,
    /// For handlers to end at a clean stop.
    pub drain_ms: u64,
}

/// Keys of what the clock enqueues begin with this.
const SLOT_KEY: &str = "cron:";
/// How long jobs of a kind that this node does not know are left to others.
const UNKNOWN_MS: u64 = 30_000;
/// The wall clock goes on by less than this between two events, unless it was set (or the process
/// stood still).
const LEAP_MS: u64 = 60_000;
/// A step back by less than this is how clocks are corrected all the time.
const SMALL_MS: u64 = 1_000;
/// How often the store is looked through for what a wrong clock has put off.
const REVIEW_MS: u64 = 3_600_000;
/// How long a clean stop waits for the store to hear what is given back.
const LAST_WORDS_MS: u64 = 2_000;

/// What a node knows of its jobs.
#[derive(Debug)]
pub struct JobsCore {
    times: Times,
    kinds: BTreeMap<String, KindConfig>,
    queues: BTreeMap<String, Queue>,
    cron: Vec<Entry>,
    runs: BTreeMap<JobId, Run>,
    drain: Option<Drain>,
    chance: u64,
    /// When the last event came; `None` before the first.
    last_ms: Option<u64>,
    /// When the store is looked through next.
    review_ms: u64,
    reviewing: bool,
}

/// A moment, as a clock shows it that was set by `by_ms`.
fn moved(at_ms: &mut u64, by_ms: i64) {
    *at_ms = at_ms.saturating_add_signed(by_ms);
}

impl JobsCore {
    /// With nothing in hand. `seed` decides about jitter and ids.
    pub fn new(
        times: Times,
        queues: Vec<QueueConfig>,
        kinds: BTreeMap<String, KindConfig>,
        cron: Vec<CronEntry>,
        seed: u64,
    ) -> Self {
        let queues = queues
            .into_iter()
            .map(|config| (config.name.clone(), Queue { config, claiming: false, next_ms: 0 }))
            .collect();
        let entry =
            |config| Entry { config, slot: None, enqueued: false, asking: false, from_ms: 0 };
        let cron = cron.into_iter().map(entry).collect();
        Self {
            times,
            kinds,
            queues,
            cron,
            runs: BTreeMap::new(),
            drain: None,
            chance: seed,
            last_ms: None,
            review_ms: 0,
            reviewing: false,
        }
    }

    /// How many jobs are in hand, by queue.
    pub fn running(&self) -> BTreeMap<&str, usize> {
        let mut counts: BTreeMap<&str, usize> =
            self.queues.keys().map(|name| (name.as_str(), 0)).collect();
        for run in self.runs.values() {
            *counts.entry(run.queue.as_str()).or_default() += 1;
        }
        counts
    }

    /// Takes in what happened and says what is to be done.
    pub fn handle(&mut self, now_ms: u64, event: Event) -> Vec<Effect> {
        let mut out = Vec::new();
        if let Some(last_ms) = self.last_ms.replace(now_ms)
            && (now_ms < last_ms || now_ms - last_ms > LEAP_MS)
        {
            self.stepped(now_ms, last_ms, &mut out);
        }
        match event {
            Event::Tick => {}
            Event::Nudge => self.queues.values_mut().for_each(|queue| queue.next_ms = 0),
            Event::Enqueued(place, answer) => self.enqueued(now_ms, place, answer.is_ok()),
            Event::Claimed(queue, answer) => self.claimed(now_ms, &queue, answer, &mut out),
            Event::Extended(held, until_ms, answer) => {
                self.extended(now_ms, held, until_ms, answer, &mut out);
            }
            Event::Worked(held, result) => self.worked(now_ms, held, result),
            Event::Finished(held, answer) => self.finished(now_ms, held, answer, &mut out),
            Event::Reviewed(answer) => self.reviewed(now_ms, answer, &mut out),
            Event::Drain => {
                let until_ms = now_ms.saturating_add(self.times.drain_ms);
                self.drain.get_or_insert_with(|| Drain { until_ms, ..Drain::default() });
            }
        }
        self.expire(now_ms, &mut out);
        self.extend(now_ms, &mut out);
        self.tell(now_ms, &mut out);
        if self.drain.is_none() {
            self.slots(now_ms, &mut out);
            self.claim(now_ms, &mut out);
            self.review(now_ms, &mut out);
        } else {
            self.drained(now_ms, &mut out);
        }
        out
    }

    /// The clock was set. What this node waits for keeps its distance; what the clock alone decides
    /// is found anew.
    ///
    /// After a step forwards leases have ended as far as others can tell, so they are not moved
    /// along: their handlers are stopped.
    fn stepped(&mut self, now_ms: u64, last_ms: u64, out: &mut Vec<Effect>) {
        let by_ms = now_ms.cast_signed().wrapping_sub(last_ms.cast_signed());
        for entry in &mut self.cron {
            (entry.slot, entry.from_ms) = (None, 0);
        }
        self.queues.values_mut().for_each(|queue| queue.next_ms = 0);
        for run in self.runs.values_mut() {
            for at_ms in [&mut run.since_ms, &mut run.deadline_ms, &mut run.extend_from_ms] {
                moved(at_ms, by_ms);
            }
            if by_ms < 0 {
                moved(&mut run.until_ms, by_ms);
                run.extending.iter_mut().for_each(|until_ms| moved(until_ms, by_ms));
            }
            run.told.iter_mut().for_each(|told| moved(&mut told.from_ms, by_ms));
        }
        self.drain.iter_mut().for_each(|drain| moved(&mut drain.until_ms, by_ms));
        if by_ms.unsigned_abs() >= SMALL_MS {
            self.review_ms = 0;
            out.push(Effect::Stepped(by_ms));
        }
    }

    /// Asks what is open, when it is time for it.
    fn review(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        if !self.reviewing && now_ms >= self.review_ms {
            self.reviewing = true;
            self.review_ms = now_ms.saturating_add(REVIEW_MS);
            out.push(Effect::Review);
        }
    }

    /// Puts right what lies further ahead than anything can that clocks without fault have written.
    fn reviewed(&mut self, now_ms: u64, answer: Result<Open, StoreError>, out: &mut Vec<Effect>) {
        self.reviewing = false;
        let Ok(Open { jobs, live }) = answer else {
            self.review_ms = now_ms.saturating_add(LEAP_MS);
            return;
        };
        let lease_ms = self.times.lease_ms;
        for job in jobs {
            let Some(queue) = self.queues.get(&job.queue) else { continue };
            let ahead = |at_ms: u64, most_ms: u64| {
                at_ms > now_ms.saturating_add(most_ms).saturating_add(LEAP_MS)
            };
            let most_ms = (queue.config.retry.most.as_millis() as u64).max(UNKNOWN_MS);
            match job.state {
                // What a live node holds is its own affair: its clock may be the right one.
                JobState::Running { by, until_ms, .. }
                    if ahead(until_ms, lease_ms) && !live.contains(&by) =>
                {
                    let held = Held { id: job.id, attempt: job.attempt };
                    out.push(Effect::Mend(Mend::Free(held, now_ms.saturating_add(lease_ms))));
                }
                JobState::Ready { run_at_ms } if job.attempt > 0 && ahead(run_at_ms, most_ms) => {
                    out.push(Effect::Mend(Mend::Due(
                        job.id,
                        job.max_attempts.saturating_sub(job.attempt),
                    )));
                }
                // Slots of the clock stay where they are: whichever clock is right comes to them,
                // and others stand beside them.
                JobState::Ready { run_at_ms }
                    if job.attempt == 0
                        && ahead(job.created_ms, 0)
                        && ahead(run_at_ms, 0)
                        && job
                            .unique
                            .as_ref()
                            .is_none_or(|unique| !unique.key().starts_with(SLOT_KEY)) =>
                {
                    out.push(Effect::Mend(Mend::Due(job.id, job.max_attempts)));
                }
                _ => {}
            }
        }
    }

    /// The next of a series of random numbers (splitmix64).
    fn chance(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// What a failed attempt leads to.
    fn failed(&mut self, id: JobId, now_ms: u64, error: String) -> Outcome {
        let chance = self.chance();
        let Some(run) = self.runs.get(&id) else { return Outcome::Dead { error } };
        if run.attempt >= run.max_attempts {
            return Outcome::Dead { error };
        }
        let wait_ms = self
            .queues
            .get(&run.queue)
            .map_or(0, |queue| queue.config.retry.wait_ms(run.attempt, chance));
        Outcome::Retry { at_ms: now_ms.saturating_add(wait_ms), error }
    }

    fn end(&mut self, id: JobId, now_ms: u64, outcome: Outcome) {
        if let Some(run) = self.runs.get_mut(&id) {
            run.end(now_ms, outcome);
        }
    }

    /// The run that a message is about, unless it is about an earlier claim.
    fn run(&mut self, held: Held) -> Option<&mut Run> {
        self.runs.get_mut(&held.id).filter(|run| run.attempt == held.attempt)
    }

    fn remove(&mut self, id: JobId, now_ms: u64, verdict: Verdict, out: &mut Vec<Effect>) {
        let Some(run) = self.runs.remove(&id) else { return };
        out.push(run.over(id, now_ms, verdict));
        if let Some(queue) = self.queues.get_mut(&run.queue) {
            // There is a hand free.
            queue.next_ms = queue.next_ms.min(now_ms);
        }
        if let Some(drain) = &mut self.drain {
            match verdict {
                Verdict::GivenBack | Verdict::Lost => drain.given_back += 1,
                Verdict::Done | Verdict::Retried | Verdict::Dead => drain.finished += 1,
            }
        }
    }

    fn enqueued(&mut self, now_ms: u64, place: usize, taken: bool) {
        let poll_ms = self.times.poll_ms;
        if let Some(entry) = self.cron.get_mut(place) {
            entry.asking = false;
            entry.enqueued = taken;
            entry.from_ms = if taken { now_ms } else { now_ms.saturating_add(poll_ms) };
        }
    }

    fn claimed(
        &mut self,
        now_ms: u64,
        name: &str,
        answer: Result<Vec<Job>, StoreError>,
        out: &mut Vec<Effect>,
    ) {
        let held = self.runs.values().filter(|run| run.queue == name).count();
        let poll_ms = self.times.poll_ms;
        let Some(queue) = self.queues.get_mut(name) else { return };
        queue.claiming = false;
        let jobs = answer.unwrap_or_default();
        // As many as there were hands: there may be more.
        let full = held + jobs.len() >= queue.config.concurrency;
        queue.next_ms = if full { now_ms } else { now_ms.saturating_add(poll_ms) };
        for job in jobs {
            self.take(now_ms, job, out);
        }
    }

    fn take(&mut self, now_ms: u64, job: Job, out: &mut Vec<Effect>) {
        let id = job.id;
        if let Some(before) = self.runs.get(&id) {
            // Its lease had ended, unnoticed, and it came back to this node.
            let old = Held { id, attempt: before.attempt };
            if before.told.is_none() {
                out.push(Effect::Stop(old));
            }
            self.remove(id, now_ms, Verdict::Lost, out);
        }
        let known = self.kinds.get(&job.kind);
        let run = Run {
            queue: job.queue.clone(),
            kind: job.kind.clone(),
            attempt: job.attempt,
            max_attempts: job.max_attempts,
            since_ms: now_ms,
            deadline_ms: known
                .map_or(now_ms, |kind| now_ms.saturating_add(kind.deadline.as_millis() as u64)),
            // The clock may have been set back since it was claimed.
            until_ms: job
                .due_ms()
                .unwrap_or(now_ms)
                .min(now_ms.saturating_add(self.times.lease_ms)),
            stored_ms: job.due_ms().unwrap_or(now_ms),
            extending: None,
            extend_from_ms: 0,
            told: None,
        };
        let (known, until_ms) = (known.is_some(), run.until_ms);
        self.runs.insert(id, run);
        if until_ms <= now_ms {
            // The answer took so long that it is anybody's again.
            self.remove(id, now_ms, Verdict::Lost, out);
        } else if job.attempt > job.max_attempts {
            let last =
                job.last_error.map_or_else(String::new, |error| format!("; before that: {error}"));
            let error = format!(
                "the holder of attempt {} fell silent, and it was the last attempt{last}",
                job.attempt - 1
            );
            self.end(id, now_ms, Outcome::Dead { error });
        } else if !known {
            self.end(id, now_ms, Outcome::GiveBack { at_ms: now_ms.saturating_add(UNKNOWN_MS) });
        } else if self.drain.is_some() {
            self.end(id, now_ms, Outcome::GiveBack { at_ms: now_ms });
        } else {
            out.push(Effect::Start(job));
        }
    }

    fn extended(
        &mut self,
        now_ms: u64,
        held: Held,
        until_ms: u64,
        answer: Result<Hold, StoreError>,
        out: &mut Vec<Effect>,
    ) {
        let poll_ms = self.times.poll_ms;
        let Some(run) = self.run(held) else { return };
        let asked_ms = run.extending.take();
        match answer {
            Ok(Hold::Kept) => {
                (run.until_ms, run.stored_ms) = (asked_ms.unwrap_or(run.until_ms), until_ms);
            }
            Ok(Hold::Lost) if run.told.is_none() => {
                out.push(Effect::Stop(held));
                self.remove(held.id, now_ms, Verdict::Lost, out);
            }
            // What is told meanwhile gets its own answer.
            Ok(Hold::Lost) => {}
            Err(_) => run.extend_from_ms = now_ms.saturating_add(poll_ms),
        }
    }

    fn worked(&mut self, now_ms: u64, held: Held, result: Result<WorkResult, String>) {
        if self.run(held).is_none_or(|run| run.told.is_some()) {
            return;
        }
        let outcome = match result {
            Ok(Ok(note)) => Outcome::Done { note },
            Ok(Err(WorkError::Fatal(error))) => Outcome::Dead { error },
            Ok(Err(WorkError::Retry(error))) => self.failed(held.id, now_ms, error),
            Err(panic) => self.failed(held.id, now_ms, format!("its handler panicked: {panic}")),
        };
        self.end(held.id, now_ms, outcome);
    }

    fn finished(
        &mut self,
        now_ms: u64,
        held: Held,
        answer: Result<Hold, StoreError>,
        out: &mut Vec<Effect>,
    ) {
        let Times { lease_ms, poll_ms, .. } = self.times;
        let Some(run) = self.run(held) else { return };
        let until_ms = run.until_ms;
        let Some(told) = &mut run.told else { return };
        let verdict = match (answer, &told.outcome) {
            (Ok(Hold::Kept), Outcome::Done { .. }) => Verdict::Done,
            (Ok(Hold::Kept), Outcome::Retry { .. }) => Verdict::Retried,
            (Ok(Hold::Kept), Outcome::Dead { .. }) => Verdict::Dead,
            (Ok(Hold::Kept), Outcome::GiveBack { .. }) => Verdict::GivenBack,
            (Ok(Hold::Lost), _) => Verdict::Lost,
            // Others have had it for a while, or will.
            (Err(_), _) if now_ms >= until_ms.saturating_add(lease_ms) => Verdict::Lost,
            (Err(_), _) => {
                (told.asked, told.from_ms) = (false, now_ms.saturating_add(poll_ms));
                return;
            }
        };
        self.remove(held.id, now_ms, verdict, out);
    }

    /// Stops handlers whose time is up.
    fn expire(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        let stop = self.drain.as_ref().is_some_and(|drain| now_ms >= drain.until_ms);
        let ending =
            |run: &Run| run.told.is_none() && (stop || now_ms >= run.deadline_ms.min(run.until_ms));
        let over: BTreeSet<JobId> =
            self.runs.iter().filter(|(_, run)| ending(run)).map(|(id, _)| *id).collect();
        for id in over {
            let Some(run) = self.runs.get(&id) else { continue };
            out.push(Effect::Stop(Held { id, attempt: run.attempt }));
            let outcome = if now_ms >= run.until_ms {
                self.failed(id, now_ms, "its lease ended and could not be extended".to_owned())
            } else if now_ms >= run.deadline_ms {
                let took_ms = run.deadline_ms - run.since_ms;
                self.failed(id, now_ms, format!("it took longer than its deadline of {took_ms} ms"))
            } else {
                Outcome::GiveBack { at_ms: now_ms }
            };
            self.end(id, now_ms, outcome);
        }
    }

    fn extend(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        let lease_ms = self.times.lease_ms;
        for (&id, run) in &mut self.runs {
            let old = run.until_ms.saturating_sub(now_ms) <= lease_ms / 3 * 2;
            if old && run.told.is_none() && run.extending.is_none() && now_ms >= run.extend_from_ms
            {
                let until_ms = now_ms.saturating_add(lease_ms);
                run.extending = Some(until_ms);
                out.push(Effect::Extend(
                    Held { id, attempt: run.attempt },
                    until_ms.max(run.stored_ms),
                ));
            }
        }
    }

    fn tell(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        for (&id, run) in &mut self.runs {
            let held = Held { id, attempt: run.attempt };
            if let Some(told) =
                run.told.as_mut().filter(|told| !told.asked && now_ms >= told.from_ms)
            {
                told.asked = true;
                out.push(Effect::Finish {
                    held,
                    now_ms: told.now_ms,
                    outcome: told.outcome.clone(),
                });
            }
        }
    }

    /// Enqueues the next slot of each entry ahead of its time: it is remembered even if no node
    /// runs when the time comes, and then worked on once, late.
    fn slots(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        for place in 0..self.cron.len() {
            let chance = self.chance();
            let Some(entry) = self.cron.get_mut(place).filter(|entry| !entry.asking) else {
                continue;
            };
            if entry.slot.is_none_or(|slot| entry.enqueued && now_ms >= slot) {
                entry.slot = entry.config.schedule.after(now_ms);
                entry.enqueued = false;
            }
            let (Some(slot), Some(kind)) = (entry.slot, self.kinds.get(&entry.config.kind)) else {
                continue;
            };
            if entry.enqueued || now_ms < entry.from_ms {
                continue;
            }
            entry.asking = true;
            let job = NewJob {
                id: JobId::at(now_ms, chance),
                queue: kind.queue.clone(),
                kind: entry.config.kind.clone(),
                payload: entry.config.payload.clone(),
                unique: Some(Unique::Once(format!(
                    "{SLOT_KEY}{}:{}",
                    entry.config.name,
                    slot / 1_000
                ))),
                run_at_ms: slot,
                max_attempts: kind.attempts,
                created_ms: now_ms,
            };
            out.push(Effect::Enqueue(place, job));
        }
    }

    fn claim(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        let (running, lease_ms) = (self.running(), self.times.lease_ms);
        let free: BTreeMap<String, usize> = self
            .queues
            .iter()
            .filter(|(_, queue)| !queue.claiming && now_ms >= queue.next_ms)
            .map(|(name, queue)| {
                (
                    name.clone(),
                    queue
                        .config
                        .concurrency
                        .saturating_sub(running.get(name.as_str()).copied().unwrap_or(0)),
                )
            })
            .filter(|(_, free)| *free > 0)
            .collect();
        for (name, limit) in free {
            if let Some(queue) = self.queues.get_mut(&name) {
                queue.claiming = true;
                out.push(Effect::Claim {
                    queue: name,
                    now_ms,
                    until_ms: now_ms.saturating_add(lease_ms),
                    limit,
                });
            }
        }
    }

    fn drained(&mut self, now_ms: u64, out: &mut Vec<Effect>) {
        let idle = self.runs.is_empty() && self.queues.values().all(|queue| !queue.claiming);
        if let Some(drain) = &mut self.drain
            && !drain.told
            && (idle || now_ms >= drain.until_ms.saturating_add(LAST_WORDS_MS))
        {
            drain.told = true;
            // What the store could not be told is claimable again when its lease ends.
            out.push(Effect::Drained {
                finished: drain.finished,
                given_back: drain.given_back + self.runs.len(),
            });
        }
    }
}
