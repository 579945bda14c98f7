//! Deletions: the candidates of a walk, the tombstones that a proof allows, and the table
//! `deletion_requests` of those that wait for a person.

use sqlx::AssertSqlSafe;
use sync_core::{
    AdapterName, EntityName, ExternalId, OrgId,
    proof::{Approval, DeletionProof, Generation, Refusal},
};

use super::{
    Connection, Error, Rows, connection::on, cursors::read_time, generations::count,
    quarantine::json,
};

/// A live row that a walk did not meet, and that nothing else wrote since the walk began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CandidateRow {
    /// The record.
    pub id: ExternalId,
    /// The record under which it was listed, for a nested list.
    pub parent: Option<ExternalId>,
}

/// What became of the records that a proof speaks of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tombstoned {
    /// Rows that were deleted at the source.
    pub deleted: u64,
    /// Rows that were merged into others.
    pub merged: u64,
    /// Rows that stay: written since, met by a walk after all, or tombstoned before.
    pub kept: u64,
}

/// Deletions that wait for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingDeletion {
    /// The adapter.
    pub adapter: AdapterName,
    /// The entity.
    pub entity: EntityName,
    /// The walk that found them.
    pub generation: Generation,
    /// Why they were not made at once.
    pub refusal: Refusal,
    /// How many rows would go.
    pub candidates: u64,
    /// When the walk found them.
    pub requested_at: jiff::Timestamp,
}

/// Rows that a walk proves nothing about are never candidates: those that bear its generation or a later
/// one, those in its ledger, and those written since it began, by whomever.
const CANDIDATES: &str = "\
select t.external_id, t._parent_id from {table} t
where t.org_id = $1 and t.deleted_at is null and t.generation < $4 and t.external_id > $5
  and t.synced_at < (select started_at from {sync}generations
                     where org_id = $1 and adapter = $2 and entity = $3 and generation = $4)
  and not exists (select 1 from ({seen}) s where s.external_id = t.external_id)
order by t.external_id limit $6";

/// The same conditions again: rows may have been written since the candidates were listed. A walk that was
/// ended has no ledger any more, and deletes nothing.
const TOMBSTONE: &str = "\
update {table} as t set deleted_at = {now}, synced_at = {now}, _merged_into = $6
where t.org_id = $1 and t.deleted_at is null and t.generation < $4
  and t.external_id in ({ids})
  and t.synced_at < (select started_at from {sync}generations
                     where org_id = $1 and adapter = $2 and entity = $3 and generation = $4
                       and ended_at is null)
  and not exists (select 1 from ({seen}) s where s.external_id = t.external_id)";

const REQUEST: &str = "\
insert into {sync}deletion_requests
  (org_id, adapter, entity, generation, refusal, candidates, requested_at)
values ($1, $2, $3, $4, $5, $6, {now})
on conflict (org_id, adapter, entity, generation) do update
set refusal = excluded.refusal, candidates = excluded.candidates";

const PENDING: &str = "\
select adapter, entity, generation, refusal, candidates, {utc}requested_at{/utc}
from {sync}deletion_requests where org_id = $1 and decided_at is null
order by requested_at desc, adapter, entity limit $2";

const DECIDE: &str = "\
update {sync}deletion_requests set approved = $5, decided_by = $6, decided_at = {now}
where org_id = $1 and adapter = $2 and entity = $3 and generation = $4 and decided_at is null";

const APPROVAL: &str = "\
select candidates, decided_by, {utc}decided_at{/utc} from {sync}deletion_requests
where org_id = $1 and adapter = $2 and entity = $3 and generation = $4 and approved = 1";

