//! `rekindle store accept-loss`: an operator decides that the end of a log is lost, and that its
//! matches go on without it. Works on the store itself.

use rekindle_cluster::ownership::takeover::{self, Loss};
use rekindle_schema::Incarnation;
use rekindle_store::StoreError;
use rekindle_store_open::address::StoreAddress;
use serde::Serialize;

use super::context::{Context, block_on};
use crate::clock;
use crate::exit::{Exit, Failure};
use crate::node::operator::Operators;
use crate::node::{alive, boot};
use rekindle_admin::client;

/// What is lost, and whether that was accepted.
#[derive(Serialize)]
struct Answer {
    log: String,
    /// Where the log ends, and where it had come to, in words; none: nothing is missing.
    missing: Option<String>,
    matches: Vec<Concerned>,
    accepted: bool,
}

#[derive(Serialize)]
struct Concerned {
    id: String,
    /// Which of its ticks may be missing, in words.
    lost: String,
}

pub(super) fn run(context: &Context, log: &str, yes: bool) -> Result<Exit, Failure> {
    let wrong = |_| {
        Failure::new(
            Exit::Usage,
            format!(
                "RK-CLI-110: `{log}` is no incarnation: copy the one that `rekindle verify` names"
            ),
        )
    };
    let log: Incarnation = log.parse().map_err(wrong)?;
    let address = &context.config.store;
    // No node starts on a directory while this is decided.
    let _lock = match address {
        StoreAddress::Local(dir) => Some(boot::lock(dir)?),
        _ => None,
    };
    let loss = block_on(async {
        let store = address.open().await?;
        if let Some(node) =
            alive::running(&store).await?.into_iter().find(|node| node.incarnation == log)
        {
            let message = format!(
                "RK-CLI-111: node {} (pid {}), which writes log {log}, is running: its log is not \
                 lost",
                node.name, node.pid
            );
            return Err(Failure::new(Exit::InUse, message));
        }
        let found = match takeover::loss(&store, log).await {
            Err(error @ StoreError::NotFound(_)) => {
                return Err(Failure::new(Exit::NotFound, error.to_string()));
            }
            found => found?,
        };
        if let (true, Some(loss)) = (yes, &found) {
            let operators = Operators::new(store.clone(), Incarnation::default());
            let detail = format!(
                "ends={} known={} matches={}",
                loss.short.ends,
                loss.short.known,
                loss.matches.len()
            );
            let action = operators
                .begin(&client::agent(), "store.accept-loss", &log.to_string(), &detail)
                .await?;
            let done = takeover::accept_loss(&store, log, clock::now_ms()).await;
            action.end(None, done.as_ref().err().map(ToString::to_string)).await;
            done?;
        }
        Ok(found)
    })?;
    let answer = answer(log, loss.as_ref(), yes);
    context.answer(&answer, || words(&answer))?;
    Ok(Exit::Done)
}

fn answer(log: Incarnation, loss: Option<&Loss>, yes: bool) -> Answer {
    let concerned = |loss: &Loss| {
        let each = loss
            .matches
            .iter()
            .map(|(row, lost)| Concerned { id: row.match_id.to_string(), lost: lost.clone() });
        each.collect()
    };
    Answer {
        log: log.to_string(),
        missing: loss.map(|loss| loss.short.to_string()),
        matches: loss.map_or_else(Vec::new, concerned),
        accepted: yes && loss.is_some(),
    }
}

fn words(answer: &Answer) -> Vec<String> {
    let Some(missing) = &answer.missing else {
        return vec![format!(
            "nothing is missing at the end of log {}, as far as is known: nothing to accept",
            answer.log
        )];
    };
    let mut lines: Vec<String> = answer
        .matches
        .iter()
        .map(|concerned| format!("match {}: {}", concerned.id, concerned.lost))
        .collect();
    if lines.is_empty() {
        lines.push(missing.clone());
    }
    lines.push(if answer.accepted {
        format!(
            "accepted: {} matches go on from what is left, at the next start or on a node that \
            runs",
            answer.matches.len()
        )
    } else {
        "nothing was changed: with --yes these matches go on without what is missing".to_owned()
    });
    lines
}
