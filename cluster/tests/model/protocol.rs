//! What can happen next, and what comes of it.
//!
//! Every action is one step of one process, or one step of the store or the network. Processes
//! pause and wake in the model by doing nothing for a while: all orders of steps are tried. The new
//! row of every owner comes from `takeover::next_owner`, and what is trimmed from
//! `retention::trim`: the product's own code.

use std::collections::BTreeMap;

use rekindle_cluster::ownership::takeover::{self, ClaimOptions};
use rekindle_cluster::retention::trim;
use rekindle_schema::lease::MatchLease;
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq};
use rekindle_store::LogInfo;
use stateright::{Model, Property};

use super::rules::{acknowledge, is_served, judge, recover};
use super::state::{
    Batch, Cas, Checkpoint, Content, Follower, Frame, Id, Lease, Log, MATCHES, Move, NODES, Node,
    Record, Row, Rule, Run, Stage, Standing, State, Takeover, Why, Write,
};

/// A protocol that is wrong in one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mutant {
    /// A batch is acknowledged without a look at the lease.
    AcknowledgeBeforeVerifying,
    /// The tail of a log is read before its writer is fenced.
    TailBeforeFence,
    /// A log is sealed while its writer is live.
    NoFence,
    /// The last batch that was found is not made durable.
    NoSettle,
    /// A reader of a sealed log goes on behind the seal.
    SealIgnored,
    /// An owner takes over in the epoch of the one before.
    EpochNotBumped,
    /// A claim writes back the lineage that its node read at its first takeover; only the epoch is
    /// compared.
    StaleLineage,
    /// A node trims by the matches that it owns itself.
    TrimByOwnMatches,
    /// A source that does not know whether it handed over believes what it reads.
    MoveSettledByRead,
    /// The target of a migration runs as soon as it stands at the cut.
    TargetRunsEarly,
    /// A standby goes on with all that it has read, also with what lies behind the seal.
    PromotedPastSeal,
    /// A standby goes on from where it stands, before it has read up to the seal.
    PromotedTooEarly,
}

/// What must hold, in words, in the order of [`Rule`].
pub(crate) const RULES: [&str; 6] = [
    "one owner acknowledges a number",
    "nothing that was shown is undone",
    "no gap",
    "each record once",
    "epochs grow",
    "orphans are taken",
];

/// How much may happen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub matches: usize,
    /// The match that the second node owns at the start.
    pub second: Option<Id>,
    /// Records of each match.
    pub records: usize,
    /// The highest epoch.
    pub epochs: u8,
    pub crashes: u8,
    /// Migrations begun.
    pub moves: u8,
    /// Steps of followers.
    pub follows: u8,
    /// Answers that are lost, and requests that are given up.
    pub lost: u8,
    /// The third incarnation may start.
    pub third: bool,
    /// Checkpoints are taken, lineages pruned, logs trimmed.
    pub trimming: bool,
    /// In every state it is tried whether the survivors can go on.
    pub liveness: bool,
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Start(Id),
    Crash(Id),
    /// A process finds out that it is fenced, and ends.
    Notice(Id),
    /// A process sends a batch with a record of each of these matches (a bit set).
    Flush(Id, u8),
    /// The batch under way has come to one replica.
    Land(Id),
    /// The last batch is durable.
    Persist(Id),
    /// A batch that was not durable is gone.
    Lose(Id),
    /// A writer verifies its lease, and acknowledges.
    Verify(Id),
    Begin(Id, Id),
    /// The next step of a takeover. False: a batch that is not durable is overlooked.
    Secure(Id, bool),
    Claim(Id, Id),
    /// A compare-and-set is carried out. False: its answer is lost.
    Decide(usize, bool),
    /// A compare-and-set is lost on its way.
    Vanish(usize),
    /// Nobody waits for its answer any more.
    GiveUp(usize),
    /// A process runs what the directory gives to it.
    Adopt(Id, Id),
    Follow(Id, Id),
    Cut(Id, Id, Id),
    Ready(Id, Id),
    Resume(Id, Id),
    HandOver(Id, Id),
    Insist(Id, Id),
    /// Of a mutant: the row is read and believed.
    Believe(Id, Id),
    Checkpoint(Id, Id),
    Prune(Id, Id),
    Trim(Id),
}

