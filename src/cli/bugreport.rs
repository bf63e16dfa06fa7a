//! `rekindle bugreport`: a match in one file that can be sent to whoever wrote the game. It reads
//! the store, whether or not a node runs on it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rekindle_schema::Tick;
use rekindle_schema::bugreport::BugReport;
use rekindle_schema::lease::MatchState;
use rekindle_store::history::{self, End};
use serde_json::json;

use super::args::BugReportArgs;
use super::context::{Context, block_on};
use super::offline::find;
use crate::config::keys::KEYS;
use crate::exit::{Exit, Failure};
use crate::files::About as _;
use crate::inspect::reading::Reading;
use crate::inspect::story::Story;
use crate::node::build;
use crate::{clock, output, text};

/// How much of a match is in a report at least, unless told otherwise, in seconds of the match.
const RECENT_S: u64 = 60;

pub(super) fn run(context: &Context, args: &BugReportArgs) -> Result<Exit, Failure> {
    let reading = Reading::of(&context.config.store)?;
    let story = reading.named(block_on(async {
        let store = reading.store().await?;
        let lease = find(&store, &args.prefix).await?;
        let (points, _) = history::points(&store, &lease).await?;
        let newest = points.last().map_or(Tick(0), |point| point.tick);
        let recent = newest.0.saturating_sub(RECENT_S * u64::from(lease.spec.tick_rate));
        let from = Tick(args.from.unwrap_or(recent).max(1));
        Ok(Story::of_store(&store, lease, from, End::Newest).await?)
    }))?;
    story.notes.iter().for_each(|note| output::note(&reading.real(note)));
    let (first, last) = (story.first_tick(), story.last_tick());
    if let Some(from) = args.from.filter(|&from| first > Tick(from)) {
        output::note(&format!(
            "the report begins with tick {first}: what is needed to begin with tick {from} is no \
             longer kept"
        ));
    }
    let report = BugReport {
        release: env!("CARGO_PKG_VERSION").to_owned(),
        build: build::of_this_executable()?,
        made_ms: clock::now_ms(),
        lease: story.lease,
        settings: KEYS
            .iter()
            .map(|key| (key.name.to_owned(), context.settings.shown(key)))
            .collect(),
        notes: story.notes.iter().map(|note| reading.real(note)).collect(),
        start: story.start,
        frames: story.frames,
    };
    let id = report.lease.match_id.to_string();
    let path = args.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.rkbug", &id[..8])));
    let bytes = report.encode();
    write(&path, &bytes)?;
    tell(context, &report, &path, (first, last, bytes.len()))?;
    Ok(Exit::Done)
}

/// A new file, which its owner alone can read: names of players, and what they wrote, are in it.
fn write(path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = match opened {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let message = format!(
                "RK-CLI-262: {} exists already; name another file with --out FILE",
                path.display()
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        opened => opened.about("create", path)?,
    };
    file.write_all(bytes).and_then(|()| file.sync_all()).about("write", path)?;
    Ok(())
}

fn tell(
    context: &Context,
    report: &BugReport,
    path: &Path,
    (first, last, bytes): (Tick, Tick, usize),
) -> Result<(), Failure> {
    let BugReport { lease, frames, .. } = report;
    let (state, why) = match &lease.state {
        MatchState::Running => ("running", ""),
        MatchState::Parked { report } => ("parked", &report[..]),
        MatchState::Ended { reason } => ("ended", &reason[..]),
    };
    let value = json!({
        "match": lease.match_id.to_string(), "game": lease.spec.game, "state": state, "why": why,
        "file": path.display().to_string(), "bytes": bytes, "first_tick": first,
        "last_tick": last, "records": frames.len(), "build": report.build.to_string(),
    });
    context.answer(&value, || {
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        vec![
            format!("match {} of {} ({state}{why})", lease.match_id, lease.spec.game),
            format!(
                "{}: ticks {first} to {last}, {} records, {bytes} bytes; names of players and what \
                 they sent are in it, secrets are not",
                path.display(),
                frames.len()
            ),
            format!("  {} replay --file {}", text::program(), path.display()),
            "In a test: Harness::<YourGame>::from_bugreport(include_bytes!(\"..\")).replay()"
                .to_owned(),
        ]
    })
}
