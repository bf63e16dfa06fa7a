//! Writing checkpoints: waits until what one covers is durable, checks it, stores it, drops what
//! is no longer needed.
//!
//! Called for tickets of the scheduler, for the last checkpoint of a match that has ended, and by a
//! drain. Runs beside the matches, never on a shard thread.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::StoredCheckpoint;
use rekindle_schema::{Seq, StateHash};
use rekindle_store::StoreError;
use tokio::time::{Instant, sleep};

use super::chain::{Captured, Prepared};
use super::ticket::{Taken, Ticket};
use crate::core::Durable;
use crate::play::cell::MatchCell;
use crate::services::Services;

/// A place for writing checkpoints rests for so many times as long as it wrote.
const REST: u32 = 3;
/// Attempts at writing one checkpoint; a later one takes its place.
const ATTEMPTS: u32 = 5;

impl Services {
    /// Writes a checkpoint in the background.
    pub(crate) fn store_checkpoint(
        self: &Arc<Self>,
        cell: Arc<MatchCell>,
        ticket: Ticket,
        taken: Taken,
    ) {
        let host = Arc::clone(self);
        self.spawn(async move {
            match store(&host, &cell, taken).await {
                Ok(took) => {
                    tokio::time::sleep(rest(took)).await;
                    ticket.finish();
                }
                Err(error) if host.journal.is_halted() => tracing::debug!(%error, "checkpoint \
                    given up"),
                Err(error) => {
                    ticket.postpone();
                    tracing::error!(
                        code = "RK-HOST-033", match_id = %cell.match_id, %error,
                        "checkpoint was not stored"
                    );
                }
            }
        });
    }
}

/// Stores a checkpoint once the record that it covers is durable, and drops all but the newest two
/// chains, if that is its task. Returns how long the writing took.
pub(crate) async fn store(
    host: &Services,
    cell: &MatchCell,
    taken: Taken,
) -> Result<Duration, StoreError> {
    let mut ledger = cell.books.subscribe();
    let mut halted = host.journal.halted();
    let durable = tokio::select! {
        biased;
        _ = halted.wait_for(Option::is_some) => return Err(StoreError::Fenced(host.incarnation)),
        reached = ledger.wait_for(|ledger| ledger.durable().seq >= taken.seq) => {
            reached.map_err(|_| StoreError::NotFound(format!("match {}", cell.match_id)))?.durable()
        }
    };
    covered(&taken, durable).map_err(|problem| refused(cell, taken.seq, problem))?;
    let Taken { seq, tick, batch, beat, captured } = taken;
    let kind = captured.kind();
    let (prepared, hash) = prepare(host, cell, seq, beat, captured)
        .await
        .inspect_err(|_| cell.checkpoints.break_off())?;
    let stored = prepared.stored.clone();
    let meta = CheckpointMeta {
        match_id: cell.match_id,
        epoch: cell.epoch,
        seq,
        tick,
        log: host.incarnation,
        batch,
        build: host.build,
        hash,
        time_ms: (host.clock)(),
        len: stored.len() as u64,
        crc: crc32c::crc32c(&stored),
        base: prepared.base,
    };
    let (name, bytes) = (meta.as_base(), stored.len());
    tracing::debug!(
        code = "RK-HOST-038", match_id = %cell.match_id, %seq, %tick,
        kind = kind.as_str(), bytes,
        "checkpoint is being written"
    );
    let started = Instant::now();
    put(host, meta, stored).await?;
    host.journal.stored_checkpoint(StoredCheckpoint { match_id: cell.match_id, name });
    let took = started.elapsed();
    host.meters.checkpoint_put.record(took);
    host.meters.checkpoint_bytes(kind).record(bytes as f64);
    let second = cell.checkpoints.stored(name, tick, prepared);
    if host.config.trim_checkpoints
        && let Some(second) = second
        && let Err(error) = host.store.checkpoints.trim(cell.match_id, second).await
    {
        tracing::warn!(code = "RK-HOST-030", match_id = %cell.match_id, %error, "old checkpoints \
            are still there; the next one tries again");
    }
    Ok(took)
}