/// The protocol.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Protocol {
    pub bounds: Bounds,
    pub mutant: Option<Mutant>,
}

/// The steps of a takeover of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Fence,
    Tail,
    Settle,
    Seal,
}

impl Protocol {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn steps(&self) -> &'static [Step] {
        match self.mutant {
            Some(Mutant::TailBeforeFence) => &[Step::Tail, Step::Fence, Step::Settle, Step::Seal],
            Some(Mutant::NoFence) => &[Step::Tail, Step::Settle, Step::Seal],
            Some(Mutant::NoSettle) => &[Step::Fence, Step::Tail, Step::Seal],
            _ => &[Step::Fence, Step::Tail, Step::Settle, Step::Seal],
        }
    }

    fn recovered(&self, state: &State, of: Id) -> Option<Content> {
        recover(state, of, !self.is(Mutant::SealIgnored)).ok()
    }

    /// The row with which `owner` follows, made by the product.
    fn next(&self, row: &Row, of: Id, owner: Id, first_batch: u8, last_seq: usize) -> Row {
        let options = ClaimOptions {
            me: Incarnation(u64::from(owner)),
            first_batch: BatchNo(u64::from(first_batch)),
            floor: Epoch(0),
        };
        let next = takeover::next_owner(row.lease(of), options, Seq(last_seq as u64));
        let mut next = Row::of(&next);
        if self.is(Mutant::EpochNotBumped) {
            next.epoch = row.epoch;
            next.lineage.last_mut().expect("it was just pushed").epoch = row.epoch;
        }
        next
    }

    fn of_process(&self, state: &State, id: Id, actions: &mut Vec<Action>) {
        let n = usize::from(id);
        let (node, log, bounds) = (&state.nodes[n], &state.logs[n], &self.bounds);
        if state.spent.crashes < bounds.crashes {
            actions.push(Action::Crash(id));
        }
        if state.leases[n].standing == Standing::Fenced {
            actions.push(Action::Notice(id));
        }
        if node.write.is_none() && log.sent.is_none() {
            let free = |of: usize| {
                node.runs[of]
                    .as_ref()
                    .is_some_and(|run| run.moving.is_none() && run.content.len() < bounds.records)
            };
            let masks = 1_u8..1 << bounds.matches;
            let whole = |mask: &u8| (0..bounds.matches).all(|of| mask >> of & 1 == 0 || free(of));
            actions.extend(masks.filter(whole).map(|mask| Action::Flush(id, mask)));
        }
        if node.write == Some(Write::Written) {
            actions.push(Action::Verify(id));
        }
        match &node.takeover {
            None if state.leases[n].standing == Standing::Live => {
                let open = |victim: &usize| {
                    let lease = &state.leases[*victim];
                    *victim != n
                        && lease.standing != Standing::Unregistered
                        && lease.seal.is_none()
                        && state.rows[..bounds.matches].iter().any(|row| {
                            row.lineage.iter().any(|line| usize::from(line.log) == *victim)
                        })
                };
                actions.extend((0..NODES).filter(open).map(|v| Action::Begin(id, v as Id)));
            }
            None => {}
            Some(takeover) => {
                actions.push(Action::Secure(id, true));
                let step = self.steps()[usize::from(takeover.done)];
                if step == Step::Tail && state.logs[usize::from(takeover.victim)].is_half() {
                    actions.push(Action::Secure(id, false));
                }
            }
        }
        if bounds.trimming {
            actions.push(Action::Trim(id));
        }
    }

    fn of_match(&self, state: &State, id: Id, of: Id, actions: &mut Vec<Action>) {
        let (node, row) = (&state.nodes[usize::from(id)], &state.rows[usize::from(of)]);
        let claims = node.claims[usize::from(of)].is_some();
        let Some(run) = &node.runs[usize::from(of)] else {
            if claims {
                return;
            }
            if row.owner == id {
                actions.push(Action::Adopt(id, of));
                return;
            }
            let sealed = state.leases[usize::from(row.owner)].seal.is_some();
            if sealed && row.epoch < self.bounds.epochs {
                actions.push(Action::Claim(id, of));
            }
            if state.spent.follows < self.bounds.follows {
                actions.push(Action::Follow(id, of));
            }
            return;
        };
        match run.moving.as_ref().map(|moving| &moving.stage) {
            None => {
                if state.spent.moves < self.bounds.moves && run.epoch < self.bounds.epochs {
                    let others = (0..NODES as Id)
                        .filter(|other| *other != id && state.nodes[usize::from(*other)].up);
                    actions.extend(others.map(|target| Action::Cut(id, of, target)));
                }
            }
            Some(Stage::Cut) => actions.extend([Action::Resume(id, of), Action::Ready(id, of)]),
            Some(Stage::Ready { .. }) => {
                actions.extend([Action::Resume(id, of), Action::HandOver(id, of)]);
            }
            Some(Stage::Asked { .. }) => {}
            Some(Stage::Doubt { .. }) if self.is(Mutant::MoveSettledByRead) => {
                actions.push(Action::Believe(id, of));
            }
            Some(Stage::Doubt { .. }) => actions.push(Action::Insist(id, of)),
        }
        if self.bounds.trimming && row.owner == id {
            actions.extend([Action::Checkpoint(id, of), Action::Prune(id, of)]);
        }
    }

    /// Changes `state`; false: nothing comes of it.
    fn step(&self, state: &mut State, action: &Action) -> bool {
        match *action {
            Action::Start(id) => {
                state.leases[usize::from(id)].standing = Standing::Live;
                state.nodes[usize::from(id)].up = true;
            }
            Action::Crash(id) => {
                state.spent.crashes += 1;
                end(state, id);
            }
            Action::Notice(id) => end(state, id),
            Action::Flush(id, matches) => flush(state, id, matches),
            Action::Land(id) => {
                let log = &mut state.logs[usize::from(id)];
                let frames = log.sent.take().expect("something is under way");
                log.batches.push(Batch { frames, durable: false });
            }
            Action::Persist(id) => {
                persist(state, id);
                let write = &mut state.nodes[usize::from(id)].write;
                *write = write.map(|_| Write::Written);
            }
            Action::Lose(id) => {
                state.logs[usize::from(id)].batches.pop();
            }
            Action::Verify(id) => self.verify(state, id),
            Action::Begin(id, victim) => {
                let rows = self.is(Mutant::StaleLineage).then(|| state.rows.clone());
                state.nodes[usize::from(id)].takeover =
                    Some(Takeover { victim, done: 0, tail: 0, rows });
            }
            Action::Secure(id, sees_all) => self.secure(state, id, sees_all),
            Action::Trim(id) => return self.trim(state, id),
            Action::Decide(..) | Action::Vanish(_) | Action::GiveUp(_) => {
                Self::of_queue(state, action);
            }
            _ => return self.step_of_match(state, action),
        }
        true
    }

    fn step_of_match(&self, state: &mut State, action: &Action) -> bool {
        match *action {
            Action::Claim(id, of) => self.claim(state, id, of),
            Action::Adopt(id, of) => {
                let Some(content) = self.recovered(state, of) else { return false };
                let epoch = state.rows[usize::from(of)].epoch;
                let run = Run { epoch, content, acknowledged: None, moving: None };
                state.nodes[usize::from(id)].runs[usize::from(of)] = Some(run);
                true
            }
            Action::Follow(id, of) => {
                state.spent.follows += 1;
                let Some(follower) = follow(state, of, None) else { return false };
                let follows = &mut state.nodes[usize::from(id)].follows[usize::from(of)];
                follows.replace(follower.clone()) != Some(follower)
            }
            Action::Cut(id, of, target) => {
                state.spent.moves += 1;
                run_of(state, id, of).moving = Some(Move { target, stage: Stage::Cut });
                true
            }
            Action::Ready(id, of) => self.ready(state, id, of),
            Action::Resume(id, of) => {
                run_of(state, id, of).moving = None;
                true
            }
            Action::HandOver(id, of) => self.hand_over(state, id, of),
            Action::Insist(id, of) => {
                let next = state.logs[usize::from(id)].next();
                let run = run_of(state, id, of);
                let Some(Move { stage: Stage::Doubt { base }, .. }) = run.moving.clone() else {
                    return false;
                };
                let wanted = self.next(&base, of, id, next, run.content.len());
                ask(state, id, of, Why::Insist, base, wanted);
                true
            }
            Action::Believe(id, of) => {
                let row = state.rows[usize::from(of)].clone();
                obey(state, id, of, &row);
                true
            }
            Action::Checkpoint(id, of) => checkpoint(state, id, of),
            Action::Prune(_, of) => {
                let checkpoints = &state.checkpoints[usize::from(of)];
                let [oldest, _] = checkpoints.as_slice() else { return false };
                let (epoch, row) = (oldest.epoch, &mut state.rows[usize::from(of)]);
                let before = row.lineage.len();
                row.lineage.retain(|stretch| stretch.epoch >= epoch);
                row.version += 1;
                row.lineage.len() != before
            }
            _ => unreachable!("{action:?} is no step of a match"),
        }
    }

    fn verify(&self, state: &mut State, id: Id) {
        let n = usize::from(id);
        let live = state.leases[n].standing == Standing::Live;
        if !live && !self.is(Mutant::AcknowledgeBeforeVerifying) {
            end(state, id);
            return;
        }
        state.nodes[n].write = None;
        let number = state.logs[n].last();
        let Some(batch) = state.logs[n].batches.last() else { return };
        for frame in batch.frames.clone() {
            let Some(mut run) = state.nodes[n].runs[usize::from(frame.of)].take() else { continue };
            if run.epoch == frame.epoch {
                run.acknowledged = Some((frame.seq, number));
                acknowledge(state, frame.of, &run, frame.seq);
            }
            state.nodes[n].runs[usize::from(frame.of)] = Some(run);
        }
    }

    fn secure(&self, state: &mut State, id: Id, sees_all: bool) {
        let mut takeover = state.nodes[usize::from(id)].takeover.take().expect("it takes over");
        let victim = usize::from(takeover.victim);
        match self.steps()[usize::from(takeover.done)] {
            Step::Fence => state.leases[victim].standing = Standing::Fenced,
            Step::Tail => {
                takeover.tail = state.logs[victim].last() - u8::from(!sees_all);
            }
            Step::Settle => {
                if state.logs[victim].last() == takeover.tail {
                    persist(state, takeover.victim);
                }
            }
            Step::Seal => {
                state.leases[victim].seal.get_or_insert(takeover.tail);
                let remembered = &mut state.nodes[usize::from(id)].stale;
                *remembered = remembered.take().or(takeover.rows);
                return;
            }
        }
        takeover.done += 1;
        state.nodes[usize::from(id)].takeover = Some(takeover);
    }

    fn claim(&self, state: &mut State, id: Id, of: Id) -> bool {
        let mut row = state.rows[usize::from(of)].clone();
        let base = row.clone();
        if let Some(stale) = &state.nodes[usize::from(id)].stale {
            row.lineage.clone_from(&stale[usize::from(of)].lineage);
        }
        let mut seen = state.clone();
        seen.rows[usize::from(of)] = row.clone();
        let Some(read) = self.recovered(&seen, of) else { return false };
        let content = match self.promoted(state, id, of) {
            Some(followed) => {
                state.spent.promotions += 1;
                followed
            }
            None => read,
        };
        let next = state.logs[usize::from(id)].next();
        let mut wanted = self.next(&row, of, id, next, content.len());
        wanted.version = base.version + 1;
        state.nodes[usize::from(id)].claims[usize::from(of)] = Some(content);
        ask(state, id, of, Why::Claim, base, wanted);
        true
    }

    /// What a standby goes on with instead of recovering the match: it reads up to the seal of its
    /// owner's log, and must stand exactly there. The product decides whether it does.
    fn promoted(&self, state: &State, id: Id, of: Id) -> Option<Content> {
        let mut follower = state.nodes[usize::from(id)].follows[usize::from(of)].clone()?;
        let row = &state.rows[usize::from(of)];
        let lease = state.leases[usize::from(row.owner)];
        let seal = lease.seal?;
        if follower.read_to < seal && !self.is(Mutant::PromotedTooEarly) {
            follower = follow(state, of, Some(seal))?;
        }
        let fits =
            takeover::fits_seal(&row.lease(of), follower.followed(), Some(&lease.of(row.owner)));
        let goes_on = match self.mutant {
            Some(Mutant::PromotedPastSeal) => follower.read_to >= seal,
            Some(Mutant::PromotedTooEarly) => follower.read_to <= seal,
            _ => fits.is_ok(),
        };
        (goes_on && (row.epoch, row.owner) == (follower.epoch, follower.owner))
            .then_some(follower.content)
    }

    /// The target reads all that the source has made durable, and says that it stands at the cut.
    fn ready(&self, state: &mut State, id: Id, of: Id) -> bool {
        let run = run_of(state, id, of).clone();
        let Some(target) = run.moving.as_ref().map(|moving| moving.target) else { return false };
        if !run.is_quiet() || !state.nodes[usize::from(target)].up {
            return false;
        }
        if self.recovered(state, of).as_ref() != Some(&run.content) {
            return false;
        }
        let first_batch = state.logs[usize::from(target)].next();
        run_of(state, id, of).moving = Some(Move { target, stage: Stage::Ready { first_batch } });
        let followed = follow(state, of, None);
        let other = &mut state.nodes[usize::from(target)];
        if self.is(Mutant::TargetRunsEarly) {
            let early = Run {
                epoch: run.epoch + 1,
                content: run.content,
                acknowledged: None,
                moving: None,
            };
            other.runs[usize::from(of)].get_or_insert(early);
        } else {
            other.follows[usize::from(of)] = followed;
        }
        true
    }

    fn hand_over(&self, state: &mut State, id: Id, of: Id) -> bool {
        let row = state.rows[usize::from(of)].clone();
        let run = run_of(state, id, of);
        if (row.owner, row.epoch) != (id, run.epoch) {
            obey(state, id, of, &row);
            return true;
        }
        let Some(Move { target, stage: Stage::Ready { first_batch } }) = run.moving else {
            return false;
        };
        let wanted = self.next(&row, of, target, first_batch, run.content.len());
        ask(state, id, of, Why::HandOver, row, wanted);
        true
    }

    fn of_queue(state: &mut State, action: &Action) {
        match *action {
            Action::Decide(index, answered) => {
                let cas = state.queue.remove(index);
                let row = &mut state.rows[usize::from(cas.of)];
                let done = row.version == cas.base;
                if done {
                    let grows = cas.wanted.epoch > row.epoch || cas.wanted.owner == row.owner;
                    if !grows {
                        state.broken = Some(Rule::EpochsGrow);
                    }
                    *row = cas.wanted.clone();
                }
                if !cas.awaited {
                    return;
                }
                if answered {
                    answer(state, &cas, done);
                } else {
                    state.spent.lost += 1;
                    doubt(state, &cas);
                }
            }
            Action::Vanish(index) => {
                state.spent.lost += 1;
                let cas = state.queue.remove(index);
                if cas.awaited {
                    doubt(state, &cas);
                }
            }
            Action::GiveUp(index) => {
                state.spent.lost += 1;
                let mut cas = state.queue.remove(index);
                doubt(state, &cas);
                cas.awaited = false;
                queue(state, cas);
            }
            _ => unreachable!("{action:?} is no step of a request"),
        }
    }

    /// Cuts off the logs what the product says that nobody needs.
    fn trim(&self, state: &mut State, id: Id) -> bool {
        let own = self.is(Mutant::TrimByOwnMatches);
        let rows: Vec<MatchLease> = (0..self.bounds.matches)
            .filter(|of| !own || state.rows[*of].owner == id)
            .map(|of| state.rows[of].lease(of as Id))
            .collect();
        let checkpoints: BTreeMap<_, _> = (0..self.bounds.matches)
            .map(|of| {
                let newest_first = state.checkpoints[of].iter().rev();
                (MatchId(of as u64), newest_first.map(|found| found.meta(of as Id)).collect())
            })
            .collect();
        let floors = trim::floors(&rows, &checkpoints, 2, &BTreeMap::new());
        let seals: BTreeMap<_, _> = (0..NODES)
            .filter_map(|log| Some((Incarnation(log as u64), state.leases[log].seal?)))
            .map(|(log, seal)| (log, BatchNo(u64::from(seal))))
            .collect();
        let logs: Vec<LogInfo> = (0..NODES)
            .map(|log| LogInfo {
                log: Incarnation(log as u64),
                first: BatchNo(u64::from(state.logs[log].trimmed) + 1),
                bytes: 0,
            })
            .collect();
        let mut changed = false;
        for cut in trim::plan(&logs, &floors, &seals) {
            let log = &mut state.logs[cut.log.0 as usize];
            while u64::from(log.trimmed) + 1 < cut.before.0 && !log.batches.is_empty() {
                log.batches.remove(0);
                log.trimmed += 1;
                changed = true;
            }
        }
        changed
    }

    /// Lets the processes that are up do what they would do if nothing more went wrong, and says
    /// whether every match is served then.
    fn recovers(&self, state: &State) -> bool {
        let mut state = state.clone();
        let live = |state: &State, n: usize| {
            state.nodes[n].up && state.leases[n].standing == Standing::Live
        };
        let Some(rescuer) = (0..NODES).find(|&n| live(&state, n)) else { return true };
        let sober = Self { bounds: Bounds { epochs: u8::MAX, ..self.bounds }, ..*self };
        for _ in 0..64 {
            if is_served(&state, self.bounds.matches) {
                return true;
            }
            let mut actions = Vec::new();
            sober.actions(&state, &mut actions);
            let dead = |victim: Id| !live(&state, usize::from(victim));
            let rank = |action: &Action| match *action {
                Action::Decide(_, true) => Some(0),
                Action::Land(_) | Action::Persist(_) | Action::Verify(_) | Action::Notice(_) => {
                    Some(1)
                }
                Action::Insist(..) | Action::Resume(..) | Action::Adopt(..) => Some(2),
                Action::Secure(id, true) if usize::from(id) == rescuer => Some(3),
                Action::Claim(id, _) if usize::from(id) == rescuer => Some(4),
                Action::Begin(id, victim) if usize::from(id) == rescuer && dead(victim) => Some(5),
                _ => None,
            };
            let best = actions.into_iter().filter(|action| rank(action).is_some()).min_by_key(rank);
            let Some(best) = best else { return false };
            if !sober.step(&mut state, &best) {
                return false;
            }
        }
        false
    }
}

