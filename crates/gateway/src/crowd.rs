//! Who is in: the clients that were let in, which connection carries each session, the places that
//! are taken.
//!
//! [`crate::connection`] enters and removes clients, [`crate::gateway`] sends all of them away when
//! the node goes down. [`crate::places`] decides who gets a place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use rekindle_door::Refusal;
use rekindle_schema::wire::{RefuseCode, Role};
use rekindle_schema::{MatchId, PlayerId, SessionId};
use tokio::time::Instant;

use crate::config::Limits;
use crate::meters::Meters;
use crate::places::{Grant, Place, Places};
use crate::seat::{ClientLine, Seat};

/// Most connections that a session may have at once: a client whose attempts to connect overlap may
/// show its credential over each of them.
const CONNECTIONS_OF_SESSION: usize = 8;

/// All clients that are in.
pub(crate) struct Crowd {
    limits: Limits,
    meters: Arc<Meters>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Set while nobody is let in: what clients are told.
    draining: Option<String>,
    /// All clients that were let in, by number of their connection.
    seats: BTreeMap<u64, Arc<Seat>>,
    /// The numbers of the connections of each session, in the order in which they were let in. The
    /// newest over which its client has said something carries it; the others wait for the client
    /// to make up its mind.
    sessions: BTreeMap<SessionId, Vec<u64>>,
    /// The places that are taken: also of clients that are still being let in.
    places: Places,
    /// Players whose hello is being answered, of those whose ticket names no match.
    opening: BTreeSet<PlayerId>,
}

impl Crowd {
    pub(crate) fn new(limits: Limits, meters: Arc<Meters>) -> Arc<Self> {
        Arc::new(Self { limits, meters, state: Mutex::default() })
    }

    /// Gives the client of connection `number` a place, or says why it gets none.
    pub(crate) fn place(
        self: &Arc<Self>,
        number: u64,
        place: Place,
    ) -> Result<PlaceGuard, Refusal> {
        let mut state = self.state.lock();
        match state.places.decide(place, &self.limits) {
            Grant::Free => {}
            Grant::Instead(spectator) => {
                Meters::no_place("shed");
                state.places.free(spectator);
                if let Some(seat) = state.seats.get(&spectator) {
                    seat.dismiss(Refusal::new(
                        RefuseCode::RateLimited,
                        "RK-GATE-121: players need your place: watch again in a while",
                    ));
                }
            }
            Grant::None(why, bound) => {
                Meters::no_place(why);
                let (who, what) = match why {
                    "player" => ("clients with tickets of this player", "close one of them"),
                    "address" => ("clients from this address", "close one of them"),
                    "spectators" => ("spectators", "watch again in a while"),
                    _ => ("clients", "try again in a while, or at another node"),
                };
                let words =
                    format!("RK-GATE-122: {bound} {who} are in, and more may not be: {what}");
                return Err(Refusal::new(RefuseCode::RateLimited, words));
            }
        }
        state.places.take(number, place);
        Ok(PlaceGuard { crowd: Arc::clone(self), number })
    }

    /// Notes that a hello of this player is being answered; `None` if another one is.
    pub(crate) fn opening(self: &Arc<Self>, player: PlayerId) -> Option<OpeningGuard> {
        self.state
            .lock()
            .opening
            .insert(player)
            .then(|| OpeningGuard { crowd: Arc::clone(self), player })
    }

    /// Whether the edge goes down.
    pub(crate) fn is_draining(&self) -> bool {
        self.state.lock().draining.is_some()
    }

    /// The lines of all clients of a match, in the order in which they came.
    pub(crate) fn lines(&self, match_id: MatchId) -> Vec<ClientLine> {
        let state = self.state.lock();
        let of_match = state.seats.values().filter(|seat| seat.match_id == match_id);
        of_match.map(|seat| seat.line()).collect()
    }

