//! What a command's exit code says. `rekindle --help` prints this table.

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
    /// Another build played the match, and this one does not repeat it: nothing stored is known to be wrong.
    OtherBuild = 10,
    /// The build that played the match does not repeat it.
    Differs = 11,
}

/// For `--help`.
pub const TABLE: &str = "Exit codes:
  0  done
  1  failed, for the reason printed
  2  wrong command line or configuration
  3  no running node found
  4  no such match, or the prefix fits several
  5  negative verdict: damage, a promise broken; of a copy or backup: it was made, without what is damaged
  6  fenced: another node took this node's matches
  7  a live node uses this data directory
  10 verify, replay: played by another build, which this build does not repeat; nothing stored is known to be wrong
  11 verify, replay: this build played it and does not repeat it";

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

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            let text = inner.to_string();
            if !message.contains(&text) {
                message = format!("{message}: {text}");
            }
            cause = inner.source();
        }
        Self::new(Exit::Failed, message)
    }
}
