//! The jobs actor: tells the core what happened, and does what it says in tasks that report back. A
//! supervisor starts it again when it fails.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use metrics::{counter, gauge, histogram};
use parking_lot::Mutex;
use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use rekindle_schema::job::{Job, JobStatus};
use rekindle_schema::lease::NodeState;
use rekindle_store::{Claim, JobFilter, Store, StoreError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::core::{Effect, Event, Held, JobsCore, KindConfig, Mend, Open, Times, Verdict};
use super::{Handler, JobsParts, StartError};

/// How often the store is asked how many jobs it has, for the metrics.
const COUNT_EVERY: Duration = Duration::from_secs(15);
/// How many open jobs are looked through for what a wrong clock has put off.
const REVIEWED: usize = 1_000;
/// How long a failed actor stays away.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Messages of the jobs actor.
enum JobsMsg {
    Event(Event),
    /// Ask the store for counts.
    Count,
}

impl ractor::Message for JobsMsg {}

/// What came of a clean stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drained {
    /// Jobs that were at work and came to their own end.
    pub finished: usize,
    /// Jobs that were given back, or will be claimable again when their lease ends.
    pub given_back: usize,
}

/// The jobs of a running node.
#[derive(Clone)]
pub struct JobsHandle {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for JobsHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JobsHandle").field("kinds", &self.shared.kinds()).finish_non_exhaustive()
    }
}

struct Shared {
    parts: JobsParts,
    /// The actor that runs now.
    actor: Mutex<Option<ActorRef<JobsMsg>>>,
    supervisor: Mutex<Option<ActorRef<SupervisorMsg>>>,
    drained: watch::Sender<Option<Drained>>,
}

impl Shared {
    fn kinds(&self) -> Vec<&str> {
        self.parts.kinds.iter().map(|kind| kind.name.as_str()).collect()
    }

    fn cast(&self, message: JobsMsg) {
        if let Some(actor) = &*self.actor.lock() {
            // An actor that has just failed comes back with an empty hand; what is lost here is
            // found again when its lease ends.
            let _ = actor.cast(message);
        }
    }
}

impl JobsHandle {
    /// The kind with this name, if the node can do it: its queue and how often it is tried.
    pub fn kind(&self, name: &str) -> Option<&super::Kind> {
        self.shared.parts.kinds.iter().find(|kind| kind.name == name)
    }

    /// All kinds that this node can do.
    pub fn kinds(&self) -> Vec<&str> {
        self.shared.kinds()
    }

    /// Something was enqueued: look at once.
    pub fn nudge(&self) {
        self.shared.cast(JobsMsg::Event(Event::Nudge));
    }

    /// Takes nothing new, waits for what is at work as long as the configuration says, gives back
    /// the rest, and ends.
    pub async fn drain(&self) -> Drained {
        let mut drained = self.shared.drained.subscribe();
        self.shared.cast(JobsMsg::Event(Event::Drain));
        let config = &self.shared.parts.config;
        // Twice the bound of the core: only an actor that failed in the middle of it comes to this.
        let bound = (config.drain + Duration::from_secs(3)) * 2;
        let outcome = match tokio::time::timeout(bound, drained.wait_for(Option::is_some)).await {
            Ok(Ok(found)) => found.unwrap_or_default(),
            _ => Drained::default(),
        };
        self.stop();
        outcome
    }

    /// Ends at once; what is at work is cut off, and claimable again when its lease ends.
    pub fn stop(&self) {
        let supervisor = self.shared.supervisor.lock().take();
        let actor = self.shared.actor.lock().take();
        if let Some(supervisor) = supervisor {
            supervisor.stop(None);
        }
        if let Some(actor) = actor {
            actor.stop(None);
        }
    }
}

