//! Faults of worker processes.

use std::time::Duration;

use async_trait::async_trait;

use super::{Fault, Field, Proof, Strike, now};
use crate::{check::Ground, victim::Settings};

/// Kills a worker at a random moment and starts another one.
pub(super) struct Kill;

/// How long to wait between two kills at most.
const BETWEEN_KILLS: Duration = Duration::from_millis(300);
/// One in so many kills has its recovery measured: looking takes longer than killing.
const MEASURED: u8 = 4;

#[async_trait]
impl Fault for Kill {
    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Strike> {
        field.wait_up_to(BETWEEN_KILLS).await;
        kill_anyone(field).await
    }
}

/// Kills some worker and starts another one.
pub(super) async fn kill_anyone(field: &mut Field) -> anyhow::Result<Strike> {
    let index = field.anyone();
    let pid = field.fleet.pid(index);
    let is_measured = field.rng.u8(..MEASURED) == 0;
    field.fleet.kill(index).await?;
    let at = now();
    let held = match is_measured {
        true => field.holds(pid).await?.map(|(_, held)| held),
        false => None,
    };
    field.fleet.start()?;
    Ok(Strike {
        at,
        proof: Proof::Enlisted(pid),
        // Nothing was looked at, so nothing is measured.
        held: Some(held.unwrap_or_default()),
    })
}

/// Stops the time of a worker until others have taken its runs, and lets it go on as a zombie.
pub(super) struct Pause;

#[async_trait]
impl Fault for Pause {
    fn settings(&self) -> Settings {
        Settings {
            lease: 600,
            ..Settings::default()
        }
    }

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Strike> {
        field.wait_up_to(Duration::from_millis(300)).await;
        let index = field.anyone();
        let pid = field.fleet.pid(index);
        let lease = Duration::from_millis(self.settings().lease);
        field.fleet.pause(index)?;
        let at = now();
        let holds = field.holds(pid).await?;
        // Some wake just as they are declared dead, some long after.
        tokio::time::sleep(lease.mul_f64(0.9)).await;
        field.wait_up_to(lease).await;
        field.fleet.resume(pid)?;
        Ok(match holds {
            Some((node, held)) => Strike {
                at,
                proof: Proof::Ended(node),
                held: Some(held),
            },
            None => Strike {
                at,
                proof: Proof::Missed,
                held: Some(Vec::new()),
            },
        })
    }
}

/// Replaces a worker as a deployment does.
pub(super) struct Rolling;

#[async_trait]
impl Fault for Rolling {
    fn settings(&self) -> Settings {
        // Nobody dies here, however slow the machine is.
        Settings {
            lease: 30_000,
            ..Settings::default()
        }
    }

    fn ground(&self) -> Ground {
        Ground {
            clocks_are_true: true,
            is_graceful: true,
        }
    }

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Strike> {
        field.wait_up_to(Duration::from_millis(600)).await;
        field.fleet.start()?;
        let index = field.rng.usize(..field.fleet.len() - 1);
        let pid = field.fleet.pid(index);
        let holds = field.holds(pid).await?;
        let at = now();
        field.fleet.stop(index).await?;
        Ok(Strike {
            at,
            proof: Proof::Enlisted(pid),
            held: Some(holds.map(|(_, held)| held).unwrap_or_default()),
        })
    }
}
