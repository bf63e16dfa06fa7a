//! The side that takes a match.
//!
//! `Following -> Reaching(cut) -> Standing(cut) -> Taking`. It follows as long as it hears of the
//! source. When it does not, or when it is told that the match is its own, it reads the row: a
//! match is run here if, and only if, its row names this node. So it runs one whose source has died
//! right after the commit, and never one whose source went on.

use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_schema::peer::{Cut, PeerReply, PeerRequest, Purpose};
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq, StateHash, Tick};

/// How long a target waits for a word of the source before it reads the row, in milliseconds.
const LOOK_MS: u64 = 500;
/// The same once it stands at the cut: the row may name it at any moment.
const STANDING_LOOK_MS: u64 = 100;
/// So long after the last word of the source it follows no longer, in milliseconds.
const SILENCE_MS: u64 = 10_000;
/// Requests that wait for the cut at once: the source asks one after the other.
const WAITING: usize = 8;

const _: () = assert!(STANDING_LOOK_MS <= LOOK_MS && LOOK_MS < SILENCE_MS);

/// Names a request of the source until it is answered.
pub type Call = u64;

/// Where a follower stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// The last tick that was made.
    pub tick: Tick,
    /// The last record that was applied.
    pub seq: Seq,
    /// The hash after that tick.
    pub hash: StateHash,
    /// The batch that this node writes next.
    pub next_batch: BatchNo,
}

/// What a target is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Time passed, as [`Effect::Wake`] asked.
    Time,
    /// `from` asks something about the match.
    Asked {
        /// Who asks.
        from: Incarnation,
        /// Names the request.
        call: Call,
        /// What it asks.
        request: PeerRequest,
    },
    /// The follower has come to here. Told after every batch, and once when it is restored.
    Stands(Stand),
    /// The follower cannot go on: why, in words.
    Failed(String),
    /// The row was read as it stands now; `Err` has why not.
    Read(Result<Option<Box<MatchLease>>, String>),
    /// The match runs here, or why it does not.
    Ran(Result<(), String>),
}

/// What a target wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Answer a request.
    Reply(Call, PeerReply),
    /// Restore the match from the store and follow its log; [`Event::Stands`].
    Follow,
    /// Forget the follower.
    Drop,
    /// Read the row of the match; [`Event::Read`].
    Read,
    /// Run the match with its follower, under this row; [`Event::Ran`].
    Run(Box<MatchLease>),
    /// Forget the follower, and recover the match from the store under this row, as after a crash;
    /// [`Event::Ran`].
    Recover(Box<MatchLease>),
    /// [`Event::Time`] at this time, or somewhat later.
    Wake(u64),
    /// That was all: nothing is followed any more. Why, in words.
    Ended(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    /// Nobody has asked yet.
    New,
    /// It follows.
    Following,
    /// It is to come to the cut; these requests wait for that.
    Reaching(Cut, Vec<Call>),
    /// It stands there, and has said so.
    Standing(Cut),
    /// It is being run; these requests wait for that.
    Taking(Vec<Call>),
    Over,
}

/// One match on its way here.
#[derive(Debug)]
pub struct Target {
    match_id: MatchId,
    me: Incarnation,
    source: Incarnation,
    phase: Phase,
    /// Where the follower stands, once it is restored.
    stand: Option<Stand>,
    /// Requests to be answered when the row is read.
    yours: Vec<Call>,
    /// Whether a read is under way.
    reading: bool,
    /// One of them came while a read was under way: that one may show an older row.
    again: bool,
    /// When the source was last heard.
    heard: u64,
    /// When the row was last asked for.
    looked: u64,
}

impl Target {
    /// Nothing is followed before the first [`PeerRequest::Follow`].
    pub fn new(match_id: MatchId, me: Incarnation, source: Incarnation) -> Self {
        assert_ne!(me, source, "a match does not move to its own node");
        Self {
            match_id,
            me,
            source,
            phase: Phase::New,
            stand: None,
            yours: Vec::new(),
            reading: false,
            again: false,
            heard: 0,
            looked: 0,
        }
    }

    /// Whether [`Effect::Ended`] was given.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// From whom the match comes.
    pub fn source(&self) -> Incarnation {
        self.source
    }

    /// Something happened.
    pub fn handle(&mut self, now: u64, event: Event) -> Vec<Effect> {
        match event {
            Event::Asked { from, call, request } => self.asked(now, from, call, &request),
            Event::Stands(stand) => self.stands(stand),
            Event::Failed(why) => self.failed(&why),
            Event::Read(row) => self.read(now, row),
            Event::Ran(ran) => self.ran(ran),
            Event::Time => self.time(now),
        }
    }

