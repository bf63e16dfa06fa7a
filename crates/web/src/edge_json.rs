//! What a page is told of the node (`GET /edge.json`), and under which name the node is reached.
//! Pure.

use std::net::{IpAddr, SocketAddr};

use rekindle_transport::websocket;
use serde::Serialize;

use crate::Web;

/// Longest host name that is believed.
const MAX_HOST: usize = 253;
/// The path at which players connect: its number is the version of the client protocol.
pub(crate) const PATH: &str = rekindle_transport::WEB_PATH;
/// The versions of the client protocol that browsers can speak.
const PROTOCOLS: [u16; 3] = [4, 5, 6];

/// The answer.
#[derive(Debug, Serialize)]
pub(crate) struct EdgeJson {
    protocols: [u16; 3],
    node: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    webtransport: Option<WebTransport>,
    websocket: WebSocket,
    games: Vec<String>,
    guest: bool,
}

#[derive(Debug, Serialize)]
struct WebTransport {
    url: String,
    /// Absent if the certificate is one that browsers trust anyway.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<String>,
}

#[derive(Debug, Serialize)]
struct WebSocket {
    url: String,
    /// A subprotocol that must be asked for.
    protocol: &'static str,
    /// Snapshots come as messages, and none is lost on the way.
    datagrams: bool,
}

/// For a client that called the node by `host` (its `Host` header).
pub(crate) fn edge_json(web: &Web, host: Option<&str>, tls: bool) -> EdgeJson {
    let name = reached_at(host, web.bound, web.config.advertised);
    let (port, web_port) = (web.config.port, web.config.web_port);
    let scheme = if tls { "wss" } else { "ws" };
    let webtransport = web.site.browser_certificates().map(|hashes| WebTransport {
        url: format!("https://{name}:{port}{PATH}"),
        hashes: hashes.iter().map(|hash| hex(hash)).collect(),
    });
    EdgeJson {
        protocols: PROTOCOLS,
        node: web.site.name().to_owned(),
        webtransport,
        websocket: WebSocket {
            url: format!("{scheme}://{name}:{web_port}{PATH}"),
            protocol: websocket::SUBPROTOCOL,
            datagrams: false,
        },
        games: web.site.games(),
        guest: web.config.guests,
    }
}

/// The host that clients are told: the one by which they came, if the node may well have that name,
/// else the address that it is known by.
fn reached_at(host: Option<&str>, bound: SocketAddr, advertised: SocketAddr) -> String {
    let named = host.and_then(host_of).filter(|name| {
        let ip: Option<IpAddr> = name.trim_matches(['[', ']']).parse().ok();
        match ip {
            Some(ip) => bound.ip().is_unspecified() || ip == bound.ip(),
            None if bound.ip().is_loopback() => name.eq_ignore_ascii_case("localhost"),
            None => bound.ip().is_unspecified(),
        }
    });
    named.map_or_else(|| in_url(advertised.ip()), str::to_owned)
}

/// The host in `host[:port]`, if it is one.
fn host_of(authority: &str) -> Option<&str> {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => authority,
    };
    let v6 = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    let good = match v6 {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    };
    (good && (1..=MAX_HOST).contains(&name.len())).then_some(name)
}

fn in_url(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(u32::from(digit), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_told_the_name_by_which_they_came_if_the_node_may_have_it() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let known = at("203.0.113.2:7777");
        for (bound, host, told) in [
            ("127.0.0.1:7777", Some("localhost:7777"), "localhost"),
            ("127.0.0.1:7777", Some("127.0.0.1:7777"), "127.0.0.1"),
            ("127.0.0.1:7777", Some("evil.example:7777"), "203.0.113.2"),
            ("127.0.0.1:7777", Some("10.0.0.1"), "203.0.113.2"),
            ("[::1]:7777", Some("[::1]:7777"), "[::1]"),
            ("0.0.0.0:7777", Some("play.example"), "play.example"),
            ("0.0.0.0:7777", Some("10.0.0.7:80"), "10.0.0.7"),
            ("[::]:7777", Some("[2001:db8::1]:7777"), "[2001:db8::1]"),
            ("10.0.0.7:7777", Some("10.0.0.7:7777"), "10.0.0.7"),
            ("10.0.0.7:7777", Some("play.example"), "203.0.113.2"),
            ("0.0.0.0:7777", Some("a\"b"), "203.0.113.2"),
            ("0.0.0.0:7777", Some("a/b@c"), "203.0.113.2"),
            ("0.0.0.0:7777", Some(""), "203.0.113.2"),
            ("0.0.0.0:7777", Some(":7777"), "203.0.113.2"),
            ("0.0.0.0:7777", None, "203.0.113.2"),
        ] {
            assert_eq!(reached_at(host, at(bound), known), told, "{bound} {host:?}");
        }
        assert_eq!(in_url("::1".parse().unwrap()), "[::1]");
    }
}
