//! The state of a cluster in one page. [`read`] gathers what the store says of nodes and matches;
//! [`assess`] is pure and draws the conclusions: is it well, what is wrong, can it lose one more
//! node, what happened in the last hour, what can be done. Called by `rekindle cluster status` and
//! `rekindle node ls`, and by the node for `GET /v1/cluster`.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_admin::api::AuditView;
use rekindle_admin::cluster::{
    ClusterView, DrainEntry, FollowedEntry, MAX_TROUBLED, MatchEntry, NodeEntry, NodeStanding,
    NodeWanted, StuckEntry, WishEntry,
};
use rekindle_cluster::ownership::lease::LEASE_MS;
use rekindle_schema::lease::{MatchLease, MatchState, NodeLease, NodeState};
use rekindle_schema::member::{MEMBERS, Member};
use rekindle_schema::peer::Purpose;
use rekindle_schema::standby::{FollowReport, FollowState, FollowedMatch};
use rekindle_schema::wish::{DrainProgress, NodeWish, Wanted};
use rekindle_schema::{Epoch, Incarnation, MatchId};
use rekindle_store::{AuditQuery, Store, StoreError, standbys, wishes};
use serde::Serialize;

use crate::text::counted;

/// How far back a status looks.
const HOUR_MS: u64 = 3_600_000;
/// Most actions of operators that are read for it.
const ACTIONS: usize = 100;
/// Most matches that a status names.
const NAMED: usize = 10;
/// Most things that happened in the last hour that a status tells, the newest.
const TOLD: usize = 20;

/// Reads the view of a store as it is now. `now_ms` is in milliseconds since 1970.
pub async fn read(store: &Store, now_ms: u64) -> Result<ClusterView, StoreError> {
    let leases = store.leases.nodes().await?;
    let rows = store.leases.matches().await?;
    let members = store.registry.list(MEMBERS).await?;
    let query =
        AuditQuery { since_ms: now_ms.saturating_sub(HOUR_MS), until_ms: u64::MAX, limit: ACTIONS };
    let actions = store.audit.list(query).await?;
    // What another release wrote and this one cannot read is left out: the lease says the rest.
    let members: BTreeMap<Incarnation, Member> = members
        .iter()
        .filter_map(|entry| Member::decode(&entry.value).ok())
        .map(|member| (member.incarnation, member))
        .collect();
    let actions = actions.iter().map(AuditView::of).collect();
    let wishes = wishes::all(store).await?;
    let progress = wishes::progress(store).await?;
    let mut view = view(now_ms, &leases, &rows, &members, actions);
    view.followed = followed(&standbys::reports(store).await?, &leases, &rows);
    view.wishes = wishes.into_values().map(wish).collect();
    for node in &mut view.nodes {
        let told = progress.get(&node.name);
        node.drain =
            told.filter(|told| told.incarnation.to_string() == node.incarnation).map(drain);
    }
    Ok(view)
}

/// What live nodes say that they follow, of matches that run.
fn followed(
    reports: &BTreeMap<Incarnation, FollowReport>,
    leases: &[NodeLease],
    rows: &[MatchLease],
) -> Vec<FollowedEntry> {
    let epochs: BTreeMap<MatchId, Epoch> = rows
        .iter()
        .filter(|row| row.state == MatchState::Running)
        .map(|row| (row.match_id, row.epoch))
        .collect();
    let is_live = |node: &Incarnation| {
        leases.iter().any(|lease| lease.incarnation == *node && lease.state == NodeState::Live)
    };
    let mut followed = Vec::new();
    for (node, report) in reports.iter().filter(|(node, _)| is_live(node)) {
        let of = |found: &FollowedMatch| FollowedEntry {
            id: found.match_id.to_string(),
            node: node.to_string(),
            ready: found.purpose == Purpose::Standby
                && matches!(found.state, FollowState::Follows { .. }),
            differs: match &found.state {
                FollowState::Differs(words) => Some(words.clone()),
                _ => None,
            },
        };
        let now = report.matches.iter();
        let now = now.filter(|found| epochs.get(&found.match_id) == Some(&found.epoch));
        followed.extend(now.map(of));
    }
    followed
}

