//! A match as it can be played again in this process: out of a store, or out of a bug report.
//!
//! Called by `rekindle bugreport`, `replay --file` and `why`.

use std::path::Path;

use bytes::Bytes;
use rekindle_schema::Tick;
use rekindle_schema::batch::Frame;
use rekindle_schema::bugreport::BugReport;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::lease::MatchLease;
use rekindle_sim::{GameType, Simulation};
use rekindle_store::Store;
use rekindle_store::history::{self, End, HistoryError, LoadOptions, Point, Start};

use super::reach;
use crate::exit::{Exit, Failure};
use crate::files::About as _;

/// A match from some state on.
pub struct Story {
    /// Its row.
    pub lease: MatchLease,
    /// The state with which it begins; `None`: as the match is set up.
    pub start: Option<(CheckpointMeta, Bytes)>,
    /// The records behind that, without a gap.
    pub frames: Vec<Frame>,
    /// What went wrong without doing harm.
    pub notes: Vec<String>,
}

impl Story {
    /// Out of a store. It begins with the newest state from which on tick `from` can be played
    /// again; if what that needs is no longer kept, as early as it can.
    pub async fn of_store(
        store: &Store,
        lease: MatchLease,
        from: Tick,
        end: End,
    ) -> Result<Self, HistoryError> {
        let (points, damaged) = history::points(store, &lease).await?;
        let mut notes: Vec<String> = damaged.iter().map(ToString::to_string).collect();
        let near = points.iter().filter(|point| point.is_whole() && point.tick < from);
        if let Some(point) = near.max_by_key(|point| point.seq) {
            let options = LoadOptions { start: Start::Seq(point.seq.next()), end };
            match begun(store, &lease, point, &options).await {
                Ok((start, history)) => {
                    notes.extend(history.notes);
                    return Ok(Self { lease, start: Some(start), frames: history.frames, notes });
                }
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => notes.push(error.to_string()),
            }
        }
        let found = reach::longest(store, &lease, &points, end).await?;
        let start = match found.start {
            Some(point) => Some(point.load(store).await?),
            None => None,
        };
        notes.extend(found.notes);
        let frames = found.frames;
        Ok(Self { lease, start, frames, notes })
    }

    /// Out of a store, up to tick `end`: it begins with the oldest state that can be read of those
    /// from tick `tick` on, and before `end`. `None`: there is none.
    pub async fn behind(
        store: &Store,
        lease: &MatchLease,
        tick: Tick,
        end: Tick,
    ) -> Result<Option<Self>, HistoryError> {
        let (points, _) = history::points(store, lease).await?;
        let mut notes = Vec::new();
        let behind = |point: &&Point| point.is_whole() && point.tick >= tick && point.tick < end;
        for point in points.iter().filter(behind) {
            let options = LoadOptions { start: Start::Seq(point.seq.next()), end: End::Tick(end) };
            match begun(store, lease, point, &options).await {
                Ok((start, history)) => {
                    notes.extend(history.notes);
                    let (lease, start, frames) = (lease.clone(), Some(start), history.frames);
                    return Ok(Some(Self { lease, start, frames, notes }));
                }
                Err(error) if error.is_transient() => return Err(error),
                Err(error) => notes.push(error.to_string()),
            }
        }
        Ok(None)
    }

    /// Out of a bug report, which is returned as well for what else it says.
    pub fn of_file(file: &Path) -> Result<(Self, BugReport), Failure> {
        let bytes = std::fs::read(file).about("read", file)?;
        let report = BugReport::decode(&bytes).map_err(|error| {
            let message = format!(
                "RK-CLI-263: {} is no bug report that can be read: {error}; write it again with \
                 `rekindle bugreport MATCH`",
                file.display()
            );
            Failure::new(Exit::Broken, message)
        })?;
        let story = Self {
            lease: report.lease.clone(),
            start: report.start.clone(),
            frames: report.frames.clone(),
            notes: report.notes.clone(),
        };
        Ok((story, report))
    }

    /// The world with which it begins.
    pub fn begin(&self, game: &dyn GameType) -> Result<Box<dyn Simulation>, Failure> {
        let spec = &self.lease.spec;
        Ok(match &self.start {
            Some((_, state)) => game.restore(state)?,
            None => game.create_at(&spec.config, spec.seed, spec.tick_rate)?,
        })
    }

    /// The first tick that can be made again.
    pub fn first_tick(&self) -> Tick {
        self.start.as_ref().map_or(Tick(0), |(meta, _)| meta.tick).next()
    }

    /// The last tick that can be made again, or that of the state if there is none.
    pub fn last_tick(&self) -> Tick {
        let stands_at = self.start.as_ref().map_or(Tick(0), |(meta, _)| meta.tick);
        self.frames.last().map_or(stands_at, |frame| frame.header.last_tick)
    }
}

/// The state of a point, and the records behind it.
async fn begun(
    store: &Store,
    lease: &MatchLease,
    point: &Point,
    options: &LoadOptions,
) -> Result<((CheckpointMeta, Bytes), history::History), HistoryError> {
    let history = history::load(store, lease, options).await?;
    Ok((point.load(store).await?, history))
}
