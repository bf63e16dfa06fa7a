//! The delta from one state to a later one: what a checkpoint with a base stores.
//!
//! A delta says which stretches of the base's bytes the new bytes have, and what stands between
//! them. Whoever writes one knows what the bytes mean ([`DeltaWriter`] is driven by the change
//! stamps of a world); whoever applies one need not, so a chain of deltas can be put together by a
//! store, a tool, or a build that no longer has the game.
//!
//! | bytes | what |
//! |---|---|
//! | 2 | tag `0x2102` |
//! | 32 | BLAKE3 of the base's bytes |
//! | 32 | BLAKE3 of the new bytes |
//! | 4 | length of the new bytes, `u32` |
//! | the rest | operations: *skip* so many bytes of the base, *copy* so many, *literal* so many bytes that follow |
//!
//! The three numbers of an operation are LEB128 of at most 32 bits. The base is gone through once,
//! from front to back, so the new bytes are never longer than base and delta together: a made-up
//! delta makes nobody allocate more.

use std::ops::Range;

use crate::codec::FormatTag;

/// Format tag of a delta.
pub const DELTA_TAG: FormatTag = FormatTag(0x2102);

/// Bytes in front of the operations.
const HEADER: usize = 2 + 32 + 32 + 4;
/// Bytes that are compared at a time.
const WORD: usize = 8;

/// Why a delta does not lead from a base to a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// The bytes are something else.
    #[error("format tag {found:#06x} where {:#06x} was expected: no delta, or written by another \
        version", DELTA_TAG.0)]
    Tag {
        /// What the bytes say.
        found: u16,
    },
    /// It is a delta to other bytes.
    #[error("it is a delta to a state with the hash {expected}, the base has {found}")]
    WrongBase {
        /// Head of the hash in the delta.
        expected: Head,
        /// Head of the hash of the base.
        found: Head,
    },
    /// No writer makes such bytes.
    #[error("malformed delta: {0}")]
    Malformed(&'static str),
    /// Base and delta are whole, but what comes of them is not what the delta was made from.
    #[error("what comes of it has the hash {found}, it should have {expected}")]
    Result {
        /// Head of the hash in the delta.
        expected: Head,
        /// Head of the hash of what came of it.
        found: Head,
    },
}

/// The first bytes of a hash, enough to tell two apart in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head([u8; 8]);

impl Head {
    fn of(hash: &[u8; 32]) -> Self {
        Self(*hash.first_chunk().unwrap_or(&[0; 8]))
    }
}

impl std::fmt::Display for Head {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Writes the operations that lead from a base to new bytes, front to back.
#[derive(Debug)]
pub struct DeltaWriter<'a> {
    base: &'a [u8],
    /// How far in the base the operations have come.
    at: usize,
    skip: usize,
    copy: usize,
    literal: Vec<u8>,
    operations: Vec<u8>,
    /// Length of the new bytes so far.
    len: usize,
}

impl<'a> DeltaWriter<'a> {
    /// Nothing is written yet.
    pub fn new(base: &'a [u8]) -> Self {
        Self { base, at: 0, skip: 0, copy: 0, literal: Vec::new(), operations: Vec::new(), len: 0 }
    }

    /// Length of the new bytes so far.
    #[inline]
    pub fn position(&self) -> usize {
        self.len
    }

    /// Length of the operations so far.
    #[inline]
    pub fn size(&self) -> usize {
        self.operations.len() + self.literal.len()
    }

    /// The new bytes go on with this stretch of the base, which lies behind all that were copied
    /// before.
    ///
    /// # Panics
    /// If it does not, or is not in the base.
    pub fn copy(&mut self, stretch: Range<usize>) {
        assert!(
            self.at <= stretch.start
                && stretch.start <= stretch.end
                && stretch.end <= self.base.len(),
            "stretches ascend"
        );
        if stretch.is_empty() {
            return;
        }
        if !(self.literal.is_empty() && self.at == stretch.start) {
            self.flush();
            self.skip = stretch.start - self.at;
        }
        self.copy += stretch.len();
        self.len += stretch.len();
        self.at = stretch.end;
    }

    /// The new bytes go on with these.
    pub fn write(&mut self, bytes: &[u8]) {
        self.literal.extend_from_slice(bytes);
        self.len += bytes.len();
    }

    /// The new bytes go on with `new`, which stands where `old` stands in the base: what they share
    /// is copied.
    ///
    /// # Panics
    /// As [`Self::copy`].
    pub fn replace(&mut self, old: Range<usize>, new: &[u8]) {
        let (start, before) = (old.start, &self.base[old.clone()]);
        if before.len() != new.len() {
            let head = before.iter().zip(new).take_while(|(a, b)| a == b).count();
            let tail = before[head..]
                .iter()
                .rev()
                .zip(new[head..].iter().rev())
                .take_while(|(a, b)| a == b)
                .count();
            self.copy(start..start + head);
            self.write(&new[head..new.len() - tail]);
            self.copy(old.end - tail..old.end);
            return;
        }
        if before == new {
            return self.copy(old);
        }
        let mut place = start;
        for (a, b) in before.chunks(WORD).zip(new.chunks(WORD)) {
            if a == b {
                self.copy(place..place + a.len());
            } else {
                self.write(b);
            }
            place += a.len();
        }
    }

