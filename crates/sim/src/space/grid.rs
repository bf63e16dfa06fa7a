//! A uniform grid, sorted by counting: which entities are near a place.
//!
//! Building it takes one pass over the places for the extent, one that counts and one that sorts;
//! it is made anew when something moved ([`crate::ecs::index`]). Within a cell entities ascend by
//! slot, and every answer is put in an order that does not depend on cells.

use std::any::{Any, TypeId, type_name};

use crate::ecs::index::{Follower, FollowerType};
use crate::ecs::registry::{Access, Registry};
use crate::ecs::system::SystemParam;
use crate::ecs::world::World;
use crate::space::Place;
use crate::storage::column::{AnyColumn, Column, slots};
use crate::storage::entities::Entities;
use crate::storage::stamp::{Run, Stamp, StampOf};
use crate::value::entity::Entity;

/// Cells that a grid has at least, and for each entity at most: cells grow until it fits.
const CELLS: usize = 64;
const CELLS_PER_ENTITY: usize = 4;

/// Finds entities by place. Those whose place is not finite are in no answer.
///
/// ```
/// use rekindle_sim::doc_game::{Coin, Duel};
/// use rekindle_sim::{Grid, Harness};
///
/// let mut duel = Harness::<Duel>::with_config(7, r#"{"coins": 0}"#);
/// let coins: Vec<_> =
///     (0..5).map(|_| duel.world_mut().spawn(Coin { worth: 1 })).collect();
/// let places = coins.iter().enumerate().map(|(n, coin)| (*coin, [n as f32 * 10.0, 0.0]));
/// let grid = Grid::new(8.0, places);
/// assert_eq!(grid.within([9.0, 0.0], 12.0), [coins[0], coins[1], coins[2]]);
/// assert_eq!(grid.inside([15.0, -1.0], [35.0, 1.0]), [coins[2], coins[3]]);
/// let nearest = grid.nearest([31.0, 0.0], 2);
/// assert_eq!(nearest.iter().map(|near| near.entity).collect::<Vec<_>>(), [coins[3], coins[4]]);
/// // A ray from x = 5 to the right, against circles of radius 1.
/// let hits = grid.ray([5.0, 0.5], [1.0, 0.0], 30.0, 1.0);
/// assert_eq!(hits[0].entity, coins[1]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Grid {
    cell: f32,
    min: [f32; 2],
    columns: usize,
    rows: usize,
    /// Where the entities of each cell begin; one more at the end.
    starts: Vec<u32>,
    items: Vec<Item>,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    entity: Entity,
    at: [f32; 2],
}

/// An entity, and how far it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Near {
    /// Which.
    pub entity: Entity,
    /// How far: from the place that was asked for, or along the ray.
    pub distance: f32,
}

impl Grid {
    /// A grid of cells of this size over entities, ascending by slot, with their places. A cell
    /// about as big as what is asked for is best.
    ///
    /// # Panics
    /// If the size is not finite and positive.
    pub fn new(cell: f32, places: impl IntoIterator<Item = (Entity, [f32; 2])>) -> Self {
        assert!(cell.is_finite() && cell > 0.0, "cells of size {cell}: give a positive one");
        let items = places.into_iter().filter(|(_, at)| finite(*at));
        let items: Vec<Item> = items.map(|(entity, at)| Item { entity, at }).collect();
        let mut grid = Self::default();
        grid.fill(cell, &items, &mut Vec::new());
        grid
    }

    /// Makes it anew in the memory that it has. `cells` is room to work in.
    fn fill(&mut self, cell: f32, items: &[Item], cells: &mut Vec<u32>) {
        (self.cell, self.columns, self.rows) = (cell, 0, 0);
        self.lay_out(items);
        self.sort(items, cells);
    }

    /// How many entities are in it.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Chooses extent and size of cells.
    fn lay_out(&mut self, items: &[Item]) {
        let Some(first) = items.first() else { return };
        let (mut min, mut max) = (first.at, first.at);
        for Item { at, .. } in items {
            for axis in 0..2 {
                min[axis] = min[axis].min(at[axis]);
                max[axis] = max[axis].max(at[axis]);
            }
        }
        self.min = min;
        let most = (items.len() * CELLS_PER_ENTITY).max(CELLS);
        loop {
            let count = |axis: usize| ((max[axis] - min[axis]) / self.cell) as usize;
            (self.columns, self.rows) = (count(0).saturating_add(1), count(1).saturating_add(1));
            if self.columns.saturating_mul(self.rows) <= most {
                return;
            }
            self.cell *= 2.0;
        }
    }

