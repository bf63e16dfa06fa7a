//! For backends, and for nobody else: what all of them check before they write and after they
//! read, the errors that they share, and how they read a time in their address.
//!
//! A backend calls these from its ports; who uses a store never does.

use std::time::Duration;

use rekindle_schema::archive::ChunkMeta;
use rekindle_schema::batch::{BATCH_MAGIC, Batch, BatchView, Envelope, MAX_BATCH};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{MatchLease, NodeLease, NodeState, Reached};
use rekindle_schema::{BatchNo, Incarnation, MatchId};

use crate::{MAX_CHUNK, StoreError, archive};

/// What every backend checks of a batch before it writes it: size, checksums, and that it is the
/// batch that it is said to be.
pub fn check_batch(batch: &Batch) -> Result<Envelope, StoreError> {
    if batch.bytes.len() > MAX_BATCH {
        return Err(StoreError::TooLarge {
            what: "a batch",
            size: batch.bytes.len(),
            limit: MAX_BATCH,
        });
    }
    let refuse = |problem: String| StoreError::Corrupt {
        place: format!(
            "batch {} for log {}, before it was written",
            batch.number, batch.incarnation
        ),
        problem,
    };
    let envelope = Envelope::parse(&batch.bytes, BATCH_MAGIC, "batch")
        .map_err(|error| refuse(error.to_string()))?;
    envelope.check(&batch.bytes, "batch").map_err(|error| refuse(error.to_string()))?;
    if (envelope.log, envelope.number) != (batch.incarnation, batch.number) || batch.number.0 == 0 {
        return Err(refuse(format!(
            "its bytes say batch {} of log {}",
            envelope.number, envelope.log
        )));
    }
    // Whoever packs a batch vouches for its directory; reading checks it again.
    debug_assert!(
        BatchView::parse(&batch.bytes).is_ok(),
        "batch {} for log {} is sealed, but its directory does not fit its frames: {:?}",
        batch.number,
        batch.incarnation,
        BatchView::parse(&batch.bytes).err()
    );
    Ok(envelope)
}

/// What every backend checks of a match's row before it writes it: the epochs of its lineage
/// ascend, and none is above the epoch of the row. A history that was read along another lineage
/// would leave out records of an owner, or read them twice.
pub fn check_row(row: &MatchLease) -> Result<(), StoreError> {
    let ascends = row.lineage.windows(2).all(|pair| pair[0].epoch < pair[1].epoch);
    if !ascends {
        return Err(misuse(
            format!("match {}", row.match_id),
            "the epochs of its lineage do not ascend",
        ));
    }
    if row.lineage.last().is_some_and(|newest| newest.epoch > row.epoch) {
        return Err(misuse(
            format!("match {}", row.match_id),
            "its lineage has a later epoch than its row",
        ));
    }
    Ok(())
}

/// What a backend that has the row at hand which `row` takes the place of checks besides: a match
/// never goes back to an earlier epoch. Clients tell by the epoch which frame is newer.
pub fn check_successor(stands: &MatchLease, row: &MatchLease) -> Result<(), StoreError> {
    if row.epoch >= stands.epoch {
        return Ok(());
    }
    Err(misuse(
        format!("match {}", row.match_id),
        "its epoch would go down, and clients would take old frames for new ones",
    ))
}

/// Whether a checkpoint's state is what its manifest says.
pub fn check_state(meta: &CheckpointMeta, state: &[u8]) -> Result<(), StoreError> {
    let problem = if state.len() as u64 == meta.len {
        let crc = crc32c::crc32c(state);
        if crc == meta.crc {
            return Ok(());
        }
        format!("the checksum of its state is {crc:08x}, the manifest says {:08x}", meta.crc)
    } else {
        format!("its state has {} bytes, the manifest says {}", state.len(), meta.len)
    };
    Err(StoreError::Corrupt {
        place: format!("checkpoint of match {} at seq {}", meta.match_id, meta.seq),
        problem,
    })
}

/// Whether the stored bytes of a chunk are what its manifest says.
pub fn check_chunk(meta: &ChunkMeta, bytes: &[u8]) -> Result<(), StoreError> {
    let problem = if bytes.len() as u64 == meta.len {
        let crc = crc32c::crc32c(bytes);
        if crc == meta.crc {
            return Ok(());
        }
        format!("its checksum is {crc:08x}, its manifest says {:08x}", meta.crc)
    } else {
        format!("it has {} bytes, its manifest says {}", bytes.len(), meta.len)
    };
    Err(StoreError::Corrupt { place: archive::place(meta), problem })
}

/// What every backend checks of a chunk before it stores it.
pub fn check_new_chunk(meta: &ChunkMeta, bytes: &[u8]) -> Result<(), StoreError> {
    if bytes.len() > MAX_CHUNK {
        return Err(StoreError::TooLarge {
            what: "a chunk of the archive",
            size: bytes.len(),
            limit: MAX_CHUNK,
        });
    }
    check_chunk(meta, bytes)
}

