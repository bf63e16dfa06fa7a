//! The name of a new game: which ones work, and the three ways in which sources spell it. Pure.

/// Longest name, in characters: it stands in ids, file names and lines of code.
const LONGEST: usize = 32;

/// Words that Rust keeps for itself, now or later, and crates that every Rust program has.
const RUST: &[&str] = &[
    "abstract", "alloc", "as", "async", "await", "become", "box", "break", "const", "continue",
    "core", "crate", "do", "dyn", "else", "enum", "extern", "false", "final", "fn", "for", "gen",
    "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "override", "priv",
    "pub", "ref", "return", "self", "static", "std", "struct", "super", "test", "trait", "true",
    "try", "type", "typeof", "union", "unsafe", "unsized", "use", "virtual", "where", "while",
    "yield",
];
/// Names that cargo refuses, or that the new crate uses for something else.
const CARGO: &[&str] = &[
    "bench",
    "build",
    "deps",
    "examples",
    "failover",
    "incremental",
    "proc-macro",
    "rekindle",
    "rekindle-sim",
    "replay",
    "serde",
    "serde-json",
];

/// A name that works, as packages, games and ids are called: `star-wars`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name(String);

impl Name {
    /// Checks a name that somebody typed.
    pub(crate) fn new(typed: &str) -> Result<Self, String> {
        let part = |part: &str| {
            !part.is_empty() && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        let begins = typed.chars().next().is_some_and(|first| first.is_ascii_lowercase());
        if !begins || !typed.split('-').all(part) || typed.len() > LONGEST {
            let hint = near(typed).map_or_else(String::new, |name| format!("; try `{name}`"));
            return Err(format!(
                "RK-NEW-001: `{typed}` cannot be the name of a game: names have up to {LONGEST} \
                 characters of `a-z`, `0-9` and single `-`, and begin with a letter{hint}"
            ));
        }
        let name = Self(typed.to_owned());
        if RUST.contains(&typed) || CARGO.contains(&typed) {
            return Err(name.taken("Rust or the new crate uses it for something else"));
        }
        Ok(name)
    }

    /// Why a name that is well formed does not work.
    pub(crate) fn taken(&self, why: &str) -> String {
        let Self(name) = self;
        format!(
            "RK-NEW-002: `{name}` cannot be the name of a game: {why}; take another one, such as \
             `{name}-game`"
        )
    }

    /// As packages and games are called: `star-wars`.
    pub(crate) fn kebab(&self) -> &str {
        &self.0
    }

    /// As crates are called in sources: `star_wars`.
    pub(crate) fn snake(&self) -> String {
        self.0.replace('-', "_")
    }

    /// As types are called: `StarWars`.
    pub(crate) fn pascal(&self) -> String {
        self.0
            .split('-')
            .flat_map(|part| {
                let (first, rest) = part.split_at(part.len().min(1));
                [first.to_ascii_uppercase(), rest.to_owned()]
            })
            .collect()
    }
}

/// A name that works and is near to what was typed, if there is one.
fn near(typed: &str) -> Option<String> {
    let lower = typed.to_ascii_lowercase();
    let parts = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty());
    let joined = parts.collect::<Vec<_>>().join("-");
    let name = joined.trim_start_matches(|c: char| !c.is_ascii_lowercase()).to_owned();
    (name != typed).then(|| Name::new(&name).ok()).flatten().map(|Name(name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_spelt_in_three_ways() {
        let name = Name::new("star-wars-2").unwrap();
        assert_eq!(
            (name.kebab(), &*name.snake(), &*name.pascal()),
            ("star-wars-2", "star_wars_2", "StarWars2")
        );
    }

    #[test]
    fn what_cannot_be_a_name_is_refused_with_one_that_can() {
        for (typed, words) in [
            ("", "RK-NEW-001"),
            ("My Game", "try `my-game`"),
            ("my_game", "try `my-game`"),
            ("2048", "RK-NEW-001"),
            ("4-in-a-row", "try `in-a-row`"),
            ("a--b", "try `a-b`"),
            ("-a", "try `a`"),
            ("../x", "try `x`"),
            ("schön", "try `sch-n`"),
            ("a-very-long-name-for-a-game-that-nobody-types", "RK-NEW-001"),
            ("match", "RK-NEW-002"),
            ("rekindle", "such as `rekindle-game`"),
            ("serde-json", "RK-NEW-002"),
        ] {
            let refused = Name::new(typed).unwrap_err();
            assert!(refused.contains(words), "{typed}: {refused}");
        }
    }
}
