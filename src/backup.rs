//! Backups: a local store in a directory of its own, with everything in it as it was at one cut
//! through a store at work.
//!
//! Called by `rekindle store backup` and by whoever makes backups by schedule. It is written beside
//! its place and moved there when it is whole, so a directory that has the name is one.
//! [`rekindle_store::transfer`] does the copying.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use rekindle_store::transfer::{Copied, CopyOptions, Progress, TransferError, copy};
use rekindle_store::{Store, StoreError};
use rekindle_store_local::{LocalOptions, LocalStore};
use serde::Serialize;

use crate::clock;
use crate::exit::{Exit, Failure};
use crate::files::About as _;
use crate::moment;

/// Says what a backup is; in its directory.
const CARD: &str = "backup.json";
/// Marks a directory in which a backup is being written, or was when the process ended.
const UNFINISHED: &str = "unfinished";
/// A backup that nodes overtook is begun anew so often.
const ATTEMPTS: u32 = 3;

/// Milliseconds of a day.
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// What was written.
#[derive(Debug, Clone, Serialize)]
pub struct Backup {
    /// When it was begun, in milliseconds since 1970.
    pub taken_ms: u64,
    /// The store, without secrets.
    pub source: String,
    /// Bytes of logs and checkpoints.
    pub bytes: u64,
    /// Counts.
    pub copied: Copied,
}

/// Copies all of `source` (called `name`) into a new directory, while nodes may run on it, and
/// checks every byte of what was written.
pub async fn make(
    source: &Store,
    name: &str,
    dir: &Path,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Backup, Failure> {
    if dir.exists() && !dir.read_dir().is_ok_and(|mut entries| entries.next().is_none()) {
        let message = format!(
            "RK-BACKUP-001: {} exists and is no empty directory; a backup gets a new one",
            dir.display()
        );
        return Err(Failure::new(Exit::Usage, message));
    }
    let place = std::path::absolute(dir)?;
    let draft = draft_of(&place)?;
    let mut attempt = 1;
    let backup = loop {
        prepare(&draft)?;
        match write(source, name, &draft, progress).await {
            Ok(backup) => break backup,
            // The source has trimmed or moved what was being read: from here on all of it is read
            // again.
            Err(TransferError::Overtaken { .. } | TransferError::Incomplete { .. })
                if attempt < ATTEMPTS =>
            {
                attempt += 1;
            }
            Err(error) => {
                let exit = if matches!(error, TransferError::Damaged(_)) {
                    Exit::Broken
                } else {
                    Exit::Failed
                };
                return Err(Failure::new(exit, error.to_string()));
            }
        }
    };
    publish(&draft, &place, &backup)?;
    Ok(backup)
}

/// Refuses a directory that is no whole backup, nor any other local store.
pub fn check(dir: &Path) -> Result<(), Failure> {
    if dir.join(UNFINISHED).exists() {
        let message = format!(
            "RK-BACKUP-002: the backup in {} was not finished; it holds too little to be restored",
            dir.display()
        );
        return Err(Failure::new(Exit::Broken, message));
    }
    Ok(())
}

/// What a backup made at this moment is called: names ascend with time.
pub fn name_at(ms: u64) -> String {
    format!("rekindle-{}", moment::show(ms).replace(['-', ':'], ""))
}

/// Removes all but the `keep` newest of the whole backups in `dir` that [`name_at`] named; nothing
/// else there is touched. Returns how many went.
///
/// Names that are more than a day ahead of `now_ms` were given by a clock that was wrong then, or
/// is wrong now: such backups are neither counted nor removed, and are left to the operator.
pub fn keep_newest(dir: &Path, keep: usize, now_ms: u64) -> Result<usize, Failure> {
    let ahead = name_at(now_ms.saturating_add(DAY_MS));
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).about("read", dir)? {
        let path = entry.about("read", dir)?.path();
        let named = path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.starts_with("rekindle-") && *name < *ahead);
        if named && path.join(CARD).is_file() && !path.join(UNFINISHED).exists() {
            found.push(path);
        }
    }
    found.sort();
    let old = found.len().saturating_sub(keep);
    for path in &found[..old] {
        fs::remove_dir_all(path).about("remove", path)?;
    }
    Ok(old)
}

fn draft_of(place: &Path) -> Result<PathBuf, Failure> {
    let name = place.file_name().ok_or_else(|| {
        Failure::new(Exit::Usage, format!("RK-BACKUP-003: {} has no name", place.display()))
    })?;
    let mut draft = name.to_owned();
    draft.push(".partial");
    Ok(place.with_file_name(draft))
}

