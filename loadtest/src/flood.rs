//! Garbage for a node's port, at a stated rate, for a bounded time, on loopback only: what
//! strangers could send.
//!
//! Four kinds, in turn: random bytes; handshakes that are cut off, changed or said twice; datagrams
//! far above any packet size; and whole connections over one carrier that never say who they are
//! ([`Carrier`]). Tests run it beside a swarm whose matches must not notice.

use std::net::SocketAddr;
use std::time::Duration;

use quinn::Endpoint;
use rekindle_client::{ClientError, Trust};
use rekindle_transport::SERVER_NAME;
use rekindle_transport::quic::client::config as quic_config;
use serde::{Deserialize, Serialize};
use tokio::net::UdpSocket;
use tokio::time::{Instant, MissedTickBehavior, interval};

mod carriers;

pub use carriers::Carrier;
use carriers::{Came, Opener};

/// Packets go out in bursts this far apart.
const BURST: Duration = Duration::from_millis(2);
/// Sockets that packets come from.
const SOCKETS: usize = 8;
/// Largest datagram that loopback carries.
const OVERSIZED: usize = 60_000;
/// Connections that are held open at once; older ones are dropped.
const HELD: usize = 512;

/// What to send.
#[derive(Debug, Clone)]
pub struct FloodConfig {
    /// Where to; a loopback address.
    pub target: SocketAddr,
    /// Datagrams a second: random, cut-off and oversized ones in equal parts.
    pub packets_per_second: u32,
    /// Whole connections a second, none of which says a hello that counts.
    pub connections_per_second: u32,
    /// What carries them.
    pub carrier: Carrier,
    /// For how long.
    pub duration: Duration,
    /// Decides the bytes.
    pub seed: u64,
}

/// What was sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FloodReport {
    /// Datagrams of random bytes.
    pub random: u64,
    /// Handshake packets that were cut off, changed or repeated.
    pub truncated: u64,
    /// Datagrams of up to 60,000 bytes.
    pub oversized: u64,
    /// Datagrams that the system did not take.
    pub unsent: u64,
    /// Bytes in datagrams.
    pub bytes: u64,
    /// Connections tried.
    pub connections: u64,
    /// Of them, those whose handshake the server completed.
    pub handshakes: u64,
    /// Of them, those that were granted a session of WebTransport or the upgrade to WebSocket.
    pub sessions: u64,
    /// How long it took, in milliseconds.
    pub elapsed_ms: u64,
}

/// Why there is no flood.
#[derive(Debug, thiserror::Error)]
pub enum FloodError {
    /// The target is somebody else's machine.
    #[error(
        "RK-LOAD-010: {0} is not a loopback address: a flood is for your own node on this machine \
         only"
    )]
    NotLoopback(SocketAddr),
    /// No local socket.
    #[error("RK-LOAD-011: no UDP socket: {0}")]
    Socket(#[from] std::io::Error),
    /// QUIC cannot be set up.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Sends garbage for the stated time. Must be called inside a tokio runtime.
pub async fn flood(config: &FloodConfig) -> Result<FloodReport, FloodError> {
    if !config.target.ip().is_loopback() {
        return Err(FloodError::NotLoopback(config.target));
    }
    let start = Instant::now();
    let (packets, connections) =
        tokio::join!(send_packets(config, start), open_connections(config, start));
    let (packets, connections) = (packets?, connections?);
    Ok(FloodReport {
        connections: connections.connections,
        handshakes: connections.handshakes,
        sessions: connections.sessions,
        elapsed_ms: start.elapsed().as_millis() as u64,
        ..packets
    })
}

async fn send_packets(config: &FloodConfig, start: Instant) -> Result<FloodReport, FloodError> {
    let mut report = FloodReport::default();
    let mut random = Random(config.seed);
    let initial = captured_initial().await?;
    let mut sockets = Vec::new();
    for _ in 0..SOCKETS {
        sockets.push(UdpSocket::bind(local(config.target)).await?);
    }
    let mut buffer = vec![0; OVERSIZED];
    let mut timer = interval(BURST);
    timer.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut sent = 0;
    while start.elapsed() < config.duration {
        timer.tick().await;
        let due = (start.elapsed().as_secs_f64() * f64::from(config.packets_per_second)) as u64;
        while sent < due {
            let socket = &sockets[random.below(SOCKETS)];
            let packet: &[u8] = match sent % 3 {
                0 => {
                    let len = random.below(1472);
                    random.fill(&mut buffer[..len]);
                    report.random += 1;
                    &buffer[..len]
                }
                1 => {
                    report.truncated += 1;
                    cut(&initial, &mut random, &mut buffer)
                }
                _ => {
                    let len = 1473 + random.below(OVERSIZED - 1473);
                    random.fill(&mut buffer[..64]);
                    report.oversized += 1;
                    &buffer[..len]
                }
            };
            match socket.try_send_to(packet, config.target) {
                Ok(len) => report.bytes += len as u64,
                Err(_) => report.unsent += 1,
            }
            sent += 1;
        }
    }
    Ok(report)
}

/// A first handshake packet, spoiled in one of four ways.
fn cut<'a>(initial: &[u8], random: &mut Random, buffer: &'a mut [u8]) -> &'a [u8] {
    buffer[..initial.len()].copy_from_slice(initial);
    match random.below(4) {
        0 => &buffer[..random.below(initial.len())],
        1 => {
            let bit = random.below(initial.len() * 8);
            buffer[bit / 8] ^= 1 << (bit % 8);
            &buffer[..initial.len()]
        }
        2 => {
            // Another connection id: a handshake that looks new and cannot be decrypted.
            random.fill(&mut buffer[6..14]);
            &buffer[..initial.len()]
        }
        _ => &buffer[..initial.len()],
    }
}

