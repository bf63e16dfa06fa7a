//! What waits in both directions of a WebSocket, and how it ends. Pure: no socket, no clock.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use quinn::{ConnectionError, VarInt};
use quinn_proto::ApplicationClose;
use rekindle_schema::wire::RefuseCode;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::{CLOSE_BASE, DATAGRAM, MAX_MESSAGE, STREAM};

/// Bytes of the client's stream that may wait to be read before the socket is read no further.
const MAX_INBOX: usize = 32 << 10;
/// Datagrams of the client that wait while nobody takes them; the oldest goes.
const MAX_ARRIVED: usize = 64;
/// Bytes of the stream to the client that may wait.
const MAX_OUTBOX: usize = 64 << 10;
/// Most bytes of the stream in one message.
const MAX_PIECE: usize = 16 << 10;
/// Datagrams to the client that may wait; the oldest goes.
const MAX_WAITING: usize = 2;
/// Longest datagram in either direction, in bytes: what a QUIC packet always has room for.
pub(super) const MAX_DATAGRAM: usize = 1200;
/// A ping follows so many datagrams.
const PING_EVERY: u64 = 8;
/// Datagrams that are sent before the answer to the ping behind the first of them. At 30 Hz they
/// are a second's.
const MAX_UNREAD: u64 = 32;
const _: () = assert!(PING_EVERY < MAX_UNREAD, "an answer comes before all must wait");
/// Most bytes of words in a close frame.
const MAX_WORDS: usize = 123;

/// What the node has to do about a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// Nothing more.
    Done,
    /// A datagram came.
    Datagram(Bytes),
}

/// Both directions.
#[derive(Debug, Default)]
pub(super) struct Line {
    /// Pieces of the client's stream that nobody has read yet.
    inbox: VecDeque<Bytes>,
    inbox_bytes: usize,
    /// Datagrams of the client that nobody takes yet.
    arrived: VecDeque<Bytes>,
    /// What is to be said on the stream.
    outbox: BytesMut,
    /// A part of the outbox is on its way.
    writing: bool,
    /// Datagrams that are to be sent.
    waiting: VecDeque<Bytes>,
    /// The last message was a piece of the stream: a datagram comes next.
    turn: bool,
    /// Datagrams that were sent, and how many of them an answer to a ping has covered.
    sent: u64,
    covered: u64,
    /// How many had been sent before the last ping.
    pinged: u64,
    /// A ping is to be sent, whatever has been.
    ping: bool,
    /// The ping that is not answered yet: how many datagrams were sent before it, and when it was.
    asked: Option<(u64, Instant)>,
    /// The close frame that is to be sent.
    farewell: Option<(u32, Bytes)>,
    /// Why the connection has ended.
    pub(super) error: Option<ConnectionError>,
    /// The smoothed round trip.
    pub(super) rtt: Duration,
    /// Messages that came.
    pub(super) received: u64,
}

impl Line {
    /// Whether another message may be taken from the socket.
    pub(super) fn may_read(&self) -> bool {
        self.inbox_bytes < MAX_INBOX
    }

    /// A message came at `now`.
    pub(super) fn arrive(&mut self, message: Message, now: Instant) -> Arrived {
        self.received += 1;
        match message {
            Message::Binary(bytes) => return self.take(bytes),
            Message::Pong(payload) => self.answered(&payload, now),
            Message::Text(_) => self.malformed("RK-GATE-145: messages of text mean nothing here"),
            Message::Close(frame) => self.lose(closed_by(frame)),
            Message::Ping(_) | Message::Frame(_) => {}
        }
        Arrived::Done
    }

    fn take(&mut self, mut bytes: Bytes) -> Arrived {
        if bytes.is_empty() {
            self.malformed("RK-GATE-146: a message has no first byte that says what it is");
            return Arrived::Done;
        }
        let kind = bytes.split_to(1);
        match kind[0] {
            STREAM if bytes.is_empty() => {}
            STREAM => {
                self.inbox_bytes += bytes.len();
                self.inbox.push_back(bytes);
            }
            DATAGRAM if bytes.len() <= MAX_DATAGRAM => return Arrived::Datagram(bytes),
            DATAGRAM => self.malformed("RK-GATE-147: a datagram is too long"),
            _ => self.malformed("RK-GATE-146: the first byte of a message is neither 0 nor 1"),
        }
        Arrived::Done
    }

