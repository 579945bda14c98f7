//! PgBouncer in transaction mode between the engine and its database.

use std::{
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use sync_workflow::{Client, Context, Failure, Tx, Worker, worker::WorkerBuilder};

use super::*;
use crate::engine::quick;

/// Fewer sessions than clients, so that every client changes between them.
const SESSIONS: u32 = 3;

/// A PgBouncer in front of one database, stopped at the end of its test.
struct PgBouncer {
    process: Child,
    url: String,
    _directory: tempfile::TempDir,
}

impl PgBouncer {
    /// `None`, with a line that says so, where PgBouncer is not installed.
    async fn before(database: &Database) -> Option<Self> {
        let Some(program) = installed() else {
            eprintln!("skipped: pgbouncer is not installed");
            return None;
        };
        // Somebody else may take the port before PgBouncer does.
        for _ in 0..5 {
            if let Some(pooler) = Self::start(&program, database).await {
                return Some(pooler);
            }
        }
        panic!("pgbouncer does not start");
    }

    async fn start(program: &std::path::Path, database: &Database) -> Option<Self> {
        let server = url::Url::parse(database.url()).unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let directory = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).unwrap();
        let file = directory.path().join("pgbouncer.ini");
        let mut ini = std::fs::File::create(&file).unwrap();
        write!(
            ini,
            "[databases]\n\
             {} = host={} port={} user={} password={}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir =\n\
             auth_type = any\n\
             pool_mode = transaction\n\
             default_pool_size = {SESSIONS}\n",
            database.name(),
            server.host_str().unwrap(),
            server.port().unwrap_or(5432),
            server.username(),
            server.password().unwrap_or_default(),
        )
        .unwrap();
        let mut command = Command::new(program);
        command
            .arg("-q")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        if let Some(user) = unprivileged() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        let mut url = server.clone();
        url.set_host(Some("127.0.0.1")).unwrap();
        url.set_port(Some(port)).unwrap();
        let mut pooler = Self {
            process: command.spawn().unwrap(),
            url: url.into(),
            _directory: directory,
        };
        let listens = async {
            loop {
                if tokio::net::TcpStream::connect(("127.0.0.1", port))
                    .await
                    .is_ok()
                {
                    return true;
                }
                if pooler.process.try_wait().unwrap().is_some() {
                    return false;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let is_up = tokio::time::timeout(Duration::from_secs(30), listens).await;
        is_up.unwrap_or_default().then_some(pooler)
    }

    async fn journal(&self, listen_url: Option<&str>) -> Arc<PostgresJournal> {
        let builder = PostgresJournal::builder(&self.url).transaction_pooler(true);
        let builder = match listen_url {
            Some(url) => builder.listen_url(url),
            None => builder,
        };
        Arc::new(builder.open().await.unwrap())
    }
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

fn installed() -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/sbin".into()])
        .map(|directory| directory.join("pgbouncer"))
        .find(|program| program.is_file())
}

/// PgBouncer refuses to run as root.
fn unprivileged() -> Option<nix::unistd::User> {
    if !nix::unistd::geteuid().is_root() {
        return None;
    }
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| nix::unistd::User::from_name(name).ok().flatten())
}

async fn double(n: u32) -> Result<u32, Failure> {
    Ok(n * 2)
}

/// Everything that takes a statement of its own.
async fn busy(ctx: Context, n: u32) -> Result<u32, Failure> {
    let doubled = ctx.activity(double, n).await?;
    let counted: i64 = ctx
        .transaction("count", async move |mut tx: Tx| {
            let sql = "insert into tally values ($1)";
            sqlx::query(sql)
                .bind(i64::from(n))
                .execute(tx.postgres()?)
                .await?;
            let sql = "select count(*) from tally where number = $1";
            let count: i64 = sqlx::query_scalar(sql)
                .bind(i64::from(n))
                .fetch_one(tx.postgres()?)
                .await?;
            Ok::<_, Failure>(count)
        })
        .await?;
    ctx.sleep(Duration::from_millis(1)).await?;
    let heard: u32 = ctx.wait("number").await?;
    let child = ctx.child(single, heard).await?;
    Ok(doubled + u32::try_from(counted)? + child)
}

async fn single(ctx: Context, n: u32) -> Result<u32, Failure> {
    Ok(ctx.activity(double, n).await?)
}

fn builder() -> WorkerBuilder {
    quick()
        .lease(Duration::from_secs(10))
        .workflow(busy)
        .workflow(single)
        .activity(double)
}

/// Many runs on two workers and a client, all through the pooler.
async fn runs_share_the_sessions(
    database: &Database,
    workers: [Arc<PostgresJournal>; 2],
    client: &Client,
) {
    const RUNS: u32 = 24;
    database
        .psql("create table tally (number bigint not null)")
        .unwrap();
    let mut running: Vec<Worker> = Vec::new();
    for journal in workers {
        running.push(builder().start_on(journal).await.unwrap());
    }
    let mut handles = Vec::new();
    for n in 0..RUNS {
        let id = format!("busy-{n}");
        handles.push(client.start(busy, &id, n).await.unwrap());
        client.signal(&id, "number", &100_u32).await.unwrap();
    }
    for (n, handle) in (0..RUNS).zip(&handles) {
        assert_eq!(handle.result().await.unwrap(), 2 * n + 1 + 200);
    }
    let tally = database.psql("select count(*) from tally").unwrap();
    assert_eq!(tally.trim(), RUNS.to_string());
    let sessions = database
        .psql("select count(*) from pg_stat_activity where datname = current_database() and application_name = 'sync-workflow' and query not like 'LISTEN%'")
        .unwrap();
    let sessions: u32 = sessions.trim().parse().unwrap();
    assert!(sessions <= SESSIONS, "{sessions} sessions");
    for worker in running {
        worker.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_and_clients_work_through_a_pooler_and_listen_beside_it() {
    let database = Database::create().unwrap();
    let Some(pooler) = PgBouncer::before(&database).await else {
        return;
    };
    let direct = Some(database.url());
    let workers = [pooler.journal(direct).await, pooler.journal(direct).await];
    let client = Client::new(pooler.journal(direct).await);
    runs_share_the_sessions(&database, workers, &client).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_and_clients_work_through_a_pooler_by_polling_alone() {
    let database = Database::create().unwrap();
    let Some(pooler) = PgBouncer::before(&database).await else {
        return;
    };
    let workers = [pooler.journal(None).await, pooler.journal(None).await];
    let client = Client::new(pooler.journal(None).await);
    runs_share_the_sessions(&database, workers, &client).await;
    let listening = database
        .psql("select count(*) from pg_stat_activity where datname = current_database() and query ilike 'LISTEN%'")
        .unwrap();
    assert_eq!(listening.trim(), "0", "a session of the pooler listens");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_that_go_away_leave_no_session_of_a_pooler_inside_a_transaction() {
    let database = Database::create().unwrap();
    let Some(pooler) = PgBouncer::before(&database).await else {
        return;
    };
    let journal = pooler.journal(None).await;
    for polls in 0..24 {
        let lost = NewRun {
            placement: Placement::Anywhere,
            ..new_run(&format!("lost {polls}"))
        };
        connections::poll_and_drop(journal.start(&lost), polls).await;
        let new = NewRun {
            placement: Placement::Anywhere,
            ..new_run(&format!("after {polls}"))
        };
        journal.start(&new).await.unwrap();
        let found = database
            .psql(&format!(
                "select count(*) from sync_workflow.runs where run_id = '{}'",
                new.run
            ))
            .unwrap();
        assert_eq!(found.trim(), "1", "acknowledged and not there");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_application_s_own_transaction_may_be_on_the_pooler() {
    let database = Database::create().unwrap();
    let Some(pooler) = PgBouncer::before(&database).await else {
        return;
    };
    let (first, second) = (pooler.journal(None).await, pooler.journal(None).await);
    for number in 0..8 {
        for journal in [&first, &second] {
            let new = NewRun {
                placement: Placement::Anywhere,
                ..new_run(&format!("own {number}"))
            };
            let mut transaction = journal.pool().begin().await.unwrap();
            journal
                .start_in((&mut *transaction).into(), &new)
                .await
                .unwrap();
            transaction.commit().await.unwrap();
        }
    }
    let found = database
        .psql("select count(*) from sync_workflow.runs")
        .unwrap();
    assert_eq!(found.trim(), "8");
}
