//! Opening files of a store: regular ones only.
//!
//! A named pipe that lies where a segment should be makes whoever opens it wait for ever, a device
//! may do anything. So nothing of a data directory is opened in another way than here, neither for
//! reading nor for writing.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::OFlags;

/// Something lies there that is no regular file.
#[derive(Debug, thiserror::Error)]
#[error("it is {0}, not a regular file")]
struct Irregular(&'static str);

/// Opens a file for reading. `InvalidInput` if it is a directory, a named pipe, a socket or a
/// device: then nothing was read from it, and nothing waits.
pub fn open_regular(path: &Path) -> io::Result<File> {
    open(path, OpenOptions::new().read(true))
}

/// As [`open_regular`], with other options.
pub(super) fn open(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    let file = options
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
        .open(path)
        .map_err(|error| {
            // A pipe that is opened for writing, or a socket: the system says so in its own way.
            irregular(path).unwrap_or(error)
        })?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(irregular(path).unwrap_or_else(|| wrong("something else")))
    }
}

/// All bytes of a file.
pub(super) fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Refuses what somebody else is going to open, if it is there and no regular file.
pub(super) fn check(path: &Path) -> io::Result<()> {
    irregular(path).map_or(Ok(()), Err)
}

/// Whether this says that a file is none.
pub(super) fn is_irregular(error: &io::Error) -> bool {
    error.get_ref().is_some_and(
        <dyn std::error::Error + std::marker::Send + std::marker::Sync + 'static>::is::<Irregular>,
    )
}

fn wrong(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, Irregular(what))
}

fn irregular(path: &Path) -> Option<io::Error> {
    let kind = std::fs::metadata(path).ok()?.file_type();
    let what = match () {
        () if kind.is_file() => return None,
        () if kind.is_dir() => "a directory",
        () if kind.is_fifo() => "a named pipe",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Some(wrong(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            place("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(place("socket")).unwrap();
        std::fs::create_dir(place("dir")).unwrap();
        std::fs::write(place("file"), "words").unwrap();
        std::os::unix::fs::symlink(place("pipe"), place("link")).unwrap();
        std::os::unix::fs::symlink(place("file"), place("good")).unwrap();
        for (name, what) in [
            ("pipe", "a named pipe"),
            ("link", "a named pipe"),
            ("socket", "a socket"),
            ("dir", "a directory"),
        ] {
            for outcome in [
                open_regular(&place(name)).map(drop),
                open(&place(name), OpenOptions::new().write(true)).map(drop),
                check(&place(name)),
            ] {
                let error = outcome.unwrap_err();
                assert!(
                    is_irregular(&error) && error.to_string().contains(what),
                    "{name}: {error}"
                );
            }
        }
        assert_eq!(read(&place("good")).unwrap(), b"words");
        assert_eq!(open_regular(&place("nothing")).unwrap_err().kind(), io::ErrorKind::NotFound);
        check(&place("nothing")).unwrap();
    }
}
