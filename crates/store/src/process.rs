//! Processes of this host, as leases and node cards name them: by id and start time, and by the
//! files that they have open. Reads `/proc`, changes nothing.
//!
//! Called by local backends, to tell whether the owner of a lease runs, and by the node, which
//! writes its own process into its lease.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

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
