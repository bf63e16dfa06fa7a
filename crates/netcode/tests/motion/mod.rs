//! A small world that moves like a game: accelerating, turning, colliding with walls, shooting,
//! dying and coming back. Shared by the tests and the benchmarks; deterministic from its seed.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::allow_attributes,
    reason = "each user takes its own part"
)]

use std::sync::Arc;

use rekindle_schema::Tick;
use rekindle_schema::mix;
use rekindle_schema::net::{FieldKind, NetComponent, NetEntity, NetField, NetSchema, NetView};

pub const TICK_RATE: u16 = 30;
pub const BODY: u32 = 0b000_0111;
pub const DRONE: u32 = BODY | 0b000_1000;
pub const FIGHTER: u32 = 0b001_0000;
pub const CLOCK: u32 = 0b100_0000;
/// Columns of a row.
pub const STRIDE: usize = 19;
/// World size: a square around the origin.
const SIZE: f32 = 60.0;
/// Velocities are multiples of this, as games do it whose clients extrapolate.
const STEP: f32 = 0.125;

pub fn schema() -> Arc<NetSchema> {
    let float = |min, max, bits| FieldKind::Float { min, max, bits };
    let whole = |bits| FieldKind::Unsigned { bits };
    let field = |name: &str, kind, rate| NetField { name: name.into(), kind, rate };
    let component = |name: &str, fields| NetComponent { name: name.into(), fields };
    let place = float(-64.0, 64.0 - 1.0 / 128.0, 14);
    let speed = float(-32.0, 31.875, 9);
    Arc::new(NetSchema {
        components: vec![
            component("body", vec![field("kind", whole(2), None)]),
            component("position", vec![field("x", place, Some(3)), field("y", place, Some(4))]),
            component("velocity", vec![field("x", speed, None), field("y", speed, None)]),
            component("health", vec![field("points", whole(7), None)]),
            component(
                "fighter",
                vec![
                    field("aim", FieldKind::Angle { bits: 8 }, None),
                    field("firing", FieldKind::Bool, None),
                    field("weapon", whole(2), None),
                    field("shells", whole(6), None),
                    field("rockets", whole(6), None),
                    field("kills", whole(10), None),
                    field("deaths", whole(10), None),
                ],
            ),
            component(
                "pickup",
                vec![field("kind", whole(2), None), field("there", FieldKind::Bool, None)],
            ),
            component(
                "clock",
                vec![
                    field("phase", whole(2), None),
                    field("seconds", whole(14), None),
                    field("round", whole(8), None),
                    field("open", FieldKind::Bool, None),
                ],
            ),
        ],
        position: Some((1, 2)),
    })
}

/// `SplitMix64`, by its state.
#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(mix::STEP);
        mix::mix(self.0)
    }
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
    pub fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32
    }
    pub fn chance(&mut self, p: f32) -> bool {
        self.unit() < p
    }
}

#[derive(Clone, Copy, Default)]
struct Thing {
    alive: bool,
    generation: u32,
    components: u32,
    kind: u32,
    x: f32,
    y: f32,
    vx: f32,
    vy: f32,
    /// The velocity that it wants.
    wanted: (f32, f32),
    aim: f32,
    turn: f32,
    firing: bool,
    health: u32,
    weapon: u32,
    shells: u32,
    kills: u32,
    until: u64,
}

#[derive(Clone)]
pub struct Motion {
    pub schema: Arc<NetSchema>,
    pub tick: u64,
    rng: Rng,
    things: Vec<Thing>,
    /// Chance per fighter and tick to send a rocket.
    pub fire: f32,
    /// Chance per fighter or drone and tick to die.
    pub death: f32,
    /// Chance that a fighter or drone that makes up its mind wants to rest.
    pub rest: f32,
}

