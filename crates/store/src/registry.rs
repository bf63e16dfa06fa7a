//! What all backends check of an entry of the [`Registry`](crate::Registry) before they write it;
//! and entries that have one writer at a time ([`set`], [`unset`]).

use bytes::Bytes;
use rekindle_schema::registry::RegistryEntry;

use crate::{Store, StoreError};

/// How often a write that meets another version is tried again. One writer at a time meets what it
/// wrote itself.
const TRIES: usize = 4;

/// Longest name of an entry, in bytes.
pub const MAX_NAME: usize = 120;
/// Largest value of an entry, in bytes.
pub const MAX_VALUE: usize = 64 << 10;

/// Highest version of an entry: what every backend's numbers hold.
pub const MAX_VERSION: u64 = i64::MAX as u64;

/// Whether an entry may have this name.
pub fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
    };
    name.len() <= MAX_NAME && name.split('/').all(part)
}

/// The names that begin with `prefix`, as a range: from the first bound to before the second, byte
/// by byte. None if no name can begin so. Called by backends that list by ranges.
pub fn range(prefix: &str) -> Option<(String, String)> {
    // Behind every character that names have.
    const BEHIND: char = '~';
    let may = prefix.is_empty() || is_name(prefix.strip_suffix('/').unwrap_or(prefix));
    may.then(|| (prefix.to_owned(), format!("{prefix}{BEHIND}")))
}

/// Checks an entry that is about to be written. Called by every backend.
///
/// `Refused` if its name or version is none, `TooLarge` if its value is.
pub fn check(entry: &RegistryEntry) -> Result<(), StoreError> {
    let refused = |problem: String| StoreError::Refused {
        place: format!("entry `{}`", entry.name.escape_debug()),
        problem,
    };
    if !is_name(&entry.name) {
        return Err(refused(format!(
            "a name has up to {MAX_NAME} bytes of a-z 0-9 - _ . in parts with / between them"
        )));
    }
    if !(1..=MAX_VERSION).contains(&entry.version) {
        return Err(refused(format!("versions are 1 to {MAX_VERSION}")));
    }
    if entry.value.len() > MAX_VALUE {
        let size = entry.value.len();
        return Err(StoreError::TooLarge { what: "a registry entry", size, limit: MAX_VALUE });
    }
    Ok(())
}

/// Makes an entry have this value, whatever it had before. `Unavailable` if others write it at the
/// same time, again and again.
pub async fn set(store: &Store, name: &str, value: Bytes) -> Result<(), StoreError> {
    let mut standing = store.registry.get(name).await?;
    for _ in 0..TRIES {
        if standing.as_ref().is_some_and(|entry| entry.value == value) {
            return Ok(());
        }
        let version = standing.map_or(1, |entry| entry.version.saturating_add(1));
        let entry = RegistryEntry { name: name.to_owned(), version, value: value.clone() };
        match store.registry.put(entry).await? {
            Ok(()) => return Ok(()),
            Err(found) => standing = found,
        }
    }
    Err(comes_and_goes(name))
}

/// Removes an entry, if there is one. Harmless to repeat. `Unavailable` as in [`set`].
pub async fn unset(store: &Store, name: &str) -> Result<(), StoreError> {
    for _ in 0..TRIES {
        let Some(entry) = store.registry.get(name).await? else { return Ok(()) };
        if store.registry.remove(name, entry.version).await? {
            return Ok(());
        }
    }
    Err(comes_and_goes(name))
}

fn comes_and_goes(name: &str) -> StoreError {
    StoreError::Unavailable(format!("entry `{name}` comes and goes"))
}

/// Whether `entry` may take the place of what stands: it is the one that stands, or the next
/// version of it. Called by every backend.
pub fn follows(entry: &RegistryEntry, standing: Option<&RegistryEntry>) -> bool {
    match standing {
        None => entry.version == 1,
        Some(standing) => {
            entry == standing || standing.version.checked_add(1) == Some(entry.version)
        }
    }
}

#[cfg(test)]
mod tests {
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
    fn a_range_holds_the_names_that_begin_so() {
        let holds = |prefix: &str, name: &str| {
            range(prefix).is_some_and(|(from, to)| *name >= *from && *name < *to)
        };
        for (prefix, name) in [("", "a"), ("a", "a"), ("a", "az"), ("a/", "a/z_.-"), ("a", "a/b")] {
            assert!(holds(prefix, name), "{prefix} {name}");
        }
        for (prefix, name) in [("a", "b"), ("b", "a"), ("a/", "a"), ("a/", "a.b"), ("\0", "a")] {
            assert!(!holds(prefix, name), "{prefix} {name}");
        }
    }

    #[test]
    fn versions_begin_with_1_and_values_have_a_limit() {
        for version in [0, MAX_VERSION + 1] {
            assert!(matches!(check(&entry("a", version, 0)), Err(StoreError::Refused { .. })));
        }
        assert!(check(&entry("a", 1, MAX_VALUE)).is_ok());
        assert!(matches!(check(&entry("a", 1, MAX_VALUE + 1)), Err(StoreError::TooLarge { .. })));
    }
}
