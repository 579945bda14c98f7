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
const SIZES: [usize; 5] = [500, 100, 20, 5, 1];

/// A statement whose values are being bound.
pub(super) type Bound = Query<'static, Sqlite, SqliteArguments>;

/// A statement over rows of values: `head`, then `row` as often as there are rows, then `tail`.
pub(super) struct Bulk {
    head: &'static str,
    row: &'static str,
    tail: &'static str,
    texts: [OnceLock<String>; SIZES.len()],
}

impl Bulk {
    pub(super) const fn new(head: &'static str, row: &'static str, tail: &'static str) -> Self {
        Self {
            head,
            row,
            tail,
            texts: [const { OnceLock::new() }; SIZES.len()],
        }
    }

    /// Runs the statement over all items.
    pub(super) async fn execute<T>(
        &'static self,
        connection: &mut SqliteConnection,
        items: &[T],
        bind: impl Fn(Bound, &T) -> Bound,
    ) -> Result<()> {
        for (size, chunk) in chunks(items) {
            self.bound(size, chunk, &bind)
                .execute(&mut *connection)
                .await
                .map_err(failed)?;
        }
        Ok(())
    }

    /// Runs the statement over all items and gathers the rows that it returns.
    pub(super) async fn fetch<T>(
        &'static self,
        connection: &mut SqliteConnection,
        items: &[T],
        bind: impl Fn(Bound, &T) -> Bound,
    ) -> Result<Vec<SqliteRow>> {
        let mut rows = Vec::new();
        for (size, chunk) in chunks(items) {
            rows.extend(
                self.bound(size, chunk, &bind)
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
        chunk.iter().fold(sqlx::query(self.text(size)), bind)
    }

    fn text(&'static self, size: usize) -> &'static str {
        self.texts[size].get_or_init(|| {
            let rows = vec![self.row; SIZES[size]].join(",");
            format!("{}{}{}", self.head, rows, self.tail)
        })
    }
}

/// Cuts items into chunks of the fixed sizes; each comes with the number of its size.
fn chunks<T>(mut items: &[T]) -> impl Iterator<Item = (usize, &[T])> {
    std::iter::from_fn(move || {
        let size = SIZES.iter().position(|size| *size <= items.len())?;
        let (chunk, rest) = items.split_at(SIZES[size]);
        items = rest;
        Some((size, chunk))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_hold_every_item_once_and_in_order() {
        for count in [0, 1, 4, 5, 119, 500, 1_626] {
            let items: Vec<_> = (0..count).collect();
            let cut: Vec<_> = chunks(&items)
                .flat_map(|(_, chunk)| chunk.to_vec())
                .collect();
            assert_eq!(cut, items);
            assert!(chunks(&items).all(|(size, chunk)| chunk.len() == SIZES[size]));
        }
    }
}
