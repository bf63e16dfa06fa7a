//! Fencing on one host: the process that registered a lease is killed if it has this store open,
//! and no other.

use std::fs;
use std::path::{Path, PathBuf};

use rekindle_schema::lease::NodeLease;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use rekindle_store::identity::Holder;
use rekindle_store::process::holder;

/// The files that every node with this store open has open. A directory that stands for another
/// one, with links to its logs, is that other one.
pub(super) fn files(root: &Path) -> Vec<PathBuf> {
    let real = fs::canonicalize(root.join("logs"))
        .ok()
        .and_then(|logs| Some(logs.parent()?.join("node.db")));
    [root.join("node.db")].into_iter().chain(real).collect()
}

/// What is known of the process that registered `lease`, as far as the store in `root` is
/// concerned.
pub(super) fn holder_of(root: &Path, lease: &NodeLease) -> Holder {
    holder(lease.pid, lease.pid_start, &files(root))
}

/// Kills the process that registered `lease` if it has the store in `root` open. A process that has
/// not, or of which that cannot be known, is left alone: what it writes there counts nowhere once
/// its lease is fenced. It may be the node of the store of which this one is a copy.
pub(super) fn kill(root: &Path, lease: &NodeLease) {
    let Some(pid) = i32::try_from(lease.pid).ok().filter(|&pid| pid > 1).and_then(Pid::from_raw)
    else {
        return;
    };
    if pid == getpid() || lease.pid_start == 0 {
        return;
    }
    // The descriptor is taken before the process is looked at: from then on it stands for that
    // process, whatever becomes of its pid.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    let (node, pid) = (lease.incarnation, lease.pid);
    match holder_of(root, lease) {
        Holder::Gone => {}
        Holder::Stranger => {
            tracing::warn!(
                code = "RK-STORE-102",
                %node,
                pid,
                "the process that this lease names has another store open, of which this one is a \
                 copy: it is left alone"
            );
        }
        Holder::Unknown => {
            tracing::warn!(
                code = "RK-STORE-103",
                %node,
                pid,
                "whether the process that this lease names has this store open cannot be seen: it \
                 is left alone, and can acknowledge nothing more"
            );
        }
        Holder::Holds => {
            if pidfd_send_signal(&process, Signal::KILL).is_ok() {
                tracing::warn!(code = "RK-STORE-012", %node, pid, "fenced process killed");
            }
        }
    }
}
