//! `rekindle store ...`: what is in a store, its tables, copies, backups. Works on the store
//! itself; nothing here runs a match.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use rekindle_schema::lease::{MatchState, NodeState};
use rekindle_schema::{Epoch, Incarnation, MatchId};
use rekindle_store::migration::SchemaState;
use rekindle_store::transfer::{Copied, CopyOptions, Progress, Step, TransferError, copy};
use rekindle_store::{Store, StoreError};
use rekindle_store_open::address::{AddressError, StoreAddress};
use serde::Serialize;
use serde_json::json;

use super::args::StoreCommand;
use super::context::{Context, block_on};
use super::offline;
use crate::backup;
use crate::clock;
use crate::config::{self, ConfigError};
use crate::exit::{Exit, Failure};
use crate::inspect::reading::Reading;
use crate::inspect::verify;
use crate::moment;
use crate::node::alive;
use crate::node::boot;
use crate::node::operator::Operators;
use crate::output;
use crate::text::counted;
use rekindle_admin::client;

pub(super) fn run(context: &Context, command: StoreCommand) -> Result<Exit, Failure> {
    match command {
        StoreCommand::Status => status(context),
        StoreCommand::Migrate => migrate(context),
        StoreCommand::Verify => offline::verify(context, None),
        StoreCommand::AcceptLoss { incarnation, yes } => {
            super::loss::run(context, &incarnation, yes)
        }
        StoreCommand::RenewIdentity { reason } => renew_identity(context, &reason),
        StoreCommand::Copy { from, from_password_file, to, to_password_file, matches } => {
            let from = match from {
                Some(url) => address(context, "--from", &url, from_password_file.as_deref())?,
                None => context.config.store.clone(),
            };
            let to = address(context, "--to", &to, to_password_file.as_deref())?;
            transfer(context, &from, &to, &matches)
        }
        StoreCommand::Backup { dir } => back_up(context, &dir),
        StoreCommand::Restore { dir, matches } => {
            backup::check(&dir)?;
            transfer(context, &StoreAddress::Local(dir), &context.config.store, &matches)
        }
    }
}

fn address(
    context: &Context,
    flag: &str,
    url: &str,
    password_file: Option<&Path>,
) -> Result<StoreAddress, Failure> {
    let wrong =
        |error: AddressError| Failure::new(Exit::Usage, format!("RK-CLI-030: {flag} {error}"));
    let address = StoreAddress::parse(url, &context.config.data_dir).map_err(wrong)?;
    let Some(file) = password_file else { return Ok(address) };
    let password = config::password_from(file)
        .map_err(|error: ConfigError| Failure::new(Exit::Usage, error.to_string()))?;
    address.with_password(&password).map_err(wrong)
}

/// What `store status` answers.
#[derive(Default, Serialize)]
struct Status {
    store: String,
    kind: &'static str,
    /// Its name, 32 hexadecimal digits; `null` if no node has run on it yet, or if it cannot be
    /// read.
    identity: Option<String>,
    /// Matches that are taken over continue in this epoch or a higher one.
    epoch_floor: u64,
    /// Why and when it got its identity, in words.
    identity_because: String,
    /// Its tables: `current`, `missing`, `older`, `newer`; `none` if it needs none.
    tables: &'static str,
    tables_version: Option<u32>,
    /// Those that run, as far as can be told: on this host by their process, on others by their
    /// renewing the lease.
    nodes_live: usize,
    /// Those that ended, or never came up, without saying so, and whose matches nobody has taken
    /// over yet.
    nodes_gone: usize,
    nodes_stopped: usize,
    nodes_fenced: usize,
    matches_running: usize,
    matches_parked: usize,
    matches_ended: usize,
    logs: usize,
    log_bytes: u64,
    checkpoints: usize,
    checkpoint_bytes: u64,
    checkpoints_damaged: usize,
    archived_chunks: usize,
    archived_bytes: u64,
    effects: usize,
}

