//! `rekindle replay` and `verify`: they read a data directory, whether or not a node runs on it,
//! and write nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use rekindle_schema::batch::Frame;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::MatchLease;
use rekindle_schema::{BuildId, Seq, StateHash, Tick};
use rekindle_sim::{GameType, Simulation};
use rekindle_store::Store;
use rekindle_store::history::{self, End, LoadOptions, Start};
use rekindle_store_open::address::StoreAddress;
use serde_json::json;

use super::args::ReplayArgs;
use super::context::{Context, block_on};
use super::shown::{self, Shown, Way};
use crate::clock;
use crate::exit::{Exit, Failure};
use crate::inspect::pick::pick;
use crate::inspect::reading::Reading;
use crate::inspect::report::Report;
use crate::inspect::resim::{self, Mismatch, Moment};
use crate::inspect::story::Story;
use crate::inspect::verify::{self, Progress};
use crate::moment;
use crate::node::build;
use crate::output;
use crate::text::counted;

pub(super) fn verify(context: &Context, dir: Option<PathBuf>) -> Result<Exit, Failure> {
    let reading = match dir {
        Some(dir) => Reading::of(&StoreAddress::Local(dir))?,
        None => context.reading()?,
    };
    let games: BTreeMap<String, Arc<dyn GameType>> =
        context.games.all().map(|game| (game.name().to_owned(), game)).collect();
    let bar = progress_bar(context.common.json);
    let build = build::of_this_executable()?;
    let progress = |progress: Progress| match progress {
        Progress::Files => bar.set_message("reading files"),
        Progress::Ticks(done, total) => {
            bar.set_message("simulating ticks");
            bar.set_length(total);
            bar.set_position(done);
        }
    };
    let report = reading
        .named(block_on(async { Ok(verify::verify(&reading, &games, build, &progress).await?) }))?;
    bar.finish_and_clear();
    context.answer(&report, || verdict(&report))?;
    // Damage first: what is damaged may well differ, too.
    Ok(match () {
        () if !report.faults.is_empty() => Exit::Broken,
        () if !report.differs.is_empty() => Exit::Differs,
        () if !report.other_build.is_empty() => Exit::OtherBuild,
        () => Exit::Done,
    })
}

fn verdict(report: &Report) -> Vec<String> {
    let mut lines = vec![format!(
        "{} {}, {} batches, {} records, {} archived chunks, {} bytes: every checksum checked",
        report.segments,
        if report.remote { "logs" } else { "segments" },
        report.batches,
        report.records,
        report.chunks,
        report.bytes
    )];
    for found in &report.matches {
        let hash = found.hash.as_deref().map_or("none", |hash| &hash[..16]);
        lines.push(format!(
            "match {} ({}, {}, epoch {}): ticks {} to {} simulated again from {} records, {} \
             inputs; {} beats and {} checkpoints compared; hash {hash}",
            found.id,
            found.game,
            found.state,
            found.epoch,
            found.from_tick,
            found.to_tick,
            found.records,
            found.inputs,
            found.beats,
            found.checkpoints
        ));
    }
    lines.extend(report.notes.iter().map(|note| format!("note: {note}")));
    lines.extend(report.faults.iter().map(|fault| format!("FAULT: {fault}")));
    lines.extend(report.differs.iter().map(|words| format!("DIFFERS: {words}")));
    lines.extend(report.other_build.iter().map(|words| format!("OTHER BUILD: {words}")));
    let sums = [
        (
            report.faults.len(),
            "place",
            "places",
            "damage: stored bytes are not what was written, at",
        ),
        (
            report.differs.len(),
            "match",
            "matches",
            "a difference in play: this build does not repeat what it played, in",
        ),
        (
            report.other_build.len(),
            "match",
            "matches",
            "another build: nothing stored is known to be wrong, but only the build that played \
             can repeat",
        ),
    ];
    let sums = sums.into_iter().filter(|(count, ..)| *count > 0);
    lines.extend(
        sums.map(|(count, one, many, words)| format!("{words} {}", counted(count, one, many))),
    );
    if report.is_clean() {
        lines.push("all is well".to_owned());
    }
    lines
}

/// A moment that was typed, in milliseconds since 1970.
pub(super) fn when(text: &str) -> Result<u64, Failure> {
    moment::parse(text, clock::now_ms())
        .map_err(|error| Failure::new(Exit::Usage, error.to_string()))
}

