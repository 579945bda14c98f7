//! What the compiler does not hold: the shape of the workspace.
//!
//! The library reads the workspace, by `cargo metadata` and from its files; the rules are the tests
//! under `tests/it`, one file for each kind of rule:
//!
//! | rule | holds |
//! |---|---|
//! | `dependencies` | the direction of dependency between the houses, who may use sqlx, axum and tokio, no dependency that nobody uses |
//! | `purity` | no clock, no randomness and no runtime in the pure code |
//! | `supply` | licences, sources and the one cryptography provider of everything that is linked in |
//! | `house` | lints are inherited, versions are declared once |
//! | `repository` | nothing that was built is kept, and nothing large |
//!
//! ```no_run
//! # fn main() -> Result<(), tidy::Error> {
//! let workspace = tidy::Workspace::load()?;
//! assert!(workspace.member("sync-core").is_some());
//! # Ok(())
//! # }
//! ```

mod error;
mod sources;
mod workspace;

pub use error::Error;
pub use sources::{Source, sources};
pub use workspace::{Dependency, Kind, Package, Workspace};
