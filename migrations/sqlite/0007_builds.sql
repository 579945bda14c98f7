-- Builds: a run that a build has begun is of that build, and only its workers take it.

-- NULL for a run of no build, which any worker may take, or those of the queue's current build.
ALTER TABLE sync_workflow_runs ADD COLUMN build TEXT;

-- What a node serves; nothing for one without a build.
ALTER TABLE sync_workflow_nodes ADD COLUMN queue TEXT;
ALTER TABLE sync_workflow_nodes ADD COLUMN build TEXT;

-- The build whose workers take the runs of no build. A queue without a row leaves them to all.
CREATE TABLE sync_workflow_current_builds (
    queue TEXT NOT NULL PRIMARY KEY,
    build TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- How many open runs a build has.
CREATE INDEX sync_workflow_runs_of_builds ON sync_workflow_runs (queue, build) WHERE build IS NOT NULL AND status < 10;
