//! Real clusters: what they hold, what survives a restart, and that nothing of them is left over.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cleaning_up;
mod cluster;
mod command;
mod database;

use std::thread;
use std::time::{Duration, Instant};

/// Waits until `predicate` holds, and fails the test if it does not in good time.
fn eventually(what: &str, predicate: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !predicate() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process with this id is there, be it as a zombie.
fn is_alive(pid: u32) -> bool {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    // Not permitted means that it is there, and somebody else's.
    !matches!(
        nix::sys::signal::kill(pid, None),
        Err(nix::errno::Errno::ESRCH)
    )
}

/// Whether a process with this id runs; one that is dead but not waited for does not.
fn runs(pid: u32) -> bool {
    let zombie = std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit(')')
            .next()
            .unwrap()
            .trim_start()
            .starts_with('Z')
    });
    is_alive(pid) && !zombie
}