/// The process of an incarnation is no more. What it has sent is still under way.
fn end(state: &mut State, id: Id) {
    state.nodes[usize::from(id)] = Node::default();
    for cas in state.queue.iter_mut().filter(|cas| cas.by == id) {
        cas.awaited = false;
    }
    state.queue.sort();
}

fn run_of(state: &mut State, id: Id, of: Id) -> &mut Run {
    state.nodes[usize::from(id)].runs[usize::from(of)].as_mut().expect("it runs there")
}

fn flush(state: &mut State, id: Id, matches: u8) {
    let node = &mut state.nodes[usize::from(id)];
    let mut frames = Vec::new();
    for of in (0..MATCHES as Id).filter(|of| matches >> of & 1 == 1) {
        let run = node.runs[usize::from(of)].as_mut().expect("it runs there");
        run.content.push(Record { epoch: run.epoch, by: id });
        frames.push(Frame { of, epoch: run.epoch, seq: run.content.len() as u8 });
    }
    node.write = Some(Write::Sent);
    state.logs[usize::from(id)].sent = Some(frames);
}

fn persist(state: &mut State, id: Id) {
    if let Some(batch) = state.logs[usize::from(id)].batches.last_mut() {
        batch.durable = true;
    }
}

fn queue(state: &mut State, cas: Cas) {
    state.queue.push(cas);
    state.queue.sort();
}

