//! `rekindle node ls|show`: the nodes of a store, by their leases and by what they say of
//! themselves. What is done to nodes is in `wish.rs`.

use rekindle_admin::cluster::{NodeEntry, NodeStanding, NodeWanted};
use serde_json::{Value, json};

use super::args::NodeCommand;
use super::cluster::{Gathered, gather};
use super::context::{Context, block_on};
use super::wish;
use crate::exit::{Exit, Failure};
use crate::moment;
use crate::text::counted;

/// Runs that are over and older than this are not listed, in milliseconds: their leases stay as
/// long as their logs are needed.
const RECENT_MS: u64 = 3_600_000;

pub(super) fn run(context: &Context, command: NodeCommand) -> Result<Exit, Failure> {
    match command {
        NodeCommand::Drain { name, waiting } => {
            return wish::run(context, &name, NodeWanted::Drained, waiting);
        }
        NodeCommand::Undrain { name } => return wish::undrain(context, &name),
        NodeCommand::Decommission { name, waiting } => {
            return wish::run(context, &name, NodeWanted::Decommissioned, waiting);
        }
        NodeCommand::Ls { .. } | NodeCommand::Show { .. } => {}
    }
    let gathered = block_on(gather(context))?;
    match command {
        NodeCommand::Ls { all } => {
            let nodes = listed(&gathered, all);
            let values: Vec<Value> = nodes.iter().map(|node| value(node, &gathered)).collect();
            context.answer(&values, || table(&nodes, &gathered))?;
        }
        NodeCommand::Show { name } => {
            let node = find(&gathered, &name)?;
            context.answer(&value(node, &gathered), || details(node, &gathered))?;
        }
        // They are done above.
        NodeCommand::Drain { .. }
        | NodeCommand::Undrain { .. }
        | NodeCommand::Decommission { .. } => {}
    }
    Ok(Exit::Done)
}

/// Those that live, hang, or ended lately; or all.
fn listed(gathered: &Gathered, all: bool) -> Vec<&NodeEntry> {
    let since = gathered.view.now_ms.saturating_sub(RECENT_MS);
    let runs = |node: &NodeEntry| matches!(node.standing, NodeStanding::Live | NodeStanding::Late);
    let listed = |node: &&NodeEntry| all || runs(node) || node.renewed_ms >= since;
    let mut nodes: Vec<&NodeEntry> = gathered.view.nodes.iter().filter(listed).collect();
    nodes.sort_by(|one, next| (&one.name, one.since_ms).cmp(&(&next.name, next.since_ms)));
    nodes
}

/// The newest run of that name, or the run with that incarnation.
fn find<'a>(gathered: &'a Gathered, name: &str) -> Result<&'a NodeEntry, Failure> {
    let named = |node: &&NodeEntry| node.name == name || node.incarnation == name;
    gathered.view.nodes.iter().filter(named).max_by_key(|node| node.since_ms).ok_or_else(|| {
        let message = format!(
            "RK-CLI-180: the store knows no node `{name}`; `rekindle node ls --all` lists them"
        );
        Failure::new(Exit::NotFound, message)
    })
}

/// In a word: what its lease says, and whether it is being emptied or is empty.
pub(super) fn state(node: &NodeEntry) -> &'static str {
    match node.standing {
        NodeStanding::Live if node.draining && node.matches == 0 => "drained",
        NodeStanding::Live if node.draining => "draining",
        standing => standing.word(),
    }
}

fn players(node: &NodeEntry, gathered: &Gathered) -> Option<usize> {
    gathered.seats.get(&node.incarnation).map(|seats| seats.playing + seats.stalled)
}

fn value(node: &NodeEntry, gathered: &Gathered) -> Value {
    json!({
        "name": node.name,
        "incarnation": node.incarnation,
        "region": node.region,
        "state": state(node),
        "since_ms": node.since_ms,
        "renewed_ms": node.renewed_ms,
        "matches": node.matches,
        "follows": follows(node, gathered),
        "players": players(node, gathered),
        "build": node.build,
        "players_at": node.players_at,
        "admin": node.admin,
        "wanted": wanted(node, gathered).map(NodeWanted::word),
        "drain": node.drain,
    })
}

