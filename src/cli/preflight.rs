//! `rekindle preflight`: what this build makes of the matches of a store, before it is deployed.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use super::args::PreflightArgs;
use super::context::{Context, block_on};
use crate::exit::{Exit, Failure};
use crate::inspect::pick::pick;
use crate::inspect::preflight::{Held, Progress, Tried, Verdict, Wanted, preflight};
use crate::node::build;
use crate::node::trial::comparison::{Backtest, Compared, Outcome};
use crate::node::trial::{TrialOptions, Trials};
use crate::text::counted;

pub(super) fn run(context: &Context, args: &PreflightArgs) -> Result<Exit, Failure> {
    let build = build::of_this_executable()?;
    let at_once = args
        .jobs
        .map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let reading = context.reading()?;
    let bar = progress_bar(context.common.json);
    let progress = |progress: Progress| match progress {
        Progress::Matches(count) => bar.set_length(count as u64),
        Progress::At(id, tick) => bar.set_message(format!("{} at tick {tick}", id.short())),
        Progress::Done => bar.inc(1),
    };
    let tried = reading.named(block_on(async {
        let store = reading.store().await?;
        let leases = store.leases.matches().await?;
        let ids = || leases.iter().map(|lease| lease.match_id);
        let only = args.matches.iter().map(|prefix| pick(prefix, ids()));
        let only = only
            .collect::<Result<_, _>>()
            .map_err(|error| Failure::new(Exit::NotFound, error.to_string()))?;
        // One death is enough: nothing is parked for it.
        let options = TrialOptions {
            build,
            deaths: 1,
            healthy_after: Duration::ZERO,
            watchdog: context.config.watchdog,
        };
        let trials = Trials::at_once(at_once, options);
        let (live, backtest) = (args.live, args.backtest);
        let wanted =
            Wanted { games: &context.games, trials: &trials, only, live, backtest, at_once };
        Ok(preflight(&store, &wanted, &progress).await?)
    }))?;
    bar.finish_and_clear();
    let counts = counts(&tried);
    let value = json!({"build": build.to_string(), "verdicts": counts, "matches": tried});
    context.answer(&value, || {
        let mut lines: Vec<String> = tried.iter().flat_map(words).collect();
        lines.extend(sums(&tried, &counts));
        lines.into_iter().map(|line| reading.real(&line)).collect()
    })?;
    Ok(exit(&tried, args.backtest))
}

/// Damage first. What differs is what a backtest is made for.
fn exit(tried: &[Tried], backtest: bool) -> Exit {
    let any = |fits: fn(Verdict) -> bool| tried.iter().any(|tried| fits(tried.verdict));
    if any(|verdict| verdict == Verdict::Damaged) {
        Exit::Broken
    } else if any(|verdict| verdict == Verdict::Untried) {
        Exit::Failed
    } else if any(|verdict| {
        !matches!(verdict, Verdict::GoesOn | Verdict::Differs | Verdict::Unproven)
    }) || (!backtest && any(|verdict| verdict != Verdict::GoesOn))
    {
        Exit::OtherBuild
    } else {
        Exit::Done
    }
}

/// How many matches there are of each verdict.
fn counts(tried: &[Tried]) -> BTreeMap<Verdict, usize> {
    let mut counts = BTreeMap::new();
    for tried in tried {
        *counts.entry(tried.verdict).or_default() += 1;
    }
    counts
}

/// A match in words: a line for the verdict, then what belongs to it.
fn words(tried: &Tried) -> Vec<String> {
    let Tried { id, game, rules, state, verdict, .. } = tried;
    let verdict = match verdict {
        Verdict::GoesOn => "goes on",
        Verdict::Differs => "DIFFERS",
        Verdict::Unproven => "UNPROVEN",
        Verdict::Fails => "FAILS",
        Verdict::Dies => "DIES",
        Verdict::UnknownGame => "UNKNOWN GAME",
        Verdict::Damaged => "DAMAGED",
        Verdict::Untried => "NOT TRIED",
    };
    let compared = tried.compared.as_ref().map(extent).unwrap_or_default();
    let rules = if *rules == 1 { String::new() } else { format!(" rules {rules}") };
    let mut lines = vec![format!("match {id} ({game}{rules}, {state}): {verdict}{compared}")];
    lines.extend(writer(tried));
    lines.extend(tried.why.iter().map(|why| format!("    {why}")));
    if let Some(Outcome::Differs(differing)) =
        tried.compared.as_ref().map(|compared| &compared.outcome)
    {
        lines.push(format!("    equal up to tick {}", differing.equal));
    }
    lines.extend(tried.schema.iter().map(|change| format!("    schema: {change}")));
    lines.extend(tried.dropped.iter().map(|part| format!("    its value is dropped: {part}")));
    if let Some(backtest) = tried.compared.as_ref().and_then(|found| found.backtest.as_ref()) {
        lines.extend(table(backtest));
    }
    lines
}

