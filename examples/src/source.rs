//! The source of an example: the one that was given, or the built-in one.

use anyhow::{Context as _, bail};
use mock_api::{MockApi, RateLimit};
use sync_adapters::{ApiClient, ListRequest, client};
use sync_core::{DependencyGraph, Manifest};

use crate::Arguments;

/// Where the records come from.
pub struct Source {
    /// The API as the engine knows it.
    pub manifest: Manifest,
    /// The built-in source, when it serves.
    pub builtin: Option<MockApi>,
}

impl Source {
    /// Finds the given source, or starts the built-in one.
    ///
    /// # Errors
    ///
    /// The given source cannot be reached or does not accept the token.
    pub async fn open(arguments: &Arguments) -> anyhow::Result<Self> {
        // Before anything is started: a wrong name is told at once.
        crate::manifest_of(&arguments.adapter)?;
        if let Some(address) = &arguments.source {
            let manifest = arguments.manifest(address)?;
            probe(&manifest, arguments).await?;
            return Ok(Self {
                manifest,
                builtin: None,
            });
        }
        let limit = arguments.rate_limit.map(|requests| RateLimit {
            requests,
            ..RateLimit::default()
        });
        let started = MockApi::builder()
            .people(arguments.people)
            .rate_limit(limit)
            .start()
            .await;
        let api = started.context("the built-in source cannot be started")?;
        Ok(Self {
            manifest: arguments.manifest(&api.base_url())?,
            builtin: Some(api),
        })
    }
}

/// Asks for one record, so that a wrong address or token is told in one line before anything begins.
async fn probe(manifest: &Manifest, arguments: &Arguments) -> anyhow::Result<()> {
    let address = manifest.base_url().to_owned();
    let client = ApiClient::builder(manifest.clone(), arguments.credentials())
        .retries(1)
        .build()?;
    let graph = DependencyGraph::new(manifest)?;
    let request = ListRequest::new(graph.order()[0].clone()).page_size(1);
    match client.fetch_page(&request, None).await {
        // A token without this right may have others; each entity will tell.
        Ok(_) | Err(client::Error::Forbidden { .. } | client::Error::RateLimited { .. }) => Ok(()),
        Err(error @ client::Error::Network(_)) => {
            Err(error).with_context(|| format!("the source at {address} cannot be reached"))
        }
        Err(error @ client::Error::Unauthenticated { .. }) => {
            Err(error).with_context(|| format!("the source at {address} does not accept the token"))
        }
        Err(error) => bail!("the source at {address} does not answer as it should: {error}"),
    }
}
