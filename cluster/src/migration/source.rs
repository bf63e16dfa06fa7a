//! The side that gives a match away.
//!
//! `Asking -> Following -> Cutting -> Waiting -> Reading -> Committing -> Telling`, with a way back
//! from each: until the commit is asked for, the match simply goes on here in its epoch.
//!
//! A commit whose outcome is unknown may still be applied later. So the match stays stopped
//! (`Settling`) until a compare-and-set that names this node, in a later epoch, has succeeded: then
//! no write that was built on an earlier version can be applied any more. A row that was read
//! settles it only if it has moved on already; one that has not says nothing, because the request
//! may still be queued.

use rekindle_schema::lease::{Lineage, MatchLease, MatchState};
use rekindle_schema::peer::{Cut, PeerReply, PeerRequest, Purpose};
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Tick};

/// How often the target is asked how far it is, in milliseconds.
const POLL_MS: u64 = 50;
/// How long the source waits before it asks a store again that gave no answer, in milliseconds.
const SETTLE_AGAIN_MS: u64 = 200;
/// How often the target is told that the match is its own, if it does not answer. It also finds out
/// by itself.
const TELLINGS: u32 = 3;
/// How often a commit is tried again on a row that has changed meanwhile.
const COMMITS: u32 = 5;

/// What a source waits for, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// For the target to catch up, while the match goes on here, in milliseconds.
    pub follow_ms: u64,
    /// For the target to stand at the cut, while the match stands still, in milliseconds.
    pub ready_ms: u64,
    /// The match is stopped once the target is at most so many ticks behind.
    pub close_ticks: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { follow_ms: 20_000, ready_ms: 1_000, close_ticks: 3 }
    }
}

/// Which match moves where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The match.
    pub match_id: MatchId,
    /// Its owner: the node that decides here.
    pub me: Incarnation,
    /// Who is to own it.
    pub target: Incarnation,
    /// The lowest epoch of the store's identity: no match goes on in a lower one.
    pub floor: Epoch,
}

/// What came of a compare-and-set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swapped {
    /// The row stands as it was wanted.
    Done,
    /// Another row stands instead, or none.
    Stands(Option<Box<MatchLease>>),
    /// The store says why it did not do it, and never will.
    Refused(String),
    /// Nobody knows whether it was done, or will be.
    Unknown(String),
}

/// What a source is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time passed, as [`Effect::Wake`] asked.
    Time,
    /// The target answered what was asked last; `Err` has why it did not, in words. `tick` is the
    /// last tick that was made here.
    Answered {
        /// The answer.
        reply: Result<PeerReply, String>,
        /// The last tick that was made here.
        tick: Tick,
    },
    /// The match stands still at this cut, or goes on because it could not be stopped.
    Halted(Result<Cut, String>),
    /// The row was read as it stands now; `next_batch` is the batch that this node writes next.
    Read {
        /// The row, or why it could not be read.
        row: Result<Option<Box<MatchLease>>, String>,
        /// The batch that this node writes next.
        next_batch: BatchNo,
    },
    /// The row was to be replaced.
    Swapped(Swapped),
}

/// What a source wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Ask the target; [`Event::Answered`].
    Ask(PeerRequest),
    /// Tell the target; nobody waits for its answer.
    Tell(PeerRequest),
    /// Stop the match at a cut; [`Event::Halted`].
    Stop,
    /// Read the row of the match; [`Event::Read`].
    Read,
    /// Replace the row, if it still has the version before; [`Event::Swapped`].
    Swap(Box<MatchLease>),
    /// The match goes on here, in its epoch.
    Keep,
    /// The match goes on here, under this row.
    KeepAs(Box<MatchLease>),
    /// The match is another node's: drop it, and send its players there.
    LetGo,
    /// [`Event::Time`] at this time, or somewhat later.
    Wake(u64),
    /// That was all.
    Ended(Outcome),
}

/// How a migration ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The row names the target.
    Moved {
        /// Where it was cut.
        cut: Cut,
        /// How long the match stood still at the source, in milliseconds.
        stood_ms: u64,
        /// Whether the target said that it has it.
        told: bool,
    },
    /// It goes on here; why, in words.
    Kept(String),
    /// The row names somebody else: the source obeyed.
    Lost(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    New,
    /// The target was asked to follow.
    Asking {
        until: u64,
    },
    /// It follows. `asked`: an answer is under way.
    Following {
        until: u64,
        asked: bool,
    },
    /// The match is being stopped.
    Cutting {
        since: u64,
    },
    /// It stands still, and the target was asked to come to the cut.
    Waiting {
        until: u64,
        still: Still,
    },
    /// The row is read for the commit.
    Reading {
        still: Still,
        first_batch: BatchNo,
        tries: u32,
    },
    /// The commit is under way.
    Committing {
        still: Still,
        wanted: Box<MatchLease>,
        tries: u32,
    },
    /// The outcome of a commit is unknown; the row is read before the next attempt to settle it.
    Settling {
        still: Still,
    },
    /// The store was asked too often: it is asked again at this time.
    Resting {
        still: Still,
        at: u64,
    },
    /// The attempt to settle is under way.
    Claiming {
        still: Still,
        wanted: Box<MatchLease>,
    },
    /// The target is told.
    Telling {
        still: Still,
        stood_ms: u64,
        version: u64,
        left: u32,
    },
    Over,
}

