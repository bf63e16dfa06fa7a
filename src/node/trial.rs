//! Replays a match in a process of its own before this node does, so that one whose replay ends its
//! process (an abort, an overflown stack, no memory) ends that one and not the node with all its
//! matches.
//!
//! Tried are the matches that are *suspect*: their last owner died before they had run healthily
//! for `recovery.healthy_ms`, be it by their fault or by somebody's `kill -9`. Only a trial tells
//! the two apart. A match that comes through is recovered as any other, however often its owners
//! died; one that ends so many trials as `recovery.attempts` says, in a row, is parked with what
//! they said last.
//!
//! The process is this same executable with a hidden subcommand ([`COMMAND`]). It gets histories on
//! its standard input, one after the other, and says on its standard output how far it is; it opens
//! no store, no socket and no configuration. It replays to the end of the journal and makes the
//! ticks of `recovery.healthy_ms` behind it, with the inputs of house bots alone. A panic is no
//! death: the node survives it, too. Format of a request: `u32` length, a `Request` as JSON, then
//! the bytes of the lease row, the checkpoint and the records, in this order.

use std::collections::{BTreeMap, VecDeque};
use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use rekindle_actors::Games;
use rekindle_actors::recovery::Replay;
use rekindle_schema::batch::{Frame, FrameHeader};
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::MatchLease;
use rekindle_schema::net::NetView;
use rekindle_schema::record::{AppliedInput, Step};
use rekindle_schema::{BuildId, Epoch, PlayerId, Seq, Tick};
use rekindle_store::history::History;
use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader,
};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::Semaphore;

use super::bots::FIRST_HOUSE_PLAYER;

/// The hidden subcommand that makes this executable a trial process.
pub const COMMAND: &str = "try-replay";
/// This executable, even after another one has been put in its place.
const EXECUTABLE: &str = "/proc/self/exe";
/// What a trial process says begins with this: a game may print, too.
const SAYS: &str = "rekindle-trial ";
/// A request that claims to be longer is none.
const MAX_REQUEST: u32 = 64 << 20;
/// How often a trial process says that it gets on.
const SAY_EVERY: Duration = Duration::from_millis(100);
/// Most ticks that are made behind the journal.
const MOST_TICKS: u64 = 600;
/// The stack of a thread that replays in a node.
const STACK: usize = 2 << 20;
/// A trial process may always use so much memory.
const LEAST_MEMORY: u64 = 256 << 20;
/// Of what a trial process says on standard error, so many bytes are kept: the last ones.
const KEPT: usize = 2_048;
/// A process of this host that has no time for its ticks is given so many watchdog times.
const PATIENCE: u32 = 4;

/// How matches are tried.
#[derive(Debug, Clone, Copy)]
pub struct TrialOptions {
    /// The build that computes the games.
    pub build: BuildId,
    /// Replay what another build computed, too.
    pub accept_build: bool,
    /// So many deaths in a row are a verdict.
    pub deaths: u32,
    /// For how long a match must run to count as healthy.
    pub healthy_after: Duration,
    /// A tick that takes longer ends a node; zero: never.
    pub watchdog: Duration,
}

/// What a trial showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The process lives.
    Survived,
    /// So many processes in a row died of it: how the last one did.
    Died(u32, String),
    /// There was no trial: why.
    Untried(String),
}

/// Tries matches, as many at once as this host has cores.
pub struct Trials {
    options: TrialOptions,
    slots: Semaphore,
    /// Processes that wait for the next match.
    idle: Mutex<Vec<Runner>>,
}

