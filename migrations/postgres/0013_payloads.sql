-- Large payloads, in pieces. Their record holds a reference in place of them: a hash of all pieces together, and their
-- length. Insert-only; they go with their run.
CREATE TABLE sync_workflow.payload_pieces (
    run_id uuid    NOT NULL,
    digest bytea   NOT NULL,
    number integer NOT NULL,
    bytes  bytea   NOT NULL,
    CONSTRAINT payload_pieces_pkey PRIMARY KEY (run_id, digest, number)
);

DO $$
BEGIN
    ALTER TABLE sync_workflow.payload_pieces ALTER COLUMN bytes SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported THEN
    NULL;
END
$$;

-- Runs that were about to be started when pieces of their inputs were kept, until it is known what became of them.
CREATE TABLE sync_workflow.payload_births (
    run_id  uuid        PRIMARY KEY,
    kept_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX payload_births_kept ON sync_workflow.payload_births (kept_at);

-- Payloads as the JSON text that they are. One that a codec compressed, encrypted or offloaded is named.
CREATE OR REPLACE FUNCTION sync_workflow.payload_text(payload bytea) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
BEGIN
    IF length(payload) > 2 AND get_byte(payload, 0) = 2 THEN
        RETURN '(' || length(payload) || ' bytes, compressed with zstd)';
    ELSIF length(payload) > 2 AND get_byte(payload, 0) = 3 THEN
        RETURN '(' || length(payload) || ' bytes, encrypted with the key '
            || convert_from(substr(payload, 3, get_byte(payload, 1)), 'UTF8') || ')';
    ELSIF length(payload) = 25 AND get_byte(payload, 0) = 4 THEN
        RETURN '(' || ('x' || encode(substr(payload, 18, 8), 'hex'))::bit(64)::bigint || ' bytes, offloaded)';
    END IF;
    RETURN convert_from(payload, 'UTF8');
EXCEPTION WHEN OTHERS THEN
    RETURN encode(payload, 'base64');
END
$$;
