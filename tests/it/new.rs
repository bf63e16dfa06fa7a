//! `rekindle new`: what it writes, and what it refuses. That the templates compile, play and
//! survive a kill is tested where they lie (`games/template-*`); `cargo xtask scaffold` builds what
//! is written here.

use std::fs;

use crate::support::rekindle;

/// The page that teaches with the templates' own sources.
const GAMES: &str = include_str!("../../docs/GAMES.md");

#[test]
fn each_template_becomes_a_crate_of_the_new_name() {
    let dir = tempfile::tempdir().unwrap();
    for template in ["arena", "turns", "strategy"] {
        let name = format!("my-{template}");
        let args = ["new", &name, "--template", template, "--json"];
        let made = rekindle(dir.path(), &args).expect(0).json();
        assert_eq!((&made["name"], &made["template"]), (&name[..].into(), &template.into()));
        let files = made["files"].as_array().unwrap();
        assert!(files.len() >= 7, "{made}");
        for file in files {
            let path = dir.path().join(&name).join(file.as_str().unwrap());
            let text = fs::read_to_string(&path).unwrap();
            assert!(!text.contains("template-") || path.ends_with("Cargo.lock"), "{path:?}");
        }
        let manifest = fs::read_to_string(dir.path().join(&name).join("Cargo.toml")).unwrap();
        let manifest: toml::Table = manifest.parse().unwrap();
        assert_eq!(manifest["package"]["name"].as_str(), Some(&*name));
        let sim = manifest["dependencies"]["rekindle-sim"]["path"].as_str().unwrap();
        assert!(fs::exists(format!("{sim}/Cargo.toml")).unwrap(), "{sim}");
    }
}

#[test]
fn what_cannot_be_made_is_refused_and_nothing_is_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |args: &[&str], code: &str| {
        let args: Vec<&str> = ["new"].iter().chain(args).copied().collect();
        let done = rekindle(dir.path(), &args).expect(2);
        assert!(done.stderr.contains(code), "{args:?}: {done:?}");
    };
    refused(&["My Game"], "try `my-game`");
    refused(&["match"], "RK-NEW-002");
    refused(&["world"], "RK-NEW-002");
    refused(&["mine", "--rekindle", "nowhere"], "RK-NEW-003");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing was written");
    fs::create_dir(dir.path().join("mine")).unwrap();
    fs::write(dir.path().join("mine/notes"), "keep me").unwrap();
    refused(&["mine"], "RK-NEW-005");
    refused(&["other", "--path", "mine/notes"], "RK-NEW-005");
    assert_eq!(fs::read_to_string(dir.path().join("mine/notes")).unwrap(), "keep me");
    rekindle(dir.path(), &["new", "mine", "--path", "here/there"]).expect(0);
    assert!(dir.path().join("here/there/src/lib.rs").exists());
}

#[test]
fn whatever_the_page_shows_stands_in_a_template() {
    let sources = [
        include_str!("../../games/template-arena/src/lib.rs"),
        include_str!("../../games/template-arena/src/main.rs"),
        include_str!("../../games/template-arena/tests/replay.rs"),
        include_str!("../../games/template-strategy/src/lib.rs"),
        include_str!("../../games/template-turns/src/lib.rs"),
        include_str!("../../games/template-turns/tests/replay.rs"),
    ];
    let blocks: Vec<&str> = GAMES.split("```rust\n").skip(1).collect();
    assert!(blocks.len() >= 8, "the snippets were not found");
    for block in blocks {
        let (block, _) = block.split_once("```").unwrap();
        // Methods are shown without the indentation of their `impl`.
        let indented = block.lines().map(|line| match line {
            "" => "\n".to_owned(),
            line => format!("    {line}\n"),
        });
        let indented: String = indented.collect();
        let shown = |source: &&str| source.contains(block) || source.contains(&indented);
        assert!(sources.iter().any(shown), "no template has:\n{block}");
    }
}
