//! Adaptive binary range coding: bits that take less room the better they were foreseen.
//!
//! A [`Chance`] says how likely a bit is 1 and learns from each bit that is coded by it. Writer and
//! reader hold equal chances and change them equally, so both must ask for the same bits in the
//! same order. Called by the snapshot codec, calls nothing. All arithmetic is in whole numbers of
//! 32 bits, so that clients in other languages compute the same.

use crate::bits::{GetBits, PutBits, Truncated};

/// The range is kept at or above this, by moving bytes out.
const LEAST_RANGE: u32 = 1 << 24;
/// Chances stay between these: the least likely bit takes 11 bits of room.
const LEAST: i32 = 32;
const MOST: i32 = 65_536 - LEAST;
/// How much a bit moves a chance, in 1/65536 of the distance, by how many bits it has seen. The
/// first bits move it most.
const STEPS: [i32; 32] = {
    let mut steps = [0; 32];
    let mut seen = 0;
    while seen < 32 {
        steps[seen] = 131_072 / (2 * seen as i32 + 7);
        seen += 1;
    }
    steps
};
/// The step that stands for all later bits.
const LAST: u16 = 28;

// A whole byte of plain bits leaves a range that is not 0, and so does a chance; two bytes at most
// go out for it.
const _: () =
    assert!(LEAST_RANGE >> 8 > 0 && ((LEAST_RANGE >> 16) * LEAST as u32) << 16 >= LEAST_RANGE);

/// How likely the next bit of some kind is 1, in 1/65536, and how many bits have been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chance {
    one: u16,
    seen: u16,
}

impl Chance {
    /// Before any bit. `one` is in 1/65536.
    pub(crate) const fn new(one: u16) -> Self {
        assert!(LEAST <= one as i32 && one as i32 <= MOST);
        Self { one, seen: 0 }
    }

    /// Moves towards what the bit was, and stays where it is from there on.
    #[expect(clippy::inline_always, reason = "measured: part of each bit")]
    #[inline(always)]
    fn learn(&mut self, bit: bool) {
        let target = if bit { MOST } else { LEAST };
        let step = STEPS[usize::from(self.seen) % STEPS.len()];
        let moved = i32::from(self.one) + (((target - i32::from(self.one)) * step) >> 16);
        self.one = moved as u16;
        self.seen += u16::from(self.seen < LAST);
    }
}

/// Appends bits to a byte vector.
pub(crate) struct RangeWriter<'a> {
    out: &'a mut Vec<u8>,
    /// What stands for the bits so far is at or above this, and below this plus `range`. The lowest
    /// 32 bits are level with `range`; above them stand `waiting` bits that are to go out, and
    /// above those a carry into the bytes that are out already.
    low: u64,
    range: u32,
    waiting: u32,
}

