//! Code that must not compile, and the words in which it does not.

use std::process::Command;

/// The compiler whose words are beside the cases. Others say the same in other words.
const COMPILER: &str = "rustc 1.95.";

#[test]
fn the_compiler_refuses_what_cannot_work_and_says_what_to_do() {
    let version = version_of(&std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into()));
    if !version.starts_with(COMPILER) {
        eprintln!("SKIPPED: the words are those of {COMPILER}*, and this is {version}");
        return;
    }
    trybuild::TestCases::new().compile_fail("tests/it/refused/*.rs");
}

fn version_of(compiler: &str) -> String {
    let output = Command::new(compiler).arg("--version").output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}
