//! Power cuts under a node that runs: the file system of its data directory is shut down while
//! players are told what is durable.
//!
//! `cargo xtask drill` cuts the power of a node that is dead already. Here the node lives, or was
//! stopped by SIGSTOP a moment before, so that a sync may be in flight at the cut. Witnesses note
//! what each snapshot declares durable and when they read it; after the cut the node is killed, the
//! file system mounted again and the node started, and the tick at which each match goes on is
//! compared with what was declared.
//!
//! A shutdown of ext4 is not quite a power cut: an `fdatasync` that is under way while the file
//! system shuts down may return 0 although its bytes are gone. What a witness read after the
//! shutdown began therefore proves nothing and is counted apart. With `--trace` every sync of the
//! node is compared with the files too.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use serde::Deserialize;

use crate::program::{Done, Note, Programs, Server, Witness, finish, log_file, playing};
use crate::run;

/// How often, and what of.
#[derive(Debug, Args)]
pub(crate) struct PowerCuts {
    /// How many cuts
    #[arg(long, default_value_t = 100)]
    cuts: u32,
    /// Stop the node by SIGSTOP before each cut
    #[arg(long)]
    stop: bool,
    /// Log each write and sync of the node with strace, and compare the syncs with the files
    #[arg(long)]
    trace: bool,
    /// How many matches, with one player each
    #[arg(long, default_value_t = 4)]
    matches: usize,
    /// Decides the moments
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Use the build without optimization
    #[arg(long)]
    debug: bool,
}

