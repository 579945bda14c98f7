//! How a journal is opened.

use std::{str::FromStr, time::Duration};

use sqlx::postgres::PgConnectOptions;

use super::{PostgresJournal, connection::Session, pooling::Pooling};
use crate::journal::{Error, Result};

/// How to open a [`PostgresJournal`].
///
/// ```no_run
/// use sync_workflow::journal::postgres::PostgresJournal;
///
/// # async fn example() -> sync_workflow::journal::Result<()> {
/// let journal = PostgresJournal::builder("postgres://localhost/app")
///     .max_connections(4)
///     .open()
///     .await?;
/// # drop(journal); Ok(()) }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing is opened before `open`"]
pub struct Builder {
    url: String,
    listen_url: Option<String>,
    max_connections: u32,
    deadline: Duration,
    transaction_pooler: bool,
}

impl Builder {
    /// The connections that the engine's own statements share.
    pub(super) const STATEMENTS: u32 = 4;
    pub(super) const DEADLINE: Duration = Duration::from_secs(15);

    pub(super) fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            listen_url: None,
            max_connections: 8,
            deadline: Self::DEADLINE,
            transaction_pooler: false,
        }
    }

    /// A separate URL for LISTEN, which needs a connection of its own to the server: behind a
    /// pooler in transaction mode notifications do not arrive. There, without this URL, what other
    /// processes did is found by polling alone.
    pub fn listen_url(mut self, url: impl Into<String>) -> Self {
        self.listen_url = Some(url.into());
        self
    }

    /// The most connections for transactions that code holds open: transactional steps, and
    /// [`PostgresJournal::pool`]; at least one, 8 by default. They are opened as they are needed.
    ///
    /// A worker has up to ten more beside them: four that the engine's own statements share, two for commits, and one
    /// each for heartbeats, reaping, notifications sent and notifications received. So steps that hold all of
    /// theirs hold up none of these.
    pub fn max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// How long one statement may take before its connection is closed; 15 seconds by default. A
    /// commit that runs into it has an unknown outcome.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Set this behind a pooler in transaction mode. The engine then sets nothing on a session,
    /// because the next client would inherit it. Combine it with [`listen_url`](Self::listen_url).
    ///
    /// What the pooler does with prepared statements is found out when the journal is opened. Behind
    /// one that brings them along (PgBouncer from 1.21 with `max_prepared_statements` above zero) a
    /// statement costs one round trip, as without a pooler. Behind any other, each statement of the
    /// engine is a transaction of four round trips, which begins by `DEALLOCATE ALL`. The SQL of a
    /// transactional step needs no care. In transactions that the application itself begins on
    /// such a pooler, for [`Client::signal_in`](crate::Client::signal_in) for instance, its own
    /// queries need `persistent(false)`.
    pub const fn transaction_pooler(mut self, pooler: bool) -> Self {
        self.transaction_pooler = pooler;
        self
    }

    /// Opens the journal and brings its schema up to date.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`]; [`Error::Unavailable`] when the server cannot be reached;
    /// [`Error::Refused`] when it does not let this user in or may not create the schema;
    /// [`Error::NewerSchema`] when a newer version migrated it.
    pub async fn open(self) -> Result<PostgresJournal> {
        let options = parse(&self.url)?;
        let session = if self.transaction_pooler {
            Session::behind_pooler(options, self.deadline).await?
        } else {
            Session::new(options, self.deadline, Pooling::None)
        };
        let listen = self.listen_url.as_deref().map(parse).transpose()?;
        PostgresJournal::open(session, listen, self.max_connections).await
    }
}

fn parse(url: &str) -> Result<PgConnectOptions> {
    let options = PgConnectOptions::from_str(url).map_err(|error| Error::InvalidUrl {
        detail: detail(&error),
    })?;
    Ok(options.application_name("sync-workflow"))
}

/// The reason without the URL, which may hold a password.
fn detail(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(reason) => reason.to_string(),
        _ => "not a postgres url".to_owned(),
    }
}
