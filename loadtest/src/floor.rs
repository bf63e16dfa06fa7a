//! What QUIC alone costs: the packets of a node under load, with nothing behind them.
//!
//! A bare server, on quinn or on the port of a node ([`Stack`]), takes small datagrams from many clients and sends each of its groups one
//! datagram a client, all at once, at the same rate: the packets of matches without matches,
//! journal, tickets or snapshots. Its CPU time per client tick is the floor that a node's is
//! compared with, in the same minutes on the same machine. Called by the `floor` executable, which
//! runs the clients in a process of their own.

mod port;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use quinn::Endpoint;
use rekindle_client::ClientError;
use rekindle_transport::quic::client::config as quic_config;
use rekindle_transport::{SERVER_NAME, Trust};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};

use self::port::Port;
pub use self::port::Stack;

/// Clients that share a socket, as in a swarm.
const CLIENTS_PER_SOCKET: usize = 32;
/// How long all clients may take to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// The packets of a load.
#[derive(Debug, Clone, Copy)]
pub struct Packets {
    /// Clients in all.
    pub clients: usize,
    /// Clients whose datagrams leave at once.
    pub group: usize,
    /// Datagrams a second in each direction, a client.
    pub rate: u32,
    /// Bytes in a datagram from a client.
    pub up: usize,
    /// Bytes in a datagram to a client.
    pub down: usize,
    /// How long the server is watched.
    pub duration: Duration,
}

/// Why there is no floor.
#[derive(Debug, thiserror::Error)]
pub enum FloorError {
    /// No socket.
    #[error("RK-LOAD-020: no UDP socket: {0}")]
    Socket(#[from] std::io::Error),
    /// No certificate, or TLS does not take it.
    #[error("RK-LOAD-021: TLS cannot be set up: {0}")]
    Tls(String),
    /// Not all clients came.
    #[error("RK-LOAD-022: {came} of {wanted} clients came within {PATIENCE:?}")]
    Absent {
        /// Those that came.
        came: usize,
        /// Those that should have.
        wanted: usize,
    },
    /// A client has no connection.
    #[error("RK-LOAD-023: a client cannot connect: {0}")]
    Client(String),
}

/// What a server did while it was watched.
#[derive(Debug, Default, Clone, Copy)]
pub struct Passed {
    /// Datagrams from clients.
    pub received: u64,
    /// Datagrams to clients.
    pub sent: u64,
}

/// A bare server on loopback.
pub struct Server {
    port: Port,
    certificate: Vec<u8>,
}

impl Server {
    /// Listens with `stack`. Must be called inside a tokio runtime.
    pub fn bind(stack: Stack) -> Result<Self, FloorError> {
        let (port, certificate) = Port::bind(stack)?;
        Ok(Self { port, certificate })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> Result<SocketAddr, FloorError> {
        self.port.local_addr()
    }

    /// Its certificate (DER).
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Waits for all clients, serves them, and calls `mark` at the begin and at the end of the time
    /// in which it is watched.
    pub async fn serve(
        &self,
        packets: Packets,
        mut mark: impl FnMut(),
    ) -> Result<Passed, FloorError> {
        let (received, sent) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (came, mut arrivals) = mpsc::channel(64);
        let mut tasks = JoinSet::new();
        tasks.spawn(self.port.clone().take_all(Arc::clone(&received), came));
        let until = Instant::now() + PATIENCE;
        let mut clients = Vec::with_capacity(packets.clients);
        while clients.len() < packets.clients {
            let absent = FloorError::Absent { came: clients.len(), wanted: packets.clients };
            tokio::select! {
                biased;
                Some(client) = arrivals.recv() => clients.push(client),
                () = sleep_until(until) => return Err(absent),
            }
        }
        let period = Duration::from_secs(1) / packets.rate;
        let many = packets.clients.div_ceil(packets.group.max(1));
        let begin = Instant::now();
        for index in 0..many {
            let group = clients.split_off(clients.len().saturating_sub(packets.group.max(1)));
            let sent = Arc::clone(&sent);
            let mut timer = interval_at(begin + period.mul_f64(index as f64 / many as f64), period);
            let payload = Bytes::from(vec![7; packets.down]);
            tasks.spawn(async move {
                loop {
                    timer.tick().await;
                    for client in &group {
                        if client.send(Bytes::copy_from_slice(&payload)) {
                            sent.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                }
            });
        }
        let passed = || Passed {
            received: received.load(Ordering::Relaxed),
            sent: sent.load(Ordering::Relaxed),
        };
        sleep_until(begin + Duration::from_secs(2)).await;
        let before = passed();
        mark();
        sleep_until(begin + Duration::from_secs(2) + packets.duration).await;
        mark();
        let after = passed();
        tasks.shutdown().await;
        self.port.close();
        Ok(Passed { received: after.received - before.received, sent: after.sent - before.sent })
    }
}

/// Plays all clients until the server closes their connections.
pub async fn clients(
    server: SocketAddr,
    certificate: Vec<u8>,
    packets: Packets,
) -> Result<(), FloorError> {
    let config = quic_config(&Trust::Certificate(certificate))
        .map_err(|error| FloorError::Tls(ClientError::from(error).to_string()))?;
    let mut endpoints = Vec::new();
    for _ in 0..packets.clients.div_ceil(CLIENTS_PER_SOCKET) {
        endpoints.push(Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into())?);
    }
    let period = Duration::from_secs(1) / packets.rate;
    let mut tasks = JoinSet::new();
    let begin = Instant::now();
    for index in 0..packets.clients {
        let connecting =
            endpoints[index / CLIENTS_PER_SOCKET].connect_with(config.clone(), server, SERVER_NAME);
        let connecting = connecting.map_err(|error| FloorError::Client(error.to_string()))?;
        let connection = timeout(PATIENCE, connecting)
            .await
            .map_err(|_| FloorError::Client("no answer".to_owned()))?
            .map_err(|error| FloorError::Client(error.to_string()))?;
        // Players are not in step with each other.
        let mut timer =
            interval_at(begin + period.mul_f64((index as f64 * 0.618_034).fract()), period);
        timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let payload = Bytes::from(vec![9; packets.up]);
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    biased;
                    datagram = connection.read_datagram() => if datagram.is_err() { break },
                    _ = timer.tick() => {
                        let _ = connection.send_datagram(payload.clone());
                    }
                }
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    Ok(())
}
