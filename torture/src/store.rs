//! The database under torture, and the referee's own way to it.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use anyhow::{Context as _, ensure};
use sqlx::{
    PgPool, SqlitePool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use sync_workflow::{
    Client,
    id::{NodeId, RunId},
    journal::{postgres::PostgresJournal, sqlite::SqliteJournal},
};
use tempfile::TempDir;
use throwaway_postgres::{Cluster, Database as OwnDatabase};
use uuid::Uuid;

use crate::workflow;

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    Postgres,
    Sqlite,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Postgres => "postgres",
            Self::Sqlite => "sqlite",
        })
    }
}

/// A database, and what the referee knows it by.
pub(crate) struct Store {
    /// How it is reached without anything in between.
    url: String,
    database: Database,
    client: Client,
}

enum Database {
    Postgres {
        pool: PgPool,
        /// The database goes before its server.
        server: Option<Box<(OwnDatabase, Arc<Cluster>)>>,
    },
    Sqlite {
        pool: SqlitePool,
        path: PathBuf,
        /// What is gone with the store.
        disk: Option<TempDir>,
    },
}

/// What transactional steps write, and when nodes came to their end.
const POSTGRES_TABLES: &str = "
create table torture_effect (run text not null, step text not null);
create table torture_node_end (node uuid not null, at bigint not null);
create function torture_note_end() returns trigger language plpgsql as $$
begin
    insert into torture_node_end values
        (old.node_id, (extract(epoch from clock_timestamp()) * 1000000)::bigint);
    return null;
end $$;
create trigger torture_note_end after delete on sync_workflow.nodes
    for each row execute function torture_note_end();";

const SQLITE_TABLES: &str = "
create table torture_effect (run text not null, step text not null);
create table torture_node_end (node blob not null, at integer not null);
create trigger torture_note_end after delete on sync_workflow_nodes begin
    insert into torture_node_end values (old.node, cast(unixepoch('subsec') * 1000000 as integer));
end;";

/// More than this many runs of a victim tell no more about its recovery.
const HELD: i64 = 50;

impl Store {
    /// A fresh database on a server.
    pub(crate) async fn postgres(server: Arc<Cluster>) -> anyhow::Result<Self> {
        let database = server.create_database()?;
        let url = database.url().to_owned();
        Self::postgres_at(&url, Some(Box::new((database, server)))).await
    }

    /// A database that somebody else keeps.
    pub(crate) async fn postgres_elsewhere(url: &str) -> anyhow::Result<Self> {
        Self::postgres_at(url, None).await
    }

    async fn postgres_at(
        url: &str,
        server: Option<Box<(OwnDatabase, Arc<Cluster>)>>,
    ) -> anyhow::Result<Self> {
        let options: PgConnectOptions = url.parse()?;
        let pool = PgPoolOptions::new()
            .max_connections(4)
            .connect_with(options.application_name("torture-referee"))
            .await?;
        let journal = PostgresJournal::from_pool(pool.clone()).await?;
        sqlx::raw_sql(POSTGRES_TABLES).execute(&pool).await?;
        Ok(Self {
            url: url.to_owned(),
            database: Database::Postgres { pool, server },
            client: Client::new(Arc::new(journal)).codecs(&workflow::codecs()),
        })
    }

    /// A fresh file on a disk in memory, where there is one: a kill loses as little there, and nothing
    /// waits for the disk. Otherwise it is in this directory.
    pub(crate) async fn sqlite_in_memory(directory: &Path) -> anyhow::Result<Self> {
        let in_memory = tempfile::Builder::new()
            .prefix("torture-")
            .tempdir_in("/dev/shm");
        let Ok(in_memory) = in_memory else {
            return Self::sqlite(directory).await;
        };
        let mut store = Self::sqlite(in_memory.path()).await?;
        if let Database::Sqlite { disk, .. } = &mut store.database {
            *disk = Some(in_memory);
        }
        Ok(store)
    }

