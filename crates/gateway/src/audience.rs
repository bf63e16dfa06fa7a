//! The clients of one match: what each of them knows, and what a frame makes of that.
//!
//! Owned by the task of the match's room ([`crate::room`]), which hands over each frame. Makes one
//! snapshot for each client and sends it as one datagram; what must arrive goes through the
//! client's bounded queue. What a frame says is passed on as it is: whether it may be told yet was
//! decided before it was published.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rekindle_door::{MatchDoor, MatchInfo, Recalled, Refusal, TickFrame};
use rekindle_netcode::{Coding, MAX_APPLIED, SnapshotHeader, SnapshotSender, ViewHistory};
use rekindle_schema::net::NetSchema;
use rekindle_schema::record::{Event, LeaveReason};
use rekindle_schema::wire::{
    Heard, PROTOCOL_3, PROTOCOL_5, RefuseCode, Role, ServerMessage, encode_server,
};
use rekindle_schema::{Epoch, SessionId, Tick};
use tokio::time::Instant;

use crate::meters::Meters;
use crate::pace::Allowance;
use crate::seat::{Dismissal, Seat};

/// One client and what it knows.
struct Listener {
    seat: Arc<Seat>,
    /// How far it was told events.
    heard: Heard,
    snapshots: SnapshotSender,
    allowance: Allowance,
    /// The newest tick that the client has said it has. It is reset with the ownership.
    acknowledged: Option<Tick>,
    /// The numbers of the newest applied inputs and the ticks that applied them, newest last, at
    /// most [`MAX_APPLIED`].
    applied: Vec<(u64, Tick)>,
}

impl Listener {
    /// Whether the client is to hear of an event, which is noted as told then.
    fn hears(&mut self, event: &Event) -> bool {
        if !self.heard.is_before(event.tick, event.ordinal) {
            return false;
        }
        self.heard = Heard::event(event.tick, event.ordinal);
        event
            .player
            .is_none_or(|player| player == self.seat.player && self.seat.role == Role::Player)
    }

    /// Tells what the match remembers and the client has not heard. It goes into the queue as one
    /// piece: many small ones would look like a client that does not read. Returns how many
    /// messages that were.
    fn catch_up(&mut self, recalled: Recalled) -> u64 {
        let (mut piece, mut messages) = (BytesMut::new(), 0);
        if recalled.from > self.heard.tick && self.seat.listening.version >= PROTOCOL_3 {
            let (from, to) = (self.heard.tick, Tick(recalled.from.0 - 1));
            piece.extend_from_slice(&encode_server(&ServerMessage::EventsMissed { from, to }));
            messages += 1;
            Meters::events_missed();
        }
        for event in recalled.events {
            if self.hears(&event) {
                piece.extend_from_slice(&encode_event(&event));
                messages += 1;
            }
        }
        if messages > 0 {
            self.seat.tell(piece.freeze());
        }
        messages
    }
}

fn encode_event(event: &Event) -> Bytes {
    encode_server(&ServerMessage::Event {
        tick: event.tick,
        ordinal: event.ordinal,
        kind: event.kind.clone(),
        payload: event.payload.clone(),
    })
}

/// All clients of one match.
pub(crate) struct Audience {
    meters: Arc<Meters>,
    schema: Arc<NetSchema>,
    /// Ticks per second.
    tick_rate: u16,
    /// Bytes a second in the snapshots of one client.
    snapshot_bytes: Option<u32>,
    /// The ownership of the newest frame. It never falls.
    epoch: Epoch,
    /// The tick of the newest frame; before the first one, what the match had published.
    tick: Tick,
    /// The tick of the newest frame that was handed over in this epoch.
    handed_over: Option<Tick>,
    /// The match's last frame has come.
    over: bool,
    /// The newest views, which snapshots are deltas against.
    history: ViewHistory,
    /// By number of the connection.
    listeners: BTreeMap<u64, Listener>,
    /// The numbers of the connections of each session; mostly one.
    by_session: BTreeMap<SessionId, Vec<u64>>,
    /// Kept for its memory: filled anew for each client.
    header: SnapshotHeader,
    /// Kept for its memory: the snapshot that is being made.
    datagram: Vec<u8>,
}

impl Audience {
    /// For a match that stands where `info` says. Nobody is in yet.
    pub(crate) fn new(meters: Arc<Meters>, info: MatchInfo, snapshot_bytes: Option<u32>) -> Self {
        let MatchInfo { schema, tick_rate, epoch, tick, .. } = info;
        Self {
            meters,
            schema,
            tick_rate,
            snapshot_bytes,
            epoch,
            tick,
            handed_over: None,
            over: false,
            history: ViewHistory::new(),
            listeners: BTreeMap::new(),
            by_session: BTreeMap::new(),
            header: SnapshotHeader::default(),
            datagram: Vec::new(),
        }
    }

