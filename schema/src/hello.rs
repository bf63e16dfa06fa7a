//! The first words on a link between two nodes, before any request: who each is, which store it
//! works on and which versions of the peer protocol it speaks. The dialling node speaks first.

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, FormatTag};
use crate::ids::Incarnation;

/// Format tag of an encoded [`Hello`].
pub const HELLO_TAG: FormatTag = FormatTag(0x7103);
/// Format tag of an encoded [`HelloAnswer`].
pub const HELLO_ANSWER_TAG: FormatTag = FormatTag(0x7104);
/// The longest hello or answer, in bytes.
pub const MAX_HELLO: usize = 1 << 10;

/// What a node says of itself on a new link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The versions of the peer protocol that it speaks, lowest and highest.
    pub speaks: (u16, u16),
    /// The identity of its store: nodes of different stores never speak to each other.
    pub store: u128,
    /// This run of it.
    pub from: Incarnation,
    /// Its configured name: with TLS, one that its certificate is for.
    pub name: String,
    /// Whom it wants to reach; `None`: whoever listens there, to learn who that is. No link comes
    /// of that.
    pub to: Option<Incarnation>,
}

/// What the other node says to a [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloAnswer {
    /// It is welcome.
    Welcome(Hello),
    /// There will be no link.
    Refused {
        /// Why, with a code, for people.
        words: String,
    },
}

impl Hello {
    /// The highest version that both speak.
    pub fn common_version(&self, theirs: (u16, u16)) -> Option<u16> {
        let highest = self.speaks.1.min(theirs.1);
        (highest >= self.speaks.0.max(theirs.0)).then_some(highest)
    }

    /// The bytes on the link.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(HELLO_TAG, self)
    }

    /// Reads what the other node sent, of at most [`MAX_HELLO`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode_message(HELLO_TAG, bytes)
    }
}

impl HelloAnswer {
    /// The bytes on the link.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(HELLO_ANSWER_TAG, self)
    }

    /// Reads what the other node sent, of at most [`MAX_HELLO`] bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode_message(HELLO_ANSWER_TAG, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hello(speaks: (u16, u16)) -> Hello {
        let (from, name) = (Incarnation(1), "n1".to_owned());
        Hello { speaks, store: 7, from, name, to: None }
    }

    #[test]
    fn neighbouring_versions_understand_each_other_and_distant_ones_do_not() {
        assert_eq!(hello((1, 2)).common_version((2, 3)), Some(2));
        assert_eq!(hello((2, 3)).common_version((1, 2)), Some(2));
        assert_eq!(hello((1, 1)).common_version((1, 9)), Some(1));
        assert_eq!(hello((1, 2)).common_version((3, 4)), None);
        assert_eq!(hello((3, 4)).common_version((1, 2)), None);
    }
}
