//! Lets the edge find matches: what runs here, what may still come, where the others are and what
//! became of them.
//!
//! Called by the gateway for each hello. The door that it answers with is the running match's own
//! ([`MatchHandle`]).

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use futures::future::BoxFuture;
use rekindle_actors::{Host, MatchHandle, MatchPhase, MatchStatus};
use rekindle_cluster::ownership::standing::Standing;
use rekindle_door::{
    DeskAnswer, DocumentDesk, Location, MatchDoor as _, MatchFinder, Refusal, Wanted,
};
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{Epoch, MatchId, PlayerId};
use rekindle_sim::documents::collection_id;
use rekindle_store::Store;
use tokio::sync::watch;

use super::documents::desk;
use super::lobbies::Lobbies;
use super::standby::known::Addresses;
use super::standing::Standings;
use super::whereabouts::{Lookup, Whereabouts};
use super::{ControlError, Serving};

#[cfg(test)]
mod tests;

/// What a node says that has matches, and none of them with room.
pub(crate) const NO_ROOM: &str = "RK-NODE-032";

/// The matches of this node.
pub struct Links {
    host: Host,
    store: Store,
    recovering: Arc<AtomicBool>,
    standings: Arc<Standings>,
    lookup: Arc<Lookup>,
    /// The collections of the kinds of document that this executable has.
    collections: BTreeSet<MatchId>,
    /// Where players reach the standbys of matches.
    standbys: watch::Receiver<Addresses>,
    /// Finds matches by their properties.
    lobbies: Arc<Lobbies>,
    /// Empty until the node serves.
    node: Arc<OnceLock<Weak<Serving>>>,
}

impl Links {
    /// While `recovering` is set, a match that is not here may still come. Of those that do not
    /// run, `standings` says why; `lookup` finds those of other nodes.
    pub fn new(
        host: Host,
        store: Store,
        recovering: Arc<AtomicBool>,
        standings: Arc<Standings>,
        lookup: Arc<Lookup>,
    ) -> Self {
        let (_, standbys) = watch::channel(Addresses::default());
        let kinds = host.games().collections();
        let collections = kinds.map(|kind| collection_id(&kind.kind)).collect();
        let (lobbies, node) = (Arc::default(), Arc::default());
        Self { host, store, recovering, standings, lookup, collections, standbys, lobbies, node }
    }

    /// The same, for a node that knows who follows its matches.
    #[must_use]
    pub fn followed(self, standbys: watch::Receiver<Addresses>) -> Self {
        Self { standbys, ..self }
    }

    /// The same, for a node that asks others which matches have free seats, and what documents say.
    /// It is entered in `node` once it serves.
    #[must_use]
    pub fn serving(self, lobbies: Arc<Lobbies>, node: Arc<OnceLock<Weak<Serving>>>) -> Self {
        Self { lobbies, node, ..self }
    }
}

impl Links {
    /// The match with room in which most play, of those that are wanted: strangers meet.
    fn roomy(&self, wanted: Wanted<'_>) -> Option<MatchHandle> {
        let open = self.open(wanted.game);
        let best = open
            .iter()
            .filter(|status| status.sessions < status.max_players)
            .filter(|status| {
                let found = || self.host.find(status.match_id);
                wanted.properties.is_empty()
                    || found().is_some_and(|handle| self.is_wanted(&handle, wanted))
            })
            .max_by_key(|status| (status.sessions, status.match_id))?;
        self.host.find(best.match_id)
    }

    /// Whether a match has the properties that are wanted.
    fn is_wanted(&self, handle: &MatchHandle, wanted: Wanted<'_>) -> bool {
        let id = handle.info().match_id;
        self.lobbies.has(id, &handle.spec().config, wanted.properties)
    }

    /// The matches that run here, of this game if one is named.
    fn open(&self, game: Option<&str>) -> Vec<MatchStatus> {
        let mut matches = self.host.list();
        matches.retain(|status| {
            game.is_none_or(|game| status.game == game)
                && status.match_id != collection_id(&status.game)
                && matches!(
                    status.phase,
                    MatchPhase::Running | MatchPhase::Waiting | MatchPhase::Stalled
                )
        });
        matches
    }

    /// Why there is no match with room: all are full, or there is none.
    fn no_room(&self, game: Option<&str>) -> Location {
        let of = game.map_or_else(String::new, |game| format!(" of `{game}`"));
        if self.open(game).is_empty() {
            let words =
                format!("RK-NODE-220: no match{of} runs here: name one, or ask another node");
            refused(RefuseCode::NoMatch, words)
        } else {
            let words = format!("{NO_ROOM}: no match{of} here has room for a player");
            refused(RefuseCode::Full, words)
        }
    }
}

impl DocumentDesk for Links {
    fn ask<'a>(
        &'a self,
        player: PlayerId,
        kind: &'a str,
        json: &'a str,
    ) -> BoxFuture<'a, DeskAnswer> {
        Box::pin(async move {
            match self.node.get().and_then(Weak::upgrade) {
                Some(node) => desk::ask(&node, player, kind, json).await,
                None => desk::refuse(&ControlError::NotReady),
            }
        })
    }
}

