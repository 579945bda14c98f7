//! Examples without a sync.

use crate::program::Program;

#[test]
fn the_workflow_greets_and_greets_again_from_its_journal() {
    let hello = Program::new("hello_workflow");
    for _ in 0..2 {
        let ended = hello.run(&[]);
        assert_eq!(
            (ended.code, ended.out.as_str()),
            (Some(0), "hello, world\n"),
            "{}",
            ended.err
        );
    }
}

#[test]
fn the_graph_shows_the_order_and_both_pictures() {
    let ended = Program::new("dependency_graph").run(&[]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let place = |text: &str| {
        ended
            .out
            .find(text)
            .unwrap_or_else(|| panic!("no {text} in {}", ended.out))
    };
    assert!(place("Campus needs") < place("Person needs"));
    assert!(place("Person needs") < place("Email needs"));
    assert!(ended.out.contains("digraph dependencies") && ended.out.contains("flowchart LR"));
}