/// Puts the bytes together, where it holds up no match, and hashes the state. A state with another
/// hash than the match computed itself is not stored.
async fn prepare(
    host: &Services,
    cell: &MatchCell,
    seq: Seq,
    beat: Option<StateHash>,
    captured: Captured,
) -> Result<(Prepared, StateHash), StoreError> {
    let game = Arc::clone(&cell.game);
    let work = move || {
        let prepared = captured.prepare().map_err(|error| error.to_string())?;
        let hash = game
            .checkpoint_hash(&prepared.state)
            .ok_or("its bytes are no checkpoint of the game")?;
        same_hash(beat, hash).map(|()| (prepared, hash))
    };
    let done = host.offload(work).await.and_then(|result| result);
    done.map_err(|problem| refused(cell, seq, problem))
}

/// A checkpoint that must not be stored.
fn refused(cell: &MatchCell, seq: Seq, problem: String) -> StoreError {
    StoreError::Refused {
        place: format!("checkpoint of match {} at seq {seq}", cell.match_id),
        problem,
    }
}

/// A checkpoint has nothing in it that is not durable: after a crash it would be ahead of the
/// journal.
fn covered(taken: &Taken, durable: Durable) -> Result<(), String> {
    if taken.seq <= durable.seq && taken.tick <= durable.tick {
        return Ok(());
    }
    let (seq, tick) = (taken.seq, taken.tick);
    Err(format!(
        "it covers record {seq} and tick {tick}, durable are {} and {}",
        durable.seq, durable.tick
    ))
}

/// The bytes that are stored hash to what the match computed itself at the same tick, if it did.
fn same_hash(beat: Option<StateHash>, hash: StateHash) -> Result<(), String> {
    match beat {
        Some(beat) if beat != hash => {
            Err(format!("it has the hash {hash}, the match computed {beat} at the same tick"))
        }
        _ => Ok(()),
    }
}

/// How long to wait after a checkpoint whose writing took so long: the journal writes to the same
/// device, and players wait for the journal.
pub(crate) fn rest(took: Duration) -> Duration {
    (took * REST).min(Duration::from_secs(1))
}

async fn put(host: &Services, meta: CheckpointMeta, state: Bytes) -> Result<(), StoreError> {
    let mut pause = Duration::from_millis(20);
    for attempt in 1..=ATTEMPTS {
        match host.store.checkpoints.put(meta.clone(), state.clone()).await {
            Err(error) if error.is_transient() && attempt < ATTEMPTS => {
                tracing::warn!(
                    code = "RK-HOST-031", match_id = %meta.match_id, %error, attempt,
                    "checkpoint will be written again"
                );
                sleep(pause).await;
                pause *= 2;
            }
            done => return done,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rekindle_schema::{BatchNo, Tick};

    use super::*;

    fn taken(seq: u64, tick: u64) -> Taken {
        let captured = Captured::Full { state: Bytes::new(), marks: None };
        Taken { seq: Seq(seq), tick: Tick(tick), batch: BatchNo(1), beat: None, captured }
    }

    #[test]
    fn a_checkpoint_ahead_of_the_journal_is_refused() {
        let durable = Durable { seq: Seq(5), tick: Tick(50), batch: BatchNo(2) };
        assert_eq!(covered(&taken(5, 50), durable), Ok(()));
        for (seq, tick) in [(6, 50), (5, 51)] {
            assert!(covered(&taken(seq, tick), durable).is_err(), "record {seq}, tick {tick}");
        }
    }

    #[test]
    fn a_checkpoint_with_another_hash_than_the_beat_is_refused() {
        let (one, other) = (StateHash([1; 32]), StateHash([2; 32]));
        assert_eq!((same_hash(None, one), same_hash(Some(one), one)), (Ok(()), Ok(())));
        assert!(same_hash(Some(one), other).is_err());
    }
}
