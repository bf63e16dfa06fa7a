//! Joins a node to the HTTP interface of `rekindle-admin`: binds its listener ([`listen`]), answers
//! what it asks ([`Control`]) with the audit entries around each order, and says in its types what
//! the node says in its own.
//!
//! Called by `cli/start.rs`, which hands the [`Listening`] to [`crate::node::lifecycle`]. The node
//! itself knows no HTTP.

mod profile;
mod views;
mod watching;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use metrics_exporter_prometheus::PrometheusHandle;
use parking_lot::Mutex;
use rekindle_admin::api::{
    AskedDocuments, AuditView, CallDocuments, CreateMatch, CreatedMatch, Draining, IssueTicket,
    JobView, ListAudit, ListJobs, ListMatches, MATCH_FIELDS, MatchView, MigrateMatch, Migrated,
    NodeView, ResumeMatch, RunJob, SetStandby, StopMatch, Ticket, WhereView,
};
use rekindle_admin::cluster::{ClusterView, NodeWished, RebalanceView, WishNode};
use rekindle_admin::control::{Answer, Control, Refusal, RefusalClass};
use rekindle_admin::events::{EventNews, FollowEvents};
use rekindle_admin::profile::ProfileView;
use rekindle_admin::server;
use rekindle_admin::stats::MatchStats;
use rekindle_admin::values::MatchValues;
use rekindle_admin::who::Who;
use rekindle_schema::{JobId, MatchId};
use rekindle_sim::documents::select::{Select, part};
use rekindle_sim::documents::{wire as documents, words};
use rekindle_store::{AuditQuery, JobFilter};
use serde_json::Value as Json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::config::{Config, Secret};
use crate::exit::{Exit, Failure};
pub(crate) use views::asked as asked_documents;

use crate::node::documents::DocumentsError;
use crate::node::documents::reading::Wanted;
use crate::node::lifecycle::Front;
use crate::node::operator::STOP_ACTION;
use crate::node::{ControlError, Serving, descriptors, tickets, wishes};
use crate::{clock, inspect, text};
pub(crate) use views::{
    NamedViews, match_stats, match_values, new_match, ticket_wanted, ticket_words, wanted,
    wish_action, wished,
};

/// For how many seconds the tickets of a new match are good, if nobody says otherwise.
const TICKET_TTL_S: u64 = 300;
/// How long the admin listener may finish answers after the matches are put away.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// An admin listener that answers already, by itself until a node is there.
pub struct Listening {
    /// What answers.
    front: server::Front,
    /// Where it is bound.
    addr: SocketAddr,
    /// Renders `/metrics`.
    metrics: PrometheusHandle,
    /// The configured `admin.token`.
    token: Option<Secret>,
    /// The listener at work, until somebody ends it.
    task: Mutex<Option<Serve>>,
}

/// A listener at work: what ends it when it is sent or dropped, and its task.
type Serve = (oneshot::Sender<()>, JoinHandle<std::io::Result<()>>);

/// Binds the admin listener of this configuration and answers from now on.
pub async fn listen(config: &Config, metrics: PrometheusHandle) -> Result<Listening, Failure> {
    let listener = TcpListener::bind(config.admin_listen).await.map_err(|error| {
        let message = format!(
            "RK-NODE-024: admin.listen {}: {error}; choose another address with --admin",
            config.admin_listen
        );
        Failure::new(Exit::Failed, message)
    })?;
    let addr = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let until_stopped = async move {
        // An error means that the sender is gone: the node has ended.
        let _ = stopped.await;
    };
    let front = server::Front::default();
    let most = descriptors::prepare(config);
    let task = tokio::spawn(server::serve(listener, front.clone(), most, Box::pin(until_stopped)));
    let task = Mutex::new(Some((stop, task)));
    Ok(Listening { front, addr, metrics, token: config.admin_token.clone(), task })
}

impl Front for Listening {
    fn says(&self, phase: &str) {
        self.front.says(phase);
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn open(&self, node: Arc<Serving>) {
        let token = self.token.as_ref().map(|token| token.reveal().to_owned());
        self.front.open(Arc::new(Operated { node, metrics: self.metrics.clone() }), token);
    }

    fn started(&self) {
        self.front.started();
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        let task = self.task.lock().take();
        async move {
            if let Some((stop, task)) = task {
                // Whoever listens may have ended by itself.
                let _ = stop.send(());
                let _ = tokio::time::timeout(LAST_ANSWERS, task).await;
            }
        }
        .boxed()
    }
}

/// A node, as its admin listener asks it.
struct Operated {
    node: Arc<Serving>,
    /// Renders `/metrics`.
    metrics: PrometheusHandle,
}

/// What the audit log says of an order: what is done, to what, with which arguments.
struct Order<'a> {
    /// `match.create`, `jobs.cancel`.
    action: &'a str,
    /// A match, a job, a node; empty if only the result tells.
    target: &'a str,
    /// The arguments, in words.
    detail: &'a str,
}

