//! Connections: what the engine sets on them, how long it waits, and when it gives one up.
//!
//! A connection whose answer did not come in time is closed and never used again.

use std::time::Duration;

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Postgres,
    pool::{PoolConnection, PoolOptions},
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::QueryAs,
};
use tokio::time::timeout;

use super::failure::{self, Effect, NoAnswer};
use crate::journal::{Error, Result};

/// A connection that lay idle for longer is asked whether it lives before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(5);

/// What the engine sets on its own sessions.
///
/// Its statements look rows up by key and never join tables as a whole. A plan that does anything
/// else is a mistake of the planner's, made when a table was empty. Plans are made once: a
/// commit of 500 runs is planned as fast as it is executed.
const SETTINGS: &str = "SET plan_cache_mode = force_generic_plan; SET jit = off; \
     SET enable_seqscan = off; SET enable_hashjoin = off; SET enable_mergejoin = off; \
     SET default_transaction_isolation = 'read committed'";

/// Opens a transaction for code that is not the engine's: with the planner as the server's operator
/// set it, and at the isolation level that the fence is made for.
pub(super) const BEGIN_FOREIGN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED; \
     SET LOCAL plan_cache_mode TO DEFAULT; SET LOCAL jit TO DEFAULT; \
     SET LOCAL enable_seqscan TO DEFAULT; SET LOCAL enable_hashjoin TO DEFAULT; \
     SET LOCAL enable_mergejoin TO DEFAULT; SET LOCAL statement_timeout TO DEFAULT";

/// How sessions of the journal are made.
#[derive(Debug, Clone)]
pub(super) struct Session {
    options: PgConnectOptions,
    deadline: Duration,
    settings: Option<String>,
}

impl Session {
    pub(super) fn new(options: PgConnectOptions, deadline: Duration, with_settings: bool) -> Self {
        let options = options.disable_statement_logging();
        let settings = with_settings.then(|| {
            let milliseconds = deadline.as_millis().max(1);
            // An idle transaction holds locks and keeps dead rows alive. A transactional step
            // runs user code between its statements, so it has longer than one statement.
            format!(
                "{SETTINGS}; SET statement_timeout = {milliseconds}; \
                 SET idle_in_transaction_session_timeout = {}",
                milliseconds.saturating_mul(4)
            )
        });
        Self {
            options,
            deadline,
            settings,
        }
    }

    pub(super) const fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) const fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    pub(super) async fn connect(&self) -> Result<PgConnection> {
        let connect = async {
            let mut connection = PgConnection::connect_with(&self.options).await?;
            prepare(&mut connection, self.settings.clone()).await?;
            Ok(connection)
        };
        match timeout(self.deadline, connect).await {
            Ok(connected) => connected.map_err(failure::of_connect),
            Err(_) => Err(Error::Unavailable(NoAnswer(self.deadline).into())),
        }
    }

    /// A pool of such sessions that connects when it is used.
    pub(super) fn pool(&self, max_connections: u32) -> PgPool {
        let settings = self.settings.clone();
        PoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(self.deadline)
            .test_before_acquire(false)
            .before_acquire(|connection: &mut PgConnection, meta| {
                Box::pin(async move {
                    if meta.idle_for > TRUSTED_IDLE {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .after_connect(move |connection, _| Box::pin(prepare(connection, settings.clone())))
            .connect_lazy_with(self.options.clone())
    }
}

async fn prepare(connection: &mut PgConnection, settings: Option<String>) -> sqlx::Result<()> {
    if let Some(settings) = settings {
        sqlx::raw_sql(sqlx::AssertSqlSafe(settings))
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// The connections that statements share.
#[derive(Debug, Clone)]
pub(super) struct Shared {
    pool: PgPool,
    deadline: Duration,
}

impl Shared {
    pub(super) const fn new(pool: PgPool, deadline: Duration) -> Self {
        Self { pool, deadline }
    }

    pub(super) const fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(super) const fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) async fn acquire(&self) -> Result<PoolConnection<Postgres>> {
        match timeout(self.deadline, self.pool.acquire()).await {
            Ok(connection) => connection.map_err(failure::of_connect),
            Err(_) => Err(Error::Unavailable(NoAnswer(self.deadline).into())),
        }
    }

    /// Runs one statement that is a transaction of its own.
    pub(super) async fn rows<Row>(
        &self,
        effect: Effect,
        query: QueryAs<'_, Postgres, Row, PgArguments>,
    ) -> Result<Vec<Row>>
    where
        Row: for<'r> sqlx::FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut connection = self.acquire().await?;
        let outcome = timeout(self.deadline, query.fetch_all(&mut *connection)).await;
        let Ok(rows) = outcome else {
            connection.close_on_drop();
            return Err(failure::lost(NoAnswer(self.deadline), effect));
        };
        rows.map_err(|error| {
            if failure::is_stale(&error) {
                connection.close_on_drop();
            }
            failure::of_statement(error, effect)
        })
    }

    /// As [`Self::rows`], for a statement that returns at most one row.
    pub(super) async fn row<Row>(
        &self,
        effect: Effect,
        query: QueryAs<'_, Postgres, Row, PgArguments>,
    ) -> Result<Option<Row>>
    where
        Row: for<'r> sqlx::FromRow<'r, PgRow> + Send + Unpin,
    {
        Ok(self.rows(effect, query).await?.into_iter().next())
    }
}
