//! The client protocol, versions 1 to 6 (ALPN `rekindle/1` to `rekindle/6`).
//! `docs/PROTOCOL.md` has it byte by byte.
//!
//! Version 2 differs in its first messages alone: the client says [`Enter`] instead of [`Hello`],
//! and a server that cannot go on from where the client stood says [`ServerMessage::Rewound`]
//! before its [`Welcome`]. Under version 3 the client says [`Arrive`], which adds how far events
//! were told and how often it was redirected; the server may say [`ServerMessage::Nodes`] and
//! [`ServerMessage::EventsMissed`]. Version 4 adds standbys: the server may say
//! [`ServerMessage::Standby`], and at that node a client may say [`ClientMessage::Wait`] before its
//! [`Arrive`], to be told with [`ServerMessage::Here`] when the match runs there. Version 5 has the
//! messages of version 4; its clients read snapshots whose bodies are range coded. Under version 6
//! a client that names no match may say [`Seek`] instead of [`Arrive`], which names the properties
//! of the match that it wants; and whoever is let in to play may say [`DocumentsAsked`], to be
//! answered with [`ServerMessage::Documents`]. Both sides settle the version with ALPN, in the
//! handshake; a page learns from `/edge.json` which it may speak.
//!
//! The client opens one bidirectional stream. Both directions carry messages: a little-endian `u32`
//! length, then an encoded [`ClientMessage`] or [`ServerMessage`]. Inputs go up and snapshots come
//! down in datagrams, whose bytes `rekindle-netcode` packs.

use bytes::{Buf, Bytes, BytesMut};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, FormatTag};
use crate::ids::{Epoch, MatchId, PlayerId, SessionId, StateHash, Tick};
use crate::net::NetSchema;
use crate::record::Beat;

/// ALPN of native clients that speak version 1.
pub const ALPN: &[u8] = b"rekindle/1";
/// ALPN of native clients that speak version 2.
pub const ALPN_2: &[u8] = b"rekindle/2";
/// ALPN of native clients that speak version 3.
pub const ALPN_3: &[u8] = b"rekindle/3";
/// ALPN of native clients that speak version 4.
pub const ALPN_4: &[u8] = b"rekindle/4";
/// ALPN of native clients that speak version 5.
pub const ALPN_5: &[u8] = b"rekindle/5";
/// ALPN of native clients that speak version 6.
pub const ALPN_6: &[u8] = b"rekindle/6";
/// The ALPNs of native clients, the newest version first: what both sides offer.
pub const ALPNS: [&[u8]; 6] = [ALPN_6, ALPN_5, ALPN_4, ALPN_3, ALPN_2, ALPN];
/// Version in [`Hello`].
pub const PROTOCOL: u16 = 1;
/// Version in [`Enter`].
pub const PROTOCOL_2: u16 = 2;
/// Version in [`Arrive`].
pub const PROTOCOL_3: u16 = 3;
/// Version in [`Arrive`] and [`ClientMessage::Wait`].
pub const PROTOCOL_4: u16 = 4;
/// Version in [`Arrive`], of clients that read range coded snapshots.
pub const PROTOCOL_5: u16 = 5;
/// Version in [`Arrive`] and [`Seek`], of clients that may look for a match by its properties.
pub const PROTOCOL_6: u16 = 6;
/// Redirects in a row, without a welcome, that a client follows. A server does not send a client on
/// that has followed so many.
pub const MAX_REDIRECTS: u8 = 4;
/// Most addresses in [`ServerMessage::Nodes`]; what is beyond them is not looked at.
pub const MAX_NODES: usize = 32;
/// Longest address in [`ServerMessage::Nodes`] and [`ServerMessage::Redirect`], in bytes.
pub const MAX_ADDR: usize = 255;
/// Most beats that count in [`Stood`]; what is beyond them is not looked at.
pub const MAX_STOOD_BEATS: usize = 8;
/// Longest name of a game in [`Enter`], in bytes.
pub const MAX_GAME_NAME: usize = 64;
/// Most properties in [`Seek`].
pub const MAX_PROPERTIES: usize = 16;
/// Longest name and longest value of a property in [`Seek`], in bytes.
pub const MAX_PROPERTY: usize = 64;
/// Inputs are numbered from 1 and below this, so that a number plus one is always a number.
pub const INPUT_NUMBERS_END: u64 = 1 << 62;
/// Format tag of a [`ClientMessage`].
pub const CLIENT_TAG: FormatTag = FormatTag(0x4001);
/// Format tag of a [`ServerMessage`].
pub const SERVER_TAG: FormatTag = FormatTag(0x4101);
/// Longest JSON in [`ServerMessage::Documents`], in bytes.
pub const MAX_DOCUMENTS_JSON: usize = 60 << 10;
/// Longest message on the stream, in bytes.
pub const MAX_STREAM_MESSAGE: usize = 64 << 10;