impl Operated {
    /// Does what an operator asked for, with an audit entry before it and one after it. `named`
    /// says to what it was done, if only its result tells.
    async fn act<T: Send + 'static>(
        &self,
        Who(who): Who,
        Order { action, target, detail }: Order<'_>,
        work: impl Future<Output = Result<T, ControlError>> + Send + 'static,
        named: impl FnOnce(&T) -> Option<String> + Send + 'static,
    ) -> Result<T, Refusal> {
        let what = (&*who, action, target, detail);
        self.node.operators().carry_out(what, work, named).await.map_err(refused)
    }

    /// [`Operated::act`] for an order whose target is known before.
    async fn act_on<T: Send + 'static>(
        &self,
        who: Who,
        order: Order<'_>,
        work: impl Future<Output = Result<T, ControlError>> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.act(who, order, work, |_| None).await
    }
}

impl Control for Operated {
    fn name(&self) -> &str {
        self.node.name()
    }

    fn is_dev(&self) -> bool {
        self.node.is_dev()
    }

    fn ready(&self) -> Result<(), &'static str> {
        self.node.ready()
    }

    fn detail(&self) -> Vec<String> {
        self.node.detail().iter().map(|line| text::own(line).into_owned()).collect()
    }

    fn told<'a>(&self, text: &'a str) -> Cow<'a, str> {
        text::own(text)
    }

    fn metrics(&self) -> String {
        self.metrics.render()
    }

    fn node(&self) -> NodeView {
        views::node(self.node.report())
    }

    fn matches(&self, wanted: ListMatches) -> Answer<'_, Vec<MatchView>> {
        async move {
            let ListMatches { game, open, property, filter, sort, limit } = wanted;
            let select = Select::new(filter.as_deref(), sort.as_deref(), &MATCH_FIELDS);
            let select = select.map_err(|problem| refused(ControlError::Invalid(problem)))?;
            let properties = views::properties(property.as_deref()).map_err(refused)?;
            let matches = match open {
                None | Some(0) => self.node.matches().await,
                Some(1) => self.node.open_matches().await,
                Some(other) => Err(ControlError::Invalid(format!("open={other}: expected 0 or 1"))),
            };
            let mut matches = matches.map_err(refused)?;
            matches.retain(|found| {
                let has = |(name, value): (&_, &_)| found.properties.get(name) == Some(value);
                game.as_ref().is_none_or(|game| found.game == *game) && properties.iter().all(has)
            });
            let views = matches.into_iter().map(views::of_match).map(|view| {
                let row = serde_json::to_value(&view).unwrap_or_default();
                (row, view)
            });
            let found = select.of(views.collect(), |(row, _), path| part(row, path));
            let found = found.map_err(|problem| refused(ControlError::Invalid(problem)))?;
            let most = limit.unwrap_or(usize::MAX);
            Ok(found.into_iter().take(most).map(|(_, view)| view).collect())
        }
        .boxed()
    }

    fn match_view(&self, id: String) -> Answer<'_, MatchView> {
        async move {
            let id = match_id(&id)?;
            let found = self.node.match_report(id).await.map_err(refused)?;
            let clients = self.node.lines(id).into_iter().map(views::of_client).collect();
            Ok(MatchView { clients, ..views::of_match(found) })
        }
        .boxed()
    }

    fn match_where(&self, id: String) -> Answer<'_, WhereView> {
        async move {
            let id = match_id(&id)?;
            Ok(views::whereabouts(id, self.node.whereabouts(id).await.map_err(refused)?))
        }
        .boxed()
    }

    fn profile_match(&self, id: String, seconds: u64) -> Answer<'_, ProfileView> {
        async move {
            let span = Duration::from_secs(seconds);
            let profiled = self.node.profile_match(match_id(&id)?, span).await.map_err(refused)?;
            Ok(profile::of(profiled, span))
        }
        .boxed()
    }

    fn match_stats(&self, id: String) -> Answer<'_, MatchStats> {
        async move { watching::stats(&self.node, match_id(&id)?).await.map_err(refused) }.boxed()
    }

    fn match_values(&self, id: String) -> Answer<'_, MatchValues> {
        async move { watching::values(&self.node, match_id(&id)?).await.map_err(refused) }.boxed()
    }

    fn events(&self, wanted: FollowEvents) -> Answer<'_, BoxStream<'static, EventNews>> {
        async move { watching::events(Arc::clone(&self.node), wanted).await.map_err(refused) }
            .boxed()
    }

    fn jobs(&self, wanted: ListJobs) -> Answer<'_, Vec<JobView>> {
        async move {
            let limit = wanted.limit();
            let ListJobs { queue, kind, state, limit: _ } = wanted;
            let filter = JobFilter { queue, kind, status: state, limit };
            let jobs = self.node.jobs(filter).await.map_err(refused)?;
            Ok(jobs.iter().map(views::job).collect())
        }
        .boxed()
    }

    fn job(&self, id: String) -> Answer<'_, JobView> {
        async move {
            let job = self.node.job(job_id(&id)?).await.map_err(refused)?;
            Ok(views::job(&job))
        }
        .boxed()
    }

    fn cluster(&self) -> Answer<'_, ClusterView> {
        async move {
            let view = inspect::cluster::read(&self.node.parts().store, clock::now_ms());
            view.await.map_err(|error| refused(error.into()))
        }
        .boxed()
    }

    fn rebalance(&self) -> Answer<'_, RebalanceView> {
        async move { Ok(views::rebalance(self.node.evening().await.map_err(refused)?)) }.boxed()
    }

    fn audit(&self, wanted: ListAudit) -> Answer<'_, Vec<AuditView>> {
        async move {
            let query = AuditQuery {
                since_ms: wanted.since_ms.unwrap_or(0),
                until_ms: wanted.until_ms.unwrap_or(u64::MAX),
                limit: wanted.limit(),
            };
            let entries = self.node.audit(query).await.map_err(refused)?;
            Ok(entries.iter().map(AuditView::of).collect())
        }
        .boxed()
    }

    fn create_match(&self, who: Who, wanted: CreateMatch) -> Answer<'_, CreatedMatch> {
        async move {
            let detail = views::creation_words(&wanted);
            let order = Order { action: "match.create", target: "", detail: &detail };
            let node = Arc::clone(&self.node);
            let work = async move { create(&node, wanted).await };
            self.act(who, order, work, |created| Some(created.view.id.clone())).await
        }
        .boxed()
    }

    fn stop_match(&self, who: Who, id: String, wanted: StopMatch) -> Answer<'_, MatchView> {
        async move {
            let StopMatch { reason } = wanted;
            let id = match_id(&id)?;
            let (target, detail) = (id.to_string(), format!("reason={reason}"));
            let order = Order { action: STOP_ACTION, target: &target, detail: &detail };
            let node = Arc::clone(&self.node);
            let work = async move { node.stop_match(id, reason).await };
            Ok(views::of_match(self.act_on(who, order, work).await?))
        }
        .boxed()
    }

    fn resume_match(&self, who: Who, id: String, wanted: ResumeMatch) -> Answer<'_, MatchView> {
        async move {
            let ResumeMatch { otherwise } = wanted;
            let detail = otherwise.map_or("", |wish| wish.word());
            let id = match_id(&id)?;
            let target = id.to_string();
            let order = Order { action: "match.resume", target: &target, detail };
            let node = Arc::clone(&self.node);
            let work =
                async move { node.resume_match(id, otherwise.map(views::other_build)).await };
            Ok(views::of_match(self.act_on(who, order, work).await?))
        }
        .boxed()
    }

    fn migrate_match(&self, who: Who, id: String, wanted: MigrateMatch) -> Answer<'_, Migrated> {
        async move {
            let MigrateMatch { to } = wanted;
            let id = match_id(&id)?;
            let (target, detail) = (id.to_string(), format!("to={to}"));
            let order = Order { action: "match.migrate", target: &target, detail: &detail };
            let node = Arc::clone(&self.node);
            let work = async move { node.migrate_match(id, &to).await };
            let moved = self.act_on(who, order, work).await?;
            Ok(Migrated { id: target, node: moved.to, pause_ms: moved.pause_ms })
        }
        .boxed()
    }

    fn set_standby(&self, who: Who, id: String, wanted: SetStandby) -> Answer<'_, MatchView> {
        async move {
            let SetStandby { standbys } = wanted;
            let id = match_id(&id)?;
            let wish = standbys.map_or_else(|| "default".to_owned(), |count| count.to_string());
            let (target, detail) = (id.to_string(), format!("standbys={wish}"));
            let order = Order { action: "match.standby", target: &target, detail: &detail };
            let node = Arc::clone(&self.node);
            let work = async move { node.set_standby(id, standbys).await };
            Ok(views::of_match(self.act_on(who, order, work).await?))
        }
        .boxed()
    }

    fn wish_node(&self, who: Who, name: String, wanted: WishNode) -> Answer<'_, NodeWished> {
        async move {
            let WishNode { wanted } = wanted;
            let detail = format!("wanted={}", wanted.word());
            let order = Order { action: wish_action(wanted), target: &name, detail: &detail };
            let (store, asked, by) = (self.node.parts().store.clone(), name.clone(), who.0.clone());
            let work = async move { wishes::set(&store, &asked, views::wanted(wanted), &by).await };
            let wished = self.act_on(who, order, work).await?;
            Ok(views::wished(name, wanted, &wished))
        }
        .boxed()
    }

    fn drain(&self, who: Who) -> Answer<'_, Draining> {
        async move {
            let order = Order { action: "node.drain", target: self.node.name(), detail: "" };
            let node = Arc::clone(&self.node);
            let work = async move { Ok(node.begin_drain()) };
            let matches = self.act_on(who, order, work).await?;
            Ok(Draining { matches })
        }
        .boxed()
    }

    fn issue_ticket(&self, who: Who, wanted: IssueTicket) -> Answer<'_, Ticket> {
        async move {
            if let Some(text) = &wanted.match_id {
                // Without the directory nobody can say that there is no such match.
                let found = self.node.match_report(match_id(text)?).await;
                if let Err(error @ ControlError::NoMatch(_)) = found {
                    return Err(refused(error));
                }
            }
            let (target, detail) = ticket_words(&wanted);
            let order = Order { action: "ticket.issue", target: &target, detail: &detail };
            let node = Arc::clone(&self.node);
            let work = async move { node.issue_ticket(&ticket_wanted(&wanted)) };
            let ticket = self.act_on(who, order, work).await?;
            let certificates = tickets::fingerprints(self.node.parts().gateway.keys());
            Ok(Ticket { ticket, certificates })
        }
        .boxed()
    }

    fn document_kinds(&self) -> Vec<Json> {
        let kinds = self.node.collections().into_iter();
        kinds.filter_map(|kind| serde_json::to_value(kind).ok()).collect()
    }

    fn ask_documents(&self, kind: String, question: Json) -> Answer<'_, AskedDocuments> {
        async move {
            let wanted = Wanted::from_json(question).map_err(|why| refused(why.into()))?;
            let explain = wanted.explain;
            let read = self.node.question_documents(&kind, wanted).await;
            Ok(views::asked(read.map_err(refused)?, explain))
        }
        .boxed()
    }

    fn call_documents(&self, who: Who, kind: String, wanted: CallDocuments) -> Answer<'_, Json> {
        async move {
            let CallDocuments { player, calls } = wanted;
            let detail = serde_json::to_string(&calls).unwrap_or_default();
            let speaks = player.map_or_else(String::new, |player| format!("player={player} "));
            let (target, detail) = (format!("documents {kind}"), format!("{speaks}calls={detail}"));
            let order = Order { action: "documents.call", target: &target, detail: &detail };
            let node = Arc::clone(&self.node);
            let work = async move {
                let calls = serde_json::from_value(Json::Array(calls)).map_err(|error| {
                    documents::Refusal::Malformed { problem: words::of(&error) }
                })?;
                node.call_documents(&kind, player, calls).await
            };
            let done = self.act_on(who, order, work).await?;
            Ok(serde_json::to_value(done).unwrap_or_default())
        }
        .boxed()
    }

    fn run_job(&self, who: Who, wanted: RunJob) -> Answer<'_, JobView> {
        async move {
            let RunJob { kind, payload } = wanted;
            let detail = format!("kind={kind} payload={payload}");
            let order = Order { action: "jobs.run", target: "", detail: &detail };
            let node = Arc::clone(&self.node);
            let work = async move { node.run_job(kind, payload.into()).await };
            Ok(views::job(&self.act(who, order, work, |job| Some(job.id.to_string())).await?))
        }
        .boxed()
    }

    fn retry_job(&self, who: Who, id: String) -> Answer<'_, JobView> {
        async move {
            let id = job_id(&id)?;
            let target = id.to_string();
            let order = Order { action: "jobs.retry", target: &target, detail: "" };
            let node = Arc::clone(&self.node);
            let work = async move { node.retry_job(id).await };
            Ok(views::job(&self.act_on(who, order, work).await?))
        }
        .boxed()
    }

    fn cancel_job(&self, who: Who, id: String) -> Answer<'_, JobView> {
        async move {
            let id = job_id(&id)?;
            let target = id.to_string();
            let order = Order { action: "jobs.cancel", target: &target, detail: "" };
            let node = Arc::clone(&self.node);
            let work = async move { node.cancel_job(id).await };
            Ok(views::job(&self.act_on(who, order, work).await?))
        }
        .boxed()
    }
}

