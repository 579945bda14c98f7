//! The graph as a picture: arrows lead from what comes first to what needs it.

use std::fmt::Write as _;

use super::{DependencyGraph, Edge, GaveWay};
use crate::schema::Strength;

pub(super) fn dot(graph: &DependencyGraph) -> String {
    let mut text = String::from("digraph dependencies {\n  rankdir=LR;\n  node [shape=box];\n");
    for entity in graph.order() {
        line(&mut text, format_args!("  \"{entity}\";"));
    }
    for edge in graph.edges() {
        let style = match edge.strength {
            Strength::Hard => "solid",
            Strength::Soft => "dashed",
            Strength::Deferred => "dotted",
        };
        let label = label(edge).replace('\\', "\\\\").replace('"', "\\\"");
        let (from, to) = (&edge.dependency, &edge.dependent);
        line(
            &mut text,
            format_args!("  \"{from}\" -> \"{to}\" [style={style}, label=\"{label}\"];"),
        );
    }
    text.push_str("}\n");
    text
}

pub(super) fn mermaid(graph: &DependencyGraph) -> String {
    let mut text = String::from("flowchart LR\n");
    for entity in graph.order() {
        // A node called `end` would close the chart.
        line(&mut text, format_args!("  n_{entity}[\"{entity}\"]"));
    }
    for edge in graph.edges() {
        let arrow = match edge.strength {
            Strength::Hard => "==>",
            Strength::Soft => "-->",
            Strength::Deferred => "-.->",
        };
        let label = label(edge).replace('"', "#quot;").replace('|', "#124;");
        let (from, to) = (&edge.dependency, &edge.dependent);
        line(
            &mut text,
            format_args!("  n_{from} {arrow}|\"{label}\"| n_{to}"),
        );
    }
    text
}

fn label(edge: &Edge) -> String {
    let strength = edge.strength.as_str();
    let reason = match edge.gave_way {
        None => "",
        Some(GaveWay::SelfReference) => ", refers to itself",
        Some(GaveWay::Cycle) => ", gave way in a cycle",
    };
    format!("{strength}: {}{reason}", edge.why).replace(['\n', '\r'], " ")
}

fn line(text: &mut String, arguments: std::fmt::Arguments<'_>) {
    writeln!(text, "{arguments}").expect("writing to a string does not fail");
}
