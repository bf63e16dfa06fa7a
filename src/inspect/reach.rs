//! How far back the journal of a match goes: to its first record, or, once that is neither in a log
//! nor in the archive, to a checkpoint whose later records are all there.

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

/// The longest history without a hole. `points` are those that may stand in for records that are
/// gone, oldest first. The error is that of the first record, if nothing works.
pub async fn longest<'a>(
    store: &Store,
    lease: &MatchLease,
    points: &'a [Point],
    end: End,
) -> Result<Reach<'a>, HistoryError> {
    let mut all = longest_each(store, &[(lease, points, 0)], end).await;
    all.pop().unwrap_or_else(|| Ok(Reach { start: None, frames: Vec::new(), notes: Vec::new() }))
}

/// As [`longest`], of many matches, in their order. Each log is read once for each attempt, however
/// many matches make it, and the histories of all are in memory together. The number says where a
/// history may begin at the earliest: 0 is the first record, 1 behind the first point, and so on.
pub async fn longest_each<'a>(
    store: &Store,
    wanted: &[(&MatchLease, &'a [Point], usize)],
    end: End,
) -> Vec<Result<Reach<'a>, HistoryError>> {
    let mut found: Vec<Option<Result<Reach<'a>, HistoryError>>> =
        wanted.iter().map(|_| None).collect();
    let mut first_problems: Vec<Option<HistoryError>> = wanted.iter().map(|_| None).collect();
    // The first attempt begins with the first record, each later one behind the next point.
    for attempt in 0.. {
        let open: Vec<usize> = (0..wanted.len())
            .filter(|&index| found[index].is_none() && attempt <= wanted[index].1.len())
            .collect();
        if open.is_empty() {
            break;
        }
        let open: Vec<usize> =
            open.into_iter().filter(|&index| attempt >= wanted[index].2).collect();
        let start = |index: usize| attempt.checked_sub(1).map(|nth: usize| &wanted[index].1[nth]);
        let from = |index: usize| {
            start(index).map_or(Start::Beginning, |point| Start::Seq(point.seq.next()))
        };
        let asked: Vec<_> = open
            .iter()
            .map(|&index| (wanted[index].0, LoadOptions { start: from(index), end }))
            .collect();
        for (index, outcome) in open.into_iter().zip(history::load_each(store, &asked).await) {
            match outcome {
                Ok(history) => {
                    let mut notes = history.notes;
                    // Records that were to be kept and cannot be read are no matter of course.
                    let problem = first_problems[index]
                        .take()
                        .filter(|problem| matches!(problem, HistoryError::Archive { .. }));
                    notes.extend(problem.map(|problem| problem.to_string()));
                    found[index] =
                        Some(Ok(Reach { start: start(index), frames: history.frames, notes }));
                }
                Err(HistoryError::Store(error)) if error.is_transient() => {
                    found[index] = Some(Err(error.into()));
                }
                Err(error) => {
                    first_problems[index].get_or_insert(error);
                }
            }
        }
    }
    let mut all = Vec::with_capacity(wanted.len());
    for (((lease, points, _), found), problem) in wanted.iter().zip(found).zip(first_problems) {
        all.push(match (found, problem) {
            (Some(found), _) => found,
            (None, Some(problem)) => match last_checkpoint(store, lease, points, end).await {
                Ok(reach) => reach.ok_or(problem),
                Err(error) => Err(error.into()),
            },
            (None, None) => Ok(Reach { start: None, frames: Vec::new(), notes: Vec::new() }),
        });
    }
    all
}

/// What is left when no record is needed any more: the newest checkpoint, which of a match that has
/// ended covers its last record, and what stands behind it.
async fn last_checkpoint<'a>(
    store: &Store,
    lease: &MatchLease,
    points: &'a [Point],
    end: End,
) -> Result<Option<Reach<'a>>, StoreError> {
    let Some((point, last)) = points
        .last()
        .and_then(|point| Some((point, point.checkpoint()?)))
        .filter(|_| end == End::Newest)
    else {
        return Ok(None);
    };
    let kept = store.journal.logs().await?.into_iter().find(|info| info.log == last.log);
    if matches!(lease.state, MatchState::Ended { .. })
        && kept.is_none_or(|info| info.first > last.batch)
    {
        return Ok(Some(Reach { start: Some(point), frames: Vec::new(), notes: Vec::new() }));
    }
    // From a checkpoint on, a log is read from the batch that the checkpoint names.
    let history = history::load(store, lease, &LoadOptions::default()).await.ok();
    let history =
        history.filter(|history| history.checkpoint.as_ref().is_some_and(|(meta, _)| meta == last));
    Ok(history.map(|history| Reach {
        start: Some(point),
        frames: history.frames,
        notes: history.notes,
    }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use rekindle_schema::lease::{DEFAULT_REGION, Lineage, MatchSpec};
    use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq};
    use rekindle_store_conformance::{Scribe, checkpoint, register};
    use rekindle_store_memory::MemoryStore;

    use super::*;

    const NODE: Incarnation = Incarnation(1);
    const ENDED: MatchId = MatchId(1);
    const OTHER: MatchId = MatchId(2);

    fn row(state: MatchState) -> MatchLease {
        let spec = MatchSpec {
            game: "test".into(),
            config: Bytes::new(),
            seed: 1,
            tick_rate: 30,
            house_bots: 0,
            created_ms: 0,
        };
        let lineage = vec![Lineage {
            epoch: Epoch(1),
            incarnation: NODE,
            first_batch: BatchNo(1),
            first_seq: Seq(1),
        }];
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
            assert!(
                reach.start == Some(&points[0]) && reach.frames.is_empty(),
                "trimmed before batch {before}"
            );
        }
        assert!(
            longest(&store, &ended, &[], End::Newest).await.is_err(),
            "without it nothing is left"
        );
        assert!(
            longest(&store, &row(MatchState::Running), &points, End::Newest).await.is_err(),
            "one that runs needs its records"
        );
    }
}
