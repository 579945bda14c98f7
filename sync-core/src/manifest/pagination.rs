//! How a list is walked page by page, and how its end is known.

use serde::{Deserialize, Serialize};

use crate::path::JsonPath;

/// How the next page is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Paginator {
    /// A number of rows to skip. It advances by the rows received, not by those asked for.
    Offset {
        /// The query parameter.
        param: String,
    },
    /// A page number.
    Page {
        /// The query parameter.
        param: String,
        /// The number of the first page.
        #[serde(default = "one")]
        first: u32,
    },
    /// An opaque token in the body, sent back as a query parameter.
    CursorParam {
        /// The query parameter.
        param: String,
        /// Where the body holds the token.
        next: JsonPath,
    },
    /// The URL of the `rel="next"` entry in the `Link` header.
    LinkHeader,
    /// The URL of the next page in the body.
    JsonNext {
        /// Where the body holds the URL.
        next: JsonPath,
    },
    /// The id of the last record received, sent back as a query parameter.
    LastId {
        /// The query parameter.
        param: String,
    },
}

/// The explicit signal that ends a walk. A walk that ends otherwise is incomplete.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Stop {
    /// The body's pointer to the next page (or, with a link header, the header's) is missing or null.
    MissingNext {
        /// Where the body would hold the pointer; absent with a link header.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<JsonPath>,
    },
    /// A flag in the body is false.
    HasMoreFalse {
        /// Where the body holds the flag.
        flag: JsonPath,
    },
    /// The page holds fewer rows than asked for.
    ShortPage,
    /// As many rows were received as the body's total says.
    Total,
}

/// How the list of an entity is walked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pagination {
    /// How the next page is asked for.
    pub paginator: Paginator,
    /// What ends the walk.
    pub stop: Stop,
    /// Rows asked for in one page; at most [`Pagination::MAX_PAGE_SIZE`].
    pub page_size: u32,
    /// The query parameter of the page size, when the API has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_size_param: Option<String>,
    /// Where the body holds the array of records; the empty path when the body is the array.
    #[serde(default)]
    pub records: JsonPath,
    /// Where the body holds the array of sideloaded records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub included: Option<JsonPath>,
    /// Where the body holds the total number of rows of the whole list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<JsonPath>,
    /// Rows that one walk may page through before it must begin a new window at its cursor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_window: Option<u64>,
    /// A total that the API reports when the truth is higher: a walk that ends exactly here is incomplete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capped_total: Option<u64>,
}

impl Pagination {
    /// The largest page that a manifest may ask for; it bounds the memory of one page.
    pub const MAX_PAGE_SIZE: u32 = 1_000;
}

fn one() -> u32 {
    1
}
