//! The archive as files: one for each chunk, in a directory for each match.
//!
//! A file is written under another name, synced, and linked to its own, which fails if there is one
//! already: whoever is first stands, over all processes. `docs/FORMATS.md` has the bytes.

use std::fs;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use rekindle_schema::MatchId;
use rekindle_schema::archive::{ChunkKind, ChunkMeta, Pin};
use rekindle_store::backend;
use rekindle_store::{Archive, StoreError, StoreResult};

use super::disk::Disk;
use super::file;
use super::segment::io_error;
use super::{LocalStore, blocking};

/// What every chunk file begins with.
const CHUNK_MAGIC: [u8; 4] = *b"RKAC";
/// What every pin file begins with.
const PIN_MAGIC: [u8; 4] = *b"RKPN";
/// The version of both that this code writes and reads.
const VERSION: u16 = 1;
/// Magic, version, two bytes of zero, length of the manifest, checksum of all this and the
/// manifest.
const HEADER: usize = 16;
/// The longest manifest that is believed.
const MAX_MANIFEST: usize = 4 << 10;
const FOLDER: &str = "archive";
const PIN_FILE: &str = "pin";
/// A file that was not finished for so long never will be.
const ABANDONED: Duration = Duration::from_hours(1);

/// Where the chunks of a match are.
fn dir_of(root: &Path, match_id: MatchId) -> PathBuf {
    root.join(FOLDER).join(match_id.to_string())
}

fn path_of(root: &Path, meta: &ChunkMeta) -> PathBuf {
    dir_of(root, meta.match_id).join(name_of(meta))
}

fn name_of(meta: &ChunkMeta) -> String {
    let kind = match meta.kind {
        ChunkKind::Records => "records",
        ChunkKind::State => "state",
    };
    format!("{:020}.{kind}.chunk", meta.first_seq.0)
}

fn corrupt(path: &Path, problem: impl ToString) -> StoreError {
    StoreError::Corrupt { place: path.display().to_string(), problem: problem.to_string() }
}

/// A value behind a checked header.
fn sealed(magic: [u8; 4], value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + value.len());
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&[0; 2]);
    bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes), value);
    bytes.extend_from_slice(&crc.to_le_bytes());
    bytes.extend_from_slice(value);
    bytes
}

/// The value behind a header, checked; more may follow.
fn unsealed<'a>(magic: [u8; 4], bytes: &'a [u8], path: &Path) -> Result<&'a [u8], StoreError> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEADER>() else {
        return Err(corrupt(
            path,
            format!("cut off: {} bytes where {HEADER} are needed", bytes.len()),
        ));
    };
    if head[..4] != magic {
        return Err(corrupt(path, "it does not begin as such a file does"));
    }
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let len = word(8) as usize;
    let value = rest.get(..len).filter(|_| len <= MAX_MANIFEST);
    let value = value
        .ok_or_else(|| corrupt(path, format!("a manifest of {len} bytes does not fit into it")))?;
    let computed = crc32c::crc32c_append(crc32c::crc32c(&head[..12]), value);
    if computed != word(12) {
        return Err(corrupt(
            path,
            format!(
                "the checksum of the manifest is {:08x}, its bytes give {computed:08x}",
                word(12)
            ),
        ));
    }
    let version = u16::from_le_bytes([head[4], head[5]]);
    if version != VERSION {
        return Err(corrupt(
            path,
            format!(
                "format version {version}, this release reads version {VERSION}: use the release \
                 that wrote it"
            ),
        ));
    }
    Ok(value)
}

/// The manifest of a chunk file: its own checksum, its name and the file's length are checked, the
/// content is not read.
pub(super) fn manifest(path: &Path) -> Result<Option<ChunkMeta>, StoreError> {
    let read = || -> std::io::Result<(Vec<u8>, u64)> {
        let file = file::open_regular(path)?;
        let len = file.metadata()?.len();
        let mut head = Vec::with_capacity(512);
        file.take((HEADER + MAX_MANIFEST) as u64).read_to_end(&mut head)?;
        Ok((head, len))
    };
    let (head, len) = match read() {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path, &error)),
    };
    let value = unsealed(CHUNK_MAGIC, &head, path)?;
    let meta = ChunkMeta::decode(value).map_err(|error| corrupt(path, error))?;
    let expected = (HEADER + value.len()) as u64 + meta.len;
    if len != expected {
        return Err(corrupt(path, format!("it has {len} bytes, its manifest says {expected}")));
    }
    let folder = path.parent().and_then(Path::file_name);
    if path.file_name() != Some(name_of(&meta).as_ref())
        || folder != Some(meta.match_id.to_string().as_ref())
    {
        return Err(corrupt(path, format!("it holds {}", rekindle_store::archive::place(&meta))));
    }
    Ok(Some(meta))
}

