//! The tracking waker: it notices a workflow that awaits something that is not a durable call, and durable calls that
//! are made elsewhere.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Wake, Waker},
};

thread_local! {
    /// The tracker whose run this thread is polling or granting to, by address.
    static INSIDE: Cell<usize> = const { Cell::new(0) };
}

/// Tells wake-ups by the machine, and by the future itself while it is polled, from foreign ones.
pub(super) struct Tracker {
    /// The future woke itself while it was polled.
    woken: AtomicBool,
    /// Somebody else woke it.
    foreign: AtomicBool,
    /// Tells the driver about a foreign wake-up, which no event would.
    alarm: Waker,
}

impl Tracker {
    pub(super) fn new(alarm: Waker) -> Arc<Self> {
        Arc::new(Self {
            woken: AtomicBool::new(false),
            foreign: AtomicBool::new(false),
            alarm,
        })
    }

    /// Runs `work`, during which wake-ups from this thread are the run's own.
    pub(super) fn inside<T>(self: &Arc<Self>, work: impl FnOnce() -> T) -> T {
        /// Puts the former address back even when `work` panics.
        struct Restore(usize);
        impl Drop for Restore {
            fn drop(&mut self) {
                INSIDE.set(self.0);
            }
        }
        let _restore = Restore(INSIDE.replace(self.address()));
        work()
    }

    /// Whether this thread is polling the run, or granting to it.
    pub(super) fn is_inside(self: &Arc<Self>) -> bool {
        INSIDE.get() == self.address()
    }

    /// Has the driver check the run.
    pub(super) fn sound_alarm(&self) {
        self.alarm.wake_by_ref();
    }

    /// Whether the future asked to be polled again since the last call.
    pub(super) fn take_woken(&self) -> bool {
        self.woken.swap(false, Ordering::AcqRel)
    }

    pub(super) fn is_foreign(&self) -> bool {
        self.foreign.load(Ordering::Acquire)
    }

    fn address(self: &Arc<Self>) -> usize {
        Arc::as_ptr(self).addr()
    }
}

impl Wake for Tracker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_inside() {
            self.woken.store(true, Ordering::Release);
        } else {
            self.foreign.store(true, Ordering::Release);
            self.sound_alarm();
        }
    }
}
