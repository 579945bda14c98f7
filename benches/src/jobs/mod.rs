//! The jobs.

pub(crate) mod sync;
pub(crate) mod w1;
pub(crate) mod w2;
pub(crate) mod w3;
pub(crate) mod w4;
pub(crate) mod w5;

use sync_workflow::Failure;

use crate::{report::Report, server::Server};

/// What to run, how often and how large.
pub(crate) struct Plan {
    pub(crate) server: Server,
    pub(crate) rounds: u32,
    pub(crate) scale: f64,
}

impl Plan {
    /// A size at this plan's scale, at least `least`.
    fn scaled(&self, full: u32, least: u32) -> u32 {
        ((f64::from(full) * self.scale).round() as u32).max(least)
    }
}

/// The jobs by their names.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Job {
    W1,
    W2,
    W3,
    W4,
    W5,
    Sync,
}

impl Job {
    pub(crate) async fn run(self, plan: &Plan) -> anyhow::Result<Report> {
        match self {
            Self::W1 => w1::run(plan).await,
            Self::W2 => w2::run(plan).await,
            Self::W3 => w3::run(plan).await,
            Self::W4 => w4::run(plan).await,
            Self::W5 => w5::run(plan).await,
            Self::Sync => sync::run(plan).await,
        }
    }
}

/// An activity that costs nothing itself.
pub(crate) async fn trivial(n: u64) -> Result<u64, Failure> {
    Ok(n + 1)
}
