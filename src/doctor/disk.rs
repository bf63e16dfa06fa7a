//! Where the data lies: what kind of file system, how much room, and what a sync costs.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rekindle_store_open::address::StoreAddress;
use rustix::fs::{statfs, statvfs};

use super::{Finding, Level, Spread, mebibytes};
use crate::clock;
use crate::config::Config;

/// How many syncs are measured, at most, and for how long.
const SYNCS: usize = 200;
const SYNC_TIME: Duration = Duration::from_secs(2);
/// A small group commit.
const BLOCK: [u8; 4096] = [0x5a; 4096];
/// A tick at 30 Hz lasts 33 ms; half of it may go into the sync.
const SLOW_SYNC: Duration = Duration::from_millis(16);
/// Players feel it at every tick.
const BAD_SYNC: Duration = Duration::from_millis(250);

/// All findings about where a local store and the node's own files lie.
pub fn examine(config: &Config) -> Vec<Finding> {
    let (dir, holds_matches) = match &config.store {
        StoreAddress::Local(dir) => (dir, true),
        _ => (&config.data_dir, false),
    };
    let Some(place) = existing(dir) else {
        let fix = "choose another directory with --data-dir";
        return vec![Finding::new(
            "data_dir",
            Level::Fail,
            format!("{} and all directories above it are missing", dir.display()),
            fix,
        )];
    };
    let mut findings = Vec::new();
    match statfs(&place) {
        Ok(found) => {
            findings.push(file_system(&place, found.f_type as u64 & 0xffff_ffff, holds_matches));
        }
        Err(error) => findings.push(unreadable("file_system", &place, error)),
    }
    match statvfs(&place) {
        Ok(found) => findings.push(space(
            found.f_bavail.saturating_mul(found.f_frsize),
            found.f_blocks.saturating_mul(found.f_frsize),
        )),
        Err(error) => findings.push(unreadable("disk_space", &place, error)),
    }
    // Keys and certificate are written once: how fast does not matter.
    if holds_matches {
        findings.push(match measure(&place) {
            Ok(spread) => sync(spread),
            Err(error) => unreadable("disk_sync", &place, error),
        });
    }
    findings
}

/// The directory, or the nearest above it that exists: where it would be made.
pub(super) fn existing(dir: &Path) -> Option<PathBuf> {
    let dir = std::path::absolute(dir).ok()?;
    dir.ancestors().find(|path| path.is_dir()).map(Path::to_owned)
}

fn unreadable(check: &'static str, place: &Path, error: impl std::fmt::Display) -> Finding {
    let fix = "give this user the right to read and write it, or choose another directory with \
        --data-dir";
    Finding::new(check, Level::Fail, format!("{}: {error}", place.display()), fix)
}

/// Judges a file system by its number in `statfs(2)`.
fn file_system(place: &Path, number: u64, holds_matches: bool) -> Finding {
    let (name, worst, why) = match number {
        0x0102_1994 => ("tmpfs", Level::Fail, "it is gone after a reboot"),
        0x8584_58f6 => ("ramfs", Level::Fail, "it is gone after a reboot"),
        0x794c_7630 => (
            "overlayfs",
            Level::Warn,
            "the layer of a container is gone with the container; mount a volume",
        ),
        0x6969 => {
            ("NFS", Level::Fail, "locks and the write-ahead log of node.db are not safe there")
        }
        0xff53_4d42 | 0xfe53_4d42 | 0x517b => {
            ("SMB", Level::Fail, "locks and the write-ahead log of node.db are not safe there")
        }
        0x0102_1997 => ("9p", Level::Warn, "what a sync is worth there is up to the host"),
        0x6573_5546 => ("FUSE", Level::Warn, "what a sync is worth there is up to its server"),
        0xef53 => ("ext4", Level::Ok, ""),
        0x5846_5342 => ("XFS", Level::Ok, ""),
        0x9123_683e => ("btrfs", Level::Ok, ""),
        0x2fc1_2fc1 => ("ZFS", Level::Ok, ""),
        _ => ("a file system", Level::Ok, ""),
    };
    // Without matches only keys are at stake: players would have to log in anew.
    let level = if holds_matches { worst } else { worst.min(Level::Warn) };
    let fix = format!("keep the data on a local disk: {why}");
    Finding::new("file_system", level, format!("{} is on {name}", place.display()), fix)
}

fn space(free: u64, all: u64) -> Finding {
    let level = match free {
        _ if free < 256 << 20 => Level::Fail,
        _ if free < 4 << 30 || free < all / 20 => Level::Warn,
        _ => Level::Ok,
    };
    let fix = "free some: a node ends when a log cannot be written; a thousand matches at 30 Hz \
        write about 1 GiB an hour before logs are trimmed";
    Finding::new(
        "disk_space",
        level,
        format!("{} of {} free", mebibytes(free), mebibytes(all)),
        fix,
    )
}

fn measure(place: &Path) -> std::io::Result<Option<Spread>> {
    let path = place.join(format!(".rekindle-doctor-{:08x}", clock::random() >> 32));
    let outcome = time_syncs(&path);
    fs::remove_file(&path)?;
    outcome.map(Spread::of)
}

fn time_syncs(path: &Path) -> std::io::Result<Vec<Duration>> {
    let mut file = File::create_new(path)?;
    let begun = Instant::now();
    let mut sample = Vec::with_capacity(SYNCS);
    while sample.len() < SYNCS && begun.elapsed() < SYNC_TIME {
        let write = Instant::now();
        file.write_all(&BLOCK)?;
        file.sync_data()?;
        sample.push(write.elapsed());
    }
    Ok(sample)
}

fn sync(spread: Option<Spread>) -> Finding {
    let Some(spread) = spread else {
        return Finding::new("disk_sync", Level::Ok, "not measured", "");
    };
    let fix = "use a local SSD, or a disk with a write cache that survives power cuts; every tick \
        waits for one sync before players see it";
    Finding::new(
        "disk_sync",
        spread.level(SLOW_SYNC, BAD_SYNC),
        format!("write and fdatasync of 4 KiB: {}", spread.words()),
        fix,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_judged_by_what_is_at_stake() {
        let place = Path::new("/data");
        let level = |number, matches| file_system(place, number, matches).level;
        assert_eq!(
            (level(0x0102_1994, true), level(0x0102_1994, false)),
            (Level::Fail, Level::Warn)
        );
        assert_eq!(
            (level(0x6969, true), level(0xef53, true), level(1, true)),
            (Level::Fail, Level::Ok, Level::Ok)
        );
        assert!(file_system(place, 0x6969, true).fix.unwrap().contains("node.db"));
        assert_eq!(space(100 << 20, 100 << 30).level, Level::Fail);
        assert_eq!(space(3 << 30, 20 << 30).level, Level::Warn);
        assert_eq!(space(10 << 30, 900 << 30).level, Level::Warn);
        assert_eq!(space(50 << 30, 100 << 30).level, Level::Ok);
        let slow = Spread::of(vec![Duration::from_millis(40); 9]);
        assert!(sync(slow).level == Level::Warn && sync(None).level == Level::Ok);
    }

    #[test]
    fn measuring_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let spread = measure(dir.path()).unwrap().unwrap();
        assert!(spread.count > 0 && spread.p50 <= spread.p99);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert_eq!(existing(&dir.path().join("a/b/c")).as_deref(), Some(dir.path()));
    }
}
