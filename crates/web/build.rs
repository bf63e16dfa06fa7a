//! Makes the table of the page's files: `clients/typescript/dist`, as it is when this is compiled.

use std::io::Write as _;
use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../clients/typescript/dist");
    let mut files = Vec::new();
    if root.is_dir() {
        gather(&root, &mut files)?;
        again_if_changed(&root)?;
    } else {
        again_if_changed(Path::new("build.rs"))?;
    }
    let name = |file: &PathBuf| {
        file.strip_prefix(&root).unwrap_or(file).to_string_lossy().replace('\\', "/")
    };
    // By name, as it is looked up: paths are in another order.
    files.sort_by_key(name);
    let mut table = String::from("&[\n");
    for file in &files {
        let name = name(file);
        let path = file.canonicalize()?;
        let line = format!("    ({name:?}, include_bytes!({:?})),\n", path.to_string_lossy());
        table.push_str(&line);
    }
    table.push_str("]\n");
    let out = std::env::var("OUT_DIR").map_err(std::io::Error::other)?;
    std::fs::write(PathBuf::from(out).join("files.rs"), table)
}

/// Tells cargo to run this again when something below `path` changes.
fn again_if_changed(path: &Path) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "cargo::rerun-if-changed={}", path.display())
}

/// What a browser loads: declarations of types are for compilers.
fn gather(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            gather(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension != "ts") {
            files.push(path);
        }
    }
    Ok(())
}
