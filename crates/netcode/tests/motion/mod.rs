//! A small world that moves like a game: accelerating, turning, colliding with walls, shooting, dying and coming back.
//! Shared by the tests and the benchmarks; deterministic from its seed.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::allow_attributes, reason = "each user takes its own part")]

use std::sync::Arc;

use rekindle_netcode::{dequantise, quantise};
use rekindle_schema::Tick;
use rekindle_schema::net::{FieldKind, NetComponent, NetEntity, NetField, NetSchema, NetView};

pub const TICK_RATE: u16 = 30;
pub const BODY: u32 = 0b0001;
pub const FIGHTER: u32 = 0b0010;
pub const SHOT: u32 = 0b0100;
pub const RULES: u32 = 0b1000;
/// World size.
const SIZE: f32 = 200.0;

pub fn schema() -> Arc<NetSchema> {
    let float = |min, max, bits| FieldKind::Float { min, max, bits };
    let field = |name: &str, kind, rate| NetField { name: name.into(), kind, rate };
    let component = |name: &str, fields| NetComponent { name: name.into(), fields };
    Arc::new(NetSchema {
        components: vec![
            component(
                "body",
                vec![
                    field("x", float(0.0, SIZE, 15), Some(2)),
                    field("y", float(0.0, SIZE, 15), Some(3)),
                    field("vx", float(-64.0, 64.0, 12), None),
                    field("vy", float(-64.0, 64.0, 12), None),
                ],
            ),
            component(
                "fighter",
                vec![
                    field("aim", FieldKind::Angle { bits: 10 }, None),
                    field("health", FieldKind::Unsigned { bits: 7 }, None),
                    field("weapon", FieldKind::Unsigned { bits: 3 }, None),
                    field("ammo", FieldKind::Unsigned { bits: 8 }, None),
                    field("team", FieldKind::Bool, None),
                    field("score", FieldKind::Unsigned { bits: 16 }, None),
                ],
            ),
            component(
                "shot",
                vec![field("owner", FieldKind::Unsigned { bits: 16 }, None), field("kind", FieldKind::Unsigned { bits: 3 }, None)],
            ),
            component(
                "rules",
                vec![field("left", FieldKind::Unsigned { bits: 12 }, None), field("phase", FieldKind::Unsigned { bits: 2 }, None)],
            ),
        ],
        position: Some((0, 1)),
    })
}

/// splitmix64.
#[derive(Clone)]
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
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
    x: f32,
    y: f32,
    vx: f32,
    vy: f32,
    ax: f32,
    ay: f32,
    aim: f32,
    turn: f32,
    health: u32,
    weapon: u32,
    ammo: u32,
    score: u32,
    owner: u32,
    until: u64,
}

#[derive(Clone)]
pub struct Motion {
    pub schema: Arc<NetSchema>,
    pub tick: u64,
    rng: Rng,
    things: Vec<Thing>,
    fighters: usize,
    /// Chance per fighter and tick to fire a projectile.
    pub fire: f32,
    /// Chance per fighter and tick to die.
    pub death: f32,
}

impl Motion {
    /// `fighters` that move all the time, and one entity with the rules of the match.
    pub fn new(seed: u64, fighters: usize) -> Self {
        let mut motion = Self { schema: schema(), tick: 0, rng: Rng(seed), things: Vec::new(), fighters, fire: 0.02, death: 0.002 };
        motion.spawn(Thing { components: RULES, ..Thing::default() });
        for _ in 0..fighters {
            let thing = motion.fighter();
            motion.spawn(thing);
        }
        motion
    }

