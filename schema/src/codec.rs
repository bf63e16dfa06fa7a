//! The one place that names the serialisation library.
//!
//! Every encoded value starts with a two-byte little-endian *format tag* that says what it is and
//! in which version, so that bytes read as the wrong thing, or written by another version, are
//! refused by name instead of being misread. Behind it stand the bytes of
//! [bincode 2](https://docs.rs/bincode/2.0.1) in its standard configuration: integers as
//! little-endian varints, lengths in front.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What an encoded value is, and in which version: in hexadecimal digits, family, family, version
/// (from 0), kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FormatTag(pub u16);

impl FormatTag {
    /// Whether `bytes` begin with it.
    pub fn is_of(self, bytes: &[u8]) -> bool {
        bytes.first_chunk::<2>().is_some_and(|head| u16::from_le_bytes(*head) == self.0)
    }
}

/// The largest value that is decoded from a disk or a store, in bytes.
pub const MAX_STORED: usize = 256 << 20;
/// The largest value that is decoded from a network peer, in bytes.
pub const MAX_MESSAGE: usize = 64 << 10;

const _: () = assert!(MAX_MESSAGE < MAX_STORED);

/// Why bytes could not be turned into a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Fewer bytes than a format tag takes.
    #[error("{0} bytes are too few for a format tag")]
    NoTag(usize),
    /// The bytes are of another kind or version.
    #[error(
        "format tag {found:#06x} where {expected:#06x} was expected: other data, or written by \
         another version"
    )]
    WrongTag {
        /// What was asked for.
        expected: u16,
        /// What the bytes say.
        found: u16,
    },
    /// The bytes do not describe a value.
    #[error("malformed value behind format tag {tag:#06x}: {reason}")]
    Malformed {
        /// The tag, which was the expected one.
        tag: u16,
        /// What the decoder found wrong.
        reason: String,
    },
    /// A value, and then more bytes than it has.
    #[error("{extra} bytes too many behind a value with format tag {tag:#06x}")]
    Trailing {
        /// The tag, which was the expected one.
        tag: u16,
        /// How many bytes were left.
        extra: usize,
    },
}

/// Encodes `value` behind `tag`.
///
/// # Panics
/// Never for the types of this crate: encoding into memory fails only for types that refuse to be
/// serialised.
pub fn encode<T: Serialize>(tag: FormatTag, value: &T) -> Vec<u8> {
    let mut out = tag.0.to_le_bytes().to_vec();
    encode_into(value, &mut out);
    out
}

/// Appends the untagged encoding of `value`, for use inside a value that carries the tag.
///
/// # Panics
/// As [`encode`].
pub fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    bincode::serde::encode_into_std_write(value, out, bincode::config::standard())
        .expect("a plain value always encodes into memory");
}

/// Decodes a stored value of at most [`MAX_STORED`] bytes. Check its checksum first: decoding only
/// promises not to panic.
pub fn decode<T: DeserializeOwned>(tag: FormatTag, bytes: &[u8]) -> Result<T, CodecError> {
    let body = untag(tag, bytes)?;
    let result = bincode::serde::decode_from_slice(
        body,
        bincode::config::standard().with_limit::<MAX_STORED>(),
    );
    finish(tag, body.len(), result)
}

/// Decodes a value that a network peer sent, of at most [`MAX_MESSAGE`] bytes.
pub fn decode_message<T: DeserializeOwned>(tag: FormatTag, bytes: &[u8]) -> Result<T, CodecError> {
    let body = untag(tag, bytes)?;
    let result = bincode::serde::decode_from_slice(
        body,
        bincode::config::standard().with_limit::<MAX_MESSAGE>(),
    );
    finish(tag, body.len(), result)
}

fn untag(tag: FormatTag, bytes: &[u8]) -> Result<&[u8], CodecError> {
    let (head, body) = bytes.split_first_chunk::<2>().ok_or(CodecError::NoTag(bytes.len()))?;
    let found = u16::from_le_bytes(*head);
    if found == tag.0 { Ok(body) } else { Err(CodecError::WrongTag { expected: tag.0, found }) }
}

fn finish<T>(
    tag: FormatTag,
    len: usize,
    result: Result<(T, usize), bincode::error::DecodeError>,
) -> Result<T, CodecError> {
    match result {
        Ok((value, used)) if used == len => Ok(value),
        Ok((_, used)) => Err(CodecError::Trailing { tag: tag.0, extra: len - used }),
        Err(error) => Err(CodecError::Malformed { tag: tag.0, reason: error.to_string() }),
    }
}
