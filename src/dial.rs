//! Which address to dial. A listener may be bound to a wildcard (`0.0.0.0`, `::`), which is where
//! it listens and nothing that answers: replies come from another address, and a client that checks
//! who answers waits for ever.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Where a process on the same host reaches a listener that is bound to `bound`.
pub fn from_here(bound: SocketAddr) -> SocketAddr {
    let loopback: IpAddr =
        if bound.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    from_afar(bound, loopback)
}

/// Where whoever reached the node at `via` reaches another of its listeners, which is bound to
/// `bound`.
pub fn from_afar(bound: SocketAddr, via: IpAddr) -> SocketAddr {
    if bound.ip().is_unspecified() { SocketAddr::new(via, bound.port()) } else { bound }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_is_never_dialled() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(from_here(at("0.0.0.0:7777")), at("127.0.0.1:7777"));
        assert_eq!(from_here(at("[::]:7777")), at("[::1]:7777"));
        assert_eq!(from_here(at("10.0.0.9:7777")), at("10.0.0.9:7777"));
        assert_eq!(from_afar(at("0.0.0.0:7777"), "10.0.0.9".parse().unwrap()), at("10.0.0.9:7777"));
        assert_eq!(
            from_afar(at("10.1.1.1:7777"), "10.0.0.9".parse().unwrap()),
            at("10.1.1.1:7777")
        );
    }
}