impl Trials {
    /// Starts no process yet.
    pub fn new(options: TrialOptions) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { options, slots: Semaphore::new(cores), idle: Mutex::default() }
    }

    /// Ends the processes that wait.
    pub fn rest(&self) {
        self.idle.lock().clear();
    }

    /// Tries one match.
    pub async fn of(&self, row: &MatchLease, history: &History) -> Verdict {
        let Ok(_slot) = self.slots.acquire().await else {
            return Verdict::Untried("this node ends".to_owned());
        };
        let request = match encode(row, history, self.options) {
            Ok(request) => request,
            Err(problem) => return Verdict::Untried(problem),
        };
        let mut deaths = 0;
        loop {
            let idle = self.idle.lock().pop();
            let runner = match idle {
                Some(runner) => Ok(runner),
                None => Runner::start().await,
            };
            let mut runner = match runner {
                Ok(runner) => runner,
                Err(problem) => return Verdict::Untried(problem),
            };
            match runner.run(&request, self.options.watchdog * PATIENCE).await {
                Ran::Through => {
                    self.idle.lock().push(runner);
                    return Verdict::Survived;
                }
                // One that had waited for long may be gone: that says nothing of this match.
                Ran::Not if !runner.fresh => {}
                Ran::Not => return Verdict::Untried("the trial process did not begin".to_owned()),
                Ran::Ended(how) => return Verdict::Untried(how),
                Ran::Died(how) => {
                    deaths += 1;
                    tracing::warn!(
                        code = "RK-NODE-134", match_id = %row.match_id, deaths, how,
                        "a process died of replaying this match"
                    );
                    if deaths >= self.options.deaths {
                        return Verdict::Died(deaths, how);
                    }
                }
            }
        }
    }
}

/// How one replay in a trial process went.
enum Ran {
    /// To its end.
    Through,
    /// It did not even begin.
    Not,
    /// The process was told to end: the words.
    Ended(String),
    /// The process died: how.
    Died(String),
}

/// A trial process, seen from the node.
struct Runner {
    child: Child,
    stdin: ChildStdin,
    lines: BufReader<ChildStdout>,
    errors: Arc<Mutex<VecDeque<u8>>>,
    /// It has not replayed anything yet.
    fresh: bool,
}

impl Runner {
    async fn start() -> Result<Self, String> {
        let mut command = Command::new(EXECUTABLE);
        // In a process group of its own: a Ctrl-C in the node's terminal is meant for the node.
        command
            .arg(COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command
            .spawn()
            .map_err(|error| format!("no trial process could be started: {error}"))?;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err("a trial process without pipes".to_owned());
        };
        let errors = Arc::<Mutex<VecDeque<u8>>>::default();
        tokio::spawn(keep_last(stderr, Arc::clone(&errors)));
        let mut runner = Self { child, stdin, lines: BufReader::new(stdout), errors, fresh: true };
        match tokio::time::timeout(Duration::from_secs(30), runner.hear()).await {
            Ok(Some(word)) if word == "ready" => Ok(runner),
            _ => Err("this executable does not answer as a trial process".to_owned()),
        }
    }

