//! Logs are best effort: whatever becomes of the readers of standard error and standard output, the
//! node plays on, drains and takes over. And what is logged as JSON is JSON.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Stdio};

use crate::support::{PATIENCE, command, eventually, rekindle};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What becomes of what a node writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    /// It was there and is gone: each write fails.
    Gone,
    /// A disk without room: each write fails.
    Full,
    /// It reads nothing: a write waits for ever.
    Stalled,
}

/// One end of what the node writes to, and what has to live as long as the node.
fn stream(reader: Reader) -> (Stdio, Option<OwnedFd>) {
    if reader == Reader::Full {
        return (OpenOptions::new().write(true).open("/dev/full").unwrap().into(), None);
    }
    let (read, write) = std::io::pipe().unwrap();
    if reader == Reader::Gone {
        drop(read);
        return (write.into(), None);
    }
    // Whatever the node says first waits already.
    let flags = rustix::fs::fcntl_getfl(&write).unwrap();
    rustix::fs::fcntl_setfl(&write, flags | rustix::fs::OFlags::NONBLOCK).unwrap();
    let mut filling = write.try_clone().unwrap();
    while filling.write(&[b'x'; 1024]).is_ok() {}
    while filling.write(b"x").is_ok() {}
    rustix::fs::fcntl_setfl(&write, flags).unwrap();
    (write.into(), Some(read.into()))
}

/// A node that nobody listens to. Killed when dropped.
struct Unheard {
    child: Child,
    _kept: Vec<OwnedFd>,
}

