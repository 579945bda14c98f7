//! Random operations on two journals, which must answer alike and hold the same in the end.
//!
//! No answer depends on the clock: times are long past or far ahead, and only whether there is a time is
//! compared. So a journal on a manual clock can be held against one on a server's clock.

mod answer;
mod content;
mod operation;
mod script;

use std::time::Duration;

use uuid::Uuid;

use self::{answer::apply, content::dump, script::Script};
use crate::{
    id::{NodeId, Position, RunId},
    journal::{Journal, Result, RunFilter},
    status::RunStatus,
};

const NODES: u128 = 2;
const HOUR: Duration = Duration::from_secs(3_600);

/// Applies the same random operations to both journals, which must be empty, and compares every answer, and
/// everything that they hold after every few operations. Returns the answers, so that the caller can make sure
/// that what it cares for has happened.
///
/// # Errors
///
/// The first error of a journal that is no answer of the port.
///
/// # Panics
///
/// When the journals differ; the message holds the seed and the operation.
pub async fn compare(
    seed: u64,
    operations: u32,
    left: &dyn Journal,
    right: &dyn Journal,
) -> Result<Vec<String>> {
    let mut script = Script::new(seed);
    let mut answers = Vec::with_capacity(operations as usize);
    for node in 0..NODES {
        left.enlist(node_id(node), HOUR).await?;
        right.enlist(node_id(node), HOUR).await?;
    }
    for number in 0..operations {
        script.is_open(open(left).await?);
        let operation = script.operation();
        let expected = apply(left, &operation).await;
        let found = apply(right, &operation).await;
        assert_eq!(
            expected, found,
            "seed {seed}, operation {number}: {operation:?}"
        );
        answers.push(found);
        if number % 16 == 15 || number + 1 == operations {
            let (expected, found) = (
                dump(left, script.runs()).await?,
                dump(right, script.runs()).await?,
            );
            assert_eq!(
                expected, found,
                "seed {seed}, after operation {number}: {operation:?}"
            );
        }
    }
    Ok(answers)
}

async fn open(journal: &dyn Journal) -> Result<Vec<(RunId, Option<NodeId>)>> {
    let statuses = RunStatus::OPEN.to_vec();
    let runs = journal
        .list(&RunFilter {
            statuses,
            limit: RunFilter::MAX_LIMIT,
            ..RunFilter::default()
        })
        .await?;
    Ok(runs
        .items
        .iter()
        .map(|info| (info.run, info.node))
        .collect())
}

async fn length(journal: &dyn Journal, run: RunId) -> Result<u32> {
    let records = journal.load(run, Position(0), 10_000).await?.records;
    Ok(u32::try_from(records.len()).expect("it is at most 10,000"))
}

fn node_id(number: u128) -> NodeId {
    NodeId::from_uuid(Uuid::from_u128(1_000_000 + number))
}
