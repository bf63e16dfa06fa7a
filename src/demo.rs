//! `rekindle demo`: the promise, tried before your eyes.
//!
//! A node process, matches, bots over real QUIC; SIGKILL, restart, again and again; then the
//! verdict. [`plan`] says when to kill, `home.rs` where the node keeps everything, [`child`] owns
//! the process, [`stage`] shows it, [`facts`] reads the journal afterwards, and [`verdict`]
//! compares it with what the bots saw on the wire. When a match ends, its bots go on into another
//! one, which `encore` has created. With several nodes [`cluster`] plays instead:
//! one is killed, one frozen, one drained, and the matches go on at the others; [`outage`] says
//! what that cost.

pub mod child;
pub mod cluster;
mod encore;
pub mod facts;
mod home;
pub mod outage;
pub mod plan;
pub mod stage;
mod summary;
pub mod verdict;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use rekindle_client::{Client, ClientConfig};
use rekindle_loadtest::{BotSpec, Evidence, Progress, Swarm, SwarmConfig, Trust};
use rekindle_schema::wire::Role;
use rekindle_schema::{MatchId, PlayerId};
use rekindle_store_open::address::StoreAddress;
use tokio::time::sleep;

use crate::cli::args::DemoArgs;
use crate::cli::context::{Context, game_config};
use crate::exit::{Exit, Failure};
use crate::inspect::reading::Reading;
use crate::node::card::NodeCard;
use crate::node::{PARKED, RECOVERING, RESUMED, keyring, tickets};
use crate::screen::terminal::asked_to_end;
use crate::text::counted;
use child::{Launch, NodeEvent, NodeProcess};
use encore::Encores;
use facts::Cut;
use home::Home;
use outage::Outage;
use plan::Aim;
use stage::Stage;
use summary::Summary;
use verdict::{MIN_COMMANDS, MIN_HASHES, MIN_INPUTS, Verdict};

/// Log code that says that a node is ready.
const READY: &str = crate::node::READY;
/// Log code that says that a checkpoint is about to be written.
const CHECKPOINT: &str = "RK-HOST-038";
/// Nothing in a demo takes longer than this.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long the fight goes on after the last kill, at least.
const EPILOGUE: Duration = Duration::from_millis(1_500);
/// How long a kill that waits for a checkpoint waits.
const CHECKPOINT_WITHIN: Duration = Duration::from_secs(4);

/// Settings of the node: everything is kept for the verdict, checkpoints come often so that kills
/// can hit them, and matches that are killed again and again are not taken for the cause.
const SETTINGS: &[&str] = &[
    "retention.journal=all",
    "output=durable",
    "checkpoint.every_s=2",
    "recovery.healthy_ms=200",
    "recovery.attempts=20",
    "log.filter=info,rekindle_actors::checkpoint=debug",
];

/// Plays the show. [`Exit::Done`] only if the verdict is good.
pub fn run(context: &Context, args: &DemoArgs) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(perform(context, args))
}

async fn perform(context: &Context, args: &DemoArgs) -> Result<Exit, Failure> {
    let cast = Cast::choose(context, args)?;
    let home = Home::choose(context, args.nodes)?;
    let stage = Arc::new(Stage::open(context.common.json, context.games.clone())?);
    let script = async {
        home.prepare().await?;
        let show = if args.nodes > 1 {
            cluster::play(context, args, &cast, &home, &stage).await?
        } else {
            play(context, args, &cast, &home, &stage).await?
        };
        judge(context, args, &cast, &home.store, &stage, show).await
    };
    // A signal must not leave the terminal, and the node, as they are.
    let signals = asked_to_end()?;
    let outcome = tokio::select! {
        biased;
        outcome = script => outcome,
        () = signals => {
            stage.close();
            return Err(stopped());
        }
        drawn = stage.draw() => {
            stage.close();
            drawn?;
            return Err(stopped());
        }
    };
    stage.close();
    let (summary, verdict) = outcome?;
    let kept = home.finish(verdict.holds()).await;
    context.answer(&summary.json(&verdict, kept.as_ref()), || {
        summary.words(&verdict, kept.as_ref())
    })?;
    Ok(if verdict.holds() { Exit::Done } else { Exit::Broken })
}

