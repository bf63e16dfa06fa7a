//! Players who left a fight before its end: they stand in its result, and have their score back
//! when they return.

use std::collections::BTreeMap;

use rekindle_sim::{PlayerId, Resource};

use crate::components::Score;
use crate::phases::Standing;

/// More are forgotten: what a match remembers is bounded.
const MOST: usize = 256;

/// Who left this fight.
#[derive(Debug, Clone, PartialEq, Eq, Resource)]
#[resource(id = "arena.departed")]
pub struct Departed {
    standings: BTreeMap<PlayerId, Standing>,
}

impl Departed {
    /// Ascending by player.
    pub fn iter(&self) -> impl Iterator<Item = &Standing> {
        self.standings.values()
    }

    /// Remembers a player.
    pub fn note(&mut self, player: PlayerId, name: String, score: Score) {
        if self.standings.len() < MOST {
            self.standings.insert(
                player,
                Standing { player, name, kills: score.kills, deaths: score.deaths, left: true },
            );
        }
    }

    /// A player is back: the score that was remembered.
    pub fn take(&mut self, player: PlayerId) -> Score {
        self.standings.remove(&player).map_or_else(Score::default, |standing| Score {
            kills: standing.kills,
            deaths: standing.deaths,
        })
    }

    /// A new fight begins.
    pub fn clear(&mut self) {
        self.standings.clear();
    }
}
