-- Large payloads, in pieces. Their record holds a reference in place of them: a hash of all pieces together, and their
-- length. Appended only; they go with their run.
CREATE TABLE sync_workflow_payload_pieces (
    run    BLOB    NOT NULL,
    digest BLOB    NOT NULL,
    number INTEGER NOT NULL,
    bytes  BLOB    NOT NULL,
    PRIMARY KEY (run, digest, number)
) STRICT;

-- Runs that were about to be started when pieces of their inputs were kept, until it is known what became of them.
CREATE TABLE sync_workflow_payload_births (
    run     BLOB    NOT NULL PRIMARY KEY,
    kept_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX sync_workflow_payload_births_kept ON sync_workflow_payload_births (kept_at);
