//! Frames and batches: how records lie in the log of a node.
//!
//! A *frame* is one record of one match behind a checked header. A *batch* is what one group commit
//! writes: a directory of the matches in it, then their frames. The journal actor fills a
//! [`BatchBuilder`]; stores keep what it [finishes](BatchBuilder::finish); recovery reads it back
//! through a [`BatchView`]. See `docs/FORMATS.md` for the bytes.
//!
//! ```
//! use rekindle_schema::batch::{BatchBuilder, BatchView, FrameHeader, MAX_BATCH};
//! use rekindle_schema::{BatchNo, BuildId, Epoch, Incarnation, MatchId, Seq, Tick};
//!
//! let header = |seq| FrameHeader {
//!     match_id: MatchId(7),
//!     epoch: Epoch(1),
//!     seq: Seq(seq),
//!     first_tick: Tick(2 * seq),
//!     last_tick: Tick(2 * seq + 1),
//!     build: BuildId(1),
//!     time_ms: 0,
//!     prev_crc: 0,
//! };
//! let mut builder = BatchBuilder::new(Incarnation(3), BatchNo(1), 0, MAX_BATCH);
//! builder.push(&header(1), b"first")?;
//! builder.push(&header(2), b"second")?;
//! assert!(builder.push(&header(4), b"fourth").is_err()); // a gap
//! let batch = builder.finish();
//!
//! let view = BatchView::parse(&batch.bytes).unwrap(); // checks every checksum
//! let frames = view.frames(MatchId(7), Epoch(1));
//! assert_eq!(frames.iter().map(|frame| &frame.payload[..]).collect::<Vec<_>>(), [
//!     &b"first"[..],
//!     b"second"
//! ]);
//! # Ok::<(), rekindle_schema::batch::PushError>(())
//! ```

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::ids::{BatchNo, BuildId, Epoch, Incarnation, MatchId, Seq, Tick};

/// Bytes of a frame before its payload.
pub const FRAME_HEADER: usize = 76;
/// Bytes of one line of a batch's directory.
pub const DIR_ENTRY: usize = 32;
/// Bytes of an [`Envelope`], with which every batch and every stored checkpoint begins.
pub const ENVELOPE: usize = 48;
/// The largest payload of a frame, in bytes.
pub const MAX_PAYLOAD: usize = 4 << 20;
/// The largest batch, in bytes, everything included.
pub const MAX_BATCH: usize = 8 << 20;
/// What every batch begins with.
pub const BATCH_MAGIC: [u8; 4] = *b"RKBT";
/// What every frame begins with.
pub const FRAME_MAGIC: [u8; 4] = *b"RKFR";
/// The version of frames, batches and envelopes that this code writes and reads.
pub const BATCH_VERSION: u16 = 1;

// The largest payload fits into an otherwise empty batch, and all lengths and offsets into a `u32`.
const _: () = assert!(MAX_PAYLOAD + FRAME_HEADER + DIR_ENTRY + ENVELOPE <= MAX_BATCH);
const _: () = assert!(MAX_BATCH <= u32::MAX as usize);
// Magic, version and padding; seven `u64`; previous checksum, length and checksum.
const _: () = assert!(FRAME_HEADER == 8 + 7 * 8 + 3 * 4);
// Match, epoch and first seq; count and offset.
const _: () = assert!(DIR_ENTRY == 3 * 8 + 2 * 4);
// Magic, version and padding; log and number; previous checksum, three lengths, two checksums.
const _: () = assert!(ENVELOPE == 8 + 2 * 8 + 6 * 4);
const _: () = assert!(MAX_PAYLOAD <= crate::codec::MAX_STORED);

/// The header of a frame, without the parts that encoding computes (magic, version, lengths,
/// checksums).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// The match whose record it is.
    pub match_id: MatchId,
    /// Under which ownership it was written.
    pub epoch: Epoch,
    /// Its number in the match's journal.
    pub seq: Seq,
    /// First tick that it covers.
    pub first_tick: Tick,
    /// Last tick that it covers.
    pub last_tick: Tick,
    /// The game build that executed those ticks.
    pub build: BuildId,
    /// Wall clock when it was made, in milliseconds since 1970, for queries only.
    pub time_ms: u64,
    /// CRC of the match's frame before this one (0 for the first of an epoch on a node).
    pub prev_crc: u32,
}