    /// What the process says next; `None` if it says nothing more.
    async fn hear(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            match (&mut self.lines).take(4_096).read_line(&mut line).await {
                Ok(1..) => {
                    // Behind what a game may have printed without an end of the line.
                    if let Some((_, word)) = line.trim_end().rsplit_once(SAYS) {
                        return Some(word.to_owned());
                    }
                }
                // Bytes that are no text are none of ours.
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {}
                Ok(_) | Err(_) => return None,
            }
        }
    }

    async fn run(&mut self, request: &[Bytes], patience: Duration) -> Ran {
        let patience = if patience.is_zero() { Duration::MAX } else { patience };
        for part in request {
            if self.stdin.write_all(part).await.is_err() {
                return self.end(false, "").await;
            }
        }
        if self.stdin.flush().await.is_err() {
            return self.end(false, "").await;
        }
        let mut begun = false;
        let mut at = String::from("before its first tick");
        loop {
            match tokio::time::timeout(patience, self.hear()).await {
                Ok(Some(word)) if word == "done" => {
                    self.fresh = false;
                    return Ran::Through;
                }
                Ok(Some(word)) => {
                    begun = true;
                    if let Some(tick) = word.strip_prefix("at ") {
                        at = format!("after tick {tick}");
                    }
                }
                Ok(None) => return self.end(begun, &at).await,
                Err(_) => {
                    // It is ours, and it is stopped with the runner.
                    let _ = self.child.start_kill();
                    return Ran::Died(format!(
                        "{at}: it made no tick for {} seconds",
                        patience.as_secs()
                    ));
                }
            }
        }
    }

    /// The process is gone, or will be in a moment.
    async fn end(&mut self, begun: bool, at: &str) -> Ran {
        let status = self.child.wait().await;
        if !begun {
            return Ran::Not;
        }
        let how = status.as_ref().map_or_else(|error| error.to_string(), in_words);
        let told = [Signal::INT, Signal::TERM, Signal::HUP, Signal::QUIT]
            .map(|signal| Some(signal.as_raw()));
        if status.is_ok_and(|status| told.contains(&status.signal())) {
            return Ran::Ended(how);
        }
        let said: Vec<u8> = self.errors.lock().iter().copied().collect();
        let said = String::from_utf8_lossy(&said);
        let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let last = said.get(said.len().saturating_sub(3)..).unwrap_or_default().join("; ");
        Ran::Died(if last.is_empty() {
            format!("{at}: {how}")
        } else {
            format!("{at}: {how}: {last}")
        })
    }
}

fn in_words(status: &ExitStatus) -> String {
    let name = |signal: i32| match signal {
        4 => " (SIGILL)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        8 => " (SIGFPE)",
        9 => " (SIGKILL, as by the kernel when memory is short)",
        11 => " (SIGSEGV)",
        _ => "",
    };
    match (status.signal(), status.code()) {
        (Some(signal), _) => format!("it was ended by signal {signal}{}", name(signal)),
        (None, Some(code)) => format!("it ended with exit code {code}"),
        (None, None) => "it ended".to_owned(),
    }
}

/// Reads to the end and keeps the last bytes.
async fn keep_last(mut from: impl AsyncRead + Unpin, kept: Arc<Mutex<VecDeque<u8>>>) {
    let mut buffer = [0; 512];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        let mut kept = kept.lock();
        kept.extend(&buffer[..read]);
        let over = kept.len().saturating_sub(KEPT);
        kept.drain(..over);
    }
}

/// What is asked of a trial process. Both ends are the same executable.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    build: u64,
    accept_build: bool,
    /// Ticks to make behind the journal.
    ticks: u64,
    /// Length of the encoded lease row.
    lease: usize,
    /// The encoded manifest, and the length of the state.
    checkpoint: Option<(Vec<u8>, usize)>,
    /// The record that the full checkpoint under it covers.
    root: Option<u64>,
    /// Epoch, seq, first and last tick, build, time, previous checksum, checksum, length.
    frames: Vec<[u64; 9]>,
}

fn encode(
    row: &MatchLease,
    history: &History,
    options: TrialOptions,
) -> Result<Vec<Bytes>, String> {
    let lease = Bytes::from(row.encode());
    let head = |frame: &Frame| {
        let header = &frame.header;
        let ticks = [header.first_tick.0, header.last_tick.0];
        let sums = [u64::from(header.prev_crc), u64::from(frame.crc), frame.payload.len() as u64];
        [
            header.epoch.0,
            header.seq.0,
            ticks[0],
            ticks[1],
            header.build.0,
            header.time_ms,
            sums[0],
            sums[1],
            sums[2],
        ]
    };
    let ticks = options.healthy_after.as_secs_f64() * f64::from(row.spec.tick_rate);
    let request = Request {
        build: options.build.0,
        accept_build: options.accept_build,
        ticks: (ticks.ceil() as u64).clamp(1, MOST_TICKS),
        lease: lease.len(),
        checkpoint: history.checkpoint.as_ref().map(|(meta, state)| (meta.encode(), state.len())),
        root: history.root.map(|root| root.0),
        frames: history.frames.iter().map(head).collect(),
    };
    let json = serde_json::to_vec(&request).map_err(|error| error.to_string())?;
    let length = u32::try_from(json.len()).ok().filter(|&length| length <= MAX_REQUEST);
    let length = length.ok_or("its history has too many records for a trial")?;
    let mut parts = vec![Bytes::copy_from_slice(&length.to_le_bytes()), json.into(), lease];
    parts.extend(history.checkpoint.iter().map(|(_, state)| state.clone()));
    parts.extend(history.frames.iter().map(|frame| frame.payload.clone()));
    Ok(parts)
}

