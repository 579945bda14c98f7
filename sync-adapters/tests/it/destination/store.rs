//! A fresh destination with the tables of a small manifest.

use serde_json::{Value, json};
use sync_adapters::{
    Destination,
    destination::{PageWritten, Rows, Table},
};
use sync_core::{
    ChangeCounts, EntityName, Manifest, OrgId, Quarantined, Record, proof::Generation,
};
use throwaway_postgres::Database;

pub(crate) const MANIFEST: &str = r#"
adapter: notes
version: "1"
base_url: https://api.example.com
rate_limit: { requests: 10, period_seconds: 1 }
entities:
  - name: Person
    record_type: person
    schema:
      - { name: name, type: text }
      - { name: boss_id, type: text, references: { entity: Person, strength: deferred } }
    mapping:
      id: id
      fields:
        - { column: name, from: name }
        - { column: boss_id, from: boss }
    endpoints:
      list: { method: GET, path: /people }
    pagination: { paginator: { kind: page, param: page }, stop: { kind: short_page }, page_size: 50 }
  - name: Note
    record_type: note
    schema:
      - { name: title, type: text, required: true }
      - { name: words, type: integer }
      - { name: score, type: float }
      - { name: done, type: boolean }
      - { name: due, type: date }
      - { name: updated_at, type: timestamp }
      - { name: extra, type: json }
      - { name: author_id, type: text, references: { entity: Person } }
    mapping:
      id: id
      updated_at: updated_at
      fields:
        - { column: title, from: title }
        - { column: words, from: words }
        - { column: score, from: score }
        - { column: done, from: done }
        - { column: due, from: due }
        - { column: updated_at, from: updated_at }
        - { column: extra, from: extra }
        - { column: author_id, from: author }
    endpoints:
      list: { method: GET, path: /notes }
    pagination: { paginator: { kind: page, param: page }, stop: { kind: short_page }, page_size: 50 }
"#;

/// What keeps the database alive for the time of the test.
#[expect(dead_code, reason = "held only to be dropped with the test")]
enum Guard {
    Postgres(Box<Database>),
    Sqlite(tempfile::TempDir),
}

pub(crate) struct Store {
    pub(crate) destination: Destination,
    pub(crate) manifest: Manifest,
    pub(crate) url: String,
    guard: Guard,
}

impl Store {
    pub(crate) async fn postgres() -> Self {
        let database = Database::create().unwrap();
        let url = database.url().to_owned();
        Self::at(url, Guard::Postgres(Box::new(database))).await
    }

    pub(crate) async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("test.db").display());
        Self::at(url, Guard::Sqlite(directory)).await
    }

    async fn at(url: String, guard: Guard) -> Self {
        let manifest = Manifest::from_yaml(MANIFEST).unwrap();
        let destination = Destination::connect(&url).await.unwrap();
        destination.prepare(&manifest).await.unwrap();
        Self {
            destination,
            manifest,
            url,
            guard,
        }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.guard, Guard::Postgres(_))
    }

    pub(crate) fn rows(&self, entity: &str, org: &str) -> Rows {
        let table = Table::of(&self.manifest, &EntityName::new(entity).unwrap()).unwrap();
        table.rows_of(OrgId::new(org).unwrap())
    }

    pub(crate) fn notes(&self) -> Rows {
        self.rows("Note", "acme")
    }

    pub(crate) fn map(&self, entity: &str, document: &Value) -> Result<Record, Quarantined> {
        let raw = serde_json::value::to_raw_value(document).unwrap();
        self.manifest
            .mapper(&EntityName::new(entity).unwrap())
            .unwrap()
            .map(&raw, None)
    }

    pub(crate) fn note(&self, document: &Value) -> Record {
        self.map("Note", document).unwrap()
    }

    /// Notes `1..=n` in a state of the given revision.
    pub(crate) fn notes_of(
        &self,
        ids: impl IntoIterator<Item = u32>,
        revision: u32,
    ) -> Vec<Record> {
        let note = |id| {
            self.note(
                &json!({ "id": id, "title": format!("note {id}, revision {revision}"),
                "words": id, "updated_at": format!("2024-01-01T00:00:{revision:02}Z") }),
            )
        };
        ids.into_iter().map(note).collect()
    }

    pub(crate) async fn write(&self, records: &[Record]) -> ChangeCounts {
        self.write_as(None, records).await.counts
    }

    pub(crate) async fn write_as(
        &self,
        generation: Option<Generation>,
        records: &[Record],
    ) -> PageWritten {
        let mut transaction = self.destination.begin().await.unwrap();
        let rows = self.notes();
        let written = transaction
            .connection()
            .write_page(&rows, generation, records)
            .await
            .unwrap();
        transaction.commit().await.unwrap();
        written
    }

    pub(crate) async fn live(&self, rows: &Rows) -> u64 {
        let mut transaction = self.destination.begin().await.unwrap();
        transaction.connection().live_count(rows).await.unwrap()
    }

    /// One text from the database, by a statement that both databases understand.
    pub(crate) async fn text(&self, sql: &str) -> Option<String> {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match &self.destination {
            Destination::Postgres(pool) => sqlx::query_scalar(sql).fetch_one(pool).await.unwrap(),
            Destination::Sqlite(pool) => sqlx::query_scalar(sql).fetch_one(pool).await.unwrap(),
            _ => unreachable!("there are two destinations"),
        }
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        match &self.destination {
            Destination::Postgres(pool) => drop(sqlx::query(sql).execute(pool).await.unwrap()),
            Destination::Sqlite(pool) => drop(sqlx::query(sql).execute(pool).await.unwrap()),
            _ => unreachable!("there are two destinations"),
        }
    }
}

pub(crate) fn counts(inserted: u64, updated: u64, unchanged: u64) -> ChangeCounts {
    ChangeCounts {
        inserted,
        updated,
        unchanged,
        ..ChangeCounts::default()
    }
}
