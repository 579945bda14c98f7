-- Queues with limits. A run of such a queue waits until it is admitted: it sleeps meanwhile, so that every
-- statement that knows sleeping runs knows it.

ALTER TABLE sync_workflow.runs
    -- Whose turn it is: runs of one key wait for each other, and keys take turns.
    ADD COLUMN queue_key text     COLLATE "C" NOT NULL DEFAULT '',
    -- Greater goes first, among the runs of a key.
    ADD COLUMN priority  smallint NOT NULL DEFAULT 0,
    -- 0 not asked for, 1 admitted and counted, 2 goes on uncounted, 3 waits.
    ADD COLUMN admission smallint NOT NULL DEFAULT 0;

-- Who waits, by key, in the order in which they are admitted.
CREATE INDEX runs_waiting ON sync_workflow.runs (queue, queue_key, priority DESC, run_id)
    WHERE status = 0 AND admission = 3;

-- One row per queue with limits. Whoever admits holds its lock, so that no two admit at once.
CREATE TABLE sync_workflow.queues (
    queue               text             COLLATE "C" PRIMARY KEY,
    max_running         integer,
    max_running_per_key integer,
    max_in_worker       integer,
    -- So many are admitted in each period, and as many at once if none was before.
    rate_limit          integer,
    rate_period         interval,
    tokens              double precision NOT NULL DEFAULT 0,
    tokens_at           timestamptz      NOT NULL DEFAULT now(),
    is_paused           boolean          NOT NULL DEFAULT false,
    -- Runs that were admitted and have not ended, but for those of queue_releases.
    running             integer          NOT NULL DEFAULT 0,
    -- How often runs were admitted.
    turn                bigint           NOT NULL DEFAULT 0
) WITH (fillfactor = 50, autovacuum_vacuum_threshold = 200, autovacuum_vacuum_scale_factor = 0);

