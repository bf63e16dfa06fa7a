//! The memory limit of the control group that this process is in: a container is ended by it long
//! before its host runs out of memory.

use std::fs;
use std::path::{Path, PathBuf};

/// Limits from here on are none: v1 says so with a number near the largest there is.
const NO_LIMIT: u64 = 1 << 60;

/// How much of a limit is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    /// The limit, in bytes.
    pub(super) limit: u64,
    /// What may still be used, in bytes: pages that the kernel can give up at once count as unused.
    pub(super) left: u64,
}

/// The files of one version of control groups.
struct Files {
    limit: &'static str,
    usage: &'static str,
    /// In `memory.stat`: bytes of files that can be dropped.
    reclaimable: &'static str,
}

const V2: Files =
    Files { limit: "memory.max", usage: "memory.current", reclaimable: "inactive_file" };
const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: "total_inactive_file",
};

/// The tightest limit of the groups that this process is in, if there is one.
pub(super) fn memory() -> Option<Room> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    tightest(&groups, Path::new("/sys/fs/cgroup"))
}

/// `groups` as in `/proc/self/cgroup`, `mount` as `/sys/fs/cgroup`.
fn tightest(groups: &str, mount: &Path) -> Option<Room> {
    let rooms = groups.lines().filter_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        match controllers {
            "" => up_from(mount, path, &V2),
            _ if controllers.split(',').any(|name| name == "memory") => {
                up_from(&mount.join("memory"), path, &V1)
            }
            _ => None,
        }
    });
    rooms.min_by_key(|room| room.left)
}

/// The group's own limit and those of all above it: each of them holds. A group that is not visible
/// from here (its path is the host's) is that of the container, which is mounted at the top.
fn up_from(top: &Path, path: &str, files: &Files) -> Option<Room> {
    let mut group: PathBuf = top.join(path.trim_start_matches('/'));
    if !group.starts_with(top) || path.split('/').any(|part| part == "..") {
        top.clone_into(&mut group);
    }
    let groups = group.ancestors().take_while(|group| group.starts_with(top));
    groups.filter_map(|group| room(group, files)).min_by_key(|room| room.left)
}

fn room(group: &Path, files: &Files) -> Option<Room> {
    let number = |file: &str| fs::read_to_string(group.join(file)).ok()?.trim().parse::<u64>().ok();
    let limit = number(files.limit).filter(|&limit| limit < NO_LIMIT)?;
    let usage = number(files.usage)?;
    let stat = fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
    let reclaimable = stat
        .lines()
        .find_map(|line| line.strip_prefix(files.reclaimable)?.trim().parse::<u64>().ok())
        .unwrap_or_default();
    Some(Room { limit, left: limit.saturating_sub(usage.saturating_sub(reclaimable)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn group(at: &Path, files: &[(&str, String)]) {
        fs::create_dir_all(at).unwrap();
        for (name, text) in files {
            fs::write(at.join(name), text).unwrap();
        }
    }

    #[test]
    fn the_tightest_limit_of_version_2_holds() {
        let mount = tempfile::tempdir().unwrap();
        let current = |mib: u64| ("memory.current", format!("{}\n", mib * MIB));
        let max = |mib: u64| ("memory.max", format!("{}\n", mib * MIB));
        let top = mount.path();
        group(&top.join("pods/game"), &[("memory.max", "max\n".to_owned()), current(100)]);
        assert_eq!(tightest("0::/pods/game\n", top), None);
        let stat = ("memory.stat", format!("anon 5\ninactive_file {}\nactive_file 7\n", 30 * MIB));
        group(&top.join("pods"), &[max(200), current(150), stat]);
        assert_eq!(
            tightest("0::/pods/game\n", top),
            Some(Room { limit: 200 * MIB, left: 80 * MIB })
        );
        // In a container the path is often that of the host, and the container's own group is what
        // is mounted.
        group(top, &[max(64), current(60)]);
        for path in ["/", "/somewhere/else", "/../../x"] {
            assert_eq!(
                tightest(&format!("0::{path}\n"), top),
                Some(Room { limit: 64 * MIB, left: 4 * MIB }),
                "{path}"
            );
        }
    }

    #[test]
    fn version_1_is_understood() {
        let mount = tempfile::tempdir().unwrap();
        let files = |limit: u64| {
            [
                ("memory.limit_in_bytes", format!("{limit}\n")),
                ("memory.usage_in_bytes", format!("{}\n", 10 * MIB)),
                ("memory.stat", String::new()),
            ]
        };
        let groups = "12:cpu,cpuacct:/x\n9:memory:/docker/abc\n1:name=systemd:/\n";
        group(&mount.path().join("memory/docker/abc"), &files(0x7fff_ffff_ffff_f000));
        assert_eq!(tightest(groups, mount.path()), None);
        group(&mount.path().join("memory/docker/abc"), &files(50 * MIB));
        assert_eq!(tightest(groups, mount.path()), Some(Room { limit: 50 * MIB, left: 40 * MIB }));
    }
}