/// How many ticks behind the goal a beat is looked for that says whether the state at the goal is
/// what was played.
const BEYOND: u64 = 600;

pub(super) fn replay(context: &Context, args: &ReplayArgs) -> Result<Exit, Failure> {
    match (&args.file, &args.prefix) {
        (Some(file), _) => replay_file(context, file, args),
        (None, prefix) => {
            let at = args.at.as_deref().map(when).transpose()?;
            replay_stored(context, prefix.as_deref().unwrap_or_default(), args, at)
        }
    }
}

/// Replays the match of a bug report.
fn replay_file(context: &Context, file: &Path, args: &ReplayArgs) -> Result<Exit, Failure> {
    let (story, _) = Story::of_file(file)?;
    let game = context.games.get(&story.lease.spec.game)?;
    let (mut doubts, me) = (Replayed::default(), build::of_this_executable()?);
    if let Some((meta, _)) = &story.start {
        doubts.made_by(meta.build, me);
    }
    story.frames.iter().for_each(|frame| doubts.made_by(frame.header.build, me));
    let sim = story.begin(&*game)?;
    if let Some((meta, _)) = &story.start {
        let (tick, computed, recorded) = (meta.tick, sim.state_hash(), meta.hash);
        let mismatch = Mismatch { tick, computed, recorded, by: "checkpoint" };
        doubts.first = (computed != recorded).then_some(mismatch);
    }
    let (from, goal) = (sim.tick(), args.to.map_or(story.last_tick(), Tick));
    let mut way = Way::begin(&*sim, goal);
    let ran = resim::run(sim, story.lease.match_id, &story.frames, |moment| {
        let beats = doubts.sees(&moment);
        way.sees(&moment) || beats == 0
    });
    let Some(shown) = way.reached else {
        ran?;
        let message = format!(
            "RK-CLI-264: {} has ticks {from} to {}, and not tick {goal}; write it again with \
             `rekindle bugreport MATCH --from {goal}`",
            file.display(),
            story.last_tick()
        );
        return Err(Failure::new(Exit::NotFound, message));
    };
    tell_replayed((context, args.state), &story.lease, (from, None), &doubts, &shown)?;
    doubts.verdict(&story.lease)
}

fn replay_stored(
    context: &Context,
    prefix: &str,
    args: &ReplayArgs,
    at: Option<u64>,
) -> Result<Exit, Failure> {
    let to = args.to;
    let reading = context.reading()?;
    reading.named(block_on(async {
        let store = &reading.store().await?;
        let lease = find(store, prefix).await?;
        let game = context.games.get(&lease.spec.game)?;
        let end = match (at, to) {
            (Some(ms), _) => End::Time(ms),
            (None, Some(tick)) => End::Tick(Tick(tick)),
            (None, None) => End::Newest,
        };
        existed(&lease, at)?;
        let history =
            history::load(store, &lease, &LoadOptions { start: Start::Newest, end }).await?;
        history.notes.iter().for_each(|note| output::note(&reading.real(note)));
        let mut doubts = Replayed::default();
        let me = build::of_this_executable()?;
        let sim =
            begin(store, &lease, &*game, history.checkpoint.as_ref(), &mut doubts, me).await?;
        let from = sim.tick();
        let last = history.frames.last().map(|frame| &frame.header);
        let goal = to.map_or_else(|| last.map_or(from, |header| header.last_tick).max(from), Tick);
        let recorded = last.filter(|_| from < goal).map(|header| moment::show(header.time_ms));
        let mut frames = history.frames;
        if end != End::Newest {
            let next = frames
                .last()
                .map(|frame| frame.header.seq)
                .or(history.checkpoint.as_ref().map(|(meta, _)| meta.seq));
            frames.extend(behind(store, &lease, next.unwrap_or_default(), goal).await);
        }
        frames.retain(|frame| frame.header.last_tick > from);
        for frame in &frames {
            doubts.made_by(frame.header.build, me);
        }
        // The state at the goal; ticks behind it are made until a beat says whether it is what was
        // played.
        let mut way = Way::begin(&*sim, goal);
        let ran = resim::run(sim, lease.match_id, &frames, |moment| {
            let beats = doubts.sees(&moment);
            way.sees(&moment) || beats == 0
        });
        let Some(shown) = way.reached else {
            let end = ran?.tick();
            let message = format!(
                "RK-CLI-013: tick {goal} cannot be reached: the journal of match \
                {} ends at tick {end}",
                lease.match_id
            );
            return Err(Failure::new(Exit::NotFound, message));
        };
        if let Some((meta, _)) =
            history.checkpoint.as_ref().filter(|_| doubts.beats == 0 && doubts.first.is_none())
        {
            doubts.proves(store, &lease, &*game, meta).await?;
        }
        tell_replayed((context, args.state), &lease, (from, recorded), &doubts, &shown)?;
        doubts.verdict(&lease)
    }))
}

