//! The secrets of an edge: who may let players in, who this server is, and what survives its
//! restarts.
//!
//! Called by the node at its start. Three 32-byte seeds decide everything: the key that signs
//! tickets and resume tokens, the key of the TLS certificate, and the key behind QUIC's stateless
//! resets and connection ids. They are made once and kept, so that after a restart, and on every
//! other node of the cluster, tickets and resume tokens are still good and clients still know the
//! certificate. They are kept in the store's registry ([`Keys::of_ring`], [`crate::keyring`]); in
//! files of a directory ([`Keys::load_or_create`]) if the store is in memory, or not there yet.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use aws_lc_rs::{hkdf, hmac};
use bytes::Bytes;
use parking_lot::RwLock;
use pasetors::keys::{AsymmetricPublicKey, AsymmetricSecretKey};
use pasetors::version4::V4;
use rekindle_schema::keyring::{KeySet, Keyring};
use rekindle_transport::Certificates;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::{Deserialize, Serialize};

/// Name of the file with the seeds, in the directory given to [`Keys::load_or_create`].
pub const KEY_FILE: &str = "gateway.keys";
/// Name of the file with the certificate that clients pin, next to it.
pub const CERTIFICATE_FILE: &str = "cert.der";
/// The name in the certificate. Clients trust the certificate itself, never this name.
pub const SERVER_NAME: &str = "rekindle";

/// What an Ed25519 seed lacks to be a PKCS #8 document (RFC 8410).
const PKCS8_ED25519: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// A file could not be read or written.
    #[error(
        "RK-GATE-001: keys at `{path}`: {source}; the directory must exist on a disk that can be \
         written, and belong to the user that runs the node"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is there and is not a key file.
    #[error(
        "RK-GATE-002: `{path}` is not a key file: {problem}; restore it from a backup, or move it \
         away to get new keys (all tickets and sessions end)"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The system has no randomness to give.
    #[error("RK-GATE-003: no random bytes for new keys: {0}")]
    Random(String),
    /// The cryptography refused a key.
    #[error("RK-GATE-004: the {what} cannot be made: {problem}")]
    Crypto {
        /// Of what.
        what: &'static str,
        /// What it said.
        problem: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    version: u32,
    signing: String,
    tls: String,
    reset: String,
}

/// The seeds of one set of keys.
pub(crate) struct Seeds {
    /// Of the key that signs.
    pub(crate) signing: [u8; 32],
    /// Of the certificate's key.
    pub(crate) tls: [u8; 32],
    /// Of stateless resets and connection ids.
    pub(crate) reset: [u8; 32],
}

/// Who signs, and whose signatures count.
pub(crate) struct Signers {
    /// Signs.
    pub(crate) signing: AsymmetricSecretKey<V4>,
    /// Our own keys, the one that signs first, and until when each of them counts, in milliseconds
    /// since 1970.
    pub(crate) own: Vec<(AsymmetricPublicKey<V4>, u64)>,
}

/// The secrets of an edge, ready for use.
pub struct Keys {
    /// Replaced while the edge runs, when the keys of the cluster are rotated.
    signers: RwLock<Arc<Signers>>,
    /// Others who let players in.
    pub(crate) issuers: Vec<AsymmetricPublicKey<V4>>,
    /// What clients are shown. The port has it, too.
    certificates: Arc<Certificates>,
    /// The certificate that native clients are shown, then those that they will be. Replaced
    /// likewise, never empty.
    trusted: RwLock<Vec<Bytes>>,
    reset: [u8; 32],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys")
            .field("fingerprint", &hex(&self.fingerprint()))
            .finish_non_exhaustive()
    }
}

impl Keys {
    /// Whether the keys in `dir` can be read, without making or changing anything. Called by
    /// whoever looks at a host before a node starts there.
    pub fn check(dir: &Path) -> Result<(), KeysError> {
        let path = dir.join(KEY_FILE);
        let read = open_regular(&path).and_then(std::io::read_to_string);
        let text = read.map_err(|source| KeysError::Io { path: path.clone(), source })?;
        Seeds::parse(&text).map(drop).map_err(|problem| KeysError::Malformed { path, problem })
    }

