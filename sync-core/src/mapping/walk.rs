//! One pass over a document: reads what the plan asks for and digests all of it.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{
    convert::Scalar,
    digest::{self, Digest},
    plan::{Plan, Slot},
};

/// Takes what the walk finds at the places that the plan knows.
pub(super) trait Sink {
    /// A scalar lies at a slot.
    fn scalar(&mut self, slot: Slot, found: Scalar<'_>);
    /// An object or array begins at a slot.
    fn misfit(&mut self, slot: Slot, kind: Compound);
    /// An object or array that began at a slot has ended.
    fn closed(&mut self);
    /// The whole value of a slot that reads it whole.
    fn whole(&mut self, slot: Slot, raw: &RawValue);
}

/// What is no scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compound {
    Object,
    Array,
}

impl Compound {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Object => "an object",
            Self::Array => "an array",
        }
    }
}

/// Walks a document that must be an object, and gives the digest of what counts.
pub(super) fn walk(
    plan: &Plan,
    sink: &mut dyn Sink,
    raw: &RawValue,
) -> Result<Digest, serde_json::Error> {
    if !raw.get().starts_with('{') {
        return Err(serde_json::Error::custom("not an object"));
    }
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    Walk {
        plan,
        sink,
        node: Some(0),
        slots: true,
    }
    .deserialize(&mut deserializer)
}

/// The digest of any JSON value, with all of it counting.
pub(super) fn json_digest(raw: &RawValue) -> Digest {
    let mut deserializer = serde_json::Deserializer::from_str(raw.get());
    let walk = Walk {
        plan: &Plan::new(),
        sink: &mut Nothing,
        node: None,
        slots: false,
    };
    // Only a value nested too deep for the parser fails here; its bytes are its digest.
    walk.deserialize(&mut deserializer)
        .unwrap_or_else(|_| digest::string(raw.get()))
}

/// Takes nothing.
struct Nothing;

impl Sink for Nothing {
    fn scalar(&mut self, _: Slot, _: Scalar<'_>) {}
    fn misfit(&mut self, _: Slot, _: Compound) {}
    fn closed(&mut self) {}
    fn whole(&mut self, _: Slot, _: &RawValue) {}
}

struct Walk<'a> {
    plan: &'a Plan,
    sink: &'a mut dyn Sink,
    /// The place in the plan; `None` where the plan knows nothing.
    node: Option<usize>,
    /// Whether this node's own slots are still to be read.
    slots: bool,
}

impl Walk<'_> {
    fn inner(&mut self, node: Option<usize>) -> Walk<'_> {
        Walk {
            plan: self.plan,
            sink: &mut *self.sink,
            node,
            slots: true,
        }
    }

    fn store(self, found: Scalar<'_>) {
        let Self {
            plan,
            sink,
            node,
            slots,
        } = self;
        if let (Some(node), true) = (node, slots) {
            for slot in &plan.node(node).slots {
                sink.scalar(*slot, found);
            }
        }
    }

    /// Tells that an object or array begins; gives whether some slot was told.
    fn begin(&mut self, kind: Compound) -> bool {
        let Some(node) = self.node.filter(|_| self.slots) else {
            return false;
        };
        let slots = &self.plan.node(node).slots;
        slots.iter().for_each(|slot| self.sink.misfit(*slot, kind));
        !slots.is_empty()
    }

    fn end(&mut self, was_told: bool) {
        if was_told {
            self.sink.closed();
        }
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = Digest;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Digest, D::Error> {
        let Some(node) = self
            .node
            .filter(|node| self.slots && self.plan.node(*node).compound)
        else {
            return deserializer.deserialize_any(self);
        };
        let raw = <&'de RawValue>::deserialize(deserializer)?;
        for slot in &self.plan.node(node).slots {
            self.sink.whole(*slot, raw);
        }
        let inside = Walk {
            slots: false,
            ..self
        };
        let mut deserializer = serde_json::Deserializer::from_str(raw.get());
        inside
            .deserialize(&mut deserializer)
            .map_err(D::Error::custom)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = Digest;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Digest, E> {
        self.store(Scalar::Null);
        Ok(digest::NULL)
    }

    fn visit_bool<E>(self, found: bool) -> Result<Digest, E> {
        self.store(Scalar::Boolean(found));
        Ok(if found { digest::TRUE } else { digest::FALSE })
    }

    fn visit_i64<E>(self, found: i64) -> Result<Digest, E> {
        self.store(Scalar::Integer(found));
        Ok(digest::integer(i128::from(found)))
    }

    fn visit_u64<E>(self, found: u64) -> Result<Digest, E> {
        self.store(i64::try_from(found).map_or(Scalar::Unsigned(found), Scalar::Integer));
        Ok(digest::integer(i128::from(found)))
    }

    fn visit_f64<E>(self, found: f64) -> Result<Digest, E> {
        self.store(Scalar::Float(found));
        Ok(digest::float(found))
    }

    fn visit_str<E>(self, found: &str) -> Result<Digest, E> {
        self.store(Scalar::Text(found));
        Ok(digest::string(found))
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<Digest, A::Error> {
        let told = self.begin(Compound::Array);
        let mut array = digest::Array::default();
        while let Some(item) = items.next_element_seed(self.inner(None))? {
            array.add(item);
        }
        self.end(told);
        Ok(array.finish())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<Digest, A::Error> {
        let told = self.begin(Compound::Object);
        let mut object = digest::Object::default();
        let keys = |walk: &Self| Key {
            plan: walk.plan,
            parent: walk.node,
        };
        while let Some((key, node)) = entries.next_key_seed(keys(&self))? {
            match node.map(|node| self.plan.node(node)) {
                Some(known) if known.is_skipped() => {
                    entries.next_value::<IgnoredAny>()?;
                }
                Some(known) if known.ignored => {
                    entries.next_value_seed(self.inner(node))?;
                }
                Some(_) | None => object.add(key, entries.next_value_seed(self.inner(node))?),
            }
        }
        self.end(told);
        Ok(object.finish())
    }
}

/// Reads a key without copying it: its digest, and the plan's node under it.
struct Key<'a> {
    plan: &'a Plan,
    parent: Option<usize>,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = (Digest, Option<usize>);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = (Digest, Option<usize>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        let digest = digest::key(key);
        let node = self
            .parent
            .and_then(|parent| self.plan.child(parent, digest, key));
        Ok((digest, node))
    }
}
