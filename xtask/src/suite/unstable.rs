//! Tests that fail beside others and pass alone.
//!
//! Most tests here start real processes, and several test programs share two cores: on a machine
//! that stands still for a second, a test can run out of time though nothing is broken. So what
//! failed is run again when all else has ended, one test after the other, twice. A test that passes
//! both times is *unstable*: the suite passes, and says so in capitals. It is a defect all the
//! same, of the test or of what it tests, and to be mended: its first output stands above.
//!
//! Called by [`super::programs`].

use super::programs::{Job, Program};

/// More failures than that are no accident: then none is run again.
const MOST: usize = 2;
/// So often a test has to pass alone.
const TIMES: usize = 2;

/// A test program that failed, and which of its tests did.
#[derive(Debug)]
pub(super) struct Failed {
    program: Program,
    tests: Vec<String>,
}

impl Failed {
    /// `None` if `said`, what the program printed, names no test: it was killed, or it is no
    /// program of Rust's test harness.
    pub(super) fn new(program: &Program, said: &str) -> Option<Self> {
        let tests = names(said);
        (!tests.is_empty()).then(|| Self { program: program.clone(), tests })
    }
}

/// The tests that a program names in the list at its end.
fn names(said: &str) -> Vec<String> {
    let Some((_, list)) = said.rsplit_once("\nfailures:\n") else { return Vec::new() };
    let names = list.lines().map_while(|line| line.strip_prefix("    "));
    names.map(str::to_owned).collect()
}

/// Whether all these may be accidents: few tests, and no failure besides.
pub(super) fn few(failed: &[Failed], all: usize) -> bool {
    let tests: usize = failed.iter().map(|failed| failed.tests.len()).sum();
    failed.len() == all && (1..=MOST).contains(&tests)
}

/// Runs their tests alone; `run` says whether a job passed. The names of the tests, for people, or
/// of the first one that fails again.
pub(super) fn again(
    failed: &[Failed],
    variables: &[(&str, String)],
    run: impl Fn(Job) -> bool,
) -> Result<Vec<String>, String> {
    let mut passed = Vec::new();
    for Failed { program, tests } in failed {
        for test in tests {
            for _ in 0..TIMES {
                let mut job = program.job(variables);
                job.name = format!("{test} alone, {}", job.name);
                job.command.args(["--exact", test]);
                if !run(job) {
                    return Err(test.clone());
                }
            }
            passed.push(test.clone());
        }
    }
    Ok(passed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "\
running 3 tests
test one ... ok
test two::of - should panic ... FAILED
test three ... FAILED

failures:

---- three stdout ----
failures:
    none of these
thread 'three' panicked

failures:
    three
    two::of

test result: FAILED. 1 passed; 2 failed; 0 ignored
";

    #[test]
    fn failed_tests_are_read_from_the_list_at_the_end() {
        assert_eq!(names(SAID), ["three", "two::of"]);
        assert!(names("running 1 test\ntest one ... ok\n\ntest result: ok. 1 passed").is_empty());
        assert!(names("Segmentation fault").is_empty());
    }
}
