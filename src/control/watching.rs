//! What operators look into while matches go on: statistics, values, and events as they come.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use rekindle_admin::events::{EventNews, FollowEvents};
use rekindle_admin::stats::MatchStats;
use rekindle_admin::values::MatchValues;
use rekindle_door::MatchDoor as _;
use rekindle_schema::{MatchId, PlayerId, Tick};
use rekindle_sim::Simulation;

use super::views::{self, NamedViews};
use crate::inspect::events::{Follow, Wanted};
use crate::inspect::stats::stored;
use crate::inspect::tail::Which;
use crate::node::{ControlError, Serving};

/// The statistics of a match.
pub(super) async fn stats(node: &Serving, id: MatchId) -> Result<MatchStats, ControlError> {
    let (game, tick, source, found) = world_of(node, id, |sim| sim.statistics()).await?;
    Ok(views::match_stats((id, game), tick, source, found))
}

/// What the game of a match declares under names.
pub(super) async fn values(node: &Serving, id: MatchId) -> Result<MatchValues, ControlError> {
    let (game, tick, source, found) = world_of(node, id, NamedViews::of).await?;
    Ok(views::match_values((id, game), tick, source, found))
}

/// What `read` says of the world of a match, with its game, the tick after which it stands so, and
/// where it is from: of a match that runs here its own world, of another one that of the store.
async fn world_of<R: Send + 'static>(
    node: &Serving,
    id: MatchId,
    read: fn(&dyn Simulation) -> R,
) -> Result<(String, Tick, &'static str, R), ControlError> {
    let parts = node.parts();
    if let Some(here) = parts.host.find(id)
        && let Some((found, tick)) = here.read(read).await
    {
        return Ok((here.info().game, tick, "memory", found));
    }
    let row = parts.store.leases.get(id).await?;
    let row = row.ok_or_else(|| ControlError::NoMatch(id.to_string()))?;
    let name = row.spec.game.clone();
    let game = parts.games.get(&name).map_err(|_| ControlError::NoGame {
        name: name.clone(),
        known: parts.games.names().collect::<Vec<_>>().join(", "),
    })?;
    let (store, runtime) = (parts.store.clone(), tokio::runtime::Handle::current());
    // It makes ticks: not on a thread that matches, or their connections, need.
    let work = move || runtime.block_on(stored(&store, &row, &*game, read));
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok((tick, found))) => Ok((name, tick, "store", found)),
        Ok(Err(error)) => Err(ControlError::Failed(error.to_string())),
        Err(error) => Err(ControlError::Failed(error.to_string())),
    }
}

/// Events of matches of all nodes, as they come.
pub(super) async fn events(
    node: Arc<Serving>,
    wanted: FollowEvents,
) -> Result<BoxStream<'static, EventNews>, ControlError> {
    let FollowEvents { match_id, game, kinds, player, since_ms } = wanted;
    let parts = node.parts();
    let (which, of) = match (match_id, game) {
        (Some(_), Some(_)) => {
            let words = "`match` and `game` are both given: leave one out".to_owned();
            return Err(ControlError::Invalid(words));
        }
        (Some(text), None) => {
            let id: MatchId = text.parse().map_err(|_| ControlError::NoMatch(text.clone()))?;
            let row = parts.store.leases.get(id).await?;
            let row = row.ok_or(ControlError::NoMatch(text))?;
            (Which::One(id), Some(row.spec.game))
        }
        (None, Some(game)) => (Which::Game(game), None),
        (None, None) => (Which::All, None),
    };
    let kinds = kinds.iter().flat_map(|kinds| kinds.split(',')).map(str::to_owned).collect();
    let wanted = Wanted { which, kinds, player: player.map(PlayerId) };
    wanted
        .check(&parts.games, of.as_deref())
        .map_err(|error| ControlError::Invalid(error.to_string()))?;
    let follow = Follow::begin(parts.store.clone(), parts.games.clone(), wanted, since_ms).await?;
    let stopping = async move { node.draining().await };
    let news = stream::unfold(follow, |mut follow| async move {
        follow.next().await.map(|news| (news, follow))
    });
    Ok(news.take_until(Box::pin(stopping)).boxed())
}
