//! When a schedule ticks.

use std::{str::FromStr, time::Duration};

use croner::{
    Cron,
    parser::{CronParser, Seconds, Year},
};
use jiff::{Timestamp, tz::TimeZone};
use serde::{Deserialize, Serialize};

/// The times of a schedule: those of a cron expression in a time zone, or of an interval.
///
/// ```
/// use std::time::Duration;
/// use sync_workflow::schedule::Timing;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let nightly = Timing::cron("30 2 * * *", "Europe/Berlin")?;
/// let quarterly = Timing::every(Duration::from_secs(15 * 60))?;
/// let next = quarterly.next_after("2026-11-22T00:07:00Z".parse()?);
/// assert_eq!(next, Some("2026-11-22T00:15:00Z".parse()?));
/// assert_eq!(
///     nightly.next_after("2026-11-22T00:07:00Z".parse()?),
///     Some("2026-11-22T01:30:00Z".parse()?)
/// );
/// # Ok(()) }
/// ```
///
/// # When clocks change
///
/// Clocks that go forward leave times out, and clocks that go back show times twice. A cron expression with fixed hours
/// and minutes ticks once on such a day: at the first instant after the gap if its time was left out, and the first
/// time round if its time is shown twice. One that ticks every hour or oftener (`*`, `*/5`) goes on through both without
/// a pause and without a tick too many. Intervals know no clocks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Timing(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Cron {
        expression: String,
        zone: String,
        cron: Box<Cron>,
        time_zone: TimeZone,
    },
    Every {
        interval: Duration,
        phase: Duration,
    },
}

/// A timing as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Written {
    Cron {
        expression: String,
        time_zone: String,
    },
    Every {
        interval: Duration,
        phase: Duration,
    },
}

/// Why a timing makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidTiming {
    /// The text is no cron expression.
    #[error("{expression:?} is no cron expression: {detail}")]
    Cron {
        /// The text.
        expression: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The time zone is not in the database of time zones of this machine.
    #[error("the time zone {time_zone:?} is unknown")]
    TimeZone {
        /// The name.
        time_zone: String,
    },
    /// The interval is shorter than [`Timing::SHORTEST`].
    #[error("an interval of {interval:?} is shorter than {:?}", Timing::SHORTEST)]
    Interval {
        /// The interval.
        interval: Duration,
    },
}

impl Timing {
    /// The shortest interval.
    pub const SHORTEST: Duration = Duration::from_millis(10);

    /// The times of a cron expression: minutes, hours, days of the month, months and days of the week, with seconds
    /// before them and years after them where they are wanted. Names of months and days, lists, ranges, steps,
    /// `L`, `W`, `#` and `@daily` and the like are understood. Where both kinds of days are given, either fits.
    ///
    /// # Errors
    ///
    /// [`InvalidTiming`] when the expression makes no sense or the time zone (a name such as `Europe/Berlin`, or `UTC`)
    /// is unknown.
    pub fn cron(expression: &str, time_zone: &str) -> Result<Self, InvalidTiming> {
        let parser = CronParser::builder()
            .seconds(Seconds::Optional)
            .year(Year::Optional)
            .build();
        let cron = parser
            .parse(expression)
            .map_err(|error| InvalidTiming::Cron {
                expression: expression.to_owned(),
                detail: error.to_string(),
            })?;
        let zone = TimeZone::get(time_zone).map_err(|_| InvalidTiming::TimeZone {
            time_zone: time_zone.to_owned(),
        })?;
        Ok(Self(Kind::Cron {
            expression: expression.to_owned(),
            zone: time_zone.to_owned(),
            cron: Box::new(cron),
            time_zone: zone,
        }))
    }

    /// Every multiple of an interval since the epoch: an hour is the full hour of UTC. Move it with [`Self::phase`].
    ///
    /// # Errors
    ///
    /// [`InvalidTiming::Interval`] when it is shorter than [`Self::SHORTEST`].
    pub fn every(interval: Duration) -> Result<Self, InvalidTiming> {
        if interval < Self::SHORTEST {
            return Err(InvalidTiming::Interval { interval });
        }
        Ok(Self(Kind::Every {
            interval,
            phase: Duration::ZERO,
        }))
    }

    /// Moves the times of an interval by a part of it; a cron expression has its phase in itself.
    #[must_use]
    pub fn phase(mut self, by: Duration) -> Self {
        if let Kind::Every { phase, .. } = &mut self.0 {
            *phase = by;
        }
        self
    }

