//! Checks everything that a store holds: each batch, each checkpoint, and each hash by simulating the matches again. Reads only.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use rekindle_schema::batch::Frame;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_schema::{BuildId, StateHash, Tick};
use rekindle_sim::{GameType, Simulation};
use rekindle_store::history::{self, End, HistoryError, Point};
use rekindle_store::local::{LocalStore, Severity};
use rekindle_store::{Store, StoreError, witness};
use serde::Serialize;

use super::reach::{self, Reach};
use super::{resim, walk};
use crate::node::boot::Reading;

/// Matches whose records are in memory together: a log is read once for all of them.
const GROUP: usize = 32;

/// What was found in one match.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MatchReport {
    /// 16 hexadecimal digits.
    pub id: String,
    /// The game type.
    pub game: String,
    /// `running`, `parked` or `ended`, as its row says.
    pub state: String,
    /// Its owner's count.
    pub epoch: u64,
    /// The tick at which the simulation began: 0, or that of the oldest checkpoint when earlier records are trimmed.
    pub from_tick: u64,
    /// The last durable tick.
    pub to_tick: u64,
    /// Records read.
    pub records: usize,
    /// Inputs and commands applied.
    pub inputs: usize,
    /// Hash beats that were computed again and compared.
    pub beats: usize,
    /// Checkpoints that were restored and compared, those that are deltas included.
    pub checkpoints: usize,
    /// The state at the end.
    pub hash: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The store is on servers: it was read through them.
    pub remote: bool,
    /// Segment files of logs and checkpoints; of a store on servers: logs.
    pub segments: u64,
    /// Whole batches in them.
    pub batches: u64,
    /// Records in them, of all matches.
    pub records: u64,
    /// Chunks of the archive.
    pub chunks: u64,
    /// Bytes of all segments and chunks.
    pub bytes: u64,
    /// Each match.
    pub matches: Vec<MatchReport>,
    /// What is no fault but worth knowing: a torn tail, another build, a parked match.
    pub notes: Vec<String>,
    /// What is wrong. Empty: all is well.
    pub faults: Vec<String>,
}

/// How far a verification has come, for a progress bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Files are read.
    Files,
    /// So many ticks of so many of one match are simulated.
    Ticks(u64, u64),
}

