//! The margin of sight: what comes and goes at its border does not flicker, and what a client was
//! not shown does not come in by it.

mod motion;
mod sights;

use std::sync::Arc;

use motion::TICK_RATE;
use rekindle_netcode::{SnapshotHeader, SnapshotReceiver, SnapshotSender, ViewHistory};
use rekindle_schema::net::{FieldKind, NetComponent, NetEntity, NetField, NetSchema, NetView};
use rekindle_schema::{Epoch, PlayerId, Tick};

const VIEWER: PlayerId = PlayerId(4);
const RADIUS: f32 = 10.0;

fn schema() -> Arc<NetSchema> {
    let kind = FieldKind::Float { min: 0.0, max: 102.3, bits: 10 };
    let field = |name: &str| NetField { name: name.to_owned(), kind, rate: None };
    let fields = vec![field("x"), field("y")];
    let place = NetComponent { name: "place".to_owned(), fields };
    Arc::new(NetSchema { components: vec![place], position: Some((0, 1)) })
}

/// Somebody at 0, and something at a distance.
fn view(tick: u64, generation: u32, distance: f32) -> Arc<NetView> {
    let entity = |slot, generation| NetEntity { slot, generation, components: 1 };
    let view = NetView {
        tick: Tick(tick),
        entities: vec![entity(0, 0), entity(1, generation)],
        values: vec![0, 0, (distance * 10.0) as u32, 0],
        avatars: vec![(VIEWER, 0)],
        restricted: None,
    };
    sights::near(&schema(), &Arc::new(view), &[(VIEWER, 0)], RADIUS)
}

struct Link {
    sender: SnapshotSender,
    receiver: SnapshotReceiver,
    history: ViewHistory,
    tick: u64,
}

impl Link {
    fn new() -> Self {
        Self {
            sender: SnapshotSender::new(schema()).with_tick_rate(TICK_RATE),
            receiver: SnapshotReceiver::new(schema()),
            history: ViewHistory::new(),
            tick: 0,
        }
    }

    /// Whether the client has the entity, once it has the snapshot of the next tick.
    fn shows(&mut self, generation: u32, distance: f32) -> bool {
        self.tick += 1;
        self.show(view(self.tick, generation, distance))
    }

    fn show(&mut self, view: Arc<NetView>) -> bool {
        self.history.push(Arc::clone(&view));
        let header = SnapshotHeader {
            epoch: Epoch(1),
            tick: view.tick,
            durable: view.tick,
            avatar: Some(0),
            ..SnapshotHeader::default()
        };
        let mut out = Vec::new();
        self.sender.encode(&header, &view, &self.history, Some(VIEWER), 1200, &mut out);
        let received = self.receiver.receive(&out).expect("own snapshot");
        received.view.index_of(1).is_some()
    }
}

#[test]
fn what_comes_at_the_radius_leaves_behind_the_margin() {
    // Acknowledged at once, and not at all: the margin does not hang on it.
    for acknowledges in [true, false] {
        let mut link = Link::new();
        let mut shown = Vec::new();
        for distance in [10.5, 9.9, 10.5, 9.9, 10.9, 11.2, 10.9, 10.5, 9.9, 10.9] {
            shown.push(link.shows(7, distance));
            if acknowledges {
                let (newest, bits) = link.receiver.acknowledgement();
                link.sender.acknowledge(newest, bits);
            }
        }
        let expected = [false, true, true, true, true, false, false, false, true, true];
        assert_eq!(shown, expected, "acknowledges: {acknowledges}");
    }
}

#[test]
fn another_entity_in_the_slot_was_not_shown() {
    let mut link = Link::new();
    assert!(link.shows(7, 9.9));
    assert!(!link.shows(8, 10.5), "the one that was shown is gone");
}

/// A player who sees what everybody sees is in no list of viewers.
#[test]
fn what_everybody_sees_was_shown_too() {
    let mut link = Link::new();
    link.tick = 1;
    let mut public = NetView::clone(&view(1, 7, 9.9));
    public.restricted = Some(Box::default());
    assert!(link.show(Arc::new(public)));
    assert!(link.shows(7, 10.5));
}

#[test]
fn a_client_that_begins_anew_was_shown_nothing() {
    let mut link = Link::new();
    assert!(link.shows(7, 9.9));
    assert!(link.shows(7, 10.5));
    link.sender.reset();
    assert!(!link.shows(7, 10.5));
}
