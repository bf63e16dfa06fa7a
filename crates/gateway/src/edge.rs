//! The parts of an edge that its connections use. Made once by [`crate::gateway`].

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rekindle_door::NodeSide;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::config::{GatewayConfig, Rate};
use crate::crowd::Crowd;
use crate::desk::Desk;
use crate::finding::Finding;
use crate::keys::Keys;
use crate::limits::{Bucket, Gatekeeper, Verdict};
use crate::meters::Meters;
use crate::room::Rooms;
use crate::stage::Connections;

/// How often it is logged that a client saw what the match does not have: what it says is up to the
/// client.
const REWOUND_LINES: Rate = Rate::new(2.0, 32.0);

/// What the connections of an edge have in common.
pub(crate) struct Edge {
    pub(crate) config: GatewayConfig,
    /// Checks tickets and issues resume tokens.
    pub(crate) keys: Keys,
    pub(crate) meters: Arc<Meters>,
    /// Finds matches.
    pub(crate) finding: Arc<Finding>,
    /// Asks documents.
    pub(crate) desk: Desk,
    /// Counts connections.
    pub(crate) connections: Arc<Connections>,
    /// Decides on new connections, whatever carries them.
    gatekeeper: Mutex<Gatekeeper>,
    /// How many were taken.
    taken: AtomicU64,
    /// The clients that are in.
    pub(crate) crowd: Arc<Crowd>,
    /// The matches that have clients here.
    pub(crate) rooms: Arc<Rooms>,
    /// Places of connections that wait for a match to come here.
    pub(crate) waiting: Semaphore,
    /// Paces the lines about clients that saw what the match does not have.
    pub(crate) rewound_lines: Mutex<Bucket>,
}

impl Edge {
    /// Must be called after the recorder of metrics is installed.
    pub(crate) fn new(config: GatewayConfig, keys: Keys, node: Arc<dyn NodeSide>) -> Arc<Self> {
        let meters = Arc::new(Meters::new());
        let desk = Desk::new(Arc::clone(&node));
        let finding = Arc::new(Finding::new(node));
        let crowd = Crowd::new(config.limits.clone(), Arc::clone(&meters));
        let rooms = Rooms::new(
            Arc::clone(&finding),
            Arc::clone(&crowd),
            Arc::clone(&meters),
            &config.limits,
        );
        Arc::new(Self {
            keys,
            finding,
            desk,
            connections: Connections::new(Arc::clone(&meters)),
            gatekeeper: Mutex::new(Gatekeeper::new(&config.limits, Instant::now())),
            taken: AtomicU64::new(0),
            crowd,
            rooms,
            waiting: Semaphore::new(config.limits.max_waiting),
            rewound_lines: Mutex::new(Bucket::new(REWOUND_LINES, Instant::now())),
            meters,
            config,
        })
    }

    /// Decides on a connection from `source` that wants in. `validated`: it has proved its address.
    pub(crate) fn decide(&self, source: IpAddr, validated: bool) -> Verdict {
        let knock = self.connections.knock(source, validated);
        self.gatekeeper.lock().decide(knock, Instant::now())
    }

    /// The number of the next connection.
    pub(crate) fn next_number(&self) -> u64 {
        self.taken.fetch_add(1, Ordering::Relaxed) + 1
    }
}