    /// Keeps a datagram until somebody takes it.
    pub(super) fn keep(&mut self, datagram: Bytes) {
        if self.arrived.len() >= MAX_ARRIVED {
            self.arrived.pop_front();
        }
        self.arrived.push_back(datagram);
    }

    /// The oldest datagram that waits to be taken.
    pub(super) fn next_datagram(&mut self) -> Option<Bytes> {
        self.arrived.pop_front()
    }

    fn answered(&mut self, payload: &[u8], now: Instant) {
        let Ok(number) = payload.try_into().map(u64::from_le_bytes) else { return };
        if number <= self.sent {
            self.covered = self.covered.max(number);
        }
        // A client may answer the newest of several pings alone.
        if let Some((_, at)) = self.asked.take_if(|(asked, _)| *asked <= number) {
            let sample = now.saturating_duration_since(at);
            self.rtt = if self.rtt.is_zero() { sample } else { (self.rtt * 7 + sample) / 8 };
        }
    }

    /// Takes up to `most` bytes of the client's stream. `Ok(None)`: none are there yet; an error
    /// if none come any more.
    pub(super) fn read(&mut self, most: usize) -> Result<Option<Bytes>, ()> {
        let Some(first) = self.inbox.front_mut() else {
            return if self.error.is_some() { Err(()) } else { Ok(None) };
        };
        let piece = first.split_to(most.min(first.len()));
        if first.is_empty() {
            self.inbox.pop_front();
        }
        self.inbox_bytes -= piece.len();
        Ok(Some(piece))
    }

    /// Takes the beginning of `bytes` for the stream, as much as there is room for: 0 if there is
    /// none now.
    pub(super) fn write(&mut self, bytes: &[u8]) -> usize {
        let taken = bytes.len().min(MAX_OUTBOX.saturating_sub(self.outbox.len()));
        self.outbox.extend_from_slice(&bytes[..taken]);
        taken
    }

    /// Whether all that was written to the stream has left.
    pub(super) fn is_flushed(&self) -> bool {
        self.outbox.is_empty() && !self.writing
    }

    /// A datagram is to be sent. The oldest one that waits goes if there are too many.
    pub(super) fn send(&mut self, datagram: Bytes) -> bool {
        if self.error.is_some() || datagram.len() > MAX_DATAGRAM {
            return false;
        }
        if self.waiting.len() >= MAX_WAITING {
            self.waiting.pop_front();
        }
        self.waiting.push_back(datagram);
        true
    }

    /// A sign of life is wanted.
    pub(super) fn probe(&mut self) {
        self.ping = true;
    }

    /// The next message for the socket. To be called when the one before it has left.
    pub(super) fn next(&mut self, now: Instant) -> Option<Message> {
        self.writing = false;
        if self.error.is_some() {
            let (code, words) = self.farewell.take()?;
            return Some(Message::Close(Some(close_frame(code, &words))));
        }
        if std::mem::take(&mut self.ping) || self.sent - self.pinged >= PING_EVERY {
            self.pinged = self.sent;
            self.asked.get_or_insert((self.sent, now));
            return Some(Message::Ping(Bytes::copy_from_slice(&self.sent.to_le_bytes())));
        }
        let may_send = self.sent - self.covered < MAX_UNREAD && !self.waiting.is_empty();
        if may_send && (self.turn || self.outbox.is_empty()) {
            self.turn = false;
            self.sent += 1;
            return self.waiting.pop_front().map(|bytes| framed(DATAGRAM, &bytes));
        }
        if self.outbox.is_empty() {
            return None;
        }
        (self.turn, self.writing) = (true, true);
        let piece = self.outbox.split_to(self.outbox.len().min(MAX_PIECE));
        Some(framed(STREAM, &piece))
    }

    /// The client broke the protocol.
    pub(super) fn malformed(&mut self, words: &'static str) {
        let code = RefuseCode::Malformed.close_code();
        self.close(code, Bytes::from_static(words.as_bytes()));
    }

