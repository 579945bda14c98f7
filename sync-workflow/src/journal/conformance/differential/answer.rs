//! What a journal answers to an operation.

use std::sync::Arc;

use jiff::Timestamp;

use super::{
    super::world::{
        QUEUE, appending, attempt, closing_with, continuing, going_on, record, request, signal,
        successor, suspending,
    },
    HOUR, length,
    operation::{End, ForkedAt, Length, Operation, Part},
    script::far_ahead,
};
use crate::{
    id::{CommandId, Position, RunId},
    journal::{
        Batch, BatchOutcome, BuildMove, ClaimRequest, ClaimedRun, Close, Closed, Fork, ForkTarget,
        Journal, NewRun, Publication, QueueLimits, Result, RunCommit, RunSelector, StartOutcome,
        TransactionCommit, Transition, WakeAt,
    },
    record::RecordKind,
    status::RunStatus,
    tag::TagChange,
};

/// Applies an operation and tells the answer, without times.
pub(super) async fn apply(journal: &dyn Journal, operation: &Operation) -> String {
    match answer(journal, operation).await {
        Ok(answer) => answer,
        Err(error) => format!("error: {error}"),
    }
}

async fn answer(journal: &dyn Journal, operation: &Operation) -> Result<String> {
    Ok(match operation {
        Operation::Start(new) => format!("{:?}", journal.start(new).await?),
        Operation::Commit(node, parts, starts) => {
            let mut runs = Vec::with_capacity(parts.len());
            for part in parts {
                runs.push(commit_of(journal, part).await?);
            }
            tell(
                journal
                    .commit(
                        *node,
                        &Batch {
                            runs,
                            starts: starts.clone(),
                        },
                    )
                    .await?,
            )
        }
        Operation::Step(node, run) => {
            let position = length(journal, *run).await?;
            let record = record(position, RecordKind::TransactionCompleted);
            let commit = TransactionCommit {
                node: *node,
                run: *run,
                record,
                settled_attempt: Some(CommandId(position % 4)),
            };
            format!(
                "{:?}",
                journal.commit_step(journal.begin().await?, &commit).await?
            )
        }
        Operation::Claim(node, limit, build) => {
            let request = ClaimRequest {
                build: build.clone(),
                ..request(*limit)
            };
            let claim = journal.claim(*node, &request).await?;
            let mut runs: Vec<_> = claim
                .runs
                .into_iter()
                .map(|claimed| ClaimedRun {
                    // Each journal has a clock of its own.
                    ready_at: claimed.ready_at.map(|_| Timestamp::UNIX_EPOCH),
                    ..claimed
                })
                .map(|claimed| format!("{claimed:?}"))
                .collect();
            runs.sort_unstable();
            format!(
                "{runs:?}, next {}, more {}, {:?}",
                claim.next_wake.is_some(),
                claim.more,
                claim.managed
            )
        }
        Operation::Owned(node) => {
            let mut runs: Vec<_> = journal
                .owned(*node)
                .await?
                .iter()
                .map(|claimed| format!("{claimed:?}"))
                .collect();
            runs.sort_unstable();
            format!("{runs:?}")
        }
        Operation::Enlist(node, lease) => {
            journal.enlist(*node, *lease).await.map(|_| String::new())?
        }
        Operation::Renew(node) => format!(
            "{:?}",
            journal.renew(*node, HOUR).await?.next_expiry.is_some()
        ),
        Operation::Reap => {
            let mut dead = journal.reap(10).await?;
            dead.sort_unstable();
            format!("{dead:?}")
        }
        Operation::Retire(node) => format!("{:?}", journal.retire(*node).await?),
        Operation::Signal(to, id) => {
            format!("{:?}", journal.signal(&signal(to.clone(), id)).await?)
        }
        Operation::SendSignal(node, to, id) => {
            let signal = signal(to.clone(), id);
            format!("{:?}", journal.send_signal(*node, &signal).await?)
        }
        Operation::Cancel(run) => format!("{:?}", journal.request_cancel(run).await?),
        Operation::Terminate(run) => {
            format!(
                "{:?}",
                journal
                    .terminate(run, &record(0, RecordKind::Terminated))
                    .await?
            )
        }
        Operation::Pause(run) => format!("{:?}", journal.pause(run).await?),
        Operation::Resume(run) => format!("{:?}", journal.resume(run).await?),
        Operation::Unpark(run) => format!("{:?}", journal.unpark(run).await?),
        Operation::Outcome(run) => tell_closed(journal.outcome(*run).await?),
        Operation::Limit(max_running, max_running_per_key) => {
            let limits = QueueLimits {
                max_running: *max_running,
                max_running_per_key: *max_running_per_key,
                ..QueueLimits::default()
            };
            format!("{:?}", journal.limit_queue(QUEUE, &limits).await?)
        }
        Operation::PauseQueue(is_paused) => {
            format!("{:?}", journal.pause_queue(QUEUE, *is_paused).await?)
        }
        Operation::Queues => format!("{:?}", journal.queues().await?),
        Operation::Fork(forked) => {
            let fork = fork_of(journal, forked).await?;
            format!("{:?}", journal.fork(&fork).await?)
        }
        Operation::Debounce(new, debounce) => {
            format!("{:?}", journal.debounce(new, *debounce).await?)
        }
        Operation::SignalWithStart(new, id) => {
            let signal = signal(RunSelector::Latest(new.workflow_id.clone()), id);
            format!("{:?}", journal.signal_with_start(new, &signal).await?)
        }
        Operation::DeclareBuild(node, build) => {
            let builds = journal.builds();
            format!("{:?}", builds.declare_build(*node, QUEUE, build).await?)
        }
        Operation::SetBuild(build) => {
            let builds = journal.builds();
            format!(
                "{:?}",
                builds.set_current_build(QUEUE, build.as_ref()).await?
            )
        }
        Operation::Builds => format!("{:?}", journal.builds().list_builds(QUEUE).await?),
        Operation::MoveToBuild(run, to, is_length) => {
            let length = length(journal, *run).await?;
            let to = BuildMove {
                to: to.clone(),
                if_length: is_length.as_ref().map(|is| match is {
                    Length::Right => length,
                    Length::Wrong => length + 1,
                }),
            };
            format!("{:?}", journal.builds().move_to_build(*run, &to).await?)
        }
    })
}

