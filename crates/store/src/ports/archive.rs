//! The archive port: chunks of records and states that are kept beyond what recovery needs.
//!
//! Called by the archiver (put), by histories (list, get), and by retention (remove, pins). What is
//! in a chunk is told by [`crate::archive`].

use bytes::Bytes;
use rekindle_schema::MatchId;
use rekindle_schema::archive::{ChunkMeta, Pin};

use super::StoreResult;
use crate::StoreError;

/// What is kept of matches beyond what recovery needs: chunks of records and states, each on its
/// own, and pins.
///
/// A chunk is named by its match, its kind and its first seq. Several nodes may archive the same
/// match at the same time: whatever is put first stands, and everybody goes on behind it, so chunks
/// of records never overlap.
pub trait Archive: Send + Sync + 'static {
    /// Stores a chunk and returns the manifest that stands once that is durable: the given one, or
    /// that of a whole chunk of the same name that was there before. A chunk of that name that is
    /// damaged is replaced. Length and checksum of `bytes` are checked before they are written.
    ///
    /// `TooLarge` above [`crate::MAX_CHUNK`], `Corrupt` if `bytes` are not what the manifest says,
    /// `Io`, `Unavailable`; all leave what was there.
    fn put(&self, meta: ChunkMeta, bytes: Bytes) -> StoreResult<'_, ChunkMeta>;
    /// Manifests of a match's chunks, ascending by (first seq, kind). Those that cannot be read
    /// (`Corrupt`, `Io`) are left out of the first list and described in the second. Content is not
    /// read.
    fn list(&self, match_id: MatchId) -> StoreResult<'_, (Vec<ChunkMeta>, Vec<StoreError>)>;
    /// The stored bytes of a chunk, length and checksum checked. `NotFound`, `Corrupt`.
    fn get(&self, meta: &ChunkMeta) -> StoreResult<'_, Bytes>;
    /// Removes one chunk; harmless if it is not there.
    fn remove(&self, meta: &ChunkMeta) -> StoreResult<'_, ()>;
    /// Matches that have chunks, ascending.
    fn matches(&self) -> StoreResult<'_, Vec<MatchId>>;
    /// Pins a stretch of a match; replaces an earlier pin of it.
    fn pin(&self, pin: Pin) -> StoreResult<'_, ()>;
    /// Removes the pin of a match, and says whether there was one.
    fn unpin(&self, match_id: MatchId) -> StoreResult<'_, bool>;
    /// All pins, ascending by match.
    fn pins(&self) -> StoreResult<'_, Vec<Pin>>;
}
