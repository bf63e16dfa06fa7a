//! Lets the edge see the matches of this node: adapts [`rekindle_actors::MatchHandle`] to the
//! edge's port.
//!
//! The two crates do not know each other, so their message types are alike but not the same. Called
//! by the gateway for every hello and every packet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use rekindle_actors::{Host, MatchHandle, MatchPhase};
use rekindle_cluster::ownership::standing::Standing;
use rekindle_gateway::port::{
    Admission, Location, MatchInfo, MatchLink, Matches, Opened, RawInput, Wanted,
};
use rekindle_schema::frame::TickFrame;
use rekindle_schema::lease::MatchState;
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{Epoch, MatchId, PlayerId, SessionId, StateHash, Tick};
use rekindle_store::Store;
use tokio::sync::mpsc;

use super::standing::Standings;

/// The matches of this node.
pub struct Links {
    host: Host,
    store: Store,
    recovering: Arc<AtomicBool>,
    standings: Arc<Standings>,
}

impl Links {
    /// While `recovering` is set, a match that is not here may still come. Of those that do not
    /// run, `standings` says why.
    pub fn new(
        host: Host,
        store: Store,
        recovering: Arc<AtomicBool>,
        standings: Arc<Standings>,
    ) -> Self {
        Self { host, store, recovering, standings }
    }
}

impl Links {
    /// The match with room in which most play, of this game if one is named: strangers meet.
    fn roomy(&self, game: Option<&str>) -> Option<MatchHandle> {
        let mut matches = self.host.list();
        matches.retain(|status| game.is_none_or(|game| status.game == game));
        let open = matches.iter().filter(|status| {
            matches!(status.phase, MatchPhase::Running | MatchPhase::Waiting | MatchPhase::Stalled)
        });
        let best = open
            .filter(|status| status.sessions < status.max_players)
            .max_by_key(|status| (status.sessions, status.match_id))?;
        self.host.find(best.match_id)
    }
}

impl Matches for Links {
    fn locate(&self, wanted: Wanted<'_>) -> Location {
        let found = match wanted.match_id {
            Some(id) => self.host.find(id),
            None => self.roomy(wanted.game),
        };
        match (found, wanted.match_id) {
            // It gives no frames and does not come back by itself: clients that kept knocking would
            // wait for nothing.
            (Some(handle), _) if matches!(handle.phase(), MatchPhase::Parked(_)) => {
                parked(handle.info().match_id)
            }
            (Some(handle), _) => Location::Here(Arc::new(Link(handle))),
            (None, Some(id)) if let Some(standing) = self.standings.of(id) => match standing {
                Standing::Parked(_) => parked(id),
                Standing::Waits(reason, _) => {
                    let words = format!(
                        "RK-NODE-137: match {id} waits: this build of the game cannot run it \
                         ({reason}): ask the operator"
                    );
                    Location::Refused(RefuseCode::Unavailable, words)
                }
                Standing::Recovering => Location::Refused(
                    RefuseCode::Unavailable,
                    format!("RK-NODE-138: match {id} is about to be recovered; try again"),
                ),
            },
            (None, _) if self.recovering.load(Ordering::Acquire) => Location::Refused(
                RefuseCode::Unavailable,
                "RK-NODE-030: this node is recovering its matches; try again".to_owned(),
            ),
            (None, Some(id)) => Location::Refused(
                RefuseCode::NoMatch,
                format!("RK-NODE-031: match {id} does not run here"),
            ),
            (None, None) => {
                let of = wanted.game.map_or_else(String::new, |game| format!(" of `{game}`"));
                Location::Refused(
                    RefuseCode::Full,
                    format!("RK-NODE-032: no match{of} here has room for a player"),
                )
            }
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

    fn fate(&self, match_id: MatchId) -> BoxFuture<'_, Option<(RefuseCode, String)>> {
        Box::pin(async move {
            // While the directory does not answer, nobody knows.
            let row = self.store.leases.get(match_id).await.ok()??;
            match row.state {
                MatchState::Ended { reason } => Some((RefuseCode::Ended, reason)),
                MatchState::Running | MatchState::Parked { .. } => None,
            }
        })
    }
}

fn parked(id: MatchId) -> Location {
    Location::Refused(
        RefuseCode::Ended,
        format!("RK-NODE-034: match {id} is parked after a failure: ask the operator"),
    )
}

struct Link(MatchHandle);

impl MatchLink for Link {
    fn info(&self) -> MatchInfo {
        let info = self.0.info();
        MatchInfo {
            match_id: info.match_id,
            game: info.game,
            epoch: info.epoch,
            tick: info.tick,
            tick_rate: info.tick_rate,
            schema: info.schema,
            config: info.config,
        }
    }

    fn session_of(&self, player: PlayerId) -> Option<SessionId> {
        self.0.session_of(player)
    }

    fn hash_at(&self, tick: Tick) -> Option<StateHash> {
        self.0.hash_at(tick)
    }

    fn holds_until(&self) -> Option<Tick> {
        self.0.holds_until()
    }

    fn open(
        &self,
        player: PlayerId,
        name: String,
        resume: Option<SessionId>,
    ) -> BoxFuture<'_, Result<Opened, (RefuseCode, String)>> {
        Box::pin(async move {
            let opened = self.0.open(player, name, resume).await?;
            Ok(Opened {
                session: opened.session,
                resumed: opened.resumed,
                next_input: opened.next_input,
                next_command: opened.next_command,
            })
        })
    }

    fn input(&self, input: RawInput) -> Admission {
        let RawInput { session, seq, target, view, payload } = input;
        admission(self.0.input(rekindle_actors::RawInput { session, seq, target, view, payload }))
    }

    fn command(&self, session: SessionId, seq: u64, payload: Bytes) -> Admission {
        admission(self.0.command(session, seq, payload))
    }

    fn close(&self, session: SessionId) {
        self.0.close(session);
    }

    fn away(&self, session: SessionId) {
        self.0.away(session);
    }

    fn back(&self, session: SessionId) {
        self.0.back(session);
    }

    fn subscribe(&self) -> mpsc::Receiver<Arc<TickFrame>> {
        self.0.subscribe()
    }
}

fn admission(outcome: rekindle_actors::Admission) -> Admission {
    use rekindle_actors::Admission as Inner;
    match outcome {
        Inner::Queued => Admission::Queued,
        Inner::Stale => Admission::Stale,
        Inner::OutOfWindow => Admission::OutOfWindow,
        Inner::Malformed => Admission::Malformed,
        Inner::NoSession => Admission::NoSession,
        Inner::Full => Admission::Full,
    }
}