/// The first packet of a real handshake, caught on its way.
async fn captured_initial() -> Result<Vec<u8>, FloodError> {
    let trap = UdpSocket::bind(("127.0.0.1", 0)).await?;
    let endpoint = Endpoint::client(([127, 0, 0, 1], 0).into())?;
    let attempt = endpoint.connect_with(
        quic_config(&Trust::InsecureAnyServer).map_err(ClientError::from)?,
        trap.local_addr()?,
        SERVER_NAME,
    );
    let mut buffer = vec![0; 2048];
    let (len, _) = trap.recv_from(&mut buffer).await?;
    drop(attempt);
    buffer.truncate(len);
    Ok(buffer)
}

async fn open_connections(config: &FloodConfig, start: Instant) -> Result<FloodReport, FloodError> {
    let mut report = FloodReport::default();
    if config.connections_per_second == 0 {
        return Ok(report);
    }
    let opener = Opener::new(config.carrier, config.target)?;
    let mut attempts = tokio::task::JoinSet::new();
    let mut timer = interval(Duration::from_secs(1) / config.connections_per_second);
    timer.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut count = |came: Came| {
        report.handshakes += u64::from(came.connected);
        report.sessions += u64::from(came.granted);
    };
    let mut connections = 0;
    while start.elapsed() < config.duration {
        timer.tick().await;
        while let Some(done) = attempts.try_join_next() {
            count(done.unwrap_or_default());
        }
        if attempts.len() < HELD {
            attempts.spawn(opener.clone().open(connections));
            connections += 1;
        }
    }
    while let Some(done) = attempts.join_next().await {
        count(done.unwrap_or_default());
    }
    report.connections = connections;
    opener.close();
    Ok(report)
}

fn local(target: SocketAddr) -> SocketAddr {
    SocketAddr::new(target.ip(), 0)
}

/// `SplitMix64`.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, most: usize) -> usize {
        (self.next() % most.max(1) as u64) as usize
    }

    fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn it_floods_nobody_elses_machine() {
        let config = FloodConfig {
            target: ([192, 0, 2, 1], 7777).into(),
            packets_per_second: 1,
            connections_per_second: 1,
            carrier: Carrier::Quic,
            duration: Duration::from_secs(1),
            seed: 1,
        };
        assert!(matches!(flood(&config).await, Err(FloodError::NotLoopback(_))));
    }

    #[tokio::test]
    async fn it_sends_what_it_says() {
        let sink = UdpSocket::bind(("127.0.0.1", 0)).await.unwrap();
        let config = FloodConfig {
            target: sink.local_addr().unwrap(),
            packets_per_second: 3000,
            connections_per_second: 20,
            carrier: Carrier::Quic,
            duration: Duration::from_millis(300),
            seed: 1,
        };
        let counting = async {
            let mut buffer = vec![0; 64 << 10];
            let mut count = 0u64;
            while let Ok(Ok(_)) = timeout(Duration::from_secs(1), sink.recv_from(&mut buffer)).await
            {
                count += 1;
            }
            count
        };
        let (report, arrived) = tokio::join!(flood(&config), counting);
        let report = report.unwrap();
        let sent = report.random + report.truncated + report.oversized - report.unsent;
        assert!((600..=1000).contains(&sent), "{report:?}");
        assert!(arrived > 300, "{arrived} arrived: {report:?}");
        assert!(
            report.random > 150
                && report.truncated > 150
                && report.oversized > 150
                && report.connections > 2,
            "{report:?}"
        );
        assert_eq!(report.handshakes, 0, "nobody answered");
    }
}
