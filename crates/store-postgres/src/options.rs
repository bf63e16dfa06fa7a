//! What the address of a Postgres store says. A password in it is kept, used, and never shown.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use rekindle_store::StoreError;
use rekindle_store::backend;

/// The schema that holds the tables when the address names none.
pub const DEFAULT_SCHEMA: &str = "rekindle";
/// Fewest connections: one to commit, one for leases, one for the rest.
const MIN_POOL: usize = 3;
const MAX_POOL: usize = 1_000;
const _: () = assert!(MIN_POOL <= 8 && 8 <= MAX_POOL, "the default is a pool that is allowed");

/// How the connection is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tls {
    /// Not at all.
    Disable,
    /// Encrypted if the server can, without asking who it is.
    Prefer,
    /// Encrypted; who the server is is checked only if a root certificate is given.
    Require,
    /// Encrypted, and the server's certificate must name the host and come from a trusted root.
    VerifyFull,
}

/// Where a Postgres store is and how it is used. [`PostgresOptions::parse`] reads them from an
/// address.
#[derive(Clone)]
pub struct PostgresOptions {
    pub(super) config: Config,
    pub(super) tls: Tls,
    pub(super) root: Option<PathBuf>,
    pub(super) schema: String,
    /// A server that does not sync its WAL is used all the same.
    pub(super) unsafe_server: bool,
    /// Most connections, at least 3. A quarter serves commits, a quarter leases, the rest
    /// everything that is large.
    pub pool: usize,
    /// How long a connection may take to come up.
    pub connect_timeout: Duration,
    /// How long one statement may take; it is cancelled on the server.
    pub timeout: Duration,
    /// Most batches of one log that wait; one more is `Overloaded`.
    pub append_queue: usize,
    /// Most checkpoints that are written or wait; one more is `Overloaded`.
    pub checkpoint_queue: usize,
    /// Batches in one partition of a log.
    pub segment_batches: u64,
    /// The guard that a test leaves out.
    #[cfg(feature = "mutants")]
    pub mutant: super::Mutant,
}

fn refuse(problem: impl Into<String>) -> StoreError {
    StoreError::Refused {
        place: "the address of a Postgres store".to_owned(),
        problem: problem.into(),
    }
}

fn number<T>(key: &str, value: &str, least: T, most: T) -> Result<T, StoreError>
where
    T: std::str::FromStr + PartialOrd + fmt::Display + Copy,
{
    let parsed = value.parse::<T>().ok().filter(|parsed| *parsed >= least && *parsed <= most);
    // Values are not repeated: a password may have been put in the wrong place.
    parsed.ok_or_else(|| refuse(format!("`{key}` should be a whole number from {least} to {most}")))
}

fn time(key: &str, value: &str) -> Result<Duration, StoreError> {
    let time = backend::time(value, Duration::from_millis(100), Duration::from_mins(10));
    time.ok_or_else(|| refuse(format!("`{key}` should be a time from 100ms to 600s")))
}

/// `%41` and the like.
fn percent_decoded(key: &str, text: &str) -> Result<String, StoreError> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| (byte as char).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else {
            return Err(refuse(format!(
                "`{key}` has a `%` without two hexadecimal digits behind it"
            )));
        };
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).map_err(|_| refuse(format!("`{key}` is no UTF-8 text")))
}

/// The parameters of an address, those behind its `?`.
struct Parameters<'a> {
    /// Those that are left to `tokio-postgres`, `key=value`.
    rest: Vec<&'a str>,
    schema: String,
    tls: Tls,
    /// A PEM file with the root certificate.
    root: Option<PathBuf>,
    password_file: Option<PathBuf>,
    pool: usize,
    /// How long connecting and one statement may take.
    timeouts: (Duration, Duration),
    unsafe_server: bool,
}

impl<'a> Parameters<'a> {
    fn read(query: &'a str) -> Result<Self, StoreError> {
        let mut this = Self {
            rest: Vec::new(),
            schema: DEFAULT_SCHEMA.to_owned(),
            tls: Tls::Prefer,
            root: None,
            password_file: None,
            pool: 8,
            timeouts: (Duration::from_secs(3), Duration::from_secs(5)),
            unsafe_server: false,
        };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, raw) =
                pair.split_once('=').ok_or_else(|| refuse("a parameter has no `=`"))?;
            let value = || percent_decoded(key, raw);
            match key {
                "schema" => this.schema = value()?,
                "sslmode" => this.tls = tls_mode(&value()?)?,
                "sslrootcert" => this.root = Some(PathBuf::from(value()?)),
                "password_file" => this.password_file = Some(PathBuf::from(value()?)),
                "pool" => this.pool = number(key, &value()?, MIN_POOL, MAX_POOL)?,
                "timeout" => this.timeouts.1 = time(key, &value()?)?,
                "connect_timeout" => this.timeouts.0 = time(key, &value()?)?,
                "durability" => match value()?.as_str() {
                    "checked" => this.unsafe_server = false,
                    "unchecked" => this.unsafe_server = true,
                    _ => return Err(refuse("`durability` should be `checked` or `unchecked`")),
                },
                _ if key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') => {
                    this.rest.push(pair);
                }
                _ => {
                    return Err(refuse(
                        "what stands behind `?` is no list of parameters; is there a `?` in the \
                         password? write it as %3F",
                    ));
                }
            }
        }
        Ok(this)
    }
}

