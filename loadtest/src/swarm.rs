//! Many bots over few sockets.

use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rekindle_client::{ClientConfig, ClientEndpoint, ClientError, Timing, Trust};
use rekindle_schema::net::NetView;
use rekindle_schema::{MatchId, PlayerId};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::bot::{Bot, Live, Stop};
use crate::evidence::Evidence;

/// Bots that share a socket.
const BOTS_PER_SOCKET: usize = 32;

/// What a bot sends when it is asked, each in the game's own encoding.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Move {
    /// An input for the next tick.
    pub input: Option<Bytes>,
    /// A command: reliable, applied once, answered.
    pub command: Option<Bytes>,
}

impl Move {
    /// An input alone, or nothing.
    pub fn input(input: Option<Bytes>) -> Self {
        Self { input, command: None }
    }
}

/// Plays for a player by looking at what a client sees: `(player, view, configuration, memory)`.
/// It is asked once in each tick, and may change the memory.
pub type Brain = Arc<dyn Fn(PlayerId, &NetView, &[u8], &mut Vec<u8>) -> Move + Send + Sync>;

/// Where a bot goes when its match has ended: asked with that match, it says which one is next and
/// the node to ask first. All bots of a match are told the same.
pub type NextMatch =
    Arc<dyn Fn(MatchId) -> BoxFuture<'static, (MatchId, SocketAddr)> + Send + Sync>;

/// Who one bot is.
#[derive(Debug, Clone)]
pub struct BotSpec {
    /// Who it plays for: the player in its ticket.
    pub player: PlayerId,
    /// What lets it in.
    pub ticket: String,
    /// Where; without it, where the ticket says, else anywhere.
    pub match_id: Option<MatchId>,
    /// The node to ask first; without it, the first of all.
    pub first: Option<SocketAddr>,
}

/// What a swarm is given.
#[derive(Clone)]
pub struct SwarmConfig {
    /// Nodes to ask.
    pub addrs: Vec<SocketAddr>,
    /// Which server is the right one.
    pub trust: Trust,
    /// One bot each.
    pub bots: Vec<BotSpec>,
    /// Of which game their match has to be; without it, of any.
    pub game: Option<String>,
    /// What moves them.
    pub brain: Brain,
    /// When their clients become impatient.
    pub timing: Timing,
    /// Time over which the bots start, evenly: nobody's players all come in the same millisecond.
    pub ramp: Duration,
    /// Endpoints to connect from, for simulations; without, the swarm makes one for every 32 bots.
    pub endpoints: Vec<ClientEndpoint>,
    /// Where bots go when their match has ended; without it, each plays in one match.
    pub next: Option<NextMatch>,
}

impl SwarmConfig {
    /// Bots that start within a second, with the client's default timing.
    pub fn new(addrs: Vec<SocketAddr>, trust: Trust, bots: Vec<BotSpec>, brain: Brain) -> Self {
        Self {
            addrs,
            trust,
            bots,
            game: None,
            brain,
            timing: Timing::default(),
            ramp: Duration::from_secs(1),
            endpoints: Vec::new(),
            next: None,
        }
    }
}

/// Where a swarm stands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bots whose session is being served, as far as they know.
    pub connected: usize,
    /// Snapshots received.
    pub snapshots: u64,
    /// Inputs declared durable.
    pub durable: u64,
    /// Commands answered.
    pub answered: u64,
    /// Hashes received.
    pub beats: u64,
    /// Sessions resumed.
    pub resumed: u64,
    /// Bots whose client stopped before their match ended.
    pub closed: u64,
    /// Bots whose match has ended, and who have no next one.
    pub ended: usize,
}

/// Where one bot stands.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct BotProgress {
    /// In which match it has, or had last, a session.
    pub match_id: MatchId,
    /// Its session is being served, as far as it knows.
    pub connected: bool,
    /// Snapshots received, in all its matches.
    pub snapshots: u64,
    /// How often it was back in a session.
    pub resumed: u64,
    /// How many matches it has seen end.
    pub ended: u64,
}

/// Bots at play.
pub struct Swarm {
    bots: Vec<JoinHandle<Vec<crate::BotLog>>>,
    live: Arc<Live>,
    stop: watch::Sender<Stop>,
    start: Instant,
}

