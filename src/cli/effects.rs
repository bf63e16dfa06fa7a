//! `rekindle effects ls`: what games asked for and was delivered, and what of it is still to be
//! posted by webhooks, read from the store. It asks no node, so it works while one runs and when
//! none does. `rekindle effects retry` has it posted again.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_admin::client::agent;
use rekindle_schema::posting::Posting;
use rekindle_schema::record::{Effect, EffectId};
use rekindle_schema::{Incarnation, MatchId};
use serde_json::json;

use super::args::EffectsCommand;
use super::context::{Context, block_on};
use crate::clock;
use crate::exit::{Exit, Failure};
use crate::hex;
use crate::inspect::pick::{PickError, pick};
use crate::node::keyring;
use crate::node::operator::Operators;
use crate::node::webhook::outbox::{self, Found};
use crate::text::counted;

pub(super) fn run(context: &Context, command: &EffectsCommand) -> Result<Exit, Failure> {
    match command {
        EffectsCommand::Ls { prefix, kind } => list(context, prefix.as_deref(), kind.as_deref()),
        EffectsCommand::Retry { prefix } => retry(context, prefix.as_deref()),
    }
}

/// The match of a prefix, among those whose effects there are.
fn picked(
    prefix: Option<&str>,
    matches: impl Iterator<Item = MatchId>,
) -> Result<Option<MatchId>, Failure> {
    let pick = |prefix: &str| {
        pick(prefix, matches)
            .map_err(|error: PickError| Failure::new(Exit::NotFound, error.to_string()))
    };
    prefix.map(pick).transpose()
}

/// Changes the outbox. It is written down as what nodes are asked to do.
fn retry(context: &Context, prefix: Option<&str>) -> Result<Exit, Failure> {
    context.says_that_no_node_is_asked();
    let again = block_on(async {
        let store = keyring::opened(&context.config.store).await?;
        let found = outbox::all(&store).await?;
        let ids: BTreeSet<MatchId> = found.iter().map(|found| found.place.match_id).collect();
        let wanted = picked(prefix, ids.into_iter())?;
        let found = found
            .into_iter()
            .filter(|found| wanted.is_none_or(|wanted| found.place.match_id == wanted));
        let operators = Operators::new(store.clone(), Incarnation::default());
        let target = wanted.map_or_else(String::new, |wanted| wanted.to_string());
        let action = operators.begin(&agent(), "effects.retry", &target, "").await?;
        let done = outbox::retry(&store, found, clock::now_ms()).await;
        action.end(None, done.as_ref().err().map(ToString::to_string)).await;
        Ok(done?)
    })?;
    context.answer(&json!({ "again": again }), || {
        let what = counted(again, "effect is", "effects are");
        vec![format!("{what} posted again, as soon as a node with the webhook looks")]
    })?;
    Ok(Exit::Done)
}

fn list(context: &Context, prefix: Option<&str>, kind: Option<&str>) -> Result<Exit, Failure> {
    let (mut effects, matches, outbox) = block_on(async {
        let reading = context.reading()?;
        let read = async {
            let store = reading.store().await?;
            let outbox = outbox::all(&store).await?;
            Ok((store.effects.delivered().await?, store.leases.matches().await?, outbox))
        };
        reading.named(read.await)
    })?;
    let mut posts = Posts::new();
    for Found { place, entry, .. } in outbox {
        posts.entry((place.match_id, place.id)).or_default().push((place.webhook, entry));
    }
    if let Some(wanted) = picked(prefix, matches.iter().map(|lease| lease.match_id))? {
        effects.retain(|(id, _)| *id == wanted);
    }
    effects.retain(|(_, effect)| kind.is_none_or(|kind| effect.kind == kind));
    let views: Vec<_> = effects.iter().map(|effect| view(effect, &posts)).collect();
    context.answer(&views, || words(&effects, &posts))?;
    Ok(Exit::Done)
}

/// What webhooks still have to do with effects, by match and id.
type Posts = BTreeMap<(MatchId, EffectId), Vec<(String, Posting)>>;

fn view((match_id, effect): &(MatchId, Effect), posts: &Posts) -> serde_json::Value {
    let left = posts.get(&(*match_id, effect.id)).into_iter().flatten();
    let left = left.map(|(webhook, entry)| {
        json!({
            "webhook": webhook,
            "state": if entry.given_up { "given_up" } else { "waiting" },
            "attempts": entry.attempts,
            "last": entry.last,
            "due_ms": entry.due_ms,
        })
    });
    json!({
        "webhooks": left.collect::<Vec<_>>(),
        "match": match_id.to_string(),
        "tick": effect.id.tick,
        "ordinal": effect.id.ordinal,
        "kind": effect.kind,
        // What `effect_json` wrote is read as JSON by whoever reads this.
        "json": serde_json::from_slice::<serde_json::Value>(&effect.payload).ok(),
        "payload": hex::encode(&effect.payload),
    })
}

fn words(effects: &[(MatchId, Effect)], posts: &Posts) -> Vec<String> {
    if effects.is_empty() {
        return vec!["no effect was delivered".to_owned()];
    }
    let kinds = effects.iter().map(|(_, effect)| effect.kind.chars().count());
    let width = kinds.max().unwrap_or(0).max(12);
    let head = format!("{:<16}  {:>12}  {:<width$}  {}", "MATCH", "EFFECT", "KIND", "PAYLOAD");
    let lines = effects.iter().flat_map(|(match_id, effect)| {
        let id = format!("{}.{}", effect.id.tick, effect.id.ordinal);
        let payload = std::str::from_utf8(&effect.payload)
            .map_or_else(|_| hex::encode(&effect.payload), str::to_owned);
        let line = format!("{match_id}  {id:>12}  {:<width$}  {payload}", effect.kind);
        let left = posts.get(&(*match_id, effect.id)).into_iter().flatten();
        let left =
            left.map(|(webhook, entry)| format!("    webhook {webhook}: {}", outbox::words(entry)));
        std::iter::once(line).chain(left).collect::<Vec<_>>()
    });
    std::iter::once(head).chain(lines).collect()
}
