//! Matches for clients that look for one by its properties: the one with a free seat in which most
//! play, on whichever node, and if there is none a new one, if the operator lets clients have it
//! made (`lobbies.create`). Called by [`super::links`], and by `placing` for other nodes.
//!
//! Matches of one kind are made by one node, which all nodes compute alike, one after the other: so
//! clients that ask several nodes in the same moment meet.
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
use rekindle_cluster::placement;
use rekindle_door::{Location, Refusal, Wanted};
use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_schema::mix::{STEP, mix};
use rekindle_schema::peer::{PeerReply, PeerRequest};
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{Incarnation, MatchId};
use rekindle_sim::documents::collection_id;
use rekindle_sim::{PROPERTIES, Properties, properties_of};
use serde_json::Value as Json;
use tokio::time::Instant;

use super::matches::NewMatch;
use super::serving::Parts;
use super::whereabouts::Whereabouts;
use super::{ControlError, Serving};
use crate::config::lobbies::Mode;
use crate::text;

/// How long it is remembered which matches have free seats.
const KNOWN_FOR: Duration = Duration::from_millis(250);
/// How long another node may take to make a match.
const PATIENCE: Duration = Duration::from_secs(3);
/// Most other nodes that are asked to make one.
const MOST_ASKED: usize = 2;
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
    /// Another node is asked for one at a time. Not held by what others ask for, so that two nodes
    /// never wait for each other.
    asking: tokio::sync::Mutex<()>,
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
        if let Some((_, location)) = open(&node, &sought, &listed.matches).await {
            return Some(location);
        }
        let Some(mode) = self.mode(&sought).filter(|_| wanted.create).cloned() else {
            return self.refuse(&node, asked, &listed, &sought, wanted.create).await;
        };
        // A task of its own: whoever asked may give up, and no row must be left without its match.
        let lobbies = Arc::clone(self);
        tokio::spawn(async move { lobbies.have_made(&node, &sought, &mode).await }).await.ok()?
    }

    /// Has a match made by the node that all nodes name for matches of this mode, so that clients
    /// that ask several nodes in the same moment meet; by this one if that does not make it.
    async fn have_made(&self, node: &Serving, sought: &Sought, mode: &Mode) -> Option<Location> {
        let me = node.parts().incarnation;
        let makers: Vec<Incarnation> =
            makers(node, mode).into_iter().take_while(|maker| *maker != me).collect();
        if !makers.is_empty() {
            let _asking = self.asking.lock().await;
            let listed = self.listed(node, Some(Instant::now())).await.ok()?;
            if let Some((_, location)) = open(node, sought, &listed.matches).await {
                return Some(location);
            }
            for maker in makers.into_iter().take(MOST_ASKED) {
                let made = ask(node, maker, sought).await;
                if let Some(id) = made
                    && let Some(location) = at(node, id).await
                {
                    return Some(location);
                }
            }
        }
        match self.make(node, sought, mode).await? {
            Ok((_, location)) => Some(location),
            Err(refusal) => Some(Location::Refused(refusal)),
        }
    }

    /// For another node, at which a client asks: the match that it gets. In words, why it gets
    /// none.
    pub(super) async fn make_for(
        self: Arc<Self>,
        node: Arc<Serving>,
        game: String,
        properties: Vec<(String, String)>,
    ) -> Result<MatchId, String> {
        let sought = Sought { game, properties };
        let Some(mode) = self.mode(&sought).cloned() else {
            return Err(format!(
                "RK-NODE-245: clients can have no match of `{}` with {} made here \
                 (lobbies.create)",
                text::plain(&sought.game),
                words(&sought.properties)
            ));
        };
        // A task of its own: whoever asked may give up, and no row must be left without its match.
        let making = tokio::spawn(async move { self.make(&node, &sought, &mode).await });
        match making.await {
            Ok(Some(Ok((id, _)))) => Ok(id),
            Ok(Some(Err(refusal))) => Err(refusal.words),
            Ok(None) => Err("the store does not say which matches there are".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The first match with what is sought that clients may have made.
    fn mode(&self, sought: &Sought) -> Option<&Mode> {
        let fits =
            |mode: &&Mode| mode.game == sought.game && has(&mode.properties, &sought.properties);
        self.modes.iter().find(fits)
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
            Some((_, location)) => Some(location),
            None => Some(none_open(sought, &listed.matches, create)),
        }
    }

    /// Makes a match, unless one with a free seat has come up. `None`: nobody knows now.
    async fn make(
        &self,
        node: &Serving,
        sought: &Sought,
        mode: &Mode,
    ) -> Option<Result<(MatchId, Location), Refusal>> {
        let _making = self.making.lock().await;
        let listed = self.listed(node, Some(Instant::now())).await.ok()?;
        if let Some(found) = open(node, sought, &listed.matches).await {
            return Some(Ok(found));
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
                Some(Ok((report.match_id, at(node, report.match_id).await?)))
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
                Some(Err(Refusal::new(code, words)))
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
async fn open(node: &Serving, sought: &Sought, listed: &[Listed]) -> Option<(MatchId, Location)> {
    let free = |found: &&Listed| sought.fits(found) && found.players < found.seats;
    let mut free: Vec<&Listed> = listed.iter().filter(free).collect();
    free.sort_by_key(|found| std::cmp::Reverse((found.players, found.match_id)));
    for found in free {
        // Of its own matches this node knows better.
        if found.owner == node.parts().incarnation && !has_room(node, found.match_id) {
            continue;
        }
        if let Some(location) = at(node, found.match_id).await {
            return Some((found.match_id, location));
        }
    }
    None
}

/// The nodes of this region that take matches, in the order in which they are to make those of a
/// mode. All nodes compute the same.
fn makers(node: &Serving, mode: &Mode) -> Vec<Incarnation> {
    let Parts { members, cluster, config, .. } = node.parts();
    let members = members.all();
    let fit = members.values().filter(|member| {
        member.region == config.node_region
            && !member.draining
            && !cluster.looks_dead(member.incarnation)
    });
    placement::in_order(key(mode), fit.map(|member| member.incarnation))
}

/// A number for matches of a mode, in place of the id that none of them has yet.
fn key(mode: &Mode) -> MatchId {
    let parts = mode.properties.iter().flat_map(|(name, value)| [name, value]);
    let texts = std::iter::once(&mode.game).chain(parts);
    let bytes = texts.flat_map(|text| text.bytes().chain([0]));
    MatchId(bytes.fold(0, |hash: u64, byte| mix(hash.wrapping_add(STEP) ^ u64::from(byte))))
}

/// Has another node make a match, unless one has a free seat. `None`: it did not, or nobody knows.
async fn ask(node: &Serving, maker: Incarnation, sought: &Sought) -> Option<MatchId> {
    let Parts { peers, cluster, .. } = node.parts();
    let Sought { game, properties } = sought.clone();
    let request = PeerRequest::Seek { game, properties };
    let answered = tokio::select! {
        biased;
        answered = peers.call(maker, request, PATIENCE) => answered.map_err(|e| e.to_string()),
        () = cluster.until_dead(maker) => Err("it looks dead".to_owned()),
    };
    let why = match answered {
        Ok(PeerReply::Found { match_id }) => return Some(match_id),
        Ok(PeerReply::Refused { words }) | Err(words) => words,
        Ok(_) => "it answered something else".to_owned(),
    };
    tracing::info!(
        code = "RK-NODE-246", node = %maker, why,
        "a match that a player wants is not made by the node that should: another one makes it"
    );
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
