//! `miren node`: what is asked of the server, and what is said of its answers.

use super::answers::Answers;
use serde_json::{Value, json};

fn node(phase: &str, change: Value) -> Value {
    let mut node = json!({
        "node": "here", "id": "node-1", "state": if phase == "FORCED" { "DRAINING" } else { phase }, "phase": phase, "gate": "open",
        "epoch": 3, "generation": 0, "cordoned": phase == "CORDONED", "waits_for": null, "admitted": 0, "starts": 0, "requests": 0,
        "sandboxes": {"PENDING": 0, "RUNNING": 2}, "clean_ups": 0, "since": null, "deadline": null, "overdue": false,
        "blockers": [], "more_blockers": 0, "errors": [],
    });
    for (key, value) in change.as_object().unwrap() {
        node[key] = value.clone();
    }
    node
}

#[tokio::test]
async fn d1_a_node_is_shown_cordoned_and_uncordoned() {
    let server = Answers::of([
        ("GET /v1/node", node("ACTIVE", json!({}))),
        ("POST /v1/node/cordon", node("CORDONED", json!({}))),
        ("POST /v1/node/uncordon", node("ACTIVE", json!({}))),
        ("POST /v1/node/undrain", node("CORDONED", json!({}))),
    ]);
    let outcome = server.table("node status").await;
    assert_eq!(outcome.exit, 0, "{}", outcome.err);
    for line in ["Node:", "here (node-1)", "ACTIVE", "2 RUNNING"] {
        assert!(outcome.out.contains(line), "{}", outcome.out);
    }
    assert_eq!(server.json("node status").await.document()["phase"], "ACTIVE");
    let outcome = server.table("node cordon").await;
    let sentence = "Node here takes no new deploys and previews; what it runs goes on\n";
    assert_eq!((outcome.exit, &*outcome.out), (0, sentence), "{}", outcome.err);
    let outcome = server.table("node uncordon").await;
    assert_eq!(
        (outcome.exit, &*outcome.out),
        (0, "Node here takes new deploys and previews\n")
    );
    let outcome = server.table("node undrain").await;
    assert_eq!(
        (outcome.exit, &*outcome.out),
        (0, "Node here runs its apps again; it is cordoned\n")
    );
    let paths: Vec<String> = server.changes().into_iter().map(|(path, _)| path).collect();
    let expected = [
        "POST /v1/node/cordon",
        "POST /v1/node/uncordon",
        "POST /v1/node/undrain",
    ];
    assert_eq!(paths, expected);
}

#[tokio::test]
async fn d4_what_a_drain_is_asked_with_is_sent_and_its_end_is_told() {
    let server = Answers::of([("POST /v1/node/drain", node("EMPTY", json!({"sandboxes": {}})))]);
    let outcome = server.table("node drain --timeout 90s --force --allow-outage").await;
    assert_eq!(outcome.exit, 0, "{}", outcome.err);
    assert!(
        outcome.out.starts_with("Node here is drained: nothing is left"),
        "{}",
        outcome.out
    );
    let outcome = server.json("node drain").await;
    assert_eq!((outcome.exit, &outcome.document()["phase"]), (0, &json!("EMPTY")));
    let path = "POST /v1/node/drain".to_owned();
    let expected = [
        (
            path.clone(),
            json!({"timeout": "90s", "force": true, "allow_outage": true}),
        ),
        (path, json!({"force": false, "allow_outage": false})),
    ];
    assert_eq!(server.changes(), expected);
}

#[tokio::test]
async fn d5_what_is_left_after_the_forced_phase_is_named_with_every_error_and_is_a_failure() {
    let blockers = json!([{"id": "sb-1", "state": "CLEANING_UP", "since": null, "why": "a mount"}]);
    let errors = json!(["sb-1: a mount", "sandbox sb-2 of shop/web was PENDING: killed"]);
    let left = json!({"overdue": true, "blockers": blockers, "more_blockers": 3, "errors": errors});
    let server = Answers::of([("POST /v1/node/drain", node("FORCED", left))]);
    let outcome = server.table("node drain --force").await;
    assert_eq!(outcome.exit, 1);
    for said in [
        "sb-1: a mount",
        "sandbox sb-2 of shop/web was PENDING: killed",
        "4 of what it waits for is left",
    ] {
        assert!(outcome.err.contains(said), "{}", outcome.err);
    }
    assert!(
        outcome.out.contains("CLEANING_UP") && outcome.out.contains("and 3 more"),
        "{}",
        outcome.out
    );
    assert_eq!(server.json("node drain --force").await.exit, 1);
}

#[tokio::test]
async fn d4_a_drain_that_somebody_called_off_did_not_succeed() {
    let server = Answers::of([("POST /v1/node/drain", node("ACTIVE", json!({})))]);
    let outcome = server.table("node drain --allow-outage").await;
    assert_eq!(outcome.exit, 1);
    assert!(
        outcome.err.contains("called off by \"miren node undrain\""),
        "{}",
        outcome.err
    );
}

#[tokio::test]
async fn d1_a_node_that_drains_is_asked_for_a_deploy_once() {
    let refusal = json!({"error": {"code": "draining", "message": "node here drains", "remedy": "miren node undrain", "retry_after": 5}});
    let server = Answers::of([("POST /v1/apps/shop/deploys", refusal)]);
    let outcome = server.json("deploy -a shop --version shop-v1").await;
    assert_eq!(
        (outcome.exit, &outcome.document()["error"]["code"]),
        (1, &json!("draining"))
    );
    assert_eq!(server.changes().len(), 1, "it was asked again");
}
