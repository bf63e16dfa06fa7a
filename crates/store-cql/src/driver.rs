//! One session with the cluster: profiles, kinds of requests, what their errors mean, and what is
//! counted of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rekindle_store::StoreError;
use scylla::client::execution_profile::ExecutionProfile;
use scylla::client::session::Session;
use scylla::client::session_builder::SessionBuilder;
use scylla::errors::{
    ConnectionError, ConnectionPoolError, ConnectionSetupRequestErrorKind, DbError, ExecutionError,
    MetadataError, NewSessionError, PrepareError, RequestAttemptError,
};
use scylla::frame::Compression;
use scylla::policies::load_balancing::DefaultPolicy;
use scylla::policies::retry::DefaultRetryPolicy;
use scylla::policies::speculative_execution::SimpleSpeculativeExecutionPolicy;
use scylla::response::query_result::{QueryResult, QueryRowsResult};
use scylla::response::{PagingState, PagingStateResponse};
use scylla::serialize::row::SerializeRow;
use scylla::statement::prepared::PreparedStatement;
use scylla::statement::{Consistency, SerialConsistency, Statement};
use scylla::value::{CqlValue, Row};

use super::meters::Meters;
use super::options::CqlOptions;

/// A read that was not answered for so long is asked of another replica as well.
const SPECULATE_AFTER: Duration = Duration::from_millis(100);

/// How often a connection without traffic is tried.
const KEEPALIVE: Duration = Duration::from_secs(2);

/// What a statement is, which decides how it may be executed and how it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A plain write at `LOCAL_QUORUM`. The same bytes again change nothing, so the driver may
    /// repeat it.
    Write,
    /// A read at `LOCAL_QUORUM`.
    Read,
    /// A read at `LOCAL_SERIAL`: finishes a transaction that was left half-way, then reads.
    SerialRead,
    /// A lightweight transaction at `LOCAL_SERIAL`, committed at `LOCAL_QUORUM`. Never repeated by
    /// the driver: the second execution would find the first one's row and say that it lost.
    Transaction,
}

/// What is bound to a statement. Behind a reference: one machinery of the driver is compiled for
/// all requests and not one for each tuple of types.
pub(super) type Values<'a> = &'a (dyn SerializeRow + Sync);

/// A session, connected to the local datacentre.
pub(super) struct Driver {
    session: Session,
    plain: ExecutionProfile,
    reads: ExecutionProfile,
    place: String,
    /// The datacentre in which quorums are counted.
    datacentre: String,
    timeout: Duration,
    meters: Meters,
}

