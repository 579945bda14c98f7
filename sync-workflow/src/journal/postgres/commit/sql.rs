//! The statements of a commit, from the leanest to the one that can do everything.
//!
//! Each does all of its work in one round trip, and each begins with the same parts and parameters.
//! Seven rules hold for all of them:
//!
//! * The lock on the node's row comes first, and nothing is read or written unless it was taken.
//! * Nothing happens unless it was sent after the last look at a commit in doubt: the look counts the node's doubts up, a
//!   change of a key, which waits for whoever holds the lock and voids whoever comes after it with the old number.
//! * Nothing happens unless the node holds all of the batch's runs: one look for all of them is half
//!   as dear as one for each. The rows are not locked, because whoever takes a run from its living node
//!   appends a record to it, and the primary key decides between the two.
//! * That a run's first record follows its last one is not looked at here, only that its place is not taken: a look-up of
//!   the record before it makes the statement of a batch of 500 a third dearer, of 20 a seventh, of one a
//!   seventeenth. A worker that left a hole would be found out as the run is loaded next, as damage.
//! * Locks are taken in one order: node, records, rows of runs by id, new runs by workflow id.
//!   Everybody else who writes keeps to it, so that nobody waits in a circle.
//! * No row is updated twice in a statement, because only one of the updates would happen.
//! * Rows are looked up by key, whatever the statistics say. `OFFSET 0` keeps a look-up from being
//!   turned into a join. `= ANY (ARRAY[…])` in an update admits the primary key and nothing else: a
//!   plain equality would admit a walk over the whole index, which looks as cheap while the table
//!   holds one row, and the plan stays when the table grows.

