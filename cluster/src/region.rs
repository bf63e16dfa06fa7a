//! Home regions of matches: nodes take over by themselves only what is at home in their region.
//! Moving a home is an operator's act, because records that the old region acknowledged may not
//! have reached the new one.

use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_schema::{MatchId, Seq, Tick};
use rekindle_store::history::{self, HistoryError, LoadOptions};
use rekindle_store::{Store, StoreError};

use crate::ownership::directory::{self, Updated};

/// What this side of the store has of a match: where it would go on.
#[derive(Debug, Clone)]
pub struct Outlook {
    /// Its row.
    pub lease: MatchLease,
    /// The last record that can be read here, or why none can.
    pub last: Result<LastRecord, HistoryError>,
}

/// Where the records of a match end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRecord {
    /// Its number; 0 if there is none.
    pub seq: Seq,
    /// The tick that the match would go on behind.
    pub tick: Tick,
    /// Wall clock of its owner when it was made, in milliseconds since 1970; 0 if there is none.
    /// What was acknowledged since then and has not arrived here is lost by a promotion.
    pub time_ms: u64,
}

/// Reads what is here of all matches that are at home in `region` and have not ended, ascending by
/// id.
pub async fn survey(store: &Store, region: &str) -> Result<Vec<Outlook>, StoreError> {
    let mut rows = store.leases.matches().await?;
    rows.retain(|row| row.region == region && !matches!(row.state, MatchState::Ended { .. }));
    let histories = history::load_many(store, &rows, &LoadOptions::default()).await;
    let outlook = |(lease, history): (MatchLease, Result<history::History, HistoryError>)| {
        let last = history.map(|history| {
            let checkpoint = history.checkpoint.as_ref().map(|(meta, _)| LastRecord {
                seq: meta.seq,
                tick: meta.tick,
                time_ms: meta.time_ms,
            });
            let frame = history.frames.last().map(|frame| frame.header);
            let frame = frame.map(|header| LastRecord {
                seq: header.seq,
                tick: header.last_tick,
                time_ms: header.time_ms,
            });
            frame.or(checkpoint).unwrap_or(LastRecord { seq: Seq(0), tick: Tick(0), time_ms: 0 })
        });
        Outlook { lease, last }
    };
    Ok(rows.into_iter().zip(histories).map(outlook).collect())
}

/// Makes `to` the home of a match that is at home in `from`. False if somebody has moved or ended
/// it meanwhile. Nodes of `to` then take it over as soon as its owner looks dead to them.
pub async fn move_home(
    store: &Store,
    match_id: MatchId,
    from: &str,
    to: &str,
) -> Result<bool, StoreError> {
    let moved = directory::update(&*store.leases, match_id, |row| {
        let here = row.region == from && !matches!(row.state, MatchState::Ended { .. });
        to.clone_into(&mut row.region);
        here
    });
    Ok(matches!(moved.await?, Updated::Done(_)))
}
