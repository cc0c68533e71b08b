//! `miren deploy` and friends, in process, against a small server on a Unix socket.

#[path = "deploy/answers.rs"]
mod answers;
#[path = "deploy/doctor.rs"]
mod doctor;
#[path = "deploy/earlier.rs"]
mod earlier;
#[path = "deploy/env.rs"]
mod env;
#[path = "deploy/ephemeral.rs"]
mod ephemeral;
#[path = "deploy/moving.rs"]
mod moving;
#[path = "deploy/node.rs"]
mod node;
#[path = "deploy/preview.rs"]
mod preview;
#[path = "deploy/required.rs"]
mod required;
#[path = "deploy/routes.rs"]
mod routes;
#[path = "deploy/server.rs"]
mod server;
#[path = "deploy/tables.rs"]
mod tables;
#[path = "deploy/terminal.rs"]
mod terminal;
#[path = "deploy/validate.rs"]
mod validate;

use clap::Parser;
use miren_cli::args::Arguments;
use miren_cli::console::Console;
use miren_cli::options::Format;
use serde_json::{Value, json};
use server::{Captured, Fake, app, fake, miren, serve};
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

#[tokio::test]
async fn a_deploy_is_packed_sent_and_followed_over_a_broken_stream() {
    let dir = app();
    let socket = dir
        .path()
        .parent()
        .unwrap()
        .join(format!("{}.sock", dir.path().file_name().unwrap().display()));
    let fake = fake("SUCCEEDED");
    serve(fake.clone(), &socket);
    let outcome = miren(
        &format!("deploy -d {} -e A=1 -e B=x=y", dir.path().display()),
        &socket,
        Format::Json,
    )
    .await;
    std::fs::remove_file(&socket).unwrap();

    assert_eq!(outcome.exit, 0, "{} {}", outcome.out, outcome.err);
    let mut document: Value = serde_json::from_str(&outcome.out).unwrap();
    assert!(document["duration_ms"].take().is_u64());
    assert_eq!(
        document,
        json!({"app": "shop", "version": "shop-v1", "deploy": "dep-1", "seq": 1, "status": "SUCCEEDED", "pool": "pool-1",
               "reused": false, "urls": ["http://shop.example.com"], "duration_ms": null})
    );
    let seen = fake.seen.lock().unwrap();
    assert_eq!(
        seen.files,
        BTreeSet::from([".miren".into(), ".miren/app.toml".into(), "serve".into()])
    );
    let request = json!({"artifact": "sha256:abc", "env": {"A": "1", "B": "x=y"}});
    assert_eq!(seen.posts, [("/v1/apps/shop/deploys".into(), request)]);
    assert_eq!(seen.key.len(), 32);
    assert_eq!(
        seen.streams,
        [None, Some("2".into())],
        "resumed after the last state it had"
    );
    for status in ["STAGING", "STARTING", "SWITCHING", "SUCCEEDED"] {
        assert_eq!(
            outcome.err.matches(&format!("now {status}")).count(),
            1,
            "{}",
            outcome.err
        );
    }
}

#[tokio::test]
async fn a_failed_deploy_says_why_and_exits_with_1() {
    let dir = app();
    let sockets = tempfile::tempdir().unwrap();
    let socket = sockets.path().join("control.sock");
    serve(fake("FAILED"), &socket);
    let line = format!("deploy -d {}", dir.path().display());
    let outcome = miren(&line, &socket, Format::Table).await;
    assert_eq!((outcome.exit, outcome.out.as_str()), (1, ""));
    assert!(
        outcome
            .err
            .contains("error: deploy dep-1 of shop failed: exited with code 1\n  last words"),
        "{}",
        outcome.err
    );
    assert!(outcome.err.contains("try: miren logs -a shop"), "{}", outcome.err);

    let outcome = miren(&line, &socket, Format::Json).await;
    let document: Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!((outcome.exit, &document["status"]), (1, &json!("FAILED")));
    assert_eq!(document["error"], "exited with code 1\nlast words");
}

