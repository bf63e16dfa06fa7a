//! The virtual world of one seed: processes that are stepped one after the other, the network to
//! their store, and the faults that befall them.
//!
//! Each process has a runtime of its own with tokio's virtual clock. A process that is paused is
//! not stepped, and finds its clock ahead when it goes on; one that dies is dropped with all that
//! it started. What it has sent is carried by the network's runtime, and arrives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_actors::{Host, MatchPhase};
use rekindle_cluster::bus::PeerService;
use rekindle_schema::lease::MatchLease;
use rekindle_schema::{Epoch, Incarnation, MatchId};
use rekindle_testkit::disk::Disk;
use rekindle_testkit::faults as disk;
use rekindle_testkit::oracle::{Rule, Violation};
use rekindle_testkit::seed::Dice;
use rekindle_testkit::trace::Trace;
use tokio::runtime::{Builder, Handle, RngSeed, Runtime};
use tokio::sync::mpsc::UnboundedSender;

use super::faults::{ARMED, Fault, NODES, Schedule, Side, Step, TOTAL};
use super::link::Mutant;
use super::mover::{Moved, Order};
use crate::node::MATCHES;

/// How far each process runs before the next does.
const STEP: Duration = Duration::from_millis(8);
/// How long it takes until a process that ended by itself is started again.
const RESTART: Duration = Duration::from_millis(60);
/// How long it takes until nodes learn that a process is gone.
const GONE_AFTER: Duration = Duration::from_millis(40);
/// How long it takes until nodes take one that hangs for dead.
const HANGS_AFTER: Duration = Duration::from_millis(300);
/// For so long after a fault its consequences are felt.
const FELT: Duration = Duration::from_millis(1_200);
/// Virtual time starts here: 2026-01-01, in milliseconds since 1970.
const EPOCH_MS: u64 = 1_767_225_600_000;

/// What all parts of a simulation share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct World {
    /// Decides everything.
    pub seed: u64,
    /// What goes wrong.
    pub schedule: Arc<Schedule>,
    /// The store.
    pub disk: Disk,
    /// What happened.
    pub trace: Trace,
    /// A defect.
    pub mutant: Option<Mutant>,
    /// Carries requests.
    pub network: Handle,
    /// What nodes noticed that should not be.
    pub problems: Arc<Mutex<Vec<Violation>>>,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    now_us: AtomicU64,
    dice: Mutex<Option<Dice>>,
    marks: Mutex<BTreeSet<&'static str>>,
    slots: [Slot; NODES],
    /// Every incarnation that ever was, and when it ended.
    lives: Mutex<BTreeMap<Incarnation, Option<Duration>>>,
    /// What befell nodes in the middle of migrations: [`Fault::Strike`]s that hit.
    struck: Mutex<Vec<(Duration, Fault)>>,
    /// Strikes that have hit, by their place in the schedule.
    spent: Mutex<BTreeSet<usize>>,
    /// Migrations that are under way, by their source.
    giving: Mutex<BTreeMap<(Incarnation, MatchId), Giving>>,
    /// Matches whose source died while they were on their way, and that nobody has taken over.
    left_on_its_way: Mutex<BTreeSet<MatchId>>,
    /// Migrations that have ended well.
    moved: Mutex<Vec<Moved>>,
    /// Migrations whose targets had to recover the match from the store.
    recovered: Mutex<BTreeSet<(MatchId, Epoch)>>,
}

/// A migration that is under way.
#[derive(Clone, Copy)]
struct Giving {
    target: Incarnation,
    committed: bool,
}

/// How the process of a node is reached from outside.
#[derive(Clone)]
pub(crate) struct Reached {
    /// Runs its matches.
    pub host: Host,
    /// Answers other nodes.
    pub peers: Arc<dyn PeerService>,
    /// Where it runs.
    pub runtime: Handle,
    /// What operators want of it.
    pub orders: UnboundedSender<Order>,
}

/// What is known of the process of a node from outside.
#[derive(Default)]
struct Slot {
    me: Mutex<Option<Incarnation>>,
    reached: Mutex<Option<Reached>>,
    exited: AtomicBool,
    /// Set: it is paused since then.
    paused: Mutex<Option<Duration>>,
    /// It was paused before.
    woke: AtomicBool,
}

/// What becomes of one request.
pub(crate) struct Route {
    pub there: Duration,
    pub back: Duration,
    pub lose_request: bool,
    pub lose_answer: bool,
}

