//! What stands still: boxes and circles in a tree of boxes, made from a game's configuration.
//!
//! Called by games and by [`crate::space::kinematics`]. The tree (a bounding volume hierarchy) is
//! no state: it is a [constant](crate::GameBuilder::constant) of the match, made anew when the
//! match is restored. What it answers is what a look at every solid would answer, in an order that
//! depends on places and on the numbers of the solids alone.

use std::cmp::Ordering;

use crate::Value;
use crate::space::geometry::{Aabb, Vec2, ray_circle, vec2};

/// The outline of a body around its place. Boxes have sides along the axes.
#[derive(Debug, Clone, Copy, PartialEq, Value)]
pub enum Form {
    /// A circle.
    Circle {
        /// Its radius.
        radius: f32,
    },
    /// A box.
    Box {
        /// Half of its width and height.
        half: Vec2,
    },
}

impl Form {
    /// How far it reaches from its place, to the right and upwards.
    pub fn extent(&self) -> Vec2 {
        match *self {
            Self::Circle { radius } => vec2(radius, radius),
            Self::Box { half } => half,
        }
    }

    /// The form at a place.
    pub fn at(&self, at: Vec2) -> Solid {
        match *self {
            Self::Circle { radius } => Solid::Circle { at, radius },
            Self::Box { half } => Solid::Box(Aabb { min: at - half, max: at + half }),
        }
    }
}

/// A form at a place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Solid {
    /// A circle.
    Circle {
        /// Its middle.
        at: Vec2,
        /// Its radius.
        radius: f32,
    },
    /// A box with sides along the axes.
    Box(Aabb),
}

impl Solid {
    /// The smallest box around it.
    pub fn bounds(&self) -> Aabb {
        match *self {
            Self::Circle { at, radius } => {
                let reach = vec2(radius, radius);
                Aabb { min: at - reach, max: at + reach }
            }
            Self::Box(bounds) => bounds,
        }
    }

    /// How far a point is from it; 0 inside.
    pub fn distance(&self, point: Vec2) -> f32 {
        match *self {
            Self::Circle { at, radius } => (at.distance(point) - radius).max(0.0),
            Self::Box(bounds) => bounds.distance(point),
        }
    }

    /// Whether it touches a box.
    pub fn touches(&self, other: &Aabb) -> bool {
        match *self {
            Self::Circle { at, radius } => other.distance(at) <= radius,
            Self::Box(bounds) => overlaps(&bounds, other),
        }
    }

    /// When a form on its way from `from` by `way` first touches it: the part of the way before
    /// that, `0..=1`. A form that touches it already is 0, wherever it goes.
    pub fn sweep(&self, form: Form, from: Vec2, way: Vec2) -> Option<f32> {
        match (*self, form) {
            (Self::Circle { at, radius }, Form::Circle { radius: own }) => {
                ray_circle(from, way, at, radius + own)
            }
            (Self::Box(bounds), Form::Circle { radius }) => bounds.sweep(from, way, radius),
            // As if the circle moved and the box stood still.
            (Self::Circle { at, radius }, Form::Box { half }) => {
                Aabb { min: from - half, max: from + half }.sweep(at, -way, radius)
            }
            (Self::Box(bounds), Form::Box { half }) => {
                Aabb { min: bounds.min - half, max: bounds.max + half }.entry(from, way)
            }
        }
    }

    /// The gap between it and a form at a place, less than 0 if they overlap, and the direction of
    /// length 1 in which the form leaves it soonest.
    pub fn gap(&self, form: Form, at: Vec2) -> (f32, Vec2) {
        match (*self, form) {
            (Self::Circle { at: middle, radius }, Form::Circle { radius: own }) => {
                let away = at - middle;
                (away.length() - radius - own, outwards(away))
            }
            (Self::Box(bounds), Form::Circle { radius }) => circle_from_box(&bounds, at, radius),
            (Self::Circle { at: middle, radius }, Form::Box { half }) => {
                let bounds = Aabb { min: at - half, max: at + half };
                let (gap, away) = circle_from_box(&bounds, middle, radius);
                (gap, -away)
            }
            (Self::Box(bounds), Form::Box { half }) => {
                let grown = Aabb { min: bounds.min - half, max: bounds.max + half };
                box_from_point(&grown, at)
            }
        }
    }
}

/// The direction of a vector; upwards if it has none.
fn outwards(away: Vec2) -> Vec2 {
    if away == Vec2::ZERO { vec2(0.0, 1.0) } else { away.normalised() }
}

