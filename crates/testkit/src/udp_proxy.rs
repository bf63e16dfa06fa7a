//! A bad link on loopback: a UDP proxy that loses, delays, reorders and duplicates packets, decided
//! by a seed.
//!
//! Tests put it between real clients and a real server. It looks into no packet. Each client
//! address gets an upstream socket of its own, so that the server sees as many peers as there are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Packets that may be under way at once; more are lost, as on any link.
const MAX_IN_FLIGHT: usize = 64 << 10;
/// What a packet takes beside its bytes, with IPv4 and UDP.
const HEADERS: usize = 28;
/// Clients that are served.
const MAX_CLIENTS: usize = 1024;

/// What a link does to each packet, in both directions alike.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Link {
    /// Part of the packets that is lost, 0 to 1.
    pub loss: f64,
    /// Part of the packets that arrives twice, 0 to 1.
    pub duplicates: f64,
    /// Mean time one way.
    pub delay: Duration,
    /// The time differs from the mean by at most this, evenly: packets closer together than that
    /// may change places.
    pub jitter: Duration,
    /// Bytes a second that it carries in each direction; what is more waits in line, however long.
    pub carries: Option<u32>,
}

impl Link {
    /// Everything arrives, at once.
    pub const GOOD: Self = Self {
        loss: 0.0,
        duplicates: 0.0,
        delay: Duration::ZERO,
        jitter: Duration::ZERO,
        carries: None,
    };
    /// Nothing arrives.
    pub const CUT: Self = Self { loss: 1.0, ..Self::GOOD };
    /// 5 % lost, 2 % doubled, 80 ± 20 ms, reordered.
    pub const BAD: Self = Self {
        loss: 0.05,
        duplicates: 0.02,
        delay: Duration::from_millis(80),
        jitter: Duration::from_millis(20),
        carries: None,
    };
}

/// What has gone through so far.
#[derive(Debug, Default)]
struct Counts {
    passed: AtomicU64,
    lost: AtomicU64,
    doubled: AtomicU64,
    overtaken: AtomicU64,
}

/// What has gone through so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// Packets delivered, doubles included.
    pub passed: u64,
    /// Packets lost.
    pub lost: u64,
    /// Packets delivered twice.
    pub doubled: u64,
    /// Packets delivered before one that was sent earlier.
    pub overtaken: u64,
}

/// A running proxy. Dropping it cuts the link for good.
#[derive(Debug)]
pub struct UdpProxy {
    addr: SocketAddr,
    control: Arc<Mutex<Control>>,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Control {
    target: SocketAddr,
    link: Link,
}

impl UdpProxy {
    /// Listens on a free loopback port and passes on to `target`. Must be called inside a tokio
    /// runtime.
    pub async fn start(target: SocketAddr, link: Link, seed: u64) -> io::Result<Self> {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).await?;
        let addr = socket.local_addr()?;
        let control = Arc::new(Mutex::new(Control { target, link }));
        let counts = Arc::new(Counts::default());
        let relay = Relay {
            socket: Arc::new(socket),
            control: Arc::clone(&control),
            counts: Arc::clone(&counts),
            random: seed,
            clients: BTreeMap::new(),
            under_way: BinaryHeap::new(),
            number: 0,
            newest: 0,
            free: [Instant::now(); 2],
        };
        Ok(Self { addr, control, counts, task: tokio::spawn(relay.run()) })
    }

    /// Where clients connect to.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Changes the link for packets that come from now on.
    pub fn set_link(&self, link: Link) {
        self.control.lock().link = link;
    }

    /// Passes on to another server from now on.
    pub fn set_target(&self, target: SocketAddr) {
        self.control.lock().target = target;
    }

    /// What has gone through so far.
    pub fn traffic(&self) -> Traffic {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Traffic {
            passed: load(&self.counts.passed),
            lost: load(&self.counts.lost),
            doubled: load(&self.counts.doubled),
            overtaken: load(&self.counts.overtaken),
        }
    }
}

impl Drop for UdpProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A packet on its way.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Packet {
    due: Instant,
    number: u64,
    client: SocketAddr,
    up: bool,
    bytes: Vec<u8>,
}

