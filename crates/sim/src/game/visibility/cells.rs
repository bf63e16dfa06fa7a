//! What is near a place: a grid over the entities of one tick, made anew for each.

/// Entities by the square cell that they are in.
pub(crate) struct Cells {
    /// A little more than the largest distance that is asked for, so that rounding takes nothing
    /// that near two cells away.
    size: f64,
    /// (row, column, index), ascending.
    sorted: Vec<(i32, i32, u32)>,
}

impl Cells {
    /// `size` is the largest distance that will be asked for. `places` ascend by index.
    pub(crate) fn new(size: f32, places: impl Iterator<Item = (u32, [f32; 2])>) -> Self {
        let mut cells = Self { size: f64::from(size) * 1.001, sorted: Vec::new() };
        let cell = |place| cells.cell(place);
        let mut sorted: Vec<_> = places
            .map(|(index, place)| {
                let (row, column) = cell(place);
                (row, column, index)
            })
            .collect();
        sorted.sort_unstable();
        cells.sorted = sorted;
        cells
    }

    fn cell(&self, [x, y]: [f32; 2]) -> (i32, i32) {
        // The casts clamp: what is far outside is in the cells at the border.
        let cell = |at: f32| (f64::from(at) / self.size).floor() as i32;
        (cell(y), cell(x))
    }

    /// Adds all indices that are no farther than the size from a place, and some that are, to
    /// `found`.
    pub(crate) fn near(&self, place: [f32; 2], found: &mut Vec<u32>) {
        let (row, column) = self.cell(place);
        for row in row.saturating_sub(1)..=row.saturating_add(1) {
            let least = (row, column.saturating_sub(1), 0);
            let most = (row, column.saturating_add(1), u32::MAX);
            let from = self.sorted.partition_point(|entry| *entry < least);
            let inside = self.sorted[from..].iter().take_while(|entry| **entry <= most);
            found.extend(inside.map(|&(_, _, index)| index));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_within_the_size_is_found_also_at_the_border_of_what_cells_can_name() {
        let mut rng = crate::Rng::stream(3, rekindle_schema::Tick(0), 0);
        for scale in [10.0, 1e4, 3e38] {
            let mut some = || rng.range(-1.0, 1.0) * scale;
            let places: Vec<[f32; 2]> = (0..300).map(|_| [some(), some()]).collect();
            let size = 2.0;
            let cells = Cells::new(size, (0..).zip(places.iter().copied()));
            for &[x, y] in &places {
                let mut found = Vec::new();
                cells.near([x, y], &mut found);
                let near = |at: &[f32; 2]| {
                    let (x, y) = (at[0] - x, at[1] - y);
                    x * x + y * y <= size * size
                };
                let expected = (0..).zip(&places).filter(|(_, at)| near(at));
                for (index, _) in expected {
                    assert!(found.contains(&index), "{index} of {scale}");
                }
            }
        }
    }
}