/// How many matches of others would go on there at once.
fn follows(node: &NodeEntry, gathered: &Gathered) -> usize {
    let ready = gathered.view.followed.iter().filter(|entry| entry.ready);
    ready.filter(|entry| entry.node == node.incarnation).count()
}

/// What operators want of the node of this name, if anything.
fn wanted(node: &NodeEntry, gathered: &Gathered) -> Option<NodeWanted> {
    let mut wishes = gathered.view.wishes.iter();
    wishes.find(|wish| wish.node == node.name).map(|wish| wish.wanted)
}

fn or_dash(number: Option<usize>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

fn table(nodes: &[&NodeEntry], gathered: &Gathered) -> Vec<String> {
    if nodes.is_empty() {
        return vec!["no node: `rekindle start` starts one".to_owned()];
    }
    let mut lines = vec![format!(
        "{:<12}  {:<16}  {:<8}  {:<8}  {:>7}  {:>7}  {:<16}  {}",
        "NODE", "INCARNATION", "REGION", "STATE", "MATCHES", "PLAYERS", "BUILD", "ADMIN"
    )];
    for node in nodes {
        lines.push(format!(
            "{:<12}  {:<16}  {:<8}  {:<8}  {:>7}  {:>7}  {:<16}  {}",
            node.name,
            node.incarnation,
            node.region,
            state(node),
            node.matches,
            or_dash(players(node, gathered)),
            node.build.as_deref().unwrap_or("-"),
            node.admin.as_deref().unwrap_or("-"),
        ));
    }
    lines
}

fn details(node: &NodeEntry, gathered: &Gathered) -> Vec<String> {
    let wished = wanted(node, gathered).map_or("serving", NodeWanted::word);
    let unsaid = |text: &Option<String>| text.clone().unwrap_or_else(|| "not said".to_owned());
    vec![
        format!("node         {}", node.name),
        format!("incarnation  {}", node.incarnation),
        format!("region       {}", node.region),
        format!("state        {}", state(node)),
        format!("wanted       {wished}"),
        format!("began        {}", moment::show(node.since_ms)),
        format!("heard of     {}", moment::show(node.renewed_ms)),
        format!("matches      {}", node.matches),
        format!("follows      {}", counted(follows(node, gathered), "match", "matches")),
        format!("players      {}", or_dash(players(node, gathered))),
        format!("build        {}", unsaid(&node.build)),
        format!("players at   {}", unsaid(&node.players_at)),
        format!("admin        {}", unsaid(&node.admin)),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use rekindle_admin::cluster::ClusterView;

    use super::*;

    fn entry(name: &str, standing: NodeStanding, since_ms: u64) -> NodeEntry {
        NodeEntry {
            name: name.to_owned(),
            incarnation: format!("{since_ms:016x}"),
            region: "main".to_owned(),
            standing,
            draining: false,
            since_ms,
            renewed_ms: since_ms + 10,
            matches: 0,
            build: None,
            players_at: None,
            admin: None,
            drain: None,
        }
    }

    #[test]
    fn old_runs_are_left_out_and_the_newest_run_of_a_name_is_shown() {
        let now_ms = 10 * RECENT_MS;
        let nodes = vec![
            entry("a", NodeStanding::Fenced, 1),
            entry("b", NodeStanding::Live, 2),
            entry("a", NodeStanding::Stopped, now_ms - 100),
        ];
        let view = ClusterView { now_ms, nodes, ..ClusterView::default() };
        let gathered = Gathered { view, seats: BTreeMap::new() };
        let names = |all| -> Vec<(String, u64)> {
            listed(&gathered, all).iter().map(|n| (n.name.clone(), n.since_ms)).collect()
        };
        assert_eq!(names(false), [("a".to_owned(), now_ms - 100), ("b".to_owned(), 2)]);
        assert_eq!(names(true).len(), 3);
        assert_eq!(find(&gathered, "a").unwrap().since_ms, now_ms - 100);
        assert_eq!(find(&gathered, "0000000000000001").unwrap().since_ms, 1);
        assert_eq!(find(&gathered, "c").unwrap_err().exit, Exit::NotFound);
    }
}
