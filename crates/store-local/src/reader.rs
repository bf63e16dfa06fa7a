//! Reading logs: from any entry on, and where they end.
//!
//! The rule for what is damaged: an entry is appended by one write, and synced before the next is
//! written. So bytes that are no whole entry are a *torn tail* if they can be the beginning of one
//! entry, and *corrupt* if they prove that there were later ones: something whole lies behind them,
//! or anything at all behind the length that the bad entry itself gives, or a later segment was
//! begun, or the entry belongs to another log. A log may grow while it is read, so before anything
//! is called corrupt it is read once more.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;

use parking_lot::Mutex;
use rekindle_schema::Incarnation;
use rekindle_schema::batch::BatchError;
use rekindle_store::StoreError;

use super::guards::Guards;
use super::segment::{Kind, Located, Reader, SEGMENT_HEADER, Segment, Stop, log_dir, segments};

/// How much of a log is looked at in one go when nobody asks for the bytes.
const STRIDE: usize = 4 << 20;

/// Of how many sequential readers of one log the places are kept; the one that was used longest ago
/// is forgotten. More readers than that still read right, from the beginning of the segment on.
const READERS: usize = 64;

/// Where the next entry begins that a sequential reader will ask for.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    segment: u64,
    number: u64,
    offset: u64,
    prev_crc: u32,
}

/// The places of a log's sequential readers, the newest last, none twice.
#[derive(Debug, Default)]
struct Cursors(VecDeque<Cursor>);

impl Cursors {
    /// The place from which the fewest entries lie before entry `from` of `segment`.
    fn nearest(&self, segment: u64, from: u64) -> Option<Cursor> {
        let usable = |cursor: &&Cursor| cursor.segment == segment && cursor.number <= from;
        self.0.iter().filter(usable).max_by_key(|cursor| cursor.number).copied()
    }

    fn keep(&mut self, cursor: Cursor) {
        self.0.retain(|known| known.number != cursor.number);
        if self.0.len() >= READERS {
            self.0.pop_front();
        }
        self.0.push_back(cursor);
    }
}

/// Reads the logs of one kind below a data directory.
pub(super) struct LogReader {
    root: PathBuf,
    kind: Kind,
    guards: Guards,
    cursors: Mutex<BTreeMap<Incarnation, Cursors>>,
}

/// An entry and the file that it lies in.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    /// Which file.
    pub path: PathBuf,
    /// The entry in it.
    pub entry: Located,
}

/// The end of a log.
#[derive(Debug, Clone, Default)]
pub(super) struct LogEnd {
    /// The number of the last whole entry; one less than the first if there is none.
    pub last: u64,
    /// Its checksum, 0 if there is none.
    pub crc: u32,
    /// The segment with the last whole entry, and where the entry ends in it.
    pub at: Option<(Segment, u64)>,
    /// What lies behind it: in which segments, from which offset on.
    pub torn: Vec<(Segment, u64)>,
    /// The same in words.
    pub report: Option<String>,
    /// What lies before the end and is no whole entry, in words.
    pub damage: Option<String>,
    /// What stands behind the last whole entry is no torn tail: there was at least one more, and it
    /// was acknowledged.
    pub traces: bool,
}

impl LogEnd {
    /// The last entry that was certainly there.
    pub(super) fn proven(&self) -> u64 {
        self.last + u64::from(self.traces)
    }
}

impl LogReader {
    pub(super) fn new(root: PathBuf, kind: Kind, guards: Guards) -> Self {
        Self { root, kind, guards, cursors: Mutex::default() }
    }

    fn place(&self, log: Incarnation, segment: &Segment, offset: u64, number: u64) -> String {
        format!(
            "{} at offset {offset} ({} {number} of log {log})",
            segment.path.display(),
            self.kind.what()
        )
    }

    /// What is wrong if `next` does not begin where the segment before it ends.
    fn goes_on(&self, next: &Segment) -> String {
        format!("the log goes on with {} {} in the next segment", self.kind.what(), next.first)
    }

