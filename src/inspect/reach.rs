//! How far back the journal of a match goes: to its first record, or, once logs are trimmed, to a checkpoint whose later records are all there.

use rekindle_schema::batch::Frame;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::MatchLease;
use rekindle_store::Store;
use rekindle_store::history::{self, End, HistoryError, LoadOptions, Start};

/// Everything that can still be read of a match.
pub struct Reach<'a> {
    /// The checkpoint that the records follow; without one they begin with the first.
    pub start: Option<&'a CheckpointMeta>,
    /// All records from there to the end that was asked for.
    pub frames: Vec<Frame>,
}

/// The longest history without a hole. `checkpoints` are those that may stand in for trimmed records, oldest first. The error is that of the
/// first record, if nothing works.
pub async fn longest<'a>(
    store: &Store,
    lease: &MatchLease,
    checkpoints: &'a [CheckpointMeta],
    end: End,
) -> Result<Reach<'a>, HistoryError> {
    let mut first_problem = None;
    for start in std::iter::once(None).chain(checkpoints.iter().map(Some)) {
        let from = start.map_or(Start::Beginning, |meta| Start::Seq(meta.seq.next()));
        match history::load(store, lease, &LoadOptions { start: from, end }).await {
            Ok(history) => return Ok(Reach { start, frames: history.frames }),
            Err(HistoryError::Store(error)) if error.is_transient() => return Err(error.into()),
            Err(error) => first_problem = first_problem.or(Some(error)),
        }
    }
    match first_problem {
        Some(error) => Err(error),
        None => Ok(Reach { start: None, frames: Vec::new() }),
    }
}
