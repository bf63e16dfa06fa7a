//! `services.json`: what `cargo xtask services` has started. Written by it alone, read by tests.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Process;

/// The version of the file that this code reads and writes. A new field with a default keeps it,
/// anything else raises it.
pub const FORMAT: u32 = 1;

/// What runs, or has run and can be started again.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// [`FORMAT`].
    pub format: u32,
    /// The directory all of it lies in, absolute.
    pub dir: PathBuf,
    /// The program that starts and stops the servers: `xtask services --dir DIR kill NAME`.
    pub xtask: PathBuf,
    /// The Postgres server.
    pub postgres: Option<PostgresServer>,
    /// The nodes of the one CQL cluster, the first datacentre first.
    pub cql: Vec<CqlServer>,
}

/// The Postgres server.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct PostgresServer {
    /// `postgres://USER@HOST:PORT/DATABASE`: a superuser without a password.
    pub url: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Data directory, socket directory and `server.log` are in here.
    pub home: PathBuf,
    /// The postmaster; none when it was killed and not started again.
    pub process: Option<Process>,
}

/// A node of the CQL cluster.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct CqlServer {
    /// What `xtask services kill` calls it: `cql-eu`.
    pub name: String,
    /// Its datacentre: `eu`.
    pub datacenter: String,
    /// Where it listens. All nodes have the same port.
    pub address: SocketAddr,
    /// The port between the nodes, on the same host.
    pub storage_port: u16,
    /// Data, configuration and `server.log` are in here.
    pub home: PathBuf,
    /// The server; none when it was killed and not started again.
    pub process: Option<Process>,
}

impl State {
    /// The file's name in the directory of the services.
    pub const FILE: &str = "services.json";

    /// Reads a state file; none when there is none.
    pub fn load(path: &Path) -> io::Result<Option<Self>> {
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(io::Error::new(
                    error.kind(),
                    format!("cannot read {}: {error}", path.display()),
                ));
            }
        };
        Self::parse(&text).map(Some).map_err(|cause| {
            let advice = "stop the servers with the version that started them, or remove the file \
                and run `cargo xtask services up`";
            io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{}: {cause}; {advice}", path.display()),
            )
        })
    }

    fn parse(text: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            format: u32,
        }
        let Version { format } = serde_json::from_slice(text)
            .map_err(|error| format!("not a state file of the services: {error}"))?;
        if format != FORMAT {
            return Err(format!("its format is {format}, this version reads {FORMAT}"));
        }
        serde_json::from_slice(text)
            .map_err(|error| format!("not a state file of the services: {error}"))
    }

    /// Writes it to `dir/services.json`, whole or not at all.
    pub fn save(&self) -> io::Result<()> {
        let path = self.dir.join(Self::FILE);
        let new = self.dir.join("services.json.new");
        std::fs::write(&new, serde_json::to_vec_pretty(self)?)?;
        std::fs::rename(new, path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(dir: &Path) -> State {
        let process = Process { pid: 4711, start_ticks: 12, boot_id: "b".into() };
        State {
            format: FORMAT,
            dir: dir.to_owned(),
            xtask: "/somewhere/xtask".into(),
            postgres: Some(PostgresServer {
                url: "postgres://rekindle@127.0.0.1:20000/rekindle".into(),
                address: "127.0.0.1:20000".parse().unwrap(),
                home: dir.join("postgres"),
                process: Some(process.clone()),
            }),
            cql: vec![CqlServer {
                name: "cql-eu".into(),
                datacenter: "eu".into(),
                address: "127.0.0.1:20001".parse().unwrap(),
                storage_port: 20002,
                home: dir.join("cassandra/eu"),
                process: None,
            }],
        }
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(State::FILE);
        assert_eq!(State::load(&path).unwrap(), None);
        let state = example(dir.path());
        state.save().unwrap();
        assert_eq!(State::load(&path).unwrap(), Some(state));
    }

    /// The names of the fields are a contract with scripts: `jq -r .postgres.url services.json`.
    #[test]
    fn the_format_stays() {
        let json = serde_json::to_string(&example(Path::new("/d"))).unwrap();
        let expected = concat!(
            r#"{"format":1,"dir":"/d","xtask":"/somewhere/xtask","#,
            r#""postgres":{"url":"postgres://rekindle@127.0.0.1:20000/rekindle","address":"127.0.0.1:20000","home":"/d/postgres","#,
            r#""process":{"pid":4711,"start_ticks":12,"boot_id":"b"}},"#,
            r#""cql":[{"name":"cql-eu","datacenter":"eu","address":"127.0.0.1:20001","storage_port":20002,"home":"/d/cassandra/eu","process":null}]}"#,
        );
        assert_eq!(json, expected);
    }

    #[test]
    fn a_foreign_file_is_refused_with_its_name_and_a_way_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(State::FILE);
        for (text, expected) in [
            ("{\"format\":2}", "its format is 2, this version reads 1"),
            ("{", "not a state file"),
            ("", "not a state file"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = State::load(&path).unwrap_err().to_string();
            assert!(
                error.contains(expected)
                    && error.contains("services.json")
                    && error.contains("services up"),
                "{error}"
            );
        }
    }
}