/// Creates a match, and gathers what its players need: where it is, and their tickets.
async fn create(node: &Serving, wanted: CreateMatch) -> Result<CreatedMatch, ControlError> {
    let (on, seats, ttl_s) =
        (wanted.on.clone(), wanted.seats.clone(), wanted.ttl_s.unwrap_or(TICKET_TTL_S));
    // What cannot get a ticket is to be known before there is a match.
    let of = |match_id| {
        let wanted = seats.iter().map(move |seat| views::seat(seat, match_id, ttl_s));
        wanted.map(|wanted| node.issue_ticket(&wanted)).collect::<Result<Vec<_>, _>>()
    };
    of(MatchId(0))?;
    let created = node.create_match(new_match(wanted), on.as_deref()).await?;
    let tickets = of(created.match_id)?;
    let addresses = node.addresses_of(created.match_id).await?;
    Ok(views::created(created, addresses, &node.report().certificate, &seats, tickets))
}

fn job_id(text: &str) -> Result<JobId, Refusal> {
    text.parse().map_err(|_| refused(ControlError::NoJob(text.to_owned())))
}

fn match_id(text: &str) -> Result<MatchId, Refusal> {
    text.parse().map_err(|_| refused(ControlError::NoMatch(text.to_owned())))
}

/// A no of the node, as the HTTP interface says it.
fn refused(error: ControlError) -> Refusal {
    let class = match &error {
        ControlError::NoMatch(_) | ControlError::NoJob(_) | ControlError::NoNode(_) => {
            RefusalClass::NotFound
        }
        ControlError::Invalid(_) | ControlError::NoGame { .. } => RefusalClass::Invalid,
        ControlError::Forbidden(_) => RefusalClass::Forbidden,
        ControlError::Refused(_) => RefusalClass::Conflict,
        ControlError::Draining
        | ControlError::NotReady
        | ControlError::Unavailable(_)
        | ControlError::NotWritten(_) => RefusalClass::Unavailable,
        ControlError::Documents(error) => documents_class(error),
        ControlError::Document { why, .. } => document_class(why),
        ControlError::Failed(_) => RefusalClass::Failed,
    };
    Refusal { class, code: error.code(), message: error.to_string() }
}

/// Which kind of no it is if no collection answers.
fn documents_class(error: &DocumentsError) -> RefusalClass {
    match error {
        DocumentsError::NoKind { .. } | DocumentsError::NeverStored(_) => RefusalClass::NotFound,
        DocumentsError::Unreachable(_) | DocumentsError::Unknown(_) => RefusalClass::Unavailable,
        DocumentsError::Unreadable { .. } | DocumentsError::Deadly { .. } => RefusalClass::Failed,
    }
}

/// Which kind of no a collection's is.
fn document_class(why: &documents::Refusal) -> RefusalClass {
    use documents::Refusal as Why;
    match why {
        Why::NoDocument { .. } | Why::NoAction { .. } => RefusalClass::NotFound,
        Why::Forbidden { .. } | Why::Unreadable { .. } => RefusalClass::Forbidden,
        Why::Panicked { .. } => RefusalClass::Failed,
        Why::Arguments { .. }
        | Why::TooLarge { .. }
        | Why::Question { .. }
        | Why::Malformed { .. } => RefusalClass::Invalid,
        Why::Exists { .. }
        | Why::Stale { .. }
        | Why::Invalid { .. }
        | Why::Full { .. }
        | Why::Denied { .. } => RefusalClass::Conflict,
    }
}
