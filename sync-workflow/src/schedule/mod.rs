//! Schedules: runs that are started at times of a calendar, or at intervals.
//!
//! A schedule is a row in the journal's database, looked after by the workers of its queue. Each tick starts one run for
//! all of them: what is to be started is first written down, by whoever read the row last, and then started under
//! a workflow id that follows from the schedule and the tick.
//!
//! ```no_run
//! use sync_workflow::{Client, Context, Failure, schedule::{Overlap, Schedule, Timing}};
//!
//! async fn report(_ctx: Context, region: String) -> Result<(), Failure> {
//!     Ok(())
//! }
//!
//! # async fn example(client: Client) -> Result<(), Box<dyn std::error::Error>> {
//! let nightly = Schedule::new(report, &"north".into(), Timing::cron("30 2 * * *", "Europe/Berlin")?)?
//!     .overlap(Overlap::BufferOne)
//!     .tag("kind", "report")?;
//! client.schedules().create("report-north", nightly).await?;
//! # Ok(()) }
//! ```

mod definition;
mod schedules;
mod state;
mod timing;

pub use definition::{InvalidSchedule, Overlap, Schedule};
pub use schedules::{Error, ScheduleInfo, Schedules};
pub(crate) use state::{Request, Stored};
pub use state::{ScheduleState, Tick};
pub use timing::{InvalidTiming, Timing};
