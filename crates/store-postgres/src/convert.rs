//! Between Rekindle's numbers and those of SQL. Identifiers are the same 64 bits, read as signed.

use rekindle_schema::BatchNo;
use rekindle_schema::codec::CodecError;
use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use rekindle_store::StoreError;

/// An identifier, bit for bit.
pub(super) fn id(id: u64) -> i64 {
    id.cast_signed()
}

/// A count as a bound in a comparison: larger ones than SQL knows are larger than all that is
/// there.
pub(super) fn bound(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A count that is stored.
pub(super) fn count(what: &str, count: u64) -> Result<i64, StoreError> {
    let problem = "Postgres keeps numbers up to 9223372036854775807".to_owned();
    i64::try_from(count)
        .map_err(|_| StoreError::Refused { place: format!("{what} {count}"), problem })
}

/// A column of a row.
pub(super) fn column<'a, T: FromSql<'a>>(
    row: &'a Row,
    index: usize,
    table: &str,
) -> Result<T, StoreError> {
    row.try_get(index).map_err(|error| corrupt(format!("table {table}"), error))
}

pub(super) fn batch_no(row: &Row, index: usize, table: &str) -> Result<BatchNo, StoreError> {
    column::<i64>(row, index, table).map(|number| BatchNo(number.cast_unsigned()))
}

pub(super) fn corrupt(place: String, problem: impl ToString) -> StoreError {
    StoreError::Corrupt { place: format!("Postgres, {place}"), problem: problem.to_string() }
}

pub(super) fn decoded<T>(table: &str, decoded: Result<T, CodecError>) -> Result<T, StoreError> {
    decoded.map_err(|error| corrupt(format!("table {table}"), error))
}