    /// How many clients are in.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().seats.len()
    }

    /// Sends all clients away for `reason`, and whoever comes from now on: the node goes down, or
    /// cannot serve them now.
    pub(crate) fn drain(&self, reason: &str) {
        let seats: Vec<Arc<Seat>> = {
            let mut state = self.state.lock();
            state.draining = Some(reason.to_owned());
            state.seats.values().cloned().collect()
        };
        for seat in &seats {
            seat.dismiss(Refusal::new(RefuseCode::Draining, reason));
        }
    }

    /// Takes [`Crowd::drain`] back: whoever comes from now on may come in.
    pub(crate) fn let_in(&self) {
        self.state.lock().draining = None;
    }

    /// Notes a client that was let in. Other connections of its session stay until the client says
    /// something over this one ([`Crowd::used`]): it may have shown its credential over several,
    /// and only it knows which one it goes on with.
    pub(crate) fn seat(&self, seat: &Arc<Seat>) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if let Some(reason) = state.draining.clone() {
            seat.dismiss(Refusal::new(RefuseCode::Draining, reason));
        }
        if seat.role == Role::Player {
            let numbers = state.sessions.entry(seat.session).or_default();
            if numbers.len() >= CONNECTIONS_OF_SESSION {
                let unused = |number: &u64| state.seats.get(number).is_none_or(|it| !it.is_used());
                let oldest = numbers.iter().position(unused).unwrap_or(0);
                self.supersede(state.seats.get(&numbers.remove(oldest)));
            }
            numbers.push(seat.number);
        }
        state.seats.insert(seat.number, Arc::clone(seat));
        self.meters.sessions.set(state.seats.len() as f64);
    }

    /// A player has said something over this connection for the first time: it carries the session
    /// now, and earlier ones are let go.
    pub(crate) fn used(&self, seat: &Seat) {
        let mut guard = self.state.lock();
        let State { sessions, seats, .. } = &mut *guard;
        let Some(numbers) = sessions.get_mut(&seat.session) else { return };
        let earlier = numbers.iter().position(|number| *number == seat.number).unwrap_or(0);
        for number in numbers.drain(..earlier) {
            self.supersede(seats.get(&number));
        }
    }

    /// Whether the client of this connection has said something over another one of its session
    /// behind `since`, and nothing over this one.
    pub(crate) fn is_spare(&self, seat: &Seat, since: Instant) -> bool {
        let state = self.state.lock();
        let numbers = state.sessions.get(&seat.session).into_iter().flatten();
        let mut others = numbers.filter_map(|number| state.seats.get(number));
        let heard = |other: &Arc<Seat>| other.feedback().is_some_and(|last| last.at > since);
        !seat.is_used() && others.any(heard)
    }

    fn supersede(&self, seat: Option<&Arc<Seat>>) {
        let Some(seat) = seat else { return };
        self.meters.superseded.increment(1);
        seat.dismiss(superseded());
    }

    /// Forgets a client. True if no other connection carries its session.
    pub(crate) fn unseat(&self, seat: &Seat) -> bool {
        let mut state = self.state.lock();
        state.seats.remove(&seat.number);
        self.meters.sessions.set(state.seats.len() as f64);
        let Some(numbers) = state.sessions.get_mut(&seat.session) else { return false };
        let carried = numbers.contains(&seat.number);
        numbers.retain(|number| *number != seat.number);
        let last = numbers.is_empty();
        if last {
            state.sessions.remove(&seat.session);
        }
        carried && last
    }
}

/// What the client of a connection is told whose session goes on over another.
pub(crate) fn superseded() -> Refusal {
    let words = "RK-GATE-035: your session goes on over another connection";
    Refusal::new(RefuseCode::Superseded, words)
}

/// A client has a place as long as this.
pub(crate) struct PlaceGuard {
    crowd: Arc<Crowd>,
    number: u64,
}

impl Drop for PlaceGuard {
    fn drop(&mut self) {
        self.crowd.state.lock().places.free(self.number);
    }
}

/// A hello of a player is being answered as long as this.
pub(crate) struct OpeningGuard {
    crowd: Arc<Crowd>,
    player: PlayerId,
}

impl Drop for OpeningGuard {
    fn drop(&mut self) {
        self.crowd.state.lock().opening.remove(&self.player);
    }
}
