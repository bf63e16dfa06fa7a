//! What clients get to see: scenes, bots, and how large snapshots are.

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use rekindle_arena::Arena;
use rekindle_arena::components::{Position, Velocity};
use rekindle_arena::config::Config;
use rekindle_arena::scene::{DRONES, HELP};
use rekindle_netcode::{SnapshotHeader, SnapshotReceiver, SnapshotSender, ViewHistory};
use rekindle_schema::Epoch;
use rekindle_schema::net::NetView;
use rekindle_sim::sketch::{Ink, Shape};
use rekindle_sim::{Entity, GameType, Harness, PlayerId, Simulation, Typed, View};

const FIRST_BOT: PlayerId = PlayerId(1_000_000);

fn view(fight: &Harness<Arena>) -> NetView {
    let mut view = NetView::default();
    fight.simulation().extract(&mut view);
    view
}

#[test]
fn a_sketch_has_everything_and_everybody() {
    let config = Config { movers: 12, endless: true, ..Config::default() };
    let json = serde_json::to_string(&config).unwrap();
    let game = Typed::<Arena>::new().unwrap();
    let fight = Harness::<Arena>::with_config(6, &json).bots(8).run(900);
    // A client knows only its own avatar by the list; the others must be known by their entities.
    let view = NetView { avatars: Vec::new(), ..view(&fight) };
    let sketch = game.sketch(&view, json.as_bytes()).unwrap();
    let count =
        |what: &dyn Fn(&Shape) -> bool| sketch.shapes.iter().filter(|shape| what(shape)).count();
    assert_eq!(
        count(&|shape| matches!(shape, Shape::Rectangle { ink: Ink::Still, .. })),
        config.map().walls.len() + 1
    );
    let alive = count(&|shape| matches!(shape, Shape::Circle { ink: Ink::Player(_), .. }));
    let fallen = count(&|shape| matches!(shape, Shape::Line { ink: Ink::Still, .. })) / 2;
    assert_eq!((alive + fallen, alive >= 4), (8, true), "{alive} alive, {fallen} fallen");
    assert!((6..=12).contains(&count(&|shape| matches!(shape, Shape::Circle { ink: DRONES, .. }))));
    assert!(count(&|shape| matches!(shape, Shape::Line { ink: HELP, .. })) >= 4);
    assert_eq!(sketch.title, "live");
    let players: BTreeSet<_> = sketch.board.iter().map(|(player, _)| player.0).collect();
    assert_eq!(players, (FIRST_BOT.0..FIRST_BOT.0 + 8).collect());
    let kills: Vec<u32> = sketch
        .board
        .iter()
        .map(|(_, line)| line.split_whitespace().nth(1).unwrap().parse().unwrap())
        .collect();
    assert!(kills[0] > 0 && kills.is_sorted_by_key(|kills| Reverse(*kills)), "{kills:?}");
    for shape in &sketch.shapes {
        if let Shape::Circle { at: [x, y], .. } = shape {
            assert!(
                (sketch.x[0]..sketch.x[1]).contains(x) && (sketch.y[0]..sketch.y[1]).contains(y)
            );
        }
    }
}

#[test]
fn a_bot_is_a_function_of_what_it_sees_and_remembers() {
    let game = Typed::<Arena>::new().unwrap();
    let fight = Harness::<Arena>::new(9).bots(4).run(200);
    let (view, config) = (view(&fight), game.config_from_json("{}").unwrap());
    let play = |mut state: Vec<u8>| {
        let inputs: Vec<_> =
            (0..50).map(|_| game.bot(FIRST_BOT, &view, &config, &mut state)).collect();
        (inputs, state)
    };
    let (inputs, state) = play(Vec::new());
    assert_eq!(play(Vec::new()), (inputs.clone(), state.clone()));
    assert!(inputs.iter().flatten().all(|input| game.accepts_input(input)));
    assert_eq!(inputs.iter().flatten().count(), 50);
    assert_eq!(play(state.clone()), play(state));
    assert_eq!(
        play(b"no memory of a bot".to_vec()).0,
        inputs,
        "a bot that forgot everything starts anew"
    );
    assert_eq!(game.bot(PlayerId(77), &view, &config, &mut Vec::new()), None, "nobody to steer");
}

