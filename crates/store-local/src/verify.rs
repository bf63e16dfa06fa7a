//! Checks every byte of a data directory and says what is wrong with it, file by file.
//! `rekindle verify` calls it.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use rekindle_schema::archive::{ChunkKind, ChunkMeta};
use rekindle_schema::audit::AuditEntry;
use rekindle_schema::batch::{BatchView, Frame};
use rekindle_schema::codec;
use rekindle_schema::job::Job;
use rekindle_schema::lease::{MatchLease, NodeLease, NodeState};
use rekindle_schema::record::{EFFECT_TAG, Effect};
use rekindle_schema::registry::RegistryEntry;
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId};
use rekindle_store::{StoreError, TORN_TAIL, Tail};

use super::facts::{self, Rows, Table};
use super::file;
use super::guards::Guards;
use super::segment::{
    Kind, Located, Reader, SEGMENT_HEADER, Segment, Stop, check_header, io_error, log_dir, logs,
    owner, segments,
};
use super::{FORMAT_FILE, archive, identity_file, index, jobs, parse_format, wal};

const STRIDE: usize = 4 << 20;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing that counts is lost: a tail that was cut off, what a fenced node wrote behind its
    /// seal.
    Note,
    /// Stored bytes are not what was written.
    Damage,
}

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// Which file, or which table and row.
    pub place: String,
    /// Where in the file, in bytes from its start.
    pub offset: Option<u64>,
    /// What is wrong.
    pub problem: String,
}

/// What was checked, and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// Segments of logs and checkpoints.
    pub segments: u64,
    /// Whole batches.
    pub batches: u64,
    /// Whole frames in them.
    pub frames: u64,
    /// Whole checkpoints.
    pub checkpoints: u64,
    /// Whole chunks of the archive.
    pub chunks: u64,
    /// Bytes of all segments and chunks.
    pub bytes: u64,
    /// In the order of the files.
    pub findings: Vec<Finding>,
}

impl Audit {
    /// Nothing is damaged; there may be notes.
    pub fn is_clean(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity < Severity::Damage)
    }

    fn report(
        &mut self,
        severity: Severity,
        path: &Path,
        offset: Option<u64>,
        problem: impl ToString,
    ) {
        self.findings.push(Finding {
            severity,
            place: path.display().to_string(),
            offset,
            problem: problem.to_string(),
        });
    }

    fn failed(&mut self, error: &StoreError) {
        let (place, problem) = match error {
            StoreError::Corrupt { place, problem } | StoreError::Refused { place, problem } => {
                (place.clone(), problem.clone())
            }
            other => (String::new(), other.to_string()),
        };
        self.findings.push(Finding { severity: Severity::Damage, place, offset: None, problem });
    }
}