fn status(context: &Context) -> Result<Exit, Failure> {
    let address = &context.config.store;
    let status = block_on(async {
        let mut status = Status {
            store: address.to_string(),
            kind: address.kind(),
            tables: "none",
            ..Status::default()
        };
        if let Some(state) = address.schema_state().await? {
            (status.tables, status.tables_version) = tables(state);
            if !matches!(state, SchemaState::Current { .. }) {
                return Ok((status, state.require_current(&address.to_string()).err()));
            }
        }
        let reading = Reading::of(address)?;
        reading.named(
            async {
                let store = reading.store().await?;
                identify(&reading, &store, &mut status).await?;
                Ok(count(&store, &mut status).await?)
            }
            .await,
        )?;
        Ok((status, None))
    });
    let (status, problem) = status?;
    context.answer(&status, || words(&status))?;
    match problem {
        None => Ok(Exit::Done),
        // The answer is the one document on standard output.
        Some(problem) => {
            output::error(&problem.to_string());
            Ok(Exit::Failed)
        }
    }
}

fn tables(state: SchemaState) -> (&'static str, Option<u32>) {
    match state {
        SchemaState::Missing => ("missing", None),
        SchemaState::Older { found, .. } => ("older", Some(found)),
        SchemaState::Current { version } => ("current", Some(version)),
        SchemaState::Newer { found, .. } => ("newer", Some(found)),
    }
}

async fn identify(reading: &Reading, store: &Store, status: &mut Status) -> Result<(), StoreError> {
    match store.identity.current().await {
        Ok(None) => "no node has run on it yet".clone_into(&mut status.identity_because),
        Ok(Some(found)) => {
            status.identity = Some(found.id.to_string());
            status.epoch_floor = found.floor.0;
            status.identity_because =
                format!("{} ({})", found.because, moment::show(found.made_ms));
        }
        // The next node to start replaces it.
        Err(StoreError::Corrupt { place, problem }) => {
            status.identity_because = format!("damaged: {}: {problem}", reading.real(&place));
        }
        Err(error) => return Err(error),
    }
    Ok(())
}

fn renew_identity(context: &Context, reason: &str) -> Result<Exit, Failure> {
    let address = &context.config.store;
    if *address == StoreAddress::Memory {
        let message = "RK-CLI-100: a store in memory is gone with its process, so it is never \
            restored: name another one with --store";
        return Err(Failure::new(Exit::Usage, message));
    }
    let _lock = match address {
        StoreAddress::Local(dir) if dir.join("format").exists() => Some(boot::lock(dir)?),
        StoreAddress::Local(dir) => {
            let message = format!(
                "RK-CLI-101: {} is no data directory: it has no file `format`",
                dir.display()
            );
            return Err(Failure::new(Exit::NotFound, message));
        }
        _ => None,
    };
    let (old, new) = block_on(async {
        let store = address.open().await?;
        idle(&store, address, "given a new identity: stop it").await?;
        let operators = Operators::new(store.clone(), Incarnation::default());
        let action = operators
            .begin(&client::agent(), "store.renew-identity", &address.to_string(), reason)
            .await?;
        let old = store.identity.current().await.unwrap_or_default();
        let renewed = store.identity.renew(clock::fresh(), reason, Epoch::default()).await;
        action.end(None, renewed.as_ref().err().map(ToString::to_string)).await;
        Ok((old.map(|old| old.id.to_string()), renewed?))
    })?;
    let answer = json!({
        "store": address.to_string(), "old": old, "new": new.id.to_string(),
        "epoch_floor": new.floor.0,
    });
    context.answer(&answer, || {
        let old = old.as_deref().unwrap_or("none");
        vec![format!(
            "{address} had the identity {old} and has {} now; its matches continue from \
            epoch {} on",
            new.id, new.floor
        )]
    })?;
    Ok(Exit::Done)
}

