//! Tags as the databases tell them.

use super::{Error, Result};
use crate::{
    id::{Position, RunId},
    tag::Tags,
};

/// The tags of a run, from the JSON object that a statement makes of its rows.
pub(super) fn stored_tags(run: RunId, json: Option<&str>) -> Result<Tags> {
    let Some(json) = json else {
        return Ok(Tags::new());
    };
    serde_json::from_str(json).map_err(|error| Error::Corrupt {
        run,
        position: Position(0),
        detail: format!("its tags cannot be read: {error}"),
    })
}
