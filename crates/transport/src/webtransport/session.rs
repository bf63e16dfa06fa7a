//! HTTP/3 and WebTransport on one connection, as its node sees it. Works on quinn-proto's
//! connection with the time as an argument: no socket, no clock, no task.
//!
//! Called by the loop of the port with each connection whose ALPN is `h3`, whenever its streams
//! have moved. What breaks HTTP/3 ends the connection with the code that HTTP/3 has for it; what a
//! client may do and nobody needs is passed over, and never kept.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{
    ApplicationClose, Connection, ConnectionError, Dir, ReadError, ReadableError, StreamId, VarInt,
};
use web_transport_proto::http::StatusCode;
use web_transport_proto::http::header::ORIGIN;
use web_transport_proto::{
    Capsule, ConnectError, ConnectRequest, ConnectResponse, Frame, Setting, Settings,
    SettingsError, StreamUni, VarInt as Number,
};

use super::skim::Skim;
use crate::origin::Origins;

/// Bytes that are read from a stream at once.
const CHUNK: usize = 2 << 10;
/// Longest frame of settings with what may stand before it, in bytes.
const MAX_SETTINGS: usize = 4 << 10;
/// Longest request with what may stand before it, in bytes.
const MAX_REQUEST: usize = 16 << 10;
/// Longest capsule that closes a session: a code and 1,024 bytes of words.
const MAX_FAREWELL: u64 = 4 + 1024;
/// The capsule that closes a session.
const CLOSE_SESSION: u64 = 0x2843;
/// Streams that a client may open for nothing.
const MAX_NEEDLESS: u32 = 64;
/// How long the client may take to hear why its session is over.
const GOODBYE: Duration = Duration::from_millis(500);

/// A page cannot keep a quiet connection alive: its node does, this often.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// What this side says of itself: one session, with what the drafts of WebTransport call it that
/// browsers speak.
const SETTINGS: [(Setting, u32); 7] = [
    (Setting::MAX_FIELD_SECTION_SIZE, MAX_REQUEST as u32),
    (Setting::ENABLE_CONNECT_PROTOCOL, 1),
    (Setting::ENABLE_DATAGRAM, 1),
    (Setting::ENABLE_DATAGRAM_DEPRECATED, 1),
    (Setting::WEBTRANSPORT_ENABLE_DEPRECATED, 1),
    (Setting::WEBTRANSPORT_MAX_SESSIONS_DEPRECATED, 1),
    (Setting::WEBTRANSPORT_MAX_SESSIONS, 1),
];

/// What this side ends connections and streams with (RFC 9114, section 8.1).
mod code {
    pub(super) const NO_ERROR: u32 = 0x100;
    pub(super) const PROTOCOL: u32 = 0x101;
    pub(super) const STREAM_CREATION: u32 = 0x103;
    pub(super) const CLOSED_CRITICAL: u32 = 0x104;
    pub(super) const FRAME: u32 = 0x106;
    pub(super) const EXCESSIVE_LOAD: u32 = 0x107;
    pub(super) const SETTINGS: u32 = 0x109;
    pub(super) const MISSING_SETTINGS: u32 = 0x10a;
    pub(super) const REQUEST_REJECTED: u32 = 0x10b;
    /// Of WebTransport: the stream belongs to no session.
    pub(super) const SESSION_GONE: u32 = 0x170d_7b68;
}

/// The client broke the protocol: the code that says how, and words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Broken(u32, &'static str);

/// One connection's WebTransport.
#[derive(Debug)]
pub(crate) struct Session {
    origins: Arc<Origins>,
    /// Our settings are sent.
    begun: bool,
    /// The client's settings have come.
    settings: bool,
    /// The client's control stream, and what came of its settings.
    control: Option<(StreamId, Vec<u8>)>,
    /// Streams that HTTP/3 needs and nobody reads.
    idle: Vec<StreamId>,
    /// Streams of which it is not known yet what they are, and what came of them.
    opening: Vec<(StreamId, Vec<u8>)>,
    request: Request,
    /// The player's stream, until somebody takes it.
    stream: Option<StreamId>,
    /// There was one.
    had_stream: bool,
    /// Streams that were opened for nothing.
    needless: u32,
    /// Set once the session is over: when the connection is closed at the latest.
    closing: Option<Instant>,
    /// When the client is asked for a sign of life.
    probe: Option<Instant>,
}