fn ask(state: &mut State, by: Id, of: Id, why: Why, base: Row, wanted: Row) {
    let cas = Cas { by, of, why, awaited: true, base: base.version, wanted };
    if why != Why::Claim {
        let run = run_of(state, by, of);
        let target = run.moving.as_ref().expect("it moves").target;
        run.moving = Some(Move { target, stage: Stage::Asked { base } });
    }
    queue(state, cas);
}

/// The answer to a request arrives.
fn answer(state: &mut State, cas: &Cas, done: bool) {
    let standing = state.rows[usize::from(cas.of)].clone();
    let node = &mut state.nodes[usize::from(cas.by)];
    let claimed = node.claims[usize::from(cas.of)].take().filter(|_| cas.why == Why::Claim);
    match cas.why {
        Why::Claim => {
            if let Some(content) = claimed.filter(|_| done) {
                let epoch = cas.wanted.epoch;
                node.runs[usize::from(cas.of)] =
                    Some(Run { epoch, content, acknowledged: None, moving: None });
                node.follows[usize::from(cas.of)] = None;
            }
        }
        Why::HandOver | Why::Insist => obey(state, cas.by, cas.of, &standing),
    }
}

/// A standby has read what is durable in the log of a match's owner, up to its end or to a seal: it
/// reads while the owner writes, and does not know what will be behind a seal.
fn follow(state: &State, of: Id, until: Option<u8>) -> Option<Follower> {
    let row = &state.rows[usize::from(of)];
    let (epoch, owner) = (row.epoch, row.owner);
    let mut seen = state.clone();
    let log = &mut seen.logs[usize::from(owner)];
    if log.is_half() && until.is_none() {
        log.batches.pop();
    }
    let read_to = until.unwrap_or_else(|| log.last());
    seen.leases[usize::from(owner)].seal = until;
    let content = recover(&seen, of, true).ok()?;
    Some(Follower { epoch, owner, read_to, content })
}

