//! Rule `modules`: a module with children is `foo.rs` beside the folder `foo/`, never `foo/mod.rs`.
//! Folders that tests share (`tests/support/mod.rs`) are free: cargo would take `tests/support.rs`
//! for a test of its own.

use super::Finding;
use super::tree::Tree;

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    tree.rust()
        .filter(|file| file.path.ends_with("/mod.rs"))
        .filter(|file| !file.path.starts_with("tests/") && !file.path.contains("/tests/"))
        .map(|file| {
            let folder = file.path.trim_end_matches("/mod.rs");
            Finding::new(&file.path, 0, format!("move it to {folder}.rs"))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mod_rs_is_found_in_sources_only() {
        let tree =
            Tree::of(&[("src/a/mod.rs", ""), ("src/b.rs", ""), ("crates/x/tests/s/mod.rs", "")]);
        let found = check(&tree);
        assert_eq!(found, [Finding::new("src/a/mod.rs", 0, "move it to src/a.rs")]);
    }
}