struct Relay {
    socket: Arc<UdpSocket>,
    control: Arc<Mutex<Control>>,
    counts: Arc<Counts>,
    random: u64,
    clients: BTreeMap<SocketAddr, Upstream>,
    under_way: BinaryHeap<Reverse<Packet>>,
    number: u64,
    newest: u64,
    /// When a narrow link is through with what it has, downwards and upwards.
    free: [Instant; 2],
}

struct Upstream {
    socket: Arc<UdpSocket>,
    reader: JoinHandle<()>,
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Relay {
    async fn run(mut self) {
        let (answers, mut answered) = mpsc::channel::<(SocketAddr, Vec<u8>)>(1024);
        let mut buffer = vec![0; 64 << 10];
        loop {
            let due = self.under_way.peek().map(|Reverse(packet)| packet.due);
            tokio::select! {
                biased;
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.deliver().await,
                Ok((len, client)) = self.socket.recv_from(&mut buffer) => {
                    if self.meet(client, &answers).await {
                        self.take(client, true, buffer[..len].to_vec());
                    }
                }
                Some((client, bytes)) = answered.recv() => self.take(client, false, bytes),
            }
        }
    }

    /// Opens an upstream socket for a client that is seen for the first time.
    async fn meet(
        &mut self,
        client: SocketAddr,
        answers: &mpsc::Sender<(SocketAddr, Vec<u8>)>,
    ) -> bool {
        if self.clients.contains_key(&client) {
            return true;
        }
        if self.clients.len() >= MAX_CLIENTS {
            return false;
        }
        let Ok(socket) = UdpSocket::bind(("127.0.0.1", 0)).await else { return false };
        let socket = Arc::new(socket);
        let (upstream, answers) = (Arc::clone(&socket), answers.clone());
        let reader = tokio::spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            loop {
                // A server whose port is closed shows as an error here: the link goes on.
                if let Ok((len, _)) = upstream.recv_from(&mut buffer).await
                    && answers.send((client, buffer[..len].to_vec())).await.is_err()
                {
                    return;
                }
            }
        });
        self.clients.insert(client, Upstream { socket, reader });
        true
    }

    /// Decides the fate of a packet.
    fn take(&mut self, client: SocketAddr, up: bool, bytes: Vec<u8>) {
        let link = self.control.lock().link;
        if self.draw() < link.loss || self.under_way.len() >= MAX_IN_FLIGHT {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.number += 1;
        let number = self.number;
        if self.draw() < link.duplicates {
            self.counts.doubled.fetch_add(1, Ordering::Relaxed);
            let due = self.due(link, up, bytes.len());
            self.under_way.push(Reverse(Packet { due, number, client, up, bytes: bytes.clone() }));
        }
        let due = self.due(link, up, bytes.len());
        self.under_way.push(Reverse(Packet { due, number, client, up, bytes }));
    }

    fn due(&mut self, link: Link, up: bool, bytes: usize) -> Instant {
        let shift = link.jitter.mul_f64(2.0 * self.draw());
        let mut leaves = Instant::now();
        if let Some(carries) = link.carries {
            let free = &mut self.free[usize::from(up)];
            let takes = (bytes + HEADERS) as f64 / f64::from(carries);
            *free = leaves.max(*free) + Duration::from_secs_f64(takes);
            leaves = *free;
        }
        leaves + (link.delay + shift).saturating_sub(link.jitter)
    }

    async fn deliver(&mut self) {
        let now = Instant::now();
        while self.under_way.peek().is_some_and(|Reverse(packet)| packet.due <= now) {
            let Some(Reverse(packet)) = self.under_way.pop() else { return };
            self.counts.passed.fetch_add(1, Ordering::Relaxed);
            if packet.number < self.newest {
                self.counts.overtaken.fetch_add(1, Ordering::Relaxed);
            }
            self.newest = self.newest.max(packet.number);
            // A packet that the system does not take is lost, as on any link.
            if packet.up {
                let target = self.control.lock().target;
                if let Some(upstream) = self.clients.get(&packet.client) {
                    let _ = upstream.socket.send_to(&packet.bytes, target).await;
                }
            } else {
                let _ = self.socket.send_to(&packet.bytes, packet.client).await;
            }
        }
    }

    /// An even draw from 0 to 1 (`SplitMix64`).
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }
}
