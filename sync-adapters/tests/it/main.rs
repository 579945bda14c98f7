//! The adapters against real databases and a real server.

mod client;
mod destination;
