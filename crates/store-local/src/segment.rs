//! Segment files: how the entries of a log lie on disk, and how they are found again.
//!
//! A log is a directory of segments named after the number of their first entry. A segment is a
//! 32-byte header, then entries without padding, each behind an [`Envelope`]. Batches and
//! checkpoints are both kept this way; [`Kind`] has what differs.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use rekindle_schema::Incarnation;
use rekindle_schema::batch::{BATCH_MAGIC, BatchError, ENVELOPE, Envelope, MAX_BATCH};
use rekindle_store::{MAX_CHECKPOINT, StoreError};

use super::file;
use super::guards::Guards;

/// A segment takes no further entry once it is this long, in bytes.
pub const SEGMENT: u64 = 64 << 20;
/// Bytes in front of a segment's first entry.
pub const SEGMENT_HEADER: usize = 32;
/// What every segment begins with.
pub const SEGMENT_MAGIC: [u8; 4] = *b"RKSG";
/// The version of segments that this code writes and reads.
pub const SEGMENT_VERSION: u16 = 1;
/// What every stored checkpoint begins with.
pub const CHECKPOINT_MAGIC: [u8; 4] = *b"RKCP";

/// Least number of bytes that are read at once.
const READ: usize = 256 << 10;

/// What lies in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Batches of a node.
    Batches,
    /// Checkpoints that a node took.
    Checkpoints,
}

impl Kind {
    /// The directory below the data directory.
    pub(super) fn folder(self) -> &'static str {
        match self {
            Self::Batches => "logs",
            Self::Checkpoints => "checkpoints",
        }
    }

    /// The word for one entry.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::Batches => "batch",
            Self::Checkpoints => "checkpoint",
        }
    }

    /// What an entry begins with.
    pub(super) fn magic(self) -> [u8; 4] {
        match self {
            Self::Batches => BATCH_MAGIC,
            Self::Checkpoints => CHECKPOINT_MAGIC,
        }
    }

    /// The longest entry.
    fn max_len(self) -> usize {
        match self {
            Self::Batches => MAX_BATCH,
            Self::Checkpoints => MAX_CHECKPOINT + (64 << 10),
        }
    }

    fn code(self) -> u16 {
        match self {
            Self::Batches => 1,
            Self::Checkpoints => 2,
        }
    }
}

/// The directory of one log.
pub(super) fn log_dir(root: &Path, kind: Kind, log: Incarnation) -> PathBuf {
    root.join(kind.folder()).join(log.to_string())
}

/// One file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// The number of its first entry, as its name says.
    pub first: u64,
    /// Where it is.
    pub path: PathBuf,
    /// How long it was when it was listed.
    pub len: u64,
}

/// The path of the segment that begins with entry `first`.
pub(super) fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.seg"))
}

