//! What the node sends to a trial process: a match's row and history. Both ends are the same
//! executable, so the format needs no version: `u32` length, a [`Request`] as JSON, then the bytes
//! of the lease row, the checkpoint and the records, in this order.

use std::io::Read as _;

use bytes::Bytes;
use rekindle_schema::batch::{Frame, FrameHeader};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::MatchLease;
use rekindle_schema::{BuildId, Epoch, Seq, Tick};
use rekindle_store::history::History;
use serde::{Deserialize, Serialize};

/// A request that claims to be longer is none.
const MAX_REQUEST: u32 = 64 << 20;
/// Most ticks that are made behind the journal.
pub(super) const MOST_TICKS: u64 = 600;

/// What a trial process does with a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Task {
    /// Replays it, and goes on behind it.
    Play {
        /// Ticks to make behind the journal.
        ticks: u64,
    },
    /// Replays it, and compares it with what was recorded.
    Compare {
        /// Counts what happened, too.
        backtest: bool,
    },
}

/// What is asked of a trial process. Both ends are the same executable.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// The build of the node that asks.
    pub(super) build: u64,
    /// What is done with it.
    pub(super) task: Task,
    /// Length of the encoded lease row.
    lease: usize,
    /// The encoded manifest, and the length of the state.
    checkpoint: Option<(Vec<u8>, usize)>,
    /// The record that the full checkpoint under it covers.
    root: Option<u64>,
    /// Epoch, seq, first and last tick, build, time, previous checksum, checksum, length.
    frames: Vec<[u64; 9]>,
}

/// The bytes of a request, in parts, or why there can be none.
pub(super) fn encode(
    row: &MatchLease,
    history: &History,
    build: BuildId,
    task: Task,
) -> Result<Vec<Bytes>, String> {
    let lease = Bytes::from(row.encode());
    let head = |frame: &Frame| {
        let header = &frame.header;
        let ticks = [header.first_tick.0, header.last_tick.0];
        let sums = [u64::from(header.prev_crc), u64::from(frame.crc), frame.payload.len() as u64];
        [
            header.epoch.0,
            header.seq.0,
            ticks[0],
            ticks[1],
            header.build.0,
            header.time_ms,
            sums[0],
            sums[1],
            sums[2],
        ]
    };
    let request = Request {
        build: build.0,
        task,
        lease: lease.len(),
        checkpoint: history.checkpoint.as_ref().map(|(meta, state)| (meta.encode(), state.len())),
        root: history.root.map(|root| root.0),
        frames: history.frames.iter().map(head).collect(),
    };
    let json = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
    let length = u32::try_from(json.len()).ok().filter(|&length| length <= MAX_REQUEST);
    let length = length.ok_or("its history has too many records for a trial")?;
    let mut parts = vec![Bytes::copy_from_slice(&length.to_le_bytes()), json.into(), lease];
    parts.extend(history.checkpoint.iter().map(|(_, state)| state.clone()));
    parts.extend(history.frames.iter().map(|frame| frame.payload.clone()));
    Ok(parts)
}

/// Reads a request; `None` at the end of the input.
pub(super) fn decode(
    input: &mut impl std::io::Read,
) -> std::io::Result<Option<(Request, MatchLease, History)>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        done => done?,
    }
    let length = u32::from_le_bytes(length);
    if length > MAX_REQUEST {
        return Err(std::io::Error::other("a request that is too long"));
    }
    let mut take = |length: usize| {
        let mut bytes = Vec::new();
        let read = input.by_ref().take(length as u64).read_to_end(&mut bytes)?;
        if read == length {
            Ok(Bytes::from(bytes))
        } else {
            Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
        }
    };
    let request: Request = serde_json::from_slice(&take(length as usize)?)?;
    let lease = MatchLease::decode(&take(request.lease)?).map_err(std::io::Error::other)?;
    let mut history = History { root: request.root.map(Seq), ..History::default() };
    if let Some((meta, length)) = &request.checkpoint {
        let meta = CheckpointMeta::decode(meta).map_err(std::io::Error::other)?;
        history.checkpoint = Some((meta, take(*length)?));
    }
    for &[epoch, seq, first, last, build, time_ms, prev_crc, crc, length] in &request.frames {
        let header = FrameHeader {
            match_id: lease.match_id,
            epoch: Epoch(epoch),
            seq: Seq(seq),
            first_tick: Tick(first),
            last_tick: Tick(last),
            build: BuildId(build),
            time_ms,
            prev_crc: prev_crc as u32,
        };
        history.frames.push(Frame { header, crc: crc as u32, payload: take(length as usize)? });
    }
    Ok(Some((request, lease, history)))
}

#[cfg(test)]
mod tests {
    use rekindle_schema::lease::{DEFAULT_REGION, MatchSpec, MatchState};
    use rekindle_schema::{Incarnation, MatchId, StateHash};

    use super::*;

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        let spec = MatchSpec {
            game: "test".into(),
            config: Bytes::from_static(b"{}"),
            seed: 1,
            tick_rate: 30,
            house_bots: 0,
            created_ms: 0,
        };
        let row = MatchLease {
            match_id: MatchId(7),
            version: 1,
            epoch: Epoch(2),
            incarnation: Incarnation(3),
            state: MatchState::Running,
            attempts: 1,
            lineage: Vec::new(),
            spec,
            region: DEFAULT_REGION.to_owned(),
        };
        let meta = CheckpointMeta {
            match_id: row.match_id,
            epoch: row.epoch,
            seq: Seq(4),
            tick: Tick(5),
            log: row.incarnation,
            batch: rekindle_schema::BatchNo(6),
            build: BuildId(7),
            hash: StateHash([8; 32]),
            time_ms: 9,
            len: 5,
            crc: 10,
            base: None,
        };
        let header = FrameHeader {
            match_id: row.match_id,
            epoch: row.epoch,
            seq: Seq(5),
            first_tick: Tick(6),
            last_tick: Tick(7),
            build: BuildId(u64::MAX),
            time_ms: 1,
            prev_crc: 2,
        };
        let frame = Frame { header, crc: u32::MAX, payload: Bytes::from_static(b"payload") };
        let history = History {
            checkpoint: Some((meta, Bytes::from_static(b"state"))),
            frames: vec![frame],
            root: Some(Seq(4)),
            notes: Vec::new(),
        };
        let task = Task::Play { ticks: 90 };
        let sent: Vec<u8> = encode(&row, &history, BuildId(7), task).unwrap().concat();
        let (request, lease, got) = decode(&mut &sent[..]).unwrap().unwrap();
        assert_eq!((request.build, request.task, lease), (7, task, row));
        assert_eq!(got, history);
        assert!(decode(&mut &sent[..0]).unwrap().is_none(), "the end");
        for cut in [3, 10, sent.len() - 1] {
            let cut = decode(&mut &sent[..cut]);
            assert!(!matches!(cut, Ok(Some(_))), "cut off");
        }
    }
}
