//! What a command's exit code says. `rekindle --help` prints this table.

use std::any::Any;
use std::io;
use std::path::Path;
use std::process::ExitCode;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// It did what it was asked.
    Done = 0,
    /// It could not, for a reason that it printed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// No running node was found.
    NoNode = 3,
    /// The match (or what else was named) does not exist, or a prefix fits several.
    NotFound = 4,
    /// The verdict is negative: damage, a hash that differs, or a promise broken.
    Broken = 5,
    /// Another node took this node's matches.
    Fenced = 6,
    /// A live node uses this data directory.
    InUse = 7,
    /// Another build played the match, and this one does not repeat it: nothing stored is known to
    /// be wrong.
    OtherBuild = 10,
    /// The build that played the match does not repeat it.
    Differs = 11,
    /// Whoever read standard output has gone: what a shell says of a program that SIGPIPE ended.
    ReaderGone = 141,
}

/// For `--help`.
pub const TABLE: &str = "Exit codes:
  0    done
  1    failed, for the reason printed
  2    wrong command line or configuration
  3    no running node found
  4    no such match, or the prefix fits several
  5    negative verdict: damage, a promise broken; of a copy or backup: it was made, without what is damaged
  6    fenced: another node took this node's matches
  7    a live node uses this data directory
  10   verify, replay: played by another build, which this build does not repeat; nothing stored is known to be wrong
  11   verify, replay: this build played it and does not repeat it
  141  whoever read standard output has gone, as in `... | head`: nothing more is said";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command failed: words for people, a code for scripts.
#[derive(Debug)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened and what to do, `RK-...` code in front.
    pub message: String,
}

impl Failure {
    /// A failure with this exit code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }
}

/// Gives an error of the system the file that it is about. [`Failure`] takes an error without one
/// as well, but then nobody knows which file was meant.
pub(crate) trait About<T> {
    /// `doing` says what was tried: `read`, `write`, `create`.
    fn about(self, doing: &str, path: &Path) -> Result<T, Failure>;
}

impl<T> About<T> for io::Result<T> {
    fn about(self, doing: &str, path: &Path) -> Result<T, Failure> {
        self.map_err(|error| {
            Failure::new(
                Exit::Failed,
                format!("RK-CLI-143: cannot {doing} {}: {error}", path.display()),
            )
        })
    }
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let is_system = (&error as &dyn Any).is::<io::Error>();
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = inner.source();
        }
        if !message.starts_with("RK-") {
            message = if is_system {
                format!("RK-CLI-142: the system refused: {message}")
            } else {
                format!("RK-CLI-144: {message}")
            };
        }
        Self::new(Exit::Failed, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_has_a_code_and_one_of_a_file_its_path() {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let failure = Err::<(), _>(gone()).about("read", Path::new("/a/b")).unwrap_err();
        assert_eq!(failure.message, format!("RK-CLI-143: cannot read /a/b: {}", gone()));
        assert_eq!(
            Failure::from(gone()).message,
            format!("RK-CLI-142: the system refused: {}", gone())
        );
        let other = "x".parse::<u8>().unwrap_err();
        assert!(Failure::from(other).message.starts_with("RK-CLI-144: "));
    }
}