/// `$1` node, `$2` its doubts, `$3` its runs in this batch, `$4`-`$10` records: `fence` and `appended`, which stays open.
macro_rules! records {
    () => {
        "
WITH alive AS MATERIALIZED (
    -- Waits for an uncommitted delete of this row, or for a look at a commit in doubt, and then finds nothing.
    SELECT node_id FROM sync_workflow.nodes WHERE node_id = $1 AND doubts = $2 FOR KEY SHARE
), fence AS MATERIALIZED (
    SELECT node_id FROM alive
    WHERE (SELECT count(*) FROM sync_workflow.runs r
           WHERE r.run_id = ANY ($3::uuid[]) AND r.node_id = $1) = cardinality($3::uuid[])
), appended AS (
    INSERT INTO sync_workflow.journal
        (run_id, position, kind, command, name, fingerprint, payload)
    SELECT e.run_id, e.position, e.kind, e.command, e.name, e.fingerprint, e.payload
    FROM fence
    CROSS JOIN unnest($4::uuid[], $5::integer[], $6::smallint[], $7::integer[], $8::text[],
                      $9::bigint[], $10::bytea[])
        AS e(run_id, position, kind, command, name, fingerprint, payload)"
    };
}

/// `$11`-`$18` transitions: the end of `appended`, `turn`, `change`, `updated`.
macro_rules! transitions {
    () => {
        "
    RETURNING position
), turn AS MATERIALIZED (
    SELECT t.run_id, t.code, t.wake_at, t.seen, t.status, t.has_children, held.parent_run
    FROM fence
    CROSS JOIN unnest($11::uuid[], $12::smallint[], $13::timestamptz[], $14::bigint[],
                      $15::smallint[], $16::boolean[])
        AS t(run_id, code, wake_at, seen, status, has_children)
    CROSS JOIN LATERAL (
        SELECT r.parent_run FROM sync_workflow.runs r WHERE r.run_id = t.run_id OFFSET 0
    ) held
    -- Records before rows of runs.
    WHERE (SELECT count(*) FROM appended) >= 0
), change AS MATERIALIZED (
    -- One line per row: what the run does itself and what arrives for it, from a child that closes
    -- or from a parent that closes, in this very batch.
    SELECT c.run_id, max(c.code) AS code, max(c.wake_at) AS wake_at, max(c.seen) AS seen,
           max(c.status) AS status, sum(c.arrived) AS arrived, bool_or(c.cancel) AS cancel
    FROM (
        SELECT run_id, code, wake_at, seen, status, 0 AS arrived, false AS cancel
        FROM turn WHERE code > 0
        UNION ALL
        SELECT parent_run, 0, NULL, NULL, NULL, 1, false
        FROM turn WHERE code = 4 AND parent_run IS NOT NULL
        UNION ALL
        SELECT child.run_id, 0, NULL, NULL, NULL, 1, true
        FROM turn
        CROSS JOIN LATERAL (
            SELECT r.run_id FROM sync_workflow.runs r
            WHERE r.parent_run = turn.run_id AND r.parent_close = 0 AND r.status < 10
              AND NOT r.cancel_requested OFFSET 0
        ) child
        WHERE turn.code = 4 AND turn.has_children
    ) c
    GROUP BY c.run_id
    ORDER BY c.run_id
), updated AS (
    UPDATE sync_workflow.runs r SET
        -- Nothing arrives for a run that closes here.
        inbox = CASE WHEN c.code = 4 AND r.node_id = $1 THEN r.inbox ELSE r.inbox + c.arrived END,
        cancel_requested = r.cancel_requested
            OR c.cancel AND NOT (c.code = 4 AND r.node_id IS NOT DISTINCT FROM $1),
        status = CASE
            WHEN r.node_id IS DISTINCT FROM $1 THEN r.status
            -- Only if nothing arrived that the run has not seen. The row is locked now, so whatever
            -- arrives later finds it asleep.
            WHEN c.code = 1 AND r.inbox = c.seen AND c.arrived = 0 OR c.code = 2
                THEN CASE WHEN r.pause_requested THEN 3 ELSE 0 END
            WHEN c.code = 3 THEN 2
            WHEN c.code = 4 THEN c.status
            ELSE r.status
        END,
        node_id = CASE
            WHEN c.code > 1 AND r.node_id = $1 THEN NULL
            WHEN c.code = 1 AND r.node_id = $1 AND r.inbox = c.seen AND c.arrived = 0 THEN NULL
            ELSE r.node_id
        END,
        wake_at = CASE
            WHEN c.code = 1 AND r.node_id = $1 AND r.inbox = c.seen AND c.arrived = 0
                THEN c.wake_at
            WHEN c.code = 2 AND r.node_id = $1 THEN now()
            WHEN r.status = 0 AND c.arrived > 0 THEN least(r.wake_at, now())
            ELSE r.wake_at
        END,
        attempts = CASE
            WHEN c.code = 1 AND r.node_id = $1 AND r.inbox = c.seen AND c.arrived = 0 THEN 0
            WHEN c.code = 2 AND r.node_id = $1 THEN greatest(r.attempts - 1, 0)
            ELSE r.attempts
        END,
        closed_at = CASE
            WHEN c.code = 4 AND r.node_id = $1 THEN clock_timestamp()
            ELSE r.closed_at
        END
    FROM change c
    WHERE r.run_id = ANY (ARRAY[c.run_id])
      AND (c.code > 0 AND r.node_id = $1 OR c.arrived > 0 AND r.status < 10)
    RETURNING r.run_id, r.node_id, r.status, r.awaited, r.cancel_requested, r.pause_requested,
              r.parent_run, c.code, c.arrived
), parked AS (
    INSERT INTO sync_workflow.parked (run_id, reason)
    SELECT p.run_id, p.reason
    FROM unnest($17::uuid[], $18::text[]) AS p(run_id, reason)
    -- IS TRUE makes it a look-up in a hash table and not a join.
    WHERE (p.run_id IN (SELECT run_id FROM updated WHERE status = 2)) IS TRUE
    ON CONFLICT (run_id) DO UPDATE SET reason = excluded.reason, parked_at = now()
), forgotten AS (
    DELETE FROM sync_workflow.attempts a
    WHERE a.run_id = ANY (ARRAY(SELECT run_id FROM turn WHERE code = 4))
)"
    };
}

