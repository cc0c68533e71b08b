//! Decides what becomes of a command that runs once: its words, its status, who speaks with it, and the terminal it may have.

use crate::node::{TestNode, with_node};
use futures_util::StreamExt;
use miren_api::exec::TerminalSize;
use miren_api::resource::SandboxState::{Dead, Pending, Running, Stopped};
use miren_sandbox::logs::{LogQuery, read};
use miren_sandbox::{Attach, Exec, OneOff, Output, StartOrder, Streams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncReadExt;

const SIZE: TerminalSize = TerminalSize { rows: 33, columns: 101 };

fn once(node: &TestNode, words: &[&str], attach: Option<Attach>) -> StartOrder {
    let mut order = node.order("listen 0.0.0.0");
    order.service.port = None;
    order.service_name = "run".into();
    order.one_off = Some(OneOff {
        words: words.iter().map(|word| (*word).to_owned()).collect(),
        attach,
    });
    order
}

fn script(node: &TestNode, script: &str, attach: Option<Attach>) -> StartOrder {
    once(node, &["sh", "-c", script], attach)
}

async fn attached(node: &mut TestNode, order: &StartOrder) -> Streams {
    let streams = node.sandboxes().attach(&order.id);
    node.run(order).await;
    streams.await.expect("what it is spoken with through")
}

/// Reads until `wanted` has come; all that came.
async fn hear(output: &mut Output, wanted: &str) -> String {
    let (mut heard, mut buffer) = (String::new(), [0; 4096]);
    while !heard.contains(wanted) {
        let read = output.read(&mut buffer).await.expect("an output");
        assert!(read > 0, "it ended with {heard:?} and without {wanted:?}");
        heard.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    heard
}

#[test]
fn g17_it_runs_its_words_and_its_end_is_no_failure_of_its_start() {
    with_node(async |node| {
        for (words, status, told) in [
            (&["sh", "-c", "echo done; exit 0"][..], 0, "exited with status 0"),
            (&["sh", "-c", "exit 3"], 3, "exited with status 3"),
        ] {
            let order = once(node, words, None);
            node.sandboxes().start(order.clone());
            let ended = node.until(&order.id, Dead).await;
            assert_eq!(ended.facts.exit_code, Some(status), "{ended:?}");
            let reason = ended.reason.expect("a reason");
            assert!(reason.starts_with(told) && !reason.contains("start"), "{reason}");
        }
        let order = once(node, &["sleep", "600"], None);
        let pid = node.run(&order).await.facts.pid.expect("a pid");
        kill(Pid::from_raw(i32::try_from(pid).expect("a pid")), Signal::SIGKILL).expect("a signal");
        assert_eq!(node.until(&order.id, Dead).await.facts.exit_code, Some(137));
        let order = once(node, &["echo", "two  words", "$HOME"], None);
        node.sandboxes().start(order.clone());
        node.until(&order.id, Dead).await;
        let query = LogQuery {
            app: order.app.clone(),
            service: None,
            sandbox: Some(order.id.clone()),
            since: None,
            last: 10,
            follow: false,
        };
        let lines: Vec<_> = read(&node.config.log_dir, query).collect().await;
        let first = lines[0].as_ref().expect("a line");
        assert_eq!(first.line, "two  words $HOME", "no shell reads them");
        let absent = once(node, &["no-such-program"], None);
        let why = node.fail(&absent).await;
        assert!(why.contains("command not found: no-such-program"), "{why}");
    });
}

#[test]
fn g17_a_client_speaks_with_it_through_three_pipes() {
    with_node(async |node| {
        let attach = Attach {
            stdin: true,
            terminal: None,
        };
        let order = script(node, "cat; echo oops >&2; exit 7", Some(attach));
        let mut streams = attached(node, &order).await;
        let mut stdin = streams.stdin.take().expect("a pipe");
        stdin.write_all(b"hello").await.expect("it reads");
        stdin.end().await;
        let (mut out, mut err) = (String::new(), String::new());
        streams.stdout.read_to_string(&mut out).await.expect("an output");
        streams.stderr.read_to_string(&mut err).await.expect("an output");
        let ended = node.until(&order.id, Dead).await;
        assert_eq!((&*out, &*err, ended.facts.exit_code), ("hello", "oops\n", Some(7)));

        // One whose client lets go of it can still be told to end.
        let order = script(
            node,
            "trap 'exit 5' TERM; while :; do sleep 0.01; done",
            Some(Attach::default()),
        );
        drop(attached(node, &order).await);
        node.drain_now(&order.id, "its client has gone");
        node.until(&order.id, Stopped).await;
    });
}

async fn has_a_terminal(streams: &mut Streams) {
    let window = streams.window.take().expect("a window");
    let mut stdin = streams.stdin.take().expect("keys");
    let heard = hear(&mut streams.stdout, "ready").await;
    assert!(heard.contains("/dev/pts/") && heard.contains("33 101"), "{heard:?}");
    window
        .set(TerminalSize { rows: 50, columns: 200 })
        .await
        .expect("a size");
    hear(&mut streams.stdout, "resized 50 200").await;
    stdin.write_all(b"\x03").await.expect("Ctrl-C");
    hear(&mut streams.stdout, "caught").await;
}

/// Ends with 9 at Ctrl-C, and says so when the size changes.
const IN_TERMINAL: &str = "trap 'echo resized $(stty size)' WINCH; trap 'echo caught; exit 9' INT; \
    tty; stty size; echo ready; while :; do sleep 0.01; done";

#[test]
fn g17_it_has_a_terminal_with_its_size_and_keys() {
    with_node(async |node| {
        let attach = Attach {
            stdin: true,
            terminal: Some(SIZE),
        };
        let order = script(node, IN_TERMINAL, Some(attach));
        let mut streams = attached(node, &order).await;
        has_a_terminal(&mut streams).await;
        let ended = node.until(&order.id, Dead).await;
        assert_eq!(ended.facts.exit_code, Some(9));
        let mut rest = Vec::new();
        streams.stdout.read_to_end(&mut rest).await.expect("the end");
    });
}

#[test]
fn g17_a_further_command_has_a_terminal_too_and_again() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        node.run(&order).await;
        let attach = Attach {
            stdin: true,
            terminal: Some(SIZE),
        };
        for _ in 0..2 {
            let words = ["sh", "-c", IN_TERMINAL].map(str::to_owned).to_vec();
            let exec = node.sandboxes().exec(&order.id, words, attach).await;
            let Exec { mut streams, mut end } = exec.expect("a command");
            has_a_terminal(&mut streams).await;
            assert_eq!(end.wait().await, Ok(9));
        }
        node.sandboxes().kill(&order.id, "test over");
        node.until(&order.id, Stopped).await;
    });
}

