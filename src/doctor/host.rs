//! The machine: cores, memory, sockets, descriptors, clock.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use rustix::process::{Resource, getrlimit};

use super::cgroup::{self, Room};
use super::{Finding, Level, mebibytes};
use crate::config::Config;

/// What the gateway asks for each socket, in bytes.
const SOCKET_BUFFER: u64 = 4 << 20;
/// How long the two clocks are compared.
const CLOCK_WATCH: Duration = Duration::from_millis(300);
/// They may drift apart by so much meanwhile: a step is far larger.
const CLOCK_STEP: Duration = Duration::from_millis(30);

/// All findings about the machine.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let number = |path: &str| read(path)?.trim().parse::<u64>().ok();
    vec![
        cores(std::thread::available_parallelism().map_or(1, usize::from)),
        memory(read("/proc/meminfo").and_then(|text| available(&text)), cgroup::memory()),
        udp_buffers(number("/proc/sys/net/core/rmem_max"), number("/proc/sys/net/core/wmem_max")),
        // A node raises its limit to this one by itself.
        descriptors(getrlimit(Resource::Nofile).maximum, crate::node::descriptors::needed(config)),
        clock_steps(watch_clocks().await),
        clock_sanity(SystemTime::now(), executable_date()),
        clock_keeper(keeper(Path::new("/run"))),
    ]
}

fn cores(count: usize) -> Finding {
    let level = if count < 2 { Level::Warn } else { Level::Ok };
    let fix = "give the node a second core: with one, ticks wait for the edge and the journal";
    Finding::new("cores", level, format!("{count} for this process"), fix)
}

/// `MemAvailable` of `/proc/meminfo`, in bytes.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

/// What is left is the least of what the machine has and what this process's control group may use.
fn memory(available: Option<u64>, group: Option<Room>) -> Finding {
    let Some(bytes) = available.into_iter().chain(group.map(|room| room.left)).min() else {
        return Finding::new("memory", Level::Ok, "unknown: the system does not say", "");
    };
    let level = match bytes {
        0..0x0800_0000 => Level::Fail,
        0x0800_0000..0x2000_0000 => Level::Warn,
        _ => Level::Ok,
    };
    let fix = "free memory, or raise the limit of the container: a node needs 128 MiB and about \
        100 KiB for each arena match; when it runs out, the \
               kernel ends the node";
    let limit = group.map_or_else(String::new, |room| {
        format!(" of the {} that its control group may use", mebibytes(room.limit))
    });
    let limit = if group.is_some_and(|room| room.left == bytes) { limit } else { String::new() };
    Finding::new("memory", level, format!("{} available{limit}", mebibytes(bytes)), fix)
}

fn udp_buffers(receive: Option<u64>, send: Option<u64>) -> Finding {
    let (Some(receive), Some(send)) = (receive, send) else {
        return Finding::new("udp_buffers", Level::Ok, "unknown: the system does not say", "");
    };
    let level = if receive.min(send) < SOCKET_BUFFER { Level::Warn } else { Level::Ok };
    let fix = format!(
        "sysctl -w net.core.rmem_max={SOCKET_BUFFER} net.core.wmem_max={SOCKET_BUFFER} (and the \
         same in /etc/sysctl.d): with smaller buffers \
         datagrams are dropped when many players send at once"
    );
    Finding::new(
        "udp_buffers",
        level,
        format!("at most {receive} bytes to receive, {send} to send"),
        fix,
    )
}

fn descriptors(limit: Option<u64>, needed: u64) -> Finding {
    let Some(limit) = limit else { return Finding::new("descriptors", Level::Ok, "no limit", "") };
    let level = match limit {
        few if few < needed => Level::Fail,
        ..1_024 => Level::Warn,
        _ => Level::Ok,
    };
    let fix = "raise the limit: `ulimit -n 65536`, or LimitNOFILE=65536 in the systemd unit; or \
        lower admin.connections";
    Finding::new(
        "descriptors",
        level,
        format!("at most {limit} open files, this configuration needs {needed}"),
        fix,
    )
}

/// By how much the wall clock went another way than the steady one.
async fn watch_clocks() -> Duration {
    let (wall, steady) = (SystemTime::now(), Instant::now());
    tokio::time::sleep(CLOCK_WATCH).await;
    let (after, passed) = (SystemTime::now(), steady.elapsed());
    after
        .duration_since(wall)
        .map_or_else(|back| back.duration() + passed, |moved| moved.abs_diff(passed))
}

fn clock_steps(apart: Duration) -> Finding {
    let level = if apart > CLOCK_STEP { Level::Warn } else { Level::Ok };
    let fix = "let NTP slew the clock instead of setting it (chrony: no `makestep` after the \
        start): times in journals and audit entries jump";
    Finding::new(
        "clock_steps",
        level,
        format!("wall clock and steady clock {:.1} ms apart", apart.as_secs_f64() * 1e3),
        fix,
    )
}

