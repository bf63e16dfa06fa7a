//! What a client was told while it waited for something else. Bounded. Pure.

use std::collections::VecDeque;

use crate::event::ClientEvent;

/// Most events that are kept.
const MAX_ASIDE: usize = 1024;

/// Events that nobody has read yet, oldest first.
#[derive(Debug, Default)]
pub(super) struct Aside(VecDeque<ClientEvent>);

impl Aside {
    /// Keeps an event. A snapshot or a hash takes the place of the one before it.
    pub(super) fn push(&mut self, event: ClientEvent) {
        let replaces = |kept: &ClientEvent| {
            matches!(
                (kept, &event),
                (ClientEvent::Snapshot(_), ClientEvent::Snapshot(_))
                    | (ClientEvent::Beat { .. }, ClientEvent::Beat { .. })
            )
        };
        if let Some(former) = self.0.iter().rposition(replaces) {
            self.0.remove(former);
        }
        self.0.push_back(event);
        while self.0.len() > MAX_ASIDE {
            self.drop_oldest();
        }
    }

    /// Drops the two oldest, or the one of them that is no event of the game. What is dropped of
    /// the game stands in front as missed.
    fn drop_oldest(&mut self) {
        let mut missed = None;
        for _ in 0..2 {
            let (from, to) = match self.0.pop_front() {
                Some(ClientEvent::Event { tick, .. }) => (tick, tick),
                Some(ClientEvent::EventsMissed { from, to }) => (from, to),
                _ => break,
            };
            missed =
                Some(missed.map_or((from, to), |(first, last)| (from.min(first), to.max(last))));
        }
        if let Some((from, to)) = missed {
            self.0.push_front(ClientEvent::EventsMissed { from, to });
        }
    }

    /// The oldest one.
    pub(super) fn pop(&mut self) -> Option<ClientEvent> {
        self.0.pop_front()
    }

    /// Takes out the oldest one that `pick` makes something of.
    pub(super) fn take<T>(&mut self, mut pick: impl FnMut(&ClientEvent) -> Option<T>) -> Option<T> {
        let (index, found) =
            self.0.iter().enumerate().find_map(|(index, event)| Some((index, pick(event)?)))?;
        self.0.remove(index);
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use rekindle_schema::{StateHash, Tick};

    use super::*;

    fn event(tick: u64) -> ClientEvent {
        let kind = "hit".to_owned();
        ClientEvent::Event { tick: Tick(tick), ordinal: 0, kind, payload: bytes::Bytes::new() }
    }

    fn beat(tick: u64) -> ClientEvent {
        ClientEvent::Beat { tick: Tick(tick), hash: StateHash([0; 32]) }
    }

    #[test]
    fn what_does_not_fit_is_named_as_missed_in_front_of_the_rest() {
        let mut aside = Aside::default();
        aside.push(ClientEvent::Disconnected { reason: "silent".to_owned() });
        (0..3000).for_each(|tick| aside.push(event(tick)));
        assert_eq!(aside.0.len(), MAX_ASIDE);
        let Some(ClientEvent::EventsMissed { from, to }) = aside.pop() else { panic!("missed") };
        assert_eq!((from, to.0), (Tick(0), 3000 - MAX_ASIDE as u64));
        let Some(ClientEvent::Event { tick, .. }) = aside.pop() else { panic!("an event") };
        assert_eq!(tick.0, to.0 + 1, "each is told or missed");
    }

    #[test]
    fn hashes_that_nobody_reads_take_one_place() {
        let mut aside = Aside::default();
        for tick in 0..2000 {
            aside.push(beat(tick));
        }
        aside.push(event(7));
        assert_eq!(aside.0.len(), 2);
        let taken = aside.take(|event| match event {
            ClientEvent::Event { tick, .. } => Some(*tick),
            _ => None,
        });
        assert_eq!(taken, Some(Tick(7)));
        assert!(matches!(aside.pop(), Some(ClientEvent::Beat { tick: Tick(1999), .. })));
        assert!(aside.pop().is_none());
    }
}
