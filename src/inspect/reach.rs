//! How far back the journal of a match goes: to its first record, or, once that is neither in a log nor in the archive, to a checkpoint whose later
//! records are all there.

use rekindle_schema::batch::Frame;
use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_store::history::{self, End, HistoryError, LoadOptions, Point, Start};
use rekindle_store::{Store, StoreError};

/// Everything that can still be read of a match.
pub struct Reach<'a> {
    /// What the records follow; without it they begin with the first.
    pub start: Option<&'a Point>,
    /// All records from there to the end that was asked for.
    pub frames: Vec<Frame>,
    /// What went wrong without doing harm.
    pub notes: Vec<String>,
}

/// The longest history without a hole. `points` are those that may stand in for records that are gone, oldest first. The error is that of the
/// first record, if nothing works.
pub async fn longest<'a>(store: &Store, lease: &MatchLease, points: &'a [Point], end: End) -> Result<Reach<'a>, HistoryError> {
    let mut first_problem = None;
    for start in std::iter::once(None).chain(points.iter().map(Some)) {
        let from = start.map_or(Start::Beginning, |point| Start::Seq(point.seq.next()));
        match history::load(store, lease, &LoadOptions { start: from, end }).await {
            Ok(history) => {
                let mut notes = history.notes;
                // Records that were to be kept and cannot be read are no matter of course.
                notes.extend(
                    first_problem.filter(|problem| matches!(problem, HistoryError::Archive { .. })).map(|problem| problem.to_string()),
                );
                return Ok(Reach { start, frames: history.frames, notes });
            }
            Err(HistoryError::Store(error)) if error.is_transient() => return Err(error.into()),
            Err(error) => first_problem = first_problem.or(Some(error)),
        }
    }
    match first_problem {
        Some(error) => last_checkpoint(store, lease, points, end).await?.ok_or(error),
        None => Ok(Reach { start: None, frames: Vec::new(), notes: Vec::new() }),
    }
}

/// What is left when no record is needed any more: the newest checkpoint, which of a match that has ended covers its last record, and what
/// stands behind it.
async fn last_checkpoint<'a>(store: &Store, lease: &MatchLease, points: &'a [Point], end: End) -> Result<Option<Reach<'a>>, StoreError> {
    let Some((point, last)) = points.last().and_then(|point| Some((point, point.checkpoint()?))).filter(|_| end == End::Newest) else {
        return Ok(None);
    };
    let kept = store.journal.logs().await?.into_iter().find(|info| info.log == last.log);
    if matches!(lease.state, MatchState::Ended { .. }) && kept.is_none_or(|info| info.first > last.batch) {
        return Ok(Some(Reach { start: Some(point), frames: Vec::new(), notes: Vec::new() }));
    }
    // From a checkpoint on, a log is read from the batch that the checkpoint names.
    let history = history::load(store, lease, &LoadOptions::default()).await.ok();
    let history = history.filter(|history| history.checkpoint.as_ref().is_some_and(|(meta, _)| meta == last));
    Ok(history.map(|history| Reach { start: Some(point), frames: history.frames, notes: history.notes }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rekindle_schema::lease::{DEFAULT_REGION, Lineage, MatchSpec};
    use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq};
    use rekindle_store::conformance::{Scribe, checkpoint, register};
    use rekindle_store::memory::MemoryStore;

    use super::*;

    const NODE: Incarnation = Incarnation(1);
    const ENDED: MatchId = MatchId(1);
    const OTHER: MatchId = MatchId(2);

    fn row(state: MatchState) -> MatchLease {
        let spec = MatchSpec { game: "test".into(), config: Bytes::new(), seed: 1, tick_rate: 30, house_bots: 0, created_ms: 0 };
        let lineage = vec![Lineage { epoch: Epoch(1), incarnation: NODE, first_batch: BatchNo(1), first_seq: Seq(1) }];
        MatchLease {
            match_id: ENDED,
            version: 1,
            epoch: Epoch(1),
            incarnation: NODE,
            state,
            attempts: 0,
            lineage,
            spec,
            region: DEFAULT_REGION.into(),
        }
    }

    #[tokio::test]
    async fn an_ended_match_needs_its_last_checkpoint_only() {
        let memory = MemoryStore::new();
        let store = memory.store();
        register(&store, NODE).await;
        let mut scribe = Scribe::new(NODE);
        scribe.append(&store, 4, &[ENDED]).await;
        let (last, state) = checkpoint(ENDED, 1, NODE, 4, 4, 100);
        store.checkpoints.put(last, state).await.unwrap();
        scribe.append(&store, 4, &[OTHER]).await;
        let ended = row(MatchState::Ended { reason: "over".into() });
        let (points, _) = history::points(&store, &ended).await.unwrap();
        for before in [3, 4, 7] {
            store.journal.trim(NODE, BatchNo(before)).await.unwrap();
            let reach = longest(&store, &ended, &points, End::Newest).await.unwrap();
            assert!(reach.start == Some(&points[0]) && reach.frames.is_empty(), "trimmed before batch {before}");
        }
        assert!(longest(&store, &ended, &[], End::Newest).await.is_err(), "without it nothing is left");
        assert!(longest(&store, &row(MatchState::Running), &points, End::Newest).await.is_err(), "one that runs needs its records");
    }
}
