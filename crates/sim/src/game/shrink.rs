//! Makes a list of things shorter as long as something stays true of it: the things that matter are
//! left. Delta debugging; pure.
//!
//! Called by [`crate::Property`] with what players did, and by `rekindle why` with the inputs of a
//! journal.

/// What is left of a list, and how it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minimal<T> {
    /// The things that are left, in their order.
    pub kept: Vec<T>,
    /// None of them can be left out. `false`: the caller broke off before that was known.
    pub complete: bool,
    /// How many lists were tried.
    pub tries: usize,
}

/// Leaves out of `all`, of which `holds` is true, whatever can be left out so that it stays true.
/// `holds` answers `None` to break off, such as when time is up: the shortest list found by then
/// is returned.
///
/// It tries to do without everything first, then without each half, each quarter, and so on, down
/// to single things, until no single one can be left out. Of `n` things of which `k` matter it
/// tries about `k * log2(n)` lists.
///
/// ```
/// let all: Vec<u32> = (0..1000).collect();
/// let found = rekindle_sim::minimal(&all, |some| Some(some.contains(&17) && some.contains(&801)));
/// assert_eq!((found.kept, found.complete), (vec![17, 801], true));
/// assert!(found.tries < 100);
/// ```
pub fn minimal<T: Clone>(all: &[T], mut holds: impl FnMut(&[T]) -> Option<bool>) -> Minimal<T> {
    let mut kept = all.to_vec();
    let (mut size, mut tries) = (kept.len(), 0);
    while size > 0 {
        let (mut begin, mut left_out) = (0, false);
        while begin < kept.len() {
            let end = (begin + size).min(kept.len());
            let rest = [&kept[..begin], &kept[end..]].concat();
            tries += 1;
            match holds(&rest) {
                None => return Minimal { kept, complete: false, tries },
                Some(true) => (kept, left_out) = (rest, true),
                Some(false) => begin = end,
            }
        }
        // A thing that mattered may do so no more when another one is gone.
        size = match size {
            1 if left_out => 1,
            1 => 0,
            _ => size.min(kept.len()).div_ceil(2),
        };
    }
    Minimal { kept, complete: true, tries }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_of_a_list_of_which_nothing_matters() {
        let found = minimal(&[1, 2, 3], |_| Some(true));
        assert_eq!(found, Minimal { kept: vec![], complete: true, tries: 1 });
        assert!(minimal::<u8>(&[], |_| Some(true)).kept.is_empty());
    }

    #[test]
    fn whatever_is_left_matters_also_if_things_stand_in_for_each_other() {
        // An even number of things, one of them 7: leaving one out alone never works.
        let all: Vec<u32> = (0..64).collect();
        let holds = |some: &[u32]| some.contains(&7) && some.len().is_multiple_of(2);
        let found = minimal(&all, |some| Some(holds(some)));
        assert!(found.complete && holds(&found.kept), "{found:?}");
        for index in 0..found.kept.len() {
            let mut without = found.kept.clone();
            without.remove(index);
            assert!(!holds(&without), "{} can be left out of {found:?}", found.kept[index]);
        }
    }

    #[test]
    fn when_time_is_up_the_shortest_list_so_far_is_returned() {
        let all: Vec<u32> = (0..100).collect();
        let mut left = 4;
        let found = minimal(&all, |some| {
            left -= 1;
            (left > 0).then(|| some.contains(&99))
        });
        assert!(!found.complete && found.tries == 4, "{found:?}");
        assert!(found.kept.contains(&99) && found.kept.len() < 100, "{found:?}");
    }
}
