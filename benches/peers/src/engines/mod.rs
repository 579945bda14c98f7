//! The engines: one module each, behind one trait.

mod bare;
mod dbos;
pub(crate) mod duroxide;
mod sync_workflow;
mod underway;

use std::{future::Future, time::Duration};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub(crate) use self::{
    bare::Bare, dbos::Dbos, duroxide::Duroxide, sync_workflow::SyncWorkflow, underway::Underway,
};
use crate::{job::Job, step::Step};

/// The connections that a peer may hold.
pub(crate) const CONNECTIONS: u32 = 20;

/// What the workflows of a job do.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// This many steps, one after the other.
    Steps(u32),
    /// The same in a process that is going to be killed: another one shall take over soon.
    LongRun(u32),
    /// This many children of one step, started at once and awaited.
    Children(u32),
    /// One step, and then a sleep.
    Sleep(Duration),
}

/// A durable engine with the workflows of one [`Work`], and a worker that runs them.
pub(crate) trait Engine: Sized + Send + Sync + 'static {
    /// Prepares the database and starts a worker.
    fn start(url: &str, work: Work, step: Step) -> impl Future<Output = anyhow::Result<Self>>;

    /// Starts one workflow and waits for its result; of one that sleeps, only until it is started.
    fn run(&self, id: &str) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Stops the worker.
    fn stop(self) -> impl Future<Output = ()> + Send;
}

/// The engines by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum EngineName {
    /// This project's engine.
    SyncWorkflow,
    Dbos,
    Duroxide,
    Underway,
    /// No engine: rows written in groups, or two at a time; the limit of this database.
    Bare,
}

impl EngineName {
    pub(crate) const ALL: [Self; 5] = [
        Self::SyncWorkflow,
        Self::Dbos,
        Self::Duroxide,
        Self::Underway,
        Self::Bare,
    ];

    /// The word for it on the command line.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::SyncWorkflow => "sync-workflow",
            Self::Dbos => "dbos",
            Self::Duroxide => "duroxide",
            Self::Underway => "underway",
            Self::Bare => "bare",
        }
    }

    /// Why a job makes no sense with this engine, if so.
    pub(crate) const fn lacks(self, job: Job) -> Option<&'static str> {
        match (self, job) {
            (Self::Underway, Job::W3) => Some("has no child workflows"),
            (Self::Bare, Job::W3 | Job::W4 | Job::W5) => Some("measured in w1 and w2 only"),
            _ => None,
        }
    }

    /// How the work of a killed process goes on.
    pub(crate) const fn recovery(self) -> Recovery {
        match self {
            Self::Dbos => Recovery::Restart,
            Self::SyncWorkflow | Self::Duroxide | Self::Underway | Self::Bare => Recovery::TakeOver,
        }
    }
}

/// How the work of a killed process goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Recovery {
    /// A process that already runs takes it over by itself.
    TakeOver,
    /// Only a process that starts afterwards, under the same name, goes on with it.
    Restart,
}
