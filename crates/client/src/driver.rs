//! The task that keeps a client's session: dials, shows the credential, serves the connection, and
//! starts over when the server is gone.
//!
//! A server that answers and does not serve is asked more and more rarely. Started by
//! [`crate::client`]. While the old connection is merely silent, a new one is dialled beside it;
//! whichever speaks first wins.

use std::collections::BTreeSet;
use std::future::pending;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, ConnectionError, RecvStream, SendStream, VarInt};
use rekindle_schema::Tick;
use rekindle_schema::wire::{
    ALPN_2, ClientMessage, Credential, Enter, Hello, PROTOCOL, PROTOCOL_2, RefuseCode, Role,
    ServerMessage, StreamDecoder, Welcome, encode_client,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::client::Shared;
use crate::config::{ClientConfig, Timing};
use crate::dial::Dialer;
use crate::event::ClientEvent;

/// A connection that carried the session for so long was good: what comes after it is another
/// trouble than what was before. So was one that brought a newer tick and was not ended by a
/// refusal: a server that is only slow must not be left alone for it.
const STEADY: Duration = Duration::from_secs(2);
/// While it waits for a welcome, a client holds a server dead that sends no packet at all for this
/// long.
const DEAD: Duration = Duration::from_millis(900);
/// How long a leaving client waits for the server to close.
const GOODBYE: Duration = Duration::from_millis(500);

/// Why a connection is no longer served.
enum Gone {
    /// The server is silent, and this connection to a server (the same or another) has been made
    /// meanwhile.
    Replaced(Connection),
    /// The server has forgotten the connection: it was started anew and answers.
    Restarted,
    /// The connection ended, or its server is silent.
    Lost(String),
    /// The server does not want this client.
    Refused(RefuseCode, String),
    /// The game ended the session.
    Left,
}

impl From<ConnectionError> for Gone {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::Reset => Self::Restarted,
            ConnectionError::ApplicationClosed(close) => {
                match RefuseCode::from_close_code(close.error_code.into_inner()) {
                    Some(code) => {
                        Self::Refused(code, String::from_utf8_lossy(&close.reason).into_owned())
                    }
                    None => Self::Lost("the server closed the connection".to_owned()),
                }
            }
            other => Self::Lost(other.to_string()),
        }
    }
}

/// Runs until the session ends for good.
pub(crate) async fn run(
    config: ClientConfig,
    dialer: Dialer,
    shared: Arc<Shared>,
    events: mpsc::Sender<ClientEvent>,
) {
    let (credential, heard) = (config.credential.clone(), Instant::now());
    let mut driver = Driver {
        credential,
        config,
        dialer,
        shared,
        events,
        heard,
        searching: None,
        declined: BTreeSet::new(),
    };
    let (code, message) = driver.keep_session().await;
    let _ = driver.events.send(ClientEvent::Closed { code, message }).await;
}

struct Driver {
    config: ClientConfig,
    credential: Credential,
    dialer: Dialer,
    shared: Arc<Shared>,
    events: mpsc::Sender<ClientEvent>,
    /// When a server last said something about the match.
    heard: Instant,
    /// A search that began while the last connection was merely silent.
    searching: Option<Dialling>,
    /// Servers of an earlier ownership that were passed over once: another may have the later one.
    declined: BTreeSet<SocketAddr>,
}