fn wish(wish: NodeWish) -> WishEntry {
    let NodeWish { node, wanted, since_ms, who } = wish;
    let wanted = match wanted {
        Wanted::Drained => NodeWanted::Drained,
        Wanted::Decommissioned => NodeWanted::Decommissioned,
    };
    WishEntry { node, wanted, since_ms, who }
}

fn drain(told: &DrainProgress) -> DrainEntry {
    let stuck = told.stuck.iter();
    DrainEntry {
        moved: told.moved,
        left: told.left,
        stuck: stuck.map(|(id, why)| StuckEntry { id: id.to_string(), why: why.clone() }).collect(),
        worst_pause_ms: told.worst_pause_ms,
    }
}

/// What leases, rows and members say together.
fn view(
    now_ms: u64,
    leases: &[NodeLease],
    rows: &[MatchLease],
    members: &BTreeMap<Incarnation, Member>,
    actions: Vec<AuditView>,
) -> ClusterView {
    let mut owned: BTreeMap<Incarnation, usize> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.state == MatchState::Running) {
        *owned.entry(row.incarnation).or_default() += 1;
    }
    let mut nodes: Vec<NodeEntry> = leases
        .iter()
        .map(|lease| {
            let matches = owned.get(&lease.incarnation).copied().unwrap_or_default();
            entry(now_ms, lease, members.get(&lease.incarnation), matches)
        })
        .collect();
    nodes.sort_by(|one, next| {
        (one.since_ms, &one.incarnation).cmp(&(next.since_ms, &next.incarnation))
    });
    let live: BTreeSet<Incarnation> = leases
        .iter()
        .filter(|lease| standing(now_ms, lease) == NodeStanding::Live)
        .map(|lease| lease.incarnation)
        .collect();
    let mut troubled: Vec<MatchEntry> = rows
        .iter()
        .filter(|row| match row.state {
            MatchState::Ended { .. } => false,
            MatchState::Parked { .. } => true,
            MatchState::Running => row.attempts > 0 || !live.contains(&row.incarnation),
        })
        .map(|row| MatchEntry {
            id: row.match_id.to_string(),
            game: row.spec.game.clone(),
            owner: row.incarnation.to_string(),
            region: row.region.clone(),
            parked: match &row.state {
                MatchState::Parked { report } => Some(report.clone()),
                MatchState::Running | MatchState::Ended { .. } => None,
            },
            attempts: row.attempts,
        })
        .collect();
    let troubled_more = troubled.len().saturating_sub(MAX_TROUBLED);
    troubled.truncate(MAX_TROUBLED);
    let (running, followed, wishes) = (owned.values().sum(), Vec::new(), Vec::new());
    ClusterView { now_ms, nodes, wishes, running, troubled, troubled_more, followed, actions }
}

fn entry(now_ms: u64, lease: &NodeLease, member: Option<&Member>, matches: usize) -> NodeEntry {
    NodeEntry {
        name: lease.name.clone(),
        incarnation: lease.incarnation.to_string(),
        region: lease.region.clone(),
        standing: standing(now_ms, lease),
        draining: member.is_some_and(|member| member.draining),
        // An incarnation begins with the time of its start.
        since_ms: member.map_or(lease.incarnation.0 >> 20, |member| member.since_ms),
        renewed_ms: lease.deadline_ms.saturating_sub(LEASE_MS),
        matches,
        build: member.map(|member| member.build.to_string()),
        players_at: member.map(|member| member.players.clone()),
        admin: member.map(|member| member.admin.clone()).filter(|admin| !admin.is_empty()),
        drain: None,
    }
}

/// By the clock of whoever looks: good for people, decides nothing.
fn standing(now_ms: u64, lease: &NodeLease) -> NodeStanding {
    match lease.state {
        NodeState::Live if lease.deadline_ms < now_ms => NodeStanding::Late,
        NodeState::Live => NodeStanding::Live,
        NodeState::Stopped => NodeStanding::Stopped,
        NodeState::Fenced => NodeStanding::Fenced,
    }
}

