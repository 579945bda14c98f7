use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::Error;
use crate::account::Account;
use crate::guard::Guard;
use crate::home::{Home, tail};
use crate::programs::Programs;
use crate::server::{Server, Stop, free_port};

/// How often a server is started on another port, after somebody else took the first one between
/// its choice and its use.
const PORT_ATTEMPTS: usize = 5;

/// The superuser of every cluster, and the database that it connects to.
pub(crate) const SUPERUSER: &str = "postgres";

/// What it takes to start the server of one cluster, as often as it is asked to.
#[derive(Debug)]
pub(crate) struct Launcher {
    programs: Programs,
    account: Account,
    settings: Vec<(String, String)>,
    // In this order: the directory goes first, then the guard that would remove it.
    home: Home,
    guard: Mutex<Guard>,
}

impl Launcher {
    pub(crate) fn prepare(settings: Vec<(String, String)>) -> Result<Self, Error> {
        let programs = Programs::find()?;
        let account = Account::unprivileged()?;
        let home = Home::create(account)?;
        let guard = Mutex::new(Guard::start(account, &home)?);
        Ok(Self {
            programs,
            account,
            settings,
            home,
            guard,
        })
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// Creates the data directory.
    pub(crate) fn initdb(&self, password: &str) -> Result<(), Error> {
        let password_file = self.home.path().join("password");
        fs::write(&password_file, password).map_err(Error::io("write the password file"))?;
        self.account.own(&password_file)?;
        let process = self
            .account
            .command(&self.programs.initdb(), self.home.path())
            .args(["--username", SUPERUSER, "--auth", "scram-sha-256"])
            .args(["--encoding", "UTF8", "--locale", "C"])
            .args(["--no-sync", "--no-instructions", "--pwfile"])
            .arg(&password_file)
            .arg("--pgdata")
            .arg(self.home.data())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(Error::io("start initdb"))?;
        self.guard().watch(process.id())?;
        let output = process
            .wait_with_output()
            .map_err(Error::io("wait for initdb"))?;
        self.guard().forget()?;
        if !output.status.success() {
            return Err(Error::Initdb {
                status: output.status,
                output: tail(&output.stderr),
            });
        }
        fs::remove_file(&password_file).map_err(Error::io("remove the password file"))
    }

    pub(crate) fn start_on_a_free_port(&self) -> Result<(Server, u16), Error> {
        let mut attempt = 1;
        loop {
            let port = free_port()?;
            match self.start(port) {
                Ok(server) => return Ok((server, port)),
                Err(Error::Ended { log, .. }) if is_port_taken(&log) && attempt < PORT_ATTEMPTS => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts the server and waits until it accepts connections.
    pub(crate) fn start(&self, port: u16) -> Result<Server, Error> {
        let mut server = Server::spawn(self.command(port), &self.home)?;
        let watched = self.guard().watch(server.pid());
        match watched.and_then(|()| server.wait_until_ready(&self.home)) {
            Ok(()) => Ok(server),
            Err(error) => {
                // The first error is the one to tell. What cannot be stopped is left to the guard.
                let _ = self.stop(server, Stop::Immediate);
                Err(error)
            }
        }
    }

    pub(crate) fn stop(&self, server: Server, stop: Stop) -> Result<(), Error> {
        server.stop(stop)?;
        self.guard().forget()
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn command(&self, port: u16) -> Command {
        let mut command = self
            .account
            .command(&self.programs.postgres(), self.home.path());
        command
            .arg("-D")
            .arg(self.home.data())
            .arg("-p")
            .arg(port.to_string());
        let sockets = self
            .home
            .socket_directory()
            .unwrap_or_else(|| Path::new(""));
        command.arg("-k").arg(sockets);
        command.args(["-c", "listen_addresses=127.0.0.1"]);
        for (name, value) in &self.settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command
    }
}

fn is_port_taken(log: &str) -> bool {
    log.contains("could not bind") || log.contains("could not create any TCP/IP sockets")
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_that_was_taken_meanwhile_is_recognised_and_another_one_works() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let launcher = Launcher::prepare(Vec::new()).unwrap();
        launcher.initdb("password").unwrap();
        let error = launcher
            .start(taken.local_addr().unwrap().port())
            .unwrap_err();
        assert!(
            matches!(&error, Error::Ended { log, .. } if is_port_taken(log)),
            "{error}"
        );
        let (server, _) = launcher.start_on_a_free_port().unwrap();
        launcher.stop(server, Stop::Fast).unwrap();
    }
}