/// The request for the session.
#[derive(Debug)]
enum Request {
    /// None has come.
    None,
    /// It was read, and is answered once the client's settings are here.
    Asked(StreamId, StatusCode, Vec<u8>),
    /// The session is open.
    Open { id: StreamId, frames: Skim, capsules: Skim, farewell: Vec<u8> },
    /// It was refused, or is over.
    Over(StreamId),
}

/// What a stream gave.
enum Read {
    Bytes(Bytes),
    /// Nothing now.
    Blocked,
    /// Nothing more.
    End,
}

impl Session {
    /// Of a connection whose handshake is complete.
    pub(crate) fn new(origins: Arc<Origins>) -> Self {
        Self {
            origins,
            begun: false,
            settings: false,
            control: None,
            idle: Vec::new(),
            opening: Vec::new(),
            request: Request::None,
            stream: None,
            had_stream: false,
            needless: 0,
            closing: None,
            probe: None,
        }
    }

    /// The session, once it is open: the stream of its request.
    pub(crate) fn open(&self) -> Option<StreamId> {
        match self.request {
            Request::Open { id, .. } => Some(id),
            _ => None,
        }
    }

    /// The player's stream, once.
    pub(crate) fn take_stream(&mut self) -> Option<StreamId> {
        self.stream.take()
    }

