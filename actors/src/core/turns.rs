//! Where the newest ownerships of a match began, to tell a client that comes back which of the
//! ticks that an earlier owner showed were made anew.

use std::collections::VecDeque;

use rekindle_schema::{Epoch, Tick};

/// How many ownerships are remembered.
const KEPT: usize = 64;

/// The newest ownerships of a match, ascending, each with the last tick that it took over, if that
/// is known.
#[derive(Debug, Clone, Default)]
pub struct Turns {
    turns: VecDeque<(Epoch, Option<Tick>)>,
}

impl Turns {
    /// The ownership `epoch` goes on behind tick `from`; `None` if nobody knows any more. Nothing
    /// happens if it is known already, or a later one is.
    pub fn push(&mut self, epoch: Epoch, from: Option<Tick>) {
        if self.turns.back().is_some_and(|(last, _)| *last >= epoch) {
            return;
        }
        if self.turns.len() == KEPT {
            self.turns.pop_front();
        }
        self.turns.push_back((epoch, from));
    }

    /// The newest tick of the ownership `epoch` that all later ones that are remembered took over;
    /// what it showed behind that was made anew. `None` if no later one is remembered.
    pub fn holds_of(&self, epoch: Epoch) -> Option<Tick> {
        let later = self.turns.iter().filter(|(turn, _)| *turn > epoch);
        later.filter_map(|(_, from)| *from).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_owner_showed_holds_up_to_where_the_next_ones_began() {
        let mut turns = Turns::default();
        assert_eq!(turns.holds_of(Epoch(1)), None);
        turns.push(Epoch(1), None);
        assert_eq!(turns.holds_of(Epoch(1)), None);
        turns.push(Epoch(2), Some(Tick(37)));
        turns.push(Epoch(2), Some(Tick(41)));
        turns.push(Epoch(4), Some(Tick(50)));
        assert_eq!(turns.holds_of(Epoch(1)), Some(Tick(37)));
        assert_eq!(turns.holds_of(Epoch(2)), Some(Tick(50)), "the one between made nothing");
        assert_eq!(turns.holds_of(Epoch(4)), None);
        assert_eq!(turns.holds_of(Epoch(0)), Some(Tick(37)), "where the first began is not known");
    }

    #[test]
    fn the_number_of_remembered_ownerships_is_bounded() {
        let mut turns = Turns::default();
        (1..=1_000).for_each(|n| turns.push(Epoch(n), Some(Tick(n * 10))));
        assert_eq!(turns.turns.len(), KEPT);
        assert_eq!(turns.holds_of(Epoch(1)), Some(Tick(9_370)), "as far as is remembered");
    }
}
