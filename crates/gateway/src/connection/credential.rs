//! What the credential of a hello shows: who comes, into which match, with which session. Pure.
//!
//! Called by [`super::hello`] before anything else is asked: whoever shows nothing good costs no
//! more than this.

use rekindle_door::Refusal;
use rekindle_schema::wire::{Credential, Hello, RefuseCode, Role};
use rekindle_schema::{MatchId, PlayerId, SessionId};

use crate::edge::Edge;
use crate::ticket::TicketError;

/// What the hello showed.
pub(super) struct Shown {
    /// Who comes.
    pub(super) player: PlayerId,
    /// What the player is called; empty in a resume token.
    pub(super) name: String,
    /// The match that is asked for, by the hello or by the credential.
    pub(super) wanted: Option<MatchId>,
    /// The credential names no match: it is good for one match at a time.
    pub(super) unbound: bool,
    /// The session that a resume token was made for.
    pub(super) resume: Option<SessionId>,
    /// The ticket was good once: it still leads back into a session that lives.
    pub(super) expired: Option<TicketError>,
}

/// Checks the credential of a hello.
pub(super) fn check(edge: &Edge, hello: &Hello) -> Result<Shown, Refusal> {
    let credential = |error: TicketError| Refusal::new(RefuseCode::Credential, error.to_string());
    let now_ms = (edge.config.clock)();
    let (player, name, bound, resume, expired) = match &hello.credential {
        Credential::Ticket(token) => {
            let (ticket, expired) = edge.keys.read_ticket(token, now_ms).map_err(credential)?;
            if ticket.role == Role::Spectator && hello.role == Role::Player {
                return Err(credential(TicketError::NotForThis {
                    found: "watching".to_owned(),
                    wanted: "playing".to_owned(),
                }));
            }
            (ticket.player, ticket.name, ticket.match_id, None, expired)
        }
        Credential::Resume(token) => {
            let resume = edge.keys.verify_resume(token, now_ms).map_err(credential)?;
            (resume.player, String::new(), Some(resume.match_id), Some(resume.session), None)
        }
    };
    if player.0 >= edge.config.limits.first_own_player {
        let words =
            format!("players from {} on are the node's own", edge.config.limits.first_own_player);
        return Err(credential(TicketError::Claims(words)));
    }
    if let (Some(bound), Some(wanted)) = (bound, hello.match_id)
        && bound != wanted
    {
        let error = TicketError::NotForThis {
            found: format!("match {bound}"),
            wanted: format!("match {wanted}"),
        };
        return Err(credential(error));
    }
    Ok(Shown {
        player,
        name,
        wanted: hello.match_id.or(bound),
        unbound: bound.is_none(),
        resume,
        expired,
    })
}
