//! Follows the logs of all nodes of a store: what has been written of matches, as it becomes
//! durable, in the order of each match, whichever node it is on.
//!
//! The reader pulls: nothing is kept for it anywhere, and no match waits for it. What is trimmed
//! before it has come there is looked for in the archive, and told as missed if it is not there
//! either. A batch counts once its node was seen to be live after it was read, or once it lies
//! before the seal of a log: what a fenced node writes behind that is nobody's (see
//! [`rekindle_store::history::LogFollower`]).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rekindle_schema::batch::{BatchView, Frame};
use rekindle_schema::lease::{NodeLease, NodeState};
use rekindle_schema::record::Flush;
use rekindle_schema::{BatchNo, Epoch, Incarnation, MatchId, Seq, Tick};
use rekindle_store::history::{self, End, HistoryError, LoadOptions, Start};
use rekindle_store::{Store, StoreError};
use tokio::time::Instant;

/// How often the list of logs is read again.
const LOGS_EVERY: Duration = Duration::from_secs(1);
/// For how many polls a record waits for one before it, which another log may have.
const PATIENCE: u32 = 20;
/// How many records of a match wait at most.
const HELD: usize = 256;

/// Which matches are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// One.
    One(MatchId),
    /// All of a game type.
    Game(String),
    /// All.
    All,
}

impl Which {
    /// Whether a match of this game is among them.
    pub fn has(&self, match_id: MatchId, game: &str) -> bool {
        match self {
            Self::One(one) => *one == match_id,
            Self::Game(name) => name == game,
            Self::All => true,
        }
    }
}

/// What the logs say of a match.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// A record.
    Record {
        /// The match.
        match_id: MatchId,
        /// When it was made, in milliseconds since 1970.
        time_ms: u64,
        /// What it says.
        flush: Box<Flush>,
    },
    /// Records between the last one and the next are neither in a log nor in the archive.
    Missed {
        /// The match.
        match_id: MatchId,
        /// How many.
        records: u64,
        /// Their first tick.
        from: Tick,
        /// Their last tick.
        to: Tick,
    },
    /// The match went on from a tick before this one: what was told of it and later ones is void.
    Void {
        /// The match.
        match_id: MatchId,
        /// The first tick that is made anew.
        tick: Tick,
    },
    /// Something cannot be read, in words.
    Damaged(String),
}

/// Where the reader is in one log.
#[derive(Debug)]
struct Cursor {
    next: BatchNo,
    /// Its node was seen to have stopped: what can be read now is all there will be.
    closing: bool,
    /// Nothing will come any more.
    over: bool,
}

impl Cursor {
    fn at(next: BatchNo) -> Self {
        Self { next, closing: false, over: false }
    }
}

/// Where the reader is in one match.
#[derive(Debug)]
struct Stand {
    epoch: Epoch,
    /// The record that comes next.
    next: Seq,
    /// The last tick of the one before it.
    tick: Tick,
    /// Records that wait for one before them.
    held: BTreeMap<Seq, Frame>,
    /// For how many polls.
    waited: u32,
}

/// A reader of all logs.
pub struct Tail {
    store: Store,
    which: Which,
    logs: BTreeMap<Incarnation, Cursor>,
    looked: Instant,
    /// The game type of each match that a log has named; none if the directory has no such match.
    games: BTreeMap<MatchId, Option<String>>,
    matches: BTreeMap<MatchId, Stand>,
}

