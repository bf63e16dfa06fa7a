//! `rekindle demo --nodes N`: several node processes on one store, and bots that know the addresses
//! of all. One node is killed, the next one frozen, the next one drained; each is back before the
//! next goes. Called by `perform`, which judges what the bots saw afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rekindle_admin::api::{MatchView, SetStandby};
use rekindle_admin::client::AdminClient;
use rekindle_loadtest::{BotProgress, Swarm};
use rekindle_schema::MatchId;
use rekindle_schema::condition::Condition;
use tokio::time::Instant;

use super::child::{Launch, NodeEvent, NodeProcess};
use super::facts::Cut;
use super::home::Home;
use super::outage::{Act, Outage, Phases};
use super::stage::Stage;
use super::{Cast, EPILOGUE, PATIENCE, Playing, SETTINGS, Show};
use crate::cli::args::DemoArgs;
use crate::cli::context::Context;
use crate::exit::{Exit, Failure};
use crate::node::card::NodeCard;
use crate::text::counted;

/// The fight goes on for so long before the next node goes.
const FIGHT: Duration = Duration::from_millis(1_500);
/// How often nodes are asked what they run, and whether it has standbys.
const ASKED_AGAIN: Duration = Duration::from_millis(100);
/// A frozen node that was woken has so long to notice that it owns nothing any more.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

fn ended(view: &MatchView) -> bool {
    view.state == Condition::Ended
}

/// One of the nodes.
struct Player {
    name: String,
    launch: Launch,
    process: NodeProcess,
    card: NodeCard,
}

impl Player {
    async fn start(name: String, launch: Launch, stage: &Stage) -> Result<Self, Failure> {
        let mut launch = launch;
        let mut process = NodeProcess::start(&launch)?;
        let card = process.ready(&launch, &mut |_| {}).await?;
        // Clients know this address: every later start takes it again.
        launch.listen = card.listen;
        stage.tell(&format!("node {name} is up, pid {}, UDP {}", card.pid, card.listen));
        Ok(Self { name, launch, process, card })
    }

    async fn again(&mut self, stage: &Stage) -> Result<(), Failure> {
        self.process = NodeProcess::start(&self.launch)?;
        self.card = self.process.ready(&self.launch, &mut |_| {}).await?;
        stage.tell(&format!("node {} is back, pid {}", self.name, self.card.pid));
        Ok(())
    }
}

/// All nodes, and who plays what at them.
struct Troupe<'a> {
    nodes: Vec<Player>,
    cast: &'a Cast,
    stage: &'a Stage,
    swarm: Swarm,
}

/// Plays the show.
pub(super) async fn play(
    context: &Context,
    args: &DemoArgs,
    cast: &Cast,
    home: &Home,
    stage: &Arc<Stage>,
) -> Result<Show, Failure> {
    let nodes = start_all(args, home, stage).await?;
    let cards: Vec<NodeCard> = nodes.iter().map(|node| node.card.clone()).collect();
    let dirs = nodes.iter().map(|node| node.launch.data_dir.clone()).collect();
    let Playing { swarm, encores } =
        super::let_in(context, args, cast, home, stage, &cards, dirs).await?;
    super::everybody_plays(&swarm, cast, "the bots did not all get in").await?;
    stage.tell(&format!(
        "{} bots play in {} on {} over QUIC",
        cast.players,
        counted(cast.matches.into(), "match", "matches"),
        counted(nodes.len(), "node", "nodes"),
    ));
    let mut troupe = Troupe { nodes, cast, stage, swarm };
    let mut acts = Vec::new();
    for turn in 0..usize::from(args.rounds) * Act::ALL.len() {
        super::watch_fight(&troupe.swarm, stage, FIGHT).await;
        acts.push(troupe.act(Act::ALL[turn % Act::ALL.len()], turn).await?);
    }
    super::watch_fight(&troupe.swarm, stage, EPILOGUE).await;
    super::enough_seen(&troupe.swarm, cast, &encores).await;
    super::everybody_plays(&troupe.swarm, cast, "not every bot plays at the end").await?;
    let seconds = troupe.swarm.elapsed().as_secs_f64();
    let Troupe { mut nodes, swarm, .. } = troupe;
    // The sessions stay open: leaving is not what is tried here.
    let evidence = swarm.stop(false).await;
    let stops = nodes.iter_mut().map(|node| node.process.stop());
    futures::future::try_join_all(stops).await?;
    stage.tell("all nodes stopped cleanly; now the verdict");
    let kills = acts.iter().filter(|outage| matches!(outage.act, Act::Kill | Act::Promote));
    let outages: Vec<Duration> = kills.map(|outage| outage.at).collect();
    let cut = |outage: &Outage| Cut { at: outage.at, of: Some(outage.moved.clone()) };
    let cuts = acts.iter().map(cut).collect();
    Ok(Show { evidence, kills: outages.len(), outages, cuts, hits: 0, acts, seconds })
}

