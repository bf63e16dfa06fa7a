//! What a user of a connection holds, and the futures that wait for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;

use bytes::Bytes;
use quinn::WriteError;
use quinn_proto::{ConnectionError, Dir, StreamId, VarInt};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::conn::{Conn, DatagramSink, State};
use crate::connection::PathState;

/// A connection. Clones are the same one; it closes when the last of them is dropped, the halves of
/// its streams included.
pub(crate) struct Driven(pub(super) Arc<Conn>);

impl std::fmt::Debug for Driven {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Driven").field(&self.0.handle.0).finish()
    }
}

impl Clone for Driven {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.0))
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        if self.0.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.close(VarInt::from_u32(0), &[]);
        }
    }
}

impl Driven {
    pub(super) fn new(conn: Arc<Conn>) -> Self {
        conn.users.fetch_add(1, Ordering::Relaxed);
        Self(conn)
    }

    /// The loop must look at it.
    pub(super) fn touch(&self) {
        self.0.touch(&mut self.0.lock());
    }

    /// Looks at the connection whenever something of it has changed, until `look` finds what it
    /// looks for.
    async fn wait<T>(&self, news: &Notify, mut look: impl FnMut(&mut State) -> Option<T>) -> T {
        loop {
            let notified = {
                let mut state = self.0.lock();
                if let Some(found) = look(&mut state) {
                    return found;
                }
                // Begun while the lock is held: no change is missed.
                news.notified()
            };
            notified.await;
        }
    }

    /// Resolves when its handshake is complete; a browser's when its session is open, to the stream
    /// that asked for it.
    pub(crate) async fn connected(&self) -> Result<Option<StreamId>, ConnectionError> {
        self.wait(&self.0.changed, |state| match (&state.error, &state.web) {
            (Some(error), _) => Some(Err(error.clone())),
            (None, Some(web)) => web.open().map(|request| Ok(Some(request))),
            (None, None) => state.connected.then_some(Ok(None)),
        })
        .await
    }

    /// The stream that asked for a browser's session, once that is open.
    #[cfg(test)]
    pub(super) fn session(&self) -> Option<StreamId> {
        self.0.lock().web.as_ref().and_then(|web| web.open())
    }

    /// Resolves when it has ended.
    pub(crate) async fn closed(&self) -> ConnectionError {
        self.wait(&self.0.changed, |state| state.error.clone()).await
    }

    /// Why it has ended, if it has.
    pub(crate) fn close_reason(&self) -> Option<ConnectionError> {
        self.0.lock().error.clone()
    }

    /// Ends it at once.
    pub(crate) fn close(&self, code: VarInt, words: &[u8]) {
        self.0.close(Instant::now().into_std(), code, Bytes::copy_from_slice(words));
    }

    /// The next stream that the peer opens.
    pub(crate) async fn accept_stream(&self) -> Result<(WriteHalf, ReadHalf), ConnectionError> {
        let id = self
            .wait(&self.0.changed, |state| {
                let id = match &mut state.web {
                    Some(web) => web.take_stream(),
                    None => state.quic.streams().accept(Dir::Bi),
                };
                if id.is_some() {
                    // The peer may open another one.
                    self.0.touch(state);
                }
                id.map(Ok).or_else(|| state.error.clone().map(Err))
            })
            .await?;
        let write = WriteHalf { conn: self.clone(), id };
        Ok((write, ReadHalf { conn: self.clone(), id }))
    }

    /// The next datagram. None is here for a connection whose datagrams go to a sink.
    pub(crate) async fn read_datagram(&self) -> Result<Bytes, ConnectionError> {
        self.wait(&self.0.datagram, |state| {
            state.quic.datagrams().recv().map(Ok).or_else(|| state.error.clone().map(Err))
        })
        .await
    }

    /// Hands datagrams to `sink` as they arrive, those that wait at once, until the guard is
    /// dropped.
    ///
    /// # Panics
    ///
    /// If it has a sink already.
    pub(crate) fn set_sink(&self, mut sink: DatagramSink) -> SinkGuard {
        let mut waiting = Vec::new();
        let mut state = self.0.lock();
        let mut place = self.0.sink.lock();
        assert!(place.is_none(), "a connection has one sink for its datagrams");
        while let Some(datagram) = state.quic.datagrams().recv() {
            waiting.push(datagram);
        }
        drop(state);
        waiting.into_iter().for_each(&mut sink);
        *place = Some(sink);
        drop(place);
        SinkGuard(Arc::clone(&self.0))
    }

    /// Queues a datagram. False if it is too long, or the connection has ended.
    pub(crate) fn send_datagram(&self, datagram: Bytes) -> bool {
        let mut state = self.0.lock();
        if state.error.is_some() || state.quic.datagrams().send(datagram, true).is_err() {
            return false;
        }
        self.0.touch(&mut state);
        true
    }

