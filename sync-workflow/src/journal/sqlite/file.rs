//! The database file: its connections, its one writer, and the neighbours in this process.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    pin::pin,
    str::FromStr,
    sync::{Arc, LazyLock, Mutex as Lock, Weak},
    time::Duration,
};

use futures_util::future::{Either, select};
use jiff::Timestamp;
use sqlx::{
    ConnectOptions, Connection, Sqlite, SqliteConnection, SqlitePool, Transaction,
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    error::{CannotOpen, TooOld, TurnTimedOut, commit_failed, failed},
    migration,
    value::{Micros, micros},
};
use crate::journal::{Error, Hint, Result, memory::bulletin::Bulletin};

/// How long a statement waits for a transaction of another process.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a transaction waits for its turn behind the others of this process. Longer than any
/// sane transactional step; a step that starts another transaction and waits for it ends here.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the journal of a heartbeat waits for its turn. A turn that does not come belongs to a
/// runtime that is stuck; the file's own lock then decides.
const HEARTBEAT_PATIENCE: Duration = Duration::from_millis(250);
/// Connections that read side by side, each with a thread of its own.
const READERS: u32 = 4;
/// Every statement in every size fits, so that each is prepared once.
const STATEMENTS: usize = 512;
/// Pages of the write-ahead log after which it is copied into the file: 32 MiB. Copying is what costs
/// most, and pages that many commits touch are copied once.
const CHECKPOINT_PAGES: &str = "8000";
/// The page cache of the writer: 8 MiB, in KiB and negative as SQLite wants it. The pages of a batch of
/// many runs fit.
const WRITER_CACHE: &str = "-8192";
/// How often a file that another process is creating at this moment is tried.
const OPEN_ATTEMPTS: u32 = 100;
/// How often the file is looked at for the commits of other processes, in milliseconds. The jitter
/// keeps processes from looking in step.
const WATCH_MILLIS: std::ops::Range<u64> = 50..100;
/// The oldest SQLite that cannot corrupt a database in WAL mode that has two connections.
const OLDEST_SQLITE: [u32; 3] = [3, 51, 3];

pub(super) struct File {
    writer: SqlitePool,
    reader: SqlitePool,
    neighbours: Arc<Neighbours>,
    watch: Mutex<Watch>,
    options: SqliteConnectOptions,
    patience: Patience,
    clock: Clock,
}

/// Where the time comes from.
pub(super) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What happens when the turn to write does not come.
#[derive(Debug, Clone, Copy)]
enum Patience {
    Refuse,
    GoOn,
}

/// What all journals on one file share within this process.
#[derive(Debug, Default)]
pub(super) struct Neighbours {
    /// The turn to write. SQLite has one writer; those of this process queue here, in order and
    /// without polling.
    turn: Arc<Mutex<()>>,
    pub(super) bulletin: Bulletin,
}

/// The last look at the file.
#[derive(Debug)]
struct Watch {
    version: Option<i64>,
    next_look: Instant,
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("neighbours", &self.neighbours)
            .finish_non_exhaustive()
    }
}

impl File {
    pub(super) async fn open(url: &str, clock: Clock) -> Result<Self> {
        let options = options(url)?;
        create(&options)
            .await
            .map_err(|error| cannot_open(&options, error))?;
        let file = Self::connect(options, Patience::Refuse, clock).await?;
        check_version(&file.writer).await?;
        migration::migrate(&file.writer).await?;
        Ok(file)
    }

    /// The same file through connections of their own, for a heartbeat.
    pub(super) async fn separate(&self) -> Result<Self> {
        Self::connect(
            self.options.clone(),
            Patience::GoOn,
            Arc::clone(&self.clock),
        )
        .await
    }

    async fn connect(
        options: SqliteConnectOptions,
        patience: Patience,
        clock: Clock,
    ) -> Result<Self> {
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            // A connection to a file does not break, and asking it is a hop to its thread.
            .test_before_acquire(false)
            // SQLite ends a transaction by itself on some errors, of which the driver knows nothing:
            // it would take the next one for a nested transaction. Such a connection is replaced.
            .before_acquire(|connection, _| {
                Box::pin(async move { Ok(!connection.is_in_transaction()) })
            })
            .connect_with(options.clone().pragma("cache_size", WRITER_CACHE))
            .await
            .map_err(|error| cannot_open(&options, error))?;
        let reader = SqlitePoolOptions::new()
            .max_connections(READERS)
            .test_before_acquire(false)
            .connect_lazy_with(options.clone().pragma("query_only", "ON"));
        let neighbours = neighbours(options.get_filename());
        let watch = Mutex::new(Watch {
            version: None,
            next_look: Instant::now(),
        });
        Ok(Self {
            writer,
            reader,
            neighbours,
            watch,
            options,
            patience,
            clock,
        })
    }

    /// The time. One file is on one machine, whose clock all its processes share.
    pub(super) fn now(&self) -> Micros {
        micros((self.clock)())
    }

    pub(super) fn bulletin(&self) -> &Bulletin {
        &self.neighbours.bulletin
    }

    pub(super) async fn read(&self) -> Result<PoolConnection<Sqlite>> {
        self.reader.acquire().await.map_err(failed)
    }

    /// Begins the next transaction that writes.
    pub(super) async fn write(
        &self,
    ) -> Result<(Transaction<'static, Sqlite>, OwnedMutexGuard<()>)> {
        let turn = self.turn().await?;
        let transaction = self
            .writer
            .begin_with("BEGIN IMMEDIATE")
            .await
            .map_err(failed)?;
        Ok((transaction, turn))
    }