/// Shuts the file system at argv 1 down without flushing (`EXT4_IOC_SHUTDOWN`,
/// `EXT4_GOING_FLAGS_NOLOGFLUSH`) and prints when that began and ended, in microseconds.
const SHUTDOWN: &str = "import fcntl, os, struct, sys, time
disk = os.open(sys.argv[1], os.O_RDONLY)
begun = time.time_ns()
fcntl.ioctl(disk, 0x8004587d, struct.pack('I', 2))
print(begun // 1000, time.time_ns() // 1000)";
/// Size of the file system.
const DISK_MIB: u64 = 256;
/// Nothing in here takes longer than this.
const PATIENCE: Duration = Duration::from_secs(30);
/// What the node is told: everything is kept for the comparison, and matches that are killed again
/// and again are not taken for the cause.
const SETTINGS: &[&str] = &[
    "retention.journal=all",
    "output=durable",
    "checkpoint.every_s=2",
    "recovery.healthy_ms=100",
    "recovery.attempts=1000",
    "log.filter=warn",
];
/// The calls that `--trace` logs.
const CALLS: &str = "trace=pwrite64,fdatasync,fsync,ftruncate";

/// What all cuts together showed.
#[derive(Debug, Default)]
struct Counts {
    /// Durable ticks that witnesses had read before a cut began and that were gone.
    lost: u64,
    /// The same, read after it began.
    lost_after: u64,
    /// Cuts with such a tick.
    cuts_after: u32,
    /// Segment syncs that returned 0 after a cut began.
    late_syncs: u64,
    /// Syncs whose bytes were gone although they returned 0 before the cut began: a lie of the
    /// disk.
    false_syncs: u64,
    /// The same, returned after it began.
    false_late_syncs: u64,
    /// Syncs that were compared with the files.
    syncs: u64,
    /// Declared inputs that were looked up in the journal at the end.
    inputs: u64,
    /// Of those, how many are not in it at their tick.
    inputs_lost: u64,
}

/// Runs the drill and prints what was seen. An error if anything is gone that was declared durable
/// before the cut began.
pub(crate) fn cuts(wanted: &PowerCuts) -> Result<()> {
    ensure!(wanted.cuts > 0 && wanted.matches > 0, "nothing to do");
    let programs = Programs::build(wanted.debug)?;
    let disk = match Disk::mount() {
        Ok(disk) => disk,
        Err(error) => {
            println!(
                "SKIPPED: power cuts need root, loop devices, mkfs.ext4 and python3: {error:#}"
            );
            return Ok(());
        }
    };
    let dir = disk.mount.join("data");
    let mut site = Site { programs: &programs, disk: &disk, dir, trace: wanted.trace, port: 0 };
    let mut server = site.start()?;
    site.port = server.card.listen.port();
    let clients = site.open_matches(wanted.matches)?;
    let witness = Witness::start(&programs, &site.dir, server.card.listen, "player", &clients)?;
    ensure!(
        witness.wait(0, PATIENCE, |notes| playing(notes, wanted.matches) == wanted.matches),
        "not all witnesses play"
    );
    let (mut counts, mut random) = (Counts::default(), wanted.seed);
    // Notes of before the first cut, and what the cuts invalidated: (client, from, to) in
    // microseconds.
    let mut void = Vec::new();
    for number in 1..=wanted.cuts {
        let from = witness.len();
        // A condition would always cut at the same moment of a tick.
        std::thread::sleep(Duration::from_micros(100_000 + below(&mut random, 400_000)));
        if wanted.stop {
            stopped(&server)?;
        }
        let (begun, ended) = disk.shut_down()?;
        // What is on its way to the witnesses arrives.
        std::thread::sleep(Duration::from_millis(40));
        server.kill()?;
        disk.remount()?;
        let syncs = site.syncs()?;
        let before = witness.since(0);
        server = site.start()?;
        let back = witness.len();
        let all_back = |notes: &[Note]| playing(notes, wanted.matches) == wanted.matches;
        ensure!(
            witness.wait(back, PATIENCE, all_back),
            "cut {number}: not all witnesses came back: {:?}",
            witness.since(back).last()
        );
        compare(number, (begun, ended), &before, &witness.since(from), wanted.matches, &mut counts);
        compare_syncs(number, (begun, ended), &syncs, &mut counts);
        void.push(begun);
        if number.is_multiple_of(50) {
            eprintln!("{number} cuts: {counts:?}");
        }
    }
    let notes = witness.since(0);
    drop(witness);
    server.kill()?;
    look_up(&site, &clients, &notes, &void, &mut counts)?;
    println!(
        "{} cuts{}, {} matches: {} durable ticks lost that were read before the cut began; {} that \
         were read after it began, at {} cuts; {} of {} declared inputs are not in the journal",
        wanted.cuts,
        if wanted.stop { " of a stopped node" } else { "" },
        wanted.matches,
        counts.lost,
        counts.lost_after,
        counts.cuts_after,
        counts.inputs_lost,
        counts.inputs,
    );
    if wanted.trace {
        println!(
            "{} syncs of logs compared: {} returned 0 before the cut began and their bytes are \
             gone; {} returned 0 after it began, of which {} lost their bytes",
            counts.syncs, counts.false_syncs, counts.late_syncs, counts.false_late_syncs
        );
    }
    ensure!(
        counts.lost + counts.inputs_lost + counts.false_syncs == 0,
        "something durable was lost"
    );
    Ok(())
}

/// `SplitMix64`, below a bound.
fn below(state: &mut u64, bound: u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % bound.max(1)
}

/// Stops all threads of the node and waits until they stand.
fn stopped(server: &Server) -> Result<()> {
    server.signal(rustix::process::Signal::STOP)?;
    let tasks = PathBuf::from(format!("/proc/{}/task", server.card.pid));
    let begun = std::time::Instant::now();
    loop {
        let mut all = true;
        for task in std::fs::read_dir(&tasks)? {
            // A thread may end while it is looked at.
            let stat = std::fs::read_to_string(task?.path().join("stat")).unwrap_or_default();
            let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next());
            all &= matches!(state, None | Some('T' | 't'));
        }
        if all {
            return Ok(());
        }
        ensure!(begun.elapsed() < PATIENCE, "the node does not stop");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// For each match, the newest durable tick that was read before the cut, and after it, against the
/// tick at which the match went on.
fn compare(
    number: u32,
    (begun, ended): (u64, u64),
    before: &[Note],
    since: &[Note],
    matches: usize,
    counts: &mut Counts,
) {
    let mut after = 0;
    for client in 0..matches {
        let declared = |late: bool| {
            let newest = before.iter().filter_map(|note| match note {
                Note::Seen { us, client: number, durable, .. }
                    if *number == client && (*us >= begun) == late =>
                {
                    Some((*durable, *us))
                }
                _ => None,
            });
            newest.max()
        };
        let resumed = since.iter().find_map(|note| match note {
            Note::Back { us, client: number, tick, .. } if *number == client && *us > ended => {
                Some(*tick)
            }
            _ => None,
        });
        let Some(resumed) = resumed else { continue };
        for (late, newest) in [(false, declared(false)), (true, declared(true))] {
            let Some((durable, read)) = newest.filter(|(durable, _)| *durable > resumed) else {
                continue;
            };
            let gone = durable - resumed;
            if late {
                counts.lost_after += gone;
                after = 1;
            } else {
                counts.lost += gone;
            }
            println!(
                "cut {number}, match {client}: durable {durable} was read {} us after the cut \
                 began ({} us before it ended), the match went on at {resumed}",
                i128::from(read) - i128::from(begun),
                i128::from(ended) - i128::from(read)
            );
        }
    }
    counts.cuts_after += after;
}

/// Looks every declared input up in the journal of its match, but those that were read between a
/// cut and the next welcome.
fn look_up(
    site: &Site<'_>,
    clients: &[(String, String)],
    notes: &[Note],
    cuts: &[u64],
    counts: &mut Counts,
) -> Result<()> {
    #[derive(Deserialize)]
    struct Line {
        kind: String,
        tick: u64,
        #[serde(default)]
        session: String,
        #[serde(default)]
        seq: u64,
    }
    for (client, (_, match_id)) in clients.iter().enumerate() {
        let out =
            site.programs.command(&site.dir, &["journal", match_id, "--json"], PATIENCE * 4)?;
        ensure!(out.code == Some(0), "journal ended with {:?}: {}", out.code, out.text);
        let lines = out.text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
        let applied: BTreeMap<(String, u64), u64> = lines
            .filter(|line| line.kind == "input")
            .map(|line| ((line.session, line.seq), line.tick))
            .collect();
        ensure!(
            !applied.is_empty(),
            "match {match_id} has no inputs: {}",
            out.text.lines().next().unwrap_or_default()
        );
        let mut session = String::new();
        let mut waiting: BTreeMap<u64, u64> = BTreeMap::new();
        let mut proven = true;
        let mut cuts = cuts.iter().peekable();
        for note in notes.iter().filter(|note| note.client() == client) {
            match note {
                Note::Back { us, session: name, .. } => {
                    while cuts.next_if(|cut| *us >= **cut).is_some() {}
                    proven = true;
                    waiting.clear();
                    session.clone_from(name);
                }
                Note::Seen { us, durable, applied: inputs, .. } => {
                    while cuts.next_if(|cut| *us >= **cut).is_some() {
                        proven = false;
                    }
                    waiting.extend(inputs.iter().copied());
                    let decided: Vec<u64> = waiting
                        .iter()
                        .filter(|(_, tick)| *tick <= durable)
                        .map(|(seq, _)| *seq)
                        .collect();
                    for seq in decided {
                        let Some(tick) = waiting.remove(&seq) else { continue };
                        if !proven {
                            continue;
                        }
                        counts.inputs += 1;
                        if applied.get(&(session.clone(), seq)) != Some(&tick) {
                            counts.inputs_lost += 1;
                            println!(
                                "match {match_id}: input {seq} was declared durable at tick \
                                 {tick}; the journal has it at {:?}",
                                applied.get(&(session.clone(), seq))
                            );
                        }
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Where the node lives.
struct Site<'a> {
    programs: &'a Programs,
    disk: &'a Disk,
    dir: PathBuf,
    trace: bool,
    port: u16,
}

/// One sync of a segment: when it began and returned, what it returned, how long the file was.
#[derive(Debug, PartialEq, Eq)]
struct Sync {
    path: PathBuf,
    len: u64,
    begun: u64,
    ended: u64,
    ok: bool,
}

impl Site<'_> {
    fn traced(&self) -> PathBuf {
        self.disk.folder.join("trace")
    }

    fn start(&self) -> Result<Server> {
        let trace = self.traced();
        let trace = trace.to_str().context("the path is no text")?;
        let strace = [
            "strace",
            "-f",
            "-y",
            "-ttt",
            "-T",
            "-s",
            "0",
            "--seccomp-bpf",
            "-e",
            CALLS,
            "-e",
            "signal=none",
            "-o",
            trace,
        ];
        let mut command = self.programs.rekindle(if self.trace { &strace } else { &[] }, &self.dir);
        command.args([
            "--listen",
            &format!("127.0.0.1:{}", self.port),
            "--admin",
            "127.0.0.1:0",
            "--log",
            "json",
        ]);
        command
            .args(SETTINGS.iter().flat_map(|setting| ["--set", setting]))
            .args(["start", "--until-stdin-closes"])
            .stderr(log_file(&self.disk.folder.join("node.log"))?);
        Server::ready(&mut command, &self.dir, PATIENCE)
    }

    /// Matches, and a ticket for each: (ticket, match).
    fn open_matches(&self, matches: usize) -> Result<Vec<(String, String)>> {
        (0..matches)
            .map(|number| {
                let config = r#"{"endless": true, "max_players": 4}"#;
                let made = self.programs.command(
                    &self.dir,
                    &["match", "create", "--json", "--game-config", config],
                    PATIENCE,
                )?;
                let player = (number + 1).to_string();
                let ticket = self.programs.command(
                    &self.dir,
                    &["ticket", "issue", "--json", "--player", &player, "--ttl", "86400"],
                    PATIENCE,
                )?;
                Ok((field(&ticket, "ticket")?, field(&made, "id")?))
            })
            .collect()
    }

    /// The syncs of segments in the life of the node that has just ended. Without `--trace`, none.
    fn syncs(&self) -> Result<Vec<Sync>> {
        if !self.trace {
            return Ok(Vec::new());
        }
        let text = std::fs::read_to_string(self.traced()).context("cannot read the trace")?;
        Ok(parse(&text))
    }
}

/// Compares the syncs with how long the files are now.
fn compare_syncs(number: u32, (begun, _): (u64, u64), syncs: &[Sync], counts: &mut Counts) {
    for sync in syncs.iter().filter(|sync| sync.ok) {
        counts.syncs += 1;
        let late = sync.ended >= begun;
        counts.late_syncs += u64::from(late);
        // The restart cuts a torn tail off, but never behind a whole batch.
        let len = std::fs::metadata(&sync.path).map_or(0, |meta| meta.len());
        if sync.len <= len {
            continue;
        }
        if late {
            counts.false_late_syncs += 1;
        } else {
            counts.false_syncs += 1;
        }
        println!(
            "cut {number}: a sync of {} up to {} began {} us and returned 0 {} us after the cut \
             began; the file has {len} bytes",
            sync.path.display(),
            sync.len,
            i128::from(sync.begun) - i128::from(begun),
            i128::from(sync.ended) - i128::from(begun),
        );
    }
}

/// A field of a command's JSON.
fn field(done: &Done, name: &str) -> Result<String> {
    let value =
        done.text.lines().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let field =
        value.as_ref().and_then(|value| value.get(name)).and_then(serde_json::Value::as_str);
    field.map(str::to_owned).with_context(|| format!("no {name} in {}", done.text))
}

/// The syncs of logs' segments in the output of `strace -f -y -ttt -T`. A call that another thread
/// interrupted is in two lines.
fn parse(trace: &str) -> Vec<Sync> {
    let (mut open, mut lens, mut syncs) =
        (BTreeMap::new(), BTreeMap::<PathBuf, u64>::new(), Vec::new());
    for line in trace.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((time, rest)) = rest.trim_start().split_once(' ') else { continue };
        let Some(now) = micros(time) else { continue };
        let (call, begun) = if let Some(call) = rest.strip_suffix(" <unfinished ...>") {
            open.insert(thread, (call.to_owned(), now));
            continue;
        } else if let Some((_, end)) = rest.split_once(" resumed>") {
            let Some((call, begun)) = open.remove(thread) else { continue };
            (call + end, begun)
        } else {
            (rest.to_owned(), now)
        };
        let Some((what, result)) = call.rsplit_once(" = ") else { continue };
        let ok = !result.starts_with('-') && !result.starts_with('?');
        let took = result
            .rsplit_once('<')
            .and_then(|(_, took)| micros(took.trim_end_matches('>')))
            .unwrap_or_default();
        let Some(path) = what
            .split_once('<')
            .and_then(|(_, rest)| rest.split_once('>'))
            .map(|(path, _)| PathBuf::from(path))
        else {
            continue;
        };
        // Segments of checkpoints are removed when newer ones replace them; those of logs stay, for
        // the node keeps its whole journal.
        if path.extension().is_none_or(|end| end != "seg")
            || !path.components().any(|part| part.as_os_str() == "logs")
        {
            continue;
        }
        if what.starts_with("pwrite64") {
            let offset: Option<u64> = what
                .trim_end_matches(')')
                .rsplit(", ")
                .next()
                .and_then(|offset| offset.parse().ok());
            let written: Option<u64> =
                result.split_whitespace().next().and_then(|count| count.parse().ok());
            if let (Some(offset), Some(written)) = (offset, written) {
                lens.insert(path, offset + written);
            }
        } else if what.starts_with("fdatasync") || what.starts_with("fsync") {
            let len = lens.get(&path).copied().unwrap_or_default();
            syncs.push(Sync { path, len, begun, ended: begun + took, ok });
        }
    }
    syncs
}

/// Seconds with a fraction, as microseconds.
fn micros(seconds: &str) -> Option<u64> {
    let (whole, part) = seconds.split_once('.')?;
    Some(
        whole.parse::<u64>().ok()? * 1_000_000
            + format!("{part:0<6}").get(..6)?.parse::<u64>().ok()?,
    )
}

/// A loop-mounted ext4 file system whose power can be cut.
struct Disk {
    folder: PathBuf,
    image: PathBuf,
    mount: PathBuf,
}

impl Disk {
    fn mount() -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("rekindle-cuts-{}", std::process::id()));
        let disk = Self { image: folder.join("disk.img"), mount: folder.join("mnt"), folder };
        std::fs::create_dir_all(&disk.mount)
            .with_context(|| format!("cannot create {}", disk.mount.display()))?;
        std::fs::File::create(&disk.image)
            .and_then(|image| image.set_len(DISK_MIB << 20))
            .context("cannot create the image")?;
        run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&disk.image))?;
        quietly(Command::new("mount").args(["-o", "loop"]).arg(&disk.image).arg(&disk.mount))?;
        Ok(disk)
    }

    /// Cuts the power. When that began and ended, in microseconds since 1970.
    fn shut_down(&self) -> Result<(u64, u64)> {
        let done = quietly(Command::new("python3").args(["-c", SHUTDOWN]).arg(&self.mount))?;
        let times = done
            .text
            .trim()
            .split_once(' ')
            .and_then(|(begun, ended)| Some((begun.parse().ok()?, ended.trim().parse().ok()?)));
        times.with_context(|| format!("no times in {:?}", done.text))
    }

    /// Brings it back.
    fn remount(&self) -> Result<()> {
        quietly(Command::new("umount").arg(&self.mount))?;
        quietly(Command::new("mount").args(["-o", "loop"]).arg(&self.image).arg(&self.mount))
            .map(drop)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = quietly(Command::new("umount").arg(&self.mount));
        if let Err(error) = unmounted.and_then(|_| Ok(std::fs::remove_dir_all(&self.folder)?)) {
            eprintln!("left behind: {}: {error:#}", self.folder.display());
        }
    }
}

/// A command that says nothing unless it fails.
fn quietly(command: &mut Command) -> Result<Done> {
    let done = finish(command, PATIENCE)?;
    if done.code != Some(0) {
        bail!("{command:?} ended with {:?}: {}", done.code, done.text);
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sync_is_read_from_one_line_or_two() {
        let trace = "7 10.000100 pwrite64(12</d/logs/1.seg>, \"\"..., 32, 100) = 32 <0.000010>\n\
                     7 10.000200 fdatasync(12</d/logs/1.seg> <unfinished ...>\n\
                     8 10.000300 fsync(9</d/node.db-wal>) = 0 <0.001000>\n\
                     7 10.002200 <... fdatasync resumed>) = 0 <0.002000>\n\
                     7 10.003000 fdatasync(12</d/logs/1.seg>) = -1 EIO (Input/output \
                     error) <0.000500>\n";
        let sync =
            |begun, ended, ok| Sync { path: "/d/logs/1.seg".into(), len: 132, begun, ended, ok };
        assert_eq!(
            parse(trace),
            [sync(10_000_200, 10_002_200, true), sync(10_003_000, 10_003_500, false)]
        );
    }
}
