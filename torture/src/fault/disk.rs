//! A disk that is full.

use std::{
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, ensure};
use async_trait::async_trait;
use nix::unistd::geteuid;
use throwaway_postgres::Cluster;

use super::{Fault, Field, Proof, Skipped, Strike, now};
use crate::{store::Store, victim::Settings};

/// Fills the disk that the database is on, and makes room again.
struct DiskFull {
    size: &'static str,
    server: Option<Arc<Cluster>>,
    disk: Option<Disk>,
    is_server: bool,
}

pub(super) fn server() -> Result<Box<dyn Fault>, Skipped> {
    make("320m", true)
}

pub(super) fn file() -> Result<Box<dyn Fault>, Skipped> {
    make("96m", false)
}

fn make(size: &'static str, is_server: bool) -> Result<Box<dyn Fault>, Skipped> {
    if !geteuid().is_root() {
        return Err(Skipped("only root can mount a small disk".into()));
    }
    Ok(Box::new(DiskFull {
        size,
        server: None,
        disk: None,
        is_server,
    }))
}

#[async_trait]
impl Fault for DiskFull {
    fn settings(&self) -> Settings {
        Settings {
            lease: 3_000,
            ..Settings::default()
        }
    }

    async fn store(&mut self, directory: &Path) -> anyhow::Result<Option<Store>> {
        if !self.is_server {
            let path = directory.join("database");
            std::fs::create_dir(&path)?;
            self.disk = Some(Disk::mount(&path, self.size)?);
            return Store::sqlite(&path).await.map(Some);
        }
        let server = Arc::new(Cluster::builder().fsync(false).start()?);
        server.stop()?;
        let data = server.directory().join("data");
        let aside = server.directory().join("data-before");
        std::fs::rename(&data, &aside)?;
        std::fs::create_dir(&data)?;
        self.disk = Some(Disk::mount(&data, self.size)?);
        run(Command::new("cp").arg("-a").arg(aside.join(".")).arg(&data))?;
        run(Command::new("chown")
            .arg("--reference")
            .arg(&aside)
            .arg(&data))?;
        run(Command::new("chmod")
            .arg("--reference")
            .arg(&aside)
            .arg(&data))?;
        server.start_again()?;
        self.server = Some(Arc::clone(&server));
        Store::postgres(server).await.map(Some)
    }

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Vec<Strike>> {
        field.wait_up_to(Duration::from_millis(1_000)).await;
        let disk = self.disk.as_ref().context("there is no disk")?;
        let filler = disk.fill()?;
        let full = Duration::from_millis(field.rng.u64(500..2_500));
        tokio::time::sleep(full).await;
        std::fs::remove_file(filler)?;
        let at = now();
        self.revive().await?;
        Ok(vec![Strike::at_all(at, Proof::Seen)])
    }
}

impl DiskFull {
    /// Starts the server again, as an operator does, if the full disk ended it.
    async fn revive(&self) -> anyhow::Result<()> {
        let Some(server) = self.server.clone() else {
            return Ok(());
        };
        tokio::task::spawn_blocking(move || {
            if server.psql("select 1").is_ok() {
                return Ok(());
            }
            server.restart_immediate()
        })
        .await??;
        Ok(())
    }
}

/// A small disk in memory, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    fn mount(path: &Path, size: &str) -> anyhow::Result<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "torture"]);
        run(mount.arg(path))?;
        Ok(Self(path.to_owned()))
    }

    /// Writes until nothing more fits.
    fn fill(&self) -> anyhow::Result<PathBuf> {
        let path = self.0.join("filler");
        let mut file = File::create(&path)?;
        for size in [1 << 20, 4096] {
            let block = vec![0; size];
            while file.write_all(&block).is_ok() {}
        }
        Ok(path)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, for processes that are about to end may still have files open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    ensure!(status.success(), "{command:?} ended with {status}");
    Ok(())
}
