//! Serves a mock API until it is told to stop.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Parser;
use mock_api::{MockApi, RateLimit};
use tokio::signal::unix::{SignalKind, signal};

/// A Planning-Center-style API with seeded data, on 127.0.0.1 only.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// People per organisation; everything else follows in proportion.
    #[arg(long, default_value_t = 1_000)]
    people: usize,
    /// Seed of the data: the same seed and size give the same data.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Organisations, each with credentials and data of its own.
    #[arg(long, default_value_t = 1)]
    orgs: usize,
    /// Port of the API; 0 takes any free one.
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Port of the control plane; 0 takes any free one.
    #[arg(long, default_value_t = 0)]
    admin_port: u16,
    /// Requests per 20 seconds and token; 0 turns the limit off.
    #[arg(long, default_value_t = RateLimit::default().requests)]
    rate_limit: u32,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let limit = RateLimit {
        requests: arguments.rate_limit,
        ..RateLimit::default()
    };
    let api = MockApi::builder()
        .people(arguments.people)
        .seed(arguments.seed)
        .organisations(arguments.orgs)
        .port(arguments.port)
        .admin_port(arguments.admin_port)
        .rate_limit((arguments.rate_limit > 0).then_some(limit))
        .start()
        .await?;
    announce(&api).context("cannot write to the standard output")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    api.stop().await;
    Ok(())
}

fn announce(api: &MockApi) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "api    {}", api.base_url())?;
    writeln!(out, "admin  {}", api.admin_url())?;
    for token in api.tokens() {
        let (number, bearer) = (token.organisation, token.bearer);
        let (app_id, secret) = (token.app_id, token.secret);
        writeln!(
            out,
            "org {number}  bearer {bearer}  basic {app_id}:{secret}"
        )?;
    }
    let counts: Vec<String> = api
        .control()
        .counts()
        .iter()
        .map(|(entity, rows)| format!("{entity} {rows}"))
        .collect();
    writeln!(out, "data   {}", counts.join(", "))?;
    out.flush()
}
