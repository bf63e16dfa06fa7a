//! Reads all that a store holds, so that damage is found while there is still a second copy.
//! Through the ports: it serves every backend, beside running matches. It checks checksums, chains
//! within logs and whether checkpoints are whole; simulating again is up to `rekindle verify`.

use std::fmt;

use rekindle_schema::batch::BatchView;
use rekindle_schema::{BatchNo, Incarnation};
use rekindle_store::{LogInfo, Store, StoreError};

/// How much of a log is read at once, in bytes.
const STRIDE: usize = 1 << 20;

/// What was read, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrub {
    /// Logs.
    pub logs: usize,
    /// Whole batches in them.
    pub batches: u64,
    /// Whole checkpoints.
    pub checkpoints: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// Damage, in words.
    pub faults: Vec<String>,
}

impl fmt::Display for Scrub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { logs, batches, checkpoints, bytes, faults } = self;
        write!(
            f,
            "{batches} batches of {logs} logs and {checkpoints} checkpoints read, {bytes} bytes: "
        )?;
        match &faults[..] {
            [] => write!(f, "all whole"),
            [first, rest @ ..] => write!(
                f,
                "{} damaged: {first}{}",
                faults.len(),
                if rest.is_empty() { "" } else { " ..." }
            ),
        }
    }
}

/// Reads everything. An error is that the store could not be asked; damage is in the result.
pub async fn scrub(store: &Store) -> Result<Scrub, StoreError> {
    let mut found = Scrub::default();
    for info in store.journal.logs().await? {
        found.logs += 1;
        log(store, &info, &mut found).await?;
    }
    for lease in store.leases.matches().await? {
        let (metas, bad) = store.checkpoints.list(lease.match_id).await?;
        found.faults.extend(bad.iter().map(ToString::to_string));
        for meta in metas {
            match store.checkpoints.get(&meta).await {
                Ok(state) => {
                    found.checkpoints += 1;
                    found.bytes += state.len() as u64;
                }
                // A newer one has taken its place since it was listed.
                Err(StoreError::NotFound(_)) => {}
                Err(error) => damaged(error, &mut found)?,
            }
        }
    }
    Ok(found)
}

/// Notes damage; anything else ends the scrub.
fn damaged(error: StoreError, found: &mut Scrub) -> Result<(), StoreError> {
    match error {
        StoreError::Corrupt { .. } => {
            found.faults.push(error.to_string());
            Ok(())
        }
        other => Err(other),
    }
}

async fn log(store: &Store, info: &LogInfo, found: &mut Scrub) -> Result<(), StoreError> {
    let tail = match store.journal.tail(info.log).await {
        Ok(tail) => tail,
        Err(error) => return damaged(error, found),
    };
    // The tail has described the first damaged place already.
    let mut told = tail.damage.is_some();
    found.faults.extend(tail.damage);
    let mut from = info.first;
    let mut before: Option<u32> = None;
    while from <= tail.last {
        let batches = match store.journal.read(info.log, from, STRIDE).await {
            Ok(batches) => batches,
            // Trimmed meanwhile: what is gone is needed by nobody.
            Err(StoreError::NotFound(_)) => {
                let Some(first) = first_of(store, info.log).await?.filter(|first| *first > from)
                else {
                    return Ok(());
                };
                (from, before) = (first, None);
                continue;
            }
            Err(StoreError::Corrupt { .. }) if told => {
                told = false;
                (from, before) = (from.next(), None);
                continue;
            }
            Err(error) => {
                damaged(error, found)?;
                (from, before) = (from.next(), None);
                continue;
            }
        };
        let Some(last) = batches.last().map(|batch| batch.number) else { return Ok(()) };
        for batch in &batches {
            match BatchView::parse(&batch.bytes) {
                Ok(view) if before.is_some_and(|crc| crc != view.prev_crc()) => {
                    found.faults.push(format!(
                        "batch {} of log {} does not follow the one before it",
                        batch.number, info.log
                    ));
                }
                Ok(_) => {}
                Err(error) => found
                    .faults
                    .push(format!("batch {} of log {}: {error}", batch.number, info.log)),
            }
            found.batches += 1;
            found.bytes += batch.bytes.len() as u64;
            before = Some(batch.crc());
        }
        from = last.next();
    }
    Ok(())
}

async fn first_of(store: &Store, log: Incarnation) -> Result<Option<BatchNo>, StoreError> {
    Ok(store.journal.logs().await?.into_iter().find(|info| info.log == log).map(|info| info.first))
}

#[cfg(test)]
mod tests {
    use rekindle_schema::MatchId;
    use rekindle_store_conformance::{Scribe, checkpoint, match_lease, register};
    use rekindle_store_memory::MemoryStore;

    use super::*;

    const NODE: Incarnation = Incarnation(1);
    const A: MatchId = MatchId(1);

    async fn filled() -> (MemoryStore, Store) {
        let memory = MemoryStore::new();
        let store = memory.store();
        register(&store, NODE).await;
        store.leases.create(match_lease(A, &[(NODE, 1)])).await.unwrap();
        Scribe::new(NODE).append(&store, 9, &[A]).await;
        let (meta, state) = checkpoint(A, 1, NODE, 4, 4, 100);
        store.checkpoints.put(meta, state).await.unwrap();
        (memory, store)
    }

    #[tokio::test]
    async fn what_is_whole_is_counted() {
        let (_memory, store) = filled().await;
        let found = scrub(&store).await.unwrap();
        assert_eq!(
            (found.logs, found.batches, found.checkpoints, found.faults.len()),
            (1, 9, 1, 0),
            "{found}"
        );
    }

    #[tokio::test]
    async fn every_damaged_place_is_named() {
        let (memory, store) = filled().await;
        memory.flip_bit(NODE, BatchNo(5), 500);
        assert!(memory.flip_bit_in_checkpoint(A, 17));
        let found = scrub(&store).await.unwrap();
        assert_eq!(
            (found.batches, found.checkpoints, found.faults.len()),
            (8, 0, 2),
            "{:?}",
            found.faults
        );
        assert!(
            found.faults[0].contains("batch 5") && found.faults[1].contains("checkpoint"),
            "{:?}",
            found.faults
        );
    }
}
