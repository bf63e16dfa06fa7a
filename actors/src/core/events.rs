//! The newest published events of a match, for clients that were away when they were told.

use std::collections::VecDeque;

use rekindle_door::Recalled;
use rekindle_schema::Tick;
use rekindle_schema::record::Event;

/// Most events that are remembered.
const KEPT: usize = 1024;
/// Most bytes of them.
const KEPT_BYTES: usize = 256 << 10;
/// What an event counts beside its payload and its name, in bytes.
const OVERHEAD: usize = 64;

/// The newest published events of a match, ascending.
#[derive(Debug, Clone, Default)]
pub struct EventLog {
    /// All events of ticks from this one on are remembered.
    from: Tick,
    events: VecDeque<Event>,
    bytes: usize,
}

impl EventLog {
    /// For a world that stands at `tick`: of what was before nothing is known.
    pub fn behind(tick: Tick) -> Self {
        Self { from: tick.next(), ..Self::default() }
    }

    /// Takes the events of the next tick that has any; those of the same or a later tick are void.
    /// Whole ticks are forgotten, the oldest first.
    pub fn push(&mut self, events: &[Event]) {
        let Some(tick) = events.first().map(|event| event.tick) else { return };
        while let Some(event) = self.events.pop_back_if(|event| event.tick >= tick) {
            self.bytes -= weight(&event);
        }
        for event in events {
            self.bytes += weight(event);
            self.events.push_back(event.clone());
        }
        while self.events.len() > KEPT || self.bytes > KEPT_BYTES {
            let Some(first) = self.events.front().map(|event| event.tick) else { break };
            while let Some(event) = self.events.pop_front_if(|event| event.tick == first) {
                self.bytes -= weight(&event);
            }
            self.from = first.next();
        }
    }

    /// Those of ticks from `from` on.
    pub fn recall(&self, from: Tick) -> Recalled {
        let first = self.events.partition_point(|event| event.tick < from);
        Recalled {
            from: self.from.max(from),
            events: self.events.iter().skip(first).cloned().collect(),
        }
    }
}

fn weight(event: &Event) -> usize {
    OVERHEAD + event.kind.len() + event.payload.len()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn event(tick: u64, ordinal: u32, bytes: usize) -> Event {
        Event {
            tick: Tick(tick),
            ordinal,
            kind: "kill".to_owned(),
            player: None,
            payload: Bytes::from(vec![0; bytes]),
        }
    }

    #[test]
    fn what_was_published_is_recalled_from_any_tick_on() {
        let mut log = EventLog::behind(Tick(10));
        log.push(&[event(12, 0, 1), event(12, 1, 1)]);
        log.push(&[event(15, 0, 1)]);
        let ticks = |from| {
            let recalled = log.recall(Tick(from));
            (recalled.from.0, recalled.events.iter().map(|event| event.tick.0).collect::<Vec<_>>())
        };
        assert_eq!(ticks(5), (11, vec![12, 12, 15]));
        assert_eq!(ticks(12), (12, vec![12, 12, 15]));
        assert_eq!(ticks(13), (13, vec![15]));
        assert_eq!(ticks(16), (16, vec![]));
    }

    #[test]
    fn whole_ticks_are_forgotten_when_there_are_too_many_or_they_are_too_big() {
        let mut log = EventLog::default();
        (1..=KEPT as u64).for_each(|tick| log.push(&[event(tick, 0, 1)]));
        assert_eq!((log.recall(Tick(0)).from, log.events.len()), (Tick(0), KEPT));
        log.push(&[event(2000, 0, 1), event(2000, 1, 1)]);
        assert_eq!((log.recall(Tick(0)).from, log.events.len()), (Tick(3), KEPT));
        log.push(&[event(2001, 0, KEPT_BYTES - 2 * OVERHEAD)]);
        let left: Vec<u64> = log.events.iter().map(|event| event.tick.0).collect();
        assert_eq!((log.from, left), (Tick(2001), vec![2001]));
        assert_eq!(log.bytes, weight(&log.events[0]));
        log.push(&[event(2002, 0, KEPT_BYTES)]);
        assert_eq!(
            (log.recall(Tick(0)), log.bytes),
            (Recalled { from: Tick(2003), events: Vec::new() }, 0,)
        );
    }
}