fn stopped() -> Failure {
    Failure::new(Exit::Failed, "RK-DEMO-005: stopped before the verdict")
}

/// What is played: which game, how configured, by how many bots, in how many matches.
struct Cast {
    game: String,
    config: serde_json::Value,
    players: u16,
    matches: u16,
}

/// So many bots play unless somebody says otherwise, if there is room for them.
const PLAYERS: u16 = 32;

impl Cast {
    fn choose(context: &Context, args: &DemoArgs) -> Result<Self, Failure> {
        let game = match &args.game {
            Some(game) => game.as_str(),
            None => context.first_game()?,
        };
        let (config, room) = match &args.game_config {
            Some(typed) => {
                let config = game_config(typed)?;
                let room = context.room_with(game, &config)?;
                (config, room)
            }
            None => (context.showcase(game), context.room(game)?),
        };
        // Two for each node at least, and as many as the bots need.
        let needed = usize::from(args.players.unwrap_or(PLAYERS)).div_ceil(room.max(1)) as u16;
        let matches = args.matches.unwrap_or_else(|| needed.max(2 * args.nodes));
        let all = room * usize::from(matches);
        let players = args.players.map_or(all.min(usize::from(PLAYERS)), usize::from);
        if players > all {
            let message = format!(
                "RK-DEMO-140: {players} players do not fit: a match of `{game}` takes {room}, and \
                 there are {}; use --players {all}, or more --matches",
                counted(usize::from(matches), "match", "matches")
            );
            return Err(Failure::new(Exit::Usage, message));
        }
        Ok(Self { game: game.to_owned(), config, players: players as u16, matches })
    }
}

/// What the show leaves behind.
struct Show {
    evidence: Evidence,
    kills: usize,
    /// When each outage by a kill began, since the swarm's start: at the last kill of a row, for
    /// one that hits a recovery only makes an outage longer.
    outages: Vec<Duration>,
    /// All outages, and whom they cut off.
    cuts: Vec<Cut>,
    /// Kills that hit what they were aimed at: a recovery, or the writing of a checkpoint.
    hits: usize,
    /// What was done to several nodes, in order.
    acts: Vec<Outage>,
    seconds: f64,
}

/// The node, and all that has to be told of it.
struct Theatre<'a> {
    launch: Launch,
    node: NodeProcess,
    stage: &'a Stage,
    after_kill: Option<&'a str>,
}

impl Theatre<'_> {
    async fn ready(&mut self) -> Result<NodeCard, Failure> {
        let stage = self.stage;
        self.node.ready(&self.launch, &mut |event| report(stage, event)).await
    }

    /// Waits for an event with this log code, for so long at most.
    async fn hears(&mut self, code: &str, within: Duration) -> bool {
        let stage = self.stage;
        self.node.wait_for(code, within, &mut |event| report(stage, event)).await.is_some()
    }

    fn restart(&mut self) -> Result<(), Failure> {
        self.node = NodeProcess::start(&self.launch)?;
        self.stage
            .tell(&format!("node started again, pid {}", self.node.pid().unwrap_or_default()));
        Ok(())
    }

    async fn kill(&mut self, aim: Aim) -> Result<(), Failure> {
        let pid = self.node.pid().unwrap_or_default();
        self.node.kill().await?;
        self.stage.tell(&format!("SIGKILL {} (pid {pid})", aim.words()));
        let Some(command) = self.after_kill else { return Ok(()) };
        let status = tokio::process::Command::new("sh")
            .args(["-c", command])
            .kill_on_drop(true)
            .status()
            .await?;
        if !status.success() {
            return Err(Failure::new(
                Exit::Failed,
                format!("RK-DEMO-008: `{command}` ended with {status}"),
            ));
        }
        Ok(())
    }
}

