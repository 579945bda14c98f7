//! Which rows a list shows, and in which order.

use std::cmp::Ordering;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use crate::condition::tests_of;
use crate::entity::Entity;
use crate::names::fold;
use crate::organisation::Organisation;
use crate::query::{Comparison, Order, Query};
use crate::record::Record;
use crate::seconds::Seconds;
use crate::store::Store;

/// Positions in a store, in the order of a list.
pub(crate) enum Selection {
    /// Every record by id.
    All(usize),
    /// A part of a kept position list.
    Part(Arc<[u32]>, Range<usize>),
}

impl Selection {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::All(rows) => *rows,
            Self::Part(_, range) => range.len(),
        }
    }

    pub(crate) fn page(&self, offset: usize, limit: usize) -> Vec<usize> {
        let start = offset.min(self.len());
        let end = start.saturating_add(limit).min(self.len());
        match self {
            Self::All(_) => (start..end).collect(),
            Self::Part(positions, range) => {
                let page = &positions[range.start + start..range.start + end];
                page.iter().map(|position| *position as usize).collect()
            }
        }
    }
}

/// Selects from a whole list.
pub(crate) fn select(
    organisation: &Organisation,
    entity: Entity,
    query: &Query,
    now: Seconds,
) -> Selection {
    let store = organisation.store(entity);
    if query.order.is_empty()
        && query.conditions.is_empty()
        && query.filters.is_empty()
        && entity != Entity::Group
    {
        return Selection::All(store.len());
    }
    if let Some(selection) = time_window(organisation, store, query) {
        return selection;
    }
    let question = format!("{} at {now}", query.question());
    let positions = store.selection(&question, || {
        let everything =
            0..u32::try_from(store.len()).expect("a store holds fewer than 2^32 records");
        select_from(organisation, store, everything, query, now)
    });
    let range = 0..positions.len();
    Selection::Part(positions, range)
}

/// Selects from the records beneath a parent.
pub(crate) fn select_nested(
    organisation: &Organisation,
    entity: Entity,
    beneath: Vec<u32>,
    query: &Query,
    now: Seconds,
) -> Selection {
    let store = organisation.store(entity);
    let positions = select_from(organisation, store, beneath.into_iter(), query, now);
    let range = 0..positions.len();
    Selection::Part(positions.into(), range)
}

fn select_from(
    organisation: &Organisation,
    store: &Store,
    positions: impl Iterator<Item = u32>,
    query: &Query,
    now: Seconds,
) -> Vec<u32> {
    let tests = tests_of(organisation, store.entity, query, now);
    let passes = |position: &u32| {
        let record = &store.records()[*position as usize];
        tests.iter().all(|test| test.passes(record))
    };
    let selected = positions.filter(passes).collect();
    sort(organisation, store, selected, &query.order)
}

/// The common case of incremental reads: sorted by one time, bounded by that same time alone. The sorted list is
/// kept, and the bounds are found in it by bisection, whatever they are.
fn time_window(organisation: &Organisation, store: &Store, query: &Query) -> Option<Selection> {
    let [order] = query.order.as_slice() else {
        return None;
    };
    let time = Time::of(order.attribute)?;
    let bounded = !query.conditions.is_empty() && query.filters.is_empty();
    if !bounded || store.entity == Entity::Group {
        return None;
    }
    let mut low = i64::MIN;
    let mut high = i64::MAX;
    for condition in &query.conditions {
        if condition.attribute != order.attribute {
            return None;
        }
        let at = Seconds::parse(&condition.operand)?.0;
        match condition.comparison {
            Comparison::Equal => (low, high) = (low.max(at), high.min(at)),
            Comparison::Greater => low = low.max(at + 1),
            Comparison::GreaterOrEqual => low = low.max(at),
            Comparison::Less => high = high.min(at - 1),
            Comparison::LessOrEqual => high = high.min(at),
        }
    }
    let sign = if order.descending { '-' } else { '+' };
    let positions = store.selection(&format!("{sign}{}", order.attribute), || {
        let everything =
            0..u32::try_from(store.len()).expect("a store holds fewer than 2^32 records");
        sort(organisation, store, everything.collect(), &query.order)
    });
    let at = |position: &u32| time.read(&store.records()[*position as usize]).0;
    let range = if order.descending {
        positions.partition_point(|p| at(p) > high)..positions.partition_point(|p| at(p) >= low)
    } else {
        positions.partition_point(|p| at(p) < low)..positions.partition_point(|p| at(p) <= high)
    };
    let range = range.start..range.end.max(range.start);
    Some(Selection::Part(positions, range))
}

#[derive(Clone, Copy)]
pub(crate) enum Time {
    Created,
    Updated,
}

impl Time {
    pub(crate) fn of(attribute: &str) -> Option<Self> {
        match attribute {
            "created_at" => Some(Self::Created),
            "updated_at" => Some(Self::Updated),
            _ => None,
        }
    }

    pub(crate) fn read(self, record: &Record) -> Seconds {
        match self {
            Self::Created => record.created_at,
            Self::Updated => record.updated_at,
        }
    }
}

/// What rows are sorted by; null comes first.
#[derive(PartialEq, PartialOrd)]
enum Key {
    Null,
    Number(f64),
    Text(String),
}

fn sort(
    organisation: &Organisation,
    store: &Store,
    positions: Vec<u32>,
    order: &[Order],
) -> Vec<u32> {
    if order.is_empty() {
        return positions;
    }
    let records = store.records();
    let keys = |position: &u32| -> Vec<Key> {
        let record = &records[*position as usize];
        order
            .iter()
            .map(|order| key(organisation, store.entity, record, order.attribute))
            .collect()
    };
    let mut keyed: Vec<(Vec<Key>, u32)> = positions.iter().map(|p| (keys(p), *p)).collect();
    keyed.sort_by(|(left, left_at), (right, right_at)| {
        let pairs = left.iter().zip(right).zip(order);
        let decided = pairs.map(|((left, right), order)| {
            let ordering = left.partial_cmp(right).unwrap_or(Ordering::Equal);
            if order.descending {
                ordering.reverse()
            } else {
                ordering
            }
        });
        let decided = decided.into_iter().find(|ordering| ordering.is_ne());
        decided.unwrap_or_else(|| left_at.cmp(right_at))
    });
    keyed.into_iter().map(|(_, position)| position).collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "times stay far below 2^53 seconds"
)]
fn key(organisation: &Organisation, entity: Entity, record: &Record, attribute: &str) -> Key {
    if let Some(time) = Time::of(attribute) {
        return Key::Number(time.read(record).0 as f64);
    }
    let of_person = entity == Entity::Membership && attribute.ends_with("_name");
    let value = if of_person {
        let person = organisation.store(Entity::Person).find(record.slots[1]);
        person.map_or(Value::Null, |person| person.attribute(attribute))
    } else {
        record.attribute(attribute)
    };
    match value {
        Value::Null | Value::Array(_) | Value::Object(_) => Key::Null,
        Value::Bool(truth) => Key::Number(f64::from(u8::from(truth))),
        Value::Number(number) => number.as_f64().map_or(Key::Null, Key::Number),
        Value::String(text) => Key::Text(fold(&text)),
    }
}
