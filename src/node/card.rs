//! `node.json`: how commands find the running node of a data directory. Written when it is ready, removed on a clean stop; a file left by a dead
//! process is recognised by pid and start time.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// For `kill $(cat rekindle-data/node.pid)`.
const PID_FILE: &str = "node.pid";

/// What a running node says of itself to processes on its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCard {
    /// Process id.
    pub pid: u32,
    /// Start time of the process in clock ticks since boot.
    pub pid_start: u64,
    /// Of the run.
    pub incarnation: String,
    /// Admin HTTP address.
    pub admin: SocketAddr,
    /// UDP address for players.
    pub listen: SocketAddr,
    /// The certificate that the node shows, PEM.
    pub certificate: PathBuf,
}

impl NodeCard {
    /// Where it lies in a data directory.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("node.json")
    }

    /// The card in a data directory, if there is one that can be read.
    pub fn read(data_dir: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(Self::path(data_dir)).ok()?).ok()
    }

    /// Writes the card, whole or not at all.
    pub fn write(&self, data_dir: &Path) -> std::io::Result<()> {
        let draft = data_dir.join("node.json.new");
        std::fs::write(&draft, serde_json::to_vec_pretty(self).map_err(std::io::Error::other)?)?;
        std::fs::rename(draft, Self::path(data_dir))?;
        std::fs::write(data_dir.join(PID_FILE), format!("{}\n", self.pid))
    }

    /// Removes the card of a node that stopped.
    pub fn remove(data_dir: &Path) {
        for path in [Self::path(data_dir), data_dir.join(PID_FILE)] {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(code = "RK-NODE-020", path = %path.display(), %error, "a file of the running node could not be removed");
            }
        }
    }

    /// Whether the process that wrote it still runs.
    pub fn is_alive(&self) -> bool {
        process_start(self.pid) == Some(self.pid_start)
    }
}

/// Start time of a process in clock ticks since boot, if it runs (a zombie does not).
pub fn process_start(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the name in parentheses and may contain anything, so fields are counted behind its end.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.nth(18)?.parse().ok())?
}

/// Names the kernel and the process namespace in which this process's id means something; empty if the system does not say.
pub fn this_host() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/random/boot_id");
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    match (kernel, namespace) {
        (Ok(kernel), Ok(namespace)) => format!("{}/{}", kernel.trim(), namespace.display()),
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_card_knows_its_process() {
        let dir = tempfile::tempdir().unwrap();
        let pid = std::process::id();
        let card = NodeCard {
            pid,
            pid_start: process_start(pid).unwrap(),
            incarnation: "1".to_owned(),
            admin: ([127, 0, 0, 1], 1).into(),
            listen: ([127, 0, 0, 1], 2).into(),
            certificate: dir.path().join("cert.pem"),
        };
        card.write(dir.path()).unwrap();
        let read = NodeCard::read(dir.path()).unwrap();
        assert_eq!(read, card);
        assert!(read.is_alive());
        assert!(!NodeCard { pid_start: card.pid_start + 1, ..card }.is_alive());
        NodeCard::remove(dir.path());
        assert_eq!(NodeCard::read(dir.path()), None);
    }
}
