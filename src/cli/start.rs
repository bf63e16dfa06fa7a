//! `rekindle` and `rekindle start`: a node in this process.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Read as _;
use std::sync::Arc;

use rekindle_cluster::ownership::standing::Standing;
use rekindle_door::MatchDoor as _;
use rekindle_schema::MatchId;
use rekindle_schema::lease::MatchLease;
use tokio::sync::oneshot;

use super::context::Context;
use crate::exit::{Exit, Failure};
use crate::node::Serving;
use crate::node::boot;
use crate::node::card::NodeCard;
use crate::node::lifecycle::{self, Run};
use crate::node::matches::NewMatch;
use crate::node::milestone::Milestone;
use crate::node::signals::Signals;
use crate::text::{counted, plain, program_as_typed, without_its_id};
use crate::{control, dial, output, telemetry, text};

/// House bots in the match of the first run, if it has room for so many.
pub(super) const HOUSE_BOTS: usize = 8;
/// Most matches that wait and are named at the start.
const NAMED: usize = 5;

/// No subcommand: a node with something going on in it, and words that say what to do next.
pub(super) fn first_run(context: &Context) -> Result<Exit, Failure> {
    // `arena` in our executable, a studio's own in theirs.
    let game = context.first_game()?;
    let house_bots = HOUSE_BOTS.min(context.room(game)?) as u16;
    let first_match = NewMatch {
        game: game.to_owned(),
        config: context.showcase(game),
        house_bots,
        seed: None,
        tick_rate: None,
    };
    serve(context, Some(first_match), false)
}

/// `start`: serves only what it is asked for.
pub(super) fn start(context: &Context, until_stdin_closes: bool) -> Result<Exit, Failure> {
    serve(context, None, until_stdin_closes)
}

fn serve(
    context: &Context,
    first_match: Option<NewMatch>,
    until_stdin_closes: bool,
) -> Result<Exit, Failure> {
    // Before anything is claimed: what ends here has cost nobody anything.
    context.first_game()?;
    context.fit_to_start()?;
    // Before its ports are found taken, which would say nothing of the directory.
    let dir = &context.config.data_dir;
    if let Some(card) = NodeCard::running(dir) {
        return Err(boot::in_use(dir, Some(&card)).into());
    }
    let ignored = context.settings.passed_over();
    if !ignored.is_empty() {
        let variables = ignored.join(", ");
        tracing::info!(
            code = "RK-CONFIG-141",
            variables,
            "environment variables passed over: they have the shape of service links"
        );
    }
    let metrics = telemetry::init_metrics()?;
    let abandoned = until_stdin_closes.then(stdin_closed);
    let json = context.common.json;
    // What later commands need to find this node again.
    let mut options = String::new();
    if let Some(file) = &context.common.config {
        let _ = write!(options, " --config {}", file.display());
    }
    if let Some(dir) = &context.common.data_dir {
        let _ = write!(options, " --data-dir {dir}");
    }
    // A password is not printed: whoever gave one on the command line knows how to give it again.
    if context.common.store.is_some() && !context.config.store.has_password() {
        let _ = write!(options, " --store '{}'", context.config.store);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let signals = Signals::listen()?;
        let front = Box::new(control::listen(&context.config, metrics.clone()).await?);
        let run = Run {
            config: context.config.clone(),
            games: context.games.clone(),
            metrics,
            kinds: context.kinds.clone(),
            sinks: context.sinks.clone(),
            signals,
            front,
            first_match,
            abandoned,
        };
        let mut words = Words { options, is_up: false, logged: BTreeSet::new() };
        let tell = &mut |milestone: Milestone<'_>| {
            if json {
                output::json_milestone(&to_json(&milestone));
            } else if let Some(words) = words.about(&milestone) {
                output::milestone(&words);
            }
        };
        lifecycle::run(run, tell).await?;
        Ok(Exit::Done)
    });
    // Blocking tasks of a node that failed must not hold up its end.
    runtime.shutdown_background();
    ended
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

