//! The check as a command of the user's own program.

use std::{
    env::VarError,
    io::{self, Write},
    path::Path,
    process::ExitCode,
};

use serde::Serialize;

use super::{
    ReplayReport,
    arguments::{Arguments, Check, Mistake, USAGE},
};
use crate::{
    journal,
    worker::{Error, WorkerBuilder},
};

/// The check of open runs as a command, for a program that knows the workflows: a job of CI, or the first step
/// of a deployment.
///
/// ```no_run
/// use std::process::ExitCode;
/// use sync_workflow::{Context, Failure, Worker, WorkerBuilder, worker::ReplayCheckCommand};
///
/// async fn hello(ctx: Context, name: String) -> Result<String, Failure> { Ok(name) }
///
/// // What the worker itself is started from.
/// fn worker() -> WorkerBuilder {
///     Worker::builder().workflow(hello)
/// }
///
/// #[tokio::main]
/// async fn main() -> ExitCode {
///     ReplayCheckCommand::new(worker()).run(std::env::args().skip(1)).await.into()
/// }
/// ```
///
/// `--help` tells the arguments: the journal's URL (or the variable `DATABASE_URL`), limits to a queue or a workflow,
/// `--json`. The report goes to the standard output, progress and errors to the standard error, and the exit
/// code is that of the [`Verdict`].
///
/// Nothing is written unless `--move` says so, but opening a journal brings its tables up to date, as a worker does. On a replica, or with a user who
/// may only read, it works where they are.
#[derive(Debug)]
pub struct ReplayCheckCommand {
    workers: Vec<WorkerBuilder>,
}

/// What the command found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every run that this code would drive replays; with `--move` nothing stays with other builds. Exit code 0.
    Holds,
    /// Some do not. Exit code 1.
    Differs,
    /// It could not be found out: the arguments, the journal or a worker is at fault. Exit code 2.
    Unknown,
}

impl From<Verdict> for ExitCode {
    fn from(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Holds => Self::SUCCESS,
            Verdict::Differs => Self::from(1),
            Verdict::Unknown => Self::from(2),
        }
    }
}

