//! Tickets let a player in, resume tokens let a session go on. Both are PASETO v4.public tokens.
//!
//! A ticket is signed by this node or by an issuer that it trusts, and expires. A resume token is signed by this node (all nodes of a
//! cluster share the signing key) and is good as long as the match has the session. The two differ in PASETO's implicit
//! assertion, so that one is never taken for the other. The time comes from the caller.

use pasetors::Public;
use pasetors::token::UntrustedToken;
use pasetors::version4::{PublicToken, V4};
use rekindle_schema::wire::Role;
use rekindle_schema::{MatchId, PlayerId, SessionId};
use serde::{Deserialize, Serialize};

use crate::keys::Keys;

/// PASETO implicit assertion of tickets.
pub const TICKET_ASSERTION: &[u8] = b"rekindle/ticket/1";
/// PASETO implicit assertion of resume tokens.
pub const RESUME_ASSERTION: &[u8] = b"rekindle/resume/1";
/// Longest name of a player, in bytes of UTF-8.
pub const MAX_NAME: usize = 32;
/// Longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 2048;

/// Who may come in, as what, until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ticket {
    /// Who.
    pub player: PlayerId,
    /// The name to show, 1 to [`MAX_NAME`] bytes.
    pub name: String,
    /// Only into this match; without it, into any.
    pub match_id: Option<MatchId>,
    /// A player's ticket also lets its owner watch, a spectator's ticket only that.
    pub role: Role,
    /// Good before this time, in milliseconds since 1970.
    pub expires_ms: u64,
    /// Tells apart tickets that are otherwise the same.
    pub nonce: u64,
}

/// The session that a resume token stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// In which match.
    pub match_id: MatchId,
    /// Whose.
    pub player: PlayerId,
    /// Which.
    pub session: SessionId,
}

/// Why a ticket or token does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// It is no PASETO v4.public token.
    #[error("RK-GATE-010: this is not a `v4.public.` token: {0}")]
    Malformed(String),
    /// Nobody whom this node trusts has signed it as what it was shown for.
    #[error("RK-GATE-011: the signature is not by a trusted key: get a new {0}")]
    Forged(&'static str),
    /// It was good once.
    #[error("RK-GATE-012: the ticket expired {ago_ms} ms ago: get a new one")]
    Expired {
        /// For how long it has not been good, in milliseconds.
        ago_ms: u64,
    },
    /// The signature is good and what was signed is not.
    #[error("RK-GATE-013: what the token says cannot be used: {0}")]
    Claims(String),
    /// It is for something else.
    #[error("RK-GATE-014: the ticket is for {found}, not for {wanted}")]
    NotForThis {
        /// What it is for.
        found: String,
        /// What was asked for.
        wanted: String,
    },
}

#[derive(Serialize, Deserialize)]
struct TicketClaims {
    player: u64,
    name: String,
    #[serde(rename = "match", default, skip_serializing_if = "Option::is_none")]
    match_id: Option<String>,
    role: RoleClaim,
    expires_ms: u64,
    #[serde(default)]
    nonce: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RoleClaim {
    Player,
    Spectator,
}

#[derive(Serialize, Deserialize)]
struct ResumeClaims {
    #[serde(rename = "match")]
    match_id: String,
    player: u64,
    session: String,
}

impl Keys {
    /// Signs a ticket.
    pub fn issue_ticket(&self, ticket: &Ticket) -> Result<String, TicketError> {
        check_name(&ticket.name)?;
        let claims = TicketClaims {
            player: ticket.player.0,
            name: ticket.name.clone(),
            match_id: ticket.match_id.map(|id| id.to_string()),
            role: match ticket.role {
                Role::Player => RoleClaim::Player,
                Role::Spectator => RoleClaim::Spectator,
            },
            expires_ms: ticket.expires_ms,
            nonce: ticket.nonce,
        };
        self.sign(&claims, TICKET_ASSERTION)
    }

    /// Reads a ticket that is good at `now_ms` (milliseconds since 1970).
    pub fn verify_ticket(&self, token: &str, now_ms: u64) -> Result<Ticket, TicketError> {
        let claims: TicketClaims = self.open(token, TICKET_ASSERTION, "ticket", self.issuers.len())?;
        check_name(&claims.name)?;
        if claims.expires_ms <= now_ms {
            return Err(TicketError::Expired { ago_ms: now_ms - claims.expires_ms });
        }
        Ok(Ticket {
            player: PlayerId(claims.player),
            name: claims.name,
            match_id: claims.match_id.as_deref().map(parse_id).transpose()?,
            role: match claims.role {
                RoleClaim::Player => Role::Player,
                RoleClaim::Spectator => Role::Spectator,
            },
            expires_ms: claims.expires_ms,
            nonce: claims.nonce,
        })
    }

    /// Signs a resume token.
    pub fn issue_resume(&self, resume: &Resume) -> Result<String, TicketError> {
        let claims = ResumeClaims { match_id: resume.match_id.to_string(), player: resume.player.0, session: resume.session.to_string() };
        self.sign(&claims, RESUME_ASSERTION)
    }

    /// Reads a resume token. Whether the match still has the session is the match's to say.
    pub fn verify_resume(&self, token: &str) -> Result<Resume, TicketError> {
        // Only our own key: another issuer may let players in, but knows no sessions.
        let claims: ResumeClaims = self.open(token, RESUME_ASSERTION, "resume token", 1)?;
        Ok(Resume { match_id: parse_id(&claims.match_id)?, player: PlayerId(claims.player), session: parse_id(&claims.session)? })
    }