impl World {
    /// A world in which nothing has happened.
    pub(crate) fn new(
        seed: u64,
        schedule: Schedule,
        mutant: Option<Mutant>,
        network: Handle,
    ) -> Self {
        let shared =
            Shared { dice: Mutex::new(Some(Dice::new(seed, "network"))), ..Shared::default() };
        let slow = |&(at, fault): &(Duration, Fault)| match fault {
            Fault::SlowDisk { sync, lasts } => Some((at, disk::Fault::SlowDisk { sync, lasts })),
            _ => None,
        };
        let slow = disk::Schedule(schedule.iter().filter_map(slow).collect());
        let shared = Arc::new(shared);
        let clock = shared.clone();
        let now = move || Duration::from_micros(clock.now_us.load(Ordering::Relaxed));
        Self {
            seed,
            schedule: Arc::new(schedule),
            disk: Disk::new(seed, &slow, None).with_clock(now),
            trace: Trace::default(),
            mutant,
            network,
            problems: Arc::default(),
            shared,
        }
    }

    /// Virtual time since the beginning.
    pub(crate) fn now(&self) -> Duration {
        Duration::from_micros(self.shared.now_us.load(Ordering::Relaxed))
    }

    /// The wall clock of a node, in milliseconds since 1970.
    pub(crate) fn clock_ms(&self, node: usize) -> u64 {
        let now = self.now();
        let skew: i64 = self
            .begun(now)
            .filter_map(|(_, fault)| match fault {
                Fault::Skew { node: of, ms } if of == node => Some(ms),
                _ => None,
            })
            .sum();
        (EPOCH_MS + now.as_millis() as u64).saturating_add_signed(skew)
    }

    /// Writes down what happened.
    pub(crate) fn log(&self, who: &str, what: impl std::fmt::Display) {
        self.trace.log_at(self.now(), who, what);
    }

    /// Something happened that a suite must have seen.
    pub(crate) fn mark(&self, what: &'static str) {
        if self.shared.marks.lock().insert(what) {
            self.log("mark", what);
        }
    }