impl Motion {
    /// So many fighters and five times as many drones, `moving` in all, besides eight pickups and
    /// the match's clock.
    pub fn new(seed: u64, moving: usize) -> Self {
        let mut motion = Self {
            schema: schema(),
            tick: 0,
            rng: Rng(seed),
            things: Vec::new(),
            fire: 0.01,
            death: 0.002,
            rest: 0.0,
        };
        motion.spawn(Thing { components: CLOCK, ..Thing::default() });
        for kind in 0..8 {
            let (x, y) = motion.place();
            motion.spawn(Thing {
                components: 0b010_0011,
                kind: 3,
                weapon: kind % 3,
                x,
                y,
                ..Thing::default()
            });
        }
        for index in 0..moving {
            let thing = motion.mover(index % 6 == 0);
            motion.spawn(thing);
        }
        motion
    }

    fn place(&mut self) -> (f32, f32) {
        let mut at = || (self.rng.unit() - 0.5) * (SIZE - 4.0) * 2.0;
        (at(), at())
    }

    fn mover(&mut self, fighter: bool) -> Thing {
        let (x, y) = self.place();
        let components = if fighter { DRONE | FIGHTER } else { DRONE };
        Thing {
            components,
            kind: u32::from(!fighter),
            x,
            y,
            health: if fighter { 100 } else { 40 },
            ..Thing::default()
        }
    }

    fn spawn(&mut self, thing: Thing) {
        let slot = self.things.iter().position(|thing| !thing.alive).unwrap_or_else(|| {
            self.things.push(Thing::default());
            self.things.len() - 1
        });
        let generation = self.things[slot].generation + 1;
        self.things[slot] = Thing { alive: true, generation, ..thing };
    }

    /// One tick of play.
    pub fn step(&mut self) {
        self.tick += 1;
        let dt = 1.0 / f32::from(TICK_RATE);
        let (mut rockets, mut deaths) = (Vec::new(), Vec::new());
        for slot in 0..self.things.len() {
            let mut thing = self.things[slot];
            if !thing.alive || thing.components & 0b100 == 0 {
                continue;
            }
            let fighter = thing.components & FIGHTER != 0;
            let rocket = thing.kind == 2;
            if rocket {
                thing.alive = self.tick < thing.until;
            } else {
                let (speed, most, pause) = if fighter { (7.0, 45.0, 18) } else { (3.0, 8.0, 60) };
                if self.tick >= thing.until {
                    let angle = self.rng.unit() * std::f32::consts::TAU;
                    let speed =
                        if self.rest > 0.0 && self.rng.chance(self.rest) { 0.0 } else { speed };
                    thing.wanted = (angle.cos() * speed, angle.sin() * speed);
                    thing.turn = (self.rng.unit() - 0.5) * 5.0;
                    thing.until = self.tick + 6 + self.rng.below(pause);
                }
                let (dx, dy) = (thing.wanted.0 - thing.vx, thing.wanted.1 - thing.vy);
                let scale = (most * dt / dx.hypot(dy).max(1e-6)).min(1.0);
                let snap = |v: f32| (v / STEP + 0.5).floor() * STEP;
                (thing.vx, thing.vy) = (snap(thing.vx + dx * scale), snap(thing.vy + dy * scale));
                if self.rng.chance(self.death) {
                    thing.alive = false;
                    deaths.push(fighter);
                }
                if self.rng.chance(0.01) {
                    thing.health = thing.health.saturating_sub(9).max(1);
                }
            }
            if fighter {
                thing.aim += thing.turn * dt + (self.rng.unit() - 0.5) * 0.03;
                if self.rng.chance(0.1) {
                    thing.firing = !thing.firing;
                }
                if self.rng.chance(self.fire) {
                    thing.shells = thing.shells.checked_sub(1).unwrap_or(12);
                    let snap = |v: f32| (v / STEP + 0.5).floor() * STEP;
                    let (vx, vy) = (snap(thing.aim.cos() * 20.0), snap(thing.aim.sin() * 20.0));
                    let until = self.tick + 10 + self.rng.below(60);
                    rockets.push(Thing {
                        components: BODY,
                        kind: 2,
                        x: thing.x,
                        y: thing.y,
                        vx,
                        vy,
                        until,
                        ..Thing::default()
                    });
                }
            }
            thing.x += thing.vx * dt;
            thing.y += thing.vy * dt;
            if thing.x.abs() > SIZE || thing.y.abs() > SIZE {
                (thing.vx, thing.vy) = (
                    if thing.x.abs() > SIZE { 0.0 } else { thing.vx },
                    if thing.y.abs() > SIZE { 0.0 } else { thing.vy },
                );
                (thing.x, thing.y) = (thing.x.clamp(-SIZE, SIZE), thing.y.clamp(-SIZE, SIZE));
                thing.alive &= !rocket;
            }
            self.things[slot] = thing;
        }
        for rocket in rockets {
            self.spawn(rocket);
        }
        for fighter in deaths {
            let thing = self.mover(fighter);
            self.spawn(thing);
        }
    }