/// Adds 1 to the bytes that are out, as one number. What they stand for stays below 1 with all of
/// them behind the point, so it ends within those of this body.
#[cold]
fn carry(out: &mut [u8]) {
    for byte in out.iter_mut().rev() {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
}

impl<'a> RangeWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, low: 0, range: u32::MAX, waiting: 0 }
    }

    /// Writes with a copy of itself, which stays in registers.
    #[inline]
    pub(crate) fn locally(&mut self, write: impl FnOnce(&mut RangeWriter<'_>)) {
        let Self { low, range, waiting, .. } = *self;
        let mut local = RangeWriter { out: &mut *self.out, low, range, waiting };
        write(&mut local);
        let RangeWriter { low, range, waiting, .. } = local;
        (self.low, self.range, self.waiting) = (low, range, waiting);
    }

    /// One bit, which `chance` foresees and learns from.
    #[expect(clippy::inline_always, reason = "measured: a call costs as much as the bit")]
    #[inline(always)]
    pub(crate) fn bit(&mut self, chance: &mut Chance, bit: bool) {
        let ones = (self.range >> 16) * u32::from(chance.one);
        let zeros = self.range - ones;
        self.low += u64::from(if bit { 0 } else { ones });
        self.range = if bit { ones } else { zeros };
        chance.learn(bit);
        self.normalise();
    }

    #[expect(clippy::inline_always, reason = "measured: part of each bit")]
    #[inline(always)]
    fn normalise(&mut self) {
        // As many whole bytes as keep the range below 2^32: none if it is large enough.
        let bits = self.range.leading_zeros() & !7;
        self.low <<= bits;
        self.range <<= bits;
        self.waiting += bits;
        if self.waiting >= 16 {
            self.flush();
        }
    }

    /// At most 24 bits wait: one step adds 16 at most to 8 that did.
    #[inline]
    fn flush(&mut self) {
        debug_assert!(matches!(self.waiting, 0 | 8 | 16 | 24), "whole bytes wait");
        if self.low >> (32 + self.waiting) != 0 {
            carry(self.out);
        }
        let word = ((self.low >> 32) as u32) << (32 - self.waiting).min(31);
        self.out.extend_from_slice(&word.to_be_bytes()[..(self.waiting / 8) as usize]);
        self.low &= 0xffff_ffff;
        self.waiting = 0;
    }

    /// Writes the fewest bytes that tell what was coded, with zeros thought behind them.
    pub(crate) fn finish(mut self) {
        self.flush();
        let (value, bytes) = shortest(self.low, self.range);
        if value >> 32 != 0 {
            carry(self.out);
        }
        self.out.extend_from_slice(&(value as u32).to_be_bytes()[..bytes]);
    }
}

/// The number from `low` on, and below `low + range`, whose 32 bits have the most bytes of zeros at
/// their end; and how many bytes stand before those.
fn shortest(low: u64, range: u32) -> (u64, usize) {
    let end = low + u64::from(range) - 1;
    let round_up = |bytes: usize| {
        let below = (1u64 << (32 - 8 * bytes)) - 1;
        ((low + below) & !below, bytes)
    };
    (0..4).map(round_up).find(|(value, _)| *value <= end).unwrap_or((low, 4))
}

impl PutBits for RangeWriter<'_> {
    /// Plain bits: each takes one bit of room.
    #[inline]
    fn put(&mut self, value: u32, bits: u32) {
        debug_assert!(bits <= 32 && u64::from(value) >> bits == 0, "{value} has over {bits} bits");
        let mut left = bits;
        while left > 0 {
            let part = left.min(8);
            left -= part;
            self.range >>= part;
            self.low += u64::from((value >> left) & ((1 << part) - 1)) * u64::from(self.range);
            self.normalise();
        }
    }

    fn position(&self) -> usize {
        self.out.len() * 8 + (self.waiting + self.range.leading_zeros()) as usize
    }
}

/// Reads bits from bytes.
pub(crate) struct RangeReader<'a> {
    bytes: &'a [u8],
    /// How many bytes were read, those thought behind the end included.
    at: usize,
    code: u32,
    range: u32,
}

impl<'a> RangeReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        let mut reader = Self { bytes, at: 0, code: 0, range: u32::MAX };
        (0..4).for_each(|_| reader.read());
        reader
    }

    /// Behind the end come zeros.
    #[inline]
    fn read(&mut self) {
        let byte = self.bytes.get(self.at).copied().unwrap_or(0);
        self.code = self.code << 8 | u32::from(byte);
        self.at += 1;
    }

    #[inline]
    fn normalise(&mut self) -> Result<(), Truncated> {
        while self.range < LEAST_RANGE {
            self.range <<= 8;
            self.read();
        }
        // The writer leaves out no more than the four bytes that are in `code`.
        if self.at <= self.bytes.len() + 4 { Ok(()) } else { Err(Truncated) }
    }

    /// See [`RangeWriter::bit`].
    #[inline]
    pub(crate) fn bit(&mut self, chance: &mut Chance) -> Result<bool, Truncated> {
        let ones = (self.range >> 16) * u32::from(chance.one);
        let bit = self.code < ones;
        if bit {
            self.range = ones;
        } else {
            self.code -= ones;
            self.range -= ones;
        }
        chance.learn(bit);
        self.normalise()?;
        Ok(bit)
    }

    /// Whether the bytes are those that a writer ends with.
    pub(crate) fn at_end(&self) -> bool {
        let byte = |at: usize| self.bytes.get(at).copied().unwrap_or(0);
        let value = u32::from_be_bytes([4, 3, 2, 1].map(|back| byte(self.at - back)));
        let (shortest, bytes) = shortest(u64::from(value.wrapping_sub(self.code)), self.range);
        shortest as u32 == value && self.at - 4 + bytes == self.bytes.len()
    }
}

