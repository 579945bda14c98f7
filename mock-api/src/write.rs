//! Creates, changes and deletes by API callers.

use std::collections::HashSet;

use axum::http::Method;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::answer::{Answer, Refusal};
use crate::draft::id_of;
use crate::entity::Entity;
use crate::error::Error;
use crate::organisation::Organisation;
use crate::page::{Reader, beneath};
use crate::query::Query;
use crate::route::Place;
use crate::seconds::Seconds;
use crate::spec::{By, Create, Nested, Spec};

/// The body of a write.
#[derive(Deserialize)]
struct Body {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    #[serde(default)]
    attributes: Map<String, Value>,
    #[serde(default)]
    relationships: Map<String, Value>,
}

/// What a body asks for, after the rules of its kind.
struct Changes {
    attributes: Map<String, Value>,
    people: Vec<u64>,
}

/// Answers every method but GET.
pub(crate) fn change(
    organisation: &mut Organisation,
    method: &Method,
    place: Place,
    body: &[u8],
    now: Seconds,
) -> Answer {
    let (spec, id) = match place {
        Place::List(spec) if *method == Method::POST && spec.create == Create::Top => {
            return with_body(body, |body| create(organisation, spec, None, body, now));
        }
        Place::Nested(parent, id, nested) if *method == Method::POST => {
            let Some(owner) = owner_of(parent, id, nested) else {
                return Answer::not_allowed();
            };
            if organisation.store(parent.entity).find(id).is_none() {
                return Answer::not_found();
            }
            let spec = nested.entity.spec();
            return with_body(body, |body| {
                create(organisation, spec, Some(owner), body, now)
            });
        }
        Place::One(spec, id) => (spec, id),
        Place::NestedOne(parent, id, nested, nested_id) => {
            let record = organisation.store(parent.entity).find(id);
            if !record.is_some_and(|it| beneath(organisation, it, nested).contains(&nested_id)) {
                return Answer::not_found();
            }
            (nested.entity.spec(), nested_id)
        }
        Place::Organisation | Place::List(_) | Place::Nested(..) => return Answer::not_allowed(),
    };
    match *method {
        Method::PATCH if spec.update => {
            with_body(body, |body| update(organisation, spec, id, body, now))
        }
        Method::DELETE if spec.delete => delete(organisation, spec, id, now),
        _ => Answer::not_allowed(),
    }
}

/// The reference that the path of a nested create sets.
fn owner_of(parent: &Spec, id: u64, nested: &Nested) -> Option<(&'static str, u64)> {
    let spec = nested.entity.spec();
    let By::Slot(slot) = nested.by else {
        return None;
    };
    let reference = spec.references.iter().find(|it| it.slot == slot)?;
    let created_here = spec.create == Create::Under(slot) && reference.entity == parent.entity;
    created_here.then_some((reference.key, id))
}

fn with_body(body: &[u8], then: impl FnOnce(Body) -> Answer) -> Answer {
    match serde_json::from_slice(body) {
        Ok(body) => then(body),
        Err(_) => Answer::bad_request("The body is not a JSON:API document"),
    }
}

