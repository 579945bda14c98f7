//! The pulse of a simulation: control comes back whenever nothing else can run.
//!
//! A runtime with a paused clock moves to the next timer when every task waits. Between the two the
//! simulation takes the floor: it lets one thing happen, waits until all its consequences have
//! run, and looks again. Time moves only when the simulation asks for it.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    io,
    pin::pin,
    task::{Context, Poll, Waker},
};

use tokio::{
    runtime::{Builder, Runtime},
    time::{Instant, sleep_until},
};

#[derive(Default)]
struct Pulse {
    waker: RefCell<Option<Waker>>,
    /// How often the runtime may still park before the simulation is woken.
    parks: Cell<u32>,
    has_beaten: Cell<bool>,
}

thread_local! {
    static PULSE: Pulse = Pulse::default();
}

/// A runtime on this thread whose clock stands still until the simulation moves it.
///
/// # Errors
///
/// The operating system's error if the runtime cannot be made.
pub(crate) fn runtime() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .on_thread_park(before_park)
        .build()
}

fn before_park() {
    PULSE.with(|pulse| {
        let parks = pulse.parks.get();
        if parks > 0 {
            pulse.parks.set(parks - 1);
            return;
        }
        if let Some(waker) = pulse.waker.take() {
            pulse.has_beaten.set(true);
            waker.wake();
        }
    });
}

/// Waits until no other task can run. No time passes.
pub(crate) async fn settled() {
    arm(0);
    poll_fn(poll_beat).await;
}

/// Lets time pass to the next timer of anybody, to `limit` at most, and waits until no task can run.
pub(crate) async fn pass_time(limit: Instant) {
    if limit <= Instant::now() {
        // Without a timer ahead, the runtime would park for ever.
        return;
    }
    let mut limit = pin!(sleep_until(limit));
    arm(1);
    poll_fn(|cx| {
        // Only its presence matters: the clock does not go beyond it.
        let _due = limit.as_mut().poll(cx);
        poll_beat(cx)
    })
    .await;
}

fn arm(parks: u32) {
    PULSE.with(|pulse| {
        pulse.parks.set(parks);
        pulse.has_beaten.set(false);
    });
}

fn poll_beat(cx: &mut Context<'_>) -> Poll<()> {
    PULSE.with(|pulse| {
        if pulse.has_beaten.get() {
            return Poll::Ready(());
        }
        pulse.waker.replace(Some(cx.waker().clone()));
        Poll::Pending
    })
}