#[test]
fn g17_one_is_taken_over_by_the_next_daemon_with_its_status() {
    with_node(async |node| {
        let order = script(node, "while ! [ -e /tmp/go ]; do sleep 0.01; done; exit 4", None);
        node.run(&order).await;
        let known = node.known(&order);
        node.kill_daemon().await;
        assert!(node.restart_daemon(vec![known]).await.is_empty(), "it runs as before");
        let touch = ["touch", "/tmp/go"].map(str::to_owned).to_vec();
        let exec = node.sandboxes().exec(&order.id, touch, Attach::default()).await;
        assert_eq!(exec.expect("a command").end.wait().await, Ok(0));
        let ended = node.until(&order.id, Dead).await;
        assert_eq!(ended.facts.exit_code, Some(4));
        assert!(node.states(&order.id).contains(&Running));
    });
}

#[test]
fn g17_one_whose_daemon_went_before_it_was_let_go_on_has_no_status() {
    with_node(async |node| {
        let order = once(node, &["sleep", "600"], None);
        node.run(&order).await;
        let mut known = node.known(&order);
        (known.state, known.facts.pid) = (Pending, None);
        node.kill_daemon().await;
        let processes = node
            .config
            .run_dir
            .join(format!("sandboxes/{}/processes.json", order.id));
        let text = std::fs::read_to_string(&processes).expect("it was written down");
        let waits = text.replace("\"has_begun\":true", "\"has_begun\":false");
        assert_ne!(waits, text);
        std::fs::write(&processes, waits).expect("a file");
        let changes = node.restart_daemon(vec![known]).await;
        let [ended] = &changes[..] else { panic!("{changes:?}") };
        let facts = &ended.facts;
        assert_eq!((ended.state, facts.exit_code, facts.pid), (Dead, None, None));
        let reason = ended.reason.as_deref();
        assert_eq!(
            reason,
            Some("start: the system restarted before its command was started")
        );
    });
}
