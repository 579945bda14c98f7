-- What traces and people see of runs.

-- Which distributed trace a run belongs to: a W3C traceparent, and after a space the tracestate if there is one.
ALTER TABLE sync_workflow.runs ADD COLUMN trace text COLLATE "C";

-- Payloads as the JSON text that they are. One that a codec compressed or encrypted is named, by its first byte.
CREATE OR REPLACE FUNCTION sync_workflow.payload_text(payload bytea) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
BEGIN
    IF length(payload) > 2 AND get_byte(payload, 0) = 2 THEN
        RETURN '(' || length(payload) || ' bytes, compressed with zstd)';
    ELSIF length(payload) > 2 AND get_byte(payload, 0) = 3 THEN
        RETURN '(' || length(payload) || ' bytes, encrypted with the key '
            || convert_from(substr(payload, 3, get_byte(payload, 1)), 'UTF8') || ')';
    END IF;
    RETURN convert_from(payload, 'UTF8');
EXCEPTION WHEN OTHERS THEN
    RETURN encode(payload, 'base64');
END
$$;
