-- Runs that an operator holds back. Status 3 is paused: what has `pause_requested` gets it in place of 0, pending.
ALTER TABLE sync_workflow_runs ADD COLUMN pause_requested INTEGER NOT NULL DEFAULT 0;

-- Since when a run is parked.
ALTER TABLE sync_workflow_runs ADD COLUMN parked_at INTEGER;

-- Texts by which runs are found. Rows are few: most runs have none.
CREATE TABLE sync_workflow_tags (
    run   BLOB NOT NULL,
    name  TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (run, name)
) STRICT, WITHOUT ROWID;

-- The runs that have a tag, in the order of their ids, which is that of their starts.
CREATE INDEX sync_workflow_tags_found ON sync_workflow_tags (name, value, run);

-- Runs that have ended, by workflow and in the order of their ends: what their deletion reads.
CREATE INDEX sync_workflow_runs_ended ON sync_workflow_runs (workflow, closed_at, run) WHERE closed_at IS NOT NULL;
