//! The journal of a match: what was applied, tick by tick.
//!
//! A *record* is one [`Flush`] of one match: it names the ticks that were executed since the record
//! before it, with or without inputs, and everything that the steps of those ticks depend on.
//! Records stand in [frames](crate::batch), frames in batches.
//!
//! A record also has what another build of the game is compared with when it makes those ticks
//! again: the hash of the state at beats, with sums of its parts, and a [digest](crate::digest) of
//! each tick that somebody was shown. Records of the first releases have hashes alone.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, FormatTag};
use crate::ids::{BuildId, PlayerId, SessionId, StateHash, Tick};

/// Format tag of an encoded [`Flush`] that says what was shown.
pub const FLUSH_TAG: FormatTag = FormatTag(0x1011);
/// Format tag of an encoded [`Flush`] with a [`Decision::Slowdown`] among its decisions, and with
/// the fields of [`FLUSH_TAG`]. A build that does not know such decisions refuses it by its tag.
pub const FLUSH_SLOWED_TAG: FormatTag = FormatTag(0x1021);
/// Format tag of an encoded [`Flush`] of the first releases: without [`Flush::shown`] and
/// [`Flush::parts`].
const FLUSH_TAG_1: FormatTag = FormatTag(0x1001);
/// Format tag of an encoded [`Effect`].
pub const EFFECT_TAG: FormatTag = FormatTag(0x1002);

/// All that one step of a world depends on besides the world itself: the tick it makes and what the
/// sessions contribute.
///
/// Canonical order, which makes equal contents equal bytes: each list ascending by player, commands
/// by (player, seq).
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The tick that this step makes.
    pub tick: Tick,
    /// Sessions that enter before the systems run.
    pub joins: Vec<Join>,
    /// Sessions that end before the systems run.
    pub leaves: Vec<Leave>,
    /// At most one input for each player.
    pub inputs: Vec<AppliedInput>,
    /// Reliable commands, de-duplicated by (player, session, seq).
    pub commands: Vec<AppliedCommand>,
    /// Effects that a sink has acknowledged: they leave the state.
    pub effects_done: Vec<EffectId>,
}

impl Step {
    /// Nothing but the passing of a tick.
    pub fn is_empty(&self) -> bool {
        self.joins.is_empty()
            && self.leaves.is_empty()
            && self.inputs.is_empty()
            && self.commands.is_empty()
            && self.effects_done.is_empty()
    }

    /// Whether its lists are in canonical order: joins, leaves and inputs ascending by player, with
    /// one input for each at most; commands ascending by player and number.
    pub fn is_canonical(&self) -> bool {
        self.joins.is_sorted_by_key(|join| join.player)
            && self.leaves.is_sorted_by_key(|leave| leave.player)
            && self.inputs.is_sorted_by(|a, b| a.player < b.player)
            && self.commands.is_sorted_by_key(|command| (command.player, command.seq))
    }
}

/// A session enters the match. A resumed session does not join again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Join {
    /// The player's account, as the ticket named it.
    pub player: PlayerId,
    /// The session that the player's inputs will carry.
    pub session: SessionId,
    /// The name to show, at most 32 bytes of UTF-8.
    pub name: String,
}

/// Why a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum LeaveReason {
    /// The player said goodbye.
    Left,
    /// The player was away for longer than the match waits.
    TimedOut,
    /// An operator removed the player.
    Removed,
}

/// A session ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leave {
    /// The player who leaves.
    pub player: PlayerId,
    /// Which of the player's sessions.
    pub session: SessionId,
    /// Why the session ended.
    pub reason: LeaveReason,
}

/// The newest input of a player for this tick.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedInput {
    /// The player whose input it is.
    pub player: PlayerId,
    /// The player's session.
    pub session: SessionId,
    /// The client's number of this input; it only grows within a session.
    pub seq: u64,
    /// The tick that the player was looking at when making it, for lag compensation.
    pub view_tick: Tick,
    /// The game's own encoding of its input type.
    pub payload: Bytes,
}

/// A reliable command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedCommand {
    /// The player whose command it is.
    pub player: PlayerId,
    /// The player's session.
    pub session: SessionId,
    /// The client's number of this command: 1, 2, 3, without gaps within a session.
    pub seq: u64,
    /// The game's own encoding of its command type.
    pub payload: Bytes,
}

/// The hash of a match after a tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// The tick after which the match had this hash.
    pub tick: Tick,
    /// Of the canonical bytes.
    pub hash: StateHash,
}

/// Sums of the parts of a state, to say in which of them two builds differ.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartSums {
    /// The tick of the beat to which they belong.
    pub tick: Tick,
    /// [Sums](crate::digest::of_part) in the order of the parts in a checkpoint.
    pub sums: Vec<u32>,
}

/// What players were shown of a tick, in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The tick.
    pub tick: Tick,
    /// See [`crate::digest::of_shown`].
    pub digest: u64,
}

/// A fact that the game declared, to tell clients and to query later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The tick whose step declared it.
    pub tick: Tick,
    /// Which one within that tick, from 0.
    pub ordinal: u32,
    /// The game's name for this kind of event.
    pub kind: String,
    /// The one player whom it concerns; `None` tells everybody.
    pub player: Option<PlayerId>,
    /// The game's own encoding.
    pub payload: Bytes,
}