/// Checks a store: every byte of its files (or everything that servers give), then its matches. `build` is that of this process; `games` are those that it can
/// simulate.
///
/// Damage is collected in the report; an error means that the directory could not be read at all.
pub async fn verify(
    reading: &Reading,
    games: &BTreeMap<String, Arc<dyn GameType>>,
    build: BuildId,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Report, StoreError> {
    progress(Progress::Files);
    let mut report = match reading.dir() {
        Some(dir) => audit(dir)?,
        None => Report { remote: true, ..Report::default() },
    };
    match reading.store().await {
        Ok(store) => {
            if report.remote {
                walk::everything(&store, &mut report).await?;
            }
            for lease in store.leases.nodes().await? {
                if let Some(problem) = witness::missing_checkpoint(&store, &lease).await? {
                    report.fault(problem);
                }
            }
            if let Err(error) = verify_matches(&store, games, build, &mut report, progress).await {
                report.fault(format!("RK-VERIFY-010: not everything could be simulated: {error}"));
            }
        }
        Err(error) if report.remote => return Err(error),
        Err(error) => report.fault(format!("RK-VERIFY-011: the matches cannot be simulated: {error}")),
    }
    for words in report.notes.iter_mut().chain(&mut report.faults) {
        *words = reading.real(words);
    }
    Ok(report)
}

/// Every byte of every file, without looking at what the records mean.
fn audit(dir: &Path) -> Result<Report, StoreError> {
    let audit = LocalStore::audit(dir)?;
    let mut report = Report {
        segments: audit.segments,
        batches: audit.batches,
        records: audit.frames,
        chunks: audit.chunks,
        bytes: audit.bytes,
        ..Report::default()
    };
    for finding in audit.findings {
        let offset = finding.offset.map_or_else(String::new, |offset| format!(" at byte {offset}"));
        let words = format!("{}{offset}: {}", finding.place, finding.problem);
        match finding.severity {
            Severity::Note => report.notes.push(words),
            Severity::Damage => report.fault(words),
        }
    }
    Ok(report)
}

async fn verify_matches(
    store: &Store,
    games: &BTreeMap<String, Arc<dyn GameType>>,
    build: BuildId,
    report: &mut Report,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(), StoreError> {
    for group in store.leases.matches().await?.chunks(GROUP) {
        let mut prepared = Vec::with_capacity(group.len());
        for lease in group {
            prepared.push(prepare(store, lease, games, report).await?);
        }
        let wanted: Vec<_> = prepared.iter().map(|prepared| (prepared.lease, &prepared.points[..])).collect();
        let reaches = reach::longest_each(store, &wanted, End::Newest).await;
        for (prepared, reach) in prepared.iter().zip(reaches) {
            let found = verify_match(store, prepared, reach, build, report, progress).await?;
            report.matches.push(found);
        }
    }
    Ok(())
}

/// A match whose checkpoints were looked at, and whose records are still to be read.
struct Prepared<'a> {
    lease: &'a MatchLease,
    /// `None`: this build does not have it.
    game: Option<&'a dyn GameType>,
    found: MatchReport,
    /// Good checkpoints, and what each was found to be.
    points: Vec<Point>,
    checkpoints: Vec<CheckpointMeta>,
}

async fn prepare<'a>(
    store: &Store,
    lease: &'a MatchLease,
    games: &'a BTreeMap<String, Arc<dyn GameType>>,
    report: &mut Report,
) -> Result<Prepared<'a>, StoreError> {
    let id = lease.match_id;
    let mut found = MatchReport {
        id: id.to_string(),
        game: lease.spec.game.clone(),
        state: match &lease.state {
            MatchState::Running => "running".to_owned(),
            MatchState::Parked { report: why } => {
                report.notes.push(format!("match {id} is parked: {why}"));
                "parked".to_owned()
            }
            MatchState::Ended { .. } => "ended".to_owned(),
        },
        epoch: lease.epoch.0,
        ..MatchReport::default()
    };
    let Some(game) = games.get(&lease.spec.game).map(|game| &**game) else {
        report.fault(format!("RK-VERIFY-012: match {id} is of game `{}`, which this build does not have", lease.spec.game));
        return Ok(Prepared { lease, game: None, found, points: Vec::new(), checkpoints: Vec::new() });
    };
    let (points, checkpoints) = checkpoints(store, lease, game, &mut found, report).await?.into_iter().unzip();
    Ok(Prepared { lease, game: Some(game), found, points, checkpoints })
}

