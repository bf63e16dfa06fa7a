//! Puts the layers of the configuration on top of each other: defaults < TOML file < environment <
//! flags.
//!
//! Called once at the start of a command. What comes out still is text, each value with its origin;
//! [`super::Config`] gives it types.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::de::{DeTable, DeValue};

use super::keys::{self, KEYS, Key, Kind};
use super::links;
use crate::text;

/// The file that is read when it exists and none is named.
pub const DEFAULT_FILE: &str = "rekindle.toml";
/// Environment variable that names the file.
pub const FILE_VARIABLE: &str = "REKINDLE_CONFIG";
/// Environment variables of this project begin so.
const PREFIX: &str = "REKINDLE_";
/// Environment variables that begin so are for the tests of this project, and no settings.
const TEST_VARIABLES: &str = "REKINDLE_TEST_";

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nothing set it.
    Default,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The number of the line, from 1.
        line: usize,
    },
    /// An environment variable.
    Env(String),
    /// A command line flag, or what a subcommand stands for.
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Env(name) => write!(f, "environment {name}"),
            Self::Flag(name) => f.write_str(name),
        }
    }
}

impl Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Why a configuration is refused. All say where the fault is and what would be right.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("RK-CONFIG-001: cannot read {path}: {cause}")]
    Unreadable {
        /// The path of the file, as it was given.
        path: String,
        /// What the system said.
        cause: String,
    },
    /// The file is no TOML.
    #[error("RK-CONFIG-002: {path} is not valid TOML: {cause}")]
    Syntax {
        /// The path of the file, as it was given.
        path: String,
        /// What the parser said, with line and column.
        cause: String,
    },
    /// A key that does not exist.
    #[error(
        "RK-CONFIG-003: unknown key `{key}` ({origin}){hint}; `rekindle config show` lists all keys"
    )]
    UnknownKey {
        /// As it was written.
        key: String,
        /// What set it.
        origin: Origin,
        /// The key that may be meant, in words; empty if none is like it.
        hint: String,
    },
    /// A value that its key does not take.
    #[error("RK-CONFIG-004: `{key}` = `{value}` ({origin}): expected {expected}")]
    BadValue {
        /// The name of the key.
        key: String,
        /// What it was set to.
        value: String,
        /// What set it.
        origin: Origin,
        /// What it takes.
        expected: String,
    },
    /// Values that do not go together.
    #[error("RK-CONFIG-005: {0}")]
    Conflict(String),
    /// What is wrong about the keys under `cluster`, with its code.
    #[error("{0}")]
    Cluster(String),
    /// What this host, or this executable, does not give.
    #[error("RK-CONFIG-140: {0}")]
    Unfit(String),
}

/// The values of all keys as text, each with its origin.
#[derive(Clone)]
pub struct Settings {
    values: BTreeMap<&'static str, (String, Origin)>,
    /// Names of environment variables that begin like ours and are not for us.
    passed_over: Vec<String>,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(KEYS.iter().map(|key| (key.name, self.shown(key)))).finish()
    }
}

/// What the outside says: everything that a load depends on. Not `Debug`: there are secrets in it,
/// of others too.
#[derive(Default, Clone)]
pub struct Sources {
    /// (what implies it, key, value): defaults of one command, below everything that a person
    /// wrote.
    pub implied: Vec<(String, String, String)>,
    /// `--config FILE`.
    pub file: Option<PathBuf>,
    /// Environment variables (all; those of others are passed over).
    pub env: Vec<(OsString, OsString)>,
    /// (flag as typed, key, value), later ones win.
    pub flags: Vec<(String, String, String)>,
}

impl Settings {
    /// The defaults alone.
    pub fn defaults() -> Self {
        let values =
            KEYS.iter().map(|key| (key.name, (key.default.to_owned(), Origin::Default))).collect();
        Self { values, passed_over: Vec::new() }
    }

