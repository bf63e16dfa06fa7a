//! Pictures of a match as it goes on (`GET /play/sketch/MATCH`): server-sent events with one sketch
//! each, for pages that do not know the game.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, ORIGIN, VARY};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;

use crate::Web;
use crate::listener::Peer;
use crate::routes::{Problem, check_guest};

/// Streams that are open at once.
pub(crate) const MOST: usize = 64;

/// Answers with pictures until the match ends or the page goes.
pub(crate) async fn stream(
    State(web): State<Arc<Web>>,
    Extension(peer): Extension<Peer>,
    Path(match_id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    check_guest(&web, &peer, &headers)?;
    let place = Arc::clone(&web.sketches).try_acquire_owned().map_err(|_| {
        let message = format!("{MOST} pages are shown sketches by this node: try again later");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "RK-GATE-164", message)
    })?;
    let sketches = web.site.sketches(&match_id).ok_or_else(|| {
        let message = format!("no match {match_id:?} runs on this node: ask the one that has it");
        Problem::new(StatusCode::NOT_FOUND, "RK-GATE-165", message)
    })?;
    let events = sketches.map(move |sketch| {
        let _taken = &place;
        Ok::<_, Infallible>(Event::default().data(sketch))
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::default()).into_response();
    let head = response.headers_mut();
    head.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Its origin was checked: a page that came from another node of the cluster may read it.
    if let Some(origin) = headers.get(ORIGIN) {
        head.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        head.insert(VARY, HeaderValue::from_static("origin"));
    }
    Ok(response)
}