/// Reads a request; `None` at the end of the input.
fn decode(
    input: &mut impl std::io::Read,
) -> std::io::Result<Option<(Request, MatchLease, History)>> {
    let mut length = [0; 4];
    match input.read_exact(&mut length) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        done => done?,
    }
    let length = u32::from_le_bytes(length);
    if length > MAX_REQUEST {
        return Err(std::io::Error::other("a request that is too long"));
    }
    let mut take = |length: usize| {
        let mut bytes = Vec::new();
        let read = input.by_ref().take(length as u64).read_to_end(&mut bytes)?;
        if read == length {
            Ok(Bytes::from(bytes))
        } else {
            Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof))
        }
    };
    let request: Request = serde_json::from_slice(&take(length as usize)?)?;
    let lease = MatchLease::decode(&take(request.lease)?).map_err(std::io::Error::other)?;
    let mut history = History { root: request.root.map(Seq), ..History::default() };
    if let Some((meta, length)) = &request.checkpoint {
        let meta = CheckpointMeta::decode(meta).map_err(std::io::Error::other)?;
        history.checkpoint = Some((meta, take(*length)?));
    }
    for &[epoch, seq, first, last, build, time_ms, prev_crc, crc, length] in &request.frames {
        let header = FrameHeader {
            match_id: lease.match_id,
            epoch: Epoch(epoch),
            seq: Seq(seq),
            first_tick: Tick(first),
            last_tick: Tick(last),
            build: BuildId(build),
            time_ms,
            prev_crc: prev_crc as u32,
        };
        history.frames.push(Frame { header, crc: crc as u32, payload: take(length as usize)? });
    }
    Ok(Some((request, lease, history)))
}

/// The whole life of a trial process: replays what it is given until its standard input ends. An
/// error means that the node is gone.
pub fn serve(games: &Games) -> std::io::Result<()> {
    prepare();
    say("ready")?;
    let mut input = std::io::stdin().lock();
    while let Some((request, lease, history)) = decode(&mut input)? {
        say("begun")?;
        let games = games.clone();
        // A stack as large as the one on which a node replays and ticks.
        let work = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn(move || replay(&games, &request, &lease, &history))?;
        // A panic ends no node either.
        let _ = work.join();
        say("done")?;
    }
    Ok(())
}

/// When memory is short this process is to go, and not the node; and it leaves no core file behind.
/// None of this is essential.
fn prepare() {
    std::panic::set_hook(Box::new(|_| ()));
    let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    let _ = std::fs::write("/proc/self/oom_score_adj", "1000");
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    let _ = setrlimit(Resource::Core, none);
    if let Some(free) = free_memory() {
        let most = Some(free.max(LEAST_MEMORY));
        let _ = setrlimit(Resource::Data, Rlimit { current: most, maximum: most });
    }
}

/// Memory that is left on this host, in bytes.
fn free_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1_024)
}

fn say(word: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{SAYS}{word}")?;
    out.flush()
}

