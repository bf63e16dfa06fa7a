//! Drawing between two snapshots.

use std::collections::VecDeque;
use std::sync::Arc;

use rekindle_schema::net::{FieldKind, NetEntity, NetSchema, NetView};

/// How many views an [`Interpolator`] keeps.
const KEPT: usize = 32;

/// The world at a moment between ticks, in numbers.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Scene {
    /// The tick at which the scene is so; between two ticks it has a fraction.
    pub tick: f64,
    /// Ascending by slot.
    pub entities: Vec<NetEntity>,
    /// Row by row, one number for each column; those of absent components are 0.
    pub values: Vec<f32>,
}

impl Scene {
    /// The values of the `index`th entity.
    pub fn row(&self, index: usize, stride: usize) -> &[f32] {
        &self.values[index * stride..(index + 1) * stride]
    }

    /// Where the entity in `slot` stands in the scene.
    pub fn index_of(&self, slot: u32) -> Option<usize> {
        self.entities.binary_search_by_key(&slot, |entity| entity.slot).ok()
    }
}

/// A value `alpha` of the way from one quantum to the other: floats straight, angles by the shorter
/// way, all else stays `a` until `b` is reached.
fn between(kind: FieldKind, a: u32, b: u32, alpha: f32) -> f32 {
    match kind {
        FieldKind::Float { .. } => {
            let (from, to) = (kind.dequantise(a), kind.dequantise(b));
            from + (to - from) * alpha
        }
        FieldKind::Angle { bits } => {
            let bits = u32::from(bits.clamp(1, 24));
            let way = (b.wrapping_sub(a) << (32 - bits)) as i32 >> (32 - bits);
            let step = std::f32::consts::TAU / (1u32 << bits) as f32;
            let angle = kind.dequantise(a) + way as f32 * step * alpha;
            if angle >= std::f32::consts::PI {
                angle - std::f32::consts::TAU
            } else if angle < -std::f32::consts::PI {
                angle + std::f32::consts::TAU
            } else {
                angle
            }
        }
        FieldKind::Unsigned { .. } | FieldKind::Bool => (if alpha >= 1.0 { b } else { a }) as f32,
    }
}

/// The world `alpha` (0 to 1) of the way from view `a` to the later view `b`. Entities that are not
/// the same in both are as in `a`; those that are only in `b` appear when it is reached.
pub fn sample(schema: &NetSchema, a: &NetView, b: &NetView, alpha: f64) -> Scene {
    let kinds: Vec<FieldKind> = schema.columns().map(|field| field.kind).collect();
    let stride = kinds.len();
    let alpha = alpha.clamp(0.0, 1.0);
    let (base, other) = if alpha >= 1.0 { (b, b) } else { (a, b) };
    let tick = a.tick.0 as f64 + (b.tick.0 as f64 - a.tick.0 as f64) * alpha;
    let mut scene = Scene {
        tick,
        entities: base.entities.clone(),
        values: Vec::with_capacity(base.values.len()),
    };
    for (index, entity) in base.entities.iter().enumerate() {
        let row = base.row(index, stride);
        let same = |at: &usize| {
            let there = &other.entities[*at];
            there.generation == entity.generation && there.components == entity.components
        };
        let next = other.index_of(entity.slot).filter(same).map_or(row, |at| other.row(at, stride));
        let mut column = 0;
        for (component, fields) in schema.components.iter().enumerate() {
            let present = entity.components & (1 << component) != 0;
            for _ in &fields.fields {
                scene.values.push(if present {
                    between(kinds[column], row[column], next[column], alpha as f32)
                } else {
                    0.0
                });
                column += 1;
            }
        }
    }
    scene
}

/// Keeps the last views and samples them at any moment.
#[derive(Debug, Clone)]
pub struct Interpolator {
    schema: Arc<NetSchema>,
    views: VecDeque<Arc<NetView>>,
}

impl Interpolator {
    /// Without views.
    pub fn new(schema: Arc<NetSchema>) -> Self {
        Self { schema, views: VecDeque::new() }
    }

    /// Adds a view; late ones are sorted in.
    pub fn push(&mut self, view: Arc<NetView>) {
        let at = self.views.partition_point(|other| other.tick < view.tick);
        if self.views.get(at).is_some_and(|other| other.tick == view.tick) {
            self.views[at] = view;
            return;
        }
        self.views.insert(at, view);
        if self.views.len() > KEPT {
            self.views.pop_front();
        }
    }

    /// The world at `tick`. Before the oldest view it is the oldest, behind the newest it is the
    /// newest; none without views.
    pub fn sample(&self, tick: f64) -> Option<Scene> {
        let after = self.views.partition_point(|view| (view.tick.0 as f64) <= tick);
        let a = self.views.get(after.saturating_sub(1))?;
        let b = self.views.get(after).filter(|_| after > 0).unwrap_or(a);
        let span = b.tick.0 as f64 - a.tick.0 as f64;
        let alpha = if span > 0.0 { (tick - a.tick.0 as f64) / span } else { 0.0 };
        Some(sample(&self.schema, a, b, alpha))
    }

    /// Forgets all views: a rewind, another match.
    pub fn clear(&mut self) {
        self.views.clear();
    }
}
