//! The handle that a game holds, and the state that it shares with the task that keeps the
//! connection.

use std::collections::VecDeque;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{AsyncUdpSocket, Connection, Endpoint, EndpointConfig, Runtime};
use rekindle_netcode::{ClockSync, InputSender, SnapshotReceiver};
use rekindle_schema::record::Beat;
use rekindle_schema::wire::{MAX_STOOD_BEATS, Role, ServerMessage, Stood, Welcome};
use rekindle_schema::{Epoch, Tick};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::config::ClientConfig;
use crate::dial::Dialer;
use crate::event::{ClientEvent, Snapshot};
use crate::{driver, tls};

/// Most commands that may wait for their result.
pub const MAX_COMMANDS: usize = 256;
/// Most inputs whose target tick is remembered until they are applied.
const MAX_TARGETS: usize = 128;

/// Why a client cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no server to ask.
    #[error("RK-CLIENT-001: no address of a node was given")]
    NoAddress,
    /// The certificate or the TLS library is of no use.
    #[error("RK-CLIENT-002: TLS cannot be set up: {0}")]
    Tls(String),
    /// No local socket.
    #[error("RK-CLIENT-003: no UDP socket: {0}")]
    Socket(std::io::Error),
    /// There has been no welcome yet, or the client has stopped.
    #[error("RK-CLIENT-004: there is no session (yet): wait for `Welcome`")]
    NoSession,
    /// Too many commands wait for their result.
    #[error("RK-CLIENT-005: {MAX_COMMANDS} commands wait for their result: wait for `CommandDone`")]
    TooManyCommands,
    /// Spectators do not play.
    #[error("RK-CLIENT-006: a spectator sends no inputs and no commands")]
    Spectator,
}

/// An input that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentInput {
    /// Its number: snapshots name it when it was applied.
    pub seq: u64,
    /// The tick that it is meant for.
    pub target: Tick,
}

/// A client of one match. It keeps its session by itself: when the server falls silent it dials all
/// known addresses until one takes the session on. Dropping it closes the connection and leaves the
/// session waiting; [`Client::leave`] ends the session.
pub struct Client {
    shared: Arc<Shared>,
    events: mpsc::Receiver<ClientEvent>,
    task: JoinHandle<()>,
}

impl Client {
    /// Connects from a socket of its own. Must be called inside a tokio runtime.
    pub fn connect(config: ClientConfig) -> Result<Self, ClientError> {
        let addr = config.addrs.first().ok_or(ClientError::NoAddress)?;
        let local: SocketAddr = if addr.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let endpoint = Endpoint::client(local).map_err(ClientError::Socket)?;
        Self::with_endpoint(config, endpoint)
    }

    /// Connects from an endpoint that the caller made and may share among many clients.
    pub fn with_endpoint(config: ClientConfig, endpoint: Endpoint) -> Result<Self, ClientError> {
        if config.addrs.is_empty() {
            return Err(ClientError::NoAddress);
        }
        let quic = tls::quic_config(&config.trust)?;
        let dialer = Dialer::new(endpoint, quic, config.timing, &config.addrs, config.seed());
        let shared = Arc::new(Shared::new(config.role));
        let (sender, events) = mpsc::channel(config.event_queue.max(1));
        let task = tokio::spawn(driver::run(config, dialer, Arc::clone(&shared), sender));
        Ok(Self { shared, events, task })
    }

    /// The next event; `None` after [`ClientEvent::Closed`]. Giving up the future loses nothing.
    pub async fn event(&mut self) -> Option<ClientEvent> {
        self.events.recv().await
    }

    /// The next event, if there is one now.
    pub fn try_event(&mut self) -> Option<ClientEvent> {
        self.events.try_recv().ok()
    }

    /// Sends an input for the tick that is about to be made when it arrives. `None` while there is
    /// no session.
    pub fn input(&self, payload: Bytes) -> Option<SentInput> {
        self.shared.state.lock().input(payload, self.shared.now_ms())
    }

    /// Sends a reliable command and returns its number. It is sent again after a reconnect, and
    /// applied once.
    pub fn command(&self, payload: Bytes) -> Result<u64, ClientError> {
        let mut state = self.shared.state.lock();
        if state.role == Role::Spectator {
            return Err(ClientError::Spectator);
        }
        if state.welcome.is_none() || self.task.is_finished() {
            return Err(ClientError::NoSession);
        }
        if state.commands.len() >= MAX_COMMANDS {
            return Err(ClientError::TooManyCommands);
        }
        let seq = state.next_command;
        state.next_command += 1;
        state.commands.push_back((seq, payload));
        drop(state);
        self.shared.commands.notify_one();
        Ok(seq)
    }

