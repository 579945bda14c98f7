//! What can go wrong when an engine is started or asked.

use sync_adapters::{client, destination};
use sync_core::{AdapterName, OrgId, graph, manifest};
use sync_workflow::{client as workflows, journal, worker};

/// The error of starting an engine, or of asking it something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No adapter of this name is registered.
    #[error("there is no adapter {adapter:?}; there is: {known}", adapter = adapter.as_str())]
    UnknownAdapter {
        /// The name asked for.
        adapter: AdapterName,
        /// The registered ones.
        known: String,
    },
    /// Two manifests are of the same adapter. Give one of them another name.
    #[error("adapter {adapter} is registered twice")]
    DuplicateAdapter {
        /// The adapter.
        adapter: AdapterName,
    },
    /// The organisation has no credentials for the adapter.
    #[error("organisation {org} has no credentials for adapter {adapter}")]
    NotConnected {
        /// The organisation.
        org: OrgId,
        /// The adapter.
        adapter: AdapterName,
    },
    /// The builder was not told something that it needs.
    #[error("no {what} was given")]
    Missing {
        /// What.
        what: &'static str,
    },
    /// A manifest is not consistent.
    #[error("the manifest cannot be used")]
    Manifest(#[source] manifest::Error),
    /// The entities of a manifest cannot be ordered.
    #[error("the dependencies cannot be ordered")]
    Graph(#[source] graph::Error),
    /// The source cannot be called.
    #[error("the source cannot be called")]
    Source(#[source] client::Error),
    /// The destination cannot be used.
    #[error("the destination cannot be used")]
    Destination(#[source] destination::Error),
    /// The journal cannot be used.
    #[error("the journal cannot be used")]
    Journal(#[source] journal::Error),
    /// The worker cannot be started.
    #[error("the worker cannot be started")]
    Worker(#[source] worker::Error),
    /// A workflow cannot be started or asked.
    #[error("the sync cannot be started or asked")]
    Workflow(#[source] workflows::Error),
    /// No such deletions wait for a decision.
    #[error("no such deletions wait for a decision")]
    NotPending,
    /// A stored state cannot be read.
    #[error("the stored state of a sync cannot be read")]
    Unreadable(#[source] serde_json::Error),
    /// The sync has no report: it was terminated, or is parked.
    #[error("the sync has no report")]
    NoReport(#[source] Box<dyn std::error::Error + Send + Sync>),
}
