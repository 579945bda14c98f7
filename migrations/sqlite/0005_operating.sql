-- Runs that an operator holds back. Status 3 is paused: what has `pause_requested` gets it in place of 0, pending.
ALTER TABLE sync_workflow_runs ADD COLUMN pause_requested INTEGER NOT NULL DEFAULT 0;
