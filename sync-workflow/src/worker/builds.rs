//! Tells of runs that no worker takes, for there is none of their build.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::node::Node;
use crate::{id::BuildId, journal::BuildInfo};

/// How often to look.
const PAUSE: Duration = Duration::from_secs(60);

/// Looks again and again, until the node ends. A build is told of once, and again after it had workers.
pub(super) async fn run(node: Arc<Node>) {
    let mut told = HashSet::new();
    loop {
        match node
            .journal
            .builds()
            .list_builds(&node.settings.queue)
            .await
        {
            Ok(builds) => {
                node.metrics.stranded_runs(&builds);
                tell(&node, &builds, &mut told);
            }
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, node = %node.id, "builds_failed");
            }
        }
        // Not all workers at the same moment.
        tokio::time::sleep(PAUSE.mul_f64(0.8 + 0.4 * fastrand::f64())).await;
    }
}

fn tell(node: &Node, builds: &[BuildInfo], told: &mut HashSet<BuildId>) {
    let stranded = builds.iter().filter(|build| build.is_stranded());
    for BuildInfo {
        build, open_runs, ..
    } in stranded.clone()
    {
        if told.insert(build.clone()) {
            tracing::warn!(queue = %node.settings.queue, %build, open_runs, "build_without_workers");
        }
    }
    let stranded: HashSet<&BuildId> = stranded.map(|info| &info.build).collect();
    told.retain(|build| stranded.contains(build));
}
