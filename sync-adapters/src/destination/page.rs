//! Before a page is written: what occurs twice is folded, what no database can hold is set aside.

use sync_core::{FieldType, QuarantineReason, Quarantined, Record, Value};

use super::table::Table;

/// The first year that every destination can store.
const FIRST_YEAR: i16 = -4712;

/// The records of a page that are to be written, each id once, in the order of their ids: neighbours in an
/// index are then written one after the other.
#[derive(Debug)]
pub(super) struct Folded<'r> {
    pub(super) records: Vec<&'r Record>,
    /// Records that another one of the same page supersedes.
    pub(super) folded: u64,
    /// Records that no destination can hold.
    pub(super) refused: Vec<Quarantined>,
}

/// Keeps the newest record of each id; of equally new ones the last.
pub(super) fn fold<'r>(table: &Table, page: &'r [Record]) -> Folded<'r> {
    let mut result = Folded {
        records: Vec::with_capacity(page.len()),
        folded: 0,
        refused: Vec::new(),
    };
    for record in page {
        match unstorable(table, record) {
            None => result.records.push(record),
            Some(reason) => result.refused.push(Quarantined {
                external_id: Some(record.external_id.clone()),
                reason,
                raw: record.raw.clone(),
            }),
        }
    }
    // Stable: what comes later in the page stays behind what comes earlier.
    result
        .records
        .sort_by(|one, other| one.external_id.as_str().cmp(other.external_id.as_str()));
    let storable = result.records.len();
    result.records.dedup_by(|later, kept| {
        let is_same = later.external_id == kept.external_id;
        if is_same && !is_older(later, kept) {
            *kept = *later;
        }
        is_same
    });
    result.folded = (storable - result.records.len()) as u64;
    result
}

fn is_older(record: &Record, than: &Record) -> bool {
    let both = record.source_updated_at.zip(than.source_updated_at);
    both.is_some_and(|(record, than)| record < than)
}

/// Why a record cannot be stored, if it cannot: its time lies before the calendars of databases.
fn unstorable(table: &Table, record: &Record) -> Option<QuarantineReason> {
    let (column, _) =
        table
            .columns()
            .iter()
            .zip(&record.values)
            .find(|(_, value)| match value {
                Value::Date(date) => date.year() < FIRST_YEAR,
                Value::Timestamp(instant) => {
                    instant.to_zoned(jiff::tz::TimeZone::UTC).year() < FIRST_YEAR
                }
                _ => false,
            })?;
    let (expected, found) = match column.field_type {
        FieldType::Date => ("a date", "a date before 4712 BC"),
        _ => ("a timestamp", "a timestamp before 4712 BC"),
    };
    Some(QuarantineReason::BadValue {
        column: column.name.clone(),
        expected: expected.to_owned(),
        found: found.to_owned(),
    })
}
