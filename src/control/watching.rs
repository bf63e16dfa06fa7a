//! What operators look into while matches go on: statistics, and events as they come.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use rekindle_admin::events::{EventNews, FollowEvents};
use rekindle_admin::stats::MatchStats;
use rekindle_door::MatchDoor as _;
use rekindle_schema::{MatchId, PlayerId};

use super::views;
use crate::inspect::events::{Follow, Wanted};
use crate::inspect::stats::stored;
use crate::inspect::tail::Which;
use crate::node::{ControlError, Serving};

/// The statistics of a match: of one that runs here as its world has them, of another one as the
/// store has them.
pub(super) async fn stats(node: &Serving, id: MatchId) -> Result<MatchStats, ControlError> {
    let parts = node.parts();
    if let Some(here) = parts.host.find(id)
        && let Some((found, tick)) = here.read(|sim| sim.statistics()).await
    {
        let game = here.info().game;
        return Ok(views::match_stats((id, game), tick, "memory", found));
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
    let made = tokio::task::spawn_blocking(move || runtime.block_on(stored(&store, &row, &*game)));
    match made.await {
        Ok(Ok((tick, found))) => Ok(views::match_stats((id, name), tick, "store", found)),
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
