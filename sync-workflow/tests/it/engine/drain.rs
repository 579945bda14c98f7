//! A worker process that is told to stop.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sync_workflow::{
    Activity, ActivityContext, Client, Context, Failure, RunHandle, Termination,
    record::RecordKind, status::RunStatus, worker::WorkerBuilder,
};

use super::{eventually, quick};

/// Where the child process finds its journal and its directory.
const URL: &str = "SYNC_WORKFLOW_DRAIN_TEST_URL";
const DIRECTORY: &str = "SYNC_WORKFLOW_DRAIN_TEST_DIRECTORY";
const DRAIN_MILLIS: &str = "SYNC_WORKFLOW_DRAIN_TEST_MILLIS";

/// Leaves a file when an attempt begins, and ends when it finds the file `go`.
struct Patient(PathBuf);

impl Activity for Patient {
    const NAME: &'static str = "patient";
    type Input = ();
    type Output = u32;
    type Error = Failure;

    async fn run(&self, ctx: ActivityContext, (): ()) -> Result<u32, Failure> {
        let process = std::process::id();
        let mark = self.0.join(format!("begun-{process}-{}", ctx.attempt()));
        std::fs::write(mark, "")?;
        while !self.0.join("go").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(ctx.attempt())
    }
}

async fn works_then_waits(ctx: Context, (): ()) -> Result<u32, Failure> {
    let attempt = ctx.activity(Patient::activity(), ()).await?;
    ctx.wait::<()>("go on").await?;
    Ok(attempt)
}

fn builder(directory: &Path) -> WorkerBuilder {
    quick()
        .workflow(works_then_waits)
        .activity(Patient(directory.to_path_buf()))
}

/// What the child process of the other tests runs; by itself it has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_with_a_worker() {
    let Ok(url) = std::env::var(URL) else { return };
    let directory = std::env::var(DIRECTORY).unwrap();
    let millis = std::env::var(DRAIN_MILLIS).unwrap().parse().unwrap();
    let termination = Termination::listen().unwrap();
    let worker = builder(Path::new(&directory))
        // Nobody could wait for this lease to run out.
        .lease(Duration::from_secs(3_600))
        .drain_timeout(Duration::from_millis(millis))
        .start(&url)
        .await
        .unwrap();
    worker.run_until(termination.received()).await;
}

/// A child process, killed at the end of its test whatever happens.
struct Process(Child);

