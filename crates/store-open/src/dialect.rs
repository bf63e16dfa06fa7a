//! Whether a server's URL says something that its backend understands. The backend reads it; a
//! build without that backend takes any URL and refuses to open it later.
//!
//! Called by [`address`](crate::address) while it parses.

#[cfg(any(feature = "postgres", feature = "cql"))]
use rekindle_store::StoreError;

/// What is wrong with the URL of a Postgres store, in words that repeat no password.
#[cfg(feature = "postgres")]
pub(crate) fn check_postgres(url: &str) -> Result<(), String> {
    rekindle_store_postgres::PostgresOptions::parse(url).map(drop).map_err(problem)
}

/// What is wrong with the URL of a CQL store, in words that repeat no password.
#[cfg(feature = "cql")]
pub(crate) fn check_cql(url: &str) -> Result<(), String> {
    rekindle_store_cql::CqlOptions::parse(url).map(drop).map_err(problem)
}

/// Without the backend nobody knows what may stand in its URL.
#[cfg(not(feature = "postgres"))]
pub(crate) fn check_postgres(_url: &str) -> Result<(), String> {
    Ok(())
}

/// Without the backend nobody knows what may stand in its URL.
#[cfg(not(feature = "cql"))]
pub(crate) fn check_cql(_url: &str) -> Result<(), String> {
    Ok(())
}

/// What a backend says of a URL, which repeats no password, as the rest of an address error.
#[cfg(any(feature = "postgres", feature = "cql"))]
fn problem(error: StoreError) -> String {
    match error {
        StoreError::Refused { problem, .. } => format!("an address of this store: {problem}"),
        other => other.to_string(),
    }
}
