//! `rekindle audit`: what operators did. Asks the running node; without one it reads the store.

use std::collections::BTreeMap;

use rekindle_store::AuditQuery;

use super::args::AuditArgs;
use super::context::{Context, block_on};
use super::matches::explain;
use crate::clock;
use crate::exit::{Exit, Failure};
use crate::inspect::reading::Reading;
use crate::moment;
use crate::output;
use rekindle_admin::api::AuditView;
use rekindle_admin::client::ClientError;

/// Most characters of an argument list, or of an error, in a line for people.
const LONGEST: usize = 240;

pub(super) fn run(context: &Context, args: &AuditArgs) -> Result<Exit, Failure> {
    let parse = |text: &str| {
        moment::parse(text, clock::now_ms())
            .map_err(|error| Failure::new(Exit::Usage, error.to_string()))
    };
    let time = |text: &Option<String>| text.as_deref().map(parse).transpose();
    let (since_ms, until_ms) =
        (time(&args.since)?.unwrap_or(0), time(&args.until)?.unwrap_or(u64::MAX));
    let mut entries = block_on(async {
        let Ok(node) = context.node() else {
            let reading = Reading::of(&context.config.store)?;
            let query = AuditQuery { since_ms, until_ms, limit: args.limit };
            let entries = reading
                .named(async { Ok(reading.store().await?.audit.list(query).await?) }.await)?;
            return Ok(entries.iter().map(AuditView::of).collect::<Vec<_>>());
        };
        let path =
            format!("/v1/audit?since_ms={since_ms}&until_ms={until_ms}&limit={}", args.limit);
        node.get(&path).await.map_err(|error: ClientError| explain(error))
    })?;
    if entries.len() == args.limit {
        output::note(&format!(
            "these are the newest {} entries; there may be more: narrow it with --since and \
             --until, or raise --limit",
            args.limit
        ));
    }
    entries.reverse();
    context.answer(&entries, || words(&entries))?;
    Ok(Exit::Done)
}

/// The beginning of a long text, and how much is left out: the whole of it is in the JSON.
fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        None => text.to_owned(),
        Some((end, _)) => {
            let left = text[end..].chars().count();
            format!("{}… and {left} more characters: --json has them", &text[..end])
        }
    }
}

/// One line for each action, where and when its last entry stands.
fn words(entries: &[AuditView]) -> Vec<String> {
    if entries.is_empty() {
        return vec!["nothing was done in that time".to_owned()];
    }
    let last: BTreeMap<&str, usize> = entries
        .iter()
        .enumerate()
        .map(|(place, entry)| (entry.action_id.as_str(), place))
        .collect();
    let lines = entries
        .iter()
        .enumerate()
        .filter(|(place, entry)| last.get(entry.action_id.as_str()) == Some(place))
        .map(|(_, entry)| {
            let outcome = match (entry.stage.as_str(), &entry.error) {
                ("begun", _) => "begun, its end is not known".to_owned(),
                (_, Some(error)) => format!("failed: {}", cut(error)),
                (stage, None) => stage.to_owned(),
            };
            let detail = if entry.detail.is_empty() {
                String::new()
            } else {
                format!(" ({})", cut(&entry.detail))
            };
            format!(
                "{}  {:<14} {} by {}{detail}: {outcome}",
                moment::show(entry.time_ms),
                entry.action,
                entry.target,
                entry.who
            )
        });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_order_is_cut_where_people_read_it() {
        assert_eq!(cut("calls=[]"), "calls=[]");
        let long = cut(&"é".repeat(LONGEST + 5));
        assert!(long.ends_with("é… and 5 more characters: --json has them"), "{long}");
        assert_eq!(cut(&"é".repeat(LONGEST)), "é".repeat(LONGEST));
    }
}
