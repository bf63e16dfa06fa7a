//! Two nodes, a third one that takes over what they leave, one row, and a network that loses.

use bytes::Bytes;
use rekindle_cluster::migration::source::{self, Move, Outcome, Patience, Source, Swapped};
use rekindle_cluster::migration::target::{self, Call, Stand, Target};
use rekindle_schema::lease::{DEFAULT_REGION, Lineage, MatchLease, MatchSpec, MatchState};
use rekindle_schema::peer::{Cut, PeerReply, PeerRequest};
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq, StateHash, Tick};

const MATCH: MatchId = MatchId(7);
const SOURCE: Incarnation = Incarnation(1);
const TARGET: Incarnation = Incarnation(2);
const THIRD: Incarnation = Incarnation(3);
/// Steps with faults.
const STORM: usize = 120;
/// How long the source waits for an answer.
const PATIENCE_MS: u64 = 250;
/// Steps without: far more than it takes.
const CALM: usize = 4_000;

/// A rule that is broken on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// A row that still names the source settles an unknown commit for it.
    BelievesReads,
    /// The target runs the match as soon as it stands at the cut.
    RunsWhenReady,
}

/// What is under way.
#[derive(Debug, Clone)]
enum Flight {
    /// A request of the source; nobody waits for the answer of one without a number.
    Request(Option<u64>, PeerRequest),
    Reply(u64, PeerReply),
    /// The match is being stopped.
    Stop,
    SourceReads,
    TargetReads,
    /// A compare-and-set of the source on its way to the row; whether anybody waits for it.
    Swap(Box<MatchLease>, bool),
    Swapped(Swapped),
    /// The target's follower takes a step.
    Follow,
    Runs(Box<MatchLease>),
}

/// One of the two nodes.
#[derive(Debug)]
struct Node {
    alive: bool,
    fenced: bool,
    /// The epoch in which it runs the match.
    runs: Option<Epoch>,
    wakes: Vec<u64>,
}

impl Node {
    fn new(runs: Option<Epoch>) -> Self {
        Self { alive: true, fenced: false, runs, wakes: Vec::new() }
    }

    fn counts(&self) -> bool {
        self.alive && !self.fenced && self.runs.is_some()
    }
}

#[expect(clippy::struct_excessive_bools, reason = "marks of what a walk has come to")]
pub(crate) struct World {
    chance: u64,
    broken: Broken,
    stormy: bool,
    now: u64,
    row: MatchLease,
    /// The last record that was acknowledged.
    acknowledged: u64,
    source: Node,
    source_core: Source,
    still: bool,
    target: Node,
    target_core: Option<Target>,
    follower: Option<u64>,
    third: Option<Epoch>,
    flights: Vec<Flight>,
    asked: u64,
    waits_for: Option<u64>,
    /// Until then the source waits for the answer.
    patience: u64,
    trace: Vec<String>,
    outcome: Option<Outcome>,
    pub(crate) settled: bool,
    pub(crate) recovered: bool,
}

fn first_row() -> MatchLease {
    let spec = MatchSpec {
        game: "test".into(),
        config: Bytes::new(),
        seed: 1,
        tick_rate: 30,
        house_bots: 0,
        created_ms: 0,
    };
    let lineage = Lineage {
        epoch: Epoch(1),
        incarnation: SOURCE,
        first_batch: BatchNo(1),
        first_seq: Seq(1),
    };
    MatchLease {
        match_id: MATCH,
        version: 1,
        epoch: Epoch(1),
        incarnation: SOURCE,
        state: MatchState::Running,
        attempts: 0,
        lineage: vec![lineage],
        spec,
        region: DEFAULT_REGION.into(),
    }
}

/// The hash that every node has after this record.
fn hash(seq: u64) -> StateHash {
    StateHash([u8::try_from(seq % 251).unwrap_or(0); 32])
}

impl World {
    pub(crate) fn new(seed: u64, broken: Broken) -> Self {
        let order = Move { match_id: MATCH, me: SOURCE, target: TARGET, floor: Epoch(1) };
        let patience = Patience { follow_ms: 2_000, ready_ms: 400, close_ticks: 3 };
        let mut world = Self {
            chance: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            broken,
            stormy: false,
            now: 1_000,
            row: first_row(),
            acknowledged: 5,
            source: Node::new(Some(Epoch(1))),
            source_core: Source::new(order, patience),
            still: false,
            target: Node::new(None),
            target_core: None,
            follower: None,
            third: None,
            flights: Vec::new(),
            asked: 0,
            waits_for: None,
            patience: 0,
            trace: Vec::new(),
            outcome: None,
            settled: false,
            recovered: false,
        };
        let effects = world.source_core.begin(world.now);
        world.source_does(effects);
        world
    }

    pub(crate) fn trace(&self) -> String {
        self.trace.join("\n")
    }

