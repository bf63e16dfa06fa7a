//! The admin HTTP listener: the paths, who may ask, and what an answer looks like. `/livez` answers
//! as long as the process turns; it never asks the store.
//!
//! Started by the node before anything else ([`serve`] with a [`Front`]). What a request asks for
//! is done by the [`Control`] that [`Front::open`] was given.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower_service::Service as _;

use crate::api::{
    AskedDocuments, AuditView, CallDocuments, CreateMatch, CreatedMatch, DrainNode, Draining,
    IssueTicket, JobView, ListAudit, ListJobs, ListMatches, MOST_SEATS, MatchView, MigrateMatch,
    Migrated, NodeView, Nothing, Problem, ResumeMatch, RunJob, SetStandby, StopMatch, Ticket,
    WhereView,
};
use crate::cluster::{ClusterView, NodeWished, RebalanceView, WishNode};
use crate::control::{Control, Refusal, RefusalClass};
use crate::events::FollowEvents;
use crate::listener;
use crate::profile::{self, ProfileMatch, ProfileView};
use crate::stats::MatchStats;
use crate::values::MatchValues;
use crate::who::Who;

/// Every path with what it answers: the index page and the router are made of the same list.
const PATHS: &[(&str, &str, &str)] = &[
    ("GET", "/livez", "the process turns"),
    ("GET", "/startupz", "the node has started: its store answers and its matches are recovered"),
    ("GET", "/readyz", "players are let in; behind the first line, matches that do not run"),
    ("GET", "/metrics", "Prometheus metrics"),
    ("GET", "/v1/node", "this node"),
    (
        "GET",
        "/v1/matches",
        "all matches; ?open=1: with free seats; ?game=, ?property=A=B,.., ?where=, ?sort=, ?limit=",
    ),
    ("POST", "/v1/matches", "creates one: `rekindle match create`"),
    ("GET", "/v1/matches/{id}", "one match: `rekindle match show`"),
    ("GET", "/v1/matches/{id}/where", "which node has it: `rekindle match where`"),
    ("GET", "/v1/matches/{id}/profile", "what its ticks take: `rekindle match profile`"),
    ("GET", "/v1/matches/{id}/stats", "its statistics: `rekindle match stats`"),
    ("GET", "/v1/matches/{id}/values", "its values by name: `rekindle match values`"),
    ("GET", "/v1/documents", "the kinds of document: `rekindle doc kinds`"),
    ("POST", "/v1/documents/{kind}/ask", "answers a question: `rekindle doc ls`"),
    ("POST", "/v1/documents/{kind}/call", "calls actions: `rekindle doc call`"),
    ("POST", "/v1/matches/{id}/stop", "ends it: `rekindle match stop`"),
    ("POST", "/v1/matches/{id}/resume", "tries a parked one again: `rekindle match resume`"),
    ("POST", "/v1/matches/{id}/migrate", "moves it to another node: `rekindle match migrate`"),
    ("POST", "/v1/matches/{id}/standby", "how many nodes follow it: `rekindle match standby`"),
    ("GET", "/v1/events", "events as they come, as server-sent events: `rekindle events --follow`"),
    ("GET", "/v1/jobs", "work in the background: `rekindle jobs ls`"),
    ("POST", "/v1/jobs", "has something done: `rekindle jobs run`"),
    ("GET", "/v1/jobs/{id}", "one job: `rekindle jobs show`"),
    ("POST", "/v1/jobs/{id}/retry", "has it tried again: `rekindle jobs retry`"),
    ("POST", "/v1/jobs/{id}/cancel", "calls it off: `rekindle jobs cancel`"),
    ("GET", "/v1/cluster", "all nodes of the store: `rekindle cluster status`"),
    ("GET", "/v1/cluster/rebalance", "what would move: `rekindle cluster rebalance --dry-run`"),
    ("POST", "/v1/nodes/{name}", "drains one or takes that back: `rekindle node drain`"),
    ("GET", "/v1/audit", "what operators did: `rekindle audit`"),
    ("POST", "/v1/drain", "stops the node cleanly: `rekindle drain`"),
    ("POST", "/v1/tickets", "issues a ticket (dev mode or with the token)"),
];

