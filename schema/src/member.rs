//! What a node says of itself to the other nodes of its store, and to whoever sends clients to it.
//!
//! It stands in the store's registry under [`Member::entry`], written by the node itself when it is
//! reachable and whenever it changes, and removed with the lease of the incarnation.

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, FormatTag};
use crate::ids::{BuildId, Incarnation};

/// Format tag of an encoded [`Member`].
pub const MEMBER_TAG: FormatTag = FormatTag(0x7001);
/// The names of all members in the registry begin with this.
pub const MEMBERS: &str = "members/";

/// One run of a node, as others reach it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// This run.
    pub incarnation: Incarnation,
    /// The node's configured name.
    pub name: String,
    /// Where it runs.
    pub region: String,
    /// What computes its games.
    pub build: BuildId,
    /// Names the kernel and the process namespace that it runs in, as its lease does: a loopback
    /// address means something there alone. Empty if unknown.
    pub host: String,
    /// Where players reach it: `host:port`, UDP.
    pub players: String,
    /// Its admin listener: `host:port`, as other nodes and operators reach it.
    pub admin: String,
    /// Where other nodes reach it: `host:port`, TCP. Empty: it has no link to other nodes.
    pub peers: String,
    /// The versions of the peer protocol that it speaks, lowest and highest.
    pub speaks: (u16, u16),
    /// An operator empties it: it takes no further matches.
    pub draining: bool,
    /// When it began, in milliseconds since 1970.
    pub since_ms: u64,
}

impl Member {
    /// The name of a member's entry in the registry.
    pub fn entry(incarnation: Incarnation) -> String {
        format!("{MEMBERS}{incarnation}")
    }

    /// The bytes that the registry keeps.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(MEMBER_TAG, self)
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(MEMBER_TAG, bytes)
    }
}
