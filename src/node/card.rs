//! `node.json`: how commands find the running node of a data directory. Written when it is ready,
//! removed on a clean stop; a file left by a dead process is recognised by pid and start time, one
//! that was copied with its directory by the lock that its process does not hold.

use std::fs::{File, TryLockError};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rekindle_store::identity::Holder;
pub use rekindle_store::process::this_host;
use rekindle_store::process::{holder, start_time};
use rekindle_store_open::address::StoreAddress;
use serde::{Deserialize, Serialize};

/// A node holds an exclusive lock on it as long as it runs.
pub const LOCK_FILE: &str = "lock";
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
    /// TCP address for browsers; absent if there is none.
    #[serde(default)]
    pub web: Option<SocketAddr>,
    /// The certificate that the node shows, DER.
    pub certificate: PathBuf,
    /// SHA-256 of the certificates that native clients are to trust, in hexadecimal: that one, then
    /// those that the node will show.
    #[serde(default)]
    pub certificates: Vec<String>,
    /// The address of its store, without a password. Empty in cards of earlier releases.
    #[serde(default)]
    pub store: String,
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
                tracing::warn!(code = "RK-NODE-020", path = %path.display(), %error, "a file of \
                    the running node could not be removed");
            }
        }
    }

    /// The card of the node that runs on a data directory. Its process must hold the lock of this
    /// very directory: a card that was copied with its directory names the node of the original,
    /// which is not to be asked, drained or waited for in the name of the copy.
    pub fn running(data_dir: &Path) -> Option<Self> {
        let lock = data_dir.join(LOCK_FILE);
        let holds =
            |card: &Self| match holder(card.pid, card.pid_start, std::slice::from_ref(&lock)) {
                Holder::Holds => true,
                Holder::Gone | Holder::Stranger => false,
                // It is another user's process: whoever holds the lock keeps others from it.
                Holder::Unknown => File::open(&lock).is_ok_and(|lock| {
                    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
                }),
            };
        Self::read(data_dir).filter(holds)
    }
}

/// The address of a store as commands in any directory of this host understand it.
pub fn store_text(address: &StoreAddress) -> String {
    let absolute = match address {
        StoreAddress::Local(dir) => std::path::absolute(dir).ok().map(StoreAddress::Local),
        _ => None,
    };
    absolute.as_ref().unwrap_or(address).to_string()
}

/// Start time of a process in clock ticks since boot, if it runs (a zombie does not).
pub fn process_start(pid: u32) -> Option<u64> {
    start_time(pid)
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
            web: None,
            certificate: dir.path().join("cert.der"),
            certificates: Vec::new(),
            store: "memory".to_owned(),
        };
        card.write(dir.path()).unwrap();
        let read = NodeCard::read(dir.path()).unwrap();
        assert_eq!(read, card);
        assert_eq!(NodeCard::running(dir.path()), None, "nobody holds the lock");
        let lock = File::create(dir.path().join(LOCK_FILE)).unwrap();
        assert_eq!(NodeCard::running(dir.path()), Some(card.clone()));
        let copy = tempfile::tempdir().unwrap();
        for name in ["node.json", LOCK_FILE] {
            std::fs::copy(dir.path().join(name), copy.path().join(name)).unwrap();
        }
        assert_eq!(
            NodeCard::running(copy.path()),
            None,
            "the process holds the lock of another directory"
        );
        NodeCard { pid_start: card.pid_start + 1, ..card.clone() }.write(dir.path()).unwrap();
        assert_eq!(NodeCard::running(dir.path()), None, "another process has its pid");
        drop(lock);
        NodeCard::remove(dir.path());
        assert_eq!(NodeCard::read(dir.path()), None);
    }
}
