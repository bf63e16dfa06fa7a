//! Client SDK: connects to a match, keeps the session through the death of servers, hands over what
//! it learns.
//!
//! A game calls [`Client::connect`], sends with [`Client::input`] and [`Client::command`], and
//! reads [`ClientEvent`]s. One task for each client (`driver`) does the rest: it acknowledges
//! snapshots, keeps the clock, and dials again when the server is silent. What both share is the
//! `session`; `dial` finds a server, `warm` keeps a connection to the node that follows the match,
//! `watch` tells a dead one from a quiet one; what carries the
//! bytes is in `rekindle-transport`. Prediction and
//! interpolation are in `rekindle-netcode`; the SDK hands over what they need (header, view,
//! stamps, [`Client::render_tick`]).
//!
//! With the feature `game`, `GameClient` does the same with the types of a game: `game`.
//!
//! ```no_run
//! # use rekindle_client::ClientError;
//! # async fn play(ticket: String, certificate: Vec<u8>) -> Result<(), ClientError> {
//! use rekindle_client::{Client, ClientConfig, ClientEvent, Trust};
//!
//! let addrs = vec![([127, 0, 0, 1], 7777).into()];
//! let config = ClientConfig::new(addrs, Trust::Certificate(certificate), ticket);
//! let mut client = Client::connect(config)?;
//! while let Some(event) = client.event().await {
//!     match event {
//!         ClientEvent::Snapshot(snapshot) => println!("tick {}", snapshot.header.tick),
//!         ClientEvent::Closed { message, .. } => println!("{message}"),
//!         _ => {}
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod client;
mod config;
mod dial;
mod driver;
mod error;
mod event;
#[cfg(feature = "game")]
mod game;
mod questions;
mod session;
mod warm;
mod watch;

pub use client::Client;
pub use config::{ClientConfig, Lobby, Timing};
pub use error::{ClientError, MAX_COMMANDS};
pub use event::{ClientEvent, DocumentsAnswer, Snapshot};
#[cfg(feature = "game")]
pub use game::{Answer, GameClient, GameError, Seen, Told};
pub use questions::{MAX_QUESTION, MAX_QUESTIONS};
pub use rekindle_netcode::SnapshotHeader;
pub use rekindle_transport::{ClientEndpoint, Trust};
pub use session::{Counts, SentInput};