    fn sort(&mut self, items: &[Item], cells: &mut Vec<u32>) {
        self.starts.clear();
        self.starts.resize(self.columns * self.rows + 1, 0);
        cells.clear();
        cells.extend(items.iter().map(|item| self.cell_of(item.at) as u32));
        for cell in cells.iter() {
            self.starts[*cell as usize] += 1;
        }
        // Each cell has where it ends, until its items have come, the last of them first.
        for cell in 1..self.starts.len() {
            self.starts[cell] += self.starts[cell - 1];
        }
        self.items.clear();
        self.items.extend_from_slice(items);
        for (item, cell) in items.iter().zip(cells.iter()).rev() {
            let start = &mut self.starts[*cell as usize];
            *start -= 1;
            self.items[*start as usize] = *item;
        }
    }

    /// The column or row of a coordinate, kept inside.
    fn lane(&self, at: f32, axis: usize) -> usize {
        let lanes = if axis == 0 { self.columns } else { self.rows };
        // From a float to an integer keeps inside: below is 0, above the greatest, no number is 0.
        (((at - self.min[axis]) / self.cell) as usize).min(lanes.saturating_sub(1))
    }

    fn cell_of(&self, at: [f32; 2]) -> usize {
        self.lane(at[1], 1) * self.columns + self.lane(at[0], 0)
    }

    /// The entities in cells that touch a box.
    fn touching(&self, min: [f32; 2], max: [f32; 2]) -> impl Iterator<Item = &Item> {
        let rows =
            if self.is_empty() { 0..0 } else { self.lane(min[1], 1)..self.lane(max[1], 1) + 1 };
        let (left, right) = (self.lane(min[0], 0), self.lane(max[0], 0));
        rows.flat_map(move |row| {
            let from = self.starts[row * self.columns + left] as usize;
            let to = self.starts[row * self.columns + right + 1] as usize;
            &self.items[from..to.max(from)]
        })
    }

    /// The entities in a circle, its edge included, ascending by slot.
    pub fn within(&self, center: [f32; 2], radius: f32) -> Vec<Entity> {
        let mut near = Vec::new();
        self.each_within(center, radius, |entity| near.push(entity));
        ascending(near)
    }

    /// As [`Grid::within`], without a list, which would be allocated: `visit` is told each entity,
    /// in an order that is the same on every node and that goes by their places, not by slot.
    pub fn each_within(&self, center: [f32; 2], radius: f32, mut visit: impl FnMut(Entity)) {
        let (min, max) = around(center, radius);
        for item in self.touching(min, max) {
            if square(from_to(center, item.at)) <= radius * radius {
                visit(item.entity);
            }
        }
    }

    /// The entities in a box, its edges included, ascending by slot.
    pub fn inside(&self, min: [f32; 2], max: [f32; 2]) -> Vec<Entity> {
        let fits = |at: [f32; 2]| (0..2).all(|axis| at[axis] >= min[axis] && at[axis] <= max[axis]);
        let inside = self.touching(min, max).filter(|item| fits(item.at));
        ascending(inside.map(|item| item.entity).collect())
    }

    /// The `count` entities that are nearest to a place: ascending by distance, those as far as
    /// each other by slot.
    pub fn nearest(&self, center: [f32; 2], count: usize) -> Vec<Near> {
        if !(center[0].is_finite() && center[1].is_finite()) {
            return Vec::new();
        }
        let mut radius = self.cell;
        loop {
            let (min, max) = around(center, radius);
            let near = self.touching(min, max).map(|item| Near {
                entity: item.entity,
                distance: square(from_to(center, item.at)).sqrt(),
            });
            let mut near: Vec<Near> = near.collect();
            by_distance(&mut near);
            // What is in the circle is complete; beyond it something nearer may be missing.
            let complete = near.iter().filter(|near| near.distance <= radius).count();
            if complete >= count || near.len() == self.items.len() {
                near.truncate(count);
                return near;
            }
            radius *= 2.0;
            if !radius.is_finite() {
                radius = f32::MAX;
            }
        }
    }

