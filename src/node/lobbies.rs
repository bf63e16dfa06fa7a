//! Matches for clients that look for one by its properties: the one with a free seat in which most
//! play, on whichever node, and if there is none a new one, if the operator lets clients have it
//! made (`lobbies.create`). Called by [`super::links`].
//!
//! What all nodes run is asked for at most once in [`KNOWN_FOR`]. An answer that has become wrong
//! meanwhile sends a client to a node whose match has filled up: that node looks at its own matches
//! first, and sends the client on. A client is told that there is no seat only by an answer from
//! after its question: a match that has come up meanwhile is found.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_actors::Games;
use rekindle_door::{Location, Refusal, Wanted};
use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{Incarnation, MatchId};
use rekindle_sim::documents::collection_id;
use rekindle_sim::{PROPERTIES, Properties, properties_of};
use serde_json::Value as Json;
use tokio::time::Instant;

use super::matches::NewMatch;
use super::whereabouts::Whereabouts;
use super::{ControlError, Serving};
use crate::config::lobbies::Mode;

/// How long it is remembered which matches have free seats.
const KNOWN_FOR: Duration = Duration::from_millis(250);
/// Most matches of which the properties are remembered.
const MAX_KNOWN: usize = 16 << 10;

/// A match that runs somewhere, as its node said a moment ago.
#[derive(Debug, Clone, PartialEq)]
struct Listed {
    match_id: MatchId,
    owner: Incarnation,
    game: String,
    properties: Arc<Properties>,
    players: usize,
    seats: usize,
}

/// What all nodes ran at a time.
#[derive(Debug, Clone)]
struct Listing {
    since: Instant,
    matches: Arc<Vec<Listed>>,
}

/// What was asked for, for as long as it takes.
#[derive(Debug, Clone)]
struct Sought {
    game: String,
    properties: Vec<(String, String)>,
}

impl Sought {
    fn fits(&self, found: &Listed) -> bool {
        found.game == self.game && has(&found.properties, &self.properties)
    }
}

/// Whether all that is wanted is there.
fn has(properties: &Properties, wanted: &[(String, String)]) -> bool {
    wanted.iter().all(|(name, value)| properties.get(name) == Some(value))
}

/// The lobbies of a node.
#[derive(Default)]
pub struct Lobbies {
    modes: Vec<Mode>,
    /// Empty until the node serves.
    node: Arc<OnceLock<Weak<Serving>>>,
    /// Properties of matches, which never change.
    known: Mutex<BTreeMap<MatchId, Arc<Properties>>>,
    /// What all nodes run. Who asks while somebody else does waits for that answer.
    listed: tokio::sync::Mutex<Option<Listing>>,
    /// One match is made at a time: who comes next finds it.
    making: tokio::sync::Mutex<()>,
}

/// Says which of the matches that clients may have made cannot be made, if any.
pub(crate) fn check(modes: &[Mode], games: &Games) -> Result<(), String> {
    let problem = |mode: &Mode| {
        let Ok(game) = games.get(&mode.game) else {
            let known = games.names().collect::<Vec<_>>().join(", ");
            return Some(format!("no game `{}` here; this node has: {known}", mode.game));
        };
        game.config_from_json(&config_of(mode).to_string()).err().map(|error| error.to_string())
    };
    match modes.iter().find_map(problem) {
        Some(problem) => Err(format!("RK-CONFIG-160: lobbies.create: {problem}")),
        None => Ok(()),
    }
}

/// The configuration of a match, its properties in it.
fn config_of(mode: &Mode) -> Json {
    let mut config = mode.config.clone();
    if let Some(keys) = config.as_object_mut().filter(|_| !mode.properties.is_empty()) {
        let texts = mode.properties.clone().into_iter().map(|(name, value)| (name, value.into()));
        keys.insert(PROPERTIES.to_owned(), Json::Object(texts.collect()));
    }
    config
}

impl Lobbies {
    /// For a node, which is entered once it serves.
    pub fn new(modes: Vec<Mode>, node: Arc<OnceLock<Weak<Serving>>>) -> Self {
        Self { modes, node, ..Self::default() }
    }

    /// Whether the match with this configuration has all of these properties.
    pub fn has(&self, id: MatchId, config: &[u8], wanted: &[(String, String)]) -> bool {
        wanted.is_empty() || has(&self.properties(id, config), wanted)
    }

    fn properties(&self, id: MatchId, config: &[u8]) -> Arc<Properties> {
        let mut known = self.known.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        Arc::clone(known.entry(id).or_insert_with(|| Arc::new(properties_of(config))))
    }

    /// Where a match is that a client looks for and that is not here. `None`: nobody knows now.
    pub async fn seek(self: &Arc<Self>, wanted: Wanted<'_>) -> Option<Location> {
        let node = self.node.get()?.upgrade()?;
        let game = wanted.game?.to_owned();
        let sought = Sought { game, properties: wanted.properties.to_vec() };
        let asked = Instant::now();
        let listed = self.listed(&node, asked.checked_sub(KNOWN_FOR)).await.ok()?;
        if let Some(location) = open(&node, &sought, &listed.matches).await {
            return Some(location);
        }
        let fits =
            |mode: &&Mode| mode.game == sought.game && has(&mode.properties, &sought.properties);
        let Some(mode) = self.modes.iter().filter(|_| wanted.create).find(fits).cloned() else {
            return self.refuse(&node, asked, &listed, &sought, wanted.create).await;
        };
        // A task of its own: whoever asked may give up, and no row must be left without its match.
        let lobbies = Arc::clone(self);
        tokio::spawn(async move { lobbies.make(&node, &sought, &mode).await }).await.ok()?
    }

