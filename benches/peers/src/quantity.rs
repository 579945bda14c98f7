//! What is measured, and how figures are put together.

use serde::{Deserialize, Serialize};

use crate::job::Job;

/// The quantities, in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Quantity {
    StepRate,
    CrowdMemory,
    MedianTime,
    SlowTime,
    ChildRate,
    FirstRate,
    LastRate,
    Slowing,
    Reached,
    BackAfter,
    IdleMemory,
    SleeperMemory,
    SleeperPeak,
}

/// Which figures are good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    More,
    Less,
    /// Not to be compared.
    Neither,
}

impl Quantity {
    pub(crate) const ALL: [Self; 13] = [
        Self::StepRate,
        Self::CrowdMemory,
        Self::MedianTime,
        Self::SlowTime,
        Self::ChildRate,
        Self::FirstRate,
        Self::LastRate,
        Self::Slowing,
        Self::Reached,
        Self::BackAfter,
        Self::IdleMemory,
        Self::SleeperMemory,
        Self::SleeperPeak,
    ];

    pub(crate) const fn job(self) -> Job {
        match self {
            Self::StepRate | Self::CrowdMemory => Job::W1,
            Self::MedianTime | Self::SlowTime => Job::W2,
            Self::ChildRate => Job::W3,
            Self::FirstRate | Self::LastRate | Self::Slowing | Self::Reached | Self::BackAfter => {
                Job::W4
            }
            Self::IdleMemory | Self::SleeperMemory | Self::SleeperPeak => Job::W5,
        }
    }

    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::StepRate => "w1: steps/s",
            Self::CrowdMemory => "w1: peak memory above idle, MB",
            Self::MedianTime => "w2: start to result, p50, ms",
            Self::SlowTime => "w2: start to result, p99, ms",
            Self::ChildRate => "w3: children/s",
            Self::FirstRate => "w4: first 500 steps, steps/s",
            Self::LastRate => "w4: last 500 steps, steps/s",
            Self::Slowing => "w4: last / first",
            Self::Reached => "w4: steps when killed",
            Self::BackAfter => "w4: kill -9 to the next new step, s",
            Self::IdleMemory => "w5: idle worker, MB",
            Self::SleeperMemory => "w5: 10,000 asleep, above idle, MB",
            Self::SleeperPeak => "w5: peak on the way there, MB",
        }
    }

    pub(crate) const fn better(self) -> Better {
        match self {
            Self::StepRate | Self::ChildRate | Self::FirstRate | Self::LastRate => Better::More,
            Self::CrowdMemory
            | Self::MedianTime
            | Self::SlowTime
            | Self::BackAfter
            | Self::IdleMemory
            | Self::SleeperMemory
            | Self::SleeperPeak => Better::Less,
            Self::Slowing | Self::Reached => Better::Neither,
        }
    }
}

/// The value below which this share of the values lies; not a number if there are none.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let rank = share * last as f64;
    let (below, above) = (sorted[rank.floor() as usize], sorted[rank.ceil() as usize]);
    below + (above - below) * rank.fract()
}

pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

/// Three digits that count, and never an exponent.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => grouped(value),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = String::from(if value < 0.0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{number, percentile};

    #[test]
    fn a_percentile_lies_between_its_neighbours() {
        assert_eq!(percentile(&[4.0, 1.0, 3.0, 2.0], 0.5), 2.5);
        assert!(percentile(&[], 0.5).is_nan());
    }

    #[test]
    fn numbers_are_short() {
        let shown = [1_234_567.0, 123.4, 12.34, 1.234, 0.1234].map(number);
        assert_eq!(shown, ["1,234,567", "123", "12.3", "1.23", "0.123"]);
    }
}