impl Tail {
    /// Begins behind what is written now.
    pub async fn begin(store: Store, which: Which) -> Result<Self, StoreError> {
        let mut logs = BTreeMap::new();
        for info in store.journal.logs().await? {
            let tail = store.journal.tail(info.log).await?;
            logs.insert(info.log, Cursor::at(tail.last.next()));
        }
        let (games, matches) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { store, which, logs, looked: Instant::now(), games, matches })
    }

    /// Everything of a match up to this record, whose last tick is `tick`, is known already.
    pub fn stands(&mut self, match_id: MatchId, epoch: Epoch, seq: Seq, tick: Tick) {
        let (next, held) = (seq.next(), BTreeMap::new());
        self.matches.insert(match_id, Stand { epoch, next, tick, held, waited: 0 });
    }

    /// The game type of a match; empty if the directory has no such match.
    pub fn game(&self, match_id: MatchId) -> &str {
        self.games.get(&match_id).and_then(Option::as_deref).unwrap_or_default()
    }

    /// What has been written since the last call: at most one chunk of each log. Nothing is lost by
    /// an error: the next call reads the same again.
    pub async fn poll(&mut self) -> Result<Vec<News>, StoreError> {
        if self.looked.elapsed() >= LOGS_EVERY {
            self.look_for_logs().await?;
        }
        let mut news = Vec::new();
        let mut chunks = Vec::new();
        let open: Vec<Incarnation> =
            self.logs.iter().filter(|(_, cursor)| !cursor.over).map(|(log, _)| *log).collect();
        for log in open {
            let views = self.read(log, &mut news).await?;
            chunks.push((log, views));
        }
        if chunks.iter().any(|(log, views)| !views.is_empty() || self.is_closing(*log)) {
            // Behind the reads: who is live now was live when it wrote what was read.
            let nodes = self.store.leases.nodes().await?;
            self.learn_games(&chunks).await?;
            for (log, views) in &chunks {
                let node = nodes.iter().find(|node| node.incarnation == *log);
                self.accept(*log, views, node, &mut news);
            }
        }
        self.fill_gaps(&mut news).await?;
        Ok(news)
    }

    fn is_closing(&self, log: Incarnation) -> bool {
        self.logs.get(&log).is_some_and(|cursor| cursor.closing)
    }

    async fn look_for_logs(&mut self) -> Result<(), StoreError> {
        let infos = self.store.journal.logs().await?;
        let there: BTreeSet<Incarnation> = infos.iter().map(|info| info.log).collect();
        self.logs.retain(|log, _| there.contains(log));
        for info in infos {
            self.logs.entry(info.log).or_insert_with(|| Cursor::at(info.first));
        }
        let nodes = self.store.leases.nodes().await?;
        for (log, cursor) in &mut self.logs {
            let node = nodes.iter().find(|node| node.incarnation == *log);
            // A log without a lease is one of a copied store.
            let ended = node.is_none_or(|node| node.state != NodeState::Live);
            cursor.closing |= ended;
        }
        // A match that was not in the directory may be there by now.
        self.games.retain(|_, game| game.is_some());
        self.looked = Instant::now();
        Ok(())
    }

    /// The next chunk of a log.
    async fn read(
        &mut self,
        log: Incarnation,
        news: &mut Vec<News>,
    ) -> Result<Vec<BatchView>, StoreError> {
        let Some(cursor) = self.logs.get_mut(&log) else { return Ok(Vec::new()) };
        match history::read_on(&self.store, log, cursor.next).await {
            Ok(views) => Ok(views),
            Err(HistoryError::Store(StoreError::NotFound(_))) => {
                // Trimmed before it was read: matches find what is missing by their numbers.
                let infos = self.store.journal.logs().await?;
                match infos.into_iter().find(|info| info.log == log) {
                    Some(info) if info.first > cursor.next => cursor.next = info.first,
                    Some(_) => {}
                    None => drop(self.logs.remove(&log)),
                }
                Ok(Vec::new())
            }
            Err(HistoryError::Store(error)) if error.is_transient() => Err(error),
            Err(error) => {
                news.push(News::Damaged(error.to_string()));
                cursor.next = cursor.next.next();
                Ok(Vec::new())
            }
        }
    }

    /// Looks up the games of matches that are named for the first time.
    async fn learn_games(
        &mut self,
        chunks: &[(Incarnation, Vec<BatchView>)],
    ) -> Result<(), StoreError> {
        let named = chunks.iter().flat_map(|(_, views)| views).flat_map(BatchView::directory);
        let new: BTreeSet<MatchId> = named
            .map(|line| line.match_id)
            .filter(|match_id| !self.games.contains_key(match_id))
            .collect();
        if new.is_empty() {
            return Ok(());
        }
        for row in self.store.leases.matches().await? {
            self.games.insert(row.match_id, Some(row.spec.game));
        }
        for match_id in new {
            self.games.entry(match_id).or_insert(None);
        }
        Ok(())
    }

    /// Takes the batches of a log that count.
    fn accept(
        &mut self,
        log: Incarnation,
        views: &[BatchView],
        node: Option<&NodeLease>,
        news: &mut Vec<News>,
    ) {
        let seal = match node {
            Some(node) if node.state == NodeState::Fenced => match node.seal {
                Some(seal) => Some(seal),
                // Whoever takes it over is about to say how far it counts.
                None => return,
            },
            _ => None,
        };
        for view in views {
            let Some(cursor) = self.logs.get_mut(&log) else { return };
            if seal.is_some_and(|seal| view.number() > seal) {
                cursor.over = true;
                return;
            }
            cursor.next = view.number().next();
            for frame in view.all_frames() {
                let match_id = frame.header.match_id;
                if self.which.has(match_id, self.game(match_id)) {
                    self.offer(frame, news);
                }
            }
        }
        if let Some(cursor) = self.logs.get_mut(&log) {
            cursor.over |= views.is_empty() && cursor.closing;
        }
    }

    /// Takes a record, or lets it wait for those before it.
    fn offer(&mut self, frame: &Frame, news: &mut Vec<News>) {
        let header = &frame.header;
        let stand = self.matches.entry(header.match_id).or_insert_with(|| Stand {
            epoch: header.epoch,
            next: header.seq,
            tick: Tick(header.first_tick.0.saturating_sub(1)),
            held: BTreeMap::new(),
            waited: 0,
        });
        if header.epoch > stand.epoch && header.seq < stand.next {
            news.push(News::Void { match_id: header.match_id, tick: header.first_tick });
            stand.held.clear();
            stand.next = header.seq;
        }
        if header.seq > stand.next {
            stand.held.insert(header.seq, frame.clone());
        } else if header.seq == stand.next && header.epoch >= stand.epoch {
            stand.take(frame, news);
            stand.take_held(news);
        }
    }

    /// Gives up waiting for records that no log has: the archive may have them.
    async fn fill_gaps(&mut self, news: &mut Vec<News>) -> Result<(), StoreError> {
        let mut due = Vec::new();
        for (match_id, stand) in &mut self.matches {
            if stand.held.is_empty() {
                stand.waited = 0;
                continue;
            }
            stand.waited += 1;
            if stand.waited >= PATIENCE || stand.held.len() >= HELD {
                due.push(*match_id);
            }
        }
        for match_id in due {
            let row = self.store.leases.get(match_id).await?;
            let Some(stand) = self.matches.get_mut(&match_id) else { continue };
            let Some((&first, held)) = stand.held.first_key_value() else { continue };
            let from_tick = held.header.first_tick;
            let end = End::Seq(Seq(first.0.saturating_sub(1)));
            let options = LoadOptions { start: Start::Seq(stand.next), end };
            let found = match &row {
                Some(row) => history::load(&self.store, row, &options).await.ok(),
                None => None,
            };
            for frame in found.into_iter().flat_map(|history| history.frames) {
                if frame.header.seq == stand.next {
                    stand.take(&frame, news);
                }
            }
            if stand.next < first {
                let (from, to) = (stand.tick.next(), Tick(from_tick.0.saturating_sub(1)));
                let records = first.0 - stand.next.0;
                news.push(News::Missed { match_id, records, from, to });
                stand.next = first;
            }
            stand.take_held(news);
        }
        Ok(())
    }
}