/// What a cluster's state comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// All matches run, and one more node may die.
    Ok,
    /// All matches run, and something is not as it should be.
    Degraded,
    /// Players are hurt now, or matches wait for an operator.
    Bad,
}

impl Health {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Bad => "bad",
        }
    }
}

/// Players at one node, as it counts them itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Seats {
    /// Sessions in matches that run.
    pub playing: usize,
    /// Sessions in matches that stand still, because the store does not keep up.
    pub stalled: usize,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Happened {
    /// When, in milliseconds since 1970.
    pub at_ms: u64,
    /// What, in words.
    pub what: String,
}

/// Something that can be done without harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// A command line.
    pub command: String,
    /// What it does, or what for.
    pub why: String,
}

/// The page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The verdict.
    pub verdict: Health,
    /// Why it is not `ok`, the worst first.
    pub reasons: Vec<String>,
    /// Nodes that are live, late or draining.
    pub nodes_live: usize,
    /// Matches that should run.
    pub matches: usize,
    /// Of those, how many name no live node.
    pub matches_without_owner: usize,
    /// Some of them.
    pub without_owner: Vec<String>,
    /// Matches that wait for an operator.
    pub matches_parked: usize,
    /// Matches that would go on at once, at a standby, if their node died now.
    pub matches_with_standby: usize,
    /// Sessions at the nodes that could be asked; absent if none was.
    pub players: Option<usize>,
    /// Of those, how many stand still. Those in matches without an owner are at no node and are not
    /// counted.
    pub players_stalled: Option<usize>,
    /// Whether the matches go on if any one node dies now.
    pub can_lose_one: bool,
    /// Why not, or thanks to what.
    pub because: String,
    /// What happened in the last hour, newest first.
    pub last_hour: Vec<Happened>,
    /// What can be done now.
    pub next: Vec<Step>,
}

/// Judges a view. `seats` are what nodes answered that were asked, by incarnation.
pub fn assess(view: &ClusterView, seats: &BTreeMap<String, Seats>) -> Status {
    let problems = Problems::of(view, seats);
    let (can_lose_one, because) = spare(view);
    let mut reasons = problems.words();
    let bad = !reasons.is_empty();
    reasons.extend(concerns(view));
    if !can_lose_one && !bad {
        reasons.push(format!("no node may die now: {because}"));
    }
    let verdict = match (bad, reasons.is_empty()) {
        (true, _) => Health::Bad,
        (false, false) => Health::Degraded,
        (false, true) => Health::Ok,
    };
    let total = |of: fn(&Seats) -> usize| {
        (!seats.is_empty()).then(|| seats.values().map(of).sum::<usize>())
    };
    Status {
        verdict,
        reasons,
        nodes_live: live(view).count(),
        matches: view.running,
        matches_without_owner: problems.orphans.len() + view.troubled_more,
        without_owner: problems.orphans.iter().take(NAMED).map(|row| row.id.clone()).collect(),
        matches_parked: problems.parked.len(),
        matches_with_standby: with_standby(view),
        players: total(|seats| seats.playing + seats.stalled),
        players_stalled: total(|seats| seats.stalled),
        can_lose_one,
        because,
        last_hour: last_hour(view),
        next: problems.steps(view, can_lose_one),
    }
}

/// Matches that a standby follows.
fn with_standby(view: &ClusterView) -> usize {
    let ready = view.followed.iter().filter(|entry| entry.ready);
    ready.map(|entry| entry.id.as_str()).collect::<BTreeSet<_>>().len()
}

fn live(view: &ClusterView) -> impl Iterator<Item = &NodeEntry> {
    view.nodes.iter().filter(|node| node.standing == NodeStanding::Live)
}

/// What hurts players, or waits for an operator.
struct Problems<'a> {
    nothing_lives: bool,
    late: Vec<&'a NodeEntry>,
    orphans: Vec<&'a MatchEntry>,
    parked: Vec<&'a MatchEntry>,
    stalled: usize,
    now_ms: u64,
}

