//! Input packets: what a client sends up, unreliably and redundantly.

use std::collections::VecDeque;

use bytes::Bytes;
use rekindle_schema::Tick;
use rekindle_schema::wire::INPUT_NUMBERS_END;

use crate::bits::{ByteReader, Truncated, put_signed, put_varint};

/// First byte of an input packet: kind and version.
const KIND: u8 = 0x20;
/// Most inputs in one packet.
pub const MAX_INPUTS: usize = 32;
/// How many inputs a client keeps for sending again: two seconds at 60 Hz.
const MAX_KEPT: usize = 128;

const _: () = assert!(MAX_INPUTS <= MAX_KEPT && MAX_INPUTS <= u8::MAX as usize);

/// Why bytes are no input packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// It ends too early.
    #[error("RK-NET-020: the input packet ends in the middle of a value")]
    Truncated,
    /// Another kind or version of packet.
    #[error("RK-NET-021: {0:#04x} is not the first byte of an input packet of this version")]
    Kind(u8),
    /// A payload that is longer than the receiver allows.
    #[error("RK-NET-022: an input of {len} bytes, at most {most} are allowed")]
    Oversized {
        /// The length that the packet claims, in bytes.
        len: u64,
        /// The longest that the receiver allows, in bytes.
        most: usize,
    },
    /// More inputs than a packet may have.
    #[error("RK-NET-023: {0} inputs in a packet, at most {MAX_INPUTS} are allowed")]
    TooMany(u8),
    /// Numbers that do not rise.
    #[error("RK-NET-024: the numbers of the inputs do not rise")]
    Order,
    /// A number that no input may have.
    #[error("an input has number {0}: numbers are from 1 to 2^62 - 1")]
    Number(u64),
    /// Bytes behind the last input.
    #[error("RK-NET-025: {0} bytes behind the last input")]
    Trailing(usize),
}

impl From<Truncated> for PacketError {
    fn from(_: Truncated) -> Self {
        Self::Truncated
    }
}

/// One input as it travels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputItem {
    /// The client's number: it only grows within a session.
    pub seq: u64,
    /// The tick that it is meant for.
    pub target: Tick,
    /// The tick that the player was looking at.
    pub view: Tick,
    /// The game's encoding.
    pub payload: Bytes,
}

/// A packet of inputs with the acknowledgement of snapshots. Without inputs it only acknowledges:
/// that is what spectators send.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct InputPacket {
    /// Newest snapshot received; 0 for none, and then the server forgets all baselines.
    pub ack_tick: Tick,
    /// Bit `i`: the snapshot of tick `ack_tick - 1 - i` was received too.
    pub ack_bits: u32,
    /// The client's clock in milliseconds, wrapping; the server echoes it.
    pub clock_ms: u32,
    /// At most [`MAX_INPUTS`], ascending by number.
    pub inputs: Vec<InputItem>,
}

fn encode_head(ack: (Tick, u32), clock_ms: u32, out: &mut Vec<u8>) {
    out.push(KIND);
    put_varint(out, ack.0.0);
    out.extend_from_slice(&ack.1.to_le_bytes());
    out.extend_from_slice(&clock_ms.to_le_bytes());
}

fn encode_input(item: &InputItem, last: u64, ack: Tick, out: &mut Vec<u8>) {
    put_varint(out, item.seq.wrapping_sub(last));
    put_signed(out, item.target.0.wrapping_sub(ack.0) as i64);
    put_signed(out, item.target.0.wrapping_sub(item.view.0) as i64);
    put_varint(out, item.payload.len() as u64);
    out.extend_from_slice(&item.payload);
}

