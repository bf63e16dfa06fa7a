//! Publishes a match to all its clients: one task for each match that has any.
//!
//! Started by [`crate::gateway`] for the first client of a match and gone with the last. Takes the
//! frames of the match as they are published, makes one snapshot for each client and sends it as
//! one datagram; what must arrive goes through the client's bounded queue. What a frame says is
//! passed on as it is: whether it may be told yet was decided before it was published.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rekindle_netcode::{MAX_APPLIED, SnapshotHeader, SnapshotSender, ViewHistory};
use rekindle_schema::frame::TickFrame;
use rekindle_schema::net::NetSchema;
use rekindle_schema::record::LeaveReason;
use rekindle_schema::wire::{RefuseCode, Role, ServerMessage, encode_server};
use rekindle_schema::{Epoch, MatchId, SessionId, Tick};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::gateway::Shared;
use crate::meters::Meters;
use crate::port::{Location, MatchInfo, MatchLink, Wanted};
use crate::seat::{Refusal, Seat};

/// How often a match that left is looked for.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How often the pause before listening again doubles, for a match whose frames break off without
/// one having come.
const DOUBLINGS: u32 = 4;
/// Clients that may wait to be seated.
const CHANGES: usize = 64;

pub(crate) enum Change {
    Enter(Arc<Seat>),
    Leave(u64),
}

/// A match that has clients here.
pub(crate) struct Room {
    pub(crate) match_id: MatchId,
    /// Replaced when the match was recovered in this process.
    link: Mutex<Arc<dyn MatchLink>>,
    changes: mpsc::Sender<Change>,
}

impl Room {
    /// Starts publishing. The caller must see to it that there is one room for a match.
    pub(crate) fn open(
        shared: &Arc<Shared>,
        match_id: MatchId,
        link: Arc<dyn MatchLink>,
    ) -> Arc<Self> {
        let (changes, receiver) = mpsc::channel(CHANGES);
        let room = Arc::new(Self { match_id, link: Mutex::new(link), changes });
        tokio::spawn(publish(Arc::clone(shared), Arc::clone(&room), receiver));
        room
    }

    pub(crate) fn link(&self) -> Arc<dyn MatchLink> {
        Arc::clone(&self.link.lock())
    }

    /// False if the room has just closed: open another.
    pub(crate) async fn enter(&self, seat: Arc<Seat>) -> bool {
        self.changes.send(Change::Enter(seat)).await.is_ok()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.changes.is_closed()
    }

    pub(crate) async fn leave(&self, number: u64) {
        // A room that is gone has been left.
        let _ = self.changes.send(Change::Leave(number)).await;
    }
}

async fn publish(shared: Arc<Shared>, room: Arc<Room>, mut changes: mpsc::Receiver<Change>) {
    let mut audience = Audience::new(
        Arc::clone(&shared.meters),
        room.link().info(),
        shared.config.interest_radius,
    );
    let mut frames = room.link().subscribe();
    let mut silence = Silence::default();
    loop {
        tokio::select! {
            biased;
            change = changes.recv() => match change {
                Some(Change::Enter(seat)) => audience.enter(seat),
                Some(Change::Leave(number)) => audience.leave(number),
                None => break,
            },
            frame = frames.recv() => match frame {
                Some(frame) => {
                    silence = Silence::default();
                    audience.publish(&frame, Instant::now());
                }
                None if audience.over => audience.clear(),
                None => match find_again(&shared, &room, &mut silence).await {
                    Ok(link) => {
                        tracing::info!(
                            code = "RK-GATE-031", match_id = %room.match_id,
                            "the match's frames broke off; listening again"
                        );
                        audience.each(|seat| if seat.role == Role::Player { link.back(seat.session) });
                        frames = link.subscribe();
                    }
                    Err(refusal) => audience.dismiss_all(&refusal),
                },
            },
        }
        if audience.is_empty() && changes.is_empty() {
            // Whoever sends from now on is told to open another room.
            changes.close();
            match changes.recv().await {
                Some(Change::Enter(seat)) => {
                    seat.dismiss(Refusal::new(
                        RefuseCode::Unavailable,
                        "RK-GATE-032: you came just as the last one left: connect again",
                    ));
                }
                Some(Change::Leave(_)) => {}
                None => break,
            }
        }
    }
    shared.forget_room(&room);
}

/// How often frames broke off since the last one came, and since when.
#[derive(Default)]
struct Silence {
    breaks: u32,
    since: Option<Instant>,
}

