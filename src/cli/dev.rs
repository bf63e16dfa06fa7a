//! `rekindle dev`: several nodes on one local store in one terminal, for whoever writes a game that
//! has to outlive its node. Each is a process of its own; Ctrl-C stops all of them cleanly.
//!
//! With `--watch` the executable is built again when its sources change ([`rebuild`]). Then all
//! nodes are stopped cleanly, which leaves nothing to replay, and started with the new build on the
//! ports that they had: their matches go on, and clients come back by themselves.

mod rebuild;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rekindle_admin::api::MatchView;
use rekindle_admin::client::AdminClient;
use rekindle_schema::PlayerId;
use rekindle_schema::condition::Condition;
use rekindle_schema::wire::Role;
use rekindle_store_open::address::StoreAddress;
use tokio::process::Command;
use tokio::time::Instant;

use self::rebuild::{Built, Rebuild};
use super::args::DevArgs;
use super::context::Context;
use super::start::HOUSE_BOTS;
use crate::demo::child::{Launch, NodeEvent, NodeProcess};
use crate::exit::{Exit, Failure};
use crate::node::card::NodeCard;
use crate::node::{keyring, tickets};
use crate::screen::terminal::asked_to_end;
use crate::{dial, output, text};

/// How often it is looked after the nodes.
const LOOK: Duration = Duration::from_millis(100);
/// How long matches may take to be recovered before it is said how they are.
const SETTLED_WITHIN: Duration = Duration::from_secs(10);
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

/// All nodes, and what they are started with.
struct Company<'a> {
    context: &'a Context,
    store: StoreAddress,
    executable: PathBuf,
    nodes: Vec<Node>,
}

pub(super) fn run(context: &Context, args: &DevArgs) -> Result<Exit, Failure> {
    context.first_game()?;
    // Before a build replaces it: then the system says that it is deleted.
    let executable = std::env::current_exe()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(context, args, executable))
}

async fn serve(context: &Context, args: &DevArgs, executable: PathBuf) -> Result<Exit, Failure> {
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
    let mut rebuild = if args.watch { Some(Rebuild::of(executable.clone()).await?) } else { None };
    store.migrate().await?;
    let mut company = Company { context, store, executable, nodes: Vec::new() };
    for number in 1..=args.nodes {
        let node = company.start(number).await?;
        company.nodes.push(node);
    }
    output::milestone(&words(context, &company.store, &company.nodes).await?);
    if let Some(rebuild) = &rebuild {
        let files = text::counted(rebuild.files(), "source", "sources");
        output::milestone(&format!("dev | {files} watched: what you change is built and played"));
    }
    tokio::pin!(signals);
    loop {
        tokio::select! {
            biased;
            () = &mut signals => break,
            () = tokio::time::sleep(LOOK) => company.nodes.iter_mut().for_each(tell),
        }
        let Some(rebuild) = &mut rebuild else {
            if company.nodes.iter().all(|node| node.over) {
                let message = "RK-CLI-182: all nodes have ended; what they said stands above";
                return Err(Failure::new(Exit::Failed, message));
            }
            continue;
        };
        match rebuild.look() {
            Ok(None) => {}
            Ok(Some(built)) => tokio::select! {
                biased;
                () = &mut signals => break,
                () = company.start_again(&built) => {}
            },
            // Whoever mends it saves again.
            Err(failure) => output::milestone(&format!("dev | {}", text::plain(&failure.message))),
        }
    }
    output::milestone("stopping all nodes: every match is checkpointed first");
    if let Some(failure) = company.stop().await.into_iter().next() {
        return Err(failure);
    }
    output::milestone("all nodes stopped; start again and the matches go on");
    Ok(Exit::Done)
}

