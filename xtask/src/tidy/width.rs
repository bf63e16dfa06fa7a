//! Rule `width`: a line has at most 100 columns; a row of a Markdown table has at most 200. A line
//! that is long only because of an address (`https://...`) is free, and in Markdown one that is a
//! single word, such as the name of a test.

use super::Finding;
use super::tree::{File, Tree};

/// What rustfmt breaks lines at, and the most that fits beside another window.
const MOST: usize = 100;
/// A row of a table cannot be broken.
const MOST_IN_TABLES: usize = 200;
/// What people write and read. Golden files and lock files are neither.
const KINDS: [&str; 6] = [".rs", ".md", ".toml", ".sh", ".yml", "ci/run"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let read = |file: &&File| KINDS.iter().any(|kind| file.path.ends_with(kind));
    tree.files().iter().filter(read).flat_map(lines).collect()
}

fn lines(file: &File) -> Vec<Finding> {
    let markdown = file.has_ending("md");
    let mut findings = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        let most = if markdown && line.starts_with('|') { MOST_IN_TABLES } else { MOST };
        let columns = line.chars().count();
        let single = markdown && line.split_whitespace().count() == 1;
        if columns > most && !single && !only_an_address(line, most) {
            let problem = format!("{columns} columns, at most {most} are allowed");
            findings.push(Finding::new(&file.path, number + 1, problem));
        }
    }
    findings
}

/// Whether the line fits without the addresses in it.
fn only_an_address(line: &str, most: usize) -> bool {
    let addresses = line.split_whitespace().filter(|word| word.contains("://"));
    line.chars().count() - addresses.map(|word| word.chars().count()).sum::<usize>() <= most
        && line.contains("://")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn broken(path: &str, line: &str) -> usize {
        check(&Tree::of(&[(path, line)])).len()
    }

    #[test]
    fn long_lines_are_found() {
        assert_eq!(broken("src/a.rs", &"x".repeat(100)), 0);
        assert_eq!(broken("src/a.rs", &"x".repeat(101)), 1);
        assert_eq!(broken("docs/A.md", &"ä ".repeat(50)), 0, "columns, not bytes");
        assert_eq!(broken("docs/A.md", &"ä ".repeat(51)), 1);
        assert_eq!(broken("docs/A.md", &"x".repeat(101)), 0, "a single word");
        assert_eq!(broken("schema/golden/a.bin", &"x".repeat(101)), 0);
    }

    #[test]
    fn tables_have_more_room_and_addresses_are_free() {
        let row = |columns: usize| format!("| {}", "x".repeat(columns - 2));
        assert_eq!(broken("docs/A.md", &row(200)), 0);
        assert_eq!(broken("docs/A.md", &row(201)), 1);
        assert_eq!(broken("docs/A.md", &format!("see https://{}", "x".repeat(200))), 0);
        assert_eq!(broken("docs/A.md", &format!("https://a {}", "x".repeat(101))), 1);
    }
}