// What the stream lets through, the codec decodes; a whole `Enter` with its names fits.
const _: () = assert!(MAX_STREAM_MESSAGE <= codec::MAX_MESSAGE);
const _: () = assert!(MAX_GAME_NAME < MAX_STREAM_MESSAGE);
const _: () = assert!(PROTOCOL < PROTOCOL_2 && PROTOCOL_2 < PROTOCOL_3);
const _: () = assert!(PROTOCOL_3 < PROTOCOL_4 && PROTOCOL_4 < PROTOCOL_5);
const _: () = assert!(PROTOCOL_5 < PROTOCOL_6);
const _: () = assert!(MAX_NODES * (MAX_ADDR + 8) < MAX_STREAM_MESSAGE);
const _: () = assert!(MAX_DOCUMENTS_JSON + 64 < MAX_STREAM_MESSAGE);

/// What a client shows to be let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Credential {
    /// A signed ticket (PASETO v4.public): opens a session.
    Ticket(String),
    /// The token from an earlier [`Welcome`]: resumes that session.
    Resume(String),
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// To play.
    Player,
    /// To watch: gets snapshots, sends no inputs.
    Spectator,
}

/// The first message of a connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`PROTOCOL`]; [`PROTOCOL_2`] within an [`Enter`], [`PROTOCOL_3`] within an [`Arrive`].
    pub protocol: u16,
    /// To play or to watch.
    pub role: Role,
    /// What lets the client in.
    pub credential: Credential,
    /// Which match; without it, the one that the credential names, else any that has room.
    pub match_id: Option<MatchId>,
}

/// Where a client stood in a match that it comes back to, as far as servers had told it. A claim:
/// it decides what its sender is told, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stood {
    /// The ownership that it heard of last.
    pub epoch: Epoch,
    /// The newest tick that it was shown.
    pub tick: Tick,
    /// The newest hashes that it was told, newest first, at most [`MAX_STOOD_BEATS`].
    pub beats: Vec<Beat>,
}

/// The first message of a connection under version 2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enter {
    /// As in version 1, with [`PROTOCOL_2`].
    pub hello: Hello,
    /// Only into a match of this game.
    pub game: Option<String>,
    /// Where the client stood, if it comes back.
    pub stood: Option<Stood>,
}

/// How far a client was told the events of its match: all of the ticks before `tick`, and of `tick`
/// those before `ordinal`. A claim: it decides what its sender is told, and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Heard {
    /// The first tick of which an event may be missing.
    pub tick: Tick,
    /// The first event of it that may be missing.
    pub ordinal: u32,
}

impl Heard {
    /// All events up to and with those of `tick`.
    #[must_use]
    pub fn through(tick: Tick) -> Self {
        Self { tick: Tick(tick.0.saturating_add(1)), ordinal: 0 }
    }

    /// All events up to and with this one.
    #[must_use]
    pub fn event(tick: Tick, ordinal: u32) -> Self {
        Self { tick, ordinal: ordinal.saturating_add(1) }
    }

    /// Whether this event lies behind what was told.
    #[must_use]
    pub fn is_before(&self, tick: Tick, ordinal: u32) -> bool {
        *self <= Self { tick, ordinal }
    }
}

/// The first message of a connection from version 3 on, except [`ClientMessage::Wait`] and
/// [`Seek`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrive {
    /// As in version 2, with [`PROTOCOL_3`].
    pub enter: Enter,
    /// How far the client was told events, if it comes back.
    pub heard: Option<Heard>,
    /// Redirects that the client has followed since it was last welcome.
    pub redirects: u8,
}

/// The first message of a connection under version 6 whose client wants into a match by its
/// properties: one with a free seat, on whichever node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seek {
    /// As in version 3, with [`PROTOCOL_6`], a game and no match.
    pub arrive: Arrive,
    /// Names and values: the match has all of them. At most [`MAX_PROPERTIES`], of at most
    /// [`MAX_PROPERTY`] bytes each.
    pub properties: Vec<(String, String)>,
    /// If no match with them has a free seat, one is to be made, if the operator allows it.
    pub create: bool,
}

/// A question or an order of a player to the documents of a kind, under version 6. It is answered
/// with [`ServerMessage::Documents`], over the same connection or never.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentsAsked {
    /// The client's number for it, for the answer.
    pub id: u64,
    /// The kind of the documents.
    pub kind: String,
    /// What is asked, as JSON: `docs/DOCUMENTS.md`.
    pub json: String,
}

