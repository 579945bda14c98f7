use tidy::{Workspace, sources};

use crate::check;

/// Code that gets time, randomness and ids as arguments, and does no input or output.
const PURE: [&str; 2] = ["sync-core/src", "sync-workflow/src/replay"];

/// What would make it impure, and what to do instead.
const IMPURE: [(&str, &str); 12] = [
    ("SystemTime::now", TIME),
    ("Instant::now", TIME),
    ("Timestamp::now", TIME),
    ("Zoned::now", TIME),
    ("Uuid::new_v4", IDS),
    ("Uuid::now_v7", IDS),
    ("fastrand::", IDS),
    ("tokio::", DRIVER),
    ("sqlx::", DRIVER),
    ("reqwest::", DRIVER),
    ("std::fs", DRIVER),
    ("std::net", DRIVER),
];

const TIME: &str = "take the time as an argument";
const IDS: &str = "take the id or the seed as an argument";
const DRIVER: &str = "return what is to be done, and let the caller do it";

#[test]
fn the_pure_code_reads_no_clock_draws_no_lots_and_does_no_input_or_output() {
    let workspace = Workspace::load().unwrap();
    let mut offences = Vec::new();
    for source in PURE
        .iter()
        .flat_map(|folder| sources(&workspace.root().join(folder)).unwrap())
    {
        for (line, code) in source.code() {
            for (impure, advice) in IMPURE.iter().filter(|(impure, _)| code.contains(impure)) {
                let path = source
                    .path
                    .strip_prefix(workspace.root())
                    .unwrap()
                    .display();
                offences.push(format!("{path}:{line}: `{impure}`: {advice}"));
            }
        }
    }
    check("impure code in a pure module", offences);
}
