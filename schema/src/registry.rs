//! An entry of a store's registry: what belongs to the cluster and to no match, by name.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, FormatTag};

/// Format tag of an encoded [`RegistryEntry`].
pub const ENTRY_TAG: FormatTag = FormatTag(0x7002);

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryEntry {
    /// Its name: parts of `a-z 0-9 - _ .` with `/` between them.
    pub name: String,
    /// 1 for a new entry; each change raises it by one.
    pub version: u64,
    /// Whatever its writer encodes.
    pub value: Bytes,
}

impl RegistryEntry {
    /// The bytes that stores keep.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(ENTRY_TAG, self)
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(ENTRY_TAG, bytes)
    }
}
