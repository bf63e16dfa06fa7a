//! Reading logs: from any entry on, and where they end.
//!
//! The rule for what is damaged: an entry is appended by one write, and synced before the next is
//! written. So bytes that are no whole entry are a *torn tail* if they can be the beginning of one
//! entry, and *corrupt* if they prove that there were later ones: something whole lies behind them,
//! or anything at all behind the length that the bad entry itself gives, or a later segment was
//! begun, or the entry belongs to another log. A log may grow while it is read, so before anything
//! is called corrupt it is read once more.

use std::collections::BTreeMap;
use std::path::PathBuf;

use parking_lot::Mutex;
use rekindle_schema::Incarnation;
use rekindle_schema::batch::BatchError;
use rekindle_store::StoreError;

use super::guards::Guards;
use super::segment::{Kind, Located, Reader, SEGMENT_HEADER, Segment, Stop, log_dir, segments};

/// How much of a log is looked at in one go when nobody asks for the bytes.
const STRIDE: usize = 4 << 20;

/// Where the next entry begins that a sequential reader will ask for.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    segment: u64,
    number: u64,
    offset: u64,
    prev_crc: u32,
}

/// Reads the logs of one kind below a data directory.
pub(super) struct LogReader {
    root: PathBuf,
    kind: Kind,
    guards: Guards,
    cursors: Mutex<BTreeMap<Incarnation, Cursor>>,
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
        let cursor = self.cursors.lock().get(&log).copied();
        let cursor = cursor
            .filter(|cursor| cursor.segment == segments[index].first && cursor.number <= from);
        let (mut number, mut offset, mut prev_crc) = cursor.map_or_else(
            || begin(&segments[index]),
            |cursor| (cursor.number, cursor.offset, Some(cursor.prev_crc)),
        );
        let mut found: Vec<Placed> = Vec::new();
        let mut bytes = 0;
        'segments: loop {
            let segment = &segments[index];
            let reader = match Reader::open(&segment.path, self.kind, log, self.guards) {
                Ok(Some(reader)) => reader,
                Ok(None) => {
                    return Err(StoreError::NotFound(format!(
                        "{} {number} of log {log}",
                        self.kind.what()
                    )));
                }
                // What lies before it is whole.
                Err(StoreError::Corrupt { .. }) if !found.is_empty() => {
                    index -= 1;
                    break;
                }
                Err(error) => return Err(error),
            };
            loop {
                let (entries, mut stop) =
                    reader.entries(offset, (max - bytes.min(max)).clamp(1, STRIDE))?;
                for entry in entries {
                    if let Err(error) = self.follows(&entry, number, prev_crc) {
                        stop = Stop::Bad(entry.offset, error);
                        break;
                    }
                    if number >= from {
                        let len = entry.bytes.len();
                        if bytes + len > max && !found.is_empty() {
                            break 'segments;
                        }
                        bytes += len;
                    }
                    (offset, prev_crc) = (entry.end(), Some(entry.envelope.crc));
                    if number >= from {
                        found.push(Placed { path: segment.path.clone(), entry });
                    }
                    number += 1;
                }
                match stop {
                    Stop::Full if bytes >= max && !found.is_empty() => break 'segments,
                    Stop::Full => {}
                    Stop::End => break,
                    Stop::Bad(..) if !found.is_empty() => break 'segments,
                    Stop::Bad(at, error) => match self.judge(
                        &reader,
                        log,
                        at,
                        number,
                        prev_crc,
                        &segments[index + 1..],
                    )? {
                        Verdict::WholeNow => offset = at,
                        Verdict::Torn => break 'segments,
                        Verdict::Corrupt(Some(behind))
                            if behind.envelope.number.0 <= from
                                && behind.envelope.number.0 > number =>
                        {
                            (number, offset, prev_crc) =
                                (behind.envelope.number.0, behind.offset, None);
                        }
                        Verdict::Corrupt(_) => {
                            let place = self.place(log, segment, at, number);
                            return Err(StoreError::Corrupt { place, problem: error.to_string() });
                        }
                    },
                }
            }
            index += 1;
            let Some(next) = segments.get(index) else { break };
            if next.first != number {
                if found.is_empty() {
                    let problem = format!(
                        "the log goes on with {} {} in the next segment",
                        self.kind.what(),
                        next.first
                    );
                    return Err(StoreError::Corrupt {
                        place: self.place(log, segment, offset, number),
                        problem,
                    });
                }
                index -= 1;
                break;
            }
            offset = SEGMENT_HEADER as u64;
        }
        if let Some(prev_crc) = prev_crc {
            let segment = segments[index.min(segments.len() - 1)].first;
            self.cursors.lock().insert(log, Cursor { segment, number, offset, prev_crc });
        }
        Ok(found)
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
            let (mut number, mut offset, mut prev_crc) =
                (segment.first, SEGMENT_HEADER as u64, None);
            loop {
                let (entries, mut stop) = reader.entries(offset, STRIDE)?;
                for entry in entries {
                    if let Err(error) = self.follows(&entry, number, prev_crc) {
                        stop = Stop::Bad(entry.offset, error);
                        break;
                    }
                    (number, offset, prev_crc) =
                        (number + 1, entry.end(), Some(entry.envelope.crc));
                }
                match stop {
                    Stop::Full => {}
                    Stop::End
                        if offset > SEGMENT_HEADER as u64
                            || segment.len >= SEGMENT_HEADER as u64 =>
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
                    Stop::Bad(at, error) => match self.judge(
                        &reader,
                        log,
                        at,
                        number,
                        prev_crc,
                        &segments[index + 1..],
                    )? {
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
                            match behind.filter(|behind| behind.envelope.number.0 > number) {
                                Some(behind) => {
                                    (number, offset, prev_crc) =
                                        (behind.envelope.number.0, behind.offset, None)
                                }
                                None => {
                                    end.traces = true;
                                    break;
                                }
                            }
                        }
                    },
                }
            }
            if let Some(next) = segments.get(index + 1).filter(|next| next.first != number) {
                let place = self.place(log, segment, offset, number);
                end.damage = Some(format!(
                    "{place}: the log goes on with {} {} in the next segment",
                    self.kind.what(),
                    next.first
                ));
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
}

enum Verdict {
    /// It was being written; now it is whole.
    WholeNow,
    /// It can be the beginning of the next entry.
    Torn,
    /// There were entries behind it: here is one that is whole, if it lies in the same segment.
    Corrupt(Option<Located>),
}
