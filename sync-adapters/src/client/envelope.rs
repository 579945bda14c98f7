//! The body of a list, read in one pass: the rows stay bytes.

use std::{collections::HashMap, fmt};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use sync_core::{
    JsonPath,
    manifest::{Pagination, Paginator, Stop},
};

use super::error::ProtocolProblem;

/// What a list's body holds.
#[derive(Debug)]
pub(super) struct Envelope {
    pub(super) records: Vec<Box<RawValue>>,
    pub(super) included: Vec<Box<RawValue>>,
    pub(super) total: Option<u64>,
    /// What the paginator's own path holds: a token or a URL.
    pub(super) pointer: Option<String>,
    /// Whether the stop's path holds anything; `None` when the stop has no path.
    pub(super) stop: Option<StopValue>,
}

/// What the body says at the path by which the end is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StopValue {
    Missing,
    False,
    Present,
}

/// Reads the body of a list.
pub(super) fn read(body: &[u8], pagination: &Pagination) -> Result<Envelope, ProtocolProblem> {
    let text = std::str::from_utf8(body).map_err(not_json)?;
    if pagination.records.is_root() {
        let records = serde_json::from_str(text).map_err(not_json)?;
        return Ok(Envelope {
            records,
            included: Vec::new(),
            total: None,
            pointer: None,
            stop: None,
        });
    }
    let wanted = Wanted::of(pagination);
    let mut json = serde_json::Deserializer::from_str(text);
    let top = wanted.deserialize(&mut json).map_err(not_json)?;
    json.end().map_err(not_json)?;
    top.into_envelope(pagination)
}

/// The one record of a single answer: the value at the path where lists hold their array, or the body.
pub(super) fn read_single(
    body: &[u8],
    pagination: &Pagination,
) -> Result<Box<RawValue>, ProtocolProblem> {
    let text = std::str::from_utf8(body).map_err(not_json)?;
    let whole: &RawValue = serde_json::from_str(text).map_err(not_json)?;
    let record = follow(whole, pagination.records.segments())?;
    match record.filter(|record| record.get().starts_with('{')) {
        Some(record) => Ok(record.to_owned()),
        None => Err(lacks(&pagination.records)),
    }
}

/// The keys of the body's outermost object that anybody asks for.
struct Wanted<'p> {
    /// Rows directly below the body are read in the same pass.
    records: Option<&'p str>,
    included: Option<&'p str>,
    /// Everything else is small and looked into afterwards.
    others: Vec<&'p str>,
}

/// What was found of it.
struct Top<'b> {
    records: Option<Vec<Box<RawValue>>>,
    included: Option<Vec<Box<RawValue>>>,
    others: HashMap<String, &'b RawValue>,
}

impl<'p> Wanted<'p> {
    fn of(pagination: &'p Pagination) -> Self {
        let shallow = |path: &'p JsonPath| match path.segments() {
            [only] => Some(&**only),
            _ => None,
        };
        let pointer = match &pagination.paginator {
            Paginator::CursorParam { next, .. } | Paginator::JsonNext { next } => Some(next),
            Paginator::Offset { .. }
            | Paginator::Page { .. }
            | Paginator::LinkHeader
            | Paginator::LastId { .. } => None,
        };
        let paths = [
            Some(&pagination.records),
            pagination.included.as_ref(),
            pointer,
        ];
        let paths = paths
            .into_iter()
            .chain([pagination.total.as_ref(), stop_path(&pagination.stop)]);
        Self {
            records: shallow(&pagination.records),
            included: pagination.included.as_ref().and_then(shallow),
            others: paths
                .flatten()
                .filter_map(|path| Some(&**path.segments().first()?))
                .collect(),
        }
    }
}

fn stop_path(stop: &Stop) -> Option<&JsonPath> {
    match stop {
        Stop::MissingNext { next } => next.as_ref(),
        Stop::HasMoreFalse { flag } => Some(flag),
        Stop::ShortPage | Stop::Total => None,
    }
}

impl<'de> DeserializeSeed<'de> for Wanted<'_> {
    type Value = Top<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Top<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Wanted<'_> {
    type Value = Top<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Top<'de>, A::Error> {
        let mut top = Top {
            records: None,
            included: None,
            others: HashMap::new(),
        };
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if self.records == Some(&*key) {
                top.records = map.next_value()?;
            } else if self.included == Some(&*key) {
                top.included = map.next_value()?;
            } else if self.others.contains(&&*key) {
                top.others.insert(key.into_owned(), map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(top)
    }
}

impl<'b> Top<'b> {
    fn into_envelope(mut self, pagination: &Pagination) -> Result<Envelope, ProtocolProblem> {
        let records = match self.records.take() {
            Some(records) => records,
            None => self
                .rows(&pagination.records)?
                .ok_or_else(|| lacks(&pagination.records))?,
        };
        let included = match (self.included.take(), &pagination.included) {
            (Some(included), _) => included,
            (None, Some(path)) => self.rows(path)?.unwrap_or_default(),
            (None, None) => Vec::new(),
        };
        let pointer = match &pagination.paginator {
            Paginator::CursorParam { next, .. } | Paginator::JsonNext { next } => {
                self.at(next)?.map(scalar_text).transpose()?
            }
            _ => None,
        };
        Ok(Envelope {
            records,
            included,
            total: self.total(pagination)?,
            pointer,
            stop: self.stop(pagination)?,
        })
    }