/// A frame, decoded and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its header.
    pub header: FrameHeader,
    /// Its own CRC32C.
    pub crc: u32,
    /// An encoded [`crate::record::Flush`].
    pub payload: Bytes,
}

/// One line of a batch's directory: the frames of one match in it are contiguous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirEntry {
    /// The match whose frames they are.
    pub match_id: MatchId,
    /// The ownership of the match under which they were written.
    pub epoch: Epoch,
    /// The number of the first of them.
    pub first_seq: Seq,
    /// How many frames of the match the batch has, at least 1.
    pub count: u32,
    /// Where the first begins, in bytes from the start of the batch.
    pub offset: u32,
}

/// A whole batch as it is written: encoded bytes and what they say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// The run of a node in whose log it stands.
    pub incarnation: Incarnation,
    /// Its number in that log.
    pub number: BatchNo,
    /// The encoded batch, header and directory included.
    pub bytes: Bytes,
}

/// Why bytes are no batch, or a frame in one is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Fewer bytes than there must be.
    #[error("cut off: {have} bytes where {need} are needed")]
    Short {
        /// How many there are.
        have: usize,
        /// How many there should be.
        need: usize,
    },
    /// Something else stands where a batch or frame should begin.
    #[error("no {what} begins here")]
    Magic {
        /// `batch`, `frame` or `checkpoint`.
        what: &'static str,
    },
    /// Written by a newer release.
    #[error(
        "{what} of format version {found}, this release reads version {BATCH_VERSION}: use the \
         release that wrote it, or a newer one"
    )]
    Version {
        /// `batch`, `frame` or `checkpoint`.
        what: &'static str,
        /// The version that it was written in.
        found: u16,
    },
    /// A checksum does not match.
    #[error("the checksum of {what} is {found:08x}, its bytes give {computed:08x}")]
    Checksum {
        /// Of what: `envelope`, `batch`, `frame` or `checkpoint`.
        what: &'static str,
        /// The checksum that is stored.
        found: u32,
        /// What it should be.
        computed: u32,
    },
    /// A length or an offset points where it cannot.
    #[error("malformed {what}")]
    Layout {
        /// What does not fit.
        what: &'static str,
    },
}

/// Why a frame was not taken into a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The batch has no room for it: write this one, then push again.
    #[error("the batch is full")]
    Full,
    /// No batch takes it.
    #[error("a payload of {0} bytes is over the limit of {MAX_PAYLOAD}")]
    TooLarge(usize),
    /// It does not follow the match's frame before it in this batch.
    #[error("seq {got} of match {match_id} does not follow {last}")]
    NotContiguous {
        /// The match whose frame it is.
        match_id: MatchId,
        /// The last one in the batch.
        last: Seq,
        /// The one that was to be pushed.
        got: Seq,
    },
}

/// The 48 bytes with which every entry of a log begins. They have their own checksum, so that a
/// length is only believed if it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Envelope {
    /// The run of a node in whose log the entry stands.
    pub log: Incarnation,
    /// The entry's number in it.
    pub number: BatchNo,
    /// The `crc` of the entry before it, 0 for the first.
    pub prev_crc: u32,
    /// Length of the entry in bytes, envelope included.
    pub len: u32,
    /// Batches: lines of the directory. Checkpoints: length of the manifest in bytes.
    pub first: u32,
    /// Batches: number of frames. Checkpoints: 0.
    pub second: u32,
    /// CRC32C of the whole entry but this field.
    pub crc: u32,
}

