//! `docs/book` keeps up with the code: its examples are compiled, and its table of attributes has
//! what the derives take.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// What stands in a text between each `start` and the next `end`.
fn between<'t>(text: &'t str, start: &'t str, end: char) -> impl Iterator<Item = &'t str> {
    text.split(start).skip(1).filter_map(move |rest| rest.split(end).next())
}

/// The first words of the first cells of a table's rows, without `#[net]` as a whole.
fn rows(page: &str) -> BTreeSet<&str> {
    let names = page.lines().filter_map(|line| line.strip_prefix("| `"));
    names.filter_map(|cell| cell.split(|c: char| !c.is_alphanumeric() && c != '_').next()).collect()
}

/// The pages of the book in front of those about everything else, as paths in `docs`. Of a page
/// that includes another one this is the other one. The ten steps are left out: their sources are
/// those of the templates, which `tests/it/new.rs` of the workspace compares.
fn chapters() -> BTreeSet<String> {
    let contents = read("docs/book/src/SUMMARY.md");
    let (contents, _) = contents.split_once("# Pages about everything else").unwrap();
    let pages = between(contents, "](", ')').filter(|page| *page != "GAMES.md");
    let path = |page: &str| {
        let text = read(&format!("docs/book/src/{page}"));
        let included = between(&text, "{{#include ../../", '}').next();
        included.map_or_else(|| format!("book/src/{page}"), str::to_owned)
    };
    pages.map(path).collect()
}

#[test]
fn every_page_with_examples_is_a_doc_test() {
    let compiled = read("crates/sim/src/book.rs");
    let (_, listed) = compiled.split_once("pages! {\n").unwrap();
    let listed: BTreeSet<&str> = between(listed, ": \"", '"').collect();
    let chapters = chapters();
    let texts = chapters.iter().map(|page| (page.as_str(), read(&format!("docs/{page}"))));
    let texts: Vec<_> = texts.filter(|(_, text)| text.contains("```rust")).collect();
    let found: BTreeSet<&str> = texts.iter().map(|(page, _)| *page).collect();
    assert!(found.len() >= 13, "the pages were not found: {found:?}");
    assert_eq!(listed, found, "`crates/sim/src/book.rs` lists the pages with examples in Rust");
    for (page, text) in &texts {
        assert!(!text.contains("```rust,"), "{page}: an example is left out of the tests");
    }
}

#[test]
fn the_page_of_derives_has_every_attribute_that_they_take() {
    let page = read("docs/book/src/derives.md");
    let source = read("crates/derive/src/attributes.rs");
    // `path` is how the attributes themselves are told apart: `#[net]`, `#[value]`.
    let keys: BTreeSet<&str> = between(&source, "meta.path.is_ident(\"", '"').collect();
    assert!(keys.len() >= 17, "the keys were not found in crates/derive: {keys:?}");
    assert_eq!(
        source.matches("meta.path").count(),
        source.matches("meta.path.is_ident(\"").count(),
        "a key is read in a way that this test does not know: mend the test"
    );
    let named = rows(&page);
    let missing: Vec<_> = keys.difference(&named).collect();
    assert!(missing.is_empty(), "docs/book/src/derives.md has no row for {missing:?}");

    let lib = read("crates/derive/src/lib.rs");
    let derives: BTreeSet<&str> = between(&lib, "proc_macro_derive(", ')')
        .filter_map(|rest| rest.split(',').next())
        .collect();
    assert!(derives.len() >= 5, "the derives were not found: {derives:?}");
    let missing: Vec<_> = derives.difference(&named).collect();
    assert!(missing.is_empty(), "docs/book/src/derives.md has no row for {missing:?}");
    let known: BTreeSet<&str> = keys.union(&derives).copied().collect();
    let gone: Vec<_> = named.difference(&known).filter(|name| !name.is_empty()).collect();
    assert!(gone.is_empty(), "docs/book/src/derives.md names {gone:?}, which no derive takes");

    for attribute in between(&lib, "attributes(", ')').flat_map(|list| list.split(", ")) {
        assert!(page.contains(&format!("`#[{attribute}(...)]`")), "no table for `{attribute}`");
    }
    let (_, relation) = source.split_once("match text.value().as_str() {").unwrap();
    let (relation, _) = relation.split_once("_ =>").unwrap();
    for policy in between(relation, "            \"", '"') {
        let row = format!("| `relation = \"{policy}\"` |");
        assert!(page.contains(&row), "docs/book/src/derives.md has no row `{row}`");
    }
}
