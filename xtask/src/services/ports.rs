//! Ports for servers that are killed and come back.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::time::SystemTime;

use anyhow::{Context, Result};

/// What Linux gives to outgoing connections unless told otherwise.
const USUAL_OUTGOING: Range<u16> = 32_768..61_000;

/// A port that is free on all these addresses and that no outgoing connection gets by itself: while
/// a server is dead, a client that keeps connecting to a port of the outgoing range ends up
/// connected to itself now and then, or takes the port away from the server.
pub(super) fn free(addresses: &[Ipv4Addr]) -> Result<u16> {
    let range = outside(&outgoing());
    let span = u32::from(range.end - range.start);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |time| time.subsec_nanos());
    // Two that look at the same moment should not try the same ports in the same order.
    let first = now ^ std::process::id();
    let candidates = (0..span).map(|step| range.start + (first.wrapping_add(step) % span) as u16);
    candidates.into_iter().find(|port| is_free(addresses, *port)).with_context(|| {
        format!("no port from {} to {} is free on {addresses:?}", range.start, range.end - 1)
    })
}

/// Could a server listen there now?
pub(super) fn is_free(addresses: &[Ipv4Addr], port: u16) -> bool {
    addresses.iter().all(|address| TcpListener::bind((*address, port)).is_ok())
}

fn outgoing() -> Range<u16> {
    let read = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok();
    let parsed = read.and_then(|text| {
        let mut numbers = text.split_whitespace().map(|word| word.parse::<u16>().ok());
        Some(numbers.next()??..numbers.next()??.saturating_add(1))
    });
    parsed.unwrap_or(USUAL_OUTGOING)
}

fn outside(outgoing: &Range<u16>) -> Range<u16> {
    match outgoing {
        range if range.start > 16_000 => 15_000..range.start.min(32_000),
        range if range.end < 64_000 => range.end..65_000,
        _ => 2_000..15_000,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_is_not_of_the_outgoing_range_and_not_in_use() {
        let addresses = [Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2)];
        // Somebody else may take a port as soon as it was found.
        let mut found = (0..10).map(|_| free(&addresses).unwrap());
        let port = found.find(|port| is_free(&addresses, *port)).expect("one that stays free");
        assert!(!outgoing().contains(&port));
        let _taken = TcpListener::bind((addresses[1], port)).unwrap();
        assert!(!is_free(&addresses, port), "taken on one of the addresses");
    }

    #[test]
    fn some_range_is_left_whatever_the_system_says() {
        for outgoing in [32_768..61_000, 1_024..65_535, 1_024..40_000, 16_001..65_535] {
            let range = outside(&outgoing);
            assert!(range.len() >= 1_000, "{outgoing:?} left {range:?}");
        }
    }
}
