//! What a command's exit code says: `rekindle --help` prints this table. Errors of all parts become
//! a [`Failure`] here, words and exit code; only commands know it, and what they are made of.

use std::any::Any;
use std::io;
use std::process::ExitCode;

use rekindle_actors::Halt;
use rekindle_store::StoreError;

use crate::node::NodeError;
use crate::text;

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
    /// Another build played the match, and this one does not repeat it, or cannot run it: nothing
    /// stored is known to be wrong.
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
  10   preflight: this build does not go on with some of the matches
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

/// With which code a process ends that this error ends.
fn exit_of(error: &NodeError) -> Exit {
    match error {
        NodeError::Fenced | NodeError::Halted(Halt::Store(StoreError::Fenced(_))) => Exit::Fenced,
        NodeError::InUse { .. } => Exit::InUse,
        NodeError::NameTaken { .. } => Exit::Usage,
        _ => Exit::Failed,
    }
}

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let any = &error as &dyn Any;
        let of_node = any.downcast_ref::<NodeError>();
        let is_system = any.is::<io::Error>() || matches!(of_node, Some(NodeError::System(_)));
        let exit = of_node.map_or(Exit::Failed, exit_of);
        let mut message = text::with_causes(&error);
        if !message.starts_with("RK-") {
            message = if is_system {
                format!("RK-CLI-142: the system refused: {message}")
            } else {
                format!("RK-CLI-144: {message}")
            };
        }
        Self::new(exit, message)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rekindle_schema::Incarnation;

    use super::*;
    use crate::files::About as _;

    #[test]
    fn every_failure_has_a_code_and_one_of_a_file_its_path() {
        let gone = || io::Error::from(io::ErrorKind::NotFound);
        let failure: Failure =
            Err::<(), _>(gone()).about("read", Path::new("/a/b")).unwrap_err().into();
        assert_eq!(failure.message, format!("RK-CLI-143: cannot read /a/b: {}", gone()));
        assert_eq!(
            Failure::from(gone()).message,
            format!("RK-CLI-142: the system refused: {}", gone())
        );
        assert_eq!(
            Failure::from(NodeError::System(gone())).message,
            format!("RK-CLI-142: the system refused: {}", gone())
        );
        let other = "x".parse::<u8>().unwrap_err();
        assert!(Failure::from(other).message.starts_with("RK-CLI-144: "));
    }

    #[test]
    fn a_node_that_is_fenced_or_finds_another_one_ends_with_a_code_of_its_own() {
        let halted = Halt::Store(StoreError::Fenced(Incarnation(1)));
        let failed = Halt::Actor("journal", "RK-HOST-009".to_owned());
        for (error, exit) in [
            (NodeError::Fenced, Exit::Fenced),
            (NodeError::Halted(halted), Exit::Fenced),
            (NodeError::Halted(failed), Exit::Failed),
            (NodeError::InUse { dir: "d".into(), who: String::new() }, Exit::InUse),
            (NodeError::PortLost, Exit::Failed),
            (NodeError::Abandoned, Exit::Failed),
        ] {
            let failure = Failure::from(error);
            assert_eq!(failure.exit, exit, "{}", failure.message);
        }
    }
}
