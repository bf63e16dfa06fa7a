//! The world of a match out of the store, for its statistics and values: its newest usable
//! checkpoint, and the ticks behind it made again. For matches that do not run here: ended ones,
//! and those of other nodes.

use rekindle_schema::Tick;
use rekindle_schema::lease::MatchLease;
use rekindle_sim::{GameType, SimError, Simulation};
use rekindle_store::Store;
use rekindle_store::history::{self, HistoryError, LoadOptions};

use super::resim::{self, ResimError};

/// Why they cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum StatsError {
    /// The history cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The game cannot restore its state.
    #[error(transparent)]
    Sim(#[from] SimError),
    /// The game cannot repeat its ticks.
    #[error(transparent)]
    Record(#[from] ResimError),
}

/// What `read` says of the world of a match as it stands in the store, and the tick after which it
/// does. Makes ticks in this thread, as many as a recovery would.
pub async fn stored<R>(
    store: &Store,
    row: &MatchLease,
    game: &dyn GameType,
    read: impl FnOnce(&dyn Simulation) -> R,
) -> Result<(Tick, R), StatsError> {
    let history = history::load(store, row, &LoadOptions::default()).await?;
    let sim = match &history.checkpoint {
        Some((_, state)) => game.restore(state)?,
        None => game.create_at(&row.spec.config, row.spec.seed, row.spec.tick_rate)?,
    };
    let from = sim.tick();
    let behind = history.frames.into_iter().filter(|frame| frame.header.last_tick > from);
    let sim = resim::run(sim, row.match_id, &behind.collect::<Vec<_>>(), |_| true)?;
    Ok((sim.tick(), read(&*sim)))
}