impl Envelope {
    /// Reads an envelope from the start of `bytes` and checks its own checksum, not that of the
    /// entry. `what` is for errors.
    pub fn parse(bytes: &[u8], magic: [u8; 4], what: &'static str) -> Result<Self, BatchError> {
        let Some((head, _)) = bytes.split_first_chunk::<ENVELOPE>() else {
            return Err(BatchError::Short { have: bytes.len(), need: ENVELOPE });
        };
        if head[..4] != magic {
            return Err(BatchError::Magic { what });
        }
        let computed = crc32c::crc32c(&head[..40]);
        let found = u32_at(head, 40);
        if found != computed {
            return Err(BatchError::Checksum { what: "envelope", found, computed });
        }
        let version = u16_at(head, 4);
        if version != BATCH_VERSION {
            return Err(BatchError::Version { what, found: version });
        }
        let envelope = Self {
            log: Incarnation(u64_at(head, 8)),
            number: BatchNo(u64_at(head, 16)),
            prev_crc: u32_at(head, 24),
            len: u32_at(head, 28),
            first: u32_at(head, 32),
            second: u32_at(head, 36),
            crc: u32_at(head, 44),
        };
        if (envelope.len as usize) < ENVELOPE {
            return Err(BatchError::Layout { what: "length in the envelope" });
        }
        Ok(envelope)
    }

    /// Writes the envelope over the first 48 bytes of `entry`, with both checksums computed, and
    /// returns the entry's checksum. `len` is taken from `entry`.
    ///
    /// # Panics
    /// If `entry` is shorter than an envelope or longer than `u32::MAX`.
    pub fn seal(&self, magic: [u8; 4], entry: &mut [u8]) -> u32 {
        assert!(entry.len() >= ENVELOPE, "an entry of {} bytes has no envelope", entry.len());
        let len = u32::try_from(entry.len()).expect("an entry is far smaller than 4 GiB");
        entry[..4].copy_from_slice(&magic);
        entry[4..6].copy_from_slice(&BATCH_VERSION.to_le_bytes());
        entry[6..8].fill(0);
        entry[8..16].copy_from_slice(&self.log.0.to_le_bytes());
        entry[16..24].copy_from_slice(&self.number.0.to_le_bytes());
        entry[24..28].copy_from_slice(&self.prev_crc.to_le_bytes());
        entry[28..32].copy_from_slice(&len.to_le_bytes());
        entry[32..36].copy_from_slice(&self.first.to_le_bytes());
        entry[36..40].copy_from_slice(&self.second.to_le_bytes());
        let head = crc32c::crc32c(&entry[..40]);
        entry[40..44].copy_from_slice(&head.to_le_bytes());
        let crc = Self::checksum(entry);
        entry[44..48].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// The checksum that an entry should have: of everything but the field itself.
    pub fn checksum(entry: &[u8]) -> u32 {
        crc32c::crc32c_append(crc32c::crc32c(&entry[..44]), &entry[ENVELOPE..])
    }

    /// Checks that `entry` is exactly as long as the envelope says and has its checksum.
    pub fn check(&self, entry: &[u8], what: &'static str) -> Result<(), BatchError> {
        let need = self.len as usize;
        if entry.len() < need {
            return Err(BatchError::Short { have: entry.len(), need });
        }
        if entry.len() > need {
            return Err(BatchError::Layout { what: "bytes behind the end" });
        }
        let computed = Self::checksum(entry);
        if computed == self.crc {
            Ok(())
        } else {
            Err(BatchError::Checksum { what, found: self.crc, computed })
        }
    }
}

impl Frame {
    /// Appends an encoded frame to `out` and returns its CRC.
    ///
    /// # Panics
    /// If `payload` is 4 GiB or longer; [`BatchBuilder::push`] refuses anything over
    /// [`MAX_PAYLOAD`].
    pub fn encode(header: &FrameHeader, payload: &[u8], out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        out.extend_from_slice(&FRAME_MAGIC);
        out.extend_from_slice(&BATCH_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        let FrameHeader { match_id, epoch, seq, first_tick, last_tick, build, time_ms, prev_crc } =
            *header;
        for word in [match_id.0, epoch.0, seq.0, first_tick.0, last_tick.0, build.0, time_ms] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(&prev_crc.to_le_bytes());
        let len = u32::try_from(payload.len()).expect("payloads are limited to a few MiB");
        out.extend_from_slice(&len.to_le_bytes());
        let crc = crc32c::crc32c_append(crc32c::crc32c(&out[start..]), payload);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(payload);
        crc
    }

    /// Decodes the frame at the start of `bytes`; more may follow. Returns it with its length.
    pub fn decode(bytes: &Bytes) -> Result<(Self, usize), BatchError> {
        let Some((head, body)) = bytes.split_first_chunk::<FRAME_HEADER>() else {
            return Err(BatchError::Short { have: bytes.len(), need: FRAME_HEADER });
        };
        if head[..4] != FRAME_MAGIC {
            return Err(BatchError::Magic { what: "frame" });
        }
        let len = u32_at(head, 68) as usize;
        if len > MAX_PAYLOAD {
            return Err(BatchError::Layout { what: "length of a frame's payload" });
        }
        let payload = body
            .get(..len)
            .ok_or(BatchError::Short { have: bytes.len(), need: FRAME_HEADER + len })?;
        let computed = crc32c::crc32c_append(crc32c::crc32c(&head[..72]), payload);
        let crc = u32_at(head, 72);
        if crc != computed {
            return Err(BatchError::Checksum { what: "frame", found: crc, computed });
        }
        let version = u16_at(head, 4);
        if version != BATCH_VERSION {
            return Err(BatchError::Version { what: "frame", found: version });
        }
        let header = FrameHeader {
            match_id: MatchId(u64_at(head, 8)),
            epoch: Epoch(u64_at(head, 16)),
            seq: Seq(u64_at(head, 24)),
            first_tick: Tick(u64_at(head, 32)),
            last_tick: Tick(u64_at(head, 40)),
            build: BuildId(u64_at(head, 48)),
            time_ms: u64_at(head, 56),
            prev_crc: u32_at(head, 64),
        };
        let end = FRAME_HEADER + len;
        Ok((Self { header, crc, payload: bytes.slice(FRAME_HEADER..end) }, end))
    }
}

struct Group {
    first_seq: Seq,
    last_seq: Seq,
    count: u32,
    frames: Vec<u8>,
}

/// Collects frames of many matches, in the order in which they come, into one batch.
pub struct BatchBuilder {
    incarnation: Incarnation,
    number: BatchNo,
    prev_crc: u32,
    limit: usize,
    len: usize,
    frames: u32,
    groups: BTreeMap<(MatchId, Epoch), Group>,
}

impl BatchBuilder {
    /// An empty batch that grows to `limit` bytes at most ([`MAX_BATCH`] if that is less).
    /// `prev_crc` is the CRC of the batch before it in the log, 0 for the first.
    pub fn new(incarnation: Incarnation, number: BatchNo, prev_crc: u32, limit: usize) -> Self {
        Self {
            incarnation,
            number,
            prev_crc,
            limit: limit.min(MAX_BATCH),
            len: ENVELOPE,
            frames: 0,
            groups: BTreeMap::new(),
        }
    }

