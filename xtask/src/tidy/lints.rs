//! Rule `lints`: the workspace allows at most 12 of clippy's pedantic lints, each with its reason
//! in the comment above it.

use super::Finding;
use super::tree::Tree;

const MOST: usize = 12;
const FILE: &str = "Cargo.toml";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let Some(manifest) = tree.find(FILE) else {
        return vec![Finding::new(FILE, 0, "is missing")];
    };
    let mut findings = Vec::new();
    let mut allowed = 0;
    let mut in_lints = false;
    let mut before = "";
    for (number, line) in manifest.text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            in_lints = line.starts_with("[workspace.lints");
        } else if in_lints && line.contains("\"allow\"") {
            allowed += 1;
            if !before.starts_with('#') {
                let problem = format!("`{line}` needs its reason as a comment above it");
                findings.push(Finding::new(FILE, number + 1, problem));
            }
            if allowed > MOST {
                let problem = format!("`{line}` is allowed lint {allowed}, at most {MOST} are");
                findings.push(Finding::new(FILE, number + 1, problem));
            }
        }
        before = line;
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(lints: &str) -> Vec<usize> {
        let text = format!("[workspace.lints.clippy]\n{lints}[package]\nx = \"allow\"\n");
        check(&Tree::of(&[(FILE, &text)])).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn an_allowed_lint_needs_a_reason() {
        assert_eq!(found("# Because.\na = \"allow\"\n"), Vec::<usize>::new());
        assert_eq!(found("# Because.\na = \"allow\"\nb = \"allow\"\n"), [4]);
    }

    #[test]
    fn thirteen_are_too_many() {
        assert_eq!(found(&"# Because.\na = \"allow\"\n".repeat(12)), Vec::<usize>::new());
        assert_eq!(found(&"# Because.\na = \"allow\"\n".repeat(13)), [27]);
    }
}
