//! `rekindle doc kinds|get|ls|stats|call|can`: questions and orders to a running node, which brings
//! them to the collection of the kind, wherever that runs. Where no node runs, questions are
//! answered from the store.

use rekindle_actors::OtherBuild;
use rekindle_admin::api::{AskedDocuments, CallDocuments};
use rekindle_sim::documents::wire::{Call, CollectionInfo, Done, Outcome, Query, Question, Reply};
use rekindle_sim::documents::words;
use serde_json::Value as Json;

use super::args::{DocCall, DocCommand, HowRead};
use super::context::{Context, block_on};
use super::matches::explain;
use crate::control::asked_documents;
use crate::exit::{Exit, Failure};
use crate::node::documents::reading::{self, Explained, Source, Wanted};
use crate::node::documents::stored::Shelf;
use crate::node::documents::{DocumentsError, NO_KINDS, order};
use crate::node::trial::TrialOptions;
use crate::node::{ControlError, build};
use crate::text::counted;

pub(super) fn run(context: &Context, command: DocCommand) -> Result<Exit, Failure> {
    block_on(async {
        match command {
            DocCommand::Kinds => {
                let kinds: Vec<CollectionInfo> =
                    context.node()?.get("/v1/documents").await.map_err(explain)?;
                context.answer(&kinds, || match &kinds[..] {
                    [] => vec![format!("this node has {NO_KINDS}")],
                    all => all.iter().flat_map(kind_words).collect(),
                })?;
            }
            DocCommand::Get { kind, key, how } => {
                let question = Question::Get { key: key.clone() };
                let (reply, asked) = ask(context, &kind, question, &how).await?;
                let Reply::Document(Some(row)) = reply else {
                    let words = format!("RK-DOC-102: there is no document `{key}`");
                    return Err(Failure::new(Exit::NotFound, words));
                };
                answer(context, &how, &asked, &row, || vec![json_words(&row)])?;
            }
            DocCommand::Ls { kind, filter, sort, limit, skip, how } => {
                let query = Query { filter, sort, limit: Some(limit), skip };
                let question = Question::Query(query.clone());
                let (reply, asked) = ask(context, &kind, question, &how).await?;
                let Reply::Rows { rows, matching, more } = reply else { return Err(other()) };
                answer(context, &how, &asked, &asked, || {
                    let mut lines: Vec<String> = rows.iter().map(json_words).collect();
                    lines.push(shown(&query, rows.len(), matching, more));
                    lines
                })?;
            }
            DocCommand::Stats { kind, how } => {
                let (reply, asked) = ask(context, &kind, Question::Stats, &how).await?;
                let Reply::Stats(stats) = reply else { return Err(other()) };
                let line = |(name, value): (&String, &Json)| format!("{name:<24} {value}");
                answer(context, &how, &asked, &stats, || stats.iter().map(line).collect())?;
            }
            DocCommand::Call(wanted) => {
                let (kind, player, calls) = calls_of(wanted)?;
                let calls = calls.iter().map(serde_json::to_value).collect::<Result<_, _>>()?;
                let body = CallDocuments { player, calls };
                let path = format!("/v1/documents/{}/call", escaped(&kind));
                let done: Vec<Done> = context.node()?.post(&path, &body).await.map_err(explain)?;
                context.answer(&done, || done.iter().map(json_words).collect())?;
            }
            DocCommand::Can { call, how } => return can(context, call, &how).await,
        }
        Ok(Exit::Done)
    })
}

async fn can(context: &Context, wanted: DocCall, how: &HowRead) -> Result<Exit, Failure> {
    let (kind, player, calls) = calls_of(wanted)?;
    let count = calls.len();
    let question = Question::Can(order(player, calls));
    let (reply, asked) = ask(context, &kind, question, how).await?;
    let Reply::Can(outcome) = reply else { return Err(other()) };
    // With code and words of a refusal, as the node answered.
    answer(context, how, &asked, &asked.reply["can"], || match &outcome {
        Outcome::Refused { why, .. } if count == 1 => vec![format!("no: {why}")],
        Outcome::Refused { at, why } => vec![format!("no: call {} of {count}: {why}", at + 1)],
        _ => vec!["yes".to_owned()],
    })?;
    let no = matches!(outcome, Outcome::Refused { .. });
    Ok(if no { Exit::Broken } else { Exit::Done })
}

/// Prints an answer. Where it comes from is behind it, if that was asked for; as JSON it is then
/// the whole of what the node said.
fn answer(
    context: &Context,
    how: &HowRead,
    asked: &AskedDocuments,
    value: &impl serde::Serialize,
    lines: impl FnOnce() -> Vec<String>,
) -> Result<(), Failure> {
    if !how.explain {
        return context.answer(value, lines);
    }
    context.answer(asked, || {
        let mut lines = lines();
        let AskedDocuments { source, as_of_tick, answered_by, explain, .. } = asked;
        lines.push(format!(
            "from the {source}, by {answered_by}, as of the collection's durable tick {as_of_tick}"
        ));
        let explained = explain.clone().and_then(|found| serde_json::from_value(found).ok());
        let explained: Option<Explained> = explained;
        lines.extend(explained.iter().flat_map(Explained::lines));
        lines
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

/// Asks the running node. Where none runs, this process reads the store, unless the memory of a
/// node is asked for.
async fn ask(
    context: &Context,
    kind: &str,
    question: Question,
    how: &HowRead,
) -> Result<(Reply, AskedDocuments), Failure> {
    let from = how.from.source();
    let asked = match context.node() {
        Err(failure) if failure.exit == Exit::NoNode && from != Some(Source::Memory) => {
            without_a_node(context, kind, &question, how.explain).await?
        }
        node => {
            let path = format!("/v1/documents/{}/ask", escaped(kind));
            let wanted = Wanted { question, from, explain: how.explain };
            node?.post(&path, &wanted.to_json()).await.map_err(explain)?
        }
    };
    let reply = serde_json::from_value(asked.reply.clone())?;
    Ok((reply, asked))
}

async fn without_a_node(
    context: &Context,
    kind: &str,
    question: &Question,
    explain: bool,
) -> Result<AskedDocuments, Failure> {
    let kinds = context.games.collections().map(|collection| collection.kind);
    let kinds: Vec<String> = kinds.collect();
    if !kinds.iter().any(|known| known == kind) {
        let error = DocumentsError::NoKind { kind: kind.to_owned(), known: kinds.join(", ") };
        return Err(Failure::new(Exit::NotFound, error.to_string()));
    }
    let trials = TrialOptions::of(&context.config, build::of_this_executable()?);
    let other_build = OtherBuild::accepted_if(context.config.accept_build);
    let reading = context.reading()?;
    let read = async {
        let shelf = Shelf::new(reading.store().await?, context.games.clone(), trials, other_build);
        let why = "no node runs here, so this command reads the store";
        let read = reading::without_a_node(&shelf, kind, question, why).await;
        read.map_err(|error| Failure::new(exit_of(&error), error.to_string()))
    };
    Ok(asked_documents(reading.named(read.await)?, explain))
}

fn exit_of(error: &ControlError) -> Exit {
    match error {
        ControlError::Documents(DocumentsError::NeverStored(_)) => Exit::NotFound,
        ControlError::Documents(DocumentsError::Unreadable { .. }) => Exit::Broken,
        ControlError::Document { .. } => Exit::Usage,
        _ => Exit::Failed,
    }
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