    /// When it wants to be called.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.closing.or(self.probe)
    }

    /// It is `now`: a session that is over has had its time, one that is open is kept alive.
    pub(crate) fn expire(&mut self, now: Instant, quic: &mut Connection) {
        if self.probe.is_some_and(|at| at <= now) {
            self.probe = (!quic.is_closed()).then(|| now + KEEP_ALIVE);
            quic.ping();
        }
        if self.closing.is_some_and(|at| at <= now) {
            self.closing = None;
            quic.close(now, VarInt::from_u32(code::NO_ERROR), Bytes::new());
        }
    }

    /// Ends the session: tells the client `close` and `words`, then closes the connection.
    pub(crate) fn close(
        &mut self,
        now: Instant,
        quic: &mut Connection,
        close: VarInt,
        words: &[u8],
    ) {
        let Request::Open { id, .. } = self.request else {
            // One that was answered with a no is told that first.
            if self.closing.is_none() {
                quic.close(now, VarInt::from_u32(code::NO_ERROR), Bytes::copy_from_slice(words));
            }
            return;
        };
        let reason = String::from_utf8_lossy(words).into_owned();
        let (mut capsule, mut frame) = (Vec::new(), Vec::new());
        // Our codes are far below.
        let close = u32::try_from(close.into_inner()).unwrap_or(u32::MAX);
        Capsule::CloseWebTransportSession { code: close, reason }.encode(&mut capsule);
        Frame::DATA.encode(&mut frame);
        Number::from_u32(capsule.len() as u32).encode(&mut frame);
        frame.extend_from_slice(&capsule);
        self.finish(now, quic, id, &frame);
    }

    /// Says the last on the stream of the request.
    fn finish(&mut self, now: Instant, quic: &mut Connection, id: StreamId, bytes: &[u8]) {
        let mut stream = quic.send_stream(id);
        // If the client takes no more there is nobody to tell.
        let _ = stream.write(bytes);
        let _ = stream.finish();
        self.request = Request::Over(id);
        (self.closing, self.probe) = (Some(now + GOODBYE), None);
    }

    /// The streams have moved. Returns why the connection is over, if it is now.
    pub(crate) fn drive(&mut self, now: Instant, quic: &mut Connection) -> Option<ConnectionError> {
        if quic.is_closed() {
            return None;
        }
        match self.advance(now, quic) {
            Ok(over) => over,
            Err(Broken(code, words)) => {
                let words = Bytes::from_static(words.as_bytes());
                quic.close(now, VarInt::from_u32(code), words);
                Some(ConnectionError::LocallyClosed)
            }
        }
    }

    fn advance(
        &mut self,
        now: Instant,
        quic: &mut Connection,
    ) -> Result<Option<ConnectionError>, Broken> {
        if !self.begun {
            self.begun = true;
            begin(quic)?;
        }
        for dir in [Dir::Uni, Dir::Bi] {
            while let Some(id) = quic.streams().accept(dir) {
                self.opening.push((id, Vec::new()));
            }
        }
        let mut opening = std::mem::take(&mut self.opening);
        let mut kept = Vec::new();
        for (id, bytes) in opening.drain(..) {
            let still = match id.dir() {
                Dir::Uni => self.open_uni(quic, id, bytes)?,
                Dir::Bi => self.open_bi(quic, id, bytes)?,
            };
            kept.extend(still.map(|bytes| (id, bytes)));
        }
        self.opening = kept;
        self.read_control(quic)?;
        for &id in &self.idle {
            if drain(quic, id) {
                return Err(Broken(code::CLOSED_CRITICAL, "a stream of QPACK has ended"));
            }
        }
        if let Some(refused) = self.answer(now, quic)? {
            return Ok(Some(refused));
        }
        self.read_request(now, quic)
    }

    /// Learns what a stream of one direction is. Returns what came of it while that is not known.
    fn open_uni(
        &mut self,
        quic: &mut Connection,
        id: StreamId,
        mut bytes: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, Broken> {
        let kind = loop {
            if let Ok(kind) = StreamUni::decode(&mut &bytes[..]) {
                break kind;
            }
            match read(quic, id, 1) {
                Read::Bytes(byte) => bytes.extend_from_slice(&byte),
                Read::Blocked => return Ok(Some(bytes)),
                Read::End => return self.needless().map(|()| None),
            }
        };
        match kind {
            StreamUni::CONTROL if self.control.is_some() => {
                return Err(Broken(code::STREAM_CREATION, "a second control stream"));
            }
            // The type stands before the settings, and is read with them.
            StreamUni::CONTROL => self.control = Some((id, bytes)),
            StreamUni::QPACK_ENCODER | StreamUni::QPACK_DECODER if self.idle.len() < 2 => {
                self.idle.push(id);
            }
            StreamUni::QPACK_ENCODER | StreamUni::QPACK_DECODER | StreamUni::PUSH => {
                return Err(Broken(code::STREAM_CREATION, "a stream that may not be"));
            }
            _ => {
                stop(quic, id, code::STREAM_CREATION);
                self.needless()?;
            }
        }
        Ok(None)
    }

    /// Learns what a stream of both directions is. Returns what came of it while that is not known.
    fn open_bi(
        &mut self,
        quic: &mut Connection,
        id: StreamId,
        mut bytes: Vec<u8>,
    ) -> Result<Option<Vec<u8>>, Broken> {
        loop {
            let mut rest = &bytes[..];
            let kind = Frame::decode(&mut rest).ok();
            let owner = kind
                .filter(|kind| *kind == Frame::WEBTRANSPORT)
                .and_then(|_| Number::decode(&mut rest).ok());
            if let Some(owner) = owner {
                return self.open_stream(quic, id, bytes, owner.into_inner());
            }
            let mut most = 1;
            if kind.is_some_and(|kind| kind != Frame::WEBTRANSPORT) {
                if self.read_head(quic, id, &bytes)? {
                    return Ok(None);
                }
                most = CHUNK;
            }
            match read(quic, id, most) {
                Read::Bytes(more) => bytes.extend_from_slice(&more),
                Read::Blocked => return Ok(Some(bytes)),
                Read::End => {
                    refuse(quic, id, code::REQUEST_REJECTED);
                    return self.needless().map(|()| None);
                }
            }
        }
    }

    /// A stream of the session that `owner` asked for. One that comes before its session waits.
    fn open_stream(
        &mut self,
        quic: &mut Connection,
        id: StreamId,
        bytes: Vec<u8>,
        owner: u64,
    ) -> Result<Option<Vec<u8>>, Broken> {
        match self.open() {
            Some(session) if VarInt::from(session).into_inner() == owner && !self.had_stream => {
                self.had_stream = true;
                self.stream = Some(id);
                Ok(None)
            }
            None if matches!(self.request, Request::None | Request::Asked(..)) => Ok(Some(bytes)),
            _ => {
                refuse(quic, id, code::SESSION_GONE);
                self.needless().map(|()| None)
            }
        }
    }

    /// Reads the head of a request as far as it has come. True if that stream is dealt with.
    fn read_head(
        &mut self,
        quic: &mut Connection,
        id: StreamId,
        bytes: &[u8],
    ) -> Result<bool, Broken> {
        if !matches!(self.request, Request::None) {
            refuse(quic, id, code::REQUEST_REJECTED);
            return self.needless().map(|()| true);
        }
        let mut rest = bytes;
        let status = match ConnectRequest::decode(&mut rest) {
            Ok(request) => self.judge(&request),
            Err(ConnectError::UnexpectedEnd) if bytes.len() < MAX_REQUEST => return Ok(false),
            Err(ConnectError::UnexpectedEnd | ConnectError::FieldSectionTooLarge) => {
                return Err(Broken(code::EXCESSIVE_LOAD, "the head of a request is too long"));
            }
            Err(ConnectError::UnexpectedFrame(_) | ConnectError::FrameTooLarge) => {
                return Err(Broken(code::FRAME, "a request begins with another frame"));
            }
            // What is no request for a session is one that nothing here answers.
            Err(_) => StatusCode::BAD_REQUEST,
        };
        self.request = Request::Asked(id, status, rest.to_vec());
        Ok(true)
    }

    /// What a request for a session is answered with.
    fn judge(&self, request: &ConnectRequest) -> StatusCode {
        let origin = request.headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or("null"));
        let authority = match (request.url.host_str(), request.url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => String::new(),
        };
        if request.url.path() != crate::WEB_PATH {
            StatusCode::NOT_FOUND
        } else if self.origins.allow(origin, &authority) {
            StatusCode::OK
        } else {
            StatusCode::FORBIDDEN
        }
    }

    /// Reads the client's control stream.
    fn read_control(&mut self, quic: &mut Connection) -> Result<(), Broken> {
        let Some((id, bytes)) = &mut self.control else { return Ok(()) };
        while !self.settings {
            match Settings::decode(&mut &bytes[..]) {
                Ok(_) => {
                    self.settings = true;
                    *bytes = Vec::new();
                    break;
                }
                Err(SettingsError::UnexpectedEnd) if bytes.len() < MAX_SETTINGS => {}
                Err(SettingsError::UnexpectedEnd | SettingsError::FrameTooLarge) => {
                    return Err(Broken(code::EXCESSIVE_LOAD, "the settings are too long"));
                }
                Err(SettingsError::UnexpectedFrame(_)) => {
                    return Err(Broken(code::MISSING_SETTINGS, "the settings do not come first"));
                }
                Err(_) => return Err(Broken(code::SETTINGS, "the settings cannot be read")),
            }
            match read(quic, *id, CHUNK) {
                Read::Bytes(more) => bytes.extend_from_slice(&more),
                Read::Blocked => return Ok(()),
                Read::End => break,
            }
        }
        // What follows them concerns nobody here.
        if drain(quic, *id) {
            return Err(Broken(code::CLOSED_CRITICAL, "the control stream has ended"));
        }
        Ok(())
    }

    /// Answers the request, once the client's settings are here.
    fn answer(
        &mut self,
        now: Instant,
        quic: &mut Connection,
    ) -> Result<Option<ConnectionError>, Broken> {
        if !self.settings {
            return Ok(None);
        }
        let Request::Asked(id, status, rest) = &mut self.request else { return Ok(None) };
        let (id, status, rest) = (*id, *status, std::mem::take(rest));
        let mut response = Vec::new();
        let encoded = ConnectResponse::new(status).encode(&mut response);
        encoded.map_err(|_| Broken(code::PROTOCOL, "the answer cannot be written"))?;
        if status != StatusCode::OK {
            self.finish(now, quic, id, &response);
            return Ok(Some(ConnectionError::LocallyClosed));
        }
        if !matches!(quic.send_stream(id).write(&response), Ok(len) if len == response.len()) {
            return Err(Broken(code::PROTOCOL, "the answer is not taken"));
        }
        let (frames, capsules) = (Skim::default(), Skim::default());
        self.request = Request::Open { id, frames, capsules, farewell: Vec::new() };
        self.probe = Some(now + KEEP_ALIVE);
        self.capsules(&rest).map(|over| over.inspect(|_| self.over(now, quic, id)))
    }

    /// Reads what the client says about the session.
    fn read_request(
        &mut self,
        now: Instant,
        quic: &mut Connection,
    ) -> Result<Option<ConnectionError>, Broken> {
        loop {
            let (Request::Open { id, .. } | Request::Over(id)) = self.request else {
                return Ok(None);
            };
            let over = match read(quic, id, CHUNK) {
                Read::Blocked => return Ok(None),
                Read::Bytes(bytes) => self.capsules(&bytes)?,
                Read::End if matches!(self.request, Request::Open { .. }) => {
                    Some(closed_by_client(0, Bytes::new()))
                }
                Read::End => {
                    // It has heard that the session is over.
                    self.closing = self.closing.map(|_| now);
                    self.expire(now, quic);
                    return Ok(None);
                }
            };
            if over.is_some() {
                self.over(now, quic, id);
                return Ok(over);
            }
        }
    }

    /// The client has ended the session.
    fn over(&mut self, now: Instant, quic: &mut Connection, id: StreamId) {
        self.finish(now, quic, id, &[]);
    }

    /// Reads capsules in the frames of the request's stream. Returns how the client ends the
    /// session, if it does.
    fn capsules(&mut self, mut bytes: &[u8]) -> Result<Option<ConnectionError>, Broken> {
        let Request::Open { frames, capsules, farewell, .. } = &mut self.request else {
            return Ok(None);
        };
        while let Some(frame) = frames.next(&mut bytes) {
            if frame.kind != Frame::DATA.0.into_inner() {
                continue;
            }
            let mut data = frame.bytes;
            while let Some(capsule) = capsules.next(&mut data) {
                if capsule.kind != CLOSE_SESSION {
                    continue;
                }
                if !(4..=MAX_FAREWELL).contains(&capsule.len) {
                    return Err(Broken(code::PROTOCOL, "a capsule that closes has a wrong length"));
                }
                farewell.extend_from_slice(capsule.bytes);
                if let (true, Some((number, words))) =
                    (capsule.last, farewell.split_first_chunk::<4>())
                {
                    let words = Bytes::copy_from_slice(words);
                    return Ok(Some(closed_by_client(u32::from_be_bytes(*number), words)));
                }
            }
        }
        Ok(None)
    }

    /// A stream was opened for nothing.
    fn needless(&mut self) -> Result<(), Broken> {
        self.needless += 1;
        if self.needless > MAX_NEEDLESS {
            return Err(Broken(code::EXCESSIVE_LOAD, "too many streams for nothing"));
        }
        Ok(())
    }
}

