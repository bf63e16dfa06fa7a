//! Where a new match runs, and how it comes there. The node that is asked chooses
//! ([`rekindle_cluster::placement`]) and draws the id; the chosen node enters the row and runs the
//! match. A row is entered once, so that whoever asks may ask the next one when the first refuses
//! or is silent: the match is where the row says.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use rekindle_actors::HostError;
use rekindle_cluster::bus::{PeerError, PeerService};
use rekindle_cluster::migration::take::Taking;
use rekindle_schema::lease::{Lineage, MatchLease, MatchSpec, MatchState};
use rekindle_schema::member::Member;
use rekindle_schema::peer::{MAX_PEER_MESSAGE, PeerReply, PeerRequest};
use rekindle_schema::{Epoch, Incarnation, MatchId, Seq};
use tokio::time::Instant;

use super::listing::MatchReport;
use super::matches::NewMatch;
use super::migrate::Chosen;
use super::serving::Parts;
use super::whereabouts::Whereabouts;
use super::{ControlError, Serving};
use crate::clock;

/// How long another node may take to enter a match and begin to run it.
const PATIENCE: Duration = Duration::from_secs(5);
/// How soon a node is asked again that could not be asked, or of which it is unknown whether it has
/// created a match.
pub(super) const ASKED_AGAIN: Duration = Duration::from_millis(100);
/// The longest configuration of a game that goes to another node, in bytes: the rest of a request
/// is short.
const MOST_CONFIG: usize = MAX_PEER_MESSAGE / 2;
/// Most other nodes that are asked for one match.
const MOST_ASKED: usize = 3;

/// What is answered before the node serves.
const STARTING: &str = "RK-PEER-014: this node is starting";

/// What came of asking another node.
enum Asked {
    /// The match runs there.
    Runs,
    /// It does not, and will not.
    Refused(String),
    /// It was not asked: there is no link to it at the moment, or too much waits for it.
    Unreached(String),
    /// Nobody knows: only the row tells.
    Unknown(String),
}

impl Serving {
    /// Creates a match on the node of the name or incarnation `on`, or else on the one of this
    /// region that suits it best.
    pub async fn create_match(
        &self,
        wanted: NewMatch,
        on: Option<&str>,
    ) -> Result<MatchReport, ControlError> {
        if self.is_draining() {
            return Err(ControlError::Draining);
        }
        let (id, spec) = (MatchId(clock::random()), self.spec_of(wanted)?);
        match on {
            Some(on) => self.create_on(id, spec, on).await?,
            None => self.create_somewhere(id, spec).await?,
        }
        self.match_report(id).await
    }

    /// Where players of a match connect: to its node, or to any other, which sends them there.
    pub async fn addresses_of(&self, id: MatchId) -> Result<Vec<String>, ControlError> {
        let (found, here) = self.whereabouts(id).await?;
        let first = match found {
            Whereabouts::Here => Some(here.players),
            Whereabouts::At(owner) => Some(owner.players),
            _ => None,
        };
        let others = self.parts().lookup.addrs().borrow().clone();
        let others = others.into_iter().filter(|address| first.as_ref() != Some(address));
        Ok(first.iter().cloned().chain(others).collect())
    }

    /// Creates a match and runs it on this node.
    pub async fn create_here(&self, wanted: NewMatch) -> Result<MatchReport, ControlError> {
        let (id, spec) = (MatchId(clock::random()), self.spec_of(wanted)?);
        self.enter_here(id, spec).await?;
        self.match_report(id).await
    }

    async fn create_on(&self, id: MatchId, spec: MatchSpec, on: &str) -> Result<(), ControlError> {
        let deadline = Instant::now() + PATIENCE;
        let member = match self.parts().mover.named(on, deadline).await? {
            Chosen::There(member) => member,
            Chosen::Here | Chosen::Nobody => return self.enter_here(id, spec).await,
        };
        if spec.config.len() > MOST_CONFIG {
            return Err(ControlError::Refused(format!(
                "RK-NODE-214: a configuration of {} bytes does not go to another node, \
                 {MOST_CONFIG} do: ask node {on} itself",
                spec.config.len()
            )));
        }
        let mut open = None;
        loop {
            match (self.ask_to_create(&member, id, &spec).await, open.take()) {
                (Asked::Runs, _) => return Ok(()),
                (Asked::Unreached(_), None) if Instant::now() < deadline => {}
                (Asked::Refused(why) | Asked::Unreached(why), None) => {
                    let words = format!("RK-NODE-215: node {on} does not take it: {why}");
                    return Err(ControlError::Refused(words));
                }
                // The first request may be worked on yet: that is why it refuses this one.
                (Asked::Refused(_) | Asked::Unreached(_), Some(why)) | (Asked::Unknown(why), _) => {
                    open = Some(why);
                }
            }
            if self.is_entered(id).await? {
                return Ok(());
            }
            // A link that broke comes back, and a node that was silent for a moment answers.
            let Some(why) = open.as_ref().filter(|_| Instant::now() >= deadline) else {
                tokio::time::sleep(ASKED_AGAIN).await;
                continue;
            };
            return Err(unknown(on, id, why));
        }
    }

