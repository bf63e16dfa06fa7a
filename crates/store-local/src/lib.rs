//! The default backend: a directory on a local disk, shared by all node processes of a host.
//!
//! ```text
//! DIR/format                     the version of the whole
//! DIR/identity                   which store it is, and in which place
//! DIR/logs/INCARNATION/*.seg     batches, written by that incarnation alone
//! DIR/checkpoints/INCARNATION/*.seg
//! DIR/archive/MATCH/*.chunk      chunks of records and states, each a file
//! DIR/archive/MATCH/pin          the pin of the match
//! DIR/node.db                    leases, match directory, effects, jobs, audit
//! ```
//!
//! One thread for each log writes and syncs; reads run on the runtime's blocking pool.
//! `docs/FORMATS.md` has the bytes.

mod archive;
mod audit;
mod checkpoints;
pub mod disk;
mod effects;
mod facts;
mod fence;
mod file;
mod guards;
mod identity;
mod identity_file;
mod index;
mod jobs;
mod journal;
mod leases;
mod options;
mod reader;
mod registry;
mod segment;
mod verify;
mod wal;
mod watch;
mod writer;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use rekindle_schema::batch::Batch;
use rekindle_schema::checkpoint::CheckpointMeta;
use rekindle_schema::{BatchNo, Incarnation};
use rekindle_store::{Store, StoreError};

use self::disk::Disk;
use self::facts::Facts;
use self::guards::Guards;
use self::index::Index;
use self::reader::LogReader;
use self::segment::{Kind, io_error};
use self::watch::Watch;
use self::writer::Writer;

pub use self::file::open_regular;
#[cfg(feature = "mutants")]
pub use self::guards::Mutant;
pub use self::options::LocalOptions;
pub use self::segment::{
    CHECKPOINT_MAGIC, SEGMENT, SEGMENT_HEADER, SEGMENT_MAGIC, SEGMENT_VERSION,
};
pub use self::verify::{Audit, Finding, Severity};

/// The version of the directory that this code writes and reads.
pub const FORMAT_VERSION: u32 = 1;
const FORMAT_FILE: &str = "format";

type Appends = Arc<Writer<Batch>>;
type Puts = Arc<Writer<(CheckpointMeta, Bytes)>>;
/// Up to where the checkpoint log of an incarnation is durable: its current segment and the end in
/// it.
type Durable = Arc<Mutex<BTreeMap<Incarnation, (u64, u64)>>>;

/// A data directory, open.
pub struct LocalStore {
    root: PathBuf,
    options: LocalOptions,
    facts: Arc<Facts>,
    watch: Arc<Watch>,
    batches: Arc<LogReader>,
    index: Arc<Mutex<Index>>,
    durable: Durable,
    /// With which batch the logs begin that are copies of trimmed ones.
    begins: Arc<Mutex<BTreeMap<Incarnation, BatchNo>>>,
    appends: Mutex<BTreeMap<Incarnation, Appends>>,
    puts: Mutex<BTreeMap<Incarnation, Puts>>,
}

impl LocalStore {
    /// Opens a data directory, creates it if it does not exist, and refuses one of a newer release.
    pub fn open(root: impl AsRef<Path>, options: LocalOptions) -> Result<Store, StoreError> {
        let root = root.as_ref().to_owned();
        fs::create_dir_all(&root).map_err(|error| io_error("create", &root, &error))?;
        if !root.join(FORMAT_FILE).exists() {
            sync_above(&*options.disk, &root)?;
        }
        check_format(&root)?;
        for kind in [Kind::Batches, Kind::Checkpoints] {
            let path = root.join(kind.folder());
            fs::create_dir_all(&path).map_err(|error| io_error("create", &path, &error))?;
        }
        sync_dir(&root)?;
        let database = root.join("node.db");
        if !database.exists()
            && let Some(left) = anything_written(&root)?
        {
            let problem = format!(
                "the file is missing, but {} is there, and nobody would know of the matches in it",
                left.display()
            );
            return Err(StoreError::Corrupt { place: database.display().to_string(), problem });
        }
        wal::check(&database)?;
        let guards = Guards::of(&options);
        let this = Arc::new(Self {
            facts: Arc::new(Facts::open(&database)?),
            watch: Arc::new(Watch::of(&database)?),
            batches: Arc::new(LogReader::new(root.clone(), Kind::Batches, guards)),
            index: Arc::new(Mutex::new(Index::new(root.clone(), guards))),
            durable: Durable::default(),
            begins: Arc::default(),
            appends: Mutex::default(),
            puts: Mutex::default(),
            root,
            options,
        });
        sync_dir(&this.root)?;
        this.facts.check()?;
        refuse_strangers(&this.root, &this.facts)?;
        Ok(Store {
            journal: this.clone(),
            checkpoints: this.clone(),
            leases: this.clone(),
            effects: this.clone(),
            archive: this.clone(),
            jobs: this.clone(),
            audit: this.clone(),
            identity: this.clone(),
            registry: this,
        })
    }

    /// Checks every byte of a data directory; see [`Audit`]. Needs no store to be open, and changes
    /// none of what it checks.
    pub fn audit(root: impl AsRef<Path>) -> Result<Audit, StoreError> {
        verify::run(root.as_ref())
    }
}