    /// What befell nodes in the middle of migrations.
    pub(crate) fn blows(&self) -> Vec<&'static str> {
        self.shared.struck.lock().iter().map(|(_, fault)| fault.name()).collect()
    }

    /// All that was marked.
    pub(crate) fn marks(&self) -> BTreeSet<&'static str> {
        self.shared.marks.lock().clone()
    }

    /// What has begun, with what befell nodes in the middle of migrations.
    fn begun(&self, now: Duration) -> impl Iterator<Item = (Duration, Fault)> {
        let struck = self.shared.struck.lock().clone();
        let scheduled = self.schedule.iter().copied().filter(move |&(at, _)| at <= now);
        scheduled.chain(struck)
    }

    /// The faults that are at work.
    pub(crate) fn at_work(&self) -> impl Iterator<Item = Fault> {
        let now = self.now();
        self.begun(now).filter(move |&(at, fault)| now < at + fault.lasts()).map(|(_, fault)| fault)
    }

    /// The faults that were at work at some time since `from`.
    pub(crate) fn at_work_since(&self, from: Duration) -> impl Iterator<Item = Fault> {
        let faults = self.begun(self.now());
        faults.filter(move |&(at, fault)| at + fault.lasts() >= from).map(|(_, fault)| fault)
    }

    /// Whether nothing has gone wrong since `from`, nor shortly before.
    pub(crate) fn was_calm_since(&self, from: Duration) -> bool {
        self.at_work_since(from.saturating_sub(FELT)).all(Fault::is_wish)
    }

    /// The migration of a match from `source` to `target` has begun.
    pub(crate) fn gives(&self, match_id: MatchId, source: Incarnation, target: Incarnation) {
        let giving = Giving { target, committed: false };
        self.shared.giving.lock().insert((source, match_id), giving);
        self.comes_to(Step::Asked, match_id, source);
    }

    /// A match goes on that was taken over; whether its owner had died while it gave it away.
    pub(crate) fn goes_on(&self, match_id: MatchId) -> bool {
        self.shared.left_on_its_way.lock().remove(&match_id)
    }

    /// It has ended, as far as its source is concerned.
    pub(crate) fn gave(&self, match_id: MatchId, source: Incarnation, moved: Option<Moved>) {
        self.shared.giving.lock().remove(&(source, match_id));
        self.shared.moved.lock().extend(moved);
    }

    /// A match begins to run on a node to which it was moved: by its follower, or from the store.
    pub(crate) fn begins(&self, row: &MatchLease, followed: bool) {
        let (id, epoch) = (row.match_id, row.epoch);
        self.log("target", format_args!("runs match {id} in epoch {epoch}, followed {followed}"));
        if !followed {
            self.shared.recovered.lock().insert((id, epoch));
        }
    }

    /// Whether the target of a migration had to recover the match from the store.
    pub(crate) fn was_recovered(&self, match_id: MatchId, epoch: Epoch) -> bool {
        self.shared.recovered.lock().contains(&(match_id, epoch))
    }

    /// Something does not hold.
    pub(crate) fn blame(&self, rule: Rule, detail: String) {
        self.problems.lock().push(Violation::new(rule, detail));
    }

    /// All migrations that have ended well.
    pub(crate) fn moved(&self) -> Vec<Moved> {
        self.shared.moved.lock().clone()
    }

    /// A migration has come to a step; it may be struck there.
    pub(crate) fn comes_to(&self, step: Step, match_id: MatchId, source: Incarnation) {
        let now = self.now();
        let mut giving = self.shared.giving.lock();
        let Some(giving) = giving.get_mut(&(source, match_id)) else { return };
        giving.committed |= step == Step::Committed;
        let mut spent = self.shared.spent.lock();
        for (index, &(at, fault)) in self.schedule.iter().enumerate() {
            let Fault::Strike { step: of, side, blow } = fault else { continue };
            if of != step || now < at || now >= at + ARMED || !spent.insert(index) {
                continue;
            }
            let hit = if side == Side::Source { source } else { giving.target };
            let Some(node) = self.node_of(hit) else { continue };
            self.log("strike", format_args!("{step:?}: {:?}", blow.on(node)));
            self.shared.struck.lock().push((now, blow.on(node)));
        }
    }

    /// The node whose process this is, if it runs.
    pub(crate) fn node_of(&self, me: Incarnation) -> Option<usize> {
        (0..NODES).find(|&node| *self.shared.slots[node].me.lock() == Some(me))
    }

    /// Who the process of a node is.
    pub(crate) fn incarnation(&self, node: usize) -> Option<Incarnation> {
        *self.shared.slots[node].me.lock()
    }

    /// How the process of this incarnation is reached by other nodes.
    pub(crate) fn reached(&self, me: Incarnation) -> Option<Reached> {
        self.node_of(me).and_then(|node| self.shared.slots[node].reached.lock().clone())
    }

    /// What becomes of the next message of one node to another: the way there, and the way back.
    pub(crate) fn path(&self, from: usize, to: usize) -> Route {
        let mut dice = self.shared.dice.lock();
        let dice = dice.as_mut().expect("the dice are there from the beginning on");
        let mut micros = || Duration::from_micros(dice.between(50, 1_500));
        let (there, back) = (micros(), micros());
        let lost = |from, to| {
            self.at_work().any(|fault| {
                matches!(fault, Fault::OneWay { from: sends, to: hears, .. }
                    if (sends, hears) == (from, to))
            })
        };
        Route { there, back, lose_request: lost(from, to), lose_answer: lost(to, from) }
    }

    /// What becomes of the next request of a node.
    pub(crate) fn route(&self, node: usize) -> Route {
        let mut dice = self.shared.dice.lock();
        let dice = dice.as_mut().expect("the dice are there from the beginning on");
        let mut micros = |high| Duration::from_micros(dice.between(50, high));
        let (there, back) = (micros(1_500), micros(1_500));
        let mut route = Route { there, back, lose_request: false, lose_answer: false };
        for fault in self.at_work() {
            match fault {
                Fault::NoRequests { node: of, .. } if of == node => route.lose_request = true,
                Fault::NoAnswers { node: of, .. } if of == node => route.lose_answer = true,
                Fault::Slow { node: of, up_to, .. } if of == node => {
                    let most = up_to.as_micros() as u64;
                    route.there += Duration::from_micros(dice.between(0, most));
                }
                Fault::Lossy { percent, .. } if dice.chance(percent) => {
                    if dice.chance(50) {
                        route.lose_request = true;
                    } else {
                        route.lose_answer = true;
                    }
                }
                _ => {}
            }
        }
        route
    }

    /// A process has begun.
    pub(crate) fn born(&self, node: usize, me: Incarnation) {
        self.shared.lives.lock().insert(me, None);
        *self.shared.slots[node].me.lock() = Some(me);
        self.shared.slots[node].woke.store(false, Ordering::Relaxed);
    }

    /// A process serves matches.
    pub(crate) fn serves(&self, node: usize, reached: Reached) {
        *self.shared.slots[node].reached.lock() = Some(reached);
    }

    /// Whether the process of an incarnation runs, or is paused.
    pub(crate) fn lives(&self, me: Incarnation) -> bool {
        self.shared.lives.lock().get(&me).is_some_and(Option::is_none)
    }

    /// Whether it is known that the process of an incarnation has ended.
    pub(crate) fn has_ended(&self, other: Incarnation) -> bool {
        let ended = self.shared.lives.lock().get(&other).copied().flatten();
        ended.is_some_and(|at| self.now() >= at + GONE_AFTER)
    }

    /// Whether `node` believes that the process of `other` is dead: because it hangs, or wrongly.
    pub(crate) fn suspects(&self, node: usize, other: Incarnation) -> bool {
        let slots = &self.shared.slots;
        let Some(victim) = (0..NODES).find(|&of| *slots[of].me.lock() == Some(other)) else {
            return false;
        };
        let paused = *slots[victim].paused.lock();
        let wrong = self.at_work().any(|fault| {
            matches!(fault, Fault::Suspect { node: of, victim: who, .. }
                if who == victim && of.is_none_or(|of| of == node))
        });
        if wrong && paused.is_none() {
            self.mark(super::SUSPECTED);
        }
        wrong || paused.is_some_and(|since| self.now() >= since + HANGS_AFTER)
    }

    /// Whether the process of a node was paused before.
    pub(crate) fn woke(&self, node: usize) -> bool {
        self.shared.slots[node].woke.load(Ordering::Relaxed)
    }

    /// The process of a node ends by itself, and its caller never goes on.
    pub(crate) async fn exit(&self, node: usize) {
        self.shared.slots[node].exited.store(true, Ordering::Relaxed);
        std::future::pending::<()>().await;
    }

    /// The host of a node, as a player reaches it.
    pub(crate) fn reach(&self, player: usize, node: usize) -> Option<Host> {
        let cut = self.at_work().any(|fault| {
            matches!(fault, Fault::CutOff { player: of, node: at, .. }
                if (of, at) == (player, node))
        });
        let slot = &self.shared.slots[node];
        if cut || slot.paused.lock().is_some() {
            return None;
        }
        slot.reached.lock().as_ref().map(|reached| reached.host.clone())
    }

    /// An operator wants something.
    fn order(&self, wish: Fault, now: Duration) {
        let to = |node: usize, order: Order| {
            if let Some(reached) = &*self.shared.slots[node].reached.lock() {
                // A process that gives up hears nothing any more.
                let _ = reached.orders.send(order);
            }
        };
        match wish {
            Fault::Move { index, hop } => {
                let match_id = MATCHES[index];
                let Some(node) = (0..NODES).find(|&node| self.runs(node, match_id)) else {
                    return self.log("operator", format_args!("match {match_id} does not run"));
                };
                to(node, Order::Move { match_id, to: (node + hop) % NODES });
            }
            Fault::Drain { node, lasts } => to(node, Order::Drain { until: now + lasts }),
            _ => {}
        }
    }

    fn runs(&self, node: usize, match_id: MatchId) -> bool {
        let reached = self.shared.slots[node].reached.lock();
        let handle = reached.as_ref().and_then(|reached| reached.host.find(match_id));
        handle.is_some_and(|handle| {
            matches!(handle.phase(), MatchPhase::Running | MatchPhase::Waiting)
        })
    }
}

