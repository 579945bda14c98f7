-- Which distributed trace a run belongs to: a W3C traceparent, and after a space the tracestate if there is one.
ALTER TABLE sync_workflow.runs ADD COLUMN trace text COLLATE "C";