/// A fork as a client asks for it: nothing is kept from the record on that ended the origin.
async fn fork_of(journal: &dyn Journal, forked: &ForkedAt) -> Result<Fork> {
    let records = journal
        .load(forked.origin, Position(0), 10_000)
        .await?
        .records;
    let end = records.iter().position(|record| record.kind.is_final());
    let most = u32::try_from(end.unwrap_or(records.len())).unwrap_or(u32::MAX);
    let target = match &forked.workflow_id {
        Some(workflow_id) => ForkTarget::New(workflow_id.clone()),
        None => ForkTarget::Same {
            last: record(0, RecordKind::ContinuedAsNew),
            children: forked.children.clone(),
        },
    };
    let kept = 1 + forked.place % most.max(1);
    Ok(Fork {
        origin: forked.origin,
        run: forked.run,
        forked: record(kept, RecordKind::Forked),
        target,
    })
}

async fn commit_of(journal: &dyn Journal, part: &Part) -> Result<RunCommit> {
    let run = part.run;
    let inbox = journal.inbox(run, &[], 100).await?;
    let first = length(journal, run)
        .await?
        .saturating_sub(u32::from(part.stale));
    let mut commit = appending(run, first..first + part.records);
    let last = first + part.records;
    let ended = match &part.end {
        End::Continue => going_on(run),
        End::Suspend { asleep, stale } => {
            let wake_at = if *asleep {
                WakeAt::Time(far_ahead())
            } else {
                WakeAt::Arrival
            };
            suspending(run, inbox.count - i64::from(*stale), wake_at)
        }
        End::Release => RunCommit {
            transition: Transition::Release,
            ..going_on(run)
        },
        End::Park => RunCommit {
            transition: Transition::Park {
                reason: "a reason".into(),
            },
            ..going_on(run)
        },
        End::Close(status, kind) => {
            let close = Close {
                status: *status,
                next: None,
                has_open_children: true,
                has_parent: true,
            };
            closing_with(run, record(last, *kind), close)
        }
        End::ContinueAsNew(next) => match journal.describe(&RunSelector::Run(run)).await? {
            Some(info) => {
                let next = NewRun {
                    run: RunId::from_uuid(*next),
                    ticket: info.ticket,
                    ..successor(info.workflow_id.as_str(), run)
                };
                continuing(run, last, next)
            }
            None => going_on(run),
        },
    };
    commit.records.extend(ended.records);
    commit.transition = ended.transition;
    let consumed = inbox.signals.iter().take(part.consume);
    // What is received is recorded, or the batch is one that consumes what it does not receive.
    for (record, signal) in commit.records.iter_mut().zip(consumed.clone()) {
        if !record.kind.is_final() {
            record.kind = RecordKind::SignalReceived;
            record.fingerprint = 0;
            record.name = Arc::clone(&signal.name);
            record.payload = signal.payload.clone();
        }
    }
    commit.consumed_signals = consumed.map(|signal| signal.sequence).collect();
    commit.attempts = part
        .attempts
        .iter()
        .map(|command| attempt(*command, last, Timestamp::UNIX_EPOCH))
        .collect();
    commit.settled_attempts = part
        .settled
        .iter()
        .map(|command| CommandId(*command))
        .collect();
    commit.children = part.children.clone();
    let publications = part.publishes.iter().map(|(name, value)| Publication {
        name: name_of(*name).into(),
        payload: vec![*value].into(),
    });
    commit.published = publications.collect();
    let tags = part.tags.iter().map(|(name, value)| TagChange {
        name: name.to_string().into(),
        value: value.map(|value| value.to_string().into()),
    });
    commit.tags = tags.collect();
    Ok(commit)
}

/// The name of a publication.
pub(super) const fn name_of(number: u8) -> &'static str {
    if number == 0 { "state" } else { "progress" }
}

fn tell(mut outcome: BatchOutcome) -> String {
    outcome.woken.sort_unstable_by_key(|woken| woken.run);
    outcome.awaited.sort_unstable();
    outcome.watched.sort_unstable();
    outcome.rejected_children.sort_unstable();
    for start in &mut outcome.starts {
        // Whether a run that gives up its place in this very batch is told as it was or as it is.
        if let StartOutcome::Existing { status, .. } = start
            && !status.is_closed()
        {
            *status = RunStatus::Pending;
        }
    }
    format!("{outcome:?}")
}

fn tell_closed(closed: Option<Closed>) -> String {
    format!("{closed:?}")
}
