-- Runs that an operator holds back. Status 3 is paused: what has `pause_requested` gets it in place of 0, pending.
ALTER TABLE sync_workflow.runs ADD COLUMN pause_requested boolean NOT NULL DEFAULT false;

-- What is held back, for the list of it.
CREATE INDEX runs_paused ON sync_workflow.runs (run_id) WHERE status = 3;

-- Texts by which runs are found. Rows are few: most runs have none.
CREATE TABLE sync_workflow.tags (
    run_id uuid NOT NULL,
    name   text COLLATE "C" NOT NULL,
    value  text COLLATE "C" NOT NULL,
    CONSTRAINT tags_pkey PRIMARY KEY (run_id, name)
);
-- The runs that have a tag, in the order of their ids, which is that of their starts.
CREATE INDEX tags_found ON sync_workflow.tags (name, value, run_id);

-- Runs that have ended, by workflow and in the order of their ends: what their deletion reads.
CREATE INDEX runs_ended ON sync_workflow.runs (workflow, closed_at, run_id) WHERE closed_at IS NOT NULL;
