//! Lanes: connections that serve one purpose each.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use sqlx::{
    Connection, PgConnection, Postgres,
    postgres::{PgArguments, PgRow},
    query::QueryAs,
};
use tokio::time::timeout;

use super::{
    connection::Session,
    failure::{self, Effect, NoAnswer},
};
use crate::journal::Result;

/// A connection that lay idle for longer is asked whether it lives before it is used.
const TRUSTED_IDLE: Duration = Duration::from_secs(2);

/// A few connections for one purpose, kept open between uses.
///
/// One is taken out while a statement runs and put back when the answer is complete. So a caller
/// that goes away in between closes it, and a caller who finds none opens another.
/// They live on the runtime that used them first: a heartbeat from a thread of its own has its own
/// connection there, which no activity can starve.
#[derive(Debug)]
pub(super) struct Lane {
    session: Session,
    /// How many are kept open.
    width: usize,
    idle: Mutex<Vec<Idle>>,
}

#[derive(Debug)]
struct Idle {
    connection: PgConnection,
    since: Instant,
}

/// How a statement on a lane failed.
#[derive(Debug)]
pub(super) enum LaneError {
    /// Before it was sent, or without an answer.
    Journal(crate::journal::Error),
    /// With this answer.
    Answer(sqlx::Error),
}

impl LaneError {
    /// The error of a statement with this effect.
    pub(super) fn with(self, effect: Effect) -> crate::journal::Error {
        match self {
            Self::Journal(error) => error,
            Self::Answer(error) => failure::of_statement(error, effect),
        }
    }
}

impl Lane {
    pub(super) const fn new(session: Session, width: usize) -> Self {
        Self {
            session,
            width,
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Opens the connection on the calling runtime, before it is needed.
    pub(super) async fn warm(&self) -> Result<()> {
        let connection = self.take().await?;
        self.keep(connection);
        Ok(())
    }

    /// Runs one statement that is a transaction of its own.
    pub(super) async fn rows<Row>(
        &self,
        effect: Effect,
        query: QueryAs<'_, Postgres, Row, PgArguments>,
    ) -> Result<Vec<Row>, LaneError>
    where
        Row: for<'r> sqlx::FromRow<'r, PgRow> + Send + Unpin,
    {
        let mut connection = self.take().await.map_err(LaneError::Journal)?;
        let deadline = self.session.deadline();
        let fetch = self.session.opening().fetch(&mut connection, query);
        let Ok(answer) = timeout(deadline, fetch).await else {
            return Err(LaneError::Journal(failure::lost(
                NoAnswer(deadline),
                effect,
            )));
        };
        match answer {
            Ok(rows) => {
                self.keep(connection);
                Ok(rows)
            }
            Err(error) => {
                if !failure::is_stale(&error) {
                    self.keep(connection);
                }
                Err(LaneError::Answer(error))
            }
        }
    }

    async fn take(&self) -> Result<PgConnection> {
        let idle = self.slot().pop();
        if let Some(mut idle) = idle {
            if idle.since.elapsed() < TRUSTED_IDLE {
                return Ok(idle.connection);
            }
            let alive = timeout(self.session.deadline(), idle.connection.ping()).await;
            if matches!(alive, Ok(Ok(()))) {
                return Ok(idle.connection);
            }
        }
        self.session.connect().await
    }

    /// Keeps an open connection for the next use, or closes it if there are enough.
    pub(super) fn keep(&self, connection: PgConnection) {
        let mut idle = self.slot();
        if idle.len() < self.width {
            idle.push(Idle {
                connection,
                since: Instant::now(),
            });
        }
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Vec<Idle>> {
        // The slot is whole at every instant, whoever panicked.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
