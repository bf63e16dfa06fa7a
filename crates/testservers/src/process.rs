//! Is that process still the one that was started? A pid alone does not say: it is given again.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A process, told apart from later ones with the same pid.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// When it started, in clock ticks since the machine did (field 22 of `/proc/PID/stat`).
    pub start_ticks: u64,
    /// Which start of the machine that was (`/proc/sys/kernel/random/boot_id`).
    pub boot_id: String,
}

impl Process {
    /// The process that has this pid now; none when there is none, or when it is dead and only
    /// waits for its parent to notice.
    pub fn of(pid: u32) -> io::Result<Option<Self>> {
        let stat = match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => stat,
            // A process that ends between open and read answers ESRCH.
            Err(error)
                if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(3) =>
            {
                return no_such_process();
            }
            Err(error) => return Err(error),
        };
        let Some((_, start_ticks)) = parse(&stat)? else { return Ok(None) };
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned();
        Ok(Some(Self { pid, start_ticks, boot_id }))
    }

    /// Does it still run?
    pub fn is_alive(&self) -> bool {
        Self::of(self.pid).is_ok_and(|now| now.as_ref() == Some(self))
    }

    /// The processes whose parent it is.
    pub fn children(&self) -> io::Result<Vec<Self>> {
        let mut children = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
                continue;
            };
            let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            if parse(&stat)?.is_some_and(|(parent, _)| parent == self.pid)
                && let Some(child) = Self::of(pid)?
            {
                children.push(child);
            }
        }
        Ok(children)
    }
}

/// Without `/proc` every pid looks free, and running servers would be taken for stopped ones.
fn no_such_process() -> io::Result<Option<Process>> {
    if Path::new("/proc/self/stat").exists() {
        Ok(None)
    } else {
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "cannot tell processes apart: there is no /proc on this system",
        ))
    }
}

/// Parent and start time of a line of `/proc/PID/stat`; none for the dead. The name in brackets may
/// hold anything, spaces and brackets included.
fn parse(stat: &str) -> io::Result<Option<(u32, u64)>> {
    let malformed = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            format!("not a line of /proc/PID/stat: {stat:?}"),
        )
    };
    let fields: Vec<&str> =
        stat.rsplit_once(')').ok_or_else(malformed)?.1.split_whitespace().collect();
    // The first field after the name is number 3, the state.
    let field = |number: usize| fields.get(number - 3).copied().ok_or_else(malformed);
    let threads: u32 = field(20)?.parse().map_err(|_| malformed())?;
    // While other threads are left, the first one being dead says nothing: sockets and files are
    // still open.
    if matches!(field(3)?, "Z" | "X") && threads <= 1 {
        return Ok(None);
    }
    let parent = field(4)?.parse().map_err(|_| malformed())?;
    let start = field(22)?.parse().map_err(|_| malformed())?;
    Ok(Some((parent, start)))
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let line = |name: &str, state: &str, threads: u32| {
            format!(
                "42 ({name}) {state} 7 42 42 0 -1 4194304 1 0 0 0 1 2 0 0 20 0 {threads} 0 987654 \
                 1000 100 18446744073709551615"
            )
        };
        for name in ["java", "a b", ") R 1 (", "tmux: server"] {
            assert_eq!(parse(&line(name, "S", 1)).unwrap(), Some((7, 987_654)), "{name}");
        }
        assert_eq!(parse(&line("java", "Z", 1)).unwrap(), None, "a zombie is gone");
        assert_eq!(
            parse(&line("java", "Z", 7)).unwrap(),
            Some((7, 987_654)),
            "its other threads are still there"
        );
        assert!(parse("42 (java) S 7").is_err());
        assert!(parse("").is_err());
    }

    #[test]
    fn alive_until_killed_even_while_nobody_has_waited_for_it() {
        let mut child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let process = Process::of(child.id()).unwrap().expect("it runs");
        assert!(process.is_alive());
        let me = Process::of(std::process::id()).unwrap().unwrap();
        assert!(me.children().unwrap().contains(&process));
        child.kill().unwrap();
        while process.is_alive() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(Process::of(process.pid).unwrap(), None);
    }

    #[test]
    fn another_process_with_the_same_pid_is_not_the_one() {
        let me = Process::of(std::process::id()).unwrap().unwrap();
        assert!(me.is_alive());
        assert!(
            !Process { start_ticks: me.start_ticks - 1, ..me.clone() }.is_alive(),
            "started at another time"
        );
        assert!(
            !Process { boot_id: "before".into(), ..me }.is_alive(),
            "of another start of the machine"
        );
    }
}
