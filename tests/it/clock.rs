//! The wall clock of a real node is set, an hour and ten years, there and back: what is done by the
//! clock goes on, nothing is removed, nobody is thrown out.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::{Node, command, eventually, rekindle};
use serde_json::Value;

/// Moves `CLOCK_REALTIME` by as many seconds as a file says, which is mapped into the process.
const SHIM: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
static volatile int64_t *shift;
static int (*real)(clockid_t, struct timespec *);
__attribute__((constructor)) static void begin(void) {
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    const char *path = getenv("CLOCK_SHIFT_FILE");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *at = file < 0 ? MAP_FAILED : mmap(0, 8, PROT_READ, MAP_SHARED, file, 0);
    if (at != MAP_FAILED) shift = at;
}
int clock_gettime(clockid_t clock, struct timespec *time) {
    if (!real) begin();
    int outcome = real(clock, time);
    if (outcome == 0 && clock == CLOCK_REALTIME && shift) time->tv_sec += *shift;
    return outcome;
}
"#;

const HOUR: i64 = 3_600;
const TEN_YEARS: i64 = 10 * 365 * 24 * HOUR;

/// A clock that the test sets.
struct Clock {
    library: PathBuf,
    path: PathBuf,
    shift: File,
}

impl Clock {
    /// The C compiler is there: the database and TLS libraries of the node were built with it.
    fn new(dir: &Path) -> Self {
        let (source, library, path) =
            (dir.join("clock.c"), dir.join("clock.so"), dir.join("shift"));
        std::fs::write(&source, SHIM).unwrap();
        let made = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status();
        assert!(made.expect("a C compiler").success());
        std::fs::write(&path, [0; 8]).unwrap();
        let shift = File::options().write(true).open(&path).unwrap();
        Self { library, path, shift }
    }

    fn set(&self, seconds: i64) {
        self.shift.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }

    fn start(&self, dir: &Path, more: &[&str]) -> Node {
        let mut command = command(dir);
        command
            .arg("start")
            .args(["--dev", "--log", "json", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(more);
        command.env("LD_PRELOAD", &self.library).env("CLOCK_SHIFT_FILE", &self.path);
        let mut node = Node::from_command(command);
        node.wait_for("RK-NODE-001");
        node
    }
}

/// How often housekeeping was done, and the match's tick.
fn progress(dir: &Path, id: &str) -> (usize, u64) {
    let jobs = rekindle(
        dir,
        &["jobs", "ls", "--state", "done", "--kind", "keep-house", "--limit", "500", "--json"],
    )
    .expect(0)
    .json();
    let view = rekindle(dir, &["match", "show", id, "--json"]).expect(0).json();
    (jobs.as_array().unwrap().len(), view["tick"].as_u64().unwrap())
}

/// Housekeeping is done twice more, and the match ticks.
fn goes_on(dir: &Path, id: &str, after: &str) {
    let before = progress(dir, id);
    eventually(after, || {
        let now = progress(dir, id);
        (now.0 >= before.0 + 2 && now.1 > before.1).then_some(())
    });
}

#[test]
fn housekeeping_goes_on_whatever_the_clock_is_set_to() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::new(dir.path());
    let settings = [
        "--set",
        "jobs.cron=keep-house every 1s; prune-jobs every 1h",
        "--set",
        "checkpoint.every_s=1",
    ];
    let mut node = clock.start(dir.path(), &settings);
    let id =
        rekindle(dir.path(), &["match", "create", "--bots", "2", "--json"]).expect(0).json()["id"]
            .as_str()
            .unwrap()
            .to_owned();
    goes_on(dir.path(), &id, "before anything is set");
    let mut stepped = 0;
    for seconds in [HOUR, 0, -HOUR, 0, TEN_YEARS, 0, -TEN_YEARS, 0] {
        clock.set(seconds);
        let event = node.wait_for("RK-JOBS-150");
        assert!(event["by_ms"].as_i64().unwrap().unsigned_abs() > 3_500_000, "{event}");
        stepped += 1;
        goes_on(dir.path(), &id, &format!("with the clock at {seconds} s"));
        // Whoever comes now is let in: tickets go by the clock of the host, which is one and the
        // same. On a busy host that takes its time.
        eventually(&format!("a bot that plays with the clock at {seconds} s"), || {
            let mut bots = command(dir.path());
            bots.args(["bots", "--count", "1", "--seconds", "3", "--match", &id]);
            bots.env("LD_PRELOAD", &clock.library).env("CLOCK_SHIFT_FILE", &clock.path);
            bots.output().unwrap().status.success().then_some(())
        });
    }
    assert_eq!(stepped, 8);

    // It dies while the clock is ahead: what it held and put off there does not wait for ten years.
    clock.set(TEN_YEARS);
    node.wait_for("RK-JOBS-150");
    goes_on(dir.path(), &id, "ten years ahead");
    node.kill();
    clock.set(0);
    let node = clock.start(dir.path(), &settings);
    goes_on(dir.path(), &id, "after a start with the right clock");
    assert_eq!(node.terminate(), 0);
    let report = rekindle(dir.path(), &["verify", "--json"]).expect(0).json();
    assert_eq!(report["faults"].as_array().map(Vec::len), Some(0), "{report}");
}

#[test]
fn a_clock_that_leaps_for_a_moment_makes_nothing_old() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::new(dir.path());
    let settings = [
        "--set",
        "jobs.cron=keep-house every 1s; prune-audit every 1s",
        "--set",
        "retention.ended=for:30d",
    ];
    let mut node = clock.start(dir.path(), &settings);
    let id =
        rekindle(dir.path(), &["match", "create", "--bots", "2", "--json"]).expect(0).json()["id"]
            .as_str()
            .unwrap()
            .to_owned();
    rekindle(dir.path(), &["match", "stop", &id]).expect(0);
    let other =
        rekindle(dir.path(), &["match", "create", "--bots", "2", "--json"]).expect(0).json()["id"]
            .as_str()
            .unwrap()
            .to_owned();
    goes_on(dir.path(), &other, "before the leap");
    let entries =
        || rekindle(dir.path(), &["audit", "--json"]).expect(0).json().as_array().unwrap().len();
    let audited = entries();
    assert!(audited > 0);
    clock.set(TEN_YEARS);
    let doubted = node.wait_for("RK-NODE-152");
    assert!(doubted["believed_ms"].as_u64() < doubted["wall_ms"].as_u64(), "{doubted}");
    goes_on(dir.path(), &other, "ten years ahead");
    clock.set(0);
    goes_on(dir.path(), &other, "and back");
    assert_eq!(node.terminate(), 0);
    let report = rekindle(dir.path(), &["verify", "--json"]).expect(0).json();
    let ids: Vec<&Value> =
        report["matches"].as_array().unwrap().iter().map(|found| &found["id"]).collect();
    assert!(
        ids.contains(&&Value::from(id.as_str())),
        "the ended match is ten seconds old, not ten years: {report}"
    );
    assert!(
        rekindle(dir.path(), &["audit", "--json"]).expect(0).json().as_array().unwrap().len()
            >= audited
    );
}
