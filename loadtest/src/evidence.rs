//! What bots saw on the wire, and nothing else: the basis of every verdict.
//!
//! Each bot writes its own log. Nothing in it comes from the server's files or metrics, so it can
//! be held against them afterwards.

use std::collections::BTreeSet;
use std::io::{self, BufRead, Write};
use std::time::Duration;

use hdrhistogram::Histogram;
use rekindle_schema::{Epoch, MatchId, PlayerId, SessionId, StateHash, Tick};
use serde::{Deserialize, Serialize};

/// The last snapshot of a killed server may be read so long after the kill, in microseconds.
const REACTION: u64 = 500_000;

/// A time since the start of the swarm, in microseconds.
pub type Micros = u64;

/// An input that a frame declared part of a durable tick.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DurableInput {
    /// The bot's number of the input.
    pub seq: u64,
    /// The tick whose step contained it.
    pub tick: Tick,
    /// Under which ownership the frame came.
    pub epoch: Epoch,
    /// From when the input should have been sent to when the bot learnt that it is durable.
    pub latency_us: u64,
}

/// A command whose outcome a bot was told. A node that sends what is durable alone tells it when
/// the tick is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredCommand {
    /// The bot's number of the command.
    pub seq: u64,
    /// The tick whose step contained it.
    pub tick: Tick,
    /// Whether the game granted it.
    pub granted: bool,
    /// From when the command should have been sent to when the bot was told.
    pub latency_us: u64,
}

/// One thing that a bot saw. Lines of an evidence file are these, with the bot in front.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "fact", rename_all = "snake_case")]
pub enum Fact {
    /// A new session began.
    Joined {
        /// When.
        at_us: Micros,
        /// The session.
        session: SessionId,
        /// Under which ownership.
        epoch: Epoch,
        /// The tick in the welcome.
        tick: Tick,
    },
    /// The session went on over a new connection.
    Resumed {
        /// When.
        at_us: Micros,
        /// The session.
        session: SessionId,
        /// Under which ownership.
        epoch: Epoch,
        /// The tick in the welcome.
        tick: Tick,
    },
    /// An input is durable.
    Durable(DurableInput),
    /// A command was answered.
    Answered(AnsweredCommand),
    /// The node that knew what became of a command has died. It was applied once in any case.
    Unanswered {
        /// The bot's number of the command.
        seq: u64,
    },
    /// A hash of the match.
    Beat {
        /// After which tick.
        tick: Tick,
        /// Of the canonical bytes.
        hash: StateHash,
    },
    /// No snapshot came for several ticks, or the next one was of another ownership.
    Gap {
        /// The snapshot before.
        from_us: Micros,
        /// The snapshot after.
        to_us: Micros,
        /// The tick of the one before.
        from_tick: Tick,
        /// The tick of the one after.
        to_tick: Tick,
        /// A new connection or a new ownership lies between.
        interrupted: bool,
    },
    /// The session goes on at another node, over a new connection.
    Moved {
        /// When.
        at_us: Micros,
        /// From the last that the old node said about the match to the welcome of the new one, as
        /// the client measures it.
        gap_us: Micros,
    },
    /// Ticks that had been seen were taken back.
    RolledBack {
        /// When.
        at_us: Micros,
        /// The newest tick seen.
        from: Tick,
        /// The newest tick that still holds.
        to: Tick,
    },
    /// The connection went.
    Disconnected {
        /// When.
        at_us: Micros,
        /// In words.
        reason: String,
    },
    /// The match is over, as the game says.
    Ended {
        /// When.
        at_us: Micros,
        /// Why, in the game's words.
        reason: String,
    },
    /// The bot's client stopped for good before the bot wanted to.
    Closed {
        /// When.
        at_us: Micros,
        /// In words.
        message: String,
    },
}