async fn play(
    context: &Context,
    args: &DemoArgs,
    cast: &Cast,
    home: &Home,
    stage: &Arc<Stage>,
) -> Result<Show, Failure> {
    let settings = SETTINGS.iter().map(|&setting| setting.to_owned()).collect();
    let launch = Launch {
        executable: std::env::current_exe()?,
        data_dir: home.dir.clone(),
        store: home.store.clone(),
        listen: ([127, 0, 0, 1], 0).into(),
        admin: ([127, 0, 0, 1], 0).into(),
        settings,
    };
    let node = NodeProcess::start(&launch)?;
    stage.tell(&format!("node started, pid {}", node.pid().unwrap_or_default()));
    let mut theatre = Theatre { launch, node, stage, after_kill: args.after_kill.as_deref() };
    let card = theatre.ready().await?;
    // Clients come back to the same address, so every later start takes the port that the first one
    // found.
    theatre.launch.listen = card.listen;
    let cards = [card];
    let Playing { swarm, encores } =
        let_in(context, args, cast, home, stage, &cards, vec![home.dir.clone()]).await?;
    everybody_plays(&swarm, cast, "the bots did not all get in").await?;
    stage.tell(&format!(
        "{} bots play in {} over QUIC",
        cast.players,
        counted(cast.matches.into(), "match", "matches")
    ));
    let aims = plan::kills(args.kills, args.seed);
    let (outages, hits) = kill_again_and_again(&mut theatre, &swarm, cast, &aims).await?;
    watch_fight(&swarm, stage, EPILOGUE).await;
    enough_seen(&swarm, cast, &encores).await;
    everybody_plays(&swarm, cast, "not every bot plays at the end").await?;
    let seconds = swarm.elapsed().as_secs_f64();
    // The sessions stay open: leaving is not what is tried here.
    let evidence = swarm.stop(false).await;
    theatre.node.stop().await?;
    stage.tell("node stopped cleanly; now the verdict");
    let cuts = outages.iter().map(|&at| Cut { at, of: None }).collect();
    Ok(Show { evidence, kills: aims.len(), outages, cuts, hits, acts: Vec::new(), seconds })
}

/// Waits until the bots have seen what a verdict needs.
async fn enough_seen(swarm: &Swarm, cast: &Cast, encores: &Encores) {
    // All bots of a match receive the same beats.
    let players = u64::from(cast.players).max(1);
    let played = u64::from(cast.matches.min(cast.players));
    let enough = |progress: &Progress| {
        let inputs = progress.durable >= MIN_INPUTS as u64 + 200;
        let commands = progress.answered >= MIN_COMMANDS as u64 + 50;
        // A match that has ended leaves a hash of its end.
        let hashes = progress.beats * played / players + encores.count() as u64;
        (inputs || commands) && hashes >= MIN_HASHES as u64 + played
    };
    swarm.wait_until(PATIENCE, enough).await;
}

/// The bots at play, and what creates their matches.
struct Playing {
    swarm: Swarm,
    encores: Arc<Encores>,
}

