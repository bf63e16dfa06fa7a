//! What runs a WebSocket connection: moves messages between the line and the socket.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Sink as _, Stream as _};
use quinn::ConnectionError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;

use super::handle::Shared;
use super::line::Arrived;

/// How long the end of a connection may take: until the client has answered the close frame.
const GOODBYE: Duration = Duration::from_secs(1);
/// Messages that are taken from the socket before others of the thread get their turn.
const IN_A_ROW: usize = 32;
/// How often a client must give a sign of life: this part of the time after which it is gone.
const PROBES: u32 = 4;

/// Runs until the connection has ended and the client knows, or cannot be told.
pub(super) async fn run<S>(mut stream: WebSocketStream<S>, shared: Arc<Shared>, idle: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    converse(&mut stream, &shared, idle).await;
    shared.changed.notify_waiters();
    // What the line still has to say is a close frame.
    let _ = timeout(GOODBYE, say_goodbye(&mut stream, &shared)).await;
}

/// Both directions, until the line has ended.
async fn converse<S>(stream: &mut WebSocketStream<S>, shared: &Shared, idle: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut heard = Instant::now();
    let mut written = Instant::now();
    let mut pace = pin!(sleep(idle / PROBES));
    loop {
        // Begun before the line is looked at: no news is missed.
        let mut news = pin!(shared.work.notified());
        let timed = poll_fn(|cx| {
            let now = Instant::now();
            let (came, stuck) = (receive(stream, shared, cx), !send(stream, shared, cx));
            if came {
                heard = now;
            }
            if !stuck {
                written = now;
            }
            if shared.line.lock().error.is_some() {
                return Poll::Ready(false);
            }
            if news.as_mut().poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            pace.as_mut().poll(cx).map(|()| true)
        });
        let timed = timed.await;
        let mut line = shared.line.lock();
        if line.error.is_some() {
            return;
        }
        if timed {
            let now = Instant::now();
            if now - heard >= idle || now - written >= idle {
                line.lose(ConnectionError::TimedOut);
                return;
            }
            line.probe();
            pace.as_mut().reset(now + idle / PROBES);
        }
    }
}

/// Takes what has come. True if anything has, or might have: nothing is taken while nobody reads
/// what came before.
fn receive<S>(stream: &mut WebSocketStream<S>, shared: &Shared, cx: &mut Context<'_>) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut came = false;
    for _ in 0..IN_A_ROW {
        {
            let line = shared.line.lock();
            if line.error.is_some() || !line.may_read() {
                return true;
            }
        }
        let message = match Pin::new(&mut *stream).poll_next(cx) {
            Poll::Ready(Some(Ok(message))) => message,
            Poll::Ready(failed) => {
                fail(shared, failed.and_then(Result::err));
                return came;
            }
            Poll::Pending => return came,
        };
        came = true;
        let arrived = shared.line.lock().arrive(message, std::time::Instant::now());
        if let Arrived::Datagram(datagram) = arrived {
            shared.deliver(datagram);
        }
        shared.changed.notify_waiters();
    }
    cx.waker().wake_by_ref();
    came
}

/// The socket gives nothing more.
fn fail(shared: &Shared, error: Option<Error>) {
    let mut line = shared.line.lock();
    match error {
        Some(Error::Capacity(_)) => line.malformed("RK-GATE-148: a message is too long"),
        Some(Error::Protocol(_) | Error::Utf8(_)) => {
            line.malformed("RK-GATE-149: what came is no WebSocket frame");
        }
        _ => line.lose(ConnectionError::Reset),
    }
    drop(line);
    shared.changed.notify_waiters();
}

/// Sends what is to be sent, one message at a time: what waits in the line can still be replaced.
/// False if the socket takes no more.
fn send<S>(stream: &mut WebSocketStream<S>, shared: &Shared, cx: &mut Context<'_>) -> bool
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    loop {
        match Pin::new(&mut *stream).poll_flush(cx) {
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(error)) => {
                fail(shared, Some(error));
                return true;
            }
            Poll::Pending => return false,
        }
        let mut line = shared.line.lock();
        if line.error.is_some() {
            return true;
        }
        let message = line.next(std::time::Instant::now());
        drop(line);
        shared.changed.notify_waiters();
        let Some(message) = message else { return true };
        if let Err(error) = Pin::new(&mut *stream).start_send(message) {
            fail(shared, Some(error));
            return true;
        }
    }
}

/// Sends the close frame, if there is one to be sent, and waits for the client's.
async fn say_goodbye<S>(stream: &mut WebSocketStream<S>, shared: &Shared)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let farewell = shared.line.lock().next(std::time::Instant::now());
    poll_fn(|cx| Pin::new(&mut *stream).poll_flush(cx)).await.ok();
    if let Some(message) = farewell
        && Pin::new(&mut *stream).start_send(message).is_err()
    {
        return;
    }
    // The answer to the client's close frame goes out with it.
    if poll_fn(|cx| Pin::new(&mut *stream).poll_flush(cx)).await.is_err() {
        return;
    }
    let mut left = IN_A_ROW * IN_A_ROW;
    while let Some(Ok(_)) = poll_fn(|cx| Pin::new(&mut *stream).poll_next(cx)).await {
        left -= 1;
        if left == 0 {
            return;
        }
    }
}
