//! What was deployed before: listed, shown, cancelled, and serving again.

use super::server::{app, fake, miren, serve};
use miren_cli::options::Format;
use serde_json::{Value, json};

#[tokio::test]
async fn deploys_are_listed_newest_first_over_all_pages() {
    let dir = app();
    let socket = dir.path().join("control.sock");
    serve(fake("SUCCEEDED"), &socket);
    let outcome = miren("deploy list -a shop", &socket, Format::Json).await;
    let document = outcome.document();
    let deploys = document.as_array().unwrap();
    let ids: Vec<&Value> = deploys.iter().map(|deploy| &deploy["id"]).collect();
    assert_eq!(ids, ["dep-3", "dep-2", "dep-1"]);
    let failed = deploys[1].as_object().unwrap();
    let keys = [
        "id",
        "app",
        "version",
        "seq",
        "status",
        "started_at",
        "finished_at",
        "error",
        "steps",
    ];
    for key in keys {
        assert!(failed.contains_key(key), "{key}: {failed:?}");
    }
    assert_eq!(failed["steps"].as_array().unwrap().len(), 4);

    let line = format!("deploy list -d {}", dir.path().display());
    let table = miren(&line, &socket, Format::Table).await.out;
    let row: Vec<&str> = table
        .lines()
        .nth(2)
        .unwrap()
        .split("  ")
        .filter(|cell| !cell.is_empty())
        .collect();
    assert_eq!((row[0], row[3]), ("dep-2", "FAILED"), "{table}");
    assert_eq!(row[5..], ["2.5 s", "exited with code 1"], "{table}");
    assert!(!table.contains("last words"), "{table}");
}

#[tokio::test]
async fn one_deploy_is_shown_with_its_steps() {
    let dir = app();
    let socket = dir.path().join("control.sock");
    serve(fake("FAILED"), &socket);
    // The server's deploy has ended once it was followed.
    miren("rollback -a shop", &socket, Format::Table).await;
    let outcome = miren("deploy show dep-1", &socket, Format::Table).await;
    assert_eq!(outcome.exit, 0, "{}", outcome.err);
    let text = outcome.out;
    assert!(text.contains("Status:  FAILED\n"), "{text}");
    assert!(
        text.contains("Error:   exited with code 1\n         last words\n"),
        "{text}"
    );
    assert!(text.contains("Step:    STAGING        +0.0 s  now STAGING\n"), "{text}");
    let document = miren("deploy show dep-1", &socket, Format::Json).await.document();
    assert_eq!((&document["id"], &document["seq"]), (&json!("dep-1"), &json!(1)));
}

#[tokio::test]
async fn a_deploy_is_cancelled_unless_it_is_too_late() {
    let dir = app();
    let socket = dir.path().join("control.sock");
    let fake = fake("SUCCEEDED");
    serve(fake.clone(), &socket);
    let outcome = miren("deploy cancel dep-1", &socket, Format::Table).await;
    assert_eq!(outcome.exit, 0, "{}", outcome.err);
    assert!(
        outcome.out.starts_with("Cancelled deploy dep-1 of shop"),
        "{}",
        outcome.out
    );
    let posts = std::mem::take(&mut fake.seen.lock().unwrap().posts);
    assert_eq!(posts, [("/v1/deploys/dep-1/cancel".into(), json!({}))]);

    let outcome = miren("deploy cancel dep-2", &socket, Format::Table).await;
    assert_eq!((outcome.exit, outcome.out.as_str()), (4, ""));
    assert_eq!(
        outcome.err,
        "error: cancelling deploy dep-2: dep-2 has moved its traffic\n  try: miren deploy show dep-2\n"
    );
    let outcome = miren("deploy cancel dep-2", &socket, Format::Json).await;
    assert_eq!(
        (outcome.exit, &outcome.document()["error"]["code"]),
        (4, &json!("conflict"))
    );
}

