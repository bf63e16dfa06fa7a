//! `rekindle match ls|show|create|migrate|stop` and `drain`: questions to a running node. Pins are
//! in `pins.rs`, profiles in `profile.rs`.

use std::collections::BTreeMap;

use rekindle_schema::MatchId;
use rekindle_schema::condition::Condition;
use rekindle_sim::documents::collection_id;

use super::args::{CreateArgs, MatchCommand, StandbyWord};
use super::context::{self, Context, block_on};
use super::profile;
use crate::exit::{Exit, Failure};
use crate::inspect::pick::{PickError, pick};
use crate::text::{counted, without_its_id};
use rekindle_admin::api::{
    ClientView, CreateMatch, CreatedMatch, DrainNode, Draining, ListMatches, MatchView,
    MigrateMatch, Migrated, NodeView, Otherwise, Place, ResumeMatch, Seat, SeatTicket, SetStandby,
    StopMatch, WhereView,
};
use rekindle_admin::client::{AdminClient, ClientError};

/// Most reasons that a list of matches gives.
const NOTES: usize = 20;
/// Most matches that are named in front of a reason that they share.
const NAMED: usize = 3;

pub(super) fn run(context: &Context, command: MatchCommand) -> Result<Exit, Failure> {
    let node = context.node()?;
    block_on(async {
        match command {
            MatchCommand::Ls { game, open, property, filter, sort, limit } => {
                let property = (!property.is_empty()).then(|| in_words(&property));
                let open = open.then_some(1);
                let wanted = ListMatches { game, open, property, filter, sort, limit };
                let matches: Vec<MatchView> =
                    node.get_by("/v1/matches", &wanted).await.map_err(explain)?;
                context.answer(&matches, || table(&matches))?;
            }
            MatchCommand::Show { prefix } => {
                let found = whole(&node, &prefix).await?;
                context.answer(&found, || details(&found))?;
            }
            MatchCommand::Profile { prefix, seconds } => {
                profile::run(context, &node, &prefix, seconds).await?;
            }
            MatchCommand::Where { prefix } => answer_where(context, &node, &prefix).await?,
            MatchCommand::Create(args) => {
                let made = create(&node, args).await?;
                context.answer(&made, || created(&made))?;
            }
            MatchCommand::Resume { prefix, from_last_equal, accept } => {
                let found = find(&node, Some(&prefix)).await?;
                let path = format!("/v1/matches/{}/resume", found.id);
                let wanted = ResumeMatch { otherwise: otherwise(from_last_equal, accept) };
                let resumed: MatchView = node.post(&path, &wanted).await.map_err(explain)?;
                context.answer(&resumed, || details(&resumed))?;
                return Ok(if is_live(&resumed) { Exit::Done } else { Exit::Broken });
            }
            MatchCommand::Migrate { prefix, to } => {
                let found = find(&node, Some(&prefix)).await?;
                let path = format!("/v1/matches/{}/migrate", found.id);
                let moved: Migrated =
                    node.post(&path, &MigrateMatch { to }).await.map_err(explain)?;
                context.answer(&moved, || vec![moved_words(&moved)])?;
            }
            MatchCommand::Standby { prefix, what } => {
                standby(context, &node, &prefix, what).await?;
            }
            MatchCommand::Stop { prefix, reason } => {
                let found = find(&node, Some(&prefix)).await?;
                let path = format!("/v1/matches/{}/stop", found.id);
                let stopped: MatchView =
                    node.post(&path, &StopMatch { reason }).await.map_err(explain)?;
                context.answer(&stopped, || details(&stopped))?;
            }
            // They ask the store, not a node.
            MatchCommand::Stats { .. }
            | MatchCommand::Values { .. }
            | MatchCommand::Pin(_)
            | MatchCommand::Unpin { .. }
            | MatchCommand::Pins => {}
        }
        Ok(Exit::Done)
    })
}

