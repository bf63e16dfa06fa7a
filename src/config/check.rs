//! What a start needs besides a configuration that is right in itself: directories that can be
//! written to, addresses of this host, and an executable that knows the kinds of job that are due
//! by the clock.
//!
//! `config check` says all of it, and a start looks at it first of all, before it takes a lock, a
//! lease or a match: what ends a start has cost nobody anything then. It looks only: nothing is
//! created.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::Path;

use rekindle_store_open::address::StoreAddress;
use rustix::fs::{Access, access};

use super::edge::WebListen;
use super::{Config, ConfigError};
use crate::clock;
use crate::node::{browsers, cluster};

/// The kind of job that needs `backup.dir`.
const BACKUP: &str = "backup";

/// Refuses what would make a start fail on this host. `kinds` are the kinds of job that this
/// executable knows, its own chores included.
pub fn check(config: &Config, kinds: &[&str]) -> Result<(), ConfigError> {
    let problems: Vec<String> =
        [places(config), addresses(config), certificates(config), jobs(config, kinds)].concat();
    if problems.is_empty() { Ok(()) } else { Err(ConfigError::Unfit(problems.join("; and "))) }
}

fn places(config: &Config) -> Vec<String> {
    let mut places = vec![("data_dir", config.data_dir.as_path())];
    if let StoreAddress::Local(dir) = &config.store
        && *dir != config.data_dir
    {
        places.push(("store", dir));
    }
    places.extend(config.backup.iter().map(|(dir, _)| ("backup.dir", dir.as_path())));
    places
        .into_iter()
        .filter_map(|(key, dir)| {
            unwritable(dir).map(|problem| format!("{key} = {}: {problem}", dir.display()))
        })
        .collect()
}

/// Why nothing can be written into a directory, or into the one where it would have to be made.
fn unwritable(dir: &Path) -> Option<String> {
    let dir = match std::path::absolute(dir) {
        Ok(dir) => dir,
        Err(error) => return Some(error.to_string()),
    };
    for place in dir.ancestors() {
        let found = match place.metadata() {
            Ok(found) => found,
            Err(error)
                if error.kind() == io::ErrorKind::NotFound && place.symlink_metadata().is_err() =>
            {
                continue;
            }
            Err(error) => return Some(format!("{}: {error}", place.display())),
        };
        if !found.is_dir() {
            return Some(format!("{} is no directory", place.display()));
        }
        return access(place, Access::WRITE_OK | Access::EXEC_OK).err().map(|error| {
            let error = io::Error::from(error);
            format!(
                "this user cannot write into {}: {error}; give it the right to, or choose \
                another directory",
                place.display()
            )
        });
    }
    None
}

fn addresses(config: &Config) -> Vec<String> {
    let udp = |address: SocketAddr| UdpSocket::bind(address).map(drop);
    let tcp = |address: SocketAddr| TcpListener::bind(address).map(drop);
    let listen = unbindable("listen", "--listen", config.listen, udp);
    let cluster = config
        .cluster
        .listen
        .and_then(|listen| unbindable("cluster.listen", "--set cluster.listen=", listen, tcp));
    let web = match config.edge.web {
        WebListen::At(web) => unbindable("edge.web", "--set edge.web=", web, tcp),
        WebListen::AsPlayers | WebListen::Off => None,
    };
    listen
        .into_iter()
        .chain(web)
        .chain(unbindable("admin.listen", "--admin", config.admin_listen, tcp))
        .chain(cluster)
        .collect()
}

/// Certificates that are of no use.
fn certificates(config: &Config) -> Vec<String> {
    let links = cluster::tls(&config.cluster).err().map(|error| error.to_string());
    let browsers = config.edge.certificate.as_ref().and_then(|files| browsers::check(files).err());
    let browsers = browsers.map(|error| format!("edge.certificate: {error}"));
    links.into_iter().chain(browsers).collect()
}

/// Why this host, or this user, can never listen there. That another process listens there now is
/// no fault of the configuration.
fn unbindable(
    key: &str,
    flag: &str,
    address: SocketAddr,
    bind: impl Fn(SocketAddr) -> io::Result<()>,
) -> Option<String> {
    let tried = if address.port() < 1_024 { address } else { SocketAddr::new(address.ip(), 0) };
    match bind(tried) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::AddrNotAvailable | io::ErrorKind::PermissionDenied
            ) =>
        {
            Some(format!("{key} = {address}: {error}; choose another address with {flag}"))
        }
        _ => None,
    }
}

