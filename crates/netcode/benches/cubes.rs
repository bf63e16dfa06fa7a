//! What snapshots of rigid cubes cost: 901 of them at 60 Hz, as in Glenn Fiedler's articles on
//! snapshot compression, in a scene of our own. One large cube ploughs through a field of 900
//! small ones, which fly, tumble, bounce and come to rest. Prints bytes per moving cube and kbit/s
//! per client in both codings, for positions and orientations alone and with velocities that
//! positions are extrapolated by.
//!
//! ```text
//! cargo bench -p rekindle-netcode --bench cubes
//! ```
//!
//! Acknowledgements take 100 ms. A snapshot may have any size: what counts is what the world takes,
//! not what fits into a datagram.

use std::collections::VecDeque;
use std::sync::Arc;

use rekindle_netcode::{Coding, SnapshotHeader, SnapshotReceiver, SnapshotSender, ViewHistory};
use rekindle_schema::net::{FieldKind, NetComponent, NetEntity, NetField, NetSchema, NetView};
use rekindle_schema::{Tick, mix};

const TICK_RATE: u16 = 60;
const DT: f64 = 1.0 / TICK_RATE as f64;
/// Ticks until an acknowledgement is back.
const DELAY: usize = 6;
const SECONDS: u64 = 30;
const SIDE: usize = 30;
/// Half an edge of a small cube, metres.
const HALF: f64 = 0.2;
/// The large cube reaches this far, and goes so fast.
const REACH: f64 = 1.3;
const PACE: f64 = 5.0;

type Vector = [f64; 3];

fn each(mut f: impl FnMut(usize) -> f64) -> Vector {
    [f(0), f(1), f(2)]
}

fn length(v: Vector) -> f64 {
    (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]).sqrt()
}

/// `SplitMix64`, by its state.
struct Rng(u64);

impl Rng {
    /// From -1 to 1.
    fn signed(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(mix::STEP);
        (mix::mix(self.0) >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }
}

#[derive(Clone, Copy)]
struct Cube {
    place: Vector,
    velocity: Vector,
    /// A unit quaternion.
    turn: [f64; 4],
    spin: Vector,
}

impl Cube {
    fn at(place: Vector) -> Self {
        Self { place, velocity: [0.0; 3], turn: [0.0, 0.0, 0.0, 1.0], spin: [0.0; 3] }
    }

    fn rests(&self) -> bool {
        length(self.velocity) + length(self.spin) <= 0.0
    }

    fn step(&mut self) {
        if self.rests() {
            return;
        }
        self.velocity[2] -= 9.81 * DT;
        self.place = each(|axis| self.place[axis] + self.velocity[axis] * DT);
        self.rotate();
        if self.place[2] > HALF {
            return;
        }
        // It touches the ground: it bounces a little, and loses speed.
        self.place[2] = HALF;
        self.velocity = each(|axis| self.velocity[axis] * [0.92, 0.92, -0.35][axis]);
        self.spin = self.spin.map(|spin| spin * 0.9);
        if length(self.velocity) < 0.25 {
            (self.velocity, self.spin) = ([0.0; 3], [0.0; 3]);
        }
    }

    fn rotate(&mut self) {
        let (turn, half) = (self.turn, self.spin.map(|spin| spin * DT / 2.0));
        let turned = [
            turn[0] + half[0] * turn[3] + half[1] * turn[2] - half[2] * turn[1],
            turn[1] + half[1] * turn[3] + half[2] * turn[0] - half[0] * turn[2],
            turn[2] + half[2] * turn[3] + half[0] * turn[1] - half[1] * turn[0],
            turn[3] - half[0] * turn[0] - half[1] * turn[1] - half[2] * turn[2],
        ];
        let length = turned.iter().map(|part| part * part).sum::<f64>().sqrt();
        self.turn = turned.map(|part| part / length);
    }

    /// The largest part of the orientation and the three others, so signed that it is positive.
    fn smallest_three(&self) -> (usize, Vector) {
        let size = |&index: &usize| self.turn[index].abs();
        let largest = (0..4).max_by(|a, b| size(a).total_cmp(&size(b))).unwrap_or(3);
        let sign = if self.turn[largest] < 0.0 { -1.0 } else { 1.0 };
        let others: Vec<usize> = (0..4).filter(|&index| index != largest).collect();
        (largest, each(|index| self.turn[others[index]] * sign))
    }
}

struct Scene {
    rng: Rng,
    /// The first is the large one.
    cubes: Vec<Cube>,
    goal: Vector,
}

impl Scene {
    fn new() -> Self {
        let field = (0..SIDE * SIDE).map(|index| {
            let along = |at: usize| (at as f64 - SIDE as f64 / 2.0) * 0.5;
            Cube::at([along(index % SIDE), along(index / SIDE), HALF])
        });
        let cubes = std::iter::once(Cube::at([-9.0, -9.0, 1.0])).chain(field).collect();
        Self { rng: Rng(901), cubes, goal: [0.0, 0.0, 1.0] }
    }

