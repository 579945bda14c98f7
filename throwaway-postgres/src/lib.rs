//! Throw-away PostgreSQL clusters and databases, for tests, examples and benchmarks.
//!
//! A [`Cluster`] is a real PostgreSQL server of its own: a fresh data directory, a free port on
//! 127.0.0.1, a random password. It runs as an unprivileged user even when the caller is root, and
//! it never outlives its owner: dropping it stops the server and removes the directory, and when
//! the owner is killed outright a [guard process](Cluster#clean-up) does the same.
//!
//! ```
//! # fn main() -> Result<(), throwaway_postgres::Error> {
//! let cluster = throwaway_postgres::Cluster::start()?;
//! assert_eq!(cluster.psql("select 1 + 1")?, "2");
//! println!("connect to {}", cluster.url());
//! # Ok(())
//! # }
//! ```
//!
//! A test wants a [`Database`], which is cheaper: it is created on the server that `DATABASE_URL`
//! names, or else on one cluster that the whole process shares.
//!
//! ```
//! # fn main() -> Result<(), throwaway_postgres::Error> {
//! let database = throwaway_postgres::Database::create()?;
//! database.psql("create table person (name text)")?;
//! # Ok(())
//! # }
//! ```
//!
//! The program `throwaway-postgres run -- COMMAND` starts one cluster for a whole test run: the
//! command finds it in `DATABASE_URL`.
//!
//! | module | holds |
//! |---|---|
//! | `programs` | finding `initdb`, `postgres` and `psql` on this machine |
//! | `account` | the unprivileged user that the server runs as |
//! | `home` | the directory of a cluster |
//! | `guard` | the process that cleans up after a killed owner |
//! | `server` | one running `postgres` process: start, signal, wait |
//! | `launcher` | all that it takes to start the server of one cluster |
//! | `cluster`, `builder` | [`Cluster`] and its [`Builder`] |
//! | `psql` | [`Psql`]: statements through the `psql` program |
//! | `database` | [`Database`] |

mod account;
mod builder;
mod cluster;
mod database;
mod error;
mod guard;
mod home;
mod launcher;
mod programs;
mod psql;
mod server;

pub use builder::Builder;
pub use cluster::Cluster;
pub use database::Database;
pub use error::Error;
pub use programs::installed;
pub use psql::Psql;
