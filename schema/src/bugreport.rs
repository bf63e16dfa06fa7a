//! A match in one file: what `rekindle bugreport` writes, and what `rekindle replay --file`,
//! `rekindle why --file` and `Harness::from_bugreport` read.
//!
//! The file is a head of 24 bytes with a checksum, then an encoded value, compressed. What the
//! report carries of a store (row, manifest, frames) stands in it as the store has it, with format
//! tags and checksums of its own. See `docs/FORMATS.md` for the bytes.
//!
//! It is compressed with LZ4, in Rust alone: clients are built of this crate too, and must not need
//! a C compiler for it, as the archive's zstd does.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::batch::{BatchError, Frame};
use crate::checkpoint::CheckpointMeta;
use crate::codec::{self, CodecError, FormatTag};
use crate::ids::BuildId;
use crate::lease::MatchLease;

/// Format tag of the value in a bug report.
pub const BUG_REPORT_TAG: FormatTag = FormatTag(0x8001);
/// What every bug report begins with.
pub const BUG_REPORT_MAGIC: [u8; 8] = *b"RKBUGREP";
/// The version of the file that this code writes. Version 1, which is not compressed, is read too.
pub const BUG_REPORT_VERSION: u16 = 2;
/// The version of files that are not compressed.
const PLAIN_VERSION: u16 = 1;
/// Bytes before the value.
pub const BUG_REPORT_HEAD: usize = 24;
/// Bytes behind the head of a compressed file that say how long the value is.
const RAW_LEN: usize = 8;
/// One byte of LZ4 stands for fewer bytes than this.
const MOST_PER_BYTE: u64 = 256;

// Magic; version and padding; checksum; length.
const _: () = assert!(BUG_REPORT_HEAD == 8 + 4 + 4 + 8);

/// All that a match can be played again from, and what was known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BugReport {
    /// The release of Rekindle that wrote it.
    pub release: String,
    /// The build of the executable that wrote it, which need not be the one that played.
    pub build: BuildId,
    /// Wall clock when it was written, in milliseconds since 1970.
    pub made_ms: u64,
    /// The row of the match: game, configuration, seed, rate; where it stands, with the report if
    /// it is parked.
    pub lease: MatchLease,
    /// The configuration of whoever wrote it: keys and values. Secrets are not in it.
    pub settings: Vec<(String, String)>,
    /// What went wrong without doing harm when the store was read.
    pub notes: Vec<String>,
    /// The checkpoint with which it begins, and its state. `None`: with the match as it is set up.
    pub start: Option<(CheckpointMeta, Bytes)>,
    /// All records behind the beginning, ascending without a gap.
    pub frames: Vec<Frame>,
}

/// Why a file is no bug report.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BugReportError {
    /// It begins with something else.
    #[error("it does not begin as one does")]
    Foreign,
    /// A later release wrote it.
    #[error("it is of version {0}, and this release reads versions up to {BUG_REPORT_VERSION}")]
    Version(u16),
    /// It ends too early or too late.
    #[error("it should have {wanted} bytes and has {have}: it was cut off, or is not all of it")]
    Length {
        /// How many bytes its head says.
        wanted: u64,
        /// How many there are.
        have: u64,
    },
    /// Its bytes are not those that were written.
    #[error("its checksum is {wanted:08x} and its bytes give {have:08x}: it is damaged")]
    Checksum {
        /// What its head says.
        wanted: u32,
        /// What the bytes give.
        have: u32,
    },
    /// It cannot be decompressed, behind a checksum that is right.
    #[error("its contents cannot be decompressed: {0}")]
    Compression(String),
    /// A value in it cannot be read, behind a checksum that is right.
    #[error("its {part} cannot be read: {error}")]
    Value {
        /// Which part.
        part: &'static str,
        /// What the decoder found.
        error: CodecError,
    },
    /// A record in it is damaged.
    #[error("record {index} of it cannot be read: {error}")]
    Record {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        error: BatchError,
    },
}

/// The value, in all versions.
#[derive(Serialize, Deserialize)]
struct Stored {
    release: String,
    build: BuildId,
    made_ms: u64,
    lease: Bytes,
    settings: Vec<(String, String)>,
    notes: Vec<String>,
    start: Option<(Bytes, Bytes)>,
    frames: Vec<Bytes>,
}