fn moved_words(Migrated { id, node, pause_ms }: &Migrated) -> String {
    format!("match {id} is at node {node} now; it stood still for {pause_ms} ms")
}

/// What is to be done about ticks that the node's build computes otherwise.
fn otherwise(from_last_equal: bool, accept: bool) -> Option<Otherwise> {
    let accepted = accept.then_some(Otherwise::Accept);
    accepted.or(from_last_equal.then_some(Otherwise::FromLastEqual))
}

/// The game type that was asked for, or the first that the node has.
async fn game_or_first(node: &AdminClient, game: Option<String>) -> Result<String, Failure> {
    match game {
        Some(game) => Ok(game),
        None => first_game(node).await,
    }
}

/// A match with the lines of its clients, which lists leave out.
async fn whole(node: &AdminClient, prefix: &str) -> Result<MatchView, Failure> {
    let MatchView { id, .. } = find(node, Some(prefix)).await?;
    node.get(&format!("/v1/matches/{id}")).await.map_err(explain)
}

/// Says where in the cluster a match is.
async fn answer_where(context: &Context, node: &AdminClient, prefix: &str) -> Result<(), Failure> {
    let found = find(node, Some(prefix)).await?;
    let path = format!("/v1/matches/{}/where", found.id);
    let place: WhereView = node.get(&path).await.map_err(explain)?;
    context.answer(&place, || whereabouts(&place))?;
    Ok(())
}

async fn standby(
    context: &Context,
    node: &AdminClient,
    prefix: &str,
    what: StandbyWord,
) -> Result<(), Failure> {
    let view = standby_of(node, prefix, what).await?;
    context.answer(&view, || standbys(&view, what))?;
    Ok(())
}

/// Sets how many nodes follow a match, if that is asked for; the match as it is then.
async fn standby_of(
    node: &AdminClient,
    prefix: &str,
    what: StandbyWord,
) -> Result<MatchView, Failure> {
    let found = find(node, Some(prefix)).await?;
    let standbys = match what {
        StandbyWord::Show => return Ok(found),
        StandbyWord::On => Some(1),
        StandbyWord::Off => Some(0),
        StandbyWord::Default => None,
    };
    let path = format!("/v1/matches/{}/standby", found.id);
    node.post(&path, &SetStandby { standbys }).await.map_err(explain)
}

/// Who follows a match, and what was said of it just now.
fn standbys(view: &MatchView, what: StandbyWord) -> Vec<String> {
    let mut lines = match what {
        StandbyWord::On => vec![format!("match {} is to have a standby", view.id)],
        StandbyWord::Off => vec![format!("match {} is to have no standby", view.id)],
        StandbyWord::Default => vec![format!("match {} is to have what its game has", view.id)],
        StandbyWord::Show => Vec::new(),
    };
    if what == StandbyWord::Show && view.followers.is_empty() {
        lines.push(format!("nobody follows match {}", view.id));
    }
    lines.extend(view.followers.iter().map(|follower| follower.words.clone()));
    lines
}

pub(super) fn drain(context: &Context) -> Result<Exit, Failure> {
    let node = context.node()?;
    block_on(async {
        let answer: Draining = node.post("/v1/drain", &DrainNode {}).await.map_err(explain)?;
        context.answer(&answer, || {
            vec![format!(
                "draining: {} to checkpoint, then the node stops",
                counted(answer.matches, "match", "matches")
            )]
        })?;
        Ok(Exit::Done)
    })
}

/// The game of a match when nobody says which: the first that the node has, which need not be one
/// of this executable.
async fn first_game(node: &AdminClient) -> Result<String, Failure> {
    let view: NodeView = node.get("/v1/node").await.map_err(explain)?;
    let game = view.games.into_iter().next();
    game.ok_or_else(|| {
        Failure::new(
            Exit::Failed,
            format!("RK-CLI-145: the node at http://{} has no game", node.addr()),
        )
    })
}

