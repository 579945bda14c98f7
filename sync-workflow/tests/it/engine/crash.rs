//! Workers that go away.
