//! The client protocol, version 1 (ALPN `rekindle/1`). `docs/PROTOCOL.md` has it byte by byte.
//!
//! The client opens one bidirectional stream. Both directions carry messages: a little-endian `u32` length, then an encoded [`ClientMessage`]
//! or [`ServerMessage`]. Inputs go up and snapshots come down in datagrams, whose bytes `rekindle-netcode` packs.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::FormatTag;
use crate::ids::{Epoch, MatchId, PlayerId, SessionId, StateHash, Tick};
use crate::net::NetSchema;

/// ALPN of native clients.
pub const ALPN: &[u8] = b"rekindle/1";
/// Version in [`Hello`].
pub const PROTOCOL: u16 = 1;
/// Format tag of a [`ClientMessage`].
pub const CLIENT_TAG: FormatTag = FormatTag(0x4001);
/// Format tag of a [`ServerMessage`].
pub const SERVER_TAG: FormatTag = FormatTag(0x4101);
/// Longest message on the stream, in bytes.
pub const MAX_STREAM_MESSAGE: usize = 64 << 10;

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
    /// [`PROTOCOL`].
    pub protocol: u16,
    /// To play or to watch.
    pub role: Role,
    /// What lets the client in.
    pub credential: Credential,
    /// Which match; without it, the one that the credential names, else any that has room.
    pub match_id: Option<MatchId>,
}

/// Client to server, on the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientMessage {
    /// First message.
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
}

/// The client is in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The match.
    pub match_id: MatchId,
    /// Name of its game type.
    pub game: String,
    /// Its present ownership.
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
    /// The match exists but cannot be served now (recovering, parked): try again.
    Unavailable,
    /// Too many connections or messages.
    RateLimited,
    /// The node is going down: ask another.
    Draining,
    /// The session was opened elsewhere by the same player.
    Superseded,
    /// The client broke the protocol.
    Malformed,
    /// The node could not keep up with this client.
    Overloaded,
}

/// Server to client, on the stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ServerMessage {
    /// The client is in.
    Welcome(Box<Welcome>),
    /// The client is not in, or is no longer; the connection closes.
    Refused {
        /// For programs.
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
        /// Which tick.
        tick: Tick,
        /// Of the canonical bytes.
        hash: StateHash,
    },
    /// Something happened in the game.
    Event {
        /// In which tick.
        tick: Tick,
        /// Which one within it.
        ordinal: u32,
        /// The game's name for it.
        kind: String,
        /// The game's encoding.
        payload: Bytes,
    },
    /// A recovery went back behind what this client has seen (`output = "immediate"` only): drop baselines, predictions, events behind `to`.
    Rewound {
        /// The new ownership.
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
        /// In words.
        reason: String,
    },
}