/// The match's frames ended without a last one: it was recovered, moved, or we were too slow. One
/// that is found and gives no frames either, again and again, is given up: else the search would be
/// a hot loop.
async fn find_again(
    shared: &Shared,
    room: &Room,
    silence: &mut Silence,
) -> Result<Arc<dyn MatchLink>, Refusal> {
    let until =
        *silence.since.get_or_insert_with(Instant::now) + shared.config.limits.unavailable_wait;
    if silence.breaks > 0 {
        if Instant::now() >= until {
            return Err(Refusal::new(
                RefuseCode::Unavailable,
                "RK-GATE-036: the match is here but gives no frames: ask its operator",
            ));
        }
        tokio::time::sleep(LOOK_AGAIN * (1 << silence.breaks.min(DOUBLINGS))).await;
    }
    silence.breaks = silence.breaks.saturating_add(1);
    loop {
        match shared.locate(Wanted { match_id: Some(room.match_id), game: None }).await {
            Location::Here(link) => {
                *room.link.lock() = Arc::clone(&link);
                return Ok(link);
            }
            Location::Elsewhere(addr) => return Err(Refusal::moved(addr)),
            Location::Refused(code, message)
                if !code.is_temporary() || Instant::now() >= until || shared.is_draining() =>
            {
                return Err(Refusal::new(code, message));
            }
            Location::Refused(..) => tokio::time::sleep(LOOK_AGAIN).await,
        }
    }
}

/// One client and what it knows.
struct Listener {
    seat: Arc<Seat>,
    snapshots: SnapshotSender,
    /// The newest applied inputs, newest last, at most [`MAX_APPLIED`].
    applied: Vec<(u64, Tick)>,
}

/// All clients of one match.
struct Audience {
    meters: Arc<Meters>,
    schema: Arc<NetSchema>,
    tick_rate: u16,
    epoch: Epoch,
    tick: Tick,
    over: bool,
    history: ViewHistory,
    /// By number of the connection.
    listeners: BTreeMap<u64, Listener>,
    by_session: BTreeMap<SessionId, u64>,
    header: SnapshotHeader,
    datagram: Vec<u8>,
    interest_radius: Option<f32>,
}

impl Audience {
    fn new(meters: Arc<Meters>, info: MatchInfo, interest_radius: Option<f32>) -> Self {
        let MatchInfo { schema, tick_rate, epoch, tick, .. } = info;
        Self {
            meters,
            schema,
            tick_rate,
            epoch,
            tick,
            over: false,
            history: ViewHistory::new(),
            listeners: BTreeMap::new(),
            by_session: BTreeMap::new(),
            header: SnapshotHeader::default(),
            datagram: Vec::new(),
            interest_radius,
        }
    }

    fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    fn enter(&mut self, seat: Arc<Seat>) {
        if seat.role == Role::Player
            && let Some(earlier) = self.by_session.insert(seat.session, seat.number)
        {
            self.listeners.remove(&earlier);
        }
        let snapshots =
            SnapshotSender::new(Arc::clone(&self.schema)).with_tick_rate(self.tick_rate);
        self.listeners.insert(seat.number, Listener { seat, snapshots, applied: Vec::new() });
    }

    fn leave(&mut self, number: u64) {
        if let Some(listener) = self.listeners.remove(&number)
            && self.by_session.get(&listener.seat.session) == Some(&number)
        {
            self.by_session.remove(&listener.seat.session);
        }
    }

    fn clear(&mut self) {
        self.listeners.clear();
        self.by_session.clear();
    }

    fn each(&self, act: impl Fn(&Seat)) {
        self.listeners.values().for_each(|listener| act(&listener.seat));
    }

    fn listener(&mut self, session: SessionId) -> Option<&mut Listener> {
        self.by_session.get(&session).and_then(|number| self.listeners.get_mut(number))
    }

    fn dismiss_all(&mut self, refusal: &Refusal) {
        self.each(|seat| seat.dismiss(refusal.clone()));
        self.clear();
    }

    fn publish(&mut self, frame: &TickFrame, now: Instant) {
        if frame.epoch < self.epoch {
            return;
        }
        if frame.epoch > self.epoch {
            self.change_epoch(frame);
        }
        self.tick = frame.tick;
        self.history.push(Arc::clone(&frame.view));
        self.tell(frame);
        for applied in &frame.applied {
            if let Some(listener) = self.listener(applied.session) {
                if listener.applied.len() == MAX_APPLIED {
                    listener.applied.remove(0);
                }
                listener.applied.push((applied.seq, frame.tick));
            }
        }
        self.send_snapshots(frame, now);
        if let Some(reason) = &frame.ended {
            self.over = true;
            let message = encode_server(&ServerMessage::Ended { reason: reason.clone() });
            let refusal = Refusal::new(RefuseCode::Ended, reason.clone());
            self.each(|seat| {
                seat.tell(message.clone());
                seat.dismiss(refusal.clone());
            });
        }
    }