    fn asked(
        &mut self,
        now: u64,
        from: Incarnation,
        call: Call,
        request: &PeerRequest,
    ) -> Vec<Effect> {
        let over = matches!(self.phase, Phase::Over | Phase::Taking(_));
        if from != self.source && !matches!(request, PeerRequest::Yours { .. }) {
            return vec![refuse(call, format!("this match is followed for node {}", self.source))];
        }
        if !matches!(request, PeerRequest::Unfollow { .. }) {
            self.heard = now;
        }
        match request {
            PeerRequest::Follow { purpose: Purpose::Migration, .. } if !over => {
                self.follow(now, call)
            }
            PeerRequest::Followed { .. } if !over && self.phase != Phase::New => {
                let (tick, seq) =
                    self.stand.map_or((Tick(0), Seq(0)), |stand| (stand.tick, stand.seq));
                vec![Effect::Reply(call, PeerReply::Follows { tick, seq })]
            }
            PeerRequest::Stopped { cut, .. } if !over && self.phase != Phase::New => {
                self.stopped(call, *cut)
            }
            PeerRequest::Unfollow { .. } if !over => {
                let mut effects = vec![Effect::Reply(call, PeerReply::Done)];
                effects.extend(self.end("the source keeps it"));
                effects
            }
            PeerRequest::Unfollow { .. } => vec![Effect::Reply(call, PeerReply::Done)],
            PeerRequest::Yours { .. } => self.told(now, call),
            _ => vec![refuse(call, "this match is not followed here".to_owned())],
        }
    }

    fn follow(&mut self, now: u64, call: Call) -> Vec<Effect> {
        let mut effects = vec![Effect::Reply(call, PeerReply::Done)];
        if self.phase == Phase::New {
            effects.push(Effect::Follow);
            effects.push(Effect::Wake(now + STANDING_LOOK_MS));
        }
        effects.extend(self.refuse_waiting("the source begins anew"));
        self.phase = Phase::Following;
        effects
    }

    fn stopped(&mut self, call: Call, cut: Cut) -> Vec<Effect> {
        let mut calls = match std::mem::replace(&mut self.phase, Phase::Following) {
            Phase::Reaching(before, calls) if before == cut => calls,
            Phase::Reaching(_, calls) => {
                let mut effects: Vec<_> = calls
                    .into_iter()
                    .map(|call| refuse(call, "it was stopped at another cut since".to_owned()))
                    .collect();
                self.phase = Phase::Reaching(cut, vec![call]);
                effects.extend(self.compare());
                return effects;
            }
            _ => Vec::new(),
        };
        if calls.len() >= WAITING {
            self.phase = Phase::Reaching(cut, calls);
            return vec![refuse(call, "too many requests wait for the cut".to_owned())];
        }
        calls.push(call);
        self.phase = Phase::Reaching(cut, calls);
        self.compare()
    }

    fn stands(&mut self, stand: Stand) -> Vec<Effect> {
        if matches!(self.phase, Phase::New | Phase::Over | Phase::Taking(_)) {
            return Vec::new();
        }
        let before = self.stand.replace(stand);
        debug_assert!(before.is_none_or(|before| before.seq <= stand.seq));
        self.compare()
    }

    /// Whether the follower stands at the cut that is waited for.
    fn compare(&mut self) -> Vec<Effect> {
        let (Phase::Reaching(cut, _), Some(stand)) = (&self.phase, self.stand) else {
            return Vec::new();
        };
        let cut = *cut;
        if stand.seq < cut.seq {
            return Vec::new();
        }
        if stand.seq > cut.seq {
            let words = format!(
                "the follower is at record {} already, and the cut is at {}",
                stand.seq, cut.seq
            );
            let refused = self.refuse_waiting(&words);
            self.phase = Phase::Following;
            return refused;
        }
        if (stand.tick, stand.hash) != (cut.tick, cut.hash) {
            let words = format!(
                "RK-CLUSTER-121: match {} was computed otherwise here: tick {} with hash {}, and \
                 the owner says tick {} with hash {}",
                self.match_id, stand.tick, stand.hash, cut.tick, cut.hash
            );
            return self.failed(&words);
        }
        let Phase::Reaching(_, calls) = std::mem::replace(&mut self.phase, Phase::Standing(cut))
        else {
            return Vec::new();
        };
        let ready = PeerReply::Ready { first_batch: stand.next_batch };
        calls.into_iter().map(|call| Effect::Reply(call, ready.clone())).collect()
    }

    fn failed(&mut self, why: &str) -> Vec<Effect> {
        if matches!(self.phase, Phase::Over | Phase::Taking(_)) {
            return Vec::new();
        }
        let mut effects = self.refuse_waiting(why);
        effects.extend(self.end(why));
        effects
    }