impl Driver {
    /// Connects. `Unavailable` if no contact point answers; `Refused` for a wrong password or
    /// datacentre.
    pub(super) async fn connect(options: &CqlOptions) -> Result<Self, StoreError> {
        let place = options.place();
        let mut builder = SessionBuilder::new()
            .known_nodes(&options.hosts)
            .compression(Some(Compression::Lz4))
            .connection_timeout(options.timeout)
            // A connection that has gone silent is given up soon, and not after the half minute
            // that the driver would wait.
            .keepalive_interval(KEEPALIVE)
            .keepalive_timeout(options.timeout)
            .keyspaces_to_fetch([options.keyspace.as_str()])
            .schema_agreement_timeout(Duration::from_mins(1));
        if let Some((user, password)) = options.login() {
            builder = builder.user(user, password);
        }
        let session = builder.build().await.map_err(|error| not_connected(&place, &error))?;
        let datacentre = datacentre(&session, options)?;
        let local = DefaultPolicy::builder()
            .prefer_datacenter(datacentre.clone())
            .permit_dc_failover(false)
            .token_aware(true)
            .build();
        let plain = ExecutionProfile::builder()
            .consistency(Consistency::LocalQuorum)
            .serial_consistency(Some(SerialConsistency::LocalSerial))
            .request_timeout(Some(options.timeout))
            .retry_policy(Arc::new(DefaultRetryPolicy::new()))
            .load_balancing_policy(local)
            .build();
        let again = SimpleSpeculativeExecutionPolicy {
            max_retry_count: 1,
            retry_interval: SPECULATE_AFTER,
        };
        let reads = plain.to_builder().speculative_execution_policy(Some(Arc::new(again))).build();
        let mut default = session.get_default_execution_profile_handle().clone();
        default.map_to_another_profile(plain.clone());
        Ok(Self {
            session,
            plain,
            reads,
            place,
            datacentre,
            timeout: options.timeout,
            meters: Meters::new(),
        })
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// How long one request may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// The driver itself, for statements that are not prepared.
    pub(super) fn session(&self) -> &Session {
        &self.session
    }

    /// What is counted.
    pub(super) fn meters(&self) -> &Meters {
        &self.meters
    }

    /// Prepares a statement of some kind.
    pub(super) async fn prepare(&self, kind: Kind, cql: String) -> Result<Prepared, StoreError> {
        let prepared = self.session.prepare(Statement::new(cql)).await;
        let mut statement = prepared.map_err(|error| {
            self.failed("prepare a statement", &ExecutionError::PrepareError(error))
        })?;
        let profile = if kind == Kind::Read { &self.reads } else { &self.plain };
        statement.set_execution_profile_handle(Some(profile.clone().into_handle()));
        statement.set_consistency(if kind == Kind::SerialRead {
            Consistency::LocalSerial
        } else {
            Consistency::LocalQuorum
        });
        statement.set_serial_consistency(Some(SerialConsistency::LocalSerial));
        statement.set_is_idempotent(kind != Kind::Transaction);
        statement.set_use_cached_result_metadata(false);
        Ok(Prepared { statement, kind })
    }

    /// Executes a statement that returns nothing.
    pub(super) async fn write(
        &self,
        what: &'static str,
        prepared: &Prepared,
        values: Values<'_>,
    ) -> Result<(), StoreError> {
        self.measure(what, prepared, values).await.map(|_| ())
    }

    /// Executes a statement that returns few rows.
    pub(super) async fn rows(
        &self,
        what: &'static str,
        prepared: &Prepared,
        values: Values<'_>,
    ) -> Result<QueryRowsResult, StoreError> {
        let result = self.measure(what, prepared, values).await?;
        self.rows_of(what, result)
    }

    /// One page of at most `rows` rows.
    pub(super) async fn page(
        &self,
        what: &'static str,
        prepared: &Prepared,
        values: Values<'_>,
        rows: i32,
        state: PagingState,
    ) -> Result<(QueryRowsResult, PagingStateResponse), StoreError> {
        let mut statement = prepared.statement.clone();
        statement.set_page_size(rows);
        let begun = Instant::now();
        let outcome = self.session.execute_single_page(&statement, values, state).await;
        self.meters.request(prepared.kind, begun.elapsed(), outcome.is_ok());
        let (result, state) = outcome.map_err(|error| self.failed(what, &error))?;
        Ok((self.rows_of(what, result)?, state))
    }

    /// All rows of a query, page by page.
    pub(super) async fn all<T>(
        &self,
        what: &'static str,
        prepared: &Prepared,
        values: Values<'_>,
        mut each: impl FnMut(&QueryRowsResult) -> Result<Vec<T>, StoreError>,
    ) -> Result<Vec<T>, StoreError> {
        let (mut found, mut state) = (Vec::new(), PagingState::start());
        loop {
            let (rows, next) = self.page(what, prepared, values, 1_000, state).await?;
            found.append(&mut each(&rows)?);
            match next.into_paging_control_flow() {
                std::ops::ControlFlow::Continue(next) => state = next,
                std::ops::ControlFlow::Break(()) => return Ok(found),
            }
        }
    }

    /// Executes a transaction once. An error that [is not certain](Self::transaction) leaves open
    /// whether it took effect.
    pub(super) async fn transaction(
        &self,
        what: &'static str,
        prepared: &Prepared,
        values: Values<'_>,
    ) -> Result<Answer, StoreError> {
        let rows = self.rows(what, prepared, values).await?;
        let names: Vec<String> =
            rows.column_specs().iter().map(|spec| spec.name().to_owned()).collect();
        let row = rows.first_row::<Row>().map_err(|error| self.unreadable(what, &error))?;
        Answer::of(names, row.columns)
            .ok_or_else(|| self.unreadable(what, &"no column says whether it was applied"))
    }

    async fn measure(
        &self,
        what: &'static str,
        prepared: &Prepared,
        values: Values<'_>,
    ) -> Result<QueryResult, StoreError> {
        let begun = Instant::now();
        let outcome = self.session.execute_unpaged(&prepared.statement, values).await;
        self.meters.request(prepared.kind, begun.elapsed(), outcome.is_ok());
        outcome.map_err(|error| self.failed(what, &error))
    }

    fn rows_of(&self, what: &str, result: QueryResult) -> Result<QueryRowsResult, StoreError> {
        result.into_rows_result().map_err(|error| self.unreadable(what, &error))
    }

    /// What a failed request means.
    pub(super) fn failed(&self, what: &str, error: &ExecutionError) -> StoreError {
        match refusal(error) {
            Some(problem) => StoreError::Refused {
                place: self.place.clone(),
                problem: format!("{what}: {problem}"),
            },
            None => StoreError::Unavailable(format!("{}: {what}: {error}", self.place)),
        }
    }

    /// As [`Driver::failed`], for the requests of an open or a migration: a keyspace that wants
    /// more copies than its datacentre has nodes will not do better by waiting.
    pub(super) fn failed_at_open(&self, what: &str, error: &ExecutionError) -> StoreError {
        let required = match error {
            ExecutionError::LastAttemptError(RequestAttemptError::DbError(
                DbError::Unavailable { required, .. },
                _,
            )) => *required,
            _ => 0,
        };
        self.enough_nodes(required.max(0) as usize)
            .err()
            .unwrap_or_else(|| self.failed(what, error))
    }

    /// Refused if the local datacentre has fewer nodes, up or down, than must answer.
    pub(super) fn enough_nodes(&self, required: usize) -> Result<(), StoreError> {
        let (here, state) = (&self.datacentre, self.session.get_cluster_state());
        let nodes = state
            .get_nodes_info()
            .iter()
            .filter(|node| node.datacenter.as_ref() == Some(here))
            .count();
        if nodes >= required {
            return Ok(());
        }
        let counted = if nodes == 1 { "1 node".to_owned() } else { format!("{nodes} nodes") };
        let problem = format!(
            "RK-STORE-130: with this replication {required} nodes must answer, and datacentre \
             {here} has {counted}: for trials make the keyspace with \
             `?replication=1` (under another name, if it is there already), for play add nodes"
        );
        Err(StoreError::Refused { place: self.place.clone(), problem })
    }

    /// The server answered with something else than the tables can give.
    pub(super) fn unreadable(&self, what: &str, error: &dyn std::fmt::Display) -> StoreError {
        StoreError::Corrupt { place: self.place.clone(), problem: format!("{what}: {error}") }
    }
}

/// A prepared statement of some kind.
pub(super) struct Prepared {
    statement: PreparedStatement,
    kind: Kind,
}

/// What a transaction answered: whether it was applied and, by name, what stands in the columns of
/// its condition.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) applied: bool,
    /// An earlier attempt has no known outcome: it may have been applied.
    pub(super) doubt: bool,
    columns: Vec<(String, Option<CqlValue>)>,
}

