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
    let sentence = "Node here takes no new deploys, previews and runs; what it runs goes on\n";
    assert_eq!((outcome.exit, &*outcome.out), (0, sentence), "{}", outcome.err);
    let outcome = server.table("node uncordon").await;
    assert_eq!(
        (outcome.exit, &*outcome.out),
        (0, "Node here takes new deploys, previews and runs\n")
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
    for phase in ["ACTIVE", "CORDONED"] {
        let server = Answers::of([("POST /v1/node/drain", node(phase, json!({})))]);
        let outcome = server.table("node drain --allow-outage").await;
        assert_eq!(outcome.exit, 1, "{phase}");
        assert!(
            outcome.err.contains("called off by \"miren node undrain\""),
            "{}",
            outcome.err
        );
        assert_eq!(server.json("node drain --allow-outage").await.exit, 1, "{phase}");
    }
}

#[tokio::test]
async fn d4_a_drain_is_followed_to_its_end_and_each_step_told_once() {
    let waits = |running: u64| {
        let waits = json!({"waits_for": "sandboxes", "requests": 7, "sandboxes": {"RUNNING": running}});
        node("DRAINING", waits)
    };
    let event = |node: &Value| format!("event: node\ndata: {node}\n\n");
    let told = [waits(2), waits(2), waits(1), node("EMPTY", json!({"sandboxes": {}}))];
    let server = Answers::of([
        ("POST /v1/node/drain", waits(2)),
        ("GET /v1/node/events", told.iter().map(event).collect::<String>().into()),
        // Whoever asked once more would hear that it was called off.
        ("GET /v1/node", node("ACTIVE", json!({}))),
    ]);
    let outcome = server.table("node drain").await;
    assert_eq!(outcome.exit, 0, "{}", outcome.err);
    assert!(outcome.out.starts_with("Node here is drained"), "{}", outcome.out);
    for line in ["2 sandboxes, 7 requests in flight", "1 sandbox, 7 requests in flight"] {
        assert_eq!(outcome.err.matches(line).count(), 1, "{}", outcome.err);
    }
    let outcome = server.json("node drain").await;
    assert_eq!((outcome.exit, &outcome.document()["phase"]), (0, &json!("EMPTY")));
    assert_eq!(outcome.err, "");
}

#[tokio::test]
async fn d4_a_drain_whose_stream_ends_too_early_is_read_from_the_node() {
    let server = Answers::of([
        ("POST /v1/node/drain", node("DRAINING", json!({}))),
        ("GET /v1/node/events", Value::String(String::new())),
        ("GET /v1/node", node("EMPTY", json!({"sandboxes": {}}))),
    ]);
    let outcome = tokio::time::timeout(std::time::Duration::from_secs(60), server.table("node drain"));
    let outcome = outcome.await.expect("it waits for a stream that has ended");
    assert_eq!(outcome.exit, 0, "{}", outcome.err);
}

#[tokio::test]
async fn d4_the_status_of_a_node_names_what_its_drain_waits_for_and_what_went_wrong() {
    let blockers = json!([{"id": "sb-1", "state": "DRAINING", "since": null, "why": "7 requests in flight"}]);
    let left = json!({"blockers": blockers, "errors": ["sb-2: a mount is busy"]});
    let server = Answers::of([("GET /v1/node", node("DRAINING", left))]);
    let outcome = server.table("node status").await;
    assert_eq!(outcome.exit, 0, "{}", outcome.err);
    for said in ["WAITS FOR", "sb-1", "7 requests in flight"] {
        assert!(outcome.out.contains(said), "{said}: {}", outcome.out);
    }
    assert!(outcome.err.contains("sb-2: a mount is busy"), "{}", outcome.err);
    let document = server.json("node status").await;
    assert_eq!(
        (&*document.err, &document.document()["errors"][0]),
        ("", &json!("sb-2: a mount is busy"))
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