/// A runtime whose clock and choices are the simulation's.
pub(crate) fn runtime(seed: u64, of: &str) -> Runtime {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .rng_seed(RngSeed::from_bytes(&Dice::new(seed, of).bytes()))
        .build()
        .expect("a runtime without I/O needs nothing")
}

/// Lets everything in a runtime run for so long.
pub(crate) fn advance(runtime: &Runtime, time: Duration) {
    runtime.block_on(async { tokio::time::sleep(time).await });
}

/// One node: its process, and when it is to be started or to go on.
struct Machine {
    process: Option<Runtime>,
    start_at: Option<Duration>,
    paused_until: Option<Duration>,
    /// How far its clock is behind.
    behind: Duration,
}

/// Plays a world from its beginning to its end. `start` begins a process of a node in its runtime,
/// `players` are stepped with the world.
pub(crate) fn play(
    world: &World,
    network: &Runtime,
    players: &Runtime,
    mut start: impl FnMut(usize, &Runtime),
) {
    let mut machines: [Machine; NODES] = std::array::from_fn(|_| Machine {
        process: None,
        start_at: Some(Duration::ZERO),
        paused_until: None,
        behind: Duration::ZERO,
    });
    let mut due = world.schedule.iter().copied().peekable();
    let mut struck = 0;
    let mut lives = 0_u64;
    while world.now() < TOTAL {
        let now = world.now();
        while let Some((_, fault)) = due.next_if(|&(at, _)| at <= now) {
            world.log("fault", format_args!("{fault:?}"));
            begin(world, &mut machines, fault, now);
        }
        advance(network, STEP);
        // Before the node goes on that was struck.
        let blows = world.shared.struck.lock()[struck..].to_vec();
        struck += blows.len();
        for (_, blow) in blows {
            begin(world, &mut machines, blow, now);
        }
        for (node, machine) in machines.iter_mut().enumerate() {
            if world.shared.slots[node].exited.swap(false, Ordering::Relaxed) {
                end(world, node, machine, now + RESTART);
            }
            if machine.start_at.is_some_and(|at| at <= now) {
                lives += 1;
                machine.start_at = None;
                let process = runtime(world.seed, &format!("process {lives}"));
                start(node, &process);
                machine.process = Some(process);
            }
            step(world, node, machine, now);
        }
        advance(players, STEP);
        world.shared.now_us.fetch_add(STEP.as_micros() as u64, Ordering::Relaxed);
    }
    for (node, machine) in machines.iter_mut().enumerate() {
        end(world, node, machine, Duration::MAX);
    }
}

