//! What an edge is given: where it listens, its bounds, its clock.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rekindle_transport::Origins;

/// The time of day in milliseconds since 1970, for the expiry of tickets and for nothing else.
pub type Clock = Arc<dyn Fn() -> u64 + Send + Sync>;

/// The least that tokio's clock can tell apart; a thirtieth of a tick at 30 Hz.
const GATHER: Duration = Duration::from_millis(1);

/// How often something may happen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// How often in the long run, per second.
    pub per_second: f64,
    /// How often at once.
    pub burst: f64,
}

impl Rate {
    /// `per_second` in the long run, `burst` at once.
    pub const fn new(per_second: f64, burst: f64) -> Self {
        Self { per_second, burst }
    }
}

/// Everything that a stranger or a client could make grow has a bound here.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Open connections. Beyond, new ones are refused.
    pub max_connections: usize,
    /// Of them, those that only a session that goes on can have. More than half of
    /// [`Limits::max_connections`] counts as half.
    pub reserve: usize,
    /// Spectators that are in. They are also let go when players need their places.
    pub max_spectators: usize,
    /// Clients that are in with tickets of one player, spectators included.
    pub per_player: usize,
    /// Clients that are in from one source address (IPv6: of one /64). Sessions that go on are let
    /// in beyond.
    pub per_source: usize,
    /// Connections that wait for a match to come here, all clients together: a standby's. Beyond,
    /// they are refused, and those clients find the match as they do without a standby.
    pub max_waiting: usize,
    /// Players from here on are the node's own: no ticket of one counts.
    pub first_own_player: u64,
    /// Connections that are not yet let in. Beyond, new ones are ignored. One source address may
    /// have an eighth of them before it must prove that it is there, and half of them then (never
    /// fewer than 64).
    pub max_pending: usize,
    /// From this many connections that are not yet let in, a new one must first prove its address
    /// (QUIC Retry).
    pub retry_above: usize,
    /// New connections, all sources together.
    pub handshakes: Rate,
    /// New connections of one source address (IPv6: of one /64).
    pub handshakes_per_source: Rate,
    /// From the first packet to the end of the QUIC handshake.
    pub handshake_timeout: Duration,
    /// From the end of the QUIC handshake to a whole hello.
    pub hello_timeout: Duration,
    /// How long a client waits in its hello for a match that is not ready (recovering), before it
    /// is told to try again.
    pub unavailable_wait: Duration,
    /// Longest hello, in bytes.
    pub max_hello: usize,
    /// Longest command with its envelope, in bytes.
    pub max_command: usize,
    /// Longest payload of one input, in bytes.
    pub max_input: usize,
    /// Datagrams of one connection.
    pub datagrams: Rate,
    /// Bytes in datagrams of one connection.
    pub datagram_bytes: Rate,
    /// Bytes a second in the snapshots of one client; `None`: as many as its link takes. What does
    /// not fit waits, the least urgent first.
    pub snapshot_bytes: Option<u32>,
    /// Commands of one connection; faster ones wait on the stream.
    pub commands: Rate,
    /// How many malformed packets a connection may send before it is closed.
    pub max_malformed: u32,
    /// Messages that may wait for one client on the stream. Beyond, the client is let go as
    /// overloaded.
    pub stream_queue: usize,
    /// Bytes of datagrams that may wait to be sent on one connection.
    pub datagram_send_buffer: usize,
    /// A connection that hears nothing for so long is gone.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 8192,
            reserve: 1024,
            max_spectators: 2048,
            per_player: 8,
            per_source: 4096,
            max_waiting: 4096,
            first_own_player: u64::MAX,
            max_pending: 1024,
            retry_above: 256,
            handshakes: Rate::new(1000.0, 2000.0),
            handshakes_per_source: Rate::new(200.0, 2000.0),
            handshake_timeout: Duration::from_secs(3),
            hello_timeout: Duration::from_secs(3),
            unavailable_wait: Duration::from_secs(3),
            max_hello: 4 << 10,
            max_command: 16 << 10,
            max_input: 512,
            datagrams: Rate::new(250.0, 125.0),
            datagram_bytes: Rate::new(128.0 * 1024.0, 128.0 * 1024.0),
            snapshot_bytes: None,
            commands: Rate::new(30.0, 60.0),
            max_malformed: 16,
            stream_queue: 512,
            datagram_send_buffer: 4 << 10,
            idle_timeout: Duration::from_secs(10),
        }
    }
}

/// What an edge is given.
#[derive(Clone)]
pub struct GatewayConfig {
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// The bounds.
    pub limits: Limits,
    /// The time of day.
    pub clock: Clock,
    /// Whose pages may connect by WebTransport; none without a listener that says otherwise.
    pub origins: Arc<Origins>,
    /// Decides QUIC's random choices and connection ids, for simulations only; without it the
    /// system's randomness does.
    pub seed: Option<[u8; 32]>,
    /// Wanted size of the socket's buffers in bytes.
    pub socket_buffer: usize,
    /// How long packets gather in the socket after some were read, before the next ones are. Waking
    /// up costs more than a packet does; an input waits half of this on average.
    pub gather: Duration,
    /// How many loops share the clients of the port, at least 1. As many run at once as the runtime
    /// has threads.
    pub loops: usize,
}

impl GatewayConfig {
    /// The defaults on `bind`, with a clock.
    pub fn new(bind: SocketAddr, clock: Clock) -> Self {
        Self {
            bind,
            limits: Limits::default(),
            clock,
            origins: Arc::default(),
            seed: None,
            socket_buffer: 4 << 20,
            gather: GATHER,
            loops: 1,
        }
    }

    /// The defaults on every address of the host.
    pub fn on_port(port: u16, clock: Clock) -> Self {
        Self::new(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), clock)
    }
}

impl std::fmt::Debug for GatewayConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GatewayConfig")
            .field("bind", &self.bind)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
