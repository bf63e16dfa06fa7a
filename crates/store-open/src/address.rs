//! Which store: one line of text, checked before anything is opened, shown without its secrets.
//!
//! Called by the configuration and by commands; [`open`](crate::open) opens what it names. The
//! parameters of a server's URL are read by its backend (`dialect`), if this build has it.
//!
//! ```text
//! local  local:DIR  memory  postgres://user@host:port/database?...  scylla://a,b,c/keyspace?...
//! ```

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::dialect;

/// What an address may look like, for errors.
pub const EXPECTED: &str = "`local`, `local:DIR`, `memory`, `postgres://USER@HOST:PORT/DATABASE` \
    or `scylla://HOST,HOST/KEYSPACE`";
/// Stands where a secret was.
const HIDDEN: &str = "***";

/// Where a store is. `Display` and `Debug` hide passwords.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreAddress {
    /// Files in this directory.
    Local(PathBuf),
    /// Nowhere: gone with the process.
    Memory,
    /// A Postgres database.
    Postgres(RemoteUrl),
    /// A keyspace of a CQL server.
    Cql(RemoteUrl),
}

/// Text is no address, or one that does not go with what else was given. Never shows a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}`: expected {expected}")]
pub struct AddressError {
    /// The text, passwords hidden.
    pub shown: String,
    /// What would be right, and which part is not.
    pub expected: String,
}

/// The URL of a server. It may hold a password, which it shows to nobody but [`RemoteUrl::secret`].
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteUrl(String);

impl RemoteUrl {
    /// All of it, password included: for the driver that connects.
    pub fn secret(&self) -> &str {
        &self.0
    }

    /// Whether there is a password in it.
    pub fn has_password(&self) -> bool {
        self.0 != redact(&self.0)
    }
}

impl fmt::Display for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact(&self.0))
    }
}

impl fmt::Debug for RemoteUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteUrl({self})")
    }
}

impl fmt::Display for StoreAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local(dir) => write!(f, "local:{}", dir.display()),
            Self::Memory => f.write_str("memory"),
            Self::Postgres(url) | Self::Cql(url) => url.fmt(f),
        }
    }
}

impl FromStr for StoreAddress {
    type Err = AddressError;

    /// As [`StoreAddress::parse`], but a local store must name its directory.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let refuse = || AddressError {
            shown: withhold(text),
            expected: "a directory, as in `local:DIR`".to_owned(),
        };
        if text == "local" { Err(refuse()) } else { Self::parse(text, Path::new("")) }
    }
}

impl StoreAddress {
    /// Reads an address; `local` alone means `default_dir`.
    pub fn parse(text: &str, default_dir: &Path) -> Result<Self, AddressError> {
        let refuse = |expected: String| AddressError { shown: withhold(text), expected };
        match text.split_once(':') {
            None if text == "local" => Ok(Self::Local(default_dir.to_owned())),
            None if text == "memory" => Ok(Self::Memory),
            Some(("local", dir)) if dir.contains("://") => Err(refuse(
                "a directory behind `local:`; for the URL of a server leave `local:` out"
                    .to_owned(),
            )),
            Some(("local", dir)) if !dir.is_empty() => Ok(Self::Local(PathBuf::from(dir))),
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => {
                let url = RemoteUrl(format!("postgres:{rest}"));
                dialect::check_postgres(url.secret()).map_err(refuse)?;
                Ok(Self::Postgres(url))
            }
            Some(("scylla", rest)) if rest.starts_with("//") => {
                let url = RemoteUrl(text.to_owned());
                dialect::check_cql(url.secret()).map_err(refuse)?;
                Ok(Self::Cql(url))
            }
            _ => Err(refuse(EXPECTED.to_owned())),
        }
    }

