//! The steps of a sync: everything with effects.
//!
//! A step reads the walk's state, does its part, and moves the state on by a compare-and-set in the same
//! transaction as its rows. A step that is repeated after its commit finds that it happened, and only says
//! again what comes next.

mod begin;
mod conclude;
mod confirm;
mod join;
mod judge;
mod pages;
mod plan;
mod references;

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use sync_adapters::destination::Connection;
use sync_workflow::Client;

pub(crate) use self::{
    begin::{BeginEntity, BeginInput, Begun},
    conclude::{ConcludeEntity, ConcludeInput, Outcome},
    confirm::ConfirmDeletions,
    join::{AwaitWriter, JoinInput},
    judge::JudgeDeletions,
    pages::SyncPages,
    plan::{Plan, PlanRun},
    references::{CheckInput, CheckReferences},
};
use crate::{
    catalogue::{Catalogue, Source},
    failure::StepFailure,
    flight::{Flight, Flights},
    key::EntityKey,
    ledger,
    options::Options,
    state::{EntityState, Next},
    target::{Target, Work},
};

/// What the steps need; shared by all of them.
pub(crate) struct Deps {
    pub(crate) catalogue: Catalogue,
    pub(crate) target: Target,
    pub(crate) flights: Flights,
    pub(crate) options: Options,
    /// Set once the worker runs.
    pub(crate) client: OnceLock<Client>,
}

/// Which step of which walk.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct StepInput {
    #[serde(flatten)]
    pub(crate) key: EntityKey,
    pub(crate) walk: String,
    pub(crate) step: i64,
}

/// What a step leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StepOutput {
    /// It happened; this comes next.
    Next(Next),
    /// The source asks to wait, and nothing happened. The same step follows.
    Wait {
        /// How long.
        milliseconds: u64,
    },
}

/// A step in the making.
pub(crate) struct Step {
    pub(crate) input: StepInput,
    pub(crate) source: Source,
    pub(crate) state: EntityState,
    pub(crate) flight: Flight,
}

/// A step, or what is already known of it.
pub(crate) enum Opened {
    Step(Box<Step>),
    Done(Next),
}

impl Deps {
    pub(crate) fn client(&self) -> Result<&Client, StepFailure> {
        self.client.get().ok_or(StepFailure::Starting)
    }

    /// Opens a step: with the state that the one before left in memory, or with the stored one.
    pub(crate) async fn open(&self, input: StepInput) -> Result<Opened, StepFailure> {
        let source = self.catalogue.source(&input.key)?;
        let mut flight = self.flights.take(&input.walk);
        let state = match flight.state(input.step) {
            Some(state) => state,
            None => match self.stored(&input, &source.fingerprint).await? {
                Ok(state) => state,
                Err(next) => return Ok(Opened::Done(next)),
            },
        };
        Ok(Opened::Step(Box::new(Step {
            input,
            source,
            state,
            flight,
        })))
    }

    /// The stored state of the walk at this step; or what follows, when the step happened before.
    async fn stored(
        &self,
        input: &StepInput,
        fingerprint: &str,
    ) -> Result<Result<EntityState, Next>, StepFailure> {
        let mut reading = self.target.reading().await?;
        let writer = ledger::writer(&mut reading.connection(), &input.key).await?;
        let writer = writer
            .filter(|writer| writer.walk == input.walk && writer.status.is_none())
            .ok_or(StepFailure::Superseded)?;
        if writer.manifest != fingerprint {
            return Err(StepFailure::ManifestChanged);
        }
        let state: EntityState = serde_json::from_str(&writer.state)?;
        match writer.step - input.step {
            0 => Ok(Ok(state)),
            1 => Ok(Err(state.next())),
            _ => Err(StepFailure::Superseded),
        }
    }

    /// Ends a step: moves the stored state on and commits. False when the step happened before, or the walk
    /// was taken over; nothing is written then.
    pub(crate) async fn close(
        &self,
        step: Box<Step>,
        mut work: Work,
    ) -> Result<StepOutput, StepFailure> {
        let Step {
            input,
            state,
            flight,
            ..
        } = *step;
        let json = serde_json::to_string(&state)?;
        let mut connection: Connection<'_> = work.connection()?;
        let has_moved =
            ledger::advance(&mut connection, &input.key, &input.walk, input.step, &json).await?;
        if !has_moved {
            // Either way nothing of this attempt may last. The next attempt reads what happened.
            return Err(StepFailure::Internal {
                detail: "the step has happened, or the walk was taken over".to_owned(),
            });
        }
        work.commit().await?;
        let next = state.next();
        self.flights
            .give_back(&input.walk, flight, input.step + 1, state);
        Ok(StepOutput::Next(next))
    }
}

/// A source that asks to wait is waited for by a durable timer.
pub(crate) fn wait_or_fail(error: sync_adapters::client::Error) -> Result<StepOutput, StepFailure> {
    match error {
        sync_adapters::client::Error::RateLimited { retry_after } => {
            let milliseconds = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX);
            Ok(StepOutput::Wait { milliseconds })
        }
        error => Err(error.into()),
    }
}

/// The dependencies of a step type.
pub(crate) type Shared = Arc<Deps>;