    /// The value at the path; `None` when it is missing or null.
    fn at(&self, path: &JsonPath) -> Result<Option<&'b RawValue>, ProtocolProblem> {
        let Some((first, rest)) = path.segments().split_first() else {
            return Ok(None);
        };
        match self.others.get(&**first) {
            Some(value) => follow(value, rest),
            None => Ok(None),
        }
    }

    fn rows(&self, path: &JsonPath) -> Result<Option<Vec<Box<RawValue>>>, ProtocolProblem> {
        let rows = self.at(path)?.map(|rows| serde_json::from_str(rows.get()));
        rows.transpose().map_err(|_| lacks(path))
    }

    fn total(&self, pagination: &Pagination) -> Result<Option<u64>, ProtocolProblem> {
        let Some(path) = &pagination.total else {
            return Ok(None);
        };
        let total = self
            .at(path)?
            .map(|total| serde_json::from_str(total.get()));
        total.transpose().map_err(|_| lacks(path))
    }

    fn stop(&self, pagination: &Pagination) -> Result<Option<StopValue>, ProtocolProblem> {
        let Some(path) = stop_path(&pagination.stop) else {
            return Ok(None);
        };
        let value = self.at(path)?.map(RawValue::get);
        Ok(Some(match value {
            None => StopValue::Missing,
            Some("false") => StopValue::False,
            Some(_) => StopValue::Present,
        }))
    }
}

/// Follows object keys; `None` when one is missing or the value is null.
fn follow<'b>(
    mut value: &'b RawValue,
    keys: &[Box<str>],
) -> Result<Option<&'b RawValue>, ProtocolProblem> {
    for key in keys {
        if value.get() == "null" {
            return Ok(None);
        }
        let mut object: HashMap<std::borrow::Cow<'b, str>, &'b RawValue> =
            serde_json::from_str(value.get()).map_err(not_json)?;
        match object.remove(&**key) {
            Some(inner) => value = inner,
            None => return Ok(None),
        }
    }
    Ok(Some(value).filter(|value| value.get() != "null"))
}

/// A token as text: APIs send numbers and texts.
fn scalar_text(value: &RawValue) -> Result<String, ProtocolProblem> {
    let json = value.get();
    if json.starts_with('"') {
        return serde_json::from_str(json).map_err(not_json);
    }
    if json.starts_with(['{', '[']) {
        return Err(ProtocolProblem::Envelope {
            what: "a scalar pointer to the next page".to_owned(),
        });
    }
    Ok(json.to_owned())
}

fn lacks(path: &JsonPath) -> ProtocolProblem {
    ProtocolProblem::Envelope {
        what: path.to_string(),
    }
}

pub(super) fn not_json(error: impl fmt::Display) -> ProtocolProblem {
    ProtocolProblem::NotJson {
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pagination() -> Pagination {
        Pagination {
            paginator: Paginator::Offset {
                param: "offset".into(),
            },
            stop: Stop::MissingNext {
                next: Some("meta.next".parse().unwrap()),
            },
            page_size: 100,
            page_size_param: Some("per_page".into()),
            records: "data".parse().unwrap(),
            included: Some("included".parse().unwrap()),
            total: Some("meta.total_count".parse().unwrap()),
            max_window: None,
            capped_total: None,
        }
    }

    #[test]
    fn rows_keep_the_bytes_of_the_source() {
        let body = r#"{"links":{},"data":[{"id":"1", "n":18446744073709551615},{"z":"\u0000"}],
            "included":[{"id":"9"}],"meta":{"total_count":7,"next":{"offset":2}}}"#;
        let envelope = read(body.as_bytes(), &pagination()).unwrap();
        assert_eq!(
            envelope.records[0].get(),
            r#"{"id":"1", "n":18446744073709551615}"#
        );
        assert_eq!(envelope.records[1].get(), r#"{"z":"\u0000"}"#);
        assert_eq!(envelope.included.len(), 1);
        assert_eq!(envelope.total, Some(7));
        assert_eq!(envelope.stop, Some(StopValue::Present));
    }

    #[test]
    fn a_missing_and_a_null_pointer_are_the_same() {
        for meta in [r#"{"total_count":0}"#, r#"{"total_count":0,"next":null}"#] {
            let body = format!(r#"{{"data":[],"meta":{meta}}}"#);
            let envelope = read(body.as_bytes(), &pagination()).unwrap();
            assert_eq!(envelope.stop, Some(StopValue::Missing));
        }
    }

    #[test]
    fn html_truncation_and_foreign_shapes_break_the_protocol() {
        let problem = |body: &[u8]| read(body, &pagination()).unwrap_err();
        assert!(matches!(
            problem(b"<html>"),
            ProtocolProblem::NotJson { .. }
        ));
        assert!(matches!(
            problem(br#"{"data":[{"id":"#),
            ProtocolProblem::NotJson { .. }
        ));
        assert!(matches!(
            problem(br#"{"data":[]} x"#),
            ProtocolProblem::NotJson { .. }
        ));
        assert!(matches!(
            problem(b"{\"data\":[\"\xff\"]}"),
            ProtocolProblem::NotJson { .. }
        ));
        assert!(matches!(
            problem(br#"{"rows":[]}"#),
            ProtocolProblem::Envelope { .. }
        ));
        assert!(matches!(
            problem(br#"{"data":null}"#),
            ProtocolProblem::Envelope { .. }
        ));
    }

    #[test]
    fn a_list_may_be_the_body_itself() {
        let bare = Pagination {
            records: JsonPath::default(),
            included: None,
            ..pagination()
        };
        let envelope = read(br#"[{"id":1},{"id":2}]"#, &bare).unwrap();
        assert_eq!(envelope.records.len(), 2);
    }

    #[test]
    fn a_single_record_lies_where_lists_hold_their_rows() {
        let record = read_single(br#"{"data":{"id":"1"},"meta":{}}"#, &pagination()).unwrap();
        assert_eq!(record.get(), r#"{"id":"1"}"#);
        assert!(read_single(br#"{"data":[]}"#, &pagination()).is_err());
    }
}
