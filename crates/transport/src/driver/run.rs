//! The loop of a port: the socket, the clock and the core.

use std::io::{self, IoSliceMut};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::udp::{BATCH_SIZE, RecvMeta};
use tokio::time::{Instant, Sleep, sleep};

use super::core::{Core, Port};
use crate::socket::{PortSocket, SEND_AGAIN};

/// Longest packet that is read.
const MAX_PACKET: usize = 1500;
/// Batches that are read before others of the thread get their turn.
const BATCHES: usize = 8;

/// The loop, as one future. It ends when the port is lost, or when nobody uses it any more.
pub(super) struct Loop {
    port: Arc<Port>,
    socket: PortSocket,
    /// Where packets are read to: [`BATCH_SIZE`] pieces.
    memory: Box<[u8]>,
    timer: Pin<Box<Sleep>>,
    /// When the timer fires; `None` if it has fired, or was never set.
    armed: Option<Instant>,
}

impl Loop {
    pub(super) fn new(port: Arc<Port>, socket: PortSocket) -> Self {
        let piece = MAX_PACKET * socket.max_receive_segments();
        let memory = vec![0; piece * BATCH_SIZE].into_boxed_slice();
        Self { port, socket, memory, timer: Box::pin(sleep(Duration::ZERO)), armed: None }
    }

    /// Hands one batch of packets to the core. `Pending` if there is none.
    fn receive(&mut self, cx: &mut Context<'_>, core: &mut Core) -> Poll<io::Result<()>> {
        let piece = self.memory.len() / BATCH_SIZE;
        let mut pieces = self.memory.chunks_exact_mut(piece);
        let mut bufs: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(pieces.next().unwrap_or_default()));
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        match self.socket.poll_recv(cx, &mut bufs, &mut metas) {
            Poll::Ready(Ok(count)) => {
                let now = Instant::now().into_std();
                for (meta, bytes) in metas.iter().zip(&bufs).take(count) {
                    core.receive(now, meta, &bytes[..meta.len], &self.port);
                }
                Poll::Ready(Ok(()))
            }
            // What an earlier packet met: it is not about this one.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                Poll::Ready(Ok(()))
            }
            other => other.map_ok(|_| ()),
        }
    }

    /// Does all that is to be done now. False if the socket takes no more packets, and some wait.
    fn work(&self, core: &mut Core) -> bool {
        loop {
            let now = Instant::now().into_std();
            core.expire(now);
            let more = core.drive(now, &self.port);
            if !self.socket.send(&mut core.outbox) {
                return false;
            }
            if !more {
                return true;
            }
        }
    }

    /// Waits for the time of the next timer. False if that has come.
    fn rest(&mut self, cx: &mut Context<'_>, until: Option<Instant>) -> bool {
        let Some(until) = until else { return true };
        if self.armed != Some(until) {
            self.timer.as_mut().reset(until);
            self.armed = Some(until);
        }
        let fired = self.timer.as_mut().poll(cx).is_ready();
        if fired {
            self.armed = None;
        }
        !fired
    }
}

impl Future for Loop {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let port = Arc::clone(&this.port);
        let mut core = port.core.lock();
        for _ in 0..BATCHES {
            let received = match this.receive(cx, &mut core) {
                Poll::Ready(Ok(())) => true,
                Poll::Ready(Err(error)) => {
                    tracing::debug!(%error, "the port is lost");
                    core.give_up(&port);
                    return Poll::Ready(());
                }
                Poll::Pending => false,
            };
            let all_sent = this.work(&mut core);
            if received {
                continue;
            }
            if core.is_done() {
                return Poll::Ready(());
            }
            let mut until = core.next_timeout().map(Instant::from_std);
            if !all_sent {
                let again = Instant::now() + SEND_AGAIN;
                until = Some(until.map_or(again, |until| until.min(again)));
            }
            if this.rest(cx, until) && (port.agenda.rest(cx.waker()) || !all_sent) {
                return Poll::Pending;
            }
        }
        drop(core);
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // Also when the runtime ends: whoever waits for a connection hears of it.
        self.port.core.lock().give_up(&self.port);
    }
}