/// An empty directory with the mark of a backup in it. What an earlier attempt left there goes;
/// anything else is not touched.
fn prepare(draft: &Path) -> Result<(), Failure> {
    if draft.exists() {
        if !draft.join(UNFINISHED).exists() {
            let message = format!(
                "RK-BACKUP-004: {} is in the way and no unfinished backup; move it",
                draft.display()
            );
            return Err(Failure::new(Exit::Failed, message));
        }
        fs::remove_dir_all(draft).about("remove", draft)?;
    }
    fs::create_dir_all(draft).about("create", draft)?;
    let mark = draft.join(UNFINISHED);
    File::create(&mark).and_then(|file| file.sync_all()).about("write", &mark)?;
    Ok(())
}

async fn write(
    source: &Store,
    name: &str,
    draft: &Path,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Backup, TransferError> {
    let taken_ms = clock::now_ms();
    let target = LocalStore::open(draft, LocalOptions::default())?;
    let options = CopyOptions {
        cut: true,
        only: None,
        clock: &clock::now_ms,
        chance: clock::chance(),
        progress,
    };
    let copied = copy(source, &target, &options).await?;
    drop(target);
    let audit = LocalStore::audit(draft)?;
    if let Some(finding) = audit.findings.first() {
        return Err(StoreError::Corrupt {
            place: finding.place.clone(),
            problem: finding.problem.clone(),
        }
        .into());
    }
    Ok(Backup { taken_ms, source: name.to_owned(), bytes: audit.bytes, copied })
}

/// Gives a whole backup its name, durably.
fn publish(draft: &Path, place: &Path, backup: &Backup) -> Result<(), Failure> {
    let (card, mark) = (draft.join(CARD), draft.join(UNFINISHED));
    let synced =
        |path: &Path| File::open(path).and_then(|file| file.sync_all()).about("sync", path);
    fs::write(&card, serde_json::to_vec_pretty(backup)?).about("write", &card)?;
    synced(&card)?;
    fs::remove_file(&mark).about("remove", &mark)?;
    synced(draft)?;
    if place.exists() {
        fs::remove_dir(place).about("replace", place)?;
    }
    fs::rename(draft, place).about("give a backup the name", place)?;
    place.parent().map_or(Ok(()), synced)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use rekindle_store_memory::MemoryStore;

    use super::*;

    #[test]
    fn the_newest_backups_are_kept_whatever_the_clock_says() {
        const NOW: u64 = 1_800_000_000_000;
        const TEN_YEARS: u64 = 10 * 365 * DAY_MS;
        let dir = tempfile::tempdir().unwrap();
        let put = |ms: u64| {
            let place = dir.path().join(name_at(ms));
            fs::create_dir(&place).unwrap();
            fs::write(place.join(CARD), "{}").unwrap();
        };
        let left = || {
            fs::read_dir(dir.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect::<std::collections::BTreeSet<_>>()
        };
        // Some were made while the clock was ten years ahead.
        for day in 0..4 {
            put(NOW + day * DAY_MS);
            put(NOW + TEN_YEARS + day);
        }
        assert_eq!(keep_newest(dir.path(), 3, NOW + 3 * DAY_MS).unwrap(), 1);
        assert!(
            left().contains(&name_at(NOW + 3 * DAY_MS)) && !left().contains(&name_at(NOW)),
            "the one just made stays: {:?}",
            left()
        );
        assert_eq!(left().len(), 7);
        // The clock is ten years behind: nothing goes.
        put(NOW - TEN_YEARS);
        assert_eq!(keep_newest(dir.path(), 3, NOW - TEN_YEARS).unwrap(), 0);
        // An hour ahead is as good as none.
        put(NOW + 3 * DAY_MS + DAY_MS / 24);
        assert_eq!(keep_newest(dir.path(), 3, NOW + 3 * DAY_MS).unwrap(), 2);
        assert!(left().contains(&name_at(NOW + 3 * DAY_MS + DAY_MS / 24)));
    }

    #[tokio::test]
    async fn a_backup_has_its_name_only_when_it_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (place, draft) = (dir.path().join("b"), dir.path().join("b.partial"));
        let source = MemoryStore::new().store();
        let make = async |place: &Path| make(&source, "memory", place, &|_| ()).await;

        // What a process that was killed left is replaced; what is no backup is not touched.
        prepare(&draft).unwrap();
        fs::write(draft.join("rest"), "x").unwrap();
        assert!(check(&draft).unwrap_err().message.contains("not finished"));
        make(&place).await.unwrap();
        assert!(!draft.exists() && place.join(CARD).exists() && !place.join(UNFINISHED).exists());
        check(&place).unwrap();
        assert!(make(&place).await.unwrap_err().message.contains("RK-BACKUP-001"));
        fs::create_dir(&draft).unwrap();
        fs::write(draft.join("mine"), "x").unwrap();
        assert!(make(&dir.path().join("b")).await.is_err());
        fs::remove_dir_all(&place).unwrap();
        assert!(make(&place).await.unwrap_err().message.contains("RK-BACKUP-004"));
        assert!(draft.join("mine").exists());
    }
}
