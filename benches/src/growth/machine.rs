//! Where the figures were measured, and under which conditions.

use std::time::Instant;

use anyhow::Context;
use serde::Serialize;
use sqlx::{Connection, PgConnection, SqliteConnection};

use super::{Ground, series::Database};

/// The machine and its databases.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Machine {
    processor: String,
    processors: usize,
    memory_gigabytes: f64,
    postgres: String,
    sqlite: String,
    date: String,
    /// Of this repository.
    commit: Option<String>,
    is_release: bool,
}

impl Machine {
    pub(super) async fn now(ground: &Ground) -> anyhow::Result<Self> {
        let memory = this_machine::memory_bytes().context("cannot tell the memory")?;
        let storage = ground.database(Database::Postgres)?;
        let mut postgres = PgConnection::connect(storage.url()).await?;
        let mut sqlite = SqliteConnection::connect("sqlite::memory:").await?;
        Ok(Self {
            processor: this_machine::processor().unwrap_or_else(|| "unknown".into()),
            processors: std::thread::available_parallelism()?.get(),
            memory_gigabytes: memory as f64 / 1e9,
            postgres: sqlx::query_scalar("SELECT current_setting('server_version')")
                .fetch_one(&mut postgres)
                .await?,
            date: sqlx::query_scalar("SELECT current_date::text")
                .fetch_one(&mut postgres)
                .await?,
            sqlite: sqlx::query_scalar("SELECT sqlite_version()")
                .fetch_one(&mut sqlite)
                .await?,
            commit: this_machine::commit(env!("CARGO_MANIFEST_DIR")),
            is_release: !cfg!(debug_assertions),
        })
    }
}

impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            processor,
            processors,
            memory_gigabytes,
            postgres,
            sqlite,
            date,
            commit,
            is_release,
        } = self;
        let commit = commit.as_deref().unwrap_or("unknown");
        let build = if *is_release { "release" } else { "debug" };
        write!(
            f,
            "on {date} at commit {commit}, {build} build: {processor}, {processors} processors, \
             {memory_gigabytes:.1} GB of memory; PostgreSQL {postgres}; SQLite {sqlite}"
        )
    }
}

/// What else went on while a series was measured.
#[derive(Debug, Serialize)]
pub(super) struct Conditions {
    /// The load of the last minute, before this program added its own.
    load_before: String,
    load_after: String,
    minutes: f64,
    #[serde(skip)]
    began: Instant,
}

impl Conditions {
    pub(super) fn now() -> anyhow::Result<Self> {
        let load = load()?;
        Ok(Self {
            load_before: load.clone(),
            load_after: load,
            minutes: 0.0,
            began: Instant::now(),
        })
    }

    pub(super) fn are_over(self) -> anyhow::Result<Self> {
        Ok(Self {
            load_after: load()?,
            minutes: self.began.elapsed().as_secs_f64() / 60.0,
            ..self
        })
    }
}

impl std::fmt::Display for Conditions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "in {:.1} minutes; the load of the last minute was {} before and {} afterwards",
            self.minutes, self.load_before, self.load_after
        )
    }
}

fn load() -> anyhow::Result<String> {
    this_machine::load().context("cannot tell the load")
}
