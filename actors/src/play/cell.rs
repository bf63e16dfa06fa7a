//! What a match shares with the rest of the node, put together from parts that each have their own
//! lock and their own writers.
//!
//! The world itself belongs to the match's actor alone. Nothing here is locked across an await.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rekindle_door::{Recalled, TickFrame};
use rekindle_schema::lease::{MatchLease, MatchSpec};
use rekindle_schema::net::NetSchema;
use rekindle_schema::record::{Beat, MAX_SLOWDOWN};
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{Epoch, MatchId, StateHash, Tick};
use rekindle_sim::{GameType, properties_of};

use super::admission::Admissions;
use super::books::Books;
use super::effects::EffectOutbox;
use super::subscribers::Subscribers;
use super::supervision::{MatchPhase, Supervision};
use crate::checkpoint::ticket::Progress;
use crate::core::shedding::Priority;
use crate::core::{Durable, EventLog, Hashes, Turns};
use crate::messages::MatchMsg;
use crate::recovery::upgrade::BuildChange;

/// The shared part of a match.
pub(crate) struct MatchCell {
    pub(crate) match_id: MatchId,
    /// The ownership under which it runs here. A cell never changes it.
    pub(crate) epoch: Epoch,
    pub(crate) spec: MatchSpec,
    pub(crate) game: Arc<dyn GameType>,
    pub(crate) schema: Arc<NetSchema>,
    /// Time from tick to tick at the match's own rate.
    pub(crate) period: Duration,
    /// How many periods may lie between two ticks at most, by its game.
    pub(crate) most_slowdown: u8,
    /// How early it is slowed when there is too much to do.
    pub(crate) priority: Priority,
    /// The shard on which its actor runs, as an index into the host's shards.
    pub(crate) shard: usize,
    /// Session ids are drawn from it.
    pub(crate) seed: u64,
    /// Set if the recovery computed ticks again with another result: the newest tick that still
    /// holds.
    pub(crate) holds_until: Option<Tick>,
    /// Set if another build had computed the ticks before those of this cell.
    pub(crate) build_change: Option<BuildChange>,
    /// Where this ownership and those before it began.
    pub(crate) turns: Turns,
    pub(crate) doors: Admissions,
    pub(crate) books: Books,
    pub(crate) subscribers: Subscribers,
    pub(crate) checkpoints: Arc<Progress>,
    pub(crate) effects: EffectOutbox,
    pub(crate) supervision: Supervision,
    /// Hashes of the newest beats, those of the replay included. Written by the match's actor, read
    /// by handles.
    hashes: Mutex<Hashes>,
    /// The newest published events, those of the replay included. Written by the match's actor,
    /// read by handles.
    events: Mutex<EventLog>,
    /// It is in the journal's list of matches that have records. Written by the match's actor and
    /// the journal actor.
    enlisted: AtomicBool,
}

/// What a new cell is made from.
pub(crate) struct CellParts<'a> {
    pub(crate) lease: &'a MatchLease,
    pub(crate) game: Arc<dyn GameType>,
    pub(crate) shard: usize,
    pub(crate) seed: u64,
    pub(crate) doors: Admissions,
    pub(crate) books: Books,
    pub(crate) subscribers: Subscribers,
    pub(crate) checkpoints: Progress,
    pub(crate) supervision: Supervision,
    pub(crate) hashes: Hashes,
    pub(crate) events: EventLog,
    pub(crate) turns: Turns,
    pub(crate) holds_until: Option<Tick>,
    pub(crate) build_change: Option<BuildChange>,
}

impl MatchCell {
    /// # Panics
    ///
    /// If the ledger is of another ownership than the row.
    pub(crate) fn new(parts: CellParts<'_>) -> Self {
        let CellParts {
            lease,
            game,
            shard,
            seed,
            doors,
            books,
            subscribers,
            checkpoints,
            supervision,
            hashes,
            events,
            turns,
            holds_until,
            build_change,
        } = parts;
        assert_eq!(books.standing().epoch, lease.epoch, "a ledger of another ownership");
        let properties = properties_of(&lease.spec.config);
        Self {
            match_id: lease.match_id,
            epoch: lease.epoch,
            spec: lease.spec.clone(),
            schema: Arc::new(game.net_schema().clone()),
            period: Duration::from_secs(1) / u32::from(lease.spec.tick_rate.max(1)),
            most_slowdown: game.max_slowdown().clamp(1, MAX_SLOWDOWN),
            priority: Priority::of(properties.get(Priority::PROPERTY).map(String::as_str)),
            game,
            shard,
            seed,
            holds_until,
            build_change,
            turns,
            doors,
            books,
            subscribers,
            checkpoints: Arc::new(checkpoints),
            effects: EffectOutbox::default(),
            supervision,
            hashes: Mutex::new(hashes),
            events: Mutex::new(events),
            enlisted: AtomicBool::new(false),
        }
    }

    /// See [`Supervision::cast`].
    pub(crate) fn cast(&self, message: MatchMsg) -> bool {
        self.supervision.cast(message)
    }

    /// The last tick executed and handed to the outbox.
    pub(crate) fn tick(&self) -> Tick {
        self.books.standing().executed
    }

    pub(crate) fn published(&self) -> Tick {
        self.books.standing().published
    }

    pub(crate) fn durable(&self) -> Durable {
        self.books.standing().durable
    }

    pub(crate) fn phase(&self) -> MatchPhase {
        self.supervision.phase()
    }

    pub(crate) fn set_phase(&self, phase: MatchPhase) {
        self.supervision.set_phase(phase);
    }

    /// See [`Supervision::is_alive`].
    pub(crate) fn is_alive(&self) -> bool {
        self.supervision.is_alive()
    }

    /// Puts it on the journal's list; false if it was there already.
    pub(crate) fn enlist(&self) -> bool {
        !self.enlisted.swap(true, Ordering::AcqRel)
    }

    /// Takes it off the list: whoever has records from now on enlists it again.
    pub(crate) fn delist(&self) {
        self.enlisted.store(false, Ordering::Release);
    }

    /// A beat was computed.
    pub(crate) fn note_beat(&self, beat: Beat) {
        self.hashes.lock().push(beat);
    }

    /// The hash after `tick`, if that is one of the newest beats.
    pub(crate) fn hash_at(&self, tick: Tick) -> Option<StateHash> {
        self.hashes.lock().at(tick)
    }

    /// The newest published events of ticks from `from` on.
    pub(crate) fn events_from(&self, from: Tick) -> Recalled {
        self.events.lock().recall(from)
    }

    /// Hands a frame to all subscribers, marked with the durable tick. Called by the match's actor.
    /// Returns how many subscribers lagged and were dropped.
    ///
    /// # Panics
    ///
    /// If the frame is of another ownership, or may not be shown yet: see [`Books::publish`].
    pub(crate) fn publish(&self, mut frame: TickFrame) -> usize {
        assert_eq!(frame.epoch, self.epoch, "a frame of another ownership");
        let (durable, _) = self.books.publish(frame.tick);
        frame.durable = durable;
        if !frame.events.is_empty() {
            self.events.lock().push(&frame.events);
        }
        self.subscribers.send(frame)
    }

    /// Nobody gets in any more; those who wait are told why.
    pub(crate) fn close_doors(&self, code: RefuseCode, words: &str) {
        self.doors.close_doors(code, words);
        // Whoever waits for a durable tick asks again whether there will be one.
        self.books.wake();
    }
}
