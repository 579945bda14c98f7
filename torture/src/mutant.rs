//! Deliberate bugs of a worker's journal, each of which the referee must catch with real processes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use clap::ValueEnum;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_workflow::id::NodeId;
use sync_workflow::journal::{
    Batch, BatchOutcome, Error, Journal, NewSignal, OpenTransaction, Renewal, Result, RunCommit,
    RunOutcome, SignalOutcome, TransactionCommit, Transition, WakeAt,
};
use tokio::task::JoinSet;

use crate::{
    campaign::{Arena, Length, Outcome},
    fault::{self, Entry},
    lanes::Course,
    store::Kind,
};

/// A deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Mutant {
    EarlyAcknowledgement,
    AssumeCommitted,
    NoFence,
    LostSignal,
    DoubledSignal,
    ForgottenWakeUp,
}

impl Mutant {
    const fn what(self) -> &'static str {
        match self {
            Self::EarlyAcknowledgement => {
                "Records are acknowledged before they are committed, and a kill loses them"
            }
            Self::AssumeCommitted => "A batch whose outcome is unknown is taken to have happened",
            Self::NoFence => {
                "A node that was declared dead does not believe it, and commits the SQL of its steps"
            }
            Self::LostSignal => {
                "One in ten signals between workflows is said to be there, and is not"
            }
            Self::DoubledSignal => {
                "A signal whose outcome is unknown is sent again under another id"
            }
            Self::ForgottenWakeUp => {
                "A run that is put aside is not woken by the time, only by arrivals"
            }
        }
    }

    /// The fault that brings it to light.
    const fn fault(self) -> (&'static str, Kind) {
        match self {
            Self::EarlyAcknowledgement | Self::LostSignal | Self::ForgottenWakeUp => {
                ("kill", Kind::Postgres)
            }
            Self::AssumeCommitted => ("cut-before-commit", Kind::Postgres),
            Self::NoFence => ("stop", Kind::Postgres),
            Self::DoubledSignal => ("dropped-futures", Kind::Sqlite),
        }
    }
}

/// What a mutant does in place of a journal.
#[derive(Clone)]
pub(crate) struct Misdeeds {
    journal: Arc<dyn Journal>,
    /// Commits happen in the order in which they were acknowledged.
    turn: Arc<tokio::sync::Mutex<()>>,
}

/// How long a commit comes after its acknowledgement.
const LATE: Duration = Duration::from_millis(150);

impl Misdeeds {
    pub(crate) fn new(journal: Arc<dyn Journal>) -> Self {
        Self {
            journal,
            turn: Arc::default(),
        }
    }

    pub(crate) async fn acknowledge_early(
        &self,
        node: NodeId,
        batch: &Batch,
    ) -> Result<BatchOutcome> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let only_records = batch.starts.is_empty() && batch.runs.iter().all(RunCommit::is_plain);
        if !only_records {
            return self.journal.commit(node, batch).await;
        }
        let (journal, late) = (Arc::clone(&self.journal), batch.clone());
        tokio::spawn(async move {
            let _turn = turn;
            tokio::time::sleep(LATE).await;
            let _nobody_asks = journal.commit(node, &late).await;
        });
        Ok(BatchOutcome {
            runs: vec![RunOutcome::Committed; batch.runs.len()],
            ..BatchOutcome::default()
        })
    }

    pub(crate) async fn commit_without_times(
        &self,
        node: NodeId,
        batch: &Batch,
    ) -> Result<BatchOutcome> {
        let mut batch = batch.clone();
        for run in &mut batch.runs {
            if let Transition::Suspend { wake_at, .. } = &mut run.transition {
                *wake_at = WakeAt::Arrival;
            }
        }
        self.journal.commit(node, &batch).await
    }

    /// Hears of no end.
    pub(crate) async fn renew(&self, node: NodeId, lease: Duration) -> Result<Renewal> {
        match self.journal.renew(node, lease).await {
            Err(Error::Fenced) => Ok(Renewal {
                now: Timestamp::now(),
                next_expiry: None,
            }),
            renewed => renewed,
        }
    }

    /// Commits what the user wrote, whoever owns the run now.
    pub(crate) async fn commit_step(
        &self,
        transaction: OpenTransaction,
        commit: &TransactionCommit,
    ) -> Result<()> {
        let lives = self.journal.renew(commit.node, Duration::from_millis(600));
        if !matches!(lives.await, Err(Error::Fenced)) {
            return self.journal.commit_step(transaction, commit).await;
        }
        let committed = match transaction {
            OpenTransaction::Postgres(transaction) => transaction.commit().await,
            OpenTransaction::Sqlite(transaction, _turn) => transaction.commit().await,
            OpenTransaction::Memory => Ok(()),
        };
        committed.map_err(|error| Error::Unavailable(error.into()))
    }

    pub(crate) async fn lose(&self, node: NodeId, signal: &NewSignal) -> Result<SignalOutcome> {
        if fastrand::u8(..10) == 0 {
            return Ok(SignalOutcome::Duplicate);
        }
        self.journal.send_signal(node, signal).await
    }

    pub(crate) async fn send_again(
        &self,
        node: NodeId,
        signal: &NewSignal,
    ) -> Result<SignalOutcome> {
        let again = NewSignal {
            id: format!("{}-again", signal.id).into(),
            ..signal.clone()
        };
        self.journal.send_signal(node, &again).await
    }
}

