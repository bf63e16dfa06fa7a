//! `rekindle cluster rebalance`: a running node says what should move
//! ([`rekindle_cluster::placement::rebalance`] decides), and this has each match moved by the node
//! that runs it. Called by `cluster.rs`.

use futures::StreamExt;
use rekindle_admin::api::{MigrateMatch, Migrated};
use rekindle_admin::client::AdminClient;
use rekindle_admin::cluster::{MoveEntry, RebalanceView};
use serde::Serialize;

use super::context::{Context, block_on};
use super::matches::explain;
use crate::exit::{Exit, Failure};
use crate::output;
use crate::text::{counted, plain};

/// Matches that move at once. A node takes no more at once.
const AT_ONCE: usize = 4;

/// What was planned and what has come of it, for scripts.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    plan: RebalanceView,
    /// What moved; absent if it was only to be shown.
    moved: Option<Vec<Migrated>>,
    /// What did not, and why; absent if it was only to be shown.
    stayed: Option<Vec<Stayed>>,
}

/// A match that did not move as it should.
#[derive(Serialize)]
struct Stayed {
    /// 16 hexadecimal digits.
    id: String,
    /// Why, in words.
    why: String,
}

/// Shows what should move, and has it moved unless it is a dry run.
pub(super) fn run(context: &Context, dry_run: bool) -> Result<Exit, Failure> {
    let node = context.node()?;
    block_on(async {
        let plan: RebalanceView = node.get("/v1/cluster/rebalance").await.map_err(explain)?;
        if dry_run {
            let answer = Answer { plan, moved: None, stayed: None };
            context.answer(&answer, || planned(&answer.plan))?;
            return Ok(Exit::Done);
        }
        if let Some(why) = plan.not_now.as_ref().filter(|_| !plan.moves.is_empty()) {
            return Err(Failure::new(
                Exit::Failed,
                format!(
                    "RK-CLI-202: nothing was moved, because {why}: matches move when all nodes \
                     are well; `rekindle cluster status` says how they are"
                ),
            ));
        }
        for line in planned(&plan) {
            output::complain(&plain(&line));
        }
        let (moved, stayed) = carry_out(&node, &plan.moves).await;
        let all = stayed.is_empty();
        let answer = Answer { plan, moved: Some(moved), stayed: Some(stayed) };
        context.answer(&answer, || ended(&answer))?;
        Ok(if all { Exit::Done } else { Exit::Failed })
    })
}

/// Has all of it moved, and says on standard error how far it is.
async fn carry_out(node: &AdminClient, moves: &[MoveEntry]) -> (Vec<Migrated>, Vec<Stayed>) {
    let (mut moved, mut stayed) = (Vec::new(), Vec::new());
    let mut under_way =
        futures::stream::iter(moves).map(|wanted| one(node, wanted)).buffer_unordered(AT_ONCE);
    while let Some(done) = under_way.next().await {
        let so_far = moved.len() + stayed.len() + 1;
        let words = match done {
            Ok(Migrated { id, node, pause_ms }) => {
                let words =
                    format!("match {id} is at node {node}, it stood still for {pause_ms} ms");
                moved.push(Migrated { id, node, pause_ms });
                words
            }
            Err(Stayed { id, why }) => {
                let words = format!("match {id} did not move: {why}");
                stayed.push(Stayed { id, why });
                words
            }
        };
        output::complain(&plain(&format!("{so_far} of {}: {words}", moves.len())));
    }
    (moved, stayed)
}

async fn one(node: &AdminClient, wanted: &MoveEntry) -> Result<Migrated, Stayed> {
    let path = format!("/v1/matches/{}/migrate", wanted.id);
    // The run and not the name: a node that is started again meanwhile is another target.
    let order = MigrateMatch { to: wanted.to_incarnation.clone() };
    let stayed = |failure: Failure| Stayed { id: wanted.id.clone(), why: failure.message };
    node.post(&path, &order).await.map_err(|error| stayed(explain(error)))
}

/// How the nodes stand, and what should move.
fn planned(plan: &RebalanceView) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<16}  {:<16}  {:<10}  {:>7}  {:>7}  {:>7}",
        "NODE", "INCARNATION", "REGION", "MATCHES", "SHARE", "AFTER"
    )];
    lines.extend(plan.nodes.iter().map(|node| {
        format!(
            "{:<16}  {:<16}  {:<10}  {:>7}  {:>7.1}  {:>7}",
            node.node, node.incarnation, node.region, node.matches, node.share, node.after
        )
    }));
    lines.extend(plan.moves.iter().map(|wanted| {
        let MoveEntry { id, game, from, to, why, .. } = wanted;
        format!("match {id} ({game}) from {from} to {to}: {why}")
    }));
    if plan.moves.is_empty() {
        lines.push("nothing has to move: no node is clearly above its share".to_owned());
    }
    lines.extend(plan.not_now.iter().map(|why| format!("not now: {why}")));
    lines
}

/// How it ended, in words.
fn ended(answer: &Answer) -> Vec<String> {
    let (moved, stayed) = (answer.moved.as_deref(), answer.stayed.as_deref());
    let (moved, stayed) = (moved.unwrap_or_default(), stayed.unwrap_or_default());
    let worst = moved.iter().map(|moved| moved.pause_ms).max();
    let pause = worst.map_or_else(String::new, |worst| format!(", worst pause {worst} ms"));
    let mut lines = vec![format!("{} moved{pause}", counted(moved.len(), "match", "matches"))];
    if !stayed.is_empty() {
        lines.push(format!(
            "RK-CLI-201: {} did not move; `rekindle cluster rebalance` plans and tries again",
            counted(stayed.len(), "match", "matches")
        ));
        lines.extend(stayed.iter().map(|Stayed { id, why }| format!("  match {id}: {why}")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use rekindle_admin::cluster::ShareEntry;

    use super::*;

    #[test]
    fn what_did_not_move_is_named_with_its_reason() {
        let share = |node: &str, matches, after| ShareEntry {
            node: node.to_owned(),
            incarnation: "00000000000000a1".to_owned(),
            region: "main".to_owned(),
            matches,
            share: 1.5,
            after,
        };
        let plan = RebalanceView {
            nodes: vec![share("a", 3, 2), share("b", 0, 1)],
            moves: vec![MoveEntry {
                id: "00000000000000aa".to_owned(),
                game: "arena".to_owned(),
                from: "a".to_owned(),
                to: "b".to_owned(),
                to_incarnation: "00000000000000b1".to_owned(),
                why: "node a runs 3".to_owned(),
            }],
            not_now: None,
        };
        let told = planned(&plan).join("\n");
        assert!(told.contains("match 00000000000000aa (arena) from a to b: node a runs 3"));
        let stayed = Stayed { id: "00000000000000aa".to_owned(), why: "b is full".to_owned() };
        let answer = Answer { plan, moved: Some(Vec::new()), stayed: Some(vec![stayed]) };
        assert_eq!(
            ended(&answer),
            [
                "0 matches moved",
                "RK-CLI-201: 1 match did not move; `rekindle cluster rebalance` plans and tries \
                 again",
                "  match 00000000000000aa: b is full",
            ]
        );
    }
}
