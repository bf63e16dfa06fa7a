//! How far back the journal of a match goes: to its first record, or, once logs are trimmed, to a checkpoint whose later records are all there.

use rekindle_schema::batch::Frame;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_store::history::{self, End, HistoryError, LoadOptions, Start};
use rekindle_store::{Store, StoreError};

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
        Some(error) => last_checkpoint(store, lease, checkpoints, end).await?.ok_or(error),
        None => Ok(Reach { start: None, frames: Vec::new() }),
    }
}

/// What is left when no record is needed any more: the newest checkpoint, which of a match that has ended covers its last record, and what
/// stands behind it.
async fn last_checkpoint<'a>(
    store: &Store,
    lease: &MatchLease,
    checkpoints: &'a [CheckpointMeta],
    end: End,
) -> Result<Option<Reach<'a>>, StoreError> {
    let Some(last) = checkpoints.last().filter(|_| end == End::Newest) else { return Ok(None) };
    let kept = store.journal.logs().await?.into_iter().find(|info| info.log == last.log);
    if matches!(lease.state, MatchState::Ended { .. }) && kept.is_none_or(|info| info.first > last.batch) {
        return Ok(Some(Reach { start: Some(last), frames: Vec::new() }));
    }
    // From a checkpoint on, a log is read from the batch that the checkpoint names.
    let history = history::load(store, lease, &LoadOptions::default()).await.ok();
    let history = history.filter(|history| history.checkpoint.as_ref().is_some_and(|(meta, _)| meta == last));
    Ok(history.map(|history| Reach { start: Some(last), frames: history.frames }))
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
        store.checkpoints.put(last.clone(), state).await.unwrap();
        scribe.append(&store, 4, &[OTHER]).await;
        let ended = row(MatchState::Ended { reason: "over".into() });
        let metas = [last];
        for before in [3, 4, 7] {
            store.journal.trim(NODE, BatchNo(before)).await.unwrap();
            let reach = longest(&store, &ended, &metas, End::Newest).await.unwrap();
            assert!(reach.start == Some(&metas[0]) && reach.frames.is_empty(), "trimmed before batch {before}");
        }
        assert!(longest(&store, &ended, &[], End::Newest).await.is_err(), "without it nothing is left");
        assert!(longest(&store, &row(MatchState::Running), &metas, End::Newest).await.is_err(), "one that runs needs its records");
    }
}
