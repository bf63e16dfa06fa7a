//! Snapshots over a network that loses, delays, reorders and duplicates in both directions: a
//! client is never shown a wrong value.

mod motion;
mod sights;

use std::collections::BTreeMap;
use std::sync::Arc;

use motion::{FIGHTER, Motion, Rng, STRIDE, TICK_RATE};
use proptest::prelude::*;
use rekindle_netcode::{
    Coding, Received, SnapshotError, SnapshotHeader, SnapshotReceiver, SnapshotSender, ViewHistory,
};
use rekindle_schema::net::{NetSchema, NetView};
use rekindle_schema::{Epoch, PlayerId, Tick};

/// What the network does, in each direction.
#[derive(Debug, Clone, Copy)]
struct Weather {
    loss: f32,
    duplicates: f32,
    /// Ticks of delay at least, and how many more at most.
    delay: u64,
    spread: u64,
}

/// Packets under way, by the tick at which they arrive.
struct Pipe<T> {
    weather: Weather,
    flying: BTreeMap<(u64, u64), T>,
    count: u64,
}

impl<T: Clone> Pipe<T> {
    fn new(weather: Weather) -> Self {
        Self { weather, flying: BTreeMap::new(), count: 0 }
    }

    fn send(&mut self, now: u64, packet: T, rng: &mut Rng) {
        let copies = if rng.chance(self.weather.loss) {
            0
        } else {
            1 + u64::from(rng.chance(self.weather.duplicates))
        };
        for _ in 0..copies {
            self.count += 1;
            let at = now + self.weather.delay + rng.below(self.weather.spread + 1);
            self.flying.insert((at, self.count), packet.clone());
        }
    }

    fn arrived(&mut self, now: u64) -> Vec<T> {
        let later = self.flying.split_off(&(now + 1, 0));
        std::mem::replace(&mut self.flying, later).into_values().collect()
    }
}

#[derive(Debug, Clone, Copy)]
struct Case {
    coding: Coding,
    seed: u64,
    fighters: usize,
    fire: f32,
    death: f32,
    budget: usize,
    radius: Option<f32>,
    weather: Weather,
}

const VIEWER: PlayerId = PlayerId(4);

/// All that must hold of a decoded snapshot, whatever happened before.
fn check(
    schema: &NetSchema,
    views: &[Arc<NetView>],
    received: &Received,
    focus: u32,
    radius: Option<f32>,
) {
    let stride = schema.stride();
    let truth = &views[received.view.tick.0 as usize];
    for (index, entity) in received.view.entities.iter().enumerate() {
        let stamp = received.stamps[index];
        assert!(stamp <= received.view.tick);
        // In a complete snapshot everything is of its tick; else each entity is as it was at its
        // stamp.
        let then = if received.complete { truth } else { &views[stamp.0 as usize] };
        let at = then
            .index_of(entity.slot)
            .unwrap_or_else(|| panic!("slot {} did not exist at {}", entity.slot, then.tick));
        assert_eq!(*entity, then.entities[at]);
        assert_eq!(
            received.view.row(index, stride),
            then.row(at, stride),
            "slot {} at tick {}",
            entity.slot,
            then.tick
        );
    }
    if received.complete {
        for (index, entity) in truth.entities.iter().enumerate() {
            let known = received.view.index_of(entity.slot).is_some();
            match (sights::distance(schema, truth, focus, index), radius) {
                (Some(distance), Some(radius)) => {
                    assert!(known || distance > radius, "slot {} is near, not shown", entity.slot);
                    assert!(
                        !known || distance <= radius * sights::LEAVE,
                        "slot {} is far and shown",
                        entity.slot
                    );
                }
                _ => assert!(known, "slot {} is not shown", entity.slot),
            }
        }
    }
}

