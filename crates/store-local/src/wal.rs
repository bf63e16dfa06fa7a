//! Whether the write-ahead log of `node.db` is whole.
//!
//! `SQLite` drops every commit behind the first damaged frame of its log and says nothing. But each
//! frame's checksum goes on from that of the frame before it, so the frames behind a damaged one
//! can still be told from leftovers: if one of them is valid, commits were lost. The format is
//! <https://sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rekindle_store::StoreError;

use super::file;
use super::segment::io_error;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;
/// Another process may be writing the log while it is read: only what is found every time counts.
const ATTEMPTS: u32 = 5;

/// The log of a database.
pub(super) fn path(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Refuses a database whose log has valid commits behind a damaged frame. A damaged last frame is
/// only warned of: it may be a commit that was cut off.
pub(super) fn check(database: &Path) -> Result<(), StoreError> {
    let mut result = look(database)?;
    for _ in 1..ATTEMPTS {
        if matches!(result, State::Whole) {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(2));
        result = look(database)?;
    }
    let place = path(database).display().to_string();
    match result {
        State::Whole => Ok(()),
        State::Torn(offset) => {
            tracing::warn!(code = "RK-STORE-013", %place, offset, "the last commit of node.db was \
                cut off or is damaged");
            Ok(())
        }
        State::Corrupt(offset) => Err(StoreError::Corrupt {
            place: format!("{place} at offset {offset}"),
            problem: "a damaged frame has valid commits behind it, which SQLite would drop"
                .to_owned(),
        }),
    }
}

/// What a write-ahead log looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Nothing is wrong.
    Whole,
    /// The last frame, at this offset, is not whole.
    Torn(u64),
    /// The frame at this offset is damaged and valid ones lie behind it.
    Corrupt(u64),
}

/// Looks at the log once.
pub(super) fn look(database: &Path) -> Result<State, StoreError> {
    let read = |path: &Path, most: u64| {
        let mut bytes = Vec::new();
        match file::open_regular(path).and_then(|file| file.take(most).read_to_end(&mut bytes)) {
            Ok(_) => Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(io_error("read", path, &error)),
        }
    };
    let log = read(&path(database), u64::MAX)?;
    // The page size stands in both files; the database's is taken first, because the log's header
    // may be the damaged part.
    let head = if log.is_empty() { Vec::new() } else { read(database, 18)? };
    let from_database =
        head.get(16..18).map_or(0, |field| usize::from(u16::from_be_bytes([field[0], field[1]])));
    let page = [from_database, log.get(8..12).map_or(0, |_| word(&log, 8, true) as usize), 4096];
    let size =
        page.into_iter().find(|&size| size.is_power_of_two() && (512..=65536).contains(&size));
    Ok(judge(&log, size.unwrap_or(4096)))
}

fn word(bytes: &[u8], at: usize, big: bool) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    if big { u32::from_be_bytes(word) } else { u32::from_le_bytes(word) }
}

fn sum(mut state: (u32, u32), bytes: &[u8], big: bool) -> (u32, u32) {
    for at in (0..bytes.len() / 8 * 8).step_by(8) {
        state.0 = state.0.wrapping_add(word(bytes, at, big)).wrapping_add(state.1);
        state.1 = state.1.wrapping_add(word(bytes, at + 4, big)).wrapping_add(state.0);
    }
    state
}

fn judge(log: &[u8], page: usize) -> State {
    let Some(header) = log.get(..HEADER) else { return State::Whole };
    let frames: Vec<&[u8]> = log[HEADER..].chunks_exact(FRAME_HEADER + page).collect();
    let stored = |frame: &[u8]| (word(frame, 16, true), word(frame, 20, true));
    let salts = |frame: &[u8]| (word(frame, 8, true), word(frame, 12, true));
    let holds = |frame: &[u8], before: (u32, u32), big: bool| {
        sum(sum(before, &frame[..8], big), &frame[FRAME_HEADER..], big) == stored(frame)
    };
    // The order of bytes in checksums; either may be it if the magic number is damaged.
    let magic = word(header, 0, true);
    let orders: &[bool] = match magic {
        0x377f_0682 => &[false],
        0x377f_0683 => &[true],
        _ => &[false, true],
    };
    let mut before = (word(header, 24, true), word(header, 28, true));
    let header_holds = orders.len() == 1 && sum((0, 0), &header[..24], orders[0]) == before;
    if !header_holds {
        let chained = |pair: &[&[u8]]| {
            salts(pair[0]) == salts(pair[1])
                && orders.iter().any(|&big| holds(pair[1], stored(pair[0]), big))
        };
        let first =
            frames.first().is_some_and(|frame| orders.iter().any(|&big| holds(frame, before, big)));
        return if first || frames.windows(2).any(chained) {
            State::Corrupt(0)
        } else {
            State::Torn(0)
        };
    }
    let (big, salt) = (orders[0], (word(header, 16, true), word(header, 20, true)));
    let good = frames.iter().take_while(|frame| {
        let ok = salts(frame) == salt && holds(frame, before, big);
        before = stored(frame);
        ok
    });
    let good = good.count();
    let behind = (good + 1..frames.len()).any(|index| {
        salts(frames[index]) == salt && holds(frames[index], stored(frames[index - 1]), big)
    });
    let offset = (HEADER + good * (FRAME_HEADER + page)) as u64;
    match frames.get(good) {
        _ if behind => State::Corrupt(offset),
        Some(frame) if salts(frame) == salt => State::Torn(offset),
        _ => State::Whole,
    }
}
