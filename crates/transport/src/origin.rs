//! Which web pages may connect. Pure.

use std::fmt;
use std::str::FromStr;

/// Most origins that may be listed.
const MAX_ORIGINS: usize = 64;

/// The origins from which browsers may connect. A client that sends no `Origin` is no browser: it
/// is let in, as native clients are, and shows its credential.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins {
    /// Any page may.
    any: bool,
    /// Pages of the address that is connected to may.
    own: bool,
    /// `scheme://host[:port]`, in lower case.
    listed: Vec<String>,
}

/// A text that is no list of origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadOrigin(String);

impl fmt::Display for BadOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is no origin: expected https://HOST, https://HOST:PORT, self or *", self.0)
    }
}

impl std::error::Error for BadOrigin {}

impl Origins {
    /// Any page.
    pub fn any() -> Self {
        Self { any: true, own: true, listed: Vec::new() }
    }

    /// No page.
    pub fn none() -> Self {
        Self::default()
    }

    /// Whether a page of `origin` may connect to `authority` (`host[:port]`, as the client calls
    /// the node).
    pub fn allow(&self, origin: Option<&str>, authority: &str) -> bool {
        let Some(origin) = origin else { return true };
        if self.any {
            return true;
        }
        let origin = origin.to_ascii_lowercase();
        let own = self.own
            && origin
                .split_once("://")
                .is_some_and(|(_, host)| host == authority.to_ascii_lowercase());
        own || self.listed.contains(&origin)
    }
}

impl FromStr for Origins {
    type Err = BadOrigin;

    /// `https://a.example,https://b.example:8443`, `self`, `*`; empty: no page.
    fn from_str(text: &str) -> Result<Self, BadOrigin> {
        let mut origins = Self::none();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            match word {
                "*" => origins.any = true,
                "self" => origins.own = true,
                _ if is_origin(word) && origins.listed.len() < MAX_ORIGINS => {
                    origins.listed.push(word.to_ascii_lowercase());
                }
                _ => return Err(BadOrigin(word.to_owned())),
            }
        }
        Ok(origins)
    }
}

/// `scheme://host[:port]` without a path.
fn is_origin(word: &str) -> bool {
    let Some((scheme, host)) = word.split_once("://") else { return false };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    !host.is_empty() && host.chars().all(plain) && matches!(scheme, "http" | "https")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listed_origins_and_no_others_may_connect() {
        let origins: Origins = "https://play.example, http://dev.example:3000".parse().unwrap();
        for (origin, allowed) in [
            (None, true),
            (Some("https://play.example"), true),
            (Some("HTTPS://Play.example"), true),
            (Some("http://dev.example:3000"), true),
            (Some("http://play.example"), false),
            (Some("https://play.example.evil.example"), false),
            (Some("https://play.example:8443"), false),
            (Some("null"), false),
            (Some(""), false),
        ] {
            assert_eq!(origins.allow(origin, "play.example"), allowed, "{origin:?}");
        }
    }

    #[test]
    fn own_pages_are_those_of_the_address_that_is_connected_to() {
        let origins: Origins = "self".parse().unwrap();
        assert!(origins.allow(Some("http://127.0.0.1:7777"), "127.0.0.1:7777"));
        assert!(!origins.allow(Some("http://127.0.0.1:7778"), "127.0.0.1:7777"));
        assert!(!origins.allow(Some("null"), "null"));
        assert!(Origins::any().allow(Some("null"), "x"));
        assert!(!Origins::none().allow(Some("http://x"), "x") && Origins::none().allow(None, "x"));
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for text in ["play.example", "https://", "https://a/b", "ftp://a", "https://a b", "null"] {
            assert!(text.parse::<Origins>().is_err(), "{text}");
        }
        let many = vec!["https://a"; MAX_ORIGINS + 1].join(",");
        assert!(many.parse::<Origins>().is_err());
    }
}