/// Plays `ticks` in that weather, then in clear weather until the client must have everything.
/// Returns how many snapshots were decoded.
fn play(case: Case, ticks: u64) -> u64 {
    let mut rng = Rng(case.seed ^ 0x5eed);
    let mut motion = Motion::new(case.seed, case.fighters);
    (motion.fire, motion.death) = (case.fire, case.death);
    let schema = motion.schema.clone();
    let mut sender =
        SnapshotSender::new(schema.clone()).with_tick_rate(TICK_RATE).with_coding(case.coding);
    let mut receiver = SnapshotReceiver::new(schema.clone());
    let mut history = ViewHistory::new();
    let mut views = vec![motion.view()];
    let (mut down, mut up) = (Pipe::new(case.weather), Pipe::new(case.weather));
    let (mut decoded, mut out) = (0, Vec::new());
    let mut last = None;
    for tick in 1..=ticks + 40 {
        let clear = tick > ticks;
        if tick == ticks + 1 {
            let weather = Weather { loss: 0.0, duplicates: 0.0, delay: 2, spread: 0 };
            (down.weather, up.weather) = (weather, weather);
        }
        motion.step();
        let view = motion.view();
        let focus = view
            .entities
            .iter()
            .find(|entity| entity.components & FIGHTER != 0)
            .map(|entity| entity.slot);
        let own = focus.map(|slot| (VIEWER, slot));
        let view = match (own, case.radius) {
            (Some(own), Some(radius)) => sights::near(&schema, &view, &[own], radius),
            _ => view,
        };
        views.push(view);
        let view = &views[tick as usize];
        history.push(view.clone());
        for (newest, bits) in up.arrived(tick) {
            sender.acknowledge(newest, bits);
        }
        let header = SnapshotHeader {
            epoch: Epoch(3),
            tick: view.tick,
            durable: view.tick,
            avatar: focus,
            ..SnapshotHeader::default()
        };
        let budget = if clear { 60_000 } else { case.budget };
        let stats = sender.encode(&header, view, &history, Some(VIEWER), budget, &mut out);
        assert!(
            out.len() <= budget && stats.bytes == out.len(),
            "{} bytes, {budget} allowed",
            out.len()
        );
        if !out.is_empty() {
            down.send(tick, out.clone(), &mut rng);
        }
        for datagram in down.arrived(tick) {
            match receiver.receive(&datagram) {
                Ok(received) => {
                    decoded += 1;
                    check(
                        &schema,
                        &views,
                        &received,
                        received.header.avatar.expect("set above"),
                        case.radius,
                    );
                    last = Some(received);
                }
                Err(
                    SnapshotError::Duplicate(_)
                    | SnapshotError::TooOld(_)
                    | SnapshotError::UnknownBaseline { .. },
                ) => {}
                Err(error) => panic!("tick {tick}: {error}"),
            }
        }
        up.send(tick, receiver.acknowledgement(), &mut rng);
    }
    let last = last.expect("clear weather delivers");
    assert!(
        last.complete && last.view.tick.0 == ticks + 38,
        "the client has the newest view two ticks after it was sent"
    );
    decoded
}

fn weather() -> impl Strategy<Value = Weather> {
    (0.0f32..0.6, 0.0f32..0.3, 0u64..8, 0u64..8)
        .prop_map(|(loss, duplicates, delay, spread)| Weather { loss, duplicates, delay, spread })
}

fn case(coding: Coding) -> impl Strategy<Value = Case> {
    let radius = prop_oneof![Just(None), (5.0f32..150.0).prop_map(Some)];
    (any::<u64>(), 1usize..60, 0.0f32..0.2, 0.0f32..0.1, 60usize..1300, radius, weather()).prop_map(
        move |(seed, fighters, fire, death, budget, radius, weather)| Case {
            coding,
            seed,
            fighters,
            fire,
            death,
            budget,
            radius,
            weather,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(48)
    })]

    #[test]
    fn a_client_never_sees_a_wrong_value(case in case(Coding::Rice)) {
        play(case, 150);
    }

    #[test]
    fn a_client_never_sees_a_wrong_value_range_coded(case in case(Coding::Range)) {
        play(case, 150);
    }
}

#[test]
fn an_outage_longer_than_the_history_ends_in_a_full_snapshot() {
    let outage = Weather { loss: 1.0, duplicates: 0.0, delay: 2, spread: 0 };
    let case = |coding| Case {
        coding,
        seed: 5,
        fighters: 20,
        fire: 0.05,
        death: 0.02,
        budget: 1200,
        radius: None,
        weather: outage,
    };
    assert!(play(case(Coding::Rice), 200).min(play(case(Coding::Range), 200)) > 30);
}

/// With room for a fraction of the world only, every entity is still brought up to date again and
/// again, and the dead disappear.
#[test]
fn what_does_not_fit_waits_but_not_for_ever() {
    waits_but_not_for_ever(Coding::Rice);
    waits_but_not_for_ever(Coding::Range);
}

