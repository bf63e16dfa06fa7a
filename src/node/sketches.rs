//! What a match of this node looks like, for pages that do not know its game.

use std::sync::Arc;

use futures::stream::{self, BoxStream, StreamExt as _};
use rekindle_door::MatchDoor as _;
use rekindle_schema::MatchId;
use rekindle_sim::sketch::Sketch;
use serde::Serialize;

use super::serving::Serving;

/// Most pictures a second.
const A_SECOND: u16 = 20;

/// One picture.
#[derive(Serialize)]
struct Picture {
    tick: u64,
    sketch: Sketch,
}

/// Pictures of a match as JSON, at most [`A_SECOND`]; `None` if it does not run here. A reader that
/// is too slow for the frames of the match loses them, and then sees the stream end.
pub(super) fn of(node: &Serving, match_id: MatchId) -> Option<BoxStream<'static, String>> {
    let host = &node.parts().host;
    let door = host.find(match_id)?;
    let info = door.info();
    let game = Arc::clone(&host.games().get(&info.game).ok()?);
    let every = u64::from((info.tick_rate / A_SECOND).max(1));
    let pictures = stream::unfold(door.subscribe(), move |mut frames| {
        let (game, config) = (Arc::clone(&game), info.config.clone());
        async move {
            loop {
                let frame = frames.recv().await?;
                if !frame.tick.0.is_multiple_of(every) {
                    continue;
                }
                let sketch = game.sketch(&frame.view, &config)?;
                let picture = Picture { tick: frame.tick.0, sketch };
                return Some((serde_json::to_string(&picture).ok()?, frames));
            }
        }
    });
    Some(pictures.boxed())
}
