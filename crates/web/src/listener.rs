//! The TCP connections of the web listener: how many, from whom, and for how long each may take.
//!
//! A connection that speaks HTTP is let go after a while, whatever it does; browsers make another.
//! One that has become a WebSocket is bounded by the edge.

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::{Extension, Router};
use futures::future::BoxFuture;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics::{counter, gauge};
use parking_lot::Mutex;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::{Web, routes};

/// From the moment that a connection waits for a request to the end of its head.
const HEAD: Duration = Duration::from_secs(5);
/// For so long a connection speaks HTTP; then it answers what is under way, for as long again.
const LIFE: Duration = Duration::from_secs(30);
/// Longest head of a request, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// What the system may hold of what a client has not read: snapshots that wait there are old.
const SEND_BUFFER: usize = 16 << 10;
/// Of the connections, this part may come from one address.
const SHARE: usize = 4;
/// After the system has refused a connection it is asked again after so long.
const ACCEPT_AGAIN: Duration = Duration::from_millis(200);
/// How long the end may take.
const GOODBYE: Duration = Duration::from_secs(2);

/// Who a request comes from.
#[derive(Clone)]
pub(crate) struct Peer {
    /// Its address.
    pub(crate) addr: SocketAddr,
    /// It came under TLS.
    pub(crate) tls: bool,
    /// Runs what outlives the request.
    pub(crate) tasks: Tasks,
}

/// Takes futures to run beside the listener, which ends them at its end.
#[derive(Clone)]
pub(crate) struct Tasks {
    begin: mpsc::Sender<(BoxFuture<'static, ()>, Arc<Place>)>,
    /// Of the TCP connection that they belong to.
    place: Arc<Place>,
}

impl Tasks {
    /// Runs a future. At most one for each connection: a connection is upgraded once.
    pub(crate) fn spawn(self, task: impl Future<Output = ()> + Send + 'static) {
        // There is room for one of each connection: an error means that the listener has ended.
        let _ = self.begin.try_send((Box::pin(task), self.place));
    }
}

/// How many connections are open, and from where.
struct Places {
    most: usize,
    open: Mutex<(usize, BTreeMap<IpAddr, usize>)>,
}

/// A connection has a place as long as this.
pub(crate) struct Place {
    places: Arc<Places>,
    source: IpAddr,
}

impl Places {
    /// A place for one more connection from `source`, or which bound is reached.
    fn take(self: &Arc<Self>, source: IpAddr) -> Result<Place, &'static str> {
        let mut open = self.open.lock();
        let (all, by_source) = &mut *open;
        if *all >= self.most {
            return Err("all");
        }
        let from_there = by_source.get(&source).copied().unwrap_or(0);
        if from_there >= (self.most / SHARE).max(1) {
            return Err("source");
        }
        *all += 1;
        by_source.insert(source, from_there + 1);
        gauge!("rekindle_web_connections").set(*all as f64);
        Ok(Place { places: Arc::clone(self), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.places.open.lock();
        let (all, by_source) = &mut *open;
        *all -= 1;
        if let Some(count) = by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                by_source.remove(&self.source);
            }
        }
        gauge!("rekindle_web_connections").set(*all as f64);
    }
}

/// Serves at most `most` connections at a time until `stop` resolves.
pub(crate) async fn serve(
    listener: TcpListener,
    web: Arc<Web>,
    most: usize,
    stop: impl Future<Output = ()> + Send,
) {
    let tls = web.config.tls.clone().map(TlsAcceptor::from);
    let router = routes::router(web);
    let places = Arc::new(Places { most, open: Mutex::default() });
    let (begin, mut begun) = mpsc::channel(most.max(1));
    let mut running = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            Some((task, place)) = begun.recv() => {
                running.spawn(async move {
                    task.await;
                    drop(place);
                });
            }
            Some(_) = running.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, addr)) => match places.take(source(addr)) {
                    Ok(place) => {
                        let tasks = Tasks { begin: begin.clone(), place: Arc::new(place) };
                        let peer = Peer { addr, tls: tls.is_some(), tasks };
                        running.spawn(begin_answers(stream, tls.clone(), peer, router.clone()));
                    }
                    Err(reason) => {
                        counter!("rekindle_web_refused_total", "reason" => reason)
                            .increment(1);
                    }
                },
                Err(error) if is_of_the_client(&error) => {}
                Err(error) => {
                    tracing::debug!(code = "RK-GATE-156", %error, "the system gives no connection \
                        to the web listener; trying again");
                    sleep(ACCEPT_AGAIN).await;
                }
            },
        }
    }
    drop(listener);
    let last = async {
        loop {
            tokio::select! {
                Some((task, place)) = begun.recv() => {
                    running.spawn(async move {
                        task.await;
                        drop(place);
                    });
                }
                ended = running.join_next() => if ended.is_none() { break },
            }
        }
    };
    let _ = timeout(GOODBYE, last).await;
    running.shutdown().await;
}

/// Whoever has one IPv6 address has its whole /64.
fn source(addr: SocketAddr) -> IpAddr {
    rekindle_gateway::subscriber(addr.ip())
}

/// The client was gone before it was let in.
fn is_of_the_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}

/// Shakes hands if the listener speaks TLS, then answers.
async fn begin_answers(stream: TcpStream, tls: Option<TlsAcceptor>, peer: Peer, router: Router) {
    // A system that does not want to is no reason to serve nobody.
    let _ = stream.set_nodelay(true);
    let _ = set_socket_send_buffer_size(&stream, SEND_BUFFER);
    let Some(tls) = tls else { return answer(stream, peer, router).await };
    if let Ok(Ok(stream)) = timeout(HEAD, tls.accept(stream)).await {
        answer(stream, peer, router).await;
    }
}

/// Answers the requests of a connection, until it is closed, or is a WebSocket.
async fn answer<S>(stream: S, peer: Peer, router: Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let addr = peer.addr;
    let service = TowerToHyperService::new(router.layer(Extension(peer)));
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(serving);
    let mut served = timeout(LIFE, &mut serving).await;
    if served.is_err() {
        serving.as_mut().graceful_shutdown();
        served = timeout(LIFE, serving).await;
    }
    if let Ok(Err(error)) = served {
        tracing::debug!(code = "RK-GATE-156", peer = %addr, %error, "a web connection was let go");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_does_not_take_all_places_and_what_is_dropped_is_free_again() {
        let places = Arc::new(Places { most: 8, open: Mutex::default() });
        let from = |last| IpAddr::from([10, 0, 0, last]);
        let mut taken: Vec<_> = (0..2).map(|_| places.take(from(1)).ok().unwrap()).collect();
        assert_eq!(places.take(from(1)).err(), Some("source"));
        taken.extend((2..8).map(|last| places.take(from(last)).ok().unwrap()));
        assert_eq!(places.take(from(9)).err(), Some("all"));
        taken.remove(0);
        assert!(places.take(from(1)).is_ok());
        drop(taken);
        let open = places.open.lock();
        assert!(open.0 == 0 && open.1.is_empty());
    }
}
