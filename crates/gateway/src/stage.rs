//! Where each open connection stands, and how many stand there. The accept loop asks before it
//! takes another ([`crate::limits`]).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use rekindle_door::life::{Life, way};

use crate::limits::{Knock, subscriber};
use crate::meters::Meters;

/// Where a connection stands. Behind the last stage it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// QUIC agrees on keys.
    Handshake,
    /// Its first message is awaited, or the credential in it is checked.
    Hello,
    /// It waits for its match to come to this node.
    Waiting,
    /// Its match is looked for, and its session opened.
    Entering,
    /// It plays or watches.
    In,
    /// It is told why it has to go.
    Goodbye,
}

impl Stage {
    pub(crate) const ALL: [Self; 6] =
        [Self::Handshake, Self::Hello, Self::Waiting, Self::Entering, Self::In, Self::Goodbye];

    /// The name that metrics have for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Hello => "hello",
            Self::Waiting => "waiting",
            Self::Entering => "entering",
            Self::In => "in",
            Self::Goodbye => "goodbye",
        }
    }

    /// Whether its client has not shown a good credential yet.
    fn is_pending(self) -> bool {
        matches!(self, Self::Handshake | Self::Hello)
    }
}

/// The life of a connection. It can be lost in any stage, and is gone then. Those of the web
/// listener begin with their hello: the listener has made the handshake.
const CONNECTION: Life<Stage> = {
    use Stage::{Entering, Goodbye, Handshake, Hello, In, Waiting};
    Life {
        name: "a connection",
        begins: &[Handshake, Hello],
        edges: &[
            way(Handshake, Hello, "both have keys"),
            way(Handshake, Goodbye, "the handshake failed"),
            way(Hello, Waiting, "a good credential, for a match that is to come here"),
            way(Hello, Entering, "a good credential"),
            way(Hello, Goodbye, "refused"),
            way(Waiting, Entering, "it says hello"),
            way(Waiting, Goodbye, "refused"),
            way(Entering, In, "it has a session or a place to watch from"),
            way(Entering, Goodbye, "refused or redirected"),
            way(In, Goodbye, "let go"),
        ],
    }
};

/// Counts connections by their stage.
pub(crate) struct Connections {
    meters: Arc<Meters>,
    /// As many as stand at each stage, in the order of [`Stage::ALL`].
    at: [AtomicUsize; Stage::ALL.len()],
    /// How many that have not shown a good credential yet come from each source; a source with none
    /// has no entry.
    pending_by_source: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Connections {
    pub(crate) fn new(meters: Arc<Meters>) -> Arc<Self> {
        Arc::new(Self { meters, at: Default::default(), pending_by_source: Mutex::default() })
    }

    /// What is known of a connection from `source` that wants in. `validated`: it has proved its
    /// address.
    pub(crate) fn knock(&self, source: IpAddr, validated: bool) -> Knock {
        let from_source = self.pending_by_source.lock().get(&subscriber(source)).copied();
        Knock {
            source,
            validated,
            open: self.count(|_| true),
            pending: self.count(Stage::is_pending),
            pending_from_source: from_source.unwrap_or(0),
        }
    }

    /// Counts a connection from `source` for as long as its [`Standing`] lives.
    pub(crate) fn begin(self: &Arc<Self>, source: IpAddr, stage: Stage) -> Standing {
        let standing =
            Standing { connections: Arc::clone(self), source: subscriber(source), stage };
        self.count_in(&standing);
        standing
    }

    /// How many stand at stages of this kind.
    fn count(&self, kind: impl Fn(Stage) -> bool) -> usize {
        let counted = Stage::ALL.iter().zip(&self.at).filter(|(stage, _)| kind(**stage));
        counted.map(|(_, count)| count.load(Ordering::Relaxed)).sum()
    }

    fn count_in(&self, Standing { source, stage, .. }: &Standing) {
        self.at[*stage as usize].fetch_add(1, Ordering::Relaxed);
        if stage.is_pending() {
            *self.pending_by_source.lock().entry(*source).or_insert(0) += 1;
        }
        self.meters.moved(*stage, 1.0, stage.is_pending());
    }

    fn count_out(&self, Standing { source, stage, .. }: &Standing) {
        self.at[*stage as usize].fetch_sub(1, Ordering::Relaxed);
        if stage.is_pending()
            && let Entry::Occupied(mut entry) = self.pending_by_source.lock().entry(*source)
        {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        self.meters.moved(*stage, -1.0, stage.is_pending());
    }
}

/// Where one connection stands. It counts as open as long as this lives.
pub(crate) struct Standing {
    connections: Arc<Connections>,
    source: IpAddr,
    stage: Stage,
}

impl Standing {
    /// The connection goes on.
    ///
    /// # Panics
    /// If no way leads there: see [`CONNECTION`]. The task of the connection ends with it.
    pub(crate) fn go(&mut self, to: Stage) {
        CONNECTION.assert(self.stage, to);
        self.connections.count_out(self);
        self.stage = to;
        self.connections.count_in(self);
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.connections.count_out(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_counts_at_its_stage_and_nowhere_once_it_is_dropped() {
        let connections = Connections::new(Arc::new(Meters::new()));
        let source = IpAddr::from([10, 0, 0, 1]);
        let counts = |connections: &Arc<Connections>| {
            let knock = connections.knock(source, false);
            (knock.open, knock.pending, knock.pending_from_source)
        };
        let mut first = connections.begin(source, Stage::Handshake);
        let second = connections.begin(source, Stage::Hello);
        let other = connections.begin(IpAddr::from([10, 0, 0, 2]), Stage::Handshake);
        assert_eq!(counts(&connections), (3, 3, 2));
        first.go(Stage::Hello);
        assert_eq!(counts(&connections), (3, 3, 2));
        first.go(Stage::Entering);
        assert_eq!(counts(&connections), (3, 2, 1), "open, and no stranger any more");
        drop((second, other));
        assert_eq!(counts(&connections), (1, 0, 0));
        drop(first);
        assert_eq!(counts(&connections), (0, 0, 0));
        assert!(connections.pending_by_source.lock().is_empty());
    }

    #[test]
    #[should_panic = "a connection cannot go from `Hello` to `In`"]
    fn nobody_is_in_without_having_entered() {
        let connections = Connections::new(Arc::new(Meters::new()));
        connections.begin(IpAddr::from([10, 0, 0, 1]), Stage::Hello).go(Stage::In);
    }

    #[test]
    fn the_page_draws_what_the_table_says() {
        let page = include_str!("../../../docs/ARCHITECTURE.md");
        let chart = format!("```mermaid\n{}```\n", CONNECTION.chart());
        assert!(page.contains(&chart), "docs/ARCHITECTURE.md has another drawing than:\n{chart}");
    }
}
