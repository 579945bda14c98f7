//! How ids, times and enums are stored.

use bytes::Bytes;
use jiff::Timestamp;
use sqlx::{ColumnIndex, Decode, Row, Sqlite, Type, sqlite::SqliteRow};
use uuid::Uuid;

use super::error::failed;
use crate::{
    id::{NodeId, Position, RunId},
    journal::{Error, Result},
};

/// A time as it is stored: microseconds since the epoch.
pub(super) type Micros = i64;

pub(super) fn micros(at: Timestamp) -> Micros {
    at.as_microsecond()
}

/// A stored time. One beyond the calendar, which only a damaged file holds, is the end of time.
pub(super) fn timestamp(at: Micros) -> Timestamp {
    Timestamp::from_microsecond(at).unwrap_or(Timestamp::MAX)
}

pub(super) fn column<'r, T>(row: &'r SqliteRow, name: &'static str) -> Result<T>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
    &'static str: ColumnIndex<SqliteRow>,
{
    row.try_get(name).map_err(failed)
}

pub(super) fn run_id(row: &SqliteRow, name: &'static str) -> Result<RunId> {
    column::<Uuid>(row, name).map(RunId::from_uuid)
}

pub(super) fn optional_run_id(row: &SqliteRow, name: &'static str) -> Result<Option<RunId>> {
    Ok(column::<Option<Uuid>>(row, name)?.map(RunId::from_uuid))
}

pub(super) fn node_id(row: &SqliteRow, name: &'static str) -> Result<Option<NodeId>> {
    Ok(column::<Option<Uuid>>(row, name)?.map(NodeId::from_uuid))
}

pub(super) fn bytes(row: &SqliteRow, name: &'static str) -> Result<Bytes> {
    column::<Vec<u8>>(row, name).map(Bytes::from)
}

/// A stored number that has fewer bits in memory.
pub(super) fn number(row: &SqliteRow, name: &'static str) -> Result<u32> {
    column::<u32>(row, name)
}

pub(super) fn corrupt(run: RunId, position: Position, detail: String) -> Error {
    Error::Corrupt {
        run,
        position,
        detail,
    }
}