/// A chunk file, whole: manifest and content, every checksum checked.
pub(super) fn read(path: &Path) -> Result<Option<(ChunkMeta, Bytes)>, StoreError> {
    let Some(meta) = manifest(path)? else { return Ok(None) };
    let bytes: Bytes = match file::read(path) {
        Ok(bytes) => bytes.into(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path, &error)),
    };
    let content = bytes.slice(HEADER + unsealed(CHUNK_MAGIC, &bytes, path)?.len()..);
    match backend::check_chunk(&meta, &content) {
        Err(StoreError::Corrupt { problem, .. }) => Err(corrupt(path, problem)),
        other => other.map(|()| Some((meta, content))),
    }
}

/// The pin in a file.
pub(super) fn read_pin(path: &Path) -> Result<Option<Pin>, StoreError> {
    let bytes = match file::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("read", path, &error)),
    };
    let value = unsealed(PIN_MAGIC, &bytes, path)?;
    if bytes.len() != HEADER + value.len() {
        return Err(corrupt(path, "bytes behind the end"));
    }
    Pin::decode(value).map(Some).map_err(|error| corrupt(path, error))
}

/// The directories of matches, ascending.
pub(super) fn folders(root: &Path) -> Result<Vec<(MatchId, PathBuf)>, StoreError> {
    let names = names(&root.join(FOLDER))?;
    let mut found: Vec<_> =
        names.into_iter().filter_map(|(name, path)| Some((name.parse().ok()?, path))).collect();
    found.sort_unstable();
    Ok(found)
}

/// The chunk files of a match and its pin, by name.
pub(super) fn files(dir: &Path) -> Result<(Vec<PathBuf>, Option<PathBuf>), StoreError> {
    let mut chunks = Vec::new();
    let mut pin = None;
    for (name, path) in names(dir)? {
        if name == PIN_FILE {
            pin = Some(path);
        } else if path.extension().is_some_and(|end| end == "chunk") {
            chunks.push(path);
        }
    }
    chunks.sort_unstable();
    Ok((chunks, pin))
}

fn names(dir: &Path) -> Result<Vec<(String, PathBuf)>, StoreError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(io_error("list", dir, &error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| io_error("list", dir, &error))?;
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, entry.path()));
        }
    }
    Ok(found)
}

/// Makes the directory of a match, durably.
fn make_dir(disk: &dyn Disk, root: &Path, match_id: MatchId) -> Result<PathBuf, StoreError> {
    let dir = dir_of(root, match_id);
    if !dir.exists() {
        fs::create_dir_all(&dir).map_err(|error| io_error("create", &dir, &error))?;
        for above in [root.join(FOLDER), root.to_owned()] {
            disk.sync_dir(&above).map_err(|error| io_error("sync", &above, &error))?;
        }
    }
    Ok(dir)
}

/// Writes a file that nobody looks at yet, durably, and returns where it is.
fn write_aside(disk: &dyn Disk, dir: &Path, parts: &[&[u8]]) -> Result<PathBuf, StoreError> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let path =
        dir.join(format!("{}.{}.new", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed)));
    // What a process of the same number left when it died.
    let _ = fs::remove_file(&path);
    let write = || {
        let mut file = disk.open(&path, true)?;
        let mut offset = 0;
        for part in parts {
            file.write(part, offset)?;
            offset += part.len() as u64;
        }
        file.sync()
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&path);
        io_error("write", &path, &error)
    })?;
    Ok(path)
}

