//! `miren env`: any number of variables is one request, and what is shown of them.

use super::server::{Fake, Outcome, app, fake, miren, serve};
use miren_cli::options::Format;
use serde_json::{Value, json};
use std::io::{self, IsTerminal};
use std::path::PathBuf;

/// A server whose `shop` has some variables, and its socket.
struct Place {
    dir: tempfile::TempDir,
    fake: Fake,
}

impl Place {
    fn new(ends_as: &'static str) -> Self {
        let place = Self {
            dir: app(),
            fake: Fake {
                variables: json!([
                    {"name": "LEVEL", "value": "debug", "source": "config"},
                    {"name": "API_KEY", "value": "hunter2", "source": "manual"},
                    {"name": "DATABASE_URL", "value": "postgres://u:p@db/shop", "source": "manual"},
                    {"name": "API_KEY", "value": "for web", "service": "web", "source": "manual"},
                ]),
                ..fake(ends_as)
            },
        };
        serve(place.fake.clone(), &place.socket());
        place
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    async fn table(&self, line: &str) -> Outcome {
        miren(line, &self.socket(), Format::Table).await
    }

    async fn json(&self, line: &str) -> Outcome {
        miren(line, &self.socket(), Format::Json).await
    }

    fn requests(&self) -> Vec<Value> {
        let seen = self.fake.seen.lock().unwrap();
        assert_eq!(seen.uploads, 0);
        assert!(seen.posts.iter().all(|(path, _)| path == "/v1/apps/shop/deploys"));
        seen.posts.iter().map(|(_, request)| request.clone()).collect()
    }
}

#[tokio::test]
async fn several_variables_are_one_request_followed_as_a_deploy() {
    let place = Place::new("SUCCEEDED");
    let file = place.dir.path().join("cert");
    std::fs::write(&file, "line 1\nline 2\n").unwrap();
    let line = format!(
        "env set -a shop A=b=c CERT=@{} -e AT=@@home -e API_KEY=hunter2",
        file.display()
    );
    let outcome = place.json(&line).await;
    assert_eq!(outcome.exit, 0, "{} {}", outcome.out, outcome.err);
    let document = outcome.document();
    assert_eq!(
        (&document["deploy"], &document["status"]),
        (&json!("dep-1"), &json!("SUCCEEDED"))
    );
    assert!(outcome.err.contains("now SWITCHING"), "{}", outcome.err);
    let values = json!({"A": "b=c", "API_KEY": "hunter2", "AT": "@home", "CERT": "line 1\nline 2\n"});
    assert_eq!(place.requests(), [json!({ "env": values })]);
}

#[tokio::test]
async fn a_service_can_have_variables_of_its_own() {
    let place = Place::new("SUCCEEDED");
    // The same value, but for all services so far.
    let outcome = place.table("env set -a shop -S worker API_KEY=hunter2 B=1").await;
    assert_eq!(outcome.exit, 0, "{}", outcome.err);
    assert_eq!(place.table("env delete -a shop -f -S web API_KEY").await.exit, 0);
    assert_eq!(
        place.requests(),
        [
            json!({"service_env": {"worker": {"API_KEY": "hunter2", "B": "1"}}}),
            json!({"service_env": {"web": {"API_KEY": null}}}),
        ]
    );
}

#[tokio::test]
async fn values_that_are_set_already_deploy_nothing() {
    let place = Place::new("SUCCEEDED");
    let outcome = place.table("env set -a shop API_KEY=hunter2").await;
    assert_eq!((outcome.exit, outcome.out.as_str()), (0, "nothing to change\n"));
    let outcome = place.json("env set -a shop -S web -e API_KEY=hunter2").await;
    assert_eq!(outcome.exit, 0);
    assert_eq!(place.requests().len(), 1, "web has another value");
    let outcome = place.json("env set -a shop API_KEY=hunter2").await;
    assert_eq!(outcome.document(), json!({"app": "shop", "changed": false}));
    assert_eq!(place.requests().len(), 1);
}

#[tokio::test]
async fn a_deploy_of_variables_that_fails_exits_with_1() {
    let place = Place::new("FAILED");
    let outcome = place.table("env set -a shop A=1").await;
    assert_eq!((outcome.exit, outcome.out.as_str()), (1, ""));
    assert!(outcome.err.contains("exited with code 1"), "{}", outcome.err);
}

#[tokio::test]
async fn one_value_is_printed_bare() {
    let place = Place::new("SUCCEEDED");
    assert_eq!(place.table("env get API_KEY -a shop").await.out, "hunter2\n");
    assert_eq!(place.table("env get API_KEY -a shop -S web").await.out, "for web\n");
    assert_eq!(place.table("env get LEVEL -a shop -S web").await.out, "debug\n");
    let outcome = place.table("env get NONE -a shop").await;
    assert_eq!((outcome.exit, outcome.out.as_str()), (3, ""));
    assert_eq!(
        outcome.err,
        "error: there is no variable NONE\n  try: miren env list -a shop\n"
    );
    assert_eq!(place.table("env get A -a ghost").await.exit, 3);
}

#[tokio::test]
async fn a_table_masks_what_looks_like_a_secret_and_json_does_not() {
    let place = Place::new("SUCCEEDED");
    let masked = place.table("env list -a shop").await.out;
    let lines: Vec<&str> = masked.lines().collect();
    assert_eq!(lines[0], "NAME          VALUE  SERVICE  SOURCE");
    assert_eq!(lines[1], "API_KEY       h•••   (all)    manual");
    assert_eq!(lines[2], "API_KEY       f•••   web      manual");
    assert_eq!(lines[3], "DATABASE_URL  p•••   (all)    manual");
    assert_eq!(lines[4], "LEVEL         debug  (all)    config");
    let whole = place.table("env list -a shop --unmask").await.out;
    assert!(whole.contains("hunter2") && whole.contains("u:p@db"), "{whole}");
    let document = place.json("env list -a shop").await.document();
    assert_eq!(
        document[1],
        json!({"name": "API_KEY", "value": "for web", "service": "web", "source": "manual"})
    );
}

#[tokio::test]
async fn only_what_was_set_by_hand_is_deleted_and_all_of_it_at_once() {
    let place = Place::new("SUCCEEDED");
    let outcome = place.table("env delete API_KEY LEVEL NONE -a shop -f").await;
    assert_eq!((outcome.exit, outcome.out.as_str()), (3, ""));
    assert!(outcome.err.contains("LEVEL is defined in app.toml"), "{}", outcome.err);
    assert!(outcome.err.contains("NONE is not set"), "{}", outcome.err);
    assert!(place.requests().is_empty());

    let outcome = place.table("env delete API_KEY DATABASE_URL -a shop -f").await;
    assert_eq!(outcome.exit, 0, "{}", outcome.err);
    assert_eq!(
        place.requests(),
        [json!({"env": {"API_KEY": null, "DATABASE_URL": null}})]
    );
}

#[tokio::test]
async fn without_a_terminal_nobody_is_asked() {
    if io::stdin().is_terminal() {
        // Then there is somebody to ask, which is the other case.
        return;
    }
    let place = Place::new("SUCCEEDED");
    let outcome = place.table("env set -a shop A=1 B").await;
    assert_eq!(outcome.exit, 2);
    assert_eq!(
        outcome.err,
        "error: B has no value, and stdin is not a terminal\n  try: B=VALUE, or B=@FILE\n"
    );
    let outcome = place.table("env delete API_KEY -a shop").await;
    assert_eq!(outcome.exit, 2);
    assert!(outcome.err.contains("with -f"), "{}", outcome.err);
    assert!(place.requests().is_empty());
}
