//! `rekindle node drain|undrain|decommission`: enters into the store what a node is to do, through
//! a running node or directly, and waits for it if asked to. Called by `node.rs`.

use std::time::Duration;

use rekindle_admin::client::agent;
use rekindle_admin::cluster::{
    ClusterView, DrainEntry, NodeEntry, NodeStanding, NodeWanted, NodeWished, WishNode,
};
use rekindle_schema::Incarnation;
use serde::Serialize;
use tokio::time::Instant;

use super::args::Waiting;
use super::cluster::view;
use super::context::{Context, block_on};
use super::matches::explain;
use crate::control;
use crate::exit::{Exit, Failure};
use crate::node::operator::Operators;
use crate::node::{ControlError, keyring, wishes};
use crate::output;
use crate::text::{counted, plain};

/// How often it is looked how far the node is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The same words are said again after so long, so that a log shows that it goes on.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// What has come of it, for scripts.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    wished: NodeWished,
    /// Nothing runs on the node any more; absent if nobody waited for that.
    empty: Option<bool>,
    /// What the node said last of how far it has come.
    drain: Option<DrainEntry>,
    /// For how long it was waited, in milliseconds.
    waited_ms: Option<u64>,
}

/// Has a node drained or decommissioned.
pub(super) fn run(
    context: &Context,
    name: &str,
    wanted: NodeWanted,
    waiting: Waiting,
) -> Result<Exit, Failure> {
    block_on(async {
        let wished = enter(context, name, wanted).await?;
        if !waiting.wait {
            let answer = Answer { wished, empty: None, drain: None, waited_ms: None };
            context.answer(&answer, || began(&answer.wished))?;
            return Ok(Exit::Done);
        }
        for line in began(&wished) {
            progress(&line);
        }
        let begun = Instant::now();
        let (empty, drain) = wait(context, name, wanted, waiting.timeout).await?;
        let waited_ms = begun.elapsed().as_millis() as u64;
        let answer = Answer { wished, empty: Some(empty), drain, waited_ms: Some(waited_ms) };
        context.answer(&answer, || ended(&answer))?;
        Ok(if empty { Exit::Done } else { Exit::Failed })
    })
}

/// Takes back that a node is drained or decommissioned.
pub(super) fn undrain(context: &Context, name: &str) -> Result<Exit, Failure> {
    let wished = block_on(enter(context, name, NodeWanted::Serving))?;
    context.answer(&wished, || {
        let words = match (wished.before, wished.runs) {
            (NodeWanted::Serving, _) => {
                format!("node {name} was neither drained nor decommissioned")
            }
            (_, true) => format!("node {name} takes matches again, within a second"),
            (_, false) => format!("node {name} does not run; when it is started it takes matches"),
        };
        vec![words]
    })?;
    Ok(Exit::Done)
}

/// Through a node if one is named or runs here; else in the store itself.
async fn enter(context: &Context, name: &str, wanted: NodeWanted) -> Result<NodeWished, Failure> {
    let offline = context.common.store.is_some() && context.common.admin.is_none();
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_name) {
        return Err(refused(&ControlError::NoNode(name.to_owned())));
    }
    let node = if offline { None } else { context.node().ok() };
    if let Some(node) = node {
        let path = format!("/v1/nodes/{name}");
        return node.post(&path, &WishNode { wanted }).await.map_err(explain);
    }
    let store = keyring::opened(&context.config.store).await?;
    let operators = Operators::new(store.clone(), Incarnation::default());
    let (who, detail) = (agent(), format!("wanted={}", wanted.word()));
    let action = operators.begin(&who, control::wish_action(wanted), name, &detail).await?;
    let set = wishes::set(&store, name, control::wanted(wanted), &who).await;
    action.end(None, set.as_ref().err().map(ToString::to_string)).await;
    let set = set.map_err(|error| refused(&error))?;
    Ok(control::wished(name.to_owned(), wanted, &set))
}

fn refused(error: &ControlError) -> Failure {
    let exit = match error {
        ControlError::NoNode(_) => Exit::NotFound,
        _ => Exit::Failed,
    };
    Failure::new(exit, error.to_string())
}

/// What was begun, in words.
fn began(wished: &NodeWished) -> Vec<String> {
    let NodeWished { node, wanted, before, runs } = wished;
    let mut lines = Vec::new();
    if before == wanted {
        lines.push(format!("node {node} was to be {} already", wanted.word()));
    }
    lines.push(match (runs, wanted) {
        (true, NodeWanted::Decommissioned) => format!(
            "node {node} gives its matches to others, then its process ends; `rekindle node \
             undrain {node}` takes that back"
        ),
        (true, _) => format!(
            "node {node} gives its matches to others and takes no further ones; `rekindle node \
             undrain {node}` takes that back"
        ),
        (false, NodeWanted::Decommissioned) => {
            format!("node {node} does not run, and no node of this name starts any more")
        }
        (false, _) => format!("node {node} does not run; when it is started it takes no matches"),
    });
    lines
}

/// Says how far it is: a line on standard error, good in a terminal and in a log.
fn progress(line: &str) {
    output::complain(&plain(line));
}