/// The match of a running node whose id begins with `prefix`; without a prefix the first that runs,
/// see [`find_of`].
pub(super) async fn find(node: &AdminClient, prefix: Option<&str>) -> Result<MatchView, Failure> {
    let Some(prefix) = prefix else { return find_of(node, None).await };
    let matches: Vec<MatchView> = node.get("/v1/matches").await.map_err(explain)?;
    let ids = matches.iter().filter_map(|view| view.id.parse::<MatchId>().ok());
    let id = pick(prefix, ids)
        .map_err(|error: PickError| Failure::new(Exit::NotFound, error.to_string()))?
        .to_string();
    matches
        .into_iter()
        .find(|view| view.id == id)
        .ok_or_else(|| Failure::new(Exit::NotFound, PickError::None(id).to_string()))
}

/// The first match that runs on this node, of this game if one is named; without one, the first
/// that runs on another node of the cluster, to which clients are sent from here.
pub(super) async fn find_of(node: &AdminClient, game: Option<&str>) -> Result<MatchView, Failure> {
    let mut matches: Vec<MatchView> = node.get("/v1/matches").await.map_err(explain)?;
    matches.retain(|view| !is_collection(view) && game.is_none_or(|game| view.game == game));
    let elsewhere = |view: &MatchView| view.state == Condition::Elsewhere;
    let found = matches.iter().position(is_live).or_else(|| matches.iter().position(elsewhere));
    found.map(|index| matches.swap_remove(index)).ok_or_else(|| {
        let (of, which) = game.map_or_else(Default::default, |game| {
            (format!(" of `{game}`"), format!(" --game {game}"))
        });
        let message = format!(
            "RK-CLI-012: no match{of} runs there; `rekindle match create{which}` makes one"
        );
        Failure::new(Exit::NotFound, message)
    })
}

/// Which exit code an answer of the node means.
pub(super) fn explain(error: ClientError) -> Failure {
    let exit = match &error {
        ClientError::Unreachable(..) | ClientError::Broken(..) => Exit::NoNode,
        ClientError::Refused(404, _) => Exit::NotFound,
        ClientError::Refused(400, _) => Exit::Usage,
        ClientError::Refused(..) | ClientError::Strange(..) => Exit::Failed,
    };
    let message = match &error {
        ClientError::Refused(_, problem) if !problem.message.starts_with(&problem.code) => {
            format!("{}: {error}", problem.code)
        }
        _ => error.to_string(),
    };
    Failure::new(exit, message)
}

/// A new match, and what its players need.
fn created(made: &CreatedMatch) -> Vec<String> {
    let mut lines = details(&made.view);
    lines.extend(made.addresses.iter().map(|address| format!("address    {address}")));
    lines.push(format!("cert       sha256 {}", made.certificate_sha256));
    let ticket = |of: &SeatTicket| format!("ticket     player {}: {}", of.player, of.ticket);
    lines.extend(made.tickets.iter().map(ticket));
    lines
}

fn table(matches: &[MatchView]) -> Vec<String> {
    if matches.is_empty() {
        return vec!["no matches; `rekindle match create` makes one".to_owned()];
    }
    let games = matches.iter().map(|view| game_of(view).chars().count());
    let width = games.max().unwrap_or(0).max(10);
    let mut lines = vec![format!(
        "{:<16}  {:<width$}  {:<10}  {:>10}  {:>5}  {:>9}  {}",
        "MATCH", "GAME", "STATE", "TICK", "EPOCH", "SEATS", "STANDBY"
    )];
    for view in matches {
        lines.push(format!(
            "{:<16}  {:<width$}  {:<10}  {:>10}  {:>5}  {:>9}  {}",
            view.id,
            game_of(view),
            view.state,
            number(view.tick),
            view.epoch,
            seats(view),
            ready(view)
        ));
    }
    let notes = notes(matches);
    let more = notes.len().saturating_sub(NOTES);
    lines.extend(notes.into_iter().take(NOTES));
    if more > 0 {
        lines.push(format!("note: and {more} more reasons; `match show` gives those of a match"));
    }
    lines
}

