//! The life of the cluster's keys: the first node of a store makes them, or takes over those that
//! an earlier release left in its data directory; all others adopt what is there. Rotated by
//! `rekindle keys rotate`, read again each second by nodes that run.
//!
//! They are in the entry `keys` of the store's registry, sealed with `cluster.secret`. A store in
//! memory has no other nodes: there the keys stay in files of the data directory.

use std::convert::Infallible;
use std::path::Path;

use rekindle_cluster::ownership::lease::RENEW_EVERY;
use rekindle_gateway::keyring::{OpenError, import_set, make_set, open, seal};
use rekindle_gateway::keys::{Keys, KeysError};
use rekindle_schema::keyring::{KEYRING_ENTRY, KeptKeyring, KeySet, Keyring};
use rekindle_schema::registry::RegistryEntry;
use rekindle_store::{Store, StoreError};
use rekindle_store_open::address::StoreAddress;

use super::card::NodeCard;
use super::serving::Parts;
use super::tickets::fingerprints;
use crate::clock;
use crate::config::{Config, Secret};

/// How long after a rotation the new key begins to sign, in milliseconds: by then every node that
/// runs has read it.
pub const SETTLE_MS: u64 = 10 * RENEW_EVERY.as_millis() as u64;
/// How often a change that meets another one is tried again.
const TRIES: usize = 8;

/// Why the keys of the cluster cannot be had or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// They are sealed, and this node has no secret.
    #[error(
        "RK-NODE-164: the keys of this store's cluster are sealed, and cluster.secret is not set: \
         give this node the secret of the other nodes"
    )]
    NoSecret,
    /// They were sealed with another secret.
    #[error(
        "RK-NODE-165: cluster.secret does not open the keys of this store's cluster: give this \
         node the secret of the other nodes; nothing was changed"
    )]
    WrongSecret,
    /// The entry is no keyring.
    #[error("RK-NODE-166: entry `keys` of the registry: {0}; use the release that wrote it")]
    Malformed(String),
    /// There are none yet.
    #[error("RK-NODE-167: this store has no keys yet: the first start of a node makes them")]
    None,
    /// A rotation that cannot be.
    #[error("RK-NODE-168: the keys cannot be rotated: {0}; wait until one of them has expired")]
    TooMany(String),
    /// The cryptography or a file refused.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<OpenError> for KeyringError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NoSecret => Self::NoSecret,
            OpenError::WrongSecret => Self::WrongSecret,
            OpenError::Malformed(error) => Self::Malformed(error.to_string()),
        }
    }
}

/// What stands in the registry.
struct Standing {
    version: u64,
    kept: KeptKeyring,
}

async fn standing(store: &Store) -> Result<Option<Standing>, KeyringError> {
    let Some(entry) = store.registry.get(KEYRING_ENTRY).await? else { return Ok(None) };
    let kept = KeptKeyring::decode(&entry.value)
        .map_err(|error| KeyringError::Malformed(error.to_string()))?;
    Ok(Some(Standing { version: entry.version, kept }))
}

pub(super) fn revealed(secret: Option<&Secret>) -> Option<&str> {
    secret.map(Secret::reveal)
}

/// The keys as they stand, if the store has any. Changes nothing.
pub async fn read(store: &Store, secret: Option<&Secret>) -> Result<Option<Keyring>, KeyringError> {
    let found = standing(store).await?;
    Ok(found.map(|found| open(&found.kept, revealed(secret))).transpose()?)
}

/// Writes the keys as the given version; false if somebody else was faster.
async fn write(
    store: &Store,
    ring: &Keyring,
    version: u64,
    secret: Option<&Secret>,
) -> Result<bool, KeyringError> {
    let value = seal(ring, revealed(secret))?.encode().into();
    let entry = RegistryEntry { name: KEYRING_ENTRY.to_owned(), version, value };
    Ok(store.registry.put(entry).await?.is_ok())
}

pub(super) fn busy() -> KeyringError {
    StoreError::Unavailable("the keys of the cluster are changed by many at once".to_owned()).into()
}

/// The keys with which a node begins; `cert.der` in its data directory is theirs then.
pub async fn begin(config: &Config, store: &Store) -> Result<Keys, KeyringError> {
    if config.store == StoreAddress::Memory {
        return Ok(Keys::load_or_create(&config.data_dir)?);
    }
    let secret = config.cluster_secret.as_ref();
    let ring = ascertain(store, secret, &config.data_dir).await?;
    let keys = Keys::of_ring(&ring, clock::now_ms())?;
    keys.publish_certificate(&config.data_dir)?;
    if secret.is_none() && !matches!(config.store, StoreAddress::Local(_)) {
        tracing::warn!(
            code = "RK-GATE-140", store = %config.store,
            "cluster.secret is not set: whoever can read the database can sign tickets and pose \
             as a node; set the same secret on all nodes"
        );
    }
    Ok(keys)
}

