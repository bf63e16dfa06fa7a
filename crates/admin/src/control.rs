//! What a node must be able to do for its operators. Called by [`crate::server`] for each request;
//! implemented by the `rekindle` crate, which writes each action into the audit log.
//!
//! Ids of matches and jobs arrive as the request spells them: whoever implements this parses them
//! and refuses what is none.

use std::borrow::Cow;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use serde_json::Value as Json;

use crate::api::{
    AskedDocuments, AuditView, CallDocuments, CreateMatch, CreatedMatch, Draining, IssueTicket,
    JobView, ListAudit, ListJobs, ListMatches, MatchView, MigrateMatch, Migrated, NodeView,
    ResumeMatch, RunJob, SetStandby, StopMatch, Ticket, WhereView,
};
use crate::cluster::{ClusterView, NodeWished, RebalanceView, WishNode};
use crate::events::{EventNews, FollowEvents};
use crate::profile::ProfileView;
use crate::stats::MatchStats;
use crate::values::MatchValues;
use crate::who::Who;

/// Which kind of no it is; [`crate::server`] has an HTTP status for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalClass {
    /// There is no such thing (404).
    NotFound,
    /// The request makes no sense (400).
    Invalid,
    /// The request is understood and not allowed (403).
    Forbidden,
    /// It cannot be done to the thing as it stands (409).
    Conflict,
    /// Not now: the node starts or stops, or its store does not answer (503).
    Unavailable,
    /// It was tried and failed (500).
    Failed,
}

/// Why a node does not do what an operator asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Which kind of no it is.
    pub class: RefusalClass,
    /// The stable code, for programs.
    pub code: &'static str,
    /// What happened and what to do.
    pub message: String,
}

/// What comes of a question or an order.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, Refusal>>;

/// A node that serves, as its operators see it.
///
/// Questions change nothing. Orders (those with a [`Who`]) are written into the audit log before
/// and after they are carried out, and come to their end even if whoever asked goes away.
pub trait Control: Send + Sync + 'static {
    /// The configured name of the node.
    fn name(&self) -> &str;
    /// Whether tickets are for whoever asks: the node is in dev mode.
    fn is_dev(&self) -> bool;
    /// Whether players are let in, and if not, why.
    fn ready(&self) -> Result<(), &'static str>;
    /// A text of this crate as the node tells it to people: with the name of its own executable in
    /// commands.
    fn told<'a>(&self, text: &'a str) -> Cow<'a, str> {
        Cow::Borrowed(text)
    }
    /// Which matches do not run as they should, one line each. The answer is for everybody: it has
    /// no words that players or games wrote.
    fn detail(&self) -> Vec<String>;
    /// All metrics in Prometheus's text format.
    fn metrics(&self) -> String;
    /// What the node is.
    fn node(&self) -> NodeView;

    /// All matches, or those that are wanted.
    fn matches(&self, wanted: ListMatches) -> Answer<'_, Vec<MatchView>>;
    /// One match.
    fn match_view(&self, id: String) -> Answer<'_, MatchView>;
    /// Where in the cluster a match is.
    fn match_where(&self, id: String) -> Answer<'_, WhereView>;
    /// Measures what the ticks of a match of this node take, for so many seconds.
    fn profile_match(&self, id: String, seconds: u64) -> Answer<'_, ProfileView>;
    /// The statistics of a match, wherever it runs or ran.
    fn match_stats(&self, id: String) -> Answer<'_, MatchStats>;
    /// What the game of a match declares under names, wherever it runs or ran.
    fn match_values(&self, id: String) -> Answer<'_, MatchValues>;
    /// Events of matches of all nodes as they come. The stream is as slow as its reader; it ends
    /// when the one match that is asked for is over, or this node stops.
    fn events(&self, wanted: FollowEvents) -> Answer<'_, BoxStream<'static, EventNews>>;
    /// Jobs of the store, newest first.
    fn jobs(&self, wanted: ListJobs) -> Answer<'_, Vec<JobView>>;
    /// One job.
    fn job(&self, id: String) -> Answer<'_, JobView>;
    /// What the store says of all nodes and matches.
    fn cluster(&self) -> Answer<'_, ClusterView>;
    /// What would move so that all nodes run their share.
    fn rebalance(&self) -> Answer<'_, RebalanceView>;
    /// The kinds of document of this executable, as they say of themselves.
    fn document_kinds(&self) -> Vec<Json>;
    /// Answers a question to a collection of documents.
    fn ask_documents(&self, kind: String, question: Json) -> Answer<'_, AskedDocuments>;
    /// What operators did, newest first.
    fn audit(&self, wanted: ListAudit) -> Answer<'_, Vec<AuditView>>;

    /// Creates a match on the node that it names, or on the one that suits it best.
    fn create_match(&self, who: Who, wanted: CreateMatch) -> Answer<'_, CreatedMatch>;
    /// Ends a match.
    fn stop_match(&self, who: Who, id: String, wanted: StopMatch) -> Answer<'_, MatchView>;
    /// Has a match tried again that is parked or waits.
    fn resume_match(&self, who: Who, id: String, wanted: ResumeMatch) -> Answer<'_, MatchView>;
    /// Moves a match to another node.
    fn migrate_match(&self, who: Who, id: String, wanted: MigrateMatch) -> Answer<'_, Migrated>;
    /// Sets how many nodes follow a match.
    fn set_standby(&self, who: Who, id: String, wanted: SetStandby) -> Answer<'_, MatchView>;
    /// Enters what the node of this name is to do, be it this one or another.
    fn wish_node(&self, who: Who, name: String, wanted: WishNode) -> Answer<'_, NodeWished>;
    /// Begins a clean stop.
    fn drain(&self, who: Who) -> Answer<'_, Draining>;
    /// Signs a ticket.
    fn issue_ticket(&self, who: Who, wanted: IssueTicket) -> Answer<'_, Ticket>;
    /// Calls actions of documents, all or none; the answer has what came of each.
    fn call_documents(&self, who: Who, kind: String, wanted: CallDocuments) -> Answer<'_, Json>;
    /// Enqueues a job.
    fn run_job(&self, who: Who, wanted: RunJob) -> Answer<'_, JobView>;
    /// Makes a dead, cancelled or waiting job ready now.
    fn retry_job(&self, who: Who, id: String) -> Answer<'_, JobView>;
    /// Calls a job off.
    fn cancel_job(&self, who: Who, id: String) -> Answer<'_, JobView>;
}