async fn count(store: &Store, status: &mut Status) -> Result<(), StoreError> {
    status.nodes_live = alive::running(store).await?.len();
    for node in store.leases.nodes().await? {
        *match node.state {
            NodeState::Live => &mut status.nodes_gone,
            NodeState::Stopped => &mut status.nodes_stopped,
            NodeState::Fenced => &mut status.nodes_fenced,
        } += 1;
    }
    // Of those with a live lease.
    status.nodes_gone = status.nodes_gone.saturating_sub(status.nodes_live);
    for info in store.journal.logs().await? {
        status.logs += 1;
        status.log_bytes += info.bytes;
    }
    for row in store.leases.matches().await? {
        *match row.state {
            MatchState::Running => &mut status.matches_running,
            MatchState::Parked { .. } => &mut status.matches_parked,
            MatchState::Ended { .. } => &mut status.matches_ended,
        } += 1;
        let (found, damaged) = store.checkpoints.list(row.match_id).await?;
        status.checkpoints += found.len();
        status.checkpoint_bytes += found.iter().map(|meta| meta.len).sum::<u64>();
        // A local store cannot say whose checkpoint was damaged: it names it for every match.
        status.checkpoints_damaged = damaged.len().max(status.checkpoints_damaged);
    }
    for match_id in store.archive.matches().await? {
        let (found, _) = store.archive.list(match_id).await?;
        status.archived_chunks += found.len();
        status.archived_bytes += found.iter().map(|meta| meta.len).sum::<u64>();
    }
    status.effects = store.effects.delivered().await?.len();
    Ok(())
}

fn words(status: &Status) -> Vec<String> {
    let version =
        status.tables_version.map_or_else(String::new, |version| format!(", version {version}"));
    let mut lines = vec![
        format!("store        {}", status.store),
        format!("tables       {}{version}", status.tables),
    ];
    if matches!(status.tables, "none" | "current") {
        lines.extend([
            format!(
                "identity     {}: {}; epochs from {} on",
                status.identity.as_deref().unwrap_or("none"),
                status.identity_because,
                status.epoch_floor
            ),
            format!(
                "nodes        {} live, {} gone, {} stopped, {} fenced",
                status.nodes_live, status.nodes_gone, status.nodes_stopped, status.nodes_fenced
            ),
            format!(
                "matches      {} running, {} parked, {} ended",
                status.matches_running, status.matches_parked, status.matches_ended
            ),
            format!("logs         {}, {} bytes", status.logs, status.log_bytes),
            format!(
                "checkpoints  {}, {} bytes{}",
                status.checkpoints,
                status.checkpoint_bytes,
                if status.checkpoints_damaged > 0 {
                    format!(", {} damaged", status.checkpoints_damaged)
                } else {
                    String::new()
                }
            ),
            format!(
                "archive      {}, {} bytes",
                counted(status.archived_chunks, "chunk", "chunks"),
                status.archived_bytes
            ),
            format!("effects      {} delivered", status.effects),
        ]);
    }
    lines
}

fn migrate(context: &Context) -> Result<Exit, Failure> {
    let address = &context.config.store;
    let (before, after) = block_on(async {
        let before = address.migrate().await?;
        let after = address.schema_state().await?;
        if after.is_some() && before != after {
            // There is no audit log before there are tables.
            let operators = Operators::new(address.open().await?, Incarnation::default());
            let action = operators
                .begin(&client::agent(), "store.migrate", &address.to_string(), "")
                .await?;
            action.end(None, None).await;
        }
        Ok((before, after))
    })?;
    let version = |state: Option<SchemaState>| state.and_then(|state| tables(state).1);
    let (found, now) = (version(before), version(after));
    context.answer(
        &json!({ "store": address.to_string(), "version_before": found, "version": now }),
        || {
            vec![match (found, now) {
                (_, None) => format!("{address} needs no tables: nothing to do"),
                (Some(found), Some(now)) if found == now => {
                    format!(
                        "the tables of {address} have version {now}, as this release needs: \
                    nothing to do"
                    )
                }
                (Some(found), Some(now)) => format!(
                    "the tables of {address} went from version {found} \
                to version {now}"
                ),
                (None, Some(now)) => format!("the tables of {address} were made, version {now}"),
            }]
        },
    )?;
    Ok(Exit::Done)
}

