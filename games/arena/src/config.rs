//! What a match can be configured with. JSON or TOML for people.

use serde::{Deserialize, Serialize};

use crate::map::{self, Map};
use crate::movement::TICK_RATE;

/// Most players that a match can hold.
pub const MAX_PLAYERS: u16 = 64;
/// Most drones.
pub const MAX_MOVERS: u16 = 1000;

/// The rules of one match. Everything has a default; `{}` is a quick match for up to 16 players.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of the map: `pillars`, `crossing` or `open`.
    pub map: String,
    /// Width of the arena, metres, 24 to 120.
    pub width: f32,
    /// Height of the arena, metres, 24 to 120.
    pub height: f32,
    /// The match begins when so many players are there, 1 to 64.
    pub min_players: u16,
    /// Most players, 2 to 64.
    pub max_players: u16,
    /// Kills that win; 0 for none.
    pub score_limit: u16,
    /// Seconds until the best wins; 0 for none.
    pub time_limit_s: u32,
    /// How long the lobby waits, in seconds, when there are enough players who are not all ready.
    pub lobby_s: u32,
    /// Seconds between the lobby and the fight.
    pub countdown_s: u32,
    /// How long the result is shown, seconds.
    pub podium_s: u32,
    /// After the podium the same players go again, instead of the match being over.
    pub rematch: bool,
    /// No limit ends the match: for load tests.
    pub endless: bool,
    /// Drones that wander about and can be shot, up to 1000: for load tests, and as moving targets.
    pub movers: u16,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            map: "pillars".to_owned(),
            width: 48.0,
            height: 32.0,
            min_players: 2,
            max_players: 16,
            score_limit: 25,
            time_limit_s: 300,
            lobby_s: 1,
            countdown_s: 2,
            podium_s: 5,
            rematch: false,
            endless: false,
            movers: 0,
        }
    }
}

impl Config {
    /// Says what is wrong with the values, and what would be right.
    pub fn validate(&self) -> Result<(), String> {
        if !map::NAMES.contains(&self.map.as_str()) {
            return Err(format!("map = `{}`: there are {}", self.map, map::NAMES.join(", ")));
        }
        for (name, size) in [("width", self.width), ("height", self.height)] {
            if !(map::MIN_SIZE..=map::MAX_SIZE).contains(&size) {
                return Err(format!(
                    "{name} = {size}: it must be {} to {} metres",
                    map::MIN_SIZE,
                    map::MAX_SIZE
                ));
            }
        }
        if !(2..=MAX_PLAYERS).contains(&self.max_players) {
            return Err(format!(
                "max_players = {}: it must be 2 to {MAX_PLAYERS}",
                self.max_players
            ));
        }
        if !(1..=self.max_players).contains(&self.min_players) {
            return Err(format!(
                "min_players = {}: it must be 1 to max_players, which is {}",
                self.min_players, self.max_players
            ));
        }
        if self.movers > MAX_MOVERS {
            return Err(format!("movers = {}: it must be at most {MAX_MOVERS}", self.movers));
        }
        let hour = 3600;
        for (name, seconds) in [
            ("lobby_s", self.lobby_s),
            ("countdown_s", self.countdown_s),
            ("podium_s", self.podium_s),
        ] {
            if seconds > hour {
                return Err(format!("{name} = {seconds}: it must be at most {hour}"));
            }
        }
        if self.score_limit == 0 && self.time_limit_s == 0 && !self.endless {
            return Err(
                "neither score_limit nor time_limit_s ends the match: set one of them, or \
                endless = true"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// The map that the configuration names; of a configuration that is not valid, an open field.
    pub fn map(&self) -> Map {
        Map::named(&self.map, self.width, self.height)
            .unwrap_or_else(|| Map::named("open", map::MIN_SIZE, map::MIN_SIZE).unwrap_or_default())
    }

    /// Ticks of a number of seconds.
    pub const fn ticks(seconds: u32) -> u64 {
        seconds as u64 * TICK_RATE as u64
    }

    /// Kills that win, if any number does.
    pub fn kills_to_win(&self) -> Option<u16> {
        (!self.endless && self.score_limit > 0).then_some(self.score_limit)
    }

    /// Ticks until the best wins, if time ends the match.
    pub fn time_limit(&self) -> Option<u64> {
        (!self.endless && self.time_limit_s > 0).then_some(Self::ticks(self.time_limit_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut Config)) -> String {
        let mut config = Config::default();
        change(&mut config);
        config.validate().expect_err("should be refused")
    }

    #[test]
    fn the_defaults_are_valid_and_their_map_has_walls() {
        let config = Config::default();
        assert_eq!(config.validate(), Ok(()));
        assert!(!config.map().walls.is_empty());
    }

    #[test]
    fn wrong_values_are_refused_with_what_would_be_right() {
        assert!(refused(|c| c.map = "moon".into()).contains("pillars, crossing, open"));
        assert!(refused(|c| c.width = 12.0).contains("24 to 120"));
        assert!(refused(|c| c.height = f32::NAN).contains("24 to 120"));
        assert!(refused(|c| c.max_players = 65).contains("2 to 64"));
        assert!(refused(|c| c.min_players = 17).contains("1 to max_players, which is 16"));
        assert!(refused(|c| c.movers = 1001).contains("at most 1000"));
        assert!(refused(|c| c.lobby_s = 4000).contains("at most 3600"));
        assert!(refused(|c| (c.score_limit, c.time_limit_s) = (0, 0)).contains("endless"));
    }

    #[test]
    fn an_endless_match_has_no_limits() {
        let config = Config { endless: true, ..Config::default() };
        assert_eq!((config.kills_to_win(), config.time_limit()), (None, None));
        let config = Config { score_limit: 0, time_limit_s: 60, ..Config::default() };
        assert_eq!((config.kills_to_win(), config.time_limit()), (None, Some(1800)));
    }
}
