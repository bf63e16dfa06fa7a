//! Tickets let a player in, resume tokens let a session go on. Both are PASETO v4.public tokens.
//!
//! A ticket is signed by this node or by an issuer that it trusts, and expires. A resume token is
//! signed by this node (all nodes of a cluster share the signing key) and is good as long as the
//! match has the session. The two differ in PASETO's implicit assertion, so that one is never taken
//! for the other. The time comes from the caller.
//!
//! One rule holds for the registered claims of both: `exp`, `nbf`, `iat` and `aud` need not be
//! there, and count if they are. Times are RFC 3339 or whole seconds since 1970; a claim that
//! cannot be read refuses the token. `docs/PROTOCOL.md` has the rule in words.

use pasetors::Public;
use pasetors::keys::AsymmetricPublicKey;
use pasetors::token::UntrustedToken;
use pasetors::version4::{PublicToken, V4};
use rekindle_schema::wire::Role;
use rekindle_schema::{MatchId, PlayerId, SessionId};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::keys::Keys;

/// PASETO implicit assertion of tickets.
pub const TICKET_ASSERTION: &[u8] = b"rekindle/ticket/1";
/// PASETO implicit assertion of resume tokens.
pub const RESUME_ASSERTION: &[u8] = b"rekindle/resume/1";
/// Longest name of a player, in bytes of UTF-8.
pub const MAX_NAME: usize = 32;
/// Longest token that is looked at, in bytes.
pub const MAX_TOKEN: usize = 2048;
/// What `aud` must name, if it is there.
pub const AUDIENCE: &str = "rekindle";
/// By how much the issuer's clock may be ahead of this node's, in milliseconds: for `nbf` and
/// `iat`. An end is an end.
pub const LEEWAY_MS: u64 = 30_000;

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
    /// The match that the session is in.
    pub match_id: MatchId,
    /// The player whose session it is.
    pub player: PlayerId,
    /// The session.
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
    /// It will be good.
    #[error(
        "RK-GATE-126: the token is good in {in_ms} ms only, by this node's clock: compare the \
         clocks of issuer and node"
    )]
    NotYet {
        /// In how many milliseconds.
        in_ms: u64,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_ms: Option<u64>,
    #[serde(default)]
    nonce: u64,
    #[serde(flatten)]
    registered: Registered,
}

/// The claims that PASETO registers and that count here. Never written by this node.
#[derive(Default, Serialize, Deserialize)]
struct Registered {
    #[serde(default, skip_serializing)]
    exp: Option<Moment>,
    #[serde(default, skip_serializing)]
    nbf: Option<Moment>,
    #[serde(default, skip_serializing)]
    iat: Option<Moment>,
    #[serde(default, skip_serializing)]
    aud: Option<Audience>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Moment {
    Seconds(i64),
    Text(String),
}

impl Moment {
    /// In milliseconds since 1970.
    fn ms(&self) -> Result<u64, TicketError> {
        let ms = match self {
            Self::Seconds(seconds) => i128::from(*seconds) * 1_000,
            Self::Text(text) => {
                let read = OffsetDateTime::parse(text, &Rfc3339);
                read.map_err(|error| TicketError::Claims(format!("the time {text:?}: {error}")))?
                    .unix_timestamp_nanos()
                    / 1_000_000
            }
        };
        Ok(u64::try_from(ms.max(0)).unwrap_or(u64::MAX))
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Registered {
    /// Whether the token counts at `now_ms`. Gives its end, if it has one: what that means is the
    /// caller's to say.
    fn check(&self, now_ms: u64) -> Result<Option<u64>, TicketError> {
        match &self.aud {
            None => {}
            Some(Audience::One(name)) if name == AUDIENCE => {}
            Some(Audience::Many(names)) if names.iter().any(|name| name == AUDIENCE) => {}
            Some(_) => {
                return Err(TicketError::Claims(format!("its audience is not {AUDIENCE:?}")));
            }
        }
        for begin in [&self.nbf, &self.iat].into_iter().flatten() {
            let begin = begin.ms()?;
            if begin > now_ms.saturating_add(LEEWAY_MS) {
                return Err(TicketError::NotYet { in_ms: begin - now_ms });
            }
        }
        self.exp.as_ref().map(Moment::ms).transpose()
    }
}

fn expired(end_ms: u64, now_ms: u64) -> Option<TicketError> {
    (end_ms <= now_ms).then(|| TicketError::Expired { ago_ms: now_ms - end_ms })
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
    #[serde(flatten)]
    registered: Registered,
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
            expires_ms: Some(ticket.expires_ms),
            nonce: ticket.nonce,
            registered: Registered::default(),
        };
        self.sign(&claims, TICKET_ASSERTION)
    }

