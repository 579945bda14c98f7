//! Runs that come from other journals.

use super::{Client, Error, InvalidPayload, RunHistory};
use crate::{
    id::RunId,
    journal::{HistoryRecord, ImportedRun, MAX_HISTORY_RECORDS, StartOutcome},
    record::{Record, RecordKind},
    status::RunStatus,
};

/// Why a history cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// A payload is not what it is said to be.
    #[error("the history cannot be read")]
    Payload(#[from] InvalidPayload),
    /// The records make no history of such a run.
    #[error("this is no history of a run: {detail}")]
    NoHistory {
        /// What is wrong with them.
        detail: String,
    },
    /// The run is here already, or another of its workflow id: one journal has one truth about it.
    #[error("run {run} is in the way, which is {status}")]
    Existing {
        /// That run.
        run: RunId,
        /// Where it stands.
        status: RunStatus,
    },
    /// The journal failed.
    #[error("the import failed")]
    Client(#[from] Error),
}

impl Client {
    /// Takes a run that [`Client::export`] read into this journal, with its id, its times and its tags, so that exporting it
    /// here gives the same again.
    ///
    /// A run that was open is paused here: look at it, and let it go on with [`Client::resume`] once it goes on nowhere
    /// else. What is not in its history does not come along: signals that nobody had received, the state of
    /// activities between attempts (they are tried anew), published values, and children, which count as never
    /// started unless they are imported before it goes on. A closed run is subject to the retention of its workflow.
    ///
    /// ```no_run
    /// # async fn example(from: sync_workflow::Client, to: sync_workflow::Client) -> anyhow::Result<()> {
    /// let info = from.describe("order-7").await?;
    /// let history = from.export(info.run).await?;
    /// to.import(&history).await?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ImportError`]; nothing was written then, unless an answer of the journal was lost. It may be repeated: what was
    /// written is then [`ImportError::Existing`].
    pub async fn import(&self, history: &RunHistory) -> Result<RunId, ImportError> {
        let records = history.to_records()?;
        let closed = closed(history, &records)?;
        let times = history.records.iter().map(|record| record.recorded_at);
        let items = records.into_iter().zip(times);
        let imported = ImportedRun {
            run: history.run,
            workflow_id: history.workflow_id.clone(),
            workflow: history.workflow.as_str().into(),
            queue: history.queue.as_str().into(),
            closed,
            tags: history.tags.clone(),
            records: items
                .map(|(record, recorded_at)| HistoryRecord {
                    record,
                    recorded_at,
                })
                .collect(),
        };
        match self.journal.import(&imported).await.map_err(Error::from)? {
            StartOutcome::Started => Ok(history.run),
            StartOutcome::Existing { run, status } => Err(ImportError::Existing { run, status }),
        }
    }
}

/// How the run ended, if it has; and whether its records say the same.
fn closed(history: &RunHistory, records: &[Record]) -> Result<Option<RunStatus>, ImportError> {
    let wrong = |detail: String| Err(ImportError::NoHistory { detail });
    let Some((first, rest)) = records.split_first() else {
        return wrong("it has no records".into());
    };
    if records.len() > MAX_HISTORY_RECORDS as usize {
        return wrong(format!("it has {} records", records.len()));
    }
    if first.kind != RecordKind::Started || *first.name != *history.workflow {
        return wrong("it does not begin with a start of its workflow".into());
    }
    if rest.iter().any(|record| record.kind == RecordKind::Started) {
        return wrong("it is started twice".into());
    }
    let is_odd = |record: &Record| !record.kind.has_fingerprint() && record.fingerprint != 0;
    if let Some(record) = records.iter().find(|record| is_odd(record)) {
        return wrong(format!(
            "record {} answers what nobody asked",
            record.position
        ));
    }
    let last = records.len() - 1;
    let early = records
        .iter()
        .take(last)
        .find(|record| record.kind.is_final());
    if let Some(record) = early {
        return wrong(format!(
            "it goes on after record {} ended it",
            record.position
        ));
    }
    let end = records.last().and_then(|record| record.kind.final_status());
    let expected = history.status.is_closed().then_some(history.status);
    if end != expected {
        return wrong(format!(
            "its last record is not that of a run that is {}",
            history.status
        ));
    }
    Ok(end)
}
