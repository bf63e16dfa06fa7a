//! Rule `codes`: `docs/ERRORS.md` is the registry of all error and log codes. Every code in a
//! string of a product has an entry there, every entry is used, and no code stands in two strings
//! unless its entry says why. Every code that another page names has an entry, too.
//!
//! An entry looks like this; the families are the headings over them:
//!
//! ```text
//! ### RK-STORE-001
//!
//! What happened, in one or two sentences.
//!
//! * Cause: why it happened.
//! * Next step: what to do.
//! * Repeated: why it stands in several strings (only if it does).
//! ```

use std::collections::BTreeMap;

use super::Finding;
use super::rust::Source;
use super::tree::Tree;

const REGISTRY: &str = "docs/ERRORS.md";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let entries = registry(tree, &mut findings);
    let used = used(tree, &mut findings);
    for (code, places) in &used {
        let (file, line) = &places[0];
        let Some(entry) = entries.get(code) else {
            let problem = format!("{code} has no entry in {REGISTRY}: write one");
            findings.push(Finding::new(file, *line, problem));
            continue;
        };
        if places.len() > 1 && !entry.repeated {
            let (first, at) = &places[0];
            let (file, line) = &places[1];
            let problem = format!(
                "{code} stands at {first}:{at} too: give another error another number; if it is \
                 the same one, say so in {REGISTRY} (`* Repeated: ...`)"
            );
            findings.push(Finding::new(file, *line, problem));
        }
        if places.len() == 1 && entry.repeated {
            let problem = format!("{code} stands in one string only: remove its `Repeated`");
            findings.push(Finding::new(REGISTRY, entry.line, problem));
        }
    }
    for (code, entry) in &entries {
        if !used.contains_key(code) {
            let problem = format!("{code} stands in no string of a product: remove its entry");
            findings.push(Finding::new(REGISTRY, entry.line, problem));
        }
    }
    named_in_pages(tree, &entries, &mut findings);
    findings
}

/// One entry of the registry.
struct Entry {
    /// Where its heading stands, counted from 1.
    line: usize,
    /// Whether it says why it stands in several strings.
    repeated: bool,
}

type Entries = BTreeMap<String, Entry>;

/// Reads the registry, and reports what its form lacks.
fn registry(tree: &Tree, findings: &mut Vec<Finding>) -> Entries {
    let mut entries = Entries::new();
    let Some(page) = tree.find(REGISTRY) else {
        findings.push(Finding::new(REGISTRY, 0, "is missing"));
        return entries;
    };
    let lines: Vec<&str> = page.text.lines().collect();
    let mut family = "";
    let mut last = String::new();
    for (at, line) in lines.iter().enumerate() {
        if let Some(heading) = line.strip_prefix("## ") {
            family = heading.split(':').next().unwrap_or_default();
            last.clear();
        }
        let Some(code) = line.strip_prefix("### ") else { continue };
        let mut wrong = |problem: String| {
            findings.push(Finding::new(REGISTRY, at + 1, problem));
        };
        if codes_in(code) != [code] {
            wrong(format!("`{code}` is no code: RK-FAMILY-nnn, three digits"));
            continue;
        }
        if !code.starts_with(&format!("{family}-")) {
            wrong(format!("{code} stands in the family `{family}`"));
        }
        if code <= last.as_str() {
            wrong(format!("{code} must stand before {last}"));
        }
        code.clone_into(&mut last);
        let end = lines[at + 1..].iter().position(|line| line.starts_with('#'));
        let body = &lines[at + 1..end.map_or(lines.len(), |end| at + 1 + end)];
        let has = |start: &str| body.iter().any(|line| line.starts_with(start));
        let told =
            body.iter().any(|line| line.starts_with(|c: char| c.is_alphanumeric() || c == '`'));
        if !(told && has("* Cause: ") && has("* Next step: ")) {
            wrong(format!("{code} must say what happened, `* Cause: ` and `* Next step: `"));
        }
        entries.insert(code.to_owned(), Entry { line: at + 1, repeated: has("* Repeated: ") });
    }
    entries
}