    fn fighter(&mut self) -> Thing {
        let mut place = || 10.0 + self.rng.unit() * (SIZE - 20.0);
        let (x, y) = (place(), place());
        Thing { components: BODY | FIGHTER, x, y, health: 100, ammo: 30, weapon: self.rng.below(4) as u32, ..Thing::default() }
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
        let (mut shots, mut deaths) = (Vec::new(), 0);
        for slot in 0..self.things.len() {
            let mut thing = self.things[slot];
            if !thing.alive {
                continue;
            }
            if thing.components & FIGHTER != 0 {
                if self.tick >= thing.until {
                    let angle = self.rng.unit() * std::f32::consts::TAU;
                    let push = if self.rng.chance(0.15) { 0.0 } else { 40.0 };
                    (thing.ax, thing.ay) = (angle.cos() * push, angle.sin() * push);
                    thing.turn = (self.rng.unit() - 0.5) * 6.0;
                    thing.until = self.tick + 6 + self.rng.below(24);
                }
                thing.vx = (thing.vx + thing.ax * dt) * 0.96;
                thing.vy = (thing.vy + thing.ay * dt) * 0.96;
                if self.rng.chance(0.6) {
                    thing.aim += thing.turn * dt + (self.rng.unit() - 0.5) * 0.02;
                }
                if self.rng.chance(self.fire) {
                    thing.ammo = thing.ammo.checked_sub(1).unwrap_or(30);
                    let (vx, vy) = (thing.aim.cos() * 45.0, thing.aim.sin() * 45.0);
                    let until = self.tick + 20 + self.rng.below(30);
                    shots.push(Thing {
                        components: BODY | SHOT,
                        x: thing.x,
                        y: thing.y,
                        vx,
                        vy,
                        owner: slot as u32,
                        until,
                        ..Thing::default()
                    });
                }
                if self.rng.chance(0.01) {
                    thing.health = thing.health.saturating_sub(10).max(1);
                }
                if self.rng.chance(self.death) {
                    thing.alive = false;
                    deaths += 1;
                }
            }
            if thing.components & BODY != 0 {
                thing.x += thing.vx * dt;
                thing.y += thing.vy * dt;
                if !(1.0..=SIZE - 1.0).contains(&thing.x) {
                    thing.x = thing.x.clamp(1.0, SIZE - 1.0);
                    thing.vx = 0.0;
                    thing.alive &= thing.components & SHOT == 0;
                }
                if !(1.0..=SIZE - 1.0).contains(&thing.y) {
                    thing.y = thing.y.clamp(1.0, SIZE - 1.0);
                    thing.vy = 0.0;
                    thing.alive &= thing.components & SHOT == 0;
                }
            }
            if thing.components & SHOT != 0 && self.tick >= thing.until {
                thing.alive = false;
            }
            self.things[slot] = thing;
        }
        for shot in shots {
            self.spawn(shot);
        }
        for _ in 0..deaths {
            let thing = self.fighter();
            self.spawn(thing);
        }
    }

    fn numbers(&self, thing: &Thing) -> [f32; 14] {
        let Thing { x, y, vx, vy, aim, .. } = *thing;
        let whole = [thing.health, thing.weapon, thing.ammo, thing.owner % 2, thing.score, thing.owner, 1].map(|value| value as f32);
        let [health, weapon, ammo, team, score, owner, kind] = whole;
        let left = 3000 - (self.tick / u64::from(TICK_RATE)) % 3000;
        [x, y, vx, vy, aim, health, weapon, ammo, team, score, owner, kind, left as f32, 1.0]
    }

    /// The world as a view.
    pub fn view(&self) -> Arc<NetView> {
        let mut view = NetView { tick: Tick(self.tick), ..NetView::default() };
        let columns: Vec<(FieldKind, u32)> = (0u32..)
            .zip(&self.schema.components)
            .flat_map(|(index, component)| component.fields.iter().map(move |field| (field.kind, 1 << index)))
            .collect();
        for (slot, thing) in (0..).zip(&self.things).filter(|(_, thing)| thing.alive) {
            view.entities.push(NetEntity { slot, generation: thing.generation, components: thing.components });
            for (number, &(kind, component)) in self.numbers(thing).into_iter().zip(&columns) {
                view.values.push(if thing.components & component != 0 { quantise(kind, number) } else { 0 });
            }
        }
        Arc::new(view)
    }

    /// The largest difference between the true numbers of floats and angles and those that `view` stands for, in quanta.
    pub fn worst_error(&self, view: &NetView) -> f64 {
        let stride = self.schema.stride();
        let mut worst = 0.0f64;
        for (index, entity) in view.entities.iter().enumerate() {
            let thing = &self.things[entity.slot as usize];
            let mut column = 0;
            for (component, fields) in self.schema.components.iter().enumerate() {
                for field in &fields.fields {
                    let truth = self.numbers(thing)[column];
                    let shown = dequantise(field.kind, view.row(index, stride)[column]);
                    if entity.components & (1 << component) != 0 {
                        let difference = f64::from(truth) - f64::from(shown);
                        let quanta = match field.kind {
                            FieldKind::Float { min, max, bits } => difference / (f64::from(max - min) / f64::from((1u32 << bits) - 1)),
                            FieldKind::Angle { bits } => {
                                let step = std::f64::consts::TAU / f64::from(1u32 << bits);
                                (difference / step + f64::from(1u32 << bits) / 2.0).rem_euclid(f64::from(1u32 << bits))
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

    pub fn fighters(&self) -> usize {
        self.fighters
    }
}