/// Tells a terminal of milestones.
struct Words {
    /// What later commands need to find this node again.
    options: String,
    /// Players are let in.
    is_up: bool,
    /// Matches that were not resumed: the log has the report. Often both go to one place, so it is
    /// not printed as well.
    logged: BTreeSet<MatchId>,
}

impl Words {
    fn about(&mut self, milestone: &Milestone<'_>) -> Option<String> {
        Some(match milestone {
            Milestone::Resumed(id, report) => format!(
                "match {} resumed at tick {}: {} ticks replayed in {} ms, hash {}",
                id.short(),
                grouped(report.tick.0),
                grouped(report.replayed),
                report.took_ms,
                if report.hash_ok { "ok" } else { "DIFFERS (made by another build)" }
            ),
            Milestone::NotResumed(id, _) => {
                self.logged.insert(*id);
                // The words about a node that is up name it, with all others that wait.
                if !self.is_up {
                    return None;
                }
                format!("match {} not resumed: {}", id.short(), asks_why(*id, &self.options))
            }
            Milestone::Ready(card, node) => {
                self.is_up = true;
                self.ready(card, node)
            }
            Milestone::Draining => "draining: every match is checkpointed before the node stops \
                (Ctrl-C again: stop at once)"
                .to_owned(),
            Milestone::Drained(matches, took_ms) => {
                format!(
                    "stopped: {} checkpointed in {took_ms} ms; start again and it goes on",
                    counted(*matches, "match", "matches")
                )
            }
        })
    }

    /// What runs, where to look, what to do next. Every line of it works as printed.
    fn ready(&self, card: &NodeCard, node: &Arc<Serving>) -> String {
        let (program, options) = (program_as_typed(), &self.options);
        let host = &node.parts().host;
        let matches: Vec<_> =
            host.list().into_iter().filter_map(|status| host.find(status.match_id)).collect();
        let mut lines = vec![String::new()];
        lines.push(format!(
            "node {} is up: players connect to UDP {}",
            node.name(),
            node.parts().config.public.unwrap_or(card.listen)
        ));
        for handle in &matches {
            let info = handle.info();
            let bots = handle.spec().house_bots;
            lines.push(format!(
                "match {} ({}) runs at tick {}, with {bots} house bots",
                info.match_id.short(),
                info.game,
                grouped(info.tick.0)
            ));
        }
        let at_rest = node.at_rest();
        lines.extend(self.waiting(&at_rest));
        lines.push(String::new());
        if let Some(web) = card.web {
            let tls = node.parts().config.edge.certificate.is_some();
            let scheme = if tls { "https" } else { "http" };
            lines.push(format!("  {:<10} {scheme}://{}/", "browsers", dial::from_here(web)));
        }
        for (what, path) in [("health", "/readyz"), ("metrics", "/metrics"), ("all paths", "/")] {
            lines.push(format!("  {what:<10} http://{}{path}", dial::from_here(card.admin)));
        }
        lines.extend([String::new(), "Try, in another terminal:".to_owned(), String::new()]);
        let first = matches.first().map(|handle| handle.info().match_id.short());
        let waits = at_rest.first().map(|(row, _)| row.match_id.short());
        let commands = [
            waits.as_ref().map(|id| {
                (format!("{program} match show {id}{options}"), "where the match stands, and why")
            }),
            waits.filter(|_| first.is_none()).map(|_| {
                let bots = room(node).min(HOUSE_BOTS);
                (format!("{program} match create --bots {bots}{options}"), "another one, beside it")
            }),
            first.as_ref().map(|_| (format!("{program} watch{options}"), "the match, live")),
            visitors(node).map(|count| {
                (
                    format!("{program} bots --count {count} --seconds 10{options}"),
                    "more players, over the network",
                )
            }),
            Some((format!("{program} match ls{options}"), "all matches")),
            first.map(|id| {
                (
                    format!("{program} journal {id} --from 1 --to 90{options}"),
                    "what was applied, tick by tick",
                )
            }),
            Some((format!("kill -9 {}", card.pid), "then start it again: the same match goes on")),
        ];
        let commands: Vec<_> = commands.into_iter().flatten().collect();
        let width = commands.iter().map(|(command, _)| command.len()).max().unwrap_or_default();
        lines
            .extend(commands.iter().map(|(command, what)| format!("  {command:<width$}   {what}")));
        lines.extend([String::new(), "Ctrl-C stops cleanly.".to_owned()]);
        lines.join("\n")
    }

