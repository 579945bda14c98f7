//! Processor time: less noisy than the clock on the wall, and it tells the program from the database.

use anyhow::Context;

use crate::{
    report::Figure,
    server::{Server, server_pid},
};

/// The unit of `/proc/PID/stat`, the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of processor time that were used so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CpuTime {
    program: f64,
    /// Of all processes of a PostgreSQL that this program started.
    postgres: Option<f64>,
}

impl CpuTime {
    pub(crate) fn now(server: &Server) -> anyhow::Result<Self> {
        let (_, program) = parent_and_seconds("self").context("cannot read /proc/self/stat")?;
        let postgres = server_pid(server).map(seconds_of_children).transpose()?;
        Ok(Self { program, postgres })
    }

    /// What was used between then and now.
    pub(crate) fn since(self, then: Self) -> Self {
        let postgres = self.postgres.zip(then.postgres);
        Self {
            program: self.program - then.program,
            postgres: postgres.map(|(now, then)| now - then),
        }
    }
}

/// The processor time of each of `count` things a round, in microseconds.
pub(crate) fn figures(of_each: [&'static str; 2], rounds: &[CpuTime], count: f64) -> Vec<Figure> {
    let each = |seconds: f64| seconds * 1e6 / count;
    let program: Vec<_> = rounds.iter().map(|round| each(round.program)).collect();
    let postgres: Vec<_> = rounds
        .iter()
        .filter_map(|round| round.postgres.map(each))
        .collect();
    let mut figures = vec![Figure::of(of_each[0], "µs", &program)];
    if !postgres.is_empty() {
        figures.push(Figure::of(of_each[1], "µs", &postgres));
    }
    figures
}

fn seconds_of_children(parent: u32) -> anyhow::Result<f64> {
    let mut seconds = 0.0;
    for entry in std::fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().filter(|name| name.parse::<u32>().is_ok()) else {
            continue;
        };
        // A process may end while it is looked at.
        if let Some((of, used)) = parent_and_seconds(pid)
            && of == parent
        {
            seconds += used;
        }
    }
    Ok(seconds)
}

/// The parent of a process, and the processor time that it used itself.
fn parent_and_seconds(pid: &str) -> Option<(u32, f64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold blanks and parentheses itself.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ');
    let parent = fields.nth(1)?.parse().ok()?;
    let user: f64 = fields.nth(9)?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((parent, (user + system) / TICKS_PER_SECOND))
}
