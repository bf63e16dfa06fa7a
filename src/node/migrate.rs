//! Moves matches between this node and others: one that an operator names, or all of them when the
//! node is emptied. What is decided of each is in `rekindle-cluster` (`migration`); the host stops,
//! follows and runs them (`hands`).

pub mod hands;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use futures::StreamExt;
use parking_lot::Mutex;
use rekindle_actors::{Host, MatchPhase};
use rekindle_cluster::bus::{PeerBus, PeerError, PeerService};
use rekindle_cluster::migration::give::{Giving, give};
use rekindle_cluster::migration::hands::Hands;
use rekindle_cluster::migration::source::{Move, Outcome, Patience};
use rekindle_cluster::migration::take::Taking;
use rekindle_cluster::placement::rebalance::Rebalance;
use rekindle_cluster::placement::{self, Candidate};
use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_schema::member::Member;
use rekindle_schema::peer::{PeerReply, PeerRequest};
use rekindle_schema::{BuildId, Incarnation, MatchId};
use rekindle_store::{Store, StoreError, members};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::cluster::Cluster;
use super::placing::{ASKED_AGAIN, PeerAnswers};
use super::successors::Successors;
use super::{ControlError, Serving};
use crate::clock;
use crate::config::Config;
use hands::HostHands;

/// Most matches that move at once, each way.
const AT_ONCE: usize = 4;
/// A match is stopped when its follower is at most so much behind, in tenths of a second.
const CLOSE_TENTHS: u64 = 1;
/// The same in ticks, for slow matches.
const CLOSE_TICKS: u64 = 3;
/// How long another node may take to move a match of its own, all in all. Less than a command waits
/// for an answer of this node.
const HAVING_MOVED: Duration = Duration::from_secs(25);
/// The other nodes are read again for new matches when they were read so long ago.
const NODES_KNOWN: Duration = Duration::from_secs(1);

/// A match that moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The match.
    pub match_id: MatchId,
    /// The name of the node that has it now.
    pub to: String,
    /// How long it stood still here until it was another node's, in milliseconds.
    pub pause_ms: u64,
}

/// How the emptying of a node went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Emptied {
    /// What moved.
    pub moved: Vec<Moved>,
    /// What stayed, and why.
    pub stayed: Vec<(MatchId, String)>,
}

impl Emptied {
    /// The longest pause, in milliseconds.
    pub fn worst_pause_ms(&self) -> u64 {
        self.moved.iter().map(|moved| moved.pause_ms).max().unwrap_or(0)
    }
}

/// Another node that may take matches.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) member: Member,
    pub(super) candidate: Candidate,
}

/// Where matches can go: other live nodes that take them, and how much each runs. What is planned
/// counts at once, so that the next match goes elsewhere.
pub(super) struct Plan(Mutex<Vec<Node>>);

/// Moves matches. One for each node.
pub struct Mover {
    me: Incarnation,
    build: BuildId,
    /// How much this node can carry, relative to others.
    weight: u32,
    /// The configured name of this node.
    name: String,
    store: Store,
    cluster: Arc<Cluster>,
    host: Host,
    hands: Arc<HostHands>,
    giving: Giving,
    /// Tells clients where their match moves.
    successors: Arc<Successors>,
    places: Semaphore,
    /// Matches that are on their way from here.
    under_way: Mutex<BTreeSet<MatchId>>,
    /// The other nodes as they were read last for new matches, and when.
    known: Mutex<Option<(Instant, Vec<Node>)>>,
}