/// The first records of the runs that were born.
macro_rules! started {
    () => {
        "), started AS (
    INSERT INTO sync_workflow.journal
        (run_id, position, kind, command, name, fingerprint, payload)
    SELECT f.run_id, 0, 0, -1, f.workflow, f.seal, f.input
    FROM fresh f
    WHERE (f.run_id IN (SELECT run_id FROM born)) IS TRUE
)"
    };
}

/// `$19`-`$33`, `$45` and `$49`-`$52` new runs, `$34`-`$35` consumed signals, `$36`-`$42` attempts kept,
/// `$43`-`$44` attempts settled, `$46`-`$48` what is published, `$53`-`$55` tags.
macro_rules! everything_else {
    () => {
        concat!(
            ", fresh AS MATERIALIZED (
    SELECT n.*, coalesce(latest.sequence + 1, 0) AS sequence,
           -- A continuation is asked to cancel if the run that it continues was.
           n.cancelled OR coalesce((SELECT u.cancel_requested FROM updated u
                                    WHERE n.origin = 2 AND u.run_id = n.from_run), false) AS cancel,
           -- And to pause.
           coalesce((SELECT u.pause_requested FROM updated u
                     WHERE n.origin = 2 AND u.run_id = n.from_run), false) AS pause,
           -- Its parent is the one that the run has now: a fork of its parent may have adopted it.
           CASE WHEN n.origin = 2 AND n.parent_run IS NOT NULL
                THEN coalesce((SELECT u.parent_run FROM updated u WHERE u.run_id = n.from_run), n.parent_run)
                ELSE n.parent_run END AS parent
    FROM fence
    CROSS JOIN unnest($19::smallint[], $20::uuid[], $21::uuid[], $22::text[], $23::text[],
                      $24::text[], $25::bytea[], $26::smallint[], $27::uuid[], $28::integer[],
                      $29::smallint[], $30::boolean[], $31::timestamptz[], $32::uuid[],
                      $33::boolean[], $45::bigint[], $49::text[], $50::smallint[], $51::smallint[],
                      $52::text[])
        AS n(origin, run_id, chain_id, workflow_id, workflow, queue, input, reuse, parent_run,
             parent_command, parent_close, here, wake_at, from_run, cancelled, seal, queue_key,
             priority, admission, trace)
    LEFT JOIN LATERAL (
        SELECT r.run_id, r.sequence, r.status FROM sync_workflow.runs r
        WHERE r.workflow_id = n.workflow_id ORDER BY r.sequence DESC LIMIT 1
    ) latest ON true
    -- Rows of runs before new runs.
    WHERE (SELECT count(*) FROM updated) >= 0
      AND CASE n.origin
        -- A continuation, of a run that closes here.
        WHEN 2 THEN (n.from_run IN (SELECT run_id FROM updated WHERE code = 4 AND status >= 10))
            IS TRUE
        -- A start, or a child.
        ELSE latest.run_id IS NULL
            OR n.reuse = 1 AND (latest.status >= 10
                OR (latest.run_id IN
                    (SELECT run_id FROM updated WHERE status >= 10 AND status <> 14)) IS TRUE)
            OR n.reuse = 2 AND (latest.status > 10
                OR (latest.run_id IN
                    (SELECT run_id FROM updated WHERE status > 10 AND status <> 14)) IS TRUE)
        END
    ORDER BY n.workflow_id, n.origin DESC
), born AS (
    INSERT INTO sync_workflow.runs
        (run_id, chain_id, node_id, parent_run, wake_at, inbox, sequence, attempts, progress,
         parent_command, parent_close, status, cancel_requested, pause_requested, workflow_id,
         workflow, queue, queue_key, priority, admission, trace)
    SELECT f.run_id, f.chain_id, CASE WHEN f.here THEN $1 END, f.parent,
           -- What arrives at birth wakes it.
           coalesce(CASE WHEN NOT f.cancelled THEN f.wake_at END, now()), (f.cancel OR f.pause)::integer, f.sequence,
           f.here::integer,
           f.here::integer, f.parent_command, f.parent_close,
           CASE WHEN f.here THEN 1 WHEN f.pause THEN 3 ELSE 0 END, f.cancel, f.pause, f.workflow_id, f.workflow, f.queue,
           f.queue_key, f.priority, f.admission, f.trace
    FROM fresh f
    -- Another start took the place, or this very run exists.
    ON CONFLICT DO NOTHING
    RETURNING run_id
",
            started!(),
            ", consumed AS (
    UPDATE sync_workflow.signals s SET consumed = true
    FROM (
        SELECT held.chain_id, c.sequence
        FROM fence
        CROSS JOIN unnest($34::uuid[], $35::bigint[]) AS c(run_id, sequence)
        CROSS JOIN LATERAL (
            SELECT r.chain_id FROM sync_workflow.runs r WHERE r.run_id = c.run_id OFFSET 0
        ) held
    ) c
    WHERE s.chain_id = ANY (ARRAY[c.chain_id]) AND s.sequence = ANY (ARRAY[c.sequence])
      AND NOT s.consumed
), kept AS (
    INSERT INTO sync_workflow.attempts
        (run_id, command, failed, next_at, scheduled_at, failure, details)
    SELECT a.run_id, a.command, a.failed, a.next_at, a.scheduled_at, a.failure, a.details
    FROM fence
    CROSS JOIN unnest($36::uuid[], $37::integer[], $38::integer[], $39::timestamptz[],
                      $40::timestamptz[], $41::bytea[], $42::bytea[])
        AS a(run_id, command, failed, next_at, scheduled_at, failure, details)
    ON CONFLICT (run_id, command) DO UPDATE SET
        failed = excluded.failed, next_at = excluded.next_at,
        scheduled_at = excluded.scheduled_at, failure = excluded.failure,
        details = excluded.details
), settled AS (
    DELETE FROM sync_workflow.attempts a
    USING (
        SELECT s.run_id, s.command
        FROM fence
        CROSS JOIN unnest($43::uuid[], $44::integer[]) AS s(run_id, command)
    ) s
    WHERE a.run_id = ANY (ARRAY[s.run_id]) AND a.command = ANY (ARRAY[s.command])
), published AS (
    INSERT INTO sync_workflow.published AS p (chain_id, name, payload)
    SELECT held.chain_id, s.name, s.payload
    FROM fence
    CROSS JOIN unnest($46::uuid[], $47::text[], $48::bytea[]) AS s(run_id, name, payload)
    CROSS JOIN LATERAL (
        SELECT r.chain_id FROM sync_workflow.runs r WHERE r.run_id = s.run_id OFFSET 0
    ) held
    ORDER BY held.chain_id, s.name
    ON CONFLICT (chain_id, name) DO UPDATE SET
        payload = excluded.payload, revision = p.revision + 1, published_at = now()
), tagged AS (
    INSERT INTO sync_workflow.tags (run_id, name, value)
    SELECT s.run_id, s.name, s.value
    FROM fence
    CROSS JOIN unnest($53::uuid[], $54::text[], $55::text[]) AS s(run_id, name, value)
    WHERE s.value IS NOT NULL
      AND (s.run_id = ANY ($3::uuid[]) OR (s.run_id IN (SELECT run_id FROM born)) IS TRUE)
    UNION ALL
    -- A continuation has the tags of the run that it continues, but for those that change here.
    SELECT f.run_id, kept.name, kept.value
    FROM fresh f
    CROSS JOIN LATERAL (
        SELECT o.name, o.value FROM sync_workflow.tags o
        WHERE o.run_id = f.from_run
          AND NOT EXISTS (
              SELECT FROM unnest($53::uuid[], $54::text[]) AS s(run_id, name)
              WHERE s.run_id = f.from_run AND s.name = o.name)
        UNION ALL
        SELECT s.name COLLATE \"C\", s.value COLLATE \"C\"
        FROM unnest($53::uuid[], $54::text[], $55::text[]) AS s(run_id, name, value)
        WHERE s.run_id = f.from_run AND s.value IS NOT NULL
        -- As many as `Tags::MAX`.
        ORDER BY name LIMIT 32
    ) kept
    WHERE f.origin = 2 AND (f.run_id IN (SELECT run_id FROM born)) IS TRUE
    ON CONFLICT (run_id, name) DO UPDATE SET value = excluded.value
), untagged AS (
    DELETE FROM sync_workflow.tags t
    USING (
        SELECT s.run_id, s.name
        FROM fence
        CROSS JOIN unnest($53::uuid[], $54::text[], $55::text[]) AS s(run_id, name, value)
        WHERE s.value IS NULL
    ) s
    WHERE t.run_id = ANY (ARRAY[s.run_id]) AND t.name = ANY (ARRAY[s.name])
)"
        )
    };
}

