//! The fog of war: what a client gets is what the units of its side see, and its bytes say nothing
//! about the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rekindle_netcode::{SnapshotHeader, SnapshotReceiver, SnapshotSender, ViewHistory};
use rekindle_schema::net::NetView;
use rekindle_sim::sketch::Shape;
use rekindle_sim::{Entity, GameType, Harness, PlayerId, Simulation, Typed, View};
use rekindle_skirmish::rules::SIGHT;
use rekindle_skirmish::{Duty, Order, Orders, Position, Skirmish, Unit};

const FIRST_BOT: PlayerId = PlayerId(1_000_000);
/// Places are seen by squares of two metres: so much more or less than [`SIGHT`].
const SQUARE: f32 = 3.0;

/// Every unit as it is: by slot.
fn units(battle: &mut Harness<Skirmish>) -> BTreeMap<u32, (u8, Position)> {
    battle.world_mut().query::<(Entity, &Unit, &Position), (), _>(|units| {
        let all = units.iter().map(|(entity, unit, at)| (entity.slot(), (unit.side, *at)));
        all.collect()
    })
}

fn view(battle: &Harness<Skirmish>) -> NetView {
    let mut view = NetView::default();
    battle.simulation().extract(&mut view);
    view
}

/// One client, as its node and itself keep it.
struct Client {
    viewer: Option<PlayerId>,
    sender: SnapshotSender,
    receiver: SnapshotReceiver,
}

impl Client {
    fn new(viewer: Option<PlayerId>) -> Self {
        let schema = Arc::new(Typed::<Skirmish>::new().unwrap().net_schema().clone());
        let (sender, receiver) =
            (SnapshotSender::new(Arc::clone(&schema)), SnapshotReceiver::new(schema));
        Self { viewer, sender, receiver }
    }

    /// The bytes of a tick, and what the client has of it.
    fn hear(&mut self, view: &NetView, history: &ViewHistory) -> (Vec<u8>, Arc<NetView>) {
        let avatar = self.viewer.and_then(|player| view.avatar(player));
        let header = SnapshotHeader {
            tick: view.tick,
            durable: view.tick,
            avatar,
            ..SnapshotHeader::default()
        };
        let mut out = Vec::new();
        self.sender.encode(&header, view, history, self.viewer, 16_000, &mut out);
        let received = self.receiver.receive(&out).unwrap();
        assert!(received.complete, "it fits");
        let (newest, bits) = self.receiver.acknowledgement();
        self.sender.acknowledge(newest, bits);
        (out, received.view)
    }
}

#[test]
fn a_client_gets_what_its_side_sees_and_nothing_else() {
    let rules = r#"{"units": 200, "rematch": true}"#;
    let mut battle = Harness::<Skirmish>::with_config(9, rules).bots(2);
    let schema = Typed::<Skirmish>::new().unwrap().net_schema().clone();
    let mut clients: Vec<Client> =
        [Some(FIRST_BOT), Some(PlayerId(FIRST_BOT.0 + 1)), None].map(Client::new).into();
    let (mut history, mut met, mut hidden) = (ViewHistory::new(), 0, 0);
    for _ in 0..600 {
        battle.tick();
        let view = Arc::new(view(&battle));
        history.push(Arc::clone(&view));
        let all = units(&mut battle);
        for client in &mut clients {
            let (_, got) = client.hear(&view, &history);
            let got = View::new(&schema, &got);
            let seen: BTreeSet<u32> = got
                .entities()
                .filter(|entity| entity.has::<Unit>() || entity.has::<Position>())
                .map(|entity| entity.slot)
                .collect();
            let Some(player) = client.viewer else {
                assert!(seen.is_empty(), "spectators see no battle");
                continue;
            };
            // The first bot has the first side.
            let side = (player.0 - FIRST_BOT.0) as u8;
            let own: Vec<Position> =
                all.values().filter(|(of, _)| *of == side).map(|(_, at)| *at).collect();
            for (slot, (of, at)) in &all {
                let nearest = own.iter().map(|eye| eye.distance(*at)).fold(f32::MAX, f32::min);
                let is_seen = seen.contains(slot);
                assert!(*of != side || is_seen, "own units are seen");
                assert!(nearest > SIGHT - SQUARE || is_seen, "unit {slot} is {nearest} m away");
                assert!(nearest < SIGHT + SQUARE || !is_seen, "unit {slot} is {nearest} m away");
                (met, hidden) =
                    (met + usize::from(*of != side && is_seen), hidden + usize::from(!is_seen));
                if *of != side && is_seen {
                    let entity = got.entity(*slot).unwrap();
                    assert!(entity.get::<Duty>().is_none(), "orders are the own side's");
                }
            }
            assert!(seen.iter().all(|slot| all.contains_key(slot)), "the dead are gone");
        }
    }
    assert!(met > 1_000 && hidden > 10_000, "{met} enemies seen, {hidden} not");
}

#[test]
fn what_happens_in_the_fog_changes_no_byte_of_a_client() {
    let rules = r#"{"units": 200}"#;
    // Two matches that differ in what the other side does behind the fog.
    let play = |busy: bool| {
        let mut battle = Harness::<Skirmish>::with_config(9, rules);
        let mut client = Client::new(Some(PlayerId(1)));
        let mut history = ViewHistory::new();
        (1..=2).for_each(|player| battle.join(PlayerId(player)));
        (0..40)
            .map(|tick| {
                if busy && tick % 5 == 2 {
                    let target = Position { x: 50.0 - tick as f32, y: 40.0 };
                    let squads = vec![tick as u8 / 5];
                    let orders = Orders { squads, order: Order::Attack, target };
                    battle.command(PlayerId(2), &orders);
                }
                battle.tick();
                let view = Arc::new(view(&battle));
                history.push(Arc::clone(&view));
                (client.hear(&view, &history).0, battle.hashes().last().copied())
            })
            .collect::<Vec<_>>()
    };
    let (calm, busy) = (play(false), play(true));
    assert!(calm.iter().zip(&busy).all(|(calm, busy)| calm.0 == busy.0), "bytes tell of the fog");
    assert_ne!(calm.last().unwrap().1, busy.last().unwrap().1, "there was something to tell");
}

#[test]
fn a_sketch_has_the_units_that_are_seen_and_says_how_many() {
    let game = Typed::<Skirmish>::new().unwrap();
    let drawn = |rules: &str, viewer: Option<PlayerId>| {
        let battle = Harness::<Skirmish>::with_config(9, rules).bots(2).run(10);
        let view = view(&battle);
        let seen = viewer.map_or_else(|| view.clone(), |player| view.seen_by(player).into_owned());
        game.sketch(&seen, rules.as_bytes()).unwrap()
    };
    let count = |shapes: &[Shape]| {
        let unit = |shape: &&Shape| matches!(shape, Shape::Point { .. } | Shape::Circle { .. });
        shapes.iter().filter(unit).count()
    };
    let all = drawn(r#"{"units": 200, "spectators": true}"#, None);
    assert_eq!((count(&all.shapes), &*all.title), (200, "south-west 100, north-east 100"));
    let own = drawn(r#"{"units": 200}"#, Some(FIRST_BOT));
    assert_eq!((count(&own.shapes), &*own.title), (100, "south-west 100, north-east 0"));
    let nothing = drawn(r#"{"units": 200}"#, None);
    assert!(count(&nothing.shapes) == 0 && nothing.title.starts_with("fog"), "{nothing:?}");
}