/// What one bot saw of one match.
#[derive(Debug, Clone, PartialEq)]
pub struct BotLog {
    /// Who it plays for.
    pub player: PlayerId,
    /// Where; 0 if it never got in.
    pub match_id: MatchId,
    /// In order.
    pub facts: Vec<Fact>,
    /// What it did.
    pub tally: Tally,
}

impl BotLog {
    /// Whether it was let in, then lost its connection, and never came back.
    pub fn is_cut_off(&self) -> bool {
        let mut standing = (false, false);
        for fact in &self.facts {
            standing = match fact {
                Fact::Joined { .. } | Fact::Resumed { .. } => (true, false),
                Fact::Disconnected { .. } => (standing.0, true),
                // It has nothing to come back to.
                Fact::Ended { .. } | Fact::Closed { .. } => (false, false),
                _ => standing,
            };
        }
        standing == (true, true)
    }

    /// Of a bot that has seen nothing yet.
    pub(crate) fn empty(player: PlayerId) -> Self {
        Self { player, match_id: MatchId::default(), facts: Vec::new(), tally: Tally::default() }
    }
}

/// What one bot did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Inputs sent.
    pub sent: u64,
    /// Inputs that fell due while there was no session.
    pub unsent: u64,
    /// Commands handed to the client, which keeps each until it is answered.
    #[serde(default)]
    pub commands: u64,
    /// Snapshots received.
    pub snapshots: u64,
    /// Newest tick seen.
    pub newest: Tick,
}

/// A line of an evidence file.
#[derive(Serialize, Deserialize)]
struct Line<T> {
    player: PlayerId,
    #[serde(rename = "match")]
    match_id: MatchId,
    #[serde(flatten)]
    rest: T,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Rest {
    Fact(Fact),
    Tally { tally: Tally },
}

/// What a swarm saw.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Evidence {
    /// Ascending by player; of one player in the order of its matches.
    pub bots: Vec<BotLog>,
}

impl Evidence {
    /// All inputs that were declared durable: (match, session, input).
    pub fn durable(&self) -> impl Iterator<Item = (MatchId, SessionId, DurableInput)> {
        self.bots.iter().flat_map(|bot| {
            let mut session = SessionId::default();
            bot.facts.iter().filter_map(move |fact| match fact {
                Fact::Joined { session: now, .. } | Fact::Resumed { session: now, .. } => {
                    session = *now;
                    None
                }
                Fact::Durable(input) => Some((bot.match_id, session, *input)),
                _ => None,
            })
        })
    }

    /// All hashes that were received: (match, tick, hash).
    pub fn beats(&self) -> impl Iterator<Item = (MatchId, Tick, StateHash)> {
        self.bots.iter().flat_map(|bot| {
            bot.facts.iter().filter_map(move |fact| match fact {
                Fact::Beat { tick, hash } => Some((bot.match_id, *tick, *hash)),
                _ => None,
            })
        })
    }

    /// For each bot that was cut off by something that happened at `at` (since the start of the
    /// swarm): how long after it the first newer tick came.
    pub fn back_after(&self, at: Duration) -> Vec<Duration> {
        let at = at.as_micros() as u64;
        let cut = |fact: &Fact| match *fact {
            Fact::Gap { from_us, to_us, interrupted: true, .. }
                if at < to_us && from_us < at + REACTION =>
            {
                Some(Duration::from_micros(to_us - at))
            }
            _ => None,
        };
        self.bots.iter().filter_map(|bot| bot.facts.iter().find_map(cut)).collect()
    }

    /// Writes one JSON object a line.
    pub fn write_json_lines(&self, out: &mut impl Write) -> io::Result<()> {
        for bot in &self.bots {
            let mut line = |rest| {
                serde_json::to_writer(
                    &mut *out,
                    &Line { player: bot.player, match_id: bot.match_id, rest },
                )?;
                out.write_all(b"\n")
            };
            for fact in &bot.facts {
                line(Rest::Fact(fact.clone()))?;
            }
            line(Rest::Tally { tally: bot.tally })?;
        }
        Ok(())
    }

