//! Checkpoints as entries of segment logs: one log for each incarnation that took some.
//!
//! An entry is an [`Envelope`], the encoded manifest, the state. [`Index`] knows where each lies;
//! it reads on where it stopped, so that it also sees what other processes have put since.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rekindle_schema::batch::{ENVELOPE, Envelope};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::{BatchNo, Incarnation, MatchId, Seq};
use rekindle_store::backend;
use rekindle_store::{StoreError, TORN_TAIL};

use super::guards::Guards;
use super::segment::{
    CHECKPOINT_MAGIC, Kind, Located, Reader, SEGMENT_HEADER, Segment, Stop, io_error, log_dir,
    logs, segments,
};

/// How much of a segment is looked at in one go.
const STRIDE: usize = 4 << 20;

/// Encodes a checkpoint as the entry `number` of its log.
pub(super) fn encode(meta: &CheckpointMeta, state: &[u8], number: u64, prev_crc: u32) -> Vec<u8> {
    let manifest = meta.encode();
    let mut entry = Vec::with_capacity(ENVELOPE + manifest.len() + state.len());
    entry.resize(ENVELOPE, 0);
    entry.extend_from_slice(&manifest);
    entry.extend_from_slice(state);
    let first = manifest.len() as u32;
    let envelope = Envelope {
        log: meta.log,
        number: BatchNo(number),
        prev_crc,
        len: 0,
        first,
        second: 0,
        crc: 0,
    };
    envelope.seal(CHECKPOINT_MAGIC, &mut entry);
    entry
}

/// Takes an entry apart. Its checksum has been checked.
pub(super) fn decode(entry: &Located) -> Result<(CheckpointMeta, Bytes), String> {
    let end = ENVELOPE.saturating_add(entry.envelope.first as usize);
    let manifest = entry.bytes.get(ENVELOPE..end).ok_or("the manifest is longer than the entry")?;
    let meta = CheckpointMeta::decode(manifest).map_err(|error| error.to_string())?;
    let state = entry.bytes.slice(end..);
    backend::check_state(&meta, &state).map_err(|error| error.to_string())?;
    Ok((meta, state))
}

/// Where one checkpoint lies.
#[derive(Debug, Clone)]
struct Place {
    meta: CheckpointMeta,
    path: PathBuf,
    offset: u64,
}

#[derive(Debug, Default)]
struct Scanned {
    /// Up to where the segment has been read.
    end: u64,
    /// What could not be read, by offset.
    damage: BTreeMap<u64, String>,
    /// What stands behind `end` and is no whole entry.
    tail: Option<String>,
    places: BTreeMap<MatchId, Vec<Place>>,
}

/// Where all checkpoints lie.
#[derive(Debug)]
pub(super) struct Index {
    root: PathBuf,
    guards: Guards,
    scanned: BTreeMap<(Incarnation, u64), Scanned>,
    /// Checkpoints that cover less are trimmed.
    trimmed: BTreeMap<MatchId, Seq>,
}

impl Index {
    /// An index that has read nothing yet.
    pub(super) fn new(root: PathBuf, guards: Guards) -> Self {
        Self { root, guards, scanned: BTreeMap::new(), trimmed: BTreeMap::new() }
    }

    /// Reads what has been written since the last time. `own` says up to where a segment that this
    /// process writes is durable.
    pub(super) fn refresh(
        &mut self,
        own: &BTreeMap<Incarnation, (u64, u64)>,
    ) -> Result<(), StoreError> {
        let mut there = BTreeMap::new();
        for log in logs(&self.root, Kind::Checkpoints)? {
            for segment in segments(&log_dir(&self.root, Kind::Checkpoints, log))? {
                there.insert((log, segment.first), segment);
            }
        }
        self.scanned.retain(|key, _| there.contains_key(key));
        for (key, segment) in there {
            let known = self.scanned.entry(key).or_default();
            let limit = own
                .get(&key.0)
                .filter(|(first, _)| *first <= key.1)
                .map(|&(first, end)| if first == key.1 { end } else { 0 });
            if known.end < limit.unwrap_or(segment.len) {
                match scan(known, &segment, key.0, limit, self.guards) {
                    // Not a file at all: the checkpoints of other segments stand in.
                    Err(StoreError::Corrupt { problem, .. }) => {
                        known.damage.insert(0, problem);
                        known.end = segment.len;
                    }
                    other => other?,
                }
            } else if known.end >= segment.len {
                // What was cut off there has been removed.
                known.tail = None;
            }
        }
        Ok(())
    }

