//! `rekindle dev`: several nodes on one local store in one terminal, for whoever writes a game that
//! has to outlive its node. Each is a process of its own; Ctrl-C stops all of them cleanly.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use rekindle_schema::PlayerId;
use rekindle_schema::wire::Role;
use rekindle_store_open::address::StoreAddress;

use super::context::Context;
use crate::demo::child::{Launch, NodeEvent, NodeProcess};
use crate::exit::{Exit, Failure};
use crate::node::card::NodeCard;
use crate::node::{keyring, tickets};
use crate::screen::terminal::asked_to_end;
use crate::{dial, output, text};

/// How often it is looked after the nodes.
const LOOK: Duration = Duration::from_millis(100);
/// For how long the printed ticket is valid, in seconds.
const TICKET_S: u64 = 12 * 3_600;

/// One node.
struct Node {
    name: String,
    process: NodeProcess,
    card: NodeCard,
    /// It has ended, and that was said.
    over: bool,
}

pub(super) fn run(context: &Context, nodes: u16) -> Result<Exit, Failure> {
    context.first_game()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(context, nodes))
}

async fn serve(context: &Context, count: u16) -> Result<Exit, Failure> {
    let signals = asked_to_end()?;
    let dir = context.config.data_dir.clone();
    let store = match &context.common.store {
        None => StoreAddress::Local(dir.join("store")),
        Some(_) => context.config.store.clone(),
    };
    if matches!(store, StoreAddress::Memory) {
        let message = "RK-CLI-181: nodes share no store in memory; leave --store out, or name a \
            store on servers";
        return Err(Failure::new(Exit::Usage, message));
    }
    store.migrate().await?;
    let mut nodes = Vec::new();
    for number in 1..=count {
        nodes.push(start(context, number, &store).await?);
    }
    output::milestone(&words(context, &store, &nodes).await?);
    tokio::pin!(signals);
    loop {
        let asked = tokio::select! {
            biased;
            () = &mut signals => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        for node in &mut nodes {
            tell(node);
        }
        if asked {
            break;
        }
        if nodes.iter().all(|node| node.over) {
            let message = "RK-CLI-182: all nodes have ended; what they said stands above";
            return Err(Failure::new(Exit::Failed, message));
        }
    }
    output::milestone("stopping all nodes: every match is checkpointed first");
    let running = nodes.iter_mut().filter(|node| !node.over);
    let stops = running.map(|node| node.process.stop());
    futures::future::try_join_all(stops).await?;
    output::milestone("all nodes stopped; start again and the matches go on");
    Ok(Exit::Done)
}

/// Starts the node of this number in its own directory. Its ports are the ones that it had before,
/// or free ones.
async fn start(context: &Context, number: u16, store: &StoreAddress) -> Result<Node, Failure> {
    let name = format!("n{number}");
    let dir = context.config.data_dir.clone();
    let data_dir = dir.join(&name);
    let free: SocketAddr = ([127, 0, 0, 1], 0).into();
    let listen = NodeCard::read(&data_dir).map_or(free, |card| card.listen);
    let mut settings = vec![format!("node.name={name}"), "log.filter=info".to_owned()];
    settings.extend(context.common.set.iter().cloned());
    let launch = Launch { data_dir, store: store.clone(), listen, settings };
    let mut process = NodeProcess::start(&launch)?;
    let card = process.ready(&launch, &mut |event| output::milestone(&line(&name, event))).await?;
    Ok(Node { name, process, card, over: false })
}

/// Passes on what a node logged, and says if it has ended.
fn tell(node: &mut Node) {
    let Node { name, process, over, .. } = node;
    process.drain_events(&mut |event| output::milestone(&line(name, event)));
    if !*over && let Some(how) = process.ended() {
        *over = true;
        output::milestone(&format!("{name} | ended: {how}; the others take its matches"));
    }
}

/// One line of the log of a node, with its name in front.
fn line(name: &str, event: &NodeEvent) -> String {
    let of = |field: &str| event.fields.get(field).and_then(|value| value.as_str());
    let Some(message) = of("message") else {
        let raw = event.fields.as_str().map_or_else(|| event.fields.to_string(), str::to_owned);
        return format!("{name} | {}", text::plain(&raw));
    };
    let mut words = format!("{name} | {:<5} {}", of("level").unwrap_or_default(), event.code);
    let _ = write!(words, " {message}");
    let known = ["message", "level", "code", "timestamp", "target"];
    for (field, value) in event.fields.as_object().into_iter().flatten() {
        if !known.contains(&field.as_str()) {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            let _ = write!(words, " {field}={value}");
        }
    }
    text::plain(&words).into_owned()
}

/// Where everything is, and how to get in.
async fn words(context: &Context, store: &StoreAddress, nodes: &[Node]) -> Result<String, Failure> {
    let mut lines = vec![String::new()];
    for Node { name, card, .. } in nodes {
        lines.push(format!(
            "{name}  players UDP {}  admin http://{}  pid {}",
            card.listen,
            dial::from_here(card.admin),
            card.pid
        ));
    }
    let keys = keyring::of_store(store, context.config.cluster_secret.as_ref()).await?;
    let wanted = tickets::Wanted {
        player: PlayerId(1),
        name: None,
        role: Role::Player,
        match_id: None,
        ttl_s: TICKET_S,
    };
    let ticket = tickets::issue(&keys, &wanted)?;
    let admin = nodes.first().map(|node| dial::from_here(node.card.admin));
    lines.push(format!("ticket for player 1, valid for {} h: {ticket}", TICKET_S / 3_600));
    if let Some(admin) = admin {
        let program = text::program();
        lines.extend([
            String::new(),
            "Try, in another terminal:".to_owned(),
            String::new(),
            format!("  {program} match create --bots 8 --admin {admin}"),
            format!("  {program} cluster status --admin {admin}"),
            format!("  kill -9 {}    its matches go on at the others", nodes[0].card.pid),
            String::new(),
            "Ctrl-C stops all of them cleanly.".to_owned(),
        ]);
    }
    Ok(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::time::Instant;

    use super::*;

    #[test]
    fn a_log_line_has_the_name_of_its_node_in_front_and_stays_one_line() {
        let event = |fields: serde_json::Value| NodeEvent {
            at: Instant::now(),
            code: "RK-NODE-001".to_owned(),
            fields,
        };
        let logged = line(
            "n2",
            &event(json!({
                "timestamp": "t", "level": "INFO", "code": "RK-NODE-001", "message": "ready",
                "admin": "127.0.0.1:1", "n": 3,
            })),
        );
        assert_eq!(logged, "n2 | INFO  RK-NODE-001 ready admin=127.0.0.1:1 n=3");
        let panic = line("n1", &event(json!("thread panicked\nat x")));
        assert!(panic.starts_with("n1 | thread panicked") && !panic.contains('\n'), "{panic}");
    }
}