    /// Ends it from this side; what waits is dropped.
    pub(super) fn close(&mut self, code: u32, words: Bytes) {
        if self.error.is_none() {
            self.farewell = Some((code, words));
            self.lose(ConnectionError::LocallyClosed);
        }
    }

    /// It has ended.
    pub(super) fn lose(&mut self, why: ConnectionError) {
        if self.error.is_none() {
            self.error = Some(why);
            self.outbox = BytesMut::new();
            self.waiting.clear();
        }
    }
}

fn framed(kind: u8, bytes: &[u8]) -> Message {
    let mut message = Vec::with_capacity(1 + bytes.len());
    message.push(kind);
    message.extend_from_slice(bytes);
    Message::Binary(message.into())
}

/// The close frame for one of our close codes.
fn close_frame(code: u32, words: &[u8]) -> CloseFrame {
    let refusal = code.checked_sub(0x100).and_then(|number| u16::try_from(number).ok());
    let code = match refusal.and_then(|number| CLOSE_BASE.checked_add(number)) {
        Some(code @ CLOSE_BASE..5000) => CloseCode::from(code),
        _ => CloseCode::Normal,
    };
    let words = String::from_utf8_lossy(words);
    let end = (0..=words.len().min(MAX_WORDS)).rev().find(|&end| words.is_char_boundary(end));
    CloseFrame { code, reason: words[..end.unwrap_or(0)].into() }
}

/// What a client's close frame says.
fn closed_by(frame: Option<CloseFrame>) -> ConnectionError {
    let (code, reason) = match frame {
        Some(CloseFrame { code, reason }) => {
            let code = match u16::from(code) {
                code @ CLOSE_BASE..5000 => 0x100 + u32::from(code - CLOSE_BASE),
                _ => 0,
            };
            (code, Bytes::copy_from_slice(reason.as_bytes()))
        }
        None => (0, Bytes::new()),
    };
    let error_code = VarInt::from_u32(code);
    ConnectionError::ApplicationClosed(ApplicationClose { error_code, reason })
}

const _: () = assert!(MAX_PIECE < MAX_MESSAGE && MAX_DATAGRAM < MAX_MESSAGE);

#[cfg(test)]
mod tests {
    use super::*;

    fn binary(kind: u8, bytes: &[u8]) -> Message {
        framed(kind, bytes)
    }

    fn sent(line: &mut Line) -> Vec<Message> {
        let now = Instant::now();
        std::iter::from_fn(|| line.next(now)).collect()
    }

    #[test]
    fn the_stream_comes_in_order_however_it_is_cut() {
        let (mut line, now) = (Line::default(), Instant::now());
        for piece in [&b"ab"[..], b"", b"c", b"defg"] {
            assert_eq!(line.arrive(binary(STREAM, piece), now), Arrived::Done);
        }
        let mut read = Vec::new();
        while let Ok(Some(piece)) = line.read(3) {
            assert!((1..=3).contains(&piece.len()));
            read.extend_from_slice(&piece);
        }
        assert_eq!((&read[..], line.inbox_bytes), (&b"abcdefg"[..], 0));
        assert_eq!(line.read(3), Ok(None));
        line.lose(ConnectionError::TimedOut);
        assert_eq!(line.read(3), Err(()));
    }

    #[test]
    fn what_nobody_reads_stops_the_socket_and_what_nobody_takes_is_dropped() {
        let (mut line, now) = (Line::default(), Instant::now());
        let mut taken = 0;
        while line.may_read() {
            line.arrive(binary(STREAM, &vec![7; MAX_MESSAGE - 1]), now);
            taken += 1;
        }
        assert!(taken <= 2 && line.inbox_bytes <= MAX_INBOX + MAX_MESSAGE);
        for number in 0..1_000_u32 {
            line.keep(Bytes::copy_from_slice(&number.to_le_bytes()));
        }
        assert_eq!(line.arrived.len(), MAX_ARRIVED);
        assert_eq!(line.next_datagram().unwrap()[..], 936_u32.to_le_bytes(), "the newest stay");
    }

