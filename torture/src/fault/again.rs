//! Runs that an operator takes back, and forks of them beside them.

use std::{collections::HashSet, time::Duration};

use anyhow::bail;
use async_trait::async_trait;
use sync_workflow::{
    Client,
    client::{ForkError, ForkPoint},
    id::{Position, RunId, WorkflowId},
    journal::{RunFilter, RunInfo},
    status::RunStatus,
};
use tokio::task::JoinSet;

use super::{Fault, Field, Held, Proof, Strike, now, processes::kill_anyone};
use crate::{
    load::{Plan, Started, again, signal},
    program::{Input, Step},
    workflow::decode,
};

/// Takes some runs back to a place of their histories, forks others, and kills a worker meanwhile.
#[derive(Default)]
pub(super) struct Again {
    /// The workflow ids of which there are forks. They are not taken back any more: that would cancel children which a fork
    /// awaits.
    forked: HashSet<WorkflowId>,
    /// Who sends forks the signals that their origins are sent.
    senders: JoinSet<anyhow::Result<()>>,
    forks: u32,
}

/// The most runs that begin again at the same time.
const MOST: usize = 4;
/// Of so many runs that were started last, open and closed, some are chosen.
const RECENT: u32 = 200;
/// What the workflow ids of forks begin with.
const FORK: &str = "fork-";

#[async_trait]
impl Fault for Again {
    fn workers(&self) -> usize {
        4
    }

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Vec<Strike>> {
        field.wait_up_to(Duration::from_millis(300)).await;
        let client = field.store.client().clone();
        let mut programs = programs(&client).await?;
        field.rng.shuffle(&mut programs);
        programs.truncate(field.rng.usize(1..=MOST));
        let kill = field.rng.u8(..3);
        if kill == 0 {
            kill_anyone(field).await?;
        }
        let mut strikes = Vec::new();
        for run in &programs {
            strikes.push(self.begin_again(field, &client, run).await?);
        }
        if kill == 1 {
            kill_anyone(field).await?;
        }
        Ok(strikes)
    }

    async fn heal(&mut self, _field: &mut Field) -> anyhow::Result<()> {
        while let Some(sent) = self.senders.join_next().await {
            sent??;
        }
        Ok(())
    }
}

impl Again {
    async fn begin_again(
        &mut self,
        field: &mut Field,
        client: &Client,
        run: &RunInfo,
    ) -> anyhow::Result<Strike> {
        let (input, length) = begun_with(client, run.run).await?;
        let point = match field.rng.u8(..10) {
            0 => ForkPoint::Start,
            1 => ForkPoint::LastFailure,
            2 => ForkPoint::End,
            _ => ForkPoint::Position(Position(field.rng.u32(1..=length))),
        };
        let begun = match field.rng.u8(..3) {
            0 if may_be_forked(run, &input) => self.fork(field, client, run, point).await?,
            _ if may_be_reset(&input) && !self.forked.contains(&run.workflow_id) => {
                let workflow_id = run.workflow_id.as_str();
                settled(|| client.reset(workflow_id, point)).await?
            }
            _ => None,
        };
        let at = now();
        Ok(match begun {
            Some(run) => Strike {
                at,
                proof: Proof::Seen,
                held: Held::Runs(vec![run]),
            },
            None => Strike {
                at,
                proof: Proof::Missed,
                held: Held::Unknown,
            },
        })
    }

    async fn fork(
        &mut self,
        field: &mut Field,
        client: &Client,
        run: &RunInfo,
        point: ForkPoint,
    ) -> anyhow::Result<Option<RunId>> {
        self.forks += 1;
        let workflow_id = format!("{FORK}{}", self.forks);
        let begun = settled(|| async {
            match client.fork(run.run, point, &workflow_id).await {
                // Nobody else takes this id: the answer to an earlier question was lost.
                Err(ForkError::Existing { run, .. }) => Ok(run),
                begun => begun,
            }
        })
        .await?;
        let Some(fork) = begun else {
            return Ok(None);
        };
        // One that was debounced may have been asked for again before it was forked.
        let (input, _) = begun_with(client, fork).await?;
        self.forked.insert(run.workflow_id.clone());
        let signals = input.signals + input.signals_awaited();
        let (client, seed) = (client.clone(), field.rng.u64(..));
        self.senders
            .spawn(signal(client, workflow_id.clone(), signals, seed));
        field.begun.push(Started {
            workflow_id,
            plan: Plan::Program(input),
        });
        Ok(begun)
    }
}

