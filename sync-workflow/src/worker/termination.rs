//! Being told to stop.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signals by which a process is told to stop: SIGTERM and SIGINT.
///
/// From [`listen`](Self::listen) on they do not end the process any more, and none is missed. So
/// this comes before the worker:
///
/// ```no_run
/// # use sync_workflow::{Termination, Worker};
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let termination = Termination::listen()?;
/// let worker = Worker::builder().start("sqlite:app.db").await?;
/// worker.run_until(termination.received()).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Termination {
    terminate: Signal,
    interrupt: Signal,
}

impl Termination {
    /// Listens from now on.
    ///
    /// # Errors
    ///
    /// The operating system's error when signals cannot be received.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime with its I/O driver.
    pub fn listen() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for a signal. One that came since [`listen`](Self::listen) counts.
    pub async fn received(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
