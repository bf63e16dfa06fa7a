//! Finds the processes of a server by what they were started with, whatever the state file says,
//! and ends them.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rekindle_testservers::Process;
use rustix::process::{Pid, Signal, kill_process};

/// How often a condition is looked at.
pub(super) const POLL: Duration = Duration::from_millis(25);
/// The kernel takes this long at most to end what got a SIGKILL, disks under load included.
const KILL_TIME: Duration = Duration::from_secs(20);

/// Everything of the Postgres server with this data directory: postmaster and children all work in
/// it, also when it was deleted under them, and children outlive a postmaster that was killed.
pub(super) fn of_postgres(data: &Path) -> Result<Vec<Process>> {
    find(|proc| {
        let name = |link: &str| {
            std::fs::read_link(proc.join(link))
                .map(|path| path.to_string_lossy().trim_end_matches(" (deleted)").to_owned())
        };
        let is_postgres = name("exe")
            .is_ok_and(|exe| Path::new(&exe).file_name().is_some_and(|name| name == "postgres"));
        is_postgres && name("cwd").is_ok_and(|cwd| Path::new(&cwd) == data)
    })
}

/// Everything that was started with exactly this argument.
pub(super) fn with_argument(argument: &str) -> Result<Vec<Process>> {
    find(|proc| {
        std::fs::read(proc.join("cmdline")).is_ok_and(|line| {
            line.split(|byte| *byte == 0).any(|given| given == argument.as_bytes())
        })
    })
}

fn find(is_ours: impl Fn(&Path) -> bool) -> Result<Vec<Process>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("cannot list processes")? {
        let entry = entry?;
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Who the process is comes first: when the pid is given again after the look, `signal`
        // notices.
        if let Some(process) =
            Process::of(pid).with_context(|| format!("cannot look at process {pid}"))?
            && is_ours(&entry.path())
        {
            found.push(process);
        }
    }
    Ok(found)
}

/// Sends a signal, unless the process is gone.
pub(super) fn signal(process: &Process, signal: Signal) -> Result<()> {
    if !process.is_alive() {
        return Ok(());
    }
    let pid = Pid::from_raw(process.pid.cast_signed())
        .with_context(|| format!("{} is no pid", process.pid))?;
    match kill_process(pid, signal) {
        Err(error) if error != rustix::io::Errno::SRCH => {
            bail!("cannot signal process {}: {error}", process.pid)
        }
        _ => Ok(()),
    }
}

/// SIGKILL to all that `find` finds, until it finds nothing (a process may be forking while it is
/// looked for) and all are gone. One that is dying shows nothing any more that it could be found
/// by, and still has its sockets.
pub(super) fn kill_all(find: impl Fn() -> Result<Vec<Process>>) -> Result<()> {
    let deadline = Instant::now() + KILL_TIME;
    let mut killed: Vec<Process> = Vec::new();
    loop {
        let found = find()?;
        for process in &found {
            signal(process, Signal::KILL)?;
        }
        let found_none = found.is_empty();
        killed.extend(found);
        killed.retain(Process::is_alive);
        if found_none && killed.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("still there after SIGKILL and {KILL_TIME:?}: {}", pids(&killed));
        }
        std::thread::sleep(POLL);
    }
}

/// Waits until all are gone; says whether they are.
pub(super) fn wait_gone(processes: &[Process], patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while processes.iter().any(Process::is_alive) {
        if Instant::now() > deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
    true
}

fn pids(processes: &[Process]) -> String {
    processes.iter().map(|process| process.pid.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn found_by_a_whole_argument_and_killed() {
        let marker = format!("-Dmarker={}", std::process::id());
        // Waits for input without a process of its own that would outlive it.
        let spawn = |argument: &str| {
            Command::new("sh")
                .args(["-c", "read -r line", "sh", argument])
                .stdin(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let mut ours = spawn(&marker);
        let mut other = spawn(&format!("{marker}0"));
        let process = Process::of(ours.id()).unwrap().unwrap();
        // The child may still be this program, before exec.
        let deadline = Instant::now() + Duration::from_secs(20);
        while with_argument(&marker).unwrap().is_empty() && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        assert_eq!(with_argument(&marker).unwrap(), std::slice::from_ref(&process));
        kill_all(|| with_argument(&marker)).unwrap();
        assert!(!process.is_alive() && wait_gone(&[process], Duration::ZERO));
        assert!(other.try_wait().unwrap().is_none(), "a longer argument is another one");
        other.kill().unwrap();
        ours.wait().unwrap();
        other.wait().unwrap();
    }
}