fn executable_date() -> Option<SystemTime> {
    fs::metadata(std::env::current_exe().ok()?).ok()?.modified().ok()
}

/// A clock that is behind the executable is wrong.
fn clock_sanity(now: SystemTime, built: Option<SystemTime>) -> Finding {
    let behind = built.and_then(|built| built.duration_since(now).ok()).unwrap_or_default();
    let level = if behind > Duration::from_hours(24) { Level::Fail } else { Level::Ok };
    let found = if level == Level::Ok {
        "the wall clock is plausible".to_owned()
    } else {
        format!("the wall clock is {} h older than this executable", behind.as_secs() / 3_600)
    };
    Finding::new(
        "clock_date",
        level,
        found,
        "set the clock: tickets and certificates are valid by it",
    )
}

/// Who keeps the clock, as far as files tell.
fn keeper(run: &Path) -> Option<(&'static str, bool)> {
    if run.join("systemd/timesync").is_dir() {
        return Some(("systemd-timesyncd", run.join("systemd/timesync/synchronized").exists()));
    }
    let running = |path: &str| run.join(path).exists();
    if running("chrony/chronyd.pid") || running("chronyd.pid") {
        return Some(("chrony", true));
    }
    running("ntpd.pid").then_some(("ntpd", true))
}

fn clock_keeper(keeper: Option<(&'static str, bool)>) -> Finding {
    match keeper {
        Some((name, true)) => Finding::new("clock_sync", Level::Ok, format!("kept by {name}"), ""),
        Some((name, false)) => {
            let fix = "look at `timedatectl timesync-status`: times of several nodes cannot be \
                compared until it is";
            Finding::new(
                "clock_sync",
                Level::Warn,
                format!("{name} runs and has not synchronised the clock"),
                fix,
            )
        }
        // A container's clock is its host's.
        None => Finding::new(
            "clock_sync",
            Level::Ok,
            "unknown: no time service is visible from here",
            "",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_finding_is_judged_and_has_its_fix() {
        let cases = [
            (cores(1), Level::Warn, "second core"),
            (memory(Some(64 << 20), None), Level::Fail, "free memory"),
            (memory(Some(300 << 20), None), Level::Warn, "free memory"),
            (
                memory(Some(64 << 30), Some(Room { limit: 256 << 20, left: 100 << 20 })),
                Level::Fail,
                "limit of the container",
            ),
            (
                memory(None, Some(Room { limit: 512 << 20, left: 400 << 20 })),
                Level::Warn,
                "limit of the container",
            ),
            (udp_buffers(Some(212_992), Some(8 << 20)), Level::Warn, "net.core.rmem_max=4194304"),
            (descriptors(Some(191), 192), Level::Fail, "ulimit -n"),
            (descriptors(Some(512), 192), Level::Warn, "LimitNOFILE"),
            (clock_steps(Duration::from_secs(2)), Level::Warn, "slew"),
            (
                clock_sanity(SystemTime::UNIX_EPOCH, Some(SystemTime::now())),
                Level::Fail,
                "set the clock",
            ),
            (clock_keeper(Some(("systemd-timesyncd", false))), Level::Warn, "timedatectl"),
        ];
        for (finding, level, fix) in cases {
            assert!(
                finding.level == level
                    && finding.fix.as_ref().is_some_and(|words| words.contains(fix)),
                "{finding:?}"
            );
        }
        let fine = [
            cores(2),
            memory(Some(2 << 30), None),
            memory(None, None),
            memory(Some(2 << 30), Some(Room { limit: 8 << 30, left: 7 << 30 })),
            udp_buffers(Some(4 << 20), Some(4 << 20)),
            descriptors(None, 192),
            descriptors(Some(1_024), 192),
            clock_steps(Duration::from_millis(1)),
            clock_sanity(SystemTime::now(), Some(SystemTime::UNIX_EPOCH)),
            clock_keeper(Some(("chrony", true))),
            clock_keeper(None),
        ];
        for finding in fine {
            assert!(finding.level == Level::Ok && finding.fix.is_none(), "{finding:?}");
        }
    }

    #[test]
    fn what_the_system_says_is_understood() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:    2048 kB\n"), Some(2 << 20));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
        let run = tempfile::tempdir().unwrap();
        assert_eq!(keeper(run.path()), None);
        fs::create_dir_all(run.path().join("systemd/timesync")).unwrap();
        assert_eq!(keeper(run.path()), Some(("systemd-timesyncd", false)));
        fs::write(run.path().join("systemd/timesync/synchronized"), "").unwrap();
        assert_eq!(keeper(run.path()), Some(("systemd-timesyncd", true)));
    }
}