fn waits_but_not_for_ever(coding: Coding) {
    let mut motion = Motion::new(11, 60);
    (motion.fire, motion.death) = (0.01, 0.01);
    let mut sender = SnapshotSender::new(motion.schema.clone()).with_coding(coding);
    let mut receiver = SnapshotReceiver::new(motion.schema.clone());
    let (mut history, mut out) = (ViewHistory::new(), Vec::new());
    let mut acks = std::collections::VecDeque::new();
    let mut died = BTreeMap::new();
    let mut before: Arc<NetView> = motion.view();
    let mut partial = 0;
    for tick in 1..=600u64 {
        motion.step();
        let view = motion.view();
        for entity in &before.entities {
            if !view.entities.contains(entity) {
                died.insert((entity.slot, entity.generation), tick);
            }
        }
        before = view.clone();
        history.push(view.clone());
        let header = SnapshotHeader {
            epoch: Epoch(1),
            tick: view.tick,
            durable: view.tick,
            ..SnapshotHeader::default()
        };
        sender.encode(&header, &view, &history, None, 120, &mut out);
        let received = receiver.receive(&out).expect("in order");
        partial += u64::from(!received.complete);
        for (entity, stamp) in received.view.entities.iter().zip(received.stamps.iter()) {
            match died.get(&(entity.slot, entity.generation)) {
                Some(&death) => assert!(
                    tick - death <= 8,
                    "{entity:?} died at {death} and is still shown at {tick} as of {stamp}, \
                     baseline {:?}, {} applied",
                    sender.baseline(),
                    received.view.entities.len()
                ),
                None if view.row(view.index_of(entity.slot).expect("alive"), STRIDE)
                    != received
                        .view
                        .row(received.view.index_of(entity.slot).expect("there"), STRIDE) =>
                {
                    assert!(
                        tick - stamp.0 <= 60,
                        "{entity:?} was last brought up to date at {stamp}, now is {tick}"
                    );
                }
                None => {}
            }
        }
        if tick > 120 {
            assert!(
                received.view.entities.len() * 10 >= view.entities.len() * 8,
                "too few entities at {tick}"
            );
        }
        acks.push_back(receiver.acknowledgement());
        if acks.len() > 3 {
            let (newest, bits) = acks.pop_front().expect("not empty");
            sender.acknowledge(newest, bits);
        }
    }
    assert!(partial > 300, "the budget was meant to be too small");
}

#[test]
fn a_new_epoch_starts_anew_and_an_old_one_is_refused() {
    let mut motion = Motion::new(3, 10);
    let (mut history, mut out) = (ViewHistory::new(), Vec::new());
    let mut receiver = SnapshotReceiver::new(motion.schema.clone());
    let mut old = SnapshotSender::new(motion.schema.clone());
    let mut new = old.clone();
    let mut header = SnapshotHeader { epoch: Epoch(1), ..SnapshotHeader::default() };
    let mut late = Vec::new();
    for _ in 0..5 {
        motion.step();
        let view = motion.view();
        history.push(view.clone());
        header.tick = view.tick;
        old.encode(&header, &view, &history, None, 1200, &mut out);
        late.clone_from(&out);
        receiver.receive(&out).expect("in order");
        old.acknowledge(receiver.acknowledgement().0, 0);
    }
    // Another node goes on two ticks earlier, with a world of its own.
    let mut other = Motion::new(4, 10);
    history.clear();
    header.epoch = Epoch(2);
    (0..3).for_each(|_| other.step());
    for _ in 0..4 {
        other.step();
        let view = other.view();
        history.push(view.clone());
        header.tick = view.tick;
        new.acknowledge(receiver.acknowledgement().0, receiver.acknowledgement().1);
        let stats = new.encode(&header, &view, &history, None, 1200, &mut out);
        let received = receiver.receive(&out).expect("a higher epoch");
        assert_eq!(received.view.values, view.values);
        assert_eq!(stats.deferred, 0);
    }
    assert_eq!(
        receiver.receive(&late),
        Err(SnapshotError::StaleEpoch { found: Epoch(1), current: Epoch(2) })
    );
}

