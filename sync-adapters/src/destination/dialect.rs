//! The bookkeeping tables exist in both databases with the same columns. Their SQL is written once;
//! what differs between the databases stands in braces.

use std::sync::Arc;

/// Which SQL is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Postgres,
    Sqlite,
}

/// The rows of the ledger of one generation, for a statement whose first four parameters are organisation,
/// adapter, entity and generation.
const POSTGRES_SEEN: &str = "select unnest(external_ids) as external_id from sync.seen \
where org_id = $1 and adapter = $2 and entity = $3 and generation = $4";
const SQLITE_SEEN: &str = "select j.value as external_id from sync_seen s, json_each(s.external_ids) j \
where s.org_id = $1 and s.adapter = $2 and s.entity = $3 and s.generation = $4";

impl Dialect {
    /// Fills the braces of a statement:
    ///
    /// `{table}` the given table · `{sync}` before a bookkeeping table · `{now}` the database's clock ·
    /// `{utc}…{/utc}` a time, read as text · `{seen}` the ids in the ledger of the generation `$4` ·
    /// `{ids}` the ids in the JSON array `$5` · `{array}` the same as one value of the ledger ·
    /// `{each}` the objects in the JSON array `$5`, each as `e.value`
    pub(super) fn sql(self, template: &str, table: &str) -> Arc<str> {
        let table = quoted(table);
        let braces: [(&str, &str); 9] = match self {
            Self::Postgres => [
                ("{table}", &table),
                ("{sync}", "sync."),
                ("{now}", "clock_timestamp()"),
                ("{utc}", "to_char(("),
                (
                    "{/utc}",
                    ") at time zone 'utc', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
                ),
                ("{seen}", POSTGRES_SEEN),
                ("{ids}", "select json_array_elements_text($5::json)"),
                (
                    "{array}",
                    "array(select json_array_elements_text($5::json))",
                ),
                ("{each}", "json_array_elements($5::json) as e(value)"),
            ],
            Self::Sqlite => [
                ("{table}", &table),
                ("{sync}", "sync_"),
                ("{now}", SQLITE_NOW),
                ("{utc}", "("),
                ("{/utc}", ")"),
                ("{seen}", SQLITE_SEEN),
                ("{ids}", "select value from json_each($5)"),
                ("{array}", "$5"),
                ("{each}", "json_each($5) as e"),
            ],
        };
        let fill = |sql: String, (brace, text): &(&str, &str)| sql.replace(brace, text);
        braces.iter().fold(template.to_owned(), fill).into()
    }
}

/// An identifier between double quotes. Names of this system hold none themselves.
pub(super) fn quoted(name: &str) -> String {
    debug_assert!(!name.contains('"'), "names are validated");
    format!("\"{name}\"")
}

/// SQLite's clock in the form in which times are stored: of one width, so that their order is that of time.
pub(super) const SQLITE_NOW: &str = "strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')";