    fn flush(&mut self) {
        if self.skip == 0 && self.copy == 0 && self.literal.is_empty() {
            return;
        }
        for number in [self.skip, self.copy, self.literal.len()] {
            write_number(number, &mut self.operations);
        }
        self.operations.append(&mut self.literal);
        (self.skip, self.copy) = (0, 0);
    }

    /// The operations.
    pub fn finish(mut self) -> Vec<u8> {
        self.flush();
        self.operations
    }
}

/// Makes a delta of operations that a [`DeltaWriter`] wrote for `base`. Returns it with the new
/// bytes.
pub fn seal(base: &[u8], operations: &[u8]) -> Result<(Vec<u8>, Vec<u8>), DeltaError> {
    let state = carry_out(base, operations, None)?;
    let mut delta = Vec::with_capacity(HEADER + operations.len());
    delta.extend_from_slice(&DELTA_TAG.0.to_le_bytes());
    delta.extend_from_slice(blake3::hash(base).as_bytes());
    delta.extend_from_slice(blake3::hash(&state).as_bytes());
    let len = u32::try_from(state.len())
        .map_err(|_| DeltaError::Malformed("the new bytes are over 4 GiB"))?;
    delta.extend_from_slice(&len.to_le_bytes());
    delta.extend_from_slice(operations);
    Ok((delta, state))
}

/// The new bytes, from the base and the delta. Never panics, whatever the bytes; the result is
/// checked against the hash of what the delta was made from.
pub fn apply(base: &[u8], delta: &[u8]) -> Result<Vec<u8>, DeltaError> {
    const SHORT: DeltaError = DeltaError::Malformed("it ends within its header");
    let (tag, rest) = delta.split_first_chunk::<2>().ok_or(SHORT)?;
    let found = u16::from_le_bytes(*tag);
    if found != DELTA_TAG.0 {
        return Err(DeltaError::Tag { found });
    }
    let (wanted, rest) = rest.split_first_chunk::<32>().ok_or(SHORT)?;
    let (hash, rest) = rest.split_first_chunk::<32>().ok_or(SHORT)?;
    let (len, operations) = rest.split_first_chunk::<4>().ok_or(SHORT)?;
    let base_hash = blake3::hash(base);
    if base_hash.as_bytes() != wanted {
        return Err(DeltaError::WrongBase {
            expected: Head::of(wanted),
            found: Head::of(base_hash.as_bytes()),
        });
    }
    let state = carry_out(base, operations, Some(u32::from_le_bytes(*len) as usize))?;
    let state_hash = blake3::hash(&state);
    if state_hash.as_bytes() != hash {
        return Err(DeltaError::Result {
            expected: Head::of(hash),
            found: Head::of(state_hash.as_bytes()),
        });
    }
    Ok(state)
}

fn carry_out(
    base: &[u8],
    mut operations: &[u8],
    len: Option<usize>,
) -> Result<Vec<u8>, DeltaError> {
    let most = base.len() + operations.len();
    if len.is_some_and(|len| len > most) {
        return Err(DeltaError::Malformed("it claims more bytes than it can make"));
    }
    let mut rest = base;
    let mut state = Vec::with_capacity(len.unwrap_or(base.len()));
    while !operations.is_empty() {
        let (skip, copy, literal) = (
            read_number(&mut operations)?,
            read_number(&mut operations)?,
            read_number(&mut operations)?,
        );
        let (_, behind) = rest
            .split_at_checked(skip)
            .ok_or(DeltaError::Malformed("it skips more than the base has"))?;
        let (copied, behind) = behind
            .split_at_checked(copy)
            .ok_or(DeltaError::Malformed("it copies more than the base has"))?;
        let (new, others) = operations
            .split_at_checked(literal)
            .ok_or(DeltaError::Malformed("it ends within an operation"))?;
        state.extend_from_slice(copied);
        state.extend_from_slice(new);
        (rest, operations) = (behind, others);
    }
    if len.is_some_and(|len| len != state.len()) {
        return Err(DeltaError::Malformed("it makes another number of bytes than it claims"));
    }
    Ok(state)
}

fn write_number(mut number: usize, out: &mut Vec<u8>) {
    assert!(u32::try_from(number).is_ok(), "no delta can say {number}: its numbers have 32 bits");
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn read_number(input: &mut &[u8]) -> Result<usize, DeltaError> {
    let mut number = 0u64;
    for shift in (0..5).map(|place| place * 7) {
        let (&byte, rest) =
            input.split_first().ok_or(DeltaError::Malformed("it ends within an operation"))?;
        *input = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            let number = u32::try_from(number)
                .map_err(|_| DeltaError::Malformed("a number has more than 32 bits"))?;
            return Ok(number as usize);
        }
    }
    Err(DeltaError::Malformed("a number has more than 32 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "stretches ascend")]
    fn a_stretch_that_goes_back_is_noticed() {
        let mut writer = DeltaWriter::new(b"0123456789");
        writer.copy(4..8);
        writer.copy(2..3);
    }

    #[test]
    #[should_panic(expected = "no delta can say 4294967296")]
    fn a_number_that_cannot_be_read_is_not_written() {
        write_number(1 << 32, &mut Vec::new());
    }
}