impl GetBits for RangeReader<'_> {
    fn get(&mut self, bits: u32) -> Result<u32, Truncated> {
        let (mut value, mut left) = (0, bits);
        while left > 0 {
            let part = left.min(8);
            left -= part;
            self.range >>= part;
            // More than that is in no writer's bytes; it decodes as something, as all garbage does.
            let digit = (self.code / self.range).min((1 << part) - 1);
            self.code -= digit * self.range;
            value = value << part | digit;
            self.normalise()?;
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Piece {
        Bit(usize, bool),
        Plain(u32, u32),
        Rice(u32, u32),
    }

    fn piece() -> impl Strategy<Value = Piece> {
        prop_oneof![
            4 => (0..3usize, prop::bool::weighted(0.03)).prop_map(|(of, bit)| Piece::Bit(of, bit)),
            2 => (0..3usize, any::<bool>()).prop_map(|(of, bit)| Piece::Bit(of, bit)),
            1 => (any::<u32>(), 0..=32u32).prop_map(|(value, bits)| {
                Piece::Plain(value & u32::MAX.checked_shr(32 - bits).unwrap_or(0), bits)
            }),
            1 => (any::<u32>(), 0..32u32, 0..=15u32).prop_map(|(v, by, k)| Piece::Rice(v >> by, k)),
        ]
    }

    const START: [Chance; 3] = [Chance::new(32_768), Chance::new(900), Chance::new(65_000)];

    fn write(pieces: &[Piece]) -> Vec<u8> {
        let mut out = Vec::new();
        let (mut writer, mut chances) = (RangeWriter::new(&mut out), START);
        for piece in pieces {
            match *piece {
                Piece::Bit(of, bit) => writer.bit(&mut chances[of], bit),
                Piece::Plain(value, bits) => writer.put(value, bits),
                Piece::Rice(value, k) => writer.rice(value, k),
            }
        }
        writer.finish();
        out
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(pieces in prop::collection::vec(piece(), 0..400)) {
            let bytes = write(&pieces);
            let (mut reader, mut chances) = (RangeReader::new(&bytes), START);
            for piece in &pieces {
                match *piece {
                    Piece::Bit(of, bit) => prop_assert_eq!(reader.bit(&mut chances[of]), Ok(bit)),
                    Piece::Plain(value, bits) => prop_assert_eq!(reader.get(bits), Ok(value)),
                    Piece::Rice(value, k) => prop_assert_eq!(reader.rice(k), Ok(value)),
                }
            }
            prop_assert!(reader.at_end());
        }
    }

    #[test]
    fn bits_that_were_foreseen_take_little_room() {
        let pieces = vec![Piece::Bit(1, false); 4000];
        assert!(write(&pieces).len() <= 4, "{} bytes", write(&pieces).len());
    }

    #[test]
    fn a_byte_too_much_is_noticed() {
        for count in 0..200 {
            let mut bytes = write(&vec![Piece::Bit(1, count % 7 == 3); count]);
            bytes.push(0);
            let (mut reader, mut chances) = (RangeReader::new(&bytes), START);
            for _ in 0..count {
                assert_eq!(reader.bit(&mut chances[1]), Ok(count % 7 == 3));
            }
            assert!(!reader.at_end(), "{count} bits");
        }
    }

    #[test]
    fn the_end_is_noticed() {
        let pieces: Vec<Piece> = (0..64).map(|at| Piece::Plain(at * 3, 8)).collect();
        let bytes = write(&pieces);
        let mut reader = RangeReader::new(&bytes[..20]);
        let read = (0..64).take_while(|_| reader.get(8).is_ok()).count();
        assert!((20..25).contains(&read), "{read}");
    }
}
