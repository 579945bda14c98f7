//! From a JSON value to the value of a column.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Convert;
use crate::{names::ExternalId, record::Value, schema::FieldType};

/// A scalar as it stands in the document.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scalar<'a> {
    Null,
    Boolean(bool),
    Integer(i64),
    /// A whole number above `i64::MAX`.
    Unsigned(u64),
    Float(f64),
    Text(&'a str),
}

impl Scalar<'_> {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean(_) => "a boolean",
            Self::Integer(_) | Self::Unsigned(_) | Self::Float(_) => "a number",
            Self::Text(_) => "a text",
        }
    }

    /// The id that the scalar is, if it can be one.
    pub(super) fn external_id(&self) -> Option<ExternalId> {
        match *self {
            Self::Text(text) => ExternalId::new(text).ok(),
            Self::Integer(number) => Some(number.into()),
            Self::Unsigned(number) => Some(number.into()),
            Self::Null | Self::Boolean(_) | Self::Float(_) => None,
        }
    }
}

/// Reads a scalar as a column; `None` when it does not fit.
pub(super) fn scalar(found: Scalar<'_>, field_type: FieldType, convert: Convert) -> Option<Value> {
    if matches!(found, Scalar::Null) {
        return Some(Value::Null);
    }
    match convert {
        Convert::UnixSeconds => whole(found)
            .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
            .map(Value::Timestamp),
        Convert::UnixMillis => whole(found)
            .and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok())
            .map(Value::Timestamp),
        Convert::Typed => typed(found, field_type),
        Convert::Reference | Convert::ReferenceIds => None,
    }
}

fn typed(found: Scalar<'_>, field_type: FieldType) -> Option<Value> {
    match field_type {
        FieldType::Text => Some(Value::Text(text(found)?)),
        FieldType::Integer => whole(found).map(Value::Integer),
        FieldType::Float => float(found).map(Value::Float),
        FieldType::Boolean => boolean(found).map(Value::Boolean),
        FieldType::Date => date(found).map(Value::Date),
        FieldType::Timestamp => match found {
            Scalar::Text(text) => text.parse().ok().map(Value::Timestamp),
            _ => None,
        },
        FieldType::Json => None,
    }
}

/// Text columns take any scalar. A NUL, which Postgres cannot store in text, becomes U+FFFD; the raw
/// document keeps it.
fn text(found: Scalar<'_>) -> Option<Box<str>> {
    Some(match found {
        Scalar::Text(text) if text.contains('\0') => text.replace('\0', "\u{fffd}").into(),
        Scalar::Text(text) => text.into(),
        Scalar::Boolean(boolean) => boolean.to_string().into(),
        Scalar::Integer(number) => number.to_string().into(),
        Scalar::Unsigned(number) => number.to_string().into(),
        Scalar::Float(number) => number.to_string().into(),
        Scalar::Null => return None,
    })
}

fn whole(found: Scalar<'_>) -> Option<i64> {
    match found {
        Scalar::Integer(number) => Some(number),
        Scalar::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => {
            Some(number as i64)
        }
        Scalar::Text(text) => text.trim().parse().ok(),
        Scalar::Float(_) | Scalar::Unsigned(_) | Scalar::Boolean(_) | Scalar::Null => None,
    }
}

fn float(found: Scalar<'_>) -> Option<f64> {
    let number = match found {
        Scalar::Integer(number) => number as f64,
        Scalar::Unsigned(number) => number as f64,
        Scalar::Float(number) => number,
        Scalar::Text(text) => text.trim().parse().ok()?,
        Scalar::Boolean(_) | Scalar::Null => return None,
    };
    number.is_finite().then_some(number)
}

fn boolean(found: Scalar<'_>) -> Option<bool> {
    match found {
        Scalar::Boolean(boolean) => Some(boolean),
        Scalar::Text("true") => Some(true),
        Scalar::Text("false") => Some(false),
        _ => None,
    }
}

/// A date is ten characters; a longer text is an instant, whose day depends on a zone.
fn date(found: Scalar<'_>) -> Option<jiff::civil::Date> {
    match found {
        Scalar::Text(text) if text.len() == 10 => text.parse().ok(),
        _ => None,
    }
}

