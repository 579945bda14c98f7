//! A journal that was loaded, before any of it has an effect.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::{
    context::Context,
    failure::panic_message,
    record::{Record, RecordKind},
    replay::{BodyFuture, Fault},
    worker::registry::WorkflowFactory,
};

/// What is wrong with the journal of an open run, if anything is.
pub(in crate::worker) fn fault_in(records: &[Record]) -> Option<Fault> {
    let damaged = |detail: String| Some(Fault::Damaged { detail });
    let gap = records
        .iter()
        .enumerate()
        .find(|(index, record)| record.position.0 as usize != *index);
    if let Some((index, _)) = gap {
        return damaged(format!("record {index} is missing"));
    }
    let first = records.first()?;
    if first.kind != RecordKind::Started {
        return damaged("it does not begin with a start".into());
    }
    if records.iter().any(|record| record.kind.is_final()) {
        return damaged("an open run has a final record".into());
    }
    None
}

/// Makes the future of a run. Code that panics here is as faulty as code that panics later.
pub(in crate::worker) fn make_future(
    factory: &WorkflowFactory,
    context: Context,
    input: &[u8],
) -> Result<BodyFuture, Fault> {
    let made = catch_unwind(AssertUnwindSafe(|| factory(context, input)));
    made.unwrap_or_else(|panic| {
        let message = panic_message(&*panic);
        Err(Fault::Panicked { message })
    })
}
