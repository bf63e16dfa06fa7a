//! The ratchet: `xtask/tidy-ratchet.toml` says how many places of a file may still break a rule.
//! A count that grows is an error. A count that shrinks is one, too, until the file says so: what
//! was mended once stays mended.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::{Context, Result, bail};

use super::tree::root;
use super::{Finding, Findings};

const FILE: &str = "xtask/tidy-ratchet.toml";
const UPDATE: &str = "cargo xtask tidy --ratchet";
const HEAD: &str = "\
# How many places of a file may still break a rule of `cargo xtask tidy`. Counts only shrink.
# Written by `cargo xtask tidy --ratchet`; rules without a table here hold everywhere.
";

/// Counts by rule and file. Files without findings are not listed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Ratchet {
    counts: BTreeMap<String, BTreeMap<String, usize>>,
}

impl Ratchet {
    /// The counts of what was found.
    pub(super) fn of(findings: &Findings) -> Self {
        let mut counts: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for (rule, found) in findings {
            for finding in found {
                let files = counts.entry((*rule).to_owned()).or_default();
                *files.entry(finding.file.clone()).or_default() += 1;
            }
        }
        Self { counts }
    }

    /// What the file allows. Nothing, if there is none.
    pub(super) fn load() -> Result<Self> {
        let path = root().join(FILE);
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {FILE}"))?;
        Self::parse(&text)
    }

    fn parse(text: &str) -> Result<Self> {
        let counts = toml::from_str(text).with_context(|| format!("{FILE} is not understood"))?;
        Ok(Self { counts })
    }

    fn text(&self) -> String {
        let mut text = HEAD.to_owned();
        for (rule, files) in self.counts.iter().filter(|(_, files)| !files.is_empty()) {
            let _ = writeln!(text, "\n[{rule}]");
            for (file, count) in files {
                let _ = writeln!(text, "\"{file}\" = {count}");
            }
        }
        text
    }

    /// Writes these counts, unless a rule that is in `old` would get more. A rule may move places
    /// from file to file: that is what happens when a file is renamed or split.
    pub(super) fn save_over(&self, old: &Self) -> Result<()> {
        let grown: Vec<_> = self.grown(old);
        if !grown.is_empty() {
            bail!(
                "{} would grow: mend the new places (`cargo xtask tidy` lists them), or raise \
                 the count in {FILE} by hand and give the reason in the commit",
                grown.join(", ")
            );
        }
        std::fs::write(root().join(FILE), self.text())
            .with_context(|| format!("cannot write {FILE}"))
    }

    fn grown(&self, old: &Self) -> Vec<String> {
        let new_file = old.counts.is_empty();
        self.counts
            .keys()
            .filter(|rule| !new_file && self.total_of(rule) > old.total_of(rule))
            .map(|rule| format!("{rule} ({} to {})", old.total_of(rule), self.total_of(rule)))
            .collect()
    }

    fn total_of(&self, rule: &str) -> usize {
        self.counts.get(rule).map_or(0, |files| files.values().sum())
    }

    /// All places of all rules.
    pub(super) fn total(&self) -> usize {
        self.counts.keys().map(|rule| self.total_of(rule)).sum()
    }

    fn count(&self, rule: &str, file: &str) -> usize {
        self.counts.get(rule).and_then(|files| files.get(file)).copied().unwrap_or(0)
    }

    /// What is wrong: files with more findings than allowed (all their findings are listed), and
    /// files with fewer.
    pub(super) fn compare(&self, findings: &Findings) -> Vec<String> {
        let today = Self::of(findings);
        let mut problems = Vec::new();
        for (rule, found) in findings {
            let over = |finding: &&Finding| {
                today.count(rule, &finding.file) > self.count(rule, &finding.file)
            };
            for Finding { file, line, problem } in found.iter().filter(over) {
                problems.push(format!("{rule}: {file}:{line}: {problem}"));
            }
        }
        for (rule, files) in &self.counts {
            for (file, allowed) in files {
                let now = today.count(rule, file);
                if now < *allowed {
                    problems.push(format!(
                        "{rule}: {file}: {now} places, {FILE} still allows {allowed}: run \
                         `{UPDATE}`"
                    ));
                }
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(file: &str, count: usize) -> Findings {
        let finding = |line| Finding::new(file, line, "too long");
        Findings::from([("width", (1..=count).map(finding).collect())])
    }

    #[test]
    fn a_count_may_neither_grow_nor_shrink_in_silence() {
        let allowed = Ratchet::of(&findings("a.rs", 2));
        assert_eq!(allowed.compare(&findings("a.rs", 2)), Vec::<String>::new());
        let more = allowed.compare(&findings("a.rs", 3));
        assert_eq!(more.len(), 3, "all places of the file are listed: {more:?}");
        let fewer = allowed.compare(&findings("a.rs", 1));
        assert!(fewer.len() == 1 && fewer[0].contains(UPDATE), "{fewer:?}");
        assert_eq!(allowed.compare(&findings("b.rs", 1)).len(), 2, "a new file has no allowance");
    }

    #[test]
    fn an_update_may_move_places_but_not_add_any() {
        let old = Ratchet::of(&findings("a.rs", 2));
        assert!(Ratchet::of(&findings("b.rs", 2)).grown(&old).is_empty());
        assert_eq!(Ratchet::of(&findings("a.rs", 3)).grown(&old), ["width (2 to 3)"]);
        assert!(Ratchet::of(&findings("a.rs", 3)).grown(&Ratchet::default()).is_empty());
    }

    #[test]
    fn the_file_reads_back_as_it_was_written() {
        let ratchet = Ratchet::of(&findings("crates/a/src/b.rs", 4));
        assert_eq!(Ratchet::parse(&ratchet.text()).expect("it was just written"), ratchet);
    }
}
