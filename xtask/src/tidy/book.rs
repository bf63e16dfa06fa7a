//! Rule `book`: the pages of `docs/book` make a whole. Each is in the table of contents, what one
//! includes exists, and a link from one leads to another, so that none is dead in the book as a
//! web site. That the other end of a link exists is the business of [`paths`](super::paths).

use std::path::Path;

use super::Finding;
use super::tree::{File, Tree};

/// The folder of the pages.
const PAGES: &str = "docs/book/src/";
/// The table of contents.
const CONTENTS: &str = "docs/book/src/SUMMARY.md";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(contents) = tree.find(CONTENTS) else {
        return Vec::new();
    };
    let listed: Vec<&str> = links(&contents.text).collect();
    let own = |file: &&File| file.path.starts_with(PAGES) && file.has_ending("md");
    let mut findings = Vec::new();
    for page in tree.files().iter().filter(own) {
        let name = &page.path[PAGES.len()..];
        if page.path != CONTENTS && !listed.contains(&name) {
            let problem = format!("`{CONTENTS}` does not name it: no reader of the book finds it");
            findings.push(Finding::new(&page.path, 0, problem));
        }
        let same = |other: &File| other.path.eq_ignore_ascii_case(&page.path);
        if tree.files().iter().any(|other| other.path > page.path && same(other)) {
            let problem = "another page has the same name in other letters: some disks keep one";
            findings.push(Finding::new(&page.path, 0, problem));
        }
        for path in page.text.lines().filter_map(|line| included(page, line)) {
            if tree.find(&path).is_none() {
                let problem = format!("it includes `{path}`, which does not exist");
                findings.push(Finding::new(&page.path, 0, problem));
            }
        }
        for target in links(&text(tree, page)) {
            if !tree.has(&format!("{PAGES}{target}")) {
                let problem = format!(
                    "it links to `{target}`, which is no page of the book: make it one (a line \
                     that includes it), or name the file without a link"
                );
                findings.push(Finding::new(&page.path, 0, problem));
            }
        }
    }
    findings
}

/// The text of a page with what it includes. Pages outside of the book include nothing.
pub(super) fn text(tree: &Tree, page: &File) -> String {
    let mut whole = String::new();
    for line in page.text.lines() {
        let other = included(page, line).and_then(|path| tree.find(&path));
        whole.push_str(other.map_or(line, |other| &other.text));
        whole.push('\n');
    }
    whole
}

/// The file that a line of a page of the book stands for, if it is `{{#include PATH}}`.
fn included(page: &File, line: &str) -> Option<String> {
    let path = line.trim().strip_prefix("{{#include ")?.strip_suffix("}}")?;
    let mut parts: Vec<&str> = page.path.split('/').collect();
    parts.pop();
    for part in path.trim().split('/') {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    page.path.starts_with(PAGES).then(|| parts.join("/"))
}

/// The pages that a text links to, without anchors. Links to the web, within the page, and to files
/// that are no pages are left out.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
    let files = targets.map(|target| target.split('#').next().unwrap_or_default());
    let is_page = |file: &&str| Path::new(file).extension().is_some_and(|ending| ending == "md");
    files.filter(is_page).filter(|file| !file.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(files: &[(&str, &str)]) -> Vec<String> {
        check(&Tree::of(files)).into_iter().map(|finding| finding.problem).collect()
    }

    #[test]
    fn a_whole_book_passes() {
        let files = [
            ("docs/G.md", "# G\n[h](H.md#x) [code](../games/a.rs) [w](https://w.org/a.md)\n"),
            ("docs/H.md", "## x\n"),
            (CONTENTS, "[G](G.md)\n[H](H.md)\n[own](own.md)\n"),
            ("docs/book/src/G.md", "{{#include ../../G.md}}\n"),
            ("docs/book/src/H.md", "{{#include ../../H.md}}\n"),
            ("docs/book/src/own.md", "[G](G.md)\n"),
        ];
        assert_eq!(problems(&files), Vec::<String>::new());
        let tree = Tree::of(&files);
        let page = tree.find("docs/book/src/H.md").unwrap();
        assert_eq!(text(&tree, page), "## x\n\n", "the included text stands in its place");
    }

    #[test]
    fn pages_that_nobody_finds_and_dead_links_are_found() {
        let found = problems(&[
            ("docs/G.md", "[h](H.md)\n"),
            ("docs/H.md", ""),
            (CONTENTS, "[G](G.md) [g](g.md)\n"),
            ("docs/book/src/G.md", "{{#include ../../G.md}}\n"),
            ("docs/book/src/g.md", ""),
            ("docs/book/src/lost.md", "{{#include ../../GONE.md}}\n[H](../../H.md)\n"),
        ]);
        let has = |words: &str| found.iter().filter(|problem| problem.contains(words)).count();
        assert_eq!(has("links to `H.md`"), 1, "{found:?}");
        assert_eq!(has("does not name it"), 1, "{found:?}");
        assert_eq!(has("includes `docs/GONE.md`"), 1, "{found:?}");
        assert_eq!(has("links to `../../H.md`"), 1, "{found:?}: dead in the book as a web site");
        assert_eq!(has("in other letters"), 1, "{found:?}");
        assert_eq!(found.len(), 5);
    }
}