impl Driver {
    async fn keep_session(&mut self) -> (Option<RefuseCode>, String) {
        let left = || (None, "the client left".to_owned());
        let mut ready = None;
        let (mut last_refusal, mut failures) = (None, 0_u32);
        // Since a connection last was good.
        let mut searching_since = Instant::now();
        loop {
            let until = searching_since + self.config.timing.give_up;
            let connection = match ready.take() {
                Some(connection) => connection,
                None => tokio::select! {
                    biased;
                    () = self.shared.leave.notified() => return left(),
                    connection = reached(&mut self.searching), if self.searching.is_some() => connection,
                    connection = self.dialer.dial(), if self.searching.is_none() => connection,
                    () = sleep_until(until) => {
                        let why = last_refusal.or(self.dialer.last_error.take()).unwrap_or_else(|| "no server answered".to_owned());
                        return (None, format!("RK-CLIENT-011: no session for {:?}: {why}", self.config.timing.give_up));
                    }
                },
            };
            self.searching = None;
            let remote = connection.remote_address();
            let gone = match self.enter(&connection).await {
                Ok((reader, writer)) => {
                    self.dialer.calm();
                    let (begun, before) = (Instant::now(), self.shared.state.lock().newest);
                    let gone = self.serve(&connection, reader, writer).await;
                    let refused = matches!(gone, Gone::Refused(..));
                    if begun.elapsed() >= STEADY
                        || !refused && self.shared.state.lock().newest > before
                    {
                        (searching_since, failures) = (Instant::now(), 0);
                        self.declined.clear();
                    } else {
                        failures += 1;
                    }
                    gone
                }
                Err(gone) => {
                    failures += 1;
                    gone
                }
            };
            self.shared.state.lock().connection = None;
            connection.close(VarInt::from_u32(0), b"");
            match gone {
                Gone::Left => return left(),
                Gone::Replaced(connection) => {
                    ready = Some(connection);
                    self.say_disconnected("the server fell silent".to_owned()).await;
                }
                Gone::Restarted => {
                    // It answers now. Attempts that knocked while it did not would knock again
                    // later than a new one.
                    self.searching = None;
                    self.dialer.calm();
                    self.dialer.prefer(remote);
                    self.say_disconnected("the server was started anew".to_owned()).await;
                }
                Gone::Lost(reason) => {
                    self.dialer.avoid(remote);
                    self.say_disconnected(reason).await;
                }
                Gone::Refused(code, message) => {
                    // A match that this node has not heard of may be known to another, or be on its
                    // way here.
                    let patient = code.is_temporary()
                        || code == RefuseCode::NoMatch
                            && self.shared.state.lock().welcome.is_some();
                    if !patient || Instant::now() >= until {
                        return (Some(code), message);
                    }
                    last_refusal = Some(message.clone());
                    self.say_disconnected(message).await;
                    // Also behind a good connection: who says "not now" means it.
                    failures = failures.max(1);
                }
            }
            if let Some(times) = failures.checked_sub(1) {
                let pause = self.dialer.back_off(times, searching_since.elapsed());
                tokio::select! {
                    biased;
                    () = self.shared.leave.notified() => return left(),
                    () = sleep(pause) => {}
                }
            }
        }
    }

    async fn say_disconnected(&mut self, reason: String) {
        tracing::debug!(code = "RK-CLIENT-012", reason, "disconnected");
        let _ = self.events.send(ClientEvent::Disconnected { reason }).await;
    }

    /// Shows the credential and waits for the welcome.
    async fn enter(&mut self, connection: &Connection) -> Result<(Reader, Writer), Gone> {
        let patience = self.config.timing.welcome;
        let hello = self.first_message(connection);
        let dialer = &mut self.dialer;
        let said = async {
            let (send, recv) = connection.open_bi().await?;
            let mut reader = Reader { recv, decoder: StreamDecoder::of_server() };
            let mut writer = Writer { send, rest: encode_client(&hello) };
            writer.flush().await?;
            let mut rewound = None;
            loop {
                match reader.next(connection).await? {
                    ServerMessage::Welcome(welcome) => {
                        return Ok((reader, writer, *welcome, rewound));
                    }
                    ServerMessage::Rewound { to, .. } => rewound = Some(to),
                    ServerMessage::Refused { code, message } => {
                        return Err(Gone::Refused(code, message));
                    }
                    ServerMessage::Redirect { addr } => redirect(dialer, &addr),
                    other => {
                        return Err(Gone::Lost(format!(
                            "RK-CLIENT-013: {other:?} where a welcome was expected"
                        )));
                    }
                }
            }
        };
        let (reader, writer, welcome, rewound) = tokio::select! {
            biased;
            said = timeout(patience, said) => said.unwrap_or_else(|_| Err(Gone::Lost("no welcome \
                came".to_owned())))?,
            () = dead(connection) => return Err(Gone::Lost("the server fell silent before its \
                welcome".to_owned())),
        };
        self.welcomed(connection, welcome, rewound).await?;
        Ok((reader, writer))
    }

    /// Which version the handshake settled.
    fn speaks_2(connection: &Connection) -> bool {
        let settled = connection
            .handshake_data()
            .and_then(|data| data.downcast::<HandshakeData>().ok()?.protocol);
        settled.as_deref() == Some(ALPN_2)
    }