fn transfer(
    context: &Context,
    from: &StoreAddress,
    to: &StoreAddress,
    matches: &[String],
) -> Result<Exit, Failure> {
    let only = matches.iter().map(|id| id.parse::<MatchId>()).collect::<Result<BTreeSet<_>, _>>();
    let only =
        only.map_err(|error| Failure::new(Exit::Usage, format!("RK-CLI-035: --match {error}")))?;
    if from == to {
        return Err(Failure::new(
            Exit::Usage,
            format!("RK-CLI-036: {from} would be copied into itself"),
        ));
    }
    if *to == StoreAddress::Memory {
        let message =
            "RK-CLI-037: a store in memory is gone with this process: name another target";
        return Err(Failure::new(Exit::Usage, message));
    }
    let reading = Reading::of(from)?;
    // No node starts on a directory while something is copied into it.
    let _lock = match to {
        StoreAddress::Local(dir) => Some(boot::lock(dir)?),
        _ => None,
    };
    let bar = Bars::new(context.common.json);
    let copied = block_on(async {
        let (source, target) = (reading.store().await?, to.open().await?);
        idle(&source, from, "copied: stop it, or make a backup and restore that").await?;
        idle(&target, to, "copied into: stop it").await?;
        // In the target, which is changed.
        let operators = Operators::new(target.clone(), Incarnation::default());
        let action = operators
            .begin(&client::agent(), "store.copy", &to.to_string(), &format!("from={from}"))
            .await?;
        let options = CopyOptions {
            cut: false,
            only: (!only.is_empty()).then_some(only),
            clock: &clock::now_ms,
            chance: clock::chance(),
            progress: &|progress| bar.show(progress),
        };
        let copied = copy(&source, &target, &options).await;
        action.end(None, copied.as_ref().err().map(ToString::to_string)).await;
        let copied = copied.map_err(|error| explain(&error))?;
        // The copy was compared as it was made. Whether all that is in the target now can be relied
        // on is another question.
        let found = verify::bytes(&target, local_dir(to)).await?;
        Ok((copied, found.faults))
    });
    bar.finish();
    let (mut copied, faults) = reading.named(copied)?;
    copied.notes.iter_mut().for_each(|note| *note = reading.real(note));
    let answer = json!({
        "from": from.to_string(), "to": to.to_string(), "copied": copied, "faults": faults,
    });
    context.answer(&answer, || {
        let mut lines = copied_words(&copied);
        lines.extend(faults.iter().map(|fault| format!("FAULT: {fault}")));
        lines.push(if faults.is_empty() {
            next_words(to)
        } else {
            format!(
                "RK-CLI-150: the target is damaged at {}: do not run a node on it",
                counted(faults.len(), "place", "places")
            )
        });
        lines
    })?;
    Ok(whole(&copied, faults.is_empty()))
}

/// Where a local store lies.
fn local_dir(address: &StoreAddress) -> Option<&Path> {
    match address {
        StoreAddress::Local(dir) => Some(dir),
        _ => None,
    }
}

/// A copy without all that the source should have is told from a whole one by its exit code.
fn whole(copied: &Copied, sound: bool) -> Exit {
    if copied.left_out == 0 && sound { Exit::Done } else { Exit::Broken }
}

/// Refuses a store on which a node runs.
async fn idle(store: &Store, address: &StoreAddress, what: &str) -> Result<(), Failure> {
    let running = alive::running(store).await?;
    let Some(node) = running.first() else { return Ok(()) };
    let message = format!(
        "RK-CLI-034: node {} (incarnation {}, pid {}) runs on {address}, which cannot be {what}",
        node.name, node.incarnation, node.pid
    );
    Err(Failure::new(Exit::InUse, message))
}