/// A segment of a log or of checkpoints, if there is any.
fn anything_written(root: &Path) -> Result<Option<PathBuf>, StoreError> {
    for kind in [Kind::Batches, Kind::Checkpoints] {
        for log in segment::logs(root, kind)? {
            if let Some(found) =
                segment::segments(&segment::log_dir(root, kind, log))?.into_iter().next()
            {
                return Ok(Some(found.path));
            }
        }
    }
    Ok(None)
}

/// Refuses a directory with a log of which `node.db` knows nothing: it would be passed over in
/// silence.
fn refuse_strangers(root: &Path, facts: &Facts) -> Result<(), StoreError> {
    // Logs first: a node is registered before it writes one.
    let there = written_logs(root)?;
    let known = facts.known_nodes()?;
    if there.iter().all(|log| known.contains(log)) {
        return Ok(());
    }
    // A log that was trimmed and its lease forgotten in between is gone by now.
    match written_logs(root)?.into_iter().find(|log| there.contains(log) && !known.contains(log)) {
        None => Ok(()),
        Some(log) => {
            let place = segment::log_dir(root, Kind::Batches, log).display().to_string();
            Err(StoreError::Corrupt { place, problem: rekindle_store::witness::stranger(log) })
        }
    }
}

/// The logs with at least one segment.
fn written_logs(root: &Path) -> Result<Vec<Incarnation>, StoreError> {
    let mut found = Vec::new();
    for log in segment::logs(root, Kind::Batches)? {
        if !segment::segments(&segment::log_dir(root, Kind::Batches, log))?.is_empty() {
            found.push(log);
        }
    }
    Ok(found)
}

/// Reads the version of the directory, or writes it into a new one.
fn check_format(root: &Path) -> Result<(), StoreError> {
    let path = root.join(FORMAT_FILE);
    match file::read(&path) {
        Ok(bytes) => parse_format(&path, &String::from_utf8_lossy(&bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if root.join("node.db").exists() {
                let problem = "the file is missing, but the directory holds data".to_owned();
                return Err(StoreError::Corrupt { place: path.display().to_string(), problem });
            }
            let new = root.join(format!("{FORMAT_FILE}.{}", std::process::id()));
            let write = || -> std::io::Result<()> {
                let mut file = fs::File::create(&new)?;
                file.write_all(format_text(FORMAT_VERSION).as_bytes())?;
                file.sync_all()?;
                fs::rename(&new, &path)
            };
            write().map_err(|error| io_error("create", &path, &error))?;
            sync_dir(root)
        }
        Err(error) => Err(io_error("read", &path, &error)),
    }
}

/// Makes the name of a new data directory durable, and those of the folders above it. Syncs of what
/// lies in it say nothing of them, and whoever made the directory (a node's lock is in it first)
/// did not sync them. All folders of the file system count, for nobody knows where the new ones
/// begin.
fn sync_above(disk: &dyn Disk, root: &Path) -> Result<(), StoreError> {
    let device = |path: &Path| {
        std::fs::metadata(path)
            .map(|meta| std::os::unix::fs::MetadataExt::dev(&meta))
            .map_err(|error| io_error("look at", path, &error))
    };
    let root = root.canonicalize().map_err(|error| io_error("look at", root, &error))?;
    let own = device(&root)?;
    for above in root.ancestors().skip(1) {
        // A file system is mounted here: its mount point is older than it.
        if device(above)? != own {
            break;
        }
        match disk.sync_dir(above) {
            Ok(()) => {}
            // Nothing new is in a folder that this process may not use, or that cannot be synced.
            Err(error)
                if matches!(
                    error.kind(),
                    std::io::ErrorKind::PermissionDenied
                        | std::io::ErrorKind::ReadOnlyFilesystem
                        | std::io::ErrorKind::InvalidInput
                ) =>
            {
                break;
            }
            Err(error) => return Err(io_error("sync", above, &error)),
        }
    }
    Ok(())
}

fn format_text(version: u32) -> String {
    format!("rekindle data directory, format {version}\n")
}

fn parse_format(path: &Path, text: &str) -> Result<(), StoreError> {
    if text == format_text(FORMAT_VERSION) {
        return Ok(());
    }
    let place = path.display().to_string();
    let found: Option<u32> =
        text.trim_end().rsplit_once(' ').and_then(|(_, number)| number.parse().ok());
    match found.filter(|&found| text == format_text(found)) {
        Some(found) if found > FORMAT_VERSION => {
            let problem = format!(
                "format {found} was written by a newer release, this one knows format \
                 {FORMAT_VERSION}: upgrade it"
            );
            Err(StoreError::Refused { place, problem })
        }
        _ => Err(StoreError::Corrupt {
            place,
            problem: format!("it should read {:?}", format_text(FORMAT_VERSION)),
        }),
    }
}

fn sync_dir(path: &Path) -> Result<(), StoreError> {
    fs::File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(|error| io_error("sync", path, &error))
}

/// Runs `work`, which waits for a disk, on the runtime's blocking pool.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| {
        Err(StoreError::Unavailable(format!("a read was abandoned: {error}")))
    })
}