    /// Reads the keys in `dir`, or makes them there: `gateway.keys` (mode 0600, synced) and
    /// `cert.der`. Two processes that start at once in the same directory end up with the same
    /// keys.
    pub fn load_or_create(dir: &Path) -> Result<Self, KeysError> {
        let path = dir.join(KEY_FILE);
        let io_error = |path: &Path| {
            let path = path.to_owned();
            move |source| KeysError::Io { path, source }
        };
        std::fs::create_dir_all(dir).map_err(io_error(dir))?;
        if !path.exists() {
            let text =
                serde_json::to_string_pretty(&Seeds::random()?.to_file()).map_err(|error| {
                    KeysError::Malformed { path: path.clone(), problem: error.to_string() }
                })?;
            publish(dir, KEY_FILE, text.as_bytes(), 0o600, Replace::Never)
                .map_err(io_error(&path))?;
        }
        let mut text = String::new();
        let mut file = open_regular(&path).map_err(io_error(&path))?;
        file.read_to_string(&mut text).map_err(io_error(&path))?;
        let mode = file.metadata().map_err(io_error(&path))?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(code = "RK-GATE-005", path = %path.display(), "other users can read the \
                keys: chmod 600 them");
        }
        let seeds =
            Seeds::parse(&text).map_err(|problem| KeysError::Malformed { path, problem })?;
        let keys = Self::from_seeds(&seeds)?;
        let path = dir.join(CERTIFICATE_FILE);
        // Clients have pinned these bytes: another version of the library that makes certificates
        // must not change them.
        match read_regular(&path) {
            Ok(kept) if is_for(&kept, &seeds.tls) => keys.show(vec![kept.into()], &seeds.tls)?,
            Ok(_) => {
                tracing::warn!(code = "RK-GATE-006", path = %path.display(), "not a certificate \
                    for these keys: replaced");
                publish(dir, CERTIFICATE_FILE, &keys.certificate_der(), 0o644, Replace::Always)
                    .map_err(io_error(&path))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                publish(dir, CERTIFICATE_FILE, &keys.certificate_der(), 0o644, Replace::Always)
                    .map_err(io_error(&path))?;
            }
            Err(error) => return Err(io_error(&path)(error)),
        }
        Ok(keys)
    }

    /// Keys that are a function of `seed` and kept nowhere, for tests and simulations.
    pub fn ephemeral(seed: [u8; 32]) -> Result<Self, KeysError> {
        let derive = |purpose: &[u8]| -> [u8; 32] {
            let mut out = [0; 32];
            out.copy_from_slice(
                hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &seed), purpose).as_ref(),
            );
            out
        };
        Self::from_seeds(&Seeds {
            signing: derive(b"signing"),
            tls: derive(b"tls"),
            reset: derive(b"reset"),
        })
    }

    /// The keys of a cluster at `now_ms`. What connections are made with is of the newest set for
    /// as long as these keys are used; see [`Keys::adopt`].
    pub fn of_ring(ring: &Keyring, now_ms: u64) -> Result<Self, KeysError> {
        let KeySet { signing, reset, .. } = *ring.newest();
        let tls = ring.shown(now_ms).tls;
        let keys = Self::from_seeds(&Seeds { signing, tls, reset })?;
        keys.adopt(ring, now_ms)?;
        Ok(keys)
    }

    /// Signs, accepts and is shown as the keys of the cluster have it at `now_ms`. Called now and
    /// then by the node while the edge runs. True if clients are shown, or have to trust, other
    /// certificates than before.
    pub fn adopt(&self, ring: &Keyring, now_ms: u64) -> Result<bool, KeysError> {
        let signer = ring.signer(now_ms);
        let (signing, public) = signing_pair(&signer.signing)?;
        let until = |set: &KeySet| set.accepted_until_ms.unwrap_or(u64::MAX);
        let mut own = vec![(public, until(signer))];
        for set in ring.sets().iter().filter(|set| set.id != signer.id) {
            own.push((signing_pair(&set.signing)?.1, until(set)));
        }
        *self.signers.write() = Arc::new(Signers { signing, own });
        let (shown, certificates) = (ring.shown(now_ms), ring.certificates(now_ms));
        if *self.trusted.read() == certificates {
            return Ok(false);
        }
        if !is_for(&shown.certificate, &shown.tls) {
            let problem = "it is not one of the key next to it".to_owned();
            return Err(KeysError::Crypto { what: "certificate of the cluster", problem });
        }
        self.show(certificates, &shown.tls)?;
        Ok(true)
    }

    /// Shows the first of these to native clients from now on.
    fn show(&self, certificates: Vec<Bytes>, tls: &[u8; 32]) -> Result<(), KeysError> {
        let shown = CertificateDer::from(certificates[0].to_vec());
        self.certificates
            .set_native(shown, tls_key(tls))
            .map_err(|error| crypto("certificate", &error))?;
        *self.trusted.write() = certificates;
        Ok(())
    }

    /// Who signs now, and whose signatures count.
    pub(crate) fn signers(&self) -> Arc<Signers> {
        Arc::clone(&self.signers.read())
    }

    /// Writes the certificate into `dir`, as `cert.der`, unless it is there: clients on this host
    /// trust it.
    pub fn publish_certificate(&self, dir: &Path) -> Result<(), KeysError> {
        let path = dir.join(CERTIFICATE_FILE);
        if read_regular(&path).is_ok_and(|kept| self.certificate_der() == kept) {
            return Ok(());
        }
        publish(dir, CERTIFICATE_FILE, &self.certificate_der(), 0o644, Replace::Always)
            .map_err(|source| KeysError::Io { path, source })
    }

    /// The seeds and the certificate in the files of `dir`, if it has a key file. Changes nothing.
    pub(crate) fn stored(dir: &Path) -> Result<Option<(Seeds, Vec<u8>)>, KeysError> {
        let path = dir.join(KEY_FILE);
        let text = match open_regular(&path).and_then(std::io::read_to_string) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(KeysError::Io { path, source }),
        };
        let seeds =
            Seeds::parse(&text).map_err(|problem| KeysError::Malformed { path, problem })?;
        let keys = Self::from_seeds(&seeds)?;
        let path = dir.join(CERTIFICATE_FILE);
        let certificate = match read_regular(&path) {
            Ok(kept) if is_for(&kept, &seeds.tls) => kept,
            Ok(_) => keys.certificate_der().to_vec(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                keys.certificate_der().to_vec()
            }
            Err(source) => return Err(KeysError::Io { path, source }),
        };
        Ok(Some((seeds, certificate)))
    }

    pub(crate) fn from_seeds(seeds: &Seeds) -> Result<Self, KeysError> {
        let (signing, verifying) = signing_pair(&seeds.signing)?;
        let tls = pkcs8(&seeds.tls);
        let tls_pair = rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&tls, &rcgen::PKCS_ED25519)
            .map_err(|error| crypto("TLS key", &error))?;
        let certificate = rcgen::CertificateParams::new(vec![SERVER_NAME.to_owned()])
            .and_then(|params| params.self_signed(&tls_pair))
            .map_err(|error| crypto("certificate", &error))?;
        let signers = Signers { signing, own: vec![(verifying, u64::MAX)] };
        let shown = certificate.der().clone();
        let trusted = RwLock::new(vec![shown.to_vec().into()]);
        let certificates =
            Certificates::new(shown, tls.into()).map_err(|error| crypto("certificate", &error))?;
        Ok(Self {
            signers: RwLock::new(Arc::new(signers)),
            issuers: Vec::new(),
            certificates,
            trusted,
            reset: seeds.reset,
        })
    }

    /// Also accepts tickets (not resume tokens) signed by the owner of this Ed25519 public key, for
    /// instance a login service.
    pub fn trust_issuer(&mut self, public_key: &[u8; 32]) -> Result<(), KeysError> {
        let key = AsymmetricPublicKey::<V4>::from(public_key).map_err(|error| {
            KeysError::Crypto { what: "key of the other issuer", problem: error.to_string() }
        })?;
        self.issuers.push(key);
        Ok(())
    }

    /// The certificate that native clients are shown now, and pin.
    pub fn certificate_der(&self) -> Bytes {
        self.trusted.read()[0].clone()
    }

    /// The certificates that native clients are to trust: the one that they are shown, then those
    /// that they will be.
    pub fn certificates_der(&self) -> Vec<Bytes> {
        self.trusted.read().clone()
    }

    /// SHA-256 of the certificate that is shown.
    pub fn fingerprint(&self) -> [u8; 32] {
        fingerprint(&self.certificate_der())
    }

    /// What clients are shown, as the port has it.
    pub fn certificates(&self) -> &Arc<Certificates> {
        &self.certificates
    }

    pub(crate) fn reset_key(&self) -> hmac::Key {
        hmac::Key::new(hmac::HMAC_SHA256, &self.reset)
    }

    pub(crate) fn retry_token_key(&self) -> hkdf::Prk {
        hkdf::Salt::new(hkdf::HKDF_SHA256, b"rekindle retry tokens").extract(&self.reset)
    }

    pub(crate) fn connection_id_key(&self) -> u64 {
        let tag = hmac::sign(&self.reset_key(), b"connection ids");
        tag.as_ref().first_chunk::<8>().map_or(0, |head| u64::from_le_bytes(*head))
    }
}