impl Mover {
    /// Answers other nodes from now on.
    pub fn start(
        config: &Config,
        (host, store): (Host, Store),
        (me, build): (Incarnation, BuildId),
        cluster: Arc<Cluster>,
        successors: Arc<Successors>,
    ) -> Arc<Self> {
        let hands = Arc::new(HostHands {
            host: host.clone(),
            store: store.clone(),
            region: config.node_region.clone(),
            most: config.limits.matches,
            draining: AtomicBool::new(false),
            drained: AtomicBool::new(false),
            node: Arc::new(OnceLock::new()),
        });
        let carried = Arc::clone(&hands) as Arc<dyn Hands>;
        let taking = Taking::new(me, store.clone(), Arc::clone(&carried), AT_ONCE);
        let answers = PeerAnswers { taking, node: Arc::clone(&hands.node) };
        cluster.serve(Arc::new(answers) as Arc<dyn PeerService>);
        let peers: Arc<dyn PeerBus> = cluster.peers();
        let giving = Giving { peers, store: store.clone(), hands: carried };
        Arc::new(Self {
            me,
            build,
            weight: config.cluster.weight,
            name: config.node_name.clone(),
            store,
            cluster,
            host,
            hands,
            giving,
            successors,
            places: Semaphore::new(AT_ONCE),
            under_way: Mutex::default(),
            known: Mutex::default(),
        })
    }

    /// Matches that come here get house bots and are watched over by this node.
    pub fn serves(&self, node: &Arc<Serving>) {
        // It begins once.
        let _ = self.hands.node.set(Arc::downgrade(node));
    }

    /// Nothing comes here any more: the node goes down.
    pub fn takes_nothing(&self) {
        self.hands.draining.store(true, Ordering::Release);
    }

    /// An operator wants this node to be drained, or wants that no longer.
    pub fn set_drained(&self, drained: bool) {
        self.hands.drained.store(drained, Ordering::Release);
    }

    /// Whether an operator wants this node to be drained.
    pub fn is_drained(&self) -> bool {
        self.hands.drained.load(Ordering::Acquire)
    }

    /// Moves one match to the node of this name or incarnation.
    pub async fn move_to(
        self: &Arc<Self>,
        match_id: MatchId,
        to: &str,
    ) -> Result<Moved, ControlError> {
        if self.host.find(match_id).is_none() {
            return Err(ControlError::Invalid(format!("match {match_id} does not run here")));
        }
        let nodes = self.nodes().await?;
        let node = find(&nodes, to)?;
        if node.candidate.draining {
            return Err(ControlError::Refused(format!("node {to} is drained")));
        }
        if node.member.build != self.build {
            return Err(ControlError::Refused(format!(
                "RK-NODE-184: node {to} has another build ({}) than this one ({}): matches move \
                 between nodes of one build",
                node.member.build, self.build
            )));
        }
        self.hand_over(match_id, &node.member).await.map_err(ControlError::Refused)
    }

    /// Has the owner of a match move it to the node of this name or incarnation: `row` is that of a
    /// match that runs elsewhere.
    pub(super) async fn have_moved(
        &self,
        row: &MatchLease,
        to: &str,
    ) -> Result<Moved, ControlError> {
        let (match_id, owner) = (row.match_id, row.incarnation);
        let nodes = self.all_nodes().await?;
        let member = &find(&nodes, to)?.member;
        let at = nodes.iter().find(|node| node.member.incarnation == owner);
        let at = at.map_or_else(|| owner.to_string(), |node| node.member.name.clone());
        let request = PeerRequest::Give { match_id, to: member.incarnation };
        match self.giving.peers.call(owner, request, HAVING_MOVED).await {
            Ok(PeerReply::Given { stood_ms }) => {
                Ok(Moved { match_id, to: member.name.clone(), pause_ms: stood_ms })
            }
            Err(PeerError::Unknown(_)) => Err(ControlError::Unavailable(format!(
                "RK-NODE-223: it is unknown whether match {match_id} has moved from node {at}, \
                 which does not answer; `rekindle match where {match_id}` says where it is"
            ))),
            Ok(PeerReply::Refused { words }) => Err(not_given(match_id, &at, &words)),
            Ok(_) => Err(not_given(match_id, &at, "it answers something else")),
            Err(error) => Err(not_given(match_id, &at, &error.to_string())),
        }
    }