fn tls_mode(value: &str) -> Result<Tls, StoreError> {
    match value {
        "disable" => Ok(Tls::Disable),
        "prefer" | "allow" => Ok(Tls::Prefer),
        "require" => Ok(Tls::Require),
        "verify-full" => Ok(Tls::VerifyFull),
        _ => {
            Err(refuse("`sslmode` should be one of `disable`, `prefer`, `require`, `verify-full`"))
        }
    }
}

/// The schema's name goes into statements as it is, so it must need no quotes.
fn check_schema(schema: &str) -> Result<(), StoreError> {
    let plain = schema
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !plain
        || schema.is_empty()
        || schema.len() > 63
        || schema.as_bytes()[0].is_ascii_digit()
        || schema.starts_with("pg_")
    {
        return Err(refuse(
            "`schema` should be 1 to 63 of a-z, 0-9 and _, not begin with a digit, and not \
             with pg_",
        ));
    }
    Ok(())
}

/// The address without our own parameters, as the driver reads it. It must name host and user.
fn connection(plain: &str) -> Result<Config, StoreError> {
    // What the parser says names parameters, never their values.
    let config: Config = plain.parse().map_err(|error: tokio_postgres::Error| {
        let cause = std::error::Error::source(&error)
            .map_or_else(|| error.to_string(), ToString::to_string);
        refuse(format!("it cannot be read: {cause}"))
    })?;
    if config.get_hosts().is_empty() {
        return Err(refuse("it names no host"));
    }
    if config.get_user().is_none() {
        return Err(refuse("it names no user: postgres://user@host/database"));
    }
    Ok(config)
}

impl PostgresOptions {
    /// Reads an address:
    /// `postgres://user@host:5432/database?sslmode=verify-full&schema=rekindle&pool=16`.
    ///
    /// Of parameters it knows `schema` (`rekindle`), `pool` (8), `sslmode` (`disable`, `prefer`,
    /// `require`, `verify-full`; default `prefer`), `sslrootcert` (a PEM file; with it `require`
    /// verifies too), `password_file`, `connect_timeout` and `timeout` (`3s` and `5s`; a bare
    /// number is seconds), `durability=unchecked` (use a server with `fsync = off`: for tests
    /// only); all others are libpq's as `tokio-postgres` knows them. A password comes from the
    /// address, from `password_file`, or from the variable `PGPASSWORD`, in this order. `Refused`
    /// says what is wrong with an address, without repeating it.
    pub fn parse(address: &str) -> Result<Self, StoreError> {
        Self::parse_with(address, std::env::var("PGPASSWORD").ok())
    }

    /// As [`Self::parse`], with the value of `PGPASSWORD` as an argument.
    pub fn parse_with(address: &str, pgpassword: Option<String>) -> Result<Self, StoreError> {
        if !address.starts_with("postgres://") && !address.starts_with("postgresql://") {
            return Err(refuse(
                "it should begin with `postgres://`: postgres://user@host:5432/database",
            ));
        }
        let (base, query) = address.split_once('?').unwrap_or((address, ""));
        let Parameters { rest, schema, tls, root, password_file, pool, timeouts, unsafe_server } =
            Parameters::read(query)?;
        check_schema(&schema)?;
        let (connect_timeout, timeout) = timeouts;
        let plain =
            if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        let mut config = connection(&plain)?;
        if config.get_password().is_none() {
            if let Some(path) = password_file {
                let text = std::fs::read_to_string(&path).map_err(|error| {
                    refuse(format!("the password file {} cannot be read: {error}", path.display()))
                })?;
                config.password(text.trim_end_matches(['\r', '\n']));
            } else if let Some(password) = pgpassword.filter(|password| !password.is_empty()) {
                config.password(password);
            }
        }
        config.ssl_mode(match tls {
            Tls::Disable => SslMode::Disable,
            Tls::Prefer => SslMode::Prefer,
            Tls::Require | Tls::VerifyFull => SslMode::Require,
        });
        config.connect_timeout(connect_timeout).keepalives_idle(Duration::from_secs(10));
        if config.get_application_name().is_none() {
            config.application_name("rekindle");
        }
        Ok(Self {
            config,
            tls,
            root,
            schema,
            unsafe_server,
            pool,
            connect_timeout,
            timeout,
            append_queue: 16,
            checkpoint_queue: 8,
            segment_batches: 16_384,
            #[cfg(feature = "mutants")]
            mutant: super::Mutant::None,
        })
    }