impl<'a> Problems<'a> {
    fn of(view: &'a ClusterView, seats: &BTreeMap<String, Seats>) -> Self {
        let alive: BTreeSet<&str> = live(view).map(|node| node.incarnation.as_str()).collect();
        Self {
            nothing_lives: alive.is_empty() && view.running > 0,
            late: view.nodes.iter().filter(|n| n.standing == NodeStanding::Late).collect(),
            orphans: view
                .troubled
                .iter()
                .filter(|row| row.parked.is_none() && !alive.contains(row.owner.as_str()))
                .collect(),
            parked: view.troubled.iter().filter(|row| row.parked.is_some()).collect(),
            stalled: seats.values().map(|seats| seats.stalled).sum(),
            now_ms: view.now_ms,
        }
    }

    fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.nothing_lives {
            words.push("no node is live: nothing runs".to_owned());
        }
        if !self.orphans.is_empty() {
            words.push(format!("matches without a live owner: {}", self.orphans.len()));
        }
        for node in &self.late {
            let silent = self.now_ms.saturating_sub(node.renewed_ms) / 1_000;
            words.push(format!(
                "node {} has not renewed its lease for {silent} s: it hangs, died, or cannot reach \
                 the store",
                node.name
            ));
        }
        if self.stalled > 0 {
            words.push(format!(
                "players in matches that stand still until the store keeps up: {}",
                self.stalled
            ));
        }
        if !self.parked.is_empty() {
            words.push(format!("matches parked, for an operator to decide: {}", self.parked.len()));
        }
        words
    }

    fn steps(&self, view: &ClusterView, can_lose_one: bool) -> Vec<Step> {
        let step = |command: String, why: &str| Step { command, why: why.to_owned() };
        let mut steps = Vec::new();
        if let Some(row) = self.parked.first() {
            steps.push(step(format!("rekindle match show {}", row.id), "why it is parked"));
            steps.push(step(
                format!("rekindle match resume {}", row.id),
                "has it tried again; nothing is lost if it fails",
            ));
        }
        let here: BTreeSet<&str> = live(view).map(|node| node.region.as_str()).collect();
        if let Some(row) = self.orphans.iter().find(|row| !here.contains(row.region.as_str())) {
            match here.first() {
                Some(to) => steps.push(step(
                    format!("rekindle region promote {} --to {to}", row.region),
                    "says what would be lost if the region does not come back; changes nothing \
                     without --yes",
                )),
                None => steps.push(step(
                    "rekindle start".to_owned(),
                    "a node on this store takes the matches over",
                )),
            }
        } else if let Some(row) = self.orphans.first() {
            steps.push(step(
                format!("rekindle match show {}", row.id),
                "why no live node has it: takeovers take seconds, a match of another build waits",
            ));
        }
        for node in self.late.iter().take(NAMED) {
            steps.push(step(
                format!("rekindle node show {}", node.name),
                "others fence it by themselves; do not restart others meanwhile",
            ));
        }
        if !can_lose_one && !self.nothing_lives {
            steps.push(step(
                "rekindle start".to_owned(),
                "another node on this store, in the region that has none to spare",
            ));
        }
        if steps.is_empty() {
            steps.extend(drainable(view));
        }
        for wish in view.wishes.iter().take(NAMED) {
            let why = format!("it is {} and takes matches again then", wish.wanted.word());
            steps.push(step(format!("rekindle node undrain {}", wish.node), &why));
        }
        steps
    }
}

/// The live nodes that take the matches of this one: of its region and build, and not drained.
fn takers<'a>(view: &'a ClusterView, node: &'a NodeEntry) -> impl Iterator<Item = &'a NodeEntry> {
    live(view).filter(|other| {
        let same_build = match (&other.build, &node.build) {
            (Some(other), Some(own)) => other == own,
            _ => true,
        };
        other.incarnation != node.incarnation
            && other.region == node.region
            && !other.draining
            && same_build
    })
}