/// The keys of the store: adopted, or else made, or imported from the files of `dir`. Of many
/// first starts one makes them. Keys that lie open are sealed as soon as a node has a secret.
async fn ascertain(
    store: &Store,
    secret: Option<&Secret>,
    dir: &Path,
) -> Result<Keyring, KeyringError> {
    for _ in 0..TRIES {
        let (ring, version) = match standing(store).await? {
            Some(found) => {
                let ring = open(&found.kept, revealed(secret))?;
                if secret.is_none() || matches!(found.kept, KeptKeyring::Sealed { .. }) {
                    return Ok(ring);
                }
                (ring, found.version + 1)
            }
            None => (Keyring::new(first_set(dir)?), 1),
        };
        if write(store, &ring, version, secret).await? {
            tracing::info!(
                code = "RK-NODE-169",
                id = format!("{:016x}", ring.newest().id),
                sealed = secret.is_some(),
                version,
                "the keys of the cluster are written"
            );
            return Ok(ring);
        }
    }
    Err(busy())
}

/// Of an earlier release's files, else new.
fn first_set(dir: &Path) -> Result<KeySet, KeysError> {
    let (id, now_ms) = (clock::random(), clock::now_ms());
    match import_set(dir, id, now_ms)? {
        Some(set) => Ok(set),
        None => make_set(id, (now_ms, 0), None),
    }
}

/// The store for a command on a node's host: the one that is configured. If nothing is there yet
/// but a node runs in the data directory, that node's.
pub fn store_of_host(config: &Config) -> StoreAddress {
    let unmade = matches!(&config.store, StoreAddress::Local(dir) if !dir.join("format").exists());
    let runs = unmade.then(|| NodeCard::running(&config.data_dir)).flatten();
    runs.and_then(|card| card.store.parse().ok()).unwrap_or_else(|| config.store.clone())
}

/// The keys for a command on a node's host: those of [`store_of_host`], and while it has none,
/// those that its first start will take over.
pub async fn of_host(config: &Config) -> Result<Keys, KeyringError> {
    match of_store(&store_of_host(config), config.cluster_secret.as_ref()).await {
        Err(KeyringError::None) => Ok(Keys::load_or_create(&config.data_dir)?),
        found => found,
    }
}

/// The keys of the store at this address.
pub async fn of_store(
    address: &StoreAddress,
    secret: Option<&Secret>,
) -> Result<Keys, KeyringError> {
    let store = opened(address).await?;
    let ring = read(&store, secret).await?.ok_or(KeyringError::None)?;
    Ok(Keys::of_ring(&ring, clock::now_ms())?)
}

/// The store at this address, if there is one that may have keys: none is made.
pub async fn opened(address: &StoreAddress) -> Result<Store, KeyringError> {
    match address {
        StoreAddress::Memory => Err(KeyringError::None),
        StoreAddress::Local(dir) if !dir.join("format").exists() => Err(KeyringError::None),
        address => Ok(address.open().await?),
    }
}

/// Adds a set of keys, with a certificate of its own if `tls`; returns the keys as they stand then.
pub async fn rotate(
    store: &Store,
    secret: Option<&Secret>,
    overlap_ms: u64,
    tls: bool,
) -> Result<Keyring, KeyringError> {
    for _ in 0..TRIES {
        let found = standing(store).await?.ok_or(KeyringError::None)?;
        let mut ring = open(&found.kept, revealed(secret))?;
        let now_ms = clock::now_ms();
        let before = (!tls).then(|| ring.newest());
        let times = (now_ms, now_ms.saturating_add(SETTLE_MS));
        let next = make_set(clock::random(), times, before)?;
        ring.rotate(next, overlap_ms, now_ms).map_err(KeyringError::TooMany)?;
        if write(store, &ring, found.version + 1, secret).await? {
            return Ok(ring);
        }
    }
    Err(busy())
}

/// Has a running edge sign, accept and be shown as the keys in the store have it, each second. A
/// store that is away, or keys that this node cannot open, leave it with those that it has. `card`
/// is written again when clients have to trust other certificates.
pub async fn keep(config: &Config, parts: &Parts, card: &NodeCard) -> Infallible {
    let (store, keys) = (&parts.store, parts.gateway.keys());
    let mut said = false;
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        if config.store == StoreAddress::Memory {
            continue;
        }
        let again = async {
            if let Some(ring) = read(store, config.cluster_secret.as_ref()).await?
                && keys.adopt(&ring, clock::now_ms())?
            {
                keys.publish_certificate(&config.data_dir)?;
                told(config, card, keys);
            }
            Ok::<_, KeyringError>(())
        };
        match again.await {
            Ok(()) => said = false,
            Err(KeyringError::Store(error)) if error.is_transient() => {}
            Err(error) if said => drop(error),
            Err(error) => {
                said = true;
                tracing::error!(code = "RK-GATE-141", %error, "the keys of the cluster were not \
                    read again: this node goes on with those that it has");
            }
        }
    }
}

