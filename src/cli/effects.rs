//! `rekindle effects ls`: what games asked for and was delivered, read from the store. It asks no
//! node, so it works while one runs and when none does.

use rekindle_schema::MatchId;
use rekindle_schema::record::Effect;
use serde_json::json;

use super::args::EffectsCommand;
use super::context::{Context, block_on};
use crate::exit::{Exit, Failure};
use crate::hex;
use crate::inspect::pick::{PickError, pick};

pub(super) fn run(context: &Context, command: &EffectsCommand) -> Result<Exit, Failure> {
    let EffectsCommand::Ls { prefix, kind } = command;
    let (mut effects, matches) = block_on(async {
        let reading = context.reading()?;
        let read = async {
            let store = reading.store().await?;
            Ok((store.effects.delivered().await?, store.leases.matches().await?))
        };
        reading.named(read.await)
    })?;
    if let Some(prefix) = prefix {
        let wanted = pick(prefix, matches.iter().map(|lease| lease.match_id))
            .map_err(|error: PickError| Failure::new(Exit::NotFound, error.to_string()))?;
        effects.retain(|(id, _)| *id == wanted);
    }
    effects.retain(|(_, effect)| kind.as_ref().is_none_or(|kind| effect.kind == *kind));
    let views: Vec<_> = effects.iter().map(view).collect();
    context.answer(&views, || words(&effects))?;
    Ok(Exit::Done)
}

fn view((match_id, effect): &(MatchId, Effect)) -> serde_json::Value {
    json!({
        "match": match_id.to_string(),
        "tick": effect.id.tick,
        "ordinal": effect.id.ordinal,
        "kind": effect.kind,
        // What `effect_json` wrote is read as JSON by whoever reads this.
        "json": serde_json::from_slice::<serde_json::Value>(&effect.payload).ok(),
        "payload": hex::encode(&effect.payload),
    })
}

fn words(effects: &[(MatchId, Effect)]) -> Vec<String> {
    if effects.is_empty() {
        return vec!["no effect was delivered".to_owned()];
    }
    let kinds = effects.iter().map(|(_, effect)| effect.kind.chars().count());
    let width = kinds.max().unwrap_or(0).max(12);
    let head = format!("{:<16}  {:>12}  {:<width$}  {}", "MATCH", "EFFECT", "KIND", "PAYLOAD");
    let lines = effects.iter().map(|(match_id, effect)| {
        let id = format!("{}.{}", effect.id.tick, effect.id.ordinal);
        let payload = std::str::from_utf8(&effect.payload)
            .map_or_else(|_| hex::encode(&effect.payload), str::to_owned);
        format!("{match_id}  {id:>12}  {:<width$}  {payload}", effect.kind)
    });
    std::iter::once(head).chain(lines).collect()
}