    async fn turn(&self) -> Result<OwnedMutexGuard<()>> {
        let turn = Arc::clone(&self.neighbours.turn).lock_owned();
        match self.patience {
            Patience::Refuse => timeout(TURN_TIMEOUT, turn)
                .await
                .map_err(|_| Error::Contended(Box::new(TurnTimedOut))),
            Patience::GoOn => match timeout(HEARTBEAT_PATIENCE, turn).await {
                Ok(turn) => Ok(turn),
                Err(_) => Ok(Arc::new(Mutex::new(())).lock_owned().await),
            },
        }
    }

    /// The next hints, from neighbours at once and from other processes soon.
    pub(super) async fn hints(&self) -> Vec<Hint> {
        match select(pin!(self.neighbours.bulletin.read()), pin!(self.watch())).await {
            Either::Left((hints, _)) => hints,
            Either::Right((never, _)) => match never {},
        }
    }

    /// Looks at the file again and again, and tells the neighbours when another process has written.
    /// One caller at a time does it; the others wait for the bulletin.
    async fn watch(&self) -> std::convert::Infallible {
        let mut watch = self.watch.lock().await;
        loop {
            sleep_until(watch.next_look).await;
            watch.next_look = Instant::now() + Duration::from_millis(fastrand::u64(WATCH_MILLIS));
            let Ok(version) = self.data_version().await else {
                self.neighbours.bulletin.post([Hint::LookAgain]);
                continue;
            };
            let Some(version) = version else { continue };
            if watch
                .version
                .replace(version)
                .is_some_and(|seen| seen != version)
            {
                self.neighbours.bulletin.post([Hint::LookAgain]);
            }
        }
    }

    /// A number that changes when any connection but the writer's commits. Nothing while the writer
    /// is busy.
    async fn data_version(&self) -> Result<Option<i64>> {
        let Ok(_turn) = self.neighbours.turn.try_lock() else {
            return Ok(None);
        };
        sqlx::query_scalar("PRAGMA data_version")
            .fetch_one(&self.writer)
            .await
            .map(Some)
            .map_err(failed)
    }
}

/// Commits, and only then gives up the turn.
pub(super) async fn commit(
    transaction: Transaction<'static, Sqlite>,
    turn: OwnedMutexGuard<()>,
) -> Result<()> {
    transaction.commit().await.map_err(commit_failed)?;
    drop(turn);
    Ok(())
}

fn cannot_open(options: &SqliteConnectOptions, source: sqlx::Error) -> Error {
    Error::Refused(Box::new(CannotOpen {
        path: options.get_filename().to_path_buf(),
        source,
    }))
}

fn options(url: &str) -> Result<SqliteConnectOptions> {
    let options = SqliteConnectOptions::from_str(url).map_err(|error| Error::InvalidUrl {
        detail: error.to_string(),
    })?;
    let path = options.get_filename();
    if path.as_os_str().is_empty() || url.contains(":memory:") || url.contains("mode=memory") {
        return Err(Error::InvalidUrl {
            detail: "expected the path of a file; `memory:` is the journal in memory".into(),
        });
    }
    Ok(options
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .foreign_keys(false)
        .statement_cache_capacity(STATEMENTS)
        .disable_statement_logging())
}

/// Creates the file and turns it to WAL mode. SQLite does not wait for another process that does so
/// at the same moment, so it is tried again.
async fn create(options: &SqliteConnectOptions) -> sqlx::Result<()> {
    for _ in 1..OPEN_ATTEMPTS {
        match SqliteConnection::connect_with(options).await {
            Ok(connection) => return connection.close().await,
            Err(error) if is_busy(&error) => {
                sleep(Duration::from_millis(fastrand::u64(1..50))).await
            }
            Err(error) => return Err(error),
        }
    }
    SqliteConnection::connect_with(options).await?.close().await
}

fn is_busy(error: &sqlx::Error) -> bool {
    matches!(
        failed_kind(error),
        Some(libsqlite3_sys::SQLITE_BUSY | libsqlite3_sys::SQLITE_LOCKED)
    )
}

fn failed_kind(error: &sqlx::Error) -> Option<i32> {
    let code: i32 = error.as_database_error()?.code()?.parse().ok()?;
    Some(code & 0xff)
}

async fn check_version(pool: &SqlitePool) -> Result<()> {
    let found: String = sqlx::query_scalar("SELECT sqlite_version()")
        .fetch_one(pool)
        .await
        .map_err(failed)?;
    if parse_version(&found) < OLDEST_SQLITE {
        return Err(Error::Refused(Box::new(TooOld { found })));
    }
    Ok(())
}

fn parse_version(version: &str) -> [u32; 3] {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

/// Finds the neighbours on the same file in this process.
fn neighbours(path: &Path) -> Arc<Neighbours> {
    static FILES: LazyLock<Lock<HashMap<PathBuf, Weak<Neighbours>>>> = LazyLock::new(Lock::default);
    let path = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let mut files = FILES
        .lock()
        .expect("no code panics while it holds the registry");
    files.retain(|_, neighbours| neighbours.strong_count() > 0);
    if let Some(neighbours) = files.get(&path).and_then(Weak::upgrade) {
        return neighbours;
    }
    let neighbours = Arc::new(Neighbours::default());
    files.insert(path, Arc::downgrade(&neighbours));
    neighbours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        assert!(parse_version("3.51.3") >= OLDEST_SQLITE);
        assert!(parse_version("3.100.0") >= OLDEST_SQLITE);
        assert!(parse_version("3.51.2") < OLDEST_SQLITE);
        assert!(parse_version("3.9.99") < OLDEST_SQLITE);
    }

    #[test]
    fn a_database_without_a_file_is_no_journal() {
        for url in ["sqlite::memory:", "sqlite:", "sqlite:x?mode=memory"] {
            assert!(
                matches!(options(url), Err(Error::InvalidUrl { .. })),
                "{url}"
            );
        }
    }
}
