//! How long whoever repeats something waits in between.

use std::time::Duration;

/// Pauses that grow to a second, each somewhat longer or shorter than planned, so that many do not repeat in step.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// Runs wait meanwhile, and a moment in which the database can be reached may be short.
    const LONGEST: Duration = Duration::from_secs(1);

    pub(crate) const fn new(first: Duration) -> Self {
        Self { next: first }
    }

    /// The next pause: from half to one and a half of what is planned.
    pub(crate) fn next(&mut self) -> Duration {
        let jittered = self.next.mul_f64(0.5 + fastrand::f64());
        self.next = (self.next * 2).min(Self::LONGEST);
        jittered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_second() {
        let mut backoff = Backoff::new(Duration::from_millis(100));
        for planned in [100, 200, 400, 800, 1_000, 1_000, 1_000] {
            let planned = Duration::from_millis(planned);
            let pause = backoff.next();
            assert!(
                planned / 2 <= pause && pause <= planned * 3 / 2,
                "{pause:?} instead of {planned:?}"
            );
        }
    }
}