/// Why matches do not run, a line for each reason with the matches in front. Of many that wait for
/// the same, each gives the same reason but for its own id.
fn notes(matches: &[MatchView]) -> Vec<String> {
    let mut notes: BTreeMap<String, Vec<&MatchView>> = BTreeMap::new();
    for view in matches.iter().filter(|view| view.state != Condition::Ended) {
        let Some(reason) = view.reason.as_deref() else { continue };
        let reason = without_its_id(reason, &view.id);
        let general = reason.replace(&view.id, "ID").replace(short(&view.id), "ID");
        notes.entry(general).or_default().push(view);
    }
    let line = |(general, of): (String, Vec<&MatchView>)| {
        if let [view] = of[..] {
            let reason = view.reason.as_deref().unwrap_or_default();
            return format!("note: {}: {}", view.id, without_its_id(reason, &view.id));
        }
        let named: Vec<&str> = of.iter().take(NAMED).map(|view| &view.id[..]).collect();
        let more = of.len() - named.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("note: {}{more}: {general}", named.join(", "))
    };
    notes.into_iter().map(line).collect()
}

/// The first digits of an id, as commands in reasons name it.
fn short(id: &str) -> &str {
    id.get(..8).unwrap_or(id)
}

/// The nodes that would go on with a match, or a dash.
fn ready(view: &MatchView) -> String {
    let ready = view.followers.iter().filter(|follower| follower.ready);
    let names: Vec<&str> = ready.map(|follower| follower.node.as_str()).collect();
    if names.is_empty() { "-".to_owned() } else { names.join(",") }
}

/// Players, and how many there can be if the node that answers knows it. Of a match elsewhere only
/// a node that has just been asked tells its players; then there is no reason given.
fn seats(view: &MatchView) -> String {
    // Its one session is the node's own.
    if is_collection(view) {
        return "-".to_owned();
    }
    let players = match view.state {
        Condition::Elsewhere if view.reason.is_some() => "-".to_owned(),
        _ => view.players.to_string(),
    };
    view.seats.map_or_else(|| players.clone(), |seats| format!("{players}/{seats}"))
}

