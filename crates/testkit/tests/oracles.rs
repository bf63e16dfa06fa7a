//! Each oracle lets a true history pass and objects to each doctored one: a judge that cannot
//! convict is none.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use rekindle_schema::batch::{BatchBuilder, FrameHeader};
use rekindle_schema::lease::{DEFAULT_REGION, Lineage, MatchLease, MatchSpec, MatchState};
use rekindle_schema::net::{NetEntity, NetView};
use rekindle_schema::record::{
    AppliedCommand, AppliedInput, Beat, Effect, EffectId, Event, Flush, Join, Leave, LeaveReason,
    Step,
};
use rekindle_schema::{
    BatchNo, BuildId, Epoch, Incarnation, MatchId, PlayerId, Seq, SessionId, StateHash, Tick,
};
use rekindle_testkit::evidence::{
    Evidence, SeenCommand, SeenEvent, SeenFrame, SeenInput, SeenRewind, SeenWelcome,
};
use rekindle_testkit::history::{Account, Logs, Recomputed};
use rekindle_testkit::oracle::{self, Rule, Violation};

const MATCH: MatchId = MatchId(7);
const PLAYER: PlayerId = PlayerId(3);
const SESSION: SessionId = SessionId(30);
/// Each record has ten ticks; the first half belongs to epoch 1, the second to epoch 2.
const RECORDS: u64 = 6;
const QUIET_FROM: Duration = Duration::from_secs(2);
const END: Duration = Duration::from_secs(6);

/// A history in which everything is as it should be.
#[derive(Clone)]
struct Case {
    account: Account,
    recomputed: Recomputed,
    evidence: Evidence,
    delivered: Vec<Effect>,
}

fn hash(tick: u64) -> StateHash {
    StateHash([tick as u8; 32])
}

fn view(tick: u64) -> NetView {
    let entities = vec![NetEntity { slot: 0, generation: 0, components: 1 }];
    let (values, avatars) = (vec![tick as u32], vec![(PLAYER, 0)]);
    NetView { tick: Tick(tick), entities, values, avatars, restricted: None }
}

fn input(seq: u64) -> AppliedInput {
    AppliedInput {
        player: PLAYER,
        session: SESSION,
        seq,
        view_tick: Tick(0),
        payload: Bytes::new(),
    }
}

fn effect(tick: u64) -> Effect {
    Effect {
        id: EffectId { tick: Tick(tick), ordinal: 0 },
        kind: "result".to_owned(),
        payload: Bytes::from_static(b"{}"),
    }
}

fn event(tick: u64) -> Event {
    Event {
        tick: Tick(tick),
        ordinal: 0,
        kind: "hit".to_owned(),
        player: None,
        payload: Bytes::new(),
    }
}

fn true_case() -> Case {
    let mut case = Case {
        account: Account::default(),
        recomputed: Recomputed::default(),
        evidence: Evidence {
            name: "ada".to_owned(),
            player: PLAYER,
            match_id: MATCH,
            ..Evidence::default()
        },
        delivered: vec![effect(40)],
    };
    for number in 1..=RECORDS {
        let (first, last) = (number * 10 - 9, number * 10);
        let mut flush = Flush { first: Tick(first), last: Tick(last), ..Flush::default() };
        for tick in first..=last {
            let mut step = Step { tick: Tick(tick), inputs: vec![input(tick)], ..Step::default() };
            if tick == 1 {
                step.joins.push(Join { player: PLAYER, session: SESSION, name: "ada".to_owned() });
            }
            if tick % 20 == 5 {
                let command = AppliedCommand {
                    player: PLAYER,
                    session: SESSION,
                    seq: tick / 20 + 1,
                    payload: Bytes::new(),
                };
                case.recomputed.commands.insert((SESSION, command.seq), (Tick(tick), true));
                case.evidence.commands.push(SeenCommand {
                    session: SESSION,
                    seq: command.seq,
                    answer: Some((Tick(tick), true)),
                });
                step.commands.push(command);
            }
            flush.steps.push(step);
            let at = Duration::from_millis(tick * 100);
            case.evidence.inputs.push(SeenInput {
                at,
                session: SESSION,
                seq: tick,
                tick: Tick(tick),
            });
            let epoch = Epoch(1 + u64::from(number > RECORDS / 2));
            case.evidence.frames.push(SeenFrame {
                at,
                epoch,
                tick: Tick(tick),
                durable: Tick(tick),
                view: Some(view(tick)),
            });
            case.recomputed.hashes.insert(Tick(tick), hash(tick));
            case.recomputed.views.insert(Tick(tick), view(tick));
        }
        let beat = Beat { tick: Tick(last), hash: hash(last) };
        flush.beats.push(beat);
        case.evidence.beats.push(beat);
        let event = event(last);
        case.recomputed.events.insert((event.tick, event.ordinal), event.clone());
        case.evidence.events.push(SeenEvent {
            tick: event.tick,
            ordinal: 0,
            kind: event.kind,
            payload: event.payload,
        });
        let epoch = Epoch(1 + u64::from(number > RECORDS / 2));
        case.account.records.push(rekindle_testkit::history::Record {
            epoch,
            seq: Seq(number),
            flush,
        });
    }
    case.recomputed.effects.push(effect(40));
    case.evidence.welcomes.push(SeenWelcome {
        at: Duration::ZERO,
        session: SESSION,
        resumed: false,
        anew: true,
    });
    case.evidence.welcomes.push(SeenWelcome {
        at: Duration::from_secs(3),
        session: SESSION,
        resumed: true,
        anew: false,
    });
    case
}

