//! Many runs at once.

use super::{Client, Error, ForkError, ForkPoint};
use crate::{
    id::BuildId,
    journal::{BuildMove, BuildMoved, RunFilter, RunInfo, RunSelector},
    status::RunStatus,
};

/// What to do with every run that a filter finds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BulkAction {
    /// Ask it to cancel.
    Cancel,
    /// End it at once.
    Terminate {
        /// The reason that is recorded.
        reason: String,
    },
    /// Let it go on, if it is parked.
    Unpark,
    /// Hold it back.
    Pause,
    /// Let it go on, if it is paused or about to be.
    Resume,
    /// Give it to the workers of another build, whether or not it replays there; a worker that holds it keeps it until
    /// it gives it up. One that does not fit is parked there. What replays is moved by
    /// [`WorkerBuilder::move_what_replays`](crate::WorkerBuilder::move_what_replays).
    MoveToBuild {
        /// The build.
        build: BuildId,
    },
    /// Take it back to a place of its history, as [`Client::reset`]: runs that are parked or have failed, and are the
    /// latest of their workflow id. One whose history has no such place is left as it is.
    Reset {
        /// The place in each history.
        to: ForkPoint,
    },
}

/// What came of an action on many runs.
#[derive(Debug, Clone, Default)]
pub struct BulkReport {
    /// How many runs the filter found that the action is for.
    pub found: u64,
    /// How many of them were changed: none in a dry run, and fewer than were found where some ended meanwhile.
    pub changed: u64,
    /// The first of those that were found, at most [`BulkReport::MOST_SHOWN`].
    pub shown: Vec<RunInfo>,
}

impl BulkReport {
    /// How many runs are shown.
    pub const MOST_SHOWN: usize = 100;
}

impl Client {
    /// Finds the runs that a filter describes and an action is for, open ones but for a reset, without changing any: look at what this
    /// returns before you call [`Self::bulk`].
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] when the journal cannot be read.
    pub async fn bulk_dry_run(
        &self,
        filter: &RunFilter,
        action: &BulkAction,
    ) -> Result<BulkReport, Error> {
        self.each(filter, action, true).await
    }

    /// Does something to every run that a filter describes and the action is for, one page of runs after the other: the newest first.
    /// Runs that are started meanwhile are not touched. May be repeated: what was done is not done again.
    ///
    /// ```no_run
    /// use sync_workflow::{client::BulkAction, journal::RunFilter, status::RunStatus};
    ///
    /// # async fn example(client: sync_workflow::Client) -> Result<(), sync_workflow::client::Error> {
    /// let parked = RunFilter {
    ///     statuses: vec![RunStatus::Parked],
    ///     workflow: Some("order".into()),
    ///     ..RunFilter::default()
    /// };
    /// println!("{}", client.bulk_dry_run(&parked, &BulkAction::Unpark).await?.found);
    /// client.bulk(&parked, &BulkAction::Unpark).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] when the journal fails; what was changed until then stays.
    pub async fn bulk(&self, filter: &RunFilter, action: &BulkAction) -> Result<BulkReport, Error> {
        self.each(filter, action, false).await
    }

    async fn each(
        &self,
        filter: &RunFilter,
        action: &BulkAction,
        is_dry: bool,
    ) -> Result<BulkReport, Error> {
        let mut report = BulkReport::default();
        let mut filter = action.narrowed(filter);
        if filter.statuses.is_empty() {
            return Ok(report);
        }
        loop {
            let page = self.list(&filter).await?;
            filter.before = page.items.last().map(|info| info.run);
            for info in page.items {
                report.found += 1;
                if !is_dry {
                    report.changed += u64::from(self.act(&info, action).await?);
                }
                if report.shown.len() < BulkReport::MOST_SHOWN {
                    report.shown.push(info);
                }
            }
            if !page.more {
                return Ok(report);
            }
        }
    }

    async fn move_run(&self, info: &RunInfo, build: &BuildId) -> Result<(), Error> {
        let to = BuildMove {
            to: Some(build.clone()),
            if_length: None,
        };
        match self.journal.builds().move_to_build(info.run, &to).await? {
            BuildMoved::NotOpen => Err(Error::NotOpen),
            BuildMoved::Moved | BuildMoved::Held | BuildMoved::Grown => {
                self.wake_up(&info.queue).await;
                Ok(())
            }
        }
    }

    /// `false` if the run has ended, goes on already, or has no such place.
    async fn act(&self, info: &RunInfo, action: &BulkAction) -> Result<bool, Error> {
        let run = RunSelector::Run(info.run);
        let done = match action {
            BulkAction::Cancel => self.cancel_run(&run).await,
            BulkAction::Terminate { reason } => self.terminate_run(&run, reason).await,
            BulkAction::Unpark => self.unpark_run(&run).await,
            BulkAction::Pause => self.pause_run(&run).await,
            BulkAction::Resume => self.resume_run(&run).await,
            BulkAction::MoveToBuild { build } => self.move_run(info, build).await,
            BulkAction::Reset { to } => match self.reset_run(info, *to).await {
                Ok(_) => Ok(()),
                Err(ForkError::Client(error)) => Err(error),
                Err(_) => return Ok(false),
            },
        };
        match done {
            Ok(()) => Ok(true),
            Err(Error::NotOpen | Error::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl BulkAction {
    /// The filter, for those statuses only that the action is for.
    fn narrowed(&self, filter: &RunFilter) -> RunFilter {
        let fitting: &[RunStatus] = match self {
            Self::Cancel
            | Self::Terminate { .. }
            | Self::Pause
            | Self::Resume
            | Self::MoveToBuild { .. } => &RunStatus::OPEN,
            Self::Unpark => &[RunStatus::Parked],
            Self::Reset { .. } => &[RunStatus::Parked, RunStatus::Failed],
        };
        let is_asked_for =
            |status: &&RunStatus| filter.statuses.is_empty() || filter.statuses.contains(status);
        RunFilter {
            statuses: fitting.iter().filter(is_asked_for).copied().collect(),
            limit: RunFilter::MAX_LIMIT,
            ..filter.clone()
        }
    }
}
