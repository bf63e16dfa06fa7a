//! Fencing on one host: the process that registered a lease is killed, and no other.

use std::fs;

use rekindle_schema::lease::NodeLease;
use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

/// When a process was started, in clock ticks since boot: field 22 of `/proc/PID/stat`. `None` if there is no such process.
pub fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may contain anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Kills the process that holds `lease`, unless it is this one or its pid belongs to another process by now. Returns whether it was killed.
pub(super) fn kill(lease: &NodeLease) -> bool {
    let Some(pid) = i32::try_from(lease.pid).ok().filter(|&pid| pid > 1).and_then(Pid::from_raw) else {
        return false;
    };
    if pid == getpid() || lease.pid_start == 0 {
        return false;
    }
    // The descriptor is taken before the start time is compared: from then on it stands for that process, whatever becomes of its pid.
    let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
        return false;
    };
    if start_time(lease.pid) != Some(lease.pid_start) {
        return false;
    }
    let killed = pidfd_send_signal(&process, Signal::KILL).is_ok();
    if killed {
        tracing::warn!(code = "RK-STORE-012", node = %lease.incarnation, pid = lease.pid, "fenced process killed");
    }
    killed
}
