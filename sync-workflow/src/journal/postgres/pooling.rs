//! Poolers in transaction mode, behind which each transaction may reach another session.
//!
//! ```text
//!   no pooler           a statement is prepared once per connection        1 round trip
//!   pooler, prepares    the same: the pooler brings the statement along    1 round trip
//!   pooler, plain       BEGIN, parse, execute, COMMIT                      4 round trips
//! ```
//!
//! A plain pooler (PgBouncer before 1.21, or with `max_prepared_statements = 0`) hands one client's
//! prepared statements to the next one. There every statement runs in a transaction, which begins by
//! forgetting them.

use std::{
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    AssertSqlSafe, Connection, FromRow, PgConnection, Postgres, Row as _, Transaction,
    pool::PoolConnection,
    postgres::{PgArguments, PgRow},
    query::QueryAs,
};

/// What the engine sets for its own statements.
///
/// They look rows up by key and never join tables as a whole. A plan that does anything else is a
/// mistake of the planner's, made when a table was empty. Plans are made once: a commit of 500 runs
/// is planned as fast as it is executed.
const SETTINGS: [(&str, &str); 5] = [
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
];

/// What stands between the engine and the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pooling {
    /// Nothing: a connection is a session.
    None,
    /// A pooler that brings prepared statements along.
    Prepares,
    /// A pooler that knows nothing of prepared statements.
    Plain,
}

/// The words with which sessions and transactions begin.
#[derive(Debug, Clone)]
pub(super) struct Opening {
    pooling: Pooling,
    session: Option<Arc<str>>,
    unit: Arc<str>,
    foreign: Arc<str>,
}

impl Opening {
    pub(super) fn new(pooling: Pooling, deadline: Duration) -> Self {
        let milliseconds = deadline.as_millis().max(1);
        // An idle transaction holds locks and keeps dead rows alive. A transactional step runs user
        // code between its statements, so it has longer than one statement.
        let limits = [
            ("statement_timeout", milliseconds),
            (
                "idle_in_transaction_session_timeout",
                milliseconds.saturating_mul(4),
            ),
        ]
        .map(|(name, value)| (name, value.to_string()));
        let all = || {
            let settings = SETTINGS.map(|(name, value)| (name, value.to_owned()));
            settings.into_iter().chain(limits.clone())
        };
        let forget = match pooling {
            Pooling::None | Pooling::Prepares => "",
            Pooling::Plain => "; DEALLOCATE ALL",
        };
        let session = (pooling == Pooling::None).then(|| {
            let settings = all().map(|(name, value)| format!("SET {name} = {value}; "));
            settings.collect::<String>() + "SET default_transaction_isolation = 'read committed'"
        });
        let unit = match pooling {
            // The application's own pool may have another level.
            Pooling::None => BEGIN.to_owned(),
            Pooling::Prepares | Pooling::Plain => {
                let settings = all().map(|(name, value)| format!("; SET LOCAL {name} = {value}"));
                format!("{BEGIN}{forget}{}", settings.collect::<String>())
            }
        };
        // With the planner as the server's operator set it.
        let defaults = SETTINGS.map(|(name, _)| format!("; SET LOCAL {name} TO DEFAULT"));
        let defaults = defaults.concat();
        let foreign = format!("{BEGIN}{forget}{defaults}; SET LOCAL statement_timeout TO DEFAULT");
        Self {
            pooling,
            session: session.map(Into::into),
            unit: unit.into(),
            foreign: foreign.into(),
        }
    }

    /// What is set on a new session.
    pub(super) fn session(&self) -> Option<Arc<str>> {
        self.session.clone()
    }

    /// How a transaction of the engine's own begins.
    pub(super) fn unit(&self) -> AssertSqlSafe<String> {
        AssertSqlSafe(self.unit.to_string())
    }

    /// How a transaction for code that is not the engine's begins.
    pub(super) fn foreign(&self) -> AssertSqlSafe<String> {
        AssertSqlSafe(self.foreign.to_string())
    }

    /// Whether a statement outside a transaction reaches the session that it was prepared on.
    pub(super) fn keeps_statements(&self) -> bool {
        self.pooling != Pooling::Plain
    }

