//! Postgres: connecting, tables, and the one statement that writes a page.

mod tables;
mod value;
mod write;

use std::{str::FromStr, time::Duration};

use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::Error;

pub(super) use self::{
    tables::create,
    write::{WriteStatements, write},
};

/// Connections at most: an entity writes on one.
const CONNECTIONS: u32 = 8;
/// A connection that has rested for longer may have died in between.
const RESTED: Duration = Duration::from_secs(5);
/// No statement of a sync takes longer, and no transaction of one idles longer, unless something is wrong.
const SESSION: &str = "set statement_timeout = '120s'; set lock_timeout = '30s'; \
set idle_in_transaction_session_timeout = '120s'; set client_min_messages = 'error'";

pub(super) async fn connect(url: &str) -> Result<PgPool, Error> {
    let options = PgConnectOptions::from_str(url).map_err(Error::InvalidUrl)?;
    let options = options.application_name("main-sync");
    let pool = PgPoolOptions::new()
        .max_connections(CONNECTIONS)
        .acquire_timeout(Duration::from_secs(10))
        .after_connect(|connection, _| {
            Box::pin(async move { sqlx::raw_sql(SESSION).execute(connection).await.map(drop) })
        })
        // Asking each time whether the connection lives costs a round trip; after a pause it is worth one.
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > RESTED {
                    sqlx::Connection::ping(connection).await?;
                }
                Ok(true)
            })
        })
        .connect_lazy_with(options.clone());
    // Once without the pool, which would try again for as long as it waits, and then say only that.
    let first = sqlx::ConnectOptions::connect(&options);
    match tokio::time::timeout(Duration::from_secs(10), first).await {
        Ok(Ok(connection)) => sqlx::Connection::close(connection)
            .await
            .map_err(Error::from)?,
        Ok(Err(error)) => return Err(refusal(&options, error)),
        Err(_) => {
            let place = place(&options);
            return Err(Error::Unreachable {
                place,
                source: sqlx::Error::PoolTimedOut,
            });
        }
    }
    Ok(pool)
}

fn refusal(options: &PgConnectOptions, error: sqlx::Error) -> Error {
    let place = place(options);
    let code = error
        .as_database_error()
        .and_then(|database| database.code());
    match code.as_deref() {
        Some("28P01" | "28000") => Error::Refused {
            place,
            source: error,
        },
        Some("3D000") => {
            let database = options.get_database().unwrap_or_default().to_owned();
            Error::NoDatabase { place, database }
        }
        Some(_) => Error::from(error),
        None => Error::Unreachable {
            place,
            source: error,
        },
    }
}

fn place(options: &PgConnectOptions) -> String {
    format!("{}:{}", options.get_host(), options.get_port())
}
