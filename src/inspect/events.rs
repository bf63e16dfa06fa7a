//! Events of matches by type and by the names of their fields: what logs and archive have of them,
//! and what comes. Called by `rekindle events` and by the stream of the admin interface.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rekindle_actors::Games;
use rekindle_admin::events::{EventNews, EventView, Missed, Turn};
use rekindle_schema::lease::{MatchLease, MatchState};
use rekindle_schema::record::{Decision, Event, Flush};
use rekindle_schema::{MatchId, PlayerId, Tick};
use rekindle_sim::{GameType, did_you_mean};
use rekindle_store::history::{self, End};
use rekindle_store::{Store, StoreError};

use super::reach;
use super::resim::{self, ResimError};
use super::tail::{News, Tail, Which};
use crate::{hex, moment};

/// How often logs are read for what is new.
const POLL: Duration = Duration::from_millis(100);
/// How long a store that does not answer is left alone.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// Which events are asked for.
#[derive(Debug, Clone)]
pub struct Wanted {
    /// Of which matches.
    pub which: Which,
    /// Of which kinds; all if it is empty.
    pub kinds: BTreeSet<String>,
    /// Only those that concern this player.
    pub player: Option<PlayerId>,
}

/// Nothing of what is asked for can be there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSuch {
    /// No game that is asked for tells such events.
    #[error("RK-CLI-230: no event is of type `{kind}`{near}; those of {of}: {known}")]
    Kind {
        /// What was asked for.
        kind: String,
        /// A name that may have been meant.
        near: String,
        /// Whose they are.
        of: String,
        /// All there are.
        known: String,
    },
    /// This executable has no such game.
    #[error("RK-CLI-231: this executable has no game `{name}`; it has: {known}")]
    Game {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
}

impl Wanted {
    /// Refuses kinds that no game among them declares. `game` is that of the one match, if one is
    /// asked for. A game that declares none, or that is not known here, may have any.
    pub fn check(&self, games: &Games, game: Option<&str>) -> Result<(), NoSuch> {
        let names = || games.names().collect::<Vec<_>>().join(", ");
        let of = match (&self.which, game) {
            (Which::Game(name), _) if games.get(name).is_err() => {
                return Err(NoSuch::Game { name: name.clone(), known: names() });
            }
            (Which::Game(name), _) => vec![name.as_str()],
            (Which::One(_), game) => game.into_iter().collect(),
            (Which::All, _) => games.names().collect(),
        };
        let known: Vec<Arc<dyn GameType>> =
            of.iter().filter_map(|name| games.get(name).ok()).collect();
        let declared: BTreeSet<&str> =
            known.iter().flat_map(|game| game.payloads().kinds()).collect();
        if declared.is_empty() {
            return Ok(());
        }
        match self.kinds.iter().find(|kind| !declared.contains(kind.as_str())) {
            None => Ok(()),
            Some(kind) => Err(NoSuch::Kind {
                kind: kind.clone(),
                near: if kind.is_empty() {
                    ": an empty name, as by a comma too many".to_owned()
                } else {
                    did_you_mean(kind, declared.iter().copied())
                },
                of: of.join(", "),
                known: declared.into_iter().collect::<Vec<_>>().join(", "),
            }),
        }
    }

    fn has(&self, game: Option<&dyn GameType>, event: &Event) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&event.kind))
            && self.player.is_none_or(|player| match game {
                Some(game) => game.payloads().concerns(event, player),
                None => event.player == Some(player),
            })
    }

    /// What is asked for of a record's events.
    pub fn of_record(
        &self,
        games: &Games,
        (match_id, game): (MatchId, &str),
        (flush, time_ms): (&Flush, u64),
    ) -> Vec<EventView> {
        let known = games.get(game).ok();
        let wanted = flush.events.iter().filter(|event| self.has(known.as_deref(), event));
        let read = |event: &Event| match &known {
            Some(game) => game.payloads().event(&event.kind, &event.payload),
            None => Err(format!("this executable has no game `{game}`")),
        };
        wanted
            .map(|event| {
                let read = read(event);
                EventView {
                    match_id: match_id.to_string(),
                    game: game.to_owned(),
                    tick: event.tick.0,
                    ordinal: event.ordinal,
                    time: moment::show(time_ms),
                    event: event.kind.clone(),
                    player: event.player.map(|player| player.0),
                    unread: read.as_ref().err().cloned(),
                    fields: read.ok(),
                    payload: hex::encode(&event.payload),
                }
            })
            .collect()
    }
}

