//! The client's side of its session: what was sent, what was learnt, where the match stands.
//!
//! Shared by the handle that a game holds ([`crate::client`]) and the task that keeps the
//! connection ([`crate::driver`]). No method waits.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rekindle_netcode::{ClockSync, InputSender, SnapshotReceiver};
use rekindle_schema::record::Beat;
use rekindle_schema::wire::{
    Heard, MAX_STOOD_BEATS, PROTOCOL_3, PROTOCOL_6, Role, ServerMessage, Stood, Welcome,
};
use rekindle_schema::{Epoch, Tick};
use rekindle_transport::Connection;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::error::ClientError;
use crate::event::{ClientEvent, DocumentsAnswer, Snapshot};
use crate::questions::Questions;

/// Most inputs whose target tick is remembered until they are applied.
const MAX_TARGETS: usize = 128;

/// An input that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentInput {
    /// Its number: snapshots name it when it was applied.
    pub seq: u64,
    /// The tick that it is meant for.
    pub target: Tick,
}

/// What the handle that a game holds and the task that keeps the connection share.
pub(crate) struct SharedSession {
    pub(crate) state: Mutex<Session>,
    /// A command or a question waits to be sent.
    pub(crate) wishes: Notify,
    /// The session is to end.
    pub(crate) leave: Notify,
    /// When the client's own clock began.
    start: Instant,
}

impl SharedSession {
    pub(crate) fn new(role: Role) -> Self {
        Self {
            state: Mutex::new(Session::new(role)),
            wishes: Notify::new(),
            leave: Notify::new(),
            start: Instant::now(),
        }
    }

    /// Milliseconds on the client's own clock, from 1.
    pub(crate) fn now_ms(&self) -> u64 {
        1 + self.start.elapsed().as_millis() as u64
    }
}

/// The client's side of the session.
pub(crate) struct Session {
    /// To play or to watch.
    pub(crate) role: Role,
    /// Present while a session is served.
    pub(crate) connection: Option<Connection>,
    /// What the newest welcome said.
    pub(crate) welcome: Option<Arc<Welcome>>,
    /// Inputs that are not known to be applied: each packet repeats them.
    inputs: InputSender,
    /// The server's time, as far as it is known.
    pub(crate) clock: ClockSync,
    /// Decodes snapshots, and knows which of them may be a baseline.
    receiver: SnapshotReceiver,
    /// Target ticks of inputs that are not known to be applied, ascending by number.
    targets: VecDeque<SentInput>,
    /// Commands without a result, ascending by number. Also those that a server has taken: it may
    /// let its match go, or die, before it applies them, and then the next owner gets them.
    pub(crate) commands: VecDeque<(u64, Bytes)>,
    /// The number of the next command.
    pub(crate) next_command: u64,
    /// The server has taken the commands below this number already, says its welcome: their results
    /// may have died with a connection.
    taken_until: u64,
    /// What is asked of documents.
    pub(crate) questions: Questions,
    /// The newest ownership that was heard of.
    pub(crate) epoch: Epoch,
    /// The newest tick seen.
    pub(crate) newest: Tick,
    /// The newest hashes told, newest first, at most [`MAX_STOOD_BEATS`].
    beats: VecDeque<Beat>,
    /// How far events were told; `None` until a server has said from where it tells them.
    heard: Option<Heard>,
    /// What this client went through.
    pub(crate) counts: Counts,
    /// When the last packet was sent, on the client's clock.
    pub(crate) sent_ms: u64,
}

/// What a client went through since it was made.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Redirects that it followed.
    pub redirects: u64,
    /// Times that its session went on at another node.
    pub moves: u64,
    /// Events that came again and were not told twice.
    pub repeated: u64,
    /// Times that a server said that events may be missing.
    pub gaps: u64,
}

impl Session {
    fn new(role: Role) -> Self {
        Self {
            role,
            connection: None,
            welcome: None,
            inputs: InputSender::new(1),
            clock: ClockSync::new(1),
            receiver: SnapshotReceiver::new(Arc::default()),
            targets: VecDeque::new(),
            commands: VecDeque::new(),
            next_command: 1,
            taken_until: 1,
            questions: Questions::default(),
            epoch: Epoch(0),
            newest: Tick(0),
            beats: VecDeque::new(),
            heard: None,
            counts: Counts::default(),
            sent_ms: 0,
        }
    }

