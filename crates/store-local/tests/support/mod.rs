//! Disks that fail, and what they are tried with.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_store_local::disk::{Disk, DiskFile, SystemDisk};

/// What a disk does wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The nth write, from 1, fails with this error and writes nothing.
    Write(u64, i32),
    /// The nth write writes half and fails.
    ShortWrite(u64, i32),
    /// The nth sync fails; later ones say that all is well, as Linux does.
    Sync(u64, i32),
}

#[derive(Default)]
struct Counts {
    writes: u64,
    syncs: u64,
}

/// A disk with one fault.
pub(crate) struct FailingDisk {
    fault: Fault,
    counts: Arc<Mutex<Counts>>,
}

impl FailingDisk {
    pub(crate) fn new(fault: Fault) -> Arc<Self> {
        Arc::new(Self { fault, counts: Arc::default() })
    }

    /// How many writes and syncs there were.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let counts = self.counts.lock();
        (counts.writes, counts.syncs)
    }
}

struct FailingFile {
    file: Box<dyn DiskFile>,
    fault: Fault,
    counts: Arc<Mutex<Counts>>,
}

impl Disk for FailingDisk {
    fn open(&self, path: &Path, new: bool) -> io::Result<Box<dyn DiskFile>> {
        let file = SystemDisk.open(path, new)?;
        Ok(Box::new(FailingFile { file, fault: self.fault, counts: Arc::clone(&self.counts) }))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        SystemDisk.sync_dir(path)
    }
}

impl DiskFile for FailingFile {
    fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.counts.lock().writes += 1;
        let now = self.counts.lock().writes;
        match self.fault {
            Fault::Write(n, code) if n == now => Err(io::Error::from_raw_os_error(code)),
            Fault::ShortWrite(n, code) if n == now => {
                self.file.write(&bytes[..bytes.len() / 2], offset)?;
                Err(io::Error::from_raw_os_error(code))
            }
            _ => self.file.write(bytes, offset),
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        self.counts.lock().syncs += 1;
        let now = self.counts.lock().syncs;
        match self.fault {
            Fault::Sync(n, code) if n == now => Err(io::Error::from_raw_os_error(code)),
            _ => self.file.sync(),
        }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}

/// How a disk, or the one who uses it, cheats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cheat {
    /// It does not.
    Honest,
    /// A sync does nothing: the mutant *no fsync*.
    NoSync,
    /// A sync is done when the next write comes: the mutant *acknowledge before fsync*.
    LateSync,
}

impl Cheat {
    pub(crate) fn named(name: &str) -> Self {
        match name {
            "no-sync" => Self::NoSync,
            "late-sync" => Self::LateSync,
            _ => Self::Honest,
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Honest => "honest",
            Self::NoSync => "no-sync",
            Self::LateSync => "late-sync",
        }
    }
}

/// Wraps a disk and cheats.
pub(crate) struct CheatingDisk {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) cheat: Cheat,
}

struct CheatingFile {
    file: Box<dyn DiskFile>,
    cheat: Cheat,
    owed: bool,
}

impl Disk for CheatingDisk {
    fn open(&self, path: &Path, new: bool) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(CheatingFile {
            file: self.disk.open(path, new)?,
            cheat: self.cheat,
            owed: false,
        }))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        if self.cheat == Cheat::Honest { self.disk.sync_dir(path) } else { Ok(()) }
    }
}

impl DiskFile for CheatingFile {
    fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if std::mem::take(&mut self.owed) {
            self.file.sync()?;
        }
        self.file.write(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        match self.cheat {
            Cheat::Honest => self.file.sync(),
            Cheat::NoSync => Ok(()),
            Cheat::LateSync => {
                self.owed = true;
                Ok(())
            }
        }
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}

#[derive(Default)]
struct Cache {
    /// Length of each file that is synced.
    synced: BTreeMap<PathBuf, u64>,
    /// Files whose names are synced.
    named: BTreeMap<PathBuf, bool>,
}

/// A disk with a cache that a power cut empties.
#[derive(Default, Clone)]
pub(crate) struct CachedDisk {
    cache: Arc<Mutex<Cache>>,
}

impl CachedDisk {
    /// Everything that was not synced is gone.
    pub(crate) fn power_cut(&self) {
        let cache = self.cache.lock();
        for (path, &named) in &cache.named {
            let synced = cache.synced.get(path).copied().unwrap_or_default();
            if named {
                fs::OpenOptions::new().write(true).open(path).unwrap().set_len(synced).unwrap();
            } else {
                fs::remove_file(path).unwrap();
            }
        }
    }
}

struct CachedFile {
    file: fs::File,
    path: PathBuf,
    cache: Arc<Mutex<Cache>>,
}

impl Disk for CachedDisk {
    fn open(&self, path: &Path, new: bool) -> io::Result<Box<dyn DiskFile>> {
        let file = fs::OpenOptions::new().write(true).create_new(new).open(path)?;
        let len = file.metadata()?.len();
        let mut cache = self.cache.lock();
        cache.named.entry(path.to_owned()).or_insert(!new);
        cache.synced.entry(path.to_owned()).or_insert(len);
        Ok(Box::new(CachedFile { file, path: path.to_owned(), cache: Arc::clone(&self.cache) }))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut cache = self.cache.lock();
        cache
            .named
            .iter_mut()
            .filter(|(file, _)| file.parent() == Some(path))
            .for_each(|(_, named)| *named = true);
        Ok(())
    }
}

impl DiskFile for CachedFile {
    fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(&self.file, bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        let len = self.file.metadata()?.len();
        self.cache.lock().synced.insert(self.path.clone(), len);
        Ok(())
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

/// A disk that takes its time to sync.
pub(crate) struct SlowDisk(pub(crate) Duration);

struct SlowFile(Box<dyn DiskFile>, Duration);

impl Disk for SlowDisk {
    fn open(&self, path: &Path, new: bool) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SlowFile(SystemDisk.open(path, new)?, self.0)))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        SystemDisk.sync_dir(path)
    }
}

impl DiskFile for SlowFile {
    fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        std::thread::sleep(self.1);
        self.0.sync()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
}

/// Numbers from a seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// One of `0..n`.
    pub(crate) fn roll(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A number from the environment.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}
