//! Failover: a primary that is gone, and a synchronous standby that takes its place.

use std::{
    net::TcpListener,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Pid, User, geteuid},
};
use tempfile::TempDir;
use throwaway_postgres::{Cluster, Psql};

use super::{Fault, Field, Proof, Skipped, Strike, now};
use crate::{proxy::Proxy, store::Store, victim::Settings};

/// Stops the primary and promotes the standby, again and again.
struct Failover {
    primary: Option<Primary>,
    standby: Option<Standby>,
    /// Until the field takes it.
    proxy: Option<Proxy>,
    password: String,
}

pub(super) fn make() -> Result<Box<dyn Fault>, Skipped> {
    program("pg_basebackup").map_err(|error| Skipped(format!("{error:#}")))?;
    Ok(Box::new(Failover {
        primary: None,
        standby: None,
        proxy: None,
        password: String::new(),
    }))
}

/// The server that takes writes: the first one is a cluster, those after it were standbys.
enum Primary {
    First(Arc<Cluster>),
    Promoted(Standby),
}

/// A server that follows, or followed, another one.
struct Standby {
    process: std::process::Child,
    port: u16,
    _directory: TempDir,
}

/// How long a server may take to do what it is told.
const DONE_WITHIN: Duration = Duration::from_secs(60);

#[async_trait]
impl Fault for Failover {
    fn settings(&self) -> Settings {
        Settings {
            lease: 3_000,
            ..Settings::default()
        }
    }

    async fn store(&mut self, _directory: &Path) -> anyhow::Result<Option<Store>> {
        let first = Arc::new(Cluster::builder().fsync(false).start()?);
        let url = first.url().to_owned();
        self.password = password(&url)?;
        let proxy = Proxy::start(first.port(), Duration::ZERO).await?;
        let through = proxy.url(&url)?;
        self.primary = Some(Primary::First(first));
        self.proxy = Some(proxy);
        let store = Store::postgres_elsewhere(&through).await?;
        self.follow().await?;
        Ok(Some(store))
    }

    async fn proxy(&mut self, _store: &Store) -> anyhow::Result<Option<Proxy>> {
        Ok(self.proxy.take())
    }

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Vec<Strike>> {
        field.wait_up_to(Duration::from_millis(2_000)).await;
        let primary = self.primary.take().context("there is no primary")?;
        let standby = self.standby.take().context("there is no standby")?;
        let at = now();
        tokio::task::spawn_blocking(move || primary.end()).await??;
        let url = self.url(standby.port);
        field.proxy()?.redirect(standby.port);
        tokio::task::spawn_blocking(move || promote(&url)).await??;
        self.primary = Some(Primary::Promoted(standby));
        self.follow().await?;
        Ok(vec![Strike::at_all(at, Proof::Seen)])
    }
}

impl Failover {
    fn url(&self, port: u16) -> String {
        format!(
            "postgres://postgres:{}@127.0.0.1:{port}/postgres",
            self.password
        )
    }

    /// Makes a standby of the primary, and makes commits wait for it.
    async fn follow(&mut self) -> anyhow::Result<()> {
        let port = match &self.primary {
            Some(Primary::First(cluster)) => cluster.port(),
            Some(Primary::Promoted(server)) => server.port,
            None => anyhow::bail!("there is no primary"),
        };
        let url = self.url(port);
        let standby = tokio::task::spawn_blocking(move || {
            let standby = Standby::of(&url)?;
            let psql = Psql::new(&url)?;
            until(|| {
                psql.query("select count(*) from pg_stat_replication where state = 'streaming'")
                    .is_ok_and(|count| count == "1")
            })?;
            psql.query("alter system set synchronous_standby_names = '*'")?;
            psql.query("select pg_reload_conf()")?;
            until(|| {
                psql.query("select count(*) from pg_stat_replication where sync_state = 'sync'")
                    .is_ok_and(|count| count == "1")
            })?;
            anyhow::Ok(standby)
        });
        self.standby = Some(standby.await??);
        Ok(())
    }
}

impl Primary {
    fn end(self) -> anyhow::Result<()> {
        match self {
            Self::First(cluster) => cluster.stop_immediate()?,
            // Ended when dropped.
            Self::Promoted(_) => {}
        }
        Ok(())
    }
}

impl Standby {
    fn of(primary: &str) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("torture-standby-")
            .tempdir_in("/tmp")?;
        if let Some((uid, gid)) = account()? {
            chown(directory.path(), Some(uid), Some(gid))?;
        }
        let data = directory.path().join("data");
        let mut backup = command(&program("pg_basebackup")?, directory.path())?;
        backup.args([
            "--write-recovery-conf",
            "--checkpoint=fast",
            "--wal-method=stream",
        ]);
        backup
            .arg("--pgdata")
            .arg(&data)
            .args(["--dbname", primary]);
        let status = backup.status().context("pg_basebackup")?;
        ensure!(status.success(), "pg_basebackup ended with {status}");
        let port = free_port()?;
        let mut server = command(&program("postgres")?, directory.path())?;
        server
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string(), "-k", ""]);
        server.args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"]);
        // A standby must allow as many connections as its primary.
        server.args(["-c", "max_connections=300"]);
        Ok(Self {
            process: server.spawn().context("postgres")?,
            port,
            _directory: directory,
        })
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.process.id().cast_signed());
        // One that has ended needs no signal.
        let _ = kill(pid, Signal::SIGQUIT);
        let _ = self.process.wait();
    }
}

/// A program of the installation that clusters run: beside the server, wherever a link led to it.
fn program(name: &str) -> anyhow::Result<PathBuf> {
    let directory = throwaway_postgres::installed()?;
    let server = directory.join("postgres").canonicalize()?;
    let beside = server.parent().map(|directory| directory.join(name));
    [Some(directory.join(name)), beside]
        .into_iter()
        .flatten()
        .find(|path| path.exists())
        .with_context(|| format!("{name} is not beside the server"))
}

fn promote(url: &str) -> anyhow::Result<()> {
    let psql = Psql::new(url)?;
    until(|| {
        psql.query("select pg_promote(true, 60)")
            .is_ok_and(|done| done == "t")
    })
}

fn until(mut holds: impl FnMut() -> bool) -> anyhow::Result<()> {
    let deadline = Instant::now() + DONE_WITHIN;
    while !holds() {
        ensure!(
            Instant::now() < deadline,
            "a server does not do what it is told"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// A program as the account that servers run as.
fn command(program: &PathBuf, directory: &Path) -> anyhow::Result<Command> {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(program);
    command
        .env("LC_ALL", "C")
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some((uid, gid)) = account()? {
        command.uid(uid).gid(gid);
    }
    Ok(command)
}

/// The account of the server's processes where it is not the caller's: servers refuse root.
fn account() -> anyhow::Result<Option<(u32, u32)>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let user = ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| User::from_name(name).ok().flatten());
    let user = user.context("there is no user but root")?;
    Ok(Some((user.uid.as_raw(), user.gid.as_raw())))
}

fn free_port() -> anyhow::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn password(url: &str) -> anyhow::Result<String> {
    let (before, _) = url.split_once('@').context("the url has no host")?;
    let (_, password) = before.rsplit_once(':').context("the url has no password")?;
    Ok(password.to_owned())
}
