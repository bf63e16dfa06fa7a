//! How much may wait for one peer. Pure.
//!
//! The library that carries requests queues without a bound, so a peer that has stopped would make
//! this node grow. A request is let in only while few enough, and few enough bytes, are open.
//! One that was given up stays open: its bytes may still lie in the queue. It is closed when a
//! later one is answered, because requests leave in order, or with the link.

use std::collections::BTreeMap;

use rekindle_schema::peer::MAX_PEER_MESSAGE;

/// Most requests that are open at once.
pub const MAX_OPEN: usize = 64;
/// Most bytes of open requests.
pub const MAX_OPEN_BYTES: usize = 1 << 20;

const _: () = assert!(MAX_OPEN_BYTES >= 2 * MAX_PEER_MESSAGE, "a large request does not block all");

#[derive(Debug)]
struct Open {
    bytes: usize,
    given_up: bool,
}

/// The open requests of one link.
#[derive(Debug, Default)]
pub struct Budget {
    next: u64,
    open: BTreeMap<u64, Open>,
    bytes: usize,
}

impl Budget {
    /// Lets a request of so many bytes in and returns its number; `None` if too much is open.
    pub fn enter(&mut self, bytes: usize) -> Option<u64> {
        let fits = self.open.len() < MAX_OPEN && self.bytes + bytes <= MAX_OPEN_BYTES;
        fits.then(|| self.enter_always(bytes))
    }

    /// As [`Budget::enter`], for what shows whether the peer lives at all: there is one of it at a
    /// time, and it must get through whatever else is open.
    pub fn enter_always(&mut self, bytes: usize) -> u64 {
        let number = self.next;
        self.next += 1;
        self.open.insert(number, Open { bytes, given_up: false });
        self.bytes += bytes;
        number
    }

    /// A request was answered: it is closed, and so are those before it that were given up.
    pub fn answered(&mut self, number: u64) {
        let over: Vec<u64> = self
            .open
            .range(..=number)
            .filter(|(open, request)| **open == number || request.given_up)
            .map(|(open, _)| *open)
            .collect();
        for number in over {
            let closed = self.open.remove(&number);
            self.bytes -= closed.map_or(0, |request| request.bytes);
        }
    }

    /// Nobody waits for the answer any more.
    pub fn given_up(&mut self, number: u64) {
        if let Some(request) = self.open.get_mut(&number) {
            request.given_up = true;
        }
    }

    /// How many requests are open, and how many bytes they have.
    pub fn open(&self) -> (usize, usize) {
        (self.open.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_that_answers_nothing_holds_a_bounded_amount() {
        let mut budget = Budget::default();
        let mut let_in = 0;
        for _ in 0..10_000 {
            if let Some(number) = budget.enter(MAX_PEER_MESSAGE) {
                let_in += 1;
                budget.given_up(number);
            }
        }
        assert_eq!(let_in, MAX_OPEN_BYTES / MAX_PEER_MESSAGE);
        let mut budget = Budget::default();
        while budget.enter(1).is_some() {}
        assert_eq!(budget.open(), (MAX_OPEN, MAX_OPEN));
    }

    #[test]
    fn an_answer_closes_what_was_given_up_before_it_and_nothing_else() {
        let mut budget = Budget::default();
        let [given_up, open, answered, later] = [10, 20, 30, 40].map(|n| budget.enter(n).unwrap());
        budget.given_up(given_up);
        budget.given_up(later);
        budget.answered(answered);
        assert_eq!(budget.open(), (2, 60), "the one that is waited for, and the later one");
        budget.answered(open);
        budget.answered(open);
        assert_eq!(budget.open(), (1, 40), "answered once");
    }

    #[test]
    fn a_ping_passes_when_nothing_else_does() {
        let mut budget = Budget::default();
        while let Some(number) = budget.enter(MAX_PEER_MESSAGE) {
            budget.given_up(number);
        }
        let ping = budget.enter_always(8);
        budget.answered(ping);
        assert_eq!(budget.open(), (0, 0), "it left behind all that waited");
    }
}