    fn numbers(&self, thing: &Thing) -> [f32; STRIDE] {
        let Thing { x, y, vx, vy, aim, .. } = *thing;
        let whole = [
            thing.kind,
            thing.health,
            u32::from(thing.firing),
            thing.weapon,
            thing.shells,
            thing.kills,
        ]
        .map(|value| value as f32);
        let [kind, health, firing, weapon, shells, kills] = whole;
        let left = 3000 - (self.tick / u64::from(TICK_RATE)) % 3000;
        [
            kind,
            x,
            y,
            vx,
            vy,
            health,
            aim,
            firing,
            weapon,
            shells,
            3.0,
            kills,
            2.0,
            weapon,
            1.0,
            2.0,
            left as f32,
            1.0,
            1.0,
        ]
    }

    /// The world as a view.
    pub fn view(&self) -> Arc<NetView> {
        let mut view = NetView { tick: Tick(self.tick), ..NetView::default() };
        let columns: Vec<(FieldKind, u32)> = (0u32..)
            .zip(&self.schema.components)
            .flat_map(|(index, component)| {
                component.fields.iter().map(move |field| (field.kind, 1 << index))
            })
            .collect();
        for (slot, thing) in (0..).zip(&self.things).filter(|(_, thing)| thing.alive) {
            view.entities.push(NetEntity {
                slot,
                generation: thing.generation,
                components: thing.components,
            });
            for (number, &(kind, component)) in self.numbers(thing).into_iter().zip(&columns) {
                view.values.push(if thing.components & component != 0 {
                    kind.quantise(number)
                } else {
                    0
                });
            }
        }
        Arc::new(view)
    }

    /// The largest difference between the true numbers of floats and angles and those that `view`
    /// stands for, in quanta.
    pub fn worst_error(&self, view: &NetView) -> f64 {
        let stride = self.schema.stride();
        let mut worst = 0.0f64;
        for (index, entity) in view.entities.iter().enumerate() {
            let thing = &self.things[entity.slot as usize];
            let mut column = 0;
            for (component, fields) in self.schema.components.iter().enumerate() {
                for field in &fields.fields {
                    let truth = self.numbers(thing)[column];
                    let shown = field.kind.dequantise(view.row(index, stride)[column]);
                    if entity.components & (1 << component) != 0 {
                        let difference = f64::from(truth) - f64::from(shown);
                        let quanta = match field.kind {
                            FieldKind::Float { min, max, bits } => {
                                difference / (f64::from(max - min) / f64::from((1u32 << bits) - 1))
                            }
                            FieldKind::Angle { bits } => {
                                let step = std::f64::consts::TAU / f64::from(1u32 << bits);
                                (difference / step + f64::from(1u32 << bits) / 2.0)
                                    .rem_euclid(f64::from(1u32 << bits))
                                    - f64::from(1u32 << bits) / 2.0
                            }
                            FieldKind::Unsigned { .. } | FieldKind::Bool => 0.0,
                        };
                        worst = worst.max(quanta.abs());
                    }
                    column += 1;
                }
            }
        }
        worst
    }
}
