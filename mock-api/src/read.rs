//! Reads: the answer to every GET.

use serde_json::json;

use crate::answer::Answer;
use crate::organisation::Organisation;
use crate::page::{Bend, Reader, beneath};
use crate::query::Query;
use crate::route::Place;
use crate::seconds::Seconds;
use crate::select::{select, select_nested};
use crate::spec::{By, Nested, Spec};

pub(crate) fn get(
    organisation: &Organisation,
    place: Place,
    query: &Query,
    path: &str,
    bend: Bend,
    now: Seconds,
) -> Answer {
    let reader = Reader {
        organisation,
        query,
    };
    let parent = ("Organization", organisation.home.organisation);
    match place {
        Place::Organisation => about(organisation),
        Place::List(spec) => {
            let selection = select(organisation, spec.entity, query, now);
            reader.list(spec, &selection, path, parent, bend)
        }
        Place::One(spec, id) => {
            let record = organisation.store(spec.entity).find(id);
            record.map_or_else(Answer::not_found, |record| reader.single(spec, record))
        }
        Place::Nested(spec, id, nested) => get_nested(&reader, (spec, id), nested, path, bend, now),
        Place::NestedOne(spec, id, nested, nested_id) => {
            let parent = organisation.store(spec.entity).find(id);
            let named =
                parent.is_some_and(|it| beneath(organisation, it, nested).contains(&nested_id));
            let record = organisation
                .store(nested.entity)
                .find(nested_id)
                .filter(|_| named);
            let spec = nested.entity.spec();
            record.map_or_else(Answer::not_found, |record| reader.single(spec, record))
        }
    }
}

fn get_nested(
    reader: &Reader<'_>,
    (spec, id): (&'static Spec, u64),
    nested: &Nested,
    path: &str,
    bend: Bend,
    now: Seconds,
) -> Answer {
    let organisation = reader.organisation;
    let Some(parent) = organisation.store(spec.entity).find(id) else {
        return Answer::not_found();
    };
    let ids = beneath(organisation, parent, nested);
    let store = organisation.store(nested.entity);
    let target = nested.entity.spec();
    if let By::One(_) = nested.by {
        let record = ids.first().and_then(|id| store.find(*id));
        return record.map_or_else(Answer::not_found, |record| reader.single(target, record));
    }
    let mut positions: Vec<u32> = ids
        .iter()
        .filter_map(|id| store.position(*id))
        .map(|position| u32::try_from(position).expect("a store holds fewer than 2^32 records"))
        .collect();
    positions.sort_unstable();
    let selection = select_nested(organisation, nested.entity, positions, reader.query, now);
    reader.list(target, &selection, path, (spec.kind, id), bend)
}

fn about(organisation: &Organisation) -> Answer {
    let id = organisation.home.organisation.to_string();
    let name = format!("Mock Church {id}");
    let data = json!({ "type": "Organization", "id": id, "attributes": { "name": name } });
    Answer::ok(json!({ "data": data }).to_string().into_bytes(), 1)
}
