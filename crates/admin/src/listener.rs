//! The admin listener's connections: how many, and for how long each may take. Called by
//! [`crate::server`].
//!
//! Every connection costs a descriptor, and players and the store need some too. So there is a
//! bound, whoever sends a request or reads its answer slowly is let go, and a system that has no
//! descriptor left is asked again after a pause.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep, timeout};

use crate::api::Problem;

/// From the moment that a connection waits for a request to the end of its head. A connection
/// without one is closed.
const HEAD: Duration = Duration::from_secs(5);
/// From the end of the head to the end of the body.
const BODY: Duration = Duration::from_secs(5);
/// How long a client may read nothing while an answer waits for it.
const ANSWER: Duration = Duration::from_secs(10);
/// The longest body of a request, in bytes.
const MAX_BODY: usize = 1 << 20;
/// After the system has refused a connection it is asked again after so long, doubled up to the
/// second.
const ACCEPT_AGAIN: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Serves at most `most` connections at a time until `stop` resolves, then answers what is under
/// way. More of them wait in the system's queue.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    most: usize,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let router = router.layer(from_fn(whole_body));
    let places = Arc::new(Semaphore::new(most.max(1)));
    let (stopping, stopped) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut refused = 0;
    tokio::pin!(stop);
    loop {
        let next = async {
            // Nobody closes the semaphore.
            let place = Arc::clone(&places).acquire_owned().await;
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = &mut stop => break,
            next = next => next,
        };
        while connections.try_join_next().is_some() {}
        match accepted {
            Ok((stream, peer)) => {
                refused = 0;
                let (router, stopped) = (router.clone(), stopped.clone());
                connections.spawn(async move {
                    answer(stream, peer, router, stopped).await;
                    drop(place);
                });
            }
            Err(error) if is_of_the_client(&error) => {}
            Err(error) => {
                if refused == 0 {
                    tracing::warn!(code = "RK-ADMIN-120", %error, "the system gives no connection \
                        to the admin listener; trying again");
                }
                let (first, longest) = ACCEPT_AGAIN;
                let pause = (first * (1 << u32::min(refused, 8))).min(longest);
                refused += 1;
                tokio::select! {
                    biased;
                    () = &mut stop => break,
                    () = sleep(pause) => {}
                }
            }
        }
    }
    drop(listener);
    stopping.send_replace(true);
    while connections.join_next().await.is_some() {}
    Ok(())
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

async fn answer(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let service = TowerToHyperService::new(router.layer(Extension(ConnectInfo(peer))));
    let stream = TokioIo::new(Impatient { stream, stuck: None });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(stream, service);
    tokio::pin!(serving);
    tokio::select! {
        biased;
        served = &mut serving => return told(peer, served),
        // The sender outlives all connections.
        _ = stopped.wait_for(|stopped| *stopped) => serving.as_mut().graceful_shutdown(),
    }
    told(peer, serving.await);
}

fn told(peer: SocketAddr, served: hyper::Result<()>) {
    if let Err(error) = served {
        tracing::debug!(code = "RK-ADMIN-121", %peer, %error, "an admin connection was let go");
    }
}

/// Hands a request on once its body has come, in time and within its bound.
async fn whole_body(request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    match timeout(BODY, to_bytes(body, MAX_BODY)).await {
        Ok(Ok(bytes)) => next.run(Request::from_parts(head, Body::from(bytes))).await,
        Ok(Err(error)) => refuse(
            StatusCode::BAD_REQUEST,
            &format!("the body cannot be read, or has more than {MAX_BODY} bytes: {error}"),
        ),
        Err(_) => refuse(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
    }
}

fn refuse(status: StatusCode, message: &str) -> Response {
    let problem = Problem { code: "RK-ADMIN-122".to_owned(), message: message.to_owned() };
    (status, [("connection", "close")], Json(problem)).into_response()
}

/// A stream whose reader may stand still for a while and no longer.
struct Impatient {
    stream: TcpStream,
    /// Runs while the client reads nothing; when it ends the connection is given up.
    stuck: Option<Pin<Box<Sleep>>>,
}

impl Impatient {
    /// Looks at the clock while nothing can be written.
    fn judge<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stuck = None;
            return written;
        }
        match self.stuck.get_or_insert_with(|| Box::pin(sleep(ANSWER))).as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Impatient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(written, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.judge(written, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.judge(flushed, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