    /// The same address with a password that was kept elsewhere. A store that takes none ignores
    /// it.
    pub fn with_password(self, password: &str) -> Result<Self, AddressError> {
        let (Self::Postgres(url) | Self::Cql(url)) = &self else { return Ok(self) };
        let refuse =
            |expected: &str| AddressError { shown: url.to_string(), expected: expected.to_owned() };
        if url.has_password() {
            return Err(refuse("one password, but there is one in the URL and one beside it"));
        }
        let (scheme, rest) = url.0.split_once("//").unwrap_or_default();
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let Some((user, _)) = authority.rsplit_once('@') else {
            return Err(refuse(
                "a user before the host, as in `//USER@HOST`: there is a password, but nobody whom \
                 it belongs to",
            ));
        };
        let url = RemoteUrl(format!(
            "{scheme}//{user}:{}{}",
            percent_encode(password),
            &rest[user.len()..]
        ));
        Ok(if matches!(self, Self::Postgres(_)) { Self::Postgres(url) } else { Self::Cql(url) })
    }

    /// The address as text that can be read again, password included. For the environment of a
    /// child process, for nothing that is shown.
    pub fn reveal(&self) -> String {
        match self {
            Self::Postgres(url) | Self::Cql(url) => url.secret().to_owned(),
            Self::Local(_) | Self::Memory => self.to_string(),
        }
    }

    /// Tables of their own on the same servers: another schema in the same database, another
    /// keyspace in the same cluster. Anything else stays as it is.
    #[must_use]
    pub fn apart(&self, name: &str) -> Self {
        match self {
            Self::Local(_) | Self::Memory => self.clone(),
            Self::Postgres(url) => {
                let (base, query) = url.0.split_once('?').unwrap_or((&url.0, ""));
                let kept = query
                    .split('&')
                    .filter(|pair| !pair.is_empty() && !pair.starts_with("schema="));
                let pairs: Vec<String> =
                    kept.map(str::to_owned).chain([format!("schema=rekindle_{name}")]).collect();
                Self::Postgres(RemoteUrl(format!("{base}?{}", pairs.join("&"))))
            }
            Self::Cql(url) => {
                let (base, query) =
                    url.0.split_once('?').map_or((&url.0[..], String::new()), |(base, query)| {
                        (base, format!("?{query}"))
                    });
                Self::Cql(RemoteUrl(format!("{base}_{name}{query}")))
            }
        }
    }

    /// `local`, `memory`, `postgres` or `cql`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Local(_) => "local",
            Self::Memory => "memory",
            Self::Postgres(_) => "postgres",
            Self::Cql(_) => "cql",
        }
    }

    /// Whether it is on servers, which several hosts may share.
    pub fn is_remote(&self) -> bool {
        matches!(self, Self::Postgres(_) | Self::Cql(_))
    }

    /// The password in it, if any: so that whoever prints what a driver said can leave it out.
    pub fn has_password(&self) -> bool {
        matches!(self, Self::Postgres(url) | Self::Cql(url) if url.has_password())
    }
}

/// The text with passwords replaced: those before an `@`, and those of a `password` parameter.
pub fn redact(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("//") else {
        return if text.contains('@') { HIDDEN.to_owned() } else { text.to_owned() };
    };
    let (before_query, query) =
        rest.split_once('?').map_or((rest, None), |(before, query)| (before, Some(query)));
    // A password may hold a slash that should have been encoded: what is hidden ends with the last
    // `@`.
    let mut shown = match before_query.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((name, _)) => format!("{scheme}//{name}:{HIDDEN}@{host}"),
            None => format!("{scheme}//{user}@{host}"),
        },
        None => format!("{scheme}//{before_query}"),
    };
    if let Some(query) = query {
        let hide = |pair: &str| match pair.split_once('=') {
            Some((key, _)) if key.eq_ignore_ascii_case("password") => format!("{key}={HIDDEN}"),
            _ => pair.to_owned(),
        };
        shown.push('?');
        shown.push_str(&query.split('&').map(hide).collect::<Vec<_>>().join("&"));
    }
    shown
}

/// As [`redact`], for text that is no address: nobody knows what was put where, so no value of a
/// parameter is shown either.
pub fn withhold(text: &str) -> String {
    let shown = redact(text);
    let Some((base, query)) = shown.split_once('?') else { return shown };
    let names = query.split('&').map(|pair| {
        pair.split_once('=').map_or(HIDDEN.to_owned(), |(name, _)| format!("{name}={HIDDEN}"))
    });
    format!("{base}?{}", names.collect::<Vec<_>>().join("&"))
}

fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_meant() {
        let parse = |text| StoreAddress::parse(text, Path::new("data")).unwrap();
        assert_eq!(parse("local"), StoreAddress::Local("data".into()));
        assert_eq!(parse("local:./other"), StoreAddress::Local("./other".into()));
        assert_eq!(parse("memory"), StoreAddress::Memory);
        assert_eq!(parse("postgresql://u@db/game").to_string(), "postgres://u@db/game");
        assert_eq!(parse("scylla://a,b:9043,c/game").kind(), "cql");
        assert!("local".parse::<StoreAddress>().is_err());
        for wrong in ["", "local:", "sqlite://x", "postgres:x", "scylla:x", "Memory", "memory:x"] {
            let error = StoreAddress::parse(wrong, Path::new("data")).unwrap_err().to_string();
            assert!(error.contains("expected `local`"), "{wrong}: {error}");
        }
    }

    #[test]
    fn no_password_is_ever_shown() {
        for text in [
            "postgres://u:s3cret@db:5432/game",
            "postgres://u:s3cret/x@db:5432/game?sslmode=disable",
            "postgres://u:a@s3cret@db/game",
            "postgres://u@db/game?password=s3cret&sslmode=disable",
            "scylla://u:s3cret@a,b/game",
            "postgres:u:s3cret@db/game",
        ] {
            assert!(!redact(text).contains("s3cret"), "{}", redact(text));
            if let Ok(address) = StoreAddress::parse(text, Path::new("")) {
                assert!(
                    address.has_password() && !format!("{address} {address:?}").contains("s3cret"),
                    "{address:?}"
                );
            }
        }
        for wrong in [
            "mysql://u:s3cret@db/game",
            "local:postgres://u:s3cret@db/game",
            "postgres://u@db/game?sslmode=s3cret",
            "postgres://u@db/game?pool=s3cret",
            "scylla://db/game?timeout=s3cret",
            "scylla://db/game?s3cret",
        ] {
            let error = StoreAddress::parse(wrong, Path::new("")).unwrap_err();
            assert!(
                !error.to_string().contains("s3cret") && error.to_string().contains(HIDDEN),
                "{error}"
            );
        }
    }

    #[test]
    fn a_password_kept_elsewhere_gets_into_the_url() {
        let parse = |text| StoreAddress::parse(text, Path::new("")).unwrap();
        let StoreAddress::Postgres(url) =
            parse("postgres://u@db:5432/game").with_password("p@ss/w:rd").unwrap()
        else {
            panic!()
        };
        assert_eq!(url.secret(), "postgres://u:p%40ss%2Fw%3Ard@db:5432/game");
        assert_eq!(url.to_string(), "postgres://u:***@db:5432/game");
        let error = parse("postgres://u:one@db/game").with_password("two").unwrap_err().to_string();
        assert!(error.contains("one password") && !error.contains("two"), "{error}");
        let error = parse("scylla://db/game").with_password("two").unwrap_err().to_string();
        assert!(error.contains("//USER@HOST") && !error.contains("two"), "{error}");
        assert_eq!(parse("memory").with_password("x").unwrap(), StoreAddress::Memory);
    }

    #[test]
    fn tables_apart_are_on_the_same_servers() {
        let apart =
            |text: &str| StoreAddress::parse(text, Path::new("")).unwrap().apart("demo_1").reveal();
        assert_eq!(
            apart("postgres://u:p@db/game"),
            "postgres://u:p@db/game?schema=rekindle_demo_1"
        );
        assert_eq!(
            apart("postgres://u@db/game?schema=x&pool=9"),
            "postgres://u@db/game?pool=9&schema=rekindle_demo_1"
        );
        assert_eq!(apart("scylla://a,b/game?dc=eu"), "scylla://a,b/game_demo_1?dc=eu");
        assert_eq!(apart("local:dir"), "local:dir");
    }
}