    #[test]
    fn of_the_datagrams_that_wait_the_newest_two_are_sent() {
        let mut line = Line::default();
        for number in 0..100_u8 {
            assert!(line.send(Bytes::copy_from_slice(&[number])));
            assert!(line.waiting.len() <= MAX_WAITING);
        }
        assert_eq!(sent(&mut line), [binary(DATAGRAM, &[98]), binary(DATAGRAM, &[99])]);
        assert!(!line.send(Bytes::from(vec![0; MAX_DATAGRAM + 1])), "no client takes it");
    }

    #[test]
    fn a_client_that_reads_nothing_gets_no_more_than_a_seconds_worth() {
        let mut line = Line::default();
        let (mut datagrams, mut pings) = (0, Vec::new());
        for number in 0..1_000_u32 {
            line.send(Bytes::copy_from_slice(&number.to_le_bytes()));
            for message in sent(&mut line) {
                match message {
                    Message::Ping(payload) => pings.push(payload),
                    _ => datagrams += 1,
                }
            }
        }
        assert_eq!((datagrams, pings.len()), (MAX_UNREAD, (MAX_UNREAD / PING_EVERY) as usize));
        // It reads again: the newest come next, without what was made meanwhile.
        let later = Instant::now() + Duration::from_millis(80);
        line.arrive(Message::Pong(pings[0].clone()), later);
        let [old, new] = [998_u32, 999].map(|number| binary(DATAGRAM, &number.to_le_bytes()));
        assert_eq!(sent(&mut line), [old, new]);
        assert!(line.rtt >= Duration::from_millis(80), "{:?}", line.rtt);
        // Answers to what was never asked change nothing.
        line.arrive(Message::Pong(Bytes::copy_from_slice(&u64::MAX.to_le_bytes())), later);
        line.arrive(Message::Pong(Bytes::from_static(b"x")), later);
        assert!(line.covered <= line.sent);
    }

    #[test]
    fn stream_and_datagrams_take_turns_and_the_stream_is_bounded() {
        let mut line = Line::default();
        let mut written = 0;
        while let taken @ 1.. = line.write(&[5; 10_000]) {
            written += taken;
        }
        assert_eq!(written, MAX_OUTBOX);
        line.send(Bytes::from_static(b"snapshot"));
        let messages = sent(&mut line);
        assert_eq!(messages[1], binary(DATAGRAM, b"snapshot"), "not behind all of the stream");
        let bytes: usize = messages.iter().map(|message| message.len() - 1).sum();
        assert_eq!(bytes, MAX_OUTBOX + b"snapshot".len());
        assert!(line.is_flushed());
    }

    #[test]
    fn what_breaks_the_protocol_ends_it_with_the_code_for_that() {
        for message in [
            Message::Text("hello".into()),
            Message::Binary(Bytes::new()),
            binary(2, b"x"),
            binary(DATAGRAM, &[0; MAX_DATAGRAM + 1]),
        ] {
            let mut line = Line::default();
            line.write(b"half of a message");
            line.arrive(message, Instant::now());
            let Some(Message::Close(Some(frame))) = line.next(Instant::now()) else { panic!() };
            assert_eq!(u16::from(frame.code), CLOSE_BASE + 9);
            assert!(frame.reason.starts_with("RK-GATE-14"), "{}", frame.reason);
            assert_eq!(line.next(Instant::now()), None, "nothing follows a close frame");
        }
    }

    #[test]
    fn close_codes_are_told_in_both_directions() {
        let code = |code, words: &str| close_frame(code, words.as_bytes());
        assert_eq!(code(0, "bye").code, CloseCode::Normal);
        assert_eq!(u16::from(code(0x103, "").code), 4003);
        assert_eq!(u16::from(code(u32::MAX, "").code), 1000);
        let long = code(0x101, &"ä".repeat(200)).reason;
        assert!(long.len() <= MAX_WORDS && long.chars().all(|c| c == 'ä') && long.len() > 100);
        for (frame, wanted) in [(Some((4003, "full")), 0x103), (Some((1001, "")), 0), (None, 0)] {
            let frame = frame.map(|(code, reason)| CloseFrame {
                code: CloseCode::from(code),
                reason: reason.into(),
            });
            let ConnectionError::ApplicationClosed(close) = closed_by(frame) else { panic!() };
            assert_eq!(close.error_code, VarInt::from_u32(wanted));
        }
    }
}
