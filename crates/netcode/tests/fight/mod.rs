//! A fighting arena as a source of views. Shared by the tests and the benchmarks.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::allow_attributes,
    reason = "each user takes its own part"
)]

use std::sync::Arc;

use rekindle_arena::Arena;
use rekindle_arena::components::{Aim, Position, Velocity};
use rekindle_schema::PlayerId;
use rekindle_schema::net::{FieldKind, NetSchema, NetView};
use rekindle_sim::{Entity, GameType, Harness, Simulation, Typed};

pub struct Fight {
    pub schema: Arc<NetSchema>,
    harness: Harness<Arena>,
    columns: [usize; 5],
    before: Option<Arc<NetView>>,
    /// Entities in all views so far, and those that were elsewhere than in the view before.
    pub entities: u64,
    pub moved: u64,
    pub views: u64,
}

impl Fight {
    /// So many bots that fight each other and so many drones that wander, in the middle of a match.
    pub fn new(seed: u64, fighters: usize, drones: usize) -> Self {
        let json = format!(
            r#"{{"endless":true,"max_players":64,"width":64,"height":48,"movers":{drones},
                "lobby_s":0,"countdown_s":0}}"#
        );
        let schema =
            Typed::<Arena>::new().expect("the arena's schedule is in order").net_schema().clone();
        let column = |component: &str, field: &str| {
            let all = schema.components.iter().flat_map(|component| {
                component.fields.iter().map(|field| (component.name.as_str(), field))
            });
            all.enumerate()
                .find(|(_, (owner, of))| *owner == component && of.name == field)
                .expect("a networked field")
                .0
        };
        let columns = [
            column("arena.position", "x"),
            column("arena.position", "y"),
            column("arena.velocity", "x"),
            column("arena.velocity", "y"),
            column("arena.aim", "angle"),
        ];
        let harness = Harness::with_config(seed, &json).bots(fighters).run(150);
        Self {
            schema: Arc::new(schema),
            harness,
            columns,
            before: None,
            entities: 0,
            moved: 0,
            views: 0,
        }
    }

    pub fn step(&mut self) {
        self.harness.tick();
    }

    pub fn view(&mut self) -> Arc<NetView> {
        let mut view = NetView::default();
        self.harness.simulation().extract(&mut view);
        let stride = self.schema.stride();
        if let Some(before) = &self.before {
            self.views += 1;
            self.entities += view.entities.len() as u64;
            let place = |view: &NetView, at: usize| {
                [0, 1].map(|axis| view.row(at, stride)[self.columns[axis]])
            };
            let moved = |&at: &usize| {
                before
                    .index_of(view.entities[at].slot)
                    .is_some_and(|old| place(before, old) != place(&view, at))
            };
            self.moved += (0..view.entities.len()).filter(moved).count() as u64;
        }
        let view = Arc::new(view);
        self.before = Some(Arc::clone(&view));
        view
    }

    /// The player whose session is the `index`th.
    pub fn player(index: usize) -> PlayerId {
        PlayerId(1_000_000 + index as u64)
    }

    /// The largest difference between places, velocities and angles in the world and those that
    /// `view` stands for, in quanta.
    pub fn worst_error(&mut self, view: &NetView) -> f64 {
        let (stride, columns) = (self.schema.stride(), self.columns);
        let kinds: Vec<FieldKind> = self.schema.columns().map(|field| field.kind).collect();
        let mut worst = 0.0f64;
        let mut compare = |slot: u32, column: usize, truth: f32| {
            let at = view.index_of(slot).expect("every entity is shown");
            let off = f64::from(truth)
                - f64::from(kinds[column].dequantise(view.row(at, stride)[column]));
            let off = match kinds[column] {
                FieldKind::Float { min, max, bits } => {
                    (off.min(f64::from(max - min)))
                        / (f64::from(max - min) / f64::from((1u32 << bits) - 1))
                }
                FieldKind::Angle { bits } => {
                    let turn = std::f64::consts::TAU;
                    ((off + turn / 2.0).rem_euclid(turn) - turn / 2.0)
                        / (turn / f64::from(1u32 << bits))
                }
                FieldKind::Unsigned { .. } | FieldKind::Bool => off,
            };
            worst = worst.max(off.abs());
        };
        self.harness
            .world_mut()
            .query::<(Entity, &Position, Option<&Velocity>, Option<&Aim>), (), _>(|all| {
                for (entity, place, velocity, aim) in &all {
                    compare(entity.slot(), columns[0], place.x);
                    compare(entity.slot(), columns[1], place.y);
                    if let Some(velocity) = velocity {
                        compare(entity.slot(), columns[2], velocity.x);
                        compare(entity.slot(), columns[3], velocity.y);
                    }
                    if let Some(aim) = aim {
                        compare(entity.slot(), columns[4], aim.angle);
                    }
                }
            });
        worst
    }
}
