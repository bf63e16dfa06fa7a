//! What a user of a WebSocket connection holds, and the futures that wait for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use quinn::{ConnectionError, WriteError};
use tokio::sync::Notify;

use super::line::{Line, MAX_DATAGRAM};
use crate::driver::DatagramSink;

/// The line, shared by its users and its pump.
pub(super) struct Shared {
    pub(super) line: Mutex<Line>,
    /// Takes datagrams as they arrive. Called without the line being locked.
    pub(super) sink: Mutex<Option<DatagramSink>>,
    /// Anything changed that a user may wait for.
    pub(super) changed: Notify,
    /// There is something to send, or room to read.
    pub(super) work: Notify,
    /// Its stream was taken.
    taken: AtomicBool,
}

/// A connection. Clones are the same one; it closes when the last of them is dropped, the halves
/// of its stream included.
#[derive(Clone)]
pub(crate) struct Socket {
    users: Arc<Users>,
    peer: SocketAddr,
}

/// Somebody uses the connection as long as this.
struct Users(Arc<Shared>);

impl Drop for Users {
    fn drop(&mut self) {
        self.0.close(0, &[]);
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Socket").field(&self.peer).finish()
    }
}

impl Shared {
    fn close(&self, code: u32, words: &[u8]) {
        self.line.lock().close(code, Bytes::copy_from_slice(words));
        self.changed.notify_waiters();
        self.work.notify_one();
    }

    /// Hands a datagram over, or keeps it.
    pub(super) fn deliver(&self, datagram: Bytes) {
        let mut sink = self.sink.lock();
        match &mut *sink {
            Some(take) => take(datagram),
            None => self.line.lock().keep(datagram),
        }
    }
}

impl Socket {
    pub(super) fn new(peer: SocketAddr) -> Self {
        let shared = Shared {
            line: Mutex::default(),
            sink: Mutex::new(None),
            changed: Notify::new(),
            work: Notify::new(),
            taken: AtomicBool::new(false),
        };
        Self { users: Arc::new(Users(Arc::new(shared))), peer }
    }

    /// For the pump.
    pub(super) fn line(&self) -> Arc<Shared> {
        Arc::clone(&self.users.0)
    }

    fn shared(&self) -> &Shared {
        &self.users.0
    }

    /// Looks at the line whenever something of it has changed, until `look` finds what it looks
    /// for.
    async fn wait<T>(&self, mut look: impl FnMut(&mut Line) -> Option<T>) -> T {
        loop {
            let notified = {
                let mut line = self.shared().line.lock();
                if let Some(found) = look(&mut line) {
                    return found;
                }
                // Begun while the lock is held: no change is missed.
                self.shared().changed.notified()
            };
            notified.await;
        }
    }

    /// The client's address.
    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.peer
    }

    /// The stream, which is there from the beginning. A second one never comes.
    pub(crate) async fn accept_stream(&self) -> Result<(WriteHalf, ReadHalf), ConnectionError> {
        if self.shared().taken.swap(true, Ordering::Relaxed) {
            return Err(self.closed().await);
        }
        Ok((WriteHalf(self.clone()), ReadHalf(self.clone())))
    }

    /// The next datagram. None is here while they go to a sink.
    pub(crate) async fn read_datagram(&self) -> Result<Bytes, ConnectionError> {
        self.wait(|line| line.next_datagram().map(Ok).or_else(|| line.error.clone().map(Err))).await
    }

    /// Hands datagrams to `sink` as they arrive, until the guard is dropped.
    ///
    /// # Panics
    ///
    /// If it has a sink already.
    pub(crate) fn set_sink(&self, mut sink: DatagramSink) -> SinkGuard {
        let mut place = self.shared().sink.lock();
        assert!(place.is_none(), "a connection has one sink for its datagrams");
        let mut line = self.shared().line.lock();
        let waiting: Vec<_> = std::iter::from_fn(|| line.next_datagram()).collect();
        drop(line);
        waiting.into_iter().for_each(&mut sink);
        *place = Some(sink);
        drop(place);
        SinkGuard(self.line())
    }

    /// Has a datagram sent, in the place of the oldest one that waits. False if it is too long, or
    /// the connection has ended.
    pub(crate) fn send_datagram(&self, datagram: Bytes) -> bool {
        let queued = self.shared().line.lock().send(datagram);
        self.shared().work.notify_one();
        queued
    }

    /// Longest datagram; `None` when the connection has ended.
    pub(crate) fn max_datagram_size(&self) -> Option<usize> {
        self.close_reason().is_none().then_some(MAX_DATAGRAM)
    }

    /// Messages that came from the client.
    pub(crate) fn packets_received(&self) -> u64 {
        self.shared().line.lock().received
    }

    /// The smoothed round trip.
    pub(crate) fn rtt(&self) -> Duration {
        self.shared().line.lock().rtt
    }

    /// Ends it at once.
    pub(crate) fn close(&self, code: u32, words: &[u8]) {
        self.shared().close(code, words);
    }

    /// Why it has ended, if it has.
    pub(crate) fn close_reason(&self) -> Option<ConnectionError> {
        self.shared().line.lock().error.clone()
    }

    /// Resolves when it has ended.
    pub(crate) async fn closed(&self) -> ConnectionError {
        self.wait(|line| line.error.clone()).await
    }
}

/// Datagrams go to a sink as long as this.
pub(crate) struct SinkGuard(Arc<Shared>);

impl Drop for SinkGuard {
    fn drop(&mut self) {
        // Dropped after the lock is given back: the sink may hold the connection.
        let sink = self.0.sink.lock().take();
        drop(sink);
    }
}

/// What the client says on the stream.
#[derive(Debug)]
pub(crate) struct ReadHalf(Socket);

impl ReadHalf {
    /// The next bytes, `most` at once; `None` when the connection has ended.
    pub(crate) async fn read_chunk(&mut self, most: usize) -> Option<Bytes> {
        let bytes = self.0.wait(|line| line.read(most).map_or(Some(None), |bytes| bytes.map(Some)));
        let bytes = bytes.await;
        self.0.shared().work.notify_one();
        bytes
    }
}

/// What this side says on the stream.
#[derive(Debug)]
pub(crate) struct WriteHalf(Socket);

impl WriteHalf {
    /// Writes the beginning of `bytes`, as much as there is room for and at least one byte. Returns
    /// how many.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<usize, WriteError> {
        let written = self.0.wait(|line| match &line.error {
            Some(error) => Some(Err(WriteError::ConnectionLost(error.clone()))),
            None => Some(Ok(line.write(bytes))).filter(|written| *written != Ok(0)),
        });
        let written = written.await;
        self.0.shared().work.notify_one();
        written
    }

    /// Resolves when all that was written is in the hands of the system, or the connection has
    /// ended.
    pub(crate) async fn flushed(&mut self) {
        self.0.wait(|line| (line.error.is_some() || line.is_flushed()).then_some(())).await;
    }
}
