//! The admin HTTP listener. `/livez` answers as long as the process turns; it never asks the store.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::Mutex;
use rekindle_schema::{JobId, MatchId};
use rekindle_store::{AuditQuery, JobFilter};
use tokio::net::TcpListener;
use tower_service::Service as _;

use super::api::{
    AuditView, CreateMatch, DrainNode, Draining, IssueTicket, JobView, ListAudit, ListJobs,
    MatchView, NodeView, Nothing, Problem, ResumeMatch, RunJob, StopMatch, Ticket,
};
use super::listener;
use super::who::Who;
use crate::node::{ControlError, Serving};

/// Every path with what it answers: the index page and the router are made of the same list.
const PATHS: &[(&str, &str, &str)] = &[
    ("GET", "/livez", "the process turns"),
    ("GET", "/startupz", "the node has started: its store answers and its matches are recovered"),
    ("GET", "/readyz", "players are let in; behind the first line, matches that do not run"),
    ("GET", "/metrics", "Prometheus metrics"),
    ("GET", "/v1/node", "this node"),
    ("GET", "/v1/matches", "all matches"),
    ("POST", "/v1/matches", "creates one: `rekindle match create`"),
    ("GET", "/v1/matches/{id}", "one match: `rekindle match show`"),
    ("POST", "/v1/matches/{id}/stop", "ends it: `rekindle match stop`"),
    ("POST", "/v1/matches/{id}/resume", "tries a parked one again: `rekindle match resume`"),
    ("GET", "/v1/jobs", "work in the background: `rekindle jobs ls`"),
    ("POST", "/v1/jobs", "has something done: `rekindle jobs run`"),
    ("GET", "/v1/jobs/{id}", "one job: `rekindle jobs show`"),
    ("POST", "/v1/jobs/{id}/retry", "has it tried again: `rekindle jobs retry`"),
    ("POST", "/v1/jobs/{id}/cancel", "calls it off: `rekindle jobs cancel`"),
    ("GET", "/v1/audit", "what operators did: `rekindle audit`"),
    ("POST", "/v1/drain", "stops the node cleanly: `rekindle drain`"),
    ("POST", "/v1/tickets", "issues a ticket (dev mode or with the token)"),
];

#[derive(Clone)]
struct Admin {
    node: Arc<Serving>,
    metrics: PrometheusHandle,
    token: Option<Arc<str>>,
}

/// The code of whatever is asked too early.
const STARTING: &str = "RK-ADMIN-130";

/// What answers from the first moment on: by itself until the node is there, then by handing on to
/// it. Cheap to clone.
#[derive(Clone, Default)]
pub struct Front(Arc<Door>);

#[derive(Default)]
struct Door {
    /// What the start is at.
    phase: Mutex<String>,
    /// What the node answers.
    node: OnceLock<Router>,
    started: AtomicBool,
}

impl Front {
    /// What the start is at, for `/startupz` and whoever asks too early.
    pub fn says(&self, phase: impl Into<String>) {
        *self.0.phase.lock() = phase.into();
    }

    /// The node is there and answers for itself. To be called once.
    pub fn open(&self, node: Arc<Serving>, metrics: PrometheusHandle, token: Option<String>) {
        // A second node would never be asked.
        let _ = self.0.node.set(router(Admin { node, metrics, token: token.map(Into::into) }));
    }

    /// The start is over.
    pub fn started(&self) {
        self.0.started.store(true, Ordering::Release);
    }

    fn router(self) -> Router {
        Router::new()
            .route("/livez", get(async || "ok\n"))
            .route("/startupz", get(async |State(front): State<Self>| front.startup()))
            .fallback(Self::hand_on)
            .with_state(self)
    }

    fn startup(&self) -> Response {
        if self.0.started.load(Ordering::Acquire) {
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
                Refusal::new(StatusCode::SERVICE_UNAVAILABLE, STARTING, words).into_response()
            }
        }
    }
}

/// Serves until `stop` resolves, then answers what is under way.
///
/// At most `most` connections are open at once.
pub async fn serve(
    listener: TcpListener,
    front: Front,
    most: usize,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    listener::serve(listener, front.router(), most, stop).await
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/metrics", get(render_metrics))
        .route("/v1/node", get(show_node))
        .route("/v1/matches", get(list_matches).post(create_match))
        .route("/v1/matches/{id}", get(show_match))
        .route("/v1/matches/{id}/stop", post(stop_match))
        .route("/v1/matches/{id}/resume", post(resume_match))
        .route("/v1/jobs", get(list_jobs).post(run_job))
        .route("/v1/jobs/{id}", get(show_job))
        .route("/v1/jobs/{id}/retry", post(retry_job))
        .route("/v1/jobs/{id}/cancel", post(cancel_job))
        .route("/v1/audit", get(list_audit))
        .route("/v1/drain", post(drain))
        .route("/v1/tickets", post(issue_ticket))
        .layer(middleware::from_fn_with_state(admin.clone(), authorize))
        // Probes carry no secrets.
        .route("/", get(index))
        .route("/readyz", get(ready))
        .fallback(async || {
            Refusal::new(StatusCode::NOT_FOUND, "RK-ADMIN-404", "no such path; GET / lists them")
        })
        .with_state(admin)
}

