//! How a local store works. There is no address to parse but its directory.

use std::sync::Arc;

use super::disk::{Disk, SystemDisk};
#[cfg(feature = "mutants")]
use super::guards::Mutant;
use super::segment::SEGMENT;

/// How a local store works.
#[derive(Clone)]
pub struct LocalOptions {
    /// Most batches that wait for a log's thread; one more is `Overloaded`.
    pub append_queue: usize,
    /// Most checkpoints that wait.
    pub checkpoint_queue: usize,
    /// A segment takes no further entry that would make it longer than this, in bytes.
    pub segment_bytes: u64,
    /// Where segments are written: replaced to inject faults.
    pub disk: Arc<dyn Disk>,
    /// The guard that a test leaves out.
    #[cfg(feature = "mutants")]
    pub mutant: Mutant,
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            append_queue: 16,
            checkpoint_queue: 8,
            segment_bytes: SEGMENT,
            disk: Arc::new(SystemDisk),
            #[cfg(feature = "mutants")]
            mutant: Mutant::None,
        }
    }
}
