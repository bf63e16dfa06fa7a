//! Holds what bots saw on the wire against what a store has once every node has stopped. It shares
//! no code with recovery: logs are read batch by batch, the lineage is followed by the test kit,
//! and every tick is made again from the first one.

use std::collections::{BTreeMap, BTreeSet};

use rekindle_arena::Arena;
use rekindle_loadtest::{BotLog, DurableInput, Evidence, Fact};
use rekindle_schema::{BatchNo, Epoch, SessionId, Tick};
use rekindle_sim::Typed;
use rekindle_store::Store;
use rekindle_store_open::address::StoreAddress;
use rekindle_testkit::history::{Account, Logs, Recomputed};

/// Batches are read in pieces of this size.
const PIECE: usize = 4 << 20;

/// What was judged, so that a test can say that it was enough, and what was found.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    /// Inputs that bots were told are durable, and that stand in the journal once, at that tick.
    pub(crate) inputs: usize,
    /// Hashes that bots were told.
    pub(crate) beats: usize,
    /// The highest epoch of each match, ascending by match.
    pub(crate) epochs: Vec<Epoch>,
    /// The promises that do not hold, in words.
    pub(crate) broken: Vec<String>,
}

/// Fails with every promise that does not hold.
pub(crate) fn check(store: &str, evidence: &Evidence) -> Judged {
    let judged = examine(store, evidence);
    assert!(judged.broken.is_empty(), "promises are broken: {:#?}", judged.broken);
    judged
}

/// Compares what bots saw with what a store has whose nodes have all ended.
pub(crate) fn examine(store: &str, evidence: &Evidence) -> Judged {
    let address: StoreAddress = store.parse().expect("an address");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let store = address.open().await.expect("the store opens");
        judge(&store, evidence).await
    })
}

async fn judge(store: &Store, evidence: &Evidence) -> Judged {
    let mut logs = Logs::new();
    let mut seals = BTreeMap::new();
    for lease in store.leases.nodes().await.expect("node leases") {
        seals.extend(lease.seal.map(|seal| (lease.incarnation, seal)));
        let log = logs.entry(lease.incarnation).or_default();
        let mut from = BatchNo(1);
        loop {
            let read = store.journal.read(lease.incarnation, from, PIECE).await.expect("batches");
            let Some(last) = read.last() else { break };
            from = BatchNo(last.number.0 + 1);
            log.extend(read.into_iter().map(|batch| (batch.number, batch)));
        }
    }
    let game = Typed::<Arena>::new().expect("the arena");
    let (mut judged, mut broken) = (Judged::default(), Vec::new());
    let directory = store.leases.matches().await.expect("the directory");
    for bot in &evidence.bots {
        if !directory.iter().any(|lease| lease.match_id == bot.match_id) {
            broken.push(format!(
                "player {} was in match {}, which the directory does not have",
                bot.player, bot.match_id
            ));
        }
    }
    for lease in directory {
        let (account, problems) = Account::read(&lease, &logs, &seals);
        broken.extend(problems.iter().map(|problem| format!("{problem:?}")));
        let again = match account.resimulate(&game, &lease) {
            Ok(again) => again,
            Err(problem) => {
                broken.push(format!("match {}: {problem}", lease.match_id));
                continue;
            }
        };
        let applied = applied(&account, &mut broken);
        for bot in evidence.bots.iter().filter(|bot| bot.match_id == lease.match_id) {
            hear(bot, &account, &applied, &again, &mut judged, &mut broken);
            in_epochs(bot, lease.epoch, &mut broken);
        }
        judged.epochs.push(lease.epoch);
    }
    Judged { broken, ..judged }
}

/// No bot met an owner that the directory does not know of.
fn in_epochs(bot: &BotLog, newest: Epoch, broken: &mut Vec<String>) {
    for fact in &bot.facts {
        if let Fact::Joined { epoch, .. }
        | Fact::Resumed { epoch, .. }
        | Fact::Durable(DurableInput { epoch, .. }) = fact
            && *epoch > newest
        {
            let player = bot.player;
            broken.push(format!("player {player} was in epoch {epoch}; the newest is {newest}"));
        }
    }
}

/// At which tick each input stands in the journal. One that stands there twice breaks a promise.
fn applied(account: &Account, broken: &mut Vec<String>) -> BTreeMap<(SessionId, u64), Tick> {
    let mut applied = BTreeMap::new();
    for step in account.steps() {
        for input in &step.inputs {
            if let Some(before) = applied.insert((input.session, input.seq), step.tick) {
                broken.push(format!(
                    "input {} of session {} stands at tick {before} and at tick {}",
                    input.seq, input.session, step.tick
                ));
            }
        }
    }
    applied
}

/// What one bot saw.
fn hear(
    bot: &BotLog,
    account: &Account,
    applied: &BTreeMap<(SessionId, u64), Tick>,
    again: &Recomputed,
    judged: &mut Judged,
    broken: &mut Vec<String>,
) {
    let player = bot.player;
    let (mut sessions, mut epoch) = (BTreeSet::new(), Epoch(0));
    let mut session = SessionId::default();
    for fact in &bot.facts {
        match fact {
            Fact::Joined { session: now, epoch: of, .. }
            | Fact::Resumed { session: now, epoch: of, .. } => {
                sessions.insert(*now);
                session = *now;
                if *of < epoch {
                    broken.push(format!("player {player} was in epoch {epoch}, then in {of}"));
                }
                epoch = *of;
            }
            Fact::Durable(input) => {
                judged.inputs += 1;
                let at = applied.get(&(session, input.seq));
                if at != Some(&input.tick) {
                    broken.push(format!(
                        "player {player}: input {} was durable at tick {}; the journal has it at \
                         {at:?}",
                        input.seq, input.tick
                    ));
                }
            }
            Fact::Beat { tick, hash } => {
                judged.beats += 1;
                if again.hashes.get(tick) != Some(hash) {
                    broken.push(format!("player {player}: the hash of tick {tick} differs"));
                }
            }
            Fact::RolledBack { from, to, .. } => {
                broken.push(format!("player {player}: ticks {to} to {from} were taken back"));
            }
            Fact::Closed { message, .. } => {
                broken.push(format!("player {player} was sent away: {message}"));
            }
            Fact::Ended { reason, .. } => {
                broken.push(format!("player {player} saw its match end: {reason}"));
            }
            // The fleet plays by inputs alone: it has no commands to be answered.
            Fact::Gap { .. }
            | Fact::Moved { .. }
            | Fact::Disconnected { .. }
            | Fact::Answered(_)
            | Fact::Unanswered { .. } => {}
        }
    }
    if sessions.len() != 1 {
        broken.push(format!("player {player} had {} sessions", sessions.len()));
    }
    if bot.tally.newest > account.last_tick() {
        broken.push(format!(
            "player {player} was shown tick {}; the journal ends at {}",
            bot.tally.newest,
            account.last_tick()
        ));
    }
}
