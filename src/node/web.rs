//! The listener for browsers: where it is bound, and what it is told of the node. Bound and begun
//! by [`super::lifecycle`]; what it does is in `rekindle-web`.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use rekindle_gateway::Gateway;
use rekindle_schema::wire::Role;
use rekindle_schema::{MatchId, PlayerId};
use rekindle_web::{Guest, GuestRefused, GuestWanted, Site, WebConfig};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::error::{ControlError, NodeError};
use super::serving::Serving;
use super::{descriptors, sketches, tickets};
use crate::config::Config;
use crate::config::edge::WebListen;
use crate::{clock, dial};

/// How long the end of the listener may take.
const GOODBYE: Duration = Duration::from_secs(3);
/// For how long a guest can come in with a ticket, in seconds. The session goes on.
const GUEST_TTL_S: u64 = 3_600;
/// Guests have numbers from here on, and so many: a browser's numbers are exact up to there.
const FIRST_GUEST: u64 = 1 << 52;
/// Longest name of a guest, in characters.
const MAX_NAME: usize = 24;
/// Ports that are tried if any will do.
const TRIES: usize = 16;

/// Where players are let in: over UDP, and if `listener` is there over TCP.
pub(super) struct Places {
    /// The UDP address to be bound.
    pub(super) listen: SocketAddr,
    /// The web listener.
    pub(super) listener: Option<TcpListener>,
}

/// Binds the web listener, and says where the game port is to be.
///
/// One that nobody asked for is no reason not to start: native players do not need it.
pub(super) fn bind(config: &Config) -> Result<Places, NodeError> {
    let listen = config.listen;
    match config.edge.web {
        WebListen::Off => Ok(Places { listen, listener: None }),
        WebListen::At(addr) => match TcpListener::bind(addr) {
            Ok(listener) => Ok(Places { listen, listener: Some(listener) }),
            Err(error) => Err(NodeError::Web { addr, error }),
        },
        WebListen::AsPlayers if listen.port() == 0 => both(listen).or_else(|error| {
            not_bound(listen, &error);
            Ok(Places { listen, listener: None })
        }),
        WebListen::AsPlayers => {
            let listener = TcpListener::bind(listen);
            let listener = listener.map_err(|error| not_bound(listen, &error)).ok();
            Ok(Places { listen, listener })
        }
    }
}

/// A port that is free for TCP and UDP.
fn both(listen: SocketAddr) -> io::Result<Places> {
    let mut tries = 0;
    loop {
        tries += 1;
        let listener = TcpListener::bind(listen)?;
        let addr = listener.local_addr()?;
        match UdpSocket::bind(addr) {
            Ok(_) => return Ok(Places { listen: addr, listener: Some(listener) }),
            Err(error) if tries == TRIES => return Err(error),
            Err(_) => {}
        }
    }
}

fn not_bound(addr: SocketAddr, error: &io::Error) {
    tracing::warn!(
        code = "RK-NODE-231", %addr, %error,
        "no listener for browsers: the TCP port of the game port's number cannot be bound; free \
         it, or set edge.web to another address or to off"
    );
}