    /// Takes one frame and returns its CRC, which the match's next frame carries as `prev_crc`.
    /// Nothing changes on an error. An empty batch takes any payload up to [`MAX_PAYLOAD`], also
    /// over the limit.
    pub fn push(&mut self, header: &FrameHeader, payload: &[u8]) -> Result<u32, PushError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(PushError::TooLarge(payload.len()));
        }
        let key = (header.match_id, header.epoch);
        let group = self.groups.get(&key);
        if let Some(group) = group
            && header.seq != group.last_seq.next()
        {
            return Err(PushError::NotContiguous {
                match_id: header.match_id,
                last: group.last_seq,
                got: header.seq,
            });
        }
        let needed = FRAME_HEADER + payload.len() + if group.is_none() { DIR_ENTRY } else { 0 };
        if self.len + needed > self.limit && !self.is_empty() {
            return Err(PushError::Full);
        }
        self.len += needed;
        self.frames += 1;
        let group = self.groups.entry(key).or_insert_with(|| Group {
            first_seq: header.seq,
            last_seq: header.seq,
            count: 0,
            frames: Vec::new(),
        });
        group.last_seq = header.seq;
        group.count += 1;
        Ok(Frame::encode(header, payload, &mut group.frames))
    }

    /// Nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// How many frames it has.
    pub fn frames(&self) -> u32 {
        self.frames
    }

