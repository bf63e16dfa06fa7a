//! What a verification found, as `rekindle verify` prints it. Filled by [`super::verify`] and, of a
//! store on servers, by `walk.rs`.

use serde::Serialize;

/// What was found in one match.
#[derive(Debug, Clone, Default, Serialize)]
pub struct MatchReport {
    /// 16 hexadecimal digits.
    pub id: String,
    /// The game type.
    pub game: String,
    /// `running`, `parked` or `ended`, as its row says.
    pub state: String,
    /// Its owner's count.
    pub epoch: u64,
    /// The tick at which the simulation began: 0, or that of the oldest checkpoint when earlier
    /// records are trimmed.
    pub from_tick: u64,
    /// The last durable tick.
    pub to_tick: u64,
    /// Records read.
    pub records: usize,
    /// Inputs and commands applied.
    pub inputs: usize,
    /// Hash beats that were computed again and compared.
    pub beats: usize,
    /// Checkpoints that were restored and compared, those that are deltas included.
    pub checkpoints: usize,
    /// The state at the end.
    pub hash: Option<String>,
}

/// What was found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The store is on servers: it was read through them.
    pub remote: bool,
    /// Segment files of logs and checkpoints; of a store on servers: logs.
    pub segments: u64,
    /// Whole batches in them.
    pub batches: u64,
    /// Records in them, of all matches.
    pub records: u64,
    /// Chunks of the archive.
    pub chunks: u64,
    /// Bytes of all segments and chunks.
    pub bytes: u64,
    /// Each match.
    pub matches: Vec<MatchReport>,
    /// What is no fault but worth knowing: a torn tail, another build, a parked match.
    pub notes: Vec<String>,
    /// Stored bytes that are not what was written, or that contradict each other.
    pub faults: Vec<String>,
    /// Matches that this build computes differently than they were played, though it is the build
    /// that played them: one line each.
    pub differs: Vec<String>,
    /// Matches that another build played and this one cannot repeat: one line each. Nothing is
    /// wrong with what is stored; that build can verify it.
    pub other_build: Vec<String>,
}

impl Report {
    /// Adds what is worth knowing, once.
    pub(super) fn note(&mut self, words: String) {
        if !self.notes.contains(&words) {
            self.notes.push(words);
        }
    }

    /// Adds what is wrong, once.
    pub(super) fn fault(&mut self, words: String) {
        if !self.faults.contains(&words) {
            self.faults.push(words);
        }
    }

    /// Nothing is damaged, and this build repeats what was played.
    pub fn is_clean(&self) -> bool {
        self.faults.is_empty() && self.differs.is_empty() && self.other_build.is_empty()
    }
}
