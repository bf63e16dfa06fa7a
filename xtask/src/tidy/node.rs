//! Rule `node`: the node is a library that commands use. `src/node` imports neither the commands
//! (`cli`) nor what the admin API shows over HTTP.

use super::Finding;
use super::rust::Source;
use super::tree::Tree;

/// What must not stand in its code, and why.
const FORBIDDEN: [(&str, &str); 6] = [
    ("crate::cli", "the node knows no commands: return an error, `src/cli` gives it an exit code"),
    ("super::cli", "the node knows no commands: return an error, `src/cli` gives it an exit code"),
    ("crate::admin", "the node knows no HTTP types: the admin server asks it through a trait"),
    ("crate::exit", "the node knows no exit codes: return an error of its own"),
    ("rekindle_admin", "the node knows no HTTP types: the admin server asks it through a trait"),
    ("axum", "the node knows no HTTP: that is the business of the admin server"),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let node = |path: &str| path == "src/node.rs" || path.starts_with("src/node/");
    for file in tree.rust().filter(|file| node(&file.path)) {
        let source = Source::scan(&file.text);
        for (number, line) in source.code.lines().enumerate() {
            for (word, why) in FORBIDDEN.iter().filter(|(word, _)| line.contains(word)) {
                findings.push(Finding::new(&file.path, number + 1, format!("`{word}`: {why}")));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_node_must_not_import_the_commands() {
        let text = "// crate::cli is a comment\nuse crate::cli::exit::Failure;\n";
        assert_eq!(check(&Tree::of(&[("src/node/run.rs", text)])).len(), 1);
        assert_eq!(check(&Tree::of(&[("src/demo.rs", text)])).len(), 0);
    }
}
