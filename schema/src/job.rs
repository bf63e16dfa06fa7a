//! Work that a store remembers until some node has done it.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError, FormatTag};
use crate::ids::{Incarnation, JobId};

/// Format tag of an encoded [`Job`].
pub const JOB_TAG: FormatTag = FormatTag(0x5001);

/// The longest name of a queue and of a kind, in bytes.
pub const MAX_NAME: usize = 64;
/// The longest unique key, in bytes.
pub const MAX_KEY: usize = 200;
/// The largest payload, in bytes.
pub const MAX_PAYLOAD: usize = 64 << 10;
/// The longest note and error that are kept, in bytes; what is longer is cut off.
pub const MAX_NOTE: usize = 4 << 10;

/// What a job has for itself alone. Jobs of all queues share one space of keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unique {
    /// No other job with this key may be open: the key is free again when the job is done, dead or
    /// cancelled.
    WhileOpen(String),
    /// No other job with this key while this one is remembered: the key is free again when the job
    /// is pruned.
    Once(String),
}

impl Unique {
    /// The key.
    pub fn key(&self) -> &str {
        match self {
            Self::WhileOpen(key) | Self::Once(key) => key,
        }
    }
}

/// Where a job stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum JobState {
    /// It waits.
    Ready {
        /// Nobody claims it before, in milliseconds since 1970.
        run_at_ms: u64,
    },
    /// A node has claimed it.
    Running {
        /// The node that works on it.
        by: Incarnation,
        /// When it was claimed.
        since_ms: u64,
        /// From then on others may claim it.
        until_ms: u64,
    },
    /// It was done.
    Done {
        /// When, in milliseconds since 1970.
        at_ms: u64,
        /// What came of it, in words.
        note: String,
    },
    /// Its attempts are used up, or it cannot be done: a dead letter. An operator decides.
    Dead {
        /// When it was given up, in milliseconds since 1970.
        at_ms: u64,
        /// Why, in words.
        error: String,
    },
    /// An operator called it off.
    Cancelled {
        /// When, in milliseconds since 1970.
        at_ms: u64,
    },
}

/// A [`JobState`] without its particulars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// It waits.
    Ready,
    /// A node has claimed it.
    Running,
    /// It was done.
    Done,
    /// It failed for good.
    Dead,
    /// It was called off.
    Cancelled,
}

impl JobStatus {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Ready, Self::Running, Self::Done, Self::Dead, Self::Cancelled];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Done => "done",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for JobStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for JobStatus {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|status| status.name() == text);
        found.ok_or_else(|| {
            format!("`{text}` is no state of a job: ready, running, done, dead or cancelled")
        })
    }
}

/// A job, as a store keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Which one; chosen by whoever enqueues it.
    pub id: JobId,
    /// Grows by one with every change of the row, from 1.
    pub version: u64,
    /// Who works on it: nodes that serve this queue.
    pub queue: String,
    /// What is to be done: the name under which its handler is registered.
    pub kind: String,
    /// The handler's own encoding of its arguments.
    pub payload: Bytes,
    /// What it has for itself alone.
    pub unique: Option<Unique>,
    /// How often it was claimed. It never goes down, so that a claim's number names its holder.
    pub attempt: u32,
    /// After this many claims it is not tried again by itself.
    pub max_attempts: u32,
    /// When it was enqueued, in milliseconds since 1970.
    pub created_ms: u64,
    /// Why the last attempt that failed did so.
    pub last_error: Option<String>,
    /// Where it stands.
    pub state: JobState,
}

impl Job {
    /// Its state's name.
    pub fn status(&self) -> JobStatus {
        match self.state {
            JobState::Ready { .. } => JobStatus::Ready,
            JobState::Running { .. } => JobStatus::Running,
            JobState::Done { .. } => JobStatus::Done,
            JobState::Dead { .. } => JobStatus::Dead,
            JobState::Cancelled { .. } => JobStatus::Cancelled,
        }
    }

    /// From when on it may be claimed; `None` if it is finished.
    pub fn due_ms(&self) -> Option<u64> {
        match self.state {
            JobState::Ready { run_at_ms } => Some(run_at_ms),
            JobState::Running { until_ms, .. } => Some(until_ms),
            JobState::Done { .. } | JobState::Dead { .. } | JobState::Cancelled { .. } => None,
        }
    }

    /// When it was finished; `None` if it is open.
    pub fn finished_ms(&self) -> Option<u64> {
        match self.state {
            JobState::Ready { .. } | JobState::Running { .. } => None,
            JobState::Done { at_ms, .. }
            | JobState::Dead { at_ms, .. }
            | JobState::Cancelled { at_ms } => Some(at_ms),
        }
    }

    /// The key that nobody else may have at the moment.
    pub fn held_key(&self) -> Option<&str> {
        match &self.unique {
            Some(Unique::Once(key)) => Some(key),
            Some(Unique::WhileOpen(key)) if self.finished_ms().is_none() => Some(key),
            _ => None,
        }
    }

    /// The bytes that stores keep.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(JOB_TAG, self)
    }

    /// Reads what any release wrote.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(JOB_TAG, bytes)
    }
}