/// What each request is answered with.
#[derive(Clone)]
struct Admin {
    node: Arc<dyn Control>,
    /// The configured `admin.token`; without one only requests to a loopback address are answered.
    token: Option<Arc<str>>,
    /// Places for those who follow events: each reads the logs for itself.
    streams: Arc<Semaphore>,
}

/// Most who follow events at the same time.
const MOST_STREAMS: usize = 16;

impl Admin {
    fn new(node: Arc<dyn Control>, token: Option<String>) -> Self {
        let streams = Arc::new(Semaphore::new(MOST_STREAMS));
        Self { node, token: token.map(Into::into), streams }
    }

    /// Whether tickets are for whoever asks.
    fn may_issue_tickets(&self) -> Result<(), Refused> {
        if self.node.is_dev() || self.token.is_some() {
            return Ok(());
        }
        let message = "tickets are handed out only in dev mode or with an admin.token; use \
            `rekindle ticket issue` on this host";
        Err(Refused::new(StatusCode::FORBIDDEN, "RK-ADMIN-403", message))
    }
}

/// The code of whatever is asked too early.
const STARTING: &str = "RK-ADMIN-130";

/// What answers from the first moment on: by itself until the node is there, then by handing on to
/// it. Cheap to clone.
#[derive(Clone, Default)]
pub struct Front(Arc<Start>);

/// How far the start of a node has come.
#[derive(Default)]
struct Start {
    /// What the start is at, in words; written by [`Front::says`].
    phase: Mutex<String>,
    /// What the node answers; set by [`Front::open`].
    node: OnceLock<Router>,
    /// Set by [`Front::started`].
    over: AtomicBool,
}

impl Front {
    /// What the start is at, for `/startupz` and whoever asks too early.
    pub fn says(&self, phase: impl Into<String>) {
        *self.0.phase.lock() = phase.into();
    }

    /// The node is there and answers for itself. To be called once. `token` is `admin.token`.
    pub fn open(&self, node: Arc<dyn Control>, token: Option<String>) {
        let opened = self.0.node.set(router(Admin::new(node, token)));
        assert!(opened.is_ok(), "a second node behind the same listener would never be asked");
    }

    /// The start is over.
    pub fn started(&self) {
        self.0.over.store(true, Ordering::Release);
    }

    fn router(self) -> Router {
        Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/startupz", get(async |State(front): State<Self>| front.startup()))
            .fallback(Self::hand_on)
            .with_state(self)
    }

    fn startup(&self) -> Response {
        if self.0.over.load(Ordering::Acquire) {
            return "started\n".into_response();
        }
        (StatusCode::SERVICE_UNAVAILABLE, format!("starting: {}\n", self.0.phase.lock()))
            .into_response()
    }

    async fn hand_on(State(front): State<Self>, request: Request) -> Response {
        match front.0.node.get() {
            Some(node) => match node.clone().call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            },
            None if request.uri().path() == "/readyz" => (
                StatusCode::SERVICE_UNAVAILABLE,
                format!("not ready: starting: {}\n", front.0.phase.lock()),
            )
                .into_response(),
            None => {
                let words =
                    format!("{STARTING}: this node is still starting: {}", front.0.phase.lock());
                Refused::new(StatusCode::SERVICE_UNAVAILABLE, STARTING, words).into_response()
            }
        }
    }
}