/// An error answer.
struct Refusal(StatusCode, Problem);

impl Refusal {
    fn new(status: StatusCode, code: &str, message: impl Into<String>) -> Self {
        Self(status, Problem { code: code.to_owned(), message: message.into() })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

impl From<ControlError> for Refusal {
    fn from(error: ControlError) -> Self {
        let status = match &error {
            ControlError::NoMatch(_) | ControlError::NoJob(_) => StatusCode::NOT_FOUND,
            ControlError::Invalid(_) | ControlError::NoGame { .. } => StatusCode::BAD_REQUEST,
            ControlError::Forbidden(_) => StatusCode::FORBIDDEN,
            ControlError::Refused(_) => StatusCode::CONFLICT,
            ControlError::Draining
            | ControlError::NotReady
            | ControlError::Unavailable(_)
            | ControlError::NotWritten(_) => StatusCode::SERVICE_UNAVAILABLE,
            ControlError::Failed(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.code(), error.to_string())
    }
}

impl From<JsonRejection> for Refusal {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "RK-ADMIN-400", rejection.body_text())
    }
}

impl From<QueryRejection> for Refusal {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "RK-ADMIN-400", rejection.body_text())
    }
}

impl Admin {
    /// Does something that an operator asked for, with an audit entry before it and one after it.
    async fn act<T: Send + 'static>(
        &self,
        Who(who): Who,
        (action, target, detail): (&str, &str, &str),
        work: impl Future<Output = Result<T, ControlError>> + Send + 'static,
        named: impl FnOnce(&T) -> Option<String> + Send + 'static,
    ) -> Result<Json<T>, Refusal> {
        Ok(Json(
            self.node.operators().carry_out((&who, action, target, detail), work, named).await?,
        ))
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
        return Refusal::new(StatusCode::FORBIDDEN, "RK-ADMIN-403", message).into_response();
    };
    let given = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    if same_secret(given.as_bytes(), token.as_bytes()) {
        return next.run(request).await;
    }
    let message = "this node wants `Authorization: Bearer TOKEN` with its admin.token";
    Refusal::new(StatusCode::UNAUTHORIZED, "RK-ADMIN-401", message).into_response()
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
         <style>body{font:16px/1.5 system-ui;margin:2em;max-width:50em}td{padding:0 1em 0 0}</style>",
    );
    let _ = write!(page, "<h1>Rekindle node {}</h1><table>", admin.node.name());
    for (method, path, what) in PATHS {
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
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], admin.metrics.render()).into_response()
}

async fn show_node(State(admin): State<Admin>) -> Json<NodeView> {
    Json(admin.node.view())
}

async fn list_matches(State(admin): State<Admin>) -> Result<Json<Vec<MatchView>>, Refusal> {
    Ok(Json(admin.node.matches().await?))
}

