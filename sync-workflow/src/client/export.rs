//! Histories as JSON: to look at, to keep, and to hold later versions of the code against.

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::{Client, Error};
use crate::{
    id::{CommandId, Position, RunId, WorkflowId},
    journal::HistoryRecord,
    payload::envelope::is_enveloped,
    record::{Record, RecordKind},
    status::RunStatus,
    tag::Tags,
};

/// How many records are read at once.
const PAGE: u32 = 1_000;

/// A run with its whole history, in a form that a file can keep.
///
/// A file of one, written by [`serde_json`], is a golden history: a test that reads it and replays it with
/// [`ReplayCheck::of_history`](crate::testing::ReplayCheck::of_history) finds out when a change of the code would park
/// the runs that were started before it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunHistory {
    /// The run.
    pub run: RunId,
    /// Its workflow id.
    pub workflow_id: WorkflowId,
    /// The registered name of its workflow.
    pub workflow: String,
    /// Its queue.
    #[serde(default = "default_queue")]
    pub queue: String,
    /// By which it was found.
    #[serde(default, skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
    /// Where it stood when it was read.
    pub status: RunStatus,
    /// Why it was parked then, if it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked_reason: Option<String>,
    /// Its records, from position zero on.
    pub records: Vec<ExportedRecord>,
}

impl RunHistory {
    /// The records as the journal has them.
    ///
    /// # Errors
    ///
    /// [`InvalidPayload`] where the file holds bytes that are no bytes.
    pub fn to_records(&self) -> Result<Vec<Record>, InvalidPayload> {
        let record = |(place, exported): (usize, &ExportedRecord)| {
            let position = Position(u32::try_from(place).unwrap_or(u32::MAX));
            exported.to_record(position)
        };
        self.records.iter().enumerate().map(record).collect()
    }
}

fn default_queue() -> String {
    "default".into()
}

/// A record, without its position, which is its place in the list.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExportedRecord {
    /// What happened.
    pub kind: RecordKind,
    /// The command that it belongs to; absent where it belongs to the run itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandId>,
    /// The name of the activity, signal, child workflow or side effect.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The hash of what the command asked for; absent where nothing was asked.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fingerprint: u64,
    /// When it was committed, by the database's clock.
    pub recorded_at: Timestamp,
    /// The encoded value.
    pub payload: ExportedPayload,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
const fn is_zero(fingerprint: &u64) -> bool {
    *fingerprint == 0
}

/// A payload: as the JSON that it is, or as bytes where it is none.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExportedPayload {
    /// JSON, byte for byte.
    Json(Box<RawValue>),
    /// Bytes, two hexadecimal digits each.
    Hex(String),
    /// Bytes as codecs stored them, which the client could not decode: two hexadecimal digits each. Read them with a
    /// client that has the [codecs](Client::codecs) and the keys.
    Encoded(String),
}

/// A payload that is written as bytes and holds something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the payload of record {position} is not written in hexadecimal digits")]
pub struct InvalidPayload {
    /// The place of the record.
    pub position: Position,
}

impl ExportedRecord {
    fn new(item: HistoryRecord) -> Self {
        let record = item.record;
        Self {
            kind: record.kind,
            command: (record.command != Record::RUN).then_some(record.command),
            name: record.name.to_string(),
            fingerprint: record.fingerprint,
            recorded_at: item.recorded_at,
            payload: ExportedPayload::new(&record.payload),
        }
    }

    fn to_record(&self, position: Position) -> Result<Record, InvalidPayload> {
        let payload = self.payload.to_bytes();
        Ok(Record {
            position,
            kind: self.kind,
            command: self.command.unwrap_or(Record::RUN),
            name: self.name.as_str().into(),
            fingerprint: self.fingerprint,
            payload: payload.ok_or(InvalidPayload { position })?,
        })
    }
}

impl ExportedPayload {
    fn new(payload: &[u8]) -> Self {
        let json: Option<Box<RawValue>> = serde_json::from_slice(payload).ok();
        match json.filter(|json| json.get().as_bytes() == payload) {
            Some(json) => Self::Json(json),
            None => {
                let digits = payload.iter().map(|byte| format!("{byte:02x}")).collect();
                match is_enveloped(payload) {
                    true => Self::Encoded(digits),
                    false => Self::Hex(digits),
                }
            }
        }
    }

    fn to_bytes(&self) -> Option<Bytes> {
        match self {
            Self::Json(json) => Some(Bytes::copy_from_slice(json.get().as_bytes())),
            Self::Hex(digits) | Self::Encoded(digits) => {
                let pairs = digits.as_bytes().chunks(2).map(|pair| {
                    let pair = std::str::from_utf8(pair)
                        .ok()
                        .filter(|pair| pair.len() == 2)?;
                    u8::from_str_radix(pair, 16).ok()
                });
                pairs.collect::<Option<Vec<u8>>>().map(Bytes::from)
            }
        }
    }
}

impl Client {
    /// Reads a run with its whole history, in a form that a file can keep. Payloads that codecs encoded are decoded where
    /// the client has the keys, and are [`ExportedPayload::Encoded`] otherwise.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] when there is no such run.
    pub async fn export(&self, run: RunId) -> Result<RunHistory, Error> {
        let info = self.describe_run(run).await?;
        let mut records = Vec::new();
        loop {
            let from = u32::try_from(records.len()).unwrap_or(u32::MAX);
            let page = self.history(run, from, PAGE).await?;
            records.extend(page.items.into_iter().map(ExportedRecord::new));
            if !page.more {
                break;
            }
        }
        Ok(RunHistory {
            run,
            workflow_id: info.workflow_id,
            workflow: info.workflow.to_string(),
            queue: info.queue.to_string(),
            tags: info.tags,
            status: info.status,
            parked_reason: info.parked_reason,
            records,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_payload_comes_back_byte_for_byte() {
        let payloads: [&[u8]; 8] = [
            b"\x03\x01k",
            b"",
            b"null",
            b"{\"b\":1,\"a\":18446744073709551615}",
            b" 1",
            b"\0\xff\x80",
            b"\"\\u0000\"",
            b"1.0e5",
        ];
        for payload in payloads {
            let written = serde_json::to_string_pretty(&ExportedPayload::new(payload)).unwrap();
            let read: ExportedPayload = serde_json::from_str(&written).unwrap();
            assert_eq!(read.to_bytes().as_deref(), Some(payload), "{written}");
        }
        assert_eq!(ExportedPayload::Hex("0".into()).to_bytes(), None);
        assert_eq!(ExportedPayload::Hex("zz".into()).to_bytes(), None);
    }
}