/// A recovery goes back to ticks that were shown already: an acknowledgement of the lost ones must
/// not count for the new ones.
#[test]
fn acknowledgements_of_an_epoch_that_is_gone_do_no_harm() {
    let (mut motion, mut other) = (Motion::new(3, 10), Motion::new(4, 10));
    let (mut history, mut out) = (ViewHistory::new(), Vec::new());
    let mut receiver = SnapshotReceiver::new(motion.schema.clone());
    let mut sender = SnapshotSender::new(motion.schema.clone());
    let mut header = SnapshotHeader { epoch: Epoch(1), ..SnapshotHeader::default() };
    for _ in 0..8 {
        motion.step();
        history.push(motion.view());
        header.tick = Tick(motion.tick);
        sender.encode(&header, &motion.view(), &history, None, 1200, &mut out);
        receiver.receive(&out).expect("in order");
    }
    let gone = receiver.acknowledgement();
    sender.reset();
    history.clear();
    header.epoch = Epoch(2);
    (0..5).for_each(|_| other.step());
    let mut wrong = 0;
    for round in 0..6 {
        other.step();
        let view = other.view();
        history.push(view.clone());
        header.tick = view.tick;
        sender.encode(&header, &view, &history, None, 1200, &mut out);
        // The first one of the new epoch is lost, and taken for acknowledged.
        match round {
            0 => sender.acknowledge(gone.0, gone.1),
            _ => match receiver.receive(&out) {
                Ok(received) => assert_eq!(received.view.values, view.values),
                Err(SnapshotError::UnknownBaseline { .. }) => wrong += 1,
                Err(error) => panic!("{error}"),
            },
        }
        if round > 0 {
            sender.acknowledge(receiver.acknowledgement().0, receiver.acknowledgement().1);
        }
    }
    assert_eq!(wrong, 1);
    assert_eq!(receiver.acknowledgement().0, header.tick);
}

#[test]
fn a_client_that_lost_everything_is_served_in_full() {
    let mut motion = Motion::new(3, 10);
    let (mut history, mut out) = (ViewHistory::new(), Vec::new());
    let mut sender = SnapshotSender::new(motion.schema.clone());
    let mut receiver = SnapshotReceiver::new(motion.schema.clone());
    for tick in 1..=12 {
        motion.step();
        let view = motion.view();
        history.push(view.clone());
        let header =
            SnapshotHeader { epoch: Epoch(1), tick: view.tick, ..SnapshotHeader::default() };
        let stats = sender.encode(&header, &view, &history, None, 1200, &mut out);
        if tick == 8 {
            receiver.reset();
            assert_eq!(
                receiver.receive(&out),
                Err(SnapshotError::UnknownBaseline { tick: Tick(8), baseline: Tick(7) })
            );
        } else {
            assert_eq!(stats.baseline.is_none(), tick == 1 || tick == 9);
            assert_eq!(receiver.receive(&out).expect("decodes").view.values, view.values);
        }
        let (newest, bits) = receiver.acknowledgement();
        sender.acknowledge(newest, bits);
    }
}

#[test]
fn another_entity_in_the_same_slot_is_another_entity() {
    let mut motion = Motion::new(9, 3);
    (motion.fire, motion.death) = (0.0, 0.0);
    let (mut history, mut out) = (ViewHistory::new(), Vec::new());
    let mut sender = SnapshotSender::new(motion.schema.clone());
    let mut receiver = SnapshotReceiver::new(motion.schema.clone());
    let mut shown = Vec::new();
    for tick in 1..=4u64 {
        motion.step();
        let mut view = (*motion.view()).clone();
        if tick >= 3 {
            view.entities[2].generation += 5;
        }
        let view = Arc::new(view);
        history.push(view.clone());
        let header =
            SnapshotHeader { epoch: Epoch(1), tick: view.tick, ..SnapshotHeader::default() };
        sender.encode(&header, &view, &history, None, 1200, &mut out);
        let received = receiver.receive(&out).expect("decodes");
        assert_eq!(received.view.entities, view.entities);
        assert_eq!(received.view.values, view.values);
        sender.acknowledge(receiver.acknowledgement().0, 0);
        shown.push(received.view.entities[2].generation);
    }
    assert_eq!(shown[0] + 5, shown[3]);
}

