//! One bot: a client, a brain, and a log of each match that it plays in.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rekindle_client::{Client, ClientConfig, ClientEndpoint, ClientEvent, Snapshot};
use rekindle_schema::net::NetView;
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{Epoch, PlayerId, Tick};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::evidence::{AnsweredCommand, BotLog, DurableInput, Fact};
use crate::swarm::{BotProgress, Brain, Move, NextMatch};

/// A pause between snapshots of more than so many ticks is a gap.
const GAP_TICKS: u32 = 4;
/// Inputs whose fate is waited for.
const MAX_OPEN: usize = 4096;
/// A bot that is in a match and to which nothing came for so long at the end was cut off.
const SILENT: Duration = Duration::from_secs(2);
/// How long a bot that stops waits for the fate of its last inputs.
const LINGER: Duration = Duration::from_millis(400);

/// Counts that can be read while the swarm runs.
#[derive(Debug, Default)]
pub(crate) struct Live {
    pub(crate) connected: AtomicUsize,
    pub(crate) snapshots: AtomicU64,
    pub(crate) durable: AtomicU64,
    pub(crate) answered: AtomicU64,
    pub(crate) beats: AtomicU64,
    pub(crate) resumed: AtomicU64,
    pub(crate) closed: AtomicU64,
    pub(crate) ended: AtomicUsize,
    /// The latest reason why a bot had no session.
    pub(crate) trouble: Mutex<Option<String>>,
    /// Where each bot stands.
    pub(crate) bots: Vec<Mutex<BotProgress>>,
}

pub(crate) struct Bot {
    pub(crate) player: PlayerId,
    /// Which of all bots it is.
    pub(crate) index: usize,
    /// How it gets into its first match.
    pub(crate) client: ClientConfig,
    pub(crate) endpoint: ClientEndpoint,
    pub(crate) brain: Brain,
    pub(crate) start: Instant,
    /// Part of a tick by which this bot's schedule is shifted, so that not all send at once:
    /// 0 to 1.
    pub(crate) phase: f64,
    pub(crate) live: Arc<Live>,
    pub(crate) stop: watch::Receiver<Stop>,
    /// Where it goes when its match has ended. Without it, it has played enough.
    pub(crate) next: Option<NextMatch>,
}

/// What a bot does in one match.
struct Stay<'a> {
    bot: &'a Bot,
    client: Client,
    stop: watch::Receiver<Stop>,
}

/// What the swarm wants of its bots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    GoOn,
    /// Stop and let the sessions wait.
    Vanish,
    /// Stop and end the sessions.
    Leave,
}

/// Where the bot stands with its session.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It has had none yet.
    #[default]
    Outside,
    /// It is being served, as far as the client knows.
    In,
    /// It waits to be served again.
    CutOff,
    /// The match has ended.
    Over,
}

/// What the bot knows of its match.
#[derive(Default)]
struct Memory {
    config: Bytes,
    view: Option<Arc<NetView>>,
    brain: Vec<u8>,
    last_snapshot: Option<(Instant, Tick, Epoch)>,
    /// When it was let in, or was shown something last.
    heard: Option<Instant>,
    /// A new connection carries the session since the last snapshot.
    interrupted: bool,
    standing: Standing,
    tick: Duration,
    /// Inputs that were sent: number, and when they should have been.
    open: VecDeque<(u64, Instant)>,
    /// Inputs that were applied in ticks that are not yet durable.
    undecided: Vec<DurableInput>,
    last_applied: u64,
    /// Commands without an answer: number, and when they should have been sent.
    asked: VecDeque<(u64, Instant)>,
}

impl Memory {
    /// How long nothing came of a match that is being played, if that is too long.
    fn silence(&self) -> Option<Duration> {
        let heard = self.heard.filter(|_| self.standing == Standing::In)?;
        Some(heard.elapsed()).filter(|silent| *silent > SILENT)
    }
}