    /// How many bytes it would take if it were finished now.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The encoded batch. The directory ascends by (match, epoch); each match's frames stand in the
    /// order in which they were pushed.
    ///
    /// # Panics
    /// If what was counted while frames were pushed is not what stands in the batch: recovery would
    /// refuse it, after its ticks were acknowledged.
    pub fn finish(self) -> Batch {
        let mut bytes = vec![0; ENVELOPE];
        bytes.reserve_exact(self.len - ENVELOPE);
        let mut offset = ENVELOPE + self.groups.len() * DIR_ENTRY;
        for (&(match_id, epoch), group) in &self.groups {
            for word in [match_id.0, epoch.0, group.first_seq.0] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            bytes.extend_from_slice(&group.count.to_le_bytes());
            bytes.extend_from_slice(&(offset as u32).to_le_bytes());
            offset += group.frames.len();
        }
        for group in self.groups.values() {
            bytes.extend_from_slice(&group.frames);
        }
        self.assert_counted(offset, bytes.len());
        let envelope = Envelope {
            log: self.incarnation,
            number: self.number,
            prev_crc: self.prev_crc,
            len: 0,
            first: self.groups.len() as u32,
            second: self.frames,
            crc: 0,
        };
        envelope.seal(BATCH_MAGIC, &mut bytes);
        Batch { incarnation: self.incarnation, number: self.number, bytes: bytes.into() }
    }
}

impl BatchBuilder {
    /// Compares what was counted with where the directory ends up and with the bytes.
    fn assert_counted(&self, end: usize, bytes: usize) {
        assert_eq!(end, bytes, "the directory of batch {} names other frames", self.number);
        assert_eq!(self.len, bytes, "batch {} has another length than counted", self.number);
        let frames: u64 = self.groups.values().map(|group| u64::from(group.count)).sum();
        assert_eq!(frames, u64::from(self.frames), "frames of batch {}", self.number);
        for ((match_id, _), group) in &self.groups {
            assert_eq!(
                group.last_seq.0 - group.first_seq.0 + 1,
                u64::from(group.count),
                "the records of match {match_id} in batch {} have a gap",
                self.number
            );
        }
    }
}

impl Batch {
    /// The batch's own checksum, which the next one carries as `prev_crc`; 0 if the bytes are no
    /// batch.
    pub fn crc(&self) -> u32 {
        Envelope::parse(&self.bytes, BATCH_MAGIC, "batch").map_or(0, |envelope| envelope.crc)
    }
}

/// A batch, decoded and checked as a whole: every checksum, every length, the directory against the
/// frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchView {
    envelope: Envelope,
    directory: Vec<DirEntry>,
    frames: Vec<Frame>,
    starts: Vec<usize>,
}