pub(crate) fn crypto(what: &'static str, problem: &dyn std::fmt::Display) -> KeysError {
    KeysError::Crypto { what, problem: problem.to_string() }
}

/// The key that signs and the key that checks, of one seed.
fn signing_pair(
    seed: &[u8; 32],
) -> Result<(AsymmetricSecretKey<V4>, AsymmetricPublicKey<V4>), KeysError> {
    const WHAT: &str = "signing key";
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|error| crypto(WHAT, &error))?;
    let public = pair.public_key().as_ref();
    let secret = [&seed[..], public].concat();
    let signing = AsymmetricSecretKey::<V4>::from(&secret).map_err(|error| crypto(WHAT, &error))?;
    let verifying =
        AsymmetricPublicKey::<V4>::from(public).map_err(|error| crypto(WHAT, &error))?;
    Ok((signing, verifying))
}

fn pkcs8(seed: &[u8; 32]) -> PrivatePkcs8KeyDer<'static> {
    PrivatePkcs8KeyDer::from([&PKCS8_ED25519[..], seed].concat())
}

/// The private key of a certificate for native clients, of its seed.
pub fn tls_key(seed: &[u8; 32]) -> PrivateKeyDer<'static> {
    pkcs8(seed).into()
}

/// Whether a certificate is one for the key of this seed.
fn is_for(certificate: &[u8], tls: &[u8; 32]) -> bool {
    Certificates::check(vec![CertificateDer::from(certificate.to_vec())], tls_key(tls)).is_ok()
}