    /// The first time after another. `None` when there is none before the end of the calendar.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        match &self.0 {
            Kind::Cron {
                cron, time_zone, ..
            } => next_of_cron(cron, time_zone, after),
            Kind::Every { interval, phase } => next_of_interval(*interval, *phase, after),
        }
    }
}

fn next_of_cron(cron: &Cron, time_zone: &TimeZone, after: Timestamp) -> Option<Timestamp> {
    // Expressions know whole seconds.
    let second = Timestamp::from_second(after.as_second()).ok()?;
    let from = second.min(after).to_zoned(time_zone.clone());
    let next = cron.find_next_occurrence(&from, false).ok()?.timestamp();
    (next > after).then_some(next)
}

fn next_of_interval(interval: Duration, phase: Duration, after: Timestamp) -> Option<Timestamp> {
    let interval = i128::try_from(interval.as_nanos()).ok()?;
    let phase = i128::try_from(phase.as_nanos()).ok()? % interval;
    let passed = (after.as_nanosecond() - phase).div_euclid(interval);
    Timestamp::from_nanosecond((passed + 1) * interval + phase).ok()
}

impl TryFrom<Written> for Timing {
    type Error = InvalidTiming;

    fn try_from(written: Written) -> Result<Self, InvalidTiming> {
        match written {
            Written::Cron {
                expression,
                time_zone,
            } => Self::cron(&expression, &time_zone),
            Written::Every { interval, phase } => Ok(Self::every(interval)?.phase(phase)),
        }
    }
}

impl From<Timing> for Written {
    fn from(timing: Timing) -> Self {
        match timing.0 {
            Kind::Cron {
                expression, zone, ..
            } => Self::Cron {
                expression,
                time_zone: zone,
            },
            Kind::Every { interval, phase } => Self::Every { interval, phase },
        }
    }
}

impl FromStr for Timing {
    type Err = InvalidTiming;

