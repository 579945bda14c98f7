//! Step `begin-entity`: makes a walk the one writer of its entity, and decides how it goes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sync_adapters::destination::{Connection, StoredCursor};
use sync_core::{Cursor, SyncType, proof::Generation};
use sync_workflow::{Activity, ActivityContext, client as workflows};

use super::{Deps, Shared, judge::PENDING};
use crate::{
    catalogue::Source,
    failure::StepFailure,
    key::EntityKey,
    ledger::{self, Writer},
    state::{EntityState, Next, Phase},
    walk::{Purpose, Walk},
};

/// The kind under which the cursor of deltas is stored.
pub(crate) const DELTA: &str = "delta";

pub(crate) struct BeginEntity(pub(crate) Shared);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BeginInput {
    #[serde(flatten)]
    pub(crate) key: EntityKey,
    pub(crate) sync_type: SyncType,
    pub(crate) walk: String,
    /// The walk whose deletions a person has approved, when they are to be made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) approved: Option<Generation>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Begun {
    /// The walk writes the entity now.
    Started { next: Next, step: i64 },
    /// Another one does, by this workflow.
    Busy {
        workflow_id: String,
        sync_type: SyncType,
    },
}

impl Activity for BeginEntity {
    const NAME: &'static str = "begin-entity";
    type Input = BeginInput;
    type Output = Begun;
    type Error = StepFailure;

    async fn run(&self, context: ActivityContext, input: BeginInput) -> Result<Begun, StepFailure> {
        let deps = &self.0;
        let source = deps.catalogue.source(&input.key)?;
        let previous = {
            let mut reading = deps.target.reading().await?;
            ledger::writer(&mut reading.connection(), &input.key).await?
        };
        if let Some(writer) = previous.as_ref().filter(|writer| writer.status.is_none()) {
            if writer.walk == input.walk {
                let state: EntityState = serde_json::from_str(&writer.state)?;
                let (next, step) = (state.next(), writer.step);
                return Ok(Begun::Started { next, step });
            }
            if writer.workflow_id != context.workflow_id().as_str() && is_open(deps, writer).await?
            {
                return Ok(Begun::Busy {
                    workflow_id: writer.workflow_id.clone(),
                    sync_type: writer.sync_type.parse().unwrap_or(SyncType::Delta),
                });
            }
        }
        let mut work = deps.target.begin(&context).await?;
        let mut connection = work.connection()?;
        if let Some(writer) = previous.as_ref().filter(|writer| writer.status.is_none()) {
            inherit(&mut connection, &source, writer).await?;
        }
        let state = match input.approved {
            Some(generation) => approved(&mut connection, &source, generation).await?,
            None => plan(&mut connection, &source, &input).await?,
        };
        let next = Writer {
            walk: input.walk.clone(),
            workflow_id: context.workflow_id().as_str().to_owned(),
            sync_type: input.sync_type.as_str().to_owned(),
            manifest: source.fingerprint.clone(),
            step: 0,
            state: serde_json::to_string(&state)?,
            status: None,
            reason: None,
            started_at: Timestamp::now().to_string(),
            updated_at: String::new(),
        };
        if !ledger::take_over(&mut connection, &input.key, previous.as_ref(), &next).await? {
            return Err(StepFailure::Internal {
                detail: "another sync began at the same moment".to_owned(),
            });
        }
        work.commit().await?;
        let next = state.next();
        Ok(Begun::Started { next, step: 0 })
    }
}

/// Whether the workflow of a writer still runs. One that this journal does not know is gone with its journal.
async fn is_open(deps: &Deps, writer: &Writer) -> Result<bool, StepFailure> {
    match deps.client()?.describe(&writer.workflow_id).await {
        Ok(run) => Ok(!run.status.is_closed()),
        Err(workflows::Error::NotFound) => Ok(false),
        Err(error) => Err(StepFailure::internal(&error)),
    }
}

/// A walk that was cut off leaves what it may: the cursor that its verified order has reached.
async fn inherit(
    connection: &mut Connection<'_>,
    source: &Source,
    writer: &Writer,
) -> Result<(), StepFailure> {
    if writer.manifest != source.fingerprint {
        return Ok(());
    }
    let Ok(state) = serde_json::from_str::<EntityState>(&writer.state) else {
        return Ok(());
    };
    if let Some(cursor) = state.walk.cursor() {
        connection
            .save_cursor(&source.rows, DELTA, &cursor, &source.fingerprint)
            .await?;
    }
    Ok(())
}

/// Decides how the walk goes: a delta needs a cursor that this manifest made; without one it sees everything.
async fn plan(
    connection: &mut Connection<'_>,
    source: &Source,
    input: &BeginInput,
) -> Result<EntityState, StepFailure> {
    let entity = source.entity();
    let stored: Option<StoredCursor<Cursor>> = match entity.cursor {
        Some(_) => connection.load_cursor(&source.rows, DELTA).await?,
        None => None,
    };
    let cursor = stored.filter(|stored| stored.manifest == source.fingerprint);
    let cursor = cursor.map(|stored| stored.cursor);
    let deltas_until = cursor.as_ref().map(Cursor::at);
    let (walk, generation) = match (input.sync_type, cursor) {
        (SyncType::Delta, Some(cursor)) => {
            (Walk::begin(entity, Purpose::Changes, Some(cursor)), None)
        }
        (SyncType::Delta, None) if entity.cursor.is_none() => {
            (Walk::begin(entity, Purpose::Everything, None), None)
        }
        _ => {
            let generation: Generation = connection
                .begin_generation(&source.rows, &input.walk)
                .await?;
            (
                Walk::begin(entity, Purpose::Everything, None),
                Some(generation),
            )
        }
    };
    Ok(EntityState {
        phase: Phase::Walking,
        sync_type: input.sync_type,
        walk,
        generation,
        counts: sync_core::EntityCounts::default(),
        deltas_until: deltas_until.filter(|_| input.sync_type == SyncType::Reconciliation),
        total_after: None,
        approved: false,
        refusal: None,
        pending: 0,
        unconfirmed: 0,
    })
}

/// The state of the walk that found the deletions, to go on where it stopped for a person.
async fn approved(
    connection: &mut Connection<'_>,
    source: &Source,
    generation: Generation,
) -> Result<EntityState, StepFailure> {
    let stored: Option<StoredCursor<EntityState>> =
        connection.load_cursor(&source.rows, PENDING).await?;
    let state = stored
        .filter(|stored| stored.manifest == source.fingerprint)
        .map(|stored| stored.cursor)
        .filter(|state| state.generation == Some(generation));
    // A later walk has emptied the ledger of what this one met.
    let latest = ledger::latest_generation(connection, &source.rows).await?;
    let state = state.filter(|_| latest == Some(generation));
    let state = state.ok_or_else(|| StepFailure::Unwalkable {
        detail: "a later walk has replaced the one that was approved".to_owned(),
    })?;
    Ok(EntityState {
        phase: Phase::Confirming { after: None },
        counts: sync_core::EntityCounts::default(),
        approved: true,
        refusal: None,
        pending: 0,
        unconfirmed: 0,
        ..state
    })
}