/// Creates a record; `owner` is the reference that the path sets.
fn create(
    organisation: &mut Organisation,
    spec: &'static Spec,
    owner: Option<(&'static str, u64)>,
    body: Body,
    now: Seconds,
) -> Answer {
    let mut changes = match changes(spec, body, true) {
        Ok(changes) => changes,
        Err(refused) => return Answer::unprocessable(spec.kind, &refused),
    };
    if let Some((key, id)) = owner {
        changes.attributes.insert(key.to_owned(), id.into());
    }
    match organisation.create(spec.entity, changes.attributes, now) {
        Ok(id) => {
            join_household(organisation, id, changes.people, now);
            let mut answer = show(organisation, spec, id);
            answer.status = 201;
            answer
        }
        Err(Error::MissingReference { key, .. }) => {
            let refusal = Refusal {
                attribute: key.to_owned(),
                detail: "must exist",
            };
            Answer::unprocessable(spec.kind, &[refusal])
        }
        Err(_) => Answer::not_found(),
    }
}

fn update(
    organisation: &mut Organisation,
    spec: &'static Spec,
    id: u64,
    body: Body,
    now: Seconds,
) -> Answer {
    match changes(spec, body, false) {
        Err(refused) => Answer::unprocessable(spec.kind, &refused),
        Ok(changes) => match organisation.update(spec.entity, id, changes.attributes, Some(now)) {
            Ok(()) => show(organisation, spec, id),
            Err(_) => Answer::not_found(),
        },
    }
}

fn delete(organisation: &mut Organisation, spec: &'static Spec, id: u64, now: Seconds) -> Answer {
    match organisation.delete(spec.entity, &HashSet::from([id]), now) {
        0 => Answer::not_found(),
        _ => Answer::no_content(),
    }
}

fn show(organisation: &Organisation, spec: &'static Spec, id: u64) -> Answer {
    let query = Query::default();
    let reader = Reader {
        organisation,
        query: &query,
    };
    let record = organisation.store(spec.entity).find(id);
    record.map_or_else(Answer::not_found, |record| reader.single(spec, record))
}

/// A new household takes in the people that its relationships name.
fn join_household(organisation: &mut Organisation, household: u64, people: Vec<u64>, now: Seconds) {
    for person in people {
        let keys = [("household_id", household), ("person_id", person)];
        let attributes = keys.map(|(key, id)| (key.to_owned(), Value::from(id)));
        let made =
            organisation.create(Entity::HouseholdMembership, Map::from_iter(attributes), now);
        if let Err(error) = made {
            tracing::debug!(household, person, %error, "household_member_unknown");
        }
    }
}

fn changes(spec: &Spec, body: Body, new: bool) -> Result<Changes, Vec<Refusal>> {
    let mut attributes = body.data.attributes;
    let mut people = Vec::new();
    for (name, value) in body.data.relationships {
        let data = &value["data"];
        if let (Entity::Household, "people", Some(list)) =
            (spec.entity, name.as_str(), data.as_array())
        {
            people = list.iter().map(|item| id_of(&item["id"])).collect();
        } else if let Some(reference) = spec.references.iter().find(|it| it.name == name) {
            attributes.insert(reference.key.to_owned(), data["id"].clone());
        }
    }
    let mut refused = refusals(spec, &attributes);
    if new {
        refused.extend(missing(spec, &attributes));
    }
    if !refused.is_empty() {
        return Err(refused);
    }
    drop_invalid_dates(&mut attributes);
    Ok(Changes { attributes, people })
}

fn refusals(spec: &Spec, attributes: &Map<String, Value>) -> Vec<Refusal> {
    let checked = attributes.iter().filter_map(|(name, value)| {
        let detail = if !spec.writable.contains(&name.as_str()) {
            "cannot be assigned"
        } else if !allowed(name, value) {
            "is not included in the list"
        } else {
            return None;
        };
        Some(Refusal {
            attribute: name.clone(),
            detail,
        })
    });
    checked.collect()
}

fn missing(spec: &Spec, attributes: &Map<String, Value>) -> Vec<Refusal> {
    let blank = |name: &&&str| match attributes.get(**name) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.trim().is_empty(),
        Some(_) => false,
    };
    let blanks = spec.required.iter().filter(blank);
    let refuse = |name: &&str| Refusal {
        attribute: (*name).to_owned(),
        detail: "can't be blank",
    };
    blanks.map(refuse).collect()
}

fn allowed(name: &str, value: &Value) -> bool {
    let known: &[&str] = match name {
        "status" => &["active", "inactive", "pending"],
        "role" => &["member", "leader"],
        _ => return true,
    };
    value.as_str().is_some_and(|text| known.contains(&text))
}

/// A date that is none becomes null, and the answer is still a success.
fn drop_invalid_dates(attributes: &mut Map<String, Value>) {
    for name in ["birthdate", "anniversary"] {
        if let Some(value) = attributes.get_mut(name) {
            let valid = value
                .as_str()
                .is_some_and(|text| text.parse::<jiff::civil::Date>().is_ok());
            if !valid {
                *value = Value::Null;
            }
        }
    }
}
