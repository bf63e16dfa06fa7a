//! Identifiers. All are newtypes, so that a tick is never passed for a sequence number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An identifier was not in the form that its type prints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: expected {expected}")]
pub struct ParseIdError {
    text: String,
    what: &'static str,
    expected: &'static str,
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                text.replace(',', "").parse().map(Self).map_err(|_| ParseIdError {
                    text: text.to_owned(),
                    what: stringify!($name),
                    expected: "a whole number",
                })
            }
        }
    };
}

macro_rules! identity {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[derive(Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:016x})"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;
            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                let fail = || ParseIdError {
                    text: text.to_owned(),
                    what: stringify!($name),
                    expected: "1 to 16 hexadecimal digits",
                };
                let digits = text.bytes().all(|b| b.is_ascii_hexdigit());
                if text.is_empty() || text.len() > 16 || !digits {
                    return Err(fail());
                }
                u64::from_str_radix(text, 16).map(Self).map_err(|_| fail())
            }
        }
    };
}

counter! {
    /// The time of a match: how many steps its world has made. Tick 0 is the world as set up; the
    /// first step makes tick 1.
    Tick
}
counter! {
    /// The number of a record in the journal of one match, from 1, without gaps, over all epochs.
    Seq
}
counter! {
    /// Counts the owners of a match: it grows by one at every recovery and every migration, from 1.
    Epoch
}
counter! {
    /// The number of a batch in the log of one incarnation, from 1, without gaps.
    BatchNo
}
counter! {
    /// A player's account, as the ticket names it.
    PlayerId
}
identity! {
    /// A match, for its whole life.
    MatchId
}
identity! {
    /// A player's stay in a match: it survives reconnects and the death of nodes.
    SessionId
}
identity! {
    /// One run of a node process. A restarted process has a new incarnation.
    Incarnation
}
identity! {
    /// Which build of a game's code computed something: replay is only exact on the same build.
    BuildId
}

identity! {
    /// A job.
    JobId
}
identity! {
    /// Something that an operator did.
    ActionId
}

/// An identifier that sorts by time: 42 bits of milliseconds, then 22 bits of chance.
const fn timed(now_ms: u64, chance: u64) -> u64 {
    debug_assert!(now_ms < 1 << 42, "milliseconds since 1970 take 42 bits");
    now_ms << 22 | chance & ((1 << 22) - 1)
}

impl JobId {
    /// A new one, from milliseconds since 1970 and a random number of which the low 22 bits count.
    #[must_use]
    pub const fn at(now_ms: u64, chance: u64) -> Self {
        Self(timed(now_ms, chance))
    }
}

impl ActionId {
    /// A new one, from milliseconds since 1970 and a random number of which the low 22 bits count.
    #[must_use]
    pub const fn at(now_ms: u64, chance: u64) -> Self {
        Self(timed(now_ms, chance))
    }
}

impl MatchId {
    /// The first digits, for lines that people read: `7f3a91c2`.
    #[must_use]
    pub fn short(self) -> String {
        format!("{:08x}", self.0 >> 32)
    }
}

/// BLAKE3 of the canonical bytes of a match at a tick (32 bytes, printed as 64 hexadecimal digits).
#[derive(Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StateHash(pub [u8; 32]);

impl fmt::Display for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StateHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateHash({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_jobs_sort_by_time() {
        assert!(JobId::at(1, u64::MAX) < JobId::at(2, 0));
    }

    #[test]
    #[should_panic(expected = "milliseconds since 1970 take 42 bits")]
    fn a_time_that_does_not_fit_is_noticed() {
        let _ = JobId::at(1 << 42, 0);
    }
}