/// An item of an array of references.
#[derive(Deserialize)]
struct Link<'a> {
    #[serde(borrow)]
    id: &'a RawValue,
}

/// The ids in an array of references, as a JSON array of texts; `None` when they are not such an array.
pub(super) fn reference_ids(raw: &RawValue) -> Option<Value> {
    let items: Option<Vec<Option<Link<'_>>>> = serde_json::from_str(raw.get()).ok()?;
    let Some(items) = items else {
        return Some(Value::Null);
    };
    let ids = items.into_iter().flatten().map(|link| {
        let id = serde_json::from_str::<serde_json::Value>(link.id.get()).ok()?;
        of_json(&id)?.external_id()
    });
    let ids: Vec<ExternalId> = ids.collect::<Option<_>>()?;
    serde_json::value::to_raw_value(&ids).ok().map(Value::Json)
}

/// The scalar that a JSON value is; `None` for objects and arrays.
pub(super) fn of_json(value: &serde_json::Value) -> Option<Scalar<'_>> {
    Some(match value {
        serde_json::Value::Null => Scalar::Null,
        serde_json::Value::Bool(found) => Scalar::Boolean(*found),
        serde_json::Value::String(found) => Scalar::Text(found),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(whole), _) => Scalar::Integer(whole),
            (None, Some(whole)) => Scalar::Unsigned(whole),
            (None, None) => Scalar::Float(number.as_f64()?),
        },
        serde_json::Value::Array(_) | serde_json::Value::Object(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(found: Scalar<'_>, field_type: FieldType, expected: Option<Value>) {
        assert_eq!(
            scalar(found, field_type, Convert::Typed),
            expected,
            "{found:?}"
        );
    }

    #[test]
    fn numbers_are_read_from_numbers_and_from_texts() {
        check(
            Scalar::Integer(7),
            FieldType::Integer,
            Some(Value::Integer(7)),
        );
        check(
            Scalar::Text("7"),
            FieldType::Integer,
            Some(Value::Integer(7)),
        );
        check(
            Scalar::Float(7.0),
            FieldType::Integer,
            Some(Value::Integer(7)),
        );
        check(Scalar::Float(7.5), FieldType::Integer, None);
        check(Scalar::Unsigned(u64::MAX), FieldType::Integer, None);
        check(
            Scalar::Unsigned(u64::MAX),
            FieldType::Text,
            Some(text_of("18446744073709551615")),
        );
        check(Scalar::Text("NaN"), FieldType::Float, None);
        check(
            Scalar::Text("-1.5"),
            FieldType::Float,
            Some(Value::Float(-1.5)),
        );
    }

    #[test]
    fn a_date_is_not_an_instant() {
        let day = Value::Date(jiff::civil::date(2024, 2, 29));
        check(Scalar::Text("2024-02-29"), FieldType::Date, Some(day));
        check(Scalar::Text("2023-02-29"), FieldType::Date, None);
        check(Scalar::Text("2024-02-29T00:00:00Z"), FieldType::Date, None);
        check(Scalar::Text("2024-02-29"), FieldType::Timestamp, None);
    }

    #[test]
    fn instants_come_with_any_offset_or_as_unix_time() {
        let instant: jiff::Timestamp = "2024-01-01T00:00:00Z".parse().unwrap();
        let expected = Some(Value::Timestamp(instant));
        check(
            Scalar::Text("2024-01-01T02:00:00+02:00"),
            FieldType::Timestamp,
            expected.clone(),
        );
        let unix = Scalar::Integer(instant.as_second());
        assert_eq!(
            scalar(unix, FieldType::Timestamp, Convert::UnixSeconds),
            expected
        );
        let far = Scalar::Integer(i64::MAX);
        assert_eq!(scalar(far, FieldType::Timestamp, Convert::UnixMillis), None);
    }

    #[test]
    fn a_nul_in_text_is_replaced() {
        check(
            Scalar::Text("a\0b"),
            FieldType::Text,
            Some(text_of("a\u{fffd}b")),
        );
    }

    fn text_of(text: &str) -> Value {
        Value::Text(text.into())
    }
}