fn circle_from_box(bounds: &Aabb, at: Vec2, radius: f32) -> (f32, Vec2) {
    let away = at - bounds.closest(at);
    if away == Vec2::ZERO {
        let (gap, normal) = box_from_point(bounds, at);
        (gap - radius, normal)
    } else {
        (away.length() - radius, away.normalised())
    }
}

/// The gap of a point to a box, and the axis along which it is largest.
fn box_from_point(bounds: &Aabb, at: Vec2) -> (f32, Vec2) {
    let sides = [
        (bounds.min.x - at.x, vec2(-1.0, 0.0)),
        (at.x - bounds.max.x, vec2(1.0, 0.0)),
        (bounds.min.y - at.y, vec2(0.0, -1.0)),
        (at.y - bounds.max.y, vec2(0.0, 1.0)),
    ];
    let [first, rest @ ..] = sides;
    let (gap, normal) =
        rest.into_iter().fold(first, |most, side| if side.0 > most.0 { side } else { most });
    (if gap > 0.0 { bounds.distance(at) } else { gap }, normal)
}

#[inline]
fn overlaps(a: &Aabb, b: &Aabb) -> bool {
    a.min.x <= b.max.x && a.max.x >= b.min.x && a.min.y <= b.max.y && a.max.y >= b.min.y
}

/// A solid that was found: its number, and how far it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Its place in the list that the scenery was made of.
    pub solid: usize,
    /// How far: from the place that was asked for, or along the ray.
    pub distance: f32,
}

/// Solids in a leaf of the tree, at most.
const LEAF: usize = 4;

/// Boxes and circles that stand still, found by place.
///
/// A game declares them with [`GameBuilder::scenery`](crate::GameBuilder::scenery); systems read
/// `Const<Scenery>`. Ten walls need no tree: a loop over them is nearly as fast.
///
/// ```
/// use rekindle_sim::geometry::{Aabb, vec2};
/// use rekindle_sim::{Scenery, Solid};
///
/// let scenery = Scenery::new(vec![
///     Solid::Box(Aabb::around(vec2(10.0, 0.0), 2.0, 8.0)),
///     Solid::Circle { at: vec2(0.0, 5.0), radius: 1.0 },
///     Solid::Circle { at: vec2(20.0, 0.0), radius: 3.0 },
/// ]);
/// assert_eq!(scenery.within(vec2(0.0, 0.0), 4.0), [1]);
/// assert_eq!(scenery.inside(vec2(8.0, -1.0), vec2(18.0, 1.0)), [0, 2]);
/// // A ray to the right meets the box, and behind it the circle.
/// let met = scenery.ray(vec2(0.0, 0.0), vec2(1.0, 0.0), 30.0, 0.0);
/// assert_eq!((met[0].solid, met[0].distance), (0, 9.0));
/// assert_eq!((met[1].solid, met[1].distance), (2, 17.0));
/// assert_eq!(scenery.nearest(vec2(14.0, 0.0), 1)[0].solid, 0);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Scenery {
    solids: Vec<Solid>,
    /// The numbers of the solids, leaf by leaf.
    order: Vec<u32>,
    /// The tree, each node before those below it.
    nodes: Vec<Node>,
}

#[derive(Debug, Clone, Copy)]
struct Node {
    /// A box around all below it, grown so that no rounding hides one of them.
    bounds: Aabb,
    /// The node to go on with if this one is of no interest.
    next: u32,
    /// Of a leaf: where its solids are in `order`. Of others an empty range.
    from: u32,
    to: u32,
}

impl Scenery {
    /// A tree over solids. They keep the numbers that they have in this list.
    ///
    /// # Panics
    /// If one of them has a place or a size that is not finite, or a size below 0: the
    /// configuration is refused with these words.
    pub fn new(solids: Vec<Solid>) -> Self {
        for (number, solid) in solids.iter().enumerate() {
            let Aabb { min, max } = solid.bounds();
            let fine = [min.x, min.y, max.x, max.y].iter().all(|at| at.is_finite());
            assert!(
                fine && min.x <= max.x && min.y <= max.y,
                "solid {number} of the scenery is {solid:?}: give finite places, and sizes that \
                 are not negative"
            );
        }
        let mut scenery = Self { order: (0..solids.len() as u32).collect(), ..Self::default() };
        scenery.solids = solids;
        if !scenery.solids.is_empty() {
            scenery.branch(0, scenery.solids.len());
        }
        scenery
    }