    /// All layers. The first fault ends it.
    pub fn load(sources: &Sources) -> Result<Self, ConfigError> {
        let mut settings = Self::defaults();
        for (label, key, value) in &sources.implied {
            settings.set(key, value.clone(), Origin::Flag(label.clone()))?;
        }
        let named = sources.file.clone().or_else(|| {
            let variable = sources.env.iter().find(|(name, _)| name == FILE_VARIABLE);
            variable.map(|(_, path)| PathBuf::from(path))
        });
        match named {
            Some(path) => settings.add_file(&path)?,
            None if Path::new(DEFAULT_FILE).exists() => {
                settings.add_file(Path::new(DEFAULT_FILE))?;
            }
            None => {}
        }
        settings.add_env(&sources.env)?;
        for (flag, key, value) in &sources.flags {
            settings.set(key, value.clone(), Origin::Flag(flag.clone()))?;
        }
        Ok(settings)
    }

    /// The text of a value and its origin.
    pub fn get(&self, key: &Key) -> (&str, &Origin) {
        self.values
            .get(key.name)
            .map_or((key.default, &Origin::Default), |(value, origin)| (value, origin))
    }

    /// Whether somebody has said the value of a key, so that it is not the default.
    pub fn is_set(&self, name: &str) -> bool {
        self.values.get(name).is_some_and(|(_, origin)| !matches!(origin, Origin::Default))
    }

    /// A value as it may be shown: secrets hidden.
    pub fn shown(&self, key: &Key) -> String {
        let (value, _) = self.get(key);
        if key.is_secret() && !value.is_empty() {
            "(set)".to_owned()
        } else {
            rekindle_store_open::address::redact(value)
        }
    }

    /// Names of environment variables that begin like ours, have the shape of a service link, and
    /// were passed over.
    pub fn passed_over(&self) -> &[String] {
        &self.passed_over
    }

