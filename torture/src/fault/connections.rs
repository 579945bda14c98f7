//! Sessions that the server ends.

use std::time::Duration;

use async_trait::async_trait;

use super::{Fault, Field, Proof, Strike, now};
use crate::victim::Settings;

/// Ends random sessions of workers.
pub(super) struct Terminate {
    pool: u32,
}

impl Terminate {
    pub(super) const fn new(pool: u32) -> Self {
        Self { pool }
    }
}

const TERMINATE: &str = "
select pg_terminate_backend(pid) from (
    select pid from pg_stat_activity
    where datname = current_database() and application_name = 'sync-workflow' order by random() limit 1
) session";

#[async_trait]
impl Fault for Terminate {
    fn settings(&self) -> Settings {
        // Sessions end here, not nodes.
        Settings {
            lease: 5_000,
            pool: self.pool,
            ..Settings::default()
        }
    }

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Strike> {
        field.wait_up_to(Duration::from_millis(40)).await;
        let at = now();
        let pool = field.store.pool()?;
        let ended: Option<bool> = sqlx::query_scalar(TERMINATE).fetch_optional(pool).await?;
        Ok(Strike {
            at,
            proof: if ended == Some(true) {
                Proof::Seen
            } else {
                Proof::Missed
            },
            held: None,
        })
    }
}
