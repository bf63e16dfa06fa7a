//! `rekindle bots`: plays with bots over the network and prints what they measured.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use rekindle_loadtest::{
    BotLog, BotSpec, Brain, Fact, Move, Percentiles, Summary, Swarm, SwarmConfig,
};
use rekindle_schema::condition::Condition;
use rekindle_schema::wire::Role;
use rekindle_schema::{MatchId, PlayerId};

use super::access::Access;
use super::args::BotsArgs;
use super::context::Context;
use super::matches;
use super::watch::coded;
use crate::clock;
use crate::exit::{Exit, Failure};
use crate::node::links::NO_ROOM;
use crate::screen::terminal::asked_to_end;
use crate::text::counted;

pub(super) fn run(context: &Context, args: &BotsArgs) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(play(context, args))
}

async fn play(context: &Context, args: &BotsArgs) -> Result<Exit, Failure> {
    let access = Access::find(context, args.connect).await?;
    let wanted = if args.prefix.is_some() {
        matches::find(&access.node, args.prefix.as_deref()).await?
    } else {
        matches::find_of(&access.node, args.game.as_deref()).await?
    };
    // Without a match, the node lets players into one of its own.
    let is_named = args.prefix.is_some() || wanted.state == Condition::Elsewhere;
    let match_id = if is_named { wanted.id.parse::<MatchId>().ok() } else { None };
    let idle: Brain = Arc::new(|_, _, _, _| Move::default());
    let brain = if args.idle { idle } else { context.brain(&wanted.game)? };
    // Other swarms may play in the same match, so the players' numbers are drawn from a wide range.
    let first = (clock::random() >> 3) | 1;
    let mut bots = Vec::with_capacity(usize::from(args.count));
    for number in 0..u64::from(args.count) {
        let player = first + number;
        let ticket = access.ticket(player, format!("bot-{}", number + 1), Role::Player).await?;
        bots.push(BotSpec { player: PlayerId(player), ticket, match_id, first: None });
    }
    let game = Some(wanted.game.clone());
    let mut config = SwarmConfig {
        game,
        ..SwarmConfig::new(vec![access.addr], access.trust.clone(), bots, brain)
    };
    // A bot that is not let in gives up before the time is over, and so says why.
    config.timing.give_up =
        config.timing.give_up.min(Duration::from_secs(args.seconds).mul_f64(0.9));
    let swarm = Swarm::start(config)?;
    let bar = bar(args.seconds, context.common.json);
    let signals = asked_to_end()?;
    let finished = tokio::select! {
        biased;
        () = signals => false,
        () = wait(&swarm, args, &bar) => true,
    };
    bar.finish_and_clear();
    let evidence = swarm.stop(true).await;
    let (summary, reasons) = (evidence.summary(), reasons(&evidence.bots, access.addr));
    tell(context, &summary, &reasons)?;
    let acted = summary.inputs_durable + summary.commands_answered > 0;
    let stayed = summary.closed + summary.cut_off == 0;
    let played = stayed && (acted || args.idle && summary.joins > 0);
    if played || !finished {
        return Ok(Exit::Done);
    }
    let why = reasons.into_iter().max_by_key(|(_, count)| *count).map(|(reason, _)| reason);
    let why = why.unwrap_or_else(|| {
        format!("no input became durable and no command was answered within {} s", args.seconds)
    });
    let next = if why.contains(NO_ROOM) {
        format!(
            "; `rekindle match create --game {}` makes one with room, `rekindle match ls --open` \
             lists those that have some",
            wanted.game
        )
    } else {
        String::new()
    };
    Err(Failure::new(Exit::Failed, format!("RK-CLI-148: not every bot could play: {why}{next}")))
}