/// What every statement reports: whether the node lives, and whether it holds all of the runs. If it
/// does not, nothing happened.
macro_rules! report {
    () => {
        "
SELECT (SELECT count(*) FROM alive) = 1, (SELECT count(*) FROM fence) = 1"
    };
}

/// And the rows of runs that were updated.
macro_rules! report_transitions {
    () => {
        ",
       u.run_id, u.node_id, u.status, u.awaited, u.code, u.arrived"
    };
}

macro_rules! from_updated {
    () => {
        "
FROM (
    SELECT array_agg(run_id) AS run_id, array_agg(node_id) AS node_id,
           array_agg(status) AS status, array_agg(awaited) AS awaited,
           array_agg(code::smallint) AS code, array_agg(arrived > 0) AS arrived
    FROM updated
) u"
    };
}

/// For runs that clients start, and nothing else: the lean form of `fresh`, `born` and `started`.
/// `$1` node, `$2` its doubts, `$3`-`$14` new runs. Reports whether the node lives, and the runs that were started.
pub(super) const STARTS: &str = concat!(
    "
WITH fence AS MATERIALIZED (
    SELECT node_id FROM sync_workflow.nodes WHERE node_id = $1 AND doubts = $2 FOR KEY SHARE
), fresh AS MATERIALIZED (
    SELECT n.*, coalesce(latest.sequence + 1, 0) AS sequence
    FROM fence
    CROSS JOIN unnest($3::uuid[], $4::text[], $5::text[], $6::text[], $7::bytea[], $8::smallint[],
                      $9::boolean[], $10::timestamptz[], $11::bigint[], $12::text[], $13::smallint[],
                      $14::text[])
        AS n(run_id, workflow_id, workflow, queue, input, reuse, here, wake_at, seal, queue_key,
             priority, trace)
    LEFT JOIN LATERAL (
        SELECT r.sequence, r.status FROM sync_workflow.runs r
        WHERE r.workflow_id = n.workflow_id ORDER BY r.sequence DESC LIMIT 1
    ) latest ON true
    WHERE latest.sequence IS NULL
       OR n.reuse = 1 AND latest.status >= 10
       OR n.reuse = 2 AND latest.status > 10
    ORDER BY n.workflow_id
), born AS (
    INSERT INTO sync_workflow.runs
        (run_id, chain_id, node_id, wake_at, sequence, attempts, progress, status, workflow_id,
         workflow, queue, queue_key, priority, trace)
    SELECT f.run_id, f.run_id, CASE WHEN f.here THEN $1 END, coalesce(f.wake_at, now()), f.sequence,
           f.here::integer, f.here::integer, f.here::integer, f.workflow_id, f.workflow, f.queue,
           f.queue_key, f.priority, f.trace
    FROM fresh f
    -- Another start took the place, or this very run exists.
    ON CONFLICT DO NOTHING
    RETURNING run_id
",
    started!(),
    "
SELECT (SELECT count(*) FROM fence) = 1, (SELECT array_agg(run_id) FROM born)"
);

/// For runs that go on and have nothing but records.
pub(super) const RECORDS: &str = concat!(records!(), ")", report!());

/// For runs that go on or end, and nobody else hears of it: the lean form of `turn`, `change` and
/// `updated`. `$11`-`$12` ends. Reports the runs that were closed, and whether somebody awaits them.
pub(super) const ENDS: &str = concat!(
    records!(),
    "
    RETURNING position
), ended AS (
    UPDATE sync_workflow.runs r
    SET status = e.status, node_id = NULL, closed_at = clock_timestamp()
    FROM (
        SELECT t.run_id, t.status
        FROM fence
        CROSS JOIN unnest($11::uuid[], $12::smallint[]) AS t(run_id, status)
        -- Records before rows of runs.
        WHERE (SELECT count(*) FROM appended) >= 0
        ORDER BY t.run_id
    ) e
    WHERE r.run_id = ANY (ARRAY[e.run_id]) AND r.node_id = $1
    RETURNING r.run_id, r.awaited
), forgotten AS (
    DELETE FROM sync_workflow.attempts a
    WHERE a.run_id = ANY (ARRAY(SELECT run_id FROM ended))
)",
    report!(),
    ",
       e.run_id, e.awaited
FROM (
    SELECT array_agg(run_id) AS run_id, array_agg(awaited) AS awaited FROM ended
) e"
);

