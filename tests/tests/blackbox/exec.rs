//! A command run in a sandbox by the CLI, as a user has it: its pipes, its status, and that nothing of it stays.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use miren_blackbox::{AppFolder, Node, Output, wait_until};

const LIMIT: Duration = Duration::from_secs(20);

/// Whether a process of this name runs in the sandbox.
fn runs(node: &Node, sandbox: &str, name: &str) -> bool {
    let script = "for p in /proc/[0-9]*; do cat $p/comm; done";
    let output = node.cli.call(&["sandbox", "exec", sandbox, "--", "sh", "-c", script]);
    assert_eq!(output.code, 0, "{output}");
    output.stdout.lines().any(|line| line == name)
}

#[test]
fn a_command_in_a_sandbox_has_the_pipes_and_the_status_of_its_caller_and_ends_with_it() {
    let node = Node::start();
    let app = AppFolder::rust("inside").fixed(1);
    node.deploy(&app);
    let id = node.running("inside")[0].id.to_string();
    let script = "cat; echo to the other >&2; exit 9";
    let mut command = node
        .cli
        .command(&["sandbox", "exec", "-i", &id, "--", "sh", "-c", script]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the command");
    child
        .stdin
        .take()
        .expect("a pipe")
        .write_all(b"from here")
        .expect("it reads");
    let done = child.wait_with_output().expect("its end");
    assert_eq!(done.status.code(), Some(9));
    assert_eq!(
        (&*done.stdout, &*done.stderr),
        (&b"from here"[..], &b"to the other\n"[..])
    );

    // The whole of what it writes, by the beginning of an id, with options of its own.
    let output = node.cli.call(&[
        "sandbox",
        "exec",
        &id[..id.len() - 2],
        "--",
        "head",
        "-c",
        "3000000",
        "/dev/zero",
    ]);
    assert_eq!((output.code, output.stdout.len()), (0, 3_000_000));
    let absent = node.cli.call(&["sandbox", "exec", &id, "--", "no-such-program"]);
    assert_eq!(absent.code, 1, "{absent}");
    assert!(absent.stderr.contains("command not found: no-such-program"), "{absent}");
    let nowhere: Output = node.cli.call(&["sandbox", "exec", "sb-nowhere", "--", "true"]);
    assert_eq!(nowhere.code, 3, "{nowhere}");

    let mut lasting = node.cli.command(&["sandbox", "exec", "-i", &id, "--", "sleep", "600"]);
    let mut lasting = lasting.stdin(Stdio::piped()).spawn().expect("the command");
    let seen = |wanted: bool| {
        wait_until("the command in the sandbox", LIMIT, || {
            match runs(&node, &id, "sleep") == wanted {
                true => Ok(()),
                false => Err(format!("it is there: {}", !wanted)),
            }
        });
    };
    seen(true);
    lasting.kill().expect("a signal");
    lasting.wait().expect("its end");
    seen(false);
    assert_eq!(node.running("inside")[0].id.to_string(), id);
    node.stop();
}
