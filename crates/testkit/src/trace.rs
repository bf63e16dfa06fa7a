//! What happened in a simulation, in order: the logical events that two runs of one seed must have
//! in common.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// A log of events under virtual time, shared by everything in one simulation. Packet bytes, which
/// contain random keys, never go in.
#[derive(Debug, Clone, Default)]
pub struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    /// Adds an event of `who` at the virtual time of the simulation (zero outside of one).
    pub fn log(&self, who: &str, what: impl std::fmt::Display) {
        self.log_at(turmoil::sim_elapsed().unwrap_or_default(), who, what);
    }

    /// Adds an event at a time that is known otherwise.
    pub fn log_at(&self, at: Duration, who: &str, what: impl std::fmt::Display) {
        let mut line = String::new();
        let _ = write!(line, "{:>8.3} {who} {what}", at.as_secs_f64());
        self.0.lock().push(line);
    }

    /// All lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

/// Where two traces part: the number of the first line that differs and both versions of it, with
/// what led there.
pub fn first_difference(one: &[String], other: &[String]) -> Option<String> {
    let at = (0..one.len().max(other.len())).find(|&line| one.get(line) != other.get(line))?;
    let mut text = format!("the traces of two runs part at line {}:\n", at + 1);
    for line in &one[at.saturating_sub(5).min(one.len())..at] {
        let _ = writeln!(text, "       {line}");
    }
    let end = "(the trace ends)".to_owned();
    let _ = writeln!(text, "first  {}", one.get(at).unwrap_or(&end));
    let _ = write!(text, "second {}", other.get(at).unwrap_or(&end));
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_part_at_the_first_line_that_differs() {
        let trace = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(first_difference(&trace(&["a", "b"]), &trace(&["a", "b"])), None);
        let report =
            first_difference(&trace(&["a", "b"]), &trace(&["a", "c"])).expect("they differ");
        assert!(
            report.contains("line 2") && report.contains("first  b") && report.contains("second c"),
            "{report}"
        );
        let report = first_difference(&trace(&["a"]), &trace(&["a", "c"])).expect("one is longer");
        assert!(report.contains("the trace ends"), "{report}");
    }
}