/// Says which certificates clients have to trust from now on, in the log and in `node.json`.
fn told(config: &Config, card: &NodeCard, keys: &Keys) {
    let certificates = fingerprints(keys);
    tracing::info!(
        code = "RK-NODE-234",
        shown = certificates[0],
        known = certificates.len(),
        "native clients are shown, or are to trust, another certificate"
    );
    let card = NodeCard { certificates, ..card.clone() };
    if let Err(error) = card.write(&config.data_dir) {
        tracing::warn!(code = "RK-NODE-235", %error, "node.json names the certificates that were \
            trusted before");
    }
}

#[cfg(test)]
mod tests {
    use rekindle_gateway::keys::{CERTIFICATE_FILE, KEY_FILE};
    use rekindle_store_memory::MemoryStore;

    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text)
    }

    #[tokio::test]
    async fn of_two_first_starts_at_once_one_makes_the_keys_and_both_have_them() {
        let store = MemoryStore::new().store();
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let secret = Some(secret("a secret of some length"));
        let (a, b) = tokio::join!(
            ascertain(&store, secret.as_ref(), dirs[0].path()),
            ascertain(&store, secret.as_ref(), dirs[1].path()),
        );
        assert_eq!(a.unwrap(), b.unwrap());
    }

    #[tokio::test]
    async fn the_wrong_secret_and_none_are_refused_and_change_nothing() {
        let store = MemoryStore::new().store();
        let dir = tempfile::tempdir().unwrap();
        let right = Some(secret("the right secret, which is long"));
        ascertain(&store, right.as_ref(), dir.path()).await.unwrap();
        let before = store.registry.list("").await.unwrap();
        let wrong = Some(secret("the wrong secret, which is long"));
        let refused = ascertain(&store, wrong.as_ref(), dir.path()).await.unwrap_err();
        assert!(matches!(refused, KeyringError::WrongSecret), "{refused}");
        let refused = ascertain(&store, None, dir.path()).await.unwrap_err();
        assert!(matches!(refused, KeyringError::NoSecret), "{refused}");
        let refused = rotate(&store, wrong.as_ref(), 0, false).await.unwrap_err();
        assert!(matches!(refused, KeyringError::WrongSecret), "{refused}");
        assert_eq!(store.registry.list("").await.unwrap(), before);
    }

    #[tokio::test]
    async fn open_keys_are_sealed_as_soon_as_there_is_a_secret() {
        let store = MemoryStore::new().store();
        let dir = tempfile::tempdir().unwrap();
        let first = ascertain(&store, None, dir.path()).await.unwrap();
        assert_eq!(ascertain(&store, None, dir.path()).await.unwrap(), first, "adopted");
        let secret = Some(secret("a secret of some length"));
        assert_eq!(ascertain(&store, secret.as_ref(), dir.path()).await.unwrap(), first);
        assert!(matches!(read(&store, None).await, Err(KeyringError::NoSecret)));
        assert_eq!(read(&store, secret.as_ref()).await.unwrap(), Some(first));
    }

    #[tokio::test]
    async fn files_are_imported_once_and_not_read_again() {
        let store = MemoryStore::new().store();
        let dir = tempfile::tempdir().unwrap();
        let files = Keys::load_or_create(dir.path()).unwrap();
        let ring = ascertain(&store, None, dir.path()).await.unwrap();
        assert_eq!(ring.newest().certificate, files.certificate_der());
        std::fs::write(dir.path().join(KEY_FILE), "half of").unwrap();
        std::fs::remove_file(dir.path().join(CERTIFICATE_FILE)).unwrap();
        assert_eq!(ascertain(&store, None, dir.path()).await.unwrap(), ring);
    }

    #[tokio::test]
    async fn damaged_files_are_named_and_no_keys_are_made_in_their_place() {
        let store = MemoryStore::new().store();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(KEY_FILE), "half of").unwrap();
        let refused = ascertain(&store, None, dir.path()).await.unwrap_err();
        assert!(refused.to_string().starts_with("RK-GATE-002"), "{refused}");
        assert_eq!(store.registry.list("").await.unwrap(), []);
    }

    #[tokio::test]
    async fn rotations_at_once_all_count() {
        let store = MemoryStore::new().store();
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(rotate(&store, None, 0, false).await, Err(KeyringError::None)));
        let first = ascertain(&store, None, dir.path()).await.unwrap();
        let (a, b) = tokio::join!(
            rotate(&store, None, 3_600_000, false),
            rotate(&store, None, 3_600_000, true),
        );
        a.unwrap();
        b.unwrap();
        let ring = read(&store, None).await.unwrap().unwrap();
        assert_eq!(ring.sets().len(), 3);
        assert_eq!(ring.signer(clock::now_ms()).id, first.newest().id, "not before all know it");
        let certificates: std::collections::BTreeSet<_> =
            ring.sets().iter().map(|set| set.certificate.clone()).collect();
        assert_eq!(certificates.len(), 2, "one of them made a certificate");
    }
}
