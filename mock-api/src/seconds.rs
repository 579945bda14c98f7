//! Timestamps at the resolution the API speaks: whole seconds.

use std::fmt;

use jiff::{Timestamp, civil, tz};
use serde::{Deserialize, Serialize};

/// A moment in whole seconds since 1970, shown as `2026-06-01T00:00:00Z`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Seconds(pub i64);

impl Seconds {
    /// Where the virtual clock of every server starts; all generated data is older.
    pub const START: Self = Self(1_780_272_000);

    /// The organisation's own zone, in which a date without a time is meant.
    pub(crate) const ORGANISATION_OFFSET: tz::Offset = tz::Offset::constant(-5);

    /// Reads `2026-06-01T00:00:00Z`, any RFC 3339 spelling, or a bare date in the organisation's zone.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(at) = text.parse::<Timestamp>() {
            return Some(Self(at.as_second()));
        }
        let date: civil::Date = text.parse().ok()?;
        let midnight = date.to_datetime(civil::Time::midnight());
        let at = Self::ORGANISATION_OFFSET.to_timestamp(midnight).ok()?;
        Some(Self(at.as_second()))
    }

    pub(crate) fn date(self) -> String {
        let mut text = self.to_string();
        text.truncate("2026-06-01".len());
        text
    }
}

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = Timestamp::from_second(self.0).map_err(|_| fmt::Error)?;
        write!(f, "{at}")
    }
}

impl From<Seconds> for String {
    fn from(at: Seconds) -> Self {
        at.to_string()
    }
}

impl TryFrom<String> for Seconds {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(&text).ok_or_else(|| format!("not a timestamp: {text}"))
    }
}

#[cfg(test)]
mod tests {
    use super::Seconds;

    #[test]
    fn the_clock_starts_on_the_first_of_june() {
        assert_eq!(Seconds::START.to_string(), "2026-06-01T00:00:00Z");
    }

    #[test]
    fn a_bare_date_means_midnight_in_the_zone_of_the_organisation() {
        let midnight = Seconds::parse("2026-06-01").unwrap();
        assert_eq!(midnight.to_string(), "2026-06-01T05:00:00Z");
    }
}