    fn told(&mut self, now: u64, call: Call) -> Vec<Effect> {
        match &mut self.phase {
            Phase::Taking(calls) if calls.len() < WAITING => {
                calls.push(call);
                Vec::new()
            }
            _ if self.yours.len() >= WAITING => {
                vec![refuse(call, "too many requests wait for the row".to_owned())]
            }
            _ => {
                self.yours.push(call);
                self.again = self.reading;
                self.look(now)
            }
        }
    }

    fn look(&mut self, now: u64) -> Vec<Effect> {
        self.looked = now;
        if std::mem::replace(&mut self.reading, true) { Vec::new() } else { vec![Effect::Read] }
    }

    fn read(&mut self, now: u64, row: Result<Option<Box<MatchLease>>, String>) -> Vec<Effect> {
        self.reading = false;
        if std::mem::take(&mut self.again) && !matches!(self.phase, Phase::Over | Phase::Taking(_))
        {
            return self.look(now);
        }
        let calls = std::mem::take(&mut self.yours);
        let refused = |why: &str| -> Vec<Effect> {
            calls.iter().map(|&call| refuse(call, why.to_owned())).collect()
        };
        if matches!(self.phase, Phase::Over | Phase::Taking(_)) {
            return refused("this match is not followed here");
        }
        let row = match row {
            Ok(row) => row,
            // Until it is read it may be this node's: it is asked for again.
            Err(why) => return refused(&format!("the row could not be read: {why}")),
        };
        match row {
            Some(row) if row.incarnation == self.me && row.state == MatchState::Running => {
                let stands = self.is_at_the_start_of(&row);
                self.phase = Phase::Taking(calls);
                vec![if stands { Effect::Run(row) } else { Effect::Recover(row) }]
            }
            Some(row) if row.incarnation == self.source => {
                let mut effects = refused("its row does not name this node");
                if now >= self.heard + SILENCE_MS || self.phase == Phase::New {
                    effects.extend(self.end("nothing was heard of the source for too long"));
                }
                effects
            }
            _ => {
                let mut effects = refused("its row does not name this node");
                effects.extend(self.end("its row names another node"));
                effects
            }
        }
    }

    /// Whether the follower stands right before what this row begins.
    fn is_at_the_start_of(&self, row: &MatchLease) -> bool {
        let (Some(stand), Some(last)) = (self.stand, row.lineage.last()) else { return false };
        let known: Epoch = match &self.phase {
            Phase::Standing(cut) => cut.epoch,
            _ => Epoch(0),
        };
        last.incarnation == self.me
            && last.epoch == row.epoch
            && row.epoch > known
            && last.first_seq == stand.seq.next()
    }

    fn ran(&mut self, ran: Result<(), String>) -> Vec<Effect> {
        let Phase::Taking(calls) = std::mem::replace(&mut self.phase, Phase::Over) else {
            return Vec::new();
        };
        let (reply, why) = match ran {
            Ok(()) => (PeerReply::Done, "it runs here".to_owned()),
            Err(words) => (PeerReply::Refused { words: words.clone() }, words),
        };
        let mut effects: Vec<Effect> =
            calls.into_iter().map(|call| Effect::Reply(call, reply.clone())).collect();
        effects.push(Effect::Ended(why));
        effects
    }

    fn time(&mut self, now: u64) -> Vec<Effect> {
        if matches!(self.phase, Phase::New | Phase::Over | Phase::Taking(_)) {
            return Vec::new();
        }
        let patience =
            if matches!(self.phase, Phase::Standing(_)) { STANDING_LOOK_MS } else { LOOK_MS };
        let mut effects = vec![Effect::Wake(now + STANDING_LOOK_MS)];
        if now >= self.heard.max(self.looked) + patience {
            effects.extend(self.look(now));
        }
        effects
    }

    fn refuse_waiting(&mut self, why: &str) -> Vec<Effect> {
        let Phase::Reaching(_, calls) = &mut self.phase else { return Vec::new() };
        std::mem::take(calls).into_iter().map(|call| refuse(call, why.to_owned())).collect()
    }

    fn end(&mut self, why: &str) -> Vec<Effect> {
        let mut effects = self.refuse_waiting(why);
        effects.extend(
            std::mem::take(&mut self.yours).into_iter().map(|call| refuse(call, why.to_owned())),
        );
        self.phase = Phase::Over;
        effects.push(Effect::Drop);
        effects.push(Effect::Ended(why.to_owned()));
        effects
    }
}

fn refuse(call: Call, words: String) -> Effect {
    Effect::Reply(call, PeerReply::Refused { words })
}
