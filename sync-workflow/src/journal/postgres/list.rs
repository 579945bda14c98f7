//! Lists of runs.

use std::collections::BTreeSet;

use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::{
    connection::Shared,
    describe::{InfoRow, described},
    failure::Effect,
};
use crate::journal::{Page, Result, RunFilter, RunInfo};

pub(super) async fn list(shared: &Shared, filter: &RunFilter) -> Result<Page<RunInfo>> {
    let limit = filter.effective_limit();
    let named = few_named(shared, filter).await?;
    let tags = rarest_first(shared, filter).await?;
    let mut statement = statement(filter, named.as_deref(), &tags, limit + 1);
    let query = statement.build_query_as::<InfoRow>();
    let mut rows = shared.rows(Effect::None, query).await?;
    let more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let items = rows
        .into_iter()
        .map(InfoRow::into_info)
        .collect::<Result<_>>()?;
    Ok(Page { items, more })
}

/// So many runs are many: those whose ids begin alike are then found among the newest.
const FEW: usize = 1_000;

/// The runs whose workflow ids begin as the filter says, if they are few. A plan that knows no values would
/// walk through all runs for them.
async fn few_named(shared: &Shared, filter: &RunFilter) -> Result<Option<Vec<Uuid>>> {
    let Some(prefix) = &filter.workflow_id_prefix else {
        return Ok(None);
    };
    let mut statement = QueryBuilder::new("SELECT r.run_id FROM sync_workflow.runs r WHERE true");
    push_prefix(&mut statement, "r.workflow_id", prefix);
    // No order: the index by workflow id is the only way.
    statement.push(" LIMIT ").push(FEW + 1);
    let query = statement.build_query_as::<(Uuid,)>();
    let found = shared.rows(Effect::None, query).await?;
    Ok((found.len() <= FEW).then(|| found.into_iter().map(|(run,)| run).collect()))
}

/// A name and a value.
type Tag<'f> = (&'f str, &'f str);

// The same number: beyond it a tag is as common as any.
const HOW_COMMON: &str = "
SELECT (SELECT count(*) FROM (
    SELECT FROM sync_workflow.tags t WHERE t.name = w.name AND t.value = w.value LIMIT 1000
) AS counted)
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS w(name, value, place)
ORDER BY w.place";

/// The tags of a filter, the one that the fewest runs have first.
async fn rarest_first<'f>(shared: &Shared, filter: &'f RunFilter) -> Result<Vec<Tag<'f>>> {
    let tags = filter.tags.iter().map(|(name, value)| (&**name, &**value));
    let tags: Vec<Tag<'f>> = tags.collect();
    if tags.len() < 2 {
        return Ok(tags);
    }
    let (names, values): (Vec<&str>, Vec<&str>) = tags.iter().copied().unzip();
    let query = sqlx::query_as::<_, (i64,)>(HOW_COMMON)
        .bind(names)
        .bind(values);
    let counts = shared.rows(Effect::None, query).await?;
    let mut counted: Vec<_> = counts.into_iter().zip(tags).collect();
    counted.sort_by_key(|((count,), _)| *count);
    Ok(counted.into_iter().map(|(_, tag)| tag).collect())
}

