//! What is in the data directory already: whether a node that starts now could read it. Opens every
//! file, reads the small ones, changes nothing.

use std::io::Read;
use std::path::Path;

use rekindle_gateway::keys::{CERTIFICATE_FILE, KEY_FILE, Keys};
use rekindle_store_local::open_regular;
use rekindle_store_open::address::StoreAddress;

use super::{Finding, Level};
use crate::config::Config;

/// How many files that cannot be read are named.
const NAMED: usize = 3;

/// All findings about files that are there.
pub fn examine(config: &Config) -> Vec<Finding> {
    let mut findings = vec![keys(&config.data_dir)];
    if let StoreAddress::Local(dir) = &config.store {
        findings.push(stored(dir));
    }
    findings
}

fn keys(dir: &Path) -> Finding {
    let fix = "give the user that runs the node the right to read them, or put back a copy; \
        without them all clients have to log in anew";
    if !dir.join(KEY_FILE).exists() {
        return Finding::new(
            "keys",
            Level::Ok,
            "they are in the store, or the first start makes them",
            "",
        );
    }
    let certificate = dir.join(CERTIFICATE_FILE);
    let readable = Keys::check(dir).map_err(|error| error.to_string()).and_then(|()| {
        let there = certificate.exists().then(|| open_regular(&certificate).map(drop));
        there.transpose().map_err(|error| format!("{}: {error}", certificate.display()))
    });
    match readable {
        Ok(_) => {
            Finding::new("keys", Level::Ok, format!("those in {} can be read", dir.display()), "")
        }
        Err(problem) => Finding::new("keys", Level::Fail, problem, fix),
    }
}

fn stored(dir: &Path) -> Finding {
    let mut seen = Seen::default();
    for name in ["format", "node.db", "node.db-wal"] {
        seen.file(&dir.join(name));
    }
    for name in ["logs", "checkpoints", "archive"] {
        seen.folder(&dir.join(name));
    }
    if seen.problems.is_empty() {
        return Finding::new(
            "stored_files",
            Level::Ok,
            format!("{} files can be read", seen.files),
            "",
        );
    }
    let more = seen.problems.len().saturating_sub(NAMED);
    seen.problems.truncate(NAMED);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    let found = format!("cannot be read: {}{more}", seen.problems.join("; "));
    Finding::new(
        "stored_files",
        Level::Fail,
        found,
        "give the user that runs the node the right to read them, or restore them from a backup; \
         `rekindle verify` checks what is in them",
    )
}

/// What was found by opening files.
#[derive(Default)]
struct Seen {
    files: usize,
    problems: Vec<String>,
}

impl Seen {
    /// A file that may be there.
    fn file(&mut self, path: &Path) {
        // The first byte: a disk that fails says so when it is read.
        match open_regular(path).and_then(|mut file| file.read(&mut [0])) {
            Ok(_) => self.files += 1,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => self.problems.push(format!("{}: {error}", path.display())),
        }
    }

    /// A directory with directories of files.
    fn folder(&mut self, path: &Path) {
        let entries = match std::fs::read_dir(path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return,
            Err(error) => return self.problems.push(format!("{}: {error}", path.display())),
        };
        for entry in entries {
            match entry.and_then(|entry| Ok((entry.path(), entry.file_type()?))) {
                Ok((path, kind)) if kind.is_dir() && is_segment(&path) => self.file(&path),
                Ok((path, kind)) if kind.is_dir() => self.folder(&path),
                Ok((path, _)) => self.file(&path),
                Err(error) => self.problems.push(format!("{}: {error}", path.display())),
            }
        }
    }
}

/// Whether a store would open what has this name.
fn is_segment(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "seg" || end == "chunk")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_a_start_could_not_read_are_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(
            (keys(dir.path()).level, stored(dir.path()).level),
            (Level::Ok, Level::Ok),
            "nothing is there yet"
        );
        Keys::load_or_create(dir.path()).unwrap();
        std::fs::create_dir_all(dir.path().join("logs/0123456789abcdef")).unwrap();
        std::fs::write(dir.path().join("logs/0123456789abcdef/00000000000000000001.seg"), "x")
            .unwrap();
        let found = stored(dir.path());
        assert_eq!(
            (keys(dir.path()).level, found.level, found.found.as_str()),
            (Level::Ok, Level::Ok, "1 files can be read")
        );
        std::fs::create_dir(dir.path().join("logs/0123456789abcdef/00000000000000000002.seg"))
            .unwrap();
        let found = stored(dir.path());
        assert!(
            found.level == Level::Fail
                && found.found.contains("00000000000000000002.seg: it is a directory"),
            "{found:?}"
        );
        std::fs::write(dir.path().join(KEY_FILE), "half of").unwrap();
        let found = keys(dir.path());
        assert!(found.level == Level::Fail && found.found.contains(KEY_FILE), "{found:?}");
        std::fs::remove_file(dir.path().join(KEY_FILE)).unwrap();
        std::fs::create_dir(dir.path().join(KEY_FILE)).unwrap();
        assert_eq!(keys(dir.path()).level, Level::Fail);
    }
}
