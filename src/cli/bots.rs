//! `rekindle bots`: plays with bots over the network and prints what they measured.

use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rekindle_actors::Games;
use rekindle_loadtest::{BotSpec, Brain, Swarm, SwarmConfig};
use rekindle_schema::wire::Role;
use rekindle_schema::{MatchId, PlayerId};

use super::access::Access;
use super::args::BotsArgs;
use super::exit::{Exit, Failure};
use super::start::counted;
use super::{Context, matches};
use crate::node::clock;

pub(super) fn run(context: &Context, args: &BotsArgs) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(play(context, args))
}

async fn play(context: &Context, args: &BotsArgs) -> Result<Exit, Failure> {
    let access = Access::find(context, args.connect).await?;
    let wanted = matches::find(&access.node, args.prefix.as_deref()).await?;
    let match_id = match args.prefix {
        Some(_) => wanted.id.parse::<MatchId>().ok(),
        None => None,
    };
    let brain = brain(&context.games, &wanted.game)?;
    // Other swarms may play in the same match, so the players' numbers are drawn from a wide range.
    let first = (clock::random() >> 3) | 1;
    let mut bots = Vec::with_capacity(usize::from(args.count));
    for number in 0..u64::from(args.count) {
        let player = first + number;
        let ticket = access.ticket(player, format!("bot-{}", number + 1), Role::Player).await?;
        bots.push(BotSpec { player: PlayerId(player), ticket, match_id });
    }
    let game = Some(wanted.game.clone());
    let swarm = Swarm::start(SwarmConfig { game, ..SwarmConfig::new(vec![access.addr], access.trust.clone(), bots, brain) })?;
    let bar = bar(args.seconds, context.common.json);
    let finished = tokio::select! {
        biased;
        signal = tokio::signal::ctrl_c() => signal.is_err(),
        () = wait(&swarm, args, &bar) => true,
    };
    bar.finish_and_clear();
    let summary = swarm.stop(true).await.summary();
    context.answer(&summary, || {
        format!(
            "{} in {}: {} inputs sent, {} declared durable, {} snapshots, {} hash beats\n\
             input to durable: p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms; sessions resumed {}, stopped early {}",
            counted(summary.bots, "bot", "bots"),
            counted(summary.matches, "match", "matches"),
            summary.inputs_sent,
            summary.inputs_durable,
            summary.snapshots,
            summary.beats,
            summary.latency.p50_ms,
            summary.latency.p99_ms,
            summary.latency.max_ms,
            summary.sessions_resumed,
            summary.closed
        )
    })?;
    let played = summary.closed == 0 && summary.inputs_durable > 0;
    Ok(if played || !finished { Exit::Done } else { Exit::Failed })
}

/// Until the time is over, or every bot has been sent away.
async fn wait(swarm: &Swarm, args: &BotsArgs, bar: &ProgressBar) {
    for second in 0..args.seconds {
        let progress = swarm.progress();
        bar.set_position(second);
        bar.set_message(format!("{} playing, {} inputs durable", progress.connected, progress.durable));
        if progress.closed >= u64::from(args.count) {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// How bots of a game play: by what any client sees.
pub(crate) fn brain(games: &Games, game: &str) -> Result<Brain, Failure> {
    let game = games.get(game)?;
    Ok(Arc::new(move |player, view, config, memory| game.bot(player, view, config, memory)))
}

fn bar(seconds: u64, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(seconds);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} s  {msg}") {
        bar.set_style(style);
    }
    bar
}