/// A match that stands still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Still {
    cut: Cut,
    since: u64,
}

/// One match on its way to another node, as its owner sees it.
#[derive(Debug)]
pub struct Source {
    order: Move,
    patience: Patience,
    phase: Phase,
}

impl Source {
    /// A migration that [`Source::begin`] begins.
    pub fn new(order: Move, patience: Patience) -> Self {
        assert_ne!(order.me, order.target, "a match does not move to its own node");
        Self { order, patience, phase: Phase::New }
    }

    /// Asks the target to follow.
    pub fn begin(&mut self, now: u64) -> Vec<Effect> {
        assert_eq!(self.phase, Phase::New, "a migration begins once");
        let until = now + self.patience.follow_ms;
        self.phase = Phase::Asking { until };
        let follow =
            PeerRequest::Follow { match_id: self.order.match_id, purpose: Purpose::Migration };
        vec![Effect::Wake(until), Effect::Ask(follow)]
    }

    /// Whether [`Effect::Ended`] was given.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Whether the match may stand still: the process should not end now if it can wait.
    pub fn stands_still(&self) -> bool {
        !matches!(
            self.phase,
            Phase::New | Phase::Asking { .. } | Phase::Following { .. } | Phase::Over
        )
    }

    /// Something happened. What does not belong to the present phase (a late answer) is ignored.
    pub fn handle(&mut self, now: u64, event: Event) -> Vec<Effect> {
        match (std::mem::replace(&mut self.phase, Phase::Over), event) {
            (Phase::Asking { until }, Event::Answered { reply, .. }) => {
                self.asked(now, until, reply)
            }
            (Phase::Following { until, asked: true }, Event::Answered { reply, tick }) => {
                self.followed(now, until, reply, tick)
            }
            (Phase::Following { until, asked: false }, Event::Time) if now < until => {
                self.poll(until)
            }
            (Phase::Asking { until } | Phase::Following { until, .. }, Event::Time)
                if now >= until =>
            {
                self.give_up("the target did not catch up in time")
            }
            (Phase::Cutting { since }, Event::Halted(halted)) => self.halted(now, since, halted),
            (Phase::Waiting { still, .. }, Event::Answered { reply, .. }) => {
                self.at_the_cut(now, still, reply)
            }
            (Phase::Waiting { still, until }, Event::Time) if now >= until => {
                self.go_on(still, "the target did not come to the cut in time")
            }
            (Phase::Reading { still, first_batch, tries }, Event::Read { row, .. }) => match row {
                Ok(row) => self.commit(now, still, first_batch, tries, row),
                Err(why) => self.go_on(still, &format!("the row could not be read: {why}")),
            },
            (Phase::Committing { still, wanted, tries }, Event::Swapped(swapped)) => {
                self.committed(now, still, wanted, tries, swapped)
            }
            (Phase::Settling { still }, Event::Read { row, next_batch }) => {
                self.settle(now, still, row, next_batch)
            }
            (Phase::Resting { still, at }, Event::Time) if now >= at => self.reread(still),
            (Phase::Claiming { still, wanted }, Event::Swapped(swapped)) => {
                self.claimed(now, still, wanted, swapped)
            }
            (Phase::Telling { still, stood_ms, version, left }, Event::Answered { reply, .. }) => {
                self.told(still, stood_ms, version, left, &reply)
            }
            (phase, _) => {
                self.phase = phase;
                Vec::new()
            }
        }
    }

    fn asked(&mut self, now: u64, until: u64, reply: Result<PeerReply, String>) -> Vec<Effect> {
        match reply {
            Ok(PeerReply::Done) => {
                self.phase = Phase::Following { until, asked: false };
                vec![Effect::Wake(now + POLL_MS)]
            }
            Ok(PeerReply::Refused { words }) => self.end(Outcome::Kept(words), Vec::new()),
            Ok(other) => self.give_up(&unexpected(&other)),
            Err(why) => self.give_up(&why),
        }
    }

    fn poll(&mut self, until: u64) -> Vec<Effect> {
        self.phase = Phase::Following { until, asked: true };
        vec![Effect::Ask(PeerRequest::Followed { match_id: self.order.match_id })]
    }

