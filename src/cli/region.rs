//! `rekindle region promote`: an operator decides that a region is lost. Works on the store itself;
//! no node need run.

use rekindle_cluster::region::{self, Outlook};
use rekindle_schema::Incarnation;
use rekindle_store::{Store, StoreError};
use serde::Serialize;

use super::args::RegionCommand;
use super::context::{Context, block_on};
use crate::clock;
use crate::exit::{Exit, Failure};
use crate::node::operator::Operators;
use rekindle_admin::client;

/// What a promotion finds and does.
#[derive(Serialize)]
struct Promotion {
    matches: Vec<Row>,
    moved: usize,
}

#[derive(Serialize)]
struct Row {
    id: String,
    /// Where it would go on.
    tick: Option<u64>,
    /// How long ago its last record that is here was made, by the clocks of its owner and of this
    /// machine.
    age_ms: Option<u64>,
    /// Why it would not go on.
    problem: Option<String>,
}

pub(super) fn run(context: &Context, command: &RegionCommand) -> Result<Exit, Failure> {
    let RegionCommand::Promote { from, to, yes } = command;
    if from == to {
        return Err(Failure::new(
            Exit::Usage,
            format!(
                "RK-CLI-021: `{from}` is promoted to itself: name the region whose nodes are to \
                 take over"
            ),
        ));
    }
    let promotion = block_on(async {
        let store = context.config.store.open().await?;
        let found = region::survey(&store, from).await?;
        let now_ms = clock::now_ms();
        let mut promotion = Promotion {
            matches: found.iter().map(|outlook| row(outlook, now_ms)).collect(),
            moved: 0,
        };
        if *yes {
            let operators = Operators::new(store.clone(), Incarnation::default());
            let detail = format!("to={to} matches={}", found.len());
            let action = operators.begin(&client::agent(), "region.promote", from, &detail).await?;
            let moved = move_all(&store, &found, from, to).await;
            action.end(None, moved.as_ref().err().map(ToString::to_string)).await;
            promotion.moved = moved?;
        }
        Ok(promotion)
    })?;
    context.answer(&promotion, || words(&promotion, from, to, *yes))?;
    Ok(Exit::Done)
}

async fn move_all(
    store: &Store,
    found: &[Outlook],
    from: &str,
    to: &str,
) -> Result<usize, StoreError> {
    // The region that is lost may have gone on for longer than what has arrived here tells.
    let above = found.iter().map(|outlook| outlook.lease.epoch).max().unwrap_or_default();
    store
        .identity
        .renew(clock::fresh(), &format!("matches of region {from} were promoted to {to}"), above)
        .await?;
    let mut moved = 0;
    for outlook in found {
        moved += usize::from(region::move_home(store, outlook.lease.match_id, from, to).await?);
    }
    Ok(moved)
}

fn row(outlook: &Outlook, now_ms: u64) -> Row {
    let last = outlook.last.as_ref().ok();
    Row {
        id: outlook.lease.match_id.to_string(),
        tick: last.map(|last| last.tick.0),
        age_ms: last
            .filter(|last| last.time_ms > 0)
            .map(|last| now_ms.saturating_sub(last.time_ms)),
        problem: outlook.last.as_ref().err().map(ToString::to_string),
    }
}

fn words(promotion: &Promotion, from: &str, to: &str, done: bool) -> Vec<String> {
    let mut lines: Vec<String> = promotion
        .matches
        .iter()
        .map(|row| match (&row.problem, row.tick, row.age_ms) {
            (Some(problem), ..) => {
                format!("match {}: it cannot go on from what is here: {problem}", row.id)
            }
            (None, tick, Some(age_ms)) => {
                let tick = tick.unwrap_or_default();
                format!(
                    "match {}: goes on behind tick {tick}, recorded {:.1} s ago; what was \
                     acknowledged since is lost",
                    row.id,
                    age_ms as f64 / 1e3
                )
            }
            (None, ..) => format!("match {}: nothing of it is here; it begins anew", row.id),
        })
        .collect();
    let count = promotion.matches.len();
    lines.push(match (done, count) {
        (_, 0) => format!("no match is at home in {from}"),
        (true, _) => {
            format!(
                "{} of {count} matches are now at home in {to}; its nodes take over those \
                whose owner is dead",
                promotion.moved
            )
        }
        (false, _) => format!(
            "nothing was changed: {count} matches would be at home in {to} \
            instead of {from} with --yes"
        ),
    });
    lines
}
