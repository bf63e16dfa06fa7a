//! The journal actor: one log, one batch at a time, one write for all matches of the node.
//!
//! Matches do not send records, they say that there are some ([`JournalPort::submit`]). The actor
//! collects what all of them have, closes their open records, packs a batch and waits for the
//! store; what is executed meanwhile gathers in the matches' outboxes. So nothing queues here, and
//! what queues there is bounded: [`JournalPort::overloaded`] makes matches pause.

use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use rekindle_schema::BatchNo;
use rekindle_schema::batch::Batch;
use rekindle_store::{Store, StoreError};
use tokio::time::{Instant, sleep};

use super::pack::{LogEnd, Packer, Share};
use super::port::JournalMsg;
use crate::messages::MatchMsg;

const FIRST_RETRY: Duration = Duration::from_millis(10);
const LAST_RETRY: Duration = Duration::from_secs(1);

/// What the journal actor works with.
pub(crate) struct Journal {
    pub(crate) store: Store,
    pub(crate) packer: Packer,
    /// How long a commit waits for company.
    pub(crate) linger: Duration,
}

impl Actor for Journal {
    type Msg = JournalMsg;
    type State = LogEnd;
    type Arguments = ();

    async fn pre_start(
        &self,
        _: ActorRef<JournalMsg>,
        (): (),
    ) -> Result<LogEnd, ActorProcessingErr> {
        Ok(LogEnd { number: BatchNo(1), prev_crc: 0 })
    }

    async fn handle(
        &self,
        _: ActorRef<JournalMsg>,
        message: JournalMsg,
        end: &mut LogEnd,
    ) -> Result<(), ActorProcessingErr> {
        let JournalMsg::Wake = message;
        loop {
            if !self.packer.port.begin() {
                return Ok(());
            }
            if !self.linger.is_zero() {
                sleep(self.linger).await;
            }
            if let Err(error) = self.commit(end).await {
                self.packer.port.halt(error.into());
                return Ok(());
            }
        }
    }
}

impl Journal {
    /// One group commit: pack, append, tell.
    async fn commit(&self, end: &mut LogEnd) -> Result<(), StoreError> {
        let Some((batch, shares)) = self.packer.pack(end)? else { return Ok(()) };
        let started = Instant::now();
        self.append(&batch).await?;
        self.packer.meters.append_seconds.record(started.elapsed());
        end.prev_crc = batch.crc();
        self.packer.port.advance(end.number, end.prev_crc);
        end.number = end.number.next();
        for Share { cell, durable, weight } in shares {
            self.packer.port.relieve(weight);
            match cell.books.confirm(durable) {
                Ok(()) => cell.cast(MatchMsg::Durable(durable)),
                Err(fault) => cell.cast(MatchMsg::Faulty(fault)),
            };
        }
        Ok(())
    }

    /// Appends until the store has verified the batch or says that there is no use.
    async fn append(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut pause = FIRST_RETRY;
        loop {
            match self.store.journal.append(batch.clone()).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_transient() => {
                    self.packer.meters.append_retries.increment(1);
                    tracing::warn!(
                        code = "RK-HOST-011", %error, batch = %batch.number,
                        "append will be repeated"
                    );
                    sleep(pause).await;
                    pause = (pause * 2).min(LAST_RETRY);
                }
                Err(error) => return Err(error),
            }
        }
    }
}
