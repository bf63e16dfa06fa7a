//! The programs that drills run: built once, started with nothing of ours in their environment,
//! never waited for without end.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::node::{PACKAGE, Running};
use crate::run;

/// Arena's input of a player who stands still, as the witnesses send it.
const STAND_STILL: &str = "0000000000";
/// How often something is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(10);

/// The node and the witness, as cargo built them.
pub(crate) struct Programs {
    folder: PathBuf,
}

/// What a command did.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// `None`: it was killed, because it took too long or by somebody else.
    pub(crate) code: Option<i32>,
    /// It was ended because it took too long.
    pub(crate) hung: bool,
    /// Standard output, then standard error.
    pub(crate) text: String,
}

impl Programs {
    /// Builds both, optimized or not.
    pub(crate) fn build(debug: bool) -> Result<Self> {
        let mut cargo = Command::new("cargo");
        cargo.args([
            "build",
            "--locked",
            "--package",
            PACKAGE,
            "--bin",
            "rekindle",
            "--package",
            "rekindle-loadtest",
            "--bin",
            "witness",
        ]);
        if !debug {
            cargo.arg("--release");
        }
        run(&mut cargo)?;
        let folder = Path::new("target").join(if debug { "debug" } else { "release" });
        Ok(Self {
            folder: folder
                .canonicalize()
                .with_context(|| format!("{} is missing", folder.display()))?,
        })
    }

    /// The path of the executable `rekindle`.
    pub(crate) fn executable(&self) -> PathBuf {
        self.folder.join("rekindle")
    }

    /// A command on the data directory `dir`; `before` are words in front of it, as
    /// `prlimit --nofile=256`.
    pub(crate) fn rekindle(&self, before: &[&str], dir: &Path) -> Command {
        let mut command = match before {
            [] => Command::new(self.executable()),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(self.executable());
                command
            }
        };
        for (name, _) in
            std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("REKINDLE_"))
        {
            command.env_remove(name);
        }
        command.args(["--config", "/dev/null", "--data-dir"]).arg(dir).stdin(Stdio::null());
        command
    }

    /// Runs `rekindle WORDS` on `dir` to its end, or until `within` is over.
    pub(crate) fn command(&self, dir: &Path, words: &[&str], within: Duration) -> Result<Done> {
        finish(self.rekindle(&[], dir).args(words), within)
    }
}

/// Runs a command to its end and collects what it says; one that takes longer than `within` is
/// killed.
pub(crate) fn finish(command: &mut Command, within: Duration) -> Result<Done> {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = Running(child.with_context(|| format!("cannot start {command:?}"))?);
    let readers: Vec<_> = [
        child.0.stdout.take().map(|out| Box::new(out) as Box<dyn Read + Send>),
        child.0.stderr.take().map(|err| Box::new(err) as _),
    ]
    .into_iter()
    .flatten()
    .map(|mut pipe| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            // What was read before an error is kept.
            let _ = pipe.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    })
    .collect();
    let status = ended(&mut child.0, within)?;
    let hung = status.is_none();
    if hung {
        child.0.kill()?;
        child.0.wait()?;
    }
    let text =
        readers.into_iter().filter_map(|reader| reader.join().ok()).collect::<Vec<_>>().join("\n");
    Ok(Done { code: status.and_then(|status| status.code()), hung, text })
}