impl Answer {
    /// Servers differ in how many columns they answer with. Whether it was applied stands under its
    /// name, or else in front.
    fn of(names: Vec<String>, values: Vec<Option<CqlValue>>) -> Option<Self> {
        let columns: Vec<_> = names.into_iter().zip(values).collect();
        let named = columns.iter().find(|(name, _)| name == "[applied]").or(columns.first());
        let applied = match named {
            Some((_, Some(CqlValue::Boolean(applied)))) => *applied,
            _ => return None,
        };
        Some(Self { applied, doubt: false, columns })
    }

    fn get(&self, name: &str) -> Option<&CqlValue> {
        self.columns.iter().find(|(column, _)| column == name)?.1.as_ref()
    }

    /// A number that stands in the row.
    pub(super) fn number(&self, name: &str) -> Option<i64> {
        match self.get(name)? {
            CqlValue::Int(number) => Some(i64::from(*number)),
            CqlValue::BigInt(number) => Some(*number),
            _ => None,
        }
    }

    /// Bytes that stand in the row.
    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        match self.get(name)? {
            CqlValue::Blob(bytes) => Some(bytes),
            _ => None,
        }
    }
}

/// Errors that no repetition can help: the request was understood and turned down.
fn refusal(error: &ExecutionError) -> Option<String> {
    let attempt = match error {
        ExecutionError::LastAttemptError(attempt) => attempt,
        ExecutionError::PrepareError(PrepareError::AllAttemptsFailed { first_attempt }) => {
            first_attempt
        }
        ExecutionError::BadQuery(problem) => return Some(problem.to_string()),
        _ => return None,
    };
    let RequestAttemptError::DbError(kind, message) = attempt else { return None };
    matches!(
        kind,
        DbError::SyntaxError
            | DbError::Invalid
            | DbError::ConfigError
            | DbError::Unauthorized
            | DbError::AuthenticationError
            | DbError::AlreadyExists { .. }
            | DbError::ProtocolError
    )
    .then(|| format!("{kind}: {message}"))
}

