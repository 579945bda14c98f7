//! Tables `generations` and `seen`: the walks that look for deletions, and what they met.

use sqlx::AssertSqlSafe;
use sync_core::proof::Generation;

use super::{Connection, Error, Rows, connection::on};

/// Generations that are remembered for each entity.
const REMEMBERED: i64 = 20;

/// How often a walk asks for the next number. Each time it goes without one, another walk has begun.
const MAX_ROUNDS: u32 = 64;

/// What the store says about a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationCounts {
    /// Rows without a tombstone when the walk began.
    pub live_before: u64,
    /// Rows without a tombstone that bear its generation.
    pub stamped: u64,
    /// Documents with an id that the walk put in quarantine.
    pub quarantined: u64,
}

const BEGIN: &str = "\
insert into {sync}generations (org_id, adapter, entity, walk, generation, live_before, started_at)
select $1, $2, $3, $4, coalesce(max(generation), 0) + 1,
       (select count(*) from {table} where org_id = $1 and deleted_at is null), {now}
from {sync}generations where org_id = $1 and adapter = $2 and entity = $3
on conflict do nothing";

const OF_WALK: &str = "\
select generation from {sync}generations
where org_id = $1 and adapter = $2 and entity = $3 and walk = $4";

const COUNTS: &str = "\
with seen as (select distinct external_id from ({seen}) s)
select
  (select live_before from {sync}generations
   where org_id = $1 and adapter = $2 and entity = $3 and generation = $4),
  (select count(*) from {table} where org_id = $1 and deleted_at is null and generation = $4)
  + (select count(*) from seen join {table} t on t.org_id = $1 and t.external_id = seen.external_id
     where t.deleted_at is null and t.generation <> $4),
  (select count(*) from {sync}quarantine
   where org_id = $1 and adapter = $2 and entity = $3 and generation = $4 and external_id is not null)";

const LIVE: &str = "select count(*) from {table} where org_id = $1 and deleted_at is null";

const END: &str = "\
update {sync}generations set ended_at = coalesce(ended_at, {now})
where org_id = $1 and adapter = $2 and entity = $3 and generation = $4";

const EMPTY_LEDGER: &str = "\
delete from {sync}seen where org_id = $1 and adapter = $2 and entity = $3 and generation <= $4";

const FORGET: &str = "\
delete from {sync}generations where org_id = $1 and adapter = $2 and entity = $3 and generation <= $4";

impl Connection<'_> {
    /// Begins a walk that looks for deletions, and numbers it. `walk` names it: beginning the same one again
    /// gives the same number.
    ///
    /// # Errors
    /// The database fails.
    pub async fn begin_generation(&mut self, rows: &Rows, walk: &str) -> Result<Generation, Error> {
        let table = rows.table().name();
        let (begin, of_walk) = (
            self.dialect().sql(BEGIN, table),
            self.dialect().sql(OF_WALK, table),
        );
        let (org, adapter, entity) = rows.key();
        for _ in 0..MAX_ROUNDS {
            let found: Option<i64> = on!(self, connection => {
                let query = sqlx::query(AssertSqlSafe(begin.clone())).bind(org).bind(adapter).bind(entity);
                query.bind(walk).execute(&mut **connection).await?;
                let query = sqlx::query_scalar(AssertSqlSafe(of_walk.clone())).bind(org).bind(adapter).bind(entity);
                query.bind(walk).fetch_optional(&mut **connection).await?
            });
            // Another walk took the number at that very moment. It exists now, so that the next number is
            // another one.
            if let Some(generation) = found {
                return Ok(Generation(generation));
            }
        }
        Err(Error::unreadable(
            "the generation",
            "other walks took the next number each time",
        ))
    }

    /// Counts what the store says about a walk.
    ///
    /// # Errors
    /// There was no such walk, or the database fails.
    pub async fn generation_counts(
        &mut self,
        rows: &Rows,
        generation: Generation,
    ) -> Result<GenerationCounts, Error> {
        let sql = self.dialect().sql(COUNTS, rows.table().name());
        let (org, adapter, entity) = rows.key();
        let (live_before, stamped, quarantined): (Option<i64>, i64, i64) = on!(self, connection => {
            let query = sqlx::query_as(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
            query.bind(generation.0).persistent(false).fetch_one(&mut **connection).await?
        });
        let live_before =
            live_before.ok_or_else(|| Error::unreadable("the generation", "it was never begun"))?;
        Ok(GenerationCounts {
            live_before: count(live_before),
            stamped: count(stamped),
            quarantined: count(quarantined),
        })
    }

    /// Rows without a tombstone.
    ///
    /// # Errors
    /// The database fails.
    pub async fn live_count(&mut self, rows: &Rows) -> Result<u64, Error> {
        let sql = self.dialect().sql(LIVE, rows.table().name());
        let live: i64 = on!(self, connection => {
            let query = sqlx::query_scalar(AssertSqlSafe(sql)).bind(rows.org().as_str());
            query.fetch_one(&mut **connection).await?
        });
        Ok(count(live))
    }

    /// Ends a walk: its ledger is emptied, so that no deletion can be looked for by it any more. After a
    /// `complete` walk, what it did not meet again in quarantine leaves it.
    ///
    /// # Errors
    /// The database fails.
    pub async fn end_generation(
        &mut self,
        rows: &Rows,
        generation: Generation,
        complete: bool,
    ) -> Result<(), Error> {
        self.of_generation(END, rows, generation.0).await?;
        self.of_generation(EMPTY_LEDGER, rows, generation.0).await?;
        self.of_generation(FORGET, rows, generation.0 - REMEMBERED)
            .await?;
        if complete {
            self.of_generation(super::quarantine::SETTLE, rows, generation.0)
                .await?;
        }
        Ok(())
    }

    async fn of_generation(
        &mut self,
        template: &'static str,
        rows: &Rows,
        generation: i64,
    ) -> Result<(), Error> {
        let sql = self.dialect().sql(template, rows.table().name());
        let (org, adapter, entity) = rows.key();
        on!(self, connection => {
            let query = sqlx::query(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
            query.bind(generation).execute(&mut **connection).await?;
        });
        Ok(())
    }
}

/// A count of rows, which no database gives as a negative number.
pub(super) fn count(rows: i64) -> u64 {
    u64::try_from(rows).unwrap_or(0)
}
