//! A player of the client SDK who stays connected while nodes die and builds change: what players
//! see of it.

use std::time::Duration;

use rekindle_client::{Client, ClientConfig, ClientEvent, Trust};
use rekindle_schema::wire::RefuseCode;
use rekindle_schema::{MatchId, Tick};
use tokio::runtime::Runtime;
use tokio::time::timeout;

use super::Studio;
use super::support::PATIENCE;

/// A player in a match, and the newest tick that the player was shown.
pub(super) struct Witness {
    client: Client,
    runtime: Runtime,
    shown: Tick,
}

/// What a player is told when a match goes on.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Back {
    /// The session is the one of before.
    pub(super) resumed: bool,
    /// The newest tick that still holds, if not all that was shown does.
    pub(super) rewound: Option<Tick>,
    /// The next tick that the player is shown.
    pub(super) next: Tick,
    /// The newest tick that the player had been shown.
    pub(super) before: Tick,
}

impl Back {
    /// The session went on, and all that had been shown holds.
    pub(super) fn is_seamless(&self) -> bool {
        self.resumed && self.rewound.is_none() && self.next > self.before
    }
}

impl Witness {
    /// Enters and is shown a tick.
    pub(super) fn enter(studio: &Studio, player: u64, id: &str) -> Self {
        let mut witness = Self::knock(studio, player, id, Duration::from_mins(1));
        witness.is_shown(Tick(1));
        witness
    }

    /// One who wants in and gives up after `patience`.
    fn knock(studio: &Studio, player: u64, id: &str, patience: Duration) -> Self {
        let player = player.to_string();
        let mut issue = studio.command("first", &[]);
        let issued = issue.args(["ticket", "issue", "--player", &player]).output().unwrap();
        let ticket = String::from_utf8(issued.stdout).unwrap();
        let certificate = std::fs::read(studio.dir.path().join("rekindle-data/cert.der")).unwrap();
        let trust = Trust::Certificate(certificate);
        let addrs = vec![([127, 0, 0, 1], studio.port).into()];
        let mut config = ClientConfig::new(addrs, trust, ticket.trim());
        config.match_id = Some(id.parse::<MatchId>().unwrap());
        config.timing.give_up = patience;
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let client = runtime.block_on(async { Client::connect(config) }).unwrap();
        Self { client, runtime, shown: Tick(0) }
    }

    /// What a newcomer is told who finds the match not running: the last words before giving up.
    pub(super) fn refused(studio: &Studio, player: u64, id: &str) -> (Option<RefuseCode>, String) {
        Self::knock(studio, player, id, Duration::from_secs(1)).end()
    }

    /// The first event that `pick` takes.
    fn until<T>(&mut self, what: &str, mut pick: impl FnMut(&ClientEvent) -> Option<T>) -> T {
        let (client, shown) = (&mut self.client, &mut self.shown);
        let found = async {
            loop {
                let event = client.event().await.expect("the client goes on");
                let found = pick(&event);
                if let ClientEvent::Snapshot(snapshot) = &event {
                    *shown = snapshot.header.tick;
                }
                if let Some(found) = found {
                    return found;
                }
            }
        };
        let found = self.runtime.block_on(async { timeout(PATIENCE, found).await });
        found.unwrap_or_else(|_| panic!("a player waits in vain for {what}"))
    }

    /// Until this tick is shown.
    pub(super) fn is_shown(&mut self, tick: Tick) {
        self.until("a tick", |event| match event {
            ClientEvent::Snapshot(snapshot) => (snapshot.header.tick >= tick).then_some(()),
            ClientEvent::Closed { message, .. } => panic!("{message}"),
            _ => None,
        });
    }

    /// Until the session goes on and a tick is shown.
    pub(super) fn is_back(&mut self) -> Back {
        let before = self.shown;
        let (mut resumed, mut rewound) = (None, None);
        let next = self.until("the match to go on", |event| {
            match event {
                ClientEvent::Resumed { welcome, .. } => resumed = Some(welcome.resumed),
                ClientEvent::Rewound { to, .. } => rewound = Some(*to),
                ClientEvent::Snapshot(snapshot) if resumed.is_some() => {
                    return Some(snapshot.header.tick);
                }
                ClientEvent::Closed { message, .. } => panic!("{message}"),
                _ => {}
            }
            None
        });
        Back { resumed: resumed == Some(true), rewound, next, before }
    }

    /// Until the client has stopped: what the server said last.
    pub(super) fn end(mut self) -> (Option<RefuseCode>, String) {
        self.until("the end", |event| match event {
            ClientEvent::Closed { code, message } => Some((*code, message.clone())),
            _ => None,
        })
    }
}
