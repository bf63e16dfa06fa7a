//! The way in for connections that the port does not make: those over WebSocket, which the web
//! listener (`rekindle-web`) accepts. They count, knock and are served like all others.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rekindle_transport::Connection;

use crate::connection;
use crate::edge::Edge;
use crate::limits::Verdict;
use crate::meters::Meters;
use crate::stage::{Stage, Standing};

/// Lets connections in beside the port. Clones are the same door.
#[derive(Clone)]
pub struct SideDoor {
    edge: Arc<Edge>,
}

/// Why a connection is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TurnedAway {
    /// The node goes down, or serves nobody now.
    Draining,
    /// A bound is reached: the word that metrics have for it.
    Busy(&'static str),
}

/// A connection that may be made. It counts as one that is not let in until its client has shown a
/// credential.
pub struct Admitted {
    edge: Arc<Edge>,
    number: u64,
    standing: Standing,
}

impl SideDoor {
    pub(crate) fn new(edge: Arc<Edge>) -> Self {
        Self { edge }
    }

    /// Asks for a connection from `source`, which has proved its address.
    pub fn knock(&self, source: IpAddr) -> Result<Admitted, TurnedAway> {
        let edge = &self.edge;
        if edge.crowd.is_draining() {
            return Err(TurnedAway::Draining);
        }
        self.may_ask(source)?;
        edge.meters.accepted.increment(1);
        Ok(Admitted {
            edge: Arc::clone(edge),
            number: edge.next_number(),
            standing: edge.connections.begin(source, Stage::Hello),
        })
    }

    /// Whether `source` may have something done for it now that costs as much as a handshake. If
    /// so, it counts as one.
    pub fn may_ask(&self, source: IpAddr) -> Result<(), TurnedAway> {
        match self.edge.decide(source, true) {
            Verdict::Accept => Ok(()),
            Verdict::Refuse(reason) | Verdict::Ignore(reason) => {
                Meters::turned_away("refused", reason);
                Err(TurnedAway::Busy(reason))
            }
            // Nobody who has proved its address is asked to.
            Verdict::Retry => Err(TurnedAway::Busy("address")),
        }
    }

    /// A connection that hears nothing for so long is gone.
    pub fn idle_timeout(&self) -> Duration {
        self.edge.config.limits.idle_timeout
    }
}

impl Admitted {
    /// Serves the connection until it ends.
    pub async fn serve(self, connection: Connection) {
        let Self { edge, number, standing } = self;
        connection::serve_connected(&edge, (connection, number), standing).await;
    }
}
