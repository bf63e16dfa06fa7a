//! What an attacker and a bad day do, as one program: damage to every kind of file, descriptors,
//! slow clients, slots, secrets, logs that nobody reads.
//!
//! `cargo xtask attack` plays each attack on real nodes and prints a table. A row says what was
//! done, what must hold and what was seen; the exit code is 1 if a row fails. Rows judge behaviour
//! (exit codes, whether a match goes on behind what was durable, whether players stay), not the
//! words of an error. Each wait has an end, so that a command that hangs is a row that fails.
//!
//! [`scene`] makes nodes and directories, [`damage`] spoils files, [`edge`] plays the bad client,
//! [`output`] looks at what is printed and left behind, [`life`] starts, copies and removes.

mod damage;
mod edge;
mod life;
mod output;
mod scene;

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail};
use clap::{Args, ValueEnum};

use crate::program::Programs;
use scene::Scene;

/// Which attacks.
#[derive(Debug, Args)]
pub(crate) struct Attack {
    /// Only these groups; all of them without
    #[arg(long, value_enum)]
    only: Vec<Group>,
    /// Use the build without optimization
    #[arg(long)]
    debug: bool,
}

/// Attacks of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Files of a data directory: deleted, cut off, zeroed, replaced
    Damage,
    /// Descriptors, slow admin clients, slots
    Edge,
    /// Secrets, temporary files, logs that nobody reads
    Output,
    /// Kills, copies, a directory that is gone, a clock that jumps
    Life,
}

/// Plays attacks on nodes of its own and adds what was seen.
type Play = fn(&Scene<'_>, &mut Table);

/// What is played side by side.
const PLAYS: &[(Group, Play)] = &[
    (Group::Damage, damage::files),
    (Group::Damage, damage::backups),
    (Group::Edge, edge::slow),
    (Group::Edge, edge::crowds),
    (Group::Output, output::secrets),
    (Group::Output, output::files_and_logs),
    (Group::Life, life::kills),
    (Group::Life, life::places),
    (Group::Life, life::clocks),
];

/// How a row ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Held,
    Failed,
    Skipped,
}

/// One attack.
#[derive(Debug)]
pub(crate) struct Row {
    attack: String,
    done: String,
    expected: String,
    seen: String,
    verdict: Verdict,
}

impl Row {
    /// A row whose outcome is known.
    pub(crate) fn new(
        attack: &str,
        done: impl Into<String>,
        expected: &str,
        seen: impl Into<String>,
        held: bool,
    ) -> Self {
        let verdict = if held { Verdict::Held } else { Verdict::Failed };
        Self {
            attack: attack.to_owned(),
            done: done.into(),
            expected: expected.to_owned(),
            seen: seen.into(),
            verdict,
        }
    }

    /// An attack that this host cannot play.
    pub(crate) fn skipped(attack: &str, done: &str, why: &str) -> Self {
        Self {
            attack: attack.to_owned(),
            done: done.to_owned(),
            expected: String::new(),
            seen: why.to_owned(),
            verdict: Verdict::Skipped,
        }
    }
}

/// The rows so far. Each is printed when it is known.
#[derive(Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    pub(crate) fn add(&mut self, row: Row) {
        let verdict = match row.verdict {
            Verdict::Held => "held",
            Verdict::Failed => "FAILED",
            Verdict::Skipped => "SKIPPED",
        };
        println!(
            "| {} | {} | {} | {} | {verdict} |",
            row.attack,
            row.done,
            row.expected,
            one_line(&row.seen)
        );
        self.0.push(row);
    }

    /// Plays an attack; one that cannot be played to its end has failed.
    pub(crate) fn play(&mut self, attack: &str, play: impl FnOnce(&mut Self) -> Result<()>) {
        if let Err(error) = play(self) {
            self.add(Row::new(
                attack,
                "",
                "the attack is played to its end",
                format!("{error:#}"),
                false,
            ));
        }
    }

    fn count(&self, verdict: Verdict) -> usize {
        self.0.iter().filter(|row| row.verdict == verdict).count()
    }
}

/// The beginning of a text, in one line that does not end a cell.
fn one_line(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "/");
    match line.char_indices().nth(200) {
        Some((at, _)) => format!("{}...", line.get(..at).unwrap_or_default()),
        None => line,
    }
}

/// Plays the attacks and prints the table. An error if a row fails.
pub(crate) fn attack(wanted: &Attack) -> Result<()> {
    let programs = Programs::build(wanted.debug)?;
    let scene = Scene::new(&programs)?;
    scene::many_descriptors()?;
    let begun = Instant::now();
    println!("| attack | what was done | expected | seen | verdict |\n|---|---|---|---|---|");
    let plays =
        PLAYS.iter().filter(|(group, _)| wanted.only.is_empty() || wanted.only.contains(group));
    // Most of them wait most of the time, so they are played side by side, each on nodes of its
    // own.
    let tables: Vec<Table> = std::thread::scope(|scope| {
        let running: Vec<_> = plays
            .map(|(_, play)| {
                let scene = &scene;
                scope.spawn(move || {
                    let mut table = Table::default();
                    play(scene, &mut table);
                    table
                })
            })
            .collect();
        let ended = running
            .into_iter()
            .map(|thread| thread.join().map_err(|_| anyhow!("an attack panicked")));
        ended.collect::<Result<_>>()
    })?;
    let table = Table(tables.into_iter().flat_map(|table| table.0).collect());
    let (held, failed, skipped) =
        (table.count(Verdict::Held), table.count(Verdict::Failed), table.count(Verdict::Skipped));
    println!(
        "\n{held} held, {failed} FAILED, {skipped} SKIPPED, {:.0} s",
        begun.elapsed().as_secs_f64()
    );
    for row in table.0.iter().filter(|row| row.verdict == Verdict::Failed) {
        println!("FAILED {}: {}", row.attack, row.done);
    }
    if held + failed == 0 || failed > 0 {
        bail!("{failed} attacks did what they must not");
    }
    Ok(())
}

/// Nothing that is waited for takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
