//! Where the databases of the rounds come from.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use sqlx::Connection;
use tempfile::TempDir;
use throwaway_postgres::{Cluster, Database};

/// What the databases of one invocation are created on.
pub(crate) enum Server {
    /// A server of its own, with PostgreSQL's default settings.
    Own(Box<Cluster>),
    /// Somebody's server.
    Postgres(String),
    /// A directory for SQLite files.
    Sqlite(PathBuf),
}

impl Server {
    pub(crate) fn open(url: Option<&str>) -> anyhow::Result<Self> {
        let Some(url) = url else {
            let cluster = Cluster::start().context("cannot start a PostgreSQL")?;
            return Ok(Self::Own(Box::new(cluster)));
        };
        match url.split_once(':') {
            Some(("postgres" | "postgresql", _)) => Ok(Self::Postgres(url.to_owned())),
            Some(("sqlite", "")) => Ok(Self::Sqlite(std::env::temp_dir())),
            Some(("sqlite", directory)) if Path::new(directory).is_dir() => {
                Ok(Self::Sqlite(directory.into()))
            }
            Some(("sqlite", directory)) => bail!("{directory} is no directory"),
            _ => bail!("{url:?} is neither postgres://… nor sqlite:"),
        }
    }

    /// An empty database, removed at the end.
    pub(crate) fn database(&self) -> anyhow::Result<Storage> {
        match self {
            Self::Own(cluster) => Ok(Storage::Postgres(Box::new(cluster.create_database()?))),
            Self::Postgres(url) => Ok(Storage::Postgres(Box::new(Database::create_at(url)?))),
            Self::Sqlite(directory) => {
                let directory = TempDir::with_prefix_in("bench-", directory)?;
                let url = format!("sqlite:{}", directory.path().join("journal.db").display());
                Ok(Storage::Sqlite {
                    url,
                    _directory: directory,
                })
            }
        }
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Own(_) => "a PostgreSQL of its own, default settings",
            Self::Postgres(_) => "a PostgreSQL that was given",
            Self::Sqlite(_) => "SQLite",
        }
    }
}

impl Storage {
    /// Runs one statement, in the words of its own SQL.
    pub(crate) async fn execute(&self, sql: Dialects<'_>) -> anyhow::Result<()> {
        match self {
            Self::Postgres(database) => {
                database.psql(sql.postgres)?;
            }
            Self::Sqlite { url, .. } => {
                let mut connection = sqlx::SqliteConnection::connect(url).await?;
                sqlx::raw_sql(sqlx::AssertSqlSafe(sql.sqlite.to_owned()))
                    .execute(&mut connection)
                    .await?;
                connection.close().await?;
            }
        }
        Ok(())
    }
}

/// One statement for each kind of database.
pub(crate) struct Dialects<'a> {
    pub(crate) postgres: &'a str,
    pub(crate) sqlite: &'a str,
}

/// The process that a server of its own runs as.
pub(crate) fn server_pid(server: &Server) -> Option<u32> {
    match server {
        Server::Own(cluster) => cluster.pid(),
        Server::Postgres(_) | Server::Sqlite(_) => None,
    }
}

/// One database.
pub(crate) enum Storage {
    Postgres(Box<Database>),
    Sqlite { url: String, _directory: TempDir },
}

impl Storage {
    pub(crate) const fn is_postgres(&self) -> bool {
        matches!(self, Self::Postgres(_))
    }

    pub(crate) fn url(&self) -> &str {
        match self {
            Self::Postgres(database) => database.url(),
            Self::Sqlite { url, .. } => url,
        }
    }
}