    /// Sends an input. `None` while there is no session.
    pub(crate) fn input(&mut self, payload: Bytes, now_ms: u64) -> Option<SentInput> {
        if self.role == Role::Spectator || self.connection.is_none() {
            return None;
        }
        let target = self.clock.target_tick(now_ms);
        let view = Tick(self.clock.render_tick(now_ms) as u64);
        let seq = self.inputs.push(payload, target, view);
        let sent = SentInput { seq, target };
        if self.targets.len() == MAX_TARGETS {
            self.targets.pop_front();
        }
        self.targets.push_back(sent);
        self.send_packet(now_ms);
        Some(sent)
    }

    /// The part of the last snapshots that did not come, 0 to 1.
    pub(crate) fn loss(&self) -> f64 {
        self.receiver.loss()
    }

    /// Sends what was received and the inputs that are not known to be applied. Lost packets need
    /// no care: the next repeats them.
    pub(crate) fn send_packet(&mut self, now_ms: u64) {
        let Some(connection) = &self.connection else { return };
        let Some(budget) = connection.max_datagram_size() else { return };
        let packet = self.inputs.packet(self.receiver.acknowledgement(), now_ms as u32, budget);
        if connection.send_datagram(packet.into()).is_ok() {
            self.sent_ms = now_ms;
        }
    }
}

/// What a datagram brought.
#[derive(Default)]
pub(crate) struct News {
    /// The world, if the datagram told it and it is newer than the one before.
    pub(crate) snapshot: Option<Snapshot>,
    /// Results of commands that nobody can tell any more.
    pub(crate) lapsed: Vec<ClientEvent>,
}

impl Session {
    /// Where the client stands, for a server that it comes back to.
    pub(crate) fn stood(&self) -> Option<Stood> {
        self.welcome.as_ref().map(|_| Stood {
            epoch: self.epoch,
            tick: self.newest,
            beats: self.beats.iter().copied().collect(),
        })
    }

    /// How far events were told, for a server that it comes back to.
    pub(crate) fn heard(&self) -> Option<Heard> {
        self.heard
    }

    /// Ticks behind `to` have not happened. False if none of them was seen.
    fn rewind(&mut self, to: Tick) -> bool {
        self.beats.retain(|beat| beat.tick <= to);
        self.heard = self.heard.map(|heard| heard.min(Heard::through(to)));
        let seen = to < self.newest;
        self.newest = self.newest.min(to);
        seen
    }