/// A source does as the row says: it goes on if that names it, in the epoch that stands there.
fn obey(state: &mut State, id: Id, of: Id, row: &Row) {
    if row.owner == id {
        let run = run_of(state, id, of);
        if run.epoch != row.epoch {
            (run.epoch, run.acknowledged) = (row.epoch, None);
        }
        run.moving = None;
    } else {
        state.nodes[usize::from(id)].runs[usize::from(of)] = None;
    }
}

/// Whoever asked does not know what has come of it.
fn doubt(state: &mut State, cas: &Cas) {
    let node = &mut state.nodes[usize::from(cas.by)];
    match cas.why {
        Why::Claim => node.claims[usize::from(cas.of)] = None,
        Why::HandOver | Why::Insist => {
            let moving = run_of(state, cas.by, cas.of).moving.as_mut().expect("it moves");
            if let Stage::Asked { base } = &moving.stage {
                moving.stage = Stage::Doubt { base: base.clone() };
            }
        }
    }
}

fn checkpoint(state: &mut State, id: Id, of: Id) -> bool {
    let run = run_of(state, id, of).clone();
    let Some((len, batch)) = run.acknowledged else { return false };
    let content = run.content[..usize::from(len)].to_vec();
    let kept = &mut state.checkpoints[usize::from(of)];
    if kept.last().is_some_and(|last| last.content.len() >= content.len()) {
        return false;
    }
    kept.push(Checkpoint { epoch: run.epoch, log: id, batch, content });
    if kept.len() > 2 {
        kept.remove(0);
    }
    true
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::new(self.bounds.second)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.broken.is_some() {
            return;
        }
        for id in 0..NODES as Id {
            let (node, log) = (&state.nodes[usize::from(id)], &state.logs[usize::from(id)]);
            if log.sent.is_some() {
                actions.push(Action::Land(id));
            } else if log.is_half() {
                actions.push(Action::Persist(id));
                if !node.up {
                    actions.push(Action::Lose(id));
                }
            }
            if node.up {
                self.of_process(state, id, actions);
                for of in 0..self.bounds.matches as Id {
                    self.of_match(state, id, of, actions);
                }
            } else if self.bounds.third
                && state.leases[usize::from(id)].standing == Standing::Unregistered
            {
                actions.push(Action::Start(id));
            }
        }
        let may_lose = state.spent.lost < self.bounds.lost;
        for (index, cas) in state.queue.iter().enumerate() {
            actions.push(Action::Decide(index, true));
            if may_lose {
                actions.push(Action::Vanish(index));
            }
            if may_lose && cas.awaited {
                actions.extend([Action::Decide(index, false), Action::GiveUp(index)]);
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        if !self.step(&mut state, &action) {
            return None;
        }
        state.broken = state.broken.or_else(|| judge(&state, self.bounds.matches));
        if state.broken.is_none() && self.bounds.liveness && !self.recovers(&state) {
            state.broken = Some(Rule::OrphansAreTaken);
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let [owner, undone, gap, once, epochs, orphans] = RULES;
        vec![
            Property::always(owner, |_, s: &State| s.broken != Some(Rule::OneOwner)),
            Property::always(undone, |_, s: &State| s.broken != Some(Rule::NothingUndone)),
            Property::always(gap, |_, s: &State| s.broken != Some(Rule::NoGap)),
            Property::always(once, |_, s: &State| s.broken != Some(Rule::Once)),
            Property::always(epochs, |_, s: &State| s.broken != Some(Rule::EpochsGrow)),
            Property::always(orphans, |_, s: &State| s.broken != Some(Rule::OrphansAreTaken)),
            Property::sometimes(super::ZOMBIE, |_, s: &State| zombie(s)),
            Property::sometimes(super::HANDED, |_, s: &State| {
                in_doubt(s, |row, id| row.owner != id)
            }),
            Property::sometimes(super::STAYED, |_, s: &State| {
                in_doubt(s, |row, id| row.owner == id && row.epoch > 1)
            }),
            Property::sometimes(super::PROMOTED, |_, s: &State| {
                s.spent.promotions > 0 && s.rows.iter().any(|row| row.epoch > 1)
            }),
            Property::sometimes(super::READ_TOO_FAR, |_, s: &State| {
                s.nodes.iter().flat_map(|node| &node.follows).flatten().any(|follower| {
                    let seal = s.leases[usize::from(follower.owner)].seal;
                    seal.is_some_and(|seal| follower.read_to > seal)
                })
            }),
            Property::sometimes(super::CUT, |_, s: &State| {
                s.logs.iter().any(|log| log.trimmed > 0)
            }),
            Property::sometimes(super::THIRD, |_, s: &State| {
                s.nodes.iter().flat_map(|node| &node.runs).flatten().any(|run| run.epoch > 2)
            }),
        ]
    }
}

fn zombie(state: &State) -> bool {
    let behind = |(lease, log): (&Lease, &Log)| lease.seal.is_some_and(|seal| log.last() > seal);
    state.leases.iter().zip(&state.logs).any(behind)
}

/// A source does not know what came of its request, and the row stands so.
fn in_doubt(state: &State, so: impl Fn(&Row, Id) -> bool) -> bool {
    (0..NODES).any(|id| {
        state.nodes[id].runs.iter().zip(&state.rows).any(|(run, row)| {
            let moving = run.as_ref().and_then(|run| run.moving.as_ref());
            let doubts = moving.is_some_and(|moving| matches!(moving.stage, Stage::Doubt { .. }));
            doubts && so(row, id as Id)
        })
    })
}
