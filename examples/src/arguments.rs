//! The command line of the sync examples.

use std::env::VarError;

use anyhow::{Context as _, bail};
use clap::Args;
use sync_adapters::{Credentials, planning_center};
use sync_core::{AdapterName, Manifest, OrgId};

/// The flags that every sync example takes.
#[derive(Debug, Clone, Args)]
pub struct Arguments {
    /// Where the API is; without it, the built-in mock API is started.
    #[arg(long, value_name = "URL")]
    pub source: Option<String>,
    /// The bearer token for the source.
    #[arg(long, default_value = "mock-token-0", hide_default_value = true)]
    pub token: String,
    /// Where the workflows are journaled: postgres://… or sqlite:path.
    #[arg(long, value_name = "URL")]
    pub journal: Option<String>,
    /// Where the records go: postgres://… or sqlite:path. The journal's database, if it is not given.
    #[arg(long, value_name = "URL")]
    pub destination: Option<String>,
    /// The organisation.
    #[arg(long)]
    pub org: Option<String>,
    /// The adapter.
    #[arg(long, default_value = "pco")]
    pub adapter: String,
    /// People at the built-in source; everything else follows in proportion.
    #[arg(long, default_value_t = 1_000)]
    pub people: usize,
    /// Requests per 20 seconds that the source allows; without it, the built-in source allows any number, and
    /// of another one the manifest's number is believed.
    #[arg(long, value_name = "REQUESTS")]
    pub rate_limit: Option<u32>,
    /// Prints the summary as JSON on the standard output.
    #[arg(long)]
    pub json: bool,
}

impl Arguments {
    /// Journal and destination: as given, else the server of `DATABASE_URL`, else a SQLite file.
    ///
    /// # Errors
    ///
    /// The variable holds no text.
    pub fn databases(&self, file: &str) -> anyhow::Result<(String, String)> {
        let server = match std::env::var("DATABASE_URL") {
            // Its value may hold a password.
            Err(VarError::NotUnicode(_)) => bail!("the variable DATABASE_URL is not Unicode"),
            server => server.ok().filter(|url| !url.is_empty()),
        };
        let default = || server.clone().unwrap_or_else(|| format!("sqlite:{file}"));
        let journal = self
            .journal
            .clone()
            .or_else(|| self.destination.clone())
            .unwrap_or_else(default);
        let destination = self.destination.clone().unwrap_or_else(|| journal.clone());
        Ok((journal, destination))
    }

    /// The organisation that was given, or this one.
    ///
    /// # Errors
    ///
    /// It is no name of an organisation.
    pub fn org(&self, default: &str) -> anyhow::Result<OrgId> {
        OrgId::new(self.org.as_deref().unwrap_or(default)).context("--org")
    }

    /// The adapter's manifest, for a source at this address.
    ///
    /// # Errors
    ///
    /// There is no such adapter, or the address is none.
    pub fn manifest(&self, address: &str) -> anyhow::Result<Manifest> {
        let (_, manifest) = manifest_of(&self.adapter)?;
        let mut spec = manifest.spec().clone();
        spec.base_url = address.trim_end_matches('/').to_owned();
        match self.rate_limit {
            Some(requests) => spec.rate_limit.requests = requests,
            // The built-in source has no limit and says nothing of one.
            None if self.source.is_none() => spec.rate_limit.requests = 1_000_000,
            None => {}
        }
        Manifest::new(spec).context("--source")
    }

    /// The credentials for the source.
    pub fn credentials(&self) -> Credentials {
        Credentials::bearer(&self.token)
    }
}

/// The adapters that the examples know.
///
/// # Errors
///
/// There is none of this name.
pub fn manifest_of(adapter: &str) -> anyhow::Result<(AdapterName, Manifest)> {
    let manifest = planning_center::manifest();
    if manifest.adapter().as_str() != adapter {
        bail!(
            "there is no adapter {adapter:?}; there is: {}",
            manifest.adapter()
        );
    }
    Ok((manifest.adapter().clone(), manifest))
}