fn jobs(config: &Config, kinds: &[&str]) -> Vec<String> {
    let mut problems = Vec::new();
    for (kind, schedule) in &config.jobs.cron {
        if schedule.after(clock::now_ms()).is_none() {
            problems.push(format!("jobs.cron has `{kind} {schedule}`, which never comes"));
        }
        if !kinds.contains(&kind.as_str()) {
            problems.push(format!(
                "jobs.cron names the kind `{kind}`, this executable knows: {}",
                kinds.join(", ")
            ));
        }
        if kind == BACKUP && config.backup.is_none() {
            problems.push(
                "jobs.cron has `backup`, but backup.dir is not set, so there is no place \
                for a backup"
                    .to_owned(),
            );
        }
    }
    for (place, kind) in kinds.iter().enumerate() {
        if kinds[..place].contains(kind) {
            problems.push(format!(
                "two kinds of job are called `{kind}`: give the one that this \
                executable brings along another name"
            ));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::{Settings, Sources};

    fn problem(flags: &[(&str, &str)], kinds: &[&str]) -> String {
        let flags = flags
            .iter()
            .map(|(key, value)| ("--set".to_owned(), (*key).to_owned(), (*value).to_owned()))
            .collect();
        let file = Some(PathBuf::from("/dev/null"));
        let config = Config::from_settings(
            &Settings::load(&Sources { file, flags, ..Sources::default() }).unwrap(),
        )
        .unwrap();
        check(&config, kinds).err().map_or_else(String::new, |error| error.to_string())
    }

    const CHORES: &[&str] = crate::node::chores::NAMES;

    #[test]
    fn what_this_host_does_not_give_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let (dir, file) =
            (dir.path().to_str().unwrap().to_owned(), file.to_str().unwrap().to_owned());
        let inside = format!("{dir}/a/b/c");
        assert_eq!(problem(&[("data_dir", &inside)], CHORES), "");
        assert!(!Path::new(&inside).exists(), "it looks only");
        let below_a_file = format!("{file}/x");
        for (flags, words) in [
            (&[("data_dir", file.as_str())][..], "is no directory"),
            (&[("data_dir", below_a_file.as_str())], "data_dir"),
            (&[("data_dir", dir.as_str()), ("store", "local:/dev/null/x")], "store = /dev/null/x"),
            (&[("data_dir", dir.as_str()), ("backup.dir", file.as_str())], "backup.dir"),
            (
                &[("data_dir", dir.as_str()), ("listen", "192.0.2.1:7777")],
                "listen = 192.0.2.1:7777",
            ),
            (
                &[
                    ("data_dir", dir.as_str()),
                    ("admin.listen", "192.0.2.1:7"),
                    ("admin.token", "0123456789abcdef"),
                ],
                "--admin",
            ),
        ] {
            let problem = problem(flags, CHORES);
            assert!(
                problem.contains("RK-CONFIG-140") && problem.contains(words),
                "{flags:?}: {problem}"
            );
        }
    }

    #[test]
    fn jobs_that_nobody_could_do_are_found() {
        assert_eq!(problem(&[], CHORES), "");
        let unknown = problem(&[("jobs.cron", "keep-hause every 30s")], CHORES);
        assert!(unknown.contains("`keep-hause`") && unknown.contains("keep-house"), "{unknown}");
        assert_eq!(problem(&[("jobs.cron", "mine every 30s")], &["mine"]), "");
        assert!(
            problem(&[("jobs.cron", "backup every 1d")], CHORES).contains("backup.dir is not set")
        );
        assert_eq!(
            problem(&[("jobs.cron", "backup every 1d"), ("backup.dir", "backups")], CHORES),
            ""
        );
        assert!(problem(&[("jobs.cron", "keep-house 0 0 30 2 *")], CHORES).contains("never comes"));
        assert!(problem(&[], &["mine", "mine"]).contains("two kinds"));
    }
}
