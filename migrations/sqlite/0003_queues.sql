-- Queues with limits. A run of such a queue waits until it is admitted: it sleeps meanwhile, without a time.

-- Whose turn it is, its priority among the runs of its key, and whether it was admitted: 0 nobody asked, 1
-- admitted and counted, 2 goes on uncounted, 3 waits.
ALTER TABLE sync_workflow_runs ADD COLUMN queue_key TEXT NOT NULL DEFAULT '';
ALTER TABLE sync_workflow_runs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sync_workflow_runs ADD COLUMN admission INTEGER NOT NULL DEFAULT 0;

CREATE INDEX sync_workflow_runs_waiting ON sync_workflow_runs (queue, queue_key, priority DESC, run)
    WHERE status = 0 AND admission = 3;

CREATE TABLE sync_workflow_queues (
    queue               TEXT    NOT NULL PRIMARY KEY,
    max_running         INTEGER,
    max_running_per_key INTEGER,
    max_in_worker       INTEGER,
    -- So many in each period, in microseconds.
    rate_limit          INTEGER,
    rate_period         INTEGER,
    tokens              REAL    NOT NULL DEFAULT 0,
    tokens_at           INTEGER NOT NULL,
    is_paused           INTEGER NOT NULL DEFAULT 0,
    -- Runs that were admitted and have not ended, but for those of the releases.
    running             INTEGER NOT NULL DEFAULT 0,
    turn                INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;

-- The keys of which runs are admitted or wait, and when each was served last.
CREATE TABLE sync_workflow_queue_keys (
    queue      TEXT    NOT NULL,
    key        TEXT    NOT NULL,
    running    INTEGER NOT NULL DEFAULT 0,
    -- Whether a run of it may wait: never false while one does.
    is_waiting INTEGER NOT NULL DEFAULT 1,
    turn       INTEGER NOT NULL,
    PRIMARY KEY (queue, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX sync_workflow_queue_keys_turn ON sync_workflow_queue_keys (queue, turn, key) WHERE is_waiting;

-- Runs that have ended, until they are counted; a run that waited has no turns.
CREATE TABLE sync_workflow_queue_releases (
    sequence INTEGER NOT NULL PRIMARY KEY,
    turns    INTEGER NOT NULL,
    queue    TEXT    NOT NULL,
    key      TEXT    NOT NULL
) STRICT;
CREATE INDEX sync_workflow_queue_releases_queue ON sync_workflow_queue_releases (queue);

-- Whatever statement ends the run. A run that continues as new hands its turn on.
CREATE TRIGGER sync_workflow_runs_release_turn AFTER UPDATE OF status ON sync_workflow_runs
    WHEN old.admission IN (1, 3) AND old.status < 10 AND new.status >= 10 AND new.status <> 14
BEGIN
    INSERT INTO sync_workflow_queue_releases (turns, queue, key)
    VALUES (old.admission = 1, old.queue, old.queue_key);
END;
