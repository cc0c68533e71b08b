//! Decides what a further command in a sandbox sees, may do, says and costs, and that it never outlives its caller.

use crate::node::{TestNode, eventually, status_field, with_node};
use miren_api::resource::SandboxState::Stopped;
use miren_sandbox::{Attach, Exec, ExecError, StartOrder};
use std::collections::BTreeSet;
use std::fs;
use tokio::io::AsyncReadExt;

/// What a command wrote to both outputs, and its status.
pub struct Said {
    pub out: String,
    pub err: String,
    pub status: Result<i32, String>,
}

pub async fn start(node: &TestNode, order: &StartOrder, words: &[&str], has_input: bool) -> Result<Exec, ExecError> {
    let command = words.iter().map(|word| (*word).to_owned()).collect();
    let attach = Attach {
        stdin: has_input,
        terminal: None,
    };
    node.sandboxes().exec(&order.id, command, attach).await
}

pub async fn heard(mut exec: Exec) -> Said {
    let (mut out, mut err) = (String::new(), String::new());
    let (read, wrote) = tokio::join!(
        exec.streams.stdout.read_to_string(&mut out),
        exec.streams.stderr.read_to_string(&mut err)
    );
    read.and(wrote).expect("both outputs");
    let status = exec.end.wait().await;
    Said { out, err, status }
}

async fn run(node: &TestNode, order: &StartOrder, script: &str) -> Said {
    heard(
        start(node, order, &["sh", "-c", script], false)
            .await
            .expect("a command"),
    )
    .await
}

async fn stop(node: &mut TestNode, order: &StartOrder) {
    node.sandboxes().kill(&order.id, "test over");
    node.until(&order.id, Stopped).await;
}

/// Processes in the cgroup of a sandbox.
fn processes(node: &TestNode, order: &StartOrder) -> BTreeSet<String> {
    let group = format!("miren-{}/{}/cgroup.procs", node.config.name, order.id);
    let old = fs::read_to_string(format!("/sys/fs/cgroup/pids/{group}"));
    let text = old.or_else(|_| fs::read_to_string(format!("/sys/fs/cgroup/{group}")));
    text.expect("a cgroup").lines().map(str::to_owned).collect()
}

#[test]
fn it_speaks_through_three_pipes_and_its_status() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        node.run(&order).await;
        let script = "cat; echo oops >&2; exit 7";
        let mut exec = start(node, &order, &["sh", "-c", script], true)
            .await
            .expect("a command");
        let mut stdin = exec.streams.stdin.take().expect("a pipe");
        stdin.write_all(b"hello").await.expect("it reads");
        stdin.end().await;
        let said = heard(exec).await;
        assert_eq!(
            (said.out.as_str(), said.err.as_str(), said.status),
            ("hello", "oops\n", Ok(7))
        );
        let said = run(node, &order, "cat; kill -9 $$").await;
        assert_eq!(
            (said.out.as_str(), said.status),
            ("", Ok(137)),
            "without input there is none to wait for"
        );
        let size = 20 << 20;
        let said = run(node, &order, &format!("head -c {size} /dev/zero")).await;
        assert_eq!((said.out.len(), said.status), (size, Ok(0)));
        stop(node, &order).await;
    });
}

#[test]
fn it_is_where_the_command_of_the_sandbox_is_and_may_do_no_more() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        let running = node.run(&order).await;
        let said = run(
            node,
            &order,
            "for n in pid net mnt uts ipc cgroup; do readlink /proc/self/ns/$n /proc/1/ns/$n; done",
        )
        .await;
        let names: Vec<&str> = said.out.lines().collect();
        assert_eq!(names.len(), 12, "{}", said.err);
        assert!(names.chunks(2).all(|pair| pair[0] == pair[1]), "{names:?}");
        let pid = running.facts.pid.expect("a pid");
        let init = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        let said = run(node, &order, "cat /proc/self/status").await;
        for field in [
            "Seccomp",
            "NoNewPrivs",
            "CapBnd",
            "CapEff",
            "CapPrm",
            "CapInh",
            "Uid",
            "Gid",
        ] {
            assert_eq!(status_field(&said.out, field), status_field(&init, field), "{field}");
        }
        assert_eq!(status_field(&said.out, "Seccomp"), "2");
        let said = run(
            node,
            &order,
            "cat /proc/self/cgroup; pwd; echo $PORT; ls -l /proc/self/fd; hostname",
        )
        .await;
        let (groups, rest) = said.out.split_once("/app\n").expect("its folder");
        assert!(groups.lines().all(|line| line.ends_with(":/")), "{groups}");
        let lines: Vec<&str> = rest.lines().collect();
        assert_eq!((lines[0], *lines.last().expect("a name")), ("3000", order.id.as_str()));
        assert!(!rest.contains("socket:"), "a descriptor of ours is open in it: {rest}");
        let said = run(node, &order, "unshare --user true").await;
        assert_ne!(said.status, Ok(0), "the filter lets a namespace be made");
        stop(node, &order).await;
    });
}

#[test]
fn it_ends_with_its_caller_and_with_its_sandbox() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        node.run(&order).await;
        let before = processes(node, &order);
        let exec = start(node, &order, &["sleep", "600"], true).await.expect("a command");
        assert_eq!(processes(node, &order).len(), before.len() + 1);
        drop(exec);
        eventually("the command to end", || processes(node, &order) == before).await;
        let mut exec = start(node, &order, &["sleep", "600"], false).await.expect("a command");
        stop(node, &order).await;
        assert_eq!(exec.end.wait().await, Ok(137));
        drop(exec);
        node.sandboxes().drained().await;
        let gone = start(node, &order, &["true"], false).await.err().expect("no sandbox");
        assert!(matches!(gone, ExecError::NotThere(_)), "{gone}");
    });
}

#[test]
fn only_so_many_run_at_a_time_and_one_that_cannot_run_is_named() {
    with_node(async |node| {
        let order = node.order("listen 0.0.0.0");
        node.run(&order).await;
        let why = start(node, &order, &["no-such-program", "x"], false)
            .await
            .err()
            .expect("no program");
        assert_eq!(why.to_string(), "command not found: no-such-program");
        let mut running = Vec::new();
        let full = loop {
            match start(node, &order, &["sleep", "600"], false).await {
                Ok(exec) => running.push(exec),
                Err(error) => break error,
            }
        };
        assert!(matches!(full, ExecError::TooMany(_)), "{full}");
        assert_eq!(running.len(), 8);
        running.clear();
        eventually("the commands to end", || processes(node, &order).len() == 1).await;
        let execs = node
            .config
            .run_dir
            .join("sandboxes")
            .join(order.id.as_str())
            .join("execs");
        eventually("their pipes to go", || {
            fs::read_dir(&execs).is_ok_and(|mut left| left.next().is_none())
        })
        .await;
        assert_eq!(run(node, &order, "exit 0").await.status, Ok(0));
        stop(node, &order).await;
    });
}
