//! The one contract between the edge of a node and its matches.
//!
//! The edge (`rekindle-gateway`) asks a [`MatchFinder`] where a match is and gets a [`MatchDoor`]:
//! through it sessions are opened, inputs and commands go in, and one [`TickFrame`] a tick comes
//! out. `rekindle-actors` implements [`MatchDoor`] for its running matches, the node implements
//! [`MatchFinder`] over its host, and tests implement both over a fake. Neither side knows the
//! other.
//!
//! * [`MatchDoor`]: one match. [`MatchInfo`] says what it is, [`Opened`] what a session begins
//!   with, [`Admission`] what became of a [`RawInput`] or a command.
//! * [`MatchFinder`]: all matches of a node; it answers [`Wanted`] with a [`Location`].
//! * [`DocumentDesk`]: documents, which outlive matches, as players ask for them. [`NodeSide`] is
//!   both.
//! * [`Refusal`]: why a client is not let in, for programs and for people.
//! * [`TickFrame`]: what a match publishes after each tick.
//! * [`life`]: the states of matches, sessions and connections as tables.
//!
//! This crate holds types and traits only. It opens no socket, starts no task and knows neither the
//! simulation nor the store.
//!
//! # A door of one's own
//!
//! A match without a world: it admits one player and publishes a frame for each input.
//!
//! ```
//! use std::sync::{Arc, Mutex};
//!
//! use bytes::Bytes;
//! use futures::future::BoxFuture;
//! use rekindle_door::{
//!     Admission, Applied, MatchDoor, MatchInfo, Opened, RawInput, Recalled, Refusal, TickFrame,
//! };
//! use rekindle_schema::wire::RefuseCode;
//! use rekindle_schema::{Epoch, MatchId, PlayerId, SessionId, StateHash, Tick};
//! use tokio::sync::mpsc;
//!
//! /// The newest tick, and who listens.
//! #[derive(Default)]
//! struct Echo(Mutex<(Tick, Vec<mpsc::Sender<Arc<TickFrame>>>)>);
//!
//! const ONLY: SessionId = SessionId(1);
//!
//! impl MatchDoor for Echo {
//!     fn info(&self) -> MatchInfo {
//!         MatchInfo {
//!             match_id: MatchId(7),
//!             game: "echo".to_owned(),
//!             epoch: Epoch(1),
//!             tick: self.0.lock().unwrap().0,
//!             tick_rate: 30,
//!             schema: Arc::default(),
//!             config: Bytes::new(),
//!         }
//!     }
//!     fn session_of(&self, player: PlayerId) -> Option<SessionId> {
//!         (player == PlayerId(1)).then_some(ONLY)
//!     }
//!     fn open(
//!         &self,
//!         player: PlayerId,
//!         _name: String,
//!         _resume: Option<SessionId>,
//!     ) -> BoxFuture<'_, Result<Opened, Refusal>> {
//!         let opened = self.session_of(player).map(|session| Opened {
//!             session,
//!             resumed: false,
//!             next_input: 1,
//!             next_command: 1,
//!         });
//!         let full = || Refusal::new(RefuseCode::Full, "there is one place, for player 1");
//!         Box::pin(async move { opened.ok_or_else(full) })
//!     }
//!     fn input(&self, input: RawInput) -> Admission {
//!         let mut state = self.0.lock().unwrap();
//!         state.0 = state.0.next();
//!         let applied = vec![Applied { session: input.session, seq: input.seq }];
//!         let frame = TickFrame { applied, ..TickFrame::empty(MatchId(7), Epoch(1), state.0) };
//!         let frame = Arc::new(frame);
//!         state.1.retain(|listener| listener.try_send(Arc::clone(&frame)).is_ok());
//!         Admission::Queued
//!     }
//!     fn subscribe(&self) -> mpsc::Receiver<Arc<TickFrame>> {
//!         let (sender, receiver) = mpsc::channel(16);
//!         self.0.lock().unwrap().1.push(sender);
//!         receiver
//!     }
//!     fn command(&self, _: SessionId, _: u64, _: Bytes) -> Admission {
//!         Admission::Malformed
//!     }
//!     fn hash_at(&self, _: Tick) -> Option<StateHash> {
//!         None
//!     }
//!     fn holds_until(&self) -> Option<Tick> {
//!         None
//!     }
//!     fn holds_of(&self, _: Epoch) -> Option<Tick> {
//!         None
//!     }
//!     fn events_from(&self, from: Tick) -> Recalled {
//!         Recalled { from, events: Vec::new() }
//!     }
//!     fn close(&self, _: SessionId) {}
//!     fn away(&self, _: SessionId) {}
//!     fn back(&self, _: SessionId) {}
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let door: Arc<dyn MatchDoor> = Arc::new(Echo::default());
//! let mut frames = door.subscribe();
//! let opened = door.open(PlayerId(1), "Ada".to_owned(), None).await.unwrap();
//! let input = RawInput {
//!     session: opened.session,
//!     seq: opened.next_input,
//!     target: Tick(1),
//!     view: Tick(0),
//!     payload: Bytes::from_static(b"left"),
//! };
//! assert_eq!(door.input(input), Admission::Queued);
//! let frame = frames.recv().await.unwrap();
//! assert_eq!((frame.tick, frame.applied[0].seq), (Tick(1), 1));
//!
//! let refusal = door.open(PlayerId(2), "Bob".to_owned(), None).await.unwrap_err();
//! assert_eq!(refusal.code, RefuseCode::Full);
//! assert_eq!(refusal.to_string(), "there is one place, for player 1");
//! # }
//! ```

mod desk;
mod door;
mod finder;
mod frame;
pub mod life;
mod refusal;

pub use desk::{DeskAnswer, DocumentDesk, NodeSide};
pub use door::{Admission, MatchDoor, MatchInfo, Opened, RawInput};
pub use finder::{Location, MatchFinder, Wanted};
pub use frame::{Applied, CommandDone, Recalled, SessionEnded, TickFrame};
pub use refusal::Refusal;
