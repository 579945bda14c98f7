//! A process: one worker, from its start to its end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sync_workflow::ActivityContext;

use crate::{builds, program::Script, world::World};

/// What ties the code of a process to the world. A dead process has no effect on it any more.
pub(crate) struct Link {
    pub(crate) world: Arc<World>,
    pub(crate) process: usize,
    pub(crate) life: u32,
    is_dead: AtomicBool,
    /// Whether its code was deployed after the change.
    knows_change: bool,
    build: Option<&'static str>,
}

impl Link {
    pub(crate) fn new(world: Arc<World>, process: usize, life: u32) -> Arc<Self> {
        let knows_change = world.lock().is_deployed;
        Arc::new(Self {
            build: builds::of_process(&world, process),
            knows_change,
            world,
            process,
            life,
            is_dead: AtomicBool::new(false),
        })
    }

    pub(crate) fn script(&self) -> &Script {
        &self.world.script
    }

    /// Whether the code of this process is that after the change.
    pub(crate) const fn knows_change(&self) -> bool {
        self.knows_change
    }

    /// The build of its worker.
    pub(crate) const fn build(&self) -> Option<&'static str> {
        self.build
    }

    pub(crate) fn kill(&self) {
        self.is_dead.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.is_dead.load(Ordering::Relaxed)
    }

    /// Lets code take its time.
    pub(crate) async fn work(&self, millis: u64) {
        self.world.work(self, millis).await;
    }

    /// A value that no other draw gives.
    pub(crate) fn draw(&self) -> u64 {
        let mut state = self.world.lock();
        state.ledger.drawn += 1;
        state.ledger.drawn
    }

    /// An attempt of an activity begins.
    pub(crate) fn begin_act(&self, ctx: &ActivityContext, act: usize) {
        if !self.is_dead() {
            crate::ledger::begin_act(self, ctx, act);
        }
    }
}
