//! Where a CQL store is and how it works: `scylla://user@a,b:9042,c/keyspace?dc=eu&replication=3`.

use std::fmt;
use std::time::Duration;

use rekindle_store::StoreError;
use rekindle_store::backend;

/// The port of CQL servers.
const PORT: u16 = 9042;
const PARAMETERS: &str = "dc, replication, space, timeout, append_queue, bucket";

/// How many copies a keyspace keeps, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replication {
    /// So many in the local datacentre.
    Local(u32),
    /// So many in each of these datacentres.
    Datacentres(Vec<(String, u32)>),
}

/// How to reach a CQL store and how it works. Its `Debug` and `Display` leave out the password.
#[derive(Clone)]
pub struct CqlOptions {
    /// Contact points, `host:port`.
    pub hosts: Vec<String>,
    /// The keyspace.
    pub keyspace: String,
    /// The local datacentre: requests go to its servers only, and quorums are counted in it. May be
    /// left out where there is only one.
    pub datacentre: Option<String>,
    /// Used when the keyspace is made.
    pub replication: Replication,
    /// Tells clusters in one keyspace apart.
    pub space: String,
    /// How long a request may take before its outcome counts as unknown.
    pub timeout: Duration,
    /// Most appends of a log that wait; one more is `Overloaded`. Also the bound of waiting
    /// checkpoints.
    pub append_queue: usize,
    /// Batches in a bucket of a new log; a bucket is what trimming deletes.
    pub bucket: u32,
    /// The user, if the server asks for one.
    pub user: Option<String>,
    password: Option<String>,
    /// The guard that a test leaves out.
    #[cfg(feature = "mutants")]
    pub mutant: super::Mutant,
}

impl CqlOptions {
    /// Reads
    /// `scylla://[user[:password]@]host[:port][,host[:port]...]/keyspace[?parameter=value&...]`;
    /// `cql://` is the same.
    ///
    /// Parameters: `dc=eu`; `replication=3` (in the local datacentre) or `replication=eu:3,us:3`;
    /// `space=name`; `timeout=5s` or `800ms`; `append_queue=16`; `bucket=256`. `Refused` says what
    /// is wrong, without the password.
    pub fn parse(url: &str) -> Result<Self, StoreError> {
        Self::read(url).map_err(|problem| StoreError::Refused {
            place: "the address of a CQL store".to_owned(),
            problem: format!(
                "{problem}; it looks like \
                scylla://user@host-a,host-b:9042/keyspace?dc=eu&replication=3"
            ),
        })
    }

    fn read(url: &str) -> Result<Self, String> {
        let rest = url.strip_prefix("scylla://").or_else(|| url.strip_prefix("cql://"));
        let rest = rest.ok_or("it does not begin with scylla:// or cql://")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, keyspace) = rest.split_once('/').ok_or("it names no keyspace")?;
        let (login, hosts) = authority
            .rsplit_once('@')
            .map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        let (user, password) = match login.map(|login| {
            login.split_once(':').map_or((login, None), |(user, word)| (user, Some(word)))
        }) {
            Some((user, password)) => (Some(decode(user)?), password.map(decode).transpose()?),
            None => (None, None),
        };
        let mut options = Self {
            hosts: hosts.split(',').map(host).collect::<Result<_, _>>()?,
            keyspace: identifier(keyspace)?,
            datacentre: None,
            replication: Replication::Local(3),
            space: "main".to_owned(),
            timeout: Duration::from_secs(5),
            append_queue: 16,
            bucket: 256,
            user,
            password,
            #[cfg(feature = "mutants")]
            mutant: super::Mutant::None,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) =
                pair.split_once('=').ok_or_else(|| "a parameter has no `=`".to_owned())?;
            options.set(name, &decode(value)?)?;
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        // The value is not repeated: a password may have been put in the wrong place.
        let bad = |what: &str| format!("`{name}` is not {what}");
        let number = |least: u32, most: u32| {
            let found: Option<u32> =
                value.parse().ok().filter(|number| (least..=most).contains(number));
            found.ok_or_else(|| bad(&format!("a number from {least} to {most}")))
        };
        match name {
            "dc" => {
                self.datacentre =
                    Some(name_of(value).ok_or_else(|| bad("the name of a datacentre"))?);
            }
            "space" => {
                self.space = name_of(value)
                    .ok_or_else(|| bad("a name of letters, digits, `-`, `_` and `.`"))?;
            }
            "append_queue" => self.append_queue = number(1, 4096)? as usize,
            "bucket" => self.bucket = number(1, 1 << 20)?,
            "timeout" => {
                self.timeout =
                    backend::time(value, Duration::from_millis(10), Duration::from_mins(1))
                        .ok_or_else(|| bad("a time from 10ms to 60s"))?;
            }
            "replication" => {
                self.replication = replication(value).ok_or_else(|| bad("`3` or `eu:3,us:3`"))?;
            }
            _ => return Err(format!("the parameter `{name}` is unknown; there are {PARAMETERS}")),
        }
        Ok(())
    }

    /// Sets the password, which is never shown.
    #[must_use]
    pub fn with_password(mut self, password: impl Into<String>) -> Self {
        self.password = Some(password.into());
        self
    }

    /// Whether a password is set.
    pub fn has_password(&self) -> bool {
        self.password.is_some()
    }

    pub(super) fn login(&self) -> Option<(&str, &str)> {
        Some((self.user.as_deref()?, self.password.as_deref().unwrap_or_default()))
    }

    /// The store without secrets and parameters, for errors and logs.
    pub fn place(&self) -> String {
        format!("scylla://{}/{}", self.hosts.join(","), self.keyspace)
    }
}

