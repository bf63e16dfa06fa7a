//! Framed streams: whole messages in, whole messages out. The one reader and the one writer for
//! both sides.
//!
//! Both hold a bounded amount: the reader one message and one chunk, the writer one message. Both
//! are safe in a `select!`: a future that is given up loses and repeats nothing.

use std::marker::PhantomData;

use bytes::{Buf, Bytes};
use quinn::{RecvStream, SendStream};
use rekindle_schema::wire::{ClientMessage, ServerMessage, StreamDecoder, StreamError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::driver::{ReadHalf, WriteHalf};
use crate::websocket;

/// Most bytes that the node takes from a client's stream at once.
const CLIENT_CHUNK: usize = 4 << 10;
/// Most bytes that a client takes from the node's stream at once.
const SERVER_CHUNK: usize = 16 << 10;

/// The stream that a reader reads.
#[derive(Debug)]
pub(crate) enum ReadFrom {
    Quinn(RecvStream),
    Driven(ReadHalf),
    Socket(websocket::ReadHalf),
}

impl ReadFrom {
    /// The next bytes, `most` at once; `None` when the stream, or its connection, has ended.
    async fn read_chunk(&mut self, most: usize) -> Option<Bytes> {
        match self {
            Self::Quinn(recv) => Some(recv.read_chunk(most, true).await.ok()??.bytes),
            Self::Driven(recv) => recv.read_chunk(most).await,
            Self::Socket(recv) => recv.read_chunk(most).await,
        }
    }
}

/// The stream that a writer writes.
#[derive(Debug)]
pub(crate) enum WriteTo {
    Quinn(SendStream),
    Driven(WriteHalf),
    Socket(websocket::WriteHalf),
}

/// Reads whole messages of type `M` from a stream.
#[derive(Debug)]
pub struct MessageReader<M> {
    recv: ReadFrom,
    decoder: StreamDecoder,
    /// Most bytes that are taken from the stream at once.
    chunk: usize,
    message: PhantomData<fn() -> M>,
}

impl MessageReader<ClientMessage> {
    /// For the node: what a client sends. `limit`: longest message, in bytes.
    pub(crate) fn of_client(recv: ReadFrom, limit: usize) -> Self {
        let decoder = StreamDecoder::of_client(limit);
        Self { recv, decoder, chunk: CLIENT_CHUNK, message: PhantomData }
    }
}

impl MessageReader<ServerMessage> {
    /// For a client: what the node sends.
    pub(crate) fn of_server(recv: ReadFrom) -> Self {
        let decoder = StreamDecoder::of_server();
        Self { recv, decoder, chunk: SERVER_CHUNK, message: PhantomData }
    }
}

impl<M: DeserializeOwned + Serialize> MessageReader<M> {
    /// The next message; `None` when the stream, or its connection, has ended. After an error
    /// nothing more can be read. Giving up the future loses nothing.
    pub async fn next(&mut self) -> Result<Option<M>, StreamError> {
        loop {
            if let Some(message) = self.decoder.next_message()? {
                return Ok(Some(message));
            }
            match self.recv.read_chunk(self.chunk).await {
                Some(bytes) => self.decoder.push(&bytes),
                None => return Ok(None),
            }
        }
    }

    /// Sets another limit, in bytes, for the messages that follow.
    pub fn set_limit(&mut self, limit: usize) {
        self.decoder.set_limit(limit);
    }
}

/// The stream takes no more: the peer has stopped it, or the connection has ended.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct WriteError(#[from] quinn::WriteError);

/// Writes whole messages to a stream.
#[derive(Debug)]
pub struct MessageWriter {
    send: WriteTo,
    /// What is left of the message that is being written.
    rest: Bytes,
}

impl MessageWriter {
    pub(crate) fn new(send: WriteTo) -> Self {
        Self { send, rest: Bytes::new() }
    }

    /// Whether nothing waits to be written.
    pub fn is_idle(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes an encoded message, which [`MessageWriter::flush`] writes.
    ///
    /// # Panics
    ///
    /// If an earlier message is not written to its end: the peer would read the new one as a part
    /// of it.
    pub fn queue(&mut self, message: Bytes) {
        assert!(self.is_idle(), "a message is queued behind one that is half written");
        self.rest = message;
    }

    /// Writes what waits. A flush that was given up goes on where it stopped.
    pub async fn flush(&mut self) -> Result<(), WriteError> {
        while !self.rest.is_empty() {
            let written = match &mut self.send {
                WriteTo::Quinn(send) => send.write(&self.rest).await?,
                WriteTo::Driven(send) => send.write(&self.rest).await?,
                WriteTo::Socket(send) => send.write(&self.rest).await?,
            };
            self.rest.advance(written);
        }
        Ok(())
    }

    /// Writes what waits and then `message`. Given up before its end, the message may be lost or
    /// wait for the next [`MessageWriter::flush`].
    pub async fn write(&mut self, message: Bytes) -> Result<(), WriteError> {
        self.flush().await?;
        self.queue(message);
        self.flush().await
    }

    /// Says that nothing more comes, and waits until the peer has read all or stops to read.
    pub async fn finish(&mut self) {
        match &mut self.send {
            WriteTo::Quinn(send) => {
                // It fails only if the stream has ended already.
                let _ = send.finish();
                let _ = send.stopped().await;
            }
            WriteTo::Driven(send) => {
                send.finish();
                send.stopped().await;
            }
            // It has no end of its own: the close frame follows.
            WriteTo::Socket(send) => send.flushed().await,
        }
    }
}