/// SHA-256 of a certificate in DER form: what a client can pin instead of the certificate.
pub fn fingerprint(certificate_der: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, certificate_der).as_ref());
    out
}

impl Seeds {
    pub(crate) fn random() -> Result<Self, KeysError> {
        let fresh = || -> Result<[u8; 32], KeysError> {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(|error| KeysError::Random(error.to_string()))?;
            Ok(seed)
        };
        Ok(Self { signing: fresh()?, tls: fresh()?, reset: fresh()? })
    }

    fn to_file(&self) -> KeyFile {
        KeyFile {
            version: 1,
            signing: hex(&self.signing),
            tls: hex(&self.tls),
            reset: hex(&self.reset),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        // The parser repeats what it does not like, which may be a key.
        let file: KeyFile = serde_json::from_str(text).map_err(|error| {
            format!(
                "not what a key file holds, in line {}, column {}",
                error.line(),
                error.column()
            )
        })?;
        if file.version != 1 {
            return Err(format!("version {} where this build knows 1", file.version));
        }
        let seed = |name: &str, text: &str| {
            unhex(text).ok_or_else(|| format!("`{name}` is not 64 hexadecimal digits"))
        };
        Ok(Self {
            signing: seed("signing", &file.signing)?,
            tls: seed("tls", &file.tls)?,
            reset: seed("reset", &file.reset)?,
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut out = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in out.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(out)
}

#[derive(PartialEq)]
enum Replace {
    /// Another process may have been faster: then its file stays.
    Never,
    Always,
}

/// Puts a whole file at `dir/name`: nobody ever sees half of it, not even after a power cut.
fn publish(dir: &Path, name: &str, bytes: &[u8], mode: u32, replace: Replace) -> io::Result<()> {
    let target = dir.join(name);
    // Two containers that share the directory can have the same process id.
    let mut unique = [0; 8];
    getrandom::fill(&mut unique).map_err(io::Error::other)?;
    let draft = dir.join(format!(".{name}.{:016x}", u64::from_le_bytes(unique)));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    if replace == Replace::Always {
        std::fs::rename(&draft, &target)?;
    } else {
        match std::fs::hard_link(&draft, &target) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => std::fs::remove_file(&draft)?,
        }
    }
    File::open(dir)?.sync_all()
}

/// Opens a file for reading, unless it is something that makes its reader wait for ever, such as a
/// named pipe.
fn open_regular(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"))
    }
}

fn read_regular(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open_regular(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_made_once_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let first = Keys::load_or_create(dir.path()).unwrap();
        let second = Keys::load_or_create(dir.path()).unwrap();
        assert_eq!(first.certificate_der(), second.certificate_der());
        assert_eq!(first.connection_id_key(), second.connection_id_key());
        assert_eq!(
            std::fs::read(dir.path().join(CERTIFICATE_FILE)).unwrap(),
            first.certificate_der()
        );
        let mode = std::fs::metadata(dir.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let names: Vec<_> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names.len(), 2, "no draft is left behind: {names:?}");
    }

    #[test]
    fn processes_that_start_at_once_agree_on_the_keys() {
        let dir = tempfile::tempdir().unwrap();
        let certificates: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let starts: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        Keys::load_or_create(dir.path()).unwrap().certificate_der().to_vec()
                    })
                })
                .collect();
            starts.into_iter().map(|start| start.join().unwrap()).collect()
        });
        assert!(certificates.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn a_damaged_key_file_is_named_and_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        Keys::load_or_create(dir.path()).unwrap();
        let path = dir.path().join(KEY_FILE);
        let whole = std::fs::read(&path).unwrap();
        std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let error = Keys::load_or_create(dir.path()).unwrap_err().to_string();
        assert!(error.starts_with("RK-GATE-002") && error.contains(KEY_FILE), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), whole[..whole.len() / 2]);
    }

    #[test]
    fn ephemeral_keys_are_a_function_of_their_seed() {
        let of = |seed| Keys::ephemeral([seed; 32]).unwrap().certificate_der().to_vec();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