/// Has the nodes create the matches in turn, starts the bots, and seats spectators if there is a
/// screen. The nodes have these cards, which lie in `dirs`, and the keys of the store.
async fn let_in(
    context: &Context,
    args: &DemoArgs,
    cast: &Cast,
    home: &Home,
    stage: &Arc<Stage>,
    cards: &[NodeCard],
    dirs: Vec<PathBuf>,
) -> Result<Playing, Failure> {
    let keys = keyring::of_store(&home.store, context.config.cluster_secret.as_ref()).await?;
    let addrs: Vec<_> = cards.iter().map(|card| card.listen).collect();
    // All nodes of a cluster show the same one.
    let trust = Trust::Certificate(std::fs::read(&cards[0].certificate)?);
    let ticket = tickets::issue(&keys, &ticket_for(1_000_000, Role::Spectator))?;
    let spectate = spectators(stage, &addrs, &trust, ticket);
    let seat = Arc::clone(&spectate);
    let follow = move |ended, place| seat(Some(ended), place);
    let encores = Arc::new(Encores::new(cast, dirs, args.seed, Box::new(follow)));
    let mut places = Vec::with_capacity(usize::from(cast.matches));
    for (_, card) in (0..cast.matches).zip(cards.iter().cycle()) {
        places.push((encores.create(card).await?, card.listen));
    }
    let bots: Vec<BotSpec> = (0..cast.players)
        .zip(places.iter().cycle())
        .map(|(index, &(match_id, first))| {
            let player = u64::from(index) + 1;
            let ticket = tickets::issue(&keys, &ticket_for(player, Role::Player))?;
            let player = PlayerId(player);
            Ok(BotSpec { player, ticket, match_id: Some(match_id), first: Some(first) })
        })
        .collect::<Result<_, Failure>>()?;
    let mut config = SwarmConfig::new(addrs, trust, bots, context.brain(&cast.game)?);
    // Bots that are not let in say why before they are waited for no longer.
    config.timing.give_up = PATIENCE.saturating_sub(Duration::from_secs(5));
    let next = Arc::clone(&encores);
    config.next = Some(Arc::new(move |ended| {
        let next = Arc::clone(&next);
        async move { next.next(ended).await }.boxed()
    }));
    let swarm = Swarm::start(config)?;
    for &place in &places {
        spectate(None, place);
    }
    Ok(Playing { swarm, encores })
}

/// Seats a spectator in a match and at the node that runs it, in the place of the one who saw a
/// match that has ended.
type Spectate = Arc<dyn Fn(Option<MatchId>, (MatchId, SocketAddr)) + Send + Sync>;

/// Spectators who come with this ticket to nodes at these addresses. Without a screen nobody does.
fn spectators(stage: &Arc<Stage>, addrs: &[SocketAddr], trust: &Trust, ticket: String) -> Spectate {
    let (stage, addrs, trust) = (Arc::clone(stage), addrs.to_vec(), trust.clone());
    Arc::new(move |instead_of, (match_id, home)| {
        if !stage.has_screen() {
            return;
        }
        let others = addrs.iter().copied().filter(|&addr| addr != home);
        let addrs = std::iter::once(home).chain(others).collect();
        let mut config = ClientConfig::new(addrs, trust.clone(), ticket.clone());
        (config.role, config.match_id) = (Role::Spectator, Some(match_id));
        match Client::connect(config) {
            Ok(client) => stage.seat(match_id, instead_of, client),
            Err(error) => stage.tell(&format!("match {} is not shown: {error}", match_id.short())),
        }
    })
}

/// Kills the node as planned and starts it again. Returns when each outage began, since the swarm's
/// start, and how many kills hit what they were aimed at.
async fn kill_again_and_again(
    theatre: &mut Theatre<'_>,
    swarm: &Swarm,
    cast: &Cast,
    aims: &[Aim],
) -> Result<(Vec<Duration>, usize), Failure> {
    let stage = theatre.stage;
    let mut outages = Vec::with_capacity(aims.len());
    let mut hits = 0;
    for (index, &aim) in aims.iter().enumerate() {
        match aim {
            Aim::Fight(after) => watch_fight(swarm, stage, after).await,
            Aim::Recovery(delay) => {
                // The node was killed just now and starts: hit it as soon as it replays.
                hits += usize::from(theatre.hears(RECOVERING, PATIENCE).await);
                sleep(delay).await;
            }
            Aim::Checkpoint(delay) => {
                theatre.node.drain_events(&mut |event| report(stage, event));
                hits += usize::from(theatre.hears(CHECKPOINT, CHECKPOINT_WITHIN).await);
                sleep(delay).await;
            }
        }
        let killed = swarm.elapsed();
        theatre.kill(aim).await?;
        theatre.restart()?;
        if !matches!(aims.get(index + 1), Some(Aim::Recovery(_))) {
            outages.push(killed);
            theatre.ready().await?;
            everybody_plays(swarm, cast, "not every bot came back").await?;
            stage.tell("every match goes on, every bot is back in its session");
        }
    }
    Ok((outages, hits))
}

