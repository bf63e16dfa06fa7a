//! What a game declares of who sees what holds for every client, spectators included, over a
//! network that loses and reorders: a client has exactly what the rules allow it, and its bytes
//! hold nothing else.

mod motion;
mod veil;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use motion::Rng;
use proptest::prelude::*;
use rekindle_netcode::{
    Coding, Received, SnapshotError, SnapshotHeader, SnapshotReceiver, SnapshotSender, ViewHistory,
};
use rekindle_schema::net::{NetSchema, NetView};
use rekindle_schema::{Epoch, PlayerId, Tick};
use rekindle_sim::{GameType, Harness, Simulation, Typed};
use veil::oracle::{Before, Expected, Scene};
use veil::{Config, Veil};

/// One client: both ends, what is under way between them, and what it may have been told.
struct Client {
    viewer: Option<PlayerId>,
    sender: SnapshotSender,
    receiver: SnapshotReceiver,
    /// By tick of arrival.
    down: Vec<(u64, Vec<u8>)>,
    up: Vec<(u64, (Tick, u32))>,
    budget: usize,
    /// What it might see of each tick.
    allowed: BTreeMap<Tick, Expected>,
    before: Before,
    complete: u64,
    partial: u64,
    entities: u64,
}

impl Client {
    fn new(
        viewer: Option<PlayerId>,
        schema: &Arc<NetSchema>,
        (coding, budget): (Coding, usize),
    ) -> Self {
        Self {
            viewer,
            sender: SnapshotSender::new(Arc::clone(schema)).with_coding(coding),
            receiver: SnapshotReceiver::new(Arc::clone(schema)),
            down: Vec::new(),
            up: Vec::new(),
            budget,
            allowed: BTreeMap::new(),
            before: Before::new(),
            complete: 0,
            partial: 0,
            entities: 0,
        }
    }

    /// Makes the snapshot of a tick. Returns whether it was copied from another client's.
    fn send(
        &mut self,
        scene: &Scene,
        view: &NetView,
        history: &ViewHistory,
        out: &mut Vec<u8>,
    ) -> bool {
        let header = SnapshotHeader {
            epoch: Epoch(1),
            tick: view.tick,
            durable: view.tick,
            avatar: scene.avatar_slot(self.viewer),
            ..SnapshotHeader::default()
        };
        let stats = self.sender.encode(&header, view, history, self.viewer, self.budget, out);
        stats.shared
    }

    /// What the client may be told of this tick, which it is sent a snapshot of.
    fn allow(&mut self, tick: Tick, scene: &Scene, schema: &NetSchema) {
        let expected = scene.seen(self.viewer, &self.before, schema);
        self.before = expected.iter().map(|(&slot, &(generation, _))| (slot, generation)).collect();
        self.allowed.insert(tick, expected);
    }

    fn hear(&mut self, now: u64, schema: &NetSchema) {
        let (due, later) =
            std::mem::take(&mut self.down).into_iter().partition(|(at, _)| *at <= now);
        self.down = later;
        for (_, datagram) in due {
            match self.receiver.receive(&datagram) {
                Ok(received) => self.check(&received, schema),
                Err(
                    SnapshotError::Duplicate(_)
                    | SnapshotError::TooOld(_)
                    | SnapshotError::UnknownBaseline { .. },
                ) => {}
                Err(error) => panic!("tick {now}: {error}"),
            }
        }
    }

    fn check(&mut self, received: &Received, schema: &NetSchema) {
        let tick = received.view.tick;
        let who = self.viewer;
        let has = by_name(&received.view, schema);
        self.entities += has.len() as u64;
        if received.complete {
            self.complete += 1;
            assert_eq!(has, self.allowed[&tick], "{who:?} at tick {tick}");
            return;
        }
        self.partial += 1;
        for (index, entity) in received.view.entities.iter().enumerate() {
            let stamp = received.stamps[index];
            let allowed = self.allowed[&stamp].get(&entity.slot);
            assert_eq!(
                has.get(&entity.slot),
                allowed,
                "{who:?}: slot {} as of tick {stamp}, shown at {tick}",
                entity.slot
            );
        }
    }
}