fn judge(case: &Case) -> Vec<Violation> {
    let Case { account, recomputed, evidence, delivered } = case;
    let whole = account
        .gaps()
        .into_iter()
        .map(|detail| Violation::new(Rule::JournalWhole, detail))
        .collect();
    [
        whole,
        oracle::inputs_once(account, evidence),
        oracle::commands_once(account, recomputed, evidence),
        oracle::journal_hashes(account, recomputed),
        oracle::seen_hashes(recomputed, evidence),
        oracle::nothing_undone(account, recomputed, evidence),
        oracle::sessions_kept(account, evidence),
        oracle::events_agree(recomputed, evidence),
        oracle::effects_once(account, recomputed, delivered, 5),
        oracle::progress(evidence, QUIET_FROM, END),
        oracle::enough_evidence(evidence, 50, 5),
    ]
    .concat()
}

/// Doctors the true history and says which rules object.
fn doctored(change: impl FnOnce(&mut Case)) -> Vec<Rule> {
    let mut case = true_case();
    change(&mut case);
    let mut rules: Vec<Rule> = judge(&case).into_iter().map(|violation| violation.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    rules
}

fn step(case: &mut Case, tick: u64) -> &mut Step {
    let steps = case.account.records.iter_mut().flat_map(|record| &mut record.flush.steps);
    steps.into_iter().find(|step| step.tick == Tick(tick)).expect("every tick has a step")
}

#[test]
fn a_true_history_passes() {
    assert_eq!(judge(&true_case()), []);
}

#[test]
fn a_lost_input_is_found() {
    assert_eq!(doctored(|case| step(case, 33).inputs.clear()), [Rule::InputsOnce]);
}

#[test]
fn a_duplicate_input_is_found() {
    assert_eq!(doctored(|case| step(case, 33).inputs.push(input(32))), [Rule::InputsOnce]);
    // Also one that no client was told of.
    let unseen = doctored(|case| {
        case.evidence.inputs.retain(|seen| seen.seq != 32);
        step(case, 33).inputs[0] = input(32);
        case.evidence.inputs.retain(|seen| seen.seq != 33);
    });
    assert_eq!(unseen, [Rule::InputsOnce]);
}

#[test]
fn an_input_at_another_tick_is_found() {
    let moved = doctored(|case| {
        let input = step(case, 33).inputs.remove(0);
        step(case, 34).inputs.insert(0, input);
    });
    assert_eq!(moved, [Rule::InputsOnce]);
}

#[test]
fn inputs_out_of_order_are_found() {
    let swapped = doctored(|case| {
        step(case, 33).inputs[0].seq = 34;
        step(case, 34).inputs[0].seq = 33;
        case.evidence.inputs.retain(|seen| seen.seq != 33 && seen.seq != 34);
    });
    assert_eq!(swapped, [Rule::InputsOnce]);
}

#[test]
fn a_lost_a_doubled_and_a_misreported_command_are_found() {
    assert_eq!(
        doctored(|case| _ = case.recomputed.commands.remove(&(SESSION, 2))),
        [Rule::CommandsOnce]
    );
    assert_eq!(
        doctored(|case| case.evidence.commands[1].answer = Some((Tick(25), false))),
        [Rule::CommandsOnce]
    );
    let unanswered = doctored(|case| {
        case.evidence.commands[1].answer = None;
        case.recomputed.commands.remove(&(SESSION, 2));
    });
    assert_eq!(unanswered, [Rule::CommandsOnce], "it was said to be applied");
    let doubled = doctored(|case| {
        let command = step(case, 5).commands[0].clone();
        step(case, 6).commands.push(command);
    });
    assert_eq!(doubled, [Rule::CommandsOnce]);
}

#[test]
fn a_wrong_hash_is_found() {
    assert_eq!(
        doctored(|case| case.account.records[2].flush.beats[0].hash = hash(1)),
        [Rule::HashesAgree]
    );
    assert_eq!(doctored(|case| case.evidence.beats[2].hash = hash(1)), [Rule::HashesAgree]);
}

#[test]
fn an_undone_frame_is_found() {
    // The tick that was seen under epoch 1 was lost, and made again by the owner of epoch 2.
    assert_eq!(doctored(|case| case.account.records[2].epoch = Epoch(2)), [Rule::NothingUndone]);
    // The journal ends before what was seen.
    let cut = doctored(|case| {
        case.account.records.pop();
        case.evidence.inputs.retain(|seen| seen.tick <= Tick(50));
        case.evidence.commands.retain(|seen| seen.seq <= 3);
    });
    assert_eq!(cut, [Rule::NothingUndone]);
    // It was declared durable and was not.
    assert_eq!(doctored(|case| case.evidence.frames[59].durable = Tick(61)), [Rule::NothingUndone]);
    // It looked different.
    assert_eq!(
        doctored(|case| drop(case.recomputed.views.insert(Tick(20), view(21)))),
        [Rule::NothingUndone]
    );
    // The server said itself that it went back.
    let rewind = SeenRewind { at: Duration::ZERO, to: Tick(30) };
    assert_eq!(doctored(|case| case.evidence.rewinds.push(rewind)), [Rule::NothingUndone]);
}

#[test]
fn a_frame_that_was_undone_and_not_told_is_found() {
    let mut case = true_case();
    let at = |index: usize| case.evidence.frames[index].at;
    let (seen, next) = (at(2), at(3));
    let tick = case.evidence.frames[2].tick;
    let told = |case: &Case| oracle::undone_is_told(&case.account, &case.evidence).len();
    assert_eq!(told(&case), 0);
    // Its tick was made anew by the owner of epoch 2, whose frames follow.
    let owner = case.account.epoch_of(tick).expect("it is in the journal");
    case.evidence.frames[2].epoch = Epoch(owner.0 - 1);
    case.evidence.frames[2].durable = Tick(0);
    assert_eq!(told(&case), 1);
    // Too late, or not far enough, is not told.
    let late = SeenRewind { at: next + Duration::from_millis(1), to: Tick(tick.0 - 1) };
    let short = SeenRewind { at: seen, to: tick };
    case.evidence.rewinds = vec![late, short];
    assert_eq!(told(&case), 1);
    case.evidence.rewinds.push(SeenRewind { at: next, to: Tick(tick.0 - 1) });
    assert_eq!(told(&case), 0);
    // What was declared durable stands, whatever is told.
    case.evidence.frames[2].durable = tick;
    assert_eq!(told(&case), 1);
}

#[test]
fn a_lost_session_is_found() {
    assert_eq!(doctored(|case| step(case, 1).joins.clear()), [Rule::SessionsKept]);
    let other = |case: &mut Case| {
        let join = Join { player: PLAYER, session: SessionId(31), name: "ada".to_owned() };
        step(case, 31).joins.push(join);
        case.evidence.welcomes[1].session = SessionId(31);
    };
    assert_eq!(doctored(other), [Rule::SessionsKept]);
    let timed_out = doctored(|case| {
        other(case);
        step(case, 30).leaves.push(Leave {
            player: PLAYER,
            session: SESSION,
            reason: LeaveReason::TimedOut,
        });
    });
    assert_eq!(timed_out, [], "a session that ended is not missed");
}

#[test]
fn an_event_that_never_was_is_found() {
    assert_eq!(
        doctored(|case| case.evidence.events[1].kind = "miss".to_owned()),
        [Rule::EventsAgree]
    );
    let whispered = doctored(|case| {
        case.recomputed.events.values_mut().for_each(|event| event.player = Some(PlayerId(4)));
    });
    assert_eq!(whispered, [Rule::EventsAgree], "it was for somebody else");
}

#[test]
fn a_lost_an_invented_and_a_doubled_effect_are_found() {
    assert_eq!(doctored(|case| case.delivered.clear()), [Rule::EffectsOnce]);
    assert_eq!(doctored(|case| case.delivered.push(effect(50))), [Rule::EffectsOnce]);
    assert_eq!(doctored(|case| case.delivered.push(effect(40))), [Rule::EffectsOnce]);
    let young = doctored(|case| {
        case.recomputed.effects.push(effect(57));
    });
    assert_eq!(young, [], "the last ticks' effects may still be on their way");
}

#[test]
fn no_progress_is_found() {
    assert_eq!(
        doctored(|case| case.evidence.frames.retain(|frame| frame.at < Duration::from_secs(4))),
        [Rule::Progress]
    );
    assert_eq!(
        doctored(|case| case.evidence.frames.iter_mut().skip(19).for_each(|frame| {
            frame.tick = Tick(10);
            frame.durable = Tick(10);
            frame.view = None;
        })),
        [Rule::Progress]
    );
    let stuck = doctored(|case| {
        case.evidence.inputs.retain(|seen| seen.at < QUIET_FROM);
    });
    assert_eq!(stuck, [Rule::Progress, Rule::EnoughEvidence]);
}

#[test]
fn a_run_that_proved_nothing_is_found() {
    assert_eq!(doctored(|case| case.evidence.beats.clear()), [Rule::EnoughEvidence]);
}

#[test]
fn a_hole_in_the_journal_is_found() {
    assert!(doctored(|case| drop(case.account.records.remove(2))).contains(&Rule::JournalWhole));
    assert_eq!(doctored(|case| case.account.records[3].seq = Seq(3)), [Rule::JournalWhole]);
    assert!(
        doctored(|case| case.account.records[3].flush.first = Tick(30))
            .contains(&Rule::JournalWhole)
    );
    assert_eq!(doctored(|case| case.account.records[3].epoch = Epoch(0)), [Rule::JournalWhole]);
    assert_eq!(
        doctored(|case| case.account.records[3].flush.steps.swap(0, 1)),
        [Rule::JournalWhole, Rule::InputsOnce]
    );
}

const OLD: Incarnation = Incarnation(100);
const NEW: Incarnation = Incarnation(200);

/// The true history as two nodes would have written it: a batch for each record.
fn written() -> (MatchLease, Logs, BTreeMap<Incarnation, BatchNo>) {
    let mut logs = Logs::new();
    let (mut prev_frame, mut prev_batch) = (0, 0);
    for record in &true_case().account.records {
        let incarnation = if record.epoch == Epoch(1) { OLD } else { NEW };
        let log = logs.entry(incarnation).or_default();
        if log.is_empty() {
            (prev_frame, prev_batch) = (0, 0);
        }
        let number = BatchNo(log.len() as u64 + 1);
        let mut builder = BatchBuilder::new(incarnation, number, prev_batch, 1 << 20);
        let header = FrameHeader {
            match_id: MATCH,
            epoch: record.epoch,
            seq: record.seq,
            first_tick: record.flush.first,
            last_tick: record.flush.last,
            build: BuildId(1),
            time_ms: 0,
            prev_crc: prev_frame,
        };
        prev_frame = builder.push(&header, &record.flush.encode()).expect("there is room");
        let batch = builder.finish();
        prev_batch = batch.crc();
        log.insert(number, batch);
    }
    let stretch = |epoch, incarnation, seq| Lineage {
        epoch: Epoch(epoch),
        incarnation,
        first_batch: BatchNo(1),
        first_seq: Seq(seq),
    };
    let lease = MatchLease {
        match_id: MATCH,
        version: 2,
        epoch: Epoch(2),
        incarnation: NEW,
        state: MatchState::Running,
        attempts: 0,
        lineage: vec![stretch(1, OLD, 1), stretch(2, NEW, 4)],
        spec: MatchSpec {
            game: "none".to_owned(),
            config: Bytes::new(),
            seed: 0,
            tick_rate: 30,
            house_bots: 0,
            created_ms: 0,
        },
        region: DEFAULT_REGION.to_owned(),
    };
    (lease, logs, BTreeMap::from([(OLD, BatchNo(3))]))
}

#[test]
fn a_journal_is_read_as_it_was_written() {
    let (lease, logs, seals) = written();
    assert_eq!(Account::read(&lease, &logs, &seals), (true_case().account, vec![]));
}

#[test]
fn a_record_behind_a_seal_does_not_count() {
    let (lease, logs, mut seals) = written();
    seals.insert(OLD, BatchNo(2));
    let (account, problems) = Account::read(&lease, &logs, &seals);
    assert_eq!(account.records.len(), 5);
    assert!(
        problems.iter().any(|problem| problem.detail.contains("record 4 follows record 2")),
        "{problems:?}"
    );
}

#[test]
fn a_damaged_or_missing_batch_is_found() {
    let (lease, mut logs, seals) = written();
    let log = logs.get_mut(&OLD).expect("it was written");
    let mut bytes = log[&BatchNo(2)].bytes.to_vec();
    bytes[100] ^= 1;
    log.get_mut(&BatchNo(2)).expect("it was written").bytes = bytes.into();
    assert!(!Account::read(&lease, &logs, &seals).1.is_empty());
    let (lease, mut logs, seals) = written();
    logs.get_mut(&OLD).expect("it was written").remove(&BatchNo(2));
    assert!(!Account::read(&lease, &logs, &seals).1.is_empty());
}