/// All logs of a kind, ascending.
pub(super) fn logs(root: &Path, kind: Kind) -> Result<Vec<Incarnation>, StoreError> {
    let path = root.join(kind.folder());
    let mut found = Vec::new();
    for entry in list(&path)? {
        if let Some(log) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
            found.push(log);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The segments of a log, ascending; none if there is no such log.
pub(super) fn segments(dir: &Path) -> Result<Vec<Segment>, StoreError> {
    let mut found = Vec::new();
    for entry in list(dir)? {
        let path = entry.path();
        let stem = path
            .extension()
            .filter(|&end| end == "seg")
            .and_then(|_| path.file_stem()?.to_str()?.parse().ok());
        let Some(first) = stem else { continue };
        match entry.metadata() {
            // What is no file has no length: it is found out as such when it is opened.
            Ok(meta) => found.push(Segment {
                first,
                path,
                len: if meta.is_file() { meta.len() } else { 1 },
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("read the size of", &path, &error)),
        }
    }
    found.sort_unstable_by_key(|segment| segment.first);
    Ok(found)
}

fn list(path: &Path) -> Result<Vec<fs::DirEntry>, StoreError> {
    match fs::read_dir(path) {
        Ok(entries) => {
            entries.collect::<io::Result<_>>().map_err(|error| io_error("list", path, &error))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(io_error("list", path, &error)),
    }
}

/// An error of the operating system, as the port has it.
pub(super) fn io_error(what: &'static str, path: &Path, error: &io::Error) -> StoreError {
    if file::is_irregular(error) {
        return StoreError::Corrupt {
            place: path.display().to_string(),
            problem: error.to_string(),
        };
    }
    StoreError::Io { what, path: path.display().to_string(), cause: error.to_string() }
}

/// The header of a segment.
pub(super) fn header(
    kind: Kind,
    log: Incarnation,
    first: u64,
    prev_crc: u32,
) -> [u8; SEGMENT_HEADER] {
    let mut bytes = [0; SEGMENT_HEADER];
    bytes[..4].copy_from_slice(&SEGMENT_MAGIC);
    bytes[4..6].copy_from_slice(&SEGMENT_VERSION.to_le_bytes());
    bytes[6..8].copy_from_slice(&kind.code().to_le_bytes());
    bytes[8..16].copy_from_slice(&log.0.to_le_bytes());
    bytes[16..24].copy_from_slice(&first.to_le_bytes());
    bytes[24..28].copy_from_slice(&prev_crc.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// What is wrong with the header of a segment, if anything is.
pub(super) fn check_header(
    found: &[u8],
    kind: Kind,
    log: Incarnation,
    first: u64,
) -> Result<(), String> {
    let Some(found) = found.first_chunk::<SEGMENT_HEADER>() else {
        return Err(format!("cut off: {} bytes where {SEGMENT_HEADER} are needed", found.len()));
    };
    let mut prev_crc = [0; 4];
    prev_crc.copy_from_slice(&found[24..28]);
    let expected = header(kind, log, first, u32::from_le_bytes(prev_crc));
    if *found == expected {
        return Ok(());
    }
    let version = u16::from_le_bytes([found[4], found[5]]);
    if found[..4] == SEGMENT_MAGIC
        && version > SEGMENT_VERSION
        && found[28..] == crc32c::crc32c(&found[..28]).to_le_bytes()
    {
        return Err(format!(
            "format version {version}, this release reads version {SEGMENT_VERSION}: use the \
             release that wrote it"
        ));
    }
    Err("the segment's header is damaged".to_owned())
}

/// Whose log a segment is a whole header of, if it is one.
pub(super) fn owner(found: &[u8], kind: Kind, first: u64) -> Option<Incarnation> {
    let log = Incarnation(u64::from_le_bytes(*found.get(8..16)?.first_chunk()?));
    check_header(found, kind, log, first).is_ok().then_some(log)
}

/// One entry as it lies in a segment.
#[derive(Debug, Clone)]
pub(super) struct Located {
    /// Where it begins in the file.
    pub offset: u64,
    /// What its first bytes say.
    pub envelope: Envelope,
    /// The whole entry.
    pub bytes: Bytes,
}

impl Located {
    /// Where the next entry begins.
    pub(super) fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// Why a run of entries ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stop {
    /// Enough was read.
    Full,
    /// The file ends with the last entry.
    End,
    /// What begins at this offset is no whole entry.
    Bad(u64, BatchError),
}

/// A segment open for reading.
pub(super) struct Reader {
    file: File,
    path: PathBuf,
    kind: Kind,
    log: Incarnation,
    guards: Guards,
}

impl Reader {
    /// `None` if the file is gone: it was trimmed.
    pub(super) fn open(
        path: &Path,
        kind: Kind,
        log: Incarnation,
        guards: Guards,
    ) -> Result<Option<Self>, StoreError> {
        match file::open_regular(path) {
            Ok(file) => Ok(Some(Self { file, path: path.to_owned(), kind, log, guards })),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("open", path, &error)),
        }
    }

    /// Makes what was read so far durable, whoever wrote it.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|error| io_error("sync", &self.path, &error))
    }

    /// Up to `want` bytes from `offset` on; fewer only at the end of the file.
    pub(super) fn bytes(&self, offset: u64, want: usize) -> Result<Bytes, StoreError> {
        let len = self
            .file
            .metadata()
            .map_err(|error| io_error("read the size of", &self.path, &error))?
            .len();
        let mut bytes = vec![0; want.min(len.saturating_sub(offset) as usize)];
        let mut have = 0;
        while have < bytes.len() {
            match self.file.read_at(&mut bytes[have..], offset + have as u64) {
                Ok(0) => break,
                Ok(n) => have += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(io_error("read", &self.path, &error)),
            }
        }
        bytes.truncate(have);
        Ok(bytes.into())
    }

    /// Entries from `offset` on: one if there is one, then as many as fit in `max` bytes. Each is
    /// checked; they share memory.
    pub(super) fn entries(
        &self,
        offset: u64,
        max: usize,
    ) -> Result<(Vec<Located>, Stop), StoreError> {
        let mut want = max.max(READ);
        loop {
            let chunk = self.bytes(offset, want)?;
            let at_end = chunk.len() < want;
            let (found, stop, needed) = self.split(&chunk, offset, max, at_end);
            match needed {
                Some(needed) if found.is_empty() => want = needed,
                Some(_) => return Ok((found, Stop::Full)),
                None => return Ok((found, stop)),
            }
        }
    }

    /// The entries of `chunk`, why they end, and how many bytes the chunk should have had if it
    /// ends too early.
    fn split(
        &self,
        chunk: &Bytes,
        offset: u64,
        max: usize,
        at_end: bool,
    ) -> (Vec<Located>, Stop, Option<usize>) {
        let mut found = Vec::new();
        let mut at = 0;
        while at < chunk.len() {
            let rest = chunk.slice(at..);
            let offset = offset + at as u64;
            let envelope = match Envelope::parse(&rest, self.kind.magic(), self.kind.what()) {
                Ok(envelope) if envelope.len as usize > self.kind.max_len() => {
                    return (
                        found,
                        Stop::Bad(offset, BatchError::Layout { what: "length in the envelope" }),
                        None,
                    );
                }
                Ok(envelope) if envelope.log != self.log => {
                    return (
                        found,
                        Stop::Bad(
                            offset,
                            BatchError::Layout { what: "entry: it belongs to another log" },
                        ),
                        None,
                    );
                }
                Ok(envelope) => envelope,
                Err(BatchError::Short { need, .. }) if !at_end => {
                    return (found, Stop::Full, Some(need));
                }
                Err(error) => return (found, Stop::Bad(offset, error), None),
            };
            let len = envelope.len as usize;
            if rest.len() < len && !at_end {
                return (found, Stop::Full, Some(len));
            }
            let bytes = rest.slice(..len.min(rest.len()));
            if (bytes.len() < len || Guards::checksums(self.guards))
                && let Err(error) = envelope.check(&bytes, self.kind.what())
            {
                return (found, Stop::Bad(offset, error), None);
            }
            if at + len > max && !found.is_empty() {
                return (found, Stop::Full, None);
            }
            found.push(Located { offset, envelope, bytes });
            at += len;
        }
        let stop = if at_end { Stop::End } else { Stop::Full };
        (found, stop, None)
    }

    /// Whether what stands at `at`, which is no whole entry, cannot be the one write that was under
    /// way when the power failed: more bytes lie there than its own length says or any entry has,
    /// or it belongs to another log.
    pub(super) fn goes_on_behind(&self, at: u64) -> Result<bool, StoreError> {
        let head = self.bytes(at, ENVELOPE)?;
        let len = self
            .file
            .metadata()
            .map_err(|error| io_error("read the size of", &self.path, &error))?
            .len();
        let rest = len.saturating_sub(at);
        Ok(match Envelope::parse(&head, self.kind.magic(), self.kind.what()) {
            Ok(envelope) => envelope.log != self.log || rest > u64::from(envelope.len),
            Err(_) => rest > self.kind.max_len() as u64,
        })
    }

    /// The first whole entry that begins at `offset` or behind it, wherever that is.
    pub(super) fn resync(&self, mut offset: u64) -> Result<Option<Located>, StoreError> {
        let magic = self.kind.magic();
        loop {
            let chunk = self.bytes(offset, 4 * READ)?;
            if chunk.len() < ENVELOPE {
                return Ok(None);
            }
            let candidates = chunk
                .windows(magic.len())
                .enumerate()
                .filter(|(_, window)| *window == magic)
                .map(|(at, _)| at);
            for at in candidates {
                let (found, _) = self.entries(offset + at as u64, 1)?;
                if let Some(found) = found.into_iter().next() {
                    return Ok(Some(found));
                }
            }
            offset += (chunk.len() - magic.len() + 1) as u64;
        }
    }
}
