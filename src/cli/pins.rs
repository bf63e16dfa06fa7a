//! `rekindle match pin|unpin|pins`: stretches of matches whose replay is kept. They ask the store,
//! so no node need run; one that runs heeds them with its next housekeeping.

use rekindle_schema::Tick;
use rekindle_schema::archive::Pin;
use rekindle_store::Store;
use rekindle_store::history::{self, End, LoadOptions, Start};
use serde_json::{Value, json};

use super::args::PinArgs;
use super::context::{Context, block_on};
use super::offline::find;
use crate::clock;
use crate::exit::{Exit, Failure};
use crate::inspect::reading::Reading;
use crate::moment;

/// The store itself, not a view of it: pins are written.
async fn open(context: &Context) -> Result<Store, Failure> {
    // It also refuses what is no data directory.
    drop(Reading::of(&context.config.store)?);
    Ok(context.config.store.open().await?)
}

fn value(pin: &Pin) -> Value {
    json!({
        "match": pin.match_id.to_string(), "from": pin.from, "to": pin.to,
        "created": moment::show(pin.created_ms),
    })
}

fn line(pin: &Pin) -> String {
    let to = pin.to.map_or_else(|| "the end".to_owned(), |tick| format!("tick {tick}"));
    format!(
        "match {}: tick {} to {to}, pinned {}",
        pin.match_id,
        pin.from,
        moment::show(pin.created_ms)
    )
}

pub(super) fn pin(context: &Context, args: &PinArgs) -> Result<Exit, Failure> {
    let PinArgs { prefix, from, to } = args;
    if to.is_some_and(|to| to < *from) {
        return Err(Failure::new(
            Exit::Usage,
            format!("RK-CLI-017: --from {from} is behind --to {}", to.unwrap_or_default()),
        ));
    }
    block_on(async {
        let store = open(context).await?;
        let lease = find(&store, prefix).await?;
        let pin = Pin {
            match_id: lease.match_id,
            from: Tick(*from),
            to: to.map(Tick),
            created_ms: clock::now_ms(),
        };
        let before =
            store.archive.pins().await?.into_iter().find(|pin| pin.match_id == lease.match_id);
        store.archive.pin(pin).await?;
        // Looked at behind the pin: nothing that is there now will be removed.
        let start = LoadOptions { start: Start::Newest, end: End::Tick(Tick(*from)) };
        if let Err(error) = history::load(&store, &lease, &start).await {
            match before {
                Some(before) => store.archive.pin(before).await?,
                None => _ = store.archive.unpin(lease.match_id).await?,
            }
            let message = format!(
                "RK-CLI-018: tick {from} of match {} can no longer be replayed, so it is not \
                 pinned: {error}",
                lease.match_id
            );
            return Err(Failure::new(Exit::NotFound, message));
        }
        context.answer(&value(&pin), || vec![line(&pin)])?;
        Ok(Exit::Done)
    })
}

pub(super) fn unpin(context: &Context, prefix: &str) -> Result<Exit, Failure> {
    block_on(async {
        let store = open(context).await?;
        let lease = find(&store, prefix).await?;
        if !store.archive.unpin(lease.match_id).await? {
            let message = format!(
                "RK-CLI-019: match {} is not pinned; `rekindle match pins` lists pins",
                lease.match_id
            );
            return Err(Failure::new(Exit::NotFound, message));
        }
        let value = json!({"match": lease.match_id.to_string(), "unpinned": true});
        context.answer(&value, || vec![format!("match {} is no longer pinned", lease.match_id)])?;
        Ok(Exit::Done)
    })
}

pub(super) fn list(context: &Context) -> Result<Exit, Failure> {
    block_on(async {
        let reading = Reading::of(&context.config.store)?;
        let pins =
            reading.named(async { Ok(reading.store().await?.archive.pins().await?) }.await)?;
        let values: Vec<Value> = pins.iter().map(value).collect();
        context.answer(&values, || {
            if pins.is_empty() {
                vec!["no match is pinned".to_owned()]
            } else {
                pins.iter().map(line).collect()
            }
        })?;
        Ok(Exit::Done)
    })
}
