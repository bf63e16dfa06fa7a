//! A store that is looked into without changing it, whether or not a node runs on it.
//!
//! Opening `node.db` would fold its write-ahead log into it, so of a data directory without a node
//! a copy of it is opened instead, next to links to the real logs. The copy lies in a directory of
//! the system's place for temporary files (`TMPDIR`) that only its owner can look into, and goes
//! with the command. What a killed command left there goes when the next one of the same user looks
//! into anything.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rekindle_store::{Store, StoreError};
use rekindle_store_local::open_regular;
use rekindle_store_open::address::StoreAddress;

use crate::clock;
use crate::exit::{Exit, Failure};
use crate::node::card::NodeCard;

/// Names of copies begin with this.
const PREFIX: &str = "rekindle-read-";
/// Held as long as a copy is used.
const LOCK: &str = "lock";
/// A copy without a lock is from a release that made none, or is being made: after this long it is
/// the former.
const ABANDONED: Duration = Duration::from_hours(24);

/// A store to be looked into. A data directory is read without changing a byte of it, unless a node
/// runs on it right now: then it is read beside that node, as a store on servers is.
pub struct Reading {
    address: StoreAddress,
    /// Removed when the reading is over.
    shadow: Option<Shadow>,
}

impl Reading {
    /// Of a store.
    pub fn of(address: &StoreAddress) -> Result<Self, Failure> {
        let address = address.clone();
        let dir = match &address {
            StoreAddress::Local(dir) => dir,
            StoreAddress::Memory => {
                let message = "RK-NODE-023: a store in memory is gone with its process: there is \
                    nothing to read";
                return Err(Failure::new(Exit::Usage, message));
            }
            StoreAddress::Postgres(_) | StoreAddress::Cql(_) => {
                return Ok(Self { address, shadow: None });
            }
        };
        if !dir.join("format").exists() {
            let message = format!(
                "RK-NODE-027: {} is no data directory: it has no file `format`; name another with \
                 --store, or --data-dir, or make one with `rekindle start`",
                dir.display()
            );
            return Err(Failure::new(Exit::NotFound, message));
        }
        let live = NodeCard::running(dir).is_some();
        let shadow = if live { None } else { Some(Shadow::of(dir)?) };
        Ok(Self { address, shadow })
    }

    /// Of a store that nodes are at work on: what they write from now on is seen as well.
    pub fn beside_nodes(address: &StoreAddress) -> Self {
        Self { address: address.clone(), shadow: None }
    }

    /// The directory to read, if it is one. Paths in there begin differently from the real ones:
    /// see [`Reading::real`].
    pub fn dir(&self) -> Option<&Path> {
        match (&self.shadow, &self.address) {
            (Some(shadow), _) => Some(&shadow.path),
            (None, StoreAddress::Local(dir)) => Some(dir),
            (None, _) => None,
        }
    }

    /// The same words with the real directory in them.
    pub fn real(&self, words: &str) -> String {
        match (&self.shadow, &self.address) {
            (Some(shadow), StoreAddress::Local(dir)) => {
                words.replace(&shadow.path.display().to_string(), &dir.display().to_string())
            }
            _ => words.to_owned(),
        }
    }

    /// What a command on this store came to, with the real directory in what it says when it
    /// failed.
    pub fn named<T>(&self, outcome: Result<T, Failure>) -> Result<T, Failure> {
        outcome.map_err(|failure| Failure { message: self.real(&failure.message), ..failure })
    }

    /// The store in it.
    pub async fn store(&self) -> Result<Store, StoreError> {
        match &self.shadow {
            Some(shadow) => StoreAddress::Local(shadow.path.clone()).open().await,
            None => self.address.open().await,
        }
    }
}

/// A directory that looks like a data directory and can be written to.
struct Shadow {
    path: PathBuf,
    /// Tells others that it is in use.
    _lock: File,
}

