//! Builds this executable again when its sources change, for `rekindle dev --watch`.
//!
//! Sources are looked at, not listened to: their times and sizes are read twice a second, which
//! works on every file system, and costs little for the crates of one workspace. Cargo says which
//! crates those are.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use rekindle_schema::BuildId;
use rekindle_sim::simulation::build_id;
use serde::Deserialize;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::exit::{Exit, Failure};
use crate::files::About as _;
use crate::output;

/// How often sources are looked at.
const SCAN: Duration = Duration::from_millis(500);
/// Folders that have no sources, besides those whose names begin with a dot.
const PASSED_OVER: [&str; 3] = ["target", "rekindle-data", "node_modules"];

/// When a file was written last, and how long it is, by its path.
type Sources = BTreeMap<PathBuf, (SystemTime, u64)>;

/// The workspace that this executable was built from, and how to build it again.
pub(super) struct Rebuild {
    /// What is built and started.
    pub(super) executable: PathBuf,
    /// The build that nodes run now.
    running: BuildId,
    /// Where cargo is called.
    dir: PathBuf,
    /// Arguments of `cargo build`.
    args: Vec<String>,
    /// The folders of the workspace's crates.
    crates: Vec<PathBuf>,
    /// The sources of the build that runs, or that is being made.
    built: Sources,
    /// They as they were at the last look.
    seen: Sources,
    next_look: Instant,
    building: Option<(Child, Instant)>,
}

/// What `cargo metadata` says, as far as it is needed.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    manifest_path: PathBuf,
}

/// A new build: what it is, and what it replaces.
pub(super) struct Built {
    pub(super) from: BuildId,
    pub(super) to: BuildId,
    pub(super) took: Duration,
}

impl Rebuild {
    /// Of the executable that runs, which must lie where cargo built it. Called before anything
    /// changes.
    pub(super) async fn of(executable: PathBuf) -> Result<Self, Failure> {
        let dir = match std::env::var_os("CARGO_MANIFEST_DIR") {
            Some(dir) => PathBuf::from(dir),
            None => std::env::current_dir()?,
        };
        let wrong = |why: &str| {
            let message = format!(
                "RK-CLI-260: {} cannot be built again: {why}; run it in its crate, with `cargo run \
                 -- dev --watch`",
                executable.display()
            );
            Failure::new(Exit::Usage, message)
        };
        let args = build_args(&executable)
            .ok_or_else(|| wrong("it does not lie in a target folder of cargo"))?;
        if !dir.join("Cargo.toml").is_file() {
            return Err(wrong(&format!("{} has no Cargo.toml", dir.display())));
        }
        let asked = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(&dir)
            .stderr(Stdio::inherit())
            .output()
            .await
            .about("run", Path::new("cargo metadata"))?;
        let told: Metadata = serde_json::from_slice(&asked.stdout)
            .map_err(|error| wrong(&format!("`cargo metadata` does not say how: {error}")))?;
        let folders = told.packages.iter().filter_map(|package| package.manifest_path.parent());
        let crates: Vec<PathBuf> = folders.map(Path::to_owned).collect();
        let built = scan(&crates);
        let seen = built.clone();
        let running = build_of(&executable)?;
        let (next_look, building) = (Instant::now() + SCAN, None);
        Ok(Self { executable, running, dir, args, crates, built, seen, next_look, building })
    }

    /// How many files are looked at.
    pub(super) fn files(&self) -> usize {
        self.seen.len()
    }

    /// Looks at sources, and at the build if one is being made. Called again and again; says when
    /// there is a new executable.
    pub(super) fn look(&mut self) -> Result<Option<Built>, Failure> {
        if let Some((child, begun)) = &mut self.building {
            let Some(status) = child.try_wait()? else { return Ok(None) };
            let took = begun.elapsed();
            self.building = None;
            if !status.success() {
                output::milestone("dev | not built: the nodes run on with the build before");
                return Ok(None);
            }
            let (from, to) = (self.running, build_of(&self.executable)?);
            if from == to {
                output::milestone("dev | the executable is the same: nothing to start again");
                return Ok(None);
            }
            self.running = to;
            return Ok(Some(Built { from, to, took }));
        }
        if Instant::now() < self.next_look {
            return Ok(None);
        }
        self.next_look = Instant::now() + SCAN;
        let now = scan(&self.crates);
        // An editor may be in the middle of writing: it is built what has come to rest.
        let at_rest = now == self.seen;
        self.seen = now;
        if at_rest && self.seen != self.built {
            output::milestone(&format!("dev | {} changed: building", self.changed()));
            self.built.clone_from(&self.seen);
            let child = Command::new(cargo())
                .args(&self.args)
                .current_dir(&self.dir)
                .stdin(Stdio::null())
                .kill_on_drop(true)
                .spawn()
                .about("run", Path::new("cargo build"))?;
            self.building = Some((child, Instant::now()));
        }
        Ok(None)
    }

