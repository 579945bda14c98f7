//! Planning Center: people, households, campuses, groups and what belongs to them.
//!
//! The adapter is its [manifest](manifest()): entities, relations, calls, pages, cursors, deletions and
//! mappings, as declared in `manifest.yaml` beside this file. The engine needs nothing else of it.

#[cfg(test)]
mod tests;

use sync_core::Manifest;

/// The manifest as it is written down.
pub const MANIFEST_YAML: &str = include_str!("manifest.yaml");

/// The checked manifest of the Planning Center API.
///
/// ```
/// # use sync_adapters::planning_center;
/// # use sync_core::DependencyGraph;
/// let manifest = planning_center::manifest().with_base_url("http://127.0.0.1:8080")?;
/// let graph = DependencyGraph::new(&manifest)?;
/// assert_eq!(graph.order()[0].as_str(), "Campus");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn manifest() -> Manifest {
    Manifest::from_yaml(MANIFEST_YAML).expect("the manifest is checked by this module's tests")
}