/// A fault begins.
fn begin(world: &World, machines: &mut [Machine; NODES], fault: Fault, now: Duration) {
    match fault {
        Fault::Kill { node, down } => {
            end(world, node, &mut machines[node], now + down);
            if machines.iter().all(|machine| machine.process.is_none()) {
                world.mark(super::ALL_DOWN);
            }
        }
        Fault::Pause { node, lasts } if machines[node].process.is_some() => {
            let until = machines[node].paused_until.unwrap_or_default().max(now + lasts);
            machines[node].paused_until = Some(until);
            world.shared.slots[node].paused.lock().get_or_insert(now);
        }
        Fault::PowerCut { survive } => world.disk.power_cut(survive),
        Fault::Move { .. } | Fault::Drain { .. } => world.order(fault, now),
        _ => {}
    }
}

/// The process of a node is no more.
fn end(world: &World, node: usize, machine: &mut Machine, start_at: Duration) {
    let slot = &world.shared.slots[node];
    slot.exited.store(false, Ordering::Relaxed);
    *slot.paused.lock() = None;
    let reached = slot.reached.lock().take();
    machine.paused_until = None;
    machine.behind = Duration::ZERO;
    machine.start_at = Some(machine.start_at.unwrap_or_default().max(start_at));
    let Some(process) = machine.process.take() else { return };
    drop(process);
    drop(reached);
    let me = slot.me.lock().take();
    if let Some(me) = me {
        world.shared.lives.lock().insert(me, Some(world.now()));
        ends_in_migrations(world, me);
    }
    world.log(&format!("node-{node}"), "is gone");
}

/// Marks the migrations in whose middle a process has ended.
fn ends_in_migrations(world: &World, me: Incarnation) {
    let mut giving = world.shared.giving.lock();
    for (&(source, _), &Giving { target, committed }) in &*giving {
        if source == me && committed {
            world.mark(super::SOURCE_DIED);
        }
        if target == me && !committed {
            world.mark(super::TARGET_DIED);
        }
    }
    let left = giving.keys().filter(|(source, _)| *source == me).map(|(_, match_id)| *match_id);
    world.shared.left_on_its_way.lock().extend(left);
    giving.retain(|(source, _), _| *source != me);
}

fn step(world: &World, node: usize, machine: &mut Machine, now: Duration) {
    let Some(process) = &machine.process else { return };
    match machine.paused_until {
        Some(until) if until > now => {
            machine.behind += STEP;
            return;
        }
        Some(_) => {
            machine.paused_until = None;
            world.shared.slots[node].woke.store(true, Ordering::Relaxed);
            *world.shared.slots[node].paused.lock() = None;
            world.log(&format!("node-{node}"), format_args!("wakes after {:?}", machine.behind));
            let behind = std::mem::take(&mut machine.behind);
            process.block_on(async { tokio::time::advance(behind).await });
        }
        None => {}
    }
    advance(process, STEP);
}