/// Waits until nothing runs on the node, or for so many seconds. Whether it is empty, and what the
/// node said last.
async fn wait(
    context: &Context,
    name: &str,
    wanted: NodeWanted,
    timeout: Option<u64>,
) -> Result<(bool, Option<DrainEntry>), Failure> {
    let until = timeout.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut last = None::<DrainEntry>;
    let mut said = (String::new(), Instant::now());
    loop {
        let state = match view(context).await {
            Ok(view) => State::of(&view, name, wanted),
            // The node that was asked is the one that has ended.
            Err(failure)
                if failure.exit == Exit::NoNode && last.as_ref().is_some_and(none_left) =>
            {
                return Ok((true, last));
            }
            Err(failure) => return Err(failure),
        };
        last = state.drain.clone().or(last);
        if state.empty {
            return Ok((true, last));
        }
        let words = state.words(name);
        if words != said.0 || said.1.elapsed() >= SAY_AGAIN {
            progress(&words);
            said = (words, Instant::now());
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Ok((false, last));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn none_left(drain: &DrainEntry) -> bool {
    drain.left == 0
}

/// How far a node is, by what the store says.
#[derive(Debug, PartialEq, Eq)]
struct State {
    /// Matches whose rows name a run of the node.
    matches: usize,
    drain: Option<DrainEntry>,
    /// What was wanted is so.
    empty: bool,
    /// A run of it is not live any more and its matches are still its own.
    gone: bool,
}

impl State {
    fn of(view: &ClusterView, name: &str, wanted: NodeWanted) -> Self {
        let runs: Vec<&NodeEntry> = view.nodes.iter().filter(|node| node.name == name).collect();
        let matches = runs.iter().map(|node| node.matches).sum();
        let mut live = runs.iter().filter(|node| node.standing == NodeStanding::Live).peekable();
        let gone = live.peek().is_none();
        let drain = runs.iter().rev().find_map(|node| node.drain.clone());
        // A node that has not read the wish yet may take a match at any moment.
        let closed = live.all(|node| node.draining && node.drain.as_ref().is_none_or(none_left));
        let ended = gone || wanted == NodeWanted::Drained;
        Self { matches, drain, empty: matches == 0 && closed && ended, gone }
    }

    fn words(&self, name: &str) -> String {
        let left = counted(self.matches, "match", "matches");
        if self.gone {
            return format!("node {name} does not run; {left} of it wait for another node");
        }
        let Some(DrainEntry { moved, stuck, worst_pause_ms, .. }) = &self.drain else {
            return format!("node {name}: {left} to go");
        };
        let stuck = stuck.first().map_or_else(String::new, |stuck| {
            format!("; match {} stays for now: {}", stuck.id, stuck.why)
        });
        format!("node {name}: {moved} moved, {left} to go, worst pause {worst_pause_ms} ms{stuck}")
    }
}

/// How it ended, in words.
fn ended(answer: &Answer) -> Vec<String> {
    let NodeWished { node, wanted, .. } = &answer.wished;
    let seconds = answer.waited_ms.unwrap_or_default() as f64 / 1_000.0;
    let moved = answer.drain.as_ref().map_or_else(String::new, |drain| {
        let matches = counted(drain.moved as usize, "match", "matches");
        format!(": {matches} moved, worst pause {} ms", drain.worst_pause_ms)
    });
    if answer.empty == Some(true) {
        return vec![format!("node {node} is {} after {seconds:.1} s{moved}", wanted.word())];
    }
    let mut lines = vec![format!(
        "RK-CLI-195: node {node} is not empty after {seconds:.1} s{moved}; it goes on with it"
    )];
    let stuck = answer.drain.iter().flat_map(|drain| &drain.stuck);
    lines.extend(stuck.map(|stuck| format!("  match {} stays for now: {}", stuck.id, stuck.why)));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(standing: NodeStanding, draining: bool, matches: usize) -> NodeEntry {
        NodeEntry {
            name: "a".to_owned(),
            incarnation: "00000000000000a1".to_owned(),
            region: "main".to_owned(),
            standing,
            draining,
            since_ms: 1,
            renewed_ms: 2,
            matches,
            build: None,
            players_at: None,
            admin: None,
            drain: None,
        }
    }

    fn empty(nodes: Vec<NodeEntry>, wanted: NodeWanted) -> bool {
        State::of(&ClusterView { nodes, ..ClusterView::default() }, "a", wanted).empty
    }

    #[test]
    fn a_node_is_drained_once_it_takes_nothing_and_runs_nothing() {
        use NodeStanding::{Fenced, Live, Stopped};
        let drained = NodeWanted::Drained;
        assert!(!empty(vec![node(Live, false, 0)], drained), "it has not read the wish");
        assert!(!empty(vec![node(Live, true, 1)], drained));
        assert!(empty(vec![node(Live, true, 0)], drained));
        assert!(empty(vec![node(Stopped, false, 0)], drained), "it does not run");
        assert!(!empty(vec![node(Fenced, false, 2)], drained), "others have yet to take them");
        assert!(!empty(vec![node(Fenced, false, 2), node(Live, true, 0)], drained));
    }

    #[test]
    fn a_node_is_decommissioned_once_it_has_ended() {
        use NodeStanding::{Live, Stopped};
        let gone = NodeWanted::Decommissioned;
        assert!(!empty(vec![node(Live, true, 0)], gone));
        assert!(empty(vec![node(Stopped, true, 0)], gone));
    }

    #[test]
    fn progress_names_what_stays_and_why() {
        let stuck = rekindle_admin::cluster::StuckEntry {
            id: "00000000000000aa".to_owned(),
            why: "no other live node takes it".to_owned(),
        };
        let drain = DrainEntry { moved: 3, left: 1, stuck: vec![stuck], worst_pause_ms: 17 };
        let state = State { matches: 1, drain: Some(drain), empty: false, gone: false };
        assert_eq!(
            state.words("a"),
            "node a: 3 moved, 1 match to go, worst pause 17 ms; match 00000000000000aa stays for \
             now: no other live node takes it"
        );
    }
}