#[tokio::test]
async fn an_existing_version_is_deployed_without_a_folder() {
    let dir = app();
    let socket = dir.path().join("control.sock");
    let fake = fake("SUCCEEDED");
    serve(fake.clone(), &socket);
    let outcome = miren("deploy -a shop --version shop-v0 -e A=1", &socket, Format::Json).await;
    assert_eq!((outcome.exit, &outcome.document()["status"]), (0, &json!("SUCCEEDED")));
    let line = format!("deploy --version shop-v0 --detach -d {}", dir.path().display());
    assert_eq!(miren(&line, &socket, Format::Table).await.exit, 0);

    let seen = fake.seen.lock().unwrap();
    assert_eq!(
        (seen.uploads, seen.streams.len()),
        (0, 2),
        "nothing uploaded, one deploy followed"
    );
    let path = "/v1/apps/shop/deploys".to_owned();
    assert_eq!(
        seen.posts,
        [
            (path.clone(), json!({"version": "shop-v0", "env": {"A": "1"}})),
            (path, json!({"version": "shop-v0"})),
        ]
    );
}

#[tokio::test]
async fn a_rollback_is_followed_and_printed_as_a_deploy() {
    let dir = app();
    let socket = dir.path().join("control.sock");
    let fake = fake("SUCCEEDED");
    serve(fake.clone(), &socket);
    let outcome = miren("rollback -a shop", &socket, Format::Json).await;
    assert_eq!(outcome.exit, 0, "{}", outcome.err);
    let mut document = outcome.document();
    assert!(document["duration_ms"].take().is_u64());
    assert_eq!(
        document,
        json!({"app": "shop", "version": "shop-v1", "deploy": "dep-1", "seq": 1, "status": "SUCCEEDED", "pool": "pool-1",
               "reused": false, "urls": ["http://shop.example.com"], "duration_ms": null})
    );
    assert!(outcome.err.contains("now SWITCHING"), "{}", outcome.err);
    let streams = fake.seen.lock().unwrap().streams.len();
    let detached = miren("rollback -a shop --to shop-v0 --detach", &socket, Format::Table).await;
    assert!(
        detached.out.starts_with("Deploy dep-1 of shop accepted"),
        "{}",
        detached.out
    );

    let seen = fake.seen.lock().unwrap();
    assert_eq!((seen.streams.len(), seen.key.len()), (streams, 32));
    let path = "/v1/apps/shop/rollback".to_owned();
    assert_eq!(
        seen.posts,
        [(path.clone(), json!({})), (path, json!({"to": "shop-v0"}))]
    );
}

#[tokio::test]
async fn a_rollback_that_fails_exits_with_1() {
    let dir = app();
    let socket = dir.path().join("control.sock");
    serve(fake("ROLLED_BACK"), &socket);
    let outcome = miren("rollback -a shop", &socket, Format::Table).await;
    assert_eq!((outcome.exit, outcome.out.as_str()), (1, ""));
    assert!(
        outcome.err.contains("deploy dep-1 of shop rolled back"),
        "{}",
        outcome.err
    );
}

#[tokio::test]
async fn g15_a_restart_is_followed_and_ends_as_a_deploy() {
    for (ends_as, exit) in [("SUCCEEDED", 0), ("FAILED", 1), ("SUPERSEDED", 4)] {
        let dir = app();
        let socket = dir.path().join("control.sock");
        let fake = fake(ends_as);
        serve(fake.clone(), &socket);
        let outcome = miren("app restart -a shop", &socket, Format::Json).await;
        assert_eq!(outcome.exit, exit, "{}", outcome.err);
        let document = outcome.document();
        assert_eq!(
            (&document["status"], &document["deploy"]),
            (&json!(ends_as), &json!("dep-1"))
        );
        let streams = fake.seen.lock().unwrap().streams.len();
        let detached = miren("app restart -a shop --detach", &socket, Format::Table).await;
        assert!(
            detached.out.starts_with("Deploy dep-1 of shop accepted"),
            "{}",
            detached.out
        );
        let seen = fake.seen.lock().unwrap();
        assert_eq!((seen.streams.len(), seen.key.len()), (streams, 32));
        assert!(
            seen.posts.iter().all(|(path, _)| path == "/v1/apps/shop/restart"),
            "{:?}",
            seen.posts
        );
    }
}