    /// A fresh file in a directory.
    pub(crate) async fn sqlite(directory: &Path) -> anyhow::Result<Self> {
        let path = directory.join("journal.db");
        let url = format!("sqlite:{}", path.display());
        let journal = SqliteJournal::connect(&url).await?;
        let pool = SqlitePool::connect(&url).await?;
        sqlx::raw_sql(SQLITE_TABLES).execute(&pool).await?;
        Ok(Self {
            url,
            database: Database::Sqlite {
                pool,
                path,
                disk: None,
            },
            client: Client::new(Arc::new(journal)).codecs(&workflow::codecs()),
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(crate) const fn client(&self) -> &Client {
        &self.client
    }

    /// The server, where the database is one of ours.
    pub(crate) fn server(&self) -> anyhow::Result<Arc<Cluster>> {
        match &self.database {
            Database::Postgres {
                server: Some(server),
                ..
            } => Ok(Arc::clone(&server.1)),
            Database::Postgres { server: None, .. } | Database::Sqlite { .. } => {
                anyhow::bail!("this database has no server of its own")
            }
        }
    }

    /// The pool of a Postgres database.
    pub(crate) fn pool(&self) -> anyhow::Result<&PgPool> {
        match &self.database {
            Database::Postgres { pool, .. } => Ok(pool),
            Database::Sqlite { .. } => anyhow::bail!("this fault is one of Postgres"),
        }
    }

    /// Some of the runs that a node holds.
    pub(crate) async fn held_by(&self, node: NodeId) -> anyhow::Result<Vec<RunId>> {
        let runs: Vec<(Uuid,)> = match &self.database {
            Database::Postgres { pool, .. } => {
                let sql = "select run_id from sync_workflow.runs where node_id = $1 and status = 1 limit $2";
                let query = sqlx::query_as(sql).bind(node.as_uuid()).bind(HELD);
                query.fetch_all(pool).await?
            }
            Database::Sqlite { pool, .. } => {
                let sql = "select run from sync_workflow_runs where node = $1 limit $2";
                let query = sqlx::query_as(sql).bind(node.as_uuid()).bind(HELD);
                query.fetch_all(pool).await?
            }
        };
        Ok(runs
            .into_iter()
            .map(|(run,)| RunId::from_uuid(run))
            .collect())
    }

    /// The effects of transactional steps: run and step.
    pub(crate) async fn effects(&self) -> anyhow::Result<Vec<(String, String)>> {
        const SELECT: &str = "select run, step from torture_effect";
        Ok(match &self.database {
            Database::Postgres { pool, .. } => sqlx::query_as(SELECT).fetch_all(pool).await?,
            Database::Sqlite { pool, .. } => sqlx::query_as(SELECT).fetch_all(pool).await?,
        })
    }

    /// When nodes came to their end, in microseconds.
    pub(crate) async fn node_ends(&self) -> anyhow::Result<Vec<(NodeId, i64)>> {
        const SELECT: &str = "select node, at from torture_node_end";
        let ends: Vec<(Uuid, i64)> = match &self.database {
            Database::Postgres { pool, .. } => sqlx::query_as(SELECT).fetch_all(pool).await?,
            Database::Sqlite { pool, .. } => sqlx::query_as(SELECT).fetch_all(pool).await?,
        };
        let node = |(node, at)| (NodeId::from_uuid(node), at);
        Ok(ends.into_iter().map(node).collect())
    }

    /// How many sessions of workers are inside a transaction, although no worker lives.
    pub(crate) async fn open_transactions(&self) -> anyhow::Result<i64> {
        const COUNT: &str = "select count(*) from pg_stat_activity \
             where datname = current_database() and application_name = 'sync-workflow' \
             and state like 'idle in transaction%'";
        match &self.database {
            Database::Postgres { pool, .. } => {
                Ok(sqlx::query_scalar(COUNT).fetch_one(pool).await?)
            }
            Database::Sqlite { .. } => Ok(0),
        }
    }

    /// Copies the database to a directory, as evidence.
    pub(crate) async fn keep(&self, directory: &Path) -> anyhow::Result<()> {
        match &self.database {
            Database::Postgres {
                server: Some(server),
                ..
            } => {
                let (_, server) = &**server;
                server.stop()?;
                let copied = copy(&server.directory().join("data"), directory);
                server.start_again()?;
                copied
            }
            Database::Postgres { server: None, .. } => Ok(()),
            Database::Sqlite { path, .. } => match path.parent() {
                // What is beside the file belongs to it.
                Some(parent) if parent != directory => {
                    copy(&parent.join("."), &directory.join("kept"))
                }
                // It is in the directory that is kept.
                Some(_) | None => Ok(()),
            },
        }
    }

    /// Closes the referee's connections.
    pub(crate) async fn close(&self) {
        match &self.database {
            Database::Postgres { pool, .. } => pool.close().await,
            Database::Sqlite { pool, .. } => pool.close().await,
        }
    }
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status();
    ensure!(
        copied.context("cp")?.success(),
        "the database was not copied"
    );
    Ok(())
}
