//! The query string of a request, read by the rules of one kind of record.
//!
//! What the API does not know it ignores: an unknown `where`, `order`, `include` or `filter` changes
//! nothing, and the answer is still 200.

use std::collections::BTreeMap;

use url::form_urlencoded;

use crate::spec::{Nested, Spec};

/// The largest page; a larger `per_page` gets this many rows.
pub(crate) const MAX_PER_PAGE: usize = 100;
const DEFAULT_PER_PAGE: usize = 25;

/// A request for a list or for one record.
#[derive(Default)]
pub(crate) struct Query {
    pub(crate) per_page: usize,
    pub(crate) offset: usize,
    pub(crate) order: Vec<Order>,
    pub(crate) conditions: Vec<Condition>,
    pub(crate) filters: Vec<String>,
    pub(crate) include: Vec<Include>,
    /// The asked-for fields by `type`.
    pub(crate) fields: BTreeMap<String, Vec<String>>,
    /// Every parameter as it came, sorted by name; links repeat them.
    parameters: BTreeMap<String, String>,
}

#[derive(Clone)]
pub(crate) struct Order {
    pub(crate) attribute: &'static str,
    pub(crate) descending: bool,
}

#[derive(Clone)]
pub(crate) struct Condition {
    pub(crate) attribute: &'static str,
    pub(crate) comparison: Comparison,
    pub(crate) operand: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Comparison {
    Equal,
    Greater,
    GreaterOrEqual,
    Less,
    LessOrEqual,
}

/// One name of `include`, with what is to be included beneath it.
pub(crate) struct Include {
    pub(crate) nested: &'static Nested,
    pub(crate) beneath: Vec<Self>,
}

impl Query {
    pub(crate) fn parse(text: &str, spec: &'static Spec) -> Self {
        let mut query = Self {
            per_page: DEFAULT_PER_PAGE,
            ..Self::default()
        };
        for (name, value) in form_urlencoded::parse(text.as_bytes()) {
            query.read(&name, &value, spec);
            query
                .parameters
                .insert(name.into_owned(), value.into_owned());
        }
        query
    }

    fn read(&mut self, name: &str, value: &str, spec: &'static Spec) {
        let parts: Vec<&str> = name
            .split(['[', ']'])
            .filter(|part| !part.is_empty())
            .collect();
        match parts.as_slice() {
            ["per_page"] => {
                let asked = value.parse().unwrap_or(DEFAULT_PER_PAGE);
                self.per_page = asked.min(MAX_PER_PAGE);
            }
            ["offset"] => self.offset = value.parse().unwrap_or(0),
            ["order"] => {
                self.order = value
                    .split(',')
                    .filter_map(|key| order(key, spec))
                    .collect()
            }
            ["include"] => self.include = includes(value, spec),
            ["filter"] => {
                let known = value.split(',').filter(|name| spec.filter.contains(name));
                self.filters = known.map(str::to_owned).collect();
            }
            ["fields", kind] => {
                let names = value.split(',').map(str::to_owned).collect();
                self.fields.insert((*kind).to_owned(), names);
            }
            ["where", attribute] => self.condition(attribute, Comparison::Equal, value, spec),
            ["where", attribute, operator] => {
                if let Some(comparison) = comparison(operator) {
                    self.condition(attribute, comparison, value, spec);
                }
            }
            _ => {}
        }
    }

    fn condition(&mut self, name: &str, comparison: Comparison, operand: &str, spec: &Spec) {
        if let Some(attribute) = spec.query.iter().find(|known| **known == name) {
            let operand = operand.to_owned();
            self.conditions.push(Condition {
                attribute,
                comparison,
                operand,
            });
        }
    }

    /// The request's own query string, its names sorted, with another offset when one is given.
    pub(crate) fn link(&self, offset: Option<usize>) -> String {
        let mut parameters = self.parameters.clone();
        if let Some(offset) = offset {
            parameters.insert("offset".to_owned(), offset.to_string());
        }
        let pairs = parameters.iter().map(|(name, value)| {
            let name: String = form_urlencoded::byte_serialize(name.as_bytes()).collect();
            let name = name.replace("%5B", "[").replace("%5D", "]");
            let value: String = form_urlencoded::byte_serialize(value.as_bytes()).collect();
            format!("{name}={value}")
        });
        let text = pairs.collect::<Vec<_>>().join("&");
        if text.is_empty() {
            text
        } else {
            format!("?{text}")
        }
    }

    /// What selects and sorts rows, as a key for kept selections.
    pub(crate) fn question(&self) -> String {
        use std::fmt::Write as _;
        let mut text = String::new();
        for order in &self.order {
            let sign = if order.descending { '-' } else { '+' };
            let _ = write!(text, "{sign}{}", order.attribute);
        }
        for condition in &self.conditions {
            let Condition {
                attribute,
                comparison,
                operand,
            } = condition;
            let _ = write!(text, "\n{attribute} {comparison:?} {operand:?}");
        }
        for filter in &self.filters {
            let _ = write!(text, "\n{filter}");
        }
        text
    }
}

fn order(key: &str, spec: &Spec) -> Option<Order> {
    let (descending, name) = key
        .strip_prefix('-')
        .map_or((false, key), |name| (true, name));
    let attribute = spec.order.iter().find(|known| **known == name)?;
    Some(Order {
        attribute,
        descending,
    })
}

fn comparison(operator: &str) -> Option<Comparison> {
    match operator {
        "gt" => Some(Comparison::Greater),
        "gte" => Some(Comparison::GreaterOrEqual),
        "lt" => Some(Comparison::Less),
        "lte" => Some(Comparison::LessOrEqual),
        _ => None,
    }
}

fn includes(value: &str, spec: &'static Spec) -> Vec<Include> {
    let mut roots: Vec<Include> = Vec::new();
    for path in value.split(',') {
        let (first, second) = path
            .split_once('.')
            .map_or((path, None), |(a, b)| (a, Some(b)));
        let Some(root) = include_in(&mut roots, first, spec) else {
            continue;
        };
        let Some(second) = second else { continue };
        let beneath = root.nested.entity.spec();
        include_in(&mut root.beneath, second, beneath);
    }
    roots
}

fn include_in<'i>(
    list: &'i mut Vec<Include>,
    name: &str,
    spec: &'static Spec,
) -> Option<&'i mut Include> {
    let nested = spec.nested(name).filter(|nested| nested.includable)?;
    let position = list.iter().position(|include| include.nested.name == name);
    let position = position.unwrap_or_else(|| {
        list.push(Include {
            nested,
            beneath: Vec::new(),
        });
        list.len() - 1
    });
    list.get_mut(position)
}

#[cfg(test)]
mod tests {
    use super::Query;
    use crate::Entity;

    #[test]
    fn links_sort_names_keep_brackets_and_encode_commas() {
        let text = "per_page=10&include=emails&fields[Person]=first_name,last_name";
        let query = Query::parse(text, Entity::Person.spec());
        let link = query.link(Some(10));
        let expected =
            "?fields[Person]=first_name%2Clast_name&include=emails&offset=10&per_page=10";
        assert_eq!(link, expected);
    }

    #[test]
    fn what_is_unknown_is_ignored() {
        let text = "where[nonsense]=1&order=id&include=nothing&where[updated_at][like]=x";
        let query = Query::parse(text, Entity::Person.spec());
        assert!(query.conditions.is_empty() && query.order.is_empty() && query.include.is_empty());
    }

    #[test]
    fn addresses_cannot_be_filtered_by_time() {
        let query = Query::parse("where[updated_at][gte]=2026-01-01", Entity::Address.spec());
        assert!(query.conditions.is_empty());
    }
}