    /// Longest datagram that the path takes now.
    pub(crate) fn max_datagram_size(&self) -> Option<usize> {
        self.0.lock().quic.datagrams().max_size()
    }

    /// Free bytes in the queue of datagrams.
    pub(crate) fn datagram_send_buffer_space(&self) -> usize {
        self.0.lock().quic.datagrams().send_buffer_space()
    }

    pub(crate) fn remote_address(&self) -> SocketAddr {
        self.0.lock().quic.remote_address()
    }

    /// How the path to the peer does.
    pub(crate) fn path(&self) -> PathState {
        let path = self.0.lock().quic.stats().path;
        PathState { rtt: path.rtt, sent: path.sent_packets, lost: path.lost_packets }
    }

    /// UDP datagrams that came from the peer.
    pub(crate) fn packets_received(&self) -> u64 {
        self.0.lock().quic.stats().udp_rx.datagrams
    }

    /// What the handshake settled.
    pub(crate) fn handshake_data(&self) -> Option<Box<dyn std::any::Any>> {
        self.0.lock().quic.crypto_session().handshake_data()
    }
}

/// The datagrams of a connection go to its sink as long as this.
pub(crate) struct SinkGuard(Arc<Conn>);

impl Drop for SinkGuard {
    fn drop(&mut self) {
        // Dropped after the lock is given back: the sink may hold the connection.
        let sink = self.0.sink.lock().take();
        drop(sink);
    }
}

/// What the peer says on a stream.
#[derive(Debug)]
pub(crate) struct ReadHalf {
    conn: Driven,
    id: StreamId,
}

impl ReadHalf {
    /// The next bytes, `most` at once; `None` when the stream, or its connection, has ended.
    pub(crate) async fn read_chunk(&mut self, most: usize) -> Option<Bytes> {
        let conn = &self.conn.0;
        let read = |state: &mut State| match self.look(state, most) {
            Poll::Ready(found) => Some(found),
            Poll::Pending => None,
        };
        self.conn.wait(&conn.changed, read).await
    }

    /// What is there; `Ready(None)` at the end.
    fn look(&self, state: &mut State, most: usize) -> Poll<Option<Bytes>> {
        let mut stream = state.quic.recv_stream(self.id);
        let Ok(mut chunks) = stream.read(true) else { return Poll::Ready(None) };
        let next = chunks.next(most);
        let must_tell = chunks.finalize().should_transmit();
        let found = match next {
            Ok(chunk) => Poll::Ready(chunk.map(|chunk| chunk.bytes)),
            Err(quinn_proto::ReadError::Blocked) if state.error.is_none() => Poll::Pending,
            Err(_) => Poll::Ready(None),
        };
        if must_tell {
            self.conn.0.touch(state);
        }
        found
    }
}

impl Drop for ReadHalf {
    fn drop(&mut self) {
        let mut state = self.conn.0.lock();
        // It fails if the stream has ended.
        if state.error.is_none()
            && state.quic.recv_stream(self.id).stop(VarInt::from_u32(0)).is_ok()
        {
            self.conn.0.touch(&mut state);
        }
    }
}

/// What this side says on a stream.
#[derive(Debug)]
pub(crate) struct WriteHalf {
    conn: Driven,
    id: StreamId,
}

impl WriteHalf {
    /// Writes the beginning of `bytes`, as much as may be sent now and at least one byte. Returns
    /// how many.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> Result<usize, WriteError> {
        let conn = &self.conn.0;
        self.conn
            .wait(&conn.changed, |state| {
                if let Some(error) = &state.error {
                    return Some(Err(WriteError::ConnectionLost(error.clone())));
                }
                match state.quic.send_stream(self.id).write(bytes) {
                    Ok(written) => {
                        conn.touch(state);
                        Some(Ok(written))
                    }
                    Err(quinn_proto::WriteError::Blocked) => None,
                    Err(quinn_proto::WriteError::Stopped(code)) => {
                        Some(Err(WriteError::Stopped(code)))
                    }
                    Err(quinn_proto::WriteError::ClosedStream) => {
                        Some(Err(WriteError::ClosedStream))
                    }
                }
            })
            .await
    }

    /// Says that nothing more comes. Nothing happens if the stream has ended.
    pub(crate) fn finish(&mut self) {
        let mut state = self.conn.0.lock();
        if state.error.is_none() && state.quic.send_stream(self.id).finish().is_ok() {
            self.conn.0.touch(&mut state);
        }
    }

    /// Resolves when the peer has received all, or reads no more.
    pub(crate) async fn stopped(&mut self) {
        self.conn
            .wait(&self.conn.0.changed, |state| {
                let waits = matches!(state.quic.send_stream(self.id).stopped(), Ok(None));
                (!waits || state.error.is_some()).then_some(())
            })
            .await;
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        self.finish();
    }
}
