//! Issues tickets from a request, for `ticket issue` and for the admin listener.

use rekindle_gateway::keys::Keys;
use rekindle_gateway::ticket::{self, TicketError};
use rekindle_schema::PlayerId;
use rekindle_schema::wire::Role;

use super::clock;
use crate::admin::api;

/// Signs the ticket that `wanted` asks for. A match id that is none counts as no wish: check it before.
pub fn issue(keys: &Keys, wanted: &api::IssueTicket) -> Result<api::Ticket, TicketError> {
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
