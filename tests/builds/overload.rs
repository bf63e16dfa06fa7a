//! A node with too much to do, its player, and a kill: the match is slowed, its client goes at the
//! same rate, the next process keeps it, and it comes back when there is room.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use rekindle_client::{Client, ClientConfig, ClientEvent, Trust};
use rekindle_schema::record::LeaveReason;
use rekindle_schema::{Epoch, PlayerId, Tick};
use rekindle_sim::{
    Component, Game, GameBuilder, GameType, Inputs, Players, Query, Res, Stage, Typed, View, World,
};
use serde_json::Value;

use super::support::{Node, PATIENCE, eventually};
use super::{Studio, state};

/// Names the file that says how many milliseconds a step takes.
const STEP_MS: &str = "STEP_MS_FILE";
/// More than a tick's period, and less than two, with room.
const TOO_LONG: &str = "45";
const PERIOD: Duration = Duration::from_nanos(1_000_000_000 / 30);

/// The inputs of a player that were applied.
#[derive(Debug, Clone, PartialEq, Component)]
#[component(id = "pulse")]
struct Pulse {
    #[net(bits = 24)]
    count: u32,
}

fn beat(inputs: Inputs<Boiler>, players: Res<Players>, mut pulses: Query<&mut Pulse>) {
    // Sleeping takes as long however busy the machine is.
    let file = std::env::var_os(STEP_MS).and_then(|file| std::fs::read_to_string(file).ok());
    let ms = file.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    std::thread::sleep(Duration::from_millis(ms));
    for input in &inputs {
        let avatar = players.avatar(input.player).unwrap_or_default();
        if let Some(mut pulse) = pulses.get_mut(avatar) {
            pulse.count += u32::from(input.input);
        }
    }
}

/// A game that a node may slow.
pub(super) struct Boiler;

impl Game for Boiler {
    const NAME: &'static str = "boiler";
    const MAX_SLOWDOWN: u8 = 4;
    type Config = ();
    type Input = u8;
    type Command = ();
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        game.component::<Pulse>().add_systems(Stage::Update, beat);
    }
    fn max_players((): &()) -> usize {
        4
    }
    fn setup(_: &mut World, (): &()) {}
    fn join(world: &mut World, player: PlayerId) {
        let avatar = world.spawn(Pulse { count: 0 });
        world.resource_mut::<Players>().set_avatar(player, avatar);
    }
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

/// A client that makes an input whenever its SDK says that a tick has passed.
struct Player {
    client: Client,
    game: Typed<Boiler>,
    next: Instant,
    newest: (Epoch, Tick),
    sent: u32,
    applied: u32,
}

impl Player {
    async fn enter(addr: SocketAddr, certificate: Vec<u8>, ticket: &str) -> Self {
        let config = ClientConfig::new(vec![addr], Trust::Certificate(certificate), ticket);
        let (client, game) = (Client::connect(config).unwrap(), Typed::<Boiler>::new().unwrap());
        let newest = (Epoch(0), Tick(0));
        let mut player = Self { client, game, next: Instant::now(), newest, sent: 0, applied: 0 };
        player.plays_until("it is in", |player| player.applied > 0).await;
        player
    }

    /// Plays until what is wanted is so.
    async fn plays_until(&mut self, what: &str, wanted: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !wanted(self) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.client.tick_period());
            tokio::select! {
                biased;
                event = self.client.event() => self.told(event.expect("the session goes on")),
                () = tokio::time::sleep_until(self.next.into()) => self.act(),
            }
        }
    }

    fn act(&mut self) {
        self.next += self.client.tick_period().unwrap_or(PERIOD);
        self.next = self.next.max(Instant::now());
        let mut input = Vec::new();
        rekindle_sim::Value::encode(&1u8, &mut input);
        self.sent += u32::from(self.client.input(input.into()).is_some());
    }

    fn told(&mut self, event: ClientEvent) {
        match event {
            ClientEvent::Rewound { .. } => panic!("what was shown holds"),
            ClientEvent::Closed { message, .. } => panic!("{message}"),
            ClientEvent::Resumed { welcome, .. } => assert!(welcome.resumed, "its session goes on"),
            ClientEvent::Snapshot(snapshot) => {
                let at = (snapshot.header.epoch, snapshot.header.tick);
                assert!(at > self.newest, "ticks rise");
                self.newest = at;
                let view = View::new(self.game.net_schema(), &snapshot.view);
                let own = view.avatar(PlayerId(1)).and_then(|own| own.get::<Pulse>());
                self.applied = own.map_or(self.applied, |pulse| pulse.count);
            }
            _ => {}
        }
    }

    /// How many periods its SDK says that a tick takes.
    fn periods(&self) -> u32 {
        let period = self.client.tick_period().expect("it is in");
        (period.as_secs_f64() / PERIOD.as_secs_f64()).round() as u32
    }

    /// The part of its inputs that is applied, from now on for so many.
    async fn applied_of(&mut self, inputs: u32) -> f64 {
        let (sent, applied) = (self.sent, self.applied);
        self.plays_until("it plays", |player| player.sent >= sent + inputs).await;
        f64::from(self.applied - applied) / f64::from(inputs)
    }
}

