-- The journal: nodes and their leases, runs, records, signals, attempts.
--
-- `runs` is hot and narrow: every value that can grow lives in an insert-only table, so that an
-- update of a run rewrites a few hundred bytes. No table has a foreign key: what belongs together
-- is written by one statement, and a check per row would cost more than the row.

-- One row per living node. Deleting the row is what ends a node: every statement that writes for it
-- locks the row FOR KEY SHARE first, and a heartbeat, which changes no key, waits for none of them.
CREATE TABLE sync_workflow.nodes (
    node_id    uuid        PRIMARY KEY,
    expires_at timestamptz NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);

CREATE TABLE sync_workflow.runs (
    run_id           uuid        PRIMARY KEY,
    chain_id         uuid        NOT NULL,
    node_id          uuid,
    parent_run       uuid,
    -- When a pending run becomes ready; infinity while it waits for an arrival only.
    wake_at          timestamptz NOT NULL,
    created_at       timestamptz NOT NULL DEFAULT now(),
    closed_at        timestamptz,
    -- How much has ever arrived: the number that a suspension is compared with.
    inbox            bigint      NOT NULL DEFAULT 0,
    -- The how-many-th run of its workflow id. Unique, and a start takes the next one: two starts
    -- at once cannot both succeed.
    sequence         integer     NOT NULL,
    -- Claims in a row without progress, and the length of the journal at the last claim.
    attempts         integer     NOT NULL DEFAULT 0,
    progress         integer     NOT NULL DEFAULT 0,
    parent_command   integer,
    parent_close     smallint,
    status           smallint    NOT NULL,
    cancel_requested boolean     NOT NULL DEFAULT false,
    -- A client in some process waits for the end.
    awaited          boolean     NOT NULL DEFAULT false,
    -- Collation "C" compares bytes, so that an index serves prefixes and no locale upgrade breaks it.
    workflow_id      text        COLLATE "C" NOT NULL,
    workflow         text        COLLATE "C" NOT NULL,
    queue            text        COLLATE "C" NOT NULL,
    CONSTRAINT runs_workflow_id_sequence_key UNIQUE (workflow_id, sequence)
) WITH (
    fillfactor = 75,
    -- Dead versions of hot rows slow every claim down, so they go early.
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_analyze_threshold = 1000,
    autovacuum_analyze_scale_factor = 0.05,
    autovacuum_vacuum_cost_delay = 0
);

-- What a claim reads: pending runs of a queue by the time they become ready.
CREATE INDEX runs_pending ON sync_workflow.runs (queue, wake_at) WHERE status = 0;
-- What a reaper frees and a fallback poll compares.
CREATE INDEX runs_held ON sync_workflow.runs (node_id) WHERE status = 1;
-- The children of a run: to cancel them when it closes, and to list them.
CREATE INDEX runs_children ON sync_workflow.runs (parent_run) WHERE parent_run IS NOT NULL;

-- Insert-only. Positions count from zero without gaps; the primary key makes a second append at the
-- same place impossible.
CREATE TABLE sync_workflow.journal (
    run_id      uuid        NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    fingerprint bigint      NOT NULL,
    position    integer     NOT NULL,
    command     integer     NOT NULL,
    kind        smallint    NOT NULL,
    name        text        COLLATE "C" NOT NULL,
    payload     bytea       NOT NULL,
    CONSTRAINT journal_pkey PRIMARY KEY (run_id, position)
) WITH (autovacuum_vacuum_cost_delay = 0);

-- Signals of a chain of runs, kept after they were consumed: the id of a signal counts once.
CREATE TABLE sync_workflow.signals (
    chain_id   uuid        NOT NULL,
    sequence   bigint      NOT NULL GENERATED ALWAYS AS IDENTITY,
    arrived_at timestamptz NOT NULL DEFAULT now(),
    consumed   boolean     NOT NULL DEFAULT false,
    signal_id  text        COLLATE "C" NOT NULL,
    name       text        COLLATE "C" NOT NULL,
    payload    bytea       NOT NULL,
    CONSTRAINT signals_pkey PRIMARY KEY (chain_id, signal_id)
);
CREATE INDEX signals_waiting ON sync_workflow.signals (chain_id, sequence) WHERE NOT consumed;

-- Unfinished activities that are between attempts or have reported progress.
CREATE TABLE sync_workflow.attempts (
    run_id       uuid        NOT NULL,
    command      integer     NOT NULL,
    failed       integer     NOT NULL,
    next_at      timestamptz,
    scheduled_at timestamptz NOT NULL,
    failure      bytea       NOT NULL,
    details      bytea       NOT NULL,
    CONSTRAINT attempts_pkey PRIMARY KEY (run_id, command)
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0.02
);

-- Why a run is parked. A row of a run that is not parked (any more) means nothing.
CREATE TABLE sync_workflow.parked (
    run_id    uuid        PRIMARY KEY,
    parked_at timestamptz NOT NULL DEFAULT now(),
    reason    text        NOT NULL
);

-- Large payloads compress with lz4 where the server was built with it: several times faster than
-- the built-in method at about the same size.
DO $$
BEGIN
    ALTER TABLE sync_workflow.journal ALTER COLUMN payload SET COMPRESSION lz4;
    ALTER TABLE sync_workflow.signals ALTER COLUMN payload SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END
$$;