    /// Whether the match's last frame has come.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Whether nobody is in.
    pub(crate) fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// A client was let in. It gets a full snapshot with the next frame.
    pub(crate) fn enter(&mut self, seat: Arc<Seat>) {
        if seat.role == Role::Player {
            self.by_session.entry(seat.session).or_default().push(seat.number);
        }
        let coding =
            if seat.listening.version >= PROTOCOL_5 { Coding::Range } else { Coding::Rice };
        let snapshots = SnapshotSender::new(Arc::clone(&self.schema))
            .with_tick_rate(self.tick_rate)
            .with_coding(coding);
        let number = seat.number;
        let heard = seat.listening.heard;
        let allowance = Allowance::new(self.snapshot_bytes, seat.connection.path(), Instant::now());
        let (acknowledged, applied) = (None, Vec::new());
        let listener = Listener { seat, heard, snapshots, allowance, acknowledged, applied };
        self.listeners.insert(number, listener);
    }

    /// Tells a client the events that it missed since it was told some last, as far as the match
    /// remembers them. Frames on their way have some of them too: nobody is told one twice.
    pub(crate) fn catch_up(&mut self, number: u64, door: &dyn MatchDoor) {
        let Some(listener) = self.listeners.get_mut(&number) else { return };
        let told = listener.catch_up(door.events_from(listener.heard.tick));
        self.meters.messages.increment(told);
    }

    /// As [`Audience::catch_up`], for all clients: frames broke off, and what was in them is past.
    pub(crate) fn catch_up_all(&mut self, door: &dyn MatchDoor) {
        for listener in self.listeners.values_mut() {
            let told = listener.catch_up(door.events_from(listener.heard.tick));
            self.meters.messages.increment(told);
        }
    }

    /// The client of the connection with this number is gone.
    pub(crate) fn leave(&mut self, number: u64) {
        let Some(listener) = self.listeners.remove(&number) else { return };
        let session = listener.seat.session;
        if let Some(numbers) = self.by_session.get_mut(&session) {
            numbers.retain(|known| *known != number);
            if numbers.is_empty() {
                self.by_session.remove(&session);
            }
        }
    }

    /// Forgets all clients.
    pub(crate) fn clear(&mut self) {
        self.listeners.clear();
        self.by_session.clear();
    }

    /// Does something for each client.
    pub(crate) fn each(&self, act: impl Fn(&Seat)) {
        self.listeners.values().for_each(|listener| act(&listener.seat));
    }

    /// Does something for each connection of a session.
    fn each_of(&mut self, session: SessionId, mut act: impl FnMut(&mut Listener)) {
        for number in self.by_session.get(&session).into_iter().flatten() {
            if let Some(listener) = self.listeners.get_mut(number) {
                act(listener);
            }
        }
    }

    /// Sends all clients away.
    pub(crate) fn dismiss_all(&mut self, why: &Dismissal) {
        self.each(|seat| seat.dismiss(why.clone()));
        self.clear();
    }

    /// Takes the next frame of the match: tells each client what it must hear and sends it a
    /// snapshot. A frame of an ownership that is over is dropped.
    ///
    /// # Panics
    ///
    /// If the ticks of one ownership do not rise: deltas would be made against views that the
    /// clients do not have.
    pub(crate) fn publish(&mut self, frame: &TickFrame, now: Instant) {
        if frame.epoch < self.epoch {
            return;
        }
        if frame.epoch > self.epoch {
            self.change_epoch(frame);
        }
        if let Some(last) = self.handed_over {
            frame.assert_follows(self.epoch, last);
        }
        self.handed_over = Some(frame.tick);
        self.tick = frame.tick;
        self.history.push(Arc::clone(&frame.view));
        self.tell(frame);
        for applied in &frame.applied {
            self.each_of(applied.session, |listener| {
                if listener.applied.len() == MAX_APPLIED {
                    listener.applied.remove(0);
                }
                listener.applied.push((applied.seq, frame.tick));
            });
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
            for listener in self.listeners.values_mut() {
                listener.heard = listener.heard.min(Heard::through(to));
                listener.seat.tell(message.clone());
            }
        }
        self.epoch = frame.epoch;
        self.handed_over = None;
        self.history.clear();
        for listener in self.listeners.values_mut() {
            listener.snapshots.reset();
            listener.acknowledged = None;
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
            let message = ServerMessage::CommandDone {
                seq: done.seq,
                tick: frame.tick,
                accepted: done.accepted,
            };
            self.each_of(done.session, |listener| {
                tell(&listener.seat, encode_server(&message));
                listener.seat.note_answered(done.seq);
            });
        }
        for event in &frame.events {
            let message = encode_event(event);
            for listener in self.listeners.values_mut() {
                if listener.hears(event) {
                    tell(&listener.seat, message.clone());
                }
            }
        }
        if let Some(beat) = frame.beat {
            let message = encode_server(&ServerMessage::Beat { tick: beat.tick, hash: beat.hash });
            self.each(|seat| tell(seat, message.clone()));
        }
        for left in &frame.left {
            let words = match left.reason {
                LeaveReason::Left => "RK-GATE-034: you left the match",
                LeaveReason::TimedOut => {
                    "RK-GATE-034: you were away for longer than the match waits"
                }
                LeaveReason::Removed => "RK-GATE-034: you were removed from the match",
            };
            self.each_of(left.session, |listener| {
                listener.seat.dismiss(Refusal::new(RefuseCode::Removed, words));
            });
        }
    }