/// A decoded view, by the names of its components.
fn by_name(view: &NetView, schema: &NetSchema) -> Expected {
    let mut all = Expected::new();
    for (index, entity) in view.entities.iter().enumerate() {
        let row = view.row(index, schema.stride());
        let (mut offset, mut components) = (0, BTreeMap::new());
        for (place, component) in schema.components.iter().enumerate() {
            let quanta = &row[offset..][..component.fields.len()];
            offset += component.fields.len();
            if entity.components >> place & 1 == 1 {
                let name = ["place", "unit", "purse", "trap", "signal", "flag"]
                    .into_iter()
                    .find(|name| *name == component.name)
                    .expect("a component of the game");
                components.insert(name, quanta.to_vec());
            } else {
                assert!(quanta.iter().all(|quantum| *quantum == 0), "{component:?} is absent");
            }
        }
        all.insert(entity.slot, (entity.generation, components));
    }
    all
}

#[derive(Debug, Clone)]
struct Case {
    seed: u64,
    players: u64,
    ticks: u64,
    loss: f32,
    /// Ticks that packets take at most.
    delay: u64,
    budget: usize,
    config: Config,
}

/// What a run came to, over all clients.
#[derive(Debug, Default)]
struct Sum {
    complete: u64,
    partial: u64,
    entities: u64,
    shared: u64,
}

fn play<const RULES: u8>(case: &Case) -> Sum {
    let json = serde_json::to_string(&case.config).expect("a configuration");
    let mut game = Harness::<Veil<RULES>>::with_config(case.seed, &json);
    let schema = Arc::new(Typed::<Veil<RULES>>::new().expect("sound rules").net_schema().clone());
    let mut rng = Rng(case.seed ^ 0x5eed);
    // Each player on one link, the first on two; two who watch; one who is in no match.
    let viewers = (1..=case.players).map(PlayerId).map(Some);
    let viewers = viewers.chain([Some(PlayerId(1)), None, None, Some(PlayerId(99))]);
    let mut clients: Vec<Client> = viewers
        .enumerate()
        .map(|(index, viewer)| {
            // Clients of both kinds watch one match; only those of one kind share.
            let ranged = case.seed.is_multiple_of(2) != (index == 0);
            let coding = if ranged { Coding::Range } else { Coding::Rice };
            let budget = if index % 3 == 2 { case.budget } else { 1200 };
            Client::new(viewer, &schema, (coding, budget))
        })
        .collect();
    (1..=case.players).for_each(|player| game.join(PlayerId(player)));
    let (mut history, mut sum, mut out) = (ViewHistory::new(), Sum::default(), Vec::new());
    for now in 1..=case.ticks {
        game.tick();
        let mut view = NetView::default();
        game.simulation().extract(&mut view);
        let view = Arc::new(view);
        assert!(view.is_consistent(schema.stride()));
        history.push(Arc::clone(&view));
        let scene = Scene::of(&mut game, &case.config);
        for client in &mut clients {
            let (due, later) =
                std::mem::take(&mut client.up).into_iter().partition(|(at, _)| *at <= now);
            client.up = later;
            for (_, (tick, bits)) in due {
                client.sender.acknowledge(tick, bits);
            }
            sum.shared += u64::from(client.send(&scene, &view, &history, &mut out));
            if !out.is_empty() {
                client.allow(view.tick, &scene, &schema);
                if !rng.chance(case.loss) {
                    client.down.push((now + rng.below(case.delay + 1), out.clone()));
                }
            }
            client.hear(now, &schema);
            if !rng.chance(case.loss) {
                let at = now + rng.below(case.delay + 1);
                client.up.push((at, client.receiver.acknowledgement()));
            }
        }
    }
    for client in &clients {
        sum.complete += client.complete;
        sum.partial += client.partial;
        sum.entities += client.entities;
    }
    sum
}

fn play_by(rules: u8, case: &Case) -> Sum {
    match rules {
        0 => play::<0>(case),
        1 => play::<1>(case),
        2 => play::<2>(case),
        3 => play::<3>(case),
        4 => play::<4>(case),
        5 => play::<5>(case),
        6 => play::<6>(case),
        _ => play::<7>(case),
    }
}