    /// Where a new match should run, among this node and the others but for those in `not`: the
    /// other node, or `None` for this one. What is chosen counts at once.
    pub(super) async fn choose(
        &self,
        match_id: MatchId,
        not: &BTreeSet<Incarnation>,
    ) -> Result<Chosen, StoreError> {
        let linked = !self.giving.peers.linked().is_empty();
        let is_fresh = |at: &Instant| at.elapsed() < NODES_KNOWN;
        let fresh = self.known.lock().as_ref().is_some_and(|(at, _)| is_fresh(at));
        if linked && !fresh {
            let nodes = self.nodes().await?;
            *self.known.lock() = Some((Instant::now(), nodes));
        }
        let mut known = self.known.lock();
        let nodes = known.as_mut().filter(|_| linked).map(|(_, nodes)| nodes);
        let others = nodes.iter().flat_map(|nodes| nodes.iter());
        let others = others
            .filter(|node| self.fits(node) && !not.contains(&node.candidate.node))
            .map(|node| &node.candidate);
        let here = self.here();
        let mine = (here.matches < self.hands.most).then_some(&here);
        let chosen = placement::choose(match_id, &self.hands.region, others.chain(mine));
        let Some(chosen) = chosen.map(|chosen| chosen.node) else { return Ok(Chosen::Nobody) };
        let chosen =
            nodes.and_then(|nodes| nodes.iter_mut().find(|node| node.candidate.node == chosen));
        Ok(chosen.map_or(Chosen::Here, |node| {
            node.candidate.matches += 1;
            Chosen::There(Box::new(node.member.clone()))
        }))
    }

    /// The node of this name or incarnation, if a new match may be entered there. One that cannot
    /// be asked is waited for until `deadline`: a link that broke comes back, and a node that has
    /// just started, or was silent for a moment, is heard of soon.
    pub(super) async fn named(
        &self,
        wanted: &str,
        deadline: Instant,
    ) -> Result<Chosen, ControlError> {
        let own = &self.name;
        if wanted == own || wanted == self.me.to_string() {
            return Ok(Chosen::Here);
        }
        loop {
            if let Some(found) = self.named_now(wanted).await? {
                return Ok(Chosen::There(Box::new(found)));
            }
            if Instant::now() >= deadline {
                return Err(ControlError::Refused(format!(
                    "RK-NODE-213: no link, or a silent one, to node {wanted}: it may hang, have \
                     ended, or be cut off; nothing was created"
                )));
            }
            tokio::time::sleep(ASKED_AGAIN).await;
        }
    }

    /// Another node of this name or incarnation; `None`: it cannot be asked at this moment.
    async fn named_now(&self, wanted: &str) -> Result<Option<Member>, ControlError> {
        let nodes = self.nodes().await?;
        let node = find(&nodes, wanted)?;
        let Member { build, region, incarnation, .. } = &node.member;
        let no = |words: String| Err(ControlError::Refused(words));
        if node.candidate.draining {
            return no(format!(
                "RK-NODE-211: node {wanted} is drained and takes no matches: choose another one, \
                 or `rekindle node undrain {wanted}`"
            ));
        }
        if *build != self.build || *region != self.hands.region {
            return no(format!(
                "RK-NODE-212: node {wanted} has build {build} and region {region}, this one {} and \
                 {}: ask a node like it to create the match",
                self.build, self.hands.region
            ));
        }
        let linked = self.giving.peers.linked().contains(incarnation);
        let heard = linked && !self.cluster.looks_dead(*incarnation);
        Ok(heard.then(|| node.member.clone()))
    }

    /// This node, as one that might run a match.
    fn here(&self) -> Candidate {
        Candidate {
            node: self.me,
            weight: self.weight,
            matches: self.host.list().len(),
            draining: self.is_drained(),
            region: self.hands.region.clone(),
        }
    }