impl InputPacket {
    /// Appends the packet. Inputs behind the first [`MAX_INPUTS`] are left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let inputs = &self.inputs[..self.inputs.len().min(MAX_INPUTS)];
        debug_assert!(inputs.is_sorted_by(|a, b| a.seq < b.seq), "inputs ascend by number");
        encode_head((self.ack_tick, self.ack_bits), self.clock_ms, out);
        out.push(inputs.len() as u8);
        let mut last = 0;
        for item in inputs {
            encode_input(item, last, self.ack_tick, out);
            last = item.seq;
        }
    }

    /// Decodes a packet whose payloads have at most `max_payload` bytes each.
    pub fn decode(datagram: &[u8], max_payload: usize) -> Result<Self, PacketError> {
        Self::read(datagram, max_payload, None).map(|(packet, _)| packet)
    }

    /// Decodes a packet as [`InputPacket::decode`] does, but leaves out the inputs up to number
    /// `known`, which it counts: packets repeat inputs so that a lost one costs nothing, and most
    /// of what a packet holds has come before.
    pub fn decode_news(
        datagram: &[u8],
        max_payload: usize,
        known: u64,
    ) -> Result<(Self, u64), PacketError> {
        Self::read(datagram, max_payload, Some(known))
    }

    fn read(
        datagram: &[u8],
        max_payload: usize,
        known: Option<u64>,
    ) -> Result<(Self, u64), PacketError> {
        let mut bytes = ByteReader { rest: datagram };
        let kind = bytes.byte()?;
        if kind != KIND {
            return Err(PacketError::Kind(kind));
        }
        let ack_tick = Tick(bytes.varint()?);
        let (ack_bits, clock_ms, count) = (bytes.u32()?, bytes.u32()?, bytes.byte()?);
        if count as usize > MAX_INPUTS {
            return Err(PacketError::TooMany(count));
        }
        let mut inputs: Vec<InputItem> = Vec::new();
        let (mut last, mut repeated) = (None::<u64>, 0);
        for _ in 0..count {
            let seq = last.unwrap_or(0).wrapping_add(bytes.varint()?);
            if last.is_some_and(|last| seq <= last) {
                return Err(PacketError::Order);
            }
            if seq == 0 || seq >= INPUT_NUMBERS_END {
                return Err(PacketError::Number(seq));
            }
            let target = Tick(ack_tick.0.wrapping_add(bytes.signed()? as u64));
            let view = Tick(target.0.wrapping_sub(bytes.signed()? as u64));
            let len = bytes.varint()?;
            let len = usize::try_from(len)
                .ok()
                .filter(|&len| len <= max_payload)
                .ok_or(PacketError::Oversized { len, most: max_payload })?;
            let payload = bytes.take(len)?;
            if known.is_some_and(|known| seq <= known) {
                repeated += 1;
            } else {
                inputs.push(InputItem {
                    seq,
                    target,
                    view,
                    payload: Bytes::copy_from_slice(payload),
                });
            }
            last = Some(seq);
        }
        if !bytes.rest.is_empty() {
            return Err(PacketError::Trailing(bytes.rest.len()));
        }
        Ok((Self { ack_tick, ack_bits, clock_ms, inputs }, repeated))
    }
}

/// The client's side: numbers inputs and keeps those that no snapshot has named as applied, so that
/// each packet repeats them.
#[derive(Debug, Clone)]
pub struct InputSender {
    next_seq: u64,
    kept: VecDeque<InputItem>,
}

impl InputSender {
    /// Goes on at `next_seq`, as the welcome or a snapshot says.
    pub fn new(next_seq: u64) -> Self {
        Self { next_seq, kept: VecDeque::new() }
    }

    /// Numbers an input that is meant for tick `target`, made while looking at tick `view`. Returns
    /// its number.
    pub fn push(&mut self, payload: Bytes, target: Tick, view: Tick) -> u64 {
        let seq = self.next_seq;
        self.next_seq = self.next_seq.saturating_add(1);
        if self.kept.len() == MAX_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(InputItem { seq, target, view, payload });
        seq
    }

    /// A packet of at most `budget` bytes with the newest inputs that no snapshot has named: the
    /// newest always, older ones as they fit. If not even the newest fits, the packet only
    /// acknowledges.
    pub fn packet(&mut self, ack: (Tick, u32), clock_ms: u32, budget: usize) -> Vec<u8> {
        let mut packet =
            InputPacket { ack_tick: ack.0, ack_bits: ack.1, clock_ms, inputs: Vec::new() };
        // What an input takes is the same or less when others stand in front of it.
        let mut size = 1 + 10 + 4 + 4 + 1;
        let mut item_bytes = Vec::new();
        for item in self.kept.iter().rev().take(MAX_INPUTS) {
            item_bytes.clear();
            encode_input(item, 0, ack.0, &mut item_bytes);
            size += item_bytes.len();
            if size > budget {
                break;
            }
            packet.inputs.push(item.clone());
        }
        packet.inputs.reverse();
        let mut out = Vec::with_capacity(size);
        packet.encode(&mut out);
        out
    }

    /// A snapshot named input `seq` as applied: it and older ones need not be sent again.
    pub fn applied(&mut self, seq: u64) {
        while self.kept.front().is_some_and(|item| item.seq <= seq) {
            self.kept.pop_front();
        }
    }

    /// The server will take no input below `next_seq`: later ones are numbered from there at least,
    /// and kept ones below are dropped.
    pub fn skip_to(&mut self, next_seq: u64) {
        self.next_seq = self.next_seq.max(next_seq);
        if let Some(before) = next_seq.checked_sub(1) {
            self.applied(before);
        }
    }

    /// Inputs that no snapshot has named as applied, oldest first.
    pub fn unacknowledged(&self) -> impl Iterator<Item = &InputItem> {
        self.kept.iter()
    }

    /// The number that the next input gets.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "inputs ascend by number")]
    fn inputs_that_do_not_ascend_are_noticed() {
        let item = |seq| InputItem { seq, target: Tick(1), view: Tick(1), payload: Bytes::new() };
        let packet = InputPacket { inputs: vec![item(2), item(1)], ..InputPacket::default() };
        packet.encode(&mut Vec::new());
    }
}
