//! The calls that an API offers for an entity.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// The HTTP method of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Reads.
    Get,
    /// Creates, or searches in APIs that search by POST.
    Post,
    /// Replaces.
    Put,
    /// Changes some fields.
    Patch,
    /// Deletes.
    Delete,
}

/// One call: a method and a path template, joined to the manifest's base URL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// The method.
    pub method: Method,
    /// The path, beginning with `/`. `{id}` stands for the record's external id, and the parameter of
    /// the entity's parent walk for the parent's.
    pub path: String,
    /// Query parameters that every request carries, unless the request sets them itself.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, String>,
}

impl Endpoint {
    /// A call without query parameters.
    pub fn new(method: Method, path: impl Into<String>) -> Self {
        Self {
            method,
            path: path.into(),
            query: BTreeMap::new(),
        }
    }

    /// The same call with one more default query parameter.
    #[must_use]
    pub fn with_query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.query.insert(name.into(), value.into());
        self
    }

    /// The names between braces in the path template, in their order.
    pub fn placeholders(&self) -> impl Iterator<Item = &str> {
        self.path
            .split('{')
            .skip(1)
            .filter_map(|rest| Some(rest.split_once('}')?.0))
    }
}

/// The calls of an entity. Only a list is needed to sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoints {
    /// Lists the records, a page at a time.
    pub list: Endpoint,
    /// Reads one record by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub get: Option<Endpoint>,
    /// Creates a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<Endpoint>,
    /// Changes a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<Endpoint>,
    /// Deletes a record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delete: Option<Endpoint>,
}

impl Endpoints {
    /// An entity that can only be listed.
    pub fn list_only(list: Endpoint) -> Self {
        Self {
            list,
            get: None,
            create: None,
            update: None,
            delete: None,
        }
    }

    /// Every call that is there, with its name.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, &Endpoint)> {
        let optional = [
            ("get", &self.get),
            ("create", &self.create),
            ("update", &self.update),
            ("delete", &self.delete),
        ];
        let list = std::iter::once(("list", &self.list));
        list.chain(
            optional
                .into_iter()
                .filter_map(|(name, call)| Some((name, call.as_ref()?))),
        )
    }
}