    /// The schema that holds the tables.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// What sessions begin with: everything that durability and bounded waiting rest on.
    pub(super) fn session(&self, statement_timeout: Duration) -> Config {
        let mut config = self.config.clone();
        let own = format!(
            "-c search_path={} -c synchronous_commit=on -c statement_timeout={} -c \
             idle_in_transaction_session_timeout=30s -c \
             default_transaction_isolation=read\\ committed -c plan_cache_mode=force_generic_plan \
             -c jit=off",
            self.schema,
            statement_timeout.as_millis(),
        );
        let options =
            config.get_options().map_or_else(|| own.clone(), |given| format!("{given} {own}"));
        config.options(options);
        config
    }
}

/// The address, without the password and without what has its default.
impl fmt::Display for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "postgres://{}@", self.config.get_user().unwrap_or_default())?;
        for (index, host) in self.config.get_hosts().iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}")?,
                Host::Unix(path) => write!(f, "{comma}{}", path.display())?,
            }
            let ports = self.config.get_ports();
            if let Some(port) = ports.get(index).or_else(|| ports.last()) {
                write!(f, ":{port}")?;
            }
        }
        write!(f, "/{}?schema={}", self.config.get_dbname().unwrap_or_default(), self.schema)
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("address", &self.to_string())
            .field("tls", &self.tls)
            .field("pool", &self.pool)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(address: &str) -> Result<PostgresOptions, StoreError> {
        PostgresOptions::parse_with(address, None)
    }

    #[test]
    fn an_address_says_everything() {
        let options = parse(
            "postgres://ann:s3cret@db.example:5433/games?schema=arena&pool=16&sslmode=verify-full&timeout=2&sslrootcert=%2Fetc%2Fca.pem",
        )
        .unwrap();
        assert_eq!(options.to_string(), "postgres://ann@db.example:5433/games?schema=arena");
        assert_eq!(
            (options.pool, &options.tls, options.timeout),
            (16, &Tls::VerifyFull, Duration::from_secs(2))
        );
        assert_eq!(
            parse("postgres://ann@h/d?timeout=250ms").unwrap().timeout,
            Duration::from_millis(250)
        );
        assert_eq!(options.root, Some(PathBuf::from("/etc/ca.pem")));
        assert_eq!(options.config.get_password(), Some(&b"s3cret"[..]));
        let session = options.session(options.timeout);
        let settings = session.get_options().unwrap();
        assert!(
            settings.contains("synchronous_commit=on")
                && settings.contains("statement_timeout=2000"),
            "{settings}"
        );
    }

    #[test]
    fn a_password_is_used_and_never_shown() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let from_file = format!("postgres://ann@h/d?password_file={}", file.path().display());
        for options in [
            parse("postgres://ann:s3cret@h/d").unwrap(),
            parse("postgres://ann@h/d?password=s3cret").unwrap(),
            parse(&from_file).unwrap(),
            PostgresOptions::parse_with("postgres://ann@h/d", Some("s3cret".to_owned())).unwrap(),
        ] {
            assert_eq!(options.config.get_password(), Some(&b"s3cret"[..]));
            let shown = format!("{options} {options:?} {:?}", options.config);
            assert!(!shown.contains("s3cret"), "{shown}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said_without_repeating_it() {
        for (address, word) in [
            ("mysql://ann:s3cret@h/d", "postgres://"),
            ("postgres://ann:s3cret@h:port/d", "cannot be read"),
            ("postgres://ann@h/d?sslmode=s3cret", "sslmode"),
            ("postgres://ann@h/d?pool=s3cret", "pool"),
            ("postgres://ann@h/d?timeout=s3cret", "timeout"),
            ("postgres://ann@h/d?durability=s3cret", "durability"),
            ("postgres://ann:s3cret@h/d?sslmode=verify", "sslmode"),
            ("postgres://ann:s3cret@h/d?pool=2", "pool"),
            ("postgres://ann:s3cret@h/d?timeout=never", "timeout"),
            ("postgres://ann:s3cret@h/d?schema=Robert'); DROP TABLE", "schema"),
            ("postgres://ann:s3cret@h/d?shema=x", "shema"),
            ("postgres://ann@h/d?password_file=/nowhere/at/all", "/nowhere/at/all"),
            ("postgres://ann:what?s3cret=x@h/d", "%3F"),
            ("postgres://h/d", "user"),
            ("postgres://ann@/d", "host"),
            ("postgres://ann:s3cret@h/d?sslrootcert=%4", "sslrootcert"),
        ] {
            let error = parse(address).expect_err(address).to_string();
            assert!(error.contains(word) && !error.contains("s3cret"), "{address}: {error}");
        }
    }
}
