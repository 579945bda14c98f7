//! A deterministic simulator of the durable engine.
//!
//! A simulation is a function of one number, its seed. It runs several workers, with all of their
//! real code, on one paused clock over one memory journal. Each worker reaches the journal over a
//! way on which calls take time, overtake one another, fail, happen without an answer, or happen
//! after their caller has given up; hints get lost and come twice; processes crash, stop, freeze
//! beyond their leases, and start again. On them run random workflow programs.
//!
//! ```text
//!   seed ──▶ script (programs) ──▶ workers ──calls──▶ agenda ──▶ memory journal
//!        ──▶ profile (faults) ─────────────────────▶   │
//!                                     one event at a time, when nothing else can run
//!   oracle: what the script may come to ──▶ audit ◀── journal, ledger of effects
//! ```
//!
//! When the faults stop, every run must come to an end that the oracle allows, every journal must
//! be well-formed and replay from each of its prefixes, no activity may have run without need, and
//! steps, signals, timers and children's results must have happened once.
//!
//! ```
//! let report = simulator::simulate(7, simulator::Options::default());
//! assert_eq!(report.violation, None);
//! assert_eq!(report.digest, simulator::simulate(7, simulator::Options::default()).digest);
//! ```
//!
//! A checker must be shown to catch bugs: [`Mutant`] names the deliberate ones.

mod again;
mod agenda;
mod audit;
mod author;
mod builds;
mod call;
mod clock;
mod deed;
mod errand;
mod interpret;
mod journal;
mod ledger;
mod lineage;
mod local;
mod mutant;
mod oracle;
mod process;
mod profile;
mod program;
mod pulse;
mod saga;
mod shown;
mod side;
mod simulation;
mod structured;
mod timers;
mod trace;
mod turns;
mod variety;
mod world;

pub use mutant::Mutant;
pub use simulation::{Figures, Options, Report, simulate};
pub use variety::Variety;