    /// A cron expression in UTC.
    fn from_str(expression: &str) -> Result<Self, InvalidTiming> {
        Self::cron(expression, "UTC")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// The next times after one, in civil time with the offset.
    fn shown(expression: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
        let timing = Timing::cron(expression, zone).unwrap();
        let zone = TimeZone::get(zone).unwrap();
        let mut last = at(after);
        (0..count)
            .map(|_| {
                last = timing.next_after(last).unwrap();
                let zoned = last.to_zoned(zone.clone());
                zoned.strftime("%m-%d %H:%M:%S %:z").to_string()
            })
            .collect()
    }

    #[test]
    fn a_fixed_time_that_is_left_out_ticks_once_after_the_gap() {
        // In Berlin 02:00 to 03:00 of the 28th of March 2027 does not exist.
        assert_eq!(
            shown("30 2 * * *", "Europe/Berlin", "2027-03-26T12:00:00Z", 4),
            [
                "03-27 02:30:00 +01:00",
                "03-28 03:00:00 +02:00",
                "03-29 02:30:00 +02:00",
                "03-30 02:30:00 +02:00",
            ]
        );
    }

    #[test]
    fn a_fixed_time_that_is_shown_twice_ticks_the_first_time_round() {
        // In Berlin 02:00 to 03:00 of the 31st of October 2027 comes twice.
        assert_eq!(
            shown("30 2 * * *", "Europe/Berlin", "2027-10-30T12:00:00Z", 3),
            [
                "10-31 02:30:00 +02:00",
                "11-01 02:30:00 +01:00",
                "11-02 02:30:00 +01:00",
            ]
        );
    }

    #[test]
    fn what_ticks_every_half_hour_goes_on_through_gap_and_fold() {
        assert_eq!(
            shown("*/30 * * * *", "Europe/Berlin", "2027-03-28T00:15:00Z", 4),
            [
                "03-28 01:30:00 +01:00",
                "03-28 03:00:00 +02:00",
                "03-28 03:30:00 +02:00",
                "03-28 04:00:00 +02:00",
            ]
        );
        assert_eq!(
            shown("*/30 * * * *", "Europe/Berlin", "2027-10-30T23:45:00Z", 5),
            [
                "10-31 02:00:00 +02:00",
                "10-31 02:30:00 +02:00",
                "10-31 02:00:00 +01:00",
                "10-31 02:30:00 +01:00",
                "10-31 03:00:00 +01:00",
            ]
        );
    }

    #[test]
    fn seconds_names_and_last_days_are_understood() {
        assert_eq!(
            shown("15,45 59 23 L FEB *", "UTC", "2028-01-01T00:00:00Z", 2),
            ["02-29 23:59:15 +00:00", "02-29 23:59:45 +00:00"]
        );
        assert_eq!(
            shown("0 9 * * MON#1", "UTC", "2026-11-22T00:00:00Z", 1),
            ["12-07 09:00:00 +00:00"]
        );
    }

    #[test]
    fn a_day_that_never_comes_is_never() {
        let never = Timing::cron("0 0 30 2 *", "UTC").unwrap();
        assert_eq!(never.next_after(at("2026-11-22T00:00:00Z")), None);
        let past = Timing::cron("0 0 0 1 1 * 2020", "UTC").unwrap();
        assert_eq!(past.next_after(at("2026-11-22T00:00:00Z")), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(matches!(
            Timing::cron("61 * * * *", "UTC"),
            Err(InvalidTiming::Cron { .. })
        ));
        assert!(matches!(
            Timing::cron("0 0 * * *", "Europe/Atlantis"),
            Err(InvalidTiming::TimeZone { .. })
        ));
        assert!(matches!(
            Timing::every(Duration::ZERO),
            Err(InvalidTiming::Interval { .. })
        ));
    }

    #[test]
    fn a_timing_survives_its_written_form() {
        let timings = [
            Timing::cron("0 30 2 * * *", "America/New_York").unwrap(),
            Timing::every(Duration::from_secs(90))
                .unwrap()
                .phase(Duration::from_secs(7)),
        ];
        for timing in timings {
            let written = serde_json::to_string(&timing).unwrap();
            assert_eq!(serde_json::from_str::<Timing>(&written).unwrap(), timing);
        }
    }

    /// Zones whose clocks change by an hour, by half an hour, at midnight, and never.
    const ZONES: [&str; 5] = [
        "Europe/Berlin",
        "America/New_York",
        "Australia/Lord_Howe",
        "America/Havana",
        "UTC",
    ];
    const EXPRESSIONS: [&str; 7] = [
        "30 2 * * *",
        "0 0 * * *",
        "15 1,2,3 * * *",
        "*/20 * * * *",
        "0 * * * *",
        "*/7 * 0-3 * * *",
        "30 */2 * * *",
    ];

    proptest! {
        /// Wherever one begins to look, the ticks are the same ones: none twice, none left out, in order.
        #[test]
        fn every_tick_comes_once_and_in_order(
            zone in 0..ZONES.len(),
            expression in 0..EXPRESSIONS.len(),
            // Around the changes of 2027, north and south of the equator, to the microsecond.
            day in prop::sample::select(vec!["2027-03-14", "2027-03-28", "2027-04-04", "2027-10-03", "2027-10-31", "2027-11-07"]),
            micros in -40_000_000_000_i64..60_000_000_000,
        ) {
            let timing = Timing::cron(EXPRESSIONS[expression], ZONES[zone]).unwrap();
            let midnight = at(&format!("{day}T00:00:00Z")).as_microsecond();
            let from = Timestamp::from_microsecond(midnight + micros).unwrap();
            let next = timing.next_after(from).unwrap();
            prop_assert!(next > from);
            let mut walked = Timestamp::from_microsecond(midnight - 100_000_000_000).unwrap();
            let mut steps = 0;
            while walked <= from {
                let step = timing.next_after(walked).unwrap();
                prop_assert!(step > walked);
                walked = step;
                steps += 1;
                if steps > 3_000 {
                    // A walk that is too long for a test: begin nearer.
                    walked = Timestamp::from_microsecond(from.as_microsecond() - 3_600_000_000).unwrap();
                    steps = 0;
                }
            }
            prop_assert_eq!(walked, next);
        }

        #[test]
        fn an_interval_ticks_at_its_multiples(
            interval in 10_u64..100_000_000, phase in 0_u64..200_000_000, from in -1_000_000_000_i64..4_000_000_000_000
        ) {
            let timing = Timing::every(Duration::from_millis(interval)).unwrap().phase(Duration::from_millis(phase));
            let from = Timestamp::from_millisecond(from).unwrap();
            let next = timing.next_after(from).unwrap();
            let length = i64::try_from(interval).unwrap();
            prop_assert!(next > from && next.as_millisecond() - from.as_millisecond() <= length);
            let phase = i64::try_from(phase).unwrap();
            prop_assert_eq!((next.as_millisecond() - phase).rem_euclid(length), 0);
        }
    }
}
