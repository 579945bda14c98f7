//! A sync that is killed again and again, and loses nothing.
//!
//! This process serves the built-in source and starts itself as a child that syncs it. It kills the child with
//! SIGKILL at random moments, starts the next one, and so on; in between it lets records change. At the end the
//! destination must hold what the source holds, and each record must have been written as often as it changed.

use std::{
    collections::HashMap,
    process::{ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use examples::{Arguments, Session, Source};
use mock_api::{Control, Entity, MockApi};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde::{Deserialize, Serialize};
use sqlx::{AssertSqlSafe, PgPool, SqlitePool};
use sync_core::{EntityName, SyncType};
use sync_engine::{RunReport, SyncHandle};
use tokio::process::{Child, Command as Process};

/// Kills a sync again and again, and compares what comes of it with the source.
#[derive(Parser)]
struct Command {
    #[command(flatten)]
    arguments: Arguments,
    /// How often the sync is killed.
    #[arg(long, default_value_t = 10)]
    kills: u32,
    /// Syncs once and prints the report: what the parent starts and kills.
    #[arg(long, hide = true)]
    child: bool,
    /// The run whose report the parent has read: the child takes the sync after it, which may be over already.
    #[arg(long, hide = true)]
    after: Option<String>,
}

/// What a child prints.
#[derive(Serialize, Deserialize)]
struct Synced {
    run: String,
    report: RunReport,
}

/// How long a child may be silent before the next one takes over.
const LEASE: Duration = Duration::from_secs(1);
/// A child is killed within this time: time to take over from the one before, and to get somewhere.
const LONGEST_LIFE: Duration = Duration::from_millis(2_500);
/// The entities that are compared.
const ENTITIES: [(&str, Entity); 9] = [
    ("Campus", Entity::Campus),
    ("Household", Entity::Household),
    ("Person", Entity::Person),
    ("Email", Entity::Email),
    ("PhoneNumber", Entity::PhoneNumber),
    ("Address", Entity::Address),
    ("Group", Entity::Group),
    ("Membership", Entity::Membership),
    ("Event", Entity::Event),
];

#[tokio::main]
async fn main() -> ExitCode {
    let command = Command::parse();
    if command.child {
        return examples::exit_code(sync(command.arguments, command.after)).await;
    }
    examples::exit_code(crash(command)).await
}

async fn sync(arguments: Arguments, after: Option<String>) -> anyhow::Result<bool> {
    let source = Source::open(&arguments).await?;
    let session = Session::start_with(&arguments, &source, "crash_and_resume", Some(LEASE)).await?;
    // The sync of a child that was killed is open, or over with a report that nobody has read.
    let handle = match session.latest(SyncType::Full).await? {
        Some(latest) if after.is_none_or(|run| run != run_id(&latest)) => latest,
        _ => session.start_sync(SyncType::Full).await?,
    };
    let synced = Synced {
        run: run_id(&handle),
        report: session.report(&handle).await?,
    };
    serde_json::to_writer(std::io::stdout(), &synced)?;
    session.end().await;
    Ok(examples::is_success(&synced.report))
}

fn run_id(handle: &SyncHandle) -> String {
    handle.workflow().run_id().to_string()
}

async fn crash(command: Command) -> anyhow::Result<bool> {
    let Command {
        mut arguments,
        kills,
        ..
    } = command;
    ensure!(
        arguments.source.is_none(),
        "--source: this example compares with the built-in source"
    );
    let api = MockApi::builder()
        .people(arguments.people)
        .rate_limit(None)
        .start()
        .await?;
    let directory = tempfile::tempdir()?;
    let file = directory
        .path()
        .join("crash_and_resume.db")
        .display()
        .to_string();
    let (journal, destination) = arguments.databases(&file)?;
    // An organisation of its own: what an earlier run left must not be compared.
    let org = arguments
        .org(&format!("crash-{:08x}", fastrand::u32(..)))?
        .to_string();
    arguments.source = Some(api.base_url());
    arguments.org = Some(org.clone());
    arguments.journal = Some(journal);
    arguments.destination = Some(destination.clone());
    arguments.rate_limit = Some(1_000_000);

    let mut tally = Tally::default();
    while tally.kills < kills {
        let round = round(&arguments, &api.control(), kills, &mut tally).await?;
        tally.finish(&round, &api.control())?;
        compare(&destination, &org, &api.control()).await?;
        change(&api.control())?;
    }
    // Once more in peace, for the changes since the last round.
    let last = round(&arguments, &api.control(), 0, &mut tally).await?;
    tally.finish(&last, &api.control())?;
    compare(&destination, &org, &api.control()).await?;
    examples::print(&last, arguments.json)?;
    eprintln!(
        "killed {} times in {} syncs: the destination equals the source, no record was written twice; \
         {} of {} pages were fetched twice",
        tally.kills, tally.syncs, tally.pages_twice, tally.pages
    );
    Ok(true)
}

/// What happened over all rounds.
#[derive(Default)]
struct Tally {
    /// The run whose report was read last.
    last: Option<String>,
    kills: u32,
    syncs: u32,
    pages: u64,
    pages_twice: u64,
}

impl Tally {
    /// Counts a finished sync, and checks that its counts are those of one that was never killed.
    fn finish(&mut self, report: &RunReport, control: &Control) -> anyhow::Result<()> {
        let changes = report.totals().changes;
        let records: usize = {
            let counts = control.counts();
            ENTITIES.iter().map(|(_, entity)| counts[entity]).sum()
        };
        let written = changes.inserted + changes.updated + changes.unchanged;
        ensure!(
            written == records as u64,
            "the sync counted {written} records, but the source has {records}"
        );
        let expected = if self.syncs == 0 { records as u64 } else { 0 };
        ensure!(
            changes.inserted == expected,
            "the sync inserted {} records instead of {expected}",
            changes.inserted
        );
        self.syncs += 1;
        let mut asked: HashMap<(String, String), u64> = HashMap::new();
        for request in control
            .log()
            .recent
            .into_iter()
            .filter(|request| request.status == 200)
        {
            // The probe at a child's start is no page of the sync.
            if !request.query.contains("per_page=1&") && !request.query.ends_with("per_page=1") {
                *asked.entry((request.path, request.query)).or_default() += 1;
            }
        }
        self.pages += asked.values().sum::<u64>();
        self.pages_twice += asked.values().map(|times| times - 1).sum::<u64>();
        control.clear_log();
        Ok(())
    }
}

/// Starts children until one of them finishes the sync, and kills them while there are kills left.
async fn round(
    arguments: &Arguments,
    control: &Control,
    kills: u32,
    tally: &mut Tally,
) -> anyhow::Result<RunReport> {
    loop {
        let mut child = start(arguments, tally.last.as_deref())?;
        let life = LONGEST_LIFE.mul_f64(fastrand::f64());
        if tally.kills < kills {
            let asked_before = control.log().requests;
            if tokio::time::timeout(life, child.wait()).await.is_err() {
                kill_child(&mut child).await?;
                tally.kills += 1;
                let asked = control.log().requests - asked_before;
                eprintln!(
                    "kill {}: after {life:.1?} and {asked} requests",
                    tally.kills
                );
                continue;
            }
        }
        let output = child.wait_with_output().await?;
        if !output.status.success() {
            bail!(
                "the sync failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let synced: Synced =
            serde_json::from_slice(&output.stdout).context("the report cannot be read")?;
        tally.last = Some(synced.run);
        return Ok(synced.report);
    }
}

fn start(arguments: &Arguments, after: Option<&str>) -> anyhow::Result<Child> {
    let given = |value: &Option<String>| value.clone().unwrap_or_default();
    let child = Process::new(std::env::current_exe()?)
        .arg("--child")
        .args([
            "--source",
            &given(&arguments.source),
            "--token",
            &arguments.token,
        ])
        .args(["--journal", &given(&arguments.journal)])
        .args(["--destination", &given(&arguments.destination)])
        .args([
            "--org",
            &given(&arguments.org),
            "--adapter",
            &arguments.adapter,
        ])
        .args(["--rate-limit", "1000000"])
        .args(after.iter().flat_map(|run| ["--after", run]))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    child.context("the sync cannot be started")
}

async fn kill_child(child: &mut Child) -> anyhow::Result<()> {
    if let Some(id) = child.id() {
        // A child that has just ended is none to kill.
        let _gone = kill(Pid::from_raw(id.cast_signed()), Signal::SIGKILL);
    }
    child.wait().await?;
    Ok(())
}

/// Time passes, and some records change.
fn change(control: &Control) -> anyhow::Result<()> {
    control.advance(600);
    for entity in [
        Entity::Person,
        Entity::Household,
        Entity::Address,
        Entity::Event,
    ] {
        control.change_share(entity, 3.0)?;
    }
    Ok(())
}

/// Compares ids and attributes of every live row with the source.
async fn compare(destination: &str, org: &str, control: &Control) -> anyhow::Result<()> {
    for (name, entity) in ENTITIES {
        let table = format!("pco_{}", EntityName::new(name)?.snake_case());
        let mut stored = rows(destination, &table, org).await?;
        for row in control.dump(entity) {
            let raw = stored.remove(&row.id);
            let raw = raw.with_context(|| format!("{name} {} is missing", row.id))?;
            let document: serde_json::Value = serde_json::from_str(&raw)?;
            let attributes = &document["attributes"];
            for (attribute, value) in &row.attributes {
                let found = attributes.get(attribute);
                ensure!(
                    found.is_none_or(|found| found == value),
                    "{name} {}: {attribute} differs from the source",
                    row.id
                );
            }
        }
        ensure!(
            stored.is_empty(),
            "{name}: {} rows are not at the source",
            stored.len()
        );
    }
    Ok(())
}

/// The live rows of a table: id and document.
async fn rows(url: &str, table: &str, org: &str) -> anyhow::Result<HashMap<String, String>> {
    let sql = AssertSqlSafe(format!(
        "select external_id, cast(raw as text) from {table} where org_id = $1 and deleted_at is null"
    ));
    let rows: Vec<(String, String)> = if url.starts_with("sqlite") {
        let pool = SqlitePool::connect(url).await?;
        let rows = sqlx::query_as(sql).bind(org).fetch_all(&pool).await?;
        pool.close().await;
        rows
    } else {
        let pool = PgPool::connect(url).await?;
        let rows = sqlx::query_as(sql).bind(org).fetch_all(&pool).await?;
        pool.close().await;
        rows
    };
    Ok(rows.into_iter().collect())
}
