//! Connections: what the engine sets on them, how long it waits, and when it gives one up.
//!
//! A connection whose answer did not come in time is closed and never used again.

use std::{sync::Arc, time::Duration};

use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool, Postgres,
    pool::{PoolConnection, PoolOptions},
    postgres::{PgArguments, PgConnectOptions, PgRow},
    query::QueryAs,
};
use tokio::time::timeout;

use super::{
    failure::{self, Effect, NoAnswer},
    pooling::{self, Opening, Pooling, Watched},
    trust::Trust,
};
use crate::{
    journal::{Error, Result},
    telemetry::PoolMeter,
};

/// A connection that lay idle for longer is asked whether it lives before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(5);

/// How sessions of the journal are made.
#[derive(Debug, Clone)]
pub(super) struct Session {
    options: PgConnectOptions,
    deadline: Duration,
    opening: Opening,
}

impl Session {
    pub(super) fn new(options: PgConnectOptions, deadline: Duration, pooling: Pooling) -> Self {
        let options = options.disable_statement_logging();
        let options = match pooling {
            Pooling::None => options,
            // A pooler knows few of the parameters that a connection can begin with.
            Pooling::Prepares => options.extra_float_digits(None),
            // And what is prepared in one transaction is gone in the next.
            Pooling::Plain => options.extra_float_digits(None).statement_cache_capacity(0),
        };
        Self {
            options,
            deadline,
            opening: Opening::new(pooling, deadline),
        }
    }

    /// Sessions behind a pooler, which is asked what it does with prepared statements.
    pub(super) async fn behind_pooler(
        options: PgConnectOptions,
        deadline: Duration,
    ) -> Result<Self> {
        let asking = Self::new(options.clone(), deadline, Pooling::Plain);
        let mut connection = asking.connect().await?;
        match timeout(deadline, pooling::detect(&mut connection)).await {
            Ok(Ok(pooling)) => Ok(Self::new(options, deadline, pooling)),
            Ok(Err(error)) => Err(failure::of_statement(error, Effect::None)),
            Err(_) => Err(Error::Unavailable(NoAnswer(deadline).into())),
        }
    }

    pub(super) const fn opening(&self) -> &Opening {
        &self.opening
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
            prepare(&mut connection, self.opening.session()).await?;
            Ok(connection)
        };
        match timeout(self.deadline, connect).await {
            Ok(connected) => connected.map_err(failure::of_connect),
            Err(_) => Err(Error::Unavailable(NoAnswer(self.deadline).into())),
        }
    }

    /// A pool of such sessions, by its name among the metrics, that connects when it is used, of those connections that are trusted.
    pub(super) fn pool(&self, name: &'static str, max_connections: u32) -> Shared {
        let settings = self.opening.session();
        let trust = Trust::default();
        let (before, after) = (trust.clone(), trust.clone());
        let pool = PoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(self.deadline)
            .test_before_acquire(false)
            .before_acquire(move |connection: &mut PgConnection, meta| {
                let is_trusted = before.covers(meta.age);
                Box::pin(async move {
                    if is_trusted && meta.idle_for > TRUSTED_IDLE {
                        connection.ping().await?;
                    }
                    Ok(is_trusted)
                })
            })
            .after_release(move |_, meta| {
                let is_trusted = after.covers(meta.age);
                Box::pin(async move { Ok(is_trusted) })
            })
            .after_connect(move |connection, _| Box::pin(prepare(connection, settings.clone())))
            .connect_lazy_with(self.options.clone());
        Shared {
            pool,
            deadline: self.deadline,
            opening: self.opening.clone(),
            trust: Some(trust),
            meter: PoolMeter::new(name),
        }
    }

    /// A pool of the application's, whose connections are used as they are.
    pub(super) fn share(&self, pool: PgPool) -> Shared {
        Shared {
            pool,
            deadline: self.deadline,
            opening: self.opening.clone(),
            trust: None,
            meter: PoolMeter::new("steps"),
        }
    }
}

async fn prepare(connection: &mut PgConnection, settings: Option<Arc<str>>) -> sqlx::Result<()> {
    if let Some(settings) = settings {
        sqlx::raw_sql(sqlx::AssertSqlSafe(settings.to_string()))
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
    opening: Opening,
    /// Absent for the application's own pool, whose connections only the application replaces.
    trust: Option<Trust>,
    meter: PoolMeter,
}

impl Shared {
    pub(super) const fn pool(&self) -> &PgPool {
        &self.pool
    }

    pub(super) const fn deadline(&self) -> Duration {
        self.deadline
    }

    pub(super) const fn opening(&self) -> &Opening {
        &self.opening
    }

    pub(super) const fn meter(&self) -> &PoolMeter {
        &self.meter
    }

    /// Replaces every connection that exists, because an answer did not come. `false` where the
    /// connections are not the engine's to replace.
    pub(super) fn withdraw_trust(&self) -> bool {
        self.trust.as_ref().map(Trust::withdraw).is_some()
    }

    pub(super) async fn acquire(&self) -> Result<PoolConnection<Postgres>> {
        let acquire = timeout(self.deadline, self.pool.acquire());
        match self.meter.measure(acquire).await {
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
        let connection = self.acquire().await?;
        // Behind a plain pooler, a caller that goes away may leave it inside a transaction.
        let mut watched = Watched::new(connection, !self.opening.keeps_statements());
        let answer = timeout(self.deadline, self.opening.fetch(&mut watched, query)).await;
        let Ok(rows) = answer else {
            watched.closes(true);
            self.withdraw_trust();
            return Err(failure::lost(NoAnswer(self.deadline), effect));
        };
        watched.closes(rows.as_ref().is_err_and(failure::is_stale));
        rows.map_err(|error| failure::of_statement(error, effect))
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
