//! The handles through which metrics are exported, and what stands in for them without the feature `metrics`.

#[cfg(feature = "metrics")]
pub(super) use exported::{counter, describe, gauge, histogram};
#[cfg(feature = "metrics")]
pub(super) use metrics::{Counter, Gauge, Histogram};
#[cfg(not(feature = "metrics"))]
pub(super) use silent::{Counter, Gauge, Histogram, counter, describe, gauge, histogram};

/// Whether anything is exported: what costs time only to be measured is not measured otherwise.
pub(super) const IS_ON: bool = cfg!(feature = "metrics");

#[cfg(feature = "metrics")]
mod exported {
    use metrics::{Counter, Gauge, Histogram, Label, Unit};

    use super::super::catalog::{METRICS, Metric, MetricKind};

    /// Tells whoever exports what each metric means.
    pub(in crate::telemetry) fn describe() {
        for metric in METRICS {
            let Metric {
                name,
                kind,
                meaning,
                ..
            } = *metric;
            match kind {
                MetricKind::Counter => metrics::describe_counter!(name, Unit::Count, meaning),
                MetricKind::Gauge => metrics::describe_gauge!(name, Unit::Count, meaning),
                MetricKind::GaugeOfSeconds => {
                    metrics::describe_gauge!(name, Unit::Seconds, meaning)
                }
                MetricKind::Seconds => metrics::describe_histogram!(name, Unit::Seconds, meaning),
                MetricKind::Sizes => metrics::describe_histogram!(name, Unit::Count, meaning),
            }
        }
    }

    pub(in crate::telemetry) fn counter(metric: &Metric, values: &[&str]) -> Counter {
        metrics::counter!(metric.name, labels(metric, values))
    }

    pub(in crate::telemetry) fn gauge(metric: &Metric) -> Gauge {
        metrics::gauge!(metric.name)
    }

    pub(in crate::telemetry) fn histogram(metric: &Metric, values: &[&str]) -> Histogram {
        metrics::histogram!(metric.name, labels(metric, values))
    }

    fn labels(metric: &Metric, values: &[&str]) -> Vec<Label> {
        let labels = metric.labels.iter().zip(values);
        labels
            .map(|(label, value)| Label::new(*label, (*value).to_owned()))
            .collect()
    }
}

#[cfg(not(feature = "metrics"))]
mod silent {
    use super::super::catalog::Metric;

    #[derive(Debug, Clone, Copy)]
    pub(in crate::telemetry) struct Counter;
    #[derive(Debug, Clone, Copy)]
    pub(in crate::telemetry) struct Gauge;
    #[derive(Debug, Clone, Copy)]
    pub(in crate::telemetry) struct Histogram;

    impl Counter {
        pub(in crate::telemetry) const fn increment(&self, _by: u64) {}
    }

    impl Gauge {
        pub(in crate::telemetry) const fn increment(&self, _by: f64) {}
        pub(in crate::telemetry) const fn decrement(&self, _by: f64) {}
        pub(in crate::telemetry) const fn set(&self, _to: f64) {}
    }

    impl Histogram {
        pub(in crate::telemetry) const fn record(&self, _value: f64) {}
    }

    pub(in crate::telemetry) const fn describe() {}

    pub(in crate::telemetry) const fn counter(_metric: &Metric, _values: &[&str]) -> Counter {
        Counter
    }

    pub(in crate::telemetry) const fn gauge(_metric: &Metric) -> Gauge {
        Gauge
    }

    pub(in crate::telemetry) const fn histogram(_metric: &Metric, _values: &[&str]) -> Histogram {
        Histogram
    }
}
