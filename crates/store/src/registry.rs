//! What all backends check of an entry of the [`Registry`](crate::Registry) before they write it.

use rekindle_schema::registry::RegistryEntry;

use crate::StoreError;

/// Longest name of an entry, in bytes.
pub const MAX_NAME: usize = 120;
/// Largest value of an entry, in bytes.
pub const MAX_VALUE: usize = 64 << 10;

/// Checks an entry that is about to be written. Called by every backend.
///
/// `Refused` if its name or version is none, `TooLarge` if its value is.
pub fn check(entry: &RegistryEntry) -> Result<(), StoreError> {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
    };
    let refused = |problem: String| StoreError::Refused {
        place: format!("entry `{}`", entry.name.escape_debug()),
        problem,
    };
    if entry.name.len() > MAX_NAME || !entry.name.split('/').all(part) {
        return Err(refused(format!(
            "a name has up to {MAX_NAME} bytes of a-z 0-9 - _ . in parts with / between them"
        )));
    }
    if entry.version == 0 {
        return Err(refused("versions begin with 1".to_owned()));
    }
    if entry.value.len() > MAX_VALUE {
        let size = entry.value.len();
        return Err(StoreError::TooLarge { what: "a registry entry", size, limit: MAX_VALUE });
    }
    Ok(())
}

/// Whether `entry` may take the place of what stands: it is the one that stands, or the next version
/// of it. Called by every backend.
pub fn follows(entry: &RegistryEntry, standing: Option<&RegistryEntry>) -> bool {
    match standing {
        None => entry.version == 1,
        Some(standing) => entry == standing || entry.version == standing.version + 1,
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(name: &str, version: u64, len: usize) -> RegistryEntry {
        RegistryEntry { name: name.to_owned(), version, value: Bytes::from(vec![0; len]) }
    }

    #[test]
    fn names_are_parts_between_slashes() {
        for name in ["keys", "members/00000000000000a1", "a/b-c_d.e/f"] {
            assert!(check(&entry(name, 1, 0)).is_ok(), "{name}");
        }
        for name in ["", "/", "a/", "/a", "a//b", "A", "a b", "ä", &"a".repeat(MAX_NAME + 1)] {
            assert!(matches!(check(&entry(name, 1, 0)), Err(StoreError::Refused { .. })), "{name}");
        }
    }

    #[test]
    fn versions_begin_with_1_and_values_have_a_limit() {
        assert!(matches!(check(&entry("a", 0, 0)), Err(StoreError::Refused { .. })));
        assert!(check(&entry("a", 1, MAX_VALUE)).is_ok());
        assert!(matches!(check(&entry("a", 1, MAX_VALUE + 1)), Err(StoreError::TooLarge { .. })));
    }
}
