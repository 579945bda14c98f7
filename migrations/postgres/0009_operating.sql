-- Runs that an operator holds back. Status 3 is paused: what has `pause_requested` gets it in place of 0, pending.
ALTER TABLE sync_workflow.runs ADD COLUMN pause_requested boolean NOT NULL DEFAULT false;

-- What is held back, for the list of it.
CREATE INDEX runs_paused ON sync_workflow.runs (run_id) WHERE status = 3;