/// How a mutant fared.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Verdict {
    pub(crate) mutant: Mutant,
    pub(crate) what: &'static str,
    pub(crate) fault: &'static str,
    pub(crate) database: Kind,
    /// The strikes up to the end of the round in which it was caught.
    pub(crate) caught_after: Option<u64>,
    /// The rule that it broke first.
    pub(crate) rule: Option<&'static str>,
}

/// The strikes of one round: few, so that the count says something.
const ROUND: u64 = 15;
/// A mutant that survives more is not caught.
const MOST_ROUNDS: u32 = 20;
/// A round whose runs do not end is over after this time.
const PATIENCE: Duration = Duration::from_secs(20);

/// Lets the fitting fault meet each mutant until it is caught.
pub(crate) async fn all(course: Course) -> Vec<Verdict> {
    let left = Arc::new(Mutex::new(Mutant::value_variants().to_vec()));
    let mut lanes = JoinSet::new();
    for _ in 0..course.at_once {
        let (left, course) = (Arc::clone(&left), course.clone());
        lanes.spawn(async move {
            let mut verdicts = Vec::new();
            let next = || left.lock().unwrap_or_else(PoisonError::into_inner).pop();
            while let Some(mutant) = next() {
                verdicts.push(judge(mutant, &course).await);
            }
            verdicts
        });
    }
    let mut verdicts = lanes.join_all().await.concat();
    verdicts.sort_by_key(|verdict| verdict.mutant as u8);
    verdicts
}

async fn judge(mutant: Mutant, course: &Course) -> Verdict {
    let (fault, database) = mutant.fault();
    let entry = entry(fault, database);
    let course = Course {
        directory: course.directory.join(format!("{mutant:?}")),
        patience: PATIENCE,
        ..course.clone()
    };
    let arena = Arena::of_mutant(&course, mutant);
    let mut strikes = 0;
    let mut rule = None;
    for number in 0..MOST_ROUNDS {
        let length = Length {
            cycles: ROUND,
            time: Duration::from_secs(60),
        };
        let seed = course.seed.wrapping_add(number.into());
        let outcome = entry.campaign(&arena, number, seed, length).await;
        let outcome = outcome.unwrap_or_else(|error| Outcome::aborted(entry, seed, &error));
        strikes += outcome.cycles;
        rule = outcome.broken_promise();
        if rule.is_some() {
            break;
        }
    }
    // A mutant's evidence is of no use to anybody.
    let _removed = std::fs::remove_dir_all(&course.directory);
    let verdict = Verdict {
        mutant,
        what: mutant.what(),
        fault,
        database,
        caught_after: rule.map(|_| strikes),
        rule,
    };
    match rule {
        Some(rule) => eprintln!("{mutant:?}: caught after {strikes} strikes: {rule}"),
        None => eprintln!("{mutant:?}: not caught in {strikes} strikes"),
    }
    verdict
}

fn entry(name: &str, kind: Kind) -> &'static Entry {
    fault::ALL
        .iter()
        .find(|entry| entry.name == name && entry.kind == kind)
        .expect("each mutant names a fault that there is")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mutant_names_a_fault_that_there_is() {
        for mutant in Mutant::value_variants() {
            let (fault, database) = mutant.fault();
            assert_eq!(entry(fault, database).kind, database);
        }
    }
}