/// The node that is drained with the least trouble, if any can be.
fn drainable(view: &ClusterView) -> Option<Step> {
    let mut nodes = live(view).filter(|node| !node.draining).map(|node| {
        let takers: Vec<&str> = takers(view, node).map(|other| other.name.as_str()).collect();
        (node, takers)
    });
    let can = |(_, takers): &(&NodeEntry, Vec<&str>)| !takers.is_empty();
    let (node, takers) = nodes.by_ref().filter(can).min_by_key(|(node, _)| node.matches)?;
    let takers = takers.into_iter().take(NAMED).collect::<Vec<_>>().join(", ");
    let matches = counted(node.matches, "match", "matches");
    Some(Step {
        command: format!("rekindle node drain {} --wait", node.name),
        why: format!("for an upgrade: {matches} of it can go to {takers}"),
    })
}

/// What is not as it should be and hurts nobody yet.
fn concerns(view: &ClusterView) -> Vec<String> {
    let mut words = Vec::new();
    let alive: BTreeSet<&str> = live(view).map(|node| node.name.as_str()).collect();
    let mut latest: BTreeMap<&str, &NodeEntry> = BTreeMap::new();
    for node in &view.nodes {
        latest.insert(&node.name, node);
    }
    for node in latest.values() {
        if node.standing == NodeStanding::Fenced && !alive.contains(node.name.as_str()) {
            words.push(format!("node {} was fenced and is not back", node.name));
        }
    }
    for node in live(view).filter(|node| node.draining) {
        let left = counted(node.matches, "match", "matches");
        words.push(format!("node {} is drained: it takes no matches; {left} left", node.name));
        let stuck = node.drain.iter().flat_map(|drain| &drain.stuck).take(1);
        words.extend(
            stuck.map(|stuck| format!("match {} cannot leave it: {}", stuck.id, stuck.why)),
        );
    }
    let builds: BTreeSet<&str> = live(view).filter_map(|node| node.build.as_deref()).collect();
    if builds.len() > 1 {
        words.push(format!(
            "live nodes are of {} builds: matches go on at nodes of their own build only",
            builds.len()
        ));
    }
    let alive: BTreeSet<&str> = live(view).map(|node| node.incarnation.as_str()).collect();
    let shaky = view
        .troubled
        .iter()
        .filter(|row| {
            row.parked.is_none() && row.attempts > 1 && alive.contains(row.owner.as_str())
        })
        .count();
    if shaky > 0 {
        words.push(format!("matches recovered several times without running healthily: {shaky}"));
    }
    let differing =
        view.followed.iter().filter_map(|entry| Some((&entry.id, entry.differs.as_ref()?)));
    words.extend(differing.take(NAMED).map(|(id, what)| {
        format!("nodes compute match {id} differently, so it has no standby: {what}")
    }));
    words
}

/// Whether the matches of any one node would find another one, and why.
fn spare(view: &ClusterView) -> (bool, String) {
    let mut owners = 0;
    for node in live(view).filter(|node| node.matches > 0) {
        owners += 1;
        if takers(view, node).next().is_none() {
            return (
                false,
                format!(
                    "no other live node of region {} and the same build could take the matches of \
                     node {}",
                    node.region, node.name
                ),
            );
        }
    }
    match (owners, live(view).count()) {
        (_, 0) => (false, "no node is live".to_owned()),
        (0, 1) => (false, "one node is live".to_owned()),
        (0, _) => (true, "no node runs a match".to_owned()),
        _ => (true, "each node has another one of its region and build".to_owned()),
    }
}