/// Run ids sort by the time of their start: the newest come first.
///
/// Each status is looked for by itself, and stands in the text: so each has a plan of its own, the few runs that
/// are under way or that ended badly through the index that holds nothing else.
fn statement(
    filter: &RunFilter,
    named: Option<&[Uuid]>,
    tags: &[Tag<'_>],
    limit: u32,
) -> QueryBuilder<Postgres> {
    let mut statement = QueryBuilder::new("SELECT * FROM (");
    let statuses: BTreeSet<i16> = filter.statuses.iter().map(|status| status.code()).collect();
    let legs = match statuses.is_empty() {
        true => vec![None],
        false => statuses.into_iter().map(Some).collect(),
    };
    for (index, status) in legs.into_iter().enumerate() {
        if index > 0 {
            statement.push(" UNION ALL ");
        }
        statement.push("(").push(described!());
        push_tags(&mut statement, tags);
        if let Some(status) = status {
            statement.push(" AND r.status = ").push(status);
        }
        match (named, &filter.workflow_id_prefix) {
            (Some(named), _) => {
                statement
                    .push(" AND r.run_id = ANY(")
                    .push_bind(named.to_vec())
                    .push(")");
            }
            // Newest first, not in the order of the index by workflow id.
            (None, Some(prefix)) => push_prefix(&mut statement, "(r.workflow_id || '')", prefix),
            (None, None) => {}
        }
        push_conditions(&mut statement, filter);
        statement
            .push(" ORDER BY r.run_id DESC LIMIT ")
            .push(limit)
            .push(")");
    }
    statement
        .push(") AS found ORDER BY run_id DESC LIMIT ")
        .push(limit);
    statement
}

/// The runs that have the first tag, in the order of its index; of the others each run is asked.
///
/// A sub-select that yields a value stays where it is: a join would be put first whenever the plan, which knows no
/// values, takes its tag for the rarer one.
fn push_tags(statement: &mut QueryBuilder<Postgres>, tags: &[Tag<'_>]) {
    let Some(((name, value), others)) = tags.split_first() else {
        statement.push(" WHERE true");
        return;
    };
    statement
        .push(" JOIN sync_workflow.tags t ON t.run_id = r.run_id WHERE t.name = ")
        .push_bind((*name).to_owned())
        .push(" AND t.value = ")
        .push_bind((*value).to_owned());
    for (name, value) in others {
        statement
            .push(" AND (SELECT o.value FROM sync_workflow.tags o WHERE o.run_id = r.run_id AND o.name = ")
            .push_bind((*name).to_owned())
            .push(") = ")
            .push_bind((*value).to_owned());
    }
}

fn push_conditions(statement: &mut QueryBuilder<Postgres>, filter: &RunFilter) {
    if let Some(before) = filter.before {
        statement
            .push(" AND r.run_id < ")
            .push_bind(before.as_uuid());
    }
    if let Some(workflow) = &filter.workflow {
        statement
            .push(" AND r.workflow = ")
            .push_bind(workflow.to_string());
    }
    if let Some(queue) = &filter.queue {
        statement
            .push(" AND r.queue = ")
            .push_bind(queue.to_string());
    }
    if let Some(build) = &filter.build {
        // Told twice, for the index of runs that are of any.
        statement
            .push(" AND r.build <> '' AND r.build = ")
            .push_bind(build.to_string());
    }
    if let Some(parent) = filter.parent {
        statement
            .push(" AND r.parent_run = ")
            .push_bind(parent.as_uuid());
    }
    if let Some(text) = &filter.parked_for {
        statement
            .push(" AND r.status = 2 AND strpos((SELECT p.reason FROM sync_workflow.parked p WHERE p.run_id = r.run_id), ")
            .push_bind(text.clone())
            .push(") > 0");
    }
}

/// A range of texts, which are compared by their bytes.
fn push_prefix(statement: &mut QueryBuilder<Postgres>, column: &str, prefix: &str) {
    statement
        .push(" AND ")
        .push(column)
        .push(" >= ")
        .push_bind(prefix.to_owned());
    if let Some(end) = end_of(prefix) {
        statement
            .push(" AND ")
            .push(column)
            .push(" < ")
            .push_bind(end);
    }
}

/// The first text after all that start with a prefix. `None` if there is none.
fn end_of(prefix: &str) -> Option<String> {
    let mut kept: Vec<char> = prefix.chars().collect();
    while let Some(last) = kept.pop() {
        // The numbers between the two blocks of characters stand for none.
        let next = (u32::from(last) + 1..=u32::from(char::MAX)).find_map(char::from_u32);
        if let Some(next) = next {
            kept.push(next);
            return Some(kept.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_holds_all_texts_with_the_prefix_and_no_other() {
        let texts = [
            "",
            "a",
            "a\u{d7ff}",
            "a\u{e000}",
            "a\u{10ffff}",
            "a\u{10ffff}z",
            "ab",
            "b",
            "\u{10ffff}",
            "\u{10ffff}\u{10ffff}",
        ];
        for prefix in texts {
            let end = end_of(prefix);
            for text in texts {
                let is_in = text >= prefix && end.as_deref().is_none_or(|end| text < end);
                assert_eq!(is_in, text.starts_with(prefix), "{prefix:?} {text:?}");
            }
        }
    }
}
