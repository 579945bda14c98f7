//! Writes attribute objects for generated records, without a tree in between.

use std::io::Write as _;

use serde::Serialize;

use crate::seconds::Seconds;

/// The text of an attribute object in the making. Names are written in sorted order.
#[derive(Default)]
pub(crate) struct Attributes {
    text: Vec<u8>,
    last: &'static str,
}

impl Attributes {
    /// Starts a new object and keeps the buffer.
    pub(crate) fn start(&mut self) -> &mut Self {
        self.text.clear();
        self.last = "";
        self
    }

    pub(crate) fn set(&mut self, name: &'static str, value: impl Serialize) -> &mut Self {
        self.name(name);
        serde_json::to_writer(&mut self.text, &value).expect("a buffer takes any plain value");
        self
    }

    pub(crate) fn time(&mut self, name: &'static str, at: Seconds) -> &mut Self {
        self.name(name);
        write!(self.text, "\"{at}\"").expect("a buffer takes any text");
        self
    }

    pub(crate) fn nulls<const N: usize>(&mut self, names: [&'static str; N]) -> &mut Self {
        for name in names {
            self.name(name);
            self.text.extend_from_slice(b"null");
        }
        self
    }

    pub(crate) fn finish(&mut self) -> &[u8] {
        self.text.push(b'}');
        &self.text
    }

    fn name(&mut self, name: &'static str) {
        debug_assert!(self.last < name, "{name} comes after {}", self.last);
        self.last = name;
        self.text
            .push(if self.text.is_empty() { b'{' } else { b',' });
        write!(self.text, "\"{name}\":").expect("a buffer takes any text");
    }
}
