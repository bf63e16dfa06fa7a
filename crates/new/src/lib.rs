//! `rekindle new`: a crate with a small game that runs at once, made from one of three templates.
//!
//! The templates are crates of this workspace (`games/template-*`), compiled and tested like all
//! others; here their sources are embedded, and their name is replaced by the new one. It asks no
//! node and no store, and depends on none: whoever begins a game compiles this crate alone. The
//! command line of the node calls it as well (`src/cli/new.rs`).

mod name;

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use name::Name;

/// What is to be made.
#[derive(Debug, Clone, Args)]
pub struct NewArgs {
    /// What the game is called: `a-z`, `0-9` and `-`.
    pub name: String,
    /// What it begins with.
    #[arg(long, value_enum, default_value_t = Template::Arena)]
    pub template: Template,
    /// Where the crate goes [default: a directory of the game's name].
    #[arg(long, value_name = "DIR")]
    pub path: Option<PathBuf>,
    /// Where the crate finds Rekindle: a checkout, or the URL of a git repository [default: the
    /// checkout from which this executable was built].
    #[arg(long, value_name = "DIR|URL")]
    pub rekindle: Option<String>,
}

/// With what a new game begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Template {
    /// Movement in real time, by inputs.
    Arena,
    /// Moves in turn, by commands, with timeouts.
    Turns,
    /// Hundreds of units, orders by command.
    Strategy,
}

/// Why no crate was made.
#[derive(Debug)]
pub enum Problem {
    /// What was asked for cannot be made.
    Refused(String),
    /// The system refused something about a file.
    File {
        /// What was tried: `create`, `write`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
}

impl Problem {
    /// The exit code of a program that ends with it, as `rekindle --help` lists them.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 2,
            Self::File { .. } => 1,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::File { doing, path, error } => {
                write!(f, "RK-NEW-006: cannot {doing} {}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for Problem {}

/// The crate that was made.
#[derive(Debug)]
pub struct Made {
    /// The name of the game and of the crate.
    pub name: String,
    /// What it began with.
    pub template: Template,
    /// Where it is.
    pub dir: PathBuf,
    /// Its files, by their paths in it.
    pub files: Vec<&'static str>,
}

/// A checkout of Rekindle has these two.
const CHECKOUT: [&str; 2] = ["src/Cargo.toml", "crates/sim/Cargo.toml"];

/// What clippy refuses in a game because it would make it differ from run to run.
const CLIPPY: &str = include_str!("../../../games/clippy.toml");

/// How rustfmt is to lay out a game: the sources of the templates are laid out so.
const RUSTFMT: &str = include_str!("../../../rustfmt.toml");

/// The files of a template: where they lie in the new crate, and what is in them.
type Files = [(&'static str, &'static str); 5];

macro_rules! files {
    ($name:literal) => {
        [
            files!($name, "README.md"),
            files!($name, "src/lib.rs"),
            files!($name, "src/main.rs"),
            files!($name, "tests/failover.rs"),
            files!($name, "tests/replay.rs"),
        ]
    };
    ($name:literal, $file:literal) => {
        ($file, include_str!(concat!("../../../games/template-", $name, "/", $file)))
    };
}

impl Template {
    /// As it is named on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Arena => "arena",
            Self::Turns => "turns",
            Self::Strategy => "strategy",
        }
    }

    fn files(self) -> Files {
        match self {
            Self::Arena => files!("arena"),
            Self::Turns => files!("turns"),
            Self::Strategy => files!("strategy"),
        }
    }
}

/// Where the new crate finds Rekindle.
enum Source {
    /// A checkout.
    Checkout(PathBuf),
    /// A git repository.
    Git(String),
}

impl Source {
    /// What was named, else the checkout from which this executable was built.
    fn find(named: Option<&str>) -> Result<Self, String> {
        let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
        match (named, built_from) {
            (Some(url), _) if url.contains("://") || url.starts_with("git@") => {
                Ok(Self::Git(url.to_owned()))
            }
            (Some(dir), _) => Self::checkout(Path::new(dir)).ok_or_else(|| {
                format!(
                    "RK-NEW-003: {dir} is no checkout of Rekindle: it has no {}; name one with \
                     --rekindle DIR, or a repository with --rekindle https://...",
                    CHECKOUT.join(" or no ")
                )
            }),
            (None, built_from) => built_from.and_then(Self::checkout).ok_or_else(|| {
                "RK-NEW-004: the checkout from which this executable was built is gone: name one \
                 with --rekindle DIR, or a repository with --rekindle https://..."
                    .to_owned()
            }),
        }
    }

    fn checkout(dir: &Path) -> Option<Self> {
        let dir = dir.canonicalize().ok()?;
        CHECKOUT.iter().all(|file| dir.join(file).is_file()).then_some(Self::Checkout(dir))
    }

