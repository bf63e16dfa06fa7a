//! A link's byte stream with a hand on it: when the peer was last heard, who ended it, and a way to
//! end it at once. The library that reads from it has none of these.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use futures::FutureExt as _;
use ractor_cluster::{BoxRead, BoxWrite, ClusterBidiStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// What carries a link: TCP, or TLS on it.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Wire for T {}

/// What is known of a link's stream, shared with the table of links.
#[derive(Debug)]
pub struct Pulse {
    began: Instant,
    heard_ms: AtomicU64,
    over: AtomicBool,
    changed: Arc<Notify>,
}

impl Pulse {
    /// Of a link on which the peer has just spoken. Times are milliseconds since `began`; `changed`
    /// is notified when the stream ends.
    pub fn new(began: Instant, changed: Arc<Notify>) -> Arc<Self> {
        let heard_ms = AtomicU64::new(began.elapsed().as_millis() as u64);
        Arc::new(Self { began, heard_ms, over: AtomicBool::new(false), changed })
    }

    /// When the last byte came from the peer.
    pub fn heard_ms(&self) -> u64 {
        self.heard_ms.load(Ordering::Relaxed)
    }

    /// Whether the stream has ended.
    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::Acquire)
    }

    fn end(&self) {
        if !self.over.swap(true, Ordering::AcqRel) {
            self.changed.notify_one();
        }
    }
}

/// The stream as the library gets it.
pub struct Tapped {
    wire: Box<dyn Wire>,
    pulse: Arc<Pulse>,
    closed: oneshot::Receiver<()>,
    label: String,
}

impl Tapped {
    /// Around a stream on which both sides have greeted each other. It ends when the sender of
    /// `closed` is dropped or used; `label` is how the library's reports name it.
    pub fn new(
        wire: Box<dyn Wire>,
        pulse: Arc<Pulse>,
        closed: oneshot::Receiver<()>,
        label: String,
    ) -> Self {
        Self { wire, pulse, closed, label }
    }
}

impl ClusterBidiStream for Tapped {
    fn split(self: Box<Self>) -> (BoxRead, BoxWrite) {
        let Self { wire, pulse, closed, .. } = *self;
        let (reader, writer) = tokio::io::split(wire);
        (Box::new(Reader { inner: reader, pulse, closed }), Box::new(writer))
    }

    fn peer_label(&self) -> Option<String> {
        Some(self.label.clone())
    }
}

struct Reader<R> {
    inner: R,
    pulse: Arc<Pulse>,
    closed: oneshot::Receiver<()>,
}

impl<R: AsyncRead + Unpin> AsyncRead for Reader<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.pulse.is_over() || this.closed.poll_unpin(context).is_ready() {
            this.pulse.end();
            // An end of file: the library stops the session.
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut this.inner).poll_read(context, buffer));
        if read.is_ok() && buffer.filled().len() > before {
            let now = this.pulse.began.elapsed().as_millis() as u64;
            this.pulse.heard_ms.store(now, Ordering::Relaxed);
        } else {
            this.pulse.end();
        }
        Poll::Ready(read)
    }
}

impl<R> Drop for Reader<R> {
    fn drop(&mut self) {
        self.pulse.end();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn tapped() -> (BoxRead, tokio::io::DuplexStream, Arc<Pulse>, oneshot::Sender<()>) {
        let (ours, theirs) = tokio::io::duplex(64);
        let (closer, closed) = oneshot::channel();
        let pulse = Pulse::new(Instant::now(), Arc::default());
        let tapped = Tapped::new(Box::new(ours), Arc::clone(&pulse), closed, "x".to_owned());
        (Box::new(tapped).split().0, theirs, pulse, closer)
    }

    #[tokio::test(start_paused = true)]
    async fn it_tells_when_the_peer_spoke_and_that_it_ended() {
        let (mut reader, mut theirs, pulse, _closer) = tapped();
        tokio::time::advance(std::time::Duration::from_millis(70)).await;
        assert_eq!(pulse.heard_ms(), 0);
        theirs.write_all(b"abc").await.unwrap();
        reader.read_exact(&mut [0; 3]).await.unwrap();
        assert_eq!((pulse.heard_ms(), pulse.is_over()), (70, false));
        drop(theirs);
        assert_eq!(reader.read(&mut [0; 3]).await.unwrap(), 0);
        assert!(pulse.is_over());
    }

    #[tokio::test]
    async fn it_is_closed_while_somebody_waits_for_bytes() {
        let (mut reader, _theirs, pulse, closer) = tapped();
        let waiting = tokio::spawn(async move { reader.read(&mut [0; 3]).await });
        drop(closer);
        assert_eq!(waiting.await.unwrap().unwrap(), 0);
        assert!(pulse.is_over());
    }
}
