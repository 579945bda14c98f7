-- Schedules: what starts runs at times of a calendar. A row is as good as its revision: whoever writes it
-- names the one that it read.
CREATE TABLE sync_workflow_schedules (
    id       TEXT    NOT NULL PRIMARY KEY,
    queue    TEXT    NOT NULL,
    -- When a worker of the queue has something to do for it; NULL while it is paused or over.
    next_at  INTEGER,
    revision INTEGER NOT NULL,
    payload  BLOB    NOT NULL
) STRICT, WITHOUT ROWID;

-- What a worker reads.
CREATE INDEX sync_workflow_schedules_due ON sync_workflow_schedules (queue, next_at) WHERE next_at IS NOT NULL;
