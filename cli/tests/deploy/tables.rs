//! Every list command on terminals of several widths: one line a row, no wider than the terminal, every id whole.

use super::answers::{Answers, preview};
use super::terminal::{miren, results_on_terminal};
use serde_json::{Value, json};
use std::path::PathBuf;

const WIDTHS: [u16; 4] = [80, 100, 120, 200];
const APP: &str = "a-shop-with-a-rather-long-name";
const REASON: &str = "exited with code 1: Error: Cannot find module 'express', 需要 at Module._resolve (node:internal/modules)\n  and so on";

fn many(one: &Value) -> Value {
    json!({"items": [one, one]})
}

fn version() -> String {
    format!("{APP}-v0123456789")
}

fn sandbox(state: &str) -> Value {
    json!({
        "id": "sb-0123456789", "app": APP, "service": "background-worker", "version": version(), "pool": "pool-0123456789",
        "state": state, "reason": REASON, "ip": "fd00:1234:5678:9abc:def0:1234:5678:9abc", "port": 3000, "pid": 1, "slot": 1,
        "generation": 1, "node": "here", "created_at": "2026-01-02T03:04:05Z", "running_at": null, "ended_at": null,
    })
}

fn pool() -> Value {
    json!({
        "id": "pool-0123456789", "app": APP, "service": "background-worker", "spec_hash": "x",
        "versions": vec![version(); 6], "desired": 20, "current": 20, "ready": 20, "crash_count": 7, "last_crash": REASON,
        "cooldown_until": "2999-01-02T03:04:05Z", "state": "cooldown",
    })
}

fn deploy() -> Value {
    json!({
        "id": "dep-0123456789", "app": APP, "version": version(), "seq": 12345, "status": "ROLLED_BACK", "pool": "pool-1",
        "reused": false, "urls": [], "started_at": "2026-01-02T03:04:05Z", "finished_at": "2026-01-02T03:14:07.5Z",
        "error": REASON, "steps": [],
    })
}

fn app() -> Value {
    let hosts: Vec<String> = (0..9).map(|number| format!("shop-{number}.example.com")).collect();
    json!({"name": APP, "version": version(), "health": "degraded", "ready": 1, "desired": 20, "routes": hosts})
}

fn answers() -> Answers {
    let mut preview = preview("feature-of-a-long-branch-name", 1);
    preview["version"] = json!(version());
    preview["urls"] = json!([format!("http://feature-of-a-long-branch-name.{APP}.example.com:8080")]);
    let route = json!({"host": format!("{APP}.eu-central-1.example.com"), "app": APP, "service": "background-worker",
                       "default": true, "wildcard": true, "timeout_ms": 61_000, "maintenance": {"retry_after": 86_400}});
    let disk = json!({"name": "uploads-of-everybody", "app": APP, "provider": "loop", "size_gb": 2048, "filesystem": "btrfs",
                      "used_bytes": 1_099_511_627_776_u64, "state": "damaged", "reason": REASON,
                      "leased_by": vec!["sb-0123456789"; 7], "created_at": null});
    let variable = json!({"name": "SETTINGS_OF_EVERYTHING", "value": "長い ".repeat(99), "service": "background-worker",
                          "source": "manual"});
    let version = json!({"version": version(), "app": APP, "status": "ephemeral", "label": "feature-of-a-long-branch-name",
                         "expires_at": "2999-01-02T03:04:05Z", "created_at": "2026-01-02T03:04:05Z", "pool": "pool-0123456789"});
    let blocker = json!({"id": "sb-0123456789", "state": "DRAINING", "since": "2026-01-02T03:04:05Z", "why": REASON});
    let node = json!({
        "node": "here", "id": "node-1", "state": "DRAINING", "phase": "DRAINING", "gate": "open", "epoch": 3, "generation": 0,
        "cordoned": true, "waits_for": null, "admitted": 0, "starts": 0, "requests": 0, "sandboxes": {}, "clean_ups": 0,
        "since": null, "deadline": null, "overdue": false, "blockers": [blocker, blocker], "more_blockers": 5, "errors": [],
    });
    let run = json!({
        "id": "sb-0123456789", "app": APP, "version": format!("{APP}-v0123456789"), "service": "background-worker",
        "command": "sh -c 'sleep 1; ".repeat(9), "status": "FAILED", "exit_code": 137, "reason": REASON,
        "started_at": "2026-01-02T03:04:05Z", "ended_at": "2026-01-02T03:04:06Z",
    });
    Answers::of([
        ("GET /v1/apps", many(&app())),
        ("GET /v1/apps/a-shop-with-a-rather-long-name", app()),
        ("GET /v1/apps/a-shop-with-a-rather-long-name/versions", many(&version)),
        ("GET /v1/apps/a-shop-with-a-rather-long-name/deploys", many(&deploy())),
        ("GET /v1/apps/a-shop-with-a-rather-long-name/ephemeral", many(&preview)),
        ("GET /v1/apps/a-shop-with-a-rather-long-name/env", many(&variable)),
        ("GET /v1/apps/a-shop-with-a-rather-long-name/runs", many(&run)),
        ("GET /v1/routes", many(&route)),
        ("GET /v1/pools", many(&pool())),
        (
            "GET /v1/sandboxes",
            json!({"items": [sandbox("RUNNING"), sandbox("RUNNING"), sandbox("DEAD")]}),
        ),
        ("GET /v1/disks", many(&disk)),
        ("GET /v1/node", node),
    ])
}

