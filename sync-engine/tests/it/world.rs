//! A source, a database, and an engine between them.

use std::{collections::BTreeMap, future::Future, time::Duration};

use mock_api::{Builder, Control, Entity, MockApi};
use serde_json::Value;
use sqlx::{PgPool, SqlitePool};
use sync_adapters::{Credentials, planning_center};
use sync_core::{AdapterName, Manifest, OrgId, SyncType};
use sync_engine::{EntityReport, RunReport, SyncEngine, SyncEngineBuilder};
use sync_workflow::RetryPolicy;

/// The entities that are synced, as the source calls them.
pub(crate) const ENTITIES: [(&str, Entity); 9] = [
    ("Campus", Entity::Campus),
    ("Household", Entity::Household),
    ("Person", Entity::Person),
    ("Email", Entity::Email),
    ("PhoneNumber", Entity::PhoneNumber),
    ("Address", Entity::Address),
    ("Group", Entity::Group),
    ("Membership", Entity::Membership),
    ("Event", Entity::Event),
];

/// Makes a test for each kind of database of every world that is named.
macro_rules! in_every_world {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::world::Database::sqlite()).await;
                }
            )+
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::world::Database::postgres()).await;
                }
            )+
        }
    };
}
pub(crate) use in_every_world;

/// Where journal and destination are.
pub(crate) enum Database {
    Sqlite(tempfile::TempDir),
    Postgres(Box<throwaway_postgres::Database>),
}

impl Database {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().unwrap())
    }

    pub(crate) fn postgres() -> Self {
        Self::Postgres(Box::new(throwaway_postgres::Database::create().unwrap()))
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(directory) => {
                format!("sqlite:{}", directory.path().join("sync.db").display())
            }
            Self::Postgres(database) => database.url().to_owned(),
        }
    }

    /// The column of all rows of a query.
    pub(crate) async fn texts(&self, sql: String) -> Vec<String> {
        let sql = sqlx::AssertSqlSafe(sql);
        match self {
            Self::Sqlite(_) => {
                let pool = SqlitePool::connect(&self.url()).await.unwrap();
                let texts = sqlx::query_scalar(sql).fetch_all(&pool).await.unwrap();
                pool.close().await;
                texts
            }
            Self::Postgres(_) => {
                let pool = PgPool::connect(&self.url()).await.unwrap();
                let texts = sqlx::query_scalar(sql).fetch_all(&pool).await.unwrap();
                pool.close().await;
                texts
            }
        }
    }

    /// The live records of an entity with their documents, by id.
    pub(crate) async fn live(&self, entity: &str) -> BTreeMap<String, Value> {
        let table = table(entity);
        let sql = format!(
            "select external_id || '|' || cast(raw as text) from {table} where deleted_at is null"
        );
        let rows = self.texts(sql).await.into_iter();
        rows.map(|row| {
            let (id, raw) = row.split_once('|').unwrap();
            (id.to_owned(), serde_json::from_str(raw).unwrap())
        })
        .collect()
    }

    /// The ids of the tombstones of an entity.
    pub(crate) async fn tombstones(&self, entity: &str) -> Vec<String> {
        let table = table(entity);
        let sql =
            format!("select external_id from {table} where deleted_at is not null order by 1");
        self.texts(sql).await
    }
}

fn table(entity: &str) -> String {
    let name = sync_core::EntityName::new(entity).unwrap();
    format!("pco_{}", name.snake_case())
}

/// A source and a database.
pub(crate) struct World {
    pub(crate) api: MockApi,
    pub(crate) database: Database,
}

impl World {
    pub(crate) async fn of(people: usize, database: Database) -> Self {
        Self::with(
            MockApi::builder().seed(7).people(people).rate_limit(None),
            database,
        )
        .await
    }

    pub(crate) async fn with(source: Builder, database: Database) -> Self {
        let api = source.start().await.unwrap();
        Self { api, database }
    }

    pub(crate) fn control(&self) -> Control {
        self.api.control()
    }

    pub(crate) fn builder(&self) -> SyncEngineBuilder {
        self.builder_with(self.manifest(), &self.api.token())
    }

    pub(crate) fn builder_with(&self, manifest: Manifest, token: &str) -> SyncEngineBuilder {
        SyncEngine::builder()
            .journal_url(self.database.url())
            .destination_url(self.database.url())
            .adapter(manifest)
            .account(org(), adapter(), Credentials::bearer(token))
            .retry(RetryPolicy {
                initial_interval: Duration::from_millis(5),
                max_interval: Duration::from_millis(20),
                max_attempts: 4,
                ..RetryPolicy::default()
            })
            .call_retries(0, Duration::from_millis(1))
            .poll_interval(Duration::from_millis(100))
    }

    /// The manifest for this source, without a budget that would slow a test down.
    pub(crate) fn manifest(&self) -> Manifest {
        let mut spec = planning_center::manifest().spec().clone();
        spec.base_url = self.api.base_url();
        spec.rate_limit.requests = 1_000_000;
        Manifest::new(spec).unwrap()
    }

    pub(crate) async fn engine(&self) -> SyncEngine {
        self.builder().start().await.unwrap()
    }

    /// Compares every entity with the source, document by document.
    pub(crate) async fn assert_equal(&self) {
        for (name, entity) in ENTITIES {
            let source: BTreeMap<String, mock_api::Row> = self
                .control()
                .dump(entity)
                .into_iter()
                .map(|row| (row.id.clone(), row))
                .collect();
            let stored = self.database.live(name).await;
            let ids: (Vec<&String>, Vec<&String>) =
                (stored.keys().collect(), source.keys().collect());
            assert_eq!(ids.0, ids.1, "the ids of {name}");
            for (id, row) in &source {
                let attributes = &stored[id]["attributes"];
                for (attribute, value) in &row.attributes {
                    assert!(
                        attributes
                            .get(attribute)
                            .is_none_or(|stored| stored == value),
                        "{name} {id}: {attribute} is {:?}, not {value:?}",
                        attributes[attribute]
                    );
                }
            }
        }
    }
}

pub(crate) fn org() -> OrgId {
    OrgId::new("acme").unwrap()
}

pub(crate) fn adapter() -> AdapterName {
    AdapterName::new("pco").unwrap()
}

pub(crate) async fn run(engine: &SyncEngine, sync_type: SyncType) -> RunReport {
    engine.run(&org(), &adapter(), sync_type).await.unwrap()
}

pub(crate) fn entity<'r>(report: &'r RunReport, name: &str) -> &'r EntityReport {
    report
        .entity(name)
        .unwrap_or_else(|| panic!("no report of {name}"))
}

/// Waits until something holds; how long that takes is nobody's business, but it may not take forever.
pub(crate) async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while !holds().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{what} did not come about"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
