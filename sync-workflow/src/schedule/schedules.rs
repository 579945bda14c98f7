//! The client's side of schedules.

use std::{ops::RangeInclusive, sync::Arc};

use jiff::Timestamp;

use super::{
    InvalidSchedule, Overlap, Schedule, ScheduleState, Stored, Tick,
    definition::{check_id, workflow_id},
};
use crate::{
    client::Client,
    id::WorkflowId,
    journal::{self, Hint, MAX_PAYLOAD_BYTES, Page, ScheduleRow, ScheduleStore},
};

/// How often a change is tried that others are faster than.
const MAX_ROUNDS: u32 = 32;

/// The error of a call about schedules.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The schedule makes no sense.
    #[error("invalid schedule")]
    Invalid(#[from] InvalidSchedule),
    /// There is a schedule of this id.
    #[error("the schedule exists")]
    Exists,
    /// There is no schedule of this id.
    #[error("no schedule found")]
    NotFound,
    /// More ticks are asked for than may wait at once: ask for a shorter time.
    #[error("more ticks than the {limit} that may wait")]
    TooManyTicks {
        /// How many there is room for.
        limit: usize,
    },
    /// The row was written by a newer version, or its time zone is unknown here.
    #[error("the schedule cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// The journal failed. [`journal::Error::is_transient`] tells whether trying again may help.
    #[error("the journal failed")]
    Journal(#[from] journal::Error),
}

/// A schedule, and where it stands.
#[derive(Debug, Clone)]
pub struct ScheduleInfo {
    /// Its id.
    pub id: Arc<str>,
    /// What it starts, and when.
    pub schedule: Schedule,
    /// Where it stands.
    pub state: ScheduleState,
    /// When workers look at it next.
    pub next_at: Option<Timestamp>,
}

/// The schedules of a journal: see [`Client::schedules`].
#[derive(Debug, Clone, Copy)]
pub struct Schedules<'a>(&'a Client);

impl Client {
    /// Schedules: runs that are started at times of a calendar, or at intervals.
    #[must_use]
    pub const fn schedules(&self) -> Schedules<'_> {
        Schedules(self)
    }
}

impl Schedules<'_> {
    /// The largest page of a list.
    pub const MAX_LIMIT: u32 = 1_000;

    /// Creates a schedule, whose first tick is the first after now. Workers of its queue see it within their
    /// `poll_interval`, and one in this process at once.
    ///
    /// # Errors
    ///
    /// [`Error::Exists`] when there is one of this id, as after a call whose answer was lost; [`Error::Invalid`].
    pub async fn create(&self, id: &str, schedule: Schedule) -> Result<(), Error> {
        check_id(id)?;
        schedule.run_tags(id)?;
        let now = self.now(&schedule.queue).await?;
        let state = ScheduleState::new(now);
        let stored = Stored { schedule, state };
        let row = stored.row(id.into(), now.as_microsecond(), true, now)?;
        match self.store().put_schedule(&row).await? {
            true => self.changed(row.queue).await,
            false => return Err(Error::Exists),
        }
        Ok(())
    }

    /// Puts another definition in the place of a schedule's. What it has started and what waits stays; the next tick is the
    /// first of the new one after now.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::Invalid`].
    pub async fn update(&self, id: &str, schedule: Schedule) -> Result<(), Error> {
        schedule.run_tags(id)?;
        self.change(id, |stored, now| {
            stored.schedule = schedule.clone();
            stored.state.decided_until = now;
            Ok(())
        })
        .await
    }

    /// Lets a schedule start nothing more until it is resumed; the note says why. Runs go on, and what was triggered is
    /// started still.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn pause(&self, id: &str, note: &str) -> Result<(), Error> {
        self.change(id, |stored, _| {
            stored.state.paused = Some(note.to_owned());
            Ok(())
        })
        .await
    }

    /// Lets a paused schedule go on with the first tick after now: those of the pause are not made up for. See
    /// [`Self::backfill`].
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn resume(&self, id: &str) -> Result<(), Error> {
        self.change(id, |stored, now| {
            if stored.state.paused.take().is_some() {
                stored.state.decided_until = now;
            }
            Ok(())
        })
        .await
    }

    /// Starts a run now, whatever else is open, and returns its workflow id. The run begins when a worker has looked.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::TooManyTicks`].
    pub async fn trigger(&self, id: &str) -> Result<WorkflowId, Error> {
        let mut triggered = Tick(Timestamp::UNIX_EPOCH);
        self.change(id, |stored, now| {
            triggered = Tick(now);
            stored.wait_to_start([triggered])
        })
        .await?;
        Ok(workflow_id(id, triggered.0))
    }

    /// Starts the runs of the ticks in a time that is past, one after the other, or all at once where runs may overlap
    /// ([`Overlap::AllowAll`]). A tick whose run exists is not started again. Returns how many ticks there are.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`]; [`Error::TooManyTicks`], and then none of them is started.
    pub async fn backfill(
        &self,
        id: &str,
        times: RangeInclusive<Timestamp>,
    ) -> Result<usize, Error> {
        let mut count = 0;
        self.change(id, |stored, _| {
            let ticks = stored.ticks_in(&times)?;
            count = ticks.len();
            match stored.schedule.overlap {
                Overlap::AllowAll => stored.wait_to_start(ticks),
                Overlap::Skip | Overlap::BufferOne | Overlap::BufferAll | Overlap::CancelOther => {
                    stored.wait_in_turn(ticks)
                }
            }
        })
        .await?;
        Ok(count)
    }

    /// The next `count` times at which a schedule ticks, 1,000 at most.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn preview(&self, id: &str, count: usize) -> Result<Vec<Timestamp>, Error> {
        let info = self.describe(id).await?;
        let count = count.min(Schedule::MAX_BUFFERED);
        Ok(info.schedule.next_times(info.state.decided_until, count))
    }

    /// One schedule.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn describe(&self, id: &str) -> Result<ScheduleInfo, Error> {
        let row = self.store().find_schedule(id).await?;
        info(row.ok_or(Error::NotFound)?)
    }

    /// Schedules in the order of their ids, from after one on, at most `limit` and [`Self::MAX_LIMIT`].
    ///
    /// # Errors
    ///
    /// [`Error::Journal`] when the journal cannot be read.
    pub async fn list(&self, after: Option<&str>, limit: u32) -> Result<Page<ScheduleInfo>, Error> {
        let limit = limit.min(Self::MAX_LIMIT);
        let mut rows = self.store().list_schedules(after, limit + 1).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let items = rows.into_iter().map(info).collect::<Result<_, _>>()?;
        Ok(Page { items, more })
    }

    /// Deletes a schedule. Its runs stay.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`].
    pub async fn delete(&self, id: &str) -> Result<(), Error> {
        match self.store().delete_schedule(id).await? {
            true => Ok(()),
            false => Err(Error::NotFound),
        }
    }

    /// Reads a row, changes it, and writes it unless somebody was faster: then again.
    async fn change(
        &self,
        id: &str,
        mut change: impl FnMut(&mut Stored, Timestamp) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for _ in 0..MAX_ROUNDS {
            let row = self.store().find_schedule(id).await?;
            let row = row.ok_or(Error::NotFound)?;
            let now = self.now(&row.queue).await?;
            let mut stored = Stored::read(&row).map_err(Error::Unreadable)?;
            change(&mut stored, now)?;
            let row = stored.row(row.id, row.revision + 1, false, now)?;
            if self.store().put_schedule(&row).await? {
                self.changed(row.queue).await;
                return Ok(());
            }
        }
        let lost = "others changed the schedule every time".into();
        Err(journal::Error::Contended(lost).into())
    }

    async fn now(&self, queue: &str) -> Result<Timestamp, Error> {
        Ok(self.store().due_schedules(queue, 0).await?.now)
    }

    fn store(&self) -> &dyn ScheduleStore {
        self.0.journal().schedules()
    }

    /// Tells the workers of a queue, here and elsewhere, to look at its schedules.
    async fn changed(&self, queue: Arc<str>) {
        if let Some(node) = self.0.local_node() {
            node.schedules.notify_one();
        }
        self.0.hint(Hint::Schedules(queue)).await;
    }
}

