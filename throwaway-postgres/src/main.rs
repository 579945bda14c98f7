//! `throwaway-postgres run -- COMMAND`: a command with a PostgreSQL cluster of its own.

use std::error::Error as _;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, ExitStatus};

use clap::{Parser, Subcommand};
use throwaway_postgres::{Cluster, Error};

/// Starts throw-away PostgreSQL clusters.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Runs a command with DATABASE_URL set to a fresh cluster, which is gone when the command ends.
    Run {
        /// Commits do not wait for the disk: faster, and as good for tests of logic.
        #[arg(long)]
        no_fsync: bool,
        /// A setting of postgresql.conf, as NAME=VALUE; may be repeated.
        #[arg(long = "set", value_name = "NAME=VALUE", value_parser = setting)]
        settings: Vec<(String, String)>,
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    /// Prints the directory of the PostgreSQL programs that clusters run; fails if there are none.
    Find,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().action {
        Action::Run {
            no_fsync,
            settings,
            command,
        } => run(!no_fsync, settings, &command),
        Action::Find => find(),
    };
    done.unwrap_or_else(|error| {
        let cause = error
            .source()
            .map_or_else(String::new, |source| format!(": {source}"));
        eprintln!("throwaway-postgres: {error}{cause}");
        ExitCode::FAILURE
    })
}

fn find() -> Result<ExitCode, Error> {
    let directory = throwaway_postgres::installed()?;
    let written = writeln!(std::io::stdout(), "{}", directory.display());
    Ok(written.map_or(ExitCode::FAILURE, |()| ExitCode::SUCCESS))
}

fn run(
    fsync: bool,
    settings: Vec<(String, String)>,
    command: &[OsString],
) -> Result<ExitCode, Error> {
    let (program, arguments) = command.split_first().expect("clap requires a command");
    let mut builder = Cluster::builder().fsync(fsync);
    for (name, value) in settings {
        builder = builder.setting(name, value);
    }
    let cluster = builder.start()?;
    match Command::new(program)
        .args(arguments)
        .env("DATABASE_URL", cluster.url())
        .status()
    {
        Ok(status) => Ok(exit_code(status)),
        Err(error) => {
            eprintln!(
                "throwaway-postgres: could not run {}: {error}",
                program.display()
            );
            Ok(ExitCode::from(127))
        }
    }
}

/// The command's own code; as in a shell, 128 + n when signal n ended it.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(
        code.and_then(|code| u8::try_from(code).ok())
            .unwrap_or(u8::MAX),
    )
}

fn setting(text: &str) -> Result<(String, String), &'static str> {
    text.split_once('=')
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .ok_or("expected NAME=VALUE")
}