    /// Reads what [`Evidence::write_json_lines`] wrote.
    pub fn read_json_lines(input: impl BufRead) -> io::Result<Self> {
        let mut evidence = Self::default();
        for (number, text) in input.lines().enumerate() {
            let line: Line<Rest> = serde_json::from_str(&text?).map_err(|error| {
                io::Error::new(
                    io::ErrorKind::InvalidData,
                    format!("line {} of the evidence: {error}", number + 1),
                )
            })?;
            let (player, match_id) = (line.player, line.match_id);
            let same = |bot: &BotLog| (bot.player, bot.match_id) == (player, match_id);
            if !evidence.bots.last().is_some_and(same) {
                evidence.bots.push(BotLog { match_id, ..BotLog::empty(player) });
            }
            if let Some(bot) = evidence.bots.last_mut() {
                match line.rest {
                    Rest::Fact(fact) => bot.facts.push(fact),
                    Rest::Tally { tally } => bot.tally = tally,
                }
            }
        }
        Ok(evidence)
    }

    /// The figures.
    pub fn summary(&self) -> Summary {
        let bots: BTreeSet<_> = self.bots.iter().map(|bot| bot.player).collect();
        let mut summary = Summary { bots: bots.len(), ..Summary::default() };
        let mut matches = BTreeSet::new();
        let [mut latency, mut command_latency, mut gaps, mut moves] =
            std::array::from_fn(|_| Percentiles::recorder());
        for bot in &self.bots {
            if bot.match_id != MatchId::default() {
                matches.insert(bot.match_id);
            }
            summary.inputs_sent += bot.tally.sent;
            summary.inputs_unsent += bot.tally.unsent;
            summary.commands_sent += bot.tally.commands;
            summary.snapshots += bot.tally.snapshots;
            summary.cut_off += u64::from(bot.is_cut_off());
            let mut joins = 0u64;
            for fact in &bot.facts {
                match fact {
                    Fact::Joined { .. } => joins += 1,
                    Fact::Resumed { .. } => summary.sessions_resumed += 1,
                    Fact::Durable(input) => {
                        summary.inputs_durable += 1;
                        latency.saturating_record(input.latency_us);
                    }
                    Fact::Answered(command) => {
                        summary.commands_answered += 1;
                        summary.commands_granted += u64::from(command.granted);
                        command_latency.saturating_record(command.latency_us);
                    }
                    Fact::Unanswered { .. } => summary.commands_unanswered += 1,
                    Fact::Beat { .. } => summary.beats += 1,
                    Fact::Gap { from_us, to_us, interrupted, .. } => {
                        if *interrupted {
                            gaps.saturating_record(to_us - from_us);
                        } else {
                            summary.stalls += 1;
                        }
                    }
                    Fact::Moved { gap_us, .. } => moves.saturating_record(*gap_us),
                    Fact::RolledBack { from, to, .. } => {
                        summary.ticks_rolled_back_max =
                            summary.ticks_rolled_back_max.max(from.0.saturating_sub(to.0));
                    }
                    Fact::Disconnected { .. } => summary.disconnects += 1,
                    Fact::Closed { .. } => summary.closed += 1,
                    Fact::Ended { .. } => summary.ended += 1,
                }
            }
            summary.joins += joins;
            summary.joins_again += joins.saturating_sub(1);
        }
        summary.matches = matches.len();
        summary.latency = Percentiles::of(&latency);
        summary.command_latency = Percentiles::of(&command_latency);
        summary.interruption = Percentiles::of(&gaps);
        summary.moved = Percentiles::of(&moves);
        summary
    }
}

/// Percentiles of a duration, in milliseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// How many values.
    pub count: u64,
    /// Half are below.
    pub p50_ms: f64,
    /// 95 % are below.
    pub p95_ms: f64,
    /// 99 % are below.
    pub p99_ms: f64,
    /// 99.9 % are below.
    pub p999_ms: f64,
    /// The largest.
    pub max_ms: f64,
}