/// Client to server, on the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientMessage {
    /// First message under version 1.
    Hello(Hello),
    /// A reliable command; sent again after a reconnect until it is acknowledged.
    Command {
        /// 1, 2, 3 within a session.
        seq: u64,
        /// The game's encoding.
        payload: Bytes,
    },
    /// The session is to end.
    Bye,
    /// First message under version 2.
    Enter(Enter),
    /// First message from version 3 on.
    Arrive(Arrive),
    /// Version 4: the first message of a connection that waits for a match to run here, with
    /// [`PROTOCOL_4`] and a credential that names it. No session is opened. The server says
    /// [`ServerMessage::Here`] when it does; the client says [`Arrive`] then, or at any time.
    Wait(Hello),
    /// First message under version 6 of a client that looks for a match.
    Seek(Seek),
    /// Version 6: a player asks documents.
    Documents(DocumentsAsked),
}

/// The client is in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The match.
    pub match_id: MatchId,
    /// Name of its game type.
    pub game: String,
    /// Its present ownership: frames of lower epochs are to be dropped.
    pub epoch: Epoch,
    /// The newest published tick.
    pub tick: Tick,
    /// Ticks per second.
    pub tick_rate: u16,
    /// Who the server takes the client for.
    pub player: PlayerId,
    /// The session.
    pub session: SessionId,
    /// An existing session goes on.
    pub resumed: bool,
    /// Shows the session to any node, as long as the match lives.
    pub resume_token: String,
    /// The number that the next input must have at least.
    pub next_input: u64,
    /// The number that the next command must have.
    pub next_command: u64,
    /// What snapshots are made of.
    pub schema: NetSchema,
    /// The game's encoding of its configuration.
    pub config: Bytes,
}

/// Why a client was not let in, or had to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefuseCode {
    /// Another protocol version.
    Protocol,
    /// The ticket or token is malformed, forged or expired.
    Credential,
    /// No such match on any known node.
    NoMatch,
    /// The match has no room.
    Full,
    /// The match is over.
    Ended,
    /// The match exists but cannot be served now (recovering): try again.
    Unavailable,
    /// Too many connections or messages.
    RateLimited,
    /// The node is going down: ask another.
    Draining,
    /// The session was opened elsewhere by the same player.
    Superseded,
    /// The client broke the protocol.
    Malformed,
    /// The client reads more slowly than the node has things to tell it.
    Overloaded,
    /// The session is over: the player left, was away for too long, or was removed.
    Removed,
}

impl RefuseCode {
    /// All of them, in the order of their close codes.
    pub const ALL: [Self; 12] = [
        Self::Protocol,
        Self::Credential,
        Self::NoMatch,
        Self::Full,
        Self::Ended,
        Self::Unavailable,
        Self::RateLimited,
        Self::Draining,
        Self::Superseded,
        Self::Malformed,
        Self::Overloaded,
        Self::Removed,
    ];

    /// The QUIC application error code of a connection that is closed for this reason: `0x100` and
    /// up. The stream's [`ServerMessage::Refused`] says the same, but may be lost with the
    /// connection. 0 is a normal close.
    #[must_use]
    pub const fn close_code(self) -> u32 {
        0x100 + self as u32
    }

    /// What a connection's close code means, if it is one of ours.
    #[must_use]
    pub fn from_close_code(code: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|refuse| u64::from(refuse.close_code()) == code)
    }

    /// Whether trying again, here or at another node, can help.
    #[must_use]
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::Unavailable | Self::RateLimited | Self::Draining | Self::Overloaded)
    }
}