impl Shadow {
    fn of(dir: &Path) -> Result<Self, Failure> {
        let temp = std::env::temp_dir();
        sweep(&temp);
        let dir = std::path::absolute(dir)?;
        let shadow = Self::make(&temp).map_err(|error| {
            let message = format!(
                "RK-NODE-153: {} is read through a copy of its node.db, which cannot be made in \
                 {}: {error}; set TMPDIR to a directory with room",
                dir.display(),
                temp.display()
            );
            Failure::new(Exit::Failed, message)
        })?;
        for name in ["format", "identity", "node.db", "node.db-wal"] {
            copy(&dir.join(name), &shadow.path.join(name))?;
        }
        for name in ["logs", "checkpoints", "archive"] {
            if dir.join(name).exists() {
                std::os::unix::fs::symlink(dir.join(name), shadow.path.join(name))?;
            }
        }
        Ok(shadow)
    }

    /// An empty one. Nobody else can have made it, nor look into it.
    fn make(temp: &Path) -> io::Result<Self> {
        let path = temp.join(format!("{PREFIX}{:016x}", clock::random()));
        DirBuilder::new().mode(0o700).create(&path)?;
        // It gets its name when it is locked: until then others take the copy for one that is being
        // made.
        let draft = path.join("lock.new");
        let lock = private(&draft)?;
        lock.try_lock().map_err(io::Error::from)?;
        fs::rename(draft, path.join(LOCK))?;
        Ok(Self { path, _lock: lock })
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(code = "RK-NODE-028", path = %self.path.display(), %error, "a temporary \
                copy is left behind");
        }
    }
}

/// A new file that its owner alone can read.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Copies a file, if it is there.
fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let failed = |what: &str, path: &Path, error: &io::Error| {
        Failure::new(Exit::Failed, format!("RK-NODE-154: {what} {}: {error}", path.display()))
    };
    let mut source = match open_regular(from) {
        Ok(source) => source,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        // No store can be in there: that is a verdict about it.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return Err(Failure { exit: Exit::Broken, ..failed("cannot read", from, &error) });
        }
        Err(error) => return Err(failed("cannot read", from, &error)),
    };
    let mut target = private(to).map_err(|error| failed("cannot make", to, &error))?;
    io::copy(&mut source, &mut target)
        .map(drop)
        .map_err(|error| failed("cannot copy", from, &error))
}

/// Removes copies of this user that nobody uses any more. What cannot be removed stays: it may
/// belong to somebody else.
fn sweep(temp: &Path) {
    let me = rustix::process::geteuid().as_raw();
    for entry in fs::read_dir(temp).into_iter().flatten().flatten() {
        let path = entry.path();
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        // Of the entry itself: a link leads anywhere.
        let Some(meta) = ours
            .then(|| fs::symlink_metadata(&path).ok())
            .flatten()
            .filter(|meta| meta.is_dir() && meta.uid() == me)
        else {
            continue;
        };
        let unused = match open_regular(&path.join(LOCK)) {
            Ok(lock) => lock.try_lock().is_ok(),
            Err(_) => meta
                .modified()
                .ok()
                .and_then(|at| at.elapsed().ok())
                .is_some_and(|age| age > ABANDONED),
        };
        if unused && let Err(error) = fs::remove_dir_all(&path) {
            tracing::debug!(code = "RK-NODE-155", path = %path.display(), %error, "an abandoned \
                copy cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_copy_is_its_owners_alone_and_goes_when_nobody_uses_it() {
        let temp = tempfile::tempdir().unwrap();
        let shadow = Shadow::make(temp.path()).unwrap();
        assert_eq!(fs::metadata(&shadow.path).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(
            fs::metadata(shadow.path.join(LOCK)).unwrap().permissions().mode() & 0o777,
            0o600
        );
        // What a killed command left, what somebody made a moment ago, and what only has such a
        // name.
        let left = temp.path().join(format!("{PREFIX}left"));
        fs::create_dir(&left).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        fs::write(left.join("node.db"), "secret").unwrap();
        let fresh = temp.path().join(format!("{PREFIX}fresh"));
        fs::create_dir(&fresh).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join(LOCK), "").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), temp.path().join(format!("{PREFIX}link")))
            .unwrap();
        sweep(temp.path());
        assert!(
            !left.exists()
                && fresh.exists()
                && shadow.path.exists()
                && elsewhere.path().join(LOCK).exists()
        );
        let path = shadow.path.clone();
        drop(shadow);
        assert!(!path.exists());
    }
}
