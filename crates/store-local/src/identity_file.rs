//! The identity of a data directory: a small text file that knows which file it is.
//!
//! A directory that is moved, or mounted elsewhere, keeps its files; one that is copied, unpacked
//! or restored has other files with the same content. So the file `identity` holds its own inode
//! number and birth time, and those of `node.db`, which nobody replaces either. An inode number
//! alone would not do: it is given to the next file as soon as it is free. The device counts only
//! until the next boot, since the system may number its devices anew then.

use std::fmt;
use std::fs::{self, File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use rekindle_schema::Epoch;
use rekindle_store::StoreError;
use rekindle_store::identity::{StoreId, StoreIdentity};

use super::segment::io_error;
use super::sync_dir;

/// Its name in a data directory.
pub(super) const FILE: &str = "identity";
const HEADING: &str = "rekindle store identity, format 1";

/// Which file it is, as long as it is not replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileId {
    inode: u64,
    /// When it was made, in nanoseconds since 1970; 0 where the file system does not say.
    born_ns: u64,
}

impl FileId {
    fn of(meta: &Metadata) -> Self {
        let born = meta.created().ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
        Self { inode: meta.ino(), born_ns: born.map_or(0, |since| since.as_nanos() as u64) }
    }

    fn is(self, other: Self) -> bool {
        let unknown = self.born_ns == 0 || other.born_ns == 0;
        self.inode == other.inode && (unknown || self.born_ns == other.born_ns)
    }

    fn parse(text: &str) -> Option<Self> {
        let (inode, born) = text.split_once('.')?;
        Some(Self { inode: inode.parse().ok()?, born_ns: born.parse().ok()? })
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.inode, self.born_ns)
    }
}

/// Where a data directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    identity: FileId,
    database: FileId,
    device: u64,
    /// Of the boot in which the device has that number; empty if unknown.
    boot: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { identity, database, device, boot } = self;
        write!(f, "identity {identity} node.db {database} device {device} boot {boot}")
    }
}

impl Place {
    fn of(identity: &Metadata, root: &Path) -> io::Result<Self> {
        let database = fs::metadata(root.join("node.db"))?;
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(Self {
            identity: FileId::of(identity),
            database: FileId::of(&database),
            device: identity.dev(),
            boot: boot.trim().to_owned(),
        })
    }

    fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("identity ")?;
        let (identity, rest) = rest.split_once(" node.db ")?;
        let (database, rest) = rest.split_once(" device ")?;
        let (device, boot) = rest.split_once(" boot ")?;
        let (identity, database) = (FileId::parse(identity)?, FileId::parse(database)?);
        Some(Self { identity, database, device: device.parse().ok()?, boot: boot.to_owned() })
    }

    /// Why what is `here` is not what was written down.
    fn differs(&self, here: &Self) -> Option<&'static str> {
        if !self.identity.is(here.identity) {
            Some(
                "the directory is a copy, or was restored: its files are others than those of its \
                 original",
            )
        } else if !self.database.is(here.database) {
            Some("node.db was replaced")
        } else if !self.boot.is_empty() && self.boot == here.boot && self.device != here.device {
            Some(
                "the directory is on another device than before: a snapshot of it, or it was \
                 mounted anew",
            )
        } else {
            None
        }
    }
}

