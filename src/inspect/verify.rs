//! Checks everything that a store holds: each batch, each checkpoint, and each hash by simulating
//! the matches again. Reads only.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rekindle_schema::batch::Frame;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_schema::{BuildId, Tick};
use rekindle_sim::{GameType, Simulation};
use rekindle_store::history::{self, End, HistoryError, Point};
use rekindle_store::{Store, StoreError, chains, witness};
use rekindle_store_local::{LocalStore, Severity};

use super::reach::{self, Reach};
use super::reading::Reading;
use super::report::{MatchReport, Report};
use super::resim::{self, Mismatch, ResimError};
use super::walk;

/// Matches whose records are in memory together: a log is read once for all of them.
const GROUP: usize = 32;

/// How far a verification has come, for a progress bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Files are read.
    Files,
    /// So many ticks of so many of one match are simulated.
    Ticks(u64, u64),
}

/// Checks a store: every byte of its files (or everything that servers give), then its matches.
/// `build` is that of this process; `games` are those that it can simulate.
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
        Some(dir) => audit(dir).or_else(unreadable)?,
        None => Report { remote: true, ..Report::default() },
    };
    match reading.store().await {
        Ok(store) => {
            if report.remote {
                walk::everything(&store, &mut report).await?;
            }
            missing_checkpoints(&store, &mut report).await?;
            if let Err(error) = verify_matches(&store, games, build, &mut report, progress).await {
                report.fault(format!("RK-VERIFY-010: not everything could be simulated: {error}"));
            }
        }
        Err(error) if report.remote => return Err(error),
        Err(error) => {
            report.fault(format!("RK-VERIFY-011: the matches cannot be simulated: {error}"));
        }
    }
    let Report { notes, faults, differs, other_build, .. } = &mut report;
    for words in notes.iter_mut().chain(faults).chain(differs).chain(other_build) {
        *words = reading.real(words);
    }
    Ok(report)
}

/// Checks that what a store holds is whole, byte by byte, without simulating it. `dir` is where a
/// local one lies.
pub async fn bytes(store: &Store, dir: Option<&Path>) -> Result<Report, StoreError> {
    let mut report = if let Some(dir) = dir {
        audit(dir).or_else(unreadable)?
    } else {
        let mut report = Report { remote: true, ..Report::default() };
        walk::everything(store, &mut report).await?;
        report
    };
    missing_checkpoints(store, &mut report).await?;
    Ok(report)
}

/// Checkpoints that nodes had stored and that are not there.
async fn missing_checkpoints(store: &Store, report: &mut Report) -> Result<(), StoreError> {
    for lease in store.leases.nodes().await? {
        if let Some(problem) = witness::missing_checkpoint(store, &lease).await? {
            report.fault(problem);
        }
    }
    Ok(())
}

/// A file without which nothing can be read is damage as any other.
fn unreadable(error: StoreError) -> Result<Report, StoreError> {
    match error {
        StoreError::Corrupt { .. } => {
            Ok(Report { faults: vec![error.to_string()], ..Report::default() })
        }
        other => Err(other),
    }
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
            prepared.push(prepare(store, lease, games, build, report).await?);
        }
        let wanted: Vec<_> =
            prepared.iter().map(|prepared| (prepared.lease, &prepared.points[..], 0)).collect();
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
    doubts: Doubts,
}

/// What this build computes differently than it was recorded, of one match.
#[derive(Debug, Clone, Default)]
struct Doubts {
    count: usize,
    first: Option<String>,
    /// Another build that has a part in the match.
    other: Option<BuildId>,
}

impl Doubts {
    fn add(&mut self, words: impl ToString) {
        self.count += 1;
        self.first.get_or_insert_with(|| words.to_string());
    }

    /// Notes who made something of the match.
    fn made_by(&mut self, maker: BuildId, me: BuildId) {
        if maker != me {
            self.other.get_or_insert(maker);
        }
    }

    /// One line for a match, in the verdict that it belongs to.
    fn tell(self, lease: &MatchLease, build: BuildId, report: &mut Report) {
        let Some(first) = self.first else { return };
        let id = lease.match_id;
        let more =
            if self.count == 1 { String::new() } else { format!(" (and {} more)", self.count - 1) };
        match self.other {
            Some(other) => report.other_build.push(format!(
                "RK-VERIFY-150: match {id} was played by build {other}, and this build, {build}, \
                 does not repeat it: {first}{more}; verify it with \
                 the build that played it"
            )),
            None => report.differs.push(format!(
                "RK-VERIFY-151: match {id} was played by this \
                build, {build}, which does not repeat it: {first}{more}"
            )),
        }
    }
}

