//! How many standbys each match should have, and which matches are audited.

use std::collections::BTreeMap;

use rekindle_schema::MatchId;
use rekindle_schema::lease::MatchLease;

/// Most standbys of one match: more make nothing safer, and each costs its ticks.
pub const MAX_STANDBYS: u8 = 2;
/// Matches are chosen for an audit anew after so many milliseconds.
const AUDIT_TURN_MS: u64 = 60 * 60 * 1_000;

/// Why a text says no standbys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a number of standbys from 0 to {MAX_STANDBYS}, or some by game: `arena=1,chess=0`")]
pub struct NoWish;

/// What is wanted. Two nodes that have different wishes follow different matches, which is
/// harmless.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// Standbys of a match for which nothing else is said.
    pub any: u8,
    /// Standbys of the matches of a game.
    pub by_game: BTreeMap<String, u8>,
    /// Standbys of a match, by an operator.
    pub by_match: BTreeMap<MatchId, u8>,
    /// The share of all matches that is audited, in millionths.
    pub audit: u32,
}

impl Wishes {
    /// The wishes of a configuration: `1` for all games, `arena=1,chess=0`, or both: `1,chess=0`.
    pub fn parse(text: &str) -> Result<Self, NoWish> {
        let count = |text: &str| {
            text.trim().parse::<u8>().ok().filter(|count| *count <= MAX_STANDBYS).ok_or(NoWish)
        };
        let mut wishes = Self::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            match part.split_once('=') {
                Some((game, said)) if !game.trim().is_empty() => {
                    wishes.by_game.insert(game.trim().to_owned(), count(said)?);
                }
                Some(_) => return Err(NoWish),
                None => wishes.any = count(part)?,
            }
        }
        Ok(wishes)
    }

    /// Whether nothing is wanted of any match.
    pub fn are_none(&self) -> bool {
        let none = |count: &u8| *count == 0;
        self.audit == 0
            && none(&self.any)
            && self.by_game.values().all(none)
            && self.by_match.values().all(none)
    }

    /// How many standbys a match should have: what an operator says of it counts before what its
    /// game has.
    pub fn standbys_of(&self, row: &MatchLease) -> u8 {
        let by_match = self.by_match.get(&row.match_id);
        let said = by_match.or_else(|| self.by_game.get(&row.spec.game)).unwrap_or(&self.any);
        (*said).min(MAX_STANDBYS)
    }

    /// Whether a match is among those that are audited in this hour. `wall_ms`: milliseconds since
    /// 1970; nodes whose clocks differ audit different matches for a moment.
    pub fn audits(&self, match_id: MatchId, wall_ms: u64) -> bool {
        let turn = wall_ms / AUDIT_TURN_MS;
        // FNV-1a over both numbers.
        let bytes = match_id.0.to_le_bytes().into_iter().chain(turn.to_le_bytes());
        let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        // The high bits of the product are those that all bytes have mixed.
        let part = ((u128::from(hash) * 1_000_000) >> 64) as u32;
        part < self.audit
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standby::core::tests::row;

    #[test]
    fn what_is_said_of_a_match_counts_before_what_its_game_has() {
        let mut wishes = Wishes::parse("1, chess=0").unwrap();
        let of = |wishes: &Wishes, game: &str| {
            let mut row = row(7, 1);
            row.spec.game = game.to_owned();
            wishes.standbys_of(&row)
        };
        assert_eq!((of(&wishes, "arena"), of(&wishes, "chess")), (1, 0));
        wishes.by_match.insert(MatchId(7), 2);
        assert_eq!(of(&wishes, "chess"), 2);
        for text in ["3", "x", "=1", "chess=", "chess=9", "-1"] {
            assert_eq!(Wishes::parse(text), Err(NoWish), "{text}");
        }
        assert!(Wishes::parse("").unwrap().are_none() && Wishes::parse("0").unwrap().are_none());
        assert!(!wishes.are_none());
    }

    #[test]
    fn an_audit_takes_its_share_of_the_matches_and_others_in_another_hour() {
        let wishes = Wishes { audit: 50_000, ..Wishes::default() };
        let chosen = |hour: u64| -> Vec<u64> {
            let at = hour * AUDIT_TURN_MS;
            (0..20_000).filter(|id| wishes.audits(MatchId(*id), at)).collect()
        };
        let (first, second) = (chosen(1), chosen(2));
        for chosen in [&first, &second] {
            assert!((800..1_200).contains(&chosen.len()), "{} of 20000", chosen.len());
        }
        let both = first.iter().filter(|id| second.contains(id)).count();
        assert!(both < 150, "{both} are audited twice in a row");
        assert!(!Wishes::default().audits(MatchId(1), 0));
    }
}
