//! The scheduler: looks after the schedules of the worker's queue.
//!
//! Any number of workers may look at once. What a tick starts is written into the schedule's row first, which one of
//! them can: the row names its revision. What is written there is started then, by whoever comes to it, under a
//! workflow id that follows from the tick.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;

use super::node::Node;
use crate::{
    journal::{Hint, Result, RunSelector, ScheduleRow, StartOutcome},
    schedule::{Request, Stored},
};

/// How many schedules are read at once.
const PAGE: u32 = 32;
/// How often to look for a schedule that no hint told of: it costs an idle worker a statement.
const LOOK_AGAIN: Duration = Duration::from_secs(30);
/// A schedule that this version cannot read is looked at again after so long.
const UNREADABLE_PAUSE: Duration = Duration::from_secs(60);

/// Looks until the node ends or drains.
pub(super) async fn run(node: Arc<Node>) {
    loop {
        let next = match look(&node).await {
            Ok(next) => next,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, node = %node.id, "schedules_failed");
                None
            }
        };
        let poll = node
            .settings
            .poll_interval
            .max(LOOK_AGAIN)
            .mul_f64(0.8 + 0.4 * fastrand::f64());
        let limit = next.map_or(poll, |next| node.clock.until(next).min(poll));
        tokio::select! {
            biased;
            () = node.fenced() => return,
            () = node.schedules.notified() => {}
            () = tokio::time::sleep(limit) => {}
        }
        if node.is_draining() {
            return;
        }
    }
}

/// Does what is due, and returns when something will be.
async fn look(node: &Node) -> Result<Option<Timestamp>> {
    loop {
        let queue = &node.settings.queue;
        let due = node.journal.schedules().due_schedules(queue, PAGE).await?;
        if due.rows.is_empty() || node.is_fenced() || node.is_draining() {
            return Ok(due.next_at);
        }
        for row in due.rows {
            tend(node, row, due.now).await?;
        }
    }
}

/// Does what is due for one schedule, unless another worker is faster.
async fn tend(node: &Node, row: ScheduleRow, now: Timestamp) -> Result<()> {
    let mut stored = match Stored::read(&row) {
        Ok(stored) => stored,
        Err(error) => return set_aside(node, row, now, &error).await,
    };
    let mut row = row;
    loop {
        if stored.state.starting.is_empty() {
            let last = stored.last_run(&row.id);
            let is_open = match &last {
                Some(last) if stored.needs_last() => is_open(node, last).await?,
                _ => false,
            };
            if let (Request::CancelLast, Some(last)) = (stored.decide(&row.id, now, is_open), last)
                && let Some(woken) = node.journal.request_cancel(&last).await?
            {
                node.cancelled(woken);
            }
        } else {
            start(node, &row.id, &stored).await?;
            stored.have_started();
        }
        let Ok(next) = stored.row(row.id, row.revision + 1, false, now) else {
            // It grew by its ticks, which are bounded far below.
            return Ok(());
        };
        if !node.journal.schedules().put_schedule(&next).await? || stored.state.starting.is_empty()
        {
            return Ok(());
        }
        row = next;
    }
}

async fn is_open(node: &Node, run: &RunSelector) -> Result<bool> {
    let info = node.journal.describe(run).await?;
    Ok(info.is_some_and(|info| !info.status.is_closed()))
}

/// Starts the runs of the ticks that are written down.
async fn start(node: &Node, id: &str, stored: &Stored) -> Result<()> {
    let mut has_started = false;
    for tick in &stored.state.starting {
        let run = stored.new_run(id, *tick, node.settings.run_ids().next());
        if node.journal.start(&run).await? == StartOutcome::Started {
            tracing::debug!(schedule = id, workflow_id = %run.workflow_id, "schedule_ticked");
            has_started = true;
        }
    }
    if has_started {
        node.dispatch.notify_one();
        node.notifier
            .hint(Hint::Ready(Arc::clone(&node.settings.queue)));
    }
    Ok(())
}

/// Leaves a schedule that this version cannot read to others for a while.
async fn set_aside(
    node: &Node,
    row: ScheduleRow,
    now: Timestamp,
    error: &serde_json::Error,
) -> Result<()> {
    tracing::warn!(error = error as &dyn std::error::Error, schedule = %row.id, "schedule_unreadable");
    let later = ScheduleRow {
        next_at: now.checked_add(UNREADABLE_PAUSE).ok(),
        revision: row.revision + 1,
        ..row
    };
    node.journal
        .schedules()
        .put_schedule(&later)
        .await
        .map(drop)
}