async fn verify_match(
    store: &Store,
    prepared: &Prepared<'_>,
    reach: Result<Reach<'_>, HistoryError>,
    build: BuildId,
    report: &mut Report,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<MatchReport, StoreError> {
    let Prepared { lease, game, found, checkpoints, .. } = prepared;
    let (id, mut found) = (lease.match_id, found.clone());
    let Some(game) = game else { return Ok(found) };
    let Reach { start, frames, .. } = match reach {
        Ok(reach) => reach,
        Err(HistoryError::Store(error)) if error.is_transient() => return Err(error),
        Err(error) => {
            report.fault(error.to_string());
            return Ok(found);
        }
    };
    if let Some(other) = frames.iter().map(|frame| frame.header.build).find(|&other| other != build) {
        report.notes.push(format!("match {id}: its records were made by build {other}, they are simulated by build {build}"));
    }
    let sim = match start {
        Some(point) => point.load(store).await.map_err(|error| error.to_string()).and_then(|(_, state)| {
            found.from_tick = point.tick.0;
            game.restore(&state).map_err(|error| error.to_string())
        }),
        None => game.create(&lease.spec.config, lease.spec.seed).map_err(|error| error.to_string()),
    };
    match sim {
        Ok(sim) => {
            found.records = frames.len();
            let total = frames.last().map_or(0, |frame| frame.header.last_tick.0);
            simulate(sim, lease, &frames, checkpoints, &mut found, report, |tick| progress(Progress::Ticks(tick, total)));
        }
        Err(error) => report.fault(format!("RK-VERIFY-013: match {id} cannot be set up: {error}")),
    }
    Ok(found)
}

/// Restores every checkpoint of a match, those in the archive included, and compares its hash. Oldest first.
async fn checkpoints(
    store: &Store,
    lease: &MatchLease,
    game: &dyn GameType,
    found: &mut MatchReport,
    report: &mut Report,
) -> Result<Vec<(Point, CheckpointMeta)>, StoreError> {
    let (points, damaged) = history::points(store, lease).await?;
    for error in damaged {
        match error {
            // All bytes were looked at before: damage is among the faults already, the rest of a write that was cut off is none.
            StoreError::Corrupt { .. } => report.note(format!("a checkpoint was passed over: {error}")),
            _ => report.fault(error.to_string()),
        }
    }
    let newest = points.iter().filter(|point| point.is_whole()).map(|point| point.seq).max();
    let mut good = Vec::with_capacity(points.len());
    for point in points {
        let place = format!("RK-VERIFY-014: match {}, checkpoint at tick {}", lease.match_id, point.tick);
        let (meta, state) = match point.load(store).await {
            Ok(found) => found,
            // What is older than a restore point may have lost its base to trimming.
            Err(error @ StoreError::NotFound(_)) if !point.is_whole() && newest > Some(point.seq) => {
                report.note(format!("match {}, checkpoint at tick {} was passed over: {error}", lease.match_id, point.tick));
                continue;
            }
            Err(error @ (StoreError::Corrupt { .. } | StoreError::NotFound(_))) => {
                report.fault(format!("{place}: {error}"));
                continue;
            }
            Err(error) => return Err(error),
        };
        match game.restore(&state) {
            Err(error) => report.fault(format!("{place}: {error}")),
            Ok(sim) if sim.tick() != meta.tick => {
                report.fault(format!("{place}: it restores to tick {}", sim.tick()));
            }
            Ok(sim) if sim.state_hash() != meta.hash => {
                report.fault(format!("{place}: it restores to hash {}, its manifest says {}", sim.state_hash(), meta.hash));
            }
            Ok(_) => {
                found.checkpoints += 1;
                good.push((point, meta));
            }
        }
    }
    Ok(good)
}

/// Makes all ticks again and compares every beat, and every checkpoint on the way.
fn simulate(
    sim: Box<dyn Simulation>,
    lease: &MatchLease,
    frames: &[Frame],
    checkpoints: &[CheckpointMeta],
    found: &mut MatchReport,
    report: &mut Report,
    progress: impl Fn(u64),
) {
    let id = lease.match_id;
    let at: BTreeMap<Tick, &CheckpointMeta> = checkpoints.iter().map(|meta| (meta.tick, meta)).collect();
    let mut compare = |what: &str, tick: Tick, computed: StateHash, recorded: StateHash| {
        if computed != recorded {
            report
                .fault(format!("RK-VERIFY-015: match {id}, tick {tick}: the simulation gives hash {computed}, the {what} says {recorded}"));
        }
    };
    let result = resim::run(sim, id, frames, |moment| {
        let tick = moment.sim.tick();
        found.inputs += moment.step.inputs.len() + moment.step.commands.len();
        for beat in moment.record.flush.beats.iter().filter(|beat| beat.tick == tick) {
            found.beats += 1;
            compare("journal", tick, moment.sim.state_hash(), beat.hash);
        }
        if let Some(meta) = at.get(&tick) {
            compare("checkpoint", tick, moment.sim.state_hash(), meta.hash);
        }
        if tick.0.is_multiple_of(256) {
            progress(tick.0);
        }
        true
    });
    match result {
        Ok(sim) => {
            found.to_tick = sim.tick().0;
            found.hash = Some(sim.state_hash().to_string());
        }
        Err(error) => report.fault(error.to_string()),
    }
}

impl Report {
    /// Adds what is worth knowing, once.
    pub(super) fn note(&mut self, words: String) {
        if !self.notes.contains(&words) {
            self.notes.push(words);
        }
    }

    /// Adds what is wrong, once.
    pub(super) fn fault(&mut self, words: String) {
        if !self.faults.contains(&words) {
            self.faults.push(words);
        }
    }

    /// Nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty()
    }
}
