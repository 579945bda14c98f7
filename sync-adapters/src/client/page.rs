//! One page of a list, and where the walk stands after it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// A page of a list: its rows in the bytes of the source, and what follows.
#[derive(Debug)]
pub struct Page {
    /// The rows.
    pub records: Vec<Box<RawValue>>,
    /// Sideloaded rows of other entities.
    pub included: Vec<Box<RawValue>>,
    /// What follows.
    pub next: Next,
    /// Rows of the whole list, when the API tells.
    pub total: Option<u64>,
    /// Rows received in this walk, this page included.
    pub received: u64,
    /// When the answer was complete, by the local clock.
    pub fetched_at: Timestamp,
    /// The server's clock when it answered, by its `Date` header.
    pub server_date: Option<Timestamp>,
}

/// What follows a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Another page, to be asked for with this token.
    Page(PageToken),
    /// Nothing: the API signalled the end, and the counts do not speak against it.
    End,
    /// Nothing that can be asked for, yet the list is longer. Such a walk proves no absence.
    Incomplete(Incomplete),
}

/// Why a walk ended before its list did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Incomplete {
    /// The API pages no deeper: a new window begins at the last instant seen.
    #[error("the API pages through {max_window} rows at most")]
    WindowExhausted {
        /// The depth at which the API stops.
        max_window: u64,
    },
    /// The API reports a total that it never exceeds, so that the truth may be higher.
    #[error("the API counts to {cap} at most")]
    CappedTotal {
        /// The highest total that the API reports.
        cap: u64,
    },
    /// The API signalled the end although its own total says more.
    #[error("{received} of {total} rows came")]
    FewerThanTotal {
        /// Rows received.
        received: u64,
        /// Rows that the API says there are.
        total: u64,
    },
    /// The API did not signal the end, but gave no way to the next page either.
    #[error("the pointer to the next page is missing")]
    MissingPointer,
}

/// Where a walk continues: small, and as good tomorrow as today, so that it can be stored between pages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PageToken {
    /// The place in the list.
    pub(super) position: Position,
    /// Rows received before it.
    pub(super) received: u64,
    /// Empty pages received in a row before it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) empty_pages: u8,
}

/// A place in a list, in the terms of its paginator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Position {
    /// The beginning, which needs no parameter.
    Start,
    Offset(u64),
    Page(u64),
    Cursor(String),
    Url(String),
    LastId(String),
}

impl PageToken {
    /// Rows received before the page that this token asks for.
    pub fn received(&self) -> u64 {
        self.received
    }

    pub(super) fn start() -> Self {
        Self {
            position: Position::Start,
            received: 0,
            empty_pages: 0,
        }
    }
}

impl Next {
    /// The token of the next page, if there is one.
    pub fn token(&self) -> Option<&PageToken> {
        match self {
            Self::Page(token) => Some(token),
            Self::End | Self::Incomplete(_) => None,
        }
    }
}

fn is_zero(number: &u8) -> bool {
    *number == 0
}
