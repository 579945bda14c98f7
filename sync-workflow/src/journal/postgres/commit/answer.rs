//! What the database answers to a commit.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use super::columns::{CLOSE, SUSPEND};
use crate::{
    id::{NodeId, RunId},
    journal::{ParentCloses, Placement, RunCommit, RunOutcome, Transition, WokenRun},
    status::RunStatus,
};

pub(super) type StartsRow = (bool, Option<Vec<Uuid>>);

pub(super) type RecordsRow = (bool, bool);

pub(super) type EndsRow = (bool, bool, Option<Vec<Uuid>>, Option<Vec<bool>>);

pub(super) type TransitionsRow = (
    bool,
    bool,
    Option<Vec<Uuid>>,
    Option<Vec<Option<Uuid>>>,
    Option<Vec<i16>>,
    Option<Vec<bool>>,
    Option<Vec<i16>>,
    Option<Vec<bool>>,
);

pub(super) type EverythingRow = (
    bool,
    bool,
    Option<Vec<Uuid>>,
    Option<Vec<Option<Uuid>>>,
    Option<Vec<i16>>,
    Option<Vec<bool>>,
    Option<Vec<i16>>,
    Option<Vec<bool>>,
    Option<Vec<Uuid>>,
    Option<Vec<Uuid>>,
);

/// The answer to one statement of a commit.
#[derive(Debug, Default)]
pub(super) struct Answer {
    lives: bool,
    holds_all: bool,
    updated: HashMap<RunId, Updated>,
    born: HashSet<RunId>,
    watched: Vec<RunId>,
}

/// A row of a run after its update.
#[derive(Debug)]
struct Updated {
    node: Option<NodeId>,
    status: i16,
    awaited: bool,
    transition: i16,
    arrived: bool,
}

impl Answer {
    pub(super) fn of_starts((lives, born): StartsRow) -> Self {
        Self {
            lives,
            holds_all: true,
            born: born.map(set).unwrap_or_default(),
            ..Self::default()
        }
    }

    pub(super) fn of_records((lives, holds_all): RecordsRow) -> Self {
        Self {
            lives,
            holds_all,
            ..Self::default()
        }
    }

    pub(super) fn of_ends((lives, holds_all, ended, awaited): EndsRow) -> Self {
        let ended = ended.into_iter().flatten();
        let updated = ended.zip(awaited.into_iter().flatten());
        let updated = updated.map(|(run, awaited)| {
            let closed = Updated {
                node: None,
                status: RunStatus::Completed.code(),
                awaited,
                transition: CLOSE,
                arrived: false,
            };
            (RunId::from_uuid(run), closed)
        });
        Self {
            lives,
            holds_all,
            updated: updated.collect(),
            ..Self::default()
        }
    }

    pub(super) fn of_transitions(row: TransitionsRow) -> Self {
        let (lives, holds_all, run, node, status, awaited, transition, arrived) = row;
        let rows = run
            .into_iter()
            .flatten()
            .zip(node.into_iter().flatten())
            .zip(status.into_iter().flatten())
            .zip(awaited.into_iter().flatten())
            .zip(transition.into_iter().flatten())
            .zip(arrived.into_iter().flatten());
        let updated = rows
            .map(
                |(((((run, node), status), awaited), transition), arrived)| {
                    let updated = Updated {
                        node: node.map(NodeId::from_uuid),
                        status,
                        awaited,
                        transition,
                        arrived,
                    };
                    (RunId::from_uuid(run), updated)
                },
            )
            .collect();
        Self {
            lives,
            holds_all,
            updated,
            ..Self::default()
        }
    }

    pub(super) fn of_everything(row: EverythingRow) -> Self {
        let (lives, holds_all, run, node, status, awaited, transition, arrived, born, watched) =
            row;
        let watched = watched.into_iter().flatten().map(RunId::from_uuid);
        Self {
            born: born.map(set).unwrap_or_default(),
            watched: watched.collect(),
            ..Self::of_transitions((
                lives, holds_all, run, node, status, awaited, transition, arrived,
            ))
        }
    }

    /// Whether the node's row was gone, or has counted more doubts than the sender knew of. Nothing happened then.
    pub(super) const fn is_void(&self) -> bool {
        !self.lives
    }

    /// Whether one of the batch's runs is not the node's, so that nothing happened.
    pub(super) const fn holds_not_all(&self) -> bool {
        !self.holds_all
    }

    pub(super) fn was_born(&self, run: RunId) -> bool {
        self.born.contains(&run)
    }

    pub(super) fn outcome(&self, commit: &RunCommit) -> RunOutcome {
        let updated = self.updated.get(&commit.run);
        match &commit.transition {
            Transition::Continue => RunOutcome::Committed,
            Transition::Suspend { .. } => match updated {
                Some(row) if row.transition == SUSPEND && row.node.is_some() => {
                    RunOutcome::StillAwake
                }
                Some(row) if row.transition == SUSPEND => RunOutcome::Committed,
                _ => RunOutcome::Lost,
            },
            Transition::Release | Transition::Park { .. } | Transition::Close(_) => match updated {
                Some(row) if row.transition > SUSPEND => RunOutcome::Committed,
                _ => RunOutcome::Lost,
            },
        }
    }

    /// The open runs for which something arrived.
    pub(super) fn woken(&self) -> Vec<WokenRun> {
        self.updated
            .iter()
            .filter(|(_, row)| row.arrived && row.status < RunStatus::Completed.code())
            .map(|(run, row)| WokenRun {
                run: *run,
                node: row.node,
            })
            .collect()
    }

    /// The closed runs that a client awaits.
    pub(super) fn awaited(&self) -> Vec<RunId> {
        self.updated
            .iter()
            .filter(|(_, row)| row.awaited && row.transition == CLOSE)
            .map(|(run, _)| *run)
            .collect()
    }

    /// The runs that published something and that a client awaits.
    pub(super) fn watched(&self) -> Vec<RunId> {
        self.watched.clone()
    }

    /// The children that a run started in the commit in which it left them.
    pub(super) fn orphaned_at_birth<'c>(
        &'c self,
        node: NodeId,
        commit: &'c RunCommit,
    ) -> impl Iterator<Item = WokenRun> + 'c {
        let leaves =
            matches!(&commit.transition, Transition::Close(close) if close.has_open_children);
        commit
            .children
            .iter()
            .filter(move |child| {
                leaves
                    && self.was_born(child.run)
                    && child
                        .parent
                        .is_some_and(|parent| parent.on_close == ParentCloses::Cancel)
            })
            .map(move |child| WokenRun {
                run: child.run,
                node: (child.placement == Placement::Here).then_some(node),
            })
    }
}

fn set(runs: Vec<Uuid>) -> HashSet<RunId> {
    runs.into_iter().map(RunId::from_uuid).collect()
}