    /// The entities, as circles of `radius`, that a ray of `length` meets: ascending by the
    /// distance to where it enters the circle (0 if it begins inside), those as far as each other
    /// by slot. `direction` need not be of length 1; nothing is met without one.
    pub fn ray(&self, from: [f32; 2], direction: [f32; 2], length: f32, radius: f32) -> Vec<Near> {
        let size = square(direction).sqrt();
        if !(size > 0.0 && size.is_finite() && length >= 0.0) {
            return Vec::new();
        }
        let along = [direction[0] / size, direction[1] / size];
        let to = [from[0] + along[0] * length, from[1] + along[1] * length];
        let mut hits = Vec::new();
        self.strips(from, to, radius, |item| {
            if let Some(distance) = enters(from_to(from, item.at), along, radius)
                && distance <= length
            {
                hits.push(Near { entity: item.entity, distance });
            }
        });
        by_distance(&mut hits);
        hits
    }

    /// Visits each entity of the cells that a thick line touches once: row by row, in each the
    /// columns between which the line crosses it.
    fn strips(&self, from: [f32; 2], to: [f32; 2], radius: f32, mut visit: impl FnMut(&Item)) {
        if self.is_empty() {
            return;
        }
        let (low, high) = if from[1] <= to[1] { (from, to) } else { (to, from) };
        let slope = (high[0] - low[0]) / (high[1] - low[1]);
        for row in self.lane(low[1] - radius, 1)..=self.lane(high[1] + radius, 1) {
            let bottom = self.min[1] + row as f32 * self.cell - radius;
            let top = bottom + self.cell + 2.0 * radius;
            // A level line has no slope; the first and last row hold what lies beyond the grid.
            let outer = row == 0 || row + 1 == self.rows;
            let (a, b) = if slope.is_finite() && !outer {
                let x = |y: f32| low[0] + (y.clamp(low[1], high[1]) - low[1]) * slope;
                (x(bottom), x(top))
            } else {
                (low[0], high[0])
            };
            let (left, right) = (a.min(b) - radius - self.cell, a.max(b) + radius + self.cell);
            let first = self.starts[row * self.columns + self.lane(left, 0)] as usize;
            let last = self.starts[row * self.columns + self.lane(right, 0) + 1] as usize;
            self.items[first..last.max(first)].iter().for_each(&mut visit);
        }
    }
}

fn finite(at: [f32; 2]) -> bool {
    at[0].is_finite() && at[1].is_finite()
}

fn around(center: [f32; 2], radius: f32) -> ([f32; 2], [f32; 2]) {
    ([center[0] - radius, center[1] - radius], [center[0] + radius, center[1] + radius])
}

fn from_to(from: [f32; 2], to: [f32; 2]) -> [f32; 2] {
    [to[0] - from[0], to[1] - from[1]]
}

fn square(of: [f32; 2]) -> f32 {
    of[0] * of[0] + of[1] * of[1]
}

/// How far along a line of length 1 a circle around `center` is entered; `None` if it is missed or
/// lies behind.
fn enters(center: [f32; 2], along: [f32; 2], radius: f32) -> Option<f32> {
    let middle = center[0] * along[0] + center[1] * along[1];
    let inside = square(center) <= radius * radius;
    let beside = center[0] * along[1] - center[1] * along[0];
    let half = radius * radius - beside * beside;
    if inside {
        Some(0.0)
    } else if half >= 0.0 && middle >= 0.0 {
        Some((middle - half.sqrt()).max(0.0))
    } else {
        None
    }
}

fn ascending(mut entities: Vec<Entity>) -> Vec<Entity> {
    entities.sort_unstable();
    entities
}

pub(crate) fn by_distance(near: &mut [Near]) {
    near.sort_unstable_by(|a, b| a.distance.total_cmp(&b.distance).then(a.entity.cmp(&b.entity)));
}

/// The grid of a world over all entities with a `P`.
pub(crate) struct HeldGrid<P> {
    cell: f32,
    grid: Grid,
    /// The slots that are in it, as words of bits.
    held: Vec<u64>,
    /// Room to make it anew in.
    places: Vec<Item>,
    cells: Vec<u32>,
    of: std::marker::PhantomData<fn(P)>,
}

impl<P: Place> Follower for HeldGrid<P> {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn follow(&mut self, column: &dyn AnyColumn, entities: &Entities, since: Stamp) {
        let Some(column) = column.as_any().downcast_ref::<Column<P>>() else { return };
        let present = column.present();
        if self.held == present && !column.any_newer(since, StampOf::Change) {
            return;
        }
        self.held.clear();
        self.held.extend_from_slice(present);
        self.places.clear();
        for slot in slots(present) {
            column.with(slot, |place| {
                let at = place.place();
                if finite(at) {
                    self.places.push(Item { entity: entities.in_slot(slot), at });
                }
            });
        }
        self.grid.fill(self.cell, &self.places, &mut self.cells);
    }
}