impl Stand {
    fn take(&mut self, frame: &Frame, news: &mut Vec<News>) {
        let header = &frame.header;
        let match_id = header.match_id;
        (self.epoch, self.next, self.tick) = (header.epoch, header.seq.next(), header.last_tick);
        news.push(match Flush::decode(&frame.payload) {
            Ok(flush) => News::Record { match_id, time_ms: header.time_ms, flush: Box::new(flush) },
            Err(error) => {
                News::Damaged(format!("match {match_id}, record {}: {error}", header.seq))
            }
        });
    }

    fn take_held(&mut self, news: &mut Vec<News>) {
        while let Some(entry) = self.held.first_entry() {
            let seq = *entry.key();
            if seq > self.next {
                return;
            }
            let frame = entry.remove();
            if seq == self.next && frame.header.epoch >= self.epoch {
                self.take(&frame, news);
            }
            self.waited = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use rekindle_store_conformance::{Scribe, match_lease, register};
    use rekindle_store_memory::MemoryStore;
    use tokio::time::advance;

    use super::*;

    const A: Incarnation = Incarnation(1);
    const B: Incarnation = Incarnation(2);
    const MATCH: MatchId = MatchId(1);
    const OTHER: MatchId = MatchId(2);

    /// Two nodes, and the row of the match that they run one after the other.
    async fn two_nodes(which: Which) -> (MemoryStore, [Scribe; 2], Tail) {
        let memory = MemoryStore::new();
        let store = memory.store();
        for node in [A, B] {
            register(&store, node).await;
        }
        store.leases.create(match_lease(MATCH, &[(A, 1)])).await.unwrap();
        let tail = Tail::begin(store, which).await.unwrap();
        (memory, [Scribe::new(A), Scribe::new(B)], tail)
    }

    async fn write(memory: &MemoryStore, scribe: &mut Scribe, matches: &[MatchId]) {
        let payload = Flush::default().encode();
        let records: Vec<(MatchId, &[u8])> =
            matches.iter().map(|&match_id| (match_id, &payload[..])).collect();
        memory.store().journal.append(scribe.batch(&records)).await.unwrap();
    }

    /// The next news, in short; logs that are new are found.
    async fn poll(tail: &mut Tail) -> Vec<String> {
        advance(LOGS_EVERY).await;
        let news = tail.poll().await.unwrap();
        news.iter()
            .map(|news| match news {
                News::Record { match_id, .. } => format!("record of {}", match_id.0),
                News::Missed { records, from, to, .. } => format!("missed {records}: {from}-{to}"),
                News::Void { tick, .. } => format!("void from {tick}"),
                News::Damaged(words) => words.clone(),
            })
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_record_waits_for_the_one_before_it_in_another_log() {
        let (memory, [mut a, mut b], mut tail) = two_nodes(Which::One(MATCH)).await;
        write(&memory, &mut a, &[OTHER, MATCH]).await;
        assert_eq!(poll(&mut tail).await, ["record of 1"]);
        b.own(MATCH, 2, 3);
        write(&memory, &mut b, &[MATCH]).await;
        assert!(poll(&mut tail).await.is_empty(), "record 3 is there, and record 2 is not");
        write(&memory, &mut a, &[MATCH]).await;
        assert_eq!(poll(&mut tail).await, ["record of 1", "record of 1"]);
        // Of what an owner before writes nothing is told any more.
        write(&memory, &mut a, &[MATCH]).await;
        assert!(poll(&mut tail).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_fenced_node_wrote_is_told_once_it_is_sealed_and_up_to_the_seal() {
        let (memory, [mut a, _], mut tail) = two_nodes(Which::All).await;
        for _ in 0..4 {
            write(&memory, &mut a, &[MATCH]).await;
        }
        memory.store().leases.fence(A).await.unwrap();
        assert!(poll(&mut tail).await.is_empty(), "nobody has said how far it counts");
        memory.store().leases.seal(A, BatchNo(3)).await.unwrap();
        assert_eq!(poll(&mut tail).await.len(), 3);
        assert!(poll(&mut tail).await.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_trimmed_before_it_was_read_is_told_as_missed() {
        let (memory, [mut a, _], mut tail) = two_nodes(Which::Game("arena".to_owned())).await;
        write(&memory, &mut a, &[MATCH]).await;
        assert_eq!(poll(&mut tail).await.len(), 1);
        for _ in 0..5 {
            write(&memory, &mut a, &[MATCH, OTHER]).await;
        }
        memory.store().journal.trim(A, BatchNo(5)).await.unwrap();
        let mut told = Vec::new();
        for _ in 0..=PATIENCE + 1 {
            told.extend(poll(&mut tail).await);
        }
        // Records 2 to 4, of two ticks each.
        assert_eq!(told, ["missed 3: 3-8", "record of 1", "record of 1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_that_are_made_anew_are_void() {
        let (memory, [mut a, mut b], mut tail) = two_nodes(Which::All).await;
        for _ in 0..3 {
            write(&memory, &mut a, &[MATCH]).await;
        }
        assert_eq!(poll(&mut tail).await.len(), 3);
        b.own(MATCH, 2, 2);
        write(&memory, &mut b, &[MATCH]).await;
        assert_eq!(poll(&mut tail).await, ["void from 3", "record of 1"]);
    }
}
