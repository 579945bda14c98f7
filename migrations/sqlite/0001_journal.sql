-- The journal of sync-workflow. Times are microseconds since the epoch; ids are the 16 bytes of a uuid.

-- The lease of every live node. Deleting a row is what ends a node.
CREATE TABLE sync_workflow_nodes (
    node        BLOB    NOT NULL PRIMARY KEY,
    lease_until INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One narrow row per run: what changes. What is large is in the insert-only tables below.
CREATE TABLE sync_workflow_runs (
    run              BLOB    NOT NULL PRIMARY KEY,
    chain            BLOB    NOT NULL,
    workflow_id      TEXT    NOT NULL,
    sequence         INTEGER NOT NULL,
    workflow         TEXT    NOT NULL,
    queue            TEXT    NOT NULL,
    parent_run       BLOB,
    parent_command   INTEGER,
    on_parent_close  INTEGER,
    status           INTEGER NOT NULL,
    node             BLOB,
    wake_at          INTEGER,
    inbox            INTEGER NOT NULL,
    -- Claims in a row without progress, and the length of the journal at the last claim.
    claims           INTEGER NOT NULL,
    progress         INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL,
    awaited          INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    closed_at        INTEGER,
    parked_reason    TEXT
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX sync_workflow_runs_by_workflow_id ON sync_workflow_runs (workflow_id, sequence);
-- Only what a claim may take, or will.
CREATE INDEX sync_workflow_runs_asleep ON sync_workflow_runs (queue, wake_at)
    WHERE status = 0 AND wake_at IS NOT NULL;
CREATE INDEX sync_workflow_runs_held ON sync_workflow_runs (node) WHERE node IS NOT NULL;
CREATE INDEX sync_workflow_runs_by_parent ON sync_workflow_runs (parent_run) WHERE parent_run IS NOT NULL;

-- Appended only. Rows lie in the order of their commits and a dense index finds them, so that a commit of
-- many runs touches few pages.
CREATE TABLE sync_workflow_records (
    run         BLOB    NOT NULL,
    position    INTEGER NOT NULL,
    kind        INTEGER NOT NULL,
    command     INTEGER NOT NULL,
    name        TEXT    NOT NULL,
    fingerprint INTEGER NOT NULL,
    payload     BLOB    NOT NULL,
    recorded_at INTEGER NOT NULL,
    PRIMARY KEY (run, position)
) STRICT;

-- State of activities between attempts. Rows live as long as the activity is unfinished.
CREATE TABLE sync_workflow_attempts (
    run          BLOB    NOT NULL,
    command      INTEGER NOT NULL,
    failed       INTEGER NOT NULL,
    next_at      INTEGER,
    scheduled_at INTEGER NOT NULL,
    failure      BLOB    NOT NULL,
    details      BLOB    NOT NULL,
    PRIMARY KEY (run, command)
) STRICT, WITHOUT ROWID;

-- Signals, by chain of runs. A consumed one stays as the proof that its id was delivered.
CREATE TABLE sync_workflow_signals (
    sequence INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    chain    BLOB    NOT NULL,
    id       TEXT    NOT NULL,
    name     TEXT    NOT NULL,
    payload  BLOB    NOT NULL,
    consumed INTEGER NOT NULL DEFAULT 0,
    UNIQUE (chain, id)
) STRICT;

CREATE INDEX sync_workflow_signals_waiting ON sync_workflow_signals (chain, sequence) WHERE consumed = 0;
