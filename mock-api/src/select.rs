//! Which rows a list shows, and in which order.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value;

use crate::entity::Entity;
use crate::names::fold;
use crate::organisation::Organisation;
use crate::query::{Comparison, Condition, Order, Query};
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
enum Time {
    Created,
    Updated,
}

impl Time {
    fn of(attribute: &str) -> Option<Self> {
        match attribute {
            "created_at" => Some(Self::Created),
            "updated_at" => Some(Self::Updated),
            _ => None,
        }
    }

    fn read(self, record: &Record) -> Seconds {
        match self {
            Self::Created => record.created_at,
            Self::Updated => record.updated_at,
        }
    }
}

/// A condition made ready to be asked of many records.
enum Test {
    Nothing,
    Id(Comparison, u64),
    Time(Time, Comparison, Seconds),
    Slot(usize, u64),
    Attribute(Condition),
    NameContains(String),
    NameContainsOrIn(String, HashSet<u64>),
    Is(&'static str, bool),
    Null(&'static str, bool),
    StartsAfter(Seconds, bool),
}

fn tests_of(organisation: &Organisation, entity: Entity, query: &Query, now: Seconds) -> Vec<Test> {
    let conditions = query
        .conditions
        .iter()
        .filter(|it| it.attribute != "archive_status");
    let mut tests: Vec<Test> = conditions
        .map(|it| test(organisation, entity, it))
        .collect();
    tests.extend(query.filters.iter().map(|name| match name.as_str() {
        "admins" => Test::Is("site_administrator", true),
        "canceled" => Test::Is("canceled", true),
        "not_canceled" => Test::Is("canceled", false),
        "upcoming" => Test::StartsAfter(now, true),
        _ => Test::StartsAfter(now, false),
    }));
    if entity == Entity::Group {
        let asked = query
            .conditions
            .iter()
            .find(|it| it.attribute == "archive_status");
        match asked.map(|it| it.operand.as_str()) {
            Some("include") => {}
            Some("only") => tests.push(Test::Null("archived_at", false)),
            _ => tests.push(Test::Null("archived_at", true)),
        }
    }
    tests
}

fn test(organisation: &Organisation, entity: Entity, condition: &Condition) -> Test {
    let Condition {
        attribute,
        comparison,
        operand,
    } = condition;
    if let Some(time) = Time::of(attribute) {
        let at = Seconds::parse(operand);
        return at.map_or(Test::Nothing, |at| Test::Time(time, *comparison, at));
    }
    if let Some(reference) = entity
        .spec()
        .references
        .iter()
        .find(|it| it.key == *attribute)
        && *comparison == Comparison::Equal
    {
        return operand
            .parse()
            .map_or(Test::Nothing, |id| Test::Slot(reference.slot, id));
    }
    match *attribute {
        "id" => operand
            .parse()
            .map_or(Test::Nothing, |id| Test::Id(*comparison, id)),
        "search_name" => Test::NameContains(fold(operand)),
        "search_name_or_email" => {
            let owners = owners_of_email(organisation, operand);
            Test::NameContainsOrIn(fold(operand), owners)
        }
        _ => Test::Attribute(condition.clone()),
    }
}

fn owners_of_email(organisation: &Organisation, part: &str) -> HashSet<u64> {
    let part = part.to_lowercase();
    let emails = organisation.store(Entity::Email).records().iter();
    let matching = emails.filter(|email| {
        let address = email.attribute("address");
        address
            .as_str()
            .is_some_and(|address| address.to_lowercase().contains(&part))
    });
    matching.map(|email| email.slots[0]).collect()
}

impl Test {
    fn passes(&self, record: &Record) -> bool {
        match self {
            Self::Nothing => false,
            Self::Id(comparison, id) => comparison.holds(record.id.cmp(id)),
            Self::Time(time, comparison, at) => comparison.holds(time.read(record).cmp(at)),
            Self::Slot(slot, id) => record.slots[*slot] == *id,
            Self::Attribute(condition) => condition.holds(&record.attribute(condition.attribute)),
            Self::NameContains(part) => name_contains(record, part),
            Self::NameContainsOrIn(part, ids) => {
                ids.contains(&record.id) || name_contains(record, part)
            }
            Self::Is(name, wanted) => record.attribute(name).as_bool() == Some(*wanted),
            Self::Null(name, wanted) => record.attribute(name).is_null() == *wanted,
            Self::StartsAfter(now, wanted) => {
                let starts = record.attribute("starts_at");
                let starts = starts.as_str().and_then(Seconds::parse);
                starts.is_some_and(|starts| (starts >= *now) == *wanted)
            }
        }
    }
}

fn name_contains(record: &Record, part: &str) -> bool {
    record
        .attribute("name")
        .as_str()
        .is_some_and(|name| fold(name).contains(part))
}

impl Comparison {
    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Equal => ordering.is_eq(),
            Self::Greater => ordering.is_gt(),
            Self::GreaterOrEqual => ordering.is_ge(),
            Self::Less => ordering.is_lt(),
            Self::LessOrEqual => ordering.is_le(),
        }
    }
}

impl Condition {
    /// Null satisfies no condition; an operand of the wrong type matches nothing.
    fn holds(&self, value: &Value) -> bool {
        let ordering = match value {
            Value::Bool(truth) => self
                .operand
                .parse()
                .ok()
                .map(|asked: bool| truth.cmp(&asked)),
            Value::Number(number) => {
                let asked = self.operand.parse::<f64>().ok();
                asked
                    .zip(number.as_f64())
                    .and_then(|(asked, held)| held.partial_cmp(&asked))
            }
            Value::String(text) => return self.holds_for_text(text),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        ordering.is_some_and(|ordering| self.comparison.holds(ordering))
    }

    fn holds_for_text(&self, text: &str) -> bool {
        if self.comparison == Comparison::Equal {
            return matches_pattern(&text.to_lowercase(), &self.operand.to_lowercase());
        }
        let is_time = text.len() > "2026-06-01".len();
        let times = Seconds::parse(text)
            .zip(Seconds::parse(&self.operand))
            .filter(|_| is_time);
        let ordering = times.map_or_else(
            || fold(text).cmp(&fold(&self.operand)),
            |(held, asked)| held.cmp(&asked),
        );
        self.comparison.holds(ordering)
    }
}

/// `%` stands for any text; everything else for itself.
fn matches_pattern(text: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('%') else {
        return text == pattern;
    };
    let Some(mut text) = text.strip_prefix(start) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('%').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else {
            return false;
        };
        text = &text[at + part.len()..];
    }
    text.ends_with(end)
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

#[cfg(test)]
mod tests {
    use super::matches_pattern;

    #[test]
    fn a_percent_sign_stands_for_any_text() {
        for (text, pattern, expected) in [
            ("smith", "smith", true),
            ("smith", "smi%", true),
            ("smith", "%th", true),
            ("smith", "%mit%", true),
            ("smith", "s%i%h", true),
            ("smith", "x%", false),
            ("smith", "%x%", false),
            ("aba", "ab%ba", false),
        ] {
            assert_eq!(matches_pattern(text, pattern), expected, "{text} {pattern}");
        }
    }
}
