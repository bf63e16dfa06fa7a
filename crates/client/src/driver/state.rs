//! What the task of a client holds, and the few things that all its parts do.

use std::collections::BTreeSet;
use std::future::pending;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use rekindle_schema::wire::{Credential, MAX_REDIRECTS};
use rekindle_transport::Connection;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::config::ClientConfig;
use crate::dial::{Dialer, usable};
use crate::event::ClientEvent;
use crate::session::SharedSession;
use crate::warm::Warm;

/// How much of an unusable address is logged, in characters.
const SHOWN: usize = 64;

/// Where a redirect leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// To another server.
    On,
    /// To the server that has just fallen silent.
    Back,
    /// To no address that can be dialled.
    None,
}

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
    /// A connection to the match's standby, or on its way to it.
    pub(super) warm: Option<Warm>,
    /// Servers of an earlier ownership that were passed over once: another may have the later one.
    pub(super) declined: BTreeSet<SocketAddr>,
    /// Redirects that were followed since the last welcome.
    pub(super) redirects: u8,
    /// The server that is left has said where the match goes on.
    pub(super) moving: bool,
    /// The server that had the session last.
    pub(super) served_by: Option<SocketAddr>,
    /// The server that fell silent, until one takes the session on.
    pub(super) silent: Option<SocketAddr>,
}

impl Driver {
    /// The match is served at `addr`, says a server: the next attempt goes there.
    pub(super) fn redirect(&mut self, addr: &str) -> Way {
        let Some(addr) = usable(addr) else {
            let shown: String = addr.chars().take(SHOWN).collect();
            tracing::warn!(
                code = "RK-CLIENT-014",
                addr = shown,
                "a redirect to what is no address"
            );
            return Way::None;
        };
        // Whoever sends the client back to a server that is silent does not know yet that it is:
        // that is an answer for now, and no way that leads on.
        if self.silent == Some(addr) {
            self.dialer.calm();
            self.dialer.prefer(addr);
            return Way::Back;
        }
        self.dialer.lead_to(addr);
        self.redirects = self.redirects.saturating_add(1);
        self.shared.state.lock().counts.redirects += 1;
        Way::On
    }

    /// Whether redirects have led nowhere: they are followed no further before a pause.
    pub(super) fn goes_in_circles(&mut self) -> bool {
        let circles = self.redirects > MAX_REDIRECTS;
        if circles {
            self.redirects = 0;
        }
        circles
    }

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
