//! What the node says, in the types of the HTTP interface, and the other way round. Pure.

use std::time::Duration;

use rekindle_actors::OtherBuild;
use rekindle_admin::api::{
    AskedDocuments, ClientView, CreateMatch, CreatedMatch, FollowerView, IssueTicket, JobView,
    MatchView, NodeView, Otherwise, Place, Seat, SeatTicket, WhereView,
};
use rekindle_admin::cluster::{MoveEntry, NodeWanted, NodeWished, RebalanceView, ShareEntry};
use rekindle_admin::stats::{MatchStats, PlayerStands, StatisticStands, TallyStands};
use rekindle_admin::values::{MatchValues, ValidationStands, ValueStands};
use rekindle_gateway::ClientLine;
use rekindle_gateway::keys::fingerprint;
use rekindle_schema::job::{Job, JobState};
use rekindle_schema::peer::Purpose;
use rekindle_schema::standby::FollowState;
use rekindle_schema::wire::Role;
use rekindle_schema::wish::Wanted;
use rekindle_schema::{Epoch, MatchId, PlayerId, Tick};
use rekindle_sim::{
    IfBroken, PlayerTally, Properties, Simulation, StatisticView, Tally, ValidationView, ValueView,
};
use serde_json::Value as Json;

use crate::hex;
use crate::node::ControlError;
use crate::node::documents::reading::Read;
use crate::node::listing::MatchReport;
use crate::node::matches::NewMatch;
use crate::node::rebalance::{Evening, Share, Transfer};
use crate::node::serving::NodeReport;
use crate::node::standby::known::Follower;
use crate::node::tickets;
use crate::node::whereabouts::{Owner, Whereabouts};
use crate::node::wishes::Wished;

/// What a node is.
pub(super) fn node(report: NodeReport) -> NodeView {
    NodeView {
        name: report.name,
        incarnation: report.incarnation.to_string(),
        build: report.build.to_string(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        listen: report.listen.to_string(),
        public: report.public.map(|address| address.to_string()),
        certificate: hex::encode(&report.certificate),
        certificates: report.certificates.iter().map(|der| hex::encode(der)).collect(),
        games: report.games,
        uptime_s: report.uptime.as_secs(),
        draining: report.draining,
    }
}

/// What is wanted of a node; `None`: nothing but its service.
pub(crate) fn wanted(wanted: NodeWanted) -> Option<Wanted> {
    match wanted {
        NodeWanted::Serving => None,
        NodeWanted::Drained => Some(Wanted::Drained),
        NodeWanted::Decommissioned => Some(Wanted::Decommissioned),
    }
}

/// The action of such a wish in the audit log.
pub(crate) fn wish_action(wanted: NodeWanted) -> &'static str {
    match wanted {
        NodeWanted::Serving => "node.undrain",
        NodeWanted::Drained => "node.drain",
        NodeWanted::Decommissioned => "node.decommission",
    }
}

/// What has come of a wish about the node of this name.
pub(crate) fn wished(node: String, wanted: NodeWanted, wished: &Wished) -> NodeWished {
    let before = match wished.before {
        None => NodeWanted::Serving,
        Some(Wanted::Drained) => NodeWanted::Drained,
        Some(Wanted::Decommissioned) => NodeWanted::Decommissioned,
    };
    NodeWished { node, wanted, before, runs: wished.runs }
}

/// What would move so that all nodes run their share.
pub(super) fn rebalance(evening: Evening) -> RebalanceView {
    let Evening { nodes, transfers, not_now } = evening;
    let share_of = |node: &Share| node.share as f64 / 1_000.0;
    let moves = transfers.into_iter().map(|Transfer { step, game, from, to }| {
        let own = nodes.iter().find(|node| node.incarnation == step.from);
        let why = format!(
            "node {from} runs {}, its share is {:.1}; node {to} runs {}",
            step.from_matches,
            own.map_or(0.0, share_of),
            step.target_matches
        );
        let (id, to_incarnation) = (step.match_id.to_string(), step.target.to_string());
        MoveEntry { id, game, from, to, to_incarnation, why }
    });
    let moves = moves.collect();
    let share = |node: &Share| ShareEntry {
        node: node.name.clone(),
        incarnation: node.incarnation.to_string(),
        region: node.region.clone(),
        matches: node.matches,
        share: share_of(node),
        after: node.after,
    };
    RebalanceView { nodes: nodes.iter().map(share).collect(), moves, not_now }
}

/// What an operator wants done about records of another build.
pub(super) fn other_build(wanted: Otherwise) -> OtherBuild {
    match wanted {
        Otherwise::FromLastEqual => OtherBuild::LastEqual,
        Otherwise::Accept => OtherBuild::Accept,
    }
}