/// Starts the node at `listen`, with a step as long as the file says.
fn start(studio: &Studio, listen: &str, file: &Path) -> Node {
    let file = file.to_str().unwrap();
    let mut command = studio.command("boiler", &[(STEP_MS, file)]);
    command.args(["start", "--dev", "--log", "json", "--admin", "127.0.0.1:0"]);
    command.args(["--listen", listen, "--set", "checkpoint.every_s=1", "--set", "shards=1"]);
    command.args(["--set", "overload.slow_after_s=1", "--set", "overload.calm_s=1"]);
    let mut node = Node::from_command(command);
    node.wait_for("RK-NODE-001");
    node
}

fn show(studio: &Studio, id: &str) -> Value {
    studio.ask_of("boiler", &[], &["match", "show", id], 0)
}

/// See the name under which `main` lists it.
pub(super) fn slowed() {
    let studio = Studio::new();
    let file = studio.dir.path().join("step-ms");
    std::fs::write(&file, "0").unwrap();
    let mut node = start(&studio, "127.0.0.1:0", &file);
    let created = studio.ask_of("boiler", &[], &["match", "create", "--game", "boiler"], 0);
    let id = created["id"].as_str().unwrap().to_owned();
    let data = studio.dir.path().join("rekindle-data");
    let card: Value =
        serde_json::from_slice(&std::fs::read(data.join("node.json")).unwrap()).unwrap();
    let listen = card["listen"].as_str().unwrap().to_owned();
    let certificate = std::fs::read(data.join("cert.der")).unwrap();
    let ticket = studio.command("boiler", &[]).args(["ticket", "issue", "--player", "1"]).output();
    let ticket = String::from_utf8(ticket.unwrap().stdout).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut player =
        runtime.block_on(Player::enter(listen.parse().unwrap(), certificate, ticket.trim()));
    assert_eq!((player.periods(), show(&studio, &id)["slowdown"].as_u64()), (1, None));

    std::fs::write(&file, TOO_LONG).unwrap();
    runtime.block_on(player.plays_until("its clock is slowed", |player| player.periods() > 1));
    let told = node.wait_for("RK-HOST-061");
    assert_eq!(told["match_id"], *id, "{told}");
    // A busy machine may have it slowed by more than the 2 that it takes, and once more.
    let share = runtime.block_on(player.applied_of(60));
    assert!(share > 0.8, "{share} of its inputs were applied at {} periods", player.periods());
    let slowed = show(&studio, &id)["slowdown"].as_u64().expect("it is slowed");
    let metrics = super::http_get(card["admin"].as_str().unwrap(), "/metrics");
    assert!(metrics.contains("rekindle_matches_slowed 1"), "{metrics}");

    node.kill();
    let mut node = start(&studio, &listen, &file);
    let epoch = player.newest.0;
    runtime.block_on(player.plays_until("it goes on", |player| player.newest.0 > epoch));
    let view = show(&studio, &id);
    assert_eq!((state(&view).0, view["slowdown"].as_u64() >= Some(2)), ("running", true), "{view}");
    let again = node.seen.iter().find(|event| event["code"] == "RK-HOST-061");
    assert!(again.is_none(), "it was slowed by {slowed}, and still is: {again:?}");

    std::fs::write(&file, "0").unwrap();
    node.wait_for("RK-HOST-062");
    runtime.block_on(player.plays_until("its clock is as before", |player| player.periods() == 1));
    eventually("its own rate", || show(&studio, &id)["slowdown"].is_null().then_some(()));
    let share = runtime.block_on(player.applied_of(60));
    assert!(share > 0.8, "{share} of its inputs were applied at its own rate");
    assert_eq!(node.terminate(), 0);
    // All that was recorded is computed again, with the same hashes.
    let verified = studio.command("boiler", &[]).arg("verify").output().unwrap();
    assert!(verified.status.success(), "{verified:?}");
}