impl Company<'_> {
    /// Starts the node of this number in its own directory. Its ports are those that it had with
    /// the build before. At the first start they are free ones; for players the one that is in the
    /// directory, if the node was killed.
    async fn start(&self, number: u16) -> Result<Node, Failure> {
        let name = format!("n{number}");
        let data_dir = self.context.config.data_dir.join(&name);
        let free: SocketAddr = ([127, 0, 0, 1], 0).into();
        // A node that is stopped cleanly leaves no card in its directory.
        let before = self.nodes.get(usize::from(number) - 1).map(|node| &node.card);
        let admin = before.map_or(free, |card| card.admin);
        let listen = before.map(|card| card.listen);
        let killed = || NodeCard::read(&data_dir).map_or(free, |card| card.listen);
        let listen = listen.unwrap_or_else(killed);
        let mut settings = vec![format!("node.name={name}"), "log.filter=info".to_owned()];
        settings.extend(self.context.common.set.iter().cloned());
        let (store, executable) = (self.store.clone(), self.executable.clone());
        let launch = Launch { executable, data_dir, store, listen, admin, settings };
        let mut process = NodeProcess::start(&launch)?;
        let tell = &mut |event: &NodeEvent| output::milestone(&line(&name, event));
        let card = process.ready(&launch, tell).await?;
        Ok(Node { name, process, card, over: false })
    }

    /// Stops all nodes cleanly. Says which did not.
    async fn stop(&mut self) -> Vec<Failure> {
        let running = self.nodes.iter_mut().filter(|node| !node.over);
        let stops = running.map(|node| {
            node.over = true;
            node.process.stop()
        });
        let stopped = futures::future::join_all(stops).await;
        stopped.into_iter().filter_map(Result::err).collect()
    }

    /// Puts all nodes on the new build, unless it cannot even start.
    async fn start_again(&mut self, built: &Built) {
        let Built { from, to, took } = built;
        if let Some(why) = self.cannot_start().await {
            output::milestone(&format!(
                "dev | the new build refuses to start, and the nodes run on with the build \
                 before:\n{why}"
            ));
            return;
        }
        let begun = Instant::now();
        for failure in self.stop().await {
            output::milestone(&format!("dev | {}", text::plain(&failure.message)));
        }
        // Together, so that each takes its share of the matches.
        let numbers = 1..=self.nodes.len() as u16;
        let starts = numbers.map(|number| self.start(number));
        let started = futures::future::join_all(starts).await;
        for (node, started) in self.nodes.iter_mut().zip(started) {
            match started {
                Ok(new) => *node = new,
                Err(failure) => {
                    let why = text::plain(&failure.message);
                    output::milestone(&format!("{} | {why}", node.name));
                }
            }
        }
        let up = self.nodes.iter().filter(|node| !node.over).count();
        output::milestone(&format!(
            "dev | build {from} -> {to}, built in {:.1} s; {up} of {} nodes run it, {} ms after \
             they were stopped",
            took.as_secs_f32(),
            self.nodes.len(),
            begun.elapsed().as_millis()
        ));
        self.say_what_waits().await;
    }

    /// What the executable says if it does not take its own games or this configuration.
    async fn cannot_start(&self) -> Option<String> {
        let mut command = Command::new(&self.executable);
        command.args(["config", "check", "--config", "/dev/null"]);
        for setting in &self.context.common.set {
            command.arg("--set").arg(setting);
        }
        match command.stdin(Stdio::null()).output().await {
            Ok(said) if said.status.success() => None,
            Ok(said) => {
                let why = String::from_utf8_lossy(&said.stderr);
                Some(why.lines().map(text::plain).collect::<Vec<_>>().join("\n"))
            }
            Err(error) => Some(error.to_string()),
        }
    }

    /// Names the matches that do not go on with the new build, with the report of each and what can
    /// be done.
    async fn say_what_waits(&self) {
        let Some(node) = self.nodes.iter().find(|node| !node.over) else { return };
        let admin = dial::from_here(node.card.admin);
        let token = self.context.config.admin_token.as_ref().map(|token| token.reveal().to_owned());
        let client = AdminClient::new(admin, token);
        let until = Instant::now() + SETTLED_WITHIN;
        let matches = loop {
            let asked: Result<Vec<MatchView>, _> = client.get("/v1/matches?open=0").await;
            match asked {
                Ok(matches) if settled(&matches) || Instant::now() > until => break matches,
                Err(_) if Instant::now() > until => return,
                _ => tokio::time::sleep(LOOK).await,
            }
        };
        let stands =
            |found: &&MatchView| matches!(found.state, Condition::Waits | Condition::Parked);
        let runs = |found: &&MatchView| {
            matches!(found.state, Condition::Running | Condition::Stalled | Condition::Elsewhere)
        };
        let count = matches.iter().filter(runs).count();
        let going_on = text::counted(count, "match", "matches");
        let waiting = matches.iter().filter(stands).count();
        output::milestone(&format!("dev | going on: {going_on}; waiting: {waiting}"));
        for found in matches.iter().filter(stands) {
            let (id, program) = (&found.id, text::program_as_typed());
            let why = found.reason.as_deref().unwrap_or("nobody said why");
            let why = text::without_its_id(why, id);
            output::milestone(&format!(
                "dev | match {id} of {} {}: {}\n  {program} match resume {id} --from-last-equal \
                 --admin {admin}    goes on from the last state that is equal\n  {program} match \
                 resume {id} --accept --admin {admin}    goes on as this build computes it",
                found.game,
                found.state.word(),
                text::plain(&why)
            ));
        }
    }
}

/// Whether each match has found its node, or waits.
fn settled(matches: &[MatchView]) -> bool {
    matches.iter().all(|found| found.state != Condition::Recovering)
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
        let program = text::program_as_typed();
        let create = create(context)?;
        lines.extend([
            String::new(),
            "Try, in another terminal:".to_owned(),
            String::new(),
            format!("  {program} {create} --admin {admin}"),
            format!("  {program} watch --admin {admin}"),
            format!("  {program} cluster status --admin {admin}"),
            format!("  kill -9 {}    its matches go on at the others", nodes[0].card.pid),
            String::new(),
            "Ctrl-C stops all of them cleanly.".to_owned(),
        ]);
    }
    Ok(lines.join("\n"))
}

/// The command for a match as a first run has one: of the showcase, which goes on while somebody
/// changes the game, and with no more bots than there is room for.
fn create(context: &Context) -> Result<String, Failure> {
    let game = context.first_game()?;
    let bots = context.room(game)?.min(HOUSE_BOTS);
    let config = context.showcase(game);
    let config = match config.as_object() {
        Some(keys) if keys.is_empty() => String::new(),
        _ => format!(" --game-config '{}'", config.to_string().replace('\'', r"'\''")),
    };
    Ok(format!("match create --bots {bots}{config}"))
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
