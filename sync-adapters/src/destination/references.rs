//! Table `unresolved_refs`: references to records that are not there.

use sqlx::AssertSqlSafe;
use sync_core::{ColumnName, EntityName};

use super::{Connection, Error, Rows, Table, connection::on, dialect::quoted, generations::count};

/// References of one column that are written down one by one; all of them are counted.
const MOST_NOTED: i64 = 10_000;

/// The references of one column to records that are not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DanglingReferences {
    /// The column.
    pub column: ColumnName,
    /// The entity that it points at.
    pub target: EntityName,
    /// Rows whose reference leads nowhere.
    pub dangling: u64,
}

const DANGLING: &str = "\
from {table} t where t.org_id = $1 and t.deleted_at is null and t.{column} is not null
  and not exists (select 1 from {target} x where x.org_id = $1 and x.external_id = t.{column})";

const FORGET_ALL: &str = "\
delete from {sync}unresolved_refs where org_id = $1 and adapter = $2 and entity = $3 and field = $4";

const FORGET: &str = "\
delete from {sync}unresolved_refs as u
where u.org_id = $1 and u.adapter = $2 and u.entity = $3 and u.field = $4
  and not exists (select 1 {dangling} and t.external_id = u.external_id)";

const NOTE: &str = "\
insert into {sync}unresolved_refs
  (org_id, adapter, entity, field, external_id, target_entity, target_id, first_seen_at)
select $1, $2, $3, $4, t.external_id, $5, t.{column}, {now} {dangling}
order by t.external_id limit $6
on conflict (org_id, adapter, entity, field, external_id) do update
set target_id = excluded.target_id, target_entity = excluded.target_entity";

const COUNT: &str = "select count(*) {dangling}";

impl Connection<'_> {
    /// Looks at every reference of the rows to the tables given, self references too: notes those that lead
    /// nowhere, forgets those that lead somewhere by now, and counts them by column. A tombstone is a target.
    ///
    /// # Errors
    /// The database fails.
    pub async fn check_references(
        &mut self,
        rows: &Rows,
        tables: &[Table],
    ) -> Result<Vec<DanglingReferences>, Error> {
        let mut found = Vec::new();
        for column in rows.table().columns() {
            let points_at = |table: &&Table| Some(table.entity()) == column.references.as_ref();
            let Some(target) = tables.iter().find(points_at) else {
                continue;
            };
            let dangling = self.check_reference(rows, &column.name, target).await?;
            found.push(DanglingReferences {
                column: column.name.clone(),
                target: target.entity().clone(),
                dangling,
            });
        }
        Ok(found)
    }

    async fn check_reference(
        &mut self,
        rows: &Rows,
        column: &ColumnName,
        target: &Table,
    ) -> Result<u64, Error> {
        let dialect = self.dialect();
        let sql = |template: &str| {
            let filled = template
                .replace("{dangling}", DANGLING)
                .replace("{column}", &quoted(column.as_str()))
                .replace("{target}", &quoted(target.name()));
            AssertSqlSafe(dialect.sql(&filled, rows.table().name()))
        };
        let (org, adapter, entity) = rows.key();
        let field = column.as_str();
        let dangling: i64 = on!(self, connection => {
            let query = sqlx::query_scalar(sql(COUNT)).bind(org);
            query.persistent(false).fetch_one(&mut **connection).await?
        });
        // Most often every reference leads somewhere: then one question is all.
        let forget = sql(if dangling == 0 { FORGET_ALL } else { FORGET });
        on!(self, connection => {
            let query = sqlx::query(forget).bind(org).bind(adapter).bind(entity).bind(field);
            query.persistent(false).execute(&mut **connection).await?;
        });
        if dangling > 0 {
            on!(self, connection => {
                let query = sqlx::query(sql(NOTE)).bind(org).bind(adapter).bind(entity).bind(field);
                let query = query.bind(target.entity().as_str()).bind(MOST_NOTED);
                query.persistent(false).execute(&mut **connection).await?;
            });
        }
        Ok(count(dangling))
    }
}