/// `NotFound`: the archive has no such chunk.
pub fn no_chunk(meta: &ChunkMeta) -> StoreError {
    StoreError::NotFound(archive::place(meta))
}

/// `Refused`: only the row of a match that has ended may be removed.
pub fn removed_unended(match_id: MatchId) -> StoreError {
    misuse(format!("match {match_id}"), "it has not ended, so its row cannot be removed")
}

/// `Refused`: the log begins with batch `first` already, and was to begin with `wanted`.
pub fn begun_elsewhere(log: Incarnation, first: BatchNo, wanted: BatchNo) -> StoreError {
    StoreError::Refused {
        place: format!("log {log}"),
        problem: format!("it begins with batch {first}, so it cannot begin with batch {wanted}"),
    }
}

fn misuse(place: String, problem: &str) -> StoreError {
    StoreError::Refused { place, problem: problem.to_owned() }
}

/// `Refused`: this incarnation is registered with another lease.
pub fn registered_twice(node: Incarnation) -> StoreError {
    misuse(format!("node incarnation {node}"), "it is registered already, with another lease")
}

/// `Refused`: a log is sealed only after its incarnation was fenced.
pub fn sealed_unfenced(node: Incarnation) -> StoreError {
    misuse(format!("node incarnation {node}"), "only the log of a fenced incarnation can be sealed")
}

/// The lease once an operator has accepted that its log ends with batch `last`. `Refused` if it is
/// not fenced.
pub fn loss_accepted(lease: NodeLease, last: BatchNo, at_ms: u64) -> Result<NodeLease, StoreError> {
    if lease.state != NodeState::Fenced {
        let node = lease.incarnation;
        return Err(misuse(
            format!("node incarnation {node}"),
            "only the log of a fenced incarnation can be given up in part",
        ));
    }
    // The checksum of that batch is not known here; 0 is compared with nothing.
    let lowered = |reached: Reached| Reached {
        batch: reached.batch.min(last),
        crc: 0,
        checkpoint: None,
        ..reached
    };
    Ok(NodeLease {
        seal: Some(last),
        reached: lease.reached.map(lowered),
        loss_accepted_ms: Some(at_ms),
        ..lease
    })
}

/// `Refused`: the lease of a live incarnation stays.
pub fn forgot_live(node: Incarnation) -> StoreError {
    misuse(format!("node incarnation {node}"), "the lease of a live incarnation cannot be removed")
}

/// `Refused`: the match exists, with another row.
pub fn created_twice(match_id: MatchId) -> StoreError {
    misuse(format!("match {match_id}"), "it exists already, with another row")
}

/// A time in an address, `500ms` or `5s` or just `5` for seconds, from `least` to `most`.
pub fn time(text: &str, least: Duration, most: Duration) -> Option<Duration> {
    let time = match text.strip_suffix("ms") {
        Some(number) => Duration::from_millis(number.parse().ok()?),
        None => Duration::from_secs(text.strip_suffix('s').unwrap_or(text).parse().ok()?),
    };
    (least..=most).contains(&time).then_some(time)
}

#[cfg(test)]
mod tests {
    use rekindle_schema::Epoch;
    use rekindle_store_conformance::{Scribe, match_lease};

    use super::*;

    const LOG: Incarnation = Incarnation(7);

    #[test]
    #[should_panic(expected = "its directory does not fit its frames")]
    fn a_badly_packed_batch_is_noticed_before_it_is_written() {
        let mut batch = Scribe::new(LOG).small(&[MatchId(1)]);
        let envelope = Envelope::parse(&batch.bytes, BATCH_MAGIC, "batch").unwrap();
        let mut bytes = batch.bytes.to_vec();
        // The first entry of the directory names another match than its frame.
        bytes[rekindle_schema::batch::ENVELOPE] ^= 1;
        envelope.seal(BATCH_MAGIC, &mut bytes);
        batch.bytes = bytes.into();
        let _ = check_batch(&batch);
    }

    #[test]
    fn a_lineage_whose_epochs_do_not_ascend_is_refused() {
        let row = match_lease(MatchId(1), &[(LOG, 1), (Incarnation(8), 5)]);
        assert!(check_row(&row).is_ok());
        let mut twice = row.clone();
        twice.lineage[1].epoch = Epoch(1);
        let mut ahead = row.clone();
        ahead.epoch = Epoch(1);
        for broken in [twice, ahead] {
            assert!(matches!(check_row(&broken), Err(StoreError::Refused { .. })), "{broken:?}");
        }
    }

    #[test]
    fn an_epoch_that_goes_down_is_refused() {
        let stands = match_lease(MatchId(1), &[(LOG, 1), (Incarnation(8), 5)]);
        assert!(check_successor(&stands, &stands).is_ok());
        let before = match_lease(MatchId(1), &[(LOG, 1)]);
        assert!(check_successor(&before, &stands).is_ok());
        let refused = check_successor(&stands, &before).unwrap_err();
        assert!(matches!(refused, StoreError::Refused { .. }), "{refused}");
    }
}
