//! One record: its facts, and its document already written.

use std::fmt;
use std::fmt::Write as _;
use std::ops::Range;

use serde::Deserializer as _;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::seconds::Seconds;
use crate::spec::Spec;

/// A record and the bytes with which plain lists answer.
///
/// A page of a plain list is these texts side by side: nothing is serialised per request.
pub(crate) struct Record {
    pub(crate) id: u64,
    pub(crate) created_at: Seconds,
    pub(crate) updated_at: Seconds,
    /// The ids that its references hold, by slot; zero is null.
    pub(crate) slots: [u64; 2],
    /// The people of a household, in the order in which it names them.
    pub(crate) members: Box<[u64]>,
    text: Box<[u8]>,
    attributes: Range<u32>,
}

/// What a record is made of.
pub(crate) struct Facts<'a> {
    pub(crate) id: u64,
    pub(crate) created_at: Seconds,
    pub(crate) updated_at: Seconds,
    pub(crate) slots: [u64; 2],
    pub(crate) members: Box<[u64]>,
    /// The text of a JSON object, its names sorted.
    pub(crate) attributes: &'a [u8],
}

/// Where documents live: the base of every link, and the organisation they belong to.
#[derive(Clone)]
pub(crate) struct Home {
    pub(crate) base: String,
    pub(crate) organisation: u64,
}

impl Record {
    pub(crate) fn new(spec: &Spec, home: &Home, facts: Facts<'_>) -> Self {
        let mut text = Vec::with_capacity(facts.attributes.len() + 512);
        write_head(&mut text, spec, facts.id);
        let start = text.len();
        text.extend_from_slice(facts.attributes);
        let attributes = position(start)..position(text.len());
        text.extend_from_slice(b",\"relationships\":{");
        let mut first = true;
        for (name, data) in relationships(spec, home, facts.slots, &facts.members) {
            separate(&mut text, &mut first);
            text.extend_from_slice(format!("\"{name}\":{{\"data\":{data}}}").as_bytes());
        }
        text.extend_from_slice(b"},\"links\":{");
        let self_link = self_link(spec, home, facts.id, facts.slots);
        if let Some(html) = html_link(spec, facts.id) {
            text.extend_from_slice(format!("\"html\":\"{html}\",").as_bytes());
        }
        text.extend_from_slice(format!("\"self\":\"{self_link}\"}}}}").as_bytes());
        Self {
            id: facts.id,
            created_at: facts.created_at,
            updated_at: facts.updated_at,
            slots: facts.slots,
            members: facts.members,
            text: text.into_boxed_slice(),
            attributes,
        }
    }

    /// The whole document, as a plain list shows it.
    pub(crate) fn text(&self) -> &[u8] {
        &self.text
    }

    /// The text of its attributes, a JSON object.
    pub(crate) fn attributes(&self) -> &[u8] {
        &self.text[self.attributes.start as usize..self.attributes.end as usize]
    }

    pub(crate) fn attribute_map(&self) -> Map<String, Value> {
        serde_json::from_slice(self.attributes())
            .expect("records hold JSON objects of our own making")
    }

    /// One attribute, found without parsing the others.
    pub(crate) fn attribute(&self, name: &str) -> Value {
        let mut parser = serde_json::Deserializer::from_slice(self.attributes());
        let found = parser.deserialize_map(Pick(name)).ok().flatten();
        found.map_or(Value::Null, |raw| {
            serde_json::from_str(raw.get()).expect("a raw value is JSON")
        })
    }
}

fn position(length: usize) -> u32 {
    u32::try_from(length).expect("a document is smaller than 4 GiB")
}

pub(crate) fn write_head(text: &mut Vec<u8>, spec: &Spec, id: u64) {
    text.extend_from_slice(b"{\"type\":\"");
    text.extend_from_slice(spec.kind.as_bytes());
    text.extend_from_slice(b"\",\"id\":\"");
    text.extend_from_slice(id.to_string().as_bytes());
    text.extend_from_slice(b"\",\"attributes\":");
}

pub(crate) fn separate(text: &mut Vec<u8>, first: &mut bool) {
    if !std::mem::take(first) {
        text.push(b',');
    }
}

/// The relationships that every list shows, sorted by name, each with the text of its `data`.
pub(crate) fn relationships(
    spec: &Spec,
    home: &Home,
    slots: [u64; 2],
    members: &[u64],
) -> Vec<(&'static str, String)> {
    let mut found = Vec::with_capacity(3);
    for reference in spec.references.iter().filter(|reference| reference.shown) {
        let data = match slots[reference.slot] {
            0 => "null".to_owned(),
            id => linkage(reference.kind, id),
        };
        found.push((reference.name, data));
    }
    found.extend(spec.nulls.iter().map(|name| (*name, "null".to_owned())));
    if spec.organization {
        found.push(("organization", linkage("Organization", home.organisation)));
    }
    if spec.kind == "Household" {
        found.push(("people", linkages("Person", members.iter().copied())));
    }
    found.sort_unstable_by_key(|(name, _)| *name);
    found
}

pub(crate) fn linkage(kind: &str, id: u64) -> String {
    format!("{{\"type\":\"{kind}\",\"id\":\"{id}\"}}")
}

pub(crate) fn linkages(kind: &str, ids: impl Iterator<Item = u64>) -> String {
    let mut text = String::from("[");
    for (index, id) in ids.enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let _ = write!(text, "{comma}{}", linkage(kind, id));
    }
    text.push(']');
    text
}

pub(crate) fn self_link(spec: &Spec, home: &Home, id: u64, slots: [u64; 2]) -> String {
    let (base, product) = (&home.base, spec.product.path());
    let collection = spec.collection;
    match spec.parent {
        None => format!("{base}/{product}/v2/{collection}/{id}"),
        Some((slot, parent)) => {
            let (parents, owner) = (parent.collection(), slots[slot]);
            format!("{base}/{product}/v2/{parents}/{owner}/{collection}/{id}")
        }
    }
}

pub(crate) fn html_link(spec: &Spec, id: u64) -> Option<String> {
    (spec.kind == "Person").then(|| format!("https://people.example.org/people/AC{id}"))
}

/// Picks one name out of a JSON object and skips the rest.
struct Pick<'n>(&'n str);

impl<'de> Visitor<'de> for Pick<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(here) = map.next_key_seed(Is(self.0))? {
            if here {
                found = Some(map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Compares a name without keeping it.
struct Is<'n>(&'n str);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}
