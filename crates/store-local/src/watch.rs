//! Whether the files that are open are still those to which the paths lead.
//!
//! A process may write and sync for ever into files that nobody will find again: the directory was
//! removed, moved away, replaced, its file system unmounted or covered by another one. Nothing that
//! it writes fails. So each renewal of a lease compares the files with the paths, and from the
//! first difference on nothing is acknowledged.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use rekindle_schema::Incarnation;

use rekindle_store::StoreError;

use super::segment::{Kind, io_error};
use super::writer::LogWriter;
use super::{LocalStore, blocking, wal};

/// Device and inode.
type FileNo = (u64, u64);

/// What no file has.
const NOWHERE: FileNo = (u64::MAX, u64::MAX);

fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::StaleNetworkFileHandle
    )
}

fn number(path: &Path) -> io::Result<FileNo> {
    fs::metadata(path).map(|file| (file.dev(), file.ino()))
}

/// The kind of a log, by its folder, and whose it is.
type LogName = (&'static str, Incarnation);

/// The open files of one store.
pub(super) struct Watch {
    database: PathBuf,
    /// `node.db` and its write-ahead log.
    facts: Mutex<BTreeMap<PathBuf, FileNo>>,
    /// The segment to which each log is written.
    segments: Mutex<BTreeMap<LogName, (PathBuf, FileNo)>>,
    /// The first difference that was found. Final.
    lost: OnceLock<StoreError>,
}

impl Watch {
    /// Of a database that has just been opened.
    pub(super) fn of(database: &Path) -> Result<Self, StoreError> {
        let found = number(database).map_err(|error| io_error("look at", database, &error))?;
        let facts = Mutex::new(BTreeMap::from([(database.to_owned(), found)]));
        Ok(Self {
            database: database.to_owned(),
            facts,
            segments: Mutex::default(),
            lost: OnceLock::new(),
        })
    }

    /// From now on a log is written to this segment, which has just been opened.
    pub(super) fn writes_to(&self, kind: Kind, log: Incarnation, path: &Path) {
        match number(path) {
            Ok(found) => {
                self.segments.lock().insert((kind.folder(), log), (path.to_owned(), found));
            }
            // Whoever fenced the log may have cut it off. If it was not fenced, the next look finds
            // that the file is gone.
            Err(error) if is_gone(&error) => {
                self.segments.lock().insert((kind.folder(), log), (path.to_owned(), NOWHERE));
            }
            Err(error) => self.missed(path, &error),
        }
    }

    /// Whether everything was in its place when it was last looked at. Costs nothing.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.lost.get().map_or(Ok(()), |lost| Err(lost.clone()))
    }

    /// Compares `node.db` with its path.
    pub(super) fn look_at_facts(&self) -> Result<(), StoreError> {
        let mut facts = self.facts.lock();
        let wal = wal::path(&self.database);
        if !facts.contains_key(&wal)
            && let Ok(found) = number(&wal)
        {
            facts.insert(wal, found);
        }
        facts.iter().for_each(|(path, known)| self.compare(path, *known));
        self.check()
    }

    /// Compares all files with their paths.
    pub(super) fn look(&self) -> Result<(), StoreError> {
        self.look_at_facts()?;
        self.segments.lock().values().for_each(|(path, known)| self.compare(path, *known));
        self.check()
    }

    fn compare(&self, path: &Path, known: FileNo) {
        match number(path) {
            Ok(found) if found == known => {}
            Ok(_) => {
                self.lose(
                    path,
                    "the path leads to another file than the one that is open: it was \
                    replaced, moved away or mounted over",
                );
            }
            Err(error) => self.missed(path, &error),
        }
    }

    fn missed(&self, path: &Path, error: &io::Error) {
        if is_gone(error) {
            self.lose(
                path,
                "the file is open, but its path leads nowhere: it was removed, moved \
                away or unmounted",
            );
        } else {
            // Writing will tell.
            tracing::warn!(code = "RK-STORE-104", path = %path.display(), %error, "a file that is \
                open cannot be looked at");
        }
    }

    fn lose(&self, path: &Path, problem: &str) {
        // Whoever was first has said it.
        let _ = self.lost.set(StoreError::Misplaced {
            place: path.display().to_string(),
            problem: problem.to_owned(),
        });
    }
}

/// Tells the watch over open files which segment a log is written to.
pub(super) struct Watched {
    watch: Arc<Watch>,
    kind: Kind,
    log: Incarnation,
    segment: Option<u64>,
}

impl Watched {
    pub(super) fn new(watch: &Arc<Watch>, kind: Kind, log: Incarnation) -> Self {
        Self { watch: Arc::clone(watch), kind, log, segment: None }
    }

    /// Refuses to acknowledge once files are not in their places any more.
    pub(super) fn after_write(&mut self, writer: &LogWriter) -> Result<(), StoreError> {
        if let Some((first, path)) =
            writer.segment().filter(|(first, _)| self.segment != Some(*first))
        {
            self.watch.writes_to(self.kind, self.log, path);
            self.segment = Some(first);
        }
        self.watch.check()
    }
}

impl LocalStore {
    /// Looks at files on the blocking pool.
    pub(super) async fn watched(
        &self,
        look: impl FnOnce(&Watch) -> Result<(), StoreError> + Send + 'static,
    ) -> Result<(), StoreError> {
        let watch = Arc::clone(&self.watch);
        blocking(move || look(&watch)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_removed_replaced_or_moved_is_missed_for_good() {
        let change: [fn(&Path); 3] = [
            |dir| fs::remove_file(dir.join("1.seg")).unwrap(),
            |dir| {
                fs::copy(dir.join("1.seg"), dir.join("new")).unwrap();
                fs::rename(dir.join("new"), dir.join("1.seg")).unwrap();
            },
            |dir| fs::rename(dir.join("node.db"), dir.join("elsewhere")).unwrap(),
        ];
        for change in change {
            let dir = tempfile::tempdir().unwrap();
            for name in ["node.db", "node.db-wal", "1.seg"] {
                fs::write(dir.path().join(name), name).unwrap();
            }
            let watch = Watch::of(&dir.path().join("node.db")).unwrap();
            watch.writes_to(Kind::Batches, Incarnation(1), &dir.path().join("1.seg"));
            watch.look().unwrap();
            change(dir.path());
            watch.check().unwrap();
            let lost = watch.look().unwrap_err().to_string();
            assert!(lost.contains("RK-STORE-100"), "{lost}");
            for name in ["node.db", "1.seg"] {
                fs::write(dir.path().join(name), name).unwrap();
            }
            assert_eq!(watch.check().unwrap_err().to_string(), lost);
        }
    }
}
