//! Step `check-references`: the final pass over references, those that were deferred too.

use serde::{Deserialize, Serialize};
use sync_adapters::destination::Table;
use sync_core::{AdapterName, EntityName, OrgId};
use sync_workflow::{Activity, ActivityContext};

use super::Shared;
use crate::{failure::StepFailure, key::EntityKey, report::UnresolvedReferences};

pub(crate) struct CheckReferences(pub(crate) Shared);

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct CheckInput {
    pub(crate) org: OrgId,
    pub(crate) adapter: AdapterName,
    /// The entities whose references are looked at.
    pub(crate) entities: Vec<EntityName>,
    /// The targets that may lack records, beside those of deferred references; none means: any.
    pub(crate) doubtful: Option<Vec<EntityName>>,
}

impl Activity for CheckReferences {
    const NAME: &'static str = "check-references";
    type Input = CheckInput;
    type Output = Vec<UnresolvedReferences>;
    type Error = StepFailure;

    async fn run(
        &self,
        context: ActivityContext,
        input: CheckInput,
    ) -> Result<Self::Output, StepFailure> {
        let deps = &self.0;
        let adapter = deps.catalogue.connected(&input.org, &input.adapter);
        let adapter = adapter.map_err(|error| StepFailure::Unconfigured {
            detail: error.to_string(),
        })?;
        let mut work = deps.target.begin(&context).await?;
        let mut unresolved = Vec::new();
        for entity in input.entities {
            let key = EntityKey {
                org: input.org.clone(),
                adapter: input.adapter.clone(),
                entity: entity.clone(),
            };
            let source = deps.catalogue.source(&key)?;
            let deferred: Vec<_> = adapter
                .graph
                .deferred(&entity)
                .map(|(_, target)| target)
                .collect();
            let is_asked = |target: &EntityName| match &input.doubtful {
                None => true,
                Some(doubtful) => doubtful.contains(target) || deferred.contains(&target),
            };
            let targets = adapter
                .tables
                .iter()
                .filter(|table| is_asked(table.entity()));
            let targets: Vec<Table> = targets.cloned().collect();
            let found = work
                .connection()?
                .check_references(&source.rows, &targets)
                .await?;
            unresolved.extend(
                found
                    .into_iter()
                    .filter(|found| found.dangling > 0)
                    .map(|found| UnresolvedReferences {
                        entity: entity.clone(),
                        column: found.column.to_string(),
                        target: found.target,
                        rows: found.dangling,
                    }),
            );
        }
        work.commit().await?;
        Ok(unresolved)
    }
}