/// Why bots did not play, or not to the end, and how many for each reason.
fn reasons(bots: &[BotLog], addr: SocketAddr) -> BTreeMap<String, usize> {
    let mut reasons = BTreeMap::new();
    for bot in bots {
        let (mut closed, mut lost, mut joined) = (None, None, false);
        for fact in &bot.facts {
            match fact {
                Fact::Closed { message, .. } => closed = Some(message.as_str()),
                Fact::Disconnected { reason, .. } => lost = Some(reason.as_str()),
                Fact::Joined { .. } | Fact::Resumed { .. } => joined = true,
                _ => {}
            }
        }
        let reason = match (closed, joined, lost) {
            (Some(message), ..) => coded(message),
            (None, false, Some(lost)) => coded(lost),
            (None, false, None) => coded(&format!("no server answered at UDP {addr}")),
            (None, true, Some(lost)) if bot.is_cut_off() => {
                coded(&format!("cut off, and not back when the time was over: {lost}"))
            }
            (None, true, _) if bot.tally.sent + bot.tally.commands == 0 => coded(
                "it got in and sent nothing: the time was too short, or bots of this game make \
                 neither inputs nor commands of what they see",
            ),
            (None, true, _) => continue,
        };
        *reasons.entry(reason).or_default() += 1;
    }
    reasons
}

/// Until the time is over, or every bot has been sent away or has seen its match end.
async fn wait(swarm: &Swarm, args: &BotsArgs, bar: &ProgressBar) {
    for second in 0..args.seconds {
        let progress = swarm.progress();
        bar.set_position(second);
        bar.set_message(format!(
            "{} playing, {} inputs durable, {} commands answered",
            progress.connected, progress.durable, progress.answered
        ));
        if progress.closed + progress.ended as u64 >= u64::from(args.count) {
            return;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

/// Prints what the bots measured, and why some stopped early.
fn tell(
    context: &Context,
    summary: &Summary,
    reasons: &BTreeMap<String, usize>,
) -> Result<(), Failure> {
    let mut value = serde_json::to_value(summary)?;
    value["reasons"] = serde_json::to_value(reasons)?;
    context.answer(&value, || {
        // Of bots that were never let in there is nothing to count.
        let mut lines = if summary.joins > 0 { played(summary) } else { Vec::new() };
        let moved = &summary.moved;
        if moved.count > 0 {
            lines.push(format!(
                "changes of the node: {}, from the last word of the old one to the welcome of the \
                 new one p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
                moved.count, moved.p50_ms, moved.p99_ms, moved.max_ms
            ));
        }
        lines.extend(
            reasons
                .iter()
                .map(|(reason, count)| format!("{}: {reason}", counted(*count, "bot", "bots"))),
        );
        lines
    })
}

/// What the bots did and how long it took, for people.
fn played(summary: &Summary) -> Vec<String> {
    let mut lines = vec![format!(
        "{} in {}: {} inputs sent, {} declared durable, {} snapshots, {} hash beats",
        counted(summary.bots, "bot", "bots"),
        counted(summary.matches, "match", "matches"),
        summary.inputs_sent,
        summary.inputs_durable,
        summary.snapshots,
        summary.beats
    )];
    if summary.commands_sent > 0 {
        let Percentiles { p50_ms, p99_ms, max_ms, .. } = summary.command_latency;
        lines.push(format!(
            "{} commands sent, {} answered, {} granted; command to answer: p50 {p50_ms:.1} ms, p99 \
             {p99_ms:.1} ms, max {max_ms:.1} ms",
            summary.commands_sent, summary.commands_answered, summary.commands_granted,
        ));
    }
    let Percentiles { p50_ms, p99_ms, max_ms, .. } = summary.latency;
    lines.push(format!(
        "input to durable: p50 {p50_ms:.1} ms, p99 {p99_ms:.1} ms, max {max_ms:.1} ms; sessions \
         resumed {}, stopped early {}",
        summary.sessions_resumed, summary.closed
    ));
    if summary.cut_off > 0 {
        lines.push(format!(
            "{} cut off, and not back when the time was over",
            counted(summary.cut_off as usize, "bot was", "bots were")
        ));
    }
    if summary.ended > 0 {
        lines.push(format!(
            "{} played until the match ended",
            counted(summary.ended as usize, "bot", "bots")
        ));
    }
    lines
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