    /// Reads a ticket that is good at `now_ms` (milliseconds since 1970).
    pub fn verify_ticket(&self, token: &str, now_ms: u64) -> Result<Ticket, TicketError> {
        match self.read_ticket(token, now_ms)? {
            (ticket, None) => Ok(ticket),
            (_, Some(expired)) => Err(expired),
        }
    }

    /// Reads a ticket that is good at `now_ms`, or was: then with [`TicketError::Expired`]. Such a
    /// one opens no session, and leads back into one that lives.
    pub fn read_ticket(
        &self,
        token: &str,
        now_ms: u64,
    ) -> Result<(Ticket, Option<TicketError>), TicketError> {
        let claims: TicketClaims =
            self.open(token, TICKET_ASSERTION, "ticket", (&self.issuers, now_ms))?;
        check_name(&claims.name)?;
        let ends = [claims.expires_ms, claims.registered.check(now_ms)?];
        let expires_ms = ends.into_iter().flatten().min();
        let expires_ms = expires_ms.ok_or_else(|| {
            TicketError::Claims("a ticket has `expires_ms` or `exp`: when it ends".to_owned())
        })?;
        let ticket = Ticket {
            player: PlayerId(claims.player),
            name: claims.name,
            match_id: claims.match_id.as_deref().map(parse_id).transpose()?,
            role: match claims.role {
                RoleClaim::Player => Role::Player,
                RoleClaim::Spectator => Role::Spectator,
            },
            expires_ms,
            nonce: claims.nonce,
        };
        Ok((ticket, expired(expires_ms, now_ms)))
    }

    /// Signs a resume token.
    pub fn issue_resume(&self, resume: &Resume) -> Result<String, TicketError> {
        let Resume { match_id, player, session } = resume;
        let registered = Registered::default();
        let claims = ResumeClaims {
            match_id: match_id.to_string(),
            player: player.0,
            session: session.to_string(),
            registered,
        };
        self.sign(&claims, RESUME_ASSERTION)
    }

    /// Reads a resume token that is good at `now_ms`: those that nodes make have no end. Whether
    /// the match still has the session is the match's to say.
    pub fn verify_resume(&self, token: &str, now_ms: u64) -> Result<Resume, TicketError> {
        // Only our own keys: another issuer may let players in, but knows no sessions.
        let claims: ResumeClaims =
            self.open(token, RESUME_ASSERTION, "resume token", (&[], now_ms))?;
        if let Some(expired) = claims.registered.check(now_ms)?.and_then(|end| expired(end, now_ms))
        {
            return Err(expired);
        }
        Ok(Resume {
            match_id: parse_id(&claims.match_id)?,
            player: PlayerId(claims.player),
            session: parse_id(&claims.session)?,
        })
    }

    fn sign<T: Serialize>(&self, claims: &T, assertion: &[u8]) -> Result<String, TicketError> {
        let message =
            serde_json::to_vec(claims).map_err(|error| TicketError::Claims(error.to_string()))?;
        PublicToken::sign(&self.signers().signing, &message, None, Some(assertion))
            .map_err(|error| TicketError::Claims(error.to_string()))
    }