-- The keys of which runs are admitted or wait.
CREATE TABLE sync_workflow.queue_keys (
    queue      text    COLLATE "C" NOT NULL,
    key        text    COLLATE "C" NOT NULL,
    running    integer NOT NULL DEFAULT 0,
    -- Whether a run of it may wait: never false while one does.
    is_waiting boolean NOT NULL DEFAULT true,
    -- When it was served last, in turns of the queue: who waits longest goes first.
    turn       bigint  NOT NULL,
    CONSTRAINT queue_keys_pkey PRIMARY KEY (queue, key)
) WITH (fillfactor = 70, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX queue_keys_turn ON sync_workflow.queue_keys (queue, turn, key) WHERE is_waiting;

-- Runs that have ended, until somebody who admits has counted them: so no end of a run waits for a lock on its
-- queue.
CREATE TABLE sync_workflow.queue_releases (
    release_id bigint  NOT NULL GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- One of a run that was admitted, none of one that waited.
    turns      integer NOT NULL,
    queue      text    COLLATE "C" NOT NULL,
    key        text    COLLATE "C" NOT NULL
) WITH (autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_scale_factor = 0.02);
CREATE INDEX queue_releases_queue ON sync_workflow.queue_releases (queue);

CREATE FUNCTION sync_workflow.release_turn() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO sync_workflow.queue_releases (turns, queue, key)
    VALUES ((old.admission = 1)::integer, old.queue, old.queue_key);
    RETURN NULL;
END
$$;

-- Whatever statement ends the run. A run that continues as new hands its turn on.
CREATE TRIGGER runs_release_turn AFTER UPDATE OF status ON sync_workflow.runs FOR EACH ROW
    WHEN (old.admission IN (1, 3) AND old.status < 10 AND new.status >= 10 AND new.status <> 14)
    EXECUTE FUNCTION sync_workflow.release_turn();

-- Admits at most `room` runs of the workflows that a node knows, and says whether there is more to do at once, and when
-- the rate allows the next.
--
-- Every statement here sees what others committed before it: so the counts are those after the lock.
CREATE FUNCTION sync_workflow.admit(for_node uuid, for_queue text, known text[], room integer)
    RETURNS TABLE (more boolean, next_at timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    most_sorted CONSTANT integer := 4096;
    most_freed  CONSTANT integer := 16384;
    q        sync_workflow.queues;
    refilled double precision;
    freed    integer;
    sorted   integer;
    free     integer;
    keys     text[];
    admitted integer := 0;
BEGIN
    more := false;
    SELECT * INTO q FROM sync_workflow.queues WHERE queue = for_queue;
    IF NOT FOUND OR NOT EXISTS (SELECT FROM sync_workflow.nodes n WHERE n.node_id = for_node) THEN
        RETURN NEXT;
        RETURN;
    END IF;
    -- A look that locks nothing: a worker that finds nothing to do writes nothing.
    IF NOT EXISTS (
        SELECT FROM sync_workflow.runs r
        WHERE r.status = 0 AND r.queue = for_queue AND r.workflow = ANY (known) AND r.wake_at <= now()
          AND r.admission IN (0, 3)
    ) AND (
        q.is_paused OR room <= 0
        OR NOT EXISTS (SELECT FROM sync_workflow.runs r
                       WHERE r.status = 0 AND r.admission = 3 AND r.queue = for_queue)
        OR q.running >= q.max_running
           AND NOT EXISTS (SELECT FROM sync_workflow.queue_releases r WHERE r.queue = for_queue)
    ) THEN
        RETURN NEXT;
        RETURN;
    END IF;
    SELECT * INTO q FROM sync_workflow.queues WHERE queue = for_queue FOR NO KEY UPDATE;

    -- What has ended since.
    WITH gone AS (
        DELETE FROM sync_workflow.queue_releases
        WHERE release_id IN (SELECT r.release_id FROM sync_workflow.queue_releases r
                             WHERE r.queue = for_queue LIMIT most_freed)
        RETURNING key, turns
    ), counted AS (
        SELECT g.key, sum(g.turns)::integer AS turns, count(*) AS count FROM gone g GROUP BY g.key
    ), lowered AS (
        UPDATE sync_workflow.queue_keys k SET running = k.running - c.turns
        FROM counted c WHERE k.queue = for_queue AND k.key = c.key
    )
    SELECT coalesce(sum(c.count), 0), q.running - coalesce(sum(c.turns), 0), coalesce(array_agg(c.key), '{}')
    INTO freed, q.running, keys FROM counted c;

    -- What has become due since: it waits, but for what is to be cancelled.
    WITH due AS MATERIALIZED (
        SELECT r.run_id FROM sync_workflow.runs r
        WHERE r.status = 0 AND r.queue = for_queue AND r.workflow = ANY (known) AND r.wake_at <= now()
          AND r.admission IN (0, 3)
        LIMIT most_sorted FOR NO KEY UPDATE SKIP LOCKED
    ), moved AS (
        UPDATE sync_workflow.runs r
        SET admission = CASE WHEN r.cancel_requested THEN 2 ELSE 3 END,
            wake_at = CASE WHEN r.cancel_requested THEN r.wake_at ELSE 'infinity' END
        FROM due WHERE r.run_id = ANY (ARRAY[due.run_id])
        RETURNING r.queue_key, r.admission
    ), waiting AS (
        INSERT INTO sync_workflow.queue_keys AS k (queue, key, turn)
        SELECT DISTINCT for_queue, m.queue_key, q.turn FROM moved m WHERE m.admission = 3
        ON CONFLICT ON CONSTRAINT queue_keys_pkey DO UPDATE SET is_waiting = true WHERE NOT k.is_waiting
    )
    SELECT count(*), keys || coalesce(array_agg(m.queue_key) FILTER (WHERE m.admission = 2), '{}')
    INTO sorted, keys FROM moved m;

    -- How many more may run.
    free := CASE WHEN q.is_paused THEN 0 ELSE greatest(least(room, q.max_running - q.running), 0) END;
    IF q.rate_limit IS NOT NULL THEN
        refilled := greatest(extract(epoch FROM clock_timestamp() - q.tokens_at), 0)
            * q.rate_limit / extract(epoch FROM q.rate_period);
        q.tokens := least(q.rate_limit, q.tokens + refilled);
        q.tokens_at := clock_timestamp();
        free := least(free, floor(q.tokens)::integer);
    END IF;

    IF free > 0 THEN
        -- Keys take turns; each takes its share of what is free.
        WITH eligible AS MATERIALIZED (
            SELECT k.key, k.running, row_number() OVER (ORDER BY k.turn, k.key) AS place
            FROM sync_workflow.queue_keys k
            WHERE k.queue = for_queue AND k.is_waiting
              AND (q.max_running_per_key IS NULL OR k.running < q.max_running_per_key)
              AND EXISTS (SELECT FROM sync_workflow.runs r
                          WHERE r.status = 0 AND r.admission = 3 AND r.queue = for_queue
                            AND r.queue_key = k.key AND r.workflow = ANY (known))
            ORDER BY k.turn, k.key LIMIT free
        ), quota AS MATERIALIZED (
            SELECT e.key, e.place, least(ceil(free::numeric / (SELECT count(*) FROM eligible))::integer,
                                         q.max_running_per_key - e.running) AS count
            FROM eligible e
        ), chosen AS MATERIALIZED (
            SELECT c.run_id FROM quota
            CROSS JOIN LATERAL (
                SELECT r.run_id FROM sync_workflow.runs r
                WHERE r.status = 0 AND r.admission = 3 AND r.queue = for_queue
                  AND r.queue_key = quota.key AND r.workflow = ANY (known)
                ORDER BY r.priority DESC, r.run_id LIMIT quota.count
            ) c
            ORDER BY quota.place LIMIT free
        ), begun AS (
            UPDATE sync_workflow.runs r SET admission = 1, wake_at = now()
            FROM chosen c
            WHERE r.run_id = ANY (ARRAY[c.run_id]) AND r.status = 0 AND r.admission = 3
            RETURNING r.queue_key
        ), counted AS (
            SELECT b.queue_key AS key, count(*)::integer AS count FROM begun b GROUP BY b.queue_key
        ), raised AS (
            UPDATE sync_workflow.queue_keys k SET running = k.running + c.count, turn = q.turn + 1
            FROM counted c WHERE k.queue = for_queue AND k.key = c.key
        )
        SELECT coalesce((SELECT sum(c.count) FROM counted c), 0),
               keys || coalesce((SELECT array_agg(e.key) FROM eligible e), '{}')
        INTO admitted, keys;
    END IF;

    -- Keys of which none waits any more, and none runs.
    UPDATE sync_workflow.queue_keys k SET is_waiting = false
    WHERE k.queue = for_queue AND k.key = ANY (keys) AND k.is_waiting
      AND NOT EXISTS (SELECT FROM sync_workflow.runs r
                      WHERE r.status = 0 AND r.admission = 3 AND r.queue = for_queue
                        AND r.queue_key = k.key);
    DELETE FROM sync_workflow.queue_keys k
    WHERE k.queue = for_queue AND k.key = ANY (keys) AND NOT k.is_waiting AND k.running = 0;

    UPDATE sync_workflow.queues u
    SET running = q.running + admitted, tokens = q.tokens - CASE WHEN q.rate_limit IS NULL THEN 0 ELSE admitted END,
        tokens_at = q.tokens_at, turn = u.turn + 1
    WHERE u.queue = for_queue;

    more := sorted = most_sorted OR freed = most_freed OR admitted BETWEEN 1 AND free - 1;
    IF q.rate_limit IS NOT NULL AND q.tokens - admitted < 1 AND EXISTS (
        SELECT FROM sync_workflow.runs r WHERE r.status = 0 AND r.admission = 3 AND r.queue = for_queue
    ) THEN
        next_at := clock_timestamp() + (1 - (q.tokens - admitted)) / q.rate_limit * q.rate_period;
    END IF;
    RETURN NEXT;
END
$$;