impl Connection<'_> {
    /// Rows that the walk did not meet, in the order of their ids, beginning behind `after`; at most `limit`.
    /// Each is to be confirmed by the source before a proof can speak of it.
    ///
    /// # Errors
    /// The database fails.
    pub async fn candidates(
        &mut self,
        rows: &Rows,
        generation: Generation,
        after: Option<&ExternalId>,
        limit: u32,
    ) -> Result<Vec<CandidateRow>, Error> {
        let sql = self.dialect().sql(CANDIDATES, rows.table().name());
        let (org, adapter, entity) = rows.key();
        let found: Vec<(String, Option<String>)> = on!(self, connection => {
            let query = sqlx::query_as(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
            let query = query.bind(generation.0).bind(after.map_or("", ExternalId::as_str));
            // Planned anew each time: a plan made for an empty ledger would be a bad one for a full one.
            query.bind(i64::from(limit)).persistent(false).fetch_all(&mut **connection).await?
        });
        let read = |(id, parent): (String, Option<String>)| {
            Ok(CandidateRow {
                id: read_id(&id)?,
                parent: parent.as_deref().map(read_id).transpose()?,
            })
        };
        found.into_iter().map(read).collect()
    }

    /// Puts a tombstone on every row that the proof says is gone. A row that was written since, or that bears
    /// the proof's generation, stays. It stays in the table, too: a record that comes again lives again.
    ///
    /// # Errors
    /// [`Error::ForeignProof`] when the proof speaks of other records, or the database fails.
    pub async fn tombstone(
        &mut self,
        rows: &Rows,
        proof: &DeletionProof,
    ) -> Result<Tombstoned, Error> {
        let scope = proof.scope();
        let (org, adapter, entity) = (
            scope.org.as_str(),
            scope.adapter.as_str(),
            scope.entity.as_str(),
        );
        if (org, adapter, entity) != rows.key() {
            return Err(Error::ForeignProof {
                table: rows.table().name().to_owned(),
            });
        }
        let mut done = Tombstoned::default();
        if !proof.deletions().is_empty() {
            done.deleted = self
                .bury(rows, proof.generation(), proof.deletions(), None)
                .await?;
        }
        for (merged, survivor) in proof.merges() {
            let merged = std::slice::from_ref(merged);
            done.merged += self
                .bury(rows, proof.generation(), merged, Some(survivor))
                .await?;
        }
        let named = (proof.deletions().len() + proof.merges().len()) as u64;
        done.kept = named - done.deleted - done.merged;
        Ok(done)
    }

    async fn bury(
        &mut self,
        rows: &Rows,
        generation: Generation,
        ids: &[ExternalId],
        merged_into: Option<&ExternalId>,
    ) -> Result<u64, Error> {
        let sql = self.dialect().sql(TOMBSTONE, rows.table().name());
        let (org, adapter, entity) = rows.key();
        let ids = json(ids)?;
        Ok(on!(self, connection => {
            let query = sqlx::query(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
            let query = query.bind(generation.0).bind(ids).bind(merged_into.map(ExternalId::as_str));
            query.persistent(false).execute(&mut **connection).await?.rows_affected()
        }))
    }

    /// Notes that deletions wait for a person. Noting the same again renews it.
    ///
    /// # Errors
    /// The database fails.
    pub async fn request_deletion(
        &mut self,
        rows: &Rows,
        generation: Generation,
        refusal: &Refusal,
        candidates: u64,
    ) -> Result<(), Error> {
        let sql = self.dialect().sql(REQUEST, rows.table().name());
        let (org, adapter, entity) = rows.key();
        let (refusal, candidates) = (
            json(refusal)?,
            i64::try_from(candidates).unwrap_or(i64::MAX),
        );
        on!(self, connection => {
            let query = sqlx::query(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
            let query = query.bind(generation.0).bind(refusal).bind(candidates);
            query.execute(&mut **connection).await?;
        });
        Ok(())
    }

    /// The newest deletions of an organisation that wait for a person, at most `limit`.
    ///
    /// # Errors
    /// The database fails, or holds what cannot be read.
    pub async fn pending_deletions(
        &mut self,
        org: &OrgId,
        limit: u32,
    ) -> Result<Vec<PendingDeletion>, Error> {
        let sql = self.dialect().sql(PENDING, "");
        let found: Vec<(String, String, i64, String, i64, String)> = on!(self, connection => {
            let query = sqlx::query_as(AssertSqlSafe(sql)).bind(org.as_str()).bind(i64::from(limit));
            query.fetch_all(&mut **connection).await?
        });
        let name = |e| Error::unreadable("a name", e);
        let read = |row: (String, String, i64, String, i64, String)| {
            let (adapter, entity, generation, refusal, candidates, requested_at) = row;
            Ok(PendingDeletion {
                adapter: AdapterName::new(adapter).map_err(name)?,
                entity: EntityName::new(entity).map_err(name)?,
                generation: Generation(generation),
                refusal: serde_json::from_str(&refusal)
                    .map_err(|e| Error::unreadable("a refusal", e))?,
                candidates: count(candidates),
                requested_at: read_time(&requested_at)?,
            })
        };
        found.into_iter().map(read).collect()
    }

    /// A person decides on the deletions that a walk found. False when they do not wait for a decision.
    ///
    /// # Errors
    /// The database fails.
    pub async fn decide_deletion(
        &mut self,
        rows: &Rows,
        generation: Generation,
        approved: bool,
        by: &str,
    ) -> Result<bool, Error> {
        let sql = self.dialect().sql(DECIDE, rows.table().name());
        let (org, adapter, entity) = rows.key();
        let decided = on!(self, connection => {
            let query = sqlx::query(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
            let query = query.bind(generation.0).bind(i64::from(approved)).bind(by);
            query.execute(&mut **connection).await?.rows_affected()
        });
        Ok(decided > 0)
    }

    /// A person's approval of the deletions that a walk found, if there is one.
    ///
    /// # Errors
    /// The database fails.
    pub async fn approval(
        &mut self,
        rows: &Rows,
        generation: Generation,
    ) -> Result<Option<Approval>, Error> {
        let sql = self.dialect().sql(APPROVAL, rows.table().name());
        let (org, adapter, entity) = rows.key();
        let found: Option<(i64, String, String)> = on!(self, connection => {
            let query = sqlx::query_as(AssertSqlSafe(sql)).bind(org).bind(adapter).bind(entity);
            query.bind(generation.0).fetch_optional(&mut **connection).await?
        });
        let read = |(candidates, by, at): (i64, String, String)| {
            Ok(Approval {
                generation,
                candidates: count(candidates),
                by,
                at: read_time(&at)?,
            })
        };
        found.map(read).transpose()
    }
}

fn read_id(text: &str) -> Result<ExternalId, Error> {
    ExternalId::new(text).map_err(|e| Error::unreadable("a stored id", e))
}