/// Opens our control stream and says what we speak.
fn begin(quic: &mut Connection) -> Result<(), Broken> {
    const FAILED: Broken = Broken(code::STREAM_CREATION, "no control stream can be opened");
    let id = quic.streams().open(Dir::Uni).ok_or(FAILED)?;
    let (mut settings, mut bytes) = (Vec::new(), Vec::new());
    for (setting, value) in SETTINGS {
        setting.encode(&mut settings);
        Number::from_u32(value).encode(&mut settings);
    }
    StreamUni::CONTROL.encode(&mut bytes);
    Frame::SETTINGS.encode(&mut bytes);
    Number::from_u32(settings.len() as u32).encode(&mut bytes);
    bytes.extend_from_slice(&settings);
    match quic.send_stream(id).write(&bytes) {
        Ok(written) if written == bytes.len() => Ok(()),
        _ => Err(FAILED),
    }
}

fn closed_by_client(code: u32, reason: Bytes) -> ConnectionError {
    let error_code = VarInt::from_u32(code);
    ConnectionError::ApplicationClosed(ApplicationClose { error_code, reason })
}

fn read(quic: &mut Connection, id: StreamId, most: usize) -> Read {
    let mut stream = quic.recv_stream(id);
    let mut chunks = match stream.read(true) {
        Ok(chunks) => chunks,
        Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => return Read::End,
    };
    let next = chunks.next(most);
    // The loop asks for packets after this.
    let _ = chunks.finalize();
    match next {
        Ok(Some(chunk)) => Read::Bytes(chunk.bytes),
        Err(ReadError::Blocked) => Read::Blocked,
        Ok(None) | Err(ReadError::Reset(_)) => Read::End,
    }
}

/// Passes over what a stream says. True if it has ended.
fn drain(quic: &mut Connection, id: StreamId) -> bool {
    loop {
        match read(quic, id, usize::MAX) {
            Read::Bytes(_) => {}
            Read::Blocked => return false,
            Read::End => return true,
        }
    }
}

fn stop(quic: &mut Connection, id: StreamId, code: u32) {
    // It fails if the stream has ended.
    let _ = quic.recv_stream(id).stop(VarInt::from_u32(code));
}

fn refuse(quic: &mut Connection, id: StreamId, code: u32) {
    stop(quic, id, code);
    let _ = quic.send_stream(id).reset(VarInt::from_u32(code));
}
