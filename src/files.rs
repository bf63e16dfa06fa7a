//! Errors of the system with the file that they are about. Used wherever a file is touched; the
//! system's own error does not say which file was meant.

use std::io;
use std::path::{Path, PathBuf};

/// The system refused something about a file.
#[derive(Debug, thiserror::Error)]
#[error("RK-CLI-143: cannot {doing} {}: {error}", path.display())]
pub struct FileError {
    /// What was tried: `read`, `write`, `create`.
    pub doing: String,
    /// The file or directory.
    pub path: PathBuf,
    /// What the system said. Part of the message, so it is no further cause.
    pub error: io::Error,
}

/// Gives an error of the system the file that it is about.
pub(crate) trait About<T> {
    /// `doing` says what was tried: `read`, `write`, `create`.
    fn about(self, doing: &str, path: &Path) -> Result<T, FileError>;
}

impl<T> About<T> for io::Result<T> {
    fn about(self, doing: &str, path: &Path) -> Result<T, FileError> {
        self.map_err(|error| FileError { doing: doing.to_owned(), path: path.to_owned(), error })
    }
}