/// Checks a data directory.
pub(super) fn run(root: &Path) -> Result<Audit, StoreError> {
    let mut audit = Audit::default();
    let format = root.join(FORMAT_FILE);
    match file::read(&format) {
        Ok(bytes) => {
            if let Err(error) = parse_format(&format, &String::from_utf8_lossy(&bytes)) {
                audit.failed(&error);
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(StoreError::NotFound(format.display().to_string()));
        }
        Err(error) if file::is_irregular(&error) => {
            audit.failed(&io_error("read", &format, &error));
        }
        Err(error) => return Err(io_error("read", &format, &error)),
    }
    if let Err(error) = identity_file::read(root) {
        audit.failed(&error);
    }
    // Logs first: a node is registered before it writes one.
    let before = logs(root, Kind::Batches)?;
    let nodes = database(root, &mut audit);
    for kind in [Kind::Batches, Kind::Checkpoints] {
        for log in logs(root, kind)? {
            let mut walk = Walk {
                audit: &mut audit,
                kind,
                log,
                node: nodes.get(&log),
                next: None,
                prev_crc: None,
                chains: BTreeMap::new(),
            };
            let dir = log_dir(root, kind, log);
            let segments = segments(&dir)?;
            for (index, segment) in segments.iter().enumerate() {
                match walk.segment(segment, index + 1 == segments.len()) {
                    // It is no file that could be read: what follows it is read all the same.
                    Err(error @ StoreError::Corrupt { .. }) => walk.unreadable(&error),
                    other => other?,
                }
            }
            let stranger = kind == Kind::Batches
                && !segments.is_empty()
                && before.contains(&log)
                && !nodes.contains_key(&log);
            if kind == Kind::Batches {
                walk.reached(&dir);
            }
            if stranger && dir.exists() {
                audit.report(Severity::Damage, &dir, None, rekindle_store::witness::stranger(log));
            }
        }
    }
    // A log of which not even the folder is there. That of a node that is not live may have been
    // trimmed: matches that need it say so.
    for node in nodes
        .values()
        .filter(|node| node.state == NodeState::Live && !before.contains(&node.incarnation))
    {
        let nothing = Tail { last: BatchNo(0), proven: BatchNo(0), torn: None, damage: None };
        if let Some(short) = rekindle_store::witness::short(node, &nothing) {
            audit.report(
                Severity::Damage,
                &log_dir(root, Kind::Batches, node.incarnation),
                None,
                short,
            );
        }
    }
    archived(root, &mut audit)?;
    Ok(audit)
}

/// Checks the archive: every chunk's manifest, checksum, frames and states, the chain from each
/// chunk to the next, and the pins.
fn archived(root: &Path, audit: &mut Audit) -> Result<(), StoreError> {
    for (_, dir) in archive::folders(root)? {
        let (chunks, pin) = archive::files(&dir)?;
        let mut before: Option<Frame> = None;
        for path in chunks {
            let found = archive::read(&path)
                .and_then(|found| found.map(|(meta, bytes)| unpack(meta, &bytes)).transpose());
            match found {
                Ok(Some((meta, frames))) => {
                    audit.chunks += 1;
                    audit.bytes += meta.len;
                    let (first, last) = (frames.first().cloned(), frames.into_iter().last());
                    // A hole before it is no damage: retention removes chunks, and the archive may
                    // have been off.
                    if let (Some(before), Some(first)) = (&before, &first)
                        && first.header.seq <= before.header.seq.next()
                        && let Err(problem) = rekindle_store::archive::follows(
                            before.header.epoch,
                            before.crc,
                            before.header.seq,
                            first,
                        )
                    {
                        audit.report(Severity::Damage, &path, None, problem);
                    }
                    before = last.or(before);
                }
                Ok(None) => {}
                Err(StoreError::Corrupt { problem, .. }) => {
                    audit.report(Severity::Damage, &path, None, problem);
                }
                Err(error) => audit.report(Severity::Damage, &path, None, error),
            }
        }
        if let Some(path) = pin
            && let Err(error) = archive::read_pin(&path)
        {
            audit.failed(&error);
        }
    }
    Ok(())
}

/// The records of a chunk; none of a state, which is checked as well.
fn unpack(meta: ChunkMeta, bytes: &Bytes) -> Result<(ChunkMeta, Vec<Frame>), StoreError> {
    let frames = match meta.kind {
        ChunkKind::Records => rekindle_store::archive::records(&meta, bytes)?,
        ChunkKind::State => rekindle_store::archive::state(&meta, bytes).map(|_| Vec::new())?,
    };
    Ok((meta, frames))
}

/// Checks `node.db` and returns the leases that could be read.
fn database(root: &Path, audit: &mut Audit) -> BTreeMap<Incarnation, NodeLease> {
    let path = root.join("node.db");
    match wal::look(&path) {
        Ok(wal::State::Whole) => {}
        Ok(wal::State::Torn(offset)) => {
            audit.report(
                Severity::Note,
                &wal::path(&path),
                Some(offset),
                "the last commit was cut off or is damaged",
            );
        }
        Ok(wal::State::Corrupt(offset)) => {
            let problem = "a damaged frame has valid commits behind it, which SQLite would drop";
            audit.report(Severity::Damage, &wal::path(&path), Some(offset), problem);
        }
        Err(error) => audit.failed(&error),
    }
    if !path.exists() {
        audit.report(Severity::Damage, &path, None, "the file is missing");
        return BTreeMap::new();
    }
    match facts::connect_as_it_is(&path) {
        Ok((connection, version)) => match connection.unchecked_transaction() {
            Ok(view) => rows(&facts::rows(&view, &path), version, &path, audit),
            Err(error) => {
                audit.report(Severity::Damage, &path, None, error);
                BTreeMap::new()
            }
        },
        Err(error) => {
            audit.failed(&error);
            BTreeMap::new()
        }
    }
}

/// Checks every row, in one view of all tables: a node may be changing them.
fn rows(
    rows: &Rows<'_>,
    version: i64,
    path: &Path,
    audit: &mut Audit,
) -> BTreeMap<Incarnation, NodeLease> {
    for error in rows.audit(version) {
        audit.failed(&error);
    }
    let mut nodes = BTreeMap::new();
    let mut indexed = jobs::Indexed::default();
    for table in Table::of(version) {
        // What cannot be read at all was reported above.
        for (key, value) in rows.all(table).unwrap_or_default() {
            let decoded = match table {
                Table::NodeLease => NodeLease::decode(&value).map(|lease| {
                    nodes.insert(lease.incarnation, lease);
                }),
                Table::MatchLease => MatchLease::decode(&value).map(|_| ()),
                Table::Effect => codec::decode::<Effect>(EFFECT_TAG, &value).map(|_| ()),
                Table::Job => Job::decode(&value).map(|job| indexed.expect(&job)),
                Table::JobDue | Table::JobFinished | Table::JobKey => {
                    indexed.found(table, key);
                    Ok(())
                }
                Table::Audit => AuditEntry::decode(&value).map(|_| ()),
                Table::Registry => RegistryEntry::decode(&value).map(|_| ()),
            };
            if let Err(error) = decoded {
                audit.report(
                    Severity::Damage,
                    path,
                    None,
                    format!("table {}, row {:016x}: {error}", table.name(), key[0]),
                );
            }
        }
    }
    for (table, key) in indexed.differences() {
        let problem = format!(
            "table {}, row {:016x} {} {}: jobs say otherwise",
            table.name(),
            key[0],
            key[1],
            key[2]
        );
        audit.report(Severity::Damage, path, None, problem);
    }
    nodes
}

/// Walks through one log.
struct Walk<'a> {
    audit: &'a mut Audit,
    kind: Kind,
    log: Incarnation,
    node: Option<&'a NodeLease>,
    /// The number that the next entry should have.
    next: Option<u64>,
    prev_crc: Option<u32>,
    /// The last frame of each match: its seq and checksum.
    chains: BTreeMap<(MatchId, Epoch), (u64, u32)>,
}