/// Where a match is.
pub(super) fn whereabouts(id: MatchId, (found, here): (Whereabouts, Owner)) -> WhereView {
    let (place, owner, reason) = match found {
        Whereabouts::Here => (Place::Here, Some(here), None),
        Whereabouts::At(owner) => (Place::Elsewhere, Some(owner), None),
        Whereabouts::Nobody | Whereabouts::Unknown => (Place::Between, None, None),
        Whereabouts::Parked => (Place::Parked, None, None),
        Whereabouts::Ended(reason) => (Place::Over, None, Some(reason)),
    };
    let (node, players) = owner.map(|owner| (owner.node, owner.players)).unzip();
    WhereView { id: id.to_string(), place, node, players, reason }
}

/// Where a match stands.
pub(super) fn of_match(report: MatchReport) -> MatchView {
    let MatchReport {
        match_id,
        game,
        condition,
        reason,
        tick,
        durable,
        node,
        tick_rate,
        slowdown,
        rules,
        properties,
        epoch,
        players,
        seats,
        house_bots,
        attempts,
        followers,
        build_change,
    } = report;
    MatchView {
        id: match_id.to_string(),
        game,
        state: condition,
        reason,
        tick: tick.map(|tick| tick.0),
        durable: durable.map(|tick| tick.0),
        node,
        tick_rate,
        slowdown: Some(slowdown).filter(|&periods| periods > 1),
        rules,
        properties,
        epoch: epoch.0,
        players,
        seats,
        house_bots,
        attempts,
        followers: followers.iter().map(|follower| of_follower(follower, epoch)).collect(),
        build_change: build_change.map(|change| change.to_string()),
        clients: Vec::new(),
    }
}

/// The line of a client.
pub(super) fn of_client(line: ClientLine) -> ClientView {
    let ClientLine { player, spectator, carrier, version, rtt, jitter, lost, pace, has } = line;
    let ms = |time: Duration| (time.as_secs_f64() * 1e5).round() / 100.0;
    ClientView {
        player: player.0,
        spectator,
        carrier: carrier.to_owned(),
        protocol: version,
        rtt_ms: ms(rtt),
        jitter_ms: ms(jitter),
        lost,
        pace,
        has: has.map(|tick| tick.0),
    }
}

/// Who follows a match that is in this epoch.
fn of_follower(follower: &Follower, epoch: Epoch) -> FollowerView {
    let (tick, lag) = match follower.state {
        FollowState::Follows { tick, lag } => (Some(tick.0), Some(lag)),
        _ => (None, None),
    };
    FollowerView {
        node: follower.node.clone(),
        ready: follower.is_ready(epoch),
        audits: follower.purpose == Purpose::Audit,
        tick,
        lag,
        words: follower.words(),
    }
}

/// The properties that a list of matches asks for, as `mode=duel,map=old`.
pub(super) fn properties(given: Option<&str>) -> Result<Properties, ControlError> {
    let each = given.into_iter().flat_map(|given| given.split(','));
    each.map(rekindle_sim::property).collect::<Result<_, _>>().map_err(ControlError::Invalid)
}

/// A match that is wanted.
pub(crate) fn new_match(wanted: CreateMatch) -> NewMatch {
    let CreateMatch { game, mut config, properties, house_bots, seed, tick_rate, .. } = wanted;
    if let Some(keys) = config.as_object_mut().filter(|_| !properties.is_empty()) {
        let texts = properties.into_iter().map(|(name, value)| (name, value.into()));
        keys.insert(rekindle_sim::PROPERTIES.to_owned(), Json::Object(texts.collect()));
    }
    NewMatch { game, config, house_bots, seed, tick_rate }
}

/// What the audit log says of a match that is to be created.
pub(super) fn creation_words(wanted: &CreateMatch) -> String {
    let CreateMatch { game, config, properties, house_bots, on, seats, .. } = wanted;
    let named = properties.iter().map(|(name, value)| format!(" {name}={value}"));
    let named: String = named.collect();
    let on = on.as_ref().map_or_else(String::new, |on| format!(" on={on}"));
    let tickets = if seats.is_empty() {
        String::new()
    } else {
        let players: Vec<String> = seats.iter().map(|seat| seat.player.to_string()).collect();
        format!(" tickets={}", players.join(","))
    };
    format!("game={game} bots={house_bots} config={config}{named}{on}{tickets}")
}

/// The ticket of a seat in this match.
pub(super) fn seat(seat: &Seat, match_id: MatchId, ttl_s: u64) -> tickets::Wanted {
    tickets::Wanted {
        player: PlayerId(seat.player),
        name: seat.name.clone(),
        role: Role::Player,
        match_id: Some(match_id),
        ttl_s,
    }
}

/// What a matchmaker needs of a new match. `tickets` are those of `seats`, in their order.
pub(super) fn created(
    report: MatchReport,
    addresses: Vec<String>,
    certificate: &[u8],
    seats: &[Seat],
    tickets: Vec<String>,
) -> CreatedMatch {
    let tickets = seats.iter().zip(tickets);
    CreatedMatch {
        view: of_match(report),
        addresses,
        certificate_sha256: hex::encode(&fingerprint(certificate)),
        tickets: tickets.map(|(seat, ticket)| SeatTicket { player: seat.player, ticket }).collect(),
    }
}

