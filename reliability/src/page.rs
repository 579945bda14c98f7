//! The page: what was found, in tables.

use std::fmt::{Display, Write as _};

use crate::findings::{Bug, Campaign, Findings, Mutant, REAL, Simulated, Variant};

const PROMISE: &str = "\
The promise: journal records exist exactly once and in order. An activity whose result is journaled never runs again; any other runs at least \
once, at most 1 + the crashes and lost leases during it. A transactional step happens exactly once. A signal, a timer, a child's result is \
delivered exactly once. Killing any process at any instruction loses no committed work.";

const NOT_TESTED: &str = "\
- Loss of power: clusters run without fsync, for no fault here takes the machine down with its disk cache.
- Several machines: all processes are on one. A proxy stands for the network, and a skewed clock for another machine's.
- Outside of the simulator: a clock that runs at another rate, leaps or stands still.
- In the simulator: clients that await results or answers; a step or a signal that arrives after the database was asked what became of it.";

/// Writes the page. It is a function of the findings.
pub(crate) fn of(findings: &Findings) -> String {
    let Findings {
        command,
        machine,
        model,
        simulator,
        mutants,
        campaigns,
        bugs: worker_bugs,
    } = findings;
    let verdict = match findings.hold() {
        true => "**Nothing broke the promise, and every deliberate bug was found.**",
        false => "**The promise was broken, or a deliberate bug was not found: see below.**",
    };
    [
        format!(
            "# Reliability\n\nWritten by `{}`: {machine}.\nHow it is shown is told in [docs/reliability](reliability/README.md).",
            command
        ),
        PROMISE.into(),
        verdict.into(),
        "## Every state of the protocol".into(),
        states(model),
        "## Simulated".into(),
        simulated(simulator),
        "## Deliberate bugs in the simulator's journal".into(),
        bugs(mutants),
        "## Torture: real processes, databases and faults".into(),
        torture(campaigns),
        "## Deliberate bugs in the journal of real workers".into(),
        bugs_of_workers(worker_bugs),
        "## Not tested".into(),
        not_tested(campaigns),
    ]
    .join("\n\n")
        + "\n"
}

/// A table of Markdown.
struct Rows(String);

impl Rows {
    fn new(header: &[&str]) -> Self {
        let line = "---|".repeat(header.len());
        Self(format!("| {} |\n|{line}", header.join(" | ")))
    }

    fn add(&mut self, cells: &[&dyn Display]) {
        self.0.push_str("\n|");
        for cell in cells {
            let _ = write!(self.0, " {cell} |");
        }
    }
}

fn states(model: &[Variant]) -> String {
    let mut rows = Rows::new(&["variant", "states", "what does not hold"]);
    for found in model {
        let broken = match (found.broken.is_empty(), found.variant == REAL) {
            (true, true) => "nothing".into(),
            (true, false) => "**not caught**".into(),
            (false, _) => found.broken.join("; "),
        };
        rows.add(&[&found.variant, &Count(found.states), &broken]);
    }
    rows.0 + "\n\nThe search of a variant ends at its first failures."
}

fn simulated(simulated: &Simulated) -> String {
    let Simulated {
        from,
        seeds,
        violations,
        seconds,
        figures,
    } = simulated;
    let mut rows = Rows::new(&[
        "seeds",
        "violations",
        "runs",
        "records",
        "commits",
        "attempts",
        "steps",
        "signals",
        "crashes",
        "nodes declared dead",
        "simulated",
        "took",
    ]);
    let last = from + seeds.saturating_sub(1);
    rows.add(&[
        &format!("{} to {}", Count(*from), Count(last)),
        violations,
        &Count(figures.runs),
        &Count(figures.records),
        &Count(figures.commits),
        &Count(figures.attempts),
        &Count(figures.transactions),
        &Count(figures.signals),
        &Count(figures.crashes),
        &Count(figures.dead_nodes),
        &format!("{} h", figures.millis / 3_600_000),
        &format!("{seconds:.0} s"),
    ]);
    rows.0
}

fn bugs(mutants: &[Mutant]) -> String {
    let mut rows = Rows::new(&["bug", "what it does", "caught after"]);
    for Mutant {
        mutant,
        what,
        caught_after,
    } in mutants
    {
        let what = what.as_deref().unwrap_or_default();
        let caught = match caught_after {
            Some(1) => "1 seed".into(),
            Some(seeds) => format!("{} seeds", Count(*seeds)),
            None => "**not caught**".into(),
        };
        rows.add(&[mutant, &what, &caught]);
    }
    rows.0
}

fn bugs_of_workers(bugs: &[Bug]) -> String {
    let mut rows = Rows::new(&["bug", "what it does", "fault", "caught after", "rule"]);
    for bug in bugs {
        let caught = match bug.caught_after {
            Some(strikes) => format!("{} strikes", Count(strikes)),
            None => "**not caught**".into(),
        };
        let fault = format!("{} on {}", bug.fault, bug.database);
        let rule = bug.rule.as_deref().unwrap_or_default();
        rows.add(&[&bug.mutant, &bug.what, &fault, &caught, &rule]);
    }
    rows.0
}

