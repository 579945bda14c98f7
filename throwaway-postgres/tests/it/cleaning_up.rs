use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use throwaway_postgres::{Cluster, Psql};

use crate::{eventually, is_alive, runs};

#[test]
fn a_dropped_cluster_leaves_neither_process_nor_directory() {
    let cluster = Cluster::builder().fsync(false).start().unwrap();
    let (pid, directory) = (cluster.pid().unwrap(), cluster.directory().to_owned());
    assert!(is_alive(pid) && directory.is_dir());
    drop(cluster);
    assert!(!is_alive(pid));
    assert!(!directory.exists());
}

#[test]
fn a_cluster_that_was_stopped_leaves_nothing_either() {
    let cluster = Cluster::builder().fsync(false).start().unwrap();
    let directory = cluster.directory().to_owned();
    cluster.stop().unwrap();
    drop(cluster);
    assert!(!directory.exists());
}

#[test]
fn a_cluster_that_does_not_start_leaves_nothing() {
    let parent = tempfile::tempdir().unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
    std::fs::set_permissions(parent.path(), open).unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_throwaway-postgres"))
        .env("TMPDIR", parent.path())
        .args(["run", "--set", "no_such_setting=1", "--", "true"])
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(1));
    assert_eq!(std::fs::read_dir(parent.path()).unwrap().count(), 0);
}

#[test]
fn a_cluster_does_not_outlive_an_owner_that_is_killed() {
    let mut owner = Owner::start();
    assert!(runs(owner.server) && owner.directory.is_dir());
    owner.process.kill().unwrap();
    owner.process.wait().unwrap();
    eventually("the server to end", || !runs(owner.server));
    eventually("the directory to be removed", || !owner.directory.exists());
}

/// Another process that owns a cluster.
struct Owner {
    process: Child,
    server: u32,
    directory: PathBuf,
}

impl Owner {
    fn start() -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_throwaway-postgres"))
            .args([
                "run",
                "--no-fsync",
                "--",
                "sh",
                "-c",
                r#"echo "$DATABASE_URL"; exec cat"#,
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut url)
            .unwrap();
        let psql = Psql::new(url.trim()).unwrap();
        let data: PathBuf = psql.query("show data_directory").unwrap().into();
        let state = psql.query("select pg_read_file('postmaster.pid')").unwrap();
        let server = state.lines().next().unwrap().parse().unwrap();
        Self {
            process,
            server,
            directory: data.parent().unwrap().to_owned(),
        }
    }
}
