//! What one match has executed, what of that is durable, and what players were shown.
//!
//! Pure: no lock, no clock, no channel. The match's actor tells it what it executed and published;
//! the journal actor takes records out of it and tells it what the store has confirmed. Whoever
//! moves a match or follows it reads a [`Standing`] and needs nothing else to know what may be lost
//! and what may not.
//!
//! ```text
//! published <= durable <= executed            with PublishOrder::AfterDurable
//! published <= executed, durable <= executed  with PublishOrder::MayRunAhead
//! confirmed seq <= handed-out seq <= numbered seq
//! ```
//!
//! What the match's own actor breaks is a panic in that actor: the match is rebuilt from the store,
//! or parked. What the journal would break is refused with a [`LedgerFault`], because a panic in
//! the journal's actor would stop all matches of the node.

use rekindle_schema::{BatchNo, Epoch, Seq, Tick};

use super::outbox::{Outbox, Record, TickRecord};

/// How much of a match's journal is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable {
    /// The last durable record. 0: there is none.
    pub seq: Seq,
    /// The last durable tick.
    pub tick: Tick,
    /// The batch that record is in; before the first record, the batch that is to be written next.
    pub batch: BatchNo,
}

/// Whether players may be shown what is not durable yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishOrder {
    /// Never: what a player saw is in the journal.
    AfterDurable,
    /// The match may publish at once, always or while the store is behind.
    MayRunAhead,
}

/// Where a match stands. All of it belongs to one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The ownership that all of it belongs to. It never changes in a ledger.
    pub epoch: Epoch,
    /// The last tick executed and put into the outbox. Written by the match's actor.
    pub executed: Tick,
    /// What the store has confirmed. Written by the journal actor.
    pub durable: Durable,
    /// The newest tick that subscribers were shown, or would have been if there were any. Written
    /// by the match's actor.
    pub published: Tick,
}

/// The journal was about to say something of a match that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LedgerFault {
    /// It confirms a record that it was never given.
    #[error("record {confirmed} is said to be durable, the journal was given none after {given}")]
    NotGiven {
        /// The record that is said to be durable.
        confirmed: Seq,
        /// The last record that the journal has taken.
        given: Seq,
    },
    /// It confirms a tick that was not executed.
    #[error("tick {confirmed} is said to be durable, the last one executed is {executed}")]
    NotExecuted {
        /// The tick that is said to be durable.
        confirmed: Tick,
        /// The last executed tick.
        executed: Tick,
    },
    /// It takes back what it has confirmed.
    #[error("record {confirmed} is said to be durable after record {before} was")]
    Backwards {
        /// The record that is said to be durable now.
        confirmed: Seq,
        /// The record that was.
        before: Seq,
    },
}

/// The account of one match under one ownership.
#[derive(Debug)]
pub struct Ledger {
    standing: Standing,
    order: PublishOrder,
    /// Executed and not yet taken by the journal.
    outbox: Outbox,
    /// The last record that the journal has taken and not put back.
    given: Seq,
    /// The checksum of that record; 0 before the first under this ownership.
    last_crc: u32,
}

impl Ledger {
    /// For a match that stands where its history ends: all of it is durable and counts as shown.
    pub fn new(epoch: Epoch, order: PublishOrder, durable: Durable) -> Self {
        Self {
            standing: Standing { epoch, executed: durable.tick, durable, published: durable.tick },
            order,
            outbox: Outbox::new(durable.seq.next()),
            given: durable.seq,
            last_crc: 0,
        }
    }

    /// Where the match stands.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// What is durable.
    pub fn durable(&self) -> Durable {
        self.standing.durable
    }

    /// Executed ticks that are not durable: what a crash now would undo.
    pub fn at_risk(&self) -> u64 {
        self.standing.executed.0 - self.standing.durable.tick.0
    }