    /// What the newest welcome said.
    pub fn welcome(&self) -> Option<Arc<Welcome>> {
        self.shared.state.lock().welcome.clone()
    }

    /// Whether a session is being served now, as far as the client knows.
    pub fn is_connected(&self) -> bool {
        self.shared.state.lock().connection.is_some()
    }

    /// The smoothed round trip in milliseconds; 0 before the first measurement.
    pub fn rtt_ms(&self) -> f64 {
        self.shared.state.lock().clock.rtt()
    }

    /// The (fractional) tick to draw other entities at now.
    pub fn render_tick(&self) -> f64 {
        self.shared.state.lock().clock.render_tick(self.shared.now_ms())
    }

    /// Ends the session: the player leaves the match. Waits a moment for the server to hear it.
    pub async fn leave(mut self) {
        // Nobody reads events any more: the task must not wait for room.
        self.events.close();
        self.shared.leave.notify_one();
        let _ = timeout(Duration::from_secs(1), &mut self.task).await;
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
        if let Some(connection) = self.shared.state.lock().connection.take() {
            connection.close(0u32.into(), b"");
        }
    }
}

/// Makes an endpoint for clients on a socket that the caller made, with the caller's runtime under
/// QUIC: a simulation's. `seed` decides QUIC's random choices.
pub fn endpoint_on_socket(
    socket: Arc<dyn AsyncUdpSocket>,
    runtime: Arc<dyn Runtime>,
    seed: [u8; 32],
) -> Result<Endpoint, ClientError> {
    let mut config = EndpointConfig::default();
    config.rng_seed(Some(seed));
    Endpoint::new_with_abstract_socket(config, None, socket, runtime).map_err(ClientError::Socket)
}

/// What handle and task share.
pub(crate) struct Shared {
    pub(crate) state: Mutex<State>,
    /// A command waits to be sent.
    pub(crate) commands: Notify,
    /// The session is to end.
    pub(crate) leave: Notify,
    start: Instant,
}