/// Starts working on jobs. `Spawn` if an actor cannot be started, or an entry of the clock names a
/// kind or a queue that does not exist.
pub async fn start(parts: JobsParts) -> Result<JobsHandle, StartError> {
    let spawn = |cause: String| StartError { cause };
    for kind in &parts.kinds {
        if !parts.config.queues.iter().any(|queue| queue.name == kind.queue) {
            return Err(spawn(format!(
                "jobs of kind {} wait in queue {}, which this node does not serve",
                kind.name, kind.queue
            )));
        }
    }
    for entry in &parts.config.cron {
        if !parts.kinds.iter().any(|kind| kind.name == entry.kind) {
            return Err(spawn(format!(
                "entry {} of the clock wants jobs of kind {}, which does not exist",
                entry.name, entry.kind
            )));
        }
    }
    let shared = Arc::new(Shared {
        parts,
        actor: Mutex::default(),
        supervisor: Mutex::default(),
        drained: watch::Sender::new(None),
    });
    let (supervisor, _) = Actor::spawn(None, Supervisor { shared: Arc::downgrade(&shared) }, ())
        .await
        .map_err(|error| spawn(error.to_string()))?;
    *shared.supervisor.lock() = Some(supervisor.clone());
    let (actor, _) = Actor::spawn_linked(None, Worker, Arc::clone(&shared), supervisor.get_cell())
        .await
        .map_err(|error| spawn(error.to_string()))?;
    *shared.actor.lock() = Some(actor);
    Ok(JobsHandle { shared })
}

/// Supervisors get no messages of their own but this one.
enum SupervisorMsg {
    /// The pause after a failure is over.
    Restart,
}

impl ractor::Message for SupervisorMsg {}

struct Supervisor {
    shared: std::sync::Weak<Shared>,
}

impl Actor for Supervisor {
    type Msg = SupervisorMsg;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<SupervisorMsg>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        me: ActorRef<SupervisorMsg>,
        SupervisorMsg::Restart: SupervisorMsg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let Some(shared) =
            self.shared.upgrade().filter(|shared| shared.supervisor.lock().is_some())
        else {
            return Ok(());
        };
        match Actor::spawn_linked(None, Worker, Arc::clone(&shared), me.get_cell()).await {
            Ok((actor, _)) => *shared.actor.lock() = Some(actor),
            Err(error) => {
                tracing::error!(code = "RK-JOBS-002", %error, "the jobs actor does not start; \
                    trying again");
                me.send_after(RESTART_AFTER, || SupervisorMsg::Restart);
            }
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        me: ActorRef<SupervisorMsg>,
        event: SupervisionEvent,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let SupervisionEvent::ActorFailed(_, error) = event {
            tracing::error!(code = "RK-JOBS-001", %error, "the jobs actor failed and is started \
                again; its jobs are claimed anew when their leases end");
            me.send_after(RESTART_AFTER, || SupervisorMsg::Restart);
        }
        Ok(())
    }
}

/// A handler at work. Dropping it stops the handler.
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Worker;

struct State {
    shared: Arc<Shared>,
    core: JobsCore,
    handlers: BTreeMap<String, Arc<dyn Handler>>,
    tasks: BTreeMap<Held, Task>,
    timers: Vec<JoinHandle<()>>,
    /// The last request to the store failed.
    away: bool,
}

impl Drop for State {
    fn drop(&mut self) {
        self.timers.iter().for_each(JoinHandle::abort);
    }
}

impl Actor for Worker {
    type Msg = JobsMsg;
    type State = State;
    type Arguments = Arc<Shared>;

    async fn pre_start(
        &self,
        me: ActorRef<JobsMsg>,
        shared: Arc<Shared>,
    ) -> Result<State, ActorProcessingErr> {
        let JobsParts { kinds, config, seed, incarnation, .. } = &shared.parts;
        let ms = |time: Duration| time.as_millis() as u64;
        let times = Times {
            lease_ms: ms(config.lease),
            poll_ms: ms(config.poll),
            drain_ms: ms(config.drain),
        };
        let known = kinds.iter().map(|kind| {
            let config = KindConfig {
                queue: kind.queue.clone(),
                attempts: kind.attempts,
                deadline: kind.deadline,
            };
            (kind.name.clone(), config)
        });
        let core = JobsCore::new(
            times,
            config.queues.clone(),
            known.collect(),
            config.cron.clone(),
            seed ^ incarnation.0,
        );
        let handlers =
            kinds.iter().map(|kind| (kind.name.clone(), Arc::clone(&kind.handler))).collect();
        let timers = vec![
            me.send_interval(config.step, || JobsMsg::Event(Event::Tick)),
            me.send_interval(COUNT_EVERY, || JobsMsg::Count),
        ];
        me.cast(JobsMsg::Event(Event::Tick))?;
        Ok(State { core, handlers, tasks: BTreeMap::new(), timers, shared, away: false })
    }

