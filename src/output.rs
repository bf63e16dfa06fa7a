//! Standard output and standard error of commands: the only place in the node that writes to them,
//! apart from the log.
//!
//! What a command answers is written and flushed here, and a failure to do so is the command's
//! failure: an answer that nobody got is no success. A reader that has gone (`| head`) ends the
//! command without words. Notes and reasons on standard error are best effort: the exit code says
//! it, too.

use std::io::{self, Write as _};

use crate::exit::{Exit, Failure};
use crate::{telemetry, text};

/// Writes the lines of an answer to standard output, [plain](text::plain) each, and flushes.
pub fn answer(lines: &[String]) -> Result<(), Failure> {
    let mut all = String::new();
    for line in lines {
        all.push_str(&text::plain(&text::own(line)));
        all.push('\n');
    }
    written(&all)
}

/// Writes one line of JSON to standard output and flushes.
pub fn json(line: &str) -> Result<(), Failure> {
    written(&format!("{line}\n"))
}

/// Writes text of this program's own to standard output as it is, such as the help, and flushes.
pub fn written(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| unwritten(&error))
}

/// What a command that could not write its answer ends with.
fn unwritten(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::new(Exit::ReaderGone, "RK-CLI-141: nobody reads standard output any more");
    }
    let message = format!(
        "RK-CLI-140: standard output: {error}; what the command was to do is done, but its answer \
         is lost: give it another place and ask again"
    );
    Failure::new(Exit::Failed, message)
}

/// Writes a line about what a process that goes on does. Best effort and without waiting: a node
/// does not stop because nobody listens.
pub fn milestone(line: &str) {
    telemetry::STDOUT.line(&text::own(line));
}

/// As [`milestone`], for programs: one line of JSON, as it is.
pub fn json_milestone(value: &serde_json::Value) {
    telemetry::STDOUT.line(&value.to_string());
}

/// Writes `note: ...` to standard error. Best effort.
pub fn note(words: &str) {
    complain(&format!("note: {}", text::plain(&text::own(words))));
}

/// Writes `error: ...` to standard error. Best effort: the exit code says that there was one.
pub fn error(words: &str) {
    complain(&format!("error: {}", text::plain(&text::own(&text::without_credentials(words)))));
}

/// Writes text of this program's own to standard error as it is. Best effort and without waiting;
/// [`telemetry::flush`] gives it time at the end.
pub fn complain(text: &str) {
    telemetry::STDERR.line(text.trim_end());
}