/// Server to client, on the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ServerMessage {
    /// The client is in.
    Welcome(Box<Welcome>),
    /// The client is not in, or is no longer; the connection closes.
    Refused {
        /// The reason, for programs.
        code: RefuseCode,
        /// For people: what happened and what to do.
        message: String,
    },
    /// What became of a command.
    CommandDone {
        /// The client's number.
        seq: u64,
        /// The tick whose step contained it.
        tick: Tick,
        /// The game accepted it.
        accepted: bool,
    },
    /// The hash of the match at a tick.
    Beat {
        /// The tick after which the match had this hash.
        tick: Tick,
        /// Of the canonical bytes.
        hash: StateHash,
    },
    /// Something happened in the game.
    Event {
        /// The tick whose step declared it.
        tick: Tick,
        /// Which one within it.
        ordinal: u32,
        /// The game's name for it.
        kind: String,
        /// The game's encoding.
        payload: Bytes,
    },
    /// The match does not go on from what this client has seen: a recovery under
    /// `output = "immediate"`, a store that was put back to an earlier state, or ticks that were
    /// computed again with another result. Drop baselines, predictions, events behind `to`.
    Rewound {
        /// The present ownership; it counts even if it is lower than one heard of before.
        epoch: Epoch,
        /// The newest tick that still holds.
        to: Tick,
    },
    /// The match is served elsewhere.
    Redirect {
        /// `host:port`.
        addr: String,
    },
    /// The match is over.
    Ended {
        /// Why it is over, for people.
        reason: String,
    },
    /// Version 3: where the nodes of the cluster are that take players. It follows the welcome if
    /// there is any to name, and comes again whenever it changes.
    Nodes {
        /// `host:port` each, at most [`MAX_NODES`] of at most [`MAX_ADDR`] bytes.
        addrs: Vec<String>,
    },
    /// Version 3: events of these ticks may have happened that this client was not told and that
    /// nobody remembers any more. It comes before the events behind them.
    EventsMissed {
        /// The first tick of which an event may be missing.
        from: Tick,
        /// The last one.
        to: Tick,
    },
    /// Version 4: where the node is that goes on with the match if this one dies; absent: there is
    /// none (any more). It follows the welcome if there is one, and comes again whenever it
    /// changes.
    Standby {
        /// `host:port`, of at most [`MAX_ADDR`] bytes.
        addr: Option<String>,
    },
    /// Version 4: the match that the client waits for runs here now. Said once.
    Here {
        /// The match.
        match_id: MatchId,
        /// Its ownership.
        epoch: Epoch,
    },
    /// Version 6: the answer to [`ClientMessage::Documents`].
    Documents {
        /// The client's number for what it asked.
        id: u64,
        /// Whether it was done; else `json` says why not.
        done: bool,
        /// The answer as JSON; of what was not done, an object with `code` and `message`.
        json: String,
    },
}

/// What was wrong with the bytes of a stream. Nothing behind it can be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The length in front of a message is above the limit.
    #[error("RK-WIRE-001: a message of {len} bytes where at most {limit} are allowed")]
    TooLong {
        /// What the length says.
        len: usize,
        /// The longest that is allowed, in bytes.
        limit: usize,
    },
    /// The message is not one.
    #[error("RK-WIRE-002: {0}")]
    Codec(#[from] CodecError),
}

/// Encodes a message for the client's direction of the stream, its length in front.
#[must_use]
pub fn encode_client(message: &ClientMessage) -> Bytes {
    framed(codec::encode(CLIENT_TAG, message))
}

/// Encodes a message for the server's direction of the stream, its length in front.
#[must_use]
pub fn encode_server(message: &ServerMessage) -> Bytes {
    framed(codec::encode(SERVER_TAG, message))
}

fn framed(body: Vec<u8>) -> Bytes {
    let mut out = BytesMut::with_capacity(4 + body.len());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&body);
    out.freeze()
}

/// Cuts the bytes of one direction of the stream into messages. Holds at most one message and one
/// chunk.
#[derive(Debug)]
pub struct StreamDecoder {
    tag: FormatTag,
    limit: usize,
    buffer: BytesMut,
}

impl StreamDecoder {
    /// For what clients send. `limit` is the longest message in bytes, at most
    /// [`MAX_STREAM_MESSAGE`].
    #[must_use]
    pub fn of_client(limit: usize) -> Self {
        Self { tag: CLIENT_TAG, limit: limit.min(MAX_STREAM_MESSAGE), buffer: BytesMut::new() }
    }

    /// For what servers send.
    #[must_use]
    pub fn of_server() -> Self {
        Self { tag: SERVER_TAG, limit: MAX_STREAM_MESSAGE, buffer: BytesMut::new() }
    }

    /// Sets another limit for the messages that follow.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit.min(MAX_STREAM_MESSAGE);
    }

    /// Takes the next bytes of the stream. Call [`StreamDecoder::next_message`] until it has no
    /// more before pushing again.
    pub fn push(&mut self, chunk: &[u8]) {
        self.buffer.extend_from_slice(chunk);
    }

    /// The next whole message, if there is one. `T` is [`ClientMessage`] or [`ServerMessage`], as
    /// the decoder was made for. What clients send has one encoding only: longer forms of its
    /// numbers and lengths are refused.
    pub fn next_message<T: DeserializeOwned + Serialize>(
        &mut self,
    ) -> Result<Option<T>, StreamError> {
        let Some(head) = self.buffer.first_chunk::<4>() else { return Ok(None) };
        let len = u32::from_le_bytes(*head) as usize;
        if len > self.limit {
            return Err(StreamError::TooLong { len, limit: self.limit });
        }
        if self.buffer.len() < 4 + len {
            return Ok(None);
        }
        self.buffer.advance(4);
        let body = self.buffer.split_to(len);
        let message = codec::decode_message(self.tag, &body)?;
        if self.tag == CLIENT_TAG && codec::encode(self.tag, &message) != body {
            let reason = "a number or a length is not in its shortest form".to_owned();
            return Err(CodecError::Malformed { tag: self.tag.0, reason }.into());
        }
        Ok(Some(message))
    }
}