/// The input of a run, and how many records it has.
async fn begun_with(client: &Client, run: RunId) -> anyhow::Result<(Input, u32)> {
    let history = again(|| client.history(run, 0, 1_000)).await?;
    let Some(first) = history.items.first() else {
        bail!("run {run} has no records");
    };
    let input = decode(&first.record.payload)?;
    Ok((input, u32::try_from(history.items.len())?))
}

/// The programs that were started last. A fork is left alone: its records do not tell whether it was taken back.
async fn programs(client: &Client) -> anyhow::Result<Vec<RunInfo>> {
    let filter = RunFilter {
        workflow: Some("program".into()),
        limit: RECENT,
        ..RunFilter::default()
    };
    let mut programs = again(|| client.list(&filter)).await?.items;
    programs.retain(|run| !run.workflow_id.as_str().starts_with(FORK));
    Ok(programs)
}

/// Whoever talks to a child says everything again, and the child hears it twice.
fn may_be_reset(input: &Input) -> bool {
    let talks = |step: &Step| matches!(step, Step::Talk { .. });
    !input.steps.iter().any(talks)
}

/// A fork of a run that has continued as new has only those signals that nobody had received by then.
fn may_be_forked(run: &RunInfo, input: &Input) -> bool {
    let may_continue =
        run.status == RunStatus::ContinuedAsNew || input.steps.contains(&Step::Continue);
    let is_top = run.parent.is_none();
    is_top && may_be_reset(input) && (input.signals_awaited() == 0 || !may_continue)
}

/// The run that has begun, if it has; no place and another run in the way are no faults.
async fn settled<F, Fut>(begin: F) -> anyhow::Result<Option<RunId>>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<RunId, ForkError>>,
{
    let begun = again(|| async {
        match begin().await {
            Err(ForkError::Client(error)) => Err(error),
            begun => Ok(begun),
        }
    });
    match begun.await? {
        Ok(run) => Ok(Some(run)),
        Err(ForkError::NoPlace { .. } | ForkError::Existing { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use sync_workflow::{client::Error, journal};
    use uuid::Uuid;

    use super::*;

    const RUN: RunId = RunId::from_uuid(Uuid::from_u128(1));

    fn away() -> ForkError {
        journal::Error::Unavailable("it is away".into()).into()
    }

    #[tokio::test(start_paused = true)]
    async fn a_journal_that_comes_back_is_asked_again() {
        let asked = Cell::new(0);
        let begun = settled(|| async {
            asked.set(asked.get() + 1);
            if asked.get() < 3 {
                Err(away())
            } else {
                Ok(RUN)
            }
        });
        assert_eq!(begun.await.unwrap(), Some(RUN));
        assert_eq!(asked.get(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_journal_that_stays_away_is_given_up() {
        let never = settled(|| async { Err(away()) });
        let given_up = tokio::time::timeout(Duration::from_secs(60 * 60), never).await;
        given_up.expect("it gives up within an hour").unwrap_err();
    }

    #[tokio::test]
    async fn no_place_and_another_run_in_the_way_are_no_faults_and_all_else_is() {
        let no_place = || ForkError::NoPlace {
            point: ForkPoint::LastFailure,
            records: 1,
        };
        assert_eq!(settled(|| async { Err(no_place()) }).await.unwrap(), None);
        let existing = || ForkError::Existing {
            run: RUN,
            status: RunStatus::Completed,
        };
        assert_eq!(settled(|| async { Err(existing()) }).await.unwrap(), None);
        let gone = || ForkError::ChildGone { child: RUN };
        settled(|| async { Err(gone()) }).await.unwrap_err();
        let not_found = || ForkError::Client(Error::NotFound);
        settled(|| async { Err(not_found()) }).await.unwrap_err();
    }
}
