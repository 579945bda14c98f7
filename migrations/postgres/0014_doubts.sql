-- Commits in doubt are decided by the look at them.

-- How often commits of the node were looked for. A commit says the number that it knows and happens only while it is the
-- last one; so one that arrives after the look at it changes nothing.
ALTER TABLE sync_workflow.nodes ADD COLUMN doubts integer NOT NULL DEFAULT 0;

-- Makes the number a part of a key. A change of a key, and no other change, waits for the commits that hold the row FOR
-- KEY SHARE, and is seen by those that wait for it or that began before it. A heartbeat changes no key, as ever.
CREATE UNIQUE INDEX nodes_doubts ON sync_workflow.nodes (node_id, doubts);
