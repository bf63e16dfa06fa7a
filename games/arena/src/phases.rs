//! The course of a match: lobby, countdown, live, podium. Which phase leads to which is a declared
//! machine; when it does is a pure function, and `systems::course` asks for what that says.

use rekindle_sim::{Machine, PlayerId, Resource, Tick, Value};
use serde::Serialize;

use crate::config::Config;
use crate::events::Reason;

/// What goes on in a match: the states of its machine. Before version 2 a struct of the game's own
/// with the fields `phase` and `since`, and with the number of the round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Resource)]
#[resource(id = "arena.course", version = 2)]
pub enum Phase {
    /// Waits for players. They can walk about; weapons are locked.
    Lobby,
    /// It is about to begin.
    Countdown,
    /// Everything counts.
    Live,
    /// It is decided.
    Podium,
}

/// The ways from phase to phase.
pub fn declare(phase: &mut Machine<Phase>) {
    phase
        .allow(Phase::Lobby, Phase::Countdown)
        .allow(Phase::Countdown, Phase::Lobby)
        .allow(Phase::Countdown, Phase::Live)
        .allow(Phase::Live, Phase::Podium)
        .allow(Phase::Podium, Phase::Lobby);
}

/// How many fights of the match have begun.
#[derive(Debug, Clone, PartialEq, Eq, Resource)]
#[resource(id = "arena.rounds")]
pub struct Rounds {
    /// The number of the one that goes on, or of the last one.
    pub begun: u32,
}

/// What the rules look at besides the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// How many players are there.
    pub players: usize,
    /// Whether each of them has said that they are ready.
    pub all_ready: bool,
    /// Kills of the best.
    pub most_kills: u16,
}

/// What the rules say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It goes on as it is.
    Stay,
    /// Another phase begins.
    Go(Phase, Reason),
    /// The match is over.
    End,
}

/// What happens when a phase has lasted for `elapsed` ticks.
pub fn next(phase: Phase, elapsed: u64, facts: Facts, config: &Config) -> Turn {
    let enough = facts.players >= usize::from(config.min_players);
    match phase {
        Phase::Lobby if !enough => Turn::Stay,
        Phase::Lobby if facts.all_ready => Turn::Go(Phase::Countdown, Reason::AllReady),
        Phase::Lobby if elapsed >= Config::ticks(config.lobby_s) => {
            Turn::Go(Phase::Countdown, Reason::EnoughPlayers)
        }
        Phase::Countdown if !enough => Turn::Go(Phase::Lobby, Reason::TooFewPlayers),
        Phase::Countdown if elapsed >= Config::ticks(config.countdown_s) => {
            Turn::Go(Phase::Live, Reason::Fight)
        }
        Phase::Live if config.kills_to_win().is_some_and(|limit| facts.most_kills >= limit) => {
            Turn::Go(Phase::Podium, Reason::ScoreLimit)
        }
        Phase::Live if config.time_limit().is_some_and(|limit| elapsed >= limit) => {
            Turn::Go(Phase::Podium, Reason::TimeLimit)
        }
        Phase::Live if facts.players == 0 && !config.endless => {
            Turn::Go(Phase::Podium, Reason::EverybodyLeft)
        }
        Phase::Podium if elapsed >= Config::ticks(config.podium_s) && config.rematch => {
            Turn::Go(Phase::Lobby, Reason::Rematch)
        }
        Phase::Podium if elapsed >= Config::ticks(config.podium_s) => Turn::End,
        _ => Turn::Stay,
    }
}

/// Ticks from `now` until a phase ends by itself that began at the tick `since`, if it does.
pub fn remaining(phase: Phase, since: Tick, config: &Config, now: Tick) -> Option<u64> {
    let length = match phase {
        Phase::Lobby => return None,
        Phase::Countdown => Config::ticks(config.countdown_s),
        Phase::Live => config.time_limit()?,
        Phase::Podium => Config::ticks(config.podium_s),
    };
    Some((since.0 + length).saturating_sub(now.0))
}

/// How one player did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Value)]
pub struct Standing {
    /// The player who is told about.
    pub player: PlayerId,
    /// The name to show.
    pub name: String,
    /// Opponents brought down.
    pub kills: u16,
    /// Times brought down.
    pub deaths: u16,
    /// Gone before the end.
    pub left: bool,
}

/// The outcome of a fight, the payload of the effect `result`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// `arena`.
    pub game: &'static str,
    /// Name of the map.
    pub map: String,
    /// Which fight of the match, from 1.
    pub round: u32,
    /// Why it ended: `score limit`, `time limit` or `everybody left`.
    pub reason: &'static str,
    /// How many ticks it took.
    pub ticks: u64,
    /// Who won; `None` if the best are even, or nobody did anything.
    pub winner: Option<PlayerId>,
    /// Best first.
    pub standings: Vec<Standing>,
}