    /// Makes the part of the tree over a stretch of `order`, which is halved by the longer side of
    /// where the middles are.
    fn branch(&mut self, from: usize, to: usize) {
        let mut bounds = self.solids[self.order[from] as usize].bounds();
        let mut middles = Aabb { min: middle(&bounds), max: middle(&bounds) };
        for number in &self.order[from..to] {
            let solid = self.solids[*number as usize].bounds();
            bounds = around(&bounds, &solid);
            middles = around(&middles, &Aabb { min: middle(&solid), max: middle(&solid) });
        }
        let bounds = bounds.grown(slack(&bounds));
        let node = self.nodes.len();
        self.nodes.push(Node { bounds, next: 0, from: from as u32, to: to as u32 });
        if to - from > LEAF {
            let size = middles.max - middles.min;
            let axis = |at: Vec2| if size.x >= size.y { at.x } else { at.y };
            let solids = &self.solids;
            let key = |number: &u32| axis(middle(&solids[*number as usize].bounds()));
            self.order[from..to].sort_unstable_by(|a, b| key(a).total_cmp(&key(b)).then(a.cmp(b)));
            self.nodes[node].to = from as u32;
            let half = from + (to - from) / 2;
            self.branch(from, half);
            self.branch(half, to);
        }
        self.nodes[node].next = self.nodes.len() as u32;
    }

    /// How many solids there are.
    pub fn len(&self) -> usize {
        self.solids.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.solids.is_empty()
    }

    /// All solids, by their numbers.
    pub fn solids(&self) -> &[Solid] {
        &self.solids
    }

    /// Visits the solids of each leaf below which `open` holds for all nodes.
    #[inline]
    fn descend(&self, open: impl Fn(&Aabb) -> bool, mut visit: impl FnMut(usize, &Solid)) {
        let mut at = 0;
        while let Some(node) = self.nodes.get(at) {
            if open(&node.bounds) {
                for number in &self.order[node.from as usize..node.to as usize] {
                    visit(*number as usize, &self.solids[*number as usize]);
                }
                at += 1;
            } else {
                at = node.next as usize;
            }
        }
    }

    /// Visits every solid that touches a box, and maybe some that lie beside it, in no order that
    /// means anything, but always in the same one.
    #[inline]
    pub(crate) fn near(&self, bounds: &Aabb, visit: impl FnMut(usize, &Solid)) {
        self.descend(|node| overlaps(node, bounds), visit);
    }

    /// The solids that a circle touches, ascending by number.
    pub fn within(&self, center: impl Into<Vec2>, radius: f32) -> Vec<usize> {
        let center = center.into();
        let reach = vec2(radius, radius);
        let bounds = Aabb { min: center - reach, max: center + reach };
        let mut found = Vec::new();
        self.near(&bounds, |number, solid| {
            if solid.distance(center) <= radius {
                found.push(number);
            }
        });
        found.sort_unstable();
        found
    }

    /// The solids that a box touches, ascending by number.
    pub fn inside(&self, min: impl Into<Vec2>, max: impl Into<Vec2>) -> Vec<usize> {
        let bounds = Aabb { min: min.into(), max: max.into() };
        let mut found = Vec::new();
        self.near(&bounds, |number, solid| {
            if solid.touches(&bounds) {
                found.push(number);
            }
        });
        found.sort_unstable();
        found
    }

    /// The solids that a ray of `length` meets, or a circle of `radius` that goes along it:
    /// ascending by the distance to where it first touches them (0 if it begins there), those as
    /// far as each other by number. `direction` need not be of length 1; without one, or with
    /// numbers that are not finite, nothing is met.
    pub fn ray(
        &self,
        from: impl Into<Vec2>,
        direction: impl Into<Vec2>,
        length: f32,
        radius: f32,
    ) -> Vec<Found> {
        let (from, way) = (from.into(), direction.into().normalised() * length);
        let mut met = Vec::new();
        if !(length >= 0.0 && way.length().is_finite()) || way == Vec2::ZERO && length > 0.0 {
            return met;
        }
        self.along(Form::Circle { radius }, from, way, |solid, part| {
            met.push(Found { solid, distance: part * length });
        });
        met.sort_unstable_by(by_distance);
        met
    }

    /// What a form meets first on its way from `from` by `way`, and after which part of it,
    /// `0..=1`: of solids that are met at once, that with the lowest number.
    pub fn sweep(&self, form: Form, from: impl Into<Vec2>, way: impl Into<Vec2>) -> Option<Found> {
        let mut first: Option<Found> = None;
        self.along(form, from.into(), way.into(), |solid, distance| {
            let found = Found { solid, distance };
            if first.is_none_or(|first| by_distance(&found, &first).is_lt()) {
                first = Some(found);
            }
        });
        first
    }