/// Where each code stands in strings of products: file and line.
fn used(tree: &Tree, findings: &mut Vec<Finding>) -> BTreeMap<String, Vec<(String, usize)>> {
    let mut used: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for file in tree.rust().filter(|file| !file.is_for_tests() && file.text.contains("RK-")) {
        let source = Source::scan(&file.text);
        let tests = source.first_line_of_tests();
        for literal in source.literals.iter().filter(|literal| literal.line < tests) {
            // Codes behind the first one are references: `see RK-GATE-123 in the log`.
            if let Some(code) = codes_in(&literal.text).first() {
                let place = (file.path.clone(), literal.line);
                used.entry((*code).to_owned()).or_default().push(place);
            } else if literal.text.starts_with("RK-") && literal.text != "RK-" {
                let problem = format!("`{}` is no code: RK-FAMILY-nnn", literal.text);
                findings.push(Finding::new(&file.path, literal.line, problem));
            }
        }
    }
    used
}

/// Pages must not name codes that are gone.
fn named_in_pages(tree: &Tree, entries: &Entries, findings: &mut Vec<Finding>) {
    let pages = tree.files().iter().filter(|file| file.has_ending("md"));
    for page in pages.filter(|page| page.path != REGISTRY) {
        for (number, line) in page.text.lines().enumerate() {
            for code in codes_in(line).into_iter().filter(|code| !entries.contains_key(*code)) {
                let problem = format!("{code} has no entry in {REGISTRY}");
                findings.push(Finding::new(&page.path, number + 1, problem));
            }
        }
    }
}

/// The codes in a text: `RK-`, a family in capitals, three digits.
fn codes_in(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("RK-") {
        let rest = &text[at + 3..];
        let family = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_uppercase()).len();
        let number = rest[family..].strip_prefix('-').unwrap_or_default();
        let digits = number.len() - number.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        if family > 0 && digits == 3 {
            found.push(&text[at..at + 3 + family + 1 + digits]);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "## RK-A: things\n\n### RK-A-001\n\nIt broke.\n\n* Cause: wear.\n\
                         * Next step: mend it.\n";

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files)).into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn a_registered_code_in_one_string_is_right() {
        let source = "/// RK-A-001 in a doc.\nlog(\"RK-A-001: it broke, see RK-A-001\");\n\
                      #[cfg(test)]\nmod t {\n\
                      assert(\"RK-A-001\")\n}\n";
        let tests = ("tests/it/a.rs", "assert(\"RK-A-001 RK-B-002\")");
        let none: [&str; 0] = [];
        assert_eq!(problems(&[(REGISTRY, ENTRY), ("src/a.rs", source), tests]), none);
    }

    #[test]
    fn unknown_unused_and_malformed_codes_are_found() {
        let found = problems(&[(REGISTRY, ENTRY), ("src/a.rs", "\"RK-A-002\"; \"RK-A-3\"")]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].contains("`RK-A-3` is no code"));
        assert!(found[1].contains("RK-A-002 has no entry"));
        assert!(found[2].contains("RK-A-001 stands in no string"));
    }

    #[test]
    fn one_code_for_two_errors_is_found() {
        let twice = ("src/a.rs", "\"RK-A-001: it broke\"; \"RK-A-001: it is gone\"");
        let found = problems(&[(REGISTRY, ENTRY), twice]);
        assert!(found.len() == 1 && found[0].contains("another number"), "{found:?}");
        let repeated = format!("{ENTRY}* Repeated: both are one error.\n");
        assert_eq!(problems(&[(REGISTRY, &repeated), twice]).len(), 0);
        let found = problems(&[(REGISTRY, &repeated), ("src/a.rs", "\"RK-A-001\"")]);
        assert!(found.len() == 1 && found[0].contains("remove its `Repeated`"), "{found:?}");
    }

    #[test]
    fn the_form_of_an_entry_is_checked() {
        let source = ("src/a.rs", "\"RK-A-001\"");
        let without = ENTRY.replace("* Next step: mend it.\n", "");
        assert_eq!(problems(&[(REGISTRY, &without), source]).len(), 1);
        let elsewhere = ENTRY.replace("## RK-A:", "## RK-B:");
        assert_eq!(problems(&[(REGISTRY, &elsewhere), source]).len(), 1);
        let order = format!("{ENTRY}\n### RK-A-000\n\nIt.\n\n* Cause: a.\n* Next step: b.\n");
        let found = problems(&[(REGISTRY, &order), ("src/a.rs", "\"RK-A-001\"; \"RK-A-000\"")]);
        assert!(found.len() == 1 && found[0].contains("must stand before"), "{found:?}");
    }

    #[test]
    fn pages_name_known_codes_only() {
        let source = ("src/a.rs", "\"RK-A-001\"");
        let found = problems(&[(REGISTRY, ENTRY), source, ("docs/B.md", "see RK-A-009")]);
        assert!(found.len() == 1 && found[0].contains("RK-A-009"), "{found:?}");
    }
}
