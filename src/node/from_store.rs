//! Runs a match from the store under a row that names this node already: a source that keeps its
//! match in a later epoch, a target whose follower cannot run it, a standby that cannot either.
//!
//! Nobody else may run such a match, so a store that gives no answer is asked again until it does,
//! or until the row is another one.

use std::time::Duration;

use rekindle_actors::{GoOn, Host, RecoveryError, RecoveryReport};
use rekindle_schema::lease::MatchLease;
use rekindle_store::history::{self, HistoryError, LoadOptions};
use rekindle_store::{Store, StoreError};

/// Between two attempts.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Why an attempt came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error(transparent)]
    Row(#[from] StoreError),
    #[error("its row has changed since")]
    Changed,
    #[error(transparent)]
    History(#[from] HistoryError),
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
}

impl Failed {
    /// The same may succeed later.
    fn is_transient(&self) -> bool {
        match self {
            Self::Row(error) => error.is_transient(),
            Self::Changed => false,
            Self::History(error) => error.is_transient(),
            Self::Recovery(error) => error.is_transient(),
        }
    }
}

/// Recovers the match of `row` and runs it under it. The caller has entered the match
/// ([`Host::enter`]). An error, in words for people: the row has changed, the history is damaged or
/// this build cannot replay it, or the host stops.
pub async fn run(host: &Host, store: &Store, row: &MatchLease) -> Result<RecoveryReport, String> {
    let mut said = false;
    loop {
        match attempt(host, store, row).await {
            Err(failed) if failed.is_transient() => {
                if !std::mem::replace(&mut said, true) {
                    tracing::warn!(code = "RK-NODE-226", match_id = %row.match_id, %failed, "a \
                        match of this node waits for the store");
                }
            }
            ended => return ended.map_err(|failed| failed.to_string()),
        }
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

async fn attempt(host: &Host, store: &Store, row: &MatchLease) -> Result<RecoveryReport, Failed> {
    // Whoever was faster has raised the epoch.
    if store.leases.get(row.match_id).await?.as_ref() != Some(row) {
        return Err(Failed::Changed);
    }
    let history = history::load(store, row, &LoadOptions::default()).await?;
    Ok(host.recover(row.clone(), history, GoOn::default()).await?)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use rekindle_actors::{Games, HostConfig, HostParts};
    use rekindle_arena::Arena;
    use rekindle_schema::lease::{DEFAULT_REGION, Lineage, MatchSpec, MatchState};
    use rekindle_schema::{BatchNo, BuildId, Epoch, Incarnation, MatchId, Seq};
    use rekindle_sim::{Game as _, GameType as _, Typed};
    use rekindle_store_memory::{Fate, MemoryStore, Op};

    use super::*;

    const ME: Incarnation = Incarnation(1);
    const MATCH: MatchId = MatchId(7);

    fn row() -> MatchLease {
        MatchLease {
            match_id: MATCH,
            version: 1,
            epoch: Epoch(1),
            incarnation: ME,
            state: MatchState::Running,
            attempts: 0,
            lineage: vec![Lineage {
                epoch: Epoch(1),
                incarnation: ME,
                first_batch: BatchNo(1),
                first_seq: Seq(1),
            }],
            spec: MatchSpec {
                game: Arena::NAME.to_owned(),
                config: Typed::<Arena>::new().unwrap().config_from_json("{}").unwrap(),
                seed: 5,
                tick_rate: 30,
                house_bots: 0,
                created_ms: 0,
            },
            region: DEFAULT_REGION.to_owned(),
        }
    }

    /// A host on a store in which the match has its row, and that store with so many requests of
    /// each kind that go unanswered.
    async fn host_and_unsteady(unanswered: u32) -> (Host, Store) {
        let memory = MemoryStore::new();
        let store = memory.store();
        store.leases.create(row()).await.unwrap();
        let host = Host::start(HostParts {
            store,
            incarnation: ME,
            build: BuildId(1),
            games: Games::new().with(Arc::new(Typed::<Arena>::new().unwrap())),
            clock: Arc::new(|| 1_700_000_000_000),
            seed: 1,
            config: HostConfig::simulated(),
        })
        .await
        .unwrap();
        let [rows, checkpoints] = [(); 2].map(|()| AtomicU32::new(unanswered));
        let plan = move |op| {
            let left = match op {
                Op::MatchLease => &rows,
                Op::ReadCheckpoint(_) => &checkpoints,
                _ => return Fate::default(),
            };
            let take = |left: u32| left.checked_sub(1);
            let lose = left.fetch_update(Ordering::AcqRel, Ordering::Acquire, take).is_ok();
            let fail = lose.then(|| StoreError::Unavailable("no answer in time".to_owned()));
            Fate { fail, ..Fate::default() }
        };
        (host, memory.with_faults(Arc::new(plan)).store())
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_is_asked_until_the_match_runs() {
        let (host, store) = host_and_unsteady(40).await;
        run(&host, &store, &row()).await.unwrap();
        assert!(host.find(MATCH).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_match_whose_row_has_changed_meanwhile_does_not_run() {
        let (host, store) = host_and_unsteady(3).await;
        let stale = MatchLease { version: 0, ..row() };
        let problem = run(&host, &store, &stale).await.unwrap_err();
        assert_eq!(problem, "its row has changed since");
        assert!(host.find(MATCH).is_none());
    }
}