    fn followed(
        &mut self,
        now: u64,
        until: u64,
        reply: Result<PeerReply, String>,
        tick: Tick,
    ) -> Vec<Effect> {
        match reply {
            // The first answer may come before the follower is restored: it then stands at tick 0.
            Ok(PeerReply::Follows { tick: at, .. })
                if at.0 + self.patience.close_ticks >= tick.0 =>
            {
                self.phase = Phase::Cutting { since: now };
                vec![Effect::Stop]
            }
            Ok(PeerReply::Follows { .. }) | Err(_) if now < until => {
                self.phase = Phase::Following { until, asked: false };
                vec![Effect::Wake(now + POLL_MS)]
            }
            Ok(PeerReply::Refused { words }) => self.give_up(&words),
            Ok(PeerReply::Follows { .. }) => self.give_up("the target did not catch up in time"),
            Ok(other) => self.give_up(&unexpected(&other)),
            Err(why) => self.give_up(&why),
        }
    }

    fn halted(&mut self, now: u64, since: u64, halted: Result<Cut, String>) -> Vec<Effect> {
        let cut = match halted {
            Ok(cut) => cut,
            Err(why) => return self.give_up(&why),
        };
        let until = now + self.patience.ready_ms;
        self.phase = Phase::Waiting { until, still: Still { cut, since } };
        let stopped = PeerRequest::Stopped { match_id: self.order.match_id, cut };
        vec![Effect::Wake(until), Effect::Ask(stopped)]
    }

    fn at_the_cut(
        &mut self,
        now: u64,
        still: Still,
        reply: Result<PeerReply, String>,
    ) -> Vec<Effect> {
        debug_assert!(now >= still.since);
        match reply {
            Ok(PeerReply::Ready { first_batch }) => {
                self.phase = Phase::Reading { still, first_batch, tries: COMMITS };
                vec![Effect::Read]
            }
            Ok(PeerReply::Refused { words }) => self.go_on(still, &words),
            Ok(other) => self.go_on(still, &unexpected(&other)),
            Err(why) => self.go_on(still, &why),
        }
    }

    /// Builds the commit on a row that was just read.
    fn commit(
        &mut self,
        now: u64,
        still: Still,
        first_batch: BatchNo,
        tries: u32,
        row: Option<Box<MatchLease>>,
    ) -> Vec<Effect> {
        let Some(row) = row else { return self.obey(None) };
        let Move { me, target, .. } = self.order;
        if row.incarnation == target && row.epoch > still.cut.epoch {
            return self.moved(now, still, row.version);
        }
        if row.incarnation != me || row.epoch != still.cut.epoch {
            return self.obey(Some(&row));
        }
        if row.state != MatchState::Running {
            return self.go_on(still, "its row does not say that it runs");
        }
        if tries == 0 {
            return self.go_on(still, "its row changes all the time");
        }
        let wanted = Box::new(self.successor(*row, target, first_batch, still.cut));
        self.phase = Phase::Committing { still, wanted: wanted.clone(), tries: tries - 1 };
        vec![Effect::Swap(wanted)]
    }

    /// The row after `row`, in which `owner` goes on behind the cut.
    fn successor(
        &self,
        row: MatchLease,
        owner: Incarnation,
        first_batch: BatchNo,
        cut: Cut,
    ) -> MatchLease {
        let mut wanted = row;
        wanted.version += 1;
        wanted.epoch = wanted.epoch.next().max(self.order.floor);
        wanted.incarnation = owner;
        wanted.attempts = 0;
        let first_seq = cut.seq.next();
        wanted.lineage.push(Lineage {
            epoch: wanted.epoch,
            incarnation: owner,
            first_batch,
            first_seq,
        });
        wanted
    }

    fn committed(
        &mut self,
        now: u64,
        still: Still,
        wanted: Box<MatchLease>,
        tries: u32,
        swapped: Swapped,
    ) -> Vec<Effect> {
        match swapped {
            Swapped::Done => self.moved(now, still, wanted.version),
            // A store that asks again by itself may find its own write.
            Swapped::Stands(Some(row)) if row == wanted => self.moved(now, still, wanted.version),
            // The row has moved on without it: this write can never be applied.
            Swapped::Stands(row) => {
                let first_batch = wanted.lineage.last().map_or(BatchNo(1), |last| last.first_batch);
                self.commit(now, still, first_batch, tries, row)
            }
            Swapped::Refused(why) => self.go_on(still, &why),
            Swapped::Unknown(_) => self.reread(still),
        }
    }

