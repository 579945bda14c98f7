//! The deletion of runs that ended longer ago than their workflow's retention.

use std::{sync::Arc, time::Duration};

use super::node::Node;
use crate::journal::Deletion;

/// How often to look at least, however short a retention is.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Between two deletions others come to their turn.
const BREATH: Duration = Duration::from_millis(5);

/// Looks again and again, until the node ends.
pub(super) async fn run(node: Arc<Node>) {
    let retention = &node.settings.retention;
    let shortest = retention.values().copied().min().unwrap_or_default();
    let pause = shortest.clamp(
        node.settings.poll_interval.min(LONGEST_PAUSE),
        LONGEST_PAUSE,
    );
    loop {
        for (workflow, closed_for) in retention {
            let deletion = Deletion {
                workflow: Arc::clone(workflow),
                closed_for: *closed_for,
                after: None,
            };
            delete(&node, deletion).await;
        }
        // Not all workers at the same moment.
        tokio::time::sleep(pause.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
    }
}

/// Deletes all that is to be deleted of one workflow. What fails is tried again the next time.
async fn delete(node: &Node, mut deletion: Deletion) {
    let mut runs = 0_u64;
    loop {
        match node.journal.delete_closed(&deletion).await {
            Ok(deleted) => {
                runs += u64::from(deleted.runs);
                deletion.after = deleted.after;
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, workflow = %deletion.workflow,
                    "deletion_failed");
                deletion.after = None;
            }
        }
        if deletion.after.is_none() {
            break;
        }
        tokio::time::sleep(BREATH).await;
    }
    if runs > 0 {
        tracing::info!(workflow = %deletion.workflow, runs, "runs_deleted");
    }
}