    /// Visits what a form meets on its way, with the part of the way before it.
    fn along(&self, form: Form, from: Vec2, way: Vec2, mut visit: impl FnMut(usize, f32)) {
        let reach = form.extent();
        // Places far away are coarser than those of the tree.
        let path = Aabb { min: from, max: from + way };
        let reach = reach + vec2(slack(&path), slack(&path));
        let open = |node: &Aabb| {
            Aabb { min: node.min - reach, max: node.max + reach }.entry(from, way).is_some()
        };
        self.descend(open, |number, solid| {
            if let Some(part) = solid.sweep(form, from, way) {
                visit(number, part);
            }
        });
    }

    /// The `count` solids that are nearest to a place: ascending by distance (0 inside), those as
    /// far as each other by number.
    pub fn nearest(&self, center: impl Into<Vec2>, count: usize) -> Vec<Found> {
        let center = center.into();
        let mut nearest: Vec<Found> = Vec::new();
        if count == 0 || !(center.x.is_finite() && center.y.is_finite()) {
            return nearest;
        }
        let slack = slack(&Aabb { min: center, max: center });
        let mut at = 0;
        while let Some(node) = self.nodes.get(at) {
            let full = nearest.len() == count;
            let worst = nearest.last().filter(|_| full).map_or(f32::INFINITY, |last| last.distance);
            if node.bounds.distance(center) > worst + slack {
                at = node.next as usize;
                continue;
            }
            for number in &self.order[node.from as usize..node.to as usize] {
                let solid = *number as usize;
                let found = Found { solid, distance: self.solids[solid].distance(center) };
                let place = nearest.partition_point(|near| by_distance(near, &found).is_lt());
                if place < count {
                    nearest.truncate(count - 1);
                    nearest.insert(place, found);
                }
            }
            at += 1;
        }
        nearest
    }
}

fn by_distance(a: &Found, b: &Found) -> Ordering {
    a.distance.total_cmp(&b.distance).then(a.solid.cmp(&b.solid))
}

fn middle(bounds: &Aabb) -> Vec2 {
    bounds.min * 0.5 + bounds.max * 0.5
}

fn around(a: &Aabb, b: &Aabb) -> Aabb {
    Aabb {
        min: vec2(a.min.x.min(b.min.x), a.min.y.min(b.min.y)),
        max: vec2(a.max.x.max(b.max.x), a.max.y.max(b.max.y)),
    }
}

/// What rounding can come to with places like these: a hundred times the distance of neighbouring
/// numbers.
fn slack(bounds: &Aabb) -> f32 {
    let Aabb { min, max } = bounds;
    [min.x, min.y, max.x, max.y].into_iter().fold(0.0, |most: f32, at| most.max(at.abs())) * 1e-5
}

#[cfg(test)]
mod tests {
    use rekindle_schema::Tick;

    use super::*;
    use crate::Rng;

    fn some(rng: &mut Rng, wide: f32) -> Vec2 {
        vec2(rng.range(-wide, wide), rng.range(-wide, wide))
    }

    fn form(rng: &mut Rng, size: f32) -> Form {
        if rng.one_in(2) {
            Form::Circle { radius: rng.unit() * size }
        } else {
            Form::Box { half: vec2(rng.unit() * size, rng.unit() * size) }
        }
    }

    /// Many share a place or a side.
    fn scatter(rng: &mut Rng, count: u32, wide: f32) -> Vec<Solid> {
        (0..count)
            .map(|_| {
                let at = match rng.below(8) {
                    0 => vec2(3.0, 3.0),
                    1 => vec2(rng.range(-9.0, 9.0) * wide, 0.0),
                    _ => some(rng, wide),
                };
                form(rng, wide / 8.0).at(at)
            })
            .collect()
    }

    fn all(solids: &[Solid], mut distance: impl FnMut(&Solid) -> Option<f32>) -> Vec<Found> {
        let found = solids.iter().enumerate();
        let found = found.filter_map(|(solid, it)| Some(Found { solid, distance: distance(it)? }));
        let mut found: Vec<Found> = found.collect();
        found.sort_by(by_distance);
        found
    }

