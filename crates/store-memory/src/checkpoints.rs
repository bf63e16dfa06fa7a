//! The checkpoint port: a checkpoint is visible once it is synced.

use bytes::Bytes;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::{MatchId, Seq};
use rekindle_store::{Checkpoints, MAX_CHECKPOINT, StoreError, StoreResult, backend};

use super::{MemoryStore, Op, StoredCheckpoint, pause, power_failed};

impl Checkpoints for MemoryStore {
    fn put(&self, meta: CheckpointMeta, state: Bytes) -> StoreResult<'_, ()> {
        Box::pin(async move {
            if state.len() > MAX_CHECKPOINT {
                return Err(StoreError::TooLarge {
                    what: "a checkpoint",
                    size: state.len(),
                    limit: MAX_CHECKPOINT,
                });
            }
            backend::check_state(&meta, &state)?;
            let fate = (self.plan)(Op::PutCheckpoint(meta.match_id, state.len()));
            pause(fate.before).await;
            if let Some(error) = fate.fail {
                return Err(error);
            }
            let cuts = self.shared.lock().cuts;
            pause(fate.sync).await;
            {
                let mut shared = self.shared.lock();
                if shared.cuts != cuts {
                    return Err(power_failed());
                }
                let all = shared.checkpoints.entry(meta.match_id).or_default();
                all.retain(|stored| (stored.meta.seq, stored.meta.epoch) != (meta.seq, meta.epoch));
                all.push(StoredCheckpoint { meta, state });
            }
            pause(fate.after).await;
            if fate.lose_answer {
                return Err(StoreError::Unavailable(
                    "the answer to a checkpoint was lost".to_owned(),
                ));
            }
            Ok(())
        })
    }

    fn list(&self, match_id: MatchId) -> StoreResult<'_, (Vec<CheckpointMeta>, Vec<StoreError>)> {
        Box::pin(self.run(Op::ReadCheckpoint(match_id), move |shared| {
            let mut good = Vec::new();
            let mut bad = Vec::new();
            for stored in shared.checkpoints.get(&match_id).into_iter().flatten() {
                match backend::check_state(&stored.meta, &stored.state) {
                    Ok(()) => good.push(stored.meta.clone()),
                    Err(error) => bad.push(error),
                }
            }
            good.sort_by_key(|meta| std::cmp::Reverse((meta.seq, meta.epoch)));
            Ok((good, bad))
        }))
    }

    fn get(&self, meta: &CheckpointMeta) -> StoreResult<'_, Bytes> {
        let meta = meta.clone();
        Box::pin(self.run(Op::ReadCheckpoint(meta.match_id), move |shared| {
            let stored = shared
                .checkpoints
                .get(&meta.match_id)
                .and_then(|all| all.iter().find(|stored| stored.meta == meta));
            let stored = stored.ok_or_else(|| {
                StoreError::NotFound(format!(
                    "the checkpoint of match {} at seq {}",
                    meta.match_id, meta.seq
                ))
            })?;
            backend::check_state(&meta, &stored.state)?;
            Ok(stored.state.clone())
        }))
    }

    fn trim(&self, match_id: MatchId, before: Seq) -> StoreResult<'_, ()> {
        Box::pin(self.run(Op::ReadCheckpoint(match_id), move |shared| {
            if let Some(all) = shared.checkpoints.get_mut(&match_id) {
                all.retain(|stored| stored.meta.seq >= before);
            }
            Ok(())
        }))
    }
}