/// Each with the first header of its table, what a row of it begins with, and how many rows there are.
const LISTS: [(&str, &str, &str, usize); 13] = [
    ("app list", "NAME", APP, 2),
    (
        "app versions",
        "VERSION",
        "a-shop-with-a-rather-long-name-v0123456789",
        2,
    ),
    ("app status", "ID", "pool-0123456789", 2),
    ("app status", "LABEL", "feature-of-a-long-branch-name", 2),
    (
        "route list",
        "HOST",
        "a-shop-with-a-rather-long-name.eu-central-1.example.com",
        2,
    ),
    ("pool list", "ID", "pool-0123456789", 2),
    ("sandbox list --all", "ID", "sb-0123456789", 3),
    ("disk list", "NAME", "uploads-of-everybody", 2),
    ("ephemeral list", "LABEL", "feature-of-a-long-branch-name", 2),
    ("deploy list", "ID", "dep-0123456789", 2),
    ("app runs", "ID", "sb-0123456789", 2),
    ("env list", "NAME", "SETTINGS_OF_EVERYTHING", 2),
    ("node status", "ID", "sb-0123456789", 2),
];

/// The rows of the table with this header, below it.
fn rows<'t>(text: &'t str, header: &str) -> Vec<&'t str> {
    let mut lines = text.lines();
    let begins = |line: &str| line.split(' ').next() == Some(header);
    lines
        .by_ref()
        .find(|line| begins(line))
        .unwrap_or_else(|| panic!("no {header}: {text}"));
    lines.take_while(|line| !line.is_empty()).collect()
}

async fn seen(line: &str, socket: PathBuf, columns: Option<u16>) -> String {
    let mut command = miren(line, &socket);
    command.env("MIREN_APP", APP).args(["--color", "never"]);
    let look = move || match columns {
        Some(columns) => {
            let seen = results_on_terminal(command, columns);
            assert_eq!(seen.exit, 0, "{}{}", seen.terminal, seen.err);
            seen.terminal
        }
        None => String::from_utf8(command.output().unwrap().stdout).unwrap(),
    };
    tokio::task::spawn_blocking(look).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g14_every_list_has_one_line_a_row_and_whole_ids_on_every_terminal() {
    let server = answers();
    for (line, header, id, count) in LISTS {
        for width in WIDTHS {
            let text = seen(line, server.socket(), Some(width)).await;
            let rows = rows(&text, header);
            assert!(rows.len() >= count, "{line} at {width}: {text}");
            for row in &rows[..count] {
                let whole = row
                    .strip_prefix(id)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with("  "));
                assert!(whole, "{line} at {width}, {row:?}: {text}");
                let taken = miren_cli::shown::width(row);
                assert!(taken <= usize::from(width), "{line} at {width} takes {taken}: {row:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g14_ids_beside_the_first_are_whole_or_not_there() {
    let server = answers();
    for (line, header, ..) in LISTS {
        for width in WIDTHS {
            let text = seen(line, server.socket(), Some(width)).await;
            for row in rows(&text, header) {
                for begin in ["sb-", "pool-", "dep-", "-v0"] {
                    for (at, _) in row.match_indices(begin) {
                        let id: String = row[at..]
                            .chars()
                            .take_while(|c| c.is_ascii_alphanumeric() || *c == '-')
                            .collect();
                        assert!(id.ends_with("0123456789"), "{line} at {width}: {id:?} in {row:?}");
                    }
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g14_what_is_left_out_for_a_terminal_is_in_a_pipe_whole_and_on_one_line() {
    let server = answers();
    let piped = seen("sandbox list", server.socket(), None).await;
    let row = piped.lines().nth(1).unwrap();
    assert!(row.ends_with(&REASON.replace('\n', "\\n")), "{row}");
    assert!(row.contains("pool-0123456789") && row.contains("[fd00:"), "{row}");
    let narrow = seen("sandbox list", server.socket(), Some(80)).await;
    assert!(narrow.contains('…') && !narrow.contains("POOL"), "{narrow}");
    let shown = server.json("sandbox list").await.document();
    assert_eq!(shown[0]["reason"], REASON);
}

#[tokio::test]
async fn g14_sandboxes_that_have_ended_are_shown_when_they_are_asked_for() {
    let server = answers();
    let usual = server.table("sandbox list").await;
    assert_eq!(usual.out.lines().count(), 3, "{}", usual.out);
    assert_eq!(usual.err, "1 more have ended; --all shows them\n");
    assert_eq!(server.table("sandbox list --all").await.out.lines().count(), 4);
    let document = |outcome: super::server::Outcome| outcome.document().as_array().unwrap().len();
    let json = server.json("sandbox list").await;
    assert_eq!((json.err.clone().as_str(), document(json)), ("", 2));
    assert_eq!(document(server.json("sandbox list --all").await), 3);
    // The stub does not filter; what it answers is what was asked for.
    assert_eq!(document(server.json("sandbox list --state dead").await), 3);
}