    /// A match's checkpoints, newest first, fully read and checked; and what could not be read of
    /// those that may be its.
    pub(super) fn list(
        &self,
        match_id: MatchId,
    ) -> Result<(Vec<CheckpointMeta>, Vec<StoreError>), StoreError> {
        let mut good: Vec<CheckpointMeta> = Vec::new();
        let mut bad = Vec::new();
        let before = self.trimmed.get(&match_id).copied().unwrap_or_default();
        for (&(log, first), scanned) in &self.scanned {
            let path =
                super::segment::segment_path(&log_dir(&self.root, Kind::Checkpoints, log), first);
            let tail =
                scanned.tail.iter().map(|problem| (scanned.end, format!("{TORN_TAIL}: {problem}")));
            for (offset, problem) in scanned
                .damage
                .iter()
                .map(|(&offset, problem)| (offset, problem.clone()))
                .chain(tail)
            {
                let place = format!(
                    "{} at offset {offset} (a checkpoint of an unknown match)",
                    path.display()
                );
                bad.push(StoreError::Corrupt { place, problem });
            }
            for place in scanned
                .places
                .get(&match_id)
                .into_iter()
                .flatten()
                .filter(|place| place.meta.seq >= before)
            {
                match self.load(place) {
                    Ok(_) if good.contains(&place.meta) => {}
                    Ok(_) => good.push(place.meta.clone()),
                    Err(error @ (StoreError::Corrupt { .. } | StoreError::Io { .. })) => {
                        bad.push(error);
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        good.sort_by_key(|meta| std::cmp::Reverse((meta.seq, meta.epoch)));
        Ok((good, bad))
    }

    /// The state of one checkpoint.
    pub(super) fn get(&self, meta: &CheckpointMeta) -> Result<Bytes, StoreError> {
        let mut places = self
            .scanned
            .values()
            .filter_map(|scanned| scanned.places.get(&meta.match_id))
            .flatten()
            .filter(|place| place.meta == *meta);
        let place = places.next().ok_or_else(|| {
            StoreError::NotFound(format!(
                "the checkpoint of match {} at seq {}",
                meta.match_id, meta.seq
            ))
        })?;
        self.load(place)
    }

    fn load(&self, place: &Place) -> Result<Bytes, StoreError> {
        let corrupt = |problem: String| {
            let place = format!(
                "{} at offset {} (checkpoint of match {} at seq {})",
                place.path.display(),
                place.offset,
                place.meta.match_id,
                place.meta.seq
            );
            StoreError::Corrupt { place, problem }
        };
        let gone = || {
            StoreError::NotFound(format!(
                "the checkpoint of match {} at seq {}",
                place.meta.match_id, place.meta.seq
            ))
        };
        let reader = Reader::open(&place.path, Kind::Checkpoints, place.meta.log, self.guards)?
            .ok_or_else(gone)?;
        let want = (place.meta.len as usize).min(rekindle_store::MAX_CHECKPOINT) + STRIDE / 4;
        let entry = match reader.entries(place.offset, want)? {
            (entries, stop) if entries.is_empty() => {
                return Err(corrupt(if let Stop::Bad(_, error) = stop {
                    error.to_string()
                } else {
                    "the file ends before it".to_owned()
                }));
            }
            (entries, _) => entries.into_iter().next().ok_or_else(gone)?,
        };
        let (meta, state) = decode(&entry).map_err(corrupt)?;
        if meta != place.meta {
            return Err(corrupt("another checkpoint lies there now".to_owned()));
        }
        // A copy, so that the neighbours in the chunk do not stay in memory with it.
        Ok(Bytes::copy_from_slice(&state))
    }

    /// Forgets a match's checkpoints that cover less than `before`, and removes segments in which
    /// nothing is needed any more, except those that `writing` names and everything behind them in
    /// the same log.
    pub(super) fn trim(
        &mut self,
        match_id: MatchId,
        before: Seq,
        writing: &BTreeMap<Incarnation, (u64, u64)>,
    ) -> Result<(), StoreError> {
        let floor = self.trimmed.entry(match_id).or_default();
        *floor = before.max(*floor);
        let trimmed = &self.trimmed;
        let needed = |place: &Place| {
            trimmed.get(&place.meta.match_id).is_none_or(|&before| place.meta.seq >= before)
        };
        let mut dead = Vec::new();
        for (&(log, first), scanned) in &self.scanned {
            let last = self.scanned.range((log, first)..=(log, u64::MAX)).nth(1).is_none();
            let open = writing.get(&log).is_some_and(|&(current, _)| first >= current);
            let whole = scanned.damage.is_empty() && scanned.tail.is_none();
            if whole
                && !open
                && !scanned.places.is_empty()
                && !scanned.places.values().flatten().any(needed)
            {
                dead.push(((log, first), last));
            }
        }
        for (key, last) in dead {
            // The last segment may be the one that another process writes: then it holds the lock.
            let dir = log_dir(&self.root, Kind::Checkpoints, key.0);
            let lock = std::fs::File::open(&dir).map_err(|error| io_error("open", &dir, &error))?;
            if last && !writing.contains_key(&key.0) && lock.try_lock().is_err() {
                continue;
            }
            let path =
                super::segment::segment_path(&log_dir(&self.root, Kind::Checkpoints, key.0), key.1);
            remove(&path)?;
            self.scanned.remove(&key);
        }
        Ok(())
    }
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(io_error("remove", path, &error))
        }
        _ => Ok(()),
    }
}

/// Reads a segment from where it was left, up to `limit`. Entries whose bytes are damaged are
/// passed over and remembered.
fn scan(
    known: &mut Scanned,
    segment: &Segment,
    log: Incarnation,
    limit: Option<u64>,
    guards: Guards,
) -> Result<(), StoreError> {
    let Some(reader) = Reader::open(&segment.path, Kind::Checkpoints, log, guards)? else {
        return Ok(());
    };
    let limit = limit.unwrap_or(u64::MAX);
    let mut offset = known.end.max(SEGMENT_HEADER as u64);
    let mut new = Vec::new();
    known.tail = None;
    while offset < limit {
        let (entries, stop) = reader.entries(offset, STRIDE)?;
        // A chunk may reach beyond what is durable: that may never become so.
        let beyond = entries.last().is_some_and(|entry| entry.end() > limit);
        for entry in entries.into_iter().take_while(|entry| entry.end() <= limit) {
            offset = entry.end();
            match decode(&entry) {
                Ok((meta, _)) => {
                    new.push(Place { meta, path: segment.path.clone(), offset: entry.offset });
                }
                Err(problem) => {
                    known.damage.insert(entry.offset, problem);
                }
            }
        }
        known.end = offset;
        if beyond || offset >= limit {
            break;
        }
        match stop {
            Stop::Full => {}
            Stop::End => break,
            Stop::Bad(at, error) => {
                if let Some(behind) = reader.resync(at + 1)? {
                    if reader.entries(at, 1)?.0.is_empty() {
                        known.damage.insert(at, error.to_string());
                        offset = behind.offset;
                    }
                } else {
                    known.tail = Some(format!("cut off or damaged: {error}"));
                    break;
                }
            }
        }
    }
    if !new.is_empty() {
        // Another process may not have synced it yet; what is listed must be durable.
        reader.sync()?;
        for place in new {
            known.places.entry(place.meta.match_id).or_default().push(place);
        }
    }
    Ok(())
}
