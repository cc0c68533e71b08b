//! What a deploy tells on its way: one line that moves on a terminal, a line for each step elsewhere, a summary in a file.

use super::answers::Answers;
use super::server::{app, fake, serve};
use super::terminal::{Seen, all_on_terminal, interrupted_on_terminal, miren, screen};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

async fn off_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(run).await.unwrap()
}

/// `miren deploy` of an app whose deploy ends so, with more arguments and variables of the environment.
async fn deployed(ends_as: &'static str, more: &str, env: &[(&str, &str)], columns: u16) -> Seen {
    let (dir, sockets) = (app(), tempfile::tempdir().unwrap());
    let socket = sockets.path().join("control.sock");
    serve(fake(ends_as), &socket);
    let mut command = miren(&format!("deploy -d {}{more}", dir.path().display()), &socket);
    command.envs(env.iter().copied());
    off_thread(move || all_on_terminal(command, columns)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g16_on_a_terminal_one_line_moves_and_the_result_stays() {
    for (columns, env) in [(80, &[][..]), (200, &[]), (80, &[("NO_COLOR", "1")])] {
        let seen = deployed("SUCCEEDED", "", env, columns).await;
        assert_eq!(seen.exit, 0, "{}", seen.terminal);
        let (rows, wrapped) = screen(&seen.terminal, columns.into());
        assert!(!wrapped, "{:?}", seen.terminal);
        assert_eq!(rows.len(), 2, "{rows:?}");
        assert!(rows[0].starts_with("Deployed shop as shop-v1 in "), "{rows:?}");
        assert_eq!(rows[1], "  http://shop.example.com");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g16_where_lines_are_wanted_or_nothing_can_move_each_step_has_its_line() {
    for (more, env) in [(" -v", &[][..]), ("", &[("TERM", "dumb")])] {
        let seen = deployed("SUCCEEDED", more, env, 80).await;
        for status in ["STAGING", "STARTING", "SWITCHING"] {
            let line = format!("  {status:<12} now {status}\r\n");
            assert_eq!(seen.terminal.matches(&line).count(), 1, "{env:?} {}", seen.terminal);
        }
        assert!(!seen.terminal.contains("looking through"), "{}", seen.terminal);
    }
    let dumb = deployed("SUCCEEDED", " --color never", &[("TERM", "dumb")], 80).await;
    assert!(!dumb.terminal.contains('\x1b'), "{:?}", dumb.terminal);
}

/// A deploy that is being started for ever.
fn endless() -> Answers {
    let steps = json!([{"status": "STARTING", "at": "2026-01-02T03:04:05Z", "message": "version shop-v1: 1 pools, 0 of them reused"}]);
    let deploy = json!({
        "id": "dep-1", "app": "shop", "version": "shop-v1", "seq": 1, "status": "STARTING", "pool": "pool-1", "reused": false,
        "urls": [], "started_at": "2026-01-02T03:04:05Z", "finished_at": null, "steps": steps,
    });
    Answers::of([
        ("POST /v1/apps/shop/deploys", deploy.clone()),
        ("GET /v1/deploys/dep-1", deploy),
        ("GET /v1/deploys/dep-1/events", json!("")),
    ])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g16_ctrl_c_takes_the_line_away_and_leaves_the_terminal_as_it_was() {
    let server = endless();
    for columns in [80, 30] {
        let command = miren("deploy -a shop --version shop-v1", &server.socket());
        let shown = "starting the new";
        let seen = off_thread(move || interrupted_on_terminal(command, columns, shown)).await;
        assert_eq!(seen.exit, 130, "{}", seen.terminal);
        let (rows, _) = screen(&seen.terminal, columns.into());
        assert!(rows.concat().contains("goes on without being watched"), "{rows:?}");
        assert!(!rows.concat().contains(shown), "{rows:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g16_a_narrow_terminal_cuts_the_line_and_never_wraps_it() {
    let server = endless();
    let command = miren("deploy -a shop --version shop-v1", &server.socket());
    let seen = off_thread(move || interrupted_on_terminal(command, 20, "starting")).await;
    let moving = seen.terminal.split("error").next().unwrap_or_default();
    let (rows, wrapped) = screen(moving, 20);
    assert!(!wrapped && rows.len() <= 1, "{rows:?} {:?}", seen.terminal);
}

fn summary(file: &Path) -> Value {
    let text = std::fs::read_to_string(file).unwrap();
    let left = std::fs::read_dir(file.parent().unwrap()).unwrap().count();
    assert_eq!(left, 1, "a draft is left");
    std::fs::remove_file(file).unwrap();
    serde_json::from_str(&text).unwrap()
}

async fn output(mut command: Command) -> i32 {
    off_thread(move || command.output().unwrap().status.code().unwrap()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn g16_a_summary_is_written_whatever_the_outcome() {
    let (dir, place) = (app(), tempfile::tempdir().unwrap());
    let file = place.path().join("summary.json");
    let line = format!("deploy -d {} --summary-json {}", dir.path().display(), file.display());
    for (ends_as, exit, outcome) in [
        ("SUCCEEDED", 0, "succeeded"),
        ("FAILED", 1, "failed"),
        ("SUPERSEDED", 4, "superseded"),
    ] {
        let sockets = tempfile::tempdir().unwrap();
        let socket = sockets.path().join("control.sock");
        serve(fake(ends_as), &socket);
        for format in ["table", "json"] {
            assert_eq!(output(miren(&format!("{line} --format {format}"), &socket)).await, exit);
            let told = summary(&file);
            let facts = json!([
                told["app"],
                told["version"],
                told["deploy"],
                told["outcome"],
                told["exit_code"],
                told["url"]
            ]);
            assert_eq!(
                facts,
                json!(["shop", "shop-v1", "dep-1", outcome, exit, "http://shop.example.com"]),
                "{format}"
            );
            assert!(told["duration_ms"].is_u64() && told["label"].is_null(), "{told}");
            assert_eq!(told["error"].is_null(), exit == 0, "{told}");
        }
    }
    let nowhere = Path::new("/nowhere/control.sock");
    assert_eq!(output(miren(&line, nowhere)).await, 5);
    let told = summary(&file);
    assert_eq!(
        (&told["app"], &told["outcome"], &told["error"]["code"], &told["urls"]),
        (&json!("shop"), &json!("unreachable"), &json!("unreachable"), &json!([]))
    );
    std::fs::write(dir.path().join(".miren/app.toml"), "nmae = 1\n").unwrap();
    assert_eq!(output(miren(&line, nowhere)).await, 1);
    assert_eq!(summary(&file)["error"]["code"], "invalid_config");
    let no_folder = line.replace("summary.json", "none/summary.json");
    assert_eq!(output(miren(&no_folder, nowhere)).await, 1);
}
