-- The name of the record with which a run leaves the records that it was given from another one.

CREATE OR REPLACE FUNCTION sync_workflow.kind_name(kind smallint) RETURNS text
    LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN CASE kind
    WHEN 0 THEN 'started'
    WHEN 1 THEN 'side effect'
    WHEN 2 THEN 'version chosen'
    WHEN 3 THEN 'forked'
    WHEN 10 THEN 'activity completed'
    WHEN 11 THEN 'activity failed'
    WHEN 12 THEN 'activity attempted'
    WHEN 13 THEN 'transaction completed'
    WHEN 14 THEN 'transaction failed'
    WHEN 20 THEN 'timer started'
    WHEN 21 THEN 'timer fired'
    WHEN 30 THEN 'signal received'
    WHEN 31 THEN 'signal sent'
    WHEN 32 THEN 'signal failed'
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