/// Refuses a moment at which the match did not exist yet.
fn existed(lease: &MatchLease, at: Option<u64>) -> Result<(), Failure> {
    let Some(ms) = at.filter(|&ms| ms < lease.spec.created_ms) else { return Ok(()) };
    let (asked, created) = (moment::show(ms), moment::show(lease.spec.created_ms));
    let message = format!(
        "RK-CLI-015: match {} did not exist at {asked}: it was created at {created}",
        lease.match_id
    );
    Err(Failure::new(Exit::NotFound, message))
}

/// The world from which a replay goes on: that of the checkpoint, or a new one.
async fn begin(
    store: &Store,
    lease: &MatchLease,
    game: &dyn GameType,
    checkpoint: Option<&(CheckpointMeta, Bytes)>,
    doubts: &mut Replayed,
    me: BuildId,
) -> Result<Box<dyn Simulation>, Failure> {
    let Some((meta, state)) = checkpoint else {
        return Ok(game.create_at(&lease.spec.config, lease.spec.seed, lease.spec.tick_rate)?);
    };
    doubts.made_by(meta.build, me);
    let sim = game.restore(state)?;
    doubts.begins(store, lease, meta, sim.state_hash()).await?;
    Ok(sim)
}

/// Prints the state that a replay reached, in full or in short, and how it was compared. The replay
/// began behind the tick `from`; the goal was recorded at the wall time `recorded`, if that is
/// known.
fn tell_replayed(
    (context, in_full): (&Context, bool),
    lease: &MatchLease,
    (from, recorded): (Tick, Option<String>),
    doubts: &Replayed,
    shown: &Shown,
) -> Result<(), Failure> {
    let Shown { tick, hash, state, values, validations, .. } = shown;
    let value = json!({
        "match": lease.match_id.to_string(), "tick": tick, "from_tick": from, "hash": hash,
        "recorded": recorded, "beats": doubts.beats,
        "differs": doubts.first.map(|mismatch| mismatch.to_string()), "state": state,
        "values": values, "validations": validations,
    });
    let mut lines = if in_full {
        let pretty = serde_json::to_string_pretty(&state)?;
        pretty.lines().map(str::to_owned).collect()
    } else {
        shown.summary()
    };
    let recorded = recorded.map_or_else(String::new, |time| format!(", recorded {time}"));
    context.answer(&value, || {
        let compared = counted(doubts.beats, "beat", "beats");
        lines.push(format!(
            "match {} of {} at tick {tick}: hash {hash}, replayed from tick {from}{recorded}; \
             {compared} compared",
            lease.match_id, lease.spec.game
        ));
        lines.extend(super::values::words(values, validations));
        if !in_full {
            lines.push(shown::hint(state));
        }
        lines
    })
}

/// The records behind `seq` and `goal`, as far as a beat may be in them. What cannot be read there
/// says nothing about what was asked for.
async fn behind(store: &Store, lease: &MatchLease, seq: Seq, goal: Tick) -> Vec<Frame> {
    let options = LoadOptions {
        start: Start::Seq(seq.next()),
        end: End::Tick(Tick(goal.0.saturating_add(BEYOND))),
    };
    history::load(store, lease, &options)
        .await
        .map_or_else(|_| Vec::new(), |history| history.frames)
}

/// What a replay has compared on its way.
#[derive(Default)]
struct Replayed {
    /// Beats that were compared.
    beats: usize,
    /// The first hash that is not what was recorded.
    first: Option<Mismatch>,
    /// It is the checkpoint itself that contradicts the journal.
    damaged: bool,
    /// Another build that has a part in it.
    other: Option<BuildId>,
}

impl Replayed {
    fn made_by(&mut self, maker: BuildId, me: BuildId) {
        if maker != me {
            self.other.get_or_insert(maker);
        }
    }

