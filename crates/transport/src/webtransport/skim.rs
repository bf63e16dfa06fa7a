//! Cuts values with a type and a length (frames of HTTP/3, capsules) from a stream, without keeping
//! what nobody wants. Pure.

use web_transport_proto::VarInt;

/// Longest type and length.
const MAX_HEAD: usize = 2 * VarInt::MAX_SIZE;

/// Where a stream of values stands.
#[derive(Debug, Default)]
pub(super) struct Skim {
    /// What came of the head of the next value.
    head: [u8; MAX_HEAD],
    filled: usize,
    /// Type and length of the value that is being read, and how much of it is to come.
    value: Option<(u64, u64, u64)>,
}

/// A piece of a value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece<'a> {
    /// The type of the value.
    pub(super) kind: u64,
    /// Its whole length.
    pub(super) len: u64,
    /// These bytes of it.
    pub(super) bytes: &'a [u8],
    /// They are its last.
    pub(super) last: bool,
}

impl Skim {
    /// The next piece in `input`, whose bytes are consumed. `None`: all are.
    pub(super) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Option<Piece<'a>> {
        let (kind, len, left) = match self.value {
            Some(value) => value,
            None => self.begin(input)?,
        };
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        if here == 0 && left > 0 {
            self.value = Some((kind, len, left));
            return None;
        }
        let (bytes, rest) = input.split_at(here);
        *input = rest;
        let left = left - here as u64;
        self.value = (left > 0).then_some((kind, len, left));
        Some(Piece { kind, len, bytes, last: left == 0 })
    }

    /// Reads the head of a value.
    fn begin(&mut self, input: &mut &[u8]) -> Option<(u64, u64, u64)> {
        loop {
            let mut head = &self.head[..self.filled];
            let kind = VarInt::decode(&mut head).ok();
            let both = kind.and_then(|kind| Some((kind, VarInt::decode(&mut head).ok()?)));
            if let Some((kind, len)) = both {
                self.filled = 0;
                let len = len.into_inner();
                return Some((kind.into_inner(), len, len));
            }
            let (&byte, rest) = input.split_first()?;
            *input = rest;
            // Two numbers are whole before the head is full.
            self.head[self.filled] = byte;
            self.filled += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn number(value: u64, bytes: &mut Vec<u8>) {
        VarInt::from_u64(value).unwrap().encode(bytes);
    }

    fn values() -> impl Strategy<Value = Vec<(u64, Vec<u8>)>> {
        let value = (0..(1_u64 << 62), prop::collection::vec(any::<u8>(), 0..200));
        prop::collection::vec(value, 0..8)
    }

    proptest! {
        #[test]
        fn values_come_out_as_they_went_in_however_the_stream_is_cut(
            values in values(),
            cuts in prop::collection::vec(1_usize..40, 1..64),
        ) {
            let mut wire = Vec::new();
            for (kind, bytes) in &values {
                number(*kind, &mut wire);
                number(bytes.len() as u64, &mut wire);
                wire.extend_from_slice(bytes);
            }
            let (mut skim, mut found, mut open) = (Skim::default(), Vec::new(), Vec::new());
            let (mut rest, mut cuts) = (&wire[..], cuts.iter().cycle());
            while !rest.is_empty() {
                let cut = rest.len().min(*cuts.next().unwrap());
                let (mut input, later) = rest.split_at(cut);
                rest = later;
                while let Some(piece) = skim.next(&mut input) {
                    open.extend_from_slice(piece.bytes);
                    if piece.last {
                        prop_assert_eq!(piece.len, open.len() as u64);
                        found.push((piece.kind, std::mem::take(&mut open)));
                    }
                }
                prop_assert!(input.is_empty());
            }
            prop_assert_eq!(found, values);
        }

        #[test]
        fn garbage_is_passed_over_without_a_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..500),
        ) {
            let (mut skim, mut input) = (Skim::default(), &bytes[..]);
            while skim.next(&mut input).is_some() {}
            prop_assert!(input.is_empty());
        }
    }
}