impl BatchView {
    /// Decodes and checks one whole batch. Payloads share memory with `bytes`.
    pub fn parse(bytes: &Bytes) -> Result<Self, BatchError> {
        let envelope = Envelope::parse(bytes, BATCH_MAGIC, "batch")?;
        if envelope.len as usize > MAX_BATCH {
            return Err(BatchError::Layout { what: "length of the batch" });
        }
        envelope.check(bytes, "batch")?;
        let lines = envelope.first as usize;
        let body = ENVELOPE + lines.saturating_mul(DIR_ENTRY);
        let lines = bytes
            .get(ENVELOPE..body)
            .ok_or(BatchError::Layout { what: "length of the directory" })?;
        let mut view =
            Self { envelope, directory: Vec::new(), frames: Vec::new(), starts: Vec::new() };
        let mut at = body;
        for line in lines.chunks_exact(DIR_ENTRY) {
            let entry = DirEntry {
                match_id: MatchId(u64_at(line, 0)),
                epoch: Epoch(u64_at(line, 8)),
                first_seq: Seq(u64_at(line, 16)),
                count: u32_at(line, 24),
                offset: u32_at(line, 28),
            };
            let ascends = view
                .directory
                .last()
                .is_none_or(|last| (last.match_id, last.epoch) < (entry.match_id, entry.epoch));
            if !ascends || entry.count == 0 || entry.offset as usize != at {
                return Err(BatchError::Layout { what: "directory" });
            }
            view.starts.push(view.frames.len());
            for index in 0..u64::from(entry.count) {
                let (frame, len) = Frame::decode(&bytes.slice(at..))?;
                let expected = (entry.match_id, entry.epoch, entry.first_seq.0.checked_add(index));
                if (frame.header.match_id, frame.header.epoch, Some(frame.header.seq.0)) != expected
                {
                    return Err(BatchError::Layout {
                        what: "frame: it is not the one that the directory names",
                    });
                }
                view.frames.push(frame);
                at += len;
            }
            view.directory.push(entry);
        }
        if at != bytes.len() || view.frames.len() != envelope.second as usize {
            return Err(BatchError::Layout { what: "number of frames" });
        }
        Ok(view)
    }

    /// In whose log it stands.
    pub fn incarnation(&self) -> Incarnation {
        self.envelope.log
    }

    /// Its number in that log.
    pub fn number(&self) -> BatchNo {
        self.envelope.number
    }

    /// Its own checksum.
    pub fn crc(&self) -> u32 {
        self.envelope.crc
    }

    /// The checksum of the batch before it in the log, 0 for the first.
    pub fn prev_crc(&self) -> u32 {
        self.envelope.prev_crc
    }

    /// Which matches have frames in it, ascending by (match, epoch).
    pub fn directory(&self) -> &[DirEntry] {
        &self.directory
    }

    /// The frames of one match under one ownership, ascending by seq; none if it has none here.
    pub fn frames(&self, match_id: MatchId, epoch: Epoch) -> &[Frame] {
        let found = self
            .directory
            .binary_search_by_key(&(match_id, epoch), |entry| (entry.match_id, entry.epoch));
        found.map_or(&[], |index| {
            &self.frames[self.starts[index]..][..self.directory[index].count as usize]
        })
    }

    /// All frames, match by match.
    pub fn all_frames(&self) -> &[Frame] {
        &self.frames
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> BatchBuilder {
        let mut builder = BatchBuilder::new(Incarnation(1), BatchNo(3), 0, MAX_BATCH);
        let header = |seq| FrameHeader {
            match_id: MatchId(7),
            epoch: Epoch(1),
            seq: Seq(seq),
            first_tick: Tick(seq),
            last_tick: Tick(seq),
            build: BuildId(0),
            time_ms: 0,
            prev_crc: 0,
        };
        builder.push(&header(4), b"one").unwrap();
        builder.push(&header(5), b"two").unwrap();
        builder
    }

    fn group(builder: &mut BatchBuilder) -> &mut Group {
        builder.groups.values_mut().next().unwrap()
    }

    #[test]
    #[should_panic(expected = "batch 3 has another length than counted")]
    fn a_byte_that_was_not_counted_is_noticed() {
        let mut builder = builder();
        group(&mut builder).frames.push(0);
        builder.finish();
    }

    #[test]
    #[should_panic(expected = "frames of batch 3")]
    fn a_frame_that_was_not_counted_is_noticed() {
        let mut builder = builder();
        builder.frames += 1;
        builder.finish();
    }

    #[test]
    #[should_panic(expected = "the records of match 0000000000000007 in batch 3 have a gap")]
    fn a_record_that_is_missing_is_noticed() {
        let mut builder = builder();
        group(&mut builder).last_seq = Seq(6);
        builder.finish();
    }

    #[test]
    #[should_panic(expected = "an entry of 47 bytes has no envelope")]
    fn an_entry_that_is_too_short_is_not_sealed() {
        let envelope = Envelope::parse(&builder().finish().bytes, BATCH_MAGIC, "batch").unwrap();
        envelope.seal(BATCH_MAGIC, &mut [0; 47]);
    }
}
