//! `rekindle match stats`: the statistics that a game declares, of one match: from the running
//! node, or from the store if none runs.

use rekindle_admin::stats::{MatchStats, StatisticStands, TallyStands};
use rekindle_schema::{MatchId, Tick};
use rekindle_sim::Simulation;
use serde::de::DeserializeOwned;

use super::context::{Context, block_on};
use super::matches;
use super::offline::find;
use crate::control::match_stats;
use crate::exit::{Exit, Failure};
use crate::inspect::reading::Reading;
use crate::inspect::stats::{StatsError, stored};
use crate::node::card::NodeCard;

pub(super) fn run(context: &Context, prefix: &str) -> Result<Exit, Failure> {
    let stats = of_match(context, prefix, "stats", |sim| sim.statistics(), match_stats)?;
    context.answer(&stats, || words(&stats))?;
    Ok(Exit::Done)
}

/// What is said of a match under `/v1/matches/{id}/` and this last part of the path: by the running
/// node, or if none runs, of what `read` finds in the world that the store leads to.
pub(super) fn of_match<R, T: DeserializeOwned>(
    context: &Context,
    prefix: &str,
    part: &str,
    read: impl FnOnce(&dyn Simulation) -> R,
    say: impl FnOnce((MatchId, String), Tick, &str, R) -> T,
) -> Result<T, Failure> {
    let node_runs =
        context.common.admin.is_some() || NodeCard::running(&context.config.data_dir).is_some();
    if node_runs {
        let node = context.node()?;
        return block_on(async {
            let found = matches::find(&node, Some(prefix)).await?;
            let path = format!("/v1/matches/{}/{part}", found.id);
            node.get(&path).await.map_err(matches::explain)
        });
    }
    let reading = Reading::of(&context.config.store)?;
    reading.named(block_on(async {
        let store = reading.store().await?;
        let row = find(&store, prefix).await?;
        let game = context.games.get(&row.spec.game)?;
        let found = stored(&store, &row, &*game, read).await;
        let (tick, found) = found.map_err(|error| match error {
            StatsError::History(error) => Failure::from(error),
            StatsError::Sim(error) => error.into(),
            StatsError::Record(error) => error.into(),
        })?;
        Ok(say((row.match_id, row.spec.game), tick, "store", found))
    }))
}

fn words(stats: &MatchStats) -> Vec<String> {
    let MatchStats { id, game, tick, source, statistics } = stats;
    let mut lines = vec![format!("match {id} ({game}) after tick {tick}, from {source}")];
    if statistics.is_empty() {
        lines.push("its game declares no statistics: `game.statistic` does".to_owned());
    }
    for statistic in statistics {
        let StatisticStands { name, of, window, window_from, total, recent, .. } = statistic;
        lines.push(String::new());
        lines.push(match (window, window_from) {
            (Some(window), Some(from)) => {
                format!(
                    "{name}: counts events `{of}`, in all and in the last {window} ticks (from \
                     tick {from})"
                )
            }
            _ => format!("{name}: counts events `{of}`"),
        });
        let line = |who: &str, total: &TallyStands, recent: Option<&TallyStands>| {
            let recent = recent.map(|recent| format!("   recent {}", tally(recent)));
            format!("  {who:<22} {}{}", tally(total), recent.unwrap_or_default())
        };
        lines.push(line("match", total, recent.as_ref()));
        for player in &statistic.players {
            let who = format!("player {}", player.player);
            lines.push(line(&who, &player.total, player.recent.as_ref()));
        }
        if statistic.forgotten > 0 {
            lines.push(format!(
                "  {} players without late events are left out",
                statistic.forgotten
            ));
        }
    }
    lines
}

fn tally(TallyStands { count, sum, min, max }: &TallyStands) -> String {
    format!("count {count} sum {sum} min {min} max {max}")
}