impl fmt::Display for CqlOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "scylla://")?;
        if let Some(user) = &self.user {
            write!(f, "{user}{}@", if self.password.is_some() { ":***" } else { "" })?;
        }
        write!(f, "{}/{}", self.hosts.join(","), self.keyspace)?;
        if let Some(datacentre) = &self.datacentre {
            write!(f, "?dc={datacentre}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for CqlOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { space, timeout, append_queue, bucket, .. } = self;
        write!(
            f,
            "CqlOptions({self}, space {space}, timeout {timeout:?}, append_queue {append_queue}, \
             bucket {bucket})"
        )
    }
}

fn host(text: &str) -> Result<String, String> {
    // Not repeated: where the host was forgotten, a password stands in its place.
    let problem = || "a host in it is not `name` or `name:port`".to_owned();
    let (name, port) = if let Some(rest) = text.strip_prefix('[') {
        let (name, rest) = rest.split_once(']').ok_or_else(problem)?;
        (format!("[{name}]"), rest.strip_prefix(':').map(str::to_owned))
    } else {
        let (name, port) =
            text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port.to_owned())));
        (name.to_owned(), port)
    };
    let port: u16 = port.map_or(Ok(PORT), |port| port.parse().map_err(|_| problem()))?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._[]:%".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(problem());
    }
    Ok(format!("{name}:{port}"))
}

/// Keyspaces are written into statements, so their names are plain words.
fn identifier(text: &str) -> Result<String, String> {
    let mut chars = text.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_lowercase());
    let plain = first && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if plain && text.len() <= 48 {
        Ok(text.to_owned())
    } else {
        Err("what stands behind the hosts is no name of a keyspace (a small letter, then up to 47 \
            small letters, digits and `_`)"
            .to_owned())
    }
}

/// A name that may stand between quotes in a statement.
fn name_of(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (!text.is_empty() && text.len() <= 64 && text.chars().all(plain)).then(|| text.to_owned())
}

fn replication(text: &str) -> Option<Replication> {
    let copies = |text: &str| text.parse().ok().filter(|copies| (1..=100).contains(copies));
    if let Some(copies) = copies(text) {
        return Some(Replication::Local(copies));
    }
    let pairs = text.split(',').map(|pair| {
        let (name, number) = pair.split_once(':')?;
        Some((name_of(name)?, copies(number)?))
    });
    pairs.collect::<Option<Vec<_>>>().map(Replication::Datacentres)
}

/// Resolves `%40` and the like.
fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let byte = digits
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .ok_or("a `%` without two hexadecimal digits behind it")?;
        bytes.push(byte);
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| "text that is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_everything() {
        let url = "scylla://ann:s%40crt@a,b:9043,[::1]:9044/games?dc=eu&replication=eu:3,us:2&space=blue&timeout=800ms&append_queue=4&bucket=8";
        let options = CqlOptions::parse(url).unwrap();
        assert_eq!(options.hosts, ["a:9042", "b:9043", "[::1]:9044"]);
        assert_eq!(
            (options.keyspace.as_str(), options.space.as_str(), options.datacentre.as_deref()),
            ("games", "blue", Some("eu"))
        );
        assert_eq!(
            options.replication,
            Replication::Datacentres(vec![("eu".to_owned(), 3), ("us".to_owned(), 2)])
        );
        assert_eq!(
            (options.timeout, options.append_queue, options.bucket),
            (Duration::from_millis(800), 4, 8)
        );
        assert_eq!(options.login(), Some(("ann", "s@crt")));
        for shown in [format!("{options}"), format!("{options:?}"), options.place()] {
            assert!(!shown.contains("s@crt") && !shown.contains("s%40crt"), "{shown}");
        }
        let plain = CqlOptions::parse("cql://bob@h/k").unwrap();
        assert!(!plain.has_password());
        assert_eq!(plain.with_password("x").login(), Some(("bob", "x")));
    }

    #[test]
    fn a_wrong_address_is_refused_without_its_password() {
        for (url, word) in [
            ("postgres://a/b", "scylla://"),
            ("scylla://u:hidden@a", "keyspace"),
            ("scylla://u:hidden@a/", "keyspace"),
            ("scylla://u:hidden@a/Games", "keyspace"),
            ("scylla://u:hidden@a/k; drop", "keyspace"),
            ("scylla://u:hidden@,b/k", "host"),
            ("scylla://u:hidden@a:port/k", "host"),
            ("scylla://u:hidden@a/k?dc=e'u", "datacentre"),
            ("scylla://u:hidden@a/k?replication=0", "replication"),
            ("scylla://u:hidden@a/k?timeout=1h", "time"),
            ("scylla://u:hidden@a/k?colour=red", "append_queue"),
            ("scylla://u:hidden%4@a/k", "hexadecimal"),
        ] {
            let error = CqlOptions::parse(url).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("hidden"), "{url}: {error}");
        }
    }
}
