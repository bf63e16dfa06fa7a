//! Fencing on one host: the process that registered a lease is killed if it has this store open,
//! and no other.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rekindle_schema::lease::NodeLease;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use crate::identity::Holder;

/// When a process was started, in clock ticks since boot: field 22 of `/proc/PID/stat`. `None` if
/// no such process runs; one that has ended and was not waited for does not.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may contain anything.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.nth(18)?.parse().ok())?
}

/// Names the kernel and the process namespace in which this process's id means something; empty if
/// the system does not say.
pub fn this_host() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let namespace = fs::read_link("/proc/self/ns/pid");
    match (kernel, namespace) {
        (Ok(kernel), Ok(namespace)) => format!("{}/{}", kernel.trim(), namespace.display()),
        _ => String::new(),
    }
}

/// Whether the process with this id and start time has one of `files` open: the very file, not one
/// of its name. A copy of a file is another file, a file that was moved is the same.
pub fn holder(pid: u32, pid_start: u64, files: &[PathBuf]) -> Holder {
    if pid == 0 || start_time(pid) != Some(pid_start) {
        return Holder::Gone;
    }
    let wanted: Vec<(u64, u64)> = files
        .iter()
        .filter_map(|path| fs::metadata(path).ok())
        .map(|file| (file.dev(), file.ino()))
        .collect();
    let open = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(open) => open,
        Err(error) if error.kind() == ErrorKind::NotFound => return Holder::Gone,
        Err(_) => return Holder::Unknown,
    };
    for descriptor in open {
        let descriptor = match descriptor {
            Ok(descriptor) => descriptor.path(),
            // It ended meanwhile, or more is not to be seen.
            Err(_) => return Holder::Unknown,
        };
        if fs::metadata(descriptor).is_ok_and(|file| wanted.contains(&(file.dev(), file.ino()))) {
            return Holder::Holds;
        }
    }
    if start_time(pid) == Some(pid_start) { Holder::Stranger } else { Holder::Gone }
}

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