/// The part of a history that is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Span {
    /// The first tick.
    pub from: Tick,
    /// The last tick.
    pub to: Tick,
    /// What was recorded before is left out: milliseconds since 1970.
    pub since: Option<u64>,
    /// The last record.
    pub end: End,
}

/// What a history says.
pub struct Told {
    /// The events, in order.
    pub events: Vec<EventView>,
    /// What went wrong without doing harm, and what is no longer kept.
    pub notes: Vec<String>,
    /// The last record that was read: its epoch, number and last tick.
    last: Option<(rekindle_schema::Epoch, rekindle_schema::Seq, Tick)>,
}

/// Why the events of a match cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EventsError {
    /// The store does not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The history has a hole.
    #[error(transparent)]
    History(#[from] history::HistoryError),
    /// A record is not what its format says.
    #[error(transparent)]
    Record(#[from] ResimError),
}

/// The events of one match that are asked for, out of logs and archive.
pub async fn read(
    store: &Store,
    games: &Games,
    wanted: &Wanted,
    row: &MatchLease,
    span: Span,
) -> Result<Told, EventsError> {
    let (points, _) = history::points(store, row).await?;
    let reach = reach::longest(store, row, &points, span.end).await?;
    let mut told = Told { events: Vec::new(), notes: reach.notes, last: None };
    let begins = reach.frames.first().map(|frame| frame.header.first_tick);
    if let Some(first) =
        begins.filter(|first| reach.start.is_some() && *first > span.from && span.since.is_none())
    {
        told.notes.push(format!(
            "the journal of match {} begins with tick {first}; what was before is no longer kept",
            row.match_id
        ));
    }
    let early = |time_ms: u64| span.since.is_some_and(|since| time_ms < since);
    for frame in reach.frames.iter().skip_while(|frame| early(frame.header.time_ms)) {
        let (flush, time_ms) = (&resim::decode(frame)?.flush, frame.header.time_ms);
        let of = (row.match_id, row.spec.game.as_str());
        let events = wanted.of_record(games, of, (flush, time_ms));
        let in_span = |event: &EventView| (span.from..=span.to).contains(&Tick(event.tick));
        told.events.extend(events.into_iter().filter(in_span));
    }
    told.last = reach.frames.last().map(|frame| {
        let header = &frame.header;
        (header.epoch, header.seq, header.last_tick)
    });
    Ok(told)
}

/// Events as they come, after those since some moment.
pub struct Follow {
    store: Store,
    games: Games,
    wanted: Wanted,
    tail: Tail,
    since: Option<u64>,
    /// Matches of which the past is still to be told.
    past: VecDeque<MatchLease>,
    news: VecDeque<EventNews>,
    /// The store did not answer when it was asked last.
    away: bool,
    over: bool,
}

impl Follow {
    /// Begins with what is written from now on, or with what was recorded since `since_ms`.
    pub async fn begin(
        store: Store,
        games: Games,
        wanted: Wanted,
        since_ms: Option<u64>,
    ) -> Result<Self, StoreError> {
        // Before the past is read: what is written meanwhile is in both, and told once.
        let tail = Tail::begin(store.clone(), wanted.which.clone()).await?;
        let rows = store.leases.matches().await?;
        let mut past: VecDeque<MatchLease> =
            rows.into_iter().filter(|row| wanted.which.has(row.match_id, &row.spec.game)).collect();
        let over = matches!(wanted.which, Which::One(_))
            && past.iter().all(|row| matches!(row.state, MatchState::Ended { .. }));
        if since_ms.is_none() {
            past.clear();
        }
        let (news, since, away) = (VecDeque::new(), since_ms, false);
        Ok(Self { store, games, wanted, tail, since, past, news, away, over })
    }

    /// The next piece of news, as soon as there is one; `None` once the one match that is followed
    /// is over.
    pub async fn next(&mut self) -> Option<EventNews> {
        loop {
            if let Some(news) = self.news.pop_front() {
                return Some(news);
            }
            if let Some(row) = self.past.pop_front() {
                self.tell_past(row).await;
                continue;
            }
            if self.over {
                return None;
            }
            match self.tail.poll().await {
                Ok(news) => {
                    self.away = false;
                    let nothing = news.is_empty();
                    for news in news {
                        self.tell(news);
                    }
                    if nothing {
                        tokio::time::sleep(POLL).await;
                    }
                }
                Err(error) => {
                    if self.away {
                        tokio::time::sleep(ASK_AGAIN).await;
                        continue;
                    }
                    self.away = true;
                    let trouble = format!("{error}; trying again");
                    self.news.push_back(EventNews::Trouble { trouble });
                }
            }
        }
    }

    async fn tell_past(&mut self, row: MatchLease) {
        let span = Span { from: Tick(0), to: Tick(u64::MAX), since: self.since, end: End::Newest };
        match read(&self.store, &self.games, &self.wanted, &row, span).await {
            Ok(told) => {
                if let Some((epoch, seq, tick)) = told.last {
                    self.tail.stands(row.match_id, epoch, seq, tick);
                }
                let notes = told.notes.into_iter().map(|trouble| EventNews::Trouble { trouble });
                self.news.extend(notes);
                let events = told.events.into_iter().map(|event| EventNews::Event(event.into()));
                self.news.extend(events);
            }
            Err(EventsError::Store(error)) if error.is_transient() && !self.away => {
                self.away = true;
                let trouble = format!("{error}; trying again");
                self.news.push_back(EventNews::Trouble { trouble });
                self.past.push_front(row);
            }
            Err(EventsError::Store(error)) if error.is_transient() => {
                tokio::time::sleep(ASK_AGAIN).await;
                self.past.push_front(row);
            }
            Err(error) => {
                let trouble = format!("match {}: its past cannot be told: {error}", row.match_id);
                self.news.push_back(EventNews::Trouble { trouble });
            }
        }
    }

    fn tell(&mut self, news: News) {
        match news {
            News::Record { match_id, time_ms, flush } => {
                let of = (match_id, self.tail.game(match_id));
                let events = self.wanted.of_record(&self.games, of, (&flush, time_ms));
                self.news.extend(events.into_iter().map(|event| EventNews::Event(event.into())));
                for decision in flush.decisions {
                    let Decision::End { tick, reason } = decision else { continue };
                    let ended = Turn { match_id: match_id.to_string(), tick: tick.0, reason };
                    self.news.push_back(EventNews::Ended { ended });
                    self.over |= self.wanted.which == Which::One(match_id);
                }
            }
            News::Missed { match_id, records, from, to } => {
                let (match_id, from_tick, to_tick) = (match_id.to_string(), from.0, to.0);
                let missed = Missed { match_id, records, from_tick, to_tick };
                self.news.push_back(EventNews::Missed { missed });
            }
            News::Void { match_id, tick } => {
                let reason = "another build goes on from an earlier state".to_owned();
                let void = Turn { match_id: match_id.to_string(), tick: tick.0, reason };
                self.news.push_back(EventNews::Void { void });
            }
            News::Damaged(trouble) => self.news.push_back(EventNews::Trouble { trouble }),
        }
    }
}
