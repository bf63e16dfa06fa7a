//! The archive in memory: a chunk is there when it is durable, as a checkpoint is.

use bytes::Bytes;
use rekindle_schema::MatchId;
use rekindle_schema::archive::{ChunkMeta, Pin};
use rekindle_store::backend;
use rekindle_store::{Archive, StoreError, StoreResult};

use super::{MemoryStore, Op, pause, power_failed};

impl Archive for MemoryStore {
    fn put(&self, meta: ChunkMeta, bytes: Bytes) -> StoreResult<'_, ChunkMeta> {
        Box::pin(async move {
            backend::check_new_chunk(&meta, &bytes)?;
            let fate = (self.plan)(Op::PutChunk(meta.match_id));
            pause(fate.before).await;
            if let Some(error) = fate.fail {
                return Err(error);
            }
            let cuts = self.shared.lock().cuts;
            pause(fate.sync).await;
            let stands = {
                let mut shared = self.shared.lock();
                if shared.cuts != cuts {
                    return Err(power_failed());
                }
                let key = (meta.match_id, meta.first_seq, meta.kind);
                match shared.chunks.get(&key) {
                    Some((there, bytes)) if backend::check_chunk(there, bytes).is_ok() => {
                        there.clone()
                    }
                    _ => {
                        shared.chunks.insert(key, (meta.clone(), bytes));
                        meta
                    }
                }
            };
            pause(fate.after).await;
            if fate.lose_answer {
                return Err(StoreError::Unavailable("the answer to a chunk was lost".to_owned()));
            }
            Ok(stands)
        })
    }

    fn list(&self, match_id: MatchId) -> StoreResult<'_, (Vec<ChunkMeta>, Vec<StoreError>)> {
        Box::pin(self.run(Op::ReadChunk(match_id), move |shared| {
            let mine = shared
                .chunks
                .values()
                .map(|(meta, _)| meta)
                .filter(|meta| meta.match_id == match_id);
            Ok((mine.cloned().collect(), Vec::new()))
        }))
    }

    fn get(&self, meta: &ChunkMeta) -> StoreResult<'_, Bytes> {
        let meta = meta.clone();
        Box::pin(self.run(Op::ReadChunk(meta.match_id), move |shared| {
            let found = shared
                .chunks
                .get(&(meta.match_id, meta.first_seq, meta.kind))
                .filter(|(there, _)| *there == meta);
            let (_, bytes) = found.ok_or_else(|| backend::no_chunk(&meta))?;
            backend::check_chunk(&meta, bytes)?;
            Ok(bytes.clone())
        }))
    }

    fn remove(&self, meta: &ChunkMeta) -> StoreResult<'_, ()> {
        let key = (meta.match_id, meta.first_seq, meta.kind);
        Box::pin(self.run(Op::ReadChunk(meta.match_id), move |shared| {
            shared.chunks.remove(&key);
            Ok(())
        }))
    }

    fn matches(&self) -> StoreResult<'_, Vec<MatchId>> {
        Box::pin(self.run(Op::Pins, |shared| {
            let mut ids: Vec<MatchId> =
                shared.chunks.keys().map(|(match_id, ..)| *match_id).collect();
            ids.dedup();
            Ok(ids)
        }))
    }

    fn pin(&self, pin: Pin) -> StoreResult<'_, ()> {
        Box::pin(self.run(Op::Pins, move |shared| {
            shared.pins.insert(pin.match_id, pin);
            Ok(())
        }))
    }

    fn unpin(&self, match_id: MatchId) -> StoreResult<'_, bool> {
        Box::pin(self.run(Op::Pins, move |shared| Ok(shared.pins.remove(&match_id).is_some())))
    }

    fn pins(&self) -> StoreResult<'_, Vec<Pin>> {
        Box::pin(self.run(Op::Pins, |shared| Ok(shared.pins.values().copied().collect())))
    }
}