/// Why nothing could be found out.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Arguments(#[from] Mistake),
    #[error("which journal? Give its URL, or set DATABASE_URL")]
    NoUrl,
    // Its value may hold a password.
    #[error("the variable DATABASE_URL is not Unicode")]
    NotUnicode,
    #[error("there is no file {0:?}")]
    NoFile(String),
    #[error("no worker of this program serves the queue {0:?}")]
    NoQueue(String),
    #[error("no worker of this program knows the workflow {0:?}")]
    NoWorkflow(String),
    #[error("--move needs a worker with a build id")]
    NoBuild,
    #[error("the worker cannot be built")]
    Worker(#[source] Error),
    #[error("the journal cannot be read")]
    Journal(#[from] journal::Error),
    #[error("the report cannot be written")]
    Output(#[from] io::Error),
    #[error("the report cannot be written")]
    Json(#[from] serde_json::Error),
}

impl ReplayCheckCommand {
    /// Checks the runs of this worker's queue.
    #[must_use]
    pub fn new(worker: WorkerBuilder) -> Self {
        Self {
            workers: vec![worker],
        }
    }

    /// Checks those of another worker of the program as well.
    #[must_use]
    pub fn worker(mut self, worker: WorkerBuilder) -> Self {
        self.workers.push(worker);
        self
    }

    /// Runs the command. The arguments are those that follow the name of the program, or of its command:
    /// `std::env::args().skip(1)`.
    pub async fn run(self, arguments: impl IntoIterator<Item = String>) -> Verdict {
        let (mut out, mut err) = (io::stdout(), io::stderr());
        match self.perform(arguments, &mut out, &mut err).await {
            Ok(verdict) => verdict,
            Err(refusal) => {
                // The chain of causes in one line. Where the standard error is closed nobody reads it.
                let mut line = refusal.to_string();
                let mut cause = std::error::Error::source(&refusal);
                while let Some(error) = cause {
                    line = format!("{line}: {error}");
                    cause = error.source();
                }
                let _nobody_reads = writeln!(err, "replay-check: {}", line.replace('\n', " "));
                Verdict::Unknown
            }
        }
    }

    async fn perform(
        self,
        arguments: impl IntoIterator<Item = String>,
        out: &mut (impl Write + Send),
        err: &mut (impl Write + Send),
    ) -> Result<Verdict, Refusal> {
        let check = match Arguments::parse(arguments)? {
            Arguments::Help => {
                out.write_all(USAGE.as_bytes())?;
                return Ok(Verdict::Holds);
            }
            Arguments::Check(check) => check,
        };
        let reports = self.reports(&check, err).await?;
        let is_left_alone = |report: &ReplayReport| !report.unregistered.is_empty();
        let holds = |report: &ReplayReport| match check.moves {
            true => report.different + report.held == 0,
            false => report.holds(),
        };
        let holds = reports.iter().all(holds)
            && !(check.deny_unregistered && reports.iter().any(is_left_alone));
        if check.json {
            serde_json::to_writer_pretty(&mut *out, &Told { holds, reports })?;
            writeln!(out)?;
        } else {
            for report in &reports {
                write!(out, "{report}")?;
            }
        }
        out.flush()?;
        Ok(match holds {
            true => Verdict::Holds,
            false => Verdict::Differs,
        })
    }

    /// Checks one queue after the other.
    async fn reports(
        self,
        check: &Check,
        err: &mut (impl Write + Send),
    ) -> Result<Vec<ReplayReport>, Refusal> {
        let workers = self.workers(check)?;
        let url = journal_url(check.url.as_deref(), || std::env::var("DATABASE_URL"))?;
        if let Some(path) = missing_file(&url) {
            return Err(Refusal::NoFile(path.to_owned()));
        }
        let journal = journal::connect(&url).await?;
        let mut reports = Vec::new();
        for worker in &workers {
            let journal = match &worker.codecs {
                Some(codecs) => codecs.on(journal.clone()),
                None => journal.clone(),
            };
            let mut progress = |report: &ReplayReport| {
                if !check.quiet {
                    let ReplayReport {
                        queue, replayed, ..
                    } = report;
                    let _nobody_reads =
                        writeln!(err, "replay-check: queue {queue:?}, {replayed} replayed");
                }
            };
            let scope = &check.scope;
            let mut report = match check.moves {
                true => {
                    worker
                        .move_what_replays(&*journal, scope, &mut progress)
                        .await
                }
                false => {
                    worker
                        .replay_check_within(&*journal, scope, &mut progress)
                        .await
                }
            }?;
            // Workers with different code may share a queue.
            report.unregistered.retain(|workflow, _| {
                !workers.iter().any(|other| {
                    other.settings.queue == worker.settings.queue
                        && other.registry.workflow(workflow).is_some()
                })
            });
            reports.push(report);
        }
        Ok(reports)
    }

    /// The workers that were asked for. A name that nobody knows is a mistake: there would be nothing to check.
    fn workers(self, check: &Check) -> Result<Vec<WorkerBuilder>, Refusal> {
        let mut workers = self.workers;
        for worker in &mut workers {
            if let Some(error) = worker.error.take() {
                return Err(Refusal::Worker(error));
            }
        }
        if let Some(queue) = &check.queue {
            workers.retain(|worker| worker.settings.queue == *queue);
            if workers.is_empty() {
                return Err(Refusal::NoQueue(queue.to_string()));
            }
        }
        if let Some(workflow) = &check.scope.workflow {
            workers.retain(|worker| worker.registry.workflow(workflow).is_some());
            if workers.is_empty() {
                return Err(Refusal::NoWorkflow(workflow.to_string()));
            }
        }
        let has_none = |worker: &WorkerBuilder| worker.settings.build.is_none();
        if check.moves && workers.iter().any(has_none) {
            return Err(Refusal::NoBuild);
        }
        Ok(workers)
    }
}

/// The journal that was given, or else the one that the environment names.
fn journal_url(
    given: Option<&str>,
    from_environment: impl FnOnce() -> Result<String, VarError>,
) -> Result<String, Refusal> {
    let url = match given.map_or_else(from_environment, |url| Ok(url.to_owned())) {
        Ok(url) => url,
        Err(VarError::NotPresent) => return Err(Refusal::NoUrl),
        Err(VarError::NotUnicode(_)) => return Err(Refusal::NotUnicode),
    };
    match url.is_empty() {
        true => Err(Refusal::NoUrl),
        false => Ok(url),
    }
}

/// The file of a SQLite journal that does not exist: opening it would create an empty one, whose runs all replay.
fn missing_file(url: &str) -> Option<&str> {
    let path = url.strip_prefix("sqlite:")?;
    let path = path.strip_prefix("//").unwrap_or(path);
    let path = path.split('?').next().unwrap_or(path);
    (!Path::new(path).exists()).then_some(path)
}

/// The report as JSON.
#[derive(Serialize)]
struct Told {
    holds: bool,
    reports: Vec<ReplayReport>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_is_given_or_named_by_the_environment() {
        let url = |given, variable| journal_url(given, || variable);
        let named = || Ok("sqlite:named".to_owned());
        assert_eq!(url(None, named()).ok().as_deref(), Some("sqlite:named"));
        let given = url(Some("sqlite:given"), named());
        assert_eq!(given.ok().as_deref(), Some("sqlite:given"));
        let none = [
            url(None, Err(VarError::NotPresent)),
            url(None, Ok(String::new())),
            url(Some(""), named()),
        ];
        for refusal in none {
            assert!(matches!(refusal, Err(Refusal::NoUrl)), "{refusal:?}");
        }
    }

    #[test]
    fn a_variable_that_is_not_unicode_is_refused_without_its_value() {
        let broken = || Err(VarError::NotUnicode("postgres://me:secret@here".into()));
        let refusal = journal_url(None, broken).expect_err("it is no text");
        assert_eq!(
            refusal.to_string(),
            "the variable DATABASE_URL is not Unicode"
        );
        assert!(journal_url(Some("memory:"), broken).is_ok());
    }
}