impl Percentiles {
    /// Up to ten minutes in microseconds, three digits.
    fn recorder() -> Histogram<u64> {
        Histogram::new_with_bounds(1, 600_000_000, 3)
            .unwrap_or_else(|_| unreachable!("constant bounds are valid"))
    }

    fn of(histogram: &Histogram<u64>) -> Self {
        let at = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        Self {
            count: histogram.len(),
            p50_ms: at(0.5),
            p95_ms: at(0.95),
            p99_ms: at(0.99),
            p999_ms: at(0.999),
            max_ms: histogram.max() as f64 / 1000.0,
        }
    }
}

/// The figures of a swarm.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Bots started.
    pub bots: usize,
    /// Matches that any of them was in.
    pub matches: usize,
    /// Inputs sent.
    pub inputs_sent: u64,
    /// Inputs that fell due while there was no session.
    pub inputs_unsent: u64,
    /// Inputs that a frame declared durable.
    pub inputs_durable: u64,
    /// Commands that bots asked for.
    #[serde(default)]
    pub commands_sent: u64,
    /// Commands whose outcome a bot was told.
    #[serde(default)]
    pub commands_answered: u64,
    /// Of them, those that the game granted.
    #[serde(default)]
    pub commands_granted: u64,
    /// Commands whose node died before it told the outcome: applied once in any case.
    #[serde(default)]
    pub commands_unanswered: u64,
    /// Snapshots received.
    pub snapshots: u64,
    /// Hashes received.
    pub beats: u64,
    /// Sessions that began.
    pub joins: u64,
    /// Of them, sessions of bots that had had one before.
    pub joins_again: u64,
    /// Sessions that went on over a new connection.
    pub sessions_resumed: u64,
    /// Connections that went.
    pub disconnects: u64,
    /// Bots whose client stopped for good before they wanted to.
    pub closed: u64,
    /// Bots that were cut off and had not come back at the end.
    #[serde(default)]
    pub cut_off: u64,
    /// Bots whose match ended.
    #[serde(default)]
    pub ended: u64,
    /// Pauses of several ticks on one connection.
    pub stalls: u64,
    /// Most ticks that one bot had seen and that were taken back.
    pub ticks_rolled_back_max: u64,
    /// From when an input should have been sent to when the bot learnt that it is durable.
    pub latency: Percentiles,
    /// From when a command should have been sent to when the bot was told what became of it.
    #[serde(default)]
    pub command_latency: Percentiles,
    /// From the last snapshot of a connection to the first newer one of the next.
    pub interruption: Percentiles,
    /// Of sessions that went on at another node: from the last that the old one said to the welcome
    /// of the new one.
    #[serde(default)]
    pub moved: Percentiles,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence() -> Evidence {
        let facts = vec![
            Fact::Joined { at_us: 10, session: SessionId(1), epoch: Epoch(1), tick: Tick(5) },
            Fact::Durable(DurableInput {
                seq: 1,
                tick: Tick(6),
                epoch: Epoch(1),
                latency_us: 40_000,
            }),
            Fact::Beat { tick: Tick(30), hash: StateHash([3; 32]) },
            Fact::Gap {
                from_us: 1_000_000,
                to_us: 1_600_000,
                from_tick: Tick(30),
                to_tick: Tick(31),
                interrupted: true,
            },
            Fact::Resumed {
                at_us: 1_500_000,
                session: SessionId(1),
                epoch: Epoch(2),
                tick: Tick(30),
            },
            Fact::Durable(DurableInput {
                seq: 2,
                tick: Tick(31),
                epoch: Epoch(2),
                latency_us: 60_000,
            }),
            Fact::Answered(AnsweredCommand {
                seq: 1,
                tick: Tick(33),
                granted: true,
                latency_us: 90_000,
            }),
            Fact::Unanswered { seq: 2 },
            Fact::RolledBack { at_us: 2_000_000, from: Tick(40), to: Tick(37) },
            Fact::Moved { at_us: 2_100_000, gap_us: 20_000 },
            Fact::Ended { at_us: 2_200_000, reason: "draw".to_owned() },
        ];
        let tally = Tally { sent: 3, unsent: 1, commands: 3, snapshots: 20, newest: Tick(40) };
        Evidence { bots: vec![BotLog { player: PlayerId(1), match_id: MatchId(9), facts, tally }] }
    }

    #[test]
    fn evidence_reads_back_as_it_was_written() {
        let mut bytes = Vec::new();
        evidence().write_json_lines(&mut bytes).unwrap();
        assert_eq!(Evidence::read_json_lines(&bytes[..]).unwrap(), evidence());
        let broken = [&bytes[..], b"{\"player\":1}\n"].concat();
        let error = Evidence::read_json_lines(&broken[..]).unwrap_err().to_string();
        assert!(error.contains("line 13"), "{error}");
    }

    #[test]
    fn a_summary_counts_what_the_log_says() {
        let summary = evidence().summary();
        assert_eq!((summary.inputs_durable, summary.beats, summary.sessions_resumed), (2, 1, 1));
        assert_eq!((summary.joins, summary.joins_again, summary.ticks_rolled_back_max), (1, 0, 3));
        assert!((summary.interruption.max_ms - 600.0).abs() < 1.0, "{:?}", summary.interruption);
        let commands = (summary.commands_sent, summary.commands_answered, summary.commands_granted);
        assert_eq!((commands, summary.commands_unanswered, summary.ended), ((3, 1, 1), 1, 1));
        assert!((summary.command_latency.max_ms - 90.0).abs() < 1.0, "{summary:?}");
        assert_eq!(summary.moved.count, 1);
        assert!((summary.moved.max_ms - 20.0).abs() < 0.1, "{:?}", summary.moved);
        assert_eq!(
            evidence()
                .durable()
                .map(|(_, session, input)| (session.0, input.seq))
                .collect::<Vec<_>>(),
            [(1, 1), (1, 2)]
        );
    }

    #[test]
    fn a_bot_is_cut_off_that_was_in_and_did_not_come_back() {
        let (session, epoch, tick) = (SessionId(1), Epoch(1), Tick(5));
        let joined = || Fact::Joined { at_us: 1, session, epoch, tick };
        let lost = || Fact::Disconnected { at_us: 2, reason: "silent".to_owned() };
        let back = || Fact::Resumed { at_us: 3, session, epoch, tick };
        let over = || Fact::Ended { at_us: 4, reason: "draw".to_owned() };
        let closed = || Fact::Closed { at_us: 4, message: "no".to_owned() };
        for (facts, cut_off) in [
            (vec![joined()], false),
            (vec![lost()], false),
            (vec![joined(), lost()], true),
            (vec![joined(), lost(), lost()], true),
            (vec![joined(), lost(), back()], false),
            (vec![joined(), lost(), back(), lost()], true),
            (vec![joined(), over(), lost()], false),
            (vec![joined(), lost(), closed()], false),
        ] {
            let bot = BotLog { facts: facts.clone(), ..BotLog::empty(PlayerId(1)) };
            assert_eq!(bot.is_cut_off(), cut_off, "{facts:?}");
            let summary = Evidence { bots: vec![bot] }.summary();
            assert_eq!(summary.cut_off, u64::from(cut_off));
        }
    }

    #[test]
    fn coming_back_is_measured_from_the_kill_not_from_the_last_tick() {
        assert_eq!(
            evidence().back_after(Duration::from_millis(1_100)),
            [Duration::from_millis(500)]
        );
        assert!(evidence().back_after(Duration::from_millis(1_700)).is_empty());
    }
}