fn info(row: ScheduleRow) -> Result<ScheduleInfo, Error> {
    let Stored { schedule, state } = Stored::read(&row).map_err(Error::Unreadable)?;
    Ok(ScheduleInfo {
        id: row.id,
        schedule,
        state,
        next_at: row.next_at,
    })
}

impl Stored {
    pub(crate) fn read(row: &ScheduleRow) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(&row.payload)
    }

    /// The row that says this.
    ///
    /// # Errors
    ///
    /// [`InvalidSchedule::TooLarge`].
    pub(crate) fn row(
        &self,
        id: Arc<str>,
        revision: i64,
        is_new: bool,
        now: Timestamp,
    ) -> Result<ScheduleRow, InvalidSchedule> {
        let payload = serde_json::to_vec(self).expect("texts, numbers and JSON have a JSON form");
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(InvalidSchedule::TooLarge {
                bytes: payload.len(),
            });
        }
        Ok(ScheduleRow {
            next_at: self.next_at(&id, now),
            queue: Arc::clone(&self.schedule.queue),
            id,
            revision,
            is_new,
            payload: payload.into(),
        })
    }

    fn wait_to_start(&mut self, ticks: impl IntoIterator<Item = Tick>) -> Result<(), Error> {
        let starting = &mut self.state.starting;
        starting.extend(ticks);
        bounded(starting.len())
    }

    fn wait_in_turn(&mut self, ticks: Vec<Tick>) -> Result<(), Error> {
        let buffered = &mut self.state.buffered;
        buffered.extend(ticks);
        bounded(buffered.len())
    }

    fn ticks_in(&self, times: &RangeInclusive<Timestamp>) -> Result<Vec<Tick>, Error> {
        let nanosecond = jiff::SignedDuration::from_nanos(1);
        let before = times.start().checked_sub(nanosecond);
        let before = before.unwrap_or(Timestamp::MIN);
        let limit = Schedule::MAX_BUFFERED;
        let ticks = self.schedule.next_times(before, limit + 1).into_iter();
        let ticks: Vec<_> = ticks
            .take_while(|tick| tick <= times.end())
            .map(Tick)
            .collect();
        bounded(ticks.len())?;
        Ok(ticks)
    }
}

const fn bounded(ticks: usize) -> Result<(), Error> {
    if ticks > Schedule::MAX_BUFFERED {
        return Err(Error::TooManyTicks {
            limit: Schedule::MAX_BUFFERED,
        });
    }
    Ok(())
}