    /// The state with which it begins: against its manifest, and against the journal.
    async fn begins(
        &mut self,
        store: &Store,
        lease: &MatchLease,
        meta: &CheckpointMeta,
        computed: StateHash,
    ) -> Result<(), Failure> {
        let manifest =
            Mismatch { tick: meta.tick, computed, recorded: meta.hash, by: "checkpoint" };
        let journal = resim::contradicted(store, lease, (meta.seq, meta.tick, meta.hash)).await?;
        self.damaged = journal.is_some();
        self.first = journal.or((computed != meta.hash).then_some(manifest));
        Ok(())
    }

    /// When no beat speaks for the checkpoint with which the replay began, what was before it does:
    /// it is made again from an earlier state.
    async fn proves(
        &mut self,
        store: &Store,
        lease: &MatchLease,
        game: &dyn GameType,
        meta: &CheckpointMeta,
    ) -> Result<(), Failure> {
        let (points, _) = history::points(store, lease).await?;
        let earlier = points
            .iter()
            .filter(|point| point.seq < meta.seq && point.is_whole())
            .max_by_key(|point| point.seq);
        let start = earlier.map_or(Start::Beginning, |point| Start::Seq(point.seq.next()));
        let Ok(history) =
            history::load(store, lease, &LoadOptions { start, end: End::Seq(meta.seq) }).await
        else {
            // The earlier records are no longer kept: then nothing is left that could contradict
            // it.
            return Ok(());
        };
        let sim = match earlier {
            Some(point) => game.restore(&point.load(store).await?.1)?,
            None => game.create_at(&lease.spec.config, lease.spec.seed, lease.spec.tick_rate)?,
        };
        let frames: Vec<Frame> =
            history.frames.into_iter().filter(|frame| frame.header.seq <= meta.seq).collect();
        let sim = resim::run(sim, lease.match_id, &frames, |moment| {
            self.sees(&moment);
            true
        })?;
        if self.first.is_none() && sim.tick() == meta.tick && sim.state_hash() != meta.hash {
            // The beats before it are as they were played, so it is the checkpoint that is wrong.
            self.damaged = self.beats > 0;
            self.first = Some(Mismatch {
                tick: meta.tick,
                computed: sim.state_hash(),
                recorded: meta.hash,
                by: "checkpoint",
            });
        }
        Ok(())
    }

    /// Compares all beats of a tick. Returns how many.
    fn sees(&mut self, moment: &Moment<'_>) -> usize {
        let before = self.beats;
        for mismatch in moment.beats() {
            self.beats += 1;
            self.first = self.first.or(mismatch);
        }
        self.beats - before
    }

    fn verdict(&self, lease: &MatchLease) -> Result<Exit, Failure> {
        let Some(mismatch) = self.first else { return Ok(Exit::Done) };
        let id = lease.match_id;
        Err(match self.other {
            _ if self.damaged => Failure::new(
                Exit::Broken,
                format!(
                    "RK-VERIFY-153: match {id}: the checkpoint of this replay contradicts the \
                     journal, so the state above is wrong: {mismatch}; run `rekindle verify`"
                ),
            ),
            Some(other) => Failure::new(
                Exit::OtherBuild,
                format!(
                    "RK-VERIFY-154: match {id} was played by build {other}, and the state above is \
                     not what was played: {mismatch}; replay it with the build that played it"
                ),
            ),
            None => Failure::new(
                Exit::Differs,
                format!(
                    "RK-VERIFY-155: match {id}: the state above is not what was played: \
                     {mismatch}; run `rekindle verify`"
                ),
            ),
        })
    }
}

pub(super) async fn find(store: &Store, prefix: &str) -> Result<MatchLease, Failure> {
    let leases = store.leases.matches().await?;
    let id = pick(prefix, leases.iter().map(|lease| lease.match_id))
        .map_err(|error| Failure::new(Exit::NotFound, error.to_string()))?;
    let found = leases.into_iter().find(|lease| lease.match_id == id);
    found.ok_or_else(|| Failure::new(Exit::NotFound, format!("RK-CLI-014: match {id} is gone")))
}

/// On a terminal only; elsewhere it draws nothing.
pub(super) fn progress_bar(quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg:18} {bar:40} {percent:>3} %  {eta} left")
    {
        bar.set_style(style);
    }
    bar
}
