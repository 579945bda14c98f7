//! Creation and change times for generated records: mostly scattered, with runs of many rows per second.

use fastrand::Rng;

use crate::seconds::Seconds;

/// Runs of rows that share one second, as imports leave them: (rows, smallest list with such a run).
const RUNS: [(usize, usize); 3] = [(400, 5_000), (150, 2_000), (20, 60)];

const EIGHT_YEARS: i64 = 8 * 365 * 86_400;

/// Hands out (created, updated) pairs; creation never runs backwards.
pub(crate) struct Timeline {
    created: i64,
    largest_gap: i64,
    left_in_run: usize,
    /// The second at which a bulk edit changed all rows of the current run.
    run_updated: Option<i64>,
    plan: Vec<(usize, usize)>,
    row: usize,
}

impl Timeline {
    pub(crate) fn new(rows: usize, rng: &mut Rng) -> Self {
        let mut plan = Vec::new();
        for (index, (length, least)) in RUNS.into_iter().enumerate() {
            if rows >= least {
                plan.push((rows * (index + 1) / 4, length));
            }
        }
        for _ in 0..rows / 1_000 {
            plan.push((rng.usize(..rows), 20));
        }
        plan.sort_unstable_by(|left, right| right.cmp(left));
        let rows_of_time = i64::try_from(rows.max(1)).expect("lists are counted in millions");
        Self {
            created: Seconds::START.0 - EIGHT_YEARS,
            largest_gap: (EIGHT_YEARS / rows_of_time * 3 / 2).max(2),
            left_in_run: 0,
            run_updated: None,
            plan,
            row: 0,
        }
    }

    pub(crate) fn next(&mut self, rng: &mut Rng) -> (Seconds, Seconds) {
        self.start_run(rng);
        let latest = Seconds::START.0 - 60;
        if self.left_in_run > 0 {
            self.left_in_run -= 1;
        } else {
            self.run_updated = None;
            self.created = (self.created + rng.i64(0..self.largest_gap)).min(latest);
        }
        self.row += 1;
        let updated = match self.run_updated {
            Some(updated) => updated,
            None if rng.u8(..10) < 4 => self.created,
            None => rng.i64(self.created..=latest),
        };
        (Seconds(self.created), Seconds(updated))
    }

    fn start_run(&mut self, rng: &mut Rng) {
        while let Some((row, length)) = self.plan.last().copied() {
            if row > self.row {
                break;
            }
            self.plan.pop();
            if self.left_in_run == 0 {
                self.left_in_run = length;
                self.run_updated = Some(rng.i64(self.created..Seconds::START.0 - 30));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::Timeline;

    #[test]
    fn a_large_list_has_runs_of_400_150_and_20_rows_per_second() {
        let mut rng = fastrand::Rng::with_seed(3);
        let mut timeline = Timeline::new(6_000, &mut rng);
        let mut per_second: HashMap<i64, usize> = HashMap::new();
        for _ in 0..6_000 {
            let (created, updated) = timeline.next(&mut rng);
            assert!(created <= updated);
            *per_second.entry(updated.0).or_default() += 1;
        }
        for least in [20, 150, 400] {
            assert!(
                per_second.values().any(|rows| *rows >= least),
                "no run of {least}"
            );
        }
    }
}
