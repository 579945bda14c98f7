//! Every test here runs on Postgres and on SQLite: what a destination does must not depend on which it is.

mod deletions;
mod pages;
mod rereads;
mod store;
mod tables;

/// Makes one test for each database out of an async function that takes a `Store`.
macro_rules! on_both {
    ($($test:ident),* $(,)?) => {
        mod postgres {
            $(#[tokio::test]
            async fn $test() {
                super::$test(crate::destination::store::Store::postgres().await).await;
            })*
        }
        mod sqlite {
            $(#[tokio::test]
            async fn $test() {
                super::$test(crate::destination::store::Store::sqlite().await).await;
            })*
        }
    };
}
use on_both;
