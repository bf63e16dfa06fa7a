//! The few things that the local store asks of a disk when it writes: a seam for fault injection.
//!
//! Reading goes to the file system directly: damage that a reader must notice is made in the files
//! themselves.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::file;

/// Where segments are written.
pub trait Disk: Send + Sync + 'static {
    /// Opens a segment for writing; `new` creates it and fails if it exists.
    fn open(&self, path: &Path, new: bool) -> io::Result<Box<dyn DiskFile>>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// One segment, open for writing.
pub trait DiskFile: Send {
    /// Writes all of `bytes` at `offset`.
    fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes what was written durable, with the file's length. Called once for each group of writes
    /// and never again after an error.
    fn sync(&mut self) -> io::Result<()>;
    /// Cuts the file.
    fn truncate(&mut self, len: u64) -> io::Result<()>;
}

/// The disk that the operating system offers.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn open(&self, path: &Path, new: bool) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(file::open(path, OpenOptions::new().write(true).create_new(new))?))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }
}

impl DiskFile for File {
    fn write(&mut self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.set_len(len)
    }
}
