//! The files that the rules of `cargo xtask tidy` read: what git knows of, and what it would add.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

/// One text file of the workspace.
pub(super) struct File {
    /// Relative to the root of the workspace, with `/` between its parts.
    pub(super) path: String,
    /// The whole text.
    pub(super) text: String,
}

impl File {
    /// Whether it is a Rust source.
    pub(super) fn is_rust(&self) -> bool {
        self.has_ending("rs")
    }

    /// Whether the file's name ends in `.ending`.
    pub(super) fn has_ending(&self, ending: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|own| own == ending)
    }

    /// Whether all of it is for tests, benches or measuring, and no part of a product.
    pub(super) fn is_for_tests(&self) -> bool {
        const PLACES: [&str; 7] = [
            "tests/",
            "benches/",
            "allocations/",
            "testkit/",
            "testservers/",
            "xtask/",
            "store-conformance/",
        ];
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name == "tests.rs"
            || name.ends_with("_tests.rs")
            || self.path.contains("/conformance/")
            || PLACES.iter().any(|place| {
                self.path.starts_with(place) || self.path.contains(&format!("/{place}"))
            })
    }
}

/// The files of the workspace, sorted by path.
pub(super) struct Tree {
    files: Vec<File>,
    /// All of them, those that are no text included.
    paths: Vec<String>,
}

impl Tree {
    /// Reads the workspace that this program was built in. Files that are no UTF-8 are listed only.
    pub(super) fn of_workspace() -> Result<Self> {
        let root = root();
        let output = Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "-z"])
            .current_dir(&root)
            .output()
            .context("cannot start git")?;
        if !output.status.success() {
            bail!("git ls-files failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let listed = String::from_utf8(output.stdout).context("git named a file in no UTF-8")?;
        let (mut files, mut paths) = (Vec::new(), Vec::new());
        for path in listed.split('\0').filter(|path| !path.is_empty()) {
            let Ok(bytes) = std::fs::read(root.join(path)) else {
                // Removed, and git was not told yet.
                continue;
            };
            paths.push(path.to_owned());
            if let Ok(text) = String::from_utf8(bytes) {
                files.push(File { path: path.to_owned(), text });
            }
        }
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self { files, paths })
    }

    /// A tree made of given files, for the tests of the rules.
    #[cfg(test)]
    pub(super) fn of(files: &[(&str, &str)]) -> Self {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        };
        let paths = files.iter().map(|(path, _)| (*path).to_owned()).collect();
        Self { files: files.iter().map(file).collect(), paths }
    }

    /// The text files.
    pub(super) fn files(&self) -> &[File] {
        &self.files
    }

    /// The Rust sources.
    pub(super) fn rust(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.is_rust())
    }

    /// Whether there is a file or a folder at `path`.
    pub(super) fn has(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        self.paths.iter().any(|file| file == path || file.starts_with(&folder))
    }

    /// The file with this path.
    pub(super) fn find(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|file| file.path == path)
    }
}

/// The root of the workspace.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}