async fn show_match(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<MatchView>, Refusal> {
    Ok(Json(admin.node.match_view(match_id(&id)?).await?))
}

async fn create_match(
    State(admin): State<Admin>,
    who: Who,
    body: Result<Json<CreateMatch>, JsonRejection>,
) -> Result<Json<MatchView>, Refusal> {
    let Json(wanted) = body?;
    let detail =
        format!("game={} bots={} config={}", wanted.game, wanted.house_bots, wanted.config);
    let node = Arc::clone(&admin.node);
    let work = async move { node.create_match(wanted).await };
    admin.act(who, ("match.create", "", &detail), work, |created| Some(created.id.clone())).await
}

async fn stop_match(
    State(admin): State<Admin>,
    who: Who,
    Path(id): Path<String>,
    body: Result<Json<StopMatch>, JsonRejection>,
) -> Result<Json<MatchView>, Refusal> {
    let Json(StopMatch { reason }) = body?;
    let (id, detail) = (match_id(&id)?, format!("reason={reason}"));
    let node = Arc::clone(&admin.node);
    let work = async move { node.stop_match(id, reason).await };
    admin.act(who, ("match.stop", &id.to_string(), &detail), work, |_| None).await
}

async fn resume_match(
    State(admin): State<Admin>,
    who: Who,
    Path(id): Path<String>,
    body: Result<Json<ResumeMatch>, JsonRejection>,
) -> Result<Json<MatchView>, Refusal> {
    let Json(ResumeMatch {}) = body?;
    let id = match_id(&id)?;
    let node = Arc::clone(&admin.node);
    admin
        .act(
            who,
            ("match.resume", &id.to_string(), ""),
            async move { node.resume_match(id).await },
            |_| None,
        )
        .await
}

async fn drain(
    State(admin): State<Admin>,
    who: Who,
    body: Result<Json<DrainNode>, JsonRejection>,
) -> Result<Json<Draining>, Refusal> {
    let Json(DrainNode {}) = body?;
    let node = Arc::clone(&admin.node);
    admin
        .act(
            who,
            ("node.drain", admin.node.name(), ""),
            async move { Ok(node.begin_drain()) },
            |_| None,
        )
        .await
}

async fn issue_ticket(
    State(admin): State<Admin>,
    who: Who,
    body: Result<Json<IssueTicket>, JsonRejection>,
) -> Result<Json<Ticket>, Refusal> {
    let Json(wanted) = body?;
    if !admin.node.is_dev() && admin.token.is_none() {
        let message = "tickets are handed out only in dev mode or with an admin.token; use \
            `rekindle ticket issue` on this host";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "RK-ADMIN-403", message));
    }
    let (target, detail) = crate::node::tickets::words(&wanted);
    let node = Arc::clone(&admin.node);
    admin
        .act(
            who,
            ("ticket.issue", &target, &detail),
            async move { node.issue_ticket(&wanted) },
            |_| None,
        )
        .await
}

async fn list_jobs(
    State(admin): State<Admin>,
    query: Result<Query<ListJobs>, QueryRejection>,
) -> Result<Json<Vec<JobView>>, Refusal> {
    let Query(ListJobs { queue, kind, state, limit }) = query?;
    let filter = JobFilter { queue, kind, status: state, limit: limit.unwrap_or(100).min(1_000) };
    Ok(Json(admin.node.jobs(filter).await?))
}

async fn show_job(
    State(admin): State<Admin>,
    Path(id): Path<String>,
) -> Result<Json<JobView>, Refusal> {
    Ok(Json(admin.node.job(job_id(&id)?).await?))
}

async fn run_job(
    State(admin): State<Admin>,
    who: Who,
    body: Result<Json<RunJob>, JsonRejection>,
) -> Result<Json<JobView>, Refusal> {
    let Json(wanted) = body?;
    let detail = format!("kind={} payload={}", wanted.kind, wanted.payload);
    let node = Arc::clone(&admin.node);
    admin
        .act(who, ("jobs.run", "", &detail), async move { node.run_job(wanted).await }, |job| {
            Some(job.id.clone())
        })
        .await
}

async fn retry_job(
    State(admin): State<Admin>,
    who: Who,
    Path(id): Path<String>,
    body: Result<Json<Nothing>, JsonRejection>,
) -> Result<Json<JobView>, Refusal> {
    let Json(Nothing {}) = body?;
    let id = job_id(&id)?;
    let node = Arc::clone(&admin.node);
    admin
        .act(
            who,
            ("jobs.retry", &id.to_string(), ""),
            async move { node.retry_job(id).await },
            |_| None,
        )
        .await
}

async fn cancel_job(
    State(admin): State<Admin>,
    who: Who,
    Path(id): Path<String>,
    body: Result<Json<Nothing>, JsonRejection>,
) -> Result<Json<JobView>, Refusal> {
    let Json(Nothing {}) = body?;
    let id = job_id(&id)?;
    let node = Arc::clone(&admin.node);
    admin
        .act(
            who,
            ("jobs.cancel", &id.to_string(), ""),
            async move { node.cancel_job(id).await },
            |_| None,
        )
        .await
}

async fn list_audit(
    State(admin): State<Admin>,
    query: Result<Query<ListAudit>, QueryRejection>,
) -> Result<Json<Vec<AuditView>>, Refusal> {
    let Query(ListAudit { since_ms, until_ms, limit }) = query?;
    let query = AuditQuery {
        since_ms: since_ms.unwrap_or(0),
        until_ms: until_ms.unwrap_or(u64::MAX),
        limit: limit.unwrap_or(1_000).min(10_000),
    };
    Ok(Json(admin.node.audit(query).await?))
}

fn job_id(text: &str) -> Result<JobId, ControlError> {
    text.parse().map_err(|_| ControlError::NoJob(text.to_owned()))
}

fn match_id(text: &str) -> Result<MatchId, ControlError> {
    text.parse().map_err(|_| ControlError::NoMatch(text.to_owned()))
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
