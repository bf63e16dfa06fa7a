//! A player of a simulated cluster: finds the node that runs its match, plays, writes down what it
//! sees, and looks elsewhere when it sees nothing any more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_actors::{MatchHandle, MatchPhase};
use rekindle_door::{Admission, MatchDoor as _, Opened, RawInput, TickFrame};
use rekindle_schema::{Epoch, PlayerId, SessionId, Tick};
use rekindle_sim::value::to_bytes;
use rekindle_testkit::evidence::{Evidence, SeenCommand, SeenFrame, SeenInput, SeenWelcome};
use rekindle_testkit::seed::Dice;
use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;

use super::faults::NODES;
use super::link::Mutant;
use super::world::World;
use crate::game::{Cheer, Move};
use crate::node::MATCHES;

/// Between two inputs.
const INPUT_EVERY: Duration = Duration::from_millis(33);
/// A node that shows nothing for so long is left.
const SILENCE: Duration = Duration::from_millis(150);
/// How long a player waits to be let in.
const ENTRY: Duration = Duration::from_millis(400);
/// A command goes with so many of 100 inputs.
const COMMANDS: u64 = 5;
/// The world is written down once in so many frames.
const VIEW_EVERY: u64 = 12;

/// One player.
pub(crate) struct Player {
    world: World,
    number: usize,
    name: String,
    dice: Dice,
    evidence: Arc<Mutex<Evidence>>,
    /// The newest ownership that it has seen.
    epoch: Epoch,
    /// Where it was last.
    node: usize,
    sent: Arc<Mutex<Sent>>,
}

/// The commands of a player: each is sent until it is answered, whatever becomes of nodes.
#[derive(Default, Clone)]
pub(crate) struct Sent {
    /// Every one that was ever sent, and when it was first.
    pub all: Vec<(SessionId, u64, Duration)>,
    /// Those whose answer has not come, ascending.
    open: VecDeque<(u64, Vec<u8>)>,
    /// The number of the next.
    next: u64,
}

struct Connection {
    door: MatchHandle,
    session: SessionId,
    next: u64,
    /// The command that is to be handed over next.
    command: u64,
    frames: Receiver<Arc<TickFrame>>,
    tick: Tick,
    seen_at: Duration,
}

impl Player {
    /// Player `number` of a world.
    pub(crate) fn new(world: &World, number: usize) -> Self {
        let name = format!("player-{number}");
        let evidence = Evidence {
            name: name.clone(),
            player: PlayerId(number as u64 + 1),
            match_id: MATCHES[number % MATCHES.len()],
            ..Evidence::default()
        };
        Self {
            dice: Dice::new(world.seed, &name),
            world: world.clone(),
            number,
            name,
            evidence: Arc::new(Mutex::new(evidence)),
            epoch: Epoch(0),
            node: 0,
            sent: Arc::new(Mutex::new(Sent { next: 1, ..Sent::default() })),
        }
    }

    /// Its commands. For the judges, behind whom nobody plays any more.
    pub(crate) fn sent(&self) -> Arc<Mutex<Sent>> {
        self.sent.clone()
    }

    /// Where it writes down what it sees.
    pub(crate) fn evidence(&self) -> Arc<Mutex<Evidence>> {
        self.evidence.clone()
    }

    /// Plays for ever.
    pub(crate) async fn play(mut self) {
        tokio::time::sleep(Duration::from_millis(self.dice.between(5, 100))).await;
        let mut connection = None;
        let mut due = tokio::time::Instant::now();
        loop {
            due += INPUT_EVERY;
            tokio::time::sleep_until(due).await;
            connection = match connection.take() {
                None => self.enter().await,
                Some(connection) => self.stay(connection),
            };
        }
    }

    /// Asks one node after the other.
    async fn enter(&mut self) -> Option<Connection> {
        let match_id = self.evidence.lock().match_id;
        for node in (0..NODES).map(|further| (self.node + further) % NODES) {
            let Some(host) = self.world.reach(self.number, node) else { continue };
            let Some(door) = host.find(match_id) else { continue };
            drop(host);
            if !matches!(door.phase(), MatchPhase::Running | MatchPhase::Waiting)
                || door.info().epoch < self.epoch
            {
                continue;
            }
            let frames = door.subscribe();
            let player = self.evidence.lock().player;
            let opening = door.open(player, self.name.clone(), None);
            let opened = tokio::time::timeout(ENTRY, opening).await;
            let Ok(Ok(Opened { session, resumed, next_input, next_command })) = opened else {
                continue;
            };
            let at = self.world.now();
            self.resume(resumed && node != self.node, next_command);
            self.evidence.lock().welcomes.push(SeenWelcome { at, session, resumed, anew: false });
            self.world.log(
                &self.name,
                format_args!("is let in by node {node}: {session} resumed {resumed}"),
            );
            if resumed && node != self.node {
                self.world.mark(super::FOLLOWED);
            }
            self.node = node;
            let tick = Tick(0);
            return Some(Connection {
                door,
                session,
                next: next_input,
                command: next_command,
                frames,
                tick,
                seen_at: at,
            });
        }
        None
    }

