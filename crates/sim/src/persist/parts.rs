//! In which parts two checkpoints of one match differ, by their names: for people who look for what
//! made two nodes compute different worlds. Called by [`crate::Typed`].

use crate::ecs::registry::{Registry, StoredType};
use crate::storage::layout::Marks;

/// The names of the parts of a checkpoint, in the order of [`Marks::ends`].
fn names(registry: &Registry) -> Vec<String> {
    fn of<S: ?Sized>(what: &str, types: &[StoredType<S>]) -> Vec<String> {
        types.iter().map(|stored| format!("{what} `{}`", stored.id)).collect()
    }
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    [
        words(&["schema", "tick, seed and configuration", "entities"]),
        of("component", &registry.components.list),
        words(&["removals"]),
        of("resource", &registry.resources.list),
        of("event", &registry.events.list),
        words(&["last runs of systems", "effects"]),
    ]
    .concat()
}

/// The parts in which two checkpoints of a game differ, each with where its parts lie.
pub(crate) fn differing(
    registry: &Registry,
    (a, marks_a): (&[u8], &Marks),
    (b, marks_b): (&[u8], &Marks),
) -> Vec<String> {
    let names = names(registry);
    assert_eq!(marks_a.ends.len(), names.len(), "each part of a checkpoint has a name");
    assert_eq!(marks_b.ends.len(), names.len(), "each part of a checkpoint has a name");
    let (mut from_a, mut from_b) = (0, 0);
    let mut found = Vec::new();
    for (name, (end_a, end_b)) in names.into_iter().zip(marks_a.ends.iter().zip(&marks_b.ends)) {
        let (end_a, end_b) = (*end_a as usize, *end_b as usize);
        if a.get(from_a..end_a) != b.get(from_b..end_b) {
            found.push(name);
        }
        (from_a, from_b) = (end_a, end_b);
    }
    found
}
