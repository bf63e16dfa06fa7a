//! What the report of a parked match says about whether it may run again without an operator.
//!
//! A parked row keeps its reason as words only, for people. Some of those words decide whether a
//! node claims the match again, so they are written and read here and nowhere else. Stored rows of
//! earlier releases are among those that are read: none of these words may change.

use rekindle_schema::MatchId;

/// The code of the report of a match that was parked by trials.
const BY_TRIALS: &str = "RK-RECOVERY-130";
/// Codes in reports of matches that were parked because a build could not run them: what earlier
/// releases did.
const BY_BUILD: [&str; 3] = ["RK-SIM-001", "RK-SIM-002", "RK-HOST-001"];
/// Words in reports of matches that earlier releases parked for the number of their recoveries
/// alone.
const BY_COUNT: &str = "recoveries in a row ended before the match had run healthily";

/// Why a match was parked, as far as it decides who may claim it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParkedFor {
    /// Processes that replayed it died: it may be tried again once more deaths are allowed.
    Trials,
    /// An earlier release could not run it: a build that can undoes that.
    Build,
    /// An earlier release counted its recoveries, which tells nothing: it is claimed again.
    Count,
    /// For a reason that only an operator can judge.
    Fault,
}

impl ParkedFor {
    /// Reads a report.
    pub fn of(report: &str) -> Self {
        if report.starts_with(BY_TRIALS) {
            Self::Trials
        } else if report.contains(BY_COUNT) {
            Self::Count
        } else if BY_BUILD.iter().any(|code| report.contains(code)) {
            Self::Build
        } else {
            Self::Fault
        }
    }
}

/// The report of a match of which `deaths` processes died in a row, the last one as `how` says.
pub fn report_of_trials(match_id: MatchId, deaths: u32, how: &str) -> String {
    format!(
        "{BY_TRIALS}: match {match_id} ended {deaths} processes that replayed it, the last one \
         {how}; mend the game, then `rekindle match resume {}`, or raise recovery.attempts",
        match_id.short()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        let id = MatchId(0x0123_4567_89ab_cdef);
        let report = report_of_trials(id, 5, "after tick 7: it ended with exit code 134");
        assert_eq!(
            report,
            "RK-RECOVERY-130: match 0123456789abcdef ended 5 processes that replayed it, the last \
             one after tick 7: it ended with exit code 134; mend the game, then `rekindle match \
             resume 01234567`, or raise recovery.attempts"
        );
        assert_eq!(ParkedFor::of(&report), ParkedFor::Trials);
        // A death that quotes another code is a death.
        let quoting = report_of_trials(id, 1, "RK-SIM-002: checkpoint of game `zoo`");
        assert_eq!(ParkedFor::of(&quoting), ParkedFor::Trials);
    }

    #[test]
    fn reports_of_earlier_releases_are_read() {
        for (report, parked) in [
            ("match 7: RK-SIM-001: configuration of game `duel`: unknown key", ParkedFor::Build),
            ("RK-RECOVERY-004: match 7: RK-SIM-002: checkpoint of game `zoo`", ParkedFor::Build),
            ("RK-HOST-001: no game `zoo` here; this build serves: arena", ParkedFor::Build),
            ("5 recoveries in a row ended before the match had run healthily", ParkedFor::Count),
            ("RK-RECOVERY-001: the hash of tick 30 differs", ParkedFor::Fault),
            ("an operator quotes RK-RECOVERY-130", ParkedFor::Fault),
            ("", ParkedFor::Fault),
        ] {
            assert_eq!(ParkedFor::of(report), parked, "{report}");
        }
    }
}