impl Unheard {
    fn start(dir: &Path, reader: Reader, more: &[&str]) -> Self {
        let ((err, kept), (out, also)) = (stream(reader), stream(reader));
        let mut command = command(dir);
        // Every event of every library: more than any pipe holds.
        command.arg("start").args([
            "--dev",
            "--log",
            "json",
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--set",
            "log.filter=debug",
        ]);
        let child =
            command.args(more).stdout(out).stderr(err).spawn().expect("the executable starts");
        Self { child, _kept: kept.into_iter().chain(also).collect() }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    fn code(&mut self) -> Option<i32> {
        eventually("the end of the node", || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn create(dir: &Path) -> String {
    let created = eventually("a match", || {
        Some(rekindle(dir, &["match", "create", "--bots", "2", "--json"]))
            .filter(|done| done.code != 3)
    });
    created.expect(0).json()["id"].as_str().unwrap().to_owned()
}

fn reaches(dir: &Path, id: &str, tick: u64) -> Value {
    eventually("the tick", || {
        let done = rekindle(dir, &["match", "show", id, "--json"]);
        let view = (done.code == 0).then(|| done.json())?;
        (view["state"] == "running" && view["tick"].as_u64() >= Some(tick)).then_some(view)
    })
}

fn metric(dir: &Path, name: &str) -> f64 {
    let card: Value =
        serde_json::from_slice(&std::fs::read(dir.join("rekindle-data/node.json")).unwrap())
            .unwrap();
    let mut stream = TcpStream::connect(card["admin"].as_str().unwrap()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).unwrap();
    let values = page
        .lines()
        .filter(|line| line.starts_with(name))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

/// A node's whole life with such readers: create, play, drain; start again and stop by a signal.
fn lives_unheard(reader: Reader) {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let mut node = Unheard::start(dir, reader, &[]);
    let id = create(dir);
    reaches(dir, &id, 20);
    if reader != Reader::Stalled {
        eventually("dropped lines are counted", || {
            (metric(dir, "rekindle_log_lines_dropped_total") > 0.0).then_some(())
        });
    }
    rekindle(dir, &["drain", "--json"]).expect(0);
    assert_eq!(node.code(), Some(0), "{reader:?}: drained");

    let mut node = Unheard::start(dir, reader, &[]);
    let resumed = reaches(dir, &id, 1);
    assert_eq!(resumed["epoch"], 2, "{resumed}");
    reaches(dir, &id, resumed["tick"].as_u64().unwrap() + 20);
    node.signal(Signal::TERM);
    assert_eq!(node.code(), Some(0), "{reader:?}: stopped");
    let report = rekindle(dir, &["verify", "--json"]).expect(0).json();
    let found = &report["matches"][0];
    assert!(found["checkpoints"].as_u64() >= Some(1) && found["state"] == "running", "{report}");
}

#[test]
fn a_node_whose_readers_are_gone_plays_drains_and_stops() {
    lives_unheard(Reader::Gone);
}

#[test]
fn a_node_whose_log_fills_a_disk_plays_drains_and_stops() {
    lives_unheard(Reader::Full);
}

#[test]
fn a_node_whose_readers_stall_plays_drains_and_stops() {
    lives_unheard(Reader::Stalled);
}

#[test]
fn a_standby_that_nobody_listens_to_takes_over() {
    for reader in [Reader::Gone, Reader::Stalled] {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::create_dir(&a).unwrap();
        std::fs::create_dir(&b).unwrap();
        let store = format!("store=local:{}", dir.path().join("store").display());
        let mut first = Unheard::start(&a, reader, &["--set", &store, "--set", "node.name=a"]);
        let id = create(&a);
        reaches(&a, &id, 20);
        let _second = Unheard::start(&b, reader, &["--set", &store, "--set", "node.name=b"]);
        eventually("the standby", || (rekindle(&b, &["match", "ls"]).code == 0).then_some(()));
        first.signal(Signal::KILL);
        first.code();
        assert_eq!(reaches(&b, &id, 40)["epoch"], 2, "{reader:?}");
    }
}

#[test]
fn a_start_that_fails_says_so_by_its_code_whoever_listens() {
    for reader in [Reader::Gone, Reader::Full, Reader::Stalled] {
        let dir = tempfile::tempdir().unwrap();
        let mut node = Unheard::start(dir.path(), reader, &["--set", "data_dir=/proc/nothing"]);
        assert_eq!(node.code(), Some(1), "{reader:?}");
    }
}

/// The keys of an object in their order, double ones included.
fn keys(line: &str) -> Vec<String> {
    struct Keys;
    impl<'de> serde::de::Visitor<'de> for Keys {
        type Value = Vec<String>;
        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("an object")
        }
        fn visit_map<A: serde::de::MapAccess<'de>>(
            self,
            mut map: A,
        ) -> Result<Vec<String>, A::Error> {
            let mut keys = Vec::new();
            while let Some((key, _)) = map.next_entry::<String, serde::de::IgnoredAny>()? {
                keys.push(key);
            }
            Ok(keys)
        }
    }
    let mut reader = serde_json::Deserializer::from_str(line);
    serde::Deserializer::deserialize_map(&mut reader, Keys)
        .unwrap_or_else(|error| panic!("{error}: {line}"))
}

#[test]
fn every_line_of_a_json_log_is_an_object_with_each_key_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut command = command(dir.path());
    command.arg("start").args([
        "--dev",
        "--log",
        "json",
        "--listen",
        "127.0.0.1:0",
        "--admin",
        "127.0.0.1:0",
        "--set",
        "log.filter=debug",
    ]);
    let child = command.stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
    let mut node = Unheard { child, _kept: Vec::new() };
    let id = create(dir.path());
    reaches(dir.path(), &id, 10);
    // 2 house bots and 16 others where 16 may play: that some are not let in is logged, and those
    // lines have had a key twice.
    let bots = ["bots", "--count", "16", "--seconds", "1", "--match", &id];
    // On a slow machine a bot may give up before it is answered.
    eventually("a bot that is told that all places are taken", || {
        let refused = rekindle(dir.path(), &bots);
        refused.stderr.contains("all 16 places are taken").then_some(())
    });
    node.signal(Signal::TERM);
    assert_eq!(node.code(), Some(0));
    let text = std::fs::read_to_string(&log).unwrap();
    for line in text.lines() {
        let keys = keys(line);
        let unique: BTreeSet<&String> = keys.iter().collect();
        assert_eq!(unique.len(), keys.len(), "{line}");
        assert!(
            ["timestamp", "level", "target"]
                .iter()
                .all(|key| keys.iter().any(|found| found == key)),
            "{line}"
        );
    }
    assert!(
        text.lines().count() > 5 && text.lines().last().unwrap().contains("RK-NODE-004"),
        "the last words are there: {text}"
    );
}
