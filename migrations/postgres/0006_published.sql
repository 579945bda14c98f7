-- What runs show to whoever asks: the last value under each name, of a chain of runs.
CREATE TABLE sync_workflow.published (
    chain_id     uuid        NOT NULL,
    -- A greater number is a later value.
    revision     bigint      NOT NULL DEFAULT 1,
    published_at timestamptz NOT NULL DEFAULT now(),
    name         text        COLLATE "C" NOT NULL,
    payload      bytea       NOT NULL,
    CONSTRAINT published_pkey PRIMARY KEY (chain_id, name)
) WITH (
    fillfactor = 70,
    autovacuum_vacuum_threshold = 1000,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_cost_delay = 0
);