impl MatchFinder for Links {
    fn locate(&self, wanted: Wanted<'_>) -> Location {
        let found = match wanted.match_id {
            Some(id) if self.collections.contains(&id) => return collection(id),
            Some(id) => self.host.find(id),
            None => self.roomy(wanted),
        };
        match (found, wanted.match_id) {
            // It gives no frames and does not come back by itself: clients that kept knocking would
            // wait for nothing.
            (Some(handle), _) if matches!(handle.phase(), MatchPhase::Parked(_)) => {
                parked(handle.info().match_id)
            }
            // Its player is there already, or has a ticket for it.
            (Some(handle), Some(id)) if !self.is_wanted(&handle, wanted) => {
                let words = format!(
                    "RK-NODE-244: match {id}, where your ticket or your session leads, has not \
                     the properties that you want"
                );
                refused(RefuseCode::Credential, words)
            }
            (Some(handle), _) => Location::Here(Arc::new(handle)),
            (None, Some(id)) if let Some(standing) = self.standings.of(id) => match standing {
                Standing::Parked(_) => parked(id),
                Standing::Waits(reason, _) => {
                    let words = format!(
                        "RK-NODE-137: match {id} waits: this build of the game cannot run it \
                         ({reason}): ask the operator"
                    );
                    refused(RefuseCode::Unavailable, words)
                }
                Standing::Recovering => refused(
                    RefuseCode::Unavailable,
                    format!("RK-NODE-138: match {id} is about to be recovered; try again"),
                ),
            },
            (None, _) if self.recovering.load(Ordering::Acquire) => refused(
                RefuseCode::Unavailable,
                "RK-NODE-030: this node is recovering its matches; try again",
            ),
            (None, Some(id)) => {
                refused(RefuseCode::NoMatch, format!("RK-NODE-031: match {id} does not run here"))
            }
            (None, None) => self.no_room(wanted.game),
        }
    }

    fn plays_in(&self, player: PlayerId) -> Option<MatchId> {
        self.host.plays_in(player)
    }

    fn owns(&self, match_id: MatchId, epoch: Epoch) -> BoxFuture<'_, bool> {
        // An epoch has one owner.
        Box::pin(async move {
            matches!(self.store.leases.get(match_id).await, Ok(Some(row)) if row.epoch == epoch)
        })
    }

    fn seek<'a>(&'a self, wanted: Wanted<'a>, hops: Option<u8>) -> BoxFuture<'a, Option<Location>> {
        Box::pin(async move {
            // While the directory does not answer, nobody knows.
            if wanted.match_id.is_none() && wanted.is_lobby() {
                return self.lobbies.seek(wanted).await;
            }
            let Some(match_id) = wanted.match_id else {
                let next = self.lookup.next_room(wanted.game, hops?).await.ok()??;
                return Some(Location::Elsewhere(next.players));
            };
            if self.collections.contains(&match_id) {
                return Some(collection(match_id));
            }
            let found = self.lookup.of(match_id).await.ok()?;
            Some(match found {
                Whereabouts::At(owner) if self.standings.is_dead(owner.incarnation) => {
                    orphan(match_id)
                }
                Whereabouts::At(owner) => Location::Elsewhere(owner.players),
                Whereabouts::Here | Whereabouts::Nobody => orphan(match_id),
                Whereabouts::Ended(reason) => refused(RefuseCode::Ended, reason),
                Whereabouts::Parked => parked(match_id),
                Whereabouts::Unknown => refused(
                    RefuseCode::NoMatch,
                    format!("RK-NODE-171: no node of this store has a match {match_id}"),
                ),
            })
        })
    }

    fn nodes(&self) -> watch::Receiver<Vec<String>> {
        self.lookup.addrs()
    }

    fn standbys(&self) -> watch::Receiver<Addresses> {
        self.standbys.clone()
    }

    fn arrivals(&self) -> watch::Receiver<u64> {
        self.host.arrivals()
    }
}

fn orphan(id: MatchId) -> Location {
    refused(
        RefuseCode::Unavailable,
        format!("RK-NODE-170: match {id} is between two owners; try again"),
    )
}

/// Wherever it runs: nobody plays in it.
fn collection(id: MatchId) -> Location {
    refused(
        RefuseCode::NoMatch,
        format!(
            "RK-DOC-124: {id} is a collection of documents, and no match to play in or to watch; \
             `rekindle doc` reads it"
        ),
    )
}

fn refused(code: RefuseCode, words: impl Into<String>) -> Location {
    Location::Refused(Refusal::new(code, words))
}

fn parked(id: MatchId) -> Location {
    refused(
        RefuseCode::Ended,
        format!("RK-NODE-034: match {id} is parked after a failure: ask the operator"),
    )
}
