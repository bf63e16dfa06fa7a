//! The public HTTP listener of a node, for browsers: WebSocket, what a page must know to connect
//! (`/edge.json`), the page to play on, tickets for guests.
//!
//! Started by the node beside its game port ([`serve`]), on TCP with the same number. It has
//! nothing to do with the admin listener. Connections of players go through the edge's
//! [`SideDoor`] and count there; everything else is bounded here.
//!
//! | module | answers |
//! |---|---|
//! | `listener` | which TCP connections are taken, how many, for how long |
//! | `routes` | the paths and their answers |
//! | `upgrade` | a request that becomes a WebSocket |
//! | `sketches` | pictures of a match, for pages that do not know its game |
//! | `edge_json` | what a page is told of the node; under which name it is reached |
//! | `pages` | the page's files, which are part of the executable |
//! | [`Site`] (`site`) | what the node gives |
//!
//! # Metrics
//!
//! | name | kind | labels | is |
//! |---|---|---|---|
//! | `rekindle_web_connections` | gauge | | open TCP connections, WebSockets included |
//! | `rekindle_web_refused_total` | counter | `reason` (all, source) | connections closed at once |
//! | `rekindle_web_requests_total` | counter | `status` | requests, by the status of their answer |

mod edge_json;
mod listener;
mod pages;
mod routes;
mod site;
mod sketches;
mod upgrade;

use std::net::SocketAddr;
use std::sync::Arc;

use rekindle_gateway::SideDoor;
use rekindle_transport::Origins;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

pub use site::{Guest, GuestRefused, GuestWanted, Site};

/// What a web listener is given.
#[derive(Debug, Clone)]
pub struct WebConfig {
    /// Which pages may connect.
    pub origins: Origins,
    /// Whoever asks gets a ticket.
    pub guests: bool,
    /// Open TCP connections, those of players included.
    pub connections: usize,
    /// How it speaks TLS; without, it speaks plainly.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// The port at which players speak QUIC, as they see it.
    pub port: u16,
    /// The port of this listener, as they see it.
    pub web_port: u16,
    /// Where the node is reached, for clients that came by a name that is not trusted.
    pub advertised: SocketAddr,
}

/// What all requests are answered with.
struct Web {
    config: WebConfig,
    /// Where the listener is bound.
    bound: SocketAddr,
    site: Arc<dyn Site>,
    door: SideDoor,
    /// One for each stream of pictures that may be open.
    sketches: Arc<Semaphore>,
}

/// Serves until `stop` resolves, then lets what is under way end for a moment.
pub async fn serve(
    listener: TcpListener,
    config: WebConfig,
    site: Arc<dyn Site>,
    door: SideDoor,
    stop: impl Future<Output = ()> + Send,
) -> std::io::Result<()> {
    let bound = listener.local_addr()?;
    let most = config.connections;
    let sketches = Arc::new(Semaphore::new(sketches::MOST));
    let web = Arc::new(Web { config, bound, site, door, sketches });
    listener::serve(listener, web, most, stop).await;
    Ok(())
}