/// Who may write a match while it is tried, or who did last.
fn writer(tried: &Tried) -> Option<String> {
    let node = tried.last_run_by.as_ref()?;
    Some(match tried.held? {
        Held::Held => format!("    node {node} runs it: tried is what was durable"),
        Held::ProcessGone => {
            format!("    last run by node {node}, whose process has ended without a stop")
        }
        Held::Lapsed => format!("    last run by node {node}, whose lease is no longer renewed"),
        Held::Stopped => format!("    last run by node {node}, which has stopped"),
        Held::Fenced => format!("    last run by node {node}, which is fenced"),
    })
}

fn extent(compared: &Compared) -> String {
    let Compared { from, to, hashes, shown, builds, .. } = compared;
    format!(
        ", ticks {from} to {to} of {}: {} of the state and {} of what players saw compared",
        if builds.is_empty() { "no build".to_owned() } else { builds.join(", ") },
        many(*hashes, "hash", "hashes"),
        many(*shown, "tick", "ticks")
    )
}

fn many(count: u64, one: &str, many: &str) -> String {
    counted(usize::try_from(count).unwrap_or(usize::MAX), one, many)
}

/// What was played and what this build makes of the same inputs, one line for each that there is.
fn table(backtest: &Backtest) -> Vec<String> {
    let Backtest { then, now, .. } = backtest;
    let line = |what: &str, then: &str, now: &str| {
        let mark = if then == now { ' ' } else { '*' };
        format!("  {mark} {what:<24} {then:>20} -> {now}")
    };
    let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    let mut lines = Vec::new();
    if backtest.by_operator {
        lines.push("    an operator ended it: so it ends for this build, too".to_owned());
    }
    lines.extend([
        line("last tick", &then.last.to_string(), &now.last.to_string()),
        line("ended", &text(&then.ended), &text(&now.ended)),
        line("result", &text(&then.result), &text(&now.result)),
    ]);
    let both = [("event", &then.events, &now.events), ("effect", &then.effects, &now.effects)];
    for (what, then, now) in both {
        let kinds: BTreeSet<&String> = then.keys().chain(now.keys()).collect();
        let count = |counts: &BTreeMap<String, u64>, kind: &str| {
            counts.get(kind).copied().unwrap_or_default().to_string()
        };
        lines.extend(
            kinds
                .into_iter()
                .map(|kind| line(&format!("{what} {kind}"), &count(then, kind), &count(now, kind))),
        );
    }
    lines
}

/// The last lines: how many go on, what the schema needs.
fn sums(tried: &[Tried], counts: &BTreeMap<Verdict, usize>) -> Vec<String> {
    if tried.is_empty() {
        return vec!["there are no matches".to_owned()];
    }
    let count = |verdict| counts.get(&verdict).copied().unwrap_or_default();
    let all = [
        (Verdict::GoesOn, "goes on", "go on"),
        (Verdict::Differs, "differs", "differ"),
        (Verdict::Unproven, "cannot be proven", "cannot be proven"),
        (Verdict::Fails, "fails", "fail"),
        (Verdict::Dies, "ends its process", "end their process"),
        (Verdict::UnknownGame, "is of an unknown game", "are of unknown games"),
        (Verdict::Damaged, "is damaged", "are damaged"),
        (Verdict::Untried, "was not tried", "were not tried"),
    ];
    let parts: Vec<String> = all
        .into_iter()
        .filter(|(verdict, ..)| count(*verdict) > 0)
        .map(|(verdict, one, many)| counted(count(verdict), one, many))
        .collect();
    vec![format!("{} tried: {}", counted(tried.len(), "match", "matches"), parts.join(", "))]
}

/// On a terminal only; elsewhere it draws nothing.
fn progress_bar(quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} matches  {msg}") {
        bar.set_style(style);
    }
    bar
}
