//! Rule `paths`: a page that names a file or folder of the workspace, or links to one, names one
//! that exists. So pages follow when files move.

use super::Finding;
use super::book;
use super::tree::{File, Tree};

/// Folders at the root: a code span that begins with one of these is a path.
const TOP: [&str; 13] = [
    "actors", "cluster", "crates", "deploy", "docs", "examples", "games", "loadtest", "schema",
    "src", "tests", "xtask", ".ci",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let pages = tree.files().iter().filter(|file| file.has_ending("md"));
    pages.flat_map(|page| of_page(tree, page)).collect()
}

fn of_page(tree: &Tree, page: &File) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut in_block = false;
    for (number, line) in page.text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        if in_block {
            continue;
        }
        let spans = line.split('`').skip(1).step_by(2).filter_map(path_in_span);
        let links: Vec<_> =
            line.split("](").skip(1).filter_map(|rest| link(&page.path, rest)).collect();
        let files = links.iter().map(|(file, _)| file.clone());
        let missing = |path: &String| !tree.has(path) && !tree.has(&beside(&page.path, path));
        for path in spans.chain(files).filter(missing) {
            let problem = format!("`{path}` does not exist: name what is there now");
            findings.push(Finding::new(&page.path, number + 1, problem));
        }
        for (file, anchor) in links.iter().filter(|(_, anchor)| !anchor.is_empty()) {
            let target = tree.find(file).filter(|target| target.has_ending("md"));
            let text = target.map(|target| book::text(tree, target));
            if text.is_some_and(|text| !headings(&text).any(|own| own == *anchor)) {
                let problem = format!("`{file}` has no heading for `#{anchor}`");
                findings.push(Finding::new(&page.path, number + 1, problem));
            }
        }
    }
    findings
}

/// The anchors of a page's headings, as GitHub makes them.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let titles = text.lines().filter(|line| line.starts_with('#'));
    titles.map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// The path that a code span names, if it names one: `actors/src/lib.rs::a_test` without the test.
fn path_in_span(span: &str) -> Option<String> {
    let path = span.split("::").next().unwrap_or_default().trim_end_matches('/');
    let (top, _) = path.split_once('/')?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    (TOP.contains(&top) && path.chars().all(plain)).then(|| path.to_owned())
}

/// A path as the page of one crate means it: from the folder of the page on.
fn beside(page: &str, path: &str) -> String {
    page.rsplit_once('/').map_or_else(|| path.to_owned(), |(folder, _)| format!("{folder}/{path}"))
}

/// The file that a link leads to, if it leads to one of this workspace, and the anchor behind it.
fn link(page: &str, rest: &str) -> Option<(String, String)> {
    let target = rest.split(')').next()?;
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    if file.contains(':') || target.is_empty() {
        return None;
    }
    if file.is_empty() {
        return Some((page.to_owned(), anchor.to_owned()));
    }
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in file.split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            part => parts.push(part),
        }
    }
    Some((parts.join("/"), anchor.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(text: &str) -> Vec<String> {
        let files = [
            ("docs/A.md", text),
            ("docs/src/beside.rs", ""),
            ("src/node/run.rs", ""),
            ("README.md", ""),
        ];
        check(&Tree::of(&files)).into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn paths_that_are_gone_are_found() {
        assert_eq!(missing("see `src/node/run.rs::a_test`, `src/node/`, `a/b`, `src`").len(), 0);
        assert_eq!(missing("from its own folder: `src/beside.rs`").len(), 0);
        let found = missing("see `src/node/gone.rs`");
        assert_eq!(found, ["`src/node/gone.rs` does not exist: name what is there now"]);
        assert_eq!(missing("```\n`src/gone.rs`\n```\n").len(), 0, "blocks are examples");
    }

    #[test]
    fn links_that_lead_nowhere_are_found() {
        let text = "## The `x` of a/b\n[a](A.md#the-x-of-ab) [b](../README.md) [d](https://x)";
        assert_eq!(missing(text).len(), 0);
        assert_eq!(missing("[a](#gone)"), ["`docs/A.md` has no heading for `#gone`"]);
        assert_eq!(missing("[a](GONE.md) [b](README.md)").len(), 2);
    }
}
