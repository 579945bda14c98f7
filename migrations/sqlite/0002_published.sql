-- What runs show to whoever asks: the last value under each name, of a chain of runs.
CREATE TABLE sync_workflow_published (
    chain        BLOB    NOT NULL,
    name         TEXT    NOT NULL,
    -- A greater number is a later value.
    revision     INTEGER NOT NULL,
    payload      BLOB    NOT NULL,
    published_at INTEGER NOT NULL,
    PRIMARY KEY (chain, name)
) STRICT;