    async fn handle(
        &self,
        me: ActorRef<JobsMsg>,
        message: JobsMsg,
        state: &mut State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            JobsMsg::Count => {
                let (store, now_ms) =
                    (state.shared.parts.store.clone(), (state.shared.parts.clock)());
                tokio::spawn(async move { count(&store, now_ms).await });
            }
            JobsMsg::Event(event) => {
                state.report(&event);
                if let Event::Worked(held, _) = &event {
                    state.tasks.remove(held);
                }
                let now_ms = (state.shared.parts.clock)();
                for effect in state.core.handle(now_ms, event) {
                    state.carry_out(&me, effect);
                }
                for (queue, running) in state.core.running() {
                    gauge!("rekindle_jobs_running", "queue" => queue.to_owned())
                        .set(running as f64);
                }
            }
        }
        Ok(())
    }
}

impl State {
    /// Says that the store does not answer, once, and when it does again. The core asks all the
    /// time.
    fn report(&mut self, event: &Event) {
        let (what, error): (&str, Option<&StoreError>) = match event {
            Event::Enqueued(_, outcome) => ("enqueue", outcome.as_ref().err()),
            Event::Claimed(_, outcome) => ("claim", outcome.as_ref().err()),
            Event::Extended(_, _, outcome) => ("extend", outcome.as_ref().err()),
            Event::Finished(_, outcome) => ("finish", outcome.as_ref().err()),
            Event::Reviewed(outcome) => ("review", outcome.as_ref().err()),
            _ => return,
        };
        match error {
            Some(error) if self.away => {
                tracing::debug!(code = "RK-JOBS-004", what, %error, "the store still does not \
                    answer about jobs");
            }
            Some(error) => {
                tracing::warn!(code = "RK-JOBS-004", what, %error, "the store did not answer about \
                    jobs; trying again");
            }
            None if self.away => {
                tracing::info!(code = "RK-JOBS-011", what, "the store answers about jobs again");
            }
            None => {}
        }
        self.away = error.is_some();
    }

    fn carry_out(&mut self, me: &ActorRef<JobsMsg>, effect: Effect) {
        let store = self.shared.parts.store.clone();
        match effect {
            Effect::Enqueue(place, job) => {
                ask(me, async move { Event::Enqueued(place, store.jobs.enqueue(job).await) });
            }
            Effect::Claim { queue, now_ms, until_ms, limit } => {
                let by = self.shared.parts.incarnation;
                let claim = Claim { queue: queue.clone(), by, now_ms, until_ms, limit };
                ask(me, async move { Event::Claimed(queue, store.jobs.claim(claim).await) });
            }
            Effect::Extend(held, until_ms) => ask(me, async move {
                let answer = store.jobs.extend(held.id, held.attempt, until_ms).await;
                Event::Extended(held, until_ms, answer)
            }),
            Effect::Finish { held, now_ms, outcome } => ask(me, async move {
                let answer = store.jobs.finish(held.id, held.attempt, now_ms, outcome).await;
                Event::Finished(held, answer)
            }),
            Effect::Review => ask(me, async move { Event::Reviewed(open(&store).await) }),
            Effect::Mend(mend) => {
                let now_ms = (self.shared.parts.clock)();
                tokio::spawn(async move { put_right(&store, mend, now_ms).await });
            }
            Effect::Stepped(by_ms) => stepped(by_ms),
            Effect::Start(job) => self.work(me, job),
            Effect::Stop(held) => drop(self.tasks.remove(&held)),
            Effect::Over { held, kind, verdict, took_ms, error } => {
                over(held, kind, verdict, took_ms, error);
            }
            Effect::Drained { finished, given_back } => {
                self.tasks.clear();
                self.shared.drained.send_replace(Some(Drained { finished, given_back }));
            }
        }
    }

    fn work(&mut self, me: &ActorRef<JobsMsg>, job: Job) {
        let held = Held { id: job.id, attempt: job.attempt };
        // The core starts known kinds only.
        let Some(handler) = self.handlers.get(&job.kind).map(Arc::clone) else { return };
        tracing::debug!(
            code = "RK-JOBS-003", job = %job.id, kind = job.kind, attempt = job.attempt,
            "job started"
        );
        let me = me.clone();
        let task = tokio::spawn(async move {
            let work = AssertUnwindSafe(async { handler.run(job).await }).catch_unwind().await;
            let _ = me.cast(JobsMsg::Event(Event::Worked(held, work.map_err(words))));
        });
        self.tasks.insert(held, Task(task));
    }
}