/// Puts the best first, and says who won.
pub fn rank(mut standings: Vec<Standing>) -> (Option<PlayerId>, Vec<Standing>) {
    standings.sort_by(|a, b| {
        b.kills.cmp(&a.kills).then(a.deaths.cmp(&b.deaths)).then(a.player.cmp(&b.player))
    });
    let winner = match standings.as_slice() {
        [best, second, ..] if (best.kills, best.deaths) == (second.kills, second.deaths) => None,
        [best, ..] if best.kills > 0 => Some(best.player),
        _ => None,
    };
    (winner, standings)
}

#[cfg(test)]
mod tests {
    use super::next as turn;
    use super::*;

    const CALM: Facts = Facts { players: 2, all_ready: false, most_kills: 0 };

    #[test]
    fn the_lobby_waits_for_players_and_then_for_the_ready_or_the_clock() {
        let config = Config { lobby_s: 10, ..Config::default() };
        assert_eq!(
            turn(Phase::Lobby, 9999, Facts { players: 1, all_ready: true, ..CALM }, &config),
            Turn::Stay
        );
        assert_eq!(turn(Phase::Lobby, 299, CALM, &config), Turn::Stay);
        assert_eq!(
            turn(Phase::Lobby, 300, CALM, &config),
            Turn::Go(Phase::Countdown, Reason::EnoughPlayers)
        );
        assert_eq!(
            turn(Phase::Lobby, 1, Facts { all_ready: true, ..CALM }, &config),
            Turn::Go(Phase::Countdown, Reason::AllReady)
        );
    }

    #[test]
    fn a_countdown_without_players_goes_back() {
        let config = Config::default();
        assert_eq!(
            turn(Phase::Countdown, 5, Facts { players: 1, ..CALM }, &config),
            Turn::Go(Phase::Lobby, Reason::TooFewPlayers)
        );
        assert_eq!(turn(Phase::Countdown, 59, CALM, &config), Turn::Stay);
        assert_eq!(turn(Phase::Countdown, 60, CALM, &config), Turn::Go(Phase::Live, Reason::Fight));
    }

    #[test]
    fn a_fight_ends_by_score_by_time_or_when_everybody_left() {
        let config = Config { score_limit: 5, time_limit_s: 10, ..Config::default() };
        assert_eq!(turn(Phase::Live, 10, Facts { most_kills: 4, ..CALM }, &config), Turn::Stay);
        assert_eq!(
            turn(Phase::Live, 10, Facts { most_kills: 5, ..CALM }, &config),
            Turn::Go(Phase::Podium, Reason::ScoreLimit)
        );
        assert_eq!(
            turn(Phase::Live, 300, CALM, &config),
            Turn::Go(Phase::Podium, Reason::TimeLimit)
        );
        assert_eq!(
            turn(Phase::Live, 1, Facts { players: 0, ..CALM }, &config),
            Turn::Go(Phase::Podium, Reason::EverybodyLeft)
        );
        let endless = Config { endless: true, ..config };
        assert_eq!(
            turn(
                Phase::Live,
                999_999,
                Facts { players: 0, most_kills: 999, all_ready: true },
                &endless
            ),
            Turn::Stay
        );
    }

    #[test]
    fn the_podium_ends_the_match_or_starts_another_round() {
        let config = Config { podium_s: 2, ..Config::default() };
        assert_eq!(turn(Phase::Podium, 59, CALM, &config), Turn::Stay);
        assert_eq!(turn(Phase::Podium, 60, CALM, &config), Turn::End);
        let again = Config { rematch: true, ..config };
        assert_eq!(turn(Phase::Podium, 60, CALM, &again), Turn::Go(Phase::Lobby, Reason::Rematch));
    }

    #[test]
    fn the_best_is_first_and_even_players_share_no_victory() {
        let standing = |player, kills, deaths| Standing {
            player: PlayerId(player),
            name: String::new(),
            kills,
            deaths,
            left: false,
        };
        let (winner, standings) =
            rank(vec![standing(1, 2, 0), standing(2, 5, 3), standing(3, 5, 1)]);
        assert_eq!(winner, Some(PlayerId(3)));
        assert_eq!(standings.iter().map(|s| s.player.0).collect::<Vec<_>>(), [3, 2, 1]);
        assert_eq!(rank(vec![standing(1, 5, 1), standing(2, 5, 1)]).0, None);
        assert_eq!(rank(vec![standing(1, 0, 1), standing(2, 0, 3)]).0, None);
        assert_eq!(rank(Vec::new()).0, None);
    }
}
