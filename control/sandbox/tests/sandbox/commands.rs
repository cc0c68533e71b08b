//! Decides that a command of plain words needs no shell, and that one for a shell gets it or is told that there is none.

use crate::archive::Archive;
use crate::client::ask;
use crate::images::stop;
use crate::node::with_node;
use miren_api::id::SandboxId;

#[test]
fn g5_plain_words_run_where_there_is_no_shell() {
    with_node(async |node| {
        let (_image, mut order) = Archive::new().order(node).await;
        for command in [
            "/bin/app listen '0.0.0.0'",
            "exec app listen \"0.0.0.0\"",
            "/bin/app \\\n  listen 0.0.0.0\n",
        ] {
            order.id = SandboxId::generate();
            order.service.command = command.into();
            let running = node.run(&order).await;
            assert_eq!(ask(&running, "cwd"), "/", "{command}");
            stop(node, &order).await;
        }
    });
}

#[test]
fn g5_a_shell_that_is_missing_is_told_with_what_it_is_needed_for() {
    with_node(async |node| {
        let (_image, mut order) = Archive::new().order(node).await;
        for (command, told) in [
            (
                "/bin/app listen $HOST",
                "/bin/sh, which it needs for `$`; where there is no shell, a command is plain words",
            ),
            (
                "cd /srv && /bin/app",
                "/bin/sh, which it needs for `&`; where there is no shell, a command is plain words",
            ),
            (
                "VAR=1 /bin/app",
                "/bin/sh, which it needs for `VAR=`; where there is no shell, a command is plain words",
            ),
            (
                "ulimit -n 10",
                "/bin/sh, which it needs for `ulimit`; where there is no shell, a command is plain words",
            ),
            ("exec serve --listen=:8080", "serve"),
            ("/serve --listen=:8080", "/serve"),
            ("/bin/sh start", "/bin/sh"),
        ] {
            order.id = SandboxId::generate();
            order.service.command = command.into();
            let reason = node.fail(&order).await;
            assert!(
                reason.ends_with(&format!("command not found: {told}")),
                "{command}: {reason}"
            );
        }
    });
}

#[test]
fn g5_words_of_a_shell_work_where_there_is_one() {
    with_node(async |node| {
        for (command, asked, told) in [
            ("cd /tmp && exec /app/app listen 0.0.0.0", "cwd", "/tmp"),
            ("MODE='a b' ./app listen 0.0.0.0", "env", "MODE=a b"),
            (
                "ulimit -n 77 && exec ./app listen 0.0.0.0",
                "read/proc/self/limits",
                "77",
            ),
            (
                "echo export MODE=read >/tmp/set; . /tmp/set; exec ./app listen 0.0.0.0",
                "env",
                "MODE=read",
            ),
            ("exec ./app listen ${HOST:-0.0.0.0}", "cwd", "/app"),
            ("if true; then exec ./app listen 0.0.0.0; fi", "cwd", "/app"),
            ("exec ./app listen 0.0.0.0", "cwd", "/app"),
        ] {
            let mut order = node.order("");
            order.service.command = command.into();
            let running = node.run(&order).await;
            let answer = ask(&running, asked);
            assert!(answer.contains(told), "{command}: {answer}");
            stop(node, &order).await;
        }
    });
}
