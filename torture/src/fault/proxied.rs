//! Faults of the network, by way of the proxy.

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;

use super::{Fault, Field, Proof, Strike, now, processes::kill_some};
use crate::{
    proxy::{Blow, Proxy},
    store::Store,
    victim::Settings,
};

/// How long a commit may take to come by: there is always one under way.
const COMES_BY: Duration = Duration::from_secs(20);

async fn start_proxy(store: &Store, delay: Duration) -> anyhow::Result<Option<Proxy>> {
    Proxy::start(store.server()?.port(), delay).await.map(Some)
}

/// Lets a blow fall on some commit.
async fn strike_commit(field: &mut Field, blow: Blow) -> anyhow::Result<Vec<Strike>> {
    let fallen = field.proxy()?.arm(blow);
    let met = timeout(COMES_BY, fallen).await;
    let (at, proof) = match met {
        Ok(Ok(at)) => (at, Proof::Seen),
        Ok(Err(_)) | Err(_) => {
            field.proxy()?.disarm();
            (now(), Proof::Missed)
        }
    };
    Ok(vec![Strike::at_all(at, proof)])
}

/// Cuts connections around commits.
pub(super) struct Cut(Blow);

impl Cut {
    pub(super) const fn before() -> Self {
        Self(Blow::Before)
    }

    pub(super) const fn after() -> Self {
        Self(Blow::After)
    }

    pub(super) const fn in_reply() -> Self {
        Self(Blow::InReply)
    }
}

#[async_trait]
impl Fault for Cut {
    fn settings(&self) -> Settings {
        Settings {
            lease: 5_000,
            ..Settings::default()
        }
    }

    async fn proxy(&mut self, store: &Store) -> anyhow::Result<Option<Proxy>> {
        start_proxy(store, Duration::ZERO).await
    }

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Vec<Strike>> {
        field.wait_up_to(Duration::from_millis(60)).await;
        strike_commit(field, self.0).await
    }
}

/// Holds a commit back for longer than its node has to live without an answer.
pub(super) struct Hold;

#[async_trait]
impl Fault for Hold {
    fn settings(&self) -> Settings {
        Settings {
            lease: 600,
            deadline: 5_000,
            ..Settings::default()
        }
    }

    async fn proxy(&mut self, store: &Store) -> anyhow::Result<Option<Proxy>> {
        start_proxy(store, Duration::ZERO).await
    }

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Vec<Strike>> {
        field.wait_up_to(Duration::from_millis(300)).await;
        let time = Duration::from_millis(field.rng.u64(200..2_500));
        let strikes = strike_commit(field, Blow::Hold(time)).await?;
        // The heartbeat has a connection of its own. Pausing the worker as well lets its lease end
        // while the commit is on its way.
        if field.rng.bool() {
            let pid = field.anyone();
            field.fleet.pause(pid)?;
            tokio::time::sleep(time.min(Duration::from_millis(1_200))).await;
            field.fleet.resume(pid)?;
        } else {
            tokio::time::sleep(time).await;
        }
        Ok(strikes)
    }
}

/// Lets all connections of all workers fall silent.
pub(super) struct BlackHole;

#[async_trait]
impl Fault for BlackHole {
    fn settings(&self) -> Settings {
        Settings {
            lease: 1_500,
            deadline: 1_000,
            ..Settings::default()
        }
    }

    async fn proxy(&mut self, store: &Store) -> anyhow::Result<Option<Proxy>> {
        start_proxy(store, Duration::ZERO).await
    }

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Vec<Strike>> {
        field.wait_up_to(Duration::from_millis(800)).await;
        field.proxy()?.freeze(true);
        // Some leases survive it, some do not.
        tokio::time::sleep(Duration::from_millis(field.rng.u64(300..3_500))).await;
        field.proxy()?.freeze(false);
        Ok(vec![Strike::at_all(now(), Proof::Seen)])
    }

    async fn heal(&mut self, field: &mut Field) -> anyhow::Result<()> {
        field.proxy()?.freeze(false);
        Ok(())
    }
}

/// Kills workers whose database is far away.
pub(super) struct Slow;

#[async_trait]
impl Fault for Slow {
    fn settings(&self) -> Settings {
        Settings {
            lease: 2_000,
            ..Settings::default()
        }
    }

    fn workers(&self) -> usize {
        6
    }

    async fn proxy(&mut self, store: &Store) -> anyhow::Result<Option<Proxy>> {
        start_proxy(store, Duration::from_millis(25)).await
    }

    async fn strike(&mut self, field: &mut Field) -> anyhow::Result<Vec<Strike>> {
        // From its start to its first commit a worker needs some thirty round trips; most get that far.
        field.wait_up_to(Duration::from_millis(2_000)).await;
        kill_some(field, 1).await
    }
}