    fn sign<T: Serialize>(&self, claims: &T, assertion: &[u8]) -> Result<String, TicketError> {
        let message = serde_json::to_vec(claims).map_err(|error| TicketError::Claims(error.to_string()))?;
        PublicToken::sign(&self.signing, &message, None, Some(assertion)).map_err(|error| TicketError::Claims(error.to_string()))
    }

    fn open<T: for<'de> Deserialize<'de>>(
        &self,
        token: &str,
        assertion: &[u8],
        what: &'static str,
        issuers: usize,
    ) -> Result<T, TicketError> {
        if token.len() > MAX_TOKEN {
            return Err(TicketError::Malformed(format!("{} bytes, at most {MAX_TOKEN} are looked at", token.len())));
        }
        let untrusted = UntrustedToken::<Public, V4>::try_from(token).map_err(|error| TicketError::Malformed(error.to_string()))?;
        let trusted = self
            .issuers
            .iter()
            .take(issuers)
            .find_map(|issuer| PublicToken::verify(issuer, &untrusted, None, Some(assertion)).ok())
            .ok_or(TicketError::Forged(what))?;
        serde_json::from_str(trusted.payload()).map_err(|error| TicketError::Claims(error.to_string()))
    }
}

fn check_name(name: &str) -> Result<(), TicketError> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(TicketError::Claims(format!("a name has 1 to {MAX_NAME} bytes and no control characters, not {name:?}")));
    }
    Ok(())
}

fn parse_id<T: std::str::FromStr<Err = rekindle_schema::ids::ParseIdError>>(text: &str) -> Result<T, TicketError> {
    text.parse().map_err(|error: rekindle_schema::ids::ParseIdError| TicketError::Claims(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        Ticket {
            player: PlayerId(7),
            name: "Ada".to_owned(),
            match_id: Some(MatchId(0x7f3a)),
            role: Role::Player,
            expires_ms: 1_000,
            nonce: 42,
        }
    }

    #[test]
    fn a_ticket_says_after_signing_what_it_said_before() {
        let keys = Keys::ephemeral([1; 32]).unwrap();
        let token = keys.issue_ticket(&ticket()).unwrap();
        assert!(token.starts_with("v4.public."));
        assert_eq!(keys.verify_ticket(&token, 999).unwrap(), ticket());
    }

    #[test]
    fn an_expired_ticket_says_since_when() {
        let keys = Keys::ephemeral([1; 32]).unwrap();
        let token = keys.issue_ticket(&ticket()).unwrap();
        assert_eq!(keys.verify_ticket(&token, 1_000), Err(TicketError::Expired { ago_ms: 0 }));
        assert_eq!(keys.verify_ticket(&token, 1_500), Err(TicketError::Expired { ago_ms: 500 }));
    }

    #[test]
    fn no_changed_character_of_a_ticket_goes_unnoticed() {
        let keys = Keys::ephemeral([1; 32]).unwrap();
        let token = keys.issue_ticket(&ticket()).unwrap();
        for index in (0..token.len()).step_by(7) {
            let mut changed = token.clone().into_bytes();
            changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert!(keys.verify_ticket(&changed, 0).is_err(), "character {index} of {token}");
        }
    }

    #[test]
    fn only_trusted_issuers_count_and_none_of_them_knows_sessions() {
        let mut keys = Keys::ephemeral([1; 32]).unwrap();
        let login = Keys::ephemeral([2; 32]).unwrap();
        let token = login.issue_ticket(&ticket()).unwrap();
        assert_eq!(keys.verify_ticket(&token, 0), Err(TicketError::Forged("ticket")));
        let mut public = [0; 32];
        public.copy_from_slice(login.issuers[0].as_bytes());
        keys.trust_issuer(&public).unwrap();
        assert_eq!(keys.verify_ticket(&token, 0).unwrap(), ticket());
        let resume = Resume { match_id: MatchId(1), player: PlayerId(7), session: SessionId(9) };
        assert_eq!(keys.verify_resume(&login.issue_resume(&resume).unwrap()), Err(TicketError::Forged("resume token")));
        assert_eq!(keys.verify_resume(&keys.issue_resume(&resume).unwrap()).unwrap(), resume);
    }

    #[test]
    fn a_ticket_is_no_resume_token_and_the_other_way_round() {
        let keys = Keys::ephemeral([1; 32]).unwrap();
        let resume = Resume { match_id: MatchId(1), player: PlayerId(7), session: SessionId(9) };
        assert_eq!(keys.verify_resume(&keys.issue_ticket(&ticket()).unwrap()), Err(TicketError::Forged("resume token")));
        assert_eq!(keys.verify_ticket(&keys.issue_resume(&resume).unwrap(), 0), Err(TicketError::Forged("ticket")));
    }

    #[test]
    fn names_that_cannot_be_shown_are_refused() {
        let keys = Keys::ephemeral([1; 32]).unwrap();
        for name in ["", "a\nb", &"x".repeat(33)] {
            assert!(matches!(keys.issue_ticket(&Ticket { name: name.to_owned(), ..ticket() }), Err(TicketError::Claims(_))));
        }
    }
}