impl Bot {
    /// Plays in one match after the other, until told to stop, until a client stops, or until there
    /// is no next match. Returns what it saw of each.
    pub(crate) async fn play(self) -> Vec<BotLog> {
        let mut logs = Vec::new();
        let mut config = self.client.clone();
        let mut stop = self.stop.clone();
        loop {
            let match_id = config.match_id;
            let (log, standing) = match Client::with_endpoint(config.clone(), self.endpoint.clone())
            {
                Ok(client) => Stay { bot: &self, client, stop: stop.clone() }.play().await,
                Err(error) => {
                    let player = self.player;
                    tracing::error!(
                        code = "RK-LOAD-001", %player, %error,
                        "a bot cannot start"
                    );
                    self.live.closed.fetch_add(1, Ordering::Relaxed);
                    (BotLog::empty(player), Standing::Outside)
                }
            };
            let ended = match_id.unwrap_or(log.match_id);
            // It may be stopped, or find the next match over, before it was shown anything of it.
            if logs.is_empty() || log.tally.snapshots > 0 {
                logs.push(log);
            }
            let Some(next) = self.next.as_ref().filter(|_| standing == Standing::Over) else {
                return logs;
            };
            let (match_id, first) = tokio::select! {
                biased;
                _ = stop.changed() => return logs,
                place = next(ended) => place,
            };
            config.match_id = Some(match_id);
            config.addrs.sort_by_key(|addr| *addr != first);
            self.live.ended.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Changes what is told of this bot.
    fn show(&self, change: impl FnOnce(&mut BotProgress)) {
        if let Some(progress) = self.live.bots.get(self.index) {
            change(&mut progress.lock());
        }
    }
}

impl Stay<'_> {
    /// Plays until told to stop, or until its client stops. Returns where it stands then.
    async fn play(mut self) -> (BotLog, Standing) {
        let mut log = BotLog::empty(self.bot.player);
        let mut memory = Memory { tick: Duration::from_secs(1) / 30, ..Memory::default() };
        let mut schedule = None;
        loop {
            tokio::select! {
                biased;
                _ = self.stop.changed() => break,
                due = next_due(&mut schedule) => {
                    self.act(due, &mut memory, &mut log);
                    // A match that is slowed takes inputs at the rate at which it goes.
                    let period = self.client.tick_period().unwrap_or(memory.tick);
                    if period.abs_diff(memory.tick) > memory.tick / 100 {
                        memory.tick = period;
                        schedule = Some(every(due + period, period));
                    }
                }
                event = self.client.event() => match event {
                    Some(event) => {
                        if let ClientEvent::Welcome(welcome) = &event {
                            memory.tick =
                                Duration::from_secs(1) / u32::from(welcome.tick_rate.max(1));
                            let first = Instant::now() + memory.tick.mul_f64(self.bot.phase);
                            schedule = Some(every(first, memory.tick));
                        }
                        self.note(event, &mut memory, &mut log);
                    }
                    None => break,
                },
            }
        }
        let linger = tokio::time::sleep(LINGER);
        tokio::pin!(linger);
        loop {
            tokio::select! {
                biased;
                event = self.client.event() => match event {
                    Some(event) => self.note(event, &mut memory, &mut log),
                    None => break,
                },
                () = &mut linger => break,
            }
        }
        if let Some(silent) = memory.silence() {
            // Its client still looks for a way, and does not say so yet.
            let reason = format!("nothing came for {:.1} s", silent.as_secs_f64());
            log.facts.push(Fact::Disconnected { at_us: self.at_us(Instant::now()), reason });
        }
        let standing = memory.standing;
        self.gone(&mut memory);
        let wish = *self.stop.borrow();
        if wish == Stop::Leave {
            self.client.leave().await;
        }
        (log, standing)
    }

    fn at_us(&self, at: Instant) -> u64 {
        at.saturating_duration_since(self.bot.start).as_micros() as u64
    }

    /// A move falls due.
    fn act(&self, due: Instant, memory: &mut Memory, log: &mut BotLog) {
        let Some(view) = &memory.view else { return };
        let before = memory.brain.clone();
        let Move { input, command } =
            (self.bot.brain)(self.bot.player, view, &memory.config, &mut memory.brain);
        if let Some(payload) = input {
            self.send_input(payload, due, memory, log);
        }
        let Some(payload) = command else { return };
        match self.client.command(payload) {
            Ok(seq) => {
                log.tally.commands += 1;
                memory.asked.push_back((seq, due));
            }
            // The bot must not remember as asked for what it could not ask for.
            Err(_) => memory.brain = before,
        }
    }

    fn send_input(&self, payload: Bytes, due: Instant, memory: &mut Memory, log: &mut BotLog) {
        match self.client.input(payload) {
            Some(sent) => {
                log.tally.sent += 1;
                if memory.open.len() == MAX_OPEN {
                    memory.open.pop_front();
                }
                memory.open.push_back((sent.seq, due));
            }
            None => log.tally.unsent += 1,
        }
    }

    fn note(&self, event: ClientEvent, memory: &mut Memory, log: &mut BotLog) {
        let now = Instant::now();
        let at_us = self.at_us(now);
        match event {
            ClientEvent::Snapshot(snapshot) => self.look(snapshot, memory, log),
            ClientEvent::Beat { tick, hash } => {
                self.bot.live.beats.fetch_add(1, Ordering::Relaxed);
                log.facts.push(Fact::Beat { tick, hash });
            }
            ClientEvent::Welcome(welcome) | ClientEvent::Resumed { welcome, .. } => {
                let (session, epoch, tick) = (welcome.session, welcome.epoch, welcome.tick);
                log.match_id = welcome.match_id;
                memory.config = welcome.config.clone();
                (memory.interrupted, memory.heard) = (true, Some(now));
                if std::mem::replace(&mut memory.standing, Standing::In) != Standing::In {
                    self.bot.live.connected.fetch_add(1, Ordering::Relaxed);
                }
                self.bot.show(|bot| {
                    (bot.match_id, bot.connected) = (welcome.match_id, true);
                    bot.resumed += u64::from(welcome.resumed);
                });
                log.facts.push(if welcome.resumed {
                    self.bot.live.resumed.fetch_add(1, Ordering::Relaxed);
                    Fact::Resumed { at_us, session, epoch, tick }
                } else {
                    Fact::Joined { at_us, session, epoch, tick }
                });
            }
            ClientEvent::Moved { gap, .. } => {
                log.facts.push(Fact::Moved { at_us, gap_us: gap.as_micros() as u64 });
            }
            ClientEvent::Rewound { to, .. } => {
                memory.undecided.retain(|input| input.tick <= to);
                // What it asked for may not have happened: it decides anew by what it sees.
                memory.brain.clear();
                let newest = memory.last_snapshot.map_or(Tick(0), |(_, tick, _)| tick);
                if newest > to {
                    log.facts.push(Fact::RolledBack { at_us, from: newest, to });
                }
            }
            ClientEvent::Disconnected { reason } => {
                self.gone(memory);
                *self.bot.live.trouble.lock() = Some(reason.clone());
                log.facts.push(Fact::Disconnected { at_us, reason });
            }
            ClientEvent::Ended { reason } => self.over(at_us, reason, memory, log),
            ClientEvent::Closed { .. } if memory.standing == Standing::Over => {}
            // The match ended while the bot was cut off, or before it got in.
            ClientEvent::Closed { code: Some(RefuseCode::Ended), message }
                if memory.standing != Standing::Outside || self.bot.next.is_some() =>
            {
                self.over(at_us, message, memory, log);
            }
            ClientEvent::Closed { message, .. } => {
                self.gone(memory);
                self.bot.live.closed.fetch_add(1, Ordering::Relaxed);
                *self.bot.live.trouble.lock() = Some(message.clone());
                log.facts.push(Fact::Closed { at_us, message });
            }
            ClientEvent::CommandDone { seq, tick, accepted } => {
                let answer = tick.zip(accepted);
                log.facts.push(self.answered(seq, answer, now, memory));
            }
            ClientEvent::Event { .. }
            | ClientEvent::EventsMissed { .. }
            | ClientEvent::DocumentsDone { .. } => {}
        }
    }

    /// What became of command `seq`, heard at `now`: in which tick it was applied and whether the
    /// game granted it, if somebody can still tell.
    fn answered(
        &self,
        seq: u64,
        answer: Option<(Tick, bool)>,
        now: Instant,
        memory: &mut Memory,
    ) -> Fact {
        let place = memory.asked.iter().position(|&(asked, _)| asked == seq);
        let asked = place.and_then(|place| memory.asked.remove(place));
        let Some((tick, granted)) = answer else { return Fact::Unanswered { seq } };
        self.bot.live.answered.fetch_add(1, Ordering::Relaxed);
        let due = asked.map_or(now, |(_, due)| due);
        let latency_us = now.saturating_duration_since(due).as_micros() as u64;
        Fact::Answered(AnsweredCommand { seq, tick, granted, latency_us })
    }

    /// The match has ended.
    fn over(&self, at_us: u64, reason: String, memory: &mut Memory, log: &mut BotLog) {
        self.gone(memory);
        self.bot.live.ended.fetch_add(1, Ordering::Relaxed);
        if std::mem::replace(&mut memory.standing, Standing::Over) != Standing::Outside {
            self.bot.show(|bot| bot.ended += 1);
            log.facts.push(Fact::Ended { at_us, reason });
        }
    }

    /// No session is served any more.
    fn gone(&self, memory: &mut Memory) {
        if memory.standing == Standing::In {
            memory.standing = Standing::CutOff;
            self.bot.live.connected.fetch_sub(1, Ordering::Relaxed);
            self.bot.show(|bot| bot.connected = false);
        }
    }

    fn look(&self, snapshot: Snapshot, memory: &mut Memory, log: &mut BotLog) {
        let now = snapshot.received;
        let header = &snapshot.header;
        self.bot.live.snapshots.fetch_add(1, Ordering::Relaxed);
        self.bot.show(|bot| bot.snapshots += 1);
        log.tally.snapshots += 1;
        if let Some((before, tick, epoch)) = memory.last_snapshot {
            let interrupted = memory.interrupted || header.epoch != epoch;
            if header.tick <= tick {
                log.facts.push(Fact::RolledBack {
                    at_us: self.at_us(now),
                    from: tick,
                    to: Tick(header.tick.0.saturating_sub(1)),
                });
            }
            if interrupted || now.saturating_duration_since(before) > memory.tick * GAP_TICKS {
                log.facts.push(Fact::Gap {
                    from_us: self.at_us(before),
                    to_us: self.at_us(now),
                    from_tick: tick,
                    to_tick: header.tick,
                    interrupted,
                });
            }
        }
        (memory.interrupted, memory.heard) = (false, Some(now));
        memory.last_snapshot = Some((now, header.tick, header.epoch));
        log.tally.newest = log.tally.newest.max(header.tick);
        memory.view = Some(snapshot.view);
        for &(seq, tick) in &header.applied {
            if seq <= memory.last_applied {
                continue;
            }
            memory.last_applied = seq;
            while memory.open.front().is_some_and(|&(open, _)| open < seq) {
                memory.open.pop_front();
            }
            let due =
                memory.open.pop_front_if(|(open, _)| *open == seq).map_or(now, |(_, due)| due);
            let latency_us = now.saturating_duration_since(due).as_micros() as u64;
            memory.undecided.push(DurableInput { seq, tick, epoch: header.epoch, latency_us });
        }
        let Memory { undecided, .. } = memory;
        let decided = undecided.iter().take_while(|input| input.tick <= header.durable).count();
        self.bot.live.durable.fetch_add(decided as u64, Ordering::Relaxed);
        log.facts.extend(undecided.drain(..decided).map(Fact::Durable));
    }
}

/// Moves fall due whether or not the last ones were answered, or even sent in time.
fn every(first: Instant, period: Duration) -> Interval {
    let mut timer = interval_at(first, period);
    timer.set_missed_tick_behavior(MissedTickBehavior::Burst);
    timer
}

async fn next_due(schedule: &mut Option<Interval>) -> Instant {
    match schedule {
        Some(timer) => timer.tick().await,
        None => std::future::pending().await,
    }
}
