//! The edge of a node: one UDP port that game clients speak QUIC with.
//!
//! The node calls [`Gateway::bind`] with [`Keys`] and something that finds matches and asks
//! documents ([`rekindle_door::NodeSide`]); of the node the edge sees nothing else. It lets in who
//! shows a signed [`ticket`], opens or resumes a session with the match, hands inputs and commands
//! over, and sends each client a snapshot per tick. It decides nothing about the game and nothing
//! about durability: what a published frame says is passed on as it is. What carries the bytes is
//! in `rekindle-transport`.
//!
//! One input's way: `connection::datagrams` reads a datagram, checks its rate, decodes it
//! (`rekindle-netcode`) and offers each new input to [`rekindle_door::MatchDoor::input`]. One
//! tick's way back: the task of the match's `room` takes the frame, `audience` makes a snapshot for
//! each client.
//!
//! Who calls whom: `gateway` takes connections and starts `connection` for each; both use `edge`,
//! which holds `crowd` (who is in), `room` (one task for each match with clients; it owns the
//! `audience`), `finding` (where matches are), `desk` (documents) and `stage` (where each
//! connection stands). `limits`, `places` and `stood` are pure decisions. `side_door` lets in
//! connections that somebody else made: those of the web listener (`rekindle-web`). `browsers`
//! makes the certificates that browsers are shown.
//!
//! # Metrics
//!
//! | name | kind | labels | is |
//! |---|---|---|---|
//! | `rekindle_gateway_connections` | gauge | | open connections, let in or not |
//! | `rekindle_gateway_pending_connections` | gauge | | connections that are not yet let in |
//! | `rekindle_gateway_stage_connections` | gauge | `stage` | connections by where they stand |
//! | `rekindle_gateway_sessions` | gauge | | clients that are in, players and spectators |
//! | `rekindle_gateway_connections_total` | counter | `outcome` (accepted, retried, refused, ignored), `reason` | connections that wanted in |
//! | `rekindle_gateway_refused_total` | counter | `code` | clients that were refused or let go, by what they were told |
//! | `rekindle_gateway_no_place_total` | counter | `why` (player, address, spectators, full, shed) | clients that were refused, or let go (shed), because places are bounded |
//! | `rekindle_gateway_rewound_total` | counter | `why` (behind, hash, epoch, recovery, anew) | clients that came back and were told that the match does not go on from what they saw |
//! | `rekindle_gateway_superseded_total` | counter | | connections whose session went on over another one |
//! | `rekindle_gateway_malformed_total` | counter | `reason` | packets and messages that the protocol does not allow |
//! | `rekindle_gateway_rate_limited_total` | counter | | datagrams dropped because a connection sent too many |
//! | `rekindle_gateway_datagrams_received_total` | counter | | datagrams from clients that are in |
//! | `rekindle_gateway_datagram_bytes_received_total` | counter | | their bytes |
//! | `rekindle_gateway_inputs_total` | counter | `outcome` (queued, repeated, stale, out_of_window, full, no_session) | inputs in them |
//! | `rekindle_gateway_commands_total` | counter | | reliable commands |
//! | `rekindle_gateway_documents_total` | counter | `outcome` | players' questions to documents |
//! | `rekindle_gateway_messages_total` | counter | | events, beats and command results queued for clients |
//! | `rekindle_gateway_snapshots_total` | counter | `outcome` (sent, skipped) | snapshots; skipped ones would have queued behind an earlier one, or a narrow link is to have fewer |
//! | `rekindle_gateway_snapshots_partial_total` | counter | | snapshots that did not hold every change |
//! | `rekindle_gateway_snapshots_shared_total` | counter | | snapshots whose body had been encoded for another client of the match |
//! | `rekindle_gateway_slowed_total` | counter | | clients slowed down for their link |
//! | `rekindle_gateway_snapshot_bytes` | histogram | | length of a snapshot |

mod audience;
pub mod browsers;
mod config;
mod connection;
mod crowd;
mod desk;
mod edge;
mod finding;
mod gateway;
pub mod keyring;
pub mod keys;
mod limits;
mod meters;
mod pace;
mod places;
mod room;
mod seat;
mod side_door;
mod stage;
mod stood;
pub mod ticket;

pub use config::{Clock, GatewayConfig, Limits, Rate};
pub use gateway::{Gateway, GatewayError};
pub use keys::{Keys, KeysError};
pub use limits::subscriber;
pub use seat::ClientLine;
pub use side_door::{Admitted, SideDoor, TurnedAway};
pub use ticket::{Ticket, TicketError};