/// For runs that also suspend, park or go back, or whose end others hear of.
pub(super) const TRANSITIONS: &str = concat!(
    records!(),
    transitions!(),
    report!(),
    report_transitions!(),
    from_updated!()
);

/// For everything, new runs, signals and attempts included.
pub(super) const EVERYTHING: &str = concat!(
    records!(),
    transitions!(),
    everything_else!(),
    report!(),
    report_transitions!(),
    ", (SELECT array_agg(run_id) FROM born),
       (SELECT array_agg(r.run_id) FROM sync_workflow.runs r
        WHERE r.run_id = ANY ($46::uuid[]) AND r.awaited)",
    from_updated!()
);

/// The runs that the node does not hold: `$1` node, `$2` runs.
pub(super) const NOT_HELD: &str = "
SELECT e.run_id
FROM unnest($2::uuid[]) AS e(run_id)
WHERE NOT EXISTS (
    SELECT FROM sync_workflow.runs r WHERE r.run_id = e.run_id AND r.node_id = $1)";

/// The runs whose first position is taken: `$1` runs, `$2` positions.
pub(super) const TAKEN: &str = "
SELECT e.run_id
FROM unnest($1::uuid[], $2::integer[]) AS e(run_id, position)
CROSS JOIN LATERAL (
    SELECT FROM sync_workflow.journal j
    WHERE j.run_id = e.run_id AND j.position = e.position OFFSET 0
) taken";