/// What leases and the audit log say of the last hour, newest first.
fn last_hour(view: &ClusterView) -> Vec<Happened> {
    let since = view.now_ms.saturating_sub(HOUR_MS);
    let mut all = Vec::new();
    for node in &view.nodes {
        let mut told = |at_ms: u64, what: String| {
            if at_ms >= since {
                all.push(Happened { at_ms, what });
            }
        };
        told(node.since_ms, format!("node {} started ({})", node.name, node.incarnation));
        match node.standing {
            NodeStanding::Live | NodeStanding::Late => {}
            NodeStanding::Stopped => {
                told(node.renewed_ms, format!("node {} stopped cleanly, or soon after", node.name));
            }
            NodeStanding::Fenced => told(
                node.renewed_ms,
                format!("node {} was heard of last; then it was fenced", node.name),
            ),
        }
    }
    for action in view.actions.iter().filter(|action| action.stage != "begun") {
        let failed = action.error.as_ref().map_or(String::new(), |error| format!(": {error}"));
        all.push(Happened {
            at_ms: action.time_ms,
            what: format!(
                "{} {} {} by {}{failed}",
                action.action, action.target, action.stage, action.who
            ),
        });
    }
    all.sort_by(|one, next| next.cmp(one));
    all.truncate(TOLD);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 10 * HOUR_MS;

    fn node(name: &str, standing: NodeStanding, matches: usize) -> NodeEntry {
        NodeEntry {
            name: name.to_owned(),
            incarnation: format!("{name}-run"),
            region: "main".to_owned(),
            standing,
            draining: false,
            since_ms: NOW - 2 * HOUR_MS,
            renewed_ms: NOW - 500,
            matches,
            build: Some("b1".to_owned()),
            players_at: None,
            admin: Some("127.0.0.1:7780".to_owned()),
            drain: None,
        }
    }

    fn orphan(owner: &str) -> MatchEntry {
        MatchEntry {
            id: "00000000000000aa".to_owned(),
            game: "arena".to_owned(),
            owner: owner.to_owned(),
            region: "main".to_owned(),
            parked: None,
            attempts: 0,
        }
    }

    fn of(nodes: Vec<NodeEntry>, troubled: Vec<MatchEntry>) -> ClusterView {
        let running = nodes.iter().map(|node| node.matches).sum();
        ClusterView { now_ms: NOW, nodes, running, troubled, ..ClusterView::default() }
    }

    fn verdict(view: &ClusterView) -> (Health, bool) {
        let status = assess(view, &BTreeMap::new());
        assert_eq!(status.verdict == Health::Ok, status.reasons.is_empty(), "{status:?}");
        (status.verdict, status.can_lose_one)
    }

    #[test]
    fn two_nodes_that_live_are_well_and_one_has_nobody_behind_it() {
        use NodeStanding::Live;
        assert_eq!(
            verdict(&of(vec![node("a", Live, 3), node("b", Live, 0)], vec![])),
            (Health::Ok, true)
        );
        assert_eq!(verdict(&of(vec![node("a", Live, 3)], vec![])), (Health::Degraded, false));
        let far = NodeEntry { region: "us".to_owned(), ..node("b", Live, 0) };
        assert_eq!(verdict(&of(vec![node("a", Live, 3), far], vec![])), (Health::Degraded, false));
        let leaving = NodeEntry { draining: true, ..node("b", Live, 0) };
        assert!(!verdict(&of(vec![node("a", Live, 3), leaving], vec![])).1);
        let other = NodeEntry { build: Some("b2".to_owned()), ..node("b", Live, 0) };
        assert!(!verdict(&of(vec![node("a", Live, 3), other], vec![])).1);
    }

    #[test]
    fn what_can_be_drained_is_said_with_where_its_matches_go_and_a_drain_can_be_taken_back() {
        use NodeStanding::Live;
        let three = vec![node("a", Live, 12), node("b", Live, 3), node("c", Live, 9)];
        let next = assess(&of(three.clone(), vec![]), &BTreeMap::new()).next;
        assert_eq!(next[0].command, "rekindle node drain b --wait");
        assert!(next[0].why.contains("3 matches of it can go to a, c"), "{next:?}");
        let alone = assess(&of(three[..1].to_vec(), vec![]), &BTreeMap::new()).next;
        assert!(!alone.iter().any(|step| step.command.contains("drain")), "{alone:?}");

        let mut view = of(three, vec![]);
        view.nodes[1].draining = true;
        let stuck = StuckEntry { id: "00000000000000aa".to_owned(), why: "it is full".to_owned() };
        let drain = DrainEntry { moved: 1, left: 3, stuck: vec![stuck], worst_pause_ms: 9 };
        view.nodes[1].drain = Some(drain);
        view.wishes = vec![WishEntry {
            node: "b".to_owned(),
            wanted: NodeWanted::Drained,
            since_ms: NOW,
            who: "ada".to_owned(),
        }];
        let status = assess(&view, &BTreeMap::new());
        assert_eq!(status.verdict, Health::Degraded);
        assert!(status.reasons.iter().any(|why| why.contains("it is full")), "{status:?}");
        let undrain = |step: &Step| step.command == "rekindle node undrain b";
        assert!(status.next.iter().any(undrain), "{status:?}");
    }

    #[test]
    fn a_match_without_a_live_owner_is_bad_and_named() {
        use NodeStanding::{Fenced, Live};
        let view = of(
            vec![node("a", Fenced, 1), node("b", Live, 0), node("c", Live, 0)],
            vec![orphan("a-run")],
        );
        let status = assess(&view, &BTreeMap::new());
        assert_eq!((status.verdict, status.matches_without_owner), (Health::Bad, 1));
        assert_eq!(status.without_owner, ["00000000000000aa"]);
        assert!(status.next[0].command.contains("match show 00000000000000aa"), "{status:?}");
    }

    #[test]
    fn a_lost_region_is_surveyed_before_anything_is_moved() {
        let mut lost = orphan("gone");
        lost.region = "eu".to_owned();
        let view = of(vec![node("a", NodeStanding::Live, 0)], vec![lost]);
        let next = assess(&view, &BTreeMap::new()).next;
        assert_eq!(next[0].command, "rekindle region promote eu --to main");
        assert!(!next.iter().any(|step| step.command.contains("--yes")), "{next:?}");
    }

    #[test]
    fn late_nodes_parked_matches_and_stalled_players_are_bad() {
        use NodeStanding::{Late, Live};
        let well = || vec![node("a", Live, 1), node("b", Live, 1)];
        let late = of([well(), vec![node("c", Late, 0)]].concat(), vec![]);
        assert_eq!(verdict(&late).0, Health::Bad);
        let mut parked = orphan("a-run");
        parked.parked = Some("a tick panics".to_owned());
        let status = assess(&of(well(), vec![parked]), &BTreeMap::new());
        assert_eq!(
            (status.verdict, status.matches_parked, status.matches_without_owner),
            (Health::Bad, 1, 0)
        );
        let seats = [("a-run".to_owned(), Seats { playing: 3, stalled: 2 })].into();
        let status = assess(&of(well(), vec![]), &seats);
        assert_eq!(
            (status.verdict, status.players, status.players_stalled),
            (Health::Bad, Some(5), Some(2))
        );
    }

    #[test]
    fn a_fenced_node_that_is_back_is_history_and_one_that_is_not_is_a_concern() {
        use NodeStanding::{Fenced, Live};
        let mut back = node("a", Live, 1);
        back.incarnation = "a-run-2".to_owned();
        back.since_ms = NOW - 1_000;
        let nodes = vec![node("a", Fenced, 0), node("b", Live, 1), back];
        let status = assess(&of(nodes.clone(), vec![]), &BTreeMap::new());
        assert_eq!(status.verdict, Health::Ok, "{status:?}");
        let told: Vec<&str> = status.last_hour.iter().map(|what| what.what.as_str()).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(
            told[0].contains("fenced") && told[1].contains("started"),
            "newest first: {told:?}"
        );
        assert_eq!(verdict(&of(nodes[..2].to_vec(), vec![])).0, Health::Degraded);
    }

    #[test]
    fn nothing_at_all_is_degraded_and_matches_without_nodes_are_bad() {
        assert_eq!(verdict(&of(vec![], vec![])), (Health::Degraded, false));
        let view = of(vec![node("a", NodeStanding::Stopped, 1)], vec![orphan("a-run")]);
        let status = assess(&view, &BTreeMap::new());
        assert_eq!(status.verdict, Health::Bad);
        assert_eq!(status.next[0].command, "rekindle start");
    }
}
