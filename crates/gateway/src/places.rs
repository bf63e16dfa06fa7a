//! Who may have a place among the clients that are in. Pure.
//!
//! Called by [`crate::crowd`] under its lock, once for each client whose credential is good.
//! [`crate::limits`] bounds who may knock.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rekindle_schema::PlayerId;

use crate::config::Limits;

/// What a client wants a place for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To go on with a session that exists.
    Resume,
    /// To play.
    Play,
    /// To watch.
    Watch,
}

/// A place that is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The player that the client's credential names.
    pub(crate) player: PlayerId,
    /// The client's address, as [`crate::limits::subscriber`] shortens it.
    pub(crate) source: IpAddr,
    /// What the client does there.
    pub(crate) purpose: Purpose,
}

/// What is to be done with a client that wants a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grant {
    /// It gets one.
    Free,
    /// It gets one, and this connection of a spectator has to go for it.
    Instead(u64),
    /// It gets none: the bound that it met, for the metric, and its value.
    None(&'static str, usize),
}

/// All places that are taken, by number of the connection.
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: BTreeMap<u64, Place>,
    /// How many places each player has; one with none has no entry.
    by_player: BTreeMap<PlayerId, usize>,
    /// How many places each source has; one with none has no entry.
    by_source: BTreeMap<IpAddr, usize>,
    /// How many places are for [`Purpose::Watch`].
    spectators: usize,
}

impl Places {
    /// Decides on a client that wants `place`. Nothing is changed.
    pub(crate) fn decide(&self, place: Place, limits: &Limits) -> Grant {
        let of = |count: Option<&usize>| count.copied().unwrap_or(0);
        let watching = place.purpose == Purpose::Watch;
        // A session that goes on takes the place that it had.
        if place.purpose != Purpose::Resume {
            if of(self.by_player.get(&place.player)) >= limits.per_player.max(1) {
                return Grant::None("player", limits.per_player);
            }
            if of(self.by_source.get(&place.source)) >= limits.per_source.max(1) {
                return Grant::None("address", limits.per_source);
            }
        }
        if watching && self.spectators >= limits.max_spectators {
            return Grant::None("spectators", limits.max_spectators);
        }
        // The last places are for sessions that go on.
        let open = limits.max_connections - limits.reserve.min(limits.max_connections / 2);
        if self.taken.len() < open {
            return Grant::Free;
        }
        match (place.purpose, self.spectator_to_go()) {
            (Purpose::Play | Purpose::Resume, Some(number)) => Grant::Instead(number),
            (Purpose::Resume, None) => Grant::Free,
            (Purpose::Watch, _) | (Purpose::Play, None) => Grant::None("full", open),
        }
    }

    /// Takes a place.
    pub(crate) fn take(&mut self, number: u64, place: Place) {
        self.free(number);
        *self.by_player.entry(place.player).or_insert(0) += 1;
        *self.by_source.entry(place.source).or_insert(0) += 1;
        self.spectators += usize::from(place.purpose == Purpose::Watch);
        self.taken.insert(number, place);
    }

    /// Gives a place back. Harmless to repeat.
    pub(crate) fn free(&mut self, number: u64) {
        let Some(place) = self.taken.remove(&number) else { return };
        one_less(&mut self.by_player, place.player);
        one_less(&mut self.by_source, place.source);
        self.spectators -= usize::from(place.purpose == Purpose::Watch);
    }

    /// The spectator that is shed first: the newest of the player who has most of them.
    fn spectator_to_go(&self) -> Option<u64> {
        if self.spectators == 0 {
            return None;
        }
        let watching = self.taken.iter().filter(|(_, place)| place.purpose == Purpose::Watch);
        watching
            .max_by_key(|(number, place)| (self.by_player.get(&place.player), **number))
            .map(|(&number, _)| number)
    }
}

fn one_less<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            max_connections: 10,
            reserve: 2,
            max_spectators: 4,
            per_player: 3,
            per_source: 6,
            ..Limits::default()
        }
    }

    fn place(player: u64, source: u8, purpose: Purpose) -> Place {
        Place { player: PlayerId(player), source: IpAddr::from([10, 0, 0, source]), purpose }
    }

    fn filled(places: impl IntoIterator<Item = Place>) -> Places {
        let mut all = Places::default();
        for (number, place) in places.into_iter().enumerate() {
            all.take(number as u64, place);
        }
        all
    }

    #[test]
    fn one_credential_and_one_address_take_a_few_places_and_not_all() {
        let watch = |player, source| place(player, source, Purpose::Watch);
        let all = filled([watch(1, 1), watch(1, 2), watch(1, 3)]);
        assert_eq!(all.decide(watch(1, 4), &limits()), Grant::None("player", 3));
        assert_eq!(all.decide(watch(2, 4), &limits()), Grant::Free);
        let all = filled((0..6).map(|player| place(player, 1, Purpose::Play)));
        assert_eq!(all.decide(place(9, 1, Purpose::Play), &limits()), Grant::None("address", 6));
        assert_eq!(all.decide(place(9, 2, Purpose::Play), &limits()), Grant::Free);
        assert_eq!(
            all.decide(place(1, 1, Purpose::Resume), &limits()),
            Grant::Free,
            "its session has a place already"
        );
    }

    #[test]
    fn spectators_have_a_bound_of_their_own_and_are_shed_first() {
        let spectators = (0..4).map(|n| place(n % 3, n as u8, Purpose::Watch));
        let mut all = filled(spectators);
        assert_eq!(
            all.decide(place(50, 50, Purpose::Watch), &limits()),
            Grant::None("spectators", 4)
        );
        for player in 10..14 {
            all.take(player, place(player, player as u8, Purpose::Play));
        }
        assert_eq!(
            all.decide(place(20, 20, Purpose::Play), &limits()),
            Grant::Instead(3),
            "of the one who has two, the newer"
        );
        assert_eq!(all.decide(place(20, 20, Purpose::Resume), &limits()), Grant::Instead(3));
        all.free(3);
        assert_eq!(all.decide(place(20, 20, Purpose::Play), &limits()), Grant::Free);
    }

    #[test]
    fn the_last_places_are_for_sessions_that_go_on() {
        let all = filled((0..8).map(|player| place(player, player as u8, Purpose::Play)));
        assert_eq!(all.decide(place(20, 20, Purpose::Play), &limits()), Grant::None("full", 8));
        assert_eq!(all.decide(place(20, 20, Purpose::Watch), &limits()), Grant::None("full", 8));
        assert_eq!(all.decide(place(20, 20, Purpose::Resume), &limits()), Grant::Free);
    }

    #[test]
    fn what_is_given_back_is_forgotten() {
        let mut all = filled((0..4).map(|n| place(1, n as u8, Purpose::Watch)));
        (0..4).chain(0..4).for_each(|number| all.free(number));
        assert!(
            all.taken.is_empty()
                && all.by_player.is_empty()
                && all.by_source.is_empty()
                && all.spectators == 0
        );
    }
}
