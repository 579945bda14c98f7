//! The compiled form of a mapping: a tree of keys, with what to read at each.

use super::{Convert, digest};
use crate::{path::JsonPath, schema::FieldType};

/// What a value found at a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// The record's id.
    Id,
    /// The document's own word for its type.
    RecordType,
    /// A column, by its position in the schema.
    Column {
        index: usize,
        field_type: FieldType,
        convert: Convert,
    },
    /// A reference that a column holds: an object, or the id itself.
    Reference { index: usize },
    /// The id inside a reference.
    ReferenceId { index: usize },
    /// The type inside a reference.
    ReferenceType { index: usize },
}

impl Slot {
    /// Whether the slot is read from the whole value rather than from a scalar.
    fn is_compound(self) -> bool {
        match self {
            Self::Id
            | Self::RecordType
            | Self::Reference { .. }
            | Self::ReferenceId { .. }
            | Self::ReferenceType { .. } => false,
            Self::Column {
                field_type,
                convert,
                ..
            } => match convert {
                Convert::ReferenceIds => true,
                Convert::Typed => field_type == FieldType::Json,
                Convert::Reference | Convert::UnixSeconds | Convert::UnixMillis => false,
            },
        }
    }
}

/// A place in the document that the mapping knows.
#[derive(Debug, Clone, Default)]
pub(super) struct Node {
    children: Vec<Child>,
    pub(super) slots: Vec<Slot>,
    /// The place does not count for the content hash.
    pub(super) ignored: bool,
    /// Some slot is read from the whole value.
    pub(super) compound: bool,
}

#[derive(Debug, Clone)]
struct Child {
    digest: digest::Digest,
    key: Box<str>,
    node: usize,
}

impl Node {
    /// Whether nothing inside the value is of interest, not even for the content hash.
    pub(super) fn is_skipped(&self) -> bool {
        self.ignored && self.slots.is_empty() && self.children.is_empty()
    }
}

/// The tree; node 0 is the document.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    nodes: Vec<Node>,
}

impl Plan {
    pub(super) fn new() -> Self {
        Self {
            nodes: vec![Node::default()],
        }
    }

    /// Reads what a column is made of.
    pub(super) fn read_column(
        &mut self,
        path: &JsonPath,
        index: usize,
        field_type: FieldType,
        convert: Convert,
    ) {
        if convert != Convert::Reference {
            return self.read(
                path,
                Slot::Column {
                    index,
                    field_type,
                    convert,
                },
            );
        }
        let place = self.place(path);
        self.put(place, Slot::Reference { index });
        for (key, slot) in [
            ("id", Slot::ReferenceId { index }),
            ("type", Slot::ReferenceType { index }),
        ] {
            let inside = self.child_or_new(place, key);
            self.put(inside, slot);
        }
    }

    pub(super) fn read(&mut self, path: &JsonPath, slot: Slot) {
        let place = self.place(path);
        self.put(place, slot);
    }

    fn put(&mut self, place: usize, slot: Slot) {
        let node = &mut self.nodes[place];
        node.slots.push(slot);
        node.compound |= slot.is_compound();
    }

    pub(super) fn ignore(&mut self, path: &JsonPath) {
        let place = self.place(path);
        self.nodes[place].ignored = true;
    }

    pub(super) fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    /// The node under a key, whose digest the caller has at hand.
    pub(super) fn child(&self, parent: usize, digest: digest::Digest, key: &str) -> Option<usize> {
        let children = &self.nodes[parent].children;
        let child = children
            .iter()
            .find(|child| child.digest == digest && *child.key == *key)?;
        Some(child.node)
    }

    /// The node of a path, made if it is not there yet.
    fn place(&mut self, path: &JsonPath) -> usize {
        path.segments()
            .iter()
            .fold(0, |parent, key| self.child_or_new(parent, key))
    }

    fn child_or_new(&mut self, parent: usize, key: &str) -> usize {
        let digest = digest::key(key);
        self.child(parent, digest, key).unwrap_or_else(|| {
            let node = self.nodes.len();
            self.nodes.push(Node::default());
            self.nodes[parent].children.push(Child {
                digest,
                key: key.into(),
                node,
            });
            node
        })
    }
}