/// A number, or a dash if the node does not know it.
fn number(number: Option<u64>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn is_live(view: &MatchView) -> bool {
    view.state.is_live()
}

/// Whether it holds documents, and nobody plays in it.
fn is_collection(view: &MatchView) -> bool {
    view.id == collection_id(&view.game).to_string()
}

fn whereabouts(view: &WhereView) -> Vec<String> {
    let node = view.node.as_deref().unwrap_or("another node");
    let words = match view.place {
        Place::Here | Place::Elsewhere => {
            let players = view.players.as_deref().unwrap_or("an unknown address");
            format!("match {} is on {node}: players reach it at {players}", view.id)
        }
        Place::Between => format!("match {} is between two owners: ask again", view.id),
        Place::Parked => format!("match {} is parked: `rekindle match show` says why", view.id),
        Place::Over => {
            let reason = view.reason.as_deref().unwrap_or_default();
            format!("match {} is over: {reason}", view.id)
        }
    };
    vec![words]
}

async fn create(node: &AdminClient, args: CreateArgs) -> Result<CreatedMatch, Failure> {
    let CreateArgs { game, game_config, rules, property, bots, seed, tick_rate, on, ticket, ttl } =
        args;
    let wanted = CreateMatch {
        game: game_or_first(node, game).await?,
        config: by_rules(context::game_config(&game_config)?, rules),
        properties: property.into_iter().collect(),
        house_bots: bots,
        seed,
        tick_rate,
        on,
        seats: ticket.into_iter().map(|player| Seat { player, name: None }).collect(),
        ttl_s: ttl,
    };
    node.post("/v1/matches", &wanted).await.map_err(explain)
}

/// Properties as they stand in a request.
fn in_words(properties: &[(String, String)]) -> String {
    let each = properties.iter().map(|(name, value)| format!("{name}={value}"));
    each.collect::<Vec<_>>().join(",")
}

/// The configuration of a match that is played by this version of the rules.
fn by_rules(mut config: serde_json::Value, rules: Option<u32>) -> serde_json::Value {
    if let (Some(keys), Some(rules)) = (config.as_object_mut(), rules) {
        keys.insert(rekindle_sim::RULES.to_owned(), rules.into());
    }
    config
}

/// The game of a match, and the version of its rules unless it is the first.
fn game_of(view: &MatchView) -> String {
    match view.rules {
        Some(rules @ 2..) => format!("{} rules {rules}", view.game),
        _ => view.game.clone(),
    }
}

fn details(view: &MatchView) -> Vec<String> {
    // What is durable and not yet published is behind the tick that is shown as the newest.
    let durable = view.durable.map(|durable| view.tick.map_or(durable, |tick| durable.min(tick)));
    let mut lines = vec![
        format!("match      {}", view.id),
        format!("game       {}", game_of(view)),
        format!("state      {}", view.state),
        format!(
            "tick       {} at {} Hz{}, durable up to {}",
            number(view.tick),
            view.tick_rate,
            slowed(view),
            number(durable)
        ),
        format!("epoch      {}", view.epoch),
        who_plays(view),
    ];
    let named = view.properties.iter().map(|(name, value)| format!("property   {name}={value}"));
    lines.extend(named);
    lines.extend(view.node.iter().map(|node| format!("node       {node}")));
    lines.extend(view.build_change.iter().map(|words| format!("build      {words}")));
    let reason = view.reason.iter().map(|reason| without_its_id(reason, &view.id));
    lines.extend(reason.map(|reason| format!("reason     {reason}")));
    lines.extend(view.followers.iter().map(|follower| format!("standby    {}", follower.words)));
    lines.extend(view.clients.iter().map(|client| line_of(client, view.tick)));
    lines
}

/// At what rate a match goes that is slowed.
fn slowed(view: &MatchView) -> String {
    let rate = |periods| f64::from(view.tick_rate) / f64::from(periods);
    let words =
        |periods| format!(", slowed to {:.1} Hz: its node has too much to do", rate(periods));
    view.slowdown.map_or_else(String::new, words)
}

/// The line about players. Of a match that does not run here only what was asked for is known.
fn who_plays(view: &MatchView) -> String {
    let MatchView { game, players, house_bots, .. } = view;
    if is_collection(view) {
        return format!("documents  a collection: `rekindle doc ls {game}`");
    }
    let bots = usize::from(*house_bots);
    if view.state == Condition::Ended {
        return "players    none: it is over".to_owned();
    }
    if bots == 0 {
        format!("players    {players}")
    } else if bots <= *players {
        format!("players    {players}, {bots} of them house bots")
    } else {
        format!(
            "players    {players} now; it is to have {}",
            counted(bots, "house bot", "house bots")
        )
    }
}

/// The line of a client. `tick`: the newest published one.
fn line_of(client: &ClientView, tick: Option<u64>) -> String {
    let ClientView { player, carrier, protocol, rtt_ms, jitter_ms, lost, pace, has, .. } = client;
    let who = if client.spectator { "spectator " } else { "player    " };
    let behind = match (has, tick) {
        (Some(has), Some(tick)) => format!("{} ticks behind", tick.saturating_sub(*has)),
        _ => "has no snapshot yet".to_owned(),
    };
    let pace = pace.map_or_else(String::new, |pace| {
        format!(", its link carries {:.1} kB/s", f64::from(pace) / 1e3)
    });
    format!(
        "{who} {player}: {carrier}, protocol {protocol}, rtt {rtt_ms:.1} ms, jitter \
         {jitter_ms:.1} ms, {:.1} % lost, {behind}{pace}",
        lost * 100.0
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elsewhere(reason: Option<&str>, seats: Option<usize>) -> MatchView {
        MatchView {
            id: "00000000000000aa".to_owned(),
            game: "arena".to_owned(),
            state: Condition::Elsewhere,
            reason: reason.map(str::to_owned),
            tick: None,
            durable: None,
            node: Some("b".to_owned()),
            tick_rate: 30,
            slowdown: None,
            rules: Some(1),
            properties: BTreeMap::new(),
            epoch: 1,
            players: 3,
            seats,
            house_bots: 0,
            attempts: 0,
            followers: Vec::new(),
            build_change: None,
            clients: Vec::new(),
        }
    }

    #[test]
    fn players_of_a_match_elsewhere_are_told_only_if_its_node_was_asked() {
        assert_eq!(seats(&elsewhere(None, Some(16))), "3/16");
        assert_eq!(seats(&elsewhere(None, None)), "3");
        assert_eq!(seats(&elsewhere(Some("ask there"), Some(16))), "-/16");
        let here = MatchView { state: Condition::Running, ..elsewhere(None, Some(16)) };
        assert_eq!(seats(&here), "3/16");
        let game = "tictactoe-standing".to_owned();
        let id = collection_id(&game).to_string();
        let collection = MatchView { id, game, ..here.clone() };
        assert_eq!(seats(&collection), "-");
        let lines = table(&[here, collection]);
        let ends: Vec<_> = lines.iter().map(|line| line.rfind("  ")).collect();
        assert!(ends[0].is_some() && ends.iter().all(|end| *end == ends[0]), "{lines:#?}");
    }

    #[test]
    fn a_reason_has_the_ids_of_its_matches_in_front_and_says_them_once() {
        let waits = |id: &str, reason: &str| MatchView {
            id: id.to_owned(),
            state: Condition::Waits,
            reason: Some(reason.replace("LONG", id).replace("SHORT", short(id))),
            ..elsewhere(None, None)
        };
        let reason = "RK-X-001: match LONG: it differs; `rekindle match resume SHORT --accept`";
        let [a, b] = ["00000000000000aa", "11111111000000bb"];
        let (first, second) = (waits(a, reason), waits(b, reason));
        assert_eq!(
            notes(std::slice::from_ref(&first)),
            [format!("note: {a}: RK-X-001: it differs; `rekindle match resume 00000000 --accept`")]
        );
        assert_eq!(
            notes(&[first.clone(), second.clone()]),
            [format!("note: {a}, {b}: RK-X-001: it differs; `rekindle match resume ID --accept`")]
        );
        let many = [first.clone(), second.clone(), first.clone(), second, first];
        assert!(notes(&many)[0].contains(" and 2 more: "), "{:?}", notes(&many));
    }

    #[test]
    fn the_line_about_players_is_true_of_matches_that_are_over_too() {
        let with = |players, house_bots| {
            who_plays(&MatchView { players, house_bots, ..elsewhere(None, None) })
        };
        assert_eq!(with(3, 0), "players    3");
        assert_eq!(with(5, 4), "players    5, 4 of them house bots");
        assert_eq!(with(0, 4), "players    0 now; it is to have 4 house bots");
        let over = MatchView { state: Condition::Ended, house_bots: 4, ..elsewhere(None, None) };
        assert_eq!(who_plays(&over), "players    none: it is over");
    }

    #[test]
    fn no_tick_is_said_to_be_durable_that_is_not_said_to_be_made() {
        let view = MatchView { tick: Some(9), durable: Some(11), ..elsewhere(None, None) };
        assert!(details(&view)[3].ends_with("9 at 30 Hz, durable up to 9"));
        let view = MatchView { tick: Some(9), durable: Some(7), ..view };
        assert!(details(&view)[3].ends_with("9 at 30 Hz, durable up to 7"));
    }
}
