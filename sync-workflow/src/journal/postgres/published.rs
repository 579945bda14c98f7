//! What runs show to whoever asks.

use super::{connection::Shared, failure::Effect, selector::columns, time::Moment};
use crate::journal::{Published, Result, RunSelector};

const PUBLISHED: &str = "
SELECT p.revision, p.payload, p.published_at
FROM sync_workflow.runs r
JOIN sync_workflow.published p ON p.chain_id = r.chain_id AND p.name = $3
WHERE r.run_id = coalesce($1, (
    SELECT run_id FROM sync_workflow.runs
    WHERE workflow_id = $2 ORDER BY sequence DESC LIMIT 1))";

type PublishedRow = (i64, Vec<u8>, Moment);

pub(super) async fn published(
    shared: &Shared,
    selector: &RunSelector,
    name: &str,
) -> Result<Option<Published>> {
    let (run, workflow_id) = columns(selector);
    let query = sqlx::query_as::<_, PublishedRow>(PUBLISHED)
        .bind(run)
        .bind(workflow_id)
        .bind(name);
    let row = shared.row(Effect::None, query).await?;
    Ok(row.map(|(revision, payload, at)| Published {
        revision: revision.cast_unsigned(),
        payload: payload.into(),
        at: at.expect_finite(),
    }))
}
