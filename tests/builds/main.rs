//! A studio's executable through its builds: one that kills its process while it replays, ones with
//! other keys in their configuration, one with other rules. Real processes.
//!
//! The nodes in these tests are this same program, started with [`VARIANT`] in its environment:
//! then it is the studio's `main`. That is why it has no test harness; it takes a part of a test's
//! name as its only argument.

#[path = "../it/support.rs"]
#[expect(dead_code, reason = "the other tests of the executable use the rest")]
mod support;

mod overload;
mod preflight;
mod scenarios;
mod witness;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use rekindle_schema::record::LeaveReason;
use rekindle_schema::{PlayerId, Tick};
use rekindle_sim::{
    Game, GameBuilder, IntoSystems as _, Output, ResMut, Resource, RulesVersion, Stage, World,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use support::{Node, eventually, http_get};
use witness::Witness;

/// Which build of the studio this process is; without it, the tests.
const VARIANT: &str = "BUILD_UNDER_TEST";
/// What is left in a tank of which its build cannot stand the sight.
const PANIC: &str = "PANIC_FUEL";
/// The tick of cursed matches that ends the process, whoever computes it.
const FATAL: &str = "FATAL_TICK";

/// Where the process that computes a cursed match says which one it is, and makes no tick more.
const HANGS: &str = "HANGS_IN";

/// Counts ticks.
#[derive(Clone, Resource)]
#[resource(id = "count")]
struct Count {
    /// So far.
    ticks: u64,
    /// Set up to be the end of its process one day.
    cursed: bool,
    /// Set up to say how far it is.
    laps: bool,
}

impl Count {
    /// Counts on, and tells of every twenty counts of a match that has laps.
    fn add(&mut self, ticks: u64, output: &mut Output) {
        let laps = self.ticks / 20;
        self.ticks += ticks;
        if self.laps && self.ticks / 20 > laps {
            output.announce("lap", &());
        }
    }
}

fn count(mut count: ResMut<Count>, mut output: Output) {
    count.add(1, &mut output);
    let fatal = std::env::var(FATAL).ok().and_then(|tick| tick.parse::<u64>().ok());
    if count.cursed && fatal == Some(count.ticks) {
        // What an overflown stack or a lack of memory comes to: nothing unwinds.
        std::process::abort();
    }
    if let Some(file) = std::env::var_os(HANGS).filter(|_| count.cursed) {
        std::fs::write(file, std::process::id().to_string()).unwrap();
        loop {
            std::thread::park();
        }
    }
}

/// As a build with other rules has it.
fn count_twice(mut count: ResMut<Count>, mut output: Output) {
    let ticks = if count.ticks < 40 { 1 } else { 2 };
    count.add(ticks, &mut output);
}

/// A build of the game `counting`.
macro_rules! build {
    ($name:ident, $config:ident { $key:ident }, $count:ident, |$game:ident| $more:expr) => {
        /// How a match is set up.
        #[derive(Clone, Serialize, Deserialize)]
        struct $config {
            $key: u32,
        }
        impl Default for $config {
            fn default() -> Self {
                Self { $key: 7 }
            }
        }
        struct $name;
        impl Game for $name {
            const NAME: &'static str = "counting";
            type Config = $config;
            type Input = ();
            type Command = ();
            type Bot = ();
            fn build($game: &mut GameBuilder<Self>) {
                $game.resource::<Count>().add_systems(Stage::Update, $count.named("count"));
                let _built: &mut GameBuilder<Self> = $more;
            }
            fn max_players(_: &$config) -> usize {
                4
            }
            fn setup(world: &mut World, config: &$config) {
                let (cursed, laps) = (config.$key == 13, config.$key == 5);
                world.insert_resource(Count { ticks: 0, cursed, laps });
            }
            fn join(_: &mut World, _: PlayerId) {}
            fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
        }
    };
}

/// A build of another studio, or one that has lost the game.
struct Stranger;

impl Game for Stranger {
    const NAME: &'static str = "strange";
    type Config = ();
    type Input = ();
    type Command = ();
    type Bot = ();
    fn build(_: &mut GameBuilder<Self>) {}
    fn max_players((): &()) -> usize {
        1
    }
    fn setup(_: &mut World, (): &()) {}
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

build!(First, FirstConfig { size }, count, |game| game);
build!(Careless, CarelessConfig { width }, count, |game| game);
build!(Careful, CarefulConfig { width }, count, |game| game.config_renamed("size", "width"));
build!(Changed, ChangedConfig { size }, count_twice, |game| game);

/// As a build has it that keeps the old rules for matches which began with them.
fn count_by_rules(rules: RulesVersion, mut count: ResMut<Count>) {
    count.ticks += u64::from(rules.0);
}

/// How a match of [`Ruled`] is set up.
#[derive(Clone, Serialize, Deserialize)]
struct RuledConfig {
    size: u32,
}

impl Default for RuledConfig {
    fn default() -> Self {
        Self { size: 7 }
    }
}

/// The build with the second version of the rules.
struct Ruled;

impl Game for Ruled {
    const NAME: &'static str = "counting";
    const RULES: u32 = 2;
    type Config = RuledConfig;
    type Input = ();
    type Command = ();
    type Bot = ();
    fn build(game: &mut GameBuilder<Self>) {
        game.resource::<Count>().add_systems(Stage::Update, count_by_rules.named("count"));
    }
    fn max_players(_: &RuledConfig) -> usize {
        4
    }
    fn setup(world: &mut World, _: &RuledConfig) {
        world.insert_resource(Count { ticks: 0, cursed: false, laps: false });
    }
    fn join(_: &mut World, _: PlayerId) {}
    fn leave(_: &mut World, _: PlayerId, _: LeaveReason) {}
}

fn main() -> ExitCode {
    match std::env::var(VARIANT).as_deref() {
        Ok("ruled") => return rekindle::Node::new().game::<Ruled>().run(),
        Ok("stranger") => return rekindle::Node::new().game::<Stranger>().run(),
        // Another build of the same game: nothing differs but the fingerprint.
        Ok("first" | "rebuilt") => return rekindle::Node::new().game::<First>().run(),
        Ok("careless") => return rekindle::Node::new().game::<Careless>().run(),
        Ok("changed") => return rekindle::Node::new().game::<Changed>().run(),
        Ok("boiler") => return rekindle::Node::new().game::<overload::Boiler>().run(),
        Ok("careful") => return rekindle::Node::new().game::<Careful>().run(),
        Ok(variant) => {
            if let Some(exit) = scenarios::run(variant) {
                return exit;
            }
        }
        Err(_) => {}
    }
    let wanted = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-') && argument.parse::<u32>().is_err())
        .unwrap_or_default();
    let tests: [(&str, fn()); 11] = [
        (
            "a_match_whose_replay_ends_its_process_is_parked_and_comes_back_when_that_is_mended",
            poison,
        ),
        ("a_match_with_too_much_to_do_is_slowed_and_its_client_follows", overload::slowed),
        ("a_match_waits_for_a_build_that_knows_its_configuration", renamed),
        ("a_new_build_tries_all_matches_before_it_is_deployed", preflight::tries),
        (
            "a_build_that_went_on_behind_a_clean_stop_is_tried_on_its_own_part",
            preflight::behind_a_stop,
        ),
        ("a_match_keeps_its_rules_and_newer_ones_wait_for_their_build", preflight::ruled),
        ("a_match_that_a_bug_parked_is_played_on_by_the_fixed_build", scenarios::a_fix),
        ("a_constant_that_changes_nothing_that_was_played_goes_on", scenarios::a_constant),
        ("systems_that_changed_places_and_write_the_same_go_on", scenarios::an_order),
        ("other_fields_wait_for_an_operator_after_a_crash_only", scenarios::a_schema),
        ("a_match_that_other_rules_would_change_waits_until_an_operator_decides", changed),
    ];
    for (name, test) in tests.into_iter().filter(|(name, _)| name.contains(&wanted)) {
        println!("test {name}");
        test();
    }
    ExitCode::SUCCESS
}

/// An executable of the studio, in a directory of its own, which always has the same game port.
struct Studio {
    dir: tempfile::TempDir,
    port: u16,
}

impl Studio {
    fn new() -> Self {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        Self { dir: tempfile::tempdir().unwrap(), port }
    }

    /// The executable of a variant. What is appended to a copy changes its fingerprint and nothing
    /// else, so each variant is a build of its own.
    fn executable(&self, variant: &str) -> PathBuf {
        let path = self.dir.path().join(variant);
        if !path.exists() {
            std::fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
            std::fs::File::options()
                .append(true)
                .open(&path)
                .unwrap()
                .write_all(variant.as_bytes())
                .unwrap();
        }
        path
    }

    fn command(&self, variant: &str, environment: &[(&str, &str)]) -> Command {
        let mut command = Command::new(self.executable(variant));
        command
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .env(VARIANT, variant)
            .envs(environment.iter().copied());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("REKINDLE_")) {
            command.env_remove(name);
        }
        command
    }

    fn spawn(&self, variant: &str, environment: &[(&str, &str)], more: &[&str]) -> Node {
        let mut command = self.command(variant, environment);
        let listen = format!("127.0.0.1:{}", self.port);
        command
            .args(["start", "--dev", "--log", "json", "--admin", "127.0.0.1:0"])
            .args(["--listen", &listen])
            .args(more);
        Node::from_command(command)
    }

    fn start(&self, variant: &str, environment: &[(&str, &str)], more: &[&str]) -> Node {
        let mut node = self.spawn(variant, environment, more);
        node.wait_for("RK-NODE-001");
        node
    }

    /// A command and its answer. `try-replay` inherits nothing from it.
    fn ask(&self, args: &[&str], exit: i32) -> Value {
        self.ask_of("first", &[], args, exit)
    }

    /// As [`Studio::ask`], of another build.
    fn ask_of(
        &self,
        variant: &str,
        environment: &[(&str, &str)],
        args: &[&str],
        exit: i32,
    ) -> Value {
        let output = self.command(variant, environment).args(args).arg("--json").output().unwrap();
        assert_eq!(output.status.code(), Some(exit), "{args:?}: {output:?}");
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {args:?}: {output:?}"))
    }

    fn create(&self, config: &str) -> String {
        let created =
            self.ask(&["match", "create", "--game", "counting", "--game-config", config], 0);
        created["id"].as_str().unwrap().to_owned()
    }

    fn show(&self, id: &str) -> Value {
        self.ask(&["match", "show", id], 0)
    }

    fn reaches(&self, id: &str, tick: u64) {
        eventually("the tick", || self.show(id)["tick"].as_u64().filter(|&at| at >= tick));
    }
}

fn state(view: &Value) -> (&str, &str) {
    (view["state"].as_str().unwrap(), view["reason"].as_str().unwrap_or_default())
}

fn poison() {
    let studio = Studio::new();
    let node = studio.start("first", &[], &[]);
    let (bad, good) = (studio.create(r#"{"size":13}"#), studio.create("{}"));
    studio.reaches(&bad, 60);
    node.kill();

    // From now on whoever computes tick 40 dies: here every replay. Nobody knows whose fault the
    // first death is.
    let fatal = [(FATAL, "40")];
    let mut node = studio.spawn("first", &fatal, &[]);
    assert_eq!(node.wait(), -1, "ended by a signal");
    // From the second on, each is tried in a process of its own first.
    let mut node = studio.spawn("first", &fatal, &[]);
    let parked = node.wait_for("RK-NODE-011");
    assert_eq!(parked["match_id"], bad.as_str());
    node.wait_for("RK-NODE-001");
    let view = studio.show(&bad);
    let (word, reason) = state(&view);
    assert!(
        word == "parked"
            && reason.contains("RK-RECOVERY-130")
            && reason.contains("ended 5 processes"),
        "{view}"
    );
    assert!(reason.contains("SIGABRT"), "{view}");
    assert_eq!(state(&studio.show(&good)).0, "running");

    // Tried again before the game is mended: parked again, and the node lives on.
    let again = studio.ask(&["match", "resume", &bad], 5);
    assert_eq!(state(&again).0, "parked", "{again}");
    assert_eq!(state(&studio.show(&good)).0, "running");
    assert_eq!(node.terminate(), 0);

    // The game is mended; the match stays parked until somebody asks.
    let node = studio.start("first", &[], &["--set", "recovery.healthy_ms=600000"]);
    assert_eq!(state(&studio.show(&bad)).0, "parked");
    let resumed = studio.ask(&["match", "resume", &bad], 0);
    assert_eq!(state(&resumed).0, "running", "{resumed}");
    let audit = studio.command("first", &[]).args(["audit"]).output().unwrap();
    assert!(String::from_utf8_lossy(&audit.stdout).contains("match.resume"), "{audit:?}");
    let later = resumed["tick"].as_u64().unwrap() + 60;
    studio.reaches(&bad, later + 20);
    node.kill();

    // Parked after two deaths by a node that is told so, and left parked by it; tried again by one
    // that allows more.
    let later = later.to_string();
    let (fatal, two) = ([(FATAL, later.as_str())], ["--set", "recovery.attempts=2"]);
    let mut node = studio.spawn("first", &fatal, &two);
    node.wait_for("RK-NODE-011");
    node.kill();
    let node = studio.start("first", &[], &two);
    assert!(state(&studio.show(&bad)).1.contains("ended 2 processes"));
    node.kill();
    let _node = studio.start("first", &[], &["--set", "recovery.attempts=3"]);
    assert_eq!(state(&studio.show(&bad)).0, "running");
}

fn renamed() {
    let studio = Studio::new();
    let node = studio.start("first", &[], &[]);
    let id = studio.create(r#"{"size":9}"#);
    studio.reaches(&id, 10);
    assert_eq!(node.terminate(), 0, "put away cleanly");

    // A build that has lost a key of the configuration cannot run it and does not claim it.
    let mut node = studio.spawn("careless", &[], &[]);
    let refused = node.wait_for("RK-NODE-011");
    assert!(refused["report"].as_str().unwrap().contains("unknown key `size`"), "{refused}");
    node.wait_for("RK-NODE-001");
    let view = studio.show(&id);
    assert!(state(&view).0 == "waits" && view["epoch"] == 1, "{view}");
    assert_eq!(node.terminate(), 0);

    // The old build goes on with it as if nothing had been.
    let mut node = studio.spawn("first", &[], &[]);
    assert_eq!(node.wait_for("RK-NODE-010")["match_id"], id.as_str());
    node.wait_for("RK-NODE-001");
    assert_eq!(studio.show(&id)["epoch"], 2);
    assert_eq!(node.terminate(), 0);

    // So does a later one that says what has become of the key.
    let mut node = studio.spawn("careful", &[], &[]);
    assert_eq!(node.wait_for("RK-NODE-010")["match_id"], id.as_str());
    node.wait_for("RK-NODE-001");
    assert_eq!(state(&studio.show(&id)).0, "running");
    assert_eq!(node.terminate(), 0);
}

fn changed() {
    let studio = Studio::new();
    let node = studio.start("first", &[], &[]);
    let (rewound, accepted) = (studio.create("{}"), studio.create("{}"));
    let enter = |player, id: &str| Witness::enter(&studio, player, id);
    let mut players = [enter(1, &rewound), enter(2, &accepted)];
    for player in &mut players {
        player.is_shown(Tick(70));
    }
    node.kill();
    says_once(&studio, [&rewound, &accepted]);

    // What it computes otherwise it does not touch: each of them waits, and says everywhere why and
    // what to type.
    let mut node = studio.start("changed", &[], &[]);
    let waits = |view: &Value| {
        let (word, reason) = state(view);
        assert_eq!((word, view["epoch"].as_u64()), ("waits", Some(1)), "{view}");
        for part in ["RK-RECOVERY-005", "another tick 60", "resource `count` field `ticks`"] {
            assert!(reason.contains(part), "{part}: {view}");
        }
        assert!(reason.contains("`count`, players saw") || reason.contains("written by `count`"));
        assert!(reason.contains("--from-last-equal") && reason.contains("--accept"), "{view}");
    };
    waits(&studio.show(&rewound));
    let card = std::fs::read(studio.dir.path().join("rekindle-data/node.json")).unwrap();
    let card: Value = serde_json::from_slice(&card).unwrap();
    let ask = |path: &str| http_get(card["admin"].as_str().unwrap(), path);
    let ready = ask("/readyz");
    assert!(
        ready.starts_with("HTTP/1.0 200")
            && ready.contains(&format!("match {rewound} waits (other_build)")),
        "{ready}"
    );
    let metrics = ask("/metrics");
    assert!(
        metrics.contains("rekindle_matches_not_running{reason=\"other_build\"} 2"),
        "{metrics}"
    );
    let fresh = studio.create("{}");
    studio.reaches(&fresh, 5);
    // Asking again changes nothing, and is not taken for a success.
    waits(&studio.ask(&["match", "resume", &rewound], 5));

    // The operator decides, match by match.
    let resumed = studio.ask(&["match", "resume", &rewound, "--from-last-equal"], 0);
    assert_eq!(state(&resumed).0, "running", "{resumed}");
    let words = |view: &Value| view["build_change"].as_str().unwrap_or_default().to_owned();
    assert!(words(&resumed).contains("undone by an operator"), "{resumed}");
    let resumed = studio.ask(&["match", "resume", &accepted, "--accept"], 0);
    assert!(resumed["tick"].as_u64() >= Some(70), "it goes on from the present: {resumed}");
    assert!(words(&resumed).contains("accepted by an operator"), "{resumed}");
    // Whoever played was told that it waits, not that it is over. What the new build computes
    // otherwise is taken back from players when the operator takes it back, and stands at the
    // present otherwise, with another past.
    let [undone, stands] = players.each_mut().map(Witness::is_back);
    assert!(undone.resumed && undone.rewound.is_some_and(|to| to < undone.before), "{undone:?}");
    assert!(stands.resumed && stands.next > stands.before, "{stands:?}");
    studio.reaches(&rewound, 80);
    notes(&studio);

    // Nobody is asked again, whatever dies next.
    node.kill();
    node = studio.start("changed", &[], &[]);
    for id in [&rewound, &accepted, &fresh] {
        assert_eq!(state(&studio.show(id)).0, "running");
    }
    assert_eq!(node.terminate(), 0);
    verifies(&studio);
}

/// Where log and words for the terminal go to one file, what is wrong with a match stands there
/// once, and the words say where to ask.
fn says_once(studio: &Studio, ids: [&String; 2]) {
    let path = studio.dir.path().join("both.log");
    let file = std::fs::File::create(&path).unwrap();
    let mut command = studio.command("changed", &[]);
    command.args(["start", "--dev", "--admin", "127.0.0.1:0", "--listen", "127.0.0.1:0"]);
    let both = command.stdout(file.try_clone().unwrap()).stderr(file);
    let mut node = both.spawn().unwrap();
    let said = eventually("the words", || {
        let said = std::fs::read_to_string(&path).unwrap();
        said.contains("Ctrl-C stops cleanly").then_some(said)
    });
    node.kill().unwrap();
    node.wait().unwrap();
    for id in ids {
        let reports = said.lines().filter(|line| line.contains("RK-RECOVERY-005"));
        assert_eq!(reports.filter(|line| line.contains(id)).count(), 1, "{said}");
        let short = &id[..8];
        let line = said.lines().find(|line| line.starts_with(&format!("match {short} ")));
        let asks = format!("match show {short}` says why");
        assert!(line.is_some_and(|line| line.contains("waits") && line.contains(&asks)), "{said}");
    }
    assert_eq!(said.matches("RK-RECOVERY-005").count(), ids.len(), "{said}");
}

/// What an operator decided is written down.
fn notes(studio: &Studio) {
    let audit = studio.command("changed", &[]).args(["audit"]).output().unwrap();
    let audit = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert!(audit.contains("match.rewound") && audit.contains("from-last-equal"), "{audit}");
}

/// A store in which an operator decided is sound.
fn verifies(studio: &Studio) {
    let verified = studio.command("changed", &[]).args(["verify"]).output().unwrap();
    let words = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(!words.contains("FAULT") && !words.contains("RK-VERIFY-0"), "{words}");
}
