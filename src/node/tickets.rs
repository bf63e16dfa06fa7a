//! Issues tickets from a request, for `ticket issue` and for the admin listener.

use rekindle_gateway::keys::Keys;
use rekindle_gateway::ticket::{self, TicketError};
use rekindle_schema::PlayerId;
use rekindle_schema::wire::Role;

use super::bots;
use crate::admin::api;
use crate::clock;

/// What the audit log says of a ticket: for whom, and what it allows.
pub fn words(wanted: &api::IssueTicket) -> (String, String) {
    let role = if wanted.spectator { "spectator" } else { "player" };
    let only = wanted.match_id.as_ref().map(|id| format!(" match={id}")).unwrap_or_default();
    (format!("player {}", wanted.player), format!("role={role} ttl_s={}{only}", wanted.ttl_s))
}

/// Signs the ticket that `wanted` asks for, but none for a house bot's number: its holder would
/// play in its place. A match id that is none counts as no wish: check it before.
pub fn issue(keys: &Keys, wanted: &api::IssueTicket) -> Result<api::Ticket, TicketError> {
    if wanted.player >= bots::FIRST_HOUSE_PLAYER {
        return Err(TicketError::Claims(format!(
            "players from {} on are house bots",
            bots::FIRST_HOUSE_PLAYER
        )));
    }
    let ticket = ticket::Ticket {
        player: PlayerId(wanted.player),
        name: wanted.name.clone().unwrap_or_else(|| format!("player-{}", wanted.player)),
        match_id: wanted.match_id.as_deref().and_then(|id| id.parse().ok()),
        role: if wanted.spectator { Role::Spectator } else { Role::Player },
        expires_ms: clock::now_ms().saturating_add(wanted.ttl_s.saturating_mul(1_000)),
        nonce: clock::random(),
    };
    keys.issue_ticket(&ticket).map(|ticket| api::Ticket { ticket })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_gets_the_ticket_of_a_house_bot() {
        let keys = Keys::ephemeral([7; 32]).unwrap();
        let wanted = |player| api::IssueTicket {
            player,
            name: None,
            spectator: false,
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
