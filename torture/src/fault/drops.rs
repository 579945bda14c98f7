//! Callers of the journal that go away in the middle of a call.

use std::time::Duration;

use async_trait::async_trait;

use super::{Fault, Field, Proof, Strike, now};
use crate::victim::Settings;

/// Drops some of the calls that workers make, each after a random number of polls.
pub(super) struct Drops;

#[async_trait]
impl Fault for Drops {
    fn settings(&self) -> Settings {
        Settings {
            lease: 5_000,
            pool: 2,
            drops: 40,
            ..Settings::default()
        }
    }

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Vec<Strike>> {
        // The workers strike by themselves, and tell the ledger.
        field.wait_up_to(Duration::from_millis(600)).await;
        Ok(vec![Strike::at_all(now(), Proof::Drops)])
    }
}