    fn open<T: for<'de> Deserialize<'de>>(
        &self,
        token: &str,
        assertion: &[u8],
        what: &'static str,
        (others, now_ms): (&[AsymmetricPublicKey<V4>], u64),
    ) -> Result<T, TicketError> {
        if token.len() > MAX_TOKEN {
            return Err(TicketError::Malformed(format!(
                "{} bytes, at most {MAX_TOKEN} are looked at",
                token.len()
            )));
        }
        let untrusted = UntrustedToken::<Public, V4>::try_from(token)
            .map_err(|error| TicketError::Malformed(error.to_string()))?;
        let signers = self.signers();
        let own = signers.own.iter().filter(|(_, until_ms)| now_ms < *until_ms);
        let trusted = own
            .map(|(key, _)| key)
            .chain(others)
            .find_map(|issuer| PublicToken::verify(issuer, &untrusted, None, Some(assertion)).ok())
            .ok_or(TicketError::Forged(what))?;
        serde_json::from_str(trusted.payload())
            .map_err(|error| TicketError::Claims(error.to_string()))
    }
}

fn check_name(name: &str) -> Result<(), TicketError> {
    if name.is_empty() || name.len() > MAX_NAME || name.chars().any(char::is_control) {
        return Err(TicketError::Claims(format!(
            "a name has 1 to {MAX_NAME} bytes and no control characters, not {name:?}"
        )));
    }
    Ok(())
}

fn parse_id<T: std::str::FromStr<Err = rekindle_schema::ids::ParseIdError>>(
    text: &str,
) -> Result<T, TicketError> {
    text.parse()
        .map_err(|error: rekindle_schema::ids::ParseIdError| TicketError::Claims(error.to_string()))
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
        public.copy_from_slice(login.signers().own[0].0.as_bytes());
        keys.trust_issuer(&public).unwrap();
        assert_eq!(keys.verify_ticket(&token, 0).unwrap(), ticket());
        let resume = Resume { match_id: MatchId(1), player: PlayerId(7), session: SessionId(9) };
        assert_eq!(
            keys.verify_resume(&login.issue_resume(&resume).unwrap(), 0),
            Err(TicketError::Forged("resume token"))
        );
        assert_eq!(keys.verify_resume(&keys.issue_resume(&resume).unwrap(), 0).unwrap(), resume);
    }

    #[test]
    fn a_ticket_is_no_resume_token_and_the_other_way_round() {
        let keys = Keys::ephemeral([1; 32]).unwrap();
        let resume = Resume { match_id: MatchId(1), player: PlayerId(7), session: SessionId(9) };
        assert_eq!(
            keys.verify_resume(&keys.issue_ticket(&ticket()).unwrap(), 0),
            Err(TicketError::Forged("resume token"))
        );
        assert_eq!(
            keys.verify_ticket(&keys.issue_resume(&resume).unwrap(), 0),
            Err(TicketError::Forged("ticket"))
        );
    }

    /// Tokens with other claims than this node's own.
    fn signed(keys: &Keys, claims: &str, assertion: &[u8]) -> String {
        PublicToken::sign(&keys.signers().signing, claims.as_bytes(), None, Some(assertion))
            .unwrap()
    }