/// What a panic says.
fn words(panic: Box<dyn std::any::Any + Send>) -> String {
    let text = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "without words".to_owned())
}

/// Asks the store in a task of its own and brings the actor the answer. If the actor is gone by
/// then, nobody needs it.
fn ask(me: &ActorRef<JobsMsg>, question: impl Future<Output = Event> + Send + 'static) {
    let me = me.clone();
    tokio::spawn(async move {
        let answer = question.await;
        let _ = me.cast(JobsMsg::Event(answer));
    });
}

fn over(held: Held, kind: String, verdict: Verdict, took_ms: u64, error: Option<String>) {
    counter!("rekindle_job_attempts_total", "kind" => kind.clone(), "outcome" => verdict.name())
        .increment(1);
    histogram!("rekindle_job_seconds", "kind" => kind.clone())
        .record(Duration::from_millis(took_ms).as_secs_f64());
    let (job, attempt, error) = (held.id, held.attempt, error.unwrap_or_default());
    match verdict {
        Verdict::Done => {
            tracing::debug!(code = "RK-JOBS-005", %job, kind, attempt, took_ms, "job done");
        }
        Verdict::Retried => {
            tracing::warn!(code = "RK-JOBS-006", %job, kind, attempt, took_ms, error, "job failed; \
                it will be tried again");
        }
        Verdict::Dead => {
            tracing::error!(code = "RK-JOBS-007", %job, kind, attempt, took_ms, error, "job failed \
                for good: `rekindle jobs retry` tries it again");
        }
        Verdict::GivenBack => {
            tracing::info!(code = "RK-JOBS-008", %job, kind, attempt, "job given back");
        }
        Verdict::Lost => {
            tracing::warn!(code = "RK-JOBS-009", %job, kind, attempt, "job lost: another node has \
                it, or it was cancelled");
        }
    }
}

fn stepped(by_ms: i64) {
    let direction = if by_ms < 0 { "back" } else { "forward" };
    counter!("rekindle_clock_steps_total", "direction" => direction).increment(1);
    tracing::warn!(
        code = "RK-JOBS-150",
        by_ms,
        "the wall clock was set (or this process stood still): what is done by the clock is \
         planned anew; check the time service of this host"
    );
}

/// What is open in the store, and who is live.
async fn open(store: &Store) -> Result<Open, StoreError> {
    let mut open = Open::default();
    for status in [JobStatus::Ready, JobStatus::Running] {
        open.jobs.extend(
            store
                .jobs
                .list(JobFilter { status: Some(status), limit: REVIEWED, ..JobFilter::default() })
                .await?,
        );
    }
    // After the jobs: whoever claims one in between is live by now.
    let nodes = store.leases.nodes().await?;
    open.live.extend(
        nodes.iter().filter(|node| node.state == NodeState::Live).map(|node| node.incarnation),
    );
    Ok(open)
}

async fn put_right(store: &Store, mend: Mend, now_ms: u64) {
    let (job, outcome) = match mend {
        Mend::Free(held, until_ms) => {
            (held.id, store.jobs.extend(held.id, held.attempt, until_ms).await.map(drop))
        }
        Mend::Due(id, attempts) => (id, store.jobs.retry(id, now_ms, attempts).await.map(drop)),
    };
    match outcome {
        Ok(()) => {
            tracing::warn!(code = "RK-JOBS-151", %job, "a clock that was wrong had put this job \
                off; it is due again");
        }
        // The next review finds it again.
        Err(error) => {
            tracing::debug!(code = "RK-JOBS-152", %job, %error, "a job that a wrong clock had put \
                off stays as it is");
        }
    }
}

async fn count(store: &Store, now_ms: u64) {
    match store.jobs.counts().await {
        Ok(queues) => {
            for counts in queues {
                let states =
                    [("ready", counts.ready), ("running", counts.running), ("dead", counts.dead)];
                for (state, count) in states {
                    gauge!("rekindle_jobs", "queue" => counts.queue.clone(), "state" => state)
                        .set(count as f64);
                }
                let waiting =
                    counts.oldest_ready_ms.map_or(0, |oldest| now_ms.saturating_sub(oldest));
                gauge!("rekindle_jobs_oldest_waiting_seconds", "queue" => counts.queue)
                    .set(Duration::from_millis(waiting).as_secs_f64());
            }
        }
        Err(error) => tracing::debug!(code = "RK-JOBS-010", %error, "jobs are not counted"),
    }
}