impl Swarm {
    /// Starts all bots. Must be called inside a tokio runtime.
    pub fn start(config: SwarmConfig) -> Result<Self, ClientError> {
        let addr = config.addrs.first().ok_or(ClientError::NoAddress)?;
        let local: SocketAddr = if addr.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            (Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let mut endpoints = config.endpoints.clone();
        if endpoints.is_empty() {
            for _ in 0..config.bots.len().div_ceil(BOTS_PER_SOCKET) {
                endpoints.push(ClientEndpoint::bind(local).map_err(ClientError::Socket)?);
            }
        }
        let (stop, stopped) = watch::channel(Stop::GoOn);
        let start = Instant::now();
        let count = config.bots.len();
        let bots = (0..count).map(|_| Mutex::default()).collect();
        let live = Arc::new(Live { bots, ..Live::default() });
        let bots = config.bots.into_iter().enumerate().map(|(index, spec)| {
            let others = config.addrs.iter().filter(|addr| Some(**addr) != spec.first);
            let addrs = spec.first.iter().chain(others).copied().collect();
            let mut client = ClientConfig::new(addrs, config.trust.clone(), spec.ticket);
            client.match_id = spec.match_id;
            client.game.clone_from(&config.game);
            client.timing = config.timing;
            let endpoint = endpoints[index % endpoints.len()].clone();
            let delay = config.ramp.mul_f64(index as f64 / count as f64);
            let bot = Bot {
                player: spec.player,
                index,
                client,
                endpoint,
                brain: Arc::clone(&config.brain),
                start,
                phase: (index as f64 * 0.618_034).fract(),
                live: Arc::clone(&live),
                stop: stopped.clone(),
                next: config.next.clone(),
            };
            tokio::spawn(async move {
                let mut stop = bot.stop.clone();
                tokio::select! {
                    biased;
                    _ = stop.changed() => vec![crate::BotLog::empty(bot.player)],
                    () = tokio::time::sleep(delay) => bot.play().await,
                }
            })
        });
        Ok(Self { bots: bots.collect(), live, stop, start })
    }

    /// Time since the start: the clock of the evidence.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Where it stands.
    pub fn progress(&self) -> Progress {
        Progress {
            connected: self.live.connected.load(Ordering::Relaxed),
            snapshots: self.live.snapshots.load(Ordering::Relaxed),
            durable: self.live.durable.load(Ordering::Relaxed),
            answered: self.live.answered.load(Ordering::Relaxed),
            beats: self.live.beats.load(Ordering::Relaxed),
            resumed: self.live.resumed.load(Ordering::Relaxed),
            closed: self.live.closed.load(Ordering::Relaxed),
            ended: self.live.ended.load(Ordering::Relaxed),
        }
    }

    /// Where each bot stands, in the order of [`SwarmConfig::bots`].
    pub fn bots(&self) -> Vec<BotProgress> {
        self.live.bots.iter().map(|bot| *bot.lock()).collect()
    }

    /// The latest reason why a bot had no session, in the words of its client or of the server.
    pub fn trouble(&self) -> Option<String> {
        self.live.trouble.lock().clone()
    }

    /// Waits until `holds` of the progress, or until `patience` is over. True if it came to hold.
    pub async fn wait_until(&self, patience: Duration, holds: impl Fn(&Progress) -> bool) -> bool {
        let until = Instant::now() + patience;
        loop {
            if holds(&self.progress()) {
                return true;
            }
            if Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops all bots and collects what they saw. With `leave` they end their sessions, otherwise
    /// the sessions go on waiting.
    pub async fn stop(self, leave: bool) -> Evidence {
        let _ = self.stop.send(if leave { Stop::Leave } else { Stop::Vanish });
        let mut evidence = Evidence::default();
        for bot in self.bots {
            match bot.await {
                Ok(logs) => evidence.bots.extend(logs),
                Err(error) => {
                    tracing::error!(code = "RK-LOAD-002", %error, "a bot died; its evidence is \
                        lost");
                }
            }
        }
        evidence.bots.sort_by_key(|bot| bot.player);
        evidence
    }
}
