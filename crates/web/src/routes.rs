//! The paths of the web listener and their answers.

use std::sync::Arc;

use axum::extract::rejection::JsonRejection;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use rekindle_gateway::TurnedAway;
use serde::Serialize;

use crate::edge_json::{PATH, edge_json};
use crate::listener::Peer;
use crate::site::{Guest, GuestRefused, GuestWanted};
use crate::{Web, pages, sketches, upgrade};

/// Longest body of a request, in bytes.
const MAX_BODY: usize = 4 << 10;

/// All paths.
pub(crate) fn router(web: Arc<Web>) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/favicon.ico", get(async || pages::icon()))
        .route("/play/{*file}", get(file))
        .route("/play/ticket", post(ticket))
        .route("/play/sketch/{match}", get(sketches::stream))
        .route("/edge.json", get(describe))
        .route(PATH, get(upgrade::upgrade))
        .fallback(async || no_such_path())
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(from_fn(count))
        .with_state(web)
}

/// An answer that is a no.
#[derive(Serialize)]
pub(crate) struct Problem {
    #[serde(skip)]
    status: StatusCode,
    code: &'static str,
    message: String,
    /// What else its head says.
    #[serde(skip)]
    header: Option<(HeaderName, &'static str)>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), header: None }
    }

    pub(crate) fn with(self, name: HeaderName, value: &'static str) -> Self {
        Self { header: Some((name, value)), ..self }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, header) = (self.status, self.header.clone());
        let mut response = (status, [(CACHE_CONTROL, "no-store")], Json(self)).into_response();
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl From<TurnedAway> for Problem {
    fn from(why: TurnedAway) -> Self {
        match why {
            TurnedAway::Draining => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "RK-GATE-158",
                "this node goes down or serves nobody now: ask another one",
            ),
            TurnedAway::Busy(bound) => Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "RK-GATE-157",
                format!("too many connections want in ({bound}): wait, then try again"),
            ),
        }
    }
}

fn no_such_path() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "RK-GATE-142", "there is nothing at this path")
}

async fn count(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!("rekindle_web_requests_total", "status" => status).increment(1);
    response
}

/// A header, if it is text.
pub(crate) fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Refuses requests of pages that may not connect.
pub(crate) fn check_origin(web: &Web, headers: &HeaderMap) -> Result<(), Problem> {
    let authority = text(headers, HOST).unwrap_or_default();
    let origin = headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or("null"));
    if web.config.origins.allow(origin, authority) {
        return Ok(());
    }
    let message = "pages of this origin may not connect: edge.origins lists those that may";
    Err(Problem::new(StatusCode::FORBIDDEN, "RK-GATE-143", message))
}

/// Refuses whoever would need a ticket of a guest where guests are not welcome, of a page that may
/// not connect, or more often than one address may ask.
pub(crate) fn check_guest(web: &Web, peer: &Peer, headers: &HeaderMap) -> Result<(), Problem> {
    if !web.config.guests {
        let message =
            "this node gives no tickets to guests (edge.guests): get one where you log in";
        return Err(Problem::new(StatusCode::FORBIDDEN, "RK-GATE-152", message));
    }
    check_origin(web, headers)?;
    Ok(web.door.may_ask(peer.addr.ip())?)
}

/// The page of the arena where that is played, else the one for any game.
async fn index(State(web): State<Arc<Web>>) -> Response {
    pages::index(web.site.games().iter().any(|game| game == pages::OWN_PAGE))
}

async fn file(Path(name): Path<String>) -> Response {
    pages::file(&name).unwrap_or_else(|| no_such_path().into_response())
}

async fn describe(
    State(web): State<Arc<Web>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
) -> Response {
    let answer = edge_json(&web, text(&headers, HOST), peer.tls);
    let public = [(ACCESS_CONTROL_ALLOW_ORIGIN, "*"), (CACHE_CONTROL, "no-store")];
    (public, Json(answer)).into_response()
}

async fn ticket(
    State(web): State<Arc<Web>>,
    Extension(peer): Extension<Peer>,
    headers: HeaderMap,
    body: Result<Json<GuestWanted>, JsonRejection>,
) -> Result<([(HeaderName, &'static str); 1], Json<Guest>), Problem> {
    check_guest(&web, &peer, &headers)?;
    let Json(wanted) = body
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "RK-GATE-159", error.body_text()))?;
    let guest = web.site.guest(wanted).await.map_err(|why| match why {
        GuestRefused::Invalid(words) => Problem::new(StatusCode::BAD_REQUEST, "RK-GATE-159", words),
        GuestRefused::NoMatch(words) => Problem::new(StatusCode::NOT_FOUND, "RK-GATE-159", words),
        GuestRefused::Unavailable(words) => {
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "RK-GATE-159", words)
        }
    })?;
    Ok(([(CACHE_CONTROL, "no-store")], Json(guest)))
}