/// Sessions of a match share what was found out about a view, although each knows something else.
#[test]
fn sessions_at_different_baselines_share_a_history() {
    let mut motion = Motion::new(17, 40);
    (motion.fire, motion.death, motion.rest) = (0.05, 0.02, 0.6);
    let schema = motion.schema.clone();
    let mut history = ViewHistory::new();
    let mut views = vec![motion.view()];
    // Acknowledgements of the first two come at once, of each other two a tick later; some links
    // are narrow, one makes another rate of it.
    let mut sessions: Vec<_> = (0..8)
        .map(|index| {
            let rate = if index == 5 { 20 } else { TICK_RATE };
            let coding = if index % 3 == 1 { Coding::Range } else { Coding::Rice };
            let sender =
                SnapshotSender::new(schema.clone()).with_tick_rate(rate).with_coding(coding);
            (
                sender,
                SnapshotReceiver::new(schema.clone()),
                std::collections::VecDeque::new(),
                [1200, 100, 1200, 150][index % 4],
            )
        })
        .collect();
    let (mut out, mut complete) = (Vec::new(), 0);
    for tick in 1..=300u64 {
        motion.step();
        let view = motion.view();
        views.push(view.clone());
        history.push(view.clone());
        let header = SnapshotHeader {
            epoch: Epoch(1),
            tick: view.tick,
            durable: view.tick,
            ..SnapshotHeader::default()
        };
        for (index, (sender, receiver, acks, budget)) in sessions.iter_mut().enumerate() {
            sender.encode(&header, &view, &history, None, *budget, &mut out);
            // One in seven is lost, another one for each session.
            if !(tick + index as u64).is_multiple_of(7) {
                let received = receiver.receive(&out).expect("in order");
                complete += u32::from(received.complete);
                check(&schema, &views, &received, 0, None);
            }
            acks.push_back(receiver.acknowledgement());
            if acks.len() > index / 2 {
                let (newest, bits) = acks.pop_front().expect("not empty");
                sender.acknowledge(newest, bits);
            }
        }
    }
    assert!(complete > 800, "{complete}");
}

#[test]
fn the_own_avatar_never_waits_for_others() {
    let mut motion = Motion::new(23, 60);
    (motion.fire, motion.death) = (0.05, 0.0);
    let (mut history, mut out) = (ViewHistory::new(), Vec::new());
    let mut sender = SnapshotSender::new(motion.schema.clone());
    let mut receiver = SnapshotReceiver::new(motion.schema.clone());
    // The last fighter in the list.
    let own = motion
        .view()
        .entities
        .iter()
        .rev()
        .find(|entity| entity.components & FIGHTER != 0)
        .expect("a fighter")
        .slot;
    let mut partial = 0;
    for _ in 0..200 {
        motion.step();
        let view = motion.view();
        history.push(view.clone());
        let header = SnapshotHeader {
            epoch: Epoch(1),
            tick: view.tick,
            durable: view.tick,
            avatar: Some(own),
            ..SnapshotHeader::default()
        };
        let stats = sender.encode(&header, &view, &history, None, 70, &mut out);
        let received = receiver.receive(&out).expect("in order");
        partial += u32::from(stats.deferred > 0);
        let row = |view: &NetView| view.row(view.index_of(own).expect("it lives"), STRIDE).to_vec();
        assert_eq!(row(&received.view), row(&view), "at tick {}", view.tick);
        sender.acknowledge(receiver.acknowledgement().0, receiver.acknowledgement().1);
    }
    assert!(partial > 150, "the budget was meant to be too small");
}

#[test]
fn a_budget_below_the_head_gives_no_snapshot_and_breaks_nothing() {
    let mut motion = Motion::new(2, 5);
    let (mut history, mut out) = (ViewHistory::new(), Vec::new());
    let mut sender = SnapshotSender::new(motion.schema.clone());
    let mut receiver = SnapshotReceiver::new(motion.schema.clone());
    for tick in 1..=20usize {
        motion.step();
        let view = motion.view();
        history.push(view.clone());
        let header = SnapshotHeader {
            epoch: Epoch(1),
            tick: view.tick,
            durable: view.tick,
            ..SnapshotHeader::default()
        };
        let budget = if tick < 10 { tick } else { 1200 };
        let stats = sender.encode(&header, &view, &history, None, budget, &mut out);
        assert!(stats.bytes == out.len() && out.len() <= budget);
        let again = sender.encode(&header, &view, &history, None, budget, &mut Vec::new());
        assert_eq!(again.bytes, 0, "a tick is sent once");
        if !out.is_empty() {
            let received = receiver.receive(&out).expect("in order");
            assert!(tick < 10 || received.view.values == view.values);
            sender.acknowledge(view.tick, 0);
        }
    }
    assert!(receiver.newest().is_some());
}