    pub(super) async fn create_somewhere(
        &self,
        id: MatchId,
        spec: MatchSpec,
    ) -> Result<(), ControlError> {
        let (mut not, mut silent) = (BTreeSet::<Incarnation>::new(), None);
        while not.len() < MOST_ASKED && spec.config.len() <= MOST_CONFIG {
            let member = match self.parts().mover.choose(id, &not).await? {
                Chosen::There(member) => member,
                Chosen::Here | Chosen::Nobody => break,
            };
            let why = match self.ask_to_create(&member, id, &spec).await {
                Asked::Runs => return Ok(()),
                Asked::Refused(why) | Asked::Unreached(why) => why,
                Asked::Unknown(why) => {
                    silent = Some((member.name.clone(), why.clone()));
                    why
                }
            };
            tracing::info!(
                code = "RK-NODE-217", match_id = %id, node = member.name, why,
                "a new match goes to another node than the one that was chosen"
            );
            not.insert(member.incarnation);
        }
        let Err(error) = self.enter_here(id, spec).await else { return Ok(()) };
        // One that was asked before may have entered it after all.
        if !not.is_empty() && self.is_entered(id).await? {
            return Ok(());
        }
        // One that was silent may do so yet.
        let Some((node, why)) = silent else { return Err(error) };
        Err(unknown(&node, id, &format!("{why}; and this node does not run it: {error}")))
    }

    /// Whether some other node has entered the row of this match.
    async fn is_entered(&self, id: MatchId) -> Result<bool, ControlError> {
        let Parts { store, incarnation, .. } = self.parts();
        Ok(store.leases.get(id).await?.is_some_and(|row| row.incarnation != *incarnation))
    }

    async fn ask_to_create(&self, member: &Member, id: MatchId, spec: &MatchSpec) -> Asked {
        let Parts { peers, cluster, .. } = self.parts();
        let request = PeerRequest::Create { match_id: id, spec: spec.clone() };
        let answered = tokio::select! {
            biased;
            answered = peers.call(member.incarnation, request, PATIENCE) => answered,
            () = cluster.until_dead(member.incarnation) => {
                return Asked::Unknown("it does not answer, and looks dead from here".to_owned());
            }
        };
        match answered {
            Ok(PeerReply::Done) => Asked::Runs,
            Ok(PeerReply::Refused { words }) => Asked::Refused(words),
            Ok(_) => Asked::Unknown("it answered something else".to_owned()),
            Err(error @ PeerError::Unknown(_)) => Asked::Unknown(error.to_string()),
            Err(error @ (PeerError::NoLink(_) | PeerError::Busy(_))) => {
                Asked::Unreached(error.to_string())
            }
            Err(error @ PeerError::Version { .. }) => Asked::Refused(error.to_string()),
        }
    }

    /// Enters the row of a new match and runs it on this node.
    pub(super) async fn enter_here(
        &self,
        match_id: MatchId,
        spec: MatchSpec,
    ) -> Result<(), ControlError> {
        let Parts { config, host, store, incarnation, mover, .. } = self.parts();
        if self.is_draining() {
            return Err(ControlError::Draining);
        }
        if mover.is_drained() {
            return Err(ControlError::Refused(format!(
                "RK-NODE-204: node {0} is drained and takes no new matches: ask another one, or \
                 `rekindle node undrain {0}`",
                config.node_name
            )));
        }
        if host.list().len() >= config.limits.matches {
            return Err(ControlError::Forbidden(format!(
                "limits.matches = {} matches run here already",
                config.limits.matches
            )));
        }
        let lease = MatchLease {
            match_id,
            version: 1,
            epoch: Epoch(1),
            incarnation: *incarnation,
            state: MatchState::Running,
            attempts: 0,
            lineage: vec![Lineage {
                epoch: Epoch(1),
                incarnation: *incarnation,
                first_batch: host.next_batch(),
                first_seq: Seq(1),
            }],
            spec,
            region: config.node_region.clone(),
        };
        // Else the caretaker takes a row that is slow to come back for one that was left over.
        let entered = host.enter(match_id).ok_or(HostError::AlreadyHere(match_id));
        let _entered = entered.map_err(|error| ControlError::Failed(error.to_string()))?;
        store.leases.create(lease.clone()).await?;
        host.create(lease).await.map_err(|error| ControlError::Failed(error.to_string()))?;
        self.play_house_bots(match_id);
        Ok(())
    }
}

