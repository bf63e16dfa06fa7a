//! What not everybody may see of a view, and who sees what of it.
//!
//! A view's own entities and rows are what everybody may see: spectators, tools, whoever reads them
//! without asking. What only some may see stands beside them in a [`Restricted`], as further
//! *entries*: an entity that is not in the view itself, or one that is, with more of its fields.
//! The [`Sight`] of a player lists the entries that this player gets. Written by the simulation
//! when it extracts a view, from the rules that the game declared; read by the snapshot encoder,
//! which encodes nothing else for that player, and by [`NetView::seen_by`] for bots.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::ids::PlayerId;
use crate::net::{NetEntity, NetView};

/// What not everybody may see of a view.
///
/// An *entry* is a row of quanta and the [`NetEntity`] that it is of. Entries are numbered: first
/// the view's own entities, then `entries`. For each entity of the world at least one entry has
/// all of its fields.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restricted {
    /// Ascending by slot; of one slot, from the entry with the fewest fields to that with all.
    /// Their rows stand in [`NetView::values`], behind those of the view's own entities.
    pub entries: Vec<NetEntity>,
    /// What players see. Players who see the same share one.
    pub sights: Vec<Sight>,
    /// The place in `sights` of what each player sees, ascending by player. Whoever is not in the
    /// list sees the view's own entities.
    pub viewers: Vec<(PlayerId, u32)>,
}

/// What one viewer sees of a view.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sight {
    /// Numbers of entries, ascending by slot, of each slot one at most.
    pub entries: Vec<u32>,
    /// Those of `entries`, in the same order, that only a viewer sees whose last snapshot had the
    /// entity: it is a little farther away than what comes into view.
    pub margin: Vec<u32>,
}

impl NetView {
    /// How many entries there are.
    pub fn entries(&self) -> usize {
        let more = self.restricted.as_ref().map_or(0, |restricted| restricted.entries.len());
        self.entities.len() + more
    }

    /// The entity that an entry is of, with the components that this entry has.
    #[inline]
    pub fn entry(&self, number: usize) -> Option<&NetEntity> {
        self.entities.get(number).or_else(|| {
            self.restricted.as_ref()?.entries.get(number.wrapping_sub(self.entities.len()))
        })
    }

    /// What a player sees, and a number that tells this sight from the others of this view. `None`:
    /// the view's own entities.
    pub fn sight(&self, viewer: Option<PlayerId>) -> Option<(u32, &Sight)> {
        let restricted = self.restricted.as_ref()?;
        let viewers = &restricted.viewers;
        let found = viewers.binary_search_by_key(&viewer?, |&(player, _)| player).ok()?;
        let number = viewers[found].1;
        Some((number, restricted.sights.get(number as usize)?))
    }

    /// The view as `player` sees it, with the player's own avatar alone: what a client of this
    /// player has after a complete snapshot. What is at the margin of sight is left out.
    pub fn seen_by(&self, player: PlayerId) -> Cow<'_, Self> {
        if self.restricted.is_none() {
            return Cow::Borrowed(self);
        }
        let mut seen = Self { tick: self.tick, ..Self::default() };
        let stride = self.stride();
        if let Some((_, sight)) = self.sight(Some(player)) {
            let mut margin = sight.margin.iter().peekable();
            for number in &sight.entries {
                if margin.next_if_eq(&number).is_none() {
                    seen.push(self, *number as usize, stride);
                }
            }
        } else {
            (0..self.entities.len()).for_each(|number| seen.push(self, number, stride));
        }
        seen.avatars.extend(self.avatar(player).map(|slot| (player, slot)));
        Cow::Owned(seen)
    }

    /// All entities of the world with all their fields, whoever may see them, and all avatars.
    pub fn whole(&self) -> Cow<'_, Self> {
        let Some(restricted) = &self.restricted else { return Cow::Borrowed(self) };
        let mut whole = Self { tick: self.tick, ..Self::default() };
        let stride = self.stride();
        let public = self.entities.len();
        let (mut own, mut more) = (0, 0);
        loop {
            let next = restricted.entries.get(more);
            match (self.entities.get(own), next) {
                (Some(entity), next) if next.is_none_or(|next| entity.slot < next.slot) => {
                    whole.push(self, own, stride);
                    own += 1;
                }
                (entity, Some(next)) => {
                    own += usize::from(entity.is_some_and(|entity| entity.slot == next.slot));
                    let others = &restricted.entries[more..];
                    more += others.partition_point(|other| other.slot <= next.slot);
                    whole.push(self, public + more - 1, stride);
                }
                _ => break,
            }
        }
        whole.avatars.clone_from(&self.avatars);
        Cow::Owned(whole)
    }

    /// The number of columns, by the number of rows.
    fn stride(&self) -> usize {
        self.values.len().checked_div(self.entries()).unwrap_or(0)
    }

    /// Appends an entry of another view.
    fn push(&mut self, from: &Self, number: usize, stride: usize) {
        if let Some(entity) = from.entry(number) {
            self.entities.push(*entity);
            self.values.extend_from_slice(from.row(number, stride));
        }
    }
}