impl Shared {
    fn new(role: Role) -> Self {
        Self {
            state: Mutex::new(State::new(role)),
            commands: Notify::new(),
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
pub(crate) struct State {
    pub(crate) role: Role,
    /// Present while a session is served.
    pub(crate) connection: Option<Connection>,
    pub(crate) welcome: Option<Arc<Welcome>>,
    pub(crate) inputs: InputSender,
    pub(crate) clock: ClockSync,
    pub(crate) receiver: SnapshotReceiver,
    /// Target ticks of inputs that are not known to be applied, ascending by number.
    pub(crate) targets: VecDeque<SentInput>,
    /// Commands without a result, ascending by number.
    pub(crate) commands: VecDeque<(u64, Bytes)>,
    pub(crate) next_command: u64,
    /// Commands that the server had taken before it died: their results may have died with it.
    pub(crate) taken: Vec<u64>,
    pub(crate) epoch: Epoch,
    /// The newest tick seen.
    pub(crate) newest: Tick,
    /// The newest hashes told, newest first, at most [`MAX_STOOD_BEATS`].
    beats: VecDeque<Beat>,
    /// When the last packet was sent, on the client's clock.
    pub(crate) sent_ms: u64,
}

impl State {
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
            taken: Vec::new(),
            epoch: Epoch(0),
            newest: Tick(0),
            beats: VecDeque::new(),
            sent_ms: 0,
        }
    }

    fn input(&mut self, payload: Bytes, now_ms: u64) -> Option<SentInput> {
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
    pub(crate) snapshot: Option<Snapshot>,
    /// Results of commands that nobody can tell any more.
    pub(crate) lapsed: Vec<ClientEvent>,
}

impl State {
    /// Where the client stands, for a server that it comes back to.
    pub(crate) fn stood(&self) -> Option<Stood> {
        self.welcome.as_ref().map(|_| Stood {
            epoch: self.epoch,
            tick: self.newest,
            beats: self.beats.iter().copied().collect(),
        })
    }

    /// Ticks behind `to` have not happened. False if none of them was seen.
    fn rewind(&mut self, to: Tick) -> bool {
        self.beats.retain(|beat| beat.tick <= to);
        let seen = to < self.newest;
        self.newest = self.newest.min(to);
        seen
    }

    /// A connection carries the session now, and what its server says counts, whatever was heard of
    /// others. `to` is the newest tick that still holds, if the server said so. Returns what there
    /// is to tell.
    pub(crate) fn take_up(
        &mut self,
        connection: &Connection,
        welcome: &Arc<Welcome>,
        to: Option<Tick>,
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
        // Inputs of before were meant for ticks that are over.
        self.inputs = InputSender::new(self.inputs.next_seq().max(welcome.next_input));
        self.targets.clear();
        news.extend(self.align_commands(welcome.next_command));
        self.sent_ms = 0;
        self.connection = Some(connection.clone());
        self.welcome = Some(Arc::clone(welcome));
        news
    }

    /// The server expects the command `next`. Those before it were taken. If it was thrown back
    /// behind commands that it had answered, their numbers are given out again; whatever waits
    /// behind such a gap can never be taken, and neither can what became of it be told.
    fn align_commands(&mut self, next: u64) -> Vec<ClientEvent> {
        while let Some((seq, _)) = self.commands.pop_front_if(|(seq, _)| *seq < next) {
            self.taken.push(seq);
        }
        let mut lost: Vec<u64> = self.taken.extract_if(.., |seq| *seq >= next).collect();
        if self.commands.front().is_some_and(|(seq, _)| *seq > next) {
            lost.extend(self.commands.drain(..).map(|(seq, _)| seq));
        }
        self.next_command = self.commands.back().map_or(next, |(seq, _)| seq + 1);
        lost.into_iter()
            .map(|seq| ClientEvent::CommandDone { seq, tick: None, accepted: None })
            .collect()
    }

    /// Takes a snapshot in. `tick_ms`: milliseconds a tick.
    pub(crate) fn received(&mut self, datagram: &[u8], now_ms: u64, tick_ms: u64) -> News {
        let received = match self.receiver.receive(datagram) {
            Ok(received) => received,
            Err(error) => {
                tracing::trace!(code = "RK-CLIENT-017", %error, "a datagram gave no view");
                return News::default();
            }
        };
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
        if now_ms >= self.sent_ms + tick_ms * 3 / 2 {
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
        if self.taken.is_empty() || self.newest.0 < patience {
            return Vec::new();
        }
        self.taken
            .drain(..)
            .map(|seq| ClientEvent::CommandDone { seq, tick: None, accepted: None })
            .collect()
    }

    /// Takes a message of the stream in.
    pub(crate) fn told(&mut self, message: ServerMessage) -> Option<ClientEvent> {
        Some(match message {
            ServerMessage::CommandDone { seq, tick, accepted } => {
                self.commands.retain(|(waiting, _)| *waiting != seq);
                self.taken.retain(|taken| *taken != seq);
                ClientEvent::CommandDone { seq, tick: Some(tick), accepted: Some(accepted) }
            }
            ServerMessage::Beat { tick, hash } => {
                self.beats.truncate(MAX_STOOD_BEATS - 1);
                self.beats.push_front(Beat { tick, hash });
                ClientEvent::Beat { tick, hash }
            }
            ServerMessage::Event { tick, ordinal, kind, payload } => {
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
            ServerMessage::Ended { reason } => ClientEvent::Ended { reason },
            ServerMessage::Welcome(_)
            | ServerMessage::Refused { .. }
            | ServerMessage::Redirect { .. } => return None,
        })
    }

    /// The first command behind `sent` that waits for its result.
    pub(crate) fn command_behind(&self, sent: u64) -> Option<(u64, Bytes)> {
        self.commands.iter().find(|(seq, _)| *seq > sent).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(seqs: std::ops::Range<u64>) -> State {
        let mut state = State::new(Role::Player);
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

    #[test]
    fn commands_go_on_where_the_server_expects_them() {
        // The server has taken 4 and 5 and waits for 6.
        let mut state = waiting(4..8);
        assert_eq!(lost(&state.align_commands(6)), []);
        assert_eq!(
            (
                state.taken.as_slice(),
                state.commands.front().map(|(seq, _)| *seq),
                state.next_command
            ),
            (&[4, 5][..], Some(6), 8)
        );
        // All were answered, then the server was thrown back: numbers are given out again.
        let mut state = waiting(8..8);
        assert_eq!(lost(&state.align_commands(6)), []);
        assert_eq!(state.next_command, 6);
        // 6 was answered, 7 waits, and the server wants 6 again: 7 can never be taken.
        let mut state = waiting(7..8);
        state.taken = vec![5, 6];
        assert_eq!(lost(&state.align_commands(6)), [6, 7]);
        assert_eq!(
            (state.taken.as_slice(), state.commands.len(), state.next_command),
            (&[5][..], 0, 6)
        );
        // A new session starts over.
        let mut state = waiting(3..3);
        state.align_commands(1);
        assert_eq!(state.next_command, 1);
    }
}
