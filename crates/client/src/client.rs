//! The handle that a game holds.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rekindle_schema::wire::{PROTOCOL_6, Role, Welcome};
use rekindle_transport::{ClientEndpoint, ClientSetup, Connection};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::config::ClientConfig;
use crate::dial::Dialer;
use crate::driver;
use crate::error::{ClientError, MAX_COMMANDS};
use crate::event::ClientEvent;
use crate::session::{Counts, SentInput, SharedSession};

/// A client of one match. It keeps its session by itself: when the server falls silent it dials all
/// known addresses until one takes the session on. Dropping it closes the connection and leaves the
/// session waiting; [`Client::leave`] ends the session.
pub struct Client {
    shared: Arc<SharedSession>,
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
        let endpoint = ClientEndpoint::bind(local).map_err(ClientError::Socket)?;
        Self::with_endpoint(config, endpoint)
    }

    /// Connects from an endpoint that the caller made and may share among many clients.
    pub fn with_endpoint(
        config: ClientConfig,
        endpoint: ClientEndpoint,
    ) -> Result<Self, ClientError> {
        if config.addrs.is_empty() {
            return Err(ClientError::NoAddress);
        }
        if config.lobby.is_some() && config.game.is_none() {
            return Err(ClientError::NoGame);
        }
        let setup = ClientSetup::new(&config.trust)?;
        let dialer = Dialer::new(endpoint, setup, config.timing, &config.addrs, config.seed());
        let shared = Arc::new(SharedSession::new(config.role));
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
        self.shared.wishes.notify_one();
        Ok(seq)
    }

    /// Asks documents, which outlive matches, as this player: `json` is a question or an order of
    /// `docs/PROTOCOL.md`, section 4. Returns its number; the answer comes as
    /// [`ClientEvent::DocumentsDone`]. Those that were not sent yet wait for the next connection.
    pub fn ask_documents(&self, kind: &str, json: String) -> Result<u64, ClientError> {
        let mut state = self.shared.state.lock();
        if state.role == Role::Spectator {
            return Err(ClientError::Spectator);
        }
        if state.welcome.is_none() || self.task.is_finished() {
            return Err(ClientError::NoSession);
        }
        if let Some(version) = state.connection.as_ref().map(Connection::protocol)
            && version < PROTOCOL_6
        {
            return Err(ClientError::NoDocuments(version));
        }
        let id = state.questions.ask(kind, json)?;
        drop(state);
        self.shared.wishes.notify_one();
        Ok(id)
    }

    /// What the newest welcome said.
    pub fn welcome(&self) -> Option<Arc<Welcome>> {
        self.shared.state.lock().welcome.clone()
    }

    /// Whether a session is being served now, as far as the client knows.
    pub fn is_connected(&self) -> bool {
        self.shared.state.lock().connection.is_some()
    }

    /// What the client went through so far.
    pub fn counts(&self) -> Counts {
        self.shared.state.lock().counts
    }

    /// The smoothed round trip in milliseconds; 0 before the first measurement.
    pub fn rtt_ms(&self) -> f64 {
        self.shared.state.lock().clock.rtt()
    }

    /// How unevenly snapshots come, in milliseconds; 0 before the first measurement.
    pub fn jitter_ms(&self) -> f64 {
        self.shared.state.lock().clock.jitter()
    }

    /// How long it takes the match to make a tick now: make an input about as often. Longer than
    /// its tick rate says, by 2, 3 or 4 times, while its node has too much to do. `None` before the
    /// first welcome.
    pub fn tick_period(&self) -> Option<Duration> {
        let state = self.shared.state.lock();
        state.welcome.as_ref().map(|_| Duration::from_secs_f64(state.clock.period_ms() / 1e3))
    }

    /// The part of the last snapshots that did not come, 0 to 1.
    pub fn loss(&self) -> f64 {
        self.shared.state.lock().loss()
    }

    /// The (fractional) tick that arrives from the server now, if one does.
    pub fn server_tick(&self) -> f64 {
        let state = self.shared.state.lock();
        state.clock.arriving(self.shared.now_ms())
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
            connection.close(0, b"");
        }
    }
}
