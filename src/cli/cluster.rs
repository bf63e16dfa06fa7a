//! `rekindle cluster status`: one page about all nodes of a store. Also what `rekindle node ls`
//! stands on: [`gather`] asks a running node, or reads the store if it is named or none runs.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rekindle_admin::api::{MatchView, NodeView};
use rekindle_admin::client::AdminClient;
use rekindle_admin::cluster::{ClusterView, NodeStanding};
use rekindle_schema::condition::Condition;

use super::args::ClusterCommand;
use super::context::{Context, block_on};
use super::matches::explain;
use super::rebalance;
use crate::exit::{Exit, Failure};
use crate::inspect::cluster::{self, Health, Seats, Status};
use crate::inspect::reading::Reading;
use crate::{clock, dial, moment, text};

/// How long a node may take to say who plays there. One that hangs must not hold up the page.
const SEATS_WITHIN: Duration = Duration::from_secs(1);
/// Most nodes that are asked for it.
const ASKED: usize = 64;

/// What was gathered.
pub(super) struct Gathered {
    /// What the store says.
    pub(super) view: ClusterView,
    /// What the nodes that could be asked say, by incarnation.
    pub(super) seats: BTreeMap<String, Seats>,
}

pub(super) fn run(context: &Context, command: &ClusterCommand) -> Result<Exit, Failure> {
    if let ClusterCommand::Rebalance { dry_run } = command {
        return rebalance::run(context, *dry_run);
    }
    let Gathered { view, seats } = block_on(gather(context))?;
    let mut status = cluster::assess(&view, &seats);
    for step in &mut status.next {
        step.command = text::own_command(&step.command);
    }
    context.answer(&status, || page(&status))?;
    Ok(if status.verdict == Health::Bad { Exit::Broken } else { Exit::Done })
}

/// Asks the node of `--admin` or of the data directory. Reads the store itself if that is named and
/// no node is, or if no node runs.
pub(super) async fn gather(context: &Context) -> Result<Gathered, Failure> {
    let (view, asked) = view_of(context).await?;
    let seats = seats(context, &view, asked).await;
    Ok(Gathered { view, seats })
}

/// As [`gather`], without asking all nodes who plays there.
pub(super) async fn view(context: &Context) -> Result<ClusterView, Failure> {
    Ok(view_of(context).await?.0)
}

/// What the store says, and which node was asked for it, if one was.
async fn view_of(context: &Context) -> Result<(ClusterView, Option<SocketAddr>), Failure> {
    let offline = context.common.store.is_some() && context.common.admin.is_none();
    let node = if offline { None } else { context.node().ok() };
    if let Some(node) = node {
        let view = node.get("/v1/cluster").await.map_err(explain)?;
        return Ok((view, Some(node.addr())));
    }
    let reading = Reading::of(&context.config.store)?;
    let read = async {
        let store = reading.store().await?;
        Ok(cluster::read(&store, clock::now_ms()).await?)
    };
    Ok((reading.named(read.await)?, None))
}

/// Asks all live nodes whose admin address is known, and the one at `also`, who plays there. Those
/// that do not answer soon are left out.
async fn seats(
    context: &Context,
    view: &ClusterView,
    also: Option<SocketAddr>,
) -> BTreeMap<String, Seats> {
    let live = view.nodes.iter().filter(|node| node.standing == NodeStanding::Live);
    let known = live.filter_map(|node| node.admin.as_deref()?.parse::<SocketAddr>().ok());
    let mut addrs: Vec<SocketAddr> = known.map(dial::from_here).chain(also).collect();
    addrs.sort_unstable();
    addrs.dedup();
    let token = context.config.admin_token.as_ref().map(|token| token.reveal().to_owned());
    let asked = addrs.into_iter().take(ASKED).map(|addr| {
        let node = AdminClient::new(addr, token.clone());
        async move { tokio::time::timeout(SEATS_WITHIN, seats_at(&node)).await.ok().flatten() }
    });
    futures::future::join_all(asked).await.into_iter().flatten().collect()
}

async fn seats_at(node: &AdminClient) -> Option<(String, Seats)> {
    let who: NodeView = node.get("/v1/node").await.ok()?;
    let matches: Vec<MatchView> = node.get("/v1/matches").await.ok()?;
    let mut seats = Seats::default();
    for view in matches {
        match view.state {
            Condition::Running => seats.playing += view.players,
            Condition::Stalled => seats.stalled += view.players,
            _ => {}
        }
    }
    Some((who.incarnation, seats))
}

/// The page, the verdict first.
fn page(status: &Status) -> Vec<String> {
    let unknown = |number: Option<usize>| number.map_or("not known".to_owned(), |n| n.to_string());
    let mut lines = vec![status.verdict.word().to_uppercase()];
    lines.extend(status.reasons.iter().map(|reason| format!("  {reason}")));
    lines.push(String::new());
    lines.push(format!("live nodes              {}", status.nodes_live));
    lines.push(format!("matches                 {}", status.matches));
    lines.push(format!("  without a live owner  {}", status.matches_without_owner));
    lines.extend(status.without_owner.iter().map(|id| format!("    {id}")));
    lines.push(format!("  parked                {}", status.matches_parked));
    lines.push(format!("  with a standby        {}", status.matches_with_standby));
    lines.push(format!("players                 {}", unknown(status.players)));
    lines.push(format!("  standing still        {}", unknown(status.players_stalled)));
    let may = if status.can_lose_one { "yes" } else { "NO" };
    lines.push(format!("one more node may die   {may}: {}", status.because));
    lines.push(String::new());
    lines.push("the last hour".to_owned());
    if status.last_hour.is_empty() {
        lines.push("  nothing happened".to_owned());
    }
    lines.extend(
        status
            .last_hour
            .iter()
            .map(|told| format!("  {}  {}", moment::show(told.at_ms), told.what)),
    );
    if !status.next.is_empty() {
        lines.extend([String::new(), "what can be done, without harm".to_owned()]);
        let width = status.next.iter().map(|step| step.command.len()).max().unwrap_or_default();
        lines.extend(
            status.next.iter().map(|step| format!("  {:<width$}   {}", step.command, step.why)),
        );
    }
    lines
}