    fn add_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
            path: path.display().to_string(),
            cause: error.to_string(),
        })?;
        self.add_toml(path, &text)
    }

    fn add_toml(&mut self, path: &Path, text: &str) -> Result<(), ConfigError> {
        let table = DeTable::parse(text).map_err(|error| {
            // The parser's own words show the line, and a secret may stand on it.
            let place = error.span().map_or_else(String::new, |span| place(text, span.start));
            ConfigError::Syntax {
                path: path.display().to_string(),
                cause: format!("{place}{}", error.message()),
            }
        })?;
        self.add_table(path, text, "", table.get_ref())
    }

    fn add_table(
        &mut self,
        path: &Path,
        text: &str,
        prefix: &str,
        table: &DeTable<'_>,
    ) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = format!("{prefix}{}", name.get_ref());
            let line = text[..name.span().start.min(text.len())].matches('\n').count() + 1;
            let origin = Origin::File { path: path.to_owned(), line };
            let is_group = KEYS.iter().any(|known| known.name.starts_with(&format!("{key}.")));
            let scalar = match value.get_ref() {
                DeValue::Table(inner) if is_group => {
                    self.add_table(path, text, &format!("{key}."), inner)?;
                    continue;
                }
                DeValue::String(value) => Some((
                    value.to_string(),
                    matches!(kind_of(&key), Some(Kind::Text | Kind::Choice(_))),
                )),
                DeValue::Integer(value) => {
                    Some((value.as_str().replace('_', ""), kind_of(&key) == Some(Kind::Number)))
                }
                DeValue::Boolean(value) => {
                    Some((value.to_string(), kind_of(&key) == Some(Kind::Flag)))
                }
                _ => None,
            };
            match (scalar, kind_of(&key)) {
                (_, None) => return Err(unknown(&key, origin)),
                (Some((value, true)), Some(_)) => self.set(&key, value, origin)?,
                (scalar, Some(kind)) => {
                    let value = scalar.map_or_else(
                        || "a table or list".to_owned(),
                        |(value, _)| shown(&key, &value),
                    );
                    return Err(ConfigError::BadValue {
                        key,
                        value,
                        origin,
                        expected: kind.expected(),
                    });
                }
            }
        }
        Ok(())
    }

    fn add_env(&mut self, env: &[(OsString, OsString)]) -> Result<(), ConfigError> {
        for (name, value) in env {
            let is_ours = name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
            if !is_ours
                || name == FILE_VARIABLE
                || name.as_encoded_bytes().starts_with(TEST_VARIABLES.as_bytes())
            {
                continue;
            }
            // What is not UTF-8 in a name is no key of ours either way.
            let name = name.to_string_lossy().into_owned();
            let origin = Origin::Env(name.clone());
            match (keys::of_variable(&name), value.to_str()) {
                (Some(key), Some(value)) => self.set(key.name, value.to_owned(), origin)?,
                (Some(key), None) => {
                    let expected = format!("{} in UTF-8", key.kind.expected());
                    let value = shown(key.name, &value.to_string_lossy());
                    return Err(ConfigError::BadValue {
                        key: key.name.to_owned(),
                        value,
                        origin,
                        expected,
                    });
                }
                (None, value) if links::is_service_link(&name, value.unwrap_or_default()) => {
                    self.passed_over.push(name);
                }
                (None, _) => {
                    let variables: Vec<String> = KEYS.iter().map(Key::env).collect();
                    // All begin alike: what comes behind that is compared.
                    let own = |name: &str| name.strip_prefix(PREFIX).unwrap_or_default().to_owned();
                    let names: Vec<String> = variables.iter().map(|name| own(name)).collect();
                    let near = keys::nearest(&own(&name), names.iter().map(String::as_str))
                        .map(|near| format!("{PREFIX}{near}"));
                    return Err(ConfigError::UnknownKey {
                        key: name,
                        origin,
                        hint: hint(near.as_deref()),
                    });
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, name: &str, value: String, origin: Origin) -> Result<(), ConfigError> {
        let Some(key) = keys::find(name) else { return Err(unknown(name, origin)) };
        let fits = match key.kind {
            Kind::Text => true,
            Kind::Number => value.parse::<u64>().is_ok(),
            Kind::Flag => value.parse::<bool>().is_ok(),
            Kind::Choice(words) => words.contains(&value.as_str()),
        };
        if !fits {
            let value = shown(name, &value);
            return Err(ConfigError::BadValue {
                key: name.to_owned(),
                value,
                origin,
                expected: key.kind.expected(),
            });
        }
        self.values.insert(key.name, (value, origin));
        Ok(())
    }
}

/// A value that is refused, as it may be shown.
pub(super) fn shown(key: &str, value: &str) -> String {
    let is_secret = keys::find(key).is_some_and(Key::is_secret);
    if is_secret { text::HIDDEN.to_owned() } else { rekindle_store_open::address::withhold(value) }
}

/// `line 3, column 7: `.
fn place(text: &str, at: usize) -> String {
    let before = &text.as_bytes()[..at.min(text.len())];
    let line = before.split(|&byte| byte == b'\n').count();
    let column = before.iter().rev().take_while(|&&byte| byte != b'\n').count() + 1;
    format!("line {line}, column {column}: ")
}

fn kind_of(key: &str) -> Option<Kind> {
    keys::find(key).map(|key| key.kind)
}

fn unknown(key: &str, origin: Origin) -> ConfigError {
    ConfigError::UnknownKey {
        key: key.to_owned(),
        origin,
        hint: hint(keys::nearest(key, KEYS.iter().map(|key| key.name))),
    }
}

fn hint(nearest: Option<&str>) -> String {
    nearest.map_or_else(String::new, |name| format!(", did you mean `{name}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> Result<Settings, ConfigError> {
        let mut settings = Settings::defaults();
        settings.add_toml(Path::new("rekindle.toml"), text)?;
        Ok(settings)
    }

    fn value(settings: &Settings, key: &str) -> (String, String) {
        let (value, origin) = settings.get(keys::find(key).unwrap());
        (value.to_owned(), origin.to_string())
    }

    #[test]
    fn later_layers_win_and_each_value_knows_its_origin() {
        let mut settings =
            file("listen = \"127.0.0.1:1\"\n[admin]\nlisten = \"127.0.0.1:2\"\n").unwrap();
        settings
            .add_env(&[
                ("REKINDLE_LISTEN".into(), "127.0.0.1:3".into()),
                ("HOME".into(), "/".into()),
            ])
            .unwrap();
        settings.set("shards", "4".into(), Origin::Flag("--set".into())).unwrap();
        assert_eq!(
            value(&settings, "listen"),
            ("127.0.0.1:3".into(), "environment REKINDLE_LISTEN".into())
        );
        assert_eq!(
            value(&settings, "admin.listen"),
            ("127.0.0.1:2".into(), "rekindle.toml:3".into())
        );
        assert_eq!(value(&settings, "shards"), ("4".into(), "--set".into()));
        assert_eq!(value(&settings, "output"), ("durable".into(), "default".into()));
    }

    #[test]
    fn faults_name_the_line_and_what_is_right() {
        let error = |text: &str| file(text).unwrap_err().to_string();
        assert!(
            error("\nadmin.lisen = \"x\"").contains(
                "unknown key `admin.lisen` (rekindle.toml:2), did you mean `admin.listen`?"
            )
        );
        assert!(error("[admn]\nlisten = \"x\"").contains("unknown key `admn`"));
        assert!(
            error("shards = \"two\"")
                .contains("`shards` = `two` (rekindle.toml:1): expected a whole number")
        );
        assert!(error("output = \"fast\"").contains("expected one of durable, immediate"));
        assert!(error("dev = 1").contains("expected true or false"));
        assert!(error("admin = 1").contains("unknown key `admin`"));
        assert!(error("listen = ").contains("RK-CONFIG-002"));
        assert!(
            error("\nlisten = 'x' y")
                .contains("rekindle.toml is not valid TOML: line 2, column 14: "),
            "{}",
            error("\nlisten = 'x' y")
        );
        let mut settings = Settings::defaults();
        settings.add_env(&[("REKINDLE_TEST_POSTGRES".into(), "postgres://u@h/d".into())]).unwrap();
        let error =
            settings.add_env(&[("REKINDLE_LISTN".into(), "x".into())]).unwrap_err().to_string();
        assert!(error.contains("did you mean `REKINDLE_LISTEN`?"), "{error}");
    }

    #[test]
    fn the_environment_of_others_is_passed_over() {
        use std::os::unix::ffi::OsStringExt as _;
        let broken = || OsString::from_vec(b"\xff\xfe".to_vec());
        let mut settings = Settings::defaults();
        let env = [
            ("REKINDLE_PORT", "tcp://10.0.0.7:7777"),
            ("REKINDLE_SERVICE_HOST", "10.0.0.7"),
            ("REKINDLE_PORT_7777_UDP_ADDR", "10.0.0.7"),
            ("REKINDLE_ADMIN_SERVICE_PORT_HTTP", "7780"),
        ];
        settings.add_env(&env.map(|(name, value)| (name.into(), value.into()))).unwrap();
        assert_eq!(settings.passed_over(), env.map(|(name, _)| name));
        settings.add_env(&[(broken(), "x".into()), ("OTHER".into(), broken())]).unwrap();
        let error =
            settings.add_env(&[("REKINDLE_LISTEN".into(), broken())]).unwrap_err().to_string();
        assert!(error.contains("`listen`") && error.contains("UTF-8"), "{error}");
        let mut name = OsString::from("REKINDLE_");
        name.push(broken());
        assert!(
            settings
                .add_env(&[(name, "x".into())])
                .unwrap_err()
                .to_string()
                .contains("RK-CONFIG-003")
        );
        let error =
            settings.add_env(&[("REKINDLE_PORT".into(), "7777".into())]).unwrap_err().to_string();
        assert!(error.contains("unknown key `REKINDLE_PORT`"), "{error}");
    }

    #[test]
    fn no_error_repeats_a_secret() {
        for text in [
            "[admin]\ntoken = s3cret",
            "[admin]\ntoken = \"s3cret",
            "[admin]\ntoken = \"s3cret\" x",
            "[admin]\ntoken \"s3cret\"",
            "[admin]\ntoken = \"s3cret\\q\"",
            "[admin]\ntoken = ['s3cret'",
            "admin.token = 'a'\nadmin.token = 's3cret'",
            "admin.token = ['s3cret']",
            "store_password = { s3cret = 1 }",
            "store_password = 's3cret'\nstore_password = 1",
            "listen = 5\nstore = 'postgres://u:s3cret@h/d'",
            "log.format = 'postgres://u:s3cret@h/d'",
            "shards = 'postgres://u@h/d?sslmode=s3cret'",
        ] {
            let error = file(text).expect_err(text).to_string();
            assert!(
                !error.contains("s3cret") && error.contains("rekindle.toml"),
                "{text}: {error}"
            );
        }
        let number = file("admin.token = 5361737").unwrap_err().to_string();
        assert!(
            !number.contains("5361737") && number.contains("`admin.token` = `***`"),
            "{number}"
        );
        let settings = file("admin.token = 's3cret'\nstore = 'postgres://u:s3cret@h/d'").unwrap();
        assert!(!format!("{settings:?}").contains("s3cret"));
    }
}