    /// Whole entries from `from` on: one if there is one, then as many as fit in `max` bytes.
    pub(super) fn read(
        &self,
        log: Incarnation,
        from: u64,
        max: usize,
    ) -> Result<Vec<Placed>, StoreError> {
        let from = from.max(1);
        let segments = segments(&log_dir(&self.root, self.kind, log))?;
        let Some(oldest) = segments.first() else { return Ok(Vec::new()) };
        if from < oldest.first {
            return Err(StoreError::NotFound(format!(
                "{} {from} of log {log}, which begins with {},",
                self.kind.what(),
                oldest.first
            )));
        }
        let mut index = segments.partition_point(|segment| segment.first <= from) - 1;
        let begin = |segment: &Segment| (segment.first, SEGMENT_HEADER as u64, None);
        let cursors = self.cursors.lock();
        let cursor =
            cursors.get(&log).and_then(|places| places.nearest(segments[index].first, from));
        drop(cursors);
        let (number, offset, prev_crc) = cursor.map_or_else(
            || begin(&segments[index]),
            |cursor| (cursor.number, cursor.offset, Some(cursor.prev_crc)),
        );
        let mut scan = Scan { from, max, number, offset, prev_crc, bytes: 0, found: Vec::new() };
        loop {
            let segment = &segments[index];
            let reader = match Reader::open(&segment.path, self.kind, log, self.guards) {
                Ok(Some(reader)) => reader,
                Ok(None) => {
                    return Err(StoreError::NotFound(format!(
                        "{} {} of log {log}",
                        self.kind.what(),
                        scan.number
                    )));
                }
                // What lies before it is whole.
                Err(StoreError::Corrupt { .. }) if !scan.found.is_empty() => {
                    index -= 1;
                    break;
                }
                Err(error) => return Err(error),
            };
            if !self.read_segment(&reader, log, &segments, index, &mut scan)? {
                break;
            }
            index += 1;
            let Some(next) = segments.get(index) else { break };
            if next.first != scan.number {
                if scan.found.is_empty() {
                    return Err(StoreError::Corrupt {
                        place: self.place(log, segment, scan.offset, scan.number),
                        problem: self.goes_on(next),
                    });
                }
                index -= 1;
                break;
            }
            scan.offset = SEGMENT_HEADER as u64;
        }
        let Scan { number, offset, prev_crc, found, .. } = scan;
        if let Some(prev_crc) = prev_crc {
            let segment = segments[index.min(segments.len() - 1)].first;
            let cursor = Cursor { segment, number, offset, prev_crc };
            self.cursors.lock().entry(log).or_default().keep(cursor);
        }
        Ok(found)
    }

    /// Reads on in segment `index`, up to its end. False: enough was found, or what comes next is
    /// not whole.
    fn read_segment(
        &self,
        reader: &Reader,
        log: Incarnation,
        segments: &[Segment],
        index: usize,
        scan: &mut Scan,
    ) -> Result<bool, StoreError> {
        let segment = &segments[index];
        loop {
            let room = (scan.max - scan.bytes.min(scan.max)).clamp(1, STRIDE);
            let (entries, mut stop) = reader.entries(scan.offset, room)?;
            for entry in entries {
                if let Err(error) = self.follows(&entry, scan.number, scan.prev_crc) {
                    stop = Stop::Bad(entry.offset, error);
                    break;
                }
                if !scan.take(segment, entry) {
                    return Ok(false);
                }
            }
            match stop {
                Stop::Full if scan.bytes >= scan.max && !scan.found.is_empty() => return Ok(false),
                Stop::Full => {}
                Stop::End => return Ok(true),
                Stop::Bad(..) if !scan.found.is_empty() => return Ok(false),
                Stop::Bad(at, error) => match self.judge(
                    reader,
                    log,
                    at,
                    scan.number,
                    scan.prev_crc,
                    &segments[index + 1..],
                )? {
                    Verdict::WholeNow => scan.offset = at,
                    Verdict::Torn => return Ok(false),
                    Verdict::Corrupt(Some(behind))
                        if behind.envelope.number.0 <= scan.from
                            && behind.envelope.number.0 > scan.number =>
                    {
                        (scan.number, scan.offset, scan.prev_crc) =
                            (behind.envelope.number.0, behind.offset, None);
                    }
                    Verdict::Corrupt(_) => {
                        let place = self.place(log, segment, at, scan.number);
                        return Err(StoreError::Corrupt { place, problem: error.to_string() });
                    }
                },
            }
        }
    }

