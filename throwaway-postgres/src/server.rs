use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use uuid::Uuid;

use crate::Error;
use crate::home::Home;

/// A server that is not ready by then will not be: recovery of a test's data takes far less.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A fast shutdown that takes longer becomes an immediate one, and that one a kill.
const ENDS_WITHIN: Duration = Duration::from_secs(20);

/// Between two looks at the server's state.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The line of `postmaster.pid` that says whether the server accepts connections.
const STATUS_LINE: usize = 7;

/// How a server is stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// Clients are cut off, open transactions roll back, a checkpoint is written.
    Fast,
    /// As in a crash: no checkpoint, recovery at the next start.
    Immediate,
}

/// One running `postgres` process.
#[derive(Debug)]
pub(crate) struct Server {
    process: Child,
}

impl Server {
    /// Starts the program, without waiting for it to be ready.
    pub(crate) fn spawn(mut command: Command, home: &Home) -> Result<Self, Error> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(home.log())
            .map_err(Error::io("open the server's log"))?;
        let process = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(Error::io("start postgres"))?;
        Ok(Self { process })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Waits until the server accepts connections.
    pub(crate) fn wait_until_ready(&mut self, home: &Home) -> Result<(), Error> {
        let deadline = Instant::now() + READY_WITHIN;
        while !self.is_ready(home) {
            if let Some(status) = self.try_wait()? {
                return Err(Error::Ended {
                    status,
                    log: home.log_tail(),
                });
            }
            if Instant::now() > deadline {
                return Err(Error::NotReady {
                    seconds: READY_WITHIN.as_secs(),
                    log: home.log_tail(),
                });
            }
            thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// The server writes its own process id first and its status last; a file that an earlier,
    /// killed server left behind names another process.
    fn is_ready(&self, home: &Home) -> bool {
        let Ok(state) = fs::read_to_string(home.data().join("postmaster.pid")) else {
            return false;
        };
        let mut lines = state.lines().map(str::trim);
        lines.next() == Some(self.pid().to_string().as_str())
            && lines.nth(STATUS_LINE - 1) == Some("ready")
    }

    /// Stops the server and waits for its end.
    pub(crate) fn stop(self, stop: Stop) -> Result<(), Error> {
        match stop {
            Stop::Fast => self.end_by(&[Signal::SIGINT, Signal::SIGQUIT, Signal::SIGKILL]),
            Stop::Immediate => self.end_by(&[Signal::SIGQUIT, Signal::SIGKILL]),
        }
    }

    /// Sends one signal after the other, each after the one before had its time.
    fn end_by(mut self, signals: &[Signal]) -> Result<(), Error> {
        for signal in signals {
            if self.try_wait()?.is_some() {
                return Ok(());
            }
            let pid = i32::try_from(self.pid()).expect("a process id fits into pid_t");
            kill(Pid::from_raw(pid), *signal)
                .map_err(|errno| Error::io("signal postgres")(errno.into()))?;
            let deadline = Instant::now() + ENDS_WITHIN;
            while Instant::now() < deadline {
                if self.try_wait()?.is_some() {
                    return Ok(());
                }
                thread::sleep(LOOK_EVERY);
            }
        }
        self.process
            .wait()
            .map(drop)
            .map_err(Error::io("wait for postgres"))
    }

    fn try_wait(&mut self) -> Result<Option<ExitStatus>, Error> {
        self.process
            .try_wait()
            .map_err(Error::io("wait for postgres"))
    }
}

/// Where servers listen: below the ports that systems give to outgoing connections. A client that
/// reconnects while the server is down could otherwise be given the server's own port.
const PORTS: Range<u16> = 20_000..32_000;

/// How many ports are tried; so many in use at once is a machine with another trouble.
const PORTS_TRIED: usize = 100;

/// A port of 127.0.0.1 that nobody listens on at this moment.
pub(crate) fn free_port() -> Result<u16, Error> {
    let mut bound = Err(io::Error::from(io::ErrorKind::AddrInUse));
    for _ in 0..PORTS_TRIED {
        let port = PORTS.start + random_below(PORTS.end - PORTS.start);
        bound = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map(|_| port);
        if bound.is_ok() {
            break;
        }
    }
    bound.map_err(Error::io("find a free port"))
}

fn random_below(limit: u16) -> u16 {
    let number = Uuid::new_v4().as_u128() % u128::from(limit);
    u16::try_from(number).expect("it is below a u16")
}
