-- Builds: a run that a build has begun is of that build, and only its workers take it.

-- Empty for a run of no build, which any worker may take, or those of the queue's current build.
ALTER TABLE sync_workflow.runs ADD COLUMN build text COLLATE "C" NOT NULL DEFAULT '';

-- What a node serves; nothing for one without a build.
ALTER TABLE sync_workflow.nodes
    ADD COLUMN queue text COLLATE "C",
    ADD COLUMN build text COLLATE "C";

-- The build whose workers take the runs of no build. A queue without a row leaves them to all.
CREATE TABLE sync_workflow.current_builds (
    queue text COLLATE "C" PRIMARY KEY,
    build text COLLATE "C" NOT NULL
);

-- What a claim reads. Runs of builds that nobody serves are passed over, however many they are. Claims of the previous
-- version read it by its first columns.
CREATE INDEX runs_ready_by_build ON sync_workflow.runs (queue, workflow, build, wake_at) WHERE status = 0;
DROP INDEX sync_workflow.runs_ready;

-- How many open runs a build has.
CREATE INDEX runs_of_builds ON sync_workflow.runs (queue, build) WHERE build <> '' AND status < 10;