/// Serves until `stop` resolves, then answers what is under way.
///
/// At most `most` connections are open at once. Boxed, so that the server is compiled in this
/// crate and not where it is awaited.
pub fn serve(
    listener: TcpListener,
    front: Front,
    most: usize,
    stop: BoxFuture<'static, ()>,
) -> BoxFuture<'static, std::io::Result<()>> {
    Box::pin(listener::serve(listener, front.router(), most, stop))
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/metrics", get(render_metrics))
        .route("/v1/node", get(show_node))
        .route("/v1/matches", get(list_matches).post(create_match))
        .route("/v1/matches/{id}", get(show_match))
        .route("/v1/matches/{id}/where", get(match_where))
        .route("/v1/matches/{id}/profile", get(profile_match))
        .route("/v1/matches/{id}/stop", post(stop_match))
        .route("/v1/matches/{id}/resume", post(resume_match))
        .route("/v1/matches/{id}/stats", get(match_stats))
        .route("/v1/matches/{id}/values", get(match_values))
        .route("/v1/events", get(follow_events))
        .route("/v1/documents", get(list_kinds))
        .route("/v1/documents/{kind}/ask", post(ask_documents))
        .route("/v1/documents/{kind}/call", post(call_documents))
        .route("/v1/jobs", get(list_jobs).post(run_job))
        .route("/v1/jobs/{id}", get(show_job))
        .route("/v1/jobs/{id}/retry", post(retry_job))
        .route("/v1/jobs/{id}/cancel", post(cancel_job))
        .route("/v1/cluster", get(show_cluster))
        .route("/v1/cluster/rebalance", get(show_rebalance))
        .route("/v1/nodes/{name}", post(wish_node))
        .route("/v1/audit", get(list_audit))
        .route("/v1/matches/{id}/migrate", post(migrate_match))
        .route("/v1/matches/{id}/standby", post(set_standby))
        .route("/v1/drain", post(drain))
        .route("/v1/tickets", post(issue_ticket))
        .layer(middleware::from_fn_with_state(admin.clone(), authorize))
        // Probes carry no secrets.
        .route("/", get(index))
        .route("/readyz", get(ready))
        .fallback(async || {
            Refused::new(StatusCode::NOT_FOUND, "RK-ADMIN-404", "no such path; GET / lists them")
        })
        .with_state(admin)
}

/// An error answer.
struct Refused(StatusCode, Problem);

impl Refused {
    fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self(status, Problem { code: code.to_owned(), message: message.into() })
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

impl From<Refusal> for Refused {
    fn from(Refusal { class, code, message }: Refusal) -> Self {
        let status = match class {
            RefusalClass::NotFound => StatusCode::NOT_FOUND,
            RefusalClass::Invalid => StatusCode::BAD_REQUEST,
            RefusalClass::Forbidden => StatusCode::FORBIDDEN,
            RefusalClass::Conflict => StatusCode::CONFLICT,
            RefusalClass::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            RefusalClass::Failed => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, code, message)
    }
}

impl From<JsonRejection> for Refused {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "RK-ADMIN-400", rejection.body_text())
    }
}

impl From<QueryRejection> for Refused {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "RK-ADMIN-400", rejection.body_text())
    }
}

async fn authorize(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let Some(token) = &admin.token else {
        // Without a token the only guard is that requests come from this host, so a web page must
        // not get through by a name that resolves to loopback (DNS rebinding), nor by a form
        // (bodies must be `application/json`, which a form cannot send).
        let host = request
            .headers()
            .get(header::HOST)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        if is_loopback(host) {
            return next.run(request).await;
        }
        let message = "without admin.token only requests to a loopback address are answered";
        return Refused::new(StatusCode::FORBIDDEN, "RK-ADMIN-403", message).into_response();
    };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if same_secret(given.as_bytes(), token.as_bytes()) {
        return next.run(request).await;
    }
    let message = "this node wants `Authorization: Bearer TOKEN` with its admin.token";
    Refused::new(StatusCode::UNAUTHORIZED, "RK-ADMIN-401", message).into_response()
}

/// Whether a `Host` header names this host: `127.0.0.1:7780`, `[::1]:7780`, `localhost`.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    name == "localhost"
        || name.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
}

/// Compares in a time that depends on the lengths alone.
fn same_secret(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differs, (x, y)| differs | (x ^ y)) == 0
}

async fn index(State(admin): State<Admin>) -> Html<String> {
    let mut page = String::from(
        "<!doctype html><meta charset=utf-8><title>Rekindle</title><link rel=icon href=data:,>\
         <style>body{font:16px/1.5 system-ui;margin:2em;max-width:50em}td{padding:0 1em 0 \
         0}</style>",
    );
    let _ = write!(page, "<h1>Rekindle node {}</h1><table>", admin.node.name());
    for (method, path, what) in PATHS {
        let what = admin.node.told(what);
        let shown = if *method == "GET" && !path.contains('{') {
            format!("<a href={path}>{path}</a>")
        } else {
            (*path).to_owned()
        };
        let _ = write!(page, "<tr><td>{method}<td><code>{shown}</code><td>{what}");
    }
    page.push_str("</table>");
    Html(page)
}

async fn ready(State(admin): State<Admin>) -> Response {
    let ready = admin.node.ready();
    let (status, mut text) = match ready {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    };
    // What does not run is no reason to send players of all other matches elsewhere.
    for line in admin.node.detail() {
        text.push_str(&line);
        text.push('\n');
    }
    (status, text).into_response()
}