/// What became of runs that were to start and did not: `$1` runs, `$2` workflow ids.
pub(super) const NOT_STARTED: &str = "
SELECT n.run_id,
       EXISTS (SELECT FROM sync_workflow.runs r WHERE r.run_id = n.run_id),
       latest.run_id, latest.status
FROM unnest($1::uuid[], $2::text[]) AS n(run_id, workflow_id)
LEFT JOIN LATERAL (
    SELECT r.run_id, r.status FROM sync_workflow.runs r
    WHERE r.workflow_id = n.workflow_id ORDER BY r.sequence DESC LIMIT 1
) latest ON true";

/// Waits until no commit of a node is in flight, and voids those that arrive later: `$1` node.
pub(super) const SETTLE: &str = "
UPDATE sync_workflow.nodes SET doubts = doubts + 1 WHERE node_id = $1 RETURNING doubts";

/// How many looks at commits in doubt there were: `$1` node.
pub(super) const DOUBTS: &str = "SELECT doubts FROM sync_workflow.nodes WHERE node_id = $1";

/// Those of the first records of a batch that are in the journal: `$1` runs, `$2` positions.
pub(super) const FIRST_RECORDS: &str = "
SELECT j.run_id, j.kind, j.command, j.fingerprint, j.name, j.payload
FROM unnest($1::uuid[], $2::integer[]) AS e(run_id, position)
CROSS JOIN LATERAL (
    SELECT * FROM sync_workflow.journal j
    WHERE j.run_id = e.run_id AND j.position = e.position OFFSET 0
) j";

/// Those of the runs that exist: `$1` runs.
pub(super) const EXISTING: &str = "
SELECT r.run_id FROM sync_workflow.runs r WHERE r.run_id = ANY($1)";
