//! The registry: small entries by name, each change a compare-and-set.

use bytes::Bytes;
use rekindle_schema::registry::RegistryEntry;
use rekindle_store::registry::{MAX_NAME, MAX_VALUE, MAX_VERSION};
use rekindle_store::{Store, StoreError};

use super::{Backend, open_many};

fn entry(name: &str, version: u64, value: &str) -> RegistryEntry {
    RegistryEntry {
        name: name.to_owned(),
        version,
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

async fn names(store: &Store, prefix: &str) -> Vec<String> {
    let listed = store.registry.list(prefix).await.expect("the registry can be listed");
    listed.into_iter().map(|entry| entry.name).collect()
}

async fn put(store: &Store, entry: &RegistryEntry) -> Result<(), Option<RegistryEntry>> {
    store.registry.put(entry.clone()).await.expect("a well-formed entry can be put")
}

/// Entries come back as they were put, alone and in lists, from another process and after all have
/// closed the store.
pub async fn registry_entries_come_back(backend: &impl Backend) {
    let all = ["a", "a-b", "a.b", "a/b", "a/b/c", "a/c", "ab", "b", "members/00ff"];
    let written: Vec<RegistryEntry> = all.iter().map(|name| entry(name, 1, name)).collect();
    let longest = RegistryEntry {
        name: "z".repeat(MAX_NAME),
        version: 1,
        value: Bytes::from(vec![0xa5; MAX_VALUE]),
    };
    {
        let (store, other) = (backend.open().await, backend.open().await);
        assert_eq!(other.registry.get("a").await.unwrap(), None);
        assert_eq!(names(&other, "").await, [""; 0]);
        for entry in written.iter().rev() {
            assert_eq!(put(&store, entry).await, Ok(()));
        }
        assert_eq!(put(&store, &longest).await, Ok(()));
        assert_eq!(other.registry.get("a/b").await.unwrap(), Some(entry("a/b", 1, "a/b")));
    }
    let store = backend.open().await;
    assert_eq!(store.registry.get(&longest.name).await.unwrap(), Some(longest.clone()));
    for entry in &written {
        assert_eq!(store.registry.get(&entry.name).await.unwrap().as_ref(), Some(entry));
    }
    let everything = [&written[..], &[longest]].concat();
    assert_eq!(store.registry.list("").await.unwrap(), everything, "ascending by name");
    assert_eq!(names(&store, "a").await, all[..7]);
    assert_eq!(names(&store, "a/").await, ["a/b", "a/b/c", "a/c"]);
    assert_eq!(names(&store, "a/b").await, ["a/b", "a/b/c"]);
    assert_eq!(names(&store, "members/").await, ["members/00ff"]);
    for nothing in ["c", "A", "a//", "b/", "a\0", "%", "a_"] {
        assert_eq!(names(&store, nothing).await, [""; 0], "{nothing:?}");
    }
    for nothing in ["", "c", "A", "a/", "a\0"] {
        assert_eq!(store.registry.get(nothing).await.unwrap(), None, "{nothing:?}");
    }
}

/// An entry begins with version 1 and is followed by the next one alone; whoever is refused learns
/// what stands. The same entry again is harmless.
pub async fn a_registry_entry_changes_by_its_next_version_alone(backend: &impl Backend) {
    let (store, other) = (backend.open().await, backend.open().await);
    assert_eq!(put(&store, &entry("k", 2, "two")).await, Err(None), "there is none to follow");
    let first = entry("k", 1, "one");
    assert_eq!(put(&store, &first).await, Ok(()));
    assert_eq!(put(&other, &first).await, Ok(()), "the same again");
    for wrong in [entry("k", 1, "other"), entry("k", 3, "three"), entry("k", MAX_VERSION, "")] {
        assert_eq!(put(&other, &wrong).await, Err(Some(first.clone())), "{wrong:?}");
    }
    let second = entry("k", 2, "two");
    assert_eq!(put(&other, &second).await, Ok(()));
    assert_eq!(put(&store, &second).await, Ok(()), "the same again");
    for wrong in [first, entry("k", 2, "other"), entry("k", 4, "four")] {
        assert_eq!(put(&store, &wrong).await, Err(Some(second.clone())), "{wrong:?}");
    }
    assert_eq!(store.registry.get("k").await.unwrap(), Some(second));
}

/// An entry goes if it still has the version that its remover saw; then a new one may begin.
pub async fn a_registry_entry_is_removed_by_its_version(backend: &impl Backend) {
    let store = backend.open().await;
    let [first, second, near] = [entry("k", 1, "1"), entry("k", 2, "2"), entry("k/x", 1, "x")];
    for entry in [&first, &second, &near] {
        assert_eq!(put(&store, entry).await, Ok(()));
    }
    for wrong in [0, 1, 3, u64::MAX] {
        assert!(!store.registry.remove("k", wrong).await.unwrap(), "version {wrong} is not there");
    }
    assert_eq!(store.registry.get("k").await.unwrap(), Some(second.clone()));
    assert!(store.registry.remove("k", 2).await.unwrap());
    assert!(store.registry.remove("k", 2).await.unwrap(), "it is gone already");
    for never in ["n", "", "A", "a\0"] {
        assert!(store.registry.remove(never, 1).await.unwrap(), "{never:?}");
    }
    assert_eq!(store.registry.list("").await.unwrap(), [near], "nothing else went");
    assert_eq!(put(&store, &second).await, Err(None));
    assert_eq!(put(&store, &first).await, Ok(()), "a new one begins");
}

/// What is malformed is refused before anything is written.
pub async fn malformed_registry_entries_are_refused(backend: &impl Backend) {
    let store = backend.open().await;
    for name in ["", "/", "a/", "/a", "a//b", "A", "a b", "ä", "a\0", &"a".repeat(MAX_NAME + 1)] {
        let refused = store.registry.put(entry(name, 1, "")).await.unwrap_err();
        assert!(matches!(refused, StoreError::Refused { .. }), "{name:?}: {refused}");
    }
    for version in [0, MAX_VERSION + 1] {
        let refused = store.registry.put(entry("a", version, "")).await.unwrap_err();
        assert!(matches!(refused, StoreError::Refused { .. }), "{version}: {refused}");
    }
    let large = RegistryEntry { value: Bytes::from(vec![0; MAX_VALUE + 1]), ..entry("a", 1, "") };
    let refused = store.registry.put(large).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooLarge { .. }), "{refused}");
    assert_eq!(names(&store, "").await, [""; 0]);
}

/// Of writers that want the same version one wins, all others learn what stands, and no change is
/// lost when each tries again.
pub async fn of_many_writers_one_changes_a_registry_entry(backend: &impl Backend) {
    const WRITERS: usize = 4;
    let stores = open_many(backend, WRITERS).await;
    let attempt = |writer: usize, version: u64| {
        let (store, mine) = (stores[writer].clone(), entry("k", version, &format!("{writer}")));
        tokio::spawn(async move { (put(&store, &mine).await, mine) })
    };
    for version in 1..=3 {
        let running: Vec<_> = (0..WRITERS).map(|writer| attempt(writer, version)).collect();
        let mut won = Vec::new();
        let mut refused = Vec::new();
        for outcome in running {
            match outcome.await.expect("a writer does not panic") {
                (Ok(()), mine) => won.push(mine),
                (Err(standing), _) => refused.push(standing),
            }
        }
        let stands = stores[0].registry.get("k").await.unwrap();
        assert_eq!(won.len(), 1, "version {version}: {won:?}");
        assert_eq!(stands.as_ref(), won.first());
        assert!(refused.iter().all(|standing| *standing == stands), "{refused:?}");
    }
}
