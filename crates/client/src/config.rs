//! What a client is given: where to ask, whom to trust, what to show.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use rekindle_schema::MatchId;
use rekindle_schema::wire::{Credential, Role};
use rekindle_transport::Trust;

/// When a client becomes impatient. The defaults suit action games.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// A server that has sent nothing for this long, and for [`Timing::silent_ticks`], is dialled
    /// again.
    pub silence: Duration,
    /// See [`Timing::silence`].
    pub silent_ticks: u32,
    /// A server that has spoken steadily of late (its longest pause was short) is dialled again
    /// after twice that pause, but not before so long.
    pub steady_silence: Duration,
    /// The next address is tried so long after the one before, while that attempt still runs.
    pub redial: Duration,
    /// When all addresses were tried, the next round starts after so long, a quarter more or less;
    /// after that one twice, then four times as long. Within an attempt, QUIC repeats its first
    /// packet more often.
    pub redial_round: Duration,
    /// An attempt of the first round may take so long; of the next twice, of later ones four times
    /// as long.
    pub attempt: Duration,
    /// From the end of the handshake to the welcome: the match may have to be recovered first.
    pub welcome: Duration,
    /// Without a session for this long, the client gives up.
    pub give_up: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            silence: Duration::from_millis(100),
            silent_ticks: 4,
            steady_silence: Duration::from_millis(75),
            redial: Duration::from_millis(50),
            redial_round: Duration::from_millis(500),
            attempt: Duration::from_millis(1500),
            welcome: Duration::from_secs(8),
            give_up: Duration::from_mins(1),
        }
    }
}

/// What a client wants of a match that it does not name.
///
/// ```
/// use rekindle_client::Lobby;
///
/// let duel = Lobby::with([("mode", "duel")]).or_create();
/// assert!(duel.create && duel.properties["mode"] == "duel");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lobby {
    /// Names and values: the match has all of them.
    pub properties: BTreeMap<String, String>,
    /// If no match with them has a free seat, one is to be made, if the operator allows it
    /// (`lobbies.create`).
    pub create: bool,
}

impl Lobby {
    /// A match with these properties.
    pub fn with<'p>(properties: impl IntoIterator<Item = (&'p str, &'p str)>) -> Self {
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self { properties: properties.into_iter().map(owned).collect(), create: false }
    }

    /// The same, made if there is none.
    #[must_use]
    pub fn or_create(self) -> Self {
        Self { create: true, ..self }
    }
}

/// What a client is given.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Nodes to ask, in this order; at least one.
    pub addrs: Vec<SocketAddr>,
    /// Which server is the right one.
    pub trust: Trust,
    /// A ticket, or the resume token of an earlier session.
    pub credential: Credential,
    /// To play or to watch.
    pub role: Role,
    /// Which match; without it, the one that the credential names, else any that has room.
    pub match_id: Option<MatchId>,
    /// Only a match of this game. A server that speaks version 1 of the protocol alone does not
    /// hear of it.
    pub game: Option<String>,
    /// Instead of a match: any of `game` with a free seat, on whichever node. Servers from version
    /// 6 of the protocol on look for one; others are not entered.
    pub lobby: Option<Lobby>,
    /// When to become impatient.
    pub timing: Timing,
    /// Events that may wait for the game. Snapshots beyond are dropped; with other events beyond,
    /// the client stops reading.
    pub event_queue: usize,
}

impl ClientConfig {
    /// To play, with a ticket, in the match that the ticket names.
    pub fn new(addrs: Vec<SocketAddr>, trust: Trust, ticket: impl Into<String>) -> Self {
        Self {
            addrs,
            trust,
            credential: Credential::Ticket(ticket.into()),
            role: Role::Player,
            match_id: None,
            game: None,
            lobby: None,
            timing: Timing::default(),
            event_queue: 1024,
        }
    }

    /// A number that few other clients have: made of the credential.
    pub(crate) fn seed(&self) -> u64 {
        let (Credential::Ticket(token) | Credential::Resume(token)) = &self.credential;
        // FNV-1a.
        token.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}