    /// What to say first.
    fn first_message(&self, connection: &Connection) -> ClientMessage {
        let hello = |protocol| Hello {
            protocol,
            role: self.config.role,
            credential: self.credential.clone(),
            match_id: self.config.match_id,
        };
        if Self::speaks_2(connection) {
            let stood = self.shared.state.lock().stood();
            ClientMessage::Enter(Enter {
                hello: hello(PROTOCOL_2),
                game: self.config.game.clone(),
                stood,
            })
        } else {
            ClientMessage::Hello(hello(PROTOCOL))
        }
    }

    /// Takes the session up.
    async fn welcomed(
        &mut self,
        connection: &Connection,
        welcome: Welcome,
        rewound: Option<Tick>,
    ) -> Result<(), Gone> {
        let welcome = Arc::new(welcome);
        let remote = connection.remote_address();
        let outage = Instant::now().saturating_duration_since(self.heard);
        let mut news = Vec::new();
        {
            let mut state = self.shared.state.lock();
            // An owner that does not know yet that it was replaced, or a store that was put back. A
            // server of version 2 has made sure of it; of others each is passed over once, if there
            // is another to ask.
            let unsure = welcome.epoch < state.epoch && !Self::speaks_2(connection);
            if unsure && self.dialer.knows_another(remote) && self.declined.insert(remote) {
                let words = format!(
                    "RK-CLIENT-015: a server of epoch {}, the match was in epoch {}",
                    welcome.epoch, state.epoch
                );
                return Err(Gone::Lost(words));
            }
            news.push(match &state.welcome {
                Some(_) => ClientEvent::Resumed { welcome: Arc::clone(&welcome), outage },
                None => ClientEvent::Welcome(Arc::clone(&welcome)),
            });
            news.extend(state.take_up(connection, &welcome, rewound));
        }
        if self.config.role == Role::Player {
            self.credential = Credential::Resume(welcome.resume_token.clone());
        }
        self.config.match_id = Some(welcome.match_id);
        self.heard = Instant::now();
        for event in news {
            let _ = self.events.send(event).await;
        }
        Ok(())
    }

    /// Serves the connection until it, or the session, ends.
    async fn serve(
        &mut self,
        connection: &Connection,
        mut reader: Reader,
        mut writer: Writer,
    ) -> Gone {
        let tick_rate = self
            .shared
            .state
            .lock()
            .welcome
            .as_ref()
            .map_or(30, |welcome| welcome.tick_rate.max(1));
        let tick = Duration::from_secs(1) / u32::from(tick_rate);
        let tick_ms = tick.as_millis() as u64;
        let mut watch = Watch::new(&self.config.timing, tick, connection);
        let mut sent_command = 0;
        loop {
            if writer.rest.is_empty()
                && let Some((seq, payload)) = self.shared.state.lock().command_behind(sent_command)
            {
                sent_command = seq;
                writer.rest = encode_client(&ClientMessage::Command { seq, payload });
            }
            tokio::select! {
                biased;
                () = self.shared.leave.notified() => {
                    writer.say_goodbye(connection).await;
                    return Gone::Left;
                }
                datagram = connection.read_datagram() => match datagram {
                    Ok(datagram) => {
                        watch.heard(connection);
                        self.heard = Instant::now();
                        self.searching = None;
                        let news = self.shared.state.lock().received(&datagram, self.shared.now_ms(), tick_ms);
                        if let Some(snapshot) = news.snapshot {
                            // A game that does not keep up wants the newer one that comes anyway.
                            let _ = self.events.try_send(ClientEvent::Snapshot(snapshot));
                        }
                        for event in news.lapsed {
                            let _ = self.events.send(event).await;
                        }
                    }
                    Err(error) => return error.into(),
                },
                message = reader.next(connection) => match message {
                    Ok(ServerMessage::Refused { code, message }) => return Gone::Refused(code, message),
                    Ok(ServerMessage::Redirect { addr }) => redirect(&mut self.dialer, &addr),
                    Ok(message) => {
                        let event = self.shared.state.lock().told(message);
                        if let Some(event) = event {
                            let _ = self.events.send(event).await;
                        }
                    }
                    Err(gone) => return gone,
                },
                flushed = writer.flush(), if !writer.rest.is_empty() => {
                    if let Err(gone) = flushed {
                        return gone;
                    }
                }
                () = self.shared.commands.notified() => {}
                fresh = reached(&mut self.searching) => return Gone::Replaced(fresh),
                () = sleep_until(watch.next) => {
                    let state = watch.look(connection);
                    if state != Line::Fine {
                        // A living server acknowledges what we send; one that was started anew
                        // answers with a reset, which is the fastest way to learn of it.
                        let now_ms = self.shared.now_ms();
                        let mut state = self.shared.state.lock();
                        if now_ms >= state.sent_ms + tick_ms {
                            state.send_packet(now_ms);
                        }
                    }
                    if state == Line::Silent && self.searching.is_none() {
                        tracing::debug!(code = "RK-CLIENT-016", "the server is silent: looking for \
                            one that is not");
                        let mut dialer = self.dialer.clone();
                        self.searching = Some(Box::pin(async move { dialer.dial().await }));
                    }
                }
            }
        }
    }
}