async fn start_all(args: &DemoArgs, home: &Home, stage: &Stage) -> Result<Vec<Player>, Failure> {
    let mut nodes: Vec<Player> = Vec::new();
    for number in 1..=args.nodes {
        let name = format!("n{number}");
        let data_dir = home.dir.join(&name);
        let own = [format!("node.name={name}")];
        let settings = SETTINGS.iter().map(|&setting| setting.to_owned()).chain(own).collect();
        let free = ([127, 0, 0, 1], 0).into();
        let (listen, admin) = (free, free);
        let (executable, store) = (std::env::current_exe()?, home.store.clone());
        let launch = Launch { executable, data_dir, store, listen, admin, settings };
        nodes.push(Player::start(name, launch, stage).await?);
    }
    Ok(nodes)
}

impl Troupe<'_> {
    /// Does it to the node whose turn it is, waits until every bot plays again, and has the node
    /// back.
    async fn act(&mut self, act: Act, turn: usize) -> Result<Outage, Failure> {
        let (place, mine) = self.choose(act, turn).await?;
        let name = self.nodes[place].name.clone();
        self.hear();
        let before_it = self.swarm.bots();
        let (at, moment) = (self.swarm.elapsed(), Instant::now());
        let victim = self.nodes[place].card.incarnation.clone();
        let pid = self.nodes[place].card.pid;
        let told = match act {
            Act::Kill => format!("SIGKILL of node {name} (pid {pid})"),
            Act::Promote => format!("SIGKILL of node {name} (pid {pid}), with standbys"),
            Act::Freeze => format!("SIGSTOP of node {name} (pid {pid})"),
            Act::Drain => format!("SIGTERM to node {name} (pid {pid})"),
        };
        self.stage.tell(&format!("{told}: it runs {}", counted(mine.len(), "match", "matches")));
        let process = &mut self.nodes[place].process;
        match act {
            Act::Kill | Act::Promote => drop(process.kill().await?),
            Act::Freeze => process.freeze()?,
            Act::Drain => process.stop().await?,
        }
        self.all_back(&mine, &before_it).await?;
        let until = self.swarm.elapsed();
        let process = &mut self.nodes[place].process;
        let ended = match act {
            Act::Freeze => {
                process.wake()?;
                process.ends(ENDS_WITHIN).await
            }
            Act::Kill | Act::Promote | Act::Drain => true,
        };
        if !ended {
            process.kill().await?;
        }
        let after = self.owners((place + 1) % self.nodes.len(), true).await?;
        let moved: BTreeSet<MatchId> = mine
            .into_iter()
            .filter(|id| after.get(id).is_some_and(|owner| *owner != name))
            .collect();
        let phases = Phases::of(moment, &victim, &self.hear());
        self.stage.tell(&format!(
            "{} of {name} go on elsewhere, every bot is back in its session",
            counted(moved.len(), "match", "matches")
        ));
        self.nodes[place].again(self.stage).await?;
        if act == Act::Promote {
            self.have_followed(place, &moved, None).await?;
        }
        Ok(Outage { act, node: name, at, until, moved, phases, ended })
    }

    /// The place of the node whose turn it is, and the matches that it runs. Before a promotion
    /// others follow them.
    async fn choose(&self, act: Act, turn: usize) -> Result<(usize, BTreeSet<MatchId>), Failure> {
        let owners = self.owners(0, false).await?;
        let place = self.victim(turn % self.nodes.len(), &owners);
        if act == Act::Promote {
            self.have_followed(place, &self.runs(place, &owners), Some(1)).await?;
        }
        // Short matches end meanwhile, and others begin.
        let until = Instant::now() + PATIENCE;
        loop {
            let mine = self.runs(place, &self.owners(0, false).await?);
            if !mine.is_empty() || Instant::now() >= until {
                return Ok((place, mine));
            }
            tokio::time::sleep(ASKED_AGAIN).await;
        }
    }

    /// What the node at this place runs, of these owners.
    fn runs(&self, place: usize, owners: &BTreeMap<MatchId, String>) -> BTreeSet<MatchId> {
        let own = owners.iter().filter(|(_, owner)| **owner == self.nodes[place].name);
        own.map(|(id, _)| *id).collect()
    }

    /// Has so many nodes follow these matches, and waits until they do, and until the bots have had
    /// time to connect there. Asks the node at `place`. `None`: as before, which is nobody. Matches
    /// that have ended need nobody.
    async fn have_followed(
        &self,
        place: usize,
        matches: &BTreeSet<MatchId>,
        standbys: Option<u8>,
    ) -> Result<(), Failure> {
        let admin = AdminClient::new(self.nodes[place].card.admin, None);
        for id in matches {
            let path = format!("/v1/matches/{id}/standby");
            let asked = admin.post::<MatchView>(&path, &SetStandby { standbys }).await;
            if let Err(error) = asked {
                let views: Vec<MatchView> = admin.get("/v1/matches").await?;
                if views.iter().any(|view| view.id == id.to_string() && !ended(view)) {
                    return Err(error.into());
                }
            }
        }
        if standbys.is_none() {
            return Ok(());
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let views: Vec<MatchView> = admin.get("/v1/matches").await?;
            let followed = |view: &MatchView| view.followers.iter().any(|node| node.ready);
            let ready = views.iter().filter(|view| followed(view) || ended(view));
            let ready = ready.filter_map(|view| view.id.parse().ok());
            let ready: BTreeSet<MatchId> = ready.collect();
            if matches.is_subset(&ready) {
                break;
            }
            if Instant::now() >= until {
                let message = "RK-CLI-190: the matches of a node got no standbys".to_owned();
                return Err(Failure::new(Exit::Broken, message));
            }
            tokio::time::sleep(ASKED_AGAIN).await;
        }
        super::watch_fight(&self.swarm, self.stage, FIGHT).await;
        Ok(())
    }

    /// The node whose turn it is; if it runs nothing, the one that runs most: its end would prove
    /// nothing.
    fn victim(&self, turn: usize, owners: &BTreeMap<MatchId, String>) -> usize {
        let runs = |place: usize| self.runs(place, owners).len();
        let busiest = || (0..self.nodes.len()).max_by_key(|&place| runs(place)).unwrap_or(turn);
        if runs(turn) > 0 { turn } else { busiest() }
    }

    /// What the nodes have logged since it was last asked for.
    fn hear(&mut self) -> Vec<NodeEvent> {
        let mut heard = Vec::new();
        for node in &mut self.nodes {
            node.process.drain_events(&mut |event| {
                super::report(self.stage, event);
                heard.push(event.clone());
            });
        }
        heard
    }

    /// Which node runs each match, by its name, as the node at this place says; also which one
    /// ran those last that have ended, if asked for.
    async fn owners(
        &self,
        place: usize,
        with_ended: bool,
    ) -> Result<BTreeMap<MatchId, String>, Failure> {
        let admin = AdminClient::new(self.nodes[place].card.admin, None);
        let views: Vec<MatchView> = admin.get("/v1/matches").await?;
        let mut owners = BTreeMap::new();
        for view in views {
            let runs = matches!(
                view.state,
                Condition::Running | Condition::Stalled | Condition::Elsewhere
            );
            let counts = runs || with_ended && ended(&view);
            if let (true, Some(owner)) = (counts, view.node) {
                owners.insert(view.id.parse::<MatchId>()?, owner);
            }
        }
        Ok(owners)
    }

    /// Waits until every bot in these matches has come back to its session, or has seen its match
    /// end, and all others play. `before`: how things stood before they were cut off.
    async fn all_back(
        &self,
        matches: &BTreeSet<MatchId>,
        before: &[BotProgress],
    ) -> Result<(), Failure> {
        let cut_off = |bot: &BotProgress| bot.connected && matches.contains(&bot.match_id);
        let all = before.iter().filter(|bot| cut_off(bot)).count();
        let met = || {
            let now = self.swarm.bots();
            let back = |(now, old): &(BotProgress, BotProgress)| {
                cut_off(old) && now.resumed + now.ended > old.resumed + old.ended
            };
            now.into_iter().zip(before.iter().copied()).filter(back).count()
        };
        if !self.swarm.wait_until(PATIENCE, |_| met() >= all).await {
            let message = format!(
                "RK-DEMO-150: {} of {all} bots were back in their sessions after {} s{}",
                met(),
                PATIENCE.as_secs(),
                self.swarm.trouble().map_or_else(String::new, |why| format!("; a bot says: {why}"))
            );
            return Err(Failure::new(Exit::Broken, message));
        }
        super::everybody_plays(&self.swarm, self.cast, "not every bot came back").await
    }
}
