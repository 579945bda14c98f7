//! Timestamps on the wire: microseconds since the year 2000, with infinity for "never".

use jiff::Timestamp;
use sqlx::{
    Decode, Encode, Postgres, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef, types::Oid},
};

/// The start of the year 2000 in microseconds since the Unix epoch.
const EPOCH_MICROSECONDS: i64 = 946_684_800_000_000;

/// A `timestamptz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// A time, in whole microseconds.
    At(Timestamp),
    /// `infinity`: a wake-up that only an arrival brings.
    Never,
}

impl Moment {
    /// The time, unless it is infinity.
    pub(super) const fn finite(self) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(at),
            Self::Never => None,
        }
    }

    /// A time that a column holds which is never infinite.
    pub(super) fn expect_finite(self) -> Timestamp {
        self.finite().unwrap_or(Timestamp::MAX)
    }

    fn to_wire(self) -> i64 {
        match self {
            Self::At(at) => at.as_microsecond() - EPOCH_MICROSECONDS,
            Self::Never => i64::MAX,
        }
    }

    fn from_wire(microseconds: i64) -> Result<Self, BoxDynError> {
        if microseconds == i64::MAX {
            return Ok(Self::Never);
        }
        let since_epoch = microseconds
            .checked_add(EPOCH_MICROSECONDS)
            .ok_or("a timestamp beyond the calendar")?;
        Ok(Self::At(Timestamp::from_microsecond(since_epoch)?))
    }
}

impl From<Timestamp> for Moment {
    fn from(at: Timestamp) -> Self {
        Self::At(at)
    }
}

impl Type<Postgres> for Moment {
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1184))
    }
}

impl PgHasArrayType for Moment {
    fn array_type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(1185))
    }
}

impl Encode<'_, Postgres> for Moment {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode_by_ref(&self.to_wire(), buffer)
    }
}

impl Decode<'_, Postgres> for Moment {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        Self::from_wire(<i64 as Decode<Postgres>>::decode(value)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_survives_the_wire() {
        for text in [
            "1969-12-31T23:59:59.999999Z",
            "2000-01-01T00:00:00Z",
            "2026-11-21T12:00:00.123456Z",
        ] {
            let moment = Moment::At(text.parse().unwrap());
            assert_eq!(Moment::from_wire(moment.to_wire()).unwrap(), moment);
        }
        assert_eq!(
            Moment::from_wire(Moment::Never.to_wire()).unwrap(),
            Moment::Never
        );
    }

    #[test]
    fn the_epoch_of_the_wire_is_the_year_2000() {
        assert_eq!(
            Moment::At("2000-01-01T00:00:00Z".parse().unwrap()).to_wire(),
            0
        );
    }
}
