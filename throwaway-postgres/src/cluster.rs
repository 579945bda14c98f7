use std::fmt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::launcher::{Launcher, SUPERUSER};
use crate::server::{Server, Stop};
use crate::{Builder, Database, Error, Psql};

/// A running PostgreSQL server of its own, thrown away at the end.
///
/// ```
/// # fn main() -> Result<(), throwaway_postgres::Error> {
/// use throwaway_postgres::Cluster;
///
/// let cluster = Cluster::builder().fsync(false).setting("work_mem", "16MB").start()?;
/// cluster.psql("create table kept (n int)")?;
/// cluster.restart_immediate()?;
/// assert_eq!(cluster.psql("select count(*) from kept")?, "0");
/// # Ok(())
/// # }
/// ```
///
/// # Clean-up
///
/// Dropping a cluster stops the server and removes its directory. A process that is killed drops
/// nothing: then a small guard process, which holds a pipe to its owner, sees the pipe close, and
/// does both.
///
/// # Methods block
///
/// They wait for processes, a second or two for a start. Call them from tests, examples and
/// benchmarks, not from a busy runtime.
pub struct Cluster {
    server: Mutex<Option<Server>>,
    launcher: Launcher,
    port: u16,
    url: String,
    psql: Psql,
}

impl Cluster {
    /// Starts a cluster with PostgreSQL's own durability settings.
    ///
    /// # Errors
    ///
    /// Those of [`Builder::start`].
    pub fn start() -> Result<Self, Error> {
        Self::builder().start()
    }

    pub(crate) fn with(launcher: Launcher, password: &str) -> Result<Self, Error> {
        let (server, port) = launcher.start_on_a_free_port()?;
        let url = format!("postgres://{SUPERUSER}:{password}@127.0.0.1:{port}/{SUPERUSER}");
        Ok(Self {
            psql: Psql::new(&url)?,
            server: Mutex::new(Some(server)),
            launcher,
            port,
            url,
        })
    }

    /// A cluster with other settings.
    #[must_use]
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// The URL of the maintenance database, as its superuser, with the password.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The port of 127.0.0.1 that the server listens on. It stays the same across restarts.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory that holds all of the cluster: data, log, socket.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.launcher.home().path()
    }

    /// The process id of the server, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.server().as_ref().map(Server::pid)
    }

    /// The last lines that the server logged.
    #[must_use]
    pub fn log_tail(&self) -> String {
        self.launcher.home().log_tail()
    }

    /// Runs SQL in the maintenance database; see [`Psql::query`].
    ///
    /// # Errors
    ///
    /// [`Error::Psql`] if the server does not run or refuses the statement.
    pub fn psql(&self, sql: &str) -> Result<String, Error> {
        self.psql.query(sql)
    }

    /// Creates an empty database on this cluster. Dropping it drops the database.
    ///
    /// # Errors
    ///
    /// [`Error::Psql`] if the server does not run.
    pub fn create_database(&self) -> Result<Database, Error> {
        Database::create_at(&self.url)
    }

    /// Stops the server as an operator would: clients are cut off, a checkpoint is written. The
    /// data stays, for [`start_again`](Self::start_again). Stopping a stopped server does nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the server cannot be signalled.
    pub fn stop(&self) -> Result<(), Error> {
        self.end(Stop::Fast)
    }

    /// Stops the server as a crash would: no checkpoint, and recovery at the next start.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the server cannot be signalled.
    pub fn stop_immediate(&self) -> Result<(), Error> {
        self.end(Stop::Immediate)
    }

    /// Starts a stopped server, on the same port with the same data, and waits until it accepts
    /// connections.
    ///
    /// # Errors
    ///
    /// [`Error::Running`] if it was not stopped, [`Error::Ended`] or [`Error::NotReady`] if it
    /// does not come up.
    pub fn start_again(&self) -> Result<(), Error> {
        let mut server = self.server();
        if server.is_some() {
            return Err(Error::Running);
        }
        *server = Some(self.launcher.start(self.port)?);
        Ok(())
    }

    /// [`stop_immediate`](Self::stop_immediate) and [`start_again`](Self::start_again): what a
    /// client of a crashing server sees.
    ///
    /// # Errors
    ///
    /// Those of the two.
    pub fn restart_immediate(&self) -> Result<(), Error> {
        self.stop_immediate()?;
        self.start_again()
    }

    fn end(&self, stop: Stop) -> Result<(), Error> {
        self.server()
            .take()
            .map_or(Ok(()), |server| self.launcher.stop(server, stop))
    }

    fn server(&self) -> MutexGuard<'_, Option<Server>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Nothing is left to be saved, so the fastest way to stop is the right one. A server that
        // cannot be stopped is left to the guard.
        let _ = self.stop_immediate();
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("port", &self.port)
            .field("directory", &self.directory())
            .finish_non_exhaustive()
    }
}
