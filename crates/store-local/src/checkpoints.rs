//! The checkpoint port: one thread for each incarnation writes checkpoints into segments of its
//! own, the [index](super::index) finds them again.

use std::collections::btree_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use rekindle_schema::batch::Envelope;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::{Incarnation, MatchId, Seq};
use rekindle_store::backend;
use rekindle_store::{Checkpoints, MAX_CHECKPOINT, StoreError, StoreResult};

use super::guards::Guards;
use super::reader::LogReader;
use super::segment::{CHECKPOINT_MAGIC, Kind, log_dir};
use super::watch::Watched;
use super::writer::{LogWriter, Writer, forget_unacknowledged, gone};
use super::{LocalStore, Puts, blocking, index};

impl LocalStore {
    fn putter(&self, log: Incarnation) -> Result<Puts, StoreError> {
        let mut puts = self.puts.lock();
        let vacant = match puts.entry(log) {
            Entry::Occupied(found) => return Ok(Arc::clone(found.get())),
            Entry::Vacant(vacant) => vacant,
        };
        let (options, root) = (self.options.clone(), self.root.clone());
        let reader =
            Arc::new(LogReader::new(root.clone(), Kind::Checkpoints, Guards::of(&self.options)));
        let mut watched = Watched::new(&self.watch, Kind::Checkpoints, log);
        let durable = Arc::clone(&self.durable);
        let opened = Arc::clone(&durable);
        let writer =
            Writer::start(
                format!("checkpoints {log}"),
                self.options.checkpoint_queue,
                move || {
                    let acknowledged = opened.lock().get(&log).copied();
                    if let Some(end) = acknowledged {
                        forget_unacknowledged(
                            &*options.disk,
                            &log_dir(&root, Kind::Checkpoints, log),
                            end,
                        )?;
                    }
                    let writer = LogWriter::open(&options, &root, Kind::Checkpoints, log, reader)?;
                    opened.lock().insert(log, writer.durable());
                    Ok(writer)
                },
                move |writer, (meta, state): (CheckpointMeta, Bytes)| {
                    let (number, prev_crc) = writer.next();
                    let entry = index::encode(&meta, &state, number, prev_crc);
                    let envelope = Envelope::parse(&entry, CHECKPOINT_MAGIC, "checkpoint")
                        .map_err(|error| StoreError::Corrupt {
                            place: "a checkpoint before it was written".to_owned(),
                            problem: error.to_string(),
                        })?;
                    writer.append(&envelope, &entry)?;
                    watched.after_write(writer)?;
                    durable.lock().insert(log, writer.durable());
                    Ok(())
                },
            )?;
        Ok(Arc::clone(vacant.insert(Arc::new(writer))))
    }

    /// A checkpoint that failed is no reason to take no more: nobody has been told that it is
    /// there, and the next writer cuts off what is there of it. (Of a journal's log the first error
    /// is the last word.)
    async fn replace_putter(&self, log: Incarnation, failed: Puts) {
        {
            let mut puts = self.puts.lock();
            if puts.get(&log).is_some_and(|writer| Arc::ptr_eq(writer, &failed)) {
                puts.remove(&log);
            }
        }
        // The last one to let go of it waits for its thread, which holds the lock of the log. An
        // error here would be a panic of that thread.
        let _ = blocking(move || {
            drop(failed);
            Ok(())
        })
        .await;
    }

    /// Runs `work` on the index of checkpoints, after it has seen what was put since.
    async fn indexed<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut index::Index) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (index, durable) = (Arc::clone(&self.index), Arc::clone(&self.durable));
        blocking(move || {
            let mut index = index.lock();
            let own = durable.lock().clone();
            index.refresh(&own)?;
            work(&mut index)
        })
        .await
    }
}

impl Checkpoints for LocalStore {
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
            let log = meta.log;
            let writer = self.putter(log)?;
            let outcome = writer.send((meta, state))?;
            let result = outcome.await.map_err(|_| gone(writer.name()))?;
            if let Err(StoreError::Io { .. } | StoreError::Refused { .. }) = &result {
                self.replace_putter(log, writer).await;
            }
            result
        })
    }

    fn list(&self, match_id: MatchId) -> StoreResult<'_, (Vec<CheckpointMeta>, Vec<StoreError>)> {
        Box::pin(self.indexed(move |index| index.list(match_id)))
    }

    fn get(&self, meta: &CheckpointMeta) -> StoreResult<'_, Bytes> {
        let meta = meta.clone();
        Box::pin(self.indexed(move |index| index.get(&meta)))
    }

    fn trim(&self, match_id: MatchId, before: Seq) -> StoreResult<'_, ()> {
        let durable = Arc::clone(&self.durable);
        Box::pin(self.indexed(move |index| {
            let writing = durable.lock().clone();
            index.trim(match_id, before, &writing)
        }))
    }
}