fn replay(games: &Games, request: &Request, lease: &MatchLease, history: &History) {
    let Ok(game) = games.get(&lease.spec.game) else { return };
    let mut said = Instant::now();
    let mut progress = |tick: Tick| {
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            // The node is gone: the next word ends this process.
            let _ = say(&format!("at {tick}"));
        }
    };
    let (build, accept_build) = (BuildId(request.build), request.accept_build);
    let whole = Replay {
        game: &*game,
        spec: &lease.spec,
        build,
        accept_build,
        until: None,
        match_id: Some(lease.match_id),
    };
    let Ok(replayed) = whole.run(history, &mut |at| progress(at.tick)) else { return };
    if replayed.ended.is_some() {
        return;
    }
    let mut sim = replayed.sim;
    let mut view = NetView::default();
    let mut memories: BTreeMap<PlayerId, Vec<u8>> = BTreeMap::new();
    sim.extract(&mut view);
    for _ in 0..request.ticks {
        let bots =
            sim.sessions().into_iter().filter(|session| session.player.0 >= FIRST_HOUSE_PLAYER);
        let inputs = bots.filter_map(|bot| {
            let payload = game.bot(
                bot.player,
                &view,
                &lease.spec.config,
                memories.entry(bot.player).or_default(),
            )?;
            Some(AppliedInput {
                player: bot.player,
                session: bot.session,
                seq: bot.last_input + 1,
                view_tick: sim.tick(),
                payload,
            })
        });
        let step = Step { tick: sim.tick().next(), inputs: inputs.collect(), ..Step::default() };
        if !sim.step(&step).is_ok_and(|output| output.ended.is_none()) {
            return;
        }
        sim.extract(&mut view);
        progress(sim.tick());
    }
    drop(sim.checkpoint());
}

#[cfg(test)]
mod tests {
    use rekindle_schema::lease::{DEFAULT_REGION, MatchSpec, MatchState};
    use rekindle_schema::{Incarnation, StateHash};

    use super::*;

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        let spec = MatchSpec {
            game: "test".into(),
            config: Bytes::from_static(b"{}"),
            seed: 1,
            tick_rate: 30,
            house_bots: 0,
            created_ms: 0,
        };
        let row = MatchLease {
            match_id: MatchId(7),
            version: 1,
            epoch: Epoch(2),
            incarnation: Incarnation(3),
            state: MatchState::Running,
            attempts: 1,
            lineage: Vec::new(),
            spec,
            region: DEFAULT_REGION.to_owned(),
        };
        let meta = CheckpointMeta {
            match_id: row.match_id,
            epoch: row.epoch,
            seq: Seq(4),
            tick: Tick(5),
            log: row.incarnation,
            batch: rekindle_schema::BatchNo(6),
            build: BuildId(7),
            hash: StateHash([8; 32]),
            time_ms: 9,
            len: 5,
            crc: 10,
            base: None,
        };
        let header = FrameHeader {
            match_id: row.match_id,
            epoch: row.epoch,
            seq: Seq(5),
            first_tick: Tick(6),
            last_tick: Tick(7),
            build: BuildId(u64::MAX),
            time_ms: 1,
            prev_crc: 2,
        };
        let frame = Frame { header, crc: u32::MAX, payload: Bytes::from_static(b"payload") };
        let history = History {
            checkpoint: Some((meta, Bytes::from_static(b"state"))),
            frames: vec![frame],
            root: Some(Seq(4)),
            notes: Vec::new(),
        };
        let options = TrialOptions {
            build: BuildId(7),
            accept_build: true,
            deaths: 5,
            healthy_after: Duration::from_secs(3),
            watchdog: Duration::from_secs(5),
        };
        let sent: Vec<u8> = encode(&row, &history, options).unwrap().concat();
        let (request, lease, got) = decode(&mut &sent[..]).unwrap().unwrap();
        assert_eq!((request.build, request.accept_build, request.ticks, lease), (7, true, 90, row));
        assert_eq!(got, history);
        assert!(decode(&mut &sent[..0]).unwrap().is_none(), "the end");
        for cut in [3, 10, sent.len() - 1] {
            let cut = decode(&mut &sent[..cut]);
            assert!(!matches!(cut, Ok(Some(_))), "cut off");
        }
    }
}
