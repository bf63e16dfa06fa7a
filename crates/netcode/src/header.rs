//! What stands in front of every snapshot.

use rekindle_schema::{Epoch, Tick};

use crate::bits::{ByteReader, Truncated, put_signed, put_varint};
use crate::body::Coding;
use crate::history::HISTORY;
use crate::snapshot::SnapshotError;

/// Most applied inputs that a header names.
pub const MAX_APPLIED: usize = 4;

/// First byte of a snapshot: the high nibble is the kind, the low one has the flags below. Kinds
/// differ in how the body is coded.
const KIND: u8 = 0x10;
const KIND_RANGE: u8 = 0x30;
const FULL: u8 = 1;
const PARTIAL: u8 = 2;
const AVATAR: u8 = 4;
const NEXT_INPUT: u8 = 8;

/// Second byte: the number of applied inputs in bits 0 to 2, and these flags.
const COUNT: u8 = 7;
const DURABLE: u8 = 8;
const STEADY: u8 = 16;
const ECHO: u8 = 32;

const _: () = assert!(MAX_APPLIED <= COUNT as usize);
const _: () = assert!((KIND | KIND_RANGE) & (FULL | PARTIAL | AVATAR | NEXT_INPUT) == 0);
const _: () = assert!(COUNT + DURABLE + STEADY + ECHO == COUNT | DURABLE | STEADY | ECHO);

/// What a snapshot says besides the state of the world.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct SnapshotHeader {
    /// Under which ownership: clients drop lower ones.
    pub epoch: Epoch,
    /// The tick after which the world was as the snapshot says.
    pub tick: Tick,
    /// The newest durable tick when the snapshot was made.
    pub durable: Tick,
    /// The newest applied inputs of this session as (number, tick), at most [`MAX_APPLIED`], newest
    /// last. An encoder drops the oldest of more.
    pub applied: Vec<(u64, Tick)>,
    /// The client's clock as in its newest input packet; 0 before the first.
    pub echo_ms: u32,
    /// How long the server has had that packet, in milliseconds.
    pub hold_ms: u16,
    /// The number that the next input must have at least, if the server wants to correct the
    /// client.
    pub next_expected_input: Option<u64>,
    /// The slot of the entity that the player steers.
    pub avatar: Option<u32>,
}

/// The part of a snapshot's head that is the codec's own business.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Framing {
    /// What the snapshot is a delta of; `None` for a full one.
    pub(crate) baseline: Option<Tick>,
    /// Ticks per second that expectations go by; only full snapshots carry it.
    pub(crate) tick_rate: u16,
    /// Some entities of the view did not fit.
    pub(crate) partial: bool,
    /// How the body is coded.
    pub(crate) coding: Coding,
}

pub(crate) fn encode(header: &SnapshotHeader, framing: Framing, out: &mut Vec<u8>) {
    assert!(
        framing.baseline.is_none_or(|baseline| baseline < header.tick),
        "the snapshot of tick {} builds on {:?}, which is not before it",
        header.tick,
        framing.baseline
    );
    let flag = |set: bool, bit: u8| if set { bit } else { 0 };
    let kind = match framing.coding {
        Coding::Rice => KIND,
        Coding::Range => KIND_RANGE,
    };
    out.push(
        kind | flag(framing.baseline.is_none(), FULL)
            | flag(framing.partial, PARTIAL)
            | flag(header.avatar.is_some(), AVATAR)
            | flag(header.next_expected_input.is_some(), NEXT_INPUT),
    );
    let applied = &header.applied[header.applied.len().saturating_sub(MAX_APPLIED)..];
    let steady = applied.windows(2).all(|pair| {
        pair[0].0.wrapping_add(1) == pair[1].0 && pair[0].1.0.wrapping_add(1) == pair[1].1.0
    });
    let echo = header.echo_ms != 0 || header.hold_ms != 0;
    out.push(
        applied.len() as u8
            | flag(header.durable != header.tick, DURABLE)
            | flag(steady, STEADY)
            | flag(echo, ECHO),
    );
    put_varint(out, header.epoch.0);
    put_varint(out, header.tick.0);
    match framing.baseline {
        Some(baseline) => put_varint(out, header.tick.0.wrapping_sub(baseline.0)),
        None => put_varint(out, u64::from(framing.tick_rate)),
    }
    if header.durable != header.tick {
        put_signed(out, header.durable.0.wrapping_sub(header.tick.0) as i64);
    }
    let mut last = 0u64;
    for &(seq, tick) in &applied[if steady { applied.len().saturating_sub(1) } else { 0 }..] {
        put_signed(out, seq.wrapping_sub(last) as i64);
        put_signed(out, header.tick.0.wrapping_sub(tick.0) as i64);
        last = seq;
    }
    if echo {
        out.extend_from_slice(&header.echo_ms.to_le_bytes());
        put_varint(out, u64::from(header.hold_ms));
    }
    if let Some(avatar) = header.avatar {
        put_varint(out, u64::from(avatar));
    }
    if let Some(next) = header.next_expected_input {
        put_varint(out, next);
    }
}

