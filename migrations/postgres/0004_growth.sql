-- What a claim reads: pending runs of a queue and a workflow by the time they become ready. A worker that does
-- not know a workflow passes over none of its runs.
CREATE INDEX runs_ready ON sync_workflow.runs (queue, workflow, wake_at) WHERE status = 0;
DROP INDEX sync_workflow.runs_pending;

-- What a person looks for among many runs that ended well: parked, failed, cancelled, terminated.
CREATE INDEX runs_noteworthy ON sync_workflow.runs (run_id) WHERE status IN (2, 11, 12, 13);