impl Process {
    fn start(url: &str, directory: &Path, drain_timeout: Duration) -> Self {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "engine::drain::a_process_with_a_worker"])
            .arg("--nocapture")
            .env(URL, url)
            .env(DIRECTORY, directory)
            .env(DRAIN_MILLIS, drain_timeout.as_millis().to_string())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }

    fn terminate(&self) {
        let pid = Pid::from_raw(self.0.id().cast_signed());
        kill(pid, Signal::SIGTERM).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        let ended = async {
            loop {
                if let Some(status) = self.0.try_wait().unwrap() {
                    return status;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(100), ended)
            .await
            .expect("the process stops")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _reaped = self.0.wait();
    }
}

/// A database, a directory, and a run whose activity has begun in a process of its own.
struct Scene {
    url: String,
    directory: tempfile::TempDir,
    client: Client,
    process: Process,
    run: RunHandle<u32, Failure>,
    _keep: Option<throwaway_postgres::Database>,
}

impl Scene {
    async fn on_postgres(drain_timeout: Duration) -> Self {
        let database = throwaway_postgres::Database::create().unwrap();
        Self::new(database.url().to_owned(), Some(database), drain_timeout).await
    }

    async fn on_sqlite(drain_timeout: Duration) -> Self {
        Self::new(String::new(), None, drain_timeout).await
    }

    async fn new(
        url: String,
        database: Option<throwaway_postgres::Database>,
        drain_timeout: Duration,
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = if url.is_empty() {
            format!("sqlite:{}", directory.path().join("journal.db").display())
        } else {
            url
        };
        let client = Client::connect(&url).await.unwrap();
        let run = client.start(works_then_waits, "a", ()).await.unwrap();
        let process = Process::start(&url, directory.path(), drain_timeout);
        let scene = Self {
            url,
            directory,
            client,
            process,
            run,
            _keep: database,
        };
        eventually("the activity begins", || async { scene.begun().len() == 1 }).await;
        scene
    }

    /// The attempts that have begun: the process of each, and its number.
    fn begun(&self) -> Vec<(u32, u32)> {
        let mut begun: Vec<_> = std::fs::read_dir(self.directory.path())
            .unwrap()
            .filter_map(|entry| {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let (process, attempt) = name.strip_prefix("begun-")?.split_once('-')?;
                Some((process.parse().unwrap(), attempt.parse().unwrap()))
            })
            .collect();
        begun.sort_unstable();
        begun
    }

    fn open_gate(&self) {
        std::fs::write(self.directory.path().join("go"), "").unwrap();
    }

    /// The run is nobody's, ready or asleep, and none of its claims counts.
    async fn is_given_back(&self) {
        let info = self.run.describe().await.unwrap();
        assert_eq!(
            (info.status, info.node, info.attempts),
            (RunStatus::Pending, None, 0)
        );
    }

    /// Another worker ends the run, long before the lease of the first would.
    async fn goes_on(&self) -> u32 {
        let worker = builder(self.directory.path())
            .start(&self.url)
            .await
            .unwrap();
        self.client.signal("a", "go on", &()).await.unwrap();
        let result = tokio::time::timeout(Duration::from_secs(100), self.run.result())
            .await
            .expect("the successor need not wait for the lease");
        worker.shutdown().await;
        result.unwrap()
    }
}

async fn an_activity_may_end_while_its_process_stops(mut scene: Scene) {
    scene.process.terminate();
    scene.open_gate();
    assert!(scene.process.ended().await.success());
    scene.is_given_back().await;
    let history = scene
        .client
        .history(scene.run.run_id(), 0, 10)
        .await
        .unwrap();
    let kinds: Vec<_> = history.items.iter().map(|item| item.kind()).collect();
    assert_eq!(
        kinds[..2],
        [RecordKind::Started, RecordKind::ActivityCompleted]
    );
    assert_eq!(scene.goes_on().await, 1);
    assert_eq!(scene.begun().len(), 1, "the activity did not run again");
}

async fn an_activity_that_does_not_end_is_cut_off_and_no_attempt_is_counted(mut scene: Scene) {
    scene.process.terminate();
    assert!(scene.process.ended().await.success());
    scene.is_given_back().await;
    scene.open_gate();
    assert_eq!(scene.goes_on().await, 1);
    let attempts: Vec<_> = scene.begun().iter().map(|(_, attempt)| *attempt).collect();
    assert_eq!(attempts, [1, 1], "once in each process");
}

mod postgres {
    use std::time::Duration;

    use super::Scene;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_activity_may_end_while_its_process_stops() {
        let scene = Scene::on_postgres(Duration::from_secs(600)).await;
        super::an_activity_may_end_while_its_process_stops(scene).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_activity_that_does_not_end_is_cut_off_and_no_attempt_is_counted() {
        let scene = Scene::on_postgres(Duration::from_millis(10)).await;
        super::an_activity_that_does_not_end_is_cut_off_and_no_attempt_is_counted(scene).await;
    }
}

mod sqlite {
    use std::time::Duration;

    use super::Scene;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_activity_may_end_while_its_process_stops() {
        let scene = Scene::on_sqlite(Duration::from_secs(600)).await;
        super::an_activity_may_end_while_its_process_stops(scene).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_activity_that_does_not_end_is_cut_off_and_no_attempt_is_counted() {
        let scene = Scene::on_sqlite(Duration::from_millis(10)).await;
        super::an_activity_that_does_not_end_is_cut_off_and_no_attempt_is_counted(scene).await;
    }
}