/// A ticket that is wanted. A match id that is none counts as no wish: check it before.
pub(crate) fn ticket_wanted(wanted: &IssueTicket) -> tickets::Wanted {
    tickets::Wanted {
        player: PlayerId(wanted.player),
        name: wanted.name.clone(),
        role: if wanted.spectator { Role::Spectator } else { Role::Player },
        match_id: wanted.match_id.as_deref().and_then(|id| id.parse().ok()),
        ttl_s: wanted.ttl_s,
    }
}

/// What the audit log says of a ticket: for whom, and what it allows.
pub(crate) fn ticket_words(wanted: &IssueTicket) -> (String, String) {
    let role = if wanted.spectator { "spectator" } else { "player" };
    let only = wanted.match_id.as_ref().map(|id| format!(" match={id}")).unwrap_or_default();
    (format!("player {}", wanted.player), format!("role={role} ttl_s={}{only}", wanted.ttl_s))
}

/// An answer about documents; with why it comes from there, if that was asked for.
pub(crate) fn asked(read: Read, explain: bool) -> AskedDocuments {
    let explained = explain.then(|| serde_json::to_value(&read.explained).ok()).flatten();
    AskedDocuments {
        reply: read.reply_json(),
        as_of_tick: read.tick,
        answered_by: read.node,
        source: read.source.name().to_owned(),
        explain: explained,
    }
}

/// One job.
pub(super) fn job(job: &Job) -> JobView {
    let payload =
        std::str::from_utf8(&job.payload).ok().filter(|text| !text.chars().any(char::is_control));
    let mut view = JobView {
        id: job.id.to_string(),
        queue: job.queue.clone(),
        kind: job.kind.clone(),
        state: job.status(),
        attempt: job.attempt,
        max_attempts: job.max_attempts,
        created_ms: job.created_ms,
        due_ms: job.due_ms(),
        finished_ms: job.finished_ms(),
        by: None,
        note: None,
        error: job.last_error.clone(),
        key: job.unique.as_ref().map(|unique| unique.key().to_owned()),
        payload: payload.map_or_else(|| format!("0x{}", hex::encode(&job.payload)), str::to_owned),
    };
    match &job.state {
        JobState::Running { by, .. } => view.by = Some(by.to_string()),
        JobState::Done { note, .. } => view.note = Some(note.clone()),
        JobState::Dead { error, .. } => view.error = Some(error.clone()),
        JobState::Ready { .. } | JobState::Cancelled { .. } => {}
    }
    view
}

/// Statistics of a match, after this tick.
pub(crate) fn match_stats(
    (id, game): (MatchId, String),
    tick: Tick,
    source: &str,
    found: Vec<StatisticView>,
) -> MatchStats {
    let statistics = found.into_iter().map(|found| StatisticStands {
        name: found.name,
        of: found.of,
        window: found.window,
        window_from: found.window_from.map(|tick| tick.0),
        total: tally(found.total),
        recent: found.recent.map(tally),
        players: found.players.into_iter().map(player_tally).collect(),
        forgotten: found.forgotten,
    });
    let (id, source) = (id.to_string(), source.to_owned());
    MatchStats { id, game, tick: tick.0, source, statistics: statistics.collect() }
}

/// What the game of a match declares under names.
pub(crate) struct NamedViews {
    values: Vec<ValueView>,
    validations: Vec<ValidationView>,
}

impl NamedViews {
    /// Those of a world as it stands.
    pub(crate) fn of(sim: &dyn Simulation) -> Self {
        Self { values: sim.values(), validations: sim.validations() }
    }

    /// As JSON knows them.
    pub(crate) fn stand(self) -> (Vec<ValueStands>, Vec<ValidationStands>) {
        let value = |ValueView { name, value }: ValueView| match value {
            Ok(value) => ValueStands { name, value, problem: None },
            Err(problem) => ValueStands { name, value: Json::Null, problem: Some(problem) },
        };
        let validation = |found: ValidationView| ValidationStands {
            name: found.name,
            every: found.every,
            if_broken: match found.if_broken {
                IfBroken::Warn => "warn".to_owned(),
                IfBroken::Stop => "stop".to_owned(),
            },
            holds: found.problem.is_none(),
            problem: found.problem,
        };
        let values = self.values.into_iter().map(value).collect();
        (values, self.validations.into_iter().map(validation).collect())
    }
}

/// Values of a match, after this tick.
pub(crate) fn match_values(
    (id, game): (MatchId, String),
    tick: Tick,
    source: &str,
    found: NamedViews,
) -> MatchValues {
    let (values, validations) = found.stand();
    let (id, source) = (id.to_string(), source.to_owned());
    MatchValues { id, game, tick: tick.0, source, values, validations }
}

fn player_tally(found: PlayerTally) -> PlayerStands {
    PlayerStands {
        player: found.player.0,
        total: tally(found.total),
        recent: found.recent.map(tally),
    }
}

fn tally(Tally { count, sum, min, max }: Tally) -> TallyStands {
    TallyStands { count, sum, min, max }
}