impl Walk<'_> {
    /// Whether entries from `number` on no longer count.
    fn behind_seal(&self, number: Option<u64>) -> bool {
        let seal = self.node.and_then(|node| node.seal);
        self.kind == Kind::Batches
            && number.is_some_and(|number| seal.is_some_and(|seal| number > seal.0))
    }

    /// A whole segment is missing.
    fn unreadable(&mut self, error: &StoreError) {
        self.audit.failed(error);
        (self.next, self.prev_crc) = (None, None);
        self.chains.clear();
    }

    fn report(&mut self, segment: &Segment, offset: u64, problem: impl ToString) {
        let severity = if self.behind_seal(self.next) { Severity::Note } else { Severity::Damage };
        self.audit.report(severity, &segment.path, Some(offset), problem);
    }

    fn segment(&mut self, segment: &Segment, last: bool) -> Result<(), StoreError> {
        self.audit.segments += 1;
        self.audit.bytes += segment.len;
        let Some(reader) = Reader::open(&segment.path, self.kind, self.log, Guards::all())? else {
            return Ok(());
        };
        let header =
            check_header(&reader.bytes(0, SEGMENT_HEADER)?, self.kind, self.log, segment.first);
        if let Err(problem) = header {
            let foreign =
                owner(&reader.bytes(0, SEGMENT_HEADER)?, self.kind, segment.first).is_some();
            let torn = last && !foreign && reader.resync(0)?.is_none();
            let severity = if torn { Severity::Note } else { Severity::Damage };
            self.audit.report(severity, &segment.path, Some(0), problem);
        }
        if self.next.is_some_and(|next| next != segment.first) {
            self.report(
                segment,
                0,
                format!(
                    "the segment begins with {}, but {} is missing",
                    segment.first,
                    self.next.unwrap_or_default()
                ),
            );
            self.prev_crc = None;
        }
        self.next = Some(segment.first);
        let mut offset = SEGMENT_HEADER as u64;
        loop {
            let (entries, stop) = reader.entries(offset, STRIDE)?;
            for entry in entries {
                offset = entry.end();
                self.entry(segment, &entry);
            }
            match stop {
                Stop::Full => {}
                Stop::End => return Ok(()),
                Stop::Bad(at, error) => match reader.resync(at + 1)? {
                    Some(behind) => {
                        self.report(segment, at, error);
                        self.next = Some(behind.envelope.number.0);
                        self.prev_crc = None;
                        offset = behind.offset;
                    }
                    None if last && reader.goes_on_behind(at)? => {
                        self.report(
                            segment,
                            at,
                            format!("{error}; more lies behind it than one write that was cut off"),
                        );
                        return Ok(());
                    }
                    None if last => {
                        let problem = format!("{TORN_TAIL}: {error}");
                        self.audit.report(Severity::Note, &segment.path, Some(at), problem);
                        return Ok(());
                    }
                    None => {
                        self.report(segment, at, error);
                        return Ok(());
                    }
                },
            }
        }
    }

    fn entry(&mut self, segment: &Segment, entry: &Located) {
        let number = entry.envelope.number.0;
        if self.next != Some(number) {
            self.report(
                segment,
                entry.offset,
                format!("{} {number} stands where another one should", self.kind.what()),
            );
        } else if self.prev_crc.is_some_and(|crc| crc != entry.envelope.prev_crc) {
            self.report(
                segment,
                entry.offset,
                format!("{} {number} does not follow the one before it", self.kind.what()),
            );
        }
        self.next = Some(number + 1);
        self.prev_crc = Some(entry.envelope.crc);
        let reached =
            self.node.filter(|_| self.kind == Kind::Batches).and_then(|node| node.reached);
        if let Some(reached) = reached.filter(|reached| {
            reached.batch.0 == number && ![0, entry.envelope.crc].contains(&reached.crc)
        }) {
            let problem = format!(
                "its checksum is {:08x}, its node wrote one with {:08x}",
                entry.envelope.crc, reached.crc
            );
            self.report(segment, entry.offset, format!("{} {number}: {problem}", self.kind.what()));
        }
        match self.kind {
            Kind::Checkpoints => match index::decode(entry) {
                Ok(_) => self.audit.checkpoints += 1,
                Err(problem) => self.report(segment, entry.offset, problem),
            },
            Kind::Batches => match BatchView::parse(&entry.bytes) {
                Ok(view) => {
                    self.audit.batches += 1;
                    self.audit.frames += view.all_frames().len() as u64;
                    self.frames(segment, entry.offset, &view);
                }
                Err(error) => self.report(segment, entry.offset, error),
            },
        }
    }

    fn frames(&mut self, segment: &Segment, offset: u64, view: &BatchView) {
        for frame in view.all_frames() {
            let header = &frame.header;
            let before =
                self.chains.insert((header.match_id, header.epoch), (header.seq.0, frame.crc));
            if let Some((seq, crc)) = before
                && (seq + 1, crc) != (header.seq.0, header.prev_crc)
            {
                let problem = format!(
                    "record {} of match {} does not follow record {seq}",
                    header.seq, header.match_id
                );
                self.report(segment, offset, problem);
            }
        }
    }

    /// A log must reach its seal, and what its node said of it.
    fn reached(&mut self, dir: &Path) {
        let last = BatchNo(self.next.map_or(0, |next| next.saturating_sub(1)));
        let tail = Tail { last, proven: last, torn: None, damage: None };
        if let Some(short) = self.node.and_then(|node| rekindle_store::witness::short(node, &tail))
        {
            self.audit.report(Severity::Damage, dir, None, short);
        }
    }
}
