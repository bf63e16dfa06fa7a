//! A request that becomes a WebSocket, and the connection of a player on it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use hyper_util::rt::TokioIo;
use rekindle_transport::websocket::{self, SUBPROTOCOL};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::Web;
use crate::listener::Peer;
use crate::routes::{Problem, check_origin, text};

/// The only version of WebSocket (RFC 6455).
const VERSION: &str = "13";

/// Answers a request for a WebSocket, and serves it once the answer is out.
pub(crate) async fn upgrade(
    State(web): State<Arc<Web>>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
) -> Result<Response, Problem> {
    let accept = check(request.headers())?;
    check_origin(&web, request.headers())?;
    let admitted = web.door.knock(peer.addr.ip())?;
    let upgraded = hyper::upgrade::on(&mut request);
    let idle = web.door.idle_timeout();
    peer.tasks.clone().spawn(async move {
        // An error: the client was gone before the answer was out.
        let Ok(upgraded) = upgraded.await else { return };
        let (connection, pump) = websocket::accept(TokioIo::new(upgraded), peer.addr, idle);
        tokio::join!(admitted.serve(connection), pump);
    });
    let mut response = StatusCode::SWITCHING_PROTOCOLS.into_response();
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
    Ok(response)
}

/// Whether a request may become a WebSocket. Returns the answer to its key.
fn check(headers: &HeaderMap) -> Result<HeaderValue, Problem> {
    let has = |name: HeaderName, wanted: &str| {
        let mut words = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
        words.any(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case(wanted)))
    };
    if !has(CONNECTION, "upgrade") || !has(UPGRADE, "websocket") {
        let message = "players connect here by WebSocket: an upgrade is wanted";
        let problem = Problem::new(StatusCode::UPGRADE_REQUIRED, "RK-GATE-144", message);
        return Err(problem.with(UPGRADE, "websocket"));
    }
    if !has(SEC_WEBSOCKET_VERSION, VERSION) {
        let message = "only version 13 of WebSocket is spoken here";
        let problem = Problem::new(StatusCode::UPGRADE_REQUIRED, "RK-GATE-144", message);
        return Err(problem.with(SEC_WEBSOCKET_VERSION, VERSION));
    }
    let refused = |message: &str| Problem::new(StatusCode::BAD_REQUEST, "RK-GATE-144", message);
    if !has(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL) {
        return Err(refused("the subprotocol rekindle.4 must be asked for"));
    }
    // 16 bytes in base64.
    let key = text(headers, SEC_WEBSOCKET_KEY).filter(|key| key.len() == 24);
    let key = key.ok_or_else(|| refused("the WebSocket key is missing or is none"))?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes()))
        .map_err(|_| refused("the WebSocket key is missing or is none"))
}
