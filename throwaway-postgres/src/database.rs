use std::env;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use url::Url;
use uuid::Uuid;

use crate::psql::parse;
use crate::{Cluster, Error, Psql};

/// The cluster that the databases of this process share when `DATABASE_URL` names no server. It
/// lives as long as the process; its guard cleans up after it.
static SHARED: Mutex<Option<Arc<Cluster>>> = Mutex::new(None);

/// An empty database with a random name, dropped with all its connections at the end.
///
/// ```
/// # fn main() -> Result<(), throwaway_postgres::Error> {
/// let database = throwaway_postgres::Database::create()?;
/// database.psql("create table person (name text)")?;
/// println!("connect to {}", database.url());
/// # Ok(())
/// # }
/// ```
pub struct Database {
    name: String,
    url: String,
    maintenance: Psql,
    psql: Psql,
}

impl Database {
    /// Creates a database on the server that `DATABASE_URL` names; where it is not set, on a
    /// cluster (without fsync) that is started at the first call and shared by the whole process.
    ///
    /// # Errors
    ///
    /// [`Error::Url`] if `DATABASE_URL` is not a PostgreSQL URL, [`Error::Psql`] if the server
    /// cannot be reached or its user may not create databases; those of
    /// [`Builder::start`](crate::Builder::start).
    pub fn create() -> Result<Self, Error> {
        match env::var("DATABASE_URL") {
            Ok(url) if !url.is_empty() => Self::create_at(&url),
            Ok(_) | Err(_) => shared()?.create_database(),
        }
    }

    /// Creates a database on the server of `server_url`, whose own database is only connected to.
    ///
    /// # Errors
    ///
    /// [`Error::Url`] or [`Error::Psql`], as in [`create`](Self::create).
    pub fn create_at(server_url: &str) -> Result<Self, Error> {
        let maintenance = Psql::new(server_url)?;
        let name = format!("throwaway_{}", Uuid::new_v4().simple());
        // template0, because nobody can be connected to it, which would refuse the copy.
        maintenance.query(&format!("create database {name} template template0"))?;
        let url = named(&parse(server_url)?, &name);
        Ok(Self {
            psql: Psql::new(url.as_str())?,
            url: url.into(),
            name,
            maintenance,
        })
    }

    /// The URL of this database, with the password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The name of this database on its server.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs SQL in this database; see [`Psql::query`].
    ///
    /// # Errors
    ///
    /// [`Error::Psql`] if the server cannot be reached or refuses the statement.
    pub fn psql(&self, sql: &str) -> Result<String, Error> {
        self.psql.query(sql)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("drop database if exists {} with (force)", self.name);
        if let Err(error) = self.maintenance.query(&statement) {
            eprintln!("database {} was not dropped: {error}", self.name);
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

fn named(server: &Url, name: &str) -> Url {
    let mut url = server.clone();
    url.set_path(name);
    url
}

fn shared() -> Result<Arc<Cluster>, Error> {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(cluster) = &*shared {
        return Ok(Arc::clone(cluster));
    }
    let cluster = Arc::new(Cluster::builder().fsync(false).start()?);
    *shared = Some(Arc::clone(&cluster));
    Ok(cluster)
}