/// Which exit code means what.
fn explain(error: &TransferError) -> Failure {
    let exit = match error {
        TransferError::Damaged(_)
        | TransferError::Differs(_)
        | TransferError::Incomplete { .. } => Exit::Broken,
        TransferError::Unknown(_) => Exit::NotFound,
        TransferError::Store(_)
        | TransferError::Conflict(_)
        | TransferError::Overtaken { .. }
        | TransferError::Disturbed(_) => Exit::Failed,
    };
    let again = match error {
        TransferError::Store(error) if error.is_transient() => {
            "; run it again: it goes on where it was"
        }
        _ => "",
    };
    Failure::new(exit, format!("{error}{again}"))
}

fn copied_words(copied: &Copied) -> Vec<String> {
    let mut lines = vec![
        format!(
            "{} copied, compared byte by byte and read back ({} were there already)",
            counted(copied.matches as usize, "match", "matches"),
            copied.present
        ),
        format!(
            "{} batches of {} incarnations, {} bytes written; {} were there already",
            copied.batches, copied.nodes, copied.batch_bytes, copied.batches_present
        ),
        format!(
            "{} checkpoints, {} bytes; {} archived chunks; {} effects, {} in the outbox of \
             webhooks; {} open jobs; {} audit entries",
            copied.checkpoints,
            copied.checkpoint_bytes,
            copied.chunks,
            copied.effects,
            copied.postings,
            copied.jobs,
            copied.audit
        ),
    ];
    lines.extend(copied.notes.iter().map(|note| format!("note: {note}")));
    if copied.left_out > 0 {
        let count = counted(copied.left_out as usize, "damaged checkpoint", "damaged checkpoints");
        lines.push(format!(
            "RK-CLI-151: the copy was made without {count} of the source: every match can be \
             recovered from it, replays may begin later"
        ));
    }
    lines
}

fn next_words(to: &StoreAddress) -> String {
    if to.has_password() {
        "next: `rekindle store verify` on the target, then start a node on it".to_owned()
    } else {
        format!(
            "next: `rekindle store verify --store '{to}'`, then `rekindle start --store '{to}'`"
        )
    }
}

fn back_up(context: &Context, dir: &Path) -> Result<Exit, Failure> {
    let address = &context.config.store;
    let reading = Reading::of(address)?;
    let bar = Bars::new(context.common.json);
    let made = block_on(async {
        let source = reading.store().await?;
        backup::make(&source, &address.to_string(), dir, &|progress| bar.show(progress)).await
    });
    bar.finish();
    let mut made = reading.named(made)?;
    made.copied.notes.iter_mut().for_each(|note| *note = reading.real(note));
    let shown: PathBuf = dir.to_owned();
    context.answer(&json!({ "dir": shown.display().to_string(), "backup": made }), || {
        let mut lines = copied_words(&made.copied);
        let dir = shown.display();
        lines.push(format!("{} bytes in {dir}, every checksum checked", made.bytes));
        lines.push(format!(
            "next: `rekindle verify {dir}` simulates it, `rekindle store restore \
            {dir}` copies it into a store"
        ));
        lines
    })?;
    Ok(whole(&made.copied, true))
}

/// One bar that shows one step after the other. On a terminal only; elsewhere it draws nothing.
struct Bars(ProgressBar);

impl Bars {
    fn new(quiet: bool) -> Self {
        let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new(0) };
        if let Ok(style) =
            ProgressStyle::with_template("{msg:20} {bar:40} {percent:>3} %  {eta} left")
        {
            bar.set_style(style);
        }
        Self(bar)
    }

    fn show(&self, progress: Progress) {
        let what = match progress.step {
            Step::Logs => "logs",
            Step::Checkpoints => "checkpoints",
            Step::Archive => "archive",
            Step::Effects => "effects",
            Step::Histories => "reading back",
            Step::Rows => "directory",
        };
        if self.0.message() != what {
            self.0.set_message(what);
        }
        self.0.set_length(progress.total);
        self.0.set_position(progress.done);
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}
