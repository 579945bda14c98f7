//! Which entity needs which: the order of a sync, and the graph as Graphviz or Mermaid draw it.

use std::{io::Write as _, process::ExitCode};

use clap::{Parser, ValueEnum};
use sync_core::DependencyGraph;

/// Shows the dependencies of an adapter's entities.
#[derive(Parser)]
struct Command {
    /// The adapter.
    #[arg(long, default_value = "pco")]
    adapter: String,
    /// What to print.
    #[arg(long, value_enum, default_value_t = Format::All)]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// The order, then both graphs.
    All,
    /// The order only, with the reasons.
    Order,
    /// For Graphviz.
    Dot,
    /// For Mermaid.
    Mermaid,
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Command::parse();
    examples::exit_code(async move { show(&command) }).await
}

fn show(command: &Command) -> anyhow::Result<bool> {
    let (_, manifest) = examples::manifest_of(&command.adapter)?;
    let graph = DependencyGraph::new(&manifest)?;
    let mut out = std::io::stdout().lock();
    let wants = |format| command.format == format || command.format == Format::All;
    if wants(Format::Order) {
        for (place, entity) in graph.order().iter().enumerate() {
            let edges = graph.edges_of(entity).iter();
            let needs: Vec<String> = edges
                .map(|edge| {
                    format!(
                        "{} ({}: {})",
                        edge.dependency,
                        edge.strength.as_str(),
                        edge.why
                    )
                })
                .collect();
            let needs = if needs.is_empty() {
                "nothing".to_owned()
            } else {
                needs.join(", ")
            };
            writeln!(out, "{}. {entity} needs {needs}", place + 1)?;
        }
    }
    if wants(Format::Dot) {
        writeln!(out, "{}", graph.to_dot())?;
    }
    if wants(Format::Mermaid) {
        writeln!(out, "{}", graph.to_mermaid())?;
    }
    Ok(true)
}
