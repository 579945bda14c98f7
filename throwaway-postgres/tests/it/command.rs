use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_throwaway-postgres"))
        .args(arguments)
        .output()
        .unwrap()
}

#[test]
fn the_command_finds_its_cluster_in_the_environment() {
    let script =
        r#"psql -X -A -t -d "$DATABASE_URL" -c "select 'fsync is ' || current_setting('fsync')""#;
    let output = run(&["run", "--no-fsync", "--", "sh", "-c", script]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "fsync is off\n",
        "{output:?}"
    );
    assert!(output.status.success());
}

#[test]
fn the_exit_code_is_that_of_the_command() {
    let check = |script, code| {
        assert_eq!(
            run(&["run", "--no-fsync", "--", "sh", "-c", script])
                .status
                .code(),
            Some(code)
        );
    };
    check("exit 7", 7);
    check("kill -TERM $$", 143);
}

#[test]
fn a_command_that_is_not_there_is_one_clear_line() {
    let output = run(&["run", "--no-fsync", "--", "no-such-command"]);
    assert_eq!(output.status.code(), Some(127));
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(
        told.starts_with("throwaway-postgres: could not run no-such-command"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1, "{told}");
}

#[test]
fn the_programs_are_found_and_a_named_directory_comes_first() {
    let found = run(&["find"]);
    assert!(found.status.success(), "{found:?}");
    let directory = String::from_utf8(found.stdout).unwrap();
    let again = Command::new(env!("CARGO_BIN_EXE_throwaway-postgres"))
        .arg("find")
        .env("PG_BIN", directory.trim())
        .env("PATH", "")
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(again.stdout).unwrap(), directory);
}
