//! Assembles documents: lists and single records, with what they include.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::{Map, Value, json};

use crate::answer::Answer;
use crate::entity::Entity;
use crate::organisation::Organisation;
use crate::query::{Include, Query};
use crate::record::{
    Record, html_link, linkage, linkages, relationships, self_link, separate, write_head,
};
use crate::select::Selection;
use crate::spec::{By, Nested, Spec};

/// How armed faults bend a list.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bend {
    pub(crate) empty: bool,
    pub(crate) drop_next: bool,
    pub(crate) cap_total: Option<usize>,
}

/// Reads one organisation for one request.
pub(crate) struct Reader<'o> {
    pub(crate) organisation: &'o Organisation,
    pub(crate) query: &'o Query,
}

/// A record that a document mentions.
type Key = (Entity, u64);

impl Reader<'_> {
    /// A page of a list. `path` is its own path, `parent` what `meta` names.
    pub(crate) fn list(
        &self,
        spec: &'static Spec,
        selection: &Selection,
        path: &str,
        parent: (&str, u64),
        bend: Bend,
    ) -> Answer {
        let query = self.query;
        let total = bend
            .cap_total
            .map_or(selection.len(), |cap| cap.min(selection.len()));
        let limit = query.per_page.min(total.saturating_sub(query.offset));
        let limit = if bend.empty { 0 } else { limit };
        let records = self.organisation.store(spec.entity).records();
        let page: Vec<&Record> = selection
            .page(query.offset, limit)
            .into_iter()
            .map(|at| &records[at])
            .collect();

        let reached = query.offset.saturating_add(query.per_page);
        let more = query.offset.saturating_add(page.len()) < total && !bend.empty;
        let next = (more && !bend.drop_next).then_some(reached);
        let prev = (query.offset > 0).then(|| query.offset.saturating_sub(query.per_page));

        let mut text =
            Vec::with_capacity(page.iter().map(|it| it.text().len() + 1).sum::<usize>() + 4096);
        text.extend_from_slice(b"{\"links\":");
        self.write_links(&mut text, path, next, prev);
        text.extend_from_slice(b",\"data\":[");
        let mut first = true;
        for record in &page {
            separate(&mut text, &mut first);
            self.write_record(&mut text, spec, record, &query.include);
        }
        text.extend_from_slice(b"],\"included\":[");
        self.write_included(&mut text, spec, &page);
        text.extend_from_slice(b"],\"meta\":");
        let mut meta = json!({
            "total_count": total,
            "count": page.len(),
            "can_order_by": spec.order,
            "can_query_by": spec.query,
            "can_include": spec.includes().collect::<Vec<_>>(),
            "can_filter": spec.filter,
            "parent": { "id": parent.1.to_string(), "type": parent.0 },
        });
        for (name, offset) in [("next", next), ("prev", prev)] {
            if let Some(offset) = offset {
                meta[name] = json!({ "offset": offset });
            }
        }
        write_json(&mut text, &meta);
        text.push(b'}');
        Answer::ok(text, page.len())
    }

    /// One record, with the links of everything beneath it.
    pub(crate) fn single(&self, spec: &'static Spec, record: &Record) -> Answer {
        let mut text = Vec::with_capacity(record.text().len() + 4096);
        text.extend_from_slice(b"{\"data\":");
        self.compose(&mut text, spec, record, &self.query.include, true);
        text.extend_from_slice(b",\"included\":[");
        self.write_included(&mut text, spec, &[record]);
        text.extend_from_slice(b"],\"meta\":");
        let organisation = self.organisation.home.organisation.to_string();
        let meta = json!({
            "can_include": spec.includes().collect::<Vec<_>>(),
            "parent": { "id": organisation, "type": "Organization" },
        });
        write_json(&mut text, &meta);
        text.push(b'}');
        Answer::ok(text, 1)
    }

    fn write_links(
        &self,
        text: &mut Vec<u8>,
        path: &str,
        next: Option<usize>,
        prev: Option<usize>,
    ) {
        let base = &self.organisation.home.base;
        let mut links = Map::new();
        let link = |offset| Value::from(format!("{base}{path}{}", self.query.link(offset)));
        links.insert("self".to_owned(), link(None));
        for (name, offset) in [("next", next), ("prev", prev)] {
            if offset.is_some() {
                links.insert(name.to_owned(), link(offset));
            }
        }
        write_json(text, &Value::Object(links));
    }

    fn write_record(&self, text: &mut Vec<u8>, spec: &Spec, record: &Record, include: &[Include]) {
        if include.is_empty() && !self.query.fields.contains_key(spec.kind) {
            text.extend_from_slice(record.text());
        } else {
            self.compose(text, spec, record, include, false);
        }
    }

    /// Writes a record whose document differs from the plain one.
    fn compose(
        &self,
        text: &mut Vec<u8>,
        spec: &Spec,
        record: &Record,
        include: &[Include],
        alone: bool,
    ) {
        let fields = self.query.fields.get(spec.kind);
        let asked = |name: &str| fields.is_none_or(|fields| fields.iter().any(|it| it == name));
        write_head(text, spec, record.id);
        if fields.is_none() {
            text.extend_from_slice(record.attributes());
        } else {
            let mut attributes = record.attribute_map();
            attributes.retain(|name, _| asked(name));
            write_json(text, &Value::Object(attributes));
        }
        text.extend_from_slice(b",\"relationships\":{");
        let mut first = true;
        for (name, value) in self.relationships(spec, record, include) {
            if asked(name) {
                separate(text, &mut first);
                text.extend_from_slice(format!("\"{name}\":{value}").as_bytes());
            }
        }
        text.extend_from_slice(b"},\"links\":");
        write_json(text, &self.links(spec, record, alone));
        text.push(b'}');
    }

    fn relationships(
        &self,
        spec: &Spec,
        record: &Record,
        include: &[Include],
    ) -> BTreeMap<&'static str, String> {
        let home = &self.organisation.home;
        let plain = relationships(spec, home, record.slots, &record.members);
        let mut found: BTreeMap<&'static str, String> = plain
            .into_iter()
            .map(|(name, data)| (name, format!("{{\"data\":{data}}}")))
            .collect();
        let own = self_link(spec, home, record.id, record.slots);
        for Include { nested, .. } in include {
            let data = self.linkage(spec, record, nested);
            let name = nested.name;
            let value = format!("{{\"links\":{{\"related\":\"{own}/{name}\"}},\"data\":{data}}}");
            found.insert(name, value);
        }
        found
    }

    fn linkage(&self, spec: &Spec, record: &Record, nested: &Nested) -> String {
        let ids = beneath(self.organisation, record, nested);
        let reference = spec
            .references
            .iter()
            .find(|reference| reference.name == nested.name);
        let kind = reference.map_or_else(|| nested.entity.kind(), |reference| reference.kind);
        match (nested.by, ids.first()) {
            (By::One(_), None) => "null".to_owned(),
            (By::One(_), Some(id)) => linkage(kind, *id),
            (By::Slot(_) | By::Members | By::Households, _) => linkages(kind, ids.into_iter()),
        }
    }

    fn links(&self, spec: &Spec, record: &Record, alone: bool) -> Value {
        let own = self_link(spec, &self.organisation.home, record.id, record.slots);
        let mut links = Map::new();
        if alone {
            for nested in spec
                .nested
                .iter()
                .filter(|it| it.entity.spec().product == spec.product)
            {
                let unset = matches!(nested.by, By::One(slot) if record.slots[slot] == 0);
                let link = (!unset).then(|| format!("{own}/{}", nested.name));
                links.insert(nested.name.to_owned(), json!(link));
            }
        }
        if let Some(html) = html_link(spec, record.id) {
            links.insert("html".to_owned(), html.into());
        }
        links.insert("self".to_owned(), own.into());
        Value::Object(links)
    }

    fn write_included(&self, text: &mut Vec<u8>, spec: &Spec, page: &[&Record]) {
        let mut written: HashSet<Key> = page.iter().map(|it| (spec.entity, it.id)).collect();
        let mut first = true;
        for include in &self.query.include {
            let level = self.include_level(text, &mut first, &mut written, page, include);
            for deeper in &include.beneath {
                self.include_level(text, &mut first, &mut written, &level, deeper);
            }
        }
    }

    /// Writes the records that one name includes beneath `parents`, each once, and returns them.
    fn include_level<'r>(
        &'r self,
        text: &mut Vec<u8>,
        first: &mut bool,
        written: &mut HashSet<Key>,
        parents: &[&'r Record],
        include: &Include,
    ) -> Vec<&'r Record> {
        let entity = include.nested.entity;
        let store = self.organisation.store(entity);
        let mut seen = BTreeSet::new();
        let mut level = Vec::new();
        for parent in parents {
            for id in beneath(self.organisation, parent, include.nested) {
                let Some(record) = store.find(id).filter(|_| seen.insert(id)) else {
                    continue;
                };
                level.push(record);
                if written.insert((entity, id)) {
                    separate(text, first);
                    self.write_record(text, entity.spec(), record, &include.beneath);
                }
            }
        }
        level
    }
}

/// The ids of the records that `nested` names beneath a record.
pub(crate) fn beneath(organisation: &Organisation, record: &Record, nested: &Nested) -> Vec<u64> {
    let store = organisation.store(nested.entity);
    match nested.by {
        By::One(slot) => Some(record.slots[slot])
            .filter(|id| *id != 0)
            .into_iter()
            .collect(),
        By::Slot(slot) => {
            let positions = store.referring(slot, record.id);
            positions
                .map(|position| store.records()[position as usize].id)
                .collect()
        }
        By::Members => record.members.to_vec(),
        By::Households => {
            let places = organisation.store(Entity::HouseholdMembership);
            let positions = places.referring(1, record.id);
            let mut ids: Vec<u64> = positions
                .map(|position| places.records()[position as usize].slots[0])
                .collect();
            ids.sort_unstable();
            ids.dedup();
            ids
        }
    }
}

fn write_json(text: &mut Vec<u8>, value: &Value) {
    serde_json::to_writer(text, value).expect("a buffer takes any JSON value");
}
