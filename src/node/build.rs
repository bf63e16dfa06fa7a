//! Which build of the games this process computes: the hash of its own executable.

use std::fs::File;

use rekindle_schema::BuildId;
use rekindle_sim::simulation::build_id;

use super::NodeError;
use crate::files::About as _;

/// The build of the running executable. A changed executable is another build, whatever changed.
pub fn of_this_executable() -> Result<BuildId, NodeError> {
    let path = std::env::current_exe()?;
    let build = File::open("/proc/self/exe")
        .or_else(|_| File::open(&path))
        .and_then(build_id)
        .about("read", &path)?;
    Ok(build)
}
