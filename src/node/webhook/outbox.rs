//! The outbox: effects that are still to be posted, as [`Posting`]s in the store's registry.

use bytes::Bytes;
use rekindle_schema::posting::{POSTINGS, Posted, Posting};
use rekindle_schema::record::Effect;
use rekindle_schema::registry::RegistryEntry;
use rekindle_schema::{Incarnation, MatchId};
use rekindle_store::registry::MAX_VALUE;
use rekindle_store::{Store, StoreError};

/// Room in an entry for what is said of the last attempt, in bytes.
const ROOM: usize = 1 << 10;
/// Of what is said of an attempt, so many characters are kept.
const LONGEST: usize = 200;

/// An entry, as it was read.
#[derive(Debug, Clone)]
pub struct Found {
    /// Where.
    pub place: Posted,
    /// The version of the registry's entry: a change raises it by one.
    pub version: u64,
    /// What it says.
    pub entry: Posting,
}

/// An effect that nobody has posted yet. One that is too large for an entry is given up at once,
/// without its payload.
fn new(effect: &Effect, by: Incarnation, now_ms: u64) -> Posting {
    let mut entry = Posting {
        effect: effect.clone(),
        by,
        entered_ms: now_ms,
        attempts: 0,
        due_ms: now_ms,
        last: String::new(),
        given_up: false,
    };
    if entry.encode().len() + ROOM > MAX_VALUE {
        entry.last = format!("its payload of {} bytes is too large", effect.payload.len());
        entry.given_up = true;
        entry.effect.payload = Bytes::new();
    }
    entry
}

/// Enters an effect. One that is there already stays as it is: it is being posted.
pub async fn enter(
    store: &Store,
    webhook: &str,
    match_id: MatchId,
    effect: &Effect,
    (by, now_ms): (Incarnation, u64),
) -> Result<(), StoreError> {
    let place = Posted { webhook: webhook.to_owned(), match_id, id: effect.id };
    let entry = new(effect, by, now_ms);
    if entry.given_up {
        let (tick, ordinal, size) = (effect.id.tick, effect.id.ordinal, effect.payload.len());
        tracing::error!(
            code = "RK-NODE-293", %match_id, %tick, ordinal, kind = effect.kind, size, webhook,
            "an effect is too large for a webhook: the store has it, nobody is sent it"
        );
    }
    let entry = RegistryEntry { name: place.name(), version: 1, value: entry.encode().into() };
    store.registry.put(entry).await.map(|_standing| ())
}

/// All entries of all webhooks, in the order of each match.
pub async fn all(store: &Store) -> Result<Vec<Found>, StoreError> {
    Ok(read(store.registry.list(POSTINGS).await?))
}

/// Those of one match, in its order.
pub async fn lane(
    store: &Store,
    webhook: &str,
    match_id: MatchId,
) -> Result<Vec<Found>, StoreError> {
    Ok(read(store.registry.list(&Posted::of_match(webhook, match_id)).await?))
}

fn read(entries: Vec<RegistryEntry>) -> Vec<Found> {
    let read = |found: RegistryEntry| {
        let entry = Posting::decode(&found.value).ok();
        let known = Posted::parse(&found.name).zip(entry);
        if known.is_none() {
            tracing::warn!(
                code = "RK-NODE-294",
                entry = found.name,
                "an entry of the outbox cannot be read, and is left for a release that can"
            );
        }
        known.map(|(place, entry)| Found { place, version: found.version, entry })
    };
    entries.into_iter().filter_map(read).collect()
}

/// Writes an entry that was changed, unless somebody else has changed it meanwhile.
pub async fn change(store: &Store, found: &Found) -> Result<(), StoreError> {
    let (name, version) = (found.place.name(), found.version + 1);
    let entry = RegistryEntry { name, version, value: found.entry.encode().into() };
    store.registry.put(entry).await.map(|_standing| ())
}

/// Removes an entry, unless somebody else has changed it.
pub async fn remove(store: &Store, found: &Found) -> Result<(), StoreError> {
    store.registry.remove(&found.place.name(), found.version).await.map(|_gone| ())
}

/// Has what was given up, or waits for its next attempt, posted now. What is too large stays given
/// up. Returns how many will be posted.
pub async fn retry(
    store: &Store,
    found: impl Iterator<Item = Found>,
    now_ms: u64,
) -> Result<usize, StoreError> {
    let mut again = 0;
    for mut found in found.filter(|found| found.entry.attempts > 0 || !found.entry.given_up) {
        (found.entry.given_up, found.entry.due_ms) = (false, now_ms);
        found.entry.attempts = 0;
        change(store, &found).await?;
        again += 1;
    }
    Ok(again)
}

/// What an attempt came to, no longer than an entry has room for.
pub fn clipped(words: &str) -> String {
    words.chars().take(LONGEST).collect()
}

/// How it stands with an entry, for people.
pub fn words(entry: &Posting) -> String {
    match (entry.given_up, entry.attempts) {
        (false, 0) => "waiting".to_owned(),
        (false, tried) => format!("waiting, tried {tried} times: {}", entry.last),
        (true, tried) => format!("given up, tried {tried} times: {}", entry.last),
    }
}