    /// Sees what there is to see, and sends an input.
    fn stay(&mut self, mut at: Connection) -> Option<Connection> {
        if self.world.reach(self.number, self.node).is_none() {
            return (self.world.now() < at.seen_at + SILENCE).then_some(at);
        }
        loop {
            match at.frames.try_recv() {
                Ok(frame) => self.see(&mut at, &frame),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    self.world.log(&self.name, "is cut off");
                    return None;
                }
            }
        }
        if self.world.now() >= at.seen_at + SILENCE {
            self.world.log(&self.name, "hears nothing");
            at.door.away(at.session);
            return None;
        }
        let mut axis = || self.dice.between(0, 255) as u8 as i8;
        let (dx, dy) = (axis(), axis());
        let input = Move { dx, dy, throw: self.dice.chance(6), poison: false };
        let (session, seq) = (at.session, at.next);
        at.next += 1;
        at.door.input(RawInput {
            session,
            seq,
            target: Tick(at.tick.0 + 2),
            view: at.tick,
            payload: to_bytes(&input).into(),
        });
        if self.dice.chance(COMMANDS) {
            let cheer = Cheer { number: self.dice.between(0, 9) as u32 };
            let mut sent = self.sent.lock();
            let seq = sent.next;
            sent.next += 1;
            sent.all.push((session, seq, self.world.now()));
            sent.open.push_back((seq, to_bytes(&cheer)));
        }
        self.send_commands(&mut at);
        Some(at)
    }

    /// The node expects this command next. Earlier ones are done, or wait there: they may be lost
    /// with it, and are kept until they are answered.
    fn resume(&self, followed: bool, next: u64) {
        let mut sent = self.sent.lock();
        if followed && self.world.mutant == Some(Mutant::DroppedInFlight) {
            sent.open.clear();
            sent.next = next;
        }
        sent.next = sent.next.max(next);
    }

    /// Hands over what was not yet, as far as the node takes it.
    fn send_commands(&self, at: &mut Connection) {
        let sent = self.sent.lock();
        let from = sent.open.partition_point(|(seq, _)| *seq < at.command);
        for (seq, payload) in sent.open.iter().skip(from) {
            let admission = at.door.command(at.session, *seq, payload.clone().into());
            if !matches!(admission, Admission::Queued | Admission::Stale) {
                return;
            }
            at.command = seq + 1;
        }
    }

    fn see(&mut self, at: &mut Connection, frame: &TickFrame) {
        if frame.epoch < self.epoch {
            self.world
                .log(&self.name, format_args!("drops tick {} of {}", frame.tick, frame.epoch));
            return;
        }
        let now = self.world.now();
        (self.epoch, at.tick, at.seen_at) = (frame.epoch, frame.tick, now);
        let mut evidence = self.evidence.lock();
        let view = frame.tick.0.is_multiple_of(VIEW_EVERY).then(|| (*frame.view).clone());
        let (epoch, tick, durable) = (frame.epoch, frame.tick, frame.durable);
        evidence.frames.push(SeenFrame { at: now, epoch, tick, durable, view });
        evidence.beats.extend(frame.beat);
        for applied in frame.applied.iter().filter(|applied| applied.session == at.session) {
            let seen = SeenInput { at: now, session: at.session, seq: applied.seq, tick };
            evidence.inputs.push(seen);
        }
        for done in frame.commands.iter().filter(|done| done.session == at.session) {
            let answer = Some((tick, done.accepted));
            evidence.commands.push(SeenCommand { session: at.session, seq: done.seq, answer });
            self.sent.lock().open.retain(|(seq, _)| *seq > done.seq);
        }
        if frame.tick.0.is_multiple_of(VIEW_EVERY) {
            self.world.log(
                &self.name,
                format_args!("tick {tick} epoch {epoch} applied {:?}", frame.applied),
            );
        }
    }
}