impl BugReport {
    /// The whole file.
    pub fn encode(&self) -> Vec<u8> {
        let frame = |frame: &Frame| {
            let mut out = Vec::new();
            Frame::encode(&frame.header, &frame.payload, &mut out);
            out.into()
        };
        let start = self.start.as_ref();
        let stored = Stored {
            release: self.release.clone(),
            build: self.build,
            made_ms: self.made_ms,
            lease: self.lease.encode().into(),
            settings: self.settings.clone(),
            notes: self.notes.clone(),
            start: start.map(|(meta, state)| (meta.encode().into(), state.clone())),
            frames: self.frames.iter().map(frame).collect(),
        };
        let raw = codec::encode(BUG_REPORT_TAG, &stored);
        let mut value = (raw.len() as u64).to_le_bytes().to_vec();
        value.extend(lz4_flex::block::compress(&raw));
        let mut out = Vec::with_capacity(BUG_REPORT_HEAD + value.len());
        out.extend_from_slice(&BUG_REPORT_MAGIC);
        out.extend_from_slice(&BUG_REPORT_VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&crc32c::crc32c(&value).to_le_bytes());
        out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        out.extend_from_slice(&value);
        out
    }

    /// Reads a file.
    ///
    /// # Errors
    ///
    /// If the bytes are no bug report, are damaged, or are of a later release.
    pub fn decode(bytes: &[u8]) -> Result<Self, BugReportError> {
        let value = value_of(bytes)?;
        let of = |part| move |error| BugReportError::Value { part, error };
        let stored: Stored = codec::decode(BUG_REPORT_TAG, &value).map_err(of("contents"))?;
        let start = match stored.start {
            None => None,
            Some((meta, state)) => {
                Some((CheckpointMeta::decode(&meta).map_err(of("checkpoint"))?, state))
            }
        };
        let frames = stored.frames.iter().enumerate().map(|(index, bytes)| {
            let wrong = |error| BugReportError::Record { index, error };
            let (frame, used) = Frame::decode(bytes).map_err(wrong)?;
            let whole = used == bytes.len();
            whole.then_some(frame).ok_or(wrong(BatchError::Layout { what: "frame" }))
        });
        Ok(Self {
            release: stored.release,
            build: stored.build,
            made_ms: stored.made_ms,
            lease: MatchLease::decode(&stored.lease).map_err(of("row of the match"))?,
            settings: stored.settings,
            notes: stored.notes,
            start,
            frames: frames.collect::<Result<_, _>>()?,
        })
    }
}

/// The encoded value: the bytes behind the head, which is checked.
fn value_of(bytes: &[u8]) -> Result<Cow<'_, [u8]>, BugReportError> {
    if !bytes.starts_with(&BUG_REPORT_MAGIC) {
        return Err(BugReportError::Foreign);
    }
    let short = |wanted: u64| BugReportError::Length { wanted, have: bytes.len() as u64 };
    let (head, value) =
        bytes.split_first_chunk::<BUG_REPORT_HEAD>().ok_or(short(BUG_REPORT_HEAD as u64))?;
    let [_, _, _, _, _, _, _, _, v0, v1, _, _, c0, c1, c2, c3, len @ ..] = *head;
    let version = u16::from_le_bytes([v0, v1]);
    if !(PLAIN_VERSION..=BUG_REPORT_VERSION).contains(&version) {
        return Err(BugReportError::Version(version));
    }
    let len = u64::from_le_bytes(len);
    if len != value.len() as u64 {
        return Err(short(len.saturating_add(BUG_REPORT_HEAD as u64)));
    }
    let (wanted, have) = (u32::from_le_bytes([c0, c1, c2, c3]), crc32c::crc32c(value));
    if wanted != have {
        return Err(BugReportError::Checksum { wanted, have });
    }
    if version == PLAIN_VERSION { Ok(Cow::Borrowed(value)) } else { Ok(decompress(value)?.into()) }
}

/// The value of a compressed file. Memory grows with the file, whatever length it promises.
fn decompress(bytes: &[u8]) -> Result<Vec<u8>, BugReportError> {
    let wrong = |problem: String| BugReportError::Compression(problem);
    let (len, packed) = bytes
        .split_first_chunk::<RAW_LEN>()
        .ok_or_else(|| wrong("it does not say how long they are".to_owned()))?;
    let promised = u64::from_le_bytes(*len);
    let most = (packed.len() as u64).saturating_mul(MOST_PER_BYTE);
    let len = usize::try_from(promised).ok().filter(|_| promised <= most);
    let len = len.ok_or_else(|| wrong(format!("{} bytes cannot hold {promised}", packed.len())))?;
    let value =
        lz4_flex::block::decompress(packed, len).map_err(|error| wrong(error.to_string()))?;
    if value.len() != len {
        return Err(wrong(format!("it promises {len} bytes and has {}", value.len())));
    }
    Ok(value)
}
