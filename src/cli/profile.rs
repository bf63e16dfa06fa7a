//! `rekindle match profile`: what the ticks of a match take, by stage and system, as bars.

use rekindle_admin::client::AdminClient;
use rekindle_admin::profile::{ProfileView, StageView, TimesView};

use super::context::Context;
use super::matches::{explain, find};
use crate::exit::Failure;

/// Characters of a bar that stands for a whole tick.
const BAR: usize = 32;

/// Profiles a match for so many seconds, and answers with what was found.
pub(super) async fn run(
    context: &Context,
    node: &AdminClient,
    prefix: &str,
    seconds: u64,
) -> Result<(), Failure> {
    let found = find(node, Some(prefix)).await?;
    let path = format!("/v1/matches/{}/profile?seconds={seconds}", found.id);
    let view: ProfileView = node.get(&path).await.map_err(explain)?;
    context.answer(&view, || lines(&view))?;
    Ok(())
}

fn lines(view: &ProfileView) -> Vec<String> {
    let ProfileView { id, game, tick_rate, seconds, tick, load, stages } = view;
    if tick.runs == 0 {
        return vec![format!(
            "match {id} of {game} made no tick in {seconds} s: `rekindle match show {id}` says why"
        )];
    }
    let names = stages.iter().flat_map(|stage| &stage.parts).map(|part| part.name.chars().count());
    let width = names.max().unwrap_or(0).max(24);
    let mut lines = vec![
        format!(
            "match {id} of {game}: {} ticks at {tick_rate} Hz in {seconds} s, {} of a core",
            tick.runs,
            percent(*load)
        ),
        format!(
            "{:<width$}    {:<BAR$}  {:>7}  {:>9}  {:>9}  {:>9}  {:>6}",
            "", "", "SHARE", "P50 us", "P99 us", "MAX us", "RUNS"
        ),
        line("tick", width, 0, 1.0, tick),
    ];
    for stage in stages {
        lines.extend(of_stage(stage, width));
    }
    lines
}

fn of_stage(stage: &StageView, width: usize) -> Vec<String> {
    let mut lines = vec![line(&stage.name, width, 1, stage.share, &stage.times)];
    for part in &stage.parts {
        let budget = part.budget_us.map_or_else(String::new, |budget| {
            format!("  budget {budget:.1} us, {} over", part.over_budget)
        });
        lines.push(line(&part.name, width, 2, part.share, &part.times) + &budget);
    }
    lines
}

/// Name, bar and figures of something at this depth.
fn line(name: &str, width: usize, depth: usize, share: f64, times: &TimesView) -> String {
    let name = format!("{}{name}", "  ".repeat(depth));
    let filled = (share * BAR as f64).round().clamp(0.0, BAR as f64) as usize;
    let bar = "#".repeat(filled);
    format!(
        "{name:<name_width$}{bar:<BAR$}  {:>7}  {:>9.1}  {:>9.1}  {:>9.1}  {:>6}",
        percent(share),
        times.p50_us,
        times.p99_us,
        times.max_us,
        times.runs,
        name_width = width + 4,
    )
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use rekindle_admin::profile::PartView;

    use super::*;

    fn times(runs: usize, p50_us: f64) -> TimesView {
        TimesView { runs, p50_us, p99_us: p50_us * 2.0, max_us: p50_us * 3.0 }
    }

    fn view(runs: usize) -> ProfileView {
        let part = |name: &str, share, budget_us| PartView {
            name: name.to_owned(),
            system: true,
            share,
            times: times(runs, share * 10.0),
            budget_us,
            over_budget: usize::from(budget_us.is_some()),
        };
        let stage = StageView {
            name: "Update".to_owned(),
            share: 0.75,
            times: times(runs, 7.5),
            parts: vec![part("movement", 0.5, Some(4.0)), part("fire", 0.25, None)],
        };
        ProfileView {
            id: "00000000000000aa".to_owned(),
            game: "arena".to_owned(),
            tick_rate: 30,
            seconds: 5,
            tick: times(runs, 10.0),
            load: 0.0003,
            stages: if runs > 0 { vec![stage] } else { Vec::new() },
        }
    }

    #[test]
    fn bars_are_as_long_as_shares_and_columns_stand_under_each_other() {
        let lines = lines(&view(150));
        let bars: Vec<usize> = lines.iter().map(|line| line.matches('#').count()).collect();
        assert_eq!(bars, [0, 0, 32, 24, 16, 8], "{lines:#?}");
        assert!(lines[4].ends_with("150  budget 4.0 us, 1 over"), "{lines:#?}");
        let ends: Vec<_> = lines[2..].iter().map(|line| line.find(" %")).collect();
        assert!(ends[0].is_some() && ends.iter().all(|end| *end == ends[0]), "{lines:#?}");
        assert!(lines[1].contains("SHARE") && lines[0].contains("150 ticks at 30 Hz in 5 s"));
    }

    #[test]
    fn a_match_that_made_no_tick_is_said_to_have_made_none() {
        let lines = lines(&view(0));
        assert!(lines.len() == 1 && lines[0].contains("made no tick in 5 s"), "{lines:#?}");
    }
}