    /// Refuses who asked, unless a match with a free seat has come up since the listing was made.
    async fn refuse(
        &self,
        node: &Serving,
        asked: Instant,
        known: &Listing,
        sought: &Sought,
        create: bool,
    ) -> Option<Location> {
        if known.since < asked {
            tokio::time::sleep_until(known.since + KNOWN_FOR).await;
        }
        let listed = self.listed(node, Some(asked)).await.ok()?;
        match open(node, sought, &listed.matches).await {
            Some(location) => Some(location),
            None => Some(none_open(sought, &listed.matches, create)),
        }
    }

    /// Makes a match, unless one with a free seat has come up.
    async fn make(&self, node: &Serving, sought: &Sought, mode: &Mode) -> Option<Location> {
        let _making = self.making.lock().await;
        let listed = self.listed(node, Some(Instant::now())).await.ok()?;
        if let Some(location) = open(node, sought, &listed.matches).await {
            return Some(location);
        }
        let wanted = NewMatch {
            game: mode.game.clone(),
            config: config_of(mode),
            house_bots: 0,
            seed: None,
            tick_rate: None,
        };
        let made = node.create_match(wanted, None).await;
        *self.listed.lock().await = None;
        match made {
            Ok(report) => {
                tracing::info!(
                    code = "RK-NODE-240", match_id = %report.match_id, game = mode.game,
                    properties = %words(&sought.properties),
                    "a match was made for a player: no other had a free seat"
                );
                at(node, report.match_id).await
            }
            Err(error) => {
                tracing::warn!(
                    code = "RK-NODE-241", game = mode.game, %error,
                    "no match could be made for a player"
                );
                let code = match error {
                    ControlError::Draining => RefuseCode::Draining,
                    ControlError::Forbidden(_) => RefuseCode::Full,
                    _ => RefuseCode::Unavailable,
                };
                let words = "no match could be made for you now: try again";
                Some(Location::Refused(Refusal::new(code, words)))
            }
        }
    }

    /// What all nodes run, or ran at the earliest at the given time.
    async fn listed(
        &self,
        node: &Serving,
        not_before: Option<Instant>,
    ) -> Result<Listing, ControlError> {
        let mut listed = self.listed.lock().await;
        if let Some(known) = listed.as_ref().filter(|known| Some(known.since) >= not_before) {
            return Ok(known.clone());
        }
        let since = Instant::now();
        let (rows, players) =
            tokio::join!(node.parts().store.leases.matches(), node.players_of_all());
        let mut found = Vec::new();
        for row in rows? {
            let Some(&players) = players.get(&row.match_id) else { continue };
            found.extend(self.list(node, row, players));
        }
        let found = Listing { since, matches: Arc::new(found) };
        *listed = Some(found.clone());
        Ok(found)
    }

    /// A row as an entry, if players can join its match.
    fn list(&self, node: &Serving, row: MatchLease, players: u32) -> Option<Listed> {
        let id = row.match_id;
        if row.state != MatchState::Running || id == collection_id(&row.spec.game) {
            return None;
        }
        Some(Listed {
            match_id: id,
            owner: row.incarnation,
            seats: node.seats(&row)?,
            properties: self.properties(id, &row.spec.config),
            game: row.spec.game,
            players: players as usize,
        })
    }
}

/// The match with a free seat in which most play: strangers meet.
async fn open(node: &Serving, sought: &Sought, listed: &[Listed]) -> Option<Location> {
    let free = |found: &&Listed| sought.fits(found) && found.players < found.seats;
    let mut free: Vec<&Listed> = listed.iter().filter(free).collect();
    free.sort_by_key(|found| std::cmp::Reverse((found.players, found.match_id)));
    for found in free {
        // Of its own matches this node knows better.
        if found.owner == node.parts().incarnation && !has_room(node, found.match_id) {
            continue;
        }
        if let Some(location) = at(node, found.match_id).await {
            return Some(location);
        }
    }
    None
}

/// Whether a match of this node has a free seat now.
fn has_room(node: &Serving, id: MatchId) -> bool {
    let statuses = node.parts().host.list().into_iter();
    statuses.filter(|status| status.match_id == id).any(|of| of.sessions < of.max_players)
}

/// Where a match runs now; `None` if nobody runs it.
async fn at(node: &Serving, id: MatchId) -> Option<Location> {
    if let Some(handle) = node.parts().host.find(id) {
        return Some(Location::Here(Arc::new(handle)));
    }
    match node.parts().lookup.of(id).await.ok()? {
        Whereabouts::At(owner) if !node.parts().standings.is_dead(owner.incarnation) => {
            Some(Location::Elsewhere(owner.players))
        }
        _ => None,
    }
}

/// Why there is none: all are full, or there is none at all.
fn none_open(sought: &Sought, listed: &[Listed], create: bool) -> Location {
    let Sought { game, properties } = sought;
    let there = listed.iter().any(|found| sought.fits(found));
    let with =
        if properties.is_empty() { String::new() } else { format!(" with {}", words(properties)) };
    let none = if create { ", and clients can have none made here (lobbies.create)" } else { "" };
    let (code, words) = if there {
        (RefuseCode::Full, format!("RK-NODE-242: no match of `{game}`{with} has a free seat{none}"))
    } else {
        (RefuseCode::NoMatch, format!("RK-NODE-243: no match of `{game}`{with} runs{none}"))
    };
    Location::Refused(Refusal::new(code, words))
}

/// Properties as people write them. They come from a client: what may not be in one is left out.
fn words(properties: &[(String, String)]) -> String {
    let good = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let clean = |text: &str| text.chars().filter(good).collect::<String>();
    let each = properties.iter().map(|(name, value)| format!("{}={}", clean(name), clean(value)));
    each.collect::<Vec<_>>().join(",")
}