/// Names an effect for ever: it has no epoch in it, so a recovery that computes the effect again
/// computes the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EffectId {
    /// In which tick the game asked for it.
    pub tick: Tick,
    /// Which one within that tick, from 0.
    pub ordinal: u32,
}

/// A side effect that the game asks for, as data: the result of a match, loot, a webhook.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Effect {
    /// Together with the match this is what sinks de-duplicate by.
    pub id: EffectId,
    /// Which sink it is for: `result`.
    pub kind: String,
    /// The game's own encoding; for `result`, JSON.
    pub payload: Bytes,
}

/// Something that was decided outside the world and changes what its steps get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// The inputs of this player make a system panic at this tick: they are left out of its step.
    Quarantine {
        /// The tick whose step goes without them.
        tick: Tick,
        /// The player whose input it is.
        player: PlayerId,
        /// Which input or command.
        seq: u64,
        /// What the system said.
        reason: String,
    },
    /// The match ends after this tick, by an operator's word or the game's own.
    End {
        /// The last tick.
        tick: Tick,
        /// Why it ends, for people.
        reason: String,
    },
    /// Another build of the game goes on with the match.
    OtherBuild {
        /// The first tick that it makes.
        tick: Tick,
        /// The build that had computed the ticks before.
        build: BuildId,
        /// On what grounds.
        grounds: Grounds,
    },
    /// The match goes at another rate, because there is too much to do on its node, or no longer
    /// is. The world does not see it: no tick computes anything else. Said again behind each
    /// checkpoint of a match that is slowed, so that what is left of its journal has it.
    Slowdown {
        /// The first tick that is made under it.
        tick: Tick,
        /// How many tick periods lie between two ticks: 1 at the match's own rate, at most
        /// [`MAX_SLOWDOWN`].
        periods: u8,
    },
}

/// Most tick periods that may lie between two ticks of a match.
pub const MAX_SLOWDOWN: u8 = 4;

/// Why a build goes on with a match that another one computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grounds {
    /// It made the recorded ticks again, and all that was recorded of them is equal.
    Equal,
    /// An operator accepted what it made of them, although it differs.
    Accepted,
    /// An operator had it go on from the last state that is equal: ticks up to this one had been
    /// made, and are void.
    Rewound(Tick),
}

/// One record: the ticks `first..=last` were executed, with exactly this.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flush {
    /// First tick that was executed since the record before.
    pub first: Tick,
    /// The tick that is durable when this record is.
    pub last: Tick,
    /// Steps with something in them, ascending; a tick without one had no inputs.
    pub steps: Vec<Step>,
    /// Hash beats that fell due.
    pub beats: Vec<Beat>,
    /// Facts, for queries: replay computes them again.
    pub events: Vec<Event>,
    /// Effects that the game asked for: replay computes them again.
    pub effects: Vec<Effect>,
    /// Decisions from outside.
    pub decisions: Vec<Decision>,
    /// For each beat the sums of the state's parts, if the game has any.
    pub parts: Vec<PartSums>,
    /// Every tick that was made for somebody to see, ascending. `None`: a record of the first
    /// releases, which does not say.
    pub shown: Option<Vec<Shown>>,
}

/// A [`Flush`] as the first releases wrote it.
#[derive(Serialize, Deserialize)]
struct Flush1 {
    first: Tick,
    last: Tick,
    steps: Vec<Step>,
    beats: Vec<Beat>,
    events: Vec<Event>,
    effects: Vec<Effect>,
    decisions: Vec<Decision>,
}

impl Flush {
    /// The payload of a frame. One that does not say what was shown is written as the first
    /// releases did.
    ///
    /// # Panics
    ///
    /// In builds with debug assertions, if such a one has a [`Decision::Slowdown`]: the first
    /// releases had none.
    pub fn encode(&self) -> Vec<u8> {
        let slows = |decision: &Decision| matches!(decision, Decision::Slowdown { .. });
        let slowed = self.decisions.iter().any(slows);
        if self.shown.is_some() {
            return codec::encode(if slowed { FLUSH_SLOWED_TAG } else { FLUSH_TAG }, self);
        }
        debug_assert!(!slowed, "a record of the first releases cannot say this");
        let Self { first, last, steps, beats, events, effects, decisions, .. } = self.clone();
        let old = Flush1 { first, last, steps, beats, events, effects, decisions };
        codec::encode(FLUSH_TAG_1, &old)
    }

    /// Reads what any release wrote.
    ///
    /// # Errors
    ///
    /// If the bytes are no record, or one of a later release.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        if FLUSH_SLOWED_TAG.is_of(bytes) {
            return codec::decode(FLUSH_SLOWED_TAG, bytes);
        }
        if !FLUSH_TAG_1.is_of(bytes) {
            return codec::decode(FLUSH_TAG, bytes);
        }
        let old = codec::decode(FLUSH_TAG_1, bytes)?;
        let Flush1 { first, last, steps, beats, events, effects, decisions } = old;
        let (parts, shown) = (Vec::new(), None);
        Ok(Self { first, last, steps, beats, events, effects, decisions, parts, shown })
    }
}