    /// A tick was executed. Called by the match's actor. Returns about how many bytes it takes in
    /// the journal.
    ///
    /// # Panics
    ///
    /// If it is not the tick after the last executed one: ticks never skip.
    pub fn execute(&mut self, record: TickRecord) -> usize {
        let (tick, before) = (record.step.tick, self.standing.executed);
        assert_eq!(tick, before.next(), "tick {tick} was executed after tick {before}");
        self.standing.executed = tick;
        self.outbox.push(record)
    }

    /// Closes the open record. Returns the number of the last record: all that was executed so far
    /// is in it or before it. Called by the match's actor, for a checkpoint.
    pub fn cut(&mut self) -> Seq {
        self.outbox.cut()
    }

    /// Gives the journal the next record, with the checksum of the one before it. `packed` is the
    /// checksum of the record that was given last, once that is in a batch. Called by the journal
    /// actor.
    ///
    /// # Errors
    ///
    /// If the record does not follow the one that was given before it.
    pub fn give(&mut self, packed: Option<u32>) -> Result<Option<(Record, u32)>, SeqGap> {
        if let Some(crc) = packed {
            self.last_crc = crc;
        }
        let Some(record) = self.outbox.take() else { return Ok(None) };
        if record.seq != self.given.next() {
            return Err(SeqGap { given: self.given, next: record.seq });
        }
        self.given = record.seq;
        Ok(Some((record, self.last_crc)))
    }

    /// Takes back the record that was given last: it found no room. Called by the journal actor.
    pub fn take_back(&mut self, record: Record) {
        debug_assert_eq!(record.seq, self.given, "another record comes back than was given last");
        self.given = Seq(record.seq.0 - 1);
        self.outbox.put_back(record);
    }

    /// The store has confirmed records up to `durable`. Called by the journal actor.
    ///
    /// # Errors
    ///
    /// If that cannot be; nothing changes then.
    pub fn confirm(&mut self, durable: Durable) -> Result<(), LedgerFault> {
        let Standing { executed, durable: before, .. } = self.standing;
        if durable.seq < before.seq || durable.tick < before.tick {
            return Err(LedgerFault::Backwards { confirmed: durable.seq, before: before.seq });
        }
        if durable.seq > self.given {
            return Err(LedgerFault::NotGiven { confirmed: durable.seq, given: self.given });
        }
        if durable.tick > executed {
            return Err(LedgerFault::NotExecuted { confirmed: durable.tick, executed });
        }
        self.standing.durable = durable;
        Ok(())
    }

    /// The frame of `tick` is about to be shown. Called by the match's actor. Returns where the
    /// match stood before.
    ///
    /// # Panics
    ///
    /// If `tick` was not executed, or is not durable and may not be shown before it is.
    pub fn publish(&mut self, tick: Tick) -> Standing {
        let before = self.standing;
        let Standing { executed, durable, .. } = before;
        assert!(tick <= executed, "tick {tick} is published, the last one executed is {executed}");
        if self.order == PublishOrder::AfterDurable {
            let durable = durable.tick;
            assert!(tick <= durable, "tick {tick} is published, the last durable one is {durable}");
        }
        self.standing.published = before.published.max(tick);
        before
    }
}

/// The outbox is about to give the journal a record that leaves a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record {next} would follow record {given}")]
pub struct SeqGap {
    /// The last record that was given.
    pub given: Seq,
    /// The one that would be next.
    pub next: Seq,
}

#[cfg(test)]
mod tests {
    use rekindle_schema::record::Step;

    use super::*;

    fn tick(number: u64) -> TickRecord {
        let step = Step { tick: Tick(number), ..Step::default() };
        TickRecord { step, ..TickRecord::default() }
    }

    fn durable(seq: u64, tick: u64) -> Durable {
        Durable { seq: Seq(seq), tick: Tick(tick), batch: BatchNo(1) }
    }

    fn ledger(order: PublishOrder) -> Ledger {
        Ledger::new(Epoch(3), order, durable(4, 10))
    }

