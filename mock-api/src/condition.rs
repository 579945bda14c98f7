//! The conditions of a query, made ready to be asked of many records.

use std::cmp::Ordering;
use std::collections::HashSet;

use serde_json::Value;

use crate::entity::Entity;
use crate::names::fold;
use crate::organisation::Organisation;
use crate::query::{Comparison, Condition, Query};
use crate::record::Record;
use crate::seconds::Seconds;
use crate::select::Time;

/// A condition made ready to be asked of many records.
pub(crate) enum Test {
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

pub(crate) fn tests_of(
    organisation: &Organisation,
    entity: Entity,
    query: &Query,
    now: Seconds,
) -> Vec<Test> {
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
    pub(crate) fn passes(&self, record: &Record) -> bool {
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
