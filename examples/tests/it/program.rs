//! An example as a user starts it.

use std::{
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

/// An example in an empty directory of its own.
pub(crate) struct Program {
    directory: tempfile::TempDir,
    path: PathBuf,
    server: Option<String>,
}

/// What it did.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Program {
    /// The example of this name, which Cargo built beside this test.
    pub(crate) fn new(name: &str) -> Self {
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap();
        Self {
            directory: tempfile::tempdir().unwrap(),
            path: profile.join("examples").join(name),
            server: None,
        }
    }

    /// With the databases on this server.
    pub(crate) fn on(mut self, server: &str) -> Self {
        self.server = Some(server.to_owned());
        self
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        let mut command = Command::new(&self.path);
        command
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        // Without a server SQLite is meant, whatever the tests themselves run on.
        command
            .env_remove("DATABASE_URL")
            .env_remove("RUST_BACKTRACE");
        if let Some(server) = &self.server {
            command.env("DATABASE_URL", server);
        }
        let Output {
            status,
            stdout,
            stderr,
        } = command.output().unwrap();
        Ended {
            code: status.code(),
            out: String::from_utf8(stdout).unwrap(),
            err: String::from_utf8(stderr).unwrap(),
        }
    }
}

impl Ended {
    /// The JSON summary of a run that went well.
    pub(crate) fn summary(&self) -> Value {
        assert_eq!(self.code, Some(0), "{}\n{}", self.out, self.err);
        serde_json::from_str(&self.out).unwrap()
    }

    /// The one line that an example says when it cannot do its work.
    pub(crate) fn complaint(&self) -> &str {
        assert_eq!(self.code, Some(1), "{}\n{}", self.out, self.err);
        assert_eq!(self.out, "");
        assert_eq!(self.err.trim_end().lines().count(), 1, "{}", self.err);
        &self.err
    }
}