fn torture(campaigns: &[Campaign]) -> String {
    let mut rows = Rows::new(&[
        "fault",
        "database",
        "struck",
        "violations",
        "runs",
        "records",
        "recovery p50",
        "p99",
        "what it is",
    ]);
    let took_place = || {
        campaigns
            .iter()
            .filter(|campaign| campaign.skipped.is_none())
    };
    for campaign in took_place() {
        rows.add(&[
            &campaign.fault,
            &campaign.database,
            &Count(campaign.struck),
            &campaign.broken().count(),
            &Count(campaign.runs),
            &Count(campaign.records),
            &Milliseconds(campaign.recovery_p50),
            &Milliseconds(campaign.recovery_p99),
            &campaign.what,
        ]);
    }
    let sum = |count: fn(&Campaign) -> u64| Count(took_place().map(count).sum());
    let mut text = rows.0;
    let _ = write!(
        text,
        "\n\nIn all {} faults struck. {} runs with {} records, {} tries of activities and {} transactional steps of {} worker processes \
         were checked, after {:.0} minutes under fire, several campaigns side by side. *Recovery* is the time from the fault to the next committed record: of the runs \
         that the victim held where the victim is one process, of any run where the fault meets all.",
        sum(|campaign| campaign.struck),
        sum(|campaign| campaign.runs),
        sum(|campaign| campaign.records),
        sum(|campaign| campaign.activities),
        sum(|campaign| campaign.transactions),
        sum(|campaign| campaign.workers),
        took_place()
            .map(|campaign| campaign.phases.fire)
            .sum::<f64>()
            / 60.0,
    );
    for campaign in campaigns {
        for thin in campaign.thin_rounds() {
            let _ = write!(
                text,
                "\n\n- {} on {}: the last round showed too little ({}), and the fault was left alone.",
                campaign.fault, campaign.database, thin.detail
            );
        }
        for violation in campaign.broken() {
            let _ = write!(
                text,
                "\n\n- {} on {}, seed {}: {}: {}",
                campaign.fault, campaign.database, campaign.seed, violation.rule, violation.detail
            );
        }
    }
    text
}

fn not_tested(campaigns: &[Campaign]) -> String {
    let mut text = NOT_TESTED.to_owned();
    for campaign in campaigns {
        if let Some(reason) = &campaign.skipped {
            let _ = write!(
                text,
                "\n- {} on {}: {reason}.",
                campaign.fault, campaign.database
            );
        }
    }
    text
}

/// A number with its thousands apart.
struct Count(u64);

impl Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.chars().enumerate() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_str(",")?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

struct Milliseconds(Option<f64>);

impl Display for Milliseconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{value:.0} ms"),
            None => f.write_str("-"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::findings::Violation;

    #[test]
    fn thousands_stand_apart() {
        let counts = [0, 999, 1_000, 1_234_567].map(|count| Count(count).to_string());
        assert_eq!(counts, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn what_was_not_looked_at_does_not_hold() {
        let text = include_str!("../tests/broken.json");
        let sound = || {
            let mut findings: Findings = serde_json::from_str(text).unwrap();
            findings.campaigns[0].violations.clear();
            findings.mutants[1].caught_after = Some(9);
            findings
        };
        assert!(sound().hold());
        let mut thin = sound();
        thin.campaigns[0].violations.push(Violation {
            rule: "something happened".into(),
            detail: "4 of 11 faults struck".into(),
        });
        assert!(thin.hold() && of(&thin).contains("showed too little (4 of 11 faults struck)"));
        let lacks: [fn(&mut Findings); 7] = [
            |findings| findings.campaigns[0].struck = findings.campaigns[0].cycles / 3,
            |findings| drop(findings.model.remove(0)),
            |findings| findings.simulator.seeds = 0,
            |findings| findings.mutants.clear(),
            |findings| findings.campaigns.clear(),
            |findings| findings.bugs.clear(),
            |findings| findings.bugs[0].caught_after = None,
        ];
        for lack in lacks {
            let mut findings = sound();
            lack(&mut findings);
            assert!(!findings.hold(), "{findings:?}");
        }
    }

    #[test]
    fn a_broken_promise_is_told_first_and_in_full() {
        let findings: Findings =
            serde_json::from_str(include_str!("../tests/broken.json")).unwrap();
        let page = of(&findings);
        assert!(!findings.hold());
        assert!(page.contains("**The promise was broken"), "{page}");
        assert!(
            page.contains("- kill on sqlite, seed 7: no holes: position 3"),
            "{page}"
        );
        assert!(
            page.contains("| blind-retry | It retries. | **not caught** |"),
            "{page}"
        );
        assert!(
            page.contains("- skewed-clocks on postgres: no library."),
            "{page}"
        );
    }
}