/// What a client has is off by at most half a quantum: 4 mm in place, 6 cm/s in velocity.
fn assert_exact(fight: &mut Harness<Arena>, seen: &View<'_>) {
    fight.world_mut().query::<(Entity, &Position, Option<&Velocity>), (), _>(|bodies| {
        for (entity, position, velocity) in &bodies {
            let seen = seen.entity(entity.slot()).unwrap();
            assert!(
                (seen.get::<Position>().unwrap().vec() - position.vec()).length() <= 1.5 / 256.0
            );
            if let Some(velocity) = velocity {
                assert!(
                    (seen.get::<Velocity>().unwrap().vec() - velocity.vec()).length() <= 1.5 / 16.0
                );
            }
        }
    });
}

/// Mean bytes of the snapshots of a fight, header included, for a client that acknowledges after
/// 100 ms and sees everything. Also checks that what arrives is what was sent.
fn mean_snapshot(movers: u16, bots: usize, ticks: u64) -> f64 {
    let config = Config {
        movers,
        max_players: 64,
        endless: true,
        lobby_s: 0,
        countdown_s: 0,
        ..Config::default()
    };
    let mut fight = Harness::<Arena>::with_config(11, &serde_json::to_string(&config).unwrap())
        .bots(bots)
        .run(60);
    let schema = Arc::new(Typed::<Arena>::new().unwrap().net_schema().clone());
    let mut sender = SnapshotSender::new(schema.clone());
    let mut receiver = SnapshotReceiver::new(schema.clone());
    let (mut history, mut acknowledged, mut out) =
        (ViewHistory::new(), VecDeque::new(), Vec::new());
    let (mut bytes, mut counted) = (0, 0);
    for number in 0..ticks {
        fight.tick();
        let view = Arc::new(view(&fight));
        history.push(view.clone());
        let avatar = view.avatar(FIRST_BOT);
        let applied = (0..4)
            .map(|back| (1000 + number - back, rekindle_schema::Tick(view.tick.0 - back)))
            .rev()
            .collect();
        let header = SnapshotHeader {
            epoch: Epoch(1),
            tick: view.tick,
            durable: view.tick,
            applied,
            avatar,
            ..SnapshotHeader::default()
        };
        sender.encode(&header, &view, &history, None, 1200, &mut out);
        let received = receiver.receive(&out).unwrap();
        // The first snapshots of so many entities are too large for one datagram: the rest follows.
        assert!(received.complete || number < 10);
        if received.complete {
            assert_eq!(
                (&received.view.entities, &received.view.values),
                (&view.entities, &view.values)
            );
            assert_exact(&mut fight, &View::new(&schema, &received.view));
        }
        acknowledged.push_back(receiver.acknowledgement());
        if acknowledged.len() > 3 {
            let (newest, bits) = acknowledged.pop_front().unwrap();
            sender.acknowledge(newest, bits);
        }
        if number >= 30 {
            (bytes, counted) = (bytes + out.len(), counted + 1);
        }
    }
    bytes as f64 / f64::from(counted)
}

#[test]
fn snapshots_of_a_hundred_moving_entities_fit_into_320_bytes() {
    let mean = mean_snapshot(84, 16, 450);
    println!("16 fighters, 84 drones, rockets, 10 pickups: {mean:.1} B a snapshot");
    assert!(mean <= 320.0, "{mean:.1} B");
}

#[test]
fn snapshots_of_sixty_four_fighters_and_thirty_six_drones_fit_into_320_bytes() {
    let mean = mean_snapshot(36, 64, 300);
    println!("64 fighters, 36 drones, rockets, 10 pickups: {mean:.1} B a snapshot");
    assert!(mean <= 320.0, "{mean:.1} B");
}

#[test]
fn snapshots_of_thirty_two_moving_entities_fit_into_110_bytes() {
    let mean = mean_snapshot(24, 8, 450);
    println!("8 fighters, 24 drones, rockets, 10 pickups: {mean:.1} B a snapshot");
    assert!(mean <= 110.0, "{mean:.1} B");
}
