//! The server as its callers meet it: over HTTP, on a real socket.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on fails where it stands"
)]

mod admin;
mod binary;
mod faults;
mod limits;
mod lists;
mod mutations;
mod records;
mod source;
mod writes;
