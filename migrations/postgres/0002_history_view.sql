-- The journal for a person with psql: names in place of numbers, payloads as the JSON text that
-- they are, or as base64 where a codec compressed or encrypted them.

CREATE FUNCTION sync_workflow.payload_text(payload bytea) RETURNS text
    LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE
AS $$
BEGIN
    RETURN convert_from(payload, 'UTF8');
EXCEPTION WHEN OTHERS THEN
    RETURN encode(payload, 'base64');
END
$$;

CREATE FUNCTION sync_workflow.kind_name(kind smallint) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE kind
    WHEN 0 THEN 'started'
    WHEN 1 THEN 'side effect'
    WHEN 10 THEN 'activity completed'
    WHEN 11 THEN 'activity failed'
    WHEN 12 THEN 'activity attempted'
    WHEN 13 THEN 'transaction completed'
    WHEN 14 THEN 'transaction failed'
    WHEN 20 THEN 'timer started'
    WHEN 21 THEN 'timer fired'
    WHEN 30 THEN 'signal received'
    WHEN 40 THEN 'child started'
    WHEN 41 THEN 'child completed'
    WHEN 42 THEN 'child failed'
    WHEN 50 THEN 'cancel requested'
    WHEN 60 THEN 'completed'
    WHEN 61 THEN 'failed'
    WHEN 62 THEN 'cancelled'
    WHEN 63 THEN 'terminated'
    WHEN 64 THEN 'continued as new'
    ELSE 'kind ' || kind
END;

CREATE VIEW sync_workflow.history AS
SELECT r.workflow_id,
       r.workflow,
       j.run_id,
       j.position,
       sync_workflow.kind_name(j.kind) AS kind,
       NULLIF(j.command, -1) AS command,
       j.name,
       j.recorded_at,
       sync_workflow.payload_text(j.payload) AS payload
FROM sync_workflow.journal j
JOIN sync_workflow.runs r ON r.run_id = j.run_id
ORDER BY j.run_id, j.position;