/// The listener at work. It ends when this is dropped.
pub(super) struct Listening {
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Listening {
    /// Ends it; what is under way may end for a moment.
    pub(super) async fn close(self) {
        // It may have ended by itself.
        let _ = self.stop.send(());
        let _ = timeout(GOODBYE, self.task).await;
    }
}

/// Answers browsers from now on, if there is a listener, on the threads of the edge.
pub(super) fn begin(
    node: &Arc<Serving>,
    edge: &Handle,
    listener: Option<TcpListener>,
) -> io::Result<Option<Listening>> {
    let Some(listener) = listener else { return Ok(None) };
    let _inside = edge.enter();
    let parts = node.parts();
    let (config, gateway) = (&parts.config, &parts.gateway);
    listener.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let bound = listener.local_addr()?;
    let mut web = web_config(config, gateway, bound);
    if config.edge.certificate.is_some() {
        let certificates = Arc::clone(parts.browsers.certificates());
        web.tls = Some(rekindle_transport::web_tls(certificates).map_err(io::Error::other)?);
    }
    let site = Arc::new(NodeSite(Arc::clone(node)));
    let (stop, stopped) = oneshot::channel::<()>();
    let until_stopped = async move {
        // An error means that the sender is gone: the node has ended.
        let _ = stopped.await;
    };
    tracing::info!(code = "RK-NODE-232", web = %bound, "browsers are answered");
    let serving = rekindle_web::serve(listener, web, site, gateway.side_door(), until_stopped);
    let task = tokio::spawn(async move {
        if let Err(error) = serving.await {
            tracing::error!(code = "RK-NODE-233", %error, "browsers are answered no more");
        }
    });
    Ok(Some(Listening { stop, task }))
}

fn web_config(config: &Config, gateway: &Gateway, bound: SocketAddr) -> WebConfig {
    let players = gateway.local_addr();
    let same = config.edge.web == WebListen::AsPlayers;
    let port = config.public.map_or(players.port(), |public| public.port());
    WebConfig {
        origins: config.edge.origins.clone(),
        guests: config.edge.guests,
        connections: descriptors::web_connections(config),
        port,
        web_port: if same { port } else { bound.port() },
        tls: None,
        advertised: config.public.unwrap_or_else(|| dial::from_here(players)),
    }
}

/// A node, as its web listener asks it.
struct NodeSite(Arc<Serving>);

impl Site for NodeSite {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn games(&self) -> Vec<String> {
        self.0.parts().games.names().map(str::to_owned).collect()
    }

    fn browser_certificates(&self) -> Option<Vec<[u8; 32]>> {
        self.0.parts().browsers.hashes()
    }

    fn guest(&self, wanted: GuestWanted) -> BoxFuture<'_, Result<Guest, GuestRefused>> {
        async move {
            let name = guest_name(&wanted.name).map_err(GuestRefused::Invalid)?;
            self.0.ready().map_err(|why| GuestRefused::Unavailable(why.to_owned()))?;
            let match_id = match &wanted.match_id {
                Some(text) => text
                    .parse()
                    .map_err(|_| GuestRefused::NoMatch(format!("no match is called {text:?}")))?,
                None => fullest(&self.0, wanted.game.as_deref()).await?,
            };
            let player = PlayerId(FIRST_GUEST + clock::random() % FIRST_GUEST);
            let wanted = tickets::Wanted {
                player,
                name: Some(name),
                role: Role::Player,
                match_id: Some(match_id),
                ttl_s: GUEST_TTL_S,
            };
            let ticket = self.0.issue_ticket(&wanted).map_err(unavailable)?;
            Ok(Guest { ticket, match_id: match_id.to_string() })
        }
        .boxed()
    }

    fn sketches(&self, match_id: &str) -> Option<BoxStream<'static, String>> {
        sketches::of(&self.0, match_id.parse().ok()?)
    }
}

fn unavailable(error: ControlError) -> GuestRefused {
    GuestRefused::Unavailable(error.to_string())
}

/// The match with the most players that has a free seat.
async fn fullest(node: &Serving, game: Option<&str>) -> Result<MatchId, GuestRefused> {
    let matches = node.open_matches().await.map_err(unavailable)?;
    let wanted = matches.iter().filter(|found| game.is_none_or(|game| found.game == game));
    let fullest = wanted.max_by_key(|found| found.players).map(|found| found.match_id);
    fullest.ok_or_else(|| GuestRefused::NoMatch("no match has a free seat".to_owned()))
}

/// What a guest is called.
fn guest_name(wanted: &str) -> Result<String, String> {
    let name = wanted.trim();
    let fits =
        (1..=MAX_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if fits { Ok(name.to_owned()) } else { Err(format!("a name has 1 to {MAX_NAME} characters")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_free_for_both() {
        let places = both(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let web = places.listener.unwrap().local_addr().unwrap();
        assert_eq!(places.listen, web);
        UdpSocket::bind(web).unwrap();
    }

    #[test]
    fn names_of_guests_are_short_and_one_line() {
        assert_eq!(guest_name("  Ada \n"), Ok("Ada".to_owned()));
        assert_eq!(guest_name("Zoë 🎲"), Ok("Zoë 🎲".to_owned()));
        for name in ["", "  ", "a\nb", &"x".repeat(MAX_NAME + 1)] {
            assert!(guest_name(name).is_err(), "{name:?}");
        }
    }

    const _: () = assert!(2 * FIRST_GUEST < super::super::bots::FIRST_HOUSE_PLAYER);
}
