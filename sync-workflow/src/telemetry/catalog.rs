//! Every metric: its name, its unit and its labels.

/// A metric that a worker exports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// The name under which it is exported.
    pub name: &'static str,
    /// What is kept of it.
    pub kind: MetricKind,
    /// The names of its labels. Their values are registered names of workflows and activities, and words of a fixed
    /// list, so that there are few.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub meaning: &'static str,
}

/// What is kept of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A number of occurrences.
    Counter,
    /// A number that goes up and down.
    Gauge,
    /// A time that goes up and down, in seconds.
    GaugeOfSeconds,
    /// How often it took how long, in seconds.
    Seconds,
    /// How often there were how many.
    Sizes,
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:ident, [$($label:literal),*], $meaning:literal;)*) => {
        $(pub(super) const $constant: Metric = Metric {
            name: concat!("sync_workflow_", $name),
            kind: MetricKind::$kind,
            labels: &[$($label),*],
            meaning: $meaning,
        };)*

        /// Every metric that a worker exports with the feature `metrics`.
        pub const METRICS: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    RESIDENT_RUNS = "resident_runs", Gauge, [],
        "runs in memory";
    PLACES = "places", Gauge, [],
        "runs that have room in memory: `max_resident_runs`";
    ACTIVITY_SLOTS_USED = "activity_slots_used", Gauge, [],
        "attempts of activities that run";
    ACTIVITY_SLOTS = "activity_slots", Gauge, [],
        "attempts that may run at once: `activity_slots`";
    CLAIMS = "claims_total", Counter, ["found"],
        "questions for runs that are ready; `found` is `runs` or `nothing`";
    CLAIMED_RUNS = "claimed_runs_total", Counter, ["workflow"],
        "runs that were claimed";
    OLDEST_READY = "oldest_ready_seconds", GaugeOfSeconds, [],
        "how long the oldest run that is ready and that the worker may claim has waited: asked by a worker without room every `poll_interval`, and by one without runs with its heartbeat";
    SCHEDULE_TO_START = "schedule_to_start_seconds", Seconds, ["workflow"],
        "from when a run was ready to when it was claimed";
    REPLAY = "replay_seconds", Seconds, ["workflow"],
        "how long a run that was claimed took to catch up with its journal, once that was loaded";
    TIMER_LATENESS = "timer_lateness_seconds", Seconds, ["workflow"],
        "from when a timer was due to when it fired";
    RUN_SLICES = "run_slices_total", Counter, ["workflow", "outcome"],
        "runs that left memory; `outcome` is `completed`, `failed`, `cancelled`, `continued_as_new`, `asleep`, `parked`, `released`, `lost` or `fenced`";
    ACTIVITY_ATTEMPTS = "activity_attempts_total", Counter, ["activity", "outcome"],
        "attempts that ended; `outcome` is `completed`, `failed`, `timed_out`, `panicked` or `abandoned`";
    ACTIVITY_ATTEMPT = "activity_attempt_seconds", Seconds, ["activity"],
        "how long an attempt ran";
    COMMIT = "commit_seconds", Seconds, [],
        "how long a commit took, repetitions included";
    COMMIT_SIZE = "commit_size", Sizes, [],
        "runs that one commit carried";
    UNKNOWN_COMMITS = "unknown_commits_total", Counter, [],
        "commits whose acknowledgement was lost, so that they were read back";
    FENCED_WRITES = "fenced_writes_total", Counter, ["write"],
        "writes that were refused because the node had been declared dead; `write` is `commit`, `step`, `claim` or `lease`";
    JOURNAL_RETRIES = "journal_retries_total", Counter, [],
        "operations of the journal that failed and were tried again";
    REAPED_NODES = "reaped_nodes_total", Counter, [],
        "dead nodes whose runs this worker made ready for others";
    STRANDED_RUNS = "stranded_runs", Gauge, [],
        "open runs of the queue whose build has no live worker: asked once a minute by workers with a build";
    POOL_WAIT = "pool_wait_seconds", Seconds, ["pool"],
        "how long a connection to Postgres was waited for; `pool` is `statements` or `steps`";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// The row of the guide's table.
    fn row(metric: &Metric) -> String {
        let kind = match metric.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::GaugeOfSeconds => "gauge, seconds",
            MetricKind::Seconds => "histogram, seconds",
            MetricKind::Sizes => "histogram",
        };
        let labels: Vec<_> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        let (name, labels) = (metric.name, labels.join(", "));
        format!("| `{name}` | {kind} | {labels} | {} |", metric.meaning)
    }

    #[test]
    fn the_guide_has_a_row_for_each_metric_and_no_other() {
        let guide = include_str!("../../../docs/guide/observability.md");
        let rows = guide
            .lines()
            .filter(|line| line.starts_with("| `sync_workflow_"));
        let rows: Vec<_> = rows.collect();
        let expected: Vec<_> = METRICS.iter().map(row).collect();
        assert_eq!(rows, expected, "\n{}\n", expected.join("\n"));
    }

    #[test]
    fn no_two_metrics_share_a_name() {
        let names: HashSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
    }
}