async fn prepare<'a>(
    store: &Store,
    lease: &'a MatchLease,
    games: &'a BTreeMap<String, Arc<dyn GameType>>,
    build: BuildId,
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
        report.other_build.push(format!(
            "RK-VERIFY-012: match {id} is of game `{}`, which this build does not have",
            lease.spec.game
        ));
        let (points, checkpoints, doubts) = (Vec::new(), Vec::new(), Doubts::default());
        return Ok(Prepared { lease, game: None, found, points, checkpoints, doubts });
    };
    let mut doubts = Doubts::default();
    let (points, checkpoints) =
        checkpoints(store, lease, (game, build), &mut found, &mut doubts, report)
            .await?
            .into_iter()
            .unzip();
    Ok(Prepared { lease, game: Some(game), found, points, checkpoints, doubts })
}

async fn verify_match(
    store: &Store,
    prepared: &Prepared<'_>,
    reach: Result<Reach<'_>, HistoryError>,
    build: BuildId,
    report: &mut Report,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<MatchReport, StoreError> {
    let Prepared { lease, game, found, checkpoints, doubts, .. } = prepared;
    let (id, mut found, mut doubts) = (lease.match_id, found.clone(), doubts.clone());
    let Some(game) = game else { return Ok(found) };
    let Reach { start, frames, .. } = match reach {
        Ok(reach) => reach,
        Err(HistoryError::Store(error)) if error.is_transient() => return Err(error),
        Err(error) => {
            report.fault(error.to_string());
            return Ok(found);
        }
    };
    if let Some(other) = frames.iter().map(|frame| frame.header.build).find(|&other| other != build)
    {
        report.notes.push(format!(
            "match {id}: its records were made by build {other}, they are \
            simulated by build {build}"
        ));
        doubts.made_by(other, build);
    }
    // Logs are kept from the older of the two restore points on.
    let (kept, _) = store.checkpoints.list(id).await?;
    if let (Some(older), Some(start)) = (chains::restore_points(&kept).1, &start)
        && start.seq > older.tip().seq
        && !matches!(lease.state, MatchState::Ended { .. })
    {
        let (from, begins) = (older.tip().tick, start.tick);
        report.fault(format!(
            "RK-VERIFY-110: match {id}: the records between its older restore point, tick {from}, \
             and tick {begins} are gone: if the newer checkpoints were \
             damaged, it could not be continued; restore the logs from a backup"
        ));
    }
    let sim = match start {
        Some(point) => match point.load(store).await {
            Ok((meta, state)) => {
                found.from_tick = point.tick.0;
                if let Some(mismatch) =
                    resim::contradicted(store, lease, (meta.seq, meta.tick, meta.hash)).await?
                {
                    report.fault(format!(
                        "RK-VERIFY-152: match {id}, the checkpoint contradicts \
                        the journal: {mismatch}"
                    ));
                }
                game.restore(&state).map_err(|error| error.to_string())
            }
            Err(error) => Err(error.to_string()),
        },
        None => game
            .create_at(&lease.spec.config, lease.spec.seed, lease.spec.tick_rate)
            .map_err(|error| error.to_string()),
    };
    match sim {
        Ok(sim) => {
            found.records = frames.len();
            let total = frames.last().map_or(0, |frame| frame.header.last_tick.0);
            let mut seen = Seen { checkpoints, found: &mut found, doubts: &mut doubts, report };
            simulate(sim, lease, &frames, &mut seen, |tick| progress(Progress::Ticks(tick, total)));
        }
        Err(error) if doubts.other.is_some() => doubts.add(format!("it cannot be set up: {error}")),
        Err(error) => report.fault(format!("RK-VERIFY-013: match {id} cannot be set up: {error}")),
    }
    doubts.tell(lease, build, report);
    Ok(found)
}

/// Reads a checkpoint; `None` if it cannot be read, which is a fault unless it `may_be_gone`: what
/// is older than a restore point may have lost its base to trimming.
async fn load_point(
    store: &Store,
    lease: &MatchLease,
    point: &Point,
    may_be_gone: bool,
    place: &str,
    report: &mut Report,
) -> Result<Option<(CheckpointMeta, Bytes)>, StoreError> {
    match point.load(store).await {
        Ok(found) => Ok(Some(found)),
        Err(error @ StoreError::NotFound(_)) if may_be_gone => {
            report.note(format!(
                "match {}, checkpoint at tick {} was passed over: {error}",
                lease.match_id, point.tick
            ));
            Ok(None)
        }
        Err(error @ (StoreError::Corrupt { .. } | StoreError::NotFound(_))) => {
            report.fault(format!("{place}: {error}"));
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Restores every checkpoint of a match, those in the archive included, and compares its hash.
/// Oldest first. Whole is one whose bytes have the hash that its manifest says; a build whose
/// components have changed since gets another hash out of it, and that is no damage.
async fn checkpoints(
    store: &Store,
    lease: &MatchLease,
    (game, build): (&dyn GameType, BuildId),
    found: &mut MatchReport,
    doubts: &mut Doubts,
    report: &mut Report,
) -> Result<Vec<(Point, CheckpointMeta)>, StoreError> {
    let (points, damaged) = history::points(store, lease).await?;
    for error in damaged {
        match error {
            // All bytes were looked at before: damage is among the faults already, the rest of a
            // write that was cut off is none.
            StoreError::Corrupt { .. } => {
                report.note(format!("a checkpoint was passed over: {error}"));
            }
            _ => report.fault(error.to_string()),
        }
    }
    let newest = points.iter().filter(|point| point.is_whole()).map(|point| point.seq).max();
    let mut good = Vec::with_capacity(points.len());
    for point in points {
        let place =
            format!("RK-VERIFY-014: match {}, checkpoint at tick {}", lease.match_id, point.tick);
        let may_be_gone = !point.is_whole() && newest > Some(point.seq);
        let Some((meta, state)) =
            load_point(store, lease, &point, may_be_gone, &place, report).await?
        else {
            continue;
        };
        let stored = game.checkpoint_hash(&state);
        if stored != Some(meta.hash) {
            let stored =
                stored.map_or_else(|| "no state".to_owned(), |hash| format!("hash {hash}"));
            report.fault(format!(
                "{place}: its bytes give {stored}, its manifest says {}",
                meta.hash
            ));
            continue;
        }
        doubts.made_by(meta.build, build);
        match game.restore(&state) {
            Err(error) if meta.build != build => {
                doubts.add(format!(
                    "the checkpoint at tick {} cannot be restored: {error}",
                    meta.tick
                ));
                good.push((point, meta));
            }
            Err(error) => report.fault(format!("{place}: {error}")),
            Ok(sim) if sim.tick() != meta.tick => {
                report.fault(format!("{place}: it restores to tick {}", sim.tick()));
            }
            Ok(sim) if sim.state_hash() != meta.hash => {
                doubts.add(format!(
                    "the checkpoint at tick {} restores to hash {}, its bytes have {}",
                    meta.tick,
                    sim.state_hash(),
                    meta.hash
                ));
                good.push((point, meta));
            }
            Ok(_) => {
                found.checkpoints += 1;
                good.push((point, meta));
            }
        }
    }
    Ok(good)
}

/// What is compared while ticks are made again, and where it is written down.
struct Seen<'a> {
    checkpoints: &'a [CheckpointMeta],
    found: &'a mut MatchReport,
    doubts: &'a mut Doubts,
    report: &'a mut Report,
}

/// Makes all ticks again and compares every beat, and every checkpoint on the way.
fn simulate(
    sim: Box<dyn Simulation>,
    lease: &MatchLease,
    frames: &[Frame],
    seen: &mut Seen<'_>,
    progress: impl Fn(u64),
) {
    let id = lease.match_id;
    let Seen { checkpoints, found, doubts, report } = seen;
    let at: BTreeMap<Tick, &CheckpointMeta> =
        checkpoints.iter().map(|meta| (meta.tick, meta)).collect();
    // Checkpoints that differ wait for the next beat: if that is as it was played, so was all
    // before it, and the checkpoint is wrong.
    let mut pending: Vec<Mismatch> = Vec::new();
    let wrong = |mismatch: Mismatch| format!("RK-VERIFY-015: match {id}, {mismatch}");
    let result = resim::run(sim, id, frames, |moment| {
        let tick = moment.sim.tick();
        found.inputs += moment.step.inputs.len() + moment.step.commands.len();
        for mismatch in moment.beats() {
            found.beats += 1;
            match mismatch {
                Some(mismatch) => {
                    pending.drain(..).chain([mismatch]).for_each(|mismatch| doubts.add(mismatch));
                }
                None => pending.drain(..).for_each(|mismatch| report.fault(wrong(mismatch))),
            }
        }
        if let Some(meta) = at.get(&tick) {
            let computed = moment.sim.state_hash();
            let on_beat = moment.record.flush.beats.iter().find(|beat| beat.tick == tick);
            let mismatch = Mismatch { tick, computed, recorded: meta.hash, by: "checkpoint" };
            match on_beat {
                _ if computed == meta.hash => {}
                Some(beat) if beat.hash == computed => report.fault(wrong(mismatch)),
                Some(_) => doubts.add(mismatch),
                None => pending.push(mismatch),
            }
        }
        if tick.0.is_multiple_of(256) {
            progress(tick.0);
        }
        true
    });
    for mismatch in pending {
        if doubts.count > 0 || doubts.other.is_some() {
            doubts.add(mismatch);
        } else {
            report.fault(wrong(mismatch));
        }
    }
    match result {
        Ok(sim) => {
            found.to_tick = sim.tick().0;
            found.hash = Some(sim.state_hash().to_string());
        }
        Err(error @ ResimError::Sim { .. }) => doubts.add(error),
        Err(error) => report.fault(error.to_string()),
    }
}