    /// The match was recovered. Under output commit nothing that was published is gone; else say
    /// from where on it is.
    fn change_epoch(&mut self, frame: &TickFrame) {
        let to = Tick(frame.tick.0.saturating_sub(1));
        if frame.tick <= self.tick {
            let message = encode_server(&ServerMessage::Rewound { epoch: frame.epoch, to });
            self.each(|seat| seat.tell(message.clone()));
        }
        self.epoch = frame.epoch;
        self.history.clear();
        for listener in self.listeners.values_mut() {
            listener.snapshots.reset();
            listener.applied.retain(|&(_, tick)| tick <= to);
        }
    }

    /// Queues what must arrive.
    fn tell(&mut self, frame: &TickFrame) {
        let meters = Arc::clone(&self.meters);
        let tell = |seat: &Seat, message: Bytes| {
            meters.messages.increment(1);
            seat.tell(message);
        };
        for done in &frame.commands {
            if let Some(listener) = self.listener(done.session) {
                let message = ServerMessage::CommandDone {
                    seq: done.seq,
                    tick: frame.tick,
                    accepted: done.accepted,
                };
                tell(&listener.seat, encode_server(&message));
            }
        }
        for event in &frame.events {
            let message = encode_server(&ServerMessage::Event {
                tick: event.tick,
                ordinal: event.ordinal,
                kind: event.kind.clone(),
                payload: event.payload.clone(),
            });
            self.each(|seat| {
                if event
                    .player
                    .is_none_or(|player| player == seat.player && seat.role == Role::Player)
                {
                    tell(seat, message.clone());
                }
            });
        }
        if let Some(beat) = frame.beat {
            let message = encode_server(&ServerMessage::Beat { tick: beat.tick, hash: beat.hash });
            self.each(|seat| tell(seat, message.clone()));
        }
        for left in &frame.left {
            if let Some(listener) = self.listener(left.session) {
                let words = match left.reason {
                    LeaveReason::Left => "RK-GATE-034: you left the match",
                    LeaveReason::TimedOut => {
                        "RK-GATE-034: you were away for longer than the match waits"
                    }
                    LeaveReason::Removed => "RK-GATE-034: you were removed from the match",
                };
                listener.seat.dismiss(Refusal::new(RefuseCode::Removed, words));
            }
        }
    }

    fn send_snapshots(&mut self, frame: &TickFrame, now: Instant) {
        let Self { meters, history, listeners, header, datagram, interest_radius, .. } = self;
        header.epoch = frame.epoch;
        header.tick = frame.tick;
        header.durable = frame.durable;
        // Counted here and told once: each telling is a few atomic operations.
        let (mut sent, mut skipped, mut partial, mut shared) = (0, 0, 0, 0);
        for Listener { seat, snapshots, applied } in listeners.values_mut() {
            // A snapshot that has not left yet means a link that cannot keep up: a second one would
            // only be later.
            if seat.has_datagram_waiting() {
                skipped += 1;
                continue;
            }
            let Some(budget) = seat.connection.max_datagram_size() else { continue };
            (header.echo_ms, header.hold_ms) = (0, 0);
            if let Some(feedback) = seat.feedback() {
                snapshots.acknowledge(feedback.ack.0, feedback.ack.1);
                header.echo_ms = feedback.clock_ms;
                header.hold_ms = now
                    .saturating_duration_since(feedback.at)
                    .as_millis()
                    .min(u128::from(u16::MAX)) as u16;
            }
            header.applied.clone_from(applied);
            header.avatar = frame.view.avatar(seat.player);
            let stats = snapshots.encode(
                header,
                &frame.view,
                history,
                header.avatar,
                *interest_radius,
                budget,
                datagram,
            );
            if stats.bytes == 0 {
                skipped += 1;
                continue;
            }
            partial += u64::from(stats.deferred > 0);
            shared += u64::from(stats.shared);
            meters.snapshot_bytes.record(stats.bytes as f64);
            match seat.connection.send_datagram(Bytes::copy_from_slice(datagram)) {
                Ok(()) => sent += 1,
                // The path's packet size shrank between the two calls, or the connection just
                // ended: the next tick knows.
                Err(_) => skipped += 1,
            }
        }
        meters.snapshots.increment(sent);
        meters.snapshots_skipped.increment(skipped);
        meters.snapshots_partial.increment(partial);
        meters.snapshots_shared.increment(shared);
    }
}