    pub(crate) fn runs_at_the_source(&self) -> bool {
        self.source.counts()
    }

    pub(crate) fn runs_at_the_target(&self) -> bool {
        self.target.counts()
    }

    pub(crate) fn runs_at_the_third(&self) -> bool {
        self.third.is_some()
    }

    /// `SplitMix64`.
    fn below(&mut self, end: usize) -> usize {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.chance;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ (word >> 31)) % end.max(1) as u64).unwrap_or(0)
    }

    /// Steps with faults.
    pub(crate) fn storm(&mut self) -> Result<(), String> {
        self.stormy = true;
        for _ in 0..STORM {
            match self.below(100) {
                0 if self.below(3) == 0 => self.hit(|world| &mut world.source),
                1 if self.below(3) == 0 => self.hit(|world| &mut world.target),
                2 if self.follower.is_some() => {
                    self.tell_target(target::Event::Failed("a bad disk".into()));
                }
                2..=7 => self.lose(),
                8..=11 => self.double(),
                12..=40 => self.passes(),
                41..=50 => self.tick(),
                _ => self.land(),
            }
            self.third_looks();
            self.check()?;
        }
        Ok(())
    }

    /// Steps without, until nothing is left to do; then exactly one runs it.
    pub(crate) fn calm(&mut self) -> Result<(), String> {
        self.stormy = false;
        for step in 0..CALM {
            if step % 4 == 0 {
                self.tick();
            }
            if self.flights.is_empty() || step % 8 == 0 {
                self.passes();
            } else {
                self.land();
            }
            self.third_looks();
            self.check()?;
            if self.is_quiet() {
                break;
            }
        }
        let runners = [self.source.counts(), self.target.counts(), self.third.is_some()];
        match runners.iter().filter(|runs| **runs).count() {
            1 => Ok(()),
            count => Err(format!("{count} nodes run it in the end; the row: {:?}", self.row)),
        }
    }

    /// Whether nothing can change any more.
    fn is_quiet(&self) -> bool {
        let over = self.target_core.as_ref().is_none_or(Target::is_over);
        (self.source_core.is_over() || !self.source.alive)
            && (over || !self.target.alive)
            && self.flights.is_empty()
    }

    /// A crash, or a fence that leaves a zombie.
    fn hit(&mut self, which: impl Fn(&mut Self) -> &mut Node) {
        let crash = self.below(2) == 0;
        let node = which(self);
        if crash {
            node.alive = false;
            node.runs = None;
        } else {
            node.fenced = true;
        }
        self.trace.push(format!("hit: source {:?}, target {:?}", self.source, self.target));
    }

    fn lose(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let at = self.below(self.flights.len());
        match &self.flights[at] {
            Flight::Request(..) | Flight::Reply(..) => {
                self.trace.push(format!("lost: {:?}", self.flights[at]));
                self.flights.swap_remove(at);
            }
            // The answer is lost, and the write may come later.
            Flight::Swap(row, true) => {
                let row = row.clone();
                self.trace.push(format!("answer lost: version {}", row.version));
                self.flights[at] = Flight::Swap(row, false);
                self.flights.push(Flight::Swapped(Swapped::Unknown("lost".into())));
            }
            Flight::Swapped(Swapped::Done | Swapped::Stands(_)) => {
                self.trace.push("answer lost of what was done".into());
                self.flights[at] = Flight::Swapped(Swapped::Unknown("lost".into()));
            }
            _ => {}
        }
    }

    fn double(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let at = self.below(self.flights.len());
        if let Flight::Request(_, request) = &self.flights[at] {
            let again = Flight::Request(None, request.clone());
            self.flights.push(again);
        }
    }

    fn passes(&mut self) {
        self.now += 10 + self.below(60) as u64;
        let now = self.now;
        let due = |wakes: &mut Vec<u64>| {
            let before = wakes.len();
            wakes.retain(|at| *at > now);
            wakes.len() < before
        };
        if let Some(call) = self.waits_for.filter(|_| now > self.patience) {
            self.answered(call, Err("no answer in time".into()));
        }
        if self.source.alive && due(&mut self.source.wakes) {
            let effects = self.source_core.handle(now, source::Event::Time);
            self.source_does(effects);
        }
        if self.target.alive && due(&mut self.target.wakes) {
            self.tell_target(target::Event::Time);
        }
    }

    /// Whoever runs it and is not fenced acknowledges one more record.
    fn tick(&mut self) {
        if self.source.counts() || self.target.counts() || self.third.is_some() {
            self.acknowledged += 1;
        }
    }

    /// One thing that is under way arrives; which one is chance.
    fn land(&mut self) {
        if self.flights.is_empty() {
            return;
        }
        let at = self.below(self.flights.len());
        let flight = self.flights.swap_remove(at);
        self.trace.push(format!("{} {flight:?}", self.now));
        match flight {
            Flight::Request(call, request) => self.request(call, request),
            Flight::Reply(call, reply) => self.answered(call, Ok(reply)),
            Flight::Stop => self.stop(),
            Flight::SourceReads => self.source_reads(),
            Flight::TargetReads => {
                let row = Ok(Some(Box::new(self.row.clone())));
                self.tell_target(target::Event::Read(row));
            }
            Flight::Swap(row, waited) => self.swap(*row, waited),
            Flight::Swapped(swapped) => self.tell_source(source::Event::Swapped(swapped)),
            Flight::Follow => self.follow(),
            Flight::Runs(row) => self.run(&row),
        }
    }

    fn request(&mut self, call: Option<u64>, request: PeerRequest) {
        if !self.target.alive {
            return;
        }
        let known = self.target_core.as_ref().is_some_and(|core| !core.is_over());
        let begins = matches!(request, PeerRequest::Follow { .. } | PeerRequest::Yours { .. });
        if self.target.runs.is_some() || (!known && !begins) {
            let reply = PeerReply::Refused { words: "not followed".into() };
            self.flights.extend(call.map(|call| Flight::Reply(call, reply)));
            return;
        }
        if !known {
            self.target_core = Some(Target::new(MATCH, TARGET, SOURCE));
        }
        let call = call.unwrap_or(0);
        self.tell_target(target::Event::Asked { from: SOURCE, call, request });
    }

    fn answered(&mut self, call: u64, reply: Result<PeerReply, String>) {
        if self.waits_for == Some(call) {
            self.waits_for = None;
            let tick = Tick(self.acknowledged);
            self.tell_source(source::Event::Answered { reply, tick });
        }
    }

    fn stop(&mut self) {
        let Some(epoch) = self.source.runs.take() else { return };
        self.still = true;
        let seq = self.acknowledged;
        let cut = Cut { epoch, tick: Tick(seq), seq: Seq(seq), hash: hash(seq) };
        self.tell_source(source::Event::Halted(Ok(cut)));
    }

    fn source_reads(&mut self) {
        let row = Box::new(self.row.clone());
        let settles = format!("{:?}", self.source_core).contains("Settling");
        if self.broken == Broken::BelievesReads && settles && row.epoch == Epoch(1) {
            self.source.runs = Some(row.epoch);
            return;
        }
        let next_batch = BatchNo(9);
        self.tell_source(source::Event::Read { row: Ok(Some(row)), next_batch });
    }

    fn swap(&mut self, row: MatchLease, waited: bool) {
        let fits = self.row.version + 1 == row.version;
        let answer = if fits {
            let begins = row.lineage.last().map(|last| last.first_seq);
            let follows = begins == Some(Seq(self.acknowledged + 1));
            assert!(
                follows || self.broken != Broken::Nothing,
                "right behind what was acknowledged"
            );
            self.row = row;
            Swapped::Done
        } else {
            Swapped::Stands(Some(Box::new(self.row.clone())))
        };
        if waited {
            self.flights.push(Flight::Swapped(answer));
        }
    }

    fn follow(&mut self) {
        let Some(seq) = &mut self.follower else { return };
        *seq = (*seq + 3).min(self.acknowledged);
        let seq = *seq;
        self.flights.push(Flight::Follow);
        let stand =
            Stand { tick: Tick(seq), seq: Seq(seq), hash: hash(seq), next_batch: BatchNo(4) };
        self.tell_target(target::Event::Stands(stand));
    }

    fn run(&mut self, row: &MatchLease) {
        if !self.target.alive {
            return;
        }
        self.target.runs = Some(row.epoch);
        self.tell_target(target::Event::Ran(Ok(())));
    }

    fn tell_source(&mut self, event: source::Event) {
        if self.source.alive {
            let effects = self.source_core.handle(self.now, event);
            self.source_does(effects);
        }
    }

    fn source_does(&mut self, effects: Vec<source::Effect>) {
        for effect in effects {
            match effect {
                source::Effect::Ask(request) => {
                    self.asked += 1;
                    self.waits_for = Some(self.asked);
                    self.flights.push(Flight::Request(Some(self.asked), request));
                    self.patience = self.now + PATIENCE_MS;
                }
                source::Effect::Tell(request) => {
                    self.flights.push(Flight::Request(None, request));
                }
                source::Effect::Stop => self.flights.push(Flight::Stop),
                source::Effect::Read => self.flights.push(Flight::SourceReads),
                source::Effect::Swap(row) => self.send_swap(row),
                source::Effect::Keep => {
                    assert!(std::mem::take(&mut self.still), "only what stands still goes on");
                    self.source.runs = Some(Epoch(1));
                }
                source::Effect::KeepAs(row) => {
                    assert!(std::mem::take(&mut self.still), "only what stands still goes on");
                    self.source.runs = Some(row.epoch);
                    self.settled = true;
                }
                source::Effect::LetGo => {
                    assert!(std::mem::take(&mut self.still), "only what stands still is let go");
                }
                source::Effect::Wake(at) => self.source.wakes.push(at),
                source::Effect::Ended(outcome) => {
                    assert!(self.outcome.replace(outcome).is_none(), "it ends once");
                }
            }
        }
    }

    /// Now and then the connection breaks behind a write, which may arrive later.
    fn send_swap(&mut self, row: Box<MatchLease>) {
        let breaks = self.stormy && self.below(3) == 0;
        self.flights.push(Flight::Swap(row, !breaks));
        if breaks {
            self.flights.push(Flight::Swapped(Swapped::Unknown("lost".into())));
        }
    }

    fn tell_target(&mut self, event: target::Event) {
        if !self.target.alive {
            return;
        }
        let now = self.now;
        let Some(core) = &mut self.target_core else { return };
        for effect in core.handle(now, event) {
            self.target_does(effect);
        }
    }

    fn target_does(&mut self, effect: target::Effect) {
        match effect {
            target::Effect::Reply(call, reply) => {
                if self.broken == Broken::RunsWhenReady && matches!(reply, PeerReply::Ready { .. })
                {
                    self.target.runs = Some(Epoch(2));
                }
                self.reply(call, reply);
            }
            target::Effect::Follow => {
                assert!(self.follower.is_none(), "one follower at a time");
                self.follower = Some(1);
                self.flights.push(Flight::Follow);
            }
            target::Effect::Drop => {
                self.follower = None;
                self.flights.retain(|flight| !matches!(flight, Flight::Follow));
            }
            target::Effect::Read => self.flights.push(Flight::TargetReads),
            target::Effect::Run(row) => {
                let first = row.lineage.last().map(|last| last.first_seq);
                assert_eq!(first, self.follower.map(|seq| Seq(seq + 1)), "it stands at the start");
                self.stop_following();
                self.flights.push(Flight::Runs(row));
            }
            target::Effect::Recover(row) => {
                self.stop_following();
                self.recovered = true;
                self.flights.push(Flight::Runs(row));
            }
            target::Effect::Wake(at) => self.target.wakes.push(at),
            target::Effect::Ended(_) => {}
        }
    }

    fn stop_following(&mut self) {
        self.follower = None;
        self.flights.retain(|flight| !matches!(flight, Flight::Follow));
    }

    fn reply(&mut self, call: Call, reply: PeerReply) {
        if call > 0 {
            self.flights.push(Flight::Reply(call, reply));
        }
    }

    /// Takes over by the row what a dead or fenced node has, and has this row's node rescan what
    /// nobody told it.
    fn third_looks(&mut self) {
        let owner = match self.row.incarnation {
            SOURCE => &self.source,
            TARGET => &self.target,
            _ => return,
        };
        if !owner.alive || owner.fenced {
            self.row.version += 1;
            self.row.epoch = self.row.epoch.next();
            self.row.incarnation = THIRD;
            let first_seq = Seq(self.acknowledged + 1);
            let lineage = Lineage {
                epoch: self.row.epoch,
                incarnation: THIRD,
                first_batch: BatchNo(1),
                first_seq,
            };
            self.row.lineage.push(lineage);
            self.third = Some(self.row.epoch);
        }
        self.stray();
    }

    /// The caretaker of a node finds a row that names it and that it does not run.
    fn stray(&mut self) {
        let idle = self.target_core.as_ref().is_none_or(Target::is_over);
        let pending = self.flights.iter().any(|flight| matches!(flight, Flight::Runs(_)));
        if self.row.incarnation == TARGET && idle && !pending && self.target.runs.is_none() {
            self.recovered = true;
            self.flights.push(Flight::Runs(Box::new(self.row.clone())));
        }
    }

    fn check(&self) -> Result<(), String> {
        let named = |node: Incarnation, epoch| {
            self.row.incarnation == node && Some(self.row.epoch) == epoch
        };
        let runners = [
            (SOURCE, self.source.counts().then_some(self.source.runs).flatten()),
            (TARGET, self.target.counts().then_some(self.target.runs).flatten()),
            (THIRD, self.third),
        ];
        let running: Vec<_> = runners.iter().filter(|(_, epoch)| epoch.is_some()).collect();
        if running.len() > 1 {
            return Err(format!("two nodes run it: {running:?}"));
        }
        match running.first() {
            Some(&&(node, epoch)) if !named(node, epoch) => {
                // Before the mutants' second runner shows, the row tells.
                if self.broken == Broken::Nothing {
                    return Err(format!("{node} runs it in {epoch:?}, the row: {:?}", self.row));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
