//! Runs the real executable as a stranger would: commands with their output, nodes with their log.
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The executable under test.
pub(crate) const REKINDLE: &str = env!("CARGO_BIN_EXE_rekindle");
/// A step that takes longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// What a command did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    /// The last line of standard output, as JSON.
    pub(crate) fn json(&self) -> Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: no JSON in {self:?}"))
    }

    /// Fails the test unless the command ended with `code`.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:?}");
        self
    }
}

/// Runs a command in `dir` to its end.
pub(crate) fn rekindle(dir: &Path, args: &[&str]) -> Done {
    let output = command(dir).args(args).output().expect("the executable starts");
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The executable in `dir`, with nothing of ours in its environment.
pub(crate) fn command(dir: &Path) -> Command {
    let mut command = Command::new(REKINDLE);
    command.current_dir(dir).stdin(Stdio::null());
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("REKINDLE_")) {
        command.env_remove(name);
    }
    command
}

/// A running node. Killed when dropped.
pub(crate) struct Node {
    child: Child,
    events: mpsc::Receiver<Value>,
    /// All that it has logged so far.
    pub(crate) seen: Vec<Value>,
}

impl Node {
    /// Starts a node on `dir/rekindle-data` with free ports and waits until it is ready.
    pub(crate) fn start(dir: &Path, args: &[&str]) -> Self {
        let mut node = Self::spawn(dir, args);
        node.wait_for("RK-NODE-001");
        node
    }

    /// As [`Node::start`], without waiting.
    pub(crate) fn spawn(dir: &Path, args: &[&str]) -> Self {
        let mut command = command(dir);
        command
            .arg("start")
            .args(["--dev", "--log", "json", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"])
            .args(args);
        Self::from_command(command)
    }

    /// Any command whose standard error is a JSON log.
    pub(crate) fn from_command(mut command: Command) -> Self {
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        // A copy that has just been written is busy while the child of another test, between its
        // fork and its exec, still has it open.
        let mut child = eventually("an executable that can be started", || match command.spawn() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => None,
            started => Some(started.expect("the executable starts")),
        });
        let (sender, events) = mpsc::channel();
        let stderr = child.stderr.take().expect("it is piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(event).is_err() {
                    break;
                }
            }
        });
        Self { child, events, seen: Vec::new() }
    }

    /// The next event with this code.
    pub(crate) fn wait_for(&mut self, code: &str) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.events.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(event) => {
                    self.seen.push(event.clone());
                    if event["code"] == code {
                        return event;
                    }
                }
                Err(error) => panic!("{error}: no {code} among {:#?}", self.seen),
            }
        }
    }

    /// The first event with this code, which it may have said before another that was waited for.
    pub(crate) fn said(&mut self, code: &str) -> Value {
        let found = self.seen.iter().find(|event| event["code"] == code).cloned();
        found.unwrap_or_else(|| self.wait_for(code))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }

    /// SIGTERM; the exit code.
    pub(crate) fn terminate(mut self) -> i32 {
        self.signal(rustix::process::Signal::TERM);
        self.wait()
    }

    /// Any signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// Fails the test if an event with this code comes within `time`.
    pub(crate) fn stays_silent_about(&mut self, code: &str, time: Duration) {
        let deadline = Instant::now() + time;
        while let Ok(event) =
            self.events.recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            assert_ne!(event["code"], code, "{event}");
            self.seen.push(event);
        }
    }

    /// It has ended already.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_some()
    }

    /// All that it has said, once it has ended.
    pub(crate) fn rest(&mut self) -> String {
        self.seen.extend(self.events.iter());
        Value::Array(self.seen.clone()).to_string()
    }

    /// Waits for the end; the exit code.
    pub(crate) fn wait(&mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return status.code().unwrap_or(-1);
            }
            assert!(Instant::now() < deadline, "the node does not end: {:#?}", self.seen);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that goes on and says on standard output what it does. Killed when dropped.
pub(crate) struct Told {
    child: Child,
    lines: mpsc::Receiver<String>,
    /// All lines so far.
    pub(crate) seen: Vec<String>,
}

impl Told {
    pub(crate) fn from_command(mut command: Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the executable starts");
        let (sender, lines) = mpsc::channel();
        let stdout = child.stdout.take().expect("it is piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// The next line with this in it.
    pub(crate) fn wait_for(&mut self, words: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(words) {
                        return line;
                    }
                }
                Err(error) => panic!("{error}: nothing of `{words}` among {:#?}", self.seen),
            }
        }
    }

    /// Any signal.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(self.child.id() as i32).expect("a pid");
        rustix::process::kill_process(pid, signal).expect("it runs");
    }

    /// Waits for the end; the exit code.
    pub(crate) fn wait(&mut self) -> i32 {
        let ended = || self.child.try_wait().expect("it is ours");
        eventually("the end", ended).code().unwrap_or(-1)
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks until `found` says something.
pub(crate) fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(Instant::now() < deadline, "{what} did not come true");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The answer of an HTTP listener, head and all.
pub(crate) fn http_get(host: &str, path: &str) -> String {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}