#[tokio::test]
async fn a_superseded_deploy_exits_with_4_and_a_detached_one_at_once() {
    let dir = app();
    let sockets = tempfile::tempdir().unwrap();
    let socket = sockets.path().join("control.sock");
    let fake = fake("SUPERSEDED");
    serve(fake.clone(), &socket);
    let line = format!("deploy -d {}", dir.path().display());
    let detached = miren(&format!("{line} --detach"), &socket, Format::Table).await;
    assert_eq!(detached.exit, 0, "{}", detached.err);
    assert!(fake.seen.lock().unwrap().streams.is_empty());
    assert_eq!(miren(&line, &socket, Format::Table).await.exit, 4);
}

#[tokio::test]
async fn an_app_without_a_route_is_told_how_to_get_one() {
    let dir = app();
    let sockets = tempfile::tempdir().unwrap();
    let socket = sockets.path().join("control.sock");
    let urls = Vec::new();
    serve(
        Fake {
            urls,
            ..fake("SUCCEEDED")
        },
        &socket,
    );
    let outcome = miren(&format!("deploy -d {}", dir.path().display()), &socket, Format::Table).await;
    assert!(
        outcome.err.contains("try: miren route set HOST shop"),
        "{}",
        outcome.err
    );
    assert!(outcome.out.starts_with("Deployed shop as shop-v1"), "{}", outcome.out);
}

#[tokio::test]
async fn nobody_listening_is_5_and_a_bad_app_file_is_found_before_that() {
    let dir = app();
    let nowhere = dir.path().join("nowhere.sock");
    let line = format!("deploy -d {}", dir.path().display());
    let outcome = miren(&line, &nowhere, Format::Json).await;
    let document: Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!((outcome.exit, &document["error"]["code"]), (5, &json!("unreachable")));
    assert!(document["error"]["remedy"].as_str().unwrap().contains("miren dev"));

    std::fs::write(dir.path().join(".miren/app.toml"), "nmae = \"shop\"\n").unwrap();
    let outcome = miren(&line, &nowhere, Format::Table).await;
    assert_eq!(outcome.exit, 1);
    assert!(outcome.err.contains("did you mean \"name\""), "{}", outcome.err);
}

#[tokio::test]
async fn what_is_not_there_is_3_and_an_empty_list_is_said_on_stderr() {
    let sockets = tempfile::tempdir().unwrap();
    let socket = sockets.path().join("control.sock");
    serve(fake("SUCCEEDED"), &socket);
    let outcome = miren("app status -a ghost", &socket, Format::Table).await;
    assert_eq!(outcome.exit, 3);
    assert_eq!(
        outcome.err,
        "error: showing app ghost: no app \"ghost\"\n  try: miren app list\n"
    );
    let outcome = miren("app list", &socket, Format::Table).await;
    assert_eq!(
        (outcome.exit, outcome.out.as_str(), outcome.err.as_str()),
        (0, "", "No apps found\n")
    );
    assert_eq!(miren("app list", &socket, Format::Json).await.out, "[]\n");
}

#[tokio::test]
async fn deleting_without_a_terminal_needs_the_flag() {
    if io::IsTerminal::is_terminal(&io::stdin()) {
        // Then there is somebody to ask, which is the other case.
        return;
    }
    let outcome = miren("app delete shop", Path::new("/nowhere.sock"), Format::Table).await;
    assert_eq!(outcome.exit, 2);
    assert!(outcome.err.contains("miren app delete shop -f"), "{}", outcome.err);
}

/// A reader that has gone.
struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_reader_that_has_gone_is_no_error() {
    let arguments = Arguments::try_parse_from(["miren", "completions", "bash"]).unwrap();
    let err = Captured::default();
    let mut console = Console::plain(Box::new(Closed), Box::new(err.clone()), Format::Table);
    let outcome = miren_cli::run(arguments, &mut console).await;
    assert_eq!((console.conclude(outcome).code(), err.text().as_str()), (0, ""));
}
