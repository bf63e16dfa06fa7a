//! What a node says of itself to the other nodes of its store, and to whoever sends clients to it.
//!
//! It stands in the store's registry under [`Member::entry`], written by the node itself when it is
//! reachable and whenever it changes, and removed with the lease of the incarnation.

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, FormatTag};
use crate::ids::{BuildId, Incarnation};

/// Format tag of an encoded [`Member`] of weight 1, as the first release wrote it.
pub const MEMBER_TAG: FormatTag = FormatTag(0x7001);
/// Format tag of an encoded [`WeighedMember`].
pub const WEIGHED_MEMBER_TAG: FormatTag = FormatTag(0x7009);
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
    /// How much it can carry, relative to others (`cluster.weight`). At least 1. Stands in
    /// [`WeighedMember`] unless it is 1.
    #[serde(skip, default = "usual_weight")]
    pub weight: u32,
}

/// What a node has that says nothing else.
fn usual_weight() -> u32 {
    1
}

/// A [`Member`] of another weight than 1: earlier releases leave it out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WeighedMember {
    /// All the rest.
    pub member: Member,
    /// Its weight.
    pub weight: u32,
}

impl Member {
    /// The name of a member's entry in the registry.
    pub fn entry(incarnation: Incarnation) -> String {
        format!("{MEMBERS}{incarnation}")
    }

    /// The bytes that the registry keeps.
    pub fn encode(&self) -> Vec<u8> {
        if self.weight == usual_weight() {
            return codec::encode(MEMBER_TAG, self);
        }
        codec::encode(
            WEIGHED_MEMBER_TAG,
            &WeighedMember { member: self.clone(), weight: self.weight },
        )
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        if !WEIGHED_MEMBER_TAG.is_of(bytes) {
            return codec::decode(MEMBER_TAG, bytes);
        }
        let WeighedMember { member, weight } = codec::decode(WEIGHED_MEMBER_TAG, bytes)?;
        Ok(Self { weight: weight.max(usual_weight()), ..member })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usual_member_is_written_as_the_first_release_reads_it_and_any_weight_comes_back() {
        for weight in [1, 2, 1_000] {
            let member = Member {
                incarnation: Incarnation(7),
                name: "n1".to_owned(),
                region: "home".to_owned(),
                build: BuildId(1),
                host: String::new(),
                players: "192.0.2.1:7777".to_owned(),
                admin: String::new(),
                peers: String::new(),
                speaks: (1, 1),
                draining: false,
                since_ms: 9,
                weight,
            };
            let bytes = member.encode();
            assert_eq!(MEMBER_TAG.is_of(&bytes), weight == 1);
            assert_eq!(Member::decode(&bytes).unwrap(), member);
        }
    }
}