    /// Moves every match that runs here to the other nodes, until `until`; then no more are begun.
    /// Those that cannot move stay.
    pub async fn empty(self: &Arc<Self>, until: Instant) -> Emptied {
        let ids = self.running();
        let nodes = match self.nodes().await {
            Ok(nodes) => nodes,
            Err(error) => {
                let stayed = ids.into_iter().map(|id| (id, error.to_string())).collect();
                return Emptied { stayed, ..Emptied::default() };
            }
        };
        let plan = self.plan_of(nodes);
        let mut all = futures::stream::iter(ids)
            .map(|id| {
                let plan = &plan;
                async move { (id, self.move_somewhere(id, plan, until).await) }
            })
            .buffer_unordered(AT_ONCE);
        let mut emptied = Emptied::default();
        while let Some((id, done)) = all.next().await {
            match done {
                Ok(moved) => {
                    tracing::info!(
                        code = "RK-NODE-185", match_id = %id, to = moved.to,
                        pause_ms = moved.pause_ms, "match moved"
                    );
                    emptied.moved.push(moved);
                }
                Err(why) => emptied.stayed.push((id, why)),
            }
        }
        emptied
    }

    /// Where matches can go now. It is to be read again after a second or so.
    pub(super) async fn plan(&self) -> Result<Plan, StoreError> {
        Ok(self.plan_of(self.nodes().await?))
    }

    /// Moves one match to a much less loaded node, if the planner says so. `now_ms` is in
    /// milliseconds of a clock that never goes back.
    pub(super) async fn balance(
        self: &Arc<Self>,
        planner: &mut Rebalance,
        now_ms: u64,
    ) -> Result<Option<Moved>, String> {
        let nodes = self.nodes().await.map_err(|error| error.to_string())?;
        let others: Vec<Node> = nodes.into_iter().filter(|node| self.fits(node)).collect();
        let mine = self.running();
        let here = Candidate { matches: mine.len(), ..self.here() };
        let candidates: Vec<Candidate> =
            others.iter().map(|node| node.candidate.clone()).chain([here]).collect();
        let Some(planned) = planner.plan(now_ms, &candidates, &mine) else { return Ok(None) };
        let target = others.iter().find(|node| node.candidate.node == planned.target);
        let Some(target) = target else { return Ok(None) };
        self.hand_over(planned.match_id, &target.member).await.map(Some)
    }

    /// The matches that run here and can be moved as they stand.
    fn running(&self) -> Vec<MatchId> {
        let running = |phase: &MatchPhase| {
            matches!(phase, MatchPhase::Running | MatchPhase::Waiting | MatchPhase::Stalled)
        };
        let statuses = self.host.list().into_iter().filter(|status| running(&status.phase));
        statuses.map(|status| status.match_id).collect()
    }

    fn plan_of(&self, nodes: Vec<Node>) -> Plan {
        Plan(Mutex::new(nodes.into_iter().filter(|node| self.fits(node)).collect()))
    }

    fn fits(&self, node: &Node) -> bool {
        node.member.build == self.build
            && node.candidate.region == self.hands.region
            && !node.candidate.draining
            && self.giving.peers.linked().contains(&node.member.incarnation)
            && !self.cluster.looks_dead(node.member.incarnation)
    }

    async fn move_somewhere(
        self: &Arc<Self>,
        match_id: MatchId,
        plan: &Plan,
        until: Instant,
    ) -> Result<Moved, String> {
        if Instant::now() >= until {
            return Err("there was no time left".to_owned());
        }
        self.move_away(match_id, plan).await
    }

    /// Moves a match that runs here to whichever node of the plan suits it best. If it cannot be
    /// moved it stays, and the reason comes back.
    pub(super) async fn move_away(
        self: &Arc<Self>,
        match_id: MatchId,
        plan: &Plan,
    ) -> Result<Moved, String> {
        let member = {
            let mut plan = plan.0.lock();
            let candidates: Vec<&Candidate> = plan.iter().map(|node| &node.candidate).collect();
            let chosen = placement::choose(match_id, &self.hands.region, candidates)
                .map(|chosen| chosen.node);
            let node = plan.iter_mut().find(|node| Some(node.member.incarnation) == chosen);
            let node = node.ok_or("no other live node of this build and region takes it")?;
            node.candidate.matches += 1;
            node.member.clone()
        };
        self.hand_over(match_id, &member).await
    }