/// What a data directory says of itself.
pub(super) enum Found {
    /// There is no identity.
    Nothing,
    /// There is one, written in this place.
    Here(StoreIdentity),
    /// There is one of another place. Why that is known.
    Elsewhere(StoreIdentity, &'static str),
    /// It cannot be read. In words.
    Damaged(String),
}

/// Reads it, and compares the place in it with where the directory is.
pub(super) fn find(root: &Path) -> Result<Found, StoreError> {
    let path = root.join(FILE);
    let failed = |error: io::Error| io_error("read", &path, &error);
    let meta = match fs::metadata(&path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(failed(error)),
    };
    let identity = match decode(&fs::read(&path).map_err(failed)?) {
        Ok(identity) => identity,
        Err(problem) => return Ok(Found::Damaged(problem)),
    };
    let here = Place::of(&meta, root).map_err(failed)?;
    let Some(written) = Place::parse(&identity.place) else {
        return Ok(Found::Damaged(format!("`{}` is no place", identity.place)));
    };
    Ok(match written.differs(&here) {
        None => Found::Here(identity),
        Some(why) => Found::Elsewhere(identity, why),
    })
}

/// Reads it, wherever it was written.
pub(super) fn read(root: &Path) -> Result<Option<StoreIdentity>, StoreError> {
    let path = root.join(FILE);
    match fs::read(&path) {
        Ok(bytes) => decode(&bytes)
            .map(Some)
            .map_err(|problem| StoreError::Corrupt { place: path.display().to_string(), problem }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error("read", &path, &error)),
    }
}

/// Replaces the identity, durably. `make` gets the place of the new one. Callers hold the lock of
/// `node.db`.
pub(super) fn write(
    root: &Path,
    make: impl FnOnce(String) -> StoreIdentity,
) -> Result<StoreIdentity, StoreError> {
    let (path, draft) = (root.join(FILE), root.join(format!("{FILE}.new")));
    let write = || -> io::Result<StoreIdentity> {
        // What a process left that died here must not lend its birth time to two identities.
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = File::options().write(true).create_new(true).open(&draft)?;
        let identity = make(Place::of(&file.metadata()?, root)?.to_string());
        file.write_all(&encode(&identity))?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        Ok(identity)
    };
    let identity = write().map_err(|error| io_error("write", &path, &error))?;
    sync_dir(root)?;
    Ok(identity)
}

fn encode(identity: &StoreIdentity) -> Vec<u8> {
    let StoreIdentity { id, floor, made_ms, because, place } = identity;
    let text = format!(
        "{HEADING}\nid {id}\nfloor {floor}\nmade {made_ms}\nbecause {because}\nplace {place}\n"
    );
    let crc = crc32c::crc32c(text.as_bytes());
    format!("{text}crc {crc:08x}\n").into_bytes()
}

fn decode(bytes: &[u8]) -> Result<StoreIdentity, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let end = text.rfind("crc ").ok_or("it has no checksum")?;
    let computed = crc32c::crc32c(&bytes[..end]);
    if text[end..] != format!("crc {computed:08x}\n") {
        return Err(format!(
            "its content gives the checksum {computed:08x}, it says `{}`",
            text[end..].trim_end()
        ));
    }
    let mut lines = text[..end].lines();
    let heading = lines.next().unwrap_or_default();
    if heading != HEADING {
        return Err(format!("it should begin with `{HEADING}`, and begins with `{heading}`"));
    }
    let mut field = |name: &str| -> Result<&str, String> {
        let line = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.ok_or_else(|| format!("the line `{name}` is missing"))
    };
    let number = |text: &str| text.parse::<u64>().map_err(|error| format!("`{text}`: {error}"));
    let id = field("id")?;
    Ok(StoreIdentity {
        id: StoreId::parse(id).ok_or_else(|| format!("`{id}` is no name of a store"))?,
        floor: Epoch(number(field("floor")?)?),
        made_ms: number(field("made")?)?,
        because: field("because")?.to_owned(),
        place: field("place")?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As release 0.1 writes it: never changed.
    const GOLDEN: &str = "rekindle store identity, format 1\nid \
                          000102030405060708090a0b0c0d0e0f\nfloor 1795000000000\nmade \
                          1795000000000\n\
        because the directory is a copy\nplace identity 12.1795000000000000001 node.db 13.0 device \
        66305 boot 5f0c\ncrc ";

    fn golden() -> StoreIdentity {
        StoreIdentity {
            id: StoreId(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f),
            floor: Epoch(1_795_000_000_000),
            made_ms: 1_795_000_000_000,
            because: "the directory is a copy".to_owned(),
            place: "identity 12.1795000000000000001 node.db 13.0 device 66305 boot 5f0c".to_owned(),
        }
    }

    #[test]
    fn an_identity_is_read_as_it_was_written_and_no_flipped_bit_is_believed() {
        let bytes = encode(&golden());
        assert!(bytes.starts_with(GOLDEN.as_bytes()), "{}", String::from_utf8_lossy(&bytes));
        assert_eq!(decode(&bytes), Ok(golden()));
        assert_eq!(Place::parse(&golden().place).unwrap().to_string(), golden().place);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&flipped).is_err(), "bit {bit}");
        }
        for end in 0..bytes.len() {
            assert!(decode(&bytes[..end]).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_place_is_the_same_after_a_boot_and_another_for_a_copy_or_a_snapshot() {
        let place = Place::parse(&golden().place).unwrap();
        assert_eq!(place.differs(&place), None);
        let rebooted = Place { device: 7, boot: "another".to_owned(), ..place.clone() };
        assert_eq!(place.differs(&rebooted), None);
        let others = [
            Place { identity: FileId { inode: 14, ..place.identity }, ..place.clone() },
            // The inode number was free and is used again.
            Place { identity: FileId { born_ns: 1, ..place.identity }, ..place.clone() },
            Place { database: FileId { inode: 14, born_ns: 5 }, ..rebooted.clone() },
            Place { device: 7, ..place.clone() },
        ];
        for other in others {
            assert!(place.differs(&other).is_some(), "{other}");
        }
    }
}