/// The status of a process that ends within that time.
fn ended(child: &mut Child, within: Duration) -> Result<Option<std::process::ExitStatus>> {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if begun.elapsed() >= within {
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

/// What is in `node.json`.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Card {
    /// Of the node, which may be a child of what was started.
    pub(crate) pid: i32,
    /// The admin listener.
    pub(crate) admin: SocketAddr,
    /// Where players connect.
    pub(crate) listen: SocketAddr,
}

/// What became of a start.
pub(crate) enum Started {
    /// It serves.
    Ready(Server),
    /// It ended with this code, or by a signal.
    Ended(Option<i32>),
    /// Neither in time; it was killed.
    Hangs,
}

/// A running node.
pub(crate) struct Server {
    process: Running,
    /// Where it can be reached.
    pub(crate) card: Card,
}

impl Server {
    /// Starts `command` (made by [`Programs::rekindle`], with `start --until-stdin-closes`) and
    /// waits until its card is in `dir`. The node ends with this process, however that ends.
    pub(crate) fn start(command: &mut Command, dir: &Path, within: Duration) -> Result<Started> {
        let card = |path: &Path| {
            std::fs::read(path).ok().and_then(|text| serde_json::from_slice::<Card>(&text).ok())
        };
        let path = dir.join("node.json");
        // A card of an earlier life says nothing, and a new one may have the same pid as the old
        // one after a copy.
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                bail!("cannot remove {}: {error}", path.display())
            }
            _ => {}
        }
        let mut process = Running(
            command
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .spawn()
                .with_context(|| format!("cannot start {command:?}"))?,
        );
        let begun = Instant::now();
        loop {
            if let Some(card) = card(&path) {
                return Ok(Started::Ready(Self { process, card }));
            }
            if let Some(status) = process.0.try_wait()? {
                return Ok(Started::Ended(status.code()));
            }
            if begun.elapsed() > within {
                return Ok(Started::Hangs);
            }
            std::thread::sleep(LOOK);
        }
    }

    /// As [`Server::start`], for a start that must succeed.
    pub(crate) fn ready(command: &mut Command, dir: &Path, within: Duration) -> Result<Self> {
        match Self::start(command, dir, within)? {
            Started::Ready(server) => Ok(server),
            Started::Ended(code) => bail!("the node ended with {code:?} before it served"),
            Started::Hangs => bail!("the node does not serve after {within:?}"),
        }
    }

    /// Whether it runs.
    pub(crate) fn alive(&mut self) -> Result<bool> {
        Ok(self.process.0.try_wait()?.is_none())
    }

    /// The exit code of a node that ends within that time. `None`: it runs, or was killed by a
    /// signal.
    pub(crate) fn exit_code(&mut self, within: Duration) -> Result<Option<i32>> {
        Ok(ended(&mut self.process.0, within)?.and_then(|status| status.code()))
    }

    /// Sends a signal to the node itself.
    pub(crate) fn signal(&self, signal: rustix::process::Signal) -> Result<()> {
        let pid = rustix::process::Pid::from_raw(self.card.pid).context("no pid")?;
        rustix::process::kill_process(pid, signal).context("cannot send a signal")
    }

    /// SIGKILL, and waits until it and what it was started by are gone.
    pub(crate) fn kill(mut self) -> Result<()> {
        // It may have ended by itself.
        let _ = self.signal(rustix::process::Signal::KILL);
        ensure!(
            ended(&mut self.process.0, Duration::from_secs(20))?.is_some(),
            "the node does not die"
        );
        Ok(())
    }

    /// What the admin listener answers: status and body. Each wait takes at most two seconds.
    pub(crate) fn get(&self, path: &str) -> Result<(u16, String)> {
        let mut stream = self.knock()?;
        stream.write_all(
            format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.card.admin).as_bytes(),
        )?;
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).with_context(|| format!("GET {path}"))?;
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
        let status = head
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok())
            .context("no HTTP status")?;
        Ok((status, body.to_owned()))
    }

    /// A bare connection to the admin listener.
    pub(crate) fn knock(&self) -> Result<TcpStream> {
        let wait = Duration::from_secs(2);
        let stream = TcpStream::connect_timeout(&self.card.admin, wait)?;
        stream.set_read_timeout(Some(wait))?;
        stream.set_write_timeout(Some(wait))?;
        Ok(stream)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The node may be a child of what was started, as under strace.
        let _ = self.signal(rustix::process::Signal::KILL);
    }
}

/// One line of a witness: the program `witness` says what each means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Note {
    /// A session begins, or goes on, at this tick.
    Back { us: u64, client: usize, session: String, tick: u64 },
    /// Everything up to `durable` was declared durable; inputs (number, tick) were applied.
    Seen { us: u64, client: usize, durable: u64, applied: Vec<(u64, u64)> },
    /// The server took ticks back.
    Rewound { us: u64, client: usize, tick: u64 },
    /// The connection ended.
    Gone { client: usize, reason: String },
    /// The client has stopped.
    Closed { client: usize, reason: String },
}

