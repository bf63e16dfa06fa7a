//! Lets the edge see the matches of this node: adapts [`rekindle_actors::MatchHandle`] to the edge's port.
//!
//! The two crates do not know each other, so their message types are alike but not the same. Called by the gateway for every hello and every
//! packet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::future::BoxFuture;
use rekindle_actors::{Host, MatchHandle, MatchPhase};
use rekindle_gateway::port::{Admission, Location, MatchInfo, MatchLink, Matches, Opened, RawInput};
use rekindle_schema::frame::TickFrame;
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{MatchId, PlayerId, SessionId};
use tokio::sync::mpsc;

use super::standing::{Standing, Standings};

/// The matches of this node.
pub struct Links {
    host: Host,
    recovering: Arc<AtomicBool>,
    standings: Arc<Standings>,
}

impl Links {
    /// While `recovering` is set, a match that is not here may still come. Of those that do not run, `standings` says why.
    pub fn new(host: Host, recovering: Arc<AtomicBool>, standings: Arc<Standings>) -> Self {
        Self { host, recovering, standings }
    }
}

impl Links {
    /// The match with room in which most play: strangers meet.
    fn roomy(&self) -> Option<MatchHandle> {
        let matches = self.host.list();
        let open = matches.iter().filter(|status| matches!(status.phase, MatchPhase::Running | MatchPhase::Waiting | MatchPhase::Stalled));
        let best = open.filter(|status| status.sessions < status.max_players).max_by_key(|status| (status.sessions, status.match_id))?;
        self.host.find(best.match_id)
    }
}

impl Matches for Links {
    fn locate(&self, wanted: Option<MatchId>) -> Location {
        let found = match wanted {
            Some(id) => self.host.find(id),
            None => self.roomy(),
        };
        match (found, wanted) {
            // It gives no frames and does not come back by itself: clients that kept knocking would wait for nothing.
            (Some(handle), _) if matches!(handle.phase(), MatchPhase::Parked(_)) => parked(handle.info().match_id),
            (Some(handle), _) => Location::Here(Arc::new(Link(handle))),
            (None, Some(id)) if let Some(standing) = self.standings.of(id) => match standing {
                Standing::Parked(_) => parked(id),
                Standing::Waits(reason, _) => {
                    let words = format!("RK-NODE-137: match {id} waits: this build of the game cannot run it ({reason}): ask the operator");
                    Location::Refused(RefuseCode::Unavailable, words)
                }
                Standing::Recovering => {
                    Location::Refused(RefuseCode::Unavailable, format!("RK-NODE-138: match {id} is about to be recovered; try again"))
                }
            },
            (None, _) if self.recovering.load(Ordering::Acquire) => {
                Location::Refused(RefuseCode::Unavailable, "RK-NODE-030: this node is recovering its matches; try again".to_owned())
            }
            (None, Some(id)) => Location::Refused(RefuseCode::NoMatch, format!("RK-NODE-031: match {id} does not run here")),
            (None, None) => Location::Refused(RefuseCode::Full, "RK-NODE-032: no match here has room for a player".to_owned()),
        }
    }
}

fn parked(id: MatchId) -> Location {
    Location::Refused(RefuseCode::Ended, format!("RK-NODE-034: match {id} is parked after a failure: ask the operator"))
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

    fn open(&self, player: PlayerId, name: String, resume: Option<SessionId>) -> BoxFuture<'_, Result<Opened, (RefuseCode, String)>> {
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