    /// How a manifest names a crate of Rekindle that lies in this folder of it.
    fn dependency(&self, folder: &str) -> String {
        let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
        match self {
            Self::Checkout(dir) => {
                format!("{{ path = {} }}", text(&dir.join(folder).to_string_lossy()))
            }
            Self::Git(url) => format!("{{ git = {} }}", text(url)),
        }
    }

    /// The versions of all dependencies with which Rekindle was tested, if they are at hand.
    fn lock(&self) -> Option<Vec<u8>> {
        match self {
            Self::Checkout(dir) => fs::read(dir.join("Cargo.lock")).ok(),
            Self::Git(_) => None,
        }
    }
}

/// Makes the crate.
///
/// # Errors
///
/// What cannot be the name of a game, is no checkout of Rekindle, or is no free directory; what the
/// system refuses.
pub fn make(args: &NewArgs) -> Result<Made, Problem> {
    let name = Name::new(&args.name).map_err(Problem::Refused)?;
    let source = Source::find(args.rekindle.as_deref()).map_err(Problem::Refused)?;
    let files = crate_of(&name, args.template, &source).map_err(Problem::Refused)?;
    let dir = args.path.clone().unwrap_or_else(|| PathBuf::from(name.kebab()));
    if !is_free(&dir) {
        return Err(Problem::Refused(format!(
            "RK-NEW-005: {} exists already; name another directory with --path DIR",
            dir.display()
        )));
    }
    for (file, text) in &files {
        write(&dir.join(file), text)?;
    }
    let files = files.iter().map(|(file, _)| *file).collect();
    Ok(Made { name: name.kebab().to_owned(), template: args.template, dir, files })
}

impl Made {
    /// What to do next, in lines.
    pub fn words(&self) -> Vec<String> {
        let Self { name, template, dir, .. } = self;
        let dir = dir.display();
        [
            format!("{name}, a game made from the template `{}`, is in {dir}", template.word()),
            String::new(),
            "Try:".to_owned(),
            String::new(),
            format!("  cd {dir}"),
            "  cargo test               its rules, its replay, and a node that is killed"
                .to_owned(),
            "  cargo run                a node with a match and bots in it".to_owned(),
            "  cargo run -- watch       the match, live, in another terminal".to_owned(),
            "  cargo run -- demo        SIGKILL in the middle of it, and the verdict".to_owned(),
            String::new(),
            "The game is in src/lib.rs. The first build takes some minutes: it compiles the node."
                .to_owned(),
        ]
        .into()
    }
}

/// All files of the new crate, by their paths in it.
fn crate_of(
    name: &Name,
    template: Template,
    source: &Source,
) -> Result<Vec<(&'static str, Vec<u8>)>, String> {
    let files = template.files();
    let pascal = name.pascal();
    let is_it = |line: &str| line.split(|c: char| !c.is_alphanumeric()).any(|word| word == pascal);
    let code =
        |text: &'static str| text.lines().filter(|line| !line.trim_start().starts_with("//"));
    if files.iter().any(|(file, text)| *file != "README.md" && code(text).any(is_it)) {
        let why = format!("the template `{}` has something called `{pascal}`", template.word());
        return Err(name.taken(&why));
    }
    let renamed = files.map(|(file, text)| (file, rename(text, template, name).into_bytes()));
    let mut all = vec![
        ("Cargo.toml", manifest(name, source).into_bytes()),
        ("clippy.toml", CLIPPY.as_bytes().to_vec()),
        ("rustfmt.toml", RUSTFMT.as_bytes().to_vec()),
        (".gitignore", b"/target\n/rekindle-data\n".to_vec()),
    ];
    all.extend(source.lock().map(|lock| ("Cargo.lock", lock)));
    all.extend(renamed);
    Ok(all)
}

/// The text with the new name in place of the template's.
fn rename(text: &str, template: Template, name: &Name) -> String {
    let known = Name::new(&format!("template-{}", template.word()));
    let known = known.unwrap_or_else(|_| unreachable!("names of templates are names"));
    let renamed = text
        .replace(known.kebab(), name.kebab())
        .replace(&known.snake(), &name.snake())
        .replace(&known.pascal(), &name.pascal());
    let uses = format!("use {}::{{", name.snake());
    let lines = renamed.split_inclusive('\n').map(|line| {
        let names = line.strip_prefix(&uses).and_then(|rest| rest.strip_suffix("};\n"));
        names.map_or_else(|| line.to_owned(), |names| format!("{uses}{}}};\n", in_order(names)))
    });
    lines.collect()
}

/// Names of types in the order in which rustfmt has them: the new one stands elsewhere.
fn in_order(names: &str) -> String {
    let mut names: Vec<&str> = names.split(", ").collect();
    names.sort_unstable();
    names.join(", ")
}

/// The manifest. Its profile is what makes tests that play thousands of ticks take seconds.
fn manifest(name: &Name, source: &Source) -> String {
    format!(
        r#"[package]
name = "{}"
version = "0.1.0"
edition = "2024"
rust-version = "{}"
publish = false

[dependencies]
rekindle = {}
rekindle-sim = {}
serde = {{ version = "1", features = ["derive"] }}
serde_json = "1"

# A workspace of its own, wherever it lies.
[workspace]

# The simulation is optimized also where the game is not: tests play thousands of ticks.
[profile.dev]
debug = "line-tables-only"
[profile.dev.package."*"]
debug = false
[profile.dev.package.rekindle-sim]
opt-level = 2
"#,
        name.kebab(),
        env!("CARGO_PKG_RUST_VERSION"),
        source.dependency("src"),
        source.dependency("crates/sim"),
    )
}

/// Whether nothing is lost if files are written there.
fn is_free(dir: &Path) -> bool {
    match fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(_) => !dir.exists(),
    }
}

fn write(path: &Path, text: &[u8]) -> Result<(), Problem> {
    let about = |doing, path: &Path| {
        let path = path.to_owned();
        move |error| Problem::File { doing, path, error }
    };
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(about("create", dir))?;
    }
    // Whatever came there in the meantime stays.
    let mut file = File::create_new(path).map_err(about("create", path))?;
    file.write_all(text).map_err(about("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Template; 3] = [Template::Arena, Template::Turns, Template::Strategy];

    fn source() -> Source {
        Source::find(None).unwrap()
    }

    #[test]
    fn under_its_own_name_a_template_is_what_is_compiled_and_tested_here() {
        for template in ALL {
            let own = Name::new(&format!("template-{}", template.word())).unwrap();
            for (file, text) in template.files() {
                assert_eq!(rename(text, template, &own), text, "{file}");
                let dir = format!("../../games/{}", own.kebab());
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(dir).join(file);
                assert_eq!(fs::read_to_string(path).unwrap(), text, "{file}");
            }
        }
    }

    #[test]
    fn nothing_of_the_templates_name_is_left_in_a_new_crate() {
        let name = Name::new("star-wars").unwrap();
        for template in ALL {
            let files = crate_of(&name, template, &source()).unwrap();
            let of = |wanted: &str| {
                let (_, text) = files.iter().find(|(file, _)| *file == wanted).unwrap();
                String::from_utf8(text.clone()).unwrap()
            };
            let own = Name::new(&format!("template-{}", template.word())).unwrap();
            let spelt = [own.kebab(), &own.snake(), &own.pascal()];
            for (file, text) in files.iter().filter(|(file, _)| *file != "Cargo.lock") {
                let text = String::from_utf8_lossy(text);
                assert!(!spelt.iter().any(|name| text.contains(name)), "{file}: {text}");
            }
            assert!(of("src/lib.rs").contains("impl Game for StarWars {"));
            assert!(of("src/lib.rs").contains(r#"const NAME: &'static str = "star-wars";"#));
            assert!(of("src/main.rs").contains("use star_wars::StarWars;"));
            let replay = of("tests/replay.rs");
            let uses = replay.lines().find(|line| line.starts_with("use star_wars::{")).unwrap();
            let names = uses["use star_wars::{".len()..].trim_end_matches("};");
            assert!(names.split(", ").is_sorted(), "as rustfmt has them: {uses}");
            assert!(of("tests/failover.rs").contains(r#"env!("CARGO_BIN_EXE_star-wars")"#));
            assert!(toml::from_str::<toml::Table>(&of("Cargo.toml")).is_ok());
        }
    }

    #[test]
    fn a_name_that_the_template_uses_is_refused() {
        for (name, template) in [
            ("game", Template::Arena),
            ("world", Template::Turns),
            ("march", Template::Strategy),
            ("option", Template::Arena),
        ] {
            let refused = crate_of(&Name::new(name).unwrap(), template, &source()).unwrap_err();
            assert!(refused.starts_with("RK-NEW-002"), "{name}: {refused}");
        }
    }

    #[test]
    fn rekindle_comes_from_a_checkout_or_a_repository() {
        let url = "https://example.org/rekindle.git";
        let name = Name::new("star-wars").unwrap();
        let text = manifest(&name, &Source::find(Some(url)).unwrap());
        let table: toml::Table = text.parse().unwrap();
        assert_eq!(table["dependencies"]["rekindle"]["git"].as_str(), Some(url));
        let here = Source::find(Some(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))).unwrap();
        let table: toml::Table = manifest(&name, &here).parse().unwrap();
        let sim = table["dependencies"]["rekindle-sim"]["path"].as_str().unwrap();
        assert!(Path::new(sim).join("Cargo.toml").is_file(), "{sim}");
        let nowhere = Source::find(Some("/nowhere")).err().unwrap();
        assert!(nowhere.contains("RK-NEW-003") && nowhere.contains("/nowhere"), "{nowhere}");
    }
}