impl Note {
    /// `None` if it is no such line.
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let us = words.get(1)?.parse().ok()?;
        let client = words.get(2)?.parse().ok()?;
        let number = |at: usize| words.get(at).and_then(|word| word.parse::<u64>().ok());
        Some(match *words.first()? {
            "welcome" | "resumed" => {
                Self::Back { us, client, session: (*words.get(4)?).to_owned(), tick: number(6)? }
            }
            "seen" => {
                let pairs = words.get(6)?.split_terminator(',');
                let applied = pairs.filter_map(|pair| {
                    pair.split_once(':')
                        .and_then(|(seq, tick)| Some((seq.parse().ok()?, tick.parse().ok()?)))
                });
                Self::Seen { us, client, durable: number(5)?, applied: applied.collect() }
            }
            "rewound" => Self::Rewound { us, client, tick: number(4)? },
            "gone" => Self::Gone { client, reason: words.get(3..)?.join(" ") },
            "closed" => Self::Closed { client, reason: words.get(3..)?.join(" ") },
            _ => return None,
        })
    }

    /// Which client wrote it.
    pub(crate) fn client(&self) -> usize {
        match self {
            Self::Back { client, .. }
            | Self::Seen { client, .. }
            | Self::Rewound { client, .. }
            | Self::Gone { client, .. }
            | Self::Closed { client, .. } => *client,
        }
    }
}

/// Clients in a process of their own, and what they have noted.
pub(crate) struct Witness {
    /// Killed with this.
    _process: Running,
    /// It ends when this is closed.
    _stdin: Option<ChildStdin>,
    notes: Arc<Mutex<Vec<Note>>>,
}

impl Witness {
    /// Starts one client for each ticket and match; `role` is `player` or `spectator`.
    pub(crate) fn start(
        programs: &Programs,
        dir: &Path,
        listen: SocketAddr,
        role: &str,
        clients: &[(String, String)],
    ) -> Result<Self> {
        let mut command = Command::new(programs.folder.join("witness"));
        command.arg(listen.to_string()).arg(dir.join("cert.der")).args([role, STAND_STILL]);
        command.args(clients.iter().flat_map(|(ticket, match_id)| [ticket, match_id]));
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the witness")?;
        let stdin = child.stdin.take();
        let out = child.stdout.take().context("the witness has no output")?;
        let notes = Arc::new(Mutex::new(Vec::new()));
        let taken = Arc::clone(&notes);
        std::thread::spawn(move || {
            for note in BufReader::new(out)
                .lines()
                .map_while(Result::ok)
                .filter_map(|line| Note::parse(&line))
            {
                taken.lock().unwrap_or_else(PoisonError::into_inner).push(note);
            }
        });
        Ok(Self { _process: Running(child), _stdin: stdin, notes })
    }

    /// How many notes there are.
    pub(crate) fn len(&self) -> usize {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The notes from number `from` on.
    pub(crate) fn since(&self, from: usize) -> Vec<Note> {
        self.notes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(from..)
            .unwrap_or_default()
            .to_vec()
    }

    /// Waits until `holds` of the notes from number `from` on. True if it came to hold within that
    /// time.
    pub(crate) fn wait(
        &self,
        from: usize,
        within: Duration,
        holds: impl Fn(&[Note]) -> bool,
    ) -> bool {
        let begun = Instant::now();
        loop {
            if holds(&self.since(from)) {
                return true;
            }
            if begun.elapsed() > within {
                return false;
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// How many of `clients` have been shown a tick in these notes.
pub(crate) fn playing(notes: &[Note], clients: usize) -> usize {
    (0..clients)
        .filter(|&number| {
            notes.iter().any(|note| matches!(note, Note::Seen { client, .. } if *client == number))
        })
        .count()
}

/// A file to which a program may write.
pub(crate) fn log_file(path: &Path) -> Result<Stdio> {
    Ok(File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("cannot open {}", path.display()))?
        .into())
}