fn ticket_for(player: u64, role: Role) -> tickets::Wanted {
    tickets::Wanted {
        player: PlayerId(player),
        name: Some(format!("bot-{player}")),
        role,
        match_id: None,
        ttl_s: 3_600,
    }
}

/// Waits until every bot has got ticks since, be it in its match or in the next one.
async fn everybody_plays(swarm: &Swarm, cast: &Cast, otherwise: &str) -> Result<(), Failure> {
    let all = usize::from(cast.players);
    let before = swarm.bots();
    let playing = || {
        let now = swarm.bots();
        now.iter().zip(&before).filter(|(now, old)| now.snapshots > old.snapshots + 2).count()
    };
    if swarm.wait_until(PATIENCE, |_| playing() >= all).await {
        return Ok(());
    }
    let why =
        swarm.trouble().map_or_else(String::new, |why| format!("; the last reason given: {why}"));
    let message = format!(
        "RK-DEMO-007: {otherwise}: {} of {all} play after {} s{why}",
        playing(),
        PATIENCE.as_secs()
    );
    Err(Failure::new(Exit::Broken, message))
}

/// Lets them fight, with the counts below the picture.
async fn watch_fight(swarm: &Swarm, stage: &Stage, time: Duration) {
    let end = tokio::time::Instant::now() + time;
    while tokio::time::Instant::now() < end {
        let progress = swarm.progress();
        stage.foot(format!(
            "{} bots play   {} inputs durable   {} commands answered   {} hash beats   {} sessions \
             resumed   q ends",
            progress.connected,
            progress.durable,
            progress.answered,
            progress.beats,
            progress.resumed
        ));
        tokio::time::sleep_until(end.min(tokio::time::Instant::now() + Duration::from_millis(100)))
            .await;
    }
}

/// What the node says of its recoveries goes on the timeline.
fn report(stage: &Stage, event: &NodeEvent) {
    let field = |name: &str| {
        event
            .fields
            .get(name)
            .map_or_else(String::new, |value| value.to_string().trim_matches('"').to_owned())
    };
    let id = field("match_id");
    let short = id.get(..8).unwrap_or(&id);
    match event.code.as_str() {
        RESUMED => stage.tell(&format!(
            "match {short} resumed at tick {}: {} ticks replayed in {} ms, hash {}",
            field("tick"),
            field("replayed"),
            field("took_ms"),
            if field("hash_ok") == "true" { "ok" } else { "DIFFERS" }
        )),
        PARKED => stage.tell(&format!("match {short} NOT resumed: {}", field("report"))),
        _ => {}
    }
}

async fn judge(
    context: &Context,
    args: &DemoArgs,
    cast: &Cast,
    store: &StoreAddress,
    stage: &Stage,
    show: Show,
) -> Result<(Summary, Verdict), Failure> {
    let reading = Reading::of(store)?;
    let facts = facts::read(&reading.store().await?, &context.games).await?;
    let witness = |log| facts::witness(log, &show.cuts);
    let witnesses: Vec<_> = show.evidence.bots.iter().map(witness).collect();
    let players = usize::from(cast.players);
    let mut verdict = verdict::judge(players, &witnesses, &facts, !show.cuts.is_empty());
    let mut back: Vec<Duration> =
        show.outages.iter().flat_map(|&kill| show.evidence.back_after(kill)).collect();
    back.sort_unstable();
    let ms = |at: Option<&Duration>| at.map_or(0.0, |&time| outage::ms(time));
    let costs = outage::Costs::of(&show.acts, &show.evidence.bots);
    verdict.faults.extend(costs.faults());
    stage.tell("the journal is read and every match simulated again");
    let summary = Summary {
        kills: show.kills,
        hits: show.hits,
        matches: facts.len(),
        players: usize::from(cast.players),
        seed: args.seed,
        seconds: show.seconds,
        p50_ms: ms(back.get(back.len() / 2)),
        max_ms: ms(back.last()),
        costs: (args.nodes > 1).then_some(costs),
    };
    Ok((summary, verdict))
}
