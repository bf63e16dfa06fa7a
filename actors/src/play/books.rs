//! A match's [`Ledger`] where several threads reach it, and who waits for it to move.
//!
//! Writers: the match's actor (executed, published) and the journal actor (given, durable).
//! Readers: handles, checkpoints, the host. One lock for all of it, held for moments; those who
//! wait are woken when something has become durable and by nothing else.

use rekindle_schema::{Seq, Tick};
use tokio::sync::watch;

use crate::core::{Durable, Ledger, LedgerFault, Record, SeqGap, Standing, TickRecord};

/// The ledger of a match, shared.
pub(crate) struct Books(watch::Sender<Ledger>);

impl Books {
    pub(crate) fn new(ledger: Ledger) -> Self {
        Self(watch::Sender::new(ledger))
    }

    /// Where the match stands, all of one moment.
    pub(crate) fn standing(&self) -> Standing {
        self.0.borrow().standing()
    }

    /// Executed ticks that are not durable.
    pub(crate) fn at_risk(&self) -> u64 {
        self.0.borrow().at_risk()
    }

    /// For waiting until something is durable.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Ledger> {
        self.0.subscribe()
    }

    /// See [`Ledger::execute`].
    pub(crate) fn execute(&self, record: TickRecord) -> usize {
        let mut weight = 0;
        self.quietly(|ledger| weight = ledger.execute(record));
        weight
    }

    /// See [`Ledger::cut`].
    pub(crate) fn cut(&self) -> Seq {
        let mut seq = Seq(0);
        self.quietly(|ledger| seq = ledger.cut());
        seq
    }

    /// See [`Ledger::publish`]. Returns the durable tick, and the newest one that was published
    /// before.
    pub(crate) fn publish(&self, tick: Tick) -> (Tick, Tick) {
        let mut ticks = (Tick(0), Tick(0));
        self.quietly(|ledger| {
            let before = ledger.publish(tick);
            ticks = (before.durable.tick, before.published);
        });
        ticks
    }

    /// See [`Ledger::give`].
    pub(crate) fn give(&self, packed: Option<u32>) -> Result<Option<(Record, u32)>, SeqGap> {
        let mut given = Ok(None);
        self.quietly(|ledger| given = ledger.give(packed));
        given
    }

    /// See [`Ledger::take_back`].
    pub(crate) fn take_back(&self, record: Record) {
        self.quietly(|ledger| ledger.take_back(record));
    }

    /// See [`Ledger::confirm`]. Wakes all who wait.
    pub(crate) fn confirm(&self, durable: Durable) -> Result<(), LedgerFault> {
        let mut confirmed = Ok(());
        self.0.send_modify(|ledger| confirmed = ledger.confirm(durable));
        confirmed
    }

    /// Wakes all who wait, though nothing moved: the match has stopped, and they ask again whether
    /// there will be more.
    pub(crate) fn wake(&self) {
        self.0.send_modify(|_| {});
    }

    /// Changes the ledger and wakes nobody.
    fn quietly(&self, change: impl FnOnce(&mut Ledger)) {
        self.0.send_if_modified(|ledger| {
            change(ledger);
            false
        });
    }
}
