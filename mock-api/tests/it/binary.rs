//! The program, started as a person starts it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use crate::source::{client, receive};

/// A running program; killed if a test fails before it stops.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It has usually stopped already, and then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(arguments: &[&str]) -> (Program, Vec<String>) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mock-api"));
    let child = command
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut program = Program(child.unwrap());
    let out = BufReader::new(program.0.stdout.take().unwrap());
    let mut lines = Vec::new();
    for line in out.lines() {
        let line = line.unwrap();
        let last = line.starts_with("data");
        lines.push(line);
        if last {
            break;
        }
    }
    (program, lines)
}

fn word(lines: &[String], start: &str, nth: usize) -> String {
    let line = lines.iter().find(|line| line.starts_with(start)).unwrap();
    line.split_whitespace().nth(nth).unwrap().to_owned()
}

#[tokio::test]
async fn the_program_prints_where_it_is_serves_and_stops_on_sigterm() {
    let (mut program, lines) = start(&["--people", "25", "--orgs", "2", "--rate-limit", "0"]);
    let url = format!("{}/people/v2/people", word(&lines, "api", 1));
    let request = client().get(url).bearer_auth(word(&lines, "org 1", 3));
    let got = receive(request).await.unwrap();
    assert_eq!(got.body["meta"]["total_count"], 25);
    let counts = client().get(format!("{}/counts", word(&lines, "admin", 1)));
    assert_eq!(receive(counts).await.unwrap().body["person"], 25);

    let pid = nix::unistd::Pid::from_raw(program.0.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(program.0.wait().unwrap().success());
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_mock-api"));
    let output = command
        .args(["--people", "1", "--port", &port])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains(&format!("cannot listen on 127.0.0.1:{port}")),
        "{message}"
    );
}