/// What is said when only the row of a match will tell whether a silent node has created it.
fn unknown(node: &str, id: MatchId, why: &str) -> ControlError {
    ControlError::Unavailable(format!(
        "RK-NODE-216: it is unknown whether node {node} has created match {id}: {why}; `rekindle \
         match show {id}` says it later"
    ))
}

/// Answers other nodes: those that give matches away, and those that want a new one here.
pub(super) struct PeerAnswers {
    /// Takes matches that are given away.
    pub(super) taking: Taking,
    /// Runs new ones. Empty until the node serves.
    pub(super) node: Arc<OnceLock<Weak<Serving>>>,
}

impl PeerAnswers {
    async fn create(&self, match_id: MatchId, spec: MatchSpec) -> PeerReply {
        let Some(node) = self.node.get().and_then(Weak::upgrade) else {
            return PeerReply::Refused { words: STARTING.to_owned() };
        };
        if node.parts().host.find(match_id).is_some() {
            return PeerReply::Done;
        }
        if node.parts().games.get(&spec.game).is_err() {
            let words = format!("RK-NODE-218: there is no game `{}` here", spec.game);
            return PeerReply::Refused { words };
        }
        // A task of its own: whoever asked may give up, and no row must be left without its match.
        let entering = tokio::spawn(async move { node.enter_here(match_id, spec).await });
        match entering.await {
            Ok(Ok(())) => PeerReply::Done,
            Ok(Err(error)) => PeerReply::Refused { words: error.to_string() },
            Err(error) => PeerReply::Refused { words: error.to_string() },
        }
    }
}

impl PeerAnswers {
    async fn documents(&self, match_id: MatchId, json: String) -> PeerReply {
        let Some(node) = self.node.get().and_then(Weak::upgrade) else {
            return PeerReply::Refused { words: STARTING.to_owned() };
        };
        // A task of its own: whoever asked may give up, and an order comes to its end.
        let asked = tokio::spawn(async move { node.ask_collection_here(match_id, &json).await });
        match asked.await {
            Ok(Ok(Some(json))) => PeerReply::Documents { json },
            // Neither an answer nor a refusal: who asked knows that it is unknown.
            Ok(Ok(None)) => PeerReply::Done,
            Ok(Err(words)) => PeerReply::Refused { words },
            Err(error) => PeerReply::Refused { words: error.to_string() },
        }
    }

    async fn give(&self, match_id: MatchId, to: Incarnation) -> PeerReply {
        let Some(node) = self.node.get().and_then(Weak::upgrade) else {
            return PeerReply::Refused { words: STARTING.to_owned() };
        };
        match node.parts().mover.move_to(match_id, &to.to_string()).await {
            Ok(moved) => PeerReply::Given { stood_ms: moved.pause_ms },
            Err(error) => PeerReply::Refused { words: error.to_string() },
        }
    }
}

impl PeerAnswers {
    async fn seek(&self, game: String, properties: Vec<(String, String)>) -> PeerReply {
        let Some(node) = self.node.get().and_then(Weak::upgrade) else {
            return PeerReply::Refused { words: STARTING.to_owned() };
        };
        let lobbies = Arc::clone(&node.parts().lobbies);
        match lobbies.make_for(node, game, properties).await {
            Ok(match_id) => PeerReply::Found { match_id },
            Err(words) => PeerReply::Refused { words },
        }
    }
}

impl PeerService for PeerAnswers {
    fn handle(&self, from: Incarnation, request: PeerRequest) -> BoxFuture<'_, PeerReply> {
        match request {
            PeerRequest::Create { match_id, spec } => self.create(match_id, spec).boxed(),
            PeerRequest::Crowds { after } => {
                let crowds = self
                    .node
                    .get()
                    .and_then(Weak::upgrade)
                    .map(|node| super::lobby::crowds(&node.parts().host, after));
                let starting = || PeerReply::Refused { words: STARTING.to_owned() };
                std::future::ready(crowds.unwrap_or_else(starting)).boxed()
            }
            PeerRequest::Documents { match_id, json } => self.documents(match_id, json).boxed(),
            PeerRequest::Seek { game, properties } => self.seek(game, properties).boxed(),
            PeerRequest::Give { match_id, to } => self.give(match_id, to).boxed(),
            other => self.taking.handle(from, other),
        }
    }
}