type Dialling = Pin<Box<dyn Future<Output = Connection> + Send>>;

async fn reached(dialling: &mut Option<Dialling>) -> Connection {
    match dialling {
        Some(dialling) => dialling.await,
        None => pending().await,
    }
}

fn redirect(dialer: &mut Dialer, addr: &str) {
    match addr.parse() {
        Ok(addr) => dialer.prefer(addr),
        Err(_) => tracing::warn!(code = "RK-CLIENT-014", addr, "a redirect to what is no address"),
    }
}

/// What is heard of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// It spoke just now.
    Fine,
    /// It has said nothing for a while: ask.
    Quiet,
    /// It does not answer.
    Silent,
}

/// Tells a dead server from a match that stands still: a dead one sends no packet at all, not even
/// to acknowledge ours.
struct Watch {
    patience: Duration,
    tick: Duration,
    packets: u64,
    heard: Instant,
    /// When to look again.
    next: Instant,
}

impl Watch {
    fn new(timing: &Timing, tick: Duration, connection: &Connection) -> Self {
        let patience = timing.silence.max(tick * timing.silent_ticks);
        let heard = Instant::now();
        Self { patience, tick, packets: packets(connection), heard, next: heard + patience / 2 }
    }

    fn heard(&mut self, connection: &Connection) {
        self.heard = Instant::now();
        self.packets = packets(connection);
    }

    fn look(&mut self, connection: &Connection) -> Line {
        let now = Instant::now();
        if now < self.heard + self.patience / 2 {
            self.next = self.heard + self.patience / 2;
            return Line::Fine;
        }
        self.next = now + self.tick / 2;
        let packets = packets(connection);
        if packets != self.packets {
            self.packets = packets;
            self.heard = now;
        }
        // An answer takes a round trip.
        if now < self.heard + self.patience + connection.rtt() { Line::Quiet } else { Line::Silent }
    }
}

fn packets(connection: &Connection) -> u64 {
    connection.stats().udp_rx.datagrams
}

/// Resolves when the server has been dead for a while.
async fn dead(connection: &Connection) {
    let mut heard = Instant::now();
    let mut known = packets(connection);
    while heard.elapsed() < DEAD {
        sleep(DEAD / 8).await;
        let now = packets(connection);
        if now != known {
            known = now;
            heard = Instant::now();
        }
    }
}

/// Reads whole messages. A read that was given up loses nothing.
struct Reader {
    recv: RecvStream,
    decoder: StreamDecoder,
}

impl Reader {
    async fn next(&mut self, connection: &Connection) -> Result<ServerMessage, Gone> {
        loop {
            match self.decoder.next_message() {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(error) => {
                    return Err(Gone::Lost(format!(
                        "RK-CLIENT-018: the server broke the protocol: {error}"
                    )));
                }
            }
            match self.recv.read_chunk(16 << 10, true).await {
                Ok(Some(chunk)) => self.decoder.push(&chunk.bytes),
                // How the connection is closed says why.
                Ok(None) | Err(_) => return Err(connection.closed().await.into()),
            }
        }
    }
}

/// Writes whole messages. A write that was given up goes on where it stopped.
struct Writer {
    send: SendStream,
    rest: Bytes,
}

impl Writer {
    async fn flush(&mut self) -> Result<(), Gone> {
        while !self.rest.is_empty() {
            let written =
                self.send.write(&self.rest).await.map_err(|error| Gone::Lost(error.to_string()))?;
            self.rest.advance(written);
        }
        Ok(())
    }

    /// Ends the session. The server answers by closing the connection.
    async fn say_goodbye(&mut self, connection: &Connection) {
        let bye = async {
            self.flush().await?;
            self.rest = encode_client(&ClientMessage::Bye);
            self.flush().await?;
            connection.closed().await;
            Ok::<_, Gone>(())
        };
        let _ = timeout(GOODBYE, bye).await;
    }
}