impl Restricted {
    /// Whether its parts fit together, beside `own` entities of the view itself.
    pub(super) fn is_consistent(&self, own: &[NetEntity]) -> bool {
        let all = own.len() + self.entries.len();
        let slot = |number: u32| {
            let number = number as usize;
            let entity = own.get(number).or_else(|| self.entries.get(number - own.len()));
            entity.map(|entity| entity.slot)
        };
        let sound = |sight: &Sight| {
            sight.entries.iter().all(|&number| (number as usize) < all)
                && sight.entries.is_sorted_by(|&a, &b| slot(a) < slot(b))
                && sight.margin.is_sorted_by(|&a, &b| slot(a) < slot(b))
                && sight.margin.iter().all(|number| sight.entries.contains(number))
        };
        self.entries.is_sorted_by_key(|entity| entity.slot)
            && self.sights.iter().all(sound)
            && self.viewers.is_sorted_by(|a, b| a.0 < b.0)
            && self.viewers.iter().all(|&(_, sight)| (sight as usize) < self.sights.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tick;

    fn entity(slot: u32, components: u32) -> NetEntity {
        NetEntity { slot, generation: 1, components }
    }

    /// Slot 1 is for all, slot 3 has more for some, slots 2 and 5 are for some.
    fn view() -> NetView {
        let restricted = Restricted {
            entries: vec![entity(2, 3), entity(3, 3), entity(5, 1), entity(5, 3)],
            sights: vec![
                Sight { entries: vec![0, 2, 3], margin: vec![2] },
                Sight { entries: vec![1, 5], margin: Vec::new() },
            ],
            viewers: vec![(PlayerId(7), 0), (PlayerId(9), 1)],
        };
        NetView {
            tick: Tick(4),
            entities: vec![entity(1, 3), entity(3, 1)],
            values: vec![10, 11, 30, 0, 20, 21, 30, 31, 50, 0, 50, 51],
            avatars: vec![(PlayerId(7), 3), (PlayerId(9), 5)],
            restricted: Some(Box::new(restricted)),
        }
    }

    #[test]
    fn a_player_gets_the_entries_of_its_sight_and_its_own_avatar() {
        let view = view();
        assert!(view.is_consistent(2));
        let seen = view.seen_by(PlayerId(7));
        assert_eq!(seen.entities, [entity(1, 3), entity(3, 3)], "slot 2 is at the margin");
        assert_eq!(seen.values, [10, 11, 30, 31]);
        assert_eq!(seen.avatars, [(PlayerId(7), 3)]);
        let seen = view.seen_by(PlayerId(9));
        assert_eq!(
            (&seen.entities[..], &seen.values[..]),
            (&[entity(3, 1), entity(5, 3)][..], &[30, 0, 50, 51][..])
        );
        // Somebody whom the view does not know sees what everybody sees.
        let seen = view.seen_by(PlayerId(8));
        assert_eq!((&seen.entities, &seen.values[..]), (&view.entities, &[10, 11, 30, 0][..]));
        assert!(seen.avatars.is_empty() && seen.restricted.is_none());
    }

    #[test]
    fn the_whole_has_each_entity_once_with_all_its_fields() {
        let view = view();
        let whole = view.whole();
        assert_eq!(whole.entities, [entity(1, 3), entity(2, 3), entity(3, 3), entity(5, 3)]);
        assert_eq!(whole.values, [10, 11, 20, 21, 30, 31, 50, 51]);
        assert_eq!(whole.avatars, view.avatars);
    }

    #[test]
    fn a_sight_of_entries_that_are_not_there_or_do_not_ascend_is_inconsistent() {
        let broken = |change: &dyn Fn(&mut Restricted)| {
            let mut view = view();
            if let Some(restricted) = &mut view.restricted {
                change(restricted);
            }
            assert!(!view.is_consistent(2), "{view:?}");
        };
        broken(&|restricted| restricted.sights[0].entries.push(6));
        broken(&|restricted| restricted.sights[1].entries.reverse());
        broken(&|restricted| restricted.sights[1].margin.push(0));
        broken(&|restricted| restricted.viewers[1].1 = 2);
        broken(&|restricted| restricted.viewers.reverse());
        broken(&|restricted| restricted.entries.reverse());
    }
}
