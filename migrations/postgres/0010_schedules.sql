-- Schedules: what starts runs at times of a calendar. A row is as good as its revision: whoever writes it
-- names the one that it read.
CREATE TABLE sync_workflow.schedules (
    schedule_id text        COLLATE "C" PRIMARY KEY,
    queue       text        COLLATE "C" NOT NULL,
    -- When a worker of the queue has something to do for it; infinity while it is paused or over.
    next_at     timestamptz NOT NULL,
    revision    bigint      NOT NULL,
    payload     bytea       NOT NULL
) WITH (
    fillfactor = 50,
    autovacuum_vacuum_threshold = 200,
    autovacuum_vacuum_scale_factor = 0.02
);

-- What a worker reads.
CREATE INDEX schedules_due ON sync_workflow.schedules (queue, next_at);