    fn step(&mut self) {
        let large = self.cubes[0].place;
        let way = each(|axis| self.goal[axis] - large[axis]);
        if length(way) < 0.2 {
            self.goal = [self.rng.signed() * 9.0, self.rng.signed() * 9.0, 1.0];
        } else {
            let velocity = way.map(|part| part / length(way) * PACE);
            self.cubes[0].velocity = velocity;
            self.cubes[0].place = each(|axis| large[axis] + velocity[axis] * DT);
        }
        for cube in &mut self.cubes[1..] {
            let away = each(|axis| cube.place[axis] - large[axis]);
            let distance = length(away);
            if distance < REACH {
                let push = 4.0 + self.rng.signed();
                cube.velocity = each(|axis| away[axis] / distance * push);
                cube.velocity[2] = 2.0 + self.rng.signed();
                cube.spin = each(|_| self.rng.signed() * 8.0);
            }
            cube.step();
        }
    }

    fn view(&self, tick: u64, schema: &NetSchema, components: u32) -> Arc<NetView> {
        let mut view = NetView { tick: Tick(tick), ..NetView::default() };
        let columns: Vec<FieldKind> = schema.columns().map(|field| field.kind).collect();
        for (slot, cube) in (0..).zip(&self.cubes) {
            view.entities.push(NetEntity { slot, generation: 1, components });
            let (largest, turn) = cube.smallest_three();
            let numbers = [cube.place, [largest as f64, turn[0], turn[1]]].concat();
            let numbers = [numbers, vec![turn[2]], cube.velocity.to_vec()].concat();
            let quanta = columns.iter().zip(numbers);
            view.values.extend(quanta.map(|(kind, number)| kind.quantise(number as f32)));
        }
        Arc::new(view)
    }
}

/// Places to 2 mm within 512 m, orientations in nine bits a part; velocities to a centimetre a
/// second.
fn schema(velocities: bool) -> NetSchema {
    let float = |most: f32, bits| FieldKind::Float { min: -most, max: most, bits };
    let field = |name: &str, kind, rate| NetField { name: name.to_owned(), kind, rate };
    let component = |name: &str, fields| NetComponent { name: name.to_owned(), fields };
    let axes = |kind, rate: Option<u16>| {
        let axis = |(index, name)| field(name, kind, rate.map(|first| first + index));
        (0..).zip(["x", "y", "z"]).map(axis).collect::<Vec<_>>()
    };
    let mut turn = axes(float(0.5f32.sqrt(), 9), None);
    turn.insert(0, field("largest", FieldKind::Unsigned { bits: 2 }, None));
    let place = component("place", axes(float(256.0, 18), velocities.then_some(7)));
    let mut components = vec![place, component("turn", turn)];
    if velocities {
        components.push(component("velocity", axes(float(20.48, 12), None)));
    }
    NetSchema { components, position: None }
}

/// Cubes that differ from the tick before, by their quanta.
fn moved(before: &NetView, now: &NetView, stride: usize) -> usize {
    (0..now.entities.len()).filter(|&at| before.row(at, stride) != now.row(at, stride)).count()
}

fn play(coding: Coding, velocities: bool) {
    let schema = Arc::new(schema(velocities));
    let components = (1 << schema.components.len()) - 1;
    let mut scene = Scene::new();
    let mut sender =
        SnapshotSender::new(Arc::clone(&schema)).with_tick_rate(TICK_RATE).with_coding(coding);
    let mut receiver = SnapshotReceiver::new(Arc::clone(&schema));
    let (mut history, mut acks, mut out) = (ViewHistory::new(), VecDeque::new(), Vec::new());
    let (mut bytes, mut moving, mut most, mut snapshots) = (0, 0, 0, 0);
    for tick in 1..=SECONDS * u64::from(TICK_RATE) {
        scene.step();
        let view = scene.view(tick, &schema, components);
        let header =
            SnapshotHeader { tick: view.tick, durable: view.tick, ..SnapshotHeader::default() };
        let before = history.newest().cloned();
        history.push(Arc::clone(&view));
        sender.encode(&header, &view, &history, None, 65_000, &mut out);
        let received = receiver.receive(&out).expect("own snapshot");
        assert_eq!(received.view.values, view.values, "tick {tick}");
        acks.push_back(receiver.acknowledgement());
        if acks.len() > DELAY {
            let (newest, bits) = acks.pop_front().expect("not empty");
            sender.acknowledge(newest, bits);
        }
        // The first snapshots are full.
        if let Some(before) = before.filter(|_| tick > u64::from(TICK_RATE)) {
            moving += moved(&before, &view, schema.stride());
            (bytes, most, snapshots) = (bytes + out.len(), most.max(out.len()), snapshots + 1);
        }
    }
    let per_second = bytes as f64 * 8.0 / f64::from(snapshots) * f64::from(TICK_RATE);
    println!(
        "{coding:?}, velocities {velocities}: {:.1} of 901 cubes move; {:.1} bits a moving cube, \
         {:.0} B a snapshot (at most {most}), {:.0} kbit/s a client",
        moving as f64 / f64::from(snapshots),
        bytes as f64 * 8.0 / moving as f64,
        bytes as f64 / f64::from(snapshots),
        per_second / 1000.0,
    );
}

fn main() {
    for velocities in [false, true] {
        for coding in [Coding::Rice, Coding::Range] {
            play(coding, velocities);
        }
    }
}
