//! `rekindle` and `rekindle start`: a node in this process.

use std::io::Read as _;
use std::sync::Arc;

use rekindle_schema::MatchId;
use tokio::sync::oneshot;

use super::exit::{Exit, Failure};
use super::{Context, say};
use crate::admin::api::CreateMatch;
use crate::node::Serving;
use crate::node::card::NodeCard;
use crate::node::run::{self, Milestone, Run};
use crate::telemetry;

/// House bots in the match of the first run.
const HOUSE_BOTS: u16 = 8;

/// No subcommand: a node with something going on in it, and words that say what to do next.
pub(super) fn first_run(context: &Context) -> Result<Exit, Failure> {
    // The first game that this executable knows: `arena` in ours, a studio's own in theirs.
    let game = context.games.names().next().ok_or_else(|| {
        Failure::new(Exit::Usage, "RK-CLI-020: this executable has no game: register one with Node::new().game::<MyGame>()")
    })?;
    let first_match =
        CreateMatch { game: game.to_owned(), config: context.showcase.clone(), house_bots: HOUSE_BOTS, seed: None, tick_rate: None };
    serve(context, Some(first_match), false)
}

/// `start`: serves only what it is asked for.
pub(super) fn start(context: &Context, until_stdin_closes: bool) -> Result<Exit, Failure> {
    serve(context, None, until_stdin_closes)
}

fn serve(context: &Context, first_match: Option<CreateMatch>, until_stdin_closes: bool) -> Result<Exit, Failure> {
    let metrics = telemetry::init_metrics()?;
    let run = Run {
        config: context.config.clone(),
        games: context.games.clone(),
        metrics,
        first_match,
        abandoned: until_stdin_closes.then(stdin_closed),
    };
    let json = context.common.json;
    let data_dir = context.common.data_dir.as_ref().map_or_else(String::new, |dir| format!(" --data-dir {dir}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(run::run(run, &mut |milestone| {
        let line = if json { to_json(&milestone) } else { to_words(&milestone, &data_dir) };
        say(&line);
    }));
    // Blocking tasks of a node that failed must not hold up its end.
    runtime.shutdown_background();
    exit
}

/// Resolves when standard input is at its end. The thread ends with the process.
fn stdin_closed() -> oneshot::Receiver<()> {
    let (closed, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while matches!(std::io::stdin().lock().read(&mut buffer), Ok(1..)) {}
        // The node may have ended before.
        let _ = closed.send(());
    });
    receiver
}

fn to_words(milestone: &Milestone<'_>, data_dir: &str) -> String {
    match milestone {
        Milestone::Resumed(id, report) => format!(
            "match {} resumed at tick {}: {} ticks replayed in {} ms, hash {}",
            id.short(),
            grouped(report.tick.0),
            grouped(report.replayed),
            report.took_ms,
            if report.hash_ok { "ok" } else { "DIFFERS (made by another build)" }
        ),
        Milestone::NotResumed(id, why) => format!("match {} not resumed: {why}", id.short()),
        Milestone::Ready(card, node) => ready(card, node, data_dir),
        Milestone::Draining => "draining: every match is checkpointed before the node stops (Ctrl-C again: stop at once)".to_owned(),
        Milestone::Drained(matches, took_ms) => {
            format!("stopped: {matches} matches checkpointed in {took_ms} ms; start again and they go on")
        }
    }
}

fn ready(card: &NodeCard, node: &Arc<Serving>, data_dir: &str) -> String {
    let program = std::env::args().next().unwrap_or_else(|| "rekindle".to_owned());
    let matches = node.parts().host.list();
    let running: Vec<String> =
        matches.iter().map(|status| format!("{} ({}, {} players)", status.match_id.short(), status.game, status.sessions)).collect();
    let running = if running.is_empty() { "none yet".to_owned() } else { running.join(", ") };
    let first = matches.first().map_or_else(|| "MATCH".to_owned(), |status| status.match_id.short());
    format!(
        "\nnode {name} serves players on UDP {listen}, matches: {running}\n\
         \n  health    http://{admin}/readyz\n  metrics   http://{admin}/metrics\n  all paths http://{admin}/\n\
         \nIn another terminal:\n\
         \n  {program} watch{data_dir}                 the fight, live\n  {program} bots --count 8 --seconds 10{data_dir}   more players, over the network\
         \n  {program} match ls{data_dir}\n  {program} journal {first}{data_dir}    what was applied, tick by tick\
         \n  kill -9 {pid}                  then start it again: the same match goes on\n\
         \nCtrl-C stops cleanly.",
        name = node.name(),
        listen = card.listen,
        admin = card.admin,
        pid = card.pid,
    )
}

fn to_json(milestone: &Milestone<'_>) -> String {
    let id = |id: &MatchId| id.to_string();
    match milestone {
        Milestone::Resumed(match_id, report) => serde_json::json!({
            "milestone": "resumed", "match": id(match_id), "tick": report.tick.0, "replayed": report.replayed, "took_ms": report.took_ms,
            "hash_ok": report.hash_ok, "beats_checked": report.beats_checked,
        }),
        Milestone::NotResumed(match_id, why) => serde_json::json!({"milestone": "not_resumed", "match": id(match_id), "why": why}),
        Milestone::Ready(card, _) => serde_json::json!({"milestone": "ready", "node": card}),
        Milestone::Draining => serde_json::json!({"milestone": "draining"}),
        Milestone::Drained(matches, took_ms) => serde_json::json!({"milestone": "drained", "matches": matches, "took_ms": took_ms}),
    }
    .to_string()
}

/// `18204` as `18,204`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn numbers_are_grouped_in_thousands() {
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(18_204), "18,204");
        assert_eq!(grouped(1_000_000), "1,000,000");
    }
}