    fn send_snapshots(&mut self, frame: &TickFrame, now: Instant) {
        let Self { meters, history, listeners, header, datagram, .. } = self;
        header.epoch = frame.epoch;
        header.tick = frame.tick;
        header.durable = frame.durable;
        // Counted here and told once: each telling is a few atomic operations.
        let (mut sent, mut skipped, mut partial, mut shared, mut slowed) = (0, 0, 0, 0, 0);
        for listener in listeners.values_mut() {
            let Listener { seat, snapshots, allowance, acknowledged, applied, .. } = listener;
            // A snapshot that has not left yet means a link that cannot keep up: a second one would
            // only be later.
            if seat.has_datagram_waiting() {
                skipped += 1;
                continue;
            }
            let Some(most) = seat.connection.max_datagram_size() else { continue };
            if allowance.is_due(now) {
                let before = allowance.pace();
                allowance.look(seat.connection.path(), now);
                let pace = allowance.pace();
                slowed += u64::from(pace.unwrap_or(u32::MAX) < before.unwrap_or(u32::MAX));
                seat.set_pace(pace);
            }
            let Some(budget) = allowance.budget(most, now) else {
                skipped += 1;
                continue;
            };
            (header.echo_ms, header.hold_ms) = (0, 0);
            if let Some(feedback) = seat.feedback() {
                snapshots.acknowledge(feedback.ack.0, feedback.ack.1);
                *acknowledged = (*acknowledged).max(Some(feedback.ack.0));
                header.echo_ms = feedback.clock_ms;
                header.hold_ms = now
                    .saturating_duration_since(feedback.at)
                    .as_millis()
                    .min(u128::from(u16::MAX)) as u16;
            }
            header.applied.clone_from(applied);
            let viewer = (seat.role == Role::Player).then_some(seat.player);
            header.avatar = viewer.and_then(|player| frame.view.avatar(player));
            let stats = snapshots.encode(header, &frame.view, history, viewer, budget, datagram);
            check_baseline(stats.baseline, *acknowledged);
            if stats.bytes == 0 {
                skipped += 1;
                continue;
            }
            allowance.spend(stats.bytes);
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
        meters.slowed.increment(slowed);
    }
}

/// A client drops a delta against what it does not have, and nobody would ever know: the baseline
/// of a delta is at most the newest tick that the client has acknowledged.
fn check_baseline(baseline: Option<Tick>, acknowledged: Option<Tick>) {
    debug_assert!(
        baseline <= acknowledged,
        "a delta against tick {baseline:?}, the client has acknowledged {acknowledged:?}"
    );
}

#[cfg(test)]
mod tests {
    use rekindle_schema::MatchId;

    use super::*;

    fn audience() -> Audience {
        let info = MatchInfo {
            match_id: MatchId(1),
            game: "game".to_owned(),
            epoch: Epoch(3),
            tick: Tick(10),
            tick_rate: 30,
            schema: Arc::default(),
            config: Bytes::new(),
        };
        Audience::new(Arc::new(Meters::new()), info, None)
    }

    fn hand_over(audience: &mut Audience, epoch: u64, tick: u64) {
        let frame = TickFrame::empty(MatchId(1), Epoch(epoch), Tick(tick));
        audience.publish(&frame, Instant::now());
    }

    #[test]
    fn frames_rise_or_come_with_a_new_epoch() {
        let mut audience = audience();
        // The first may be the one that `info` knew already.
        for (epoch, tick) in [(3, 10), (3, 11), (3, 14), (4, 12), (4, 13)] {
            hand_over(&mut audience, epoch, tick);
            assert_eq!((audience.epoch, audience.tick), (Epoch(epoch), Tick(tick)));
        }
        hand_over(&mut audience, 3, 90);
        assert_eq!((audience.epoch, audience.tick), (Epoch(4), Tick(13)), "it is dropped");
    }

    #[test]
    #[should_panic(expected = "a frame of tick 11 in epoch 3 behind one of tick 12 in epoch 3")]
    fn a_frame_that_goes_back_is_not_told() {
        let mut audience = audience();
        hand_over(&mut audience, 3, 12);
        hand_over(&mut audience, 3, 11);
    }

    #[test]
    fn a_baseline_that_was_acknowledged_is_fine() {
        check_baseline(None, None);
        check_baseline(None, Some(Tick(4)));
        check_baseline(Some(Tick(4)), Some(Tick(4)));
    }

    #[test]
    #[should_panic(expected = "a delta against tick Some(Tick(5))")]
    fn a_baseline_that_was_not_acknowledged_is_noticed() {
        check_baseline(Some(Tick(5)), Some(Tick(4)));
    }
}
