//! The transactions of transactional steps.

/// A transaction of the journal's own database, held by a transactional step.
///
/// Dropping it rolls it back.
pub enum OpenTransaction {
    /// A Postgres transaction.
    #[cfg(feature = "postgres")]
    Postgres(sqlx::Transaction<'static, sqlx::Postgres>),
    /// A SQLite transaction, begun as `BEGIN IMMEDIATE`; the second field is this process's place
    /// as the one writer, given up when the transaction ends.
    #[cfg(feature = "sqlite")]
    Sqlite(
        sqlx::Transaction<'static, sqlx::Sqlite>,
        tokio::sync::OwnedMutexGuard<()>,
    ),
    /// The memory journal has no SQL, but commits the step's record all the same.
    Memory,
}

impl OpenTransaction {
    /// Whether nobody else can write while it is open.
    #[cfg(feature = "runtime")]
    pub(crate) const fn is_the_only_writer(&self) -> bool {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => false,
            #[cfg(feature = "sqlite")]
            Self::Sqlite(..) => true,
            Self::Memory => false,
        }
    }
}

impl std::fmt::Debug for OpenTransaction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(_) => "OpenTransaction::Postgres",
            #[cfg(feature = "sqlite")]
            Self::Sqlite(..) => "OpenTransaction::Sqlite",
            Self::Memory => "OpenTransaction::Memory",
        })
    }
}

/// A caller's own transaction, lent to the engine to write in.
#[derive(Debug)]
pub enum StepTransaction<'a> {
    /// A connection inside a Postgres transaction.
    #[cfg(feature = "postgres")]
    Postgres(&'a mut sqlx::PgConnection),
    /// A connection inside a SQLite transaction.
    #[cfg(feature = "sqlite")]
    Sqlite(&'a mut sqlx::SqliteConnection),
    /// Keeps the lifetime in use when no database is compiled in.
    #[doc(hidden)]
    Never(
        std::convert::Infallible,
        std::marker::PhantomData<&'a mut ()>,
    ),
}

#[cfg(feature = "postgres")]
impl<'a> From<&'a mut sqlx::PgConnection> for StepTransaction<'a> {
    fn from(connection: &'a mut sqlx::PgConnection) -> Self {
        Self::Postgres(connection)
    }
}

#[cfg(feature = "sqlite")]
impl<'a> From<&'a mut sqlx::SqliteConnection> for StepTransaction<'a> {
    fn from(connection: &'a mut sqlx::SqliteConnection) -> Self {
        Self::Sqlite(connection)
    }
}
