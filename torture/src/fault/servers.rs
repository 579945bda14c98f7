//! Servers that crash.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{Fault, Field, Proof, Strike, now};
use crate::victim::Settings;

/// Stops the server at once and lets it recover.
pub(super) struct Restart;

#[async_trait]
impl Fault for Restart {
    fn settings(&self) -> Settings {
        Settings {
            lease: 3_000,
            ..Settings::default()
        }
    }

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Vec<Strike>> {
        field.wait_up_to(Duration::from_millis(1_500)).await;
        let server = field.store.server()?;
        let at = now();
        let restart = Arc::clone(&server);
        tokio::task::spawn_blocking(move || restart.restart_immediate()).await??;
        Ok(vec![Strike::at_all(at, Proof::Seen)])
    }
}