/// Whether the server does not let this user in. The driver wraps that several layers deep.
fn is_login_failure(error: &NewSessionError) -> bool {
    let NewSessionError::MetadataError(MetadataError::ConnectionPoolError(
        ConnectionPoolError::Broken {
            last_connection_error: ConnectionError::ConnectionSetupRequestError(failed),
        },
    )) = error
    else {
        return false;
    };
    turns_user_away(failed.get_error())
}

/// Whether the set-up of a connection failed for who asks.
fn turns_user_away(error: &ConnectionSetupRequestErrorKind) -> bool {
    use ConnectionSetupRequestErrorKind as Setup;
    matches!(
        error,
        Setup::MissingAuthentication
            | Setup::StartAuthSessionError(_)
            | Setup::AuthChallengeEvaluationError(_)
            | Setup::AuthFinishError(_)
            | Setup::DbError(DbError::AuthenticationError | DbError::Unauthorized, _)
    )
}

fn not_connected(place: &str, error: &NewSessionError) -> StoreError {
    let text = error.to_string();
    if is_login_failure(error) {
        return StoreError::Refused {
            place: place.to_owned(),
            problem: format!("the server does not let this user in: {text}"),
        };
    }
    StoreError::Unavailable(format!("{place}: connect: {text}"))
}

/// The datacentre in which quorums are counted. Requests that went to another one would be counted
/// there.
fn datacentre(session: &Session, options: &CqlOptions) -> Result<String, StoreError> {
    let state = session.get_cluster_state();
    let known: BTreeSet<&str> =
        state.get_nodes_info().iter().filter_map(|node| node.datacenter.as_deref()).collect();
    let list = || known.iter().copied().collect::<Vec<_>>().join(", ");
    let refuse = |problem: String| Err(StoreError::Refused { place: options.place(), problem });
    match &options.datacentre {
        Some(wanted) if known.contains(wanted.as_str()) => Ok(wanted.clone()),
        Some(wanted) => {
            refuse(format!("the cluster has no datacentre {wanted}; it has {}", list()))
        }
        None if known.len() == 1 => Ok(known.first().copied().unwrap_or_default().to_owned()),
        None => refuse(format!(
            "the cluster has the datacentres {}; name the one this node is in with ?dc=",
            list()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_that_is_turned_down_is_told_from_a_server_that_is_not_there() {
        use ConnectionSetupRequestErrorKind as Setup;
        let said = |error| Setup::DbError(error, "Provided username is incorrect".to_owned());
        assert!(turns_user_away(&Setup::MissingAuthentication));
        assert!(turns_user_away(&said(DbError::AuthenticationError)));
        assert!(turns_user_away(&said(DbError::Unauthorized)));
        assert!(!turns_user_away(&said(DbError::Overloaded)));
        assert!(!turns_user_away(&Setup::UnableToAllocStreamId));
        assert!(!is_login_failure(&NewSessionError::EmptyKnownNodesList));
    }

    #[test]
    fn an_answer_is_read_by_name_or_position() {
        let yes = || Some(CqlValue::Boolean(true));
        let names =
            |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert!(Answer::of(names(&["[applied]"]), vec![yes()]).unwrap().applied);
        let late = Answer::of(
            names(&["state", "[applied]"]),
            vec![Some(CqlValue::Int(2)), Some(CqlValue::Boolean(false))],
        )
        .unwrap();
        assert_eq!(
            (late.applied, late.number("state"), late.number("seal")),
            (false, Some(2), None)
        );
        assert!(Answer::of(names(&["applied"]), vec![yes()]).unwrap().applied);
        assert_eq!(Answer::of(names(&["state"]), vec![Some(CqlValue::Int(2))]), None);
        assert_eq!(Answer::of(vec![], vec![]), None);
    }

    #[test]
    fn only_what_was_turned_down_is_final() {
        let answer = |kind| {
            ExecutionError::LastAttemptError(RequestAttemptError::DbError(kind, "why".to_owned()))
        };
        assert!(refusal(&answer(DbError::Unauthorized)).is_some_and(|text| text.contains("why")));
        assert!(refusal(&answer(DbError::Overloaded)).is_none());
        assert!(refusal(&ExecutionError::RequestTimeout(Duration::from_secs(1))).is_none());
    }
}
