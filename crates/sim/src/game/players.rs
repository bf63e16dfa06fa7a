//! The session table: who plays, as part of the state.

use rekindle_schema::{PlayerId, SessionId};

use crate::value::entity::Entity;
use crate::{Resource, Value};

/// A player in the match.
#[derive(Debug, Clone, PartialEq, Value)]
pub struct Player {
    /// The player's account, from the join.
    pub id: PlayerId,
    /// The session that inputs must carry.
    pub session: SessionId,
    /// The name to show.
    pub name: String,
    /// The entity that the player steers, [`Entity::NONE`] if none.
    pub avatar: Entity,
    /// The newest input that was applied.
    pub(crate) last_input: u64,
    /// The newest command that was applied.
    pub(crate) last_command: u64,
}

impl Player {
    pub(crate) fn new(id: PlayerId, session: SessionId, name: &str) -> Self {
        Self {
            id,
            session,
            name: name.to_owned(),
            avatar: Entity::NONE,
            last_input: 0,
            last_command: 0,
        }
    }
}

/// The players in the match, ascending by id. A resource: `Res<Players>`, `ResMut<Players>`; always
/// registered.
///
/// ```
/// use rekindle_sim::doc_game::Duel;
/// use rekindle_sim::{Harness, PlayerId, Players};
///
/// let mut duel = Harness::<Duel>::new(7);
/// duel.join(PlayerId(5));
/// duel.join(PlayerId(2));
/// duel.tick();
/// let players = duel.world().resource::<Players>();
/// assert_eq!(players.iter().map(|player| player.id.0).collect::<Vec<_>>(), [2, 5]);
/// assert!(players.avatar(PlayerId(2)).is_some());
/// ```
#[derive(Debug, Clone, PartialEq, Resource)]
#[resource(id = "rekindle.players")]
pub struct Players {
    list: Vec<Player>,
}

impl Players {
    /// All, ascending by id.
    pub fn iter(&self) -> std::slice::Iter<'_, Player> {
        self.list.iter()
    }

    /// How many players are in the match.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether nobody is there.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The player with this id, if in the match.
    pub fn get(&self, id: PlayerId) -> Option<&Player> {
        self.place(id).ok().map(|place| &self.list[place])
    }

    /// The entity that a player steers.
    pub fn avatar(&self, id: PlayerId) -> Option<Entity> {
        self.get(id).map(|player| player.avatar).filter(|avatar| *avatar != Entity::NONE)
    }

    /// Says which entity a player steers from now on; [`Entity::NONE`] for none. Snapshots tell the
    /// player.
    pub fn set_avatar(&mut self, id: PlayerId, avatar: Entity) {
        if let Some(player) = self.get_mut(id) {
            player.avatar = avatar;
        }
    }

    pub(crate) fn get_mut(&mut self, id: PlayerId) -> Option<&mut Player> {
        self.place(id).ok().map(|place| &mut self.list[place])
    }

    /// Enters a player; a player who is there already gets the new session.
    pub(crate) fn enter(&mut self, player: Player) {
        match self.place(player.id) {
            Ok(place) => self.list[place] = player,
            Err(place) => self.list.insert(place, player),
        }
        debug_assert!(self.list.is_sorted_by(|a, b| a.id < b.id), "players ascend by id");
    }

    pub(crate) fn leave(&mut self, id: PlayerId) {
        if let Ok(place) = self.place(id) {
            self.list.remove(place);
        }
    }

    fn place(&self, id: PlayerId) -> Result<usize, usize> {
        self.list.binary_search_by_key(&id, |player| player.id)
    }
}

impl<'a> IntoIterator for &'a Players {
    type Item = &'a Player;
    type IntoIter = std::slice::Iter<'a, Player>;
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn player(id: u64) -> Player {
        Player::new(PlayerId(id), SessionId(id), "")
    }

    #[test]
    #[should_panic(expected = "players ascend by id")]
    fn players_who_do_not_ascend_are_noticed() {
        let mut players = Players { list: vec![player(2), player(1)] };
        players.enter(player(3));
    }
}