    #[test]
    fn what_is_executed_becomes_durable_and_is_shown_in_this_order() {
        let mut ledger = ledger(PublishOrder::AfterDurable);
        ledger.execute(tick(11));
        ledger.execute(tick(12));
        assert_eq!(ledger.at_risk(), 2);
        let (record, prev_crc) = ledger.give(None).unwrap().unwrap();
        assert_eq!((record.seq, record.flush.last, prev_crc), (Seq(5), Tick(12), 0));
        assert_eq!(ledger.give(Some(77)).unwrap().map(|(record, _)| record.seq), None);
        ledger.confirm(durable(5, 12)).unwrap();
        assert_eq!(ledger.publish(Tick(12)).published, Tick(10));
        let standing = ledger.standing();
        assert_eq!((standing.executed, standing.published), (Tick(12), Tick(12)));
        ledger.execute(tick(13));
        assert_eq!(ledger.give(None).unwrap().map(|(_, prev_crc)| prev_crc), Some(77));
    }

    #[test]
    fn a_record_that_found_no_room_is_given_again() {
        let mut ledger = ledger(PublishOrder::AfterDurable);
        ledger.execute(tick(11));
        let (record, _) = ledger.give(None).unwrap().unwrap();
        ledger.take_back(record);
        let fault = LedgerFault::NotGiven { confirmed: Seq(5), given: Seq(4) };
        assert_eq!(ledger.confirm(durable(5, 11)), Err(fault));
        assert_eq!(ledger.give(None).unwrap().map(|(record, _)| record.seq), Some(Seq(5)));
        ledger.confirm(durable(5, 11)).unwrap();
    }

    #[test]
    #[should_panic(expected = "tick 12 was executed after tick 10")]
    fn a_skipped_tick_is_caught() {
        ledger(PublishOrder::AfterDurable).execute(tick(12));
    }

    #[test]
    #[should_panic(expected = "tick 11 is published, the last durable one is 10")]
    fn publishing_before_durable_is_caught() {
        let mut ledger = ledger(PublishOrder::AfterDurable);
        ledger.execute(tick(11));
        ledger.publish(Tick(11));
    }

    #[test]
    #[should_panic(expected = "tick 11 is published, the last one executed is 10")]
    fn publishing_before_executing_is_caught_whatever_the_order() {
        ledger(PublishOrder::MayRunAhead).publish(Tick(11));
    }

    #[test]
    fn immediate_output_may_run_ahead_of_the_store() {
        let mut ledger = ledger(PublishOrder::MayRunAhead);
        ledger.execute(tick(11));
        ledger.publish(Tick(11));
        assert!(ledger.standing().published > ledger.durable().tick);
    }

    #[test]
    fn a_journal_that_confirms_too_much_or_takes_back_is_refused() {
        let mut ledger = ledger(PublishOrder::AfterDurable);
        ledger.execute(tick(11));
        ledger.give(None).unwrap();
        let ahead = LedgerFault::NotExecuted { confirmed: Tick(12), executed: Tick(11) };
        assert_eq!(ledger.confirm(durable(5, 12)), Err(ahead));
        let never = LedgerFault::NotGiven { confirmed: Seq(6), given: Seq(5) };
        assert_eq!(ledger.confirm(durable(6, 11)), Err(never));
        ledger.confirm(durable(5, 11)).unwrap();
        let back = LedgerFault::Backwards { confirmed: Seq(4), before: Seq(5) };
        assert_eq!(ledger.confirm(durable(4, 10)), Err(back));
        assert_eq!(ledger.durable(), durable(5, 11), "a refused word changes nothing");
    }

    #[test]
    fn a_gap_between_records_never_reaches_a_batch() {
        let mut ledger = ledger(PublishOrder::AfterDurable);
        ledger.outbox = Outbox::new(Seq(6));
        ledger.execute(tick(11));
        assert_eq!(ledger.give(None).err(), Some(SeqGap { given: Seq(4), next: Seq(6) }));
    }
}
