//! Statements over many rows.
//!
//! Every statement costs a hop to the connection's thread and back, so rows travel many to a
//! statement. Statements come in a few fixed sizes, so that each is prepared once.

use std::sync::OnceLock;

use sqlx::{
    Sqlite, SqliteConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::error::failed;
use crate::journal::Result;

/// Rows per statement, the largest first. The widest row has 20 values, and SQLite takes 32,766.
const SIZES: [usize; 7] = [512, 256, 128, 64, 16, 4, 1];

/// The most rows of NULL that cost less than another statement does.
const WORTH_FILLING: usize = 64;

/// A statement whose values are being bound.
pub(super) type Bound = Query<'static, Sqlite, SqliteArguments>;

/// A statement over rows of values: `head`, then `row` as often as there are rows, then `tail`.
pub(super) struct Bulk {
    head: &'static str,
    row: &'static str,
    tail: &'static str,
    /// Whether a row of NULLs changes nothing and finds nothing.
    is_padded: bool,
    texts: [OnceLock<String>; SIZES.len()],
}

impl Bulk {
    pub(super) const fn new(head: &'static str, row: &'static str, tail: &'static str) -> Self {
        Self {
            head,
            row,
            tail,
            is_padded: false,
            texts: [const { OnceLock::new() }; SIZES.len()],
        }
    }

    /// The same of a statement on which a row of NULLs has no effect: it takes fewer statements, for one that is
    /// somewhat too large serves as well.
    pub(super) const fn padded(head: &'static str, row: &'static str, tail: &'static str) -> Self {
        let mut bulk = Self::new(head, row, tail);
        bulk.is_padded = true;
        bulk
    }

    /// Runs the statement over all items.
    pub(super) async fn execute<T>(
        &'static self,
        connection: &mut SqliteConnection,
        items: &[T],
        bind: impl Fn(Bound, &T) -> Bound,
    ) -> Result<()> {
        execute(connection, self.bind(items, bind)).await
    }

    /// The statements over all items, with their values.
    pub(super) fn bind<T>(
        &'static self,
        items: &[T],
        bind: impl Fn(Bound, &T) -> Bound,
    ) -> impl Iterator<Item = Bound> {
        chunks(items, self.is_padded).map(move |(size, chunk)| self.bound(size, chunk, &bind))
    }

    /// Runs the statement over all items and gathers the rows that it returns.
    pub(super) async fn fetch<T>(
        &'static self,
        connection: &mut SqliteConnection,
        items: &[T],
        bind: impl Fn(Bound, &T) -> Bound,
    ) -> Result<Vec<SqliteRow>> {
        self.fetch_with(connection, items, bind, |bound| bound)
            .await
    }

    /// The same, with values for the tail of the statement.
    pub(super) async fn fetch_with<T>(
        &'static self,
        connection: &mut SqliteConnection,
        items: &[T],
        bind: impl Fn(Bound, &T) -> Bound,
        bind_tail: impl Fn(Bound) -> Bound,
    ) -> Result<Vec<SqliteRow>> {
        let mut rows = Vec::new();
        for (size, chunk) in chunks(items, self.is_padded) {
            rows.extend(
                bind_tail(self.bound(size, chunk, &bind))
                    .fetch_all(&mut *connection)
                    .await
                    .map_err(failed)?,
            );
        }
        Ok(rows)
    }

    fn bound<T>(
        &'static self,
        size: usize,
        chunk: &[T],
        bind: impl Fn(Bound, &T) -> Bound,
    ) -> Bound {
        let bound = chunk.iter().fold(sqlx::query(self.text(size)), bind);
        let missing = SIZES[size] - chunk.len();
        let values = missing * self.row.bytes().filter(|byte| *byte == b'?').count();
        (0..values).fold(bound, |bound, _| bound.bind(None::<i64>))
    }

    fn text(&'static self, size: usize) -> &'static str {
        self.texts[size].get_or_init(|| {
            let rows = vec![self.row; SIZES[size]].join(",");
            format!("{}{}{}", self.head, rows, self.tail)
        })
    }
}

/// Runs statements one after the other.
pub(super) async fn execute(
    connection: &mut SqliteConnection,
    statements: impl IntoIterator<Item = Bound>,
) -> Result<()> {
    for statement in statements {
        statement.execute(&mut *connection).await.map_err(failed)?;
    }
    Ok(())
}

/// Cuts items into chunks for the fixed sizes; each comes with the number of its size. With `is_padded` the last one may
/// be shorter than its size.
fn chunks<T>(mut items: &[T], is_padded: bool) -> impl Iterator<Item = (usize, &[T])> {
    std::iter::from_fn(move || {
        let count = items.len();
        let fitting = SIZES.iter().position(|size| *size <= count)?;
        let size = match fitting.checked_sub(1) {
            Some(larger)
                if is_padded
                    && SIZES[fitting] < count
                    && SIZES[larger] - count <= WORTH_FILLING =>
            {
                larger
            }
            _ => fitting,
        };
        let (chunk, rest) = items.split_at(SIZES[size].min(count));
        items = rest;
        Some((size, chunk))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTS: [usize; 9] = [0, 1, 2, 4, 119, 300, 493, 512, 1_626];

    #[test]
    fn chunks_hold_every_item_once_and_in_order() {
        for count in COUNTS {
            let items: Vec<_> = (0..count).collect();
            for is_padded in [false, true] {
                let cut: Vec<_> = chunks(&items, is_padded)
                    .flat_map(|(_, chunk)| chunk.to_vec())
                    .collect();
                assert_eq!(cut, items);
            }
            assert!(chunks(&items, false).all(|(size, chunk)| chunk.len() == SIZES[size]));
        }
    }

    #[test]
    fn padded_statements_are_few_and_little_is_padded() {
        for count in COUNTS {
            let items = vec![(); count];
            let cut: Vec<_> = chunks(&items, true).collect();
            assert!(cut.len() <= count / SIZES[0] + 3, "{count}: {}", cut.len());
            let rows: usize = cut.iter().map(|(size, _)| SIZES[*size]).sum();
            assert!(rows - count <= WORTH_FILLING, "{count}: {rows}");
        }
    }
}
