//! What the task of a client holds, and the few things that all its parts do.

use std::collections::BTreeSet;
use std::future::pending;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use rekindle_schema::wire::Credential;
use rekindle_transport::Connection;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::ClientConfig;
use crate::dial::Dialer;
use crate::event::ClientEvent;
use crate::session::SharedSession;

/// The task's own state.
pub(super) struct Driver {
    pub(super) config: ClientConfig,
    /// What is shown next: the ticket, and after the first welcome its resume token.
    pub(super) credential: Credential,
    pub(super) dialer: Dialer,
    pub(super) shared: Arc<SharedSession>,
    pub(super) events: mpsc::Sender<ClientEvent>,
    /// When a server last said something about the match.
    pub(super) heard: Instant,
    /// A search that began while the last connection was merely silent.
    pub(super) searching: Option<Dialling>,
    /// Servers of an earlier ownership that were passed over once: another may have the later one.
    pub(super) declined: BTreeSet<SocketAddr>,
}

impl Driver {
    /// Tells the game that the connection is gone or silent.
    pub(super) async fn say_disconnected(&mut self, reason: String) {
        tracing::debug!(code = "RK-CLIENT-012", reason, "disconnected");
        let _ = self.events.send(ClientEvent::Disconnected { reason }).await;
    }
}

/// A search for a server that goes on beside something else.
pub(super) type Dialling = Pin<Box<dyn Future<Output = Connection> + Send>>;

/// The connection that a search comes to; never without a search.
pub(super) async fn reached(dialling: &mut Option<Dialling>) -> Connection {
    match dialling {
        Some(dialling) => dialling.await,
        None => pending().await,
    }
}

/// The match is served at `addr`, says a server: the next attempt goes there.
pub(super) fn redirect(dialer: &mut Dialer, addr: &str) {
    if let Ok(addr) = addr.parse() {
        dialer.prefer(addr);
    } else {
        tracing::warn!(code = "RK-CLIENT-014", addr, "a redirect to what is no address");
    }
}