/// The [`Grid`] over all entities with a `P`, declared with
/// [`GameBuilder::spatial`](crate::GameBuilder::spatial). As of the last fixed point: before the
/// systems of a tick, at the end of each stage.
///
/// ```
/// use rekindle_sim::{Component, Entity, IntoSystems as _, Place, Query, Spatial};
///
/// #[derive(Clone, Component)]
/// #[component(id = "at")]
/// struct At { x: f32, y: f32 }
/// # impl Place for At {
/// #     fn place(&self) -> [f32; 2] { [self.x, self.y] }
/// #     fn set_place(&mut self, [x, y]: [f32; 2]) { (self.x, self.y) = (x, y); }
/// # }
/// #[derive(Clone, Component)]
/// #[component(id = "crowd")]
/// struct Crowd(u32);
///
/// # fn build<G: rekindle_sim::Game>(game: &mut rekindle_sim::GameBuilder<G>) {
/// game.spatial::<At>(4.0); // cells of 4 metres
/// # }
/// fn count_neighbours(grid: Spatial<At>, mut all: Query<(&At, &mut Crowd)>) {
///     for (at, mut crowd) in &mut all {
///         let near = grid.within(at.place(), 4.0).len() as u32;
///         crowd.set_if_neq(Crowd(near));
///     }
/// }
/// # impl PartialEq for Crowd { fn eq(&self, other: &Self) -> bool { self.0 == other.0 } }
/// let system = count_neighbours.every(5);
/// ```
pub struct Spatial<'w, P: Place> {
    grid: &'w Grid,
    of: std::marker::PhantomData<fn(P)>,
}

impl<P: Place> std::ops::Deref for Spatial<'_, P> {
    type Target = Grid;
    fn deref(&self) -> &Grid {
        self.grid
    }
}

impl<P: Place> SystemParam for Spatial<'_, P> {
    type State = usize;
    type Item<'w> = Spatial<'w, P>;
    fn init(registry: &Registry, access: &mut Access) -> usize {
        registry.follower::<HeldGrid<P>>(access, || {
            format!(
                "there is no grid of `{0}`: add `game.spatial::<{0}>(cell)` in `Game::build`",
                type_name::<P>()
            )
        })
    }
    fn get<'w>(state: &'w usize, world: &'w World, _run: &Run) -> Option<Spatial<'w, P>> {
        let grid = &world.follower::<HeldGrid<P>>(*state)?.grid;
        Some(Spatial { grid, of: std::marker::PhantomData })
    }
}

impl FollowerType {
    /// A grid of cells of this size.
    pub(crate) fn grid<P: Place>(cell: f32) -> Self {
        Self {
            type_id: TypeId::of::<HeldGrid<P>>(),
            make: Box::new(move || {
                Box::new(HeldGrid::<P> {
                    cell,
                    grid: Grid::default(),
                    held: Vec::new(),
                    places: Vec::new(),
                    cells: Vec::new(),
                    of: std::marker::PhantomData,
                })
            }),
            find: Registry::component::<P>,
            name: format!("grid of `{}` with cells of {cell}", type_name::<P>()),
            column: usize::MAX,
        }
    }
}

impl World {
    /// The grid over all entities with a `P`, as things are now. For `setup`, `join`, `leave`,
    /// `command`, hooks and tests; systems have [`Spatial`].
    ///
    /// # Panics
    /// If it is not declared.
    pub fn grid<P: Place>(&mut self) -> &Grid {
        let held = self.follower_now::<HeldGrid<P>>();
        let Some(held) = held else {
            panic!(
                "there is no grid of `{0}`: add `game.spatial::<{0}>(cell)` in `Game::build`",
                type_name::<P>()
            )
        };
        &held.grid
    }
}

#[cfg(test)]
mod tests {
    use rekindle_schema::Tick;

    use super::*;
    use crate::Rng;

    fn scatter(seed: u64, count: u32, wide: f32) -> Vec<(Entity, [f32; 2])> {
        let mut rng = Rng::stream(seed, Tick(0), 0);
        let mut place = |slot| {
            // Many share a place, some lie far away, some nowhere.
            let at = match rng.below(10) {
                0 => [3.0, 3.0],
                1 => [rng.range(-9.0, 9.0) * wide, 0.0],
                2 if slot % 7 == 0 => [f32::NAN, 1.0],
                _ => [rng.range(-wide, wide), rng.range(-wide, wide)],
            };
            (Entity::from_parts(slot, 0), at)
        };
        (0..count).map(&mut place).collect()
    }