    /// One of the files that are other than in the last build, for people.
    fn changed(&self) -> String {
        let is_other = |path: &&PathBuf| self.built.get(*path) != self.seen.get(*path);
        let path = self.seen.keys().chain(self.built.keys()).find(is_other);
        let path = path.map(|path| path.strip_prefix(&self.dir).unwrap_or(path));
        path.map_or_else(String::new, |path| path.display().to_string())
    }
}

/// The cargo that runs this process, if one does.
fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

/// How `cargo build` makes the executable where it lies: TARGET/debug/NAME, TARGET/PROFILE/NAME or
/// TARGET/TRIPLE/PROFILE/NAME. `None` if no cargo has made it there.
fn build_args(executable: &Path) -> Option<Vec<String>> {
    let text = |part: Option<&std::ffi::OsStr>| Some(part?.to_str()?.to_owned());
    let bin = text(executable.file_name())?;
    let profile_dir = executable.parent()?;
    let profile = match &text(profile_dir.file_name())?[..] {
        "debug" => "dev".to_owned(),
        other => other.to_owned(),
    };
    let above = profile_dir.parent()?;
    let is_target = |dir: &Path| dir.join("CACHEDIR.TAG").is_file();
    let (target_dir, triple) = if is_target(above) {
        (above, None)
    } else {
        (above.parent().filter(|dir| is_target(dir))?, text(above.file_name()))
    };
    let mut args = vec!["build".to_owned(), "--bin".to_owned(), bin];
    args.extend(["--profile".to_owned(), profile]);
    args.extend(["--target-dir".to_owned(), target_dir.to_str()?.to_owned()]);
    args.extend(triple.into_iter().flat_map(|triple| ["--target".to_owned(), triple]));
    Some(args)
}

fn build_of(executable: &Path) -> Result<BuildId, Failure> {
    Ok(File::open(executable).and_then(build_id).about("read", executable)?)
}

/// All sources and manifests in these folders. What cannot be read is passed over: it is about to
/// be another.
fn scan(folders: &[PathBuf]) -> Sources {
    let mut found = Sources::new();
    let mut open = folders.to_vec();
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let Ok(kind) = entry.file_type() else { continue };
            let name = name.to_string_lossy();
            if kind.is_dir() && !name.starts_with('.') && !PASSED_OVER.contains(&&*name) {
                open.push(path);
            } else if kind.is_file()
                && [".rs", ".toml", ".lock"].iter().any(|end| name.ends_with(end))
                && let Ok(meta) = entry.metadata()
                && let Ok(written) = meta.modified()
            {
                found.insert(path, (written, meta.len()));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_executable_is_built_again_where_it_lies_and_only_where_cargo_put_it() {
        let dir = tempfile::tempdir().unwrap();
        let args = |path: &str| {
            let args = build_args(&dir.path().join(path))?;
            let target = dir.path().join("target").display().to_string();
            Some(args.join(" ").replace(&target, "T"))
        };
        assert_eq!(args("target/debug/duel"), None);
        fs::create_dir(dir.path().join("target")).unwrap();
        fs::write(dir.path().join("target/CACHEDIR.TAG"), "").unwrap();
        let built = |profile: &str| format!("build --bin duel --profile {profile} --target-dir T");
        assert_eq!(args("target/debug/duel"), Some(built("dev")));
        assert_eq!(args("target/release/duel"), Some(built("release")));
        assert_eq!(args("target/x-y/small/duel"), Some(built("small") + " --target x-y"));
        assert_eq!(args("bin/duel"), None);
    }

    #[test]
    fn sources_are_seen_when_they_are_written_and_when_they_go() {
        let dir = tempfile::tempdir().unwrap();
        let folders = [dir.path().to_owned()];
        for folder in ["src/deep", "target", ".git"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
            fs::write(dir.path().join(folder).join("a.rs"), "1").unwrap();
        }
        fs::write(dir.path().join("notes.txt"), "1").unwrap();
        let first = scan(&folders);
        assert_eq!(first.keys().collect::<Vec<_>>(), [&dir.path().join("src/deep/a.rs")]);
        fs::write(dir.path().join("src/deep/a.rs"), "12").unwrap();
        assert_ne!(scan(&folders), first);
        fs::remove_file(dir.path().join("src/deep/a.rs")).unwrap();
        assert!(scan(&folders).is_empty());
    }
}