    /// A connection carries the session now, and what its server says counts, whatever was heard of
    /// others. `to` is the newest tick that still holds, if the server said so. `moved`: the match
    /// went on without a pause, so that inputs that were on their way are still wanted. Returns
    /// what there is to tell.
    pub(crate) fn take_up(
        &mut self,
        connection: &Connection,
        welcome: &Arc<Welcome>,
        to: Option<Tick>,
        moved: bool,
    ) -> Vec<ClientEvent> {
        let mut news = Vec::new();
        // A server of version 1 does not say it; that it stands behind what was seen says the same.
        let to = to.map_or(welcome.tick, |to| to.min(welcome.tick));
        if self.welcome.is_some() && self.rewind(to) {
            news.push(ClientEvent::Rewound { epoch: welcome.epoch, to });
        }
        self.epoch = welcome.epoch;
        let known = self.welcome.as_ref().map(|known| known.tick_rate);
        if known != Some(welcome.tick_rate) {
            self.clock = ClockSync::new(welcome.tick_rate);
        }
        self.receiver =
            SnapshotReceiver::new(Arc::new(welcome.schema.clone())).for_player(welcome.player);
        if moved && welcome.resumed {
            // The new owner has those that were applied, and takes the rest by their numbers.
            self.inputs.skip_to(welcome.next_input);
            self.targets.retain(|sent| sent.seq >= welcome.next_input);
        } else {
            // Inputs of before were meant for ticks that are over.
            self.inputs = InputSender::new(self.inputs.next_seq().max(welcome.next_input));
            self.targets.clear();
        }
        if connection.protocol() >= PROTOCOL_3 {
            self.heard.get_or_insert(Heard::through(welcome.tick));
        }
        news.extend(self.align_commands(welcome.next_command));
        let version = connection.protocol();
        if version < PROTOCOL_6 {
            news.extend(self.questions.drop_waiting().into_iter().map(|id| {
                let error = ClientError::NoDocuments(version).to_string();
                let code = error.split_once(':').map_or("", |(code, _)| code);
                let json = format!(r#"{{"code":"{code}","message":"{error}"}}"#);
                ClientEvent::DocumentsDone { id, answer: DocumentsAnswer::Refused(json) }
            }));
        }
        self.sent_ms = 0;
        self.connection = Some(connection.clone());
        self.welcome = Some(Arc::clone(welcome));
        news
    }

    /// The server expects the command `next`. It has taken those before it, which are not given
    /// again over this connection. If it was thrown back behind commands that it had answered,
    /// their numbers are given out again; whatever waits behind such a gap can never be taken, and
    /// neither can what became of it be told.
    fn align_commands(&mut self, next: u64) -> Vec<ClientEvent> {
        self.taken_until = next;
        let taken = self.commands.partition_point(|(seq, _)| *seq < next);
        let waiting = self.commands.iter().skip(taken);
        let in_order = waiting.zip(next..).take_while(|((seq, _), wanted)| seq == wanted).count();
        let lost = self.commands.split_off(taken + in_order);
        self.next_command = next + in_order as u64;
        lost.into_iter().map(|(seq, _)| lapsed(seq)).collect()
    }

    /// Takes a snapshot in.
    pub(crate) fn received(&mut self, datagram: &[u8], now_ms: u64) -> News {
        let received = match self.receiver.receive(datagram) {
            Ok(received) => received,
            Err(error) => {
                tracing::trace!(code = "RK-CLIENT-017", %error, "a datagram gave no view");
                return News::default();
            }
        };
        let Some(welcome) = self.welcome.clone() else { return News::default() };
        let header = received.header;
        self.clock.on_snapshot(now_ms, &header);
        for &(seq, tick) in &header.applied {
            while let Some(sent) = self.targets.pop_front_if(|sent| sent.seq <= seq) {
                if sent.seq == seq {
                    self.clock.on_applied(sent.target, tick);
                }
            }
            self.inputs.applied(seq);
        }
        if let Some(next) = header.next_expected_input {
            self.inputs.skip_to(next);
        }
        // A game that sends inputs acknowledges with them.
        if now_ms >= self.sent_ms + (self.clock.period_ms() * 1.5) as u64 {
            self.send_packet(now_ms);
        }
        if header.epoch > self.epoch {
            self.epoch = header.epoch;
            self.newest = self.newest.min(Tick(header.tick.0.saturating_sub(1)));
        }
        if header.tick <= self.newest {
            return News::default();
        }
        self.newest = header.tick;
        let lapsed = self.lapse();
        let snapshot = Snapshot {
            welcome,
            header,
            view: received.view,
            stamps: received.stamps,
            complete: received.complete,
            received: Instant::now(),
        };
        News { snapshot: Some(snapshot), lapsed }
    }

    /// A second after a resume, results that have not come will not come.
    fn lapse(&mut self) -> Vec<ClientEvent> {
        let patience = self
            .welcome
            .as_ref()
            .map_or(0, |welcome| welcome.tick.0 + u64::from(welcome.tick_rate));
        if self.newest.0 < patience {
            return Vec::new();
        }
        let mut news = Vec::new();
        while let Some((seq, _)) = self.commands.pop_front_if(|(seq, _)| *seq < self.taken_until) {
            news.push(lapsed(seq));
        }
        news
    }

    /// No connection carries the session any more. Returns what there is to tell.
    pub(crate) fn disconnected(&mut self) -> Vec<ClientEvent> {
        self.connection = None;
        let lost = self.questions.lost().into_iter();
        lost.map(|id| ClientEvent::DocumentsDone { id, answer: DocumentsAnswer::Unknown }).collect()
    }

    /// Takes a message of the stream in.
    pub(crate) fn told(&mut self, message: ServerMessage) -> Option<ClientEvent> {
        Some(match message {
            ServerMessage::CommandDone { seq, tick, accepted } => {
                self.commands.retain(|(waiting, _)| *waiting != seq);
                ClientEvent::CommandDone { seq, tick: Some(tick), accepted: Some(accepted) }
            }
            ServerMessage::Beat { tick, hash } => {
                self.beats.truncate(MAX_STOOD_BEATS - 1);
                self.beats.push_front(Beat { tick, hash });
                // The server tells the events of a tick before its hash.
                self.heard = self.heard.max(Some(Heard::through(tick)));
                ClientEvent::Beat { tick, hash }
            }
            ServerMessage::Event { tick, ordinal, kind, payload } => {
                if self.heard.is_some_and(|heard| !heard.is_before(tick, ordinal)) {
                    self.counts.repeated += 1;
                    return None;
                }
                self.heard = Some(Heard::event(tick, ordinal));
                ClientEvent::Event { tick, ordinal, kind, payload }
            }
            ServerMessage::Rewound { epoch, to } => {
                // A snapshot of the new ownership may have been faster: then the receiver has
                // started over by itself.
                if epoch > self.epoch {
                    self.epoch = epoch;
                    self.rewind(to);
                    self.receiver.reset();
                }
                ClientEvent::Rewound { epoch, to }
            }
            ServerMessage::EventsMissed { from, to } => {
                self.heard = self.heard.max(Some(Heard::through(to)));
                self.counts.gaps += 1;
                ClientEvent::EventsMissed { from, to }
            }
            ServerMessage::Ended { reason } => ClientEvent::Ended { reason },
            ServerMessage::Documents { id, done, json } => {
                if !self.questions.answered(id) {
                    return None;
                }
                let answer =
                    if done { DocumentsAnswer::Done(json) } else { DocumentsAnswer::Refused(json) };
                ClientEvent::DocumentsDone { id, answer }
            }
            ServerMessage::Welcome(_)
            | ServerMessage::Refused { .. }
            | ServerMessage::Nodes { .. }
            | ServerMessage::Standby { .. }
            | ServerMessage::Here { .. }
            | ServerMessage::Redirect { .. } => return None,
        })
    }

    /// The first command behind `sent` that the server has not taken.
    pub(crate) fn command_behind(&self, sent: u64) -> Option<(u64, Bytes)> {
        let waits = |seq: u64| seq > sent && seq >= self.taken_until;
        self.commands.iter().find(|(seq, _)| waits(*seq)).cloned()
    }
}

/// Nobody can tell any more what became of command `seq`.
fn lapsed(seq: u64) -> ClientEvent {
    ClientEvent::CommandDone { seq, tick: None, accepted: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(seqs: std::ops::Range<u64>) -> Session {
        let mut state = Session::new(Role::Player);
        state.next_command = seqs.end;
        state.commands = seqs.map(|seq| (seq, Bytes::new())).collect();
        state
    }

    fn lost(events: &[ClientEvent]) -> Vec<u64> {
        let seq = |event: &ClientEvent| match event {
            ClientEvent::CommandDone { seq, tick: None, accepted: None } => *seq,
            other => panic!("{other:?}"),
        };
        events.iter().map(seq).collect()
    }

    fn given(state: &Session) -> Vec<u64> {
        let mut given = Vec::new();
        while let Some((seq, _)) = state.command_behind(given.last().copied().unwrap_or(0)) {
            given.push(seq);
        }
        given
    }

    #[test]
    fn commands_go_on_where_the_server_expects_them() {
        // The server has taken 4 and 5 and waits for 6.
        let mut state = waiting(4..8);
        assert_eq!(lost(&state.align_commands(6)), [0; 0]);
        assert_eq!((given(&state), state.next_command), (vec![6, 7], 8));
        // It let its match go before it applied 5: the next owner gets it.
        assert_eq!(lost(&state.align_commands(5)), [0; 0]);
        assert_eq!((given(&state), state.next_command), (vec![5, 6, 7], 8));
        // All were answered, then the server was thrown back: numbers are given out again.
        let mut state = waiting(8..8);
        assert_eq!(lost(&state.align_commands(6)), [0; 0]);
        assert_eq!(state.next_command, 6);
        // 6 was answered, 7 waits, and the server wants 6 again: 7 can never be taken.
        let mut state = waiting(5..8);
        state.told(ServerMessage::CommandDone { seq: 6, tick: Tick(1), accepted: true });
        assert_eq!(lost(&state.align_commands(6)), [7]);
        assert_eq!((state.commands.len(), given(&state), state.next_command), (1, vec![], 6));
        // A new session starts over.
        let mut state = waiting(3..3);
        state.align_commands(1);
        assert_eq!(state.next_command, 1);
    }

    #[test]
    fn what_a_server_took_and_does_not_answer_within_a_second_lapses() {
        let mut state = waiting(4..7);
        state.align_commands(6);
        assert_eq!(lost(&state.lapse()), [4, 5], "without a welcome nothing is waited for");
        assert_eq!(given(&state), [6], "what it has not taken still waits");
        assert_eq!(lost(&state.lapse()), [0; 0]);
    }
}
