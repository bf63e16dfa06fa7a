//! Signs tickets, for `ticket issue` and for the admin listener.

use rekindle_gateway::keys::{Keys, fingerprint};
use rekindle_gateway::ticket::{self, TicketError};
use rekindle_schema::wire::Role;
use rekindle_schema::{MatchId, PlayerId};

use super::bots;
use crate::{clock, hex};

/// The ticket that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The player's account.
    pub player: PlayerId,
    /// The name to show; `player-N` if absent.
    pub name: Option<String>,
    /// Whether its owner plays or watches.
    pub role: Role,
    /// The only match that it opens; any if absent.
    pub match_id: Option<MatchId>,
    /// For how many seconds it is valid.
    pub ttl_s: u64,
}

/// Signs the ticket that `wanted` asks for, but none for a house bot's number: its holder would
/// play in its place.
pub fn issue(keys: &Keys, wanted: &Wanted) -> Result<String, TicketError> {
    if wanted.player.0 >= bots::FIRST_HOUSE_PLAYER {
        return Err(TicketError::Claims(format!(
            "players from {} on are house bots",
            bots::FIRST_HOUSE_PLAYER
        )));
    }
    let name = wanted.name.clone();
    keys.issue_ticket(&ticket::Ticket {
        player: wanted.player,
        name: name.unwrap_or_else(|| format!("player-{}", wanted.player.0)),
        match_id: wanted.match_id,
        role: wanted.role,
        expires_ms: clock::now_ms().saturating_add(wanted.ttl_s.saturating_mul(1_000)),
        nonce: clock::random(),
    })
}

/// SHA-256 of the certificates that native clients are to trust, in hexadecimal.
pub fn fingerprints(keys: &Keys) -> Vec<String> {
    let certificates = keys.certificates_der();
    certificates.iter().map(|certificate| hex::encode(&fingerprint(certificate))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_the_ticket_of_a_house_bot() {
        let keys = Keys::ephemeral([7; 32]).unwrap();
        let wanted = |player| Wanted {
            player: PlayerId(player),
            name: None,
            role: Role::Player,
            match_id: None,
            ttl_s: 60,
        };
        assert!(issue(&keys, &wanted(bots::FIRST_HOUSE_PLAYER - 1)).is_ok());
        for player in [bots::FIRST_HOUSE_PLAYER, u64::MAX] {
            assert!(
                matches!(issue(&keys, &wanted(player)), Err(TicketError::Claims(_))),
                "{player}"
            );
        }
    }
}