fn config() -> impl Strategy<Value = Config> {
    (5u32..90, 5.0f32..90.0, 0.0f32..20.0, 0u32..100, 0.1f32..6.0).prop_map(
        |(things, radius, margin, unrest, stride)| Config {
            things,
            radius,
            margin,
            unrest,
            stride,
            purses: false,
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    (any::<u64>(), 1u64..6, 0.0f32..0.5, 0u64..8, 60usize..600, config()).prop_map(
        |(seed, players, loss, delay, budget, config)| Case {
            seed,
            players,
            ticks: 80,
            loss,
            delay,
            budget,
            config,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(64)
    })]

    #[test]
    fn each_client_has_exactly_what_the_rules_allow_it(rules in 0u8..8, case in case()) {
        let sum = play_by(rules, &case);
        prop_assert!(sum.complete + sum.partial > 0);
    }
}

fn calm(seed: u64) -> Case {
    Case {
        seed,
        players: 4,
        ticks: 200,
        loss: 0.1,
        delay: 3,
        budget: 64,
        config: Config::default(),
    }
}

#[test]
fn the_property_is_tested_on_whole_and_partial_snapshots_of_many_entities() {
    for rules in 0..8 {
        let sum = play_by(rules, &calm(7));
        println!("rules {rules}: {sum:?}");
        assert!(sum.complete > 500 && sum.partial > 50, "rules {rules}: {sum:?}");
        assert!(sum.entities > 10 * sum.complete, "rules {rules}: {sum:?}");
        // Spectators, the stranger, and the two links of one player see the same.
        assert!(sum.shared > 20, "rules {rules}: {sum:?}");
    }
}

/// Whether 32 bits stand anywhere in the bytes, at any bit, low bits first as snapshots have them.
fn holds(bytes: &[u8], marker: u32) -> bool {
    (0..bytes.len() * 8).any(|at| {
        let mut word = [0; 8];
        let rest = &bytes[at / 8..];
        let len = rest.len().min(8);
        word[..len].copy_from_slice(&rest[..len]);
        (u64::from_le_bytes(word) >> (at % 8)) as u32 == marker
    })
}

/// The gold of each player stands on the wire of that player and on no other, not even in what a
/// decoder throws away.
#[test]
fn the_bytes_of_a_client_never_hold_the_secret_of_another() {
    let config = Config { purses: true, ..Config::default() };
    let mut game =
        Harness::<Veil<0>>::with_config(3, &serde_json::to_string(&config).expect("json"));
    let schema = Arc::new(Typed::<Veil<0>>::new().expect("sound rules").net_schema().clone());
    let players: Vec<PlayerId> = (1..=4).map(PlayerId).collect();
    for player in &players {
        game.join(*player);
    }
    let viewers = players.iter().copied().map(Some).chain([None, Some(PlayerId(99))]);
    let mut clients: Vec<Client> =
        viewers.map(|viewer| Client::new(viewer, &schema, (Coding::Rice, 4000))).collect();
    let (mut history, mut out) = (ViewHistory::new(), Vec::new());
    let mut found: BTreeSet<PlayerId> = BTreeSet::new();
    for tick in 1..=150u64 {
        game.tick();
        let mut view = NetView::default();
        game.simulation().extract(&mut view);
        history.push(Arc::new(view.clone()));
        let scene = Scene::of(&mut game, &config);
        for client in &mut clients {
            client.send(&scene, &view, &history, &mut out);
            for &player in &players {
                if holds(&out, veil::gold_of(player)) {
                    assert_eq!(client.viewer, Some(player), "tick {tick}");
                    found.insert(player);
                }
            }
            client.receiver.receive(&out).expect("own snapshot");
            // Every fifth is full: it carries all that a client is told, bit by bit.
            if tick % 5 != 0 {
                let (newest, bits) = client.receiver.acknowledgement();
                client.sender.acknowledge(newest, bits);
            } else {
                client.sender.acknowledge(Tick(0), 0);
                client.receiver.reset();
            }
        }
    }
    assert_eq!(found.into_iter().collect::<Vec<_>>(), players, "each owner is told the own secret");
}
