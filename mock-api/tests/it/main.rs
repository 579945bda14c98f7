//! The server as its callers meet it: over HTTP, on a real socket.

mod admin;
mod binary;
mod faults;
mod limits;
mod lists;
mod mutations;
mod records;
mod source;
mod writes;