/// Removes what others began and can no longer finish.
fn sweep(dir: &Path) -> Result<(), StoreError> {
    for (_, path) in names(dir)?
        .into_iter()
        .filter(|(name, _)| Path::new(name).extension().is_some_and(|end| end == "new"))
    {
        let age = fs::metadata(&path)
            .and_then(|found| found.modified())
            .ok()
            .and_then(|at| at.elapsed().ok());
        if age.is_some_and(|age| age > ABANDONED) {
            // Gone already is as good.
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}

fn put(
    disk: &dyn Disk,
    root: &Path,
    meta: ChunkMeta,
    bytes: &[u8],
) -> Result<ChunkMeta, StoreError> {
    backend::check_new_chunk(&meta, bytes)?;
    let path = path_of(root, &meta);
    let dir = make_dir(disk, root, meta.match_id)?;
    let synced = || disk.sync_dir(&dir).map_err(|error| io_error("sync", &dir, &error));
    let there = || match read(&path) {
        Ok(found) => Ok((found.map(|(meta, _)| meta), false)),
        Err(StoreError::Corrupt { problem, .. }) => {
            tracing::warn!(code = "RK-STORE-023", path = %path.display(), problem, "a damaged \
                chunk of the archive is replaced");
            Ok((None, true))
        }
        Err(error) => Err(error),
    };
    let (found, damaged) = there()?;
    if let Some(stands) = found {
        // Whoever put it may not have synced its name yet.
        return synced().map(|()| stands);
    }
    sweep(&dir)?;
    let aside = write_aside(disk, &dir, &[&sealed(CHUNK_MAGIC, &meta.encode()), bytes])?;
    let placed = if damaged { fs::rename(&aside, &path) } else { fs::hard_link(&aside, &path) };
    if !damaged {
        let _ = fs::remove_file(&aside);
    }
    match placed {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            synced()?;
            there()?.0.ok_or_else(|| {
                StoreError::Unavailable(format!("{} was removed while it was put", path.display()))
            })
        }
        Err(error) => Err(io_error("name", &path, &error)),
        Ok(()) => synced().map(|()| meta),
    }
}

fn remove(path: &Path) -> Result<bool, StoreError> {
    match fs::remove_file(path) {
        Ok(()) => {
            // Empty directories go with their last file; others stay.
            let _ = path.parent().map(fs::remove_dir);
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io_error("remove", path, &error)),
    }
}

impl Archive for LocalStore {
    fn put(&self, meta: ChunkMeta, bytes: Bytes) -> StoreResult<'_, ChunkMeta> {
        let (root, disk) = (self.root.clone(), self.options.disk.clone());
        Box::pin(blocking(move || put(&*disk, &root, meta, &bytes)))
    }

    fn list(&self, match_id: MatchId) -> StoreResult<'_, (Vec<ChunkMeta>, Vec<StoreError>)> {
        let root = self.root.clone();
        Box::pin(blocking(move || {
            let (mut good, mut bad) = (Vec::new(), Vec::new());
            for path in files(&dir_of(&root, match_id))?.0 {
                match manifest(&path) {
                    Ok(found) => good.extend(found),
                    Err(error) => bad.push(error),
                }
            }
            good.sort_unstable_by_key(|meta| (meta.first_seq, meta.kind));
            Ok((good, bad))
        }))
    }

    fn get(&self, meta: &ChunkMeta) -> StoreResult<'_, Bytes> {
        let (root, wanted) = (self.root.clone(), meta.clone());
        Box::pin(blocking(move || match read(&path_of(&root, &wanted))? {
            Some((meta, bytes)) if meta == wanted => Ok(bytes),
            _ => Err(backend::no_chunk(&wanted)),
        }))
    }

    fn remove(&self, meta: &ChunkMeta) -> StoreResult<'_, ()> {
        let path = path_of(&self.root, meta);
        Box::pin(blocking(move || remove(&path).map(|_| ())))
    }

    fn matches(&self) -> StoreResult<'_, Vec<MatchId>> {
        let root = self.root.clone();
        Box::pin(blocking(move || {
            let mut found = Vec::new();
            for (match_id, dir) in folders(&root)? {
                if !files(&dir)?.0.is_empty() {
                    found.push(match_id);
                }
            }
            Ok(found)
        }))
    }

    fn pin(&self, pin: Pin) -> StoreResult<'_, ()> {
        let (root, disk) = (self.root.clone(), self.options.disk.clone());
        Box::pin(blocking(move || {
            let dir = make_dir(&*disk, &root, pin.match_id)?;
            let aside = write_aside(&*disk, &dir, &[&sealed(PIN_MAGIC, &pin.encode())])?;
            let path = dir.join(PIN_FILE);
            fs::rename(&aside, &path).map_err(|error| io_error("name", &path, &error))?;
            disk.sync_dir(&dir).map_err(|error| io_error("sync", &dir, &error))
        }))
    }

    fn unpin(&self, match_id: MatchId) -> StoreResult<'_, bool> {
        let path = dir_of(&self.root, match_id).join(PIN_FILE);
        Box::pin(blocking(move || remove(&path)))
    }

    fn pins(&self) -> StoreResult<'_, Vec<Pin>> {
        let root = self.root.clone();
        Box::pin(blocking(move || {
            let mut pins = Vec::new();
            for (_, dir) in folders(&root)? {
                pins.extend(read_pin(&dir.join(PIN_FILE))?);
            }
            Ok(pins)
        }))
    }
}
