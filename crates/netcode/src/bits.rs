//! Bits and varints: what packets are made of.
//!
//! Bits fill each byte from its lowest bit. Called by the snapshot codec and the packet codecs,
//! calls nothing.

/// The bytes ended in the middle of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Truncated;

/// A quotient of so many ones is followed by the plain value instead: no code gets longer than this
/// plus 38 bits.
pub(crate) const ESCAPE: u32 = 16;

// A quotient below the escape, its zero and the longest remainder are put in one go.
const _: () = assert!(ESCAPE + 15 <= 32);

/// Takes plain bits: what the parts of a body go to that look alike in each coding.
pub(crate) trait PutBits {
    /// The lowest `bits` bits of `value`, at most 32. Higher bits of `value` must be 0.
    fn put(&mut self, value: u32, bits: u32);

    /// How much was written, in bits, about.
    fn position(&self) -> usize;

    /// Rice code: `value >> k` ones, a zero, the low `k` bits (`k <= 15`); from [`ESCAPE`] ones on,
    /// 5 bits of length - 1 and the plain value.
    #[inline]
    fn rice(&mut self, value: u32, k: u32) {
        let quotient = value >> k;
        // One by one, as they are read.
        (0..quotient.min(ESCAPE)).for_each(|_| self.put(1, 1));
        if quotient < ESCAPE {
            self.put(0, 1);
            self.put(value & ((1 << k) - 1), k);
        } else {
            let bits = value.ilog2() + 1;
            self.put(bits - 1, 5);
            self.put(value, bits);
        }
    }
}

/// Gives plain bits: the other end of [`PutBits`].
pub(crate) trait GetBits {
    /// The next `bits` bits, at most 32.
    fn get(&mut self, bits: u32) -> Result<u32, Truncated>;

    /// See [`PutBits::rice`].
    #[inline]
    fn rice(&mut self, k: u32) -> Result<u32, Truncated> {
        let mut quotient = 0;
        while quotient < ESCAPE && self.get(1)? == 1 {
            quotient += 1;
        }
        if quotient == ESCAPE {
            let bits = self.get(5)? + 1;
            return self.get(bits);
        }
        Ok(quotient << k | self.get(k)?)
    }
}

/// Appends bits to a byte vector.
pub(crate) struct BitWriter<'a> {
    out: &'a mut Vec<u8>,
    acc: u64,
    fill: u32,
}

impl<'a> BitWriter<'a> {
    pub(crate) fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, acc: 0, fill: 0 }
    }

    /// Writes out the last bits; the rest of the last byte is 0.
    pub(crate) fn finish(self) {
        let bytes = self.fill.div_ceil(8) as usize;
        self.out.extend_from_slice(&self.acc.to_le_bytes()[..bytes]);
    }
}

impl PutBits for BitWriter<'_> {
    #[expect(clippy::inline_always, reason = "measured: part of the cost of every client tick")]
    #[inline(always)]
    fn put(&mut self, value: u32, bits: u32) {
        debug_assert!(bits <= 32 && u64::from(value) >> bits == 0, "{value} has over {bits} bits");
        self.acc |= u64::from(value) << self.fill;
        self.fill += bits;
        if self.fill >= 32 {
            self.out.extend_from_slice(&(self.acc as u32).to_le_bytes());
            self.acc >>= 32;
            self.fill -= 32;
        }
    }

    #[expect(clippy::inline_always, reason = "measured: part of the cost of every client tick")]
    #[inline(always)]
    fn rice(&mut self, value: u32, k: u32) {
        let quotient = value >> k;
        if quotient < ESCAPE {
            // At most 16 + 15 bits: one go.
            let ones = (1 << quotient) - 1;
            self.put(ones | ((value & ((1 << k) - 1)) << (quotient + 1)), quotient + 1 + k);
        } else {
            self.put((1 << ESCAPE) - 1, ESCAPE);
            let bits = value.ilog2() + 1;
            self.put(bits - 1, 5);
            self.put(value, bits);
        }
    }

    /// Exact, with all bits of the output vector.
    #[inline]
    fn position(&self) -> usize {
        self.out.len() * 8 + self.fill as usize
    }
}

/// Reads bits from bytes.
pub(crate) struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> BitReader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// The next bits without consuming them, at least 57; behind the end come zeros.
    #[inline]
    fn peek(&self) -> u64 {
        let first = self.at / 8;
        let word =
            if let Some(chunk) = self.bytes.get(first..).and_then(|rest| rest.first_chunk::<8>()) {
                u64::from_le_bytes(*chunk)
            } else {
                let mut word = [0; 8];
                if let Some(rest) = self.bytes.get(first..) {
                    word[..rest.len()].copy_from_slice(rest);
                }
                u64::from_le_bytes(word)
            };
        word >> (self.at % 8)
    }

    #[inline]
    fn advance(&mut self, bits: u32) -> Result<(), Truncated> {
        self.at += bits as usize;
        if self.at <= self.bytes.len() * 8 { Ok(()) } else { Err(Truncated) }
    }

    /// Whether only the padding of the last byte is left, and it is 0.
    pub(crate) fn at_end(&self) -> bool {
        self.at.div_ceil(8) == self.bytes.len() && (self.at.is_multiple_of(8) || self.peek() == 0)
    }
}

impl GetBits for BitReader<'_> {
    #[inline]
    fn get(&mut self, bits: u32) -> Result<u32, Truncated> {
        let word = self.peek();
        self.advance(bits)?;
        Ok((word & ((1 << bits) - 1)) as u32)
    }

    #[inline]
    fn rice(&mut self, k: u32) -> Result<u32, Truncated> {
        let quotient = self.peek().trailing_ones().min(ESCAPE);
        if quotient == ESCAPE {
            self.advance(ESCAPE)?;
            let bits = self.get(5)? + 1;
            return self.get(bits);
        }
        let low = (self.peek() >> (quotient + 1)) as u32 & ((1 << k) - 1);
        self.advance(quotient + 1 + k)?;
        Ok((quotient << k) | low)
    }
}

/// Appends an unsigned LEB128 varint: 7 bits a byte, lowest first, the top bit says that more
/// follow.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed difference, zigzag coded: 0, -1, 1, -2, 2 become 0, 1, 2, 3, 4.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// Takes bytes from the front of a slice.
pub(crate) struct ByteReader<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> ByteReader<'a> {
    pub(crate) fn byte(&mut self) -> Result<u8, Truncated> {
        let (&byte, rest) = self.rest.split_first().ok_or(Truncated)?;
        self.rest = rest;
        Ok(byte)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Truncated> {
        let (bytes, rest) = self.rest.split_first_chunk::<4>().ok_or(Truncated)?;
        self.rest = rest;
        Ok(u32::from_le_bytes(*bytes))
    }

    /// At most 10 bytes; bits above the 64th are dropped.
    pub(crate) fn varint(&mut self) -> Result<u64, Truncated> {
        let mut value = 0;
        for shift in (0..70).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Truncated)
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Truncated> {
        let value = self.varint()?;
        Ok((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8], Truncated> {
        let (head, rest) = self.rest.split_at_checked(len).ok_or(Truncated)?;
        self.rest = rest;
        Ok(head)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "256 has over 8 bits")]
    fn a_quantum_that_is_too_large_is_noticed() {
        BitWriter::new(&mut Vec::new()).put(256, 8);
    }
}