async fn render_metrics(State(admin): State<Admin>) -> Response {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], admin.node.metrics()).into_response()
}

async fn show_node(State(admin): State<Admin>) -> Json<NodeView> {
    Json(admin.node.node())
}

async fn list_matches(
    State(admin): State<Admin>,
    query: Result<Query<ListMatches>, QueryRejection>,
) -> Result<Json<Vec<MatchView>>, Refused> {
    let Query(wanted) = query?;
    Ok(Json(admin.node.matches(wanted).await?))
}

async fn show_match(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<MatchView>, Refused> {
    Ok(Json(admin.node.match_view(id).await?))
}

async fn match_where(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<WhereView>, Refused> {
    Ok(Json(admin.node.match_where(id).await?))
}

async fn profile_match(
    State(admin): State<Admin>,
    Path(id): Path<String>,
    query: Result<Query<ProfileMatch>, QueryRejection>,
) -> Result<Json<ProfileView>, Refused> {
    let Query(wanted) = query?;
    let seconds = wanted.seconds.unwrap_or(profile::SECONDS);
    if !(1..=profile::MOST_SECONDS).contains(&seconds) {
        let message =
            format!("seconds={seconds}: a match is profiled for 1 to {}", profile::MOST_SECONDS);
        return Err(Refused::new(StatusCode::BAD_REQUEST, "RK-ADMIN-400", message));
    }
    Ok(Json(admin.node.profile_match(id, seconds).await?))
}

async fn match_stats(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<MatchStats>, Refused> {
    Ok(Json(admin.node.match_stats(id).await?))
}

async fn match_values(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<MatchValues>, Refused> {
    Ok(Json(admin.node.match_values(id).await?))
}

async fn follow_events(
    State(admin): State<Admin>,
    query: Result<Query<FollowEvents>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(wanted) = query?;
    let place = Arc::clone(&admin.streams).try_acquire_owned().map_err(|_| {
        let message = format!("{MOST_STREAMS} readers follow events here: ask another node");
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "RK-ADMIN-530", message)
    })?;
    let news = admin.node.events(wanted).await?.map(move |news| {
        let _taken = &place;
        Event::default().event(news.name()).json_data(&news)
    });
    let mut response = Sse::new(news).keep_alive(KeepAlive::default()).into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

async fn create_match(
    State(admin): State<Admin>,
    who: Who,
    body: Result<Json<CreateMatch>, JsonRejection>,
) -> Result<Json<CreatedMatch>, Refused> {
    let Json(wanted) = body?;
    if !wanted.seats.is_empty() {
        admin.may_issue_tickets()?;
    }
    if wanted.seats.len() > MOST_SEATS {
        let message = format!("{} seats in one request: at most {MOST_SEATS}", wanted.seats.len());
        return Err(Refused::new(StatusCode::BAD_REQUEST, "RK-ADMIN-521", message));
    }
    Ok(Json(admin.node.create_match(who, wanted).await?))
}

async fn stop_match(
    State(admin): State<Admin>,
    who: Who,
    Path(id): Path<String>,
    body: Result<Json<StopMatch>, JsonRejection>,
) -> Result<Json<MatchView>, Refused> {
    let Json(wanted) = body?;
    Ok(Json(admin.node.stop_match(who, id, wanted).await?))
}

async fn resume_match(
    State(admin): State<Admin>,
    who: Who,
    Path(id): Path<String>,
    body: Result<Json<ResumeMatch>, JsonRejection>,
) -> Result<Json<MatchView>, Refused> {
    let Json(wanted) = body?;
    Ok(Json(admin.node.resume_match(who, id, wanted).await?))
}

async fn migrate_match(
    State(admin): State<Admin>,
    who: Who,
    Path(id): Path<String>,
    body: Result<Json<MigrateMatch>, JsonRejection>,
) -> Result<Json<Migrated>, Refused> {
    let Json(wanted) = body?;
    Ok(Json(admin.node.migrate_match(who, id, wanted).await?))
}

async fn set_standby(
    State(admin): State<Admin>,
    who: Who,
    Path(id): Path<String>,
    body: Result<Json<SetStandby>, JsonRejection>,
) -> Result<Json<MatchView>, Refused> {
    let Json(wanted) = body?;
    Ok(Json(admin.node.set_standby(who, id, wanted).await?))
}

async fn wish_node(
    State(admin): State<Admin>,
    who: Who,
    Path(name): Path<String>,
    body: Result<Json<WishNode>, JsonRejection>,
) -> Result<Json<NodeWished>, Refused> {
    let Json(wanted) = body?;
    Ok(Json(admin.node.wish_node(who, name, wanted).await?))
}

async fn drain(
    State(admin): State<Admin>,
    who: Who,
    body: Result<Json<DrainNode>, JsonRejection>,
) -> Result<Json<Draining>, Refused> {
    let Json(DrainNode {}) = body?;
    Ok(Json(admin.node.drain(who).await?))
}

async fn issue_ticket(
    State(admin): State<Admin>,
    who: Who,
    body: Result<Json<IssueTicket>, JsonRejection>,
) -> Result<Json<Ticket>, Refused> {
    let Json(wanted) = body?;
    admin.may_issue_tickets()?;
    Ok(Json(admin.node.issue_ticket(who, wanted).await?))
}

async fn list_jobs(
    State(admin): State<Admin>,
    query: Result<Query<ListJobs>, QueryRejection>,
) -> Result<Json<Vec<JobView>>, Refused> {
    let Query(wanted) = query?;
    Ok(Json(admin.node.jobs(wanted).await?))
}

async fn show_job(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<JobView>, Refused> {
    Ok(Json(admin.node.job(id).await?))
}

async fn list_kinds(State(admin): State<Admin>) -> Json<Vec<serde_json::Value>> {
    Json(admin.node.document_kinds())
}

async fn ask_documents(
    State(admin): State<Admin>,
    Path(kind): Path<String>,
    body: Result<Json<serde_json::Value>, JsonRejection>,
) -> Result<Json<AskedDocuments>, Refused> {
    let Json(question) = body?;
    Ok(Json(admin.node.ask_documents(kind, question).await?))
}

async fn call_documents(
    State(admin): State<Admin>,
    who: Who,
    Path(kind): Path<String>,
    body: Result<Json<CallDocuments>, JsonRejection>,
) -> Result<Json<serde_json::Value>, Refused> {
    let Json(wanted) = body?;
    Ok(Json(admin.node.call_documents(who, kind, wanted).await?))
}

async fn run_job(
    State(admin): State<Admin>,
    who: Who,
    body: Result<Json<RunJob>, JsonRejection>,
) -> Result<Json<JobView>, Refused> {
    let Json(wanted) = body?;
    Ok(Json(admin.node.run_job(who, wanted).await?))
}

async fn retry_job(
    State(admin): State<Admin>,
    who: Who,
    Path(id): Path<String>,
    body: Result<Json<Nothing>, JsonRejection>,
) -> Result<Json<JobView>, Refused> {
    let Json(Nothing {}) = body?;
    Ok(Json(admin.node.retry_job(who, id).await?))
}

async fn cancel_job(
    State(admin): State<Admin>,
    who: Who,
    Path(id): Path<String>,
    body: Result<Json<Nothing>, JsonRejection>,
) -> Result<Json<JobView>, Refused> {
    let Json(Nothing {}) = body?;
    Ok(Json(admin.node.cancel_job(who, id).await?))
}

async fn show_cluster(State(admin): State<Admin>) -> Result<Json<ClusterView>, Refused> {
    Ok(Json(admin.node.cluster().await?))
}

async fn show_rebalance(State(admin): State<Admin>) -> Result<Json<RebalanceView>, Refused> {
    Ok(Json(admin.node.rebalance().await?))
}

async fn list_audit(
    State(admin): State<Admin>,
    query: Result<Query<ListAudit>, QueryRejection>,
) -> Result<Json<Vec<AuditView>>, Refused> {
    let Query(wanted) = query?;
    Ok(Json(admin.node.audit(wanted).await?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_this_host_pass_without_a_token() {
        for host in ["127.0.0.1:7780", "127.0.0.1", "[::1]:7780", "localhost:1", "localhost"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["evil.example:7780", "127.0.0.1.evil.example", "10.0.0.1:7780", ""] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn secrets_are_compared_whole() {
        assert!(same_secret(b"abc", b"abc"));
        assert!(!same_secret(b"abc", b"abd"));
        assert!(!same_secret(b"", b"abc"));
    }
}
