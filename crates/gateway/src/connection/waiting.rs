//! A client that waits for its match to come here: this node is the standby of it, and the client
//! has connected before its owner dies, so that it need not when that happens.
//!
//! Called by [`super::hello`] for a connection whose first message says so. It holds a connection
//! and a place among those that wait, and no session.

use std::sync::Arc;

use rekindle_door::Refusal;
use rekindle_schema::wire::{
    ClientMessage, Hello, PROTOCOL_4, RefuseCode, ServerMessage, StreamError, encode_server,
};
use rekindle_transport::{MessageReader, MessageWriter};

use super::credential::check;
use super::hello::check_form;
use crate::edge::Edge;
use crate::stage::{Stage, Standing};

/// Waits until the client says something else; tells it once when the match runs here. Returns what
/// it says. It stands among those that wait once it has shown a good
/// credential.
pub(super) async fn wait(
    edge: &Arc<Edge>,
    (reader, writer): (&mut MessageReader<ClientMessage>, &mut MessageWriter),
    hello: &Hello,
    standing: &mut Standing,
) -> Result<Result<Option<ClientMessage>, StreamError>, Refusal> {
    check_form(PROTOCOL_4, hello.protocol, None)?;
    let shown = check(edge, hello)?;
    standing.go(Stage::Waiting);
    let Some(match_id) = shown.wanted else {
        let words = "RK-GATE-161: who waits for a match must name it";
        return Err(Refusal::new(RefuseCode::Malformed, words));
    };
    let full = |_| {
        let words = "RK-GATE-160: too many clients wait here for their matches";
        Refusal::new(RefuseCode::RateLimited, words)
    };
    let _place = edge.waiting.try_acquire().map_err(full)?;
    let mut arrivals = edge.finding.arrivals();
    loop {
        arrivals.mark_unchanged();
        if let Some(door) = edge.finding.here(match_id) {
            let epoch = door.info().epoch;
            writer.queue(encode_server(&ServerMessage::Here { match_id, epoch }));
            break;
        }
        tokio::select! {
            biased;
            message = reader.next() => return Ok(message),
            changed = arrivals.changed() => {
                if changed.is_err() {
                    break;
                }
            }
        }
    }
    loop {
        tokio::select! {
            biased;
            message = reader.next() => return Ok(message),
            flushed = writer.flush(), if !writer.is_idle() => {
                if flushed.is_err() {
                    return Ok(Ok(None));
                }
            }
        }
    }
}