    /// Moves a match, in a task of its own so that it comes to its end.
    async fn hand_over(
        self: &Arc<Self>,
        match_id: MatchId,
        member: &Member,
    ) -> Result<Moved, String> {
        let mover = Arc::clone(self);
        let (member, to) = (member.clone(), member.name.clone());
        let task = tokio::spawn(async move { mover.give(match_id, &member).await });
        match task.await.map_err(|error| error.to_string())?? {
            Outcome::Moved { stood_ms, .. } => Ok(Moved { match_id, to, pause_ms: stood_ms }),
            Outcome::Kept(why) => Err(format!("match {match_id} stays here: {why}")),
            Outcome::Lost(why) => Err(format!("match {match_id} is no longer here: {why}")),
        }
    }

    async fn give(&self, match_id: MatchId, target: &Member) -> Result<Outcome, String> {
        let _place = self.places.acquire().await.map_err(|error| error.to_string())?;
        if !self.under_way.lock().insert(match_id) {
            return Err(format!("match {match_id} is on its way already"));
        }
        let on_its_way = self.successors.moves(match_id, target.players.clone());
        let given = self.give_one(match_id, target.incarnation).await;
        drop(on_its_way);
        self.under_way.lock().remove(&match_id);
        given
    }

    async fn give_one(&self, match_id: MatchId, target: Incarnation) -> Result<Outcome, String> {
        let handle = self.host.find(match_id).ok_or("it does not run here")?;
        let rate = u64::from(handle.spec().tick_rate);
        let identity = self.store.identity.ascertain(clock::fresh()).await;
        let floor = identity.map_err(|error| error.to_string())?.floor;
        let close_ticks = CLOSE_TICKS.max(rate * CLOSE_TENTHS / 10);
        let order = Move { match_id, me: self.me, target, floor };
        Ok(give(&self.giving, order, Patience { close_ticks, ..Patience::default() }).await)
    }

    /// All live nodes, this one among them.
    pub(super) async fn all_nodes(&self) -> Result<Vec<Node>, StoreError> {
        let mut nodes = self.nodes().await?;
        let own = members::live(&self.store).await?.remove(&self.me);
        nodes.extend(own.map(|member| Node { member, candidate: self.here() }));
        Ok(nodes)
    }

    /// The other live nodes, and how much each runs.
    async fn nodes(&self) -> Result<Vec<Node>, StoreError> {
        let mut live = members::live(&self.store).await?;
        live.remove(&self.me);
        let mut matches = BTreeMap::<Incarnation, usize>::new();
        for row in self.store.leases.matches().await? {
            if row.state == MatchState::Running {
                *matches.entry(row.incarnation).or_default() += 1;
            }
        }
        let node = |member: Member| {
            let node = member.incarnation;
            let candidate = Candidate {
                node,
                weight: member.weight.max(1),
                matches: matches.get(&node).copied().unwrap_or(0),
                // As the store says: gossip of an earlier moment may come later than that.
                draining: member.draining,
                region: member.region.clone(),
            };
            Node { member, candidate }
        };
        Ok(live.into_values().map(node).collect())
    }
}

/// Where a new match is to run.
pub(super) enum Chosen {
    /// On this node.
    Here,
    /// On another one.
    There(Box<Member>),
    /// No node takes it.
    Nobody,
}

/// What another node says that does not move a match of its own.
fn not_given(match_id: MatchId, at: &str, why: &str) -> ControlError {
    ControlError::Refused(format!("RK-NODE-222: node {at} does not move match {match_id}: {why}"))
}

/// The other node of this name or incarnation.
fn find<'a>(nodes: &'a [Node], wanted: &str) -> Result<&'a Node, ControlError> {
    let named =
        |node: &&Node| node.member.name == wanted || node.member.incarnation.to_string() == wanted;
    nodes.iter().find(named).ok_or_else(|| {
        let known: Vec<&str> = nodes.iter().map(|node| node.member.name.as_str()).collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        ControlError::Invalid(format!(
            "RK-NODE-210: no other live node `{wanted}`; there are: {known}"
        ))
    })
}

/// How long a node that stops may take to move its matches.
pub(super) const EMPTYING: Duration = Duration::from_mins(1);