    fn moved(&mut self, now: u64, still: Still, version: u64) -> Vec<Effect> {
        let stood_ms = now.saturating_sub(still.since);
        self.phase = Phase::Telling { still, stood_ms, version, left: TELLINGS - 1 };
        let yours = PeerRequest::Yours { match_id: self.order.match_id, version };
        vec![Effect::LetGo, Effect::Ask(yours)]
    }

    fn told(
        &mut self,
        still: Still,
        stood_ms: u64,
        version: u64,
        left: u32,
        reply: &Result<PeerReply, String>,
    ) -> Vec<Effect> {
        if reply.is_err() && left > 0 {
            self.phase = Phase::Telling { still, stood_ms, version, left: left - 1 };
            let yours = PeerRequest::Yours { match_id: self.order.match_id, version };
            return vec![Effect::Ask(yours)];
        }
        let told = *reply == Ok(PeerReply::Done);
        self.end(Outcome::Moved { cut: still.cut, stood_ms, told }, Vec::new())
    }

    fn reread(&mut self, still: Still) -> Vec<Effect> {
        self.phase = Phase::Settling { still };
        vec![Effect::Read]
    }

    /// A row was read while a commit may still be queued somewhere.
    fn settle(
        &mut self,
        now: u64,
        still: Still,
        row: Result<Option<Box<MatchLease>>, String>,
        next_batch: BatchNo,
    ) -> Vec<Effect> {
        match row {
            Ok(Some(row)) if row.incarnation == self.order.me => {
                // An earlier attempt to settle was done after all.
                if row.epoch > still.cut.epoch {
                    return self.keep_as(row);
                }
                let wanted = Box::new(self.successor(*row, self.order.me, next_batch, still.cut));
                self.phase = Phase::Claiming { still, wanted: wanted.clone() };
                vec![Effect::Swap(wanted)]
            }
            Ok(Some(row)) if row.incarnation == self.order.target => {
                self.moved(now, still, row.version)
            }
            Ok(row) => self.obey(row.as_deref()),
            Err(_) => self.rest(now, still),
        }
    }

    fn claimed(
        &mut self,
        now: u64,
        still: Still,
        wanted: Box<MatchLease>,
        swapped: Swapped,
    ) -> Vec<Effect> {
        match swapped {
            Swapped::Done => self.keep_as(wanted),
            Swapped::Stands(Some(row)) if row == wanted => self.keep_as(wanted),
            // What stands was not built on by this write: a fresh read says what to do.
            Swapped::Stands(_) => self.reread(still),
            Swapped::Refused(_) | Swapped::Unknown(_) => self.rest(now, still),
        }
    }

    fn rest(&mut self, now: u64, still: Still) -> Vec<Effect> {
        let at = now + SETTLE_AGAIN_MS;
        self.phase = Phase::Resting { still, at };
        vec![Effect::Wake(at)]
    }

    /// Nothing was stopped yet.
    fn give_up(&mut self, why: &str) -> Vec<Effect> {
        let unfollow = Effect::Tell(PeerRequest::Unfollow { match_id: self.order.match_id });
        self.end(Outcome::Kept(why.to_owned()), vec![unfollow])
    }

    /// No commit was asked for, or it is certain that none will be applied.
    fn go_on(&mut self, _: Still, why: &str) -> Vec<Effect> {
        let unfollow = Effect::Tell(PeerRequest::Unfollow { match_id: self.order.match_id });
        self.end(Outcome::Kept(why.to_owned()), vec![Effect::Keep, unfollow])
    }

    fn keep_as(&mut self, row: Box<MatchLease>) -> Vec<Effect> {
        assert_eq!(row.incarnation, self.order.me, "a row that names this node");
        let unfollow = Effect::Tell(PeerRequest::Unfollow { match_id: self.order.match_id });
        let why = format!(
            "the store did not say what became of the commit; it goes on in epoch {}",
            row.epoch
        );
        self.end(Outcome::Kept(why), vec![Effect::KeepAs(row), unfollow])
    }

    /// The row is somebody else's, or gone.
    fn obey(&mut self, row: Option<&MatchLease>) -> Vec<Effect> {
        let unfollow = Effect::Tell(PeerRequest::Unfollow { match_id: self.order.match_id });
        let why = row.map_or_else(
            || "its row is gone".to_owned(),
            |row| format!("its row names {} in epoch {}", row.incarnation, row.epoch),
        );
        self.end(Outcome::Lost(why), vec![Effect::LetGo, unfollow])
    }

    fn end(&mut self, outcome: Outcome, mut effects: Vec<Effect>) -> Vec<Effect> {
        self.phase = Phase::Over;
        effects.push(Effect::Ended(outcome));
        effects
    }
}

fn unexpected(reply: &PeerReply) -> String {
    format!("the target answered what was not asked: {reply:?}")
}
