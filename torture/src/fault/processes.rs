//! Faults of worker processes.

use std::time::Duration;

use async_trait::async_trait;

use super::{Fault, Field, Held, Proof, Strike, now};
use crate::{check::Ground, victim::Settings};

/// Kills workers at a random moment and starts others.
pub(super) struct Kill;

/// How long to wait between two kills at most.
const BETWEEN_KILLS: Duration = Duration::from_millis(300);
/// One in so many kills has its recovery measured: looking takes longer than killing.
const MEASURED: u8 = 4;
/// So many workers make room for several victims at the same time, and for others who go on.
const WORKERS: usize = 6;
/// The most victims at the same time.
const AT_ONCE: usize = 3;

#[async_trait]
impl Fault for Kill {
    fn workers(&self) -> usize {
        WORKERS
    }

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Vec<Strike>> {
        field.wait_up_to(BETWEEN_KILLS).await;
        kill_some(field, AT_ONCE).await
    }
}

/// Kills some workers at the same time, of which at least half have begun, and starts others.
pub(super) async fn kill_some(field: &mut Field, most: usize) -> anyhow::Result<Vec<Strike>> {
    let victims = field.some(most);
    // However long a worker takes to begin on this machine.
    field.fleet.wait_until_half_listen(&victims).await?;
    kill_these(field, victims).await
}

/// Kills a worker, which may have only just been started, and starts another one.
pub(super) async fn kill_anyone(field: &mut Field) -> anyhow::Result<()> {
    let victim = field.anyone();
    kill_these(field, vec![victim]).await.map(drop)
}

async fn kill_these(field: &mut Field, victims: Vec<u32>) -> anyhow::Result<Vec<Strike>> {
    let places: Vec<_> = victims.iter().map(|pid| field.fleet.serves(*pid)).collect();
    let at = now();
    field.fleet.kill(&victims).await?;
    let mut strikes = Vec::new();
    for pid in victims {
        let is_measured = field.rng.u8(..MEASURED) == 0;
        let node = field.fleet.node_of(pid)?;
        strikes.push(Strike {
            at,
            // One that had only just begun is not missed by anybody.
            proof: node.map_or(Proof::Missed, |_| Proof::Seen),
            held: match node.filter(|_| is_measured) {
                Some(node) => Held::Runs(field.store.held_by(node).await?),
                None => Held::Unknown,
            },
        });
    }
    for serves in places {
        field.fleet.start(serves)?;
    }
    Ok(strikes)
}

/// Stops the time of workers until others have taken their runs, and lets them go on as zombies.
pub(super) struct Pause;

/// The most zombies at the same time.
const ZOMBIES: usize = 4;

#[async_trait]
impl Fault for Pause {
    fn settings(&self) -> Settings {
        Settings {
            lease: 600,
            ..Settings::default()
        }
    }

    fn workers(&self) -> usize {
        2 * ZOMBIES
    }

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Vec<Strike>> {
        field.wait_up_to(Duration::from_millis(300)).await;
        let lease = Duration::from_millis(self.settings().lease);
        let victims = field.some(ZOMBIES);
        let mut strikes = Vec::new();
        for pid in &victims {
            field.fleet.pause(*pid)?;
            let at = now();
            strikes.push(match field.fleet.node_of(*pid)? {
                Some(node) => Strike {
                    at,
                    proof: Proof::Ended(node),
                    held: Held::Runs(field.store.held_by(node).await?),
                },
                None => Strike {
                    at,
                    proof: Proof::Missed,
                    held: Held::Unknown,
                },
            });
        }
        tokio::time::sleep(lease.mul_f64(0.9)).await;
        for pid in victims {
            // Some wake just as they are declared dead, some long after.
            field.wait_up_to(lease.mul_f64(0.6)).await;
            field.fleet.resume(pid)?;
        }
        Ok(strikes)
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

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Vec<Strike>> {
        field.wait_up_to(Duration::from_millis(600)).await;
        let pid = field.anyone();
        field.fleet.start(field.fleet.serves(pid))?;
        let held = match field.fleet.node_of(pid)? {
            Some(node) => Held::Runs(field.store.held_by(node).await?),
            None => Held::Unknown,
        };
        let at = now();
        // It is stopped as soon as it listens.
        field.fleet.stop(pid).await?;
        Ok(vec![Strike {
            at,
            proof: Proof::Seen,
            held,
        }])
    }
}