    #[test]
    fn registered_claims_count_by_one_rule_in_tickets_and_resume_tokens() {
        let keys = Keys::ephemeral([1; 32]).unwrap();
        // 1,000,000 s is 1970-01-12T13:46:40Z.
        let now_ms = 1_000_000_000;
        let cases = [
            (r#""exp":1000001"#, ""),
            (
                r#""exp":"1970-01-12T13:46:41Z","nbf":"1970-01-12T13:46:40Z","iat":999999,"aud":"rekindle""#,
                "",
            ),
            (r#""exp":"1970-01-12T15:46:41+02:00","aud":["else","rekindle"]"#, ""),
            // The issuer's clock is a little ahead.
            (r#""exp":1000100,"iat":1000030,"nbf":1000030"#, ""),
            (r#""exp":1000000"#, "RK-GATE-012"),
            (r#""exp":"1970-01-12T13:46:40Z""#, "RK-GATE-012"),
            (r#""exp":1000100,"nbf":1000031"#, "RK-GATE-126"),
            (r#""exp":1000100,"iat":"2970-01-12T13:46:40Z""#, "RK-GATE-126"),
            (r#""exp":1000100,"aud":"another""#, "RK-GATE-013"),
            (r#""exp":1000100,"aud":[]"#, "RK-GATE-013"),
            (r#""exp":1000100,"aud":7"#, "RK-GATE-013"),
            (r#""exp":"tomorrow""#, "RK-GATE-013"),
            (r#""exp":true"#, "RK-GATE-013"),
            (r#""exp":1000100.5"#, "RK-GATE-013"),
        ];
        for (registered, refusal) in cases {
            let as_ticket = format!(r#"{{"player":7,"name":"Ada","role":"player",{registered}}}"#);
            let as_resume = format!(
                r#"{{"match":"0000000000000001","player":7,"session":"0000000000000009",{registered}}}"#
            );
            let ticket = keys.verify_ticket(&signed(&keys, &as_ticket, TICKET_ASSERTION), now_ms);
            let resume = keys.verify_resume(&signed(&keys, &as_resume, RESUME_ASSERTION), now_ms);
            for found in [ticket.map(drop), resume.map(drop)] {
                let words = found.map_or_else(|error| error.to_string(), |()| String::new());
                assert!(
                    words.starts_with(refusal) && words.is_empty() == refusal.is_empty(),
                    "{registered}: {words}"
                );
            }
        }
        // Of two ends the earlier one counts, and a ticket has one.
        let both = |ends: &str| {
            signed(
                &keys,
                &format!(r#"{{"player":7,"name":"Ada","role":"player"{ends}}}"#),
                TICKET_ASSERTION,
            )
        };
        assert_eq!(
            keys.verify_ticket(&both(r#","expires_ms":2000000000,"exp":1000001"#), now_ms)
                .unwrap()
                .expires_ms,
            1_000_001_000
        );
        assert_eq!(
            keys.verify_ticket(&both(r#","expires_ms":1000000001,"exp":1000009"#), now_ms)
                .unwrap()
                .expires_ms,
            1_000_000_001
        );
        assert!(matches!(keys.verify_ticket(&both(""), now_ms), Err(TicketError::Claims(_))));
    }

    #[test]
    fn a_rotation_loses_no_token_within_its_overlap() {
        use crate::keyring::make_set;
        use rekindle_schema::keyring::Keyring;
        let first = make_set(1, (0, 0), None).unwrap();
        let mut ring = Keyring::new(first.clone());
        let keys = Keys::of_ring(&ring, 0).unwrap();
        let of = |session| {
            let session = SessionId(session);
            Resume { match_id: MatchId(1), player: PlayerId(2), session }
        };
        let old = keys.issue_resume(&of(1)).unwrap();
        ring.rotate(make_set(2, (100, 200), Some(&first)).unwrap(), 1_000, 100).unwrap();
        // A node that has read the new keys signs with the old one until all have.
        keys.adopt(&ring, 150).unwrap();
        assert_eq!(keys.issue_resume(&of(1)).unwrap(), old);
        keys.adopt(&ring, 200).unwrap();
        let new = keys.issue_resume(&of(2)).unwrap();
        let started_later = Keys::of_ring(&ring, 200).unwrap();
        for keys in [&keys, &started_later] {
            assert_eq!(keys.verify_resume(&old, 1_199).unwrap(), of(1));
            assert_eq!(keys.verify_resume(&new, 5_000).unwrap(), of(2));
            assert!(matches!(keys.verify_resume(&old, 1_200), Err(TicketError::Forged(_))));
        }
        assert_eq!(started_later.certificate_der(), keys.certificate_der());
        let unaware = Keys::of_ring(&Keyring::new(first), 0).unwrap();
        assert!(matches!(unaware.verify_resume(&new, 200), Err(TicketError::Forged(_))));
    }

    #[test]
    fn names_that_cannot_be_shown_are_refused() {
        let keys = Keys::ephemeral([1; 32]).unwrap();
        for name in ["", "a\nb", &"x".repeat(33)] {
            assert!(matches!(
                keys.issue_ticket(&Ticket { name: name.to_owned(), ..ticket() }),
                Err(TicketError::Claims(_))
            ));
        }
    }
}
