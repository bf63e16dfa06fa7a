//! `rekindle doc kinds|get|ls|stats|call|can`: questions and orders to a running node, which brings
//! them to the collection of the kind, wherever that runs.

use rekindle_admin::api::{AskedDocuments, CallDocuments};
use rekindle_admin::client::AdminClient;
use rekindle_sim::documents::wire::{Call, CollectionInfo, Done, Outcome, Query, Question, Reply};
use rekindle_sim::documents::words;
use serde_json::Value as Json;

use super::args::{DocCall, DocCommand};
use super::context::{Context, block_on};
use super::matches::explain;
use crate::exit::{Exit, Failure};
use crate::node::documents::order;
use crate::text::counted;

pub(super) fn run(context: &Context, command: DocCommand) -> Result<Exit, Failure> {
    let node = context.node()?;
    block_on(async {
        match command {
            DocCommand::Kinds => {
                let kinds: Vec<CollectionInfo> =
                    node.get("/v1/documents").await.map_err(explain)?;
                context.answer(&kinds, || kinds.iter().flat_map(kind_words).collect())?;
            }
            DocCommand::Get { kind, key } => {
                let question = Question::Get { key: key.clone() };
                let (reply, _) = ask(&node, &kind, &question).await?;
                let Reply::Document(Some(row)) = reply else {
                    let words = format!("RK-DOC-102: there is no document `{key}`");
                    return Err(Failure::new(Exit::NotFound, words));
                };
                context.answer(&row, || vec![json_words(&row)])?;
            }
            DocCommand::Ls { kind, filter, sort, limit, skip, explain } => {
                let query = Query { filter, sort, limit: Some(limit), skip };
                let (reply, asked) = ask(&node, &kind, &Question::Query(query.clone())).await?;
                let Reply::Rows { rows, matching, more } = reply else { return Err(other()) };
                context.answer(&asked, || {
                    let mut lines: Vec<String> = rows.iter().map(json_words).collect();
                    lines.push(shown(&query, rows.len(), matching, more));
                    if explain {
                        lines.push(format!(
                            "from the memory of node {}, which runs the collection, as of its \
                             durable tick {}",
                            asked.answered_by, asked.as_of_tick
                        ));
                    }
                    lines
                })?;
            }
            DocCommand::Stats { kind } => {
                let (reply, _) = ask(&node, &kind, &Question::Stats).await?;
                let Reply::Stats(stats) = reply else { return Err(other()) };
                let line = |(name, value): (&String, &Json)| format!("{name:<24} {value}");
                context.answer(&stats, || stats.iter().map(line).collect())?;
            }
            DocCommand::Call(wanted) => {
                let (kind, player, calls) = calls_of(wanted)?;
                let calls = calls.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
                let body = CallDocuments { player, calls };
                let path = format!("/v1/documents/{}/call", escaped(&kind));
                let done: Vec<Done> = node.post(&path, &body).await.map_err(explain)?;
                context.answer(&done, || done.iter().map(json_words).collect())?;
            }
            DocCommand::Can(wanted) => {
                let (kind, player, calls) = calls_of(wanted)?;
                let count = calls.len();
                let question = Question::Can(order(player, calls));
                let (reply, asked) = ask(&node, &kind, &question).await?;
                let Reply::Can(outcome) = reply else { return Err(other()) };
                // With code and words of a refusal, as the node answered.
                context.answer(&asked.reply["can"], || match &outcome {
                    Outcome::Refused { why, .. } if count == 1 => vec![format!("no: {why}")],
                    Outcome::Refused { at, why } => {
                        vec![format!("no: call {} of {count}: {why}", at + 1)]
                    }
                    _ => vec!["yes".to_owned()],
                })?;
                let no = matches!(outcome, Outcome::Refused { .. });
                return Ok(if no { Exit::Broken } else { Exit::Done });
            }
        }
        Ok(Exit::Done)
    })
}

/// How many documents are shown of how many there are.
fn shown(query: &Query, shown: usize, matching: usize, more: bool) -> String {
    let filtered = query.filter.is_some();
    match (matching, query.limit) {
        (0, _) if filtered => "no document matches the filter".to_owned(),
        (0, _) => "there are no documents of this kind".to_owned(),
        (_, Some(0)) => format!(
            "{} {}; --limit 0 shows none of them",
            counted(matching, "document", "documents"),
            if filtered { "match the filter" } else { "are there" }
        ),
        _ => {
            let what = if filtered { " that match the filter" } else { "" };
            let rest = if more { ": more with --skip" } else { "" };
            format!("{shown} of {}{what}{rest}", counted(matching, "document", "documents"))
        }
    }
}

/// What was typed, or what is in the file.
fn calls_of(wanted: DocCall) -> Result<(String, Option<u64>, Vec<Call>), Failure> {
    let DocCall { kind, action, key, args, if_version, player, file } = wanted;
    let no_json = |what: String, error: serde_json::Error| {
        let why = words::of(&error);
        Failure::new(Exit::Usage, format!("RK-CLI-212: {what} is not what is expected: {why}"))
    };
    if let Some(file) = file {
        let text = std::fs::read_to_string(&file).map_err(|error| {
            let words = format!("RK-CLI-213: {}: {error}", file.display());
            Failure::new(Exit::Usage, words)
        })?;
        let calls = serde_json::from_str(&text)
            .map_err(|error| no_json(format!("the file {}", file.display()), error))?;
        return Ok((kind, player, calls));
    }
    let args = match args {
        Some(text) => serde_json::from_str(&text)
            .map_err(|error| no_json(format!("the JSON `{text}`"), error))?,
        None => Json::Null,
    };
    let (action, key) = (action.unwrap_or_default(), key.unwrap_or_default());
    Ok((kind, player, vec![Call { action, key, args, if_version }]))
}

async fn ask(
    node: &AdminClient,
    kind: &str,
    question: &Question,
) -> Result<(Reply, AskedDocuments), Failure> {
    let path = format!("/v1/documents/{}/ask", escaped(kind));
    let asked: AskedDocuments = node.post(&path, question).await.map_err(explain)?;
    let reply = serde_json::from_value(asked.reply.clone())?;
    Ok((reply, asked))
}

/// A part of a path: kinds have letters, digits and `-`; whatever else was typed matches none.
fn escaped(kind: &str) -> String {
    kind.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

fn other() -> Failure {
    Failure::new(Exit::Failed, "the node answered something else: is it another release?")
}

fn json_words(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn kind_words(kind: &CollectionInfo) -> Vec<String> {
    let mut lines = vec![
        format!("{} (at most {})", kind.kind, kind.most),
        format!("  attributes: {}", kind.attributes.join(", ")),
    ];
    let named = [("calculations", &kind.calculations), ("aggregates", &kind.aggregates)];
    let named = named.iter().filter(|(_, names)| !names.is_empty());
    lines.extend(named.map(|(what, names)| format!("  {what}: {}", names.join(", "))));
    lines.extend(
        kind.actions
            .iter()
            .map(|action| format!("  {:<16} {:<8} {}", action.name, action.does, action.policy)),
    );
    lines
}