    fn follows(
        &self,
        entry: &Located,
        number: u64,
        prev_crc: Option<u32>,
    ) -> Result<(), BatchError> {
        if entry.envelope.number.0 != number {
            return Err(BatchError::Layout { what: "log: another entry stands here" });
        }
        if Guards::checksums(self.guards)
            && prev_crc.is_some_and(|crc| crc != entry.envelope.prev_crc)
        {
            return Err(BatchError::Layout {
                what: "log: the entry does not follow the one before it",
            });
        }
        Ok(())
    }

    /// What bytes mean that are no whole entry.
    fn judge(
        &self,
        reader: &Reader,
        log: Incarnation,
        at: u64,
        number: u64,
        prev_crc: Option<u32>,
        later: &[Segment],
    ) -> Result<Verdict, StoreError> {
        let mut behind = reader.resync(at + 1)?;
        let here = behind.is_some();
        let more = !later.is_empty() || reader.goes_on_behind(at)?;
        for segment in later {
            if behind.is_some() {
                break;
            }
            match Reader::open(&segment.path, self.kind, log, self.guards) {
                Ok(Some(reader)) => behind = reader.resync(0)?,
                // Gone, or no file: nothing whole is in it.
                Ok(None) | Err(StoreError::Corrupt { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let again = reader.entries(at, 1)?.0.into_iter().next();
        match again {
            Some(entry) if self.follows(&entry, number, prev_crc).is_ok() => Ok(Verdict::WholeNow),
            Some(_) => Ok(Verdict::Corrupt(behind.filter(|_| here))),
            None if behind.is_some() || more => Ok(Verdict::Corrupt(behind.filter(|_| here))),
            None => Ok(Verdict::Torn),
        }
    }

    /// Where a log ends.
    pub(super) fn end(&self, log: Incarnation) -> Result<LogEnd, StoreError> {
        let segments = segments(&log_dir(&self.root, self.kind, log))?;
        let mut end = LogEnd {
            last: segments.first().map_or(0, |oldest| oldest.first - 1),
            ..LogEnd::default()
        };
        // A later segment was begun, but nothing whole is in it.
        let mut traces = false;
        for (index, segment) in segments.iter().enumerate().rev() {
            end.traces = false;
            let reader = match Reader::open(&segment.path, self.kind, log, self.guards) {
                Ok(Some(reader)) => reader,
                Ok(None) => continue,
                // Something that is no file stands where a segment was begun: what the segment had
                // cannot be told, so it had something.
                Err(StoreError::Corrupt { place, problem }) => {
                    end.damage = Some(format!("{place}: {problem}"));
                    traces = true;
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (number, offset, prev_crc) =
                self.end_of_segment(&reader, log, &segments, index, &mut end)?;
            if let Some(next) = segments.get(index + 1).filter(|next| next.first != number) {
                let place = self.place(log, segment, offset, number);
                end.damage = Some(format!("{place}: {}", self.goes_on(next)));
            }
            if let Some(crc) = prev_crc {
                end.traces |= traces;
                return Ok(LogEnd {
                    last: number - 1,
                    crc,
                    at: Some((segment.clone(), offset)),
                    ..end
                });
            }
            traces |= end.traces;
            if !end.traces && !end.torn.iter().any(|(torn, _)| torn.first == segment.first) {
                end.torn.push((segment.clone(), SEGMENT_HEADER as u64));
            }
        }
        end.traces |= traces;
        Ok(end)
    }

    /// Reads segment `index` to its last whole entry. Returns the number of the entry behind it,
    /// where that lies, and the checksum of the last whole one, if there is any. What is torn or
    /// damaged is noted in `end`.
    fn end_of_segment(
        &self,
        reader: &Reader,
        log: Incarnation,
        segments: &[Segment],
        index: usize,
        end: &mut LogEnd,
    ) -> Result<(u64, u64, Option<u32>), StoreError> {
        let segment = &segments[index];
        let (mut number, mut offset, mut prev_crc) = (segment.first, SEGMENT_HEADER as u64, None);
        loop {
            let (entries, mut stop) = reader.entries(offset, STRIDE)?;
            for entry in entries {
                if let Err(error) = self.follows(&entry, number, prev_crc) {
                    stop = Stop::Bad(entry.offset, error);
                    break;
                }
                (number, offset, prev_crc) = (number + 1, entry.end(), Some(entry.envelope.crc));
            }
            match stop {
                Stop::Full => {}
                Stop::End
                    if offset > SEGMENT_HEADER as u64 || segment.len >= SEGMENT_HEADER as u64 =>
                {
                    break;
                }
                Stop::End => {
                    end.torn.push((segment.clone(), 0));
                    end.report.get_or_insert_with(|| {
                        format!("{}: the segment's header is cut off", segment.path.display())
                    });
                    break;
                }
                Stop::Bad(at, error) => {
                    match self.judge(reader, log, at, number, prev_crc, &segments[index + 1..])? {
                        Verdict::WholeNow => offset = at,
                        Verdict::Torn => {
                            end.report =
                                Some(format!("{}: {error}", self.place(log, segment, at, number)));
                            end.torn.push((segment.clone(), at));
                            break;
                        }
                        Verdict::Corrupt(behind) => {
                            end.damage =
                                Some(format!("{}: {error}", self.place(log, segment, at, number)));
                            if let Some(behind) =
                                behind.filter(|behind| behind.envelope.number.0 > number)
                            {
                                (number, offset, prev_crc) =
                                    (behind.envelope.number.0, behind.offset, None);
                            } else {
                                end.traces = true;
                                break;
                            }
                        }
                    }
                }
            }
        }
        Ok((number, offset, prev_crc))
    }
}

/// How far a reading has come.
struct Scan {
    /// The first entry that is wanted.
    from: u64,
    /// No further entry is taken that would make it more than this, in bytes, but the first.
    max: usize,
    /// The number of the next entry.
    number: u64,
    /// Where it lies in its segment.
    offset: u64,
    /// The checksum of the entry before it, if that was read.
    prev_crc: Option<u32>,
    /// Bytes of what was found.
    bytes: usize,
    found: Vec<Placed>,
}

impl Scan {
    /// Takes the next entry, if it is wanted. False: it would be too much.
    fn take(&mut self, segment: &Segment, entry: Located) -> bool {
        let wanted = self.number >= self.from;
        if wanted {
            let len = entry.bytes.len();
            if self.bytes + len > self.max && !self.found.is_empty() {
                return false;
            }
            self.bytes += len;
        }
        (self.offset, self.prev_crc) = (entry.end(), Some(entry.envelope.crc));
        if wanted {
            self.found.push(Placed { path: segment.path.clone(), entry });
        }
        self.number += 1;
        true
    }
}

enum Verdict {
    /// It was being written; now it is whole.
    WholeNow,
    /// It can be the beginning of the next entry.
    Torn,
    /// There were entries behind it: here is one that is whole, if it lies in the same segment.
    Corrupt(Option<Located>),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u64) -> Cursor {
        Cursor { segment: 1, number, offset: number * 100, prev_crc: 0 }
    }

    #[test]
    fn readers_of_one_log_at_different_places_each_go_on_where_they_stopped() {
        let mut places = Cursors::default();
        for number in [50, 20, 48] {
            places.keep(at(number));
        }
        let begins = |from| places.nearest(1, from).map(|cursor| cursor.number);
        // The one that is behind does not begin again because another one is ahead.
        let expected = [Some(50), Some(48), Some(48), Some(20), None];
        assert_eq!([50, 49, 48, 20, 19].map(begins), expected);
        assert!(places.nearest(2, 50).is_none(), "a place in another segment");
    }

    #[test]
    fn the_place_that_was_used_longest_ago_is_forgotten() {
        let mut places = Cursors::default();
        for number in 1..=READERS as u64 {
            places.keep(at(number));
        }
        places.keep(at(1));
        places.keep(at(1_000));
        assert_eq!(places.0.len(), READERS);
        assert!(places.nearest(1, 1).is_some(), "used again, so kept");
        assert_eq!(places.nearest(1, 2).map(|cursor| cursor.number), Some(1), "2 is forgotten");
    }
}