    /// Whether notifications reach a connection.
    pub(super) fn hears(&self) -> bool {
        self.pooling == Pooling::None
    }

    /// Runs one statement that is a transaction of its own.
    pub(super) async fn fetch<Row>(
        &self,
        connection: &mut PgConnection,
        query: QueryAs<'_, Postgres, Row, PgArguments>,
    ) -> sqlx::Result<Vec<Row>>
    where
        Row: for<'r> FromRow<'r, PgRow> + Send + Unpin,
    {
        if self.keeps_statements() {
            return query.fetch_all(connection).await;
        }
        let mut transaction = connection.begin_with(self.unit()).await?;
        let rows = query.fetch_all(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(rows)
    }
}

/// Every fence and every look after a lock is made for this level.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED";

/// Finds out what the pooler on this connection does with prepared statements: one that brings them
/// along gives them names of its own, and a plain one leaves the driver's.
pub(super) async fn detect(connection: &mut PgConnection) -> sqlx::Result<Pooling> {
    match uses_names_of_its_own(connection).await {
        Ok(true) => Ok(Pooling::Prepares),
        Ok(false) => Ok(Pooling::Plain),
        Err(error) if met_a_strange_statement(&error) => Ok(Pooling::Plain),
        Err(error) => Err(error),
    }
}

async fn uses_names_of_its_own(connection: &mut PgConnection) -> sqlx::Result<bool> {
    let mut transaction = connection.begin().await?;
    sqlx::query("SELECT $1::integer")
        .bind(1)
        .execute(&mut *transaction)
        .await?;
    let drivers =
        sqlx::raw_sql(r"SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'sqlx\_s\_%'")
            .fetch_one(&mut *transaction)
            .await?
            .try_get::<i64, _>(0)?;
    transaction.rollback().await?;
    Ok(drivers == 0)
}

/// Whether a name was taken by another client's statement, or its statement was forgotten.
fn met_a_strange_statement(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|answer| answer.code());
    matches!(code.as_deref(), Some("42P05" | "26000"))
}

/// A shared connection, and how its transactions begin.
#[derive(Debug)]
pub(super) struct Seat {
    connection: PoolConnection<Postgres>,
    opening: Opening,
}

impl Seat {
    pub(super) const fn new(connection: PoolConnection<Postgres>, opening: Opening) -> Self {
        Self {
            connection,
            opening,
        }
    }

    pub(super) async fn begin(&mut self) -> sqlx::Result<Transaction<'_, Postgres>> {
        self.connection.begin_with(self.opening.unit()).await
    }

    pub(super) fn close_on_drop(&mut self) {
        self.connection.close_on_drop();
    }
}

/// A shared connection that may have to be closed, rather than given back, when it is dropped.
#[derive(Debug)]
pub(super) struct Watched {
    connection: PoolConnection<Postgres>,
    closes: bool,
}

impl Watched {
    pub(super) const fn new(connection: PoolConnection<Postgres>, closes: bool) -> Self {
        Self { connection, closes }
    }

    pub(super) const fn closes(&mut self, closes: bool) {
        self.closes = closes;
    }
}

impl Deref for Watched {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for Watched {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if self.closes {
            self.connection.close_on_drop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(2);

    #[test]
    fn only_a_session_of_our_own_is_changed() {
        let session = |pooling| Opening::new(pooling, DEADLINE).session();
        let ours = session(Pooling::None).expect("settings");
        assert!(ours.contains("SET jit = off; ") && ours.contains("statement_timeout = 2000"));
        assert_eq!(session(Pooling::Prepares), None);
        assert_eq!(session(Pooling::Plain), None);
    }

    #[test]
    fn only_behind_a_plain_pooler_statements_are_forgotten() {
        for (pooling, forgets) in [
            (Pooling::None, false),
            (Pooling::Prepares, false),
            (Pooling::Plain, true),
        ] {
            let opening = Opening::new(pooling, DEADLINE);
            for words in [opening.unit(), opening.foreign()] {
                assert_eq!(words.0.contains("DEALLOCATE ALL"), forgets, "{pooling:?}");
            }
        }
    }
}
