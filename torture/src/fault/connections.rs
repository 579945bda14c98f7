//! Sessions that the server ends.

use std::time::Duration;

use async_trait::async_trait;

use super::{Fault, Field, Proof, Strike, now};
use crate::victim::Settings;

/// Ends random sessions of workers, some of them at the same time.
pub(super) struct Terminate {
    pool: u32,
}

impl Terminate {
    pub(super) const fn new(pool: u32) -> Self {
        Self { pool }
    }
}

/// The most sessions that end at the same time.
const AT_ONCE: u32 = 3;

const TERMINATE: &str = "
select pg_terminate_backend(pid) from (
    select pid from pg_stat_activity
    where datname = current_database() and application_name = 'sync-workflow' order by random() limit $1
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

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Vec<Strike>> {
        field.wait_up_to(Duration::from_millis(40)).await;
        let most = i64::from(field.rng.u32(1..=AT_ONCE));
        let at = now();
        let pool = field.store.pool()?;
        let ended: Vec<bool> = sqlx::query_scalar(TERMINATE)
            .bind(most)
            .fetch_all(pool)
            .await?;
        let proof = |was_ended| match was_ended {
            true => Proof::Seen,
            false => Proof::Missed,
        };
        if ended.is_empty() {
            return Ok(vec![Strike::at_all(at, Proof::Missed)]);
        }
        let ended = ended.into_iter().map(proof);
        Ok(ended.map(|proof| Strike::at_all(at, proof)).collect())
    }
}
