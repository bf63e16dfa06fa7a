//! Bytes as hexadecimal text, for JSON and for people.

use std::fmt::Write as _;

/// Two lower-case digits a byte.
pub(crate) fn encode(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The bytes that `text` spells, if it spells any.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    let digits = text.as_bytes();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.len().is_multiple_of(2).then(|| digits.chunks(2).map(byte).collect())?
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn hexadecimal_reads_back_or_is_refused() {
        assert_eq!(decode(&encode(&[0, 255, 16])), Some(vec![0, 255, 16]));
        for text in ["0", "zz", "é"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }
}
