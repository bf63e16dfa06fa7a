//! What an error of Postgres means to the node: whether the same request may succeed later is the
//! one thing that matters.

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use rekindle_store::StoreError;

/// The table that was asked for is gone: a partition that was dropped meanwhile.
pub(super) fn is_undefined_table(error: &Error) -> bool {
    error.code() == Some(&SqlState::UNDEFINED_TABLE)
}

/// `doing` is what was being done, in words that continue "while": `appending batch 7`.
pub(super) fn classify(error: &Error, doing: &str) -> StoreError {
    let Some(db) = error.as_db_error() else {
        // Broken connections, refused ones, TLS. The text of the source says more than the driver's
        // own.
        let cause = std::error::Error::source(error)
            .map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
        return if is_misuse(error) {
            StoreError::Refused { place: format!("Postgres, {doing}"), problem: cause }
        } else {
            StoreError::Unavailable(format!("no answer from Postgres while {doing}: {cause}"))
        };
    };
    let (code, message) = (db.code().code(), db.message());
    let unavailable = |hint: &str| {
        StoreError::Unavailable(format!("Postgres said {code}, {message}, while {doing}{hint}"))
    };
    match code {
        "53100" => {
            unavailable(": its disk is full; free space there, and the node goes on by itself")
        }
        "53300" => unavailable(": raise max_connections there, or lower `pool` here"),
        "25006" => unavailable(
            ": it takes no writes; it may be a standby that is being promoted, or the wrong host",
        ),
        "57P01" | "57P02" | "57P03" => unavailable(": it is stopping or starting"),
        "57014" => unavailable(": the statement took longer than `timeout`"),
        "58030" => unavailable(": its disk fails"),
        "28000" | "28P01" => {
            refused(code, message, doing, "user, password and pg_hba.conf must fit")
        }
        "3D000" => refused(code, message, doing, "make the database first"),
        "42501" => refused(code, message, doing, "the user needs rights on the schema"),
        "XX001" | "XX002" => StoreError::Corrupt {
            place: format!("Postgres, {doing}"),
            problem: format!("{code}: {message}; its files are damaged: see its log"),
        },
        _ => match &code[..2] {
            // Connection, resources, operator, conflicts between transactions, locks.
            "08" | "53" | "57" | "40" | "55" => unavailable(""),
            _ => refused(code, message, doing, "this is a mistake of Rekindle or of the schema"),
        },
    }
}

fn refused(code: &str, message: &str, doing: &str, hint: &str) -> StoreError {
    StoreError::Refused {
        place: format!("Postgres, {doing}"),
        problem: format!("{code}: {message} ({hint})"),
    }
}

/// Errors that no repetition mends: a wrong type, a missing password, a server that is not who it
/// should be.
fn is_misuse(error: &Error) -> bool {
    const OWN: [&str; 8] = [
        "error serializing",
        "error deserializing",
        "invalid column",
        "query returned",
        "expected ",
        "authentication error",
        "invalid connection string",
        "invalid configuration",
    ];
    let text = error.to_string();
    let cause = std::error::Error::source(error).map_or_else(String::new, ToString::to_string);
    OWN.iter().any(|own| text.starts_with(own))
        || cause.contains("certificate")
        || cause.contains("does not support TLS")
}