    /// As a grid answers, by looking at all.
    fn all_near(all: &[(Entity, [f32; 2])], center: [f32; 2]) -> Vec<Near> {
        let finite = all.iter().filter(|(_, at)| at[0].is_finite());
        let near = finite.map(|(entity, at)| Near {
            entity: *entity,
            distance: square(from_to(center, *at)).sqrt(),
        });
        let mut near: Vec<Near> = near.collect();
        by_distance(&mut near);
        near
    }

    #[test]
    fn a_grid_answers_as_a_look_at_all_would() {
        for seed in 0..60 {
            let wide = [1.0, 30.0, 2_000.0][seed as usize % 3];
            let all = scatter(seed, [0, 1, 5, 300][seed as usize % 4], wide);
            let grid = Grid::new([0.5, 3.0, 40.0][seed as usize / 3 % 3], all.iter().copied());
            let mut rng = Rng::stream(seed, Tick(1), 0);
            for _ in 0..40 {
                let center = [rng.range(-1.5, 1.5) * wide, rng.range(-1.5, 1.5) * wide];
                let radius = rng.unit() * wide;
                let near = all_near(&all, center);
                let in_circle = |at: [f32; 2]| square(from_to(center, at)) <= radius * radius;
                let expected =
                    all.iter().filter(|(_, at)| in_circle(*at)).map(|(entity, _)| *entity);
                assert_eq!(grid.within(center, radius), expected.collect::<Vec<_>>());
                let count = rng.below(6) as usize;
                assert_eq!(grid.nearest(center, count), near[..count.min(near.len())]);
                let (min, max) = around(center, radius);
                let fits = |at: &[f32; 2]| {
                    at[0] >= min[0] && at[0] <= max[0] && at[1] >= min[1] && at[1] <= max[1]
                };
                let expected = all.iter().filter(|(_, at)| fits(at)).map(|(entity, _)| *entity);
                assert_eq!(grid.inside(min, max), expected.collect::<Vec<_>>());
                ray_as_by_all(&grid, &all, center, &mut rng, wide);
            }
        }
    }

    fn ray_as_by_all(
        grid: &Grid,
        all: &[(Entity, [f32; 2])],
        from: [f32; 2],
        rng: &mut Rng,
        wide: f32,
    ) {
        let direction = match rng.below(5) {
            0 => [1.0, 0.0],
            1 => [0.0, -2.0],
            _ => [rng.range(-1.0, 1.0), rng.range(-1.0, 1.0)],
        };
        let (length, radius) = (rng.unit() * 3.0 * wide, rng.unit() * wide / 5.0);
        let size = square(direction).sqrt();
        let along = [direction[0] / size, direction[1] / size];
        let hit = |(entity, at): &(Entity, [f32; 2])| {
            let distance = enters(from_to(from, *at), along, radius)?;
            (distance <= length && at[0].is_finite()).then_some(Near { entity: *entity, distance })
        };
        let mut expected: Vec<Near> = all.iter().filter_map(hit).collect();
        by_distance(&mut expected);
        assert_eq!(grid.ray(from, direction, length, radius), expected, "{from:?} {direction:?}");
    }

    #[test]
    fn a_ray_without_direction_and_an_empty_grid_meet_nothing() {
        let grid = Grid::new(1.0, [(Entity::from_parts(0, 0), [0.0, 0.0])]);
        assert!(grid.ray([0.0; 2], [0.0; 2], 5.0, 1.0).is_empty());
        assert_eq!(grid.ray([0.0; 2], [1.0, 0.0], 5.0, 1.0)[0].distance.to_bits(), 0);
        let empty = Grid::new(1.0, []);
        assert!(empty.nearest([0.0; 2], 3).is_empty() && empty.within([0.0; 2], 9.0).is_empty());
        assert!(empty.ray([0.0; 2], [1.0, 0.0], 5.0, 1.0).is_empty());
    }

    #[test]
    fn a_few_entities_far_apart_take_few_cells() {
        let far = [(0, [-1e30, 0.0]), (1, [1e30, 1e30])];
        let grid = Grid::new(0.1, far.map(|(slot, at)| (Entity::from_parts(slot, 0), at)));
        assert!(grid.starts.len() <= CELLS + 1);
        assert_eq!(grid.nearest([1e30, 1e30], 1)[0].entity, Entity::from_parts(1, 0));
    }
}
