//! What this machine has: programs, packages, and a user that Postgres agrees to run as.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

use anyhow::{Context, Result, bail};

/// The first program of this name in these folders or in `PATH`.
pub(super) fn program(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path = std::env::split_paths(&path).collect::<Vec<_>>();
    folders.iter().chain(&in_path).map(|folder| folder.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o111 != 0)
}

/// Subfolders `below` of all folders in `parent` whose name has `part` in it, the highest name
/// first: `/usr/lib/postgresql/*/bin`.
pub(super) fn versions(parent: &str, part: &str, below: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.contains(part))
        .collect();
    names.sort_by_key(|name| (name.parse::<u32>().unwrap_or(0), name.clone()));
    names.iter().rev().map(|name| Path::new(parent).join(name).join(below)).collect()
}

/// What `find` finds, after installing Debian packages when it finds nothing at first and we may.
pub(super) fn find_or_install<T>(
    what: &str,
    packages: &[&str],
    find: impl Fn() -> Option<T>,
) -> Result<T> {
    // Postgres and Java are looked for at the same time, but apt-get works for one at a time.
    static APT: Mutex<()> = Mutex::new(());
    if let Some(found) = find() {
        return Ok(found);
    }
    let advice = format!(
        "{what} is missing. On Debian and Ubuntu: `apt-get install {}` as root",
        packages.join(" ")
    );
    let Some(apt_get) = program("apt-get", &[]).filter(|_| is_root()) else {
        bail!("{advice}; this user cannot do that, or there is no apt-get");
    };
    let _one_at_a_time = APT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    for arguments in [&["update"][..], &["install", "--yes", "--no-install-recommends"]] {
        let mut command = Command::new(&apt_get);
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        if arguments[0] == "install" {
            command.args(packages);
        }
        run(&mut command).with_context(|| advice.clone())?;
    }
    find().with_context(|| format!("{advice}; that was done, and it is still not found"))
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Runs a command to its end and gives what it printed; its complaints are in the error.
pub(super) fn run(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}: {} {}",
            output.status,
            text(&output.stderr),
            text(&output.stdout)
        );
    }
    Ok(text(&output.stdout))
}

/// Whom a server runs as.
pub(super) enum RunAs {
    /// Us.
    Ourselves,
    /// Another user, since we are root and Postgres refuses to run as root.
    User {
        /// Its number.
        uid: u32,
        /// The number of its group.
        gid: u32,
    },
}

impl RunAs {
    /// Somebody who is not root.
    pub(super) fn unprivileged() -> Result<Self> {
        if !is_root() {
            return Ok(Self::Ourselves);
        }
        if program("setpriv", &[]).is_none() {
            bail!(
                "Postgres refuses to run as root, and setpriv (package util-linux), which starts \
                 it as another user, is missing"
            );
        }
        let users = std::fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        let found = ["postgres", "nobody"].iter().find_map(|name| user(&users, name));
        let (uid, gid) = found.context(
            "Postgres refuses to run as root, and there is neither a user `postgres` \
                nor `nobody` to run it as",
        )?;
        Ok(Self::User { uid, gid })
    }

    fn uid(&self) -> Option<u32> {
        match self {
            Self::Ourselves => None,
            Self::User { uid, .. } => Some(*uid),
        }
    }

    /// A command that runs as that user, in `home`.
    pub(super) fn command(&self, program: &Path, home: &Path) -> Command {
        let mut command = match self {
            Self::Ourselves => Command::new(program),
            Self::User { uid, gid } => {
                let mut command = Command::new("setpriv");
                command
                    .arg(format!("--reuid={uid}"))
                    .arg(format!("--regid={gid}"))
                    .arg("--clear-groups")
                    .arg("--")
                    .arg(program);
                command
            }
        };
        command.current_dir(home).env("HOME", home);
        command
    }

    /// Makes `folder` and gives it to the user; says whether it can work there.
    pub(super) fn owns(&self, folder: &Path) -> Result<bool> {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot create {}", folder.display()))?;
        let ourselves = rustix::process::geteuid().as_raw();
        let found = folder
            .symlink_metadata()
            .with_context(|| format!("cannot look at {}", folder.display()))?;
        if !found.is_dir() || ![Some(ourselves), self.uid()].contains(&Some(found.uid())) {
            // Below the folder for temporary files anybody could have put it there for us to give
            // away.
            bail!(
                "{} is not a folder of ours: remove it, or find out whose it is",
                folder.display()
            );
        }
        if let Self::User { uid, gid } = self {
            std::os::unix::fs::chown(folder, Some(*uid), Some(*gid))
                .with_context(|| format!("cannot give away {}", folder.display()))?;
        }
        std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700))
            .with_context(|| format!("cannot close {} to others", folder.display()))?;
        let Some(test) = program("test", &[]) else {
            bail!("the program `test` (package coreutils) is missing")
        };
        let status = self
            .command(&test, Path::new("/"))
            .arg("-w")
            .arg(folder)
            .status()
            .context("cannot look at a folder as another user")?;
        Ok(status.success())
    }
}

/// Number of a user and its group.
fn user(passwd: &str, name: &str) -> Option<(u32, u32)> {
    let mut fields = passwd
        .lines()
        .map(|line| line.split(':'))
        .find(|fields| fields.clone().next() == Some(name))?
        .skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_their_whole_name() {
        let passwd = "postgres2:x:7:7::/:/bin/sh\n\
            postgres:x:101:104:admin,,,:/var/lib/postgresql:/bin/bash\nbroken:x\n";
        assert_eq!(user(passwd, "postgres"), Some((101, 104)));
        assert_eq!(user(passwd, "nobody"), None);
        assert_eq!(user(passwd, "broken"), None);
    }

    #[test]
    fn a_link_is_not_given_away() {
        let dir = tempfile::tempdir().unwrap();
        let (real, link) = (dir.path().join("real"), dir.path().join("link"));
        assert!(RunAs::Ourselves.owns(&real).unwrap());
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let error = RunAs::Ourselves.owns(&link).unwrap_err().to_string();
        assert!(error.contains("not a folder of ours"), "{error}");
    }

    #[test]
    fn the_highest_version_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["9", "15", "17", "other"] {
            std::fs::create_dir(dir.path().join(name)).unwrap();
        }
        let found = versions(dir.path().to_str().unwrap(), "", "bin");
        let names: Vec<_> = found
            .iter()
            .map(|path| path.strip_prefix(dir.path()).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(names, ["17/bin", "15/bin", "9/bin", "other/bin"]);
    }
}
