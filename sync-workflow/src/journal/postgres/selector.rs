//! Selectors of runs, as two parameters of a statement.

use uuid::Uuid;

use crate::journal::RunSelector;

/// The run, or else the workflow id whose latest run is meant.
pub(super) fn columns(selector: &RunSelector) -> (Option<Uuid>, Option<&str>) {
    match selector {
        RunSelector::Run(run) => (Some(run.as_uuid()), None),
        RunSelector::Latest(workflow_id) => (None, Some(workflow_id.as_str())),
    }
}