    #[test]
    fn a_tree_answers_as_a_look_at_all_would() {
        let mut met = 0;
        for seed in 0..80 {
            let mut rng = Rng::stream(seed, Tick(0), 0);
            let wide = [1.0, 30.0, 4_000.0][seed as usize % 3];
            let solids = scatter(&mut rng, [0, 1, 5, 300][seed as usize % 4], wide);
            let scenery = Scenery::new(solids.clone());
            for _ in 0..40 {
                let center = some(&mut rng, 1.5 * wide);
                let radius = rng.unit() * wide / 2.0;
                let numbers = |solid: &dyn Fn(&Solid) -> bool| -> Vec<usize> {
                    (0..solids.len()).filter(|number| solid(&solids[*number])).collect()
                };
                let expected = numbers(&|solid| solid.distance(center) <= radius);
                assert_eq!(scenery.within(center, radius), expected);
                let reach = some(&mut rng, wide / 2.0);
                let reach = vec2(reach.x.abs(), reach.y.abs());
                let bounds = Aabb { min: center - reach, max: center + reach };
                let expected = numbers(&|solid| solid.touches(&bounds));
                assert_eq!(scenery.inside(bounds.min, bounds.max), expected);
                let expected = all(&solids, |solid| Some(solid.distance(center)));
                let count = rng.below(7) as usize;
                assert_eq!(scenery.nearest(center, count), expected[..count.min(expected.len())]);
                met += sweeps_as_by_all(&scenery, center, &mut rng, wide);
            }
        }
        assert!(met > 10_000, "the rays met {met} solids");
    }

    fn sweeps_as_by_all(scenery: &Scenery, from: Vec2, rng: &mut Rng, wide: f32) -> usize {
        let direction = match rng.below(5) {
            0 => vec2(1.0, 0.0),
            1 => vec2(0.0, -2.0),
            _ => some(rng, 1.0),
        };
        let (length, radius) = (rng.unit() * 3.0 * wide, rng.unit() * wide / 5.0);
        let way = direction.normalised() * length;
        let circle = Form::Circle { radius };
        let expected =
            all(scenery.solids(), |solid| Some(solid.sweep(circle, from, way)? * length));
        let met = scenery.ray(from, direction, length, radius);
        assert_eq!(met, expected, "{from:?} {direction:?}");
        let form = form(rng, wide / 5.0);
        let expected = all(scenery.solids(), |solid| solid.sweep(form, from, way));
        assert_eq!(scenery.sweep(form, from, way), expected.first().copied());
        met.len()
    }

    #[test]
    fn what_moves_until_it_touches_has_no_gap_then() {
        let mut touched = 0;
        for seed in 0..2_000 {
            let mut rng = Rng::stream(seed, Tick(1), 0);
            let at = some(&mut rng, 3.0);
            let solid = form(&mut rng, 3.0).at(at);
            let form = form(&mut rng, 2.0);
            let (from, way) = (some(&mut rng, 12.0), some(&mut rng, 20.0));
            let (gap, away) = solid.gap(form, from);
            assert!((away.length() - 1.0).abs() < 1e-5, "{away:?}");
            match solid.sweep(form, from, way) {
                Some(part) if gap > 1e-4 => {
                    let (gap, _) = solid.gap(form, from + way * part);
                    assert!(gap.abs() < 2e-3, "{solid:?} {form:?} {from:?} {way:?}: {gap}");
                    touched += 1;
                }
                Some(part) => assert!(part.abs() < 1e-3 || gap > -1e-4, "{part} {gap}"),
                None => assert!(gap > -1e-4, "they overlap by {gap}"),
            }
            // Out of an overlap by the gap is out of it.
            if gap < 0.0 {
                let freed = from + away * -gap;
                assert!(solid.gap(form, freed).0 > -1e-4, "{solid:?} {form:?} {from:?}");
            }
        }
        assert!(touched > 150, "{touched} of them touched");
    }

    #[test]
    fn odd_questions_find_nothing() {
        let scenery = Scenery::new(vec![Solid::Circle { at: vec2(1.0, 0.0), radius: 1.0 }]);
        let (zero, nan) = (Vec2::ZERO, vec2(f32::NAN, 0.0));
        assert!(scenery.ray(zero, zero, 5.0, 1.0).is_empty(), "no direction");
        assert!(scenery.ray(zero, vec2(1.0, 0.0), f32::NAN, 1.0).is_empty());
        assert!(scenery.ray(zero, vec2(1.0, 0.0), f32::INFINITY, 1.0).is_empty());
        assert!(scenery.nearest(nan, 3).is_empty() && scenery.within(nan, 9.0).is_empty());
        let none = Scenery::new(Vec::new());
        assert!(none.is_empty() && none.nearest(zero, 3).is_empty());
    }

    #[test]
    #[should_panic(expected = "solid 1 of the scenery is Circle")]
    fn a_solid_of_no_size_is_refused() {
        let circle = |radius| Solid::Circle { at: Vec2::ZERO, radius };
        Scenery::new(vec![circle(1.0), circle(-1.0)]);
    }
}