pub(crate) fn decode(datagram: &[u8]) -> Result<(SnapshotHeader, Framing, &[u8]), SnapshotError> {
    let mut bytes = ByteReader { rest: datagram };
    let kind = bytes.byte()?;
    let coding = match kind & 0xf0 {
        KIND => Coding::Rice,
        KIND_RANGE => Coding::Range,
        _ => return Err(SnapshotError::Kind(kind)),
    };
    let more = bytes.byte()?;
    let count = u64::from(more & COUNT);
    if count > MAX_APPLIED as u64 || more & !(COUNT | DURABLE | STEADY | ECHO) != 0 {
        return Err(SnapshotError::Malformed("more than 4 applied inputs, or unknown flags"));
    }
    let epoch = Epoch(bytes.varint()?);
    let tick = Tick(bytes.varint()?);
    let distance = bytes.varint()?;
    let (baseline, tick_rate) = if kind & FULL != 0 {
        let rate = u16::try_from(distance)
            .ok()
            .filter(|&rate| rate > 0)
            .ok_or(SnapshotError::Malformed("a tick rate of 0 or above 65535"))?;
        (None, rate)
    } else if distance == 0 || distance >= HISTORY || distance > tick.0 {
        return Err(SnapshotError::Malformed("a baseline that is not among the 63 ticks before"));
    } else {
        (Some(Tick(tick.0 - distance)), 0)
    };
    let durable =
        if more & DURABLE != 0 { Tick(tick.0.wrapping_add(bytes.signed()? as u64)) } else { tick };
    let mut applied = Vec::with_capacity(count as usize);
    let mut last = 0u64;
    for _ in 0..if more & STEADY != 0 { count.min(1) } else { count } {
        last = last.wrapping_add(bytes.signed()? as u64);
        applied.push((last, Tick(tick.0.wrapping_sub(bytes.signed()? as u64))));
    }
    if let (true, Some(&(seq, at))) = (more & STEADY != 0, applied.first()) {
        applied = (0..count)
            .rev()
            .map(|back| (seq.wrapping_sub(back), Tick(at.0.wrapping_sub(back))))
            .collect();
    }
    let (mut echo_ms, mut hold_ms) = (0, 0);
    if more & ECHO != 0 {
        echo_ms = bytes.u32()?;
        hold_ms = u16::try_from(bytes.varint()?)
            .map_err(|_| SnapshotError::Malformed("a hold time above 65535 ms"))?;
    }
    let avatar = match kind & AVATAR {
        0 => None,
        _ => Some(
            u32::try_from(bytes.varint()?)
                .map_err(|_| SnapshotError::Malformed("a slot above 32 bits"))?,
        ),
    };
    let next_expected_input = if kind & NEXT_INPUT != 0 { Some(bytes.varint()?) } else { None };
    let header = SnapshotHeader {
        epoch,
        tick,
        durable,
        applied,
        echo_ms,
        hold_ms,
        next_expected_input,
        avatar,
    };
    Ok((header, Framing { baseline, tick_rate, partial: kind & PARTIAL != 0, coding }, bytes.rest))
}

impl From<Truncated> for SnapshotError {
    fn from(_: Truncated) -> Self {
        Self::Truncated
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "the snapshot of tick 5 builds on Some(Tick(5))")]
    fn a_snapshot_that_builds_on_itself_is_noticed() {
        let header = SnapshotHeader { tick: Tick(5), ..SnapshotHeader::default() };
        let framing = Framing {
            baseline: Some(Tick(5)),
            tick_rate: 30,
            partial: false,
            coding: Coding::Rice,
        };
        encode(&header, framing, &mut Vec::new());
    }
}