    /// The matches that do not go on by themselves, with what is to be done: those of which the log
    /// says nothing, since they were at rest before, also with why.
    fn waiting(&self, at_rest: &[(MatchLease, Standing)]) -> Vec<String> {
        let line = |(row, standing): &(MatchLease, Standing)| {
            let (id, game) = (row.match_id.short(), plain(&row.spec.game));
            let why = if self.logged.contains(&row.match_id) {
                asks_why(row.match_id, &self.options)
            } else {
                let why = without_its_id(&standing.words(), &row.match_id.to_string());
                plain(&why).into_owned()
            };
            format!("match {id} ({game}): {}: {why}", standing.condition())
        };
        let mut lines: Vec<String> = at_rest.iter().take(NAMED).map(line).collect();
        if let Some(more) = at_rest.len().checked_sub(NAMED).filter(|&more| more > 0) {
            lines.push(format!("and {more} more that do not run: `rekindle match ls`"));
        }
        lines
    }
}

/// For whoever wants to know why a match does not run.
fn asks_why(id: MatchId, options: &str) -> String {
    format!("`{} match show {}{options}` says why", program_as_typed(), id.short())
}

/// How many players a match of the first game with its usual configuration has room for.
fn room(node: &Serving) -> usize {
    let game = node.parts().games.all().next();
    let room = game.and_then(|game| {
        let config = game.config_from_json("{}").ok()?;
        Some(game.max_players(&config))
    });
    room.unwrap_or_default()
}

/// How many bots find room in the matches, at most eight.
fn visitors(node: &Serving) -> Option<usize> {
    let parts = node.parts();
    let free = parts.host.list().into_iter().filter_map(|status| {
        let handle = parts.host.find(status.match_id)?;
        let game = parts.games.get(&handle.spec().game).ok()?;
        Some(
            game.max_players(&handle.spec().config)
                .saturating_sub(usize::from(handle.spec().house_bots)),
        )
    });
    Some(free.max()?.min(HOUSE_BOTS)).filter(|&count| count > 0)
}

fn to_json(milestone: &Milestone<'_>) -> serde_json::Value {
    let id = |id: &MatchId| id.to_string();
    match milestone {
        Milestone::Resumed(match_id, report) => serde_json::json!({
            "milestone": "resumed", "match": id(match_id), "tick": report.tick.0,
            "replayed": report.replayed, "took_ms": report.took_ms,
            "hash_ok": report.hash_ok, "beats_checked": report.beats_checked,
        }),
        Milestone::NotResumed(match_id, why) => serde_json::json!({
            "milestone": "not_resumed", "match": id(match_id), "why": text::own(why),
        }),
        Milestone::Ready(card, _) => serde_json::json!({"milestone": "ready", "node": card}),
        Milestone::Draining => serde_json::json!({"milestone": "draining"}),
        Milestone::Drained(matches, took_ms) => serde_json::json!({
            "milestone": "drained", "matches": matches, "took_ms": took_ms,
        }),
    }
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
    use crate::text::counted;

    #[test]
    fn numbers_are_grouped_in_thousands() {
        assert_eq!(
            (counted(1, "match", "matches"), counted(0, "match", "matches")),
            ("1 match".to_owned(), "0 matches".to_owned())
        );
        assert_eq!(grouped(7), "7");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(18_204), "18,204");
        assert_eq!(grouped(1_000_000), "1,000,000");
    }
}
