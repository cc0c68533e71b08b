//! `miren ephemeral`, and what apps and versions tell of previews.

use super::answers::{Answers, preview, refused_unasked};
use serde_json::json;
use std::io::{self, IsTerminal};

#[tokio::test]
async fn e12_previews_are_listed_with_the_next_to_expire_first() {
    let mut later = preview("pr2", 1);
    later["expires_at"] = json!("2999-02-02T03:04:05Z");
    let server = Answers::of([(
        "GET /v1/apps/shop/ephemeral",
        json!({"items": [later, preview("pr1", 0)]}),
    )]);
    let outcome = server.table("ephemeral list -a shop").await;
    assert_eq!(outcome.exit, 0, "{}", outcome.err);
    let lines: Vec<&str> = outcome.out.lines().collect();
    assert!(lines[1].starts_with("pr1    shop-v2  idle     in 3"), "{}", lines[1]);
    assert!(lines[2].starts_with("pr2    shop-v2  ready 1  in 3"), "{}", lines[2]);
    assert_eq!(outcome.out.matches("http://pr1.shop.example.com:8080").count(), 1);
    let document = server.json("ephemeral list -a shop").await.document();
    assert_eq!(document[0], preview("pr1", 0));
}

#[tokio::test]
async fn e5_a_preview_is_found_by_what_people_call_it_and_given_more_time() {
    let server = Answers::of([
        ("GET /v1/apps/shop/ephemeral/feature-x", preview("feature-x", 0)),
        ("POST /v1/apps/shop/ephemeral/feature-x/extend", preview("feature-x", 0)),
    ]);
    let outcome = server.table("ephemeral show feature/X -a shop").await;
    assert_eq!(outcome.err, "Label: feature-x (from \"feature/X\")\n");
    assert!(
        outcome
            .out
            .contains("\nURLs:     http://feature-x.shop.example.com:8080\n"),
        "{}",
        outcome.out
    );
    let outcome = server.table("ephemeral extend feature-x -a shop").await;
    let sentence = "Preview feature-x of shop lives until 2999-01-02T03:04:05Z (in ";
    assert!(outcome.out.starts_with(sentence), "{}", outcome.out);
    server.json("ephemeral extend feature-x -a shop --ttl 2h").await;
    let path = "POST /v1/apps/shop/ephemeral/feature-x/extend".to_owned();
    assert_eq!(
        server.changes(),
        [(path.clone(), json!({"ttl": "24h"})), (path, json!({"ttl": "2h"}))]
    );
    refused_unasked("ephemeral extend feature-x -a shop --ttl -1h", "ttl").await;
    refused_unasked("ephemeral extend a.b -a shop", "label").await;
    assert_eq!(server.table("ephemeral show pr9 -a shop").await.exit, 3);
}

#[tokio::test]
async fn e12_a_preview_is_deleted_when_that_is_meant() {
    let server = Answers::of([("DELETE /v1/apps/shop/ephemeral/pr1", preview("pr1", 1))]);
    // On a terminal there is somebody to ask, which is the other case.
    if !io::stdin().is_terminal() {
        let outcome = server.table("ephemeral delete pr1 -a shop").await;
        assert_eq!(outcome.exit, 2);
        assert!(
            outcome.err.contains("try: miren ephemeral delete pr1 -a shop -f"),
            "{}",
            outcome.err
        );
        assert_eq!(server.changes(), []);
    }
    let outcome = server.table("ephemeral delete pr1 -a shop -f").await;
    assert_eq!(
        (outcome.exit, outcome.out.as_str()),
        (0, "Deleted preview pr1 of shop (shop-v2)\n")
    );
    assert_eq!(server.changes().len(), 1);
    assert_eq!(server.json("ephemeral delete pr2 -a shop -f").await.exit, 3);
}

#[tokio::test]
async fn e12_versions_are_told_apart_by_what_they_are_for() {
    let version = |id: &str, status: &str, label: Option<&str>| {
        json!({
            "version": id, "app": "shop", "status": status, "label": label, "pool": null,
            "expires_at": label.map(|_| "2999-01-02T03:04:05Z"), "created_at": "2026-01-02T03:04:05Z",
        })
    };
    let items = [
        version("shop-v1", "replaced", None),
        version("shop-v2", "active", None),
        version("shop-v3", "ephemeral", Some("pr1")),
    ];
    let server = Answers::of([("GET /v1/apps/shop/versions", json!({ "items": items }))]);
    let all = server.json("app versions -a shop").await.document();
    assert_eq!(all.as_array().unwrap().len(), 3);
    let some = server.json("app versions -a shop --ephemeral").await.document();
    assert_eq!(some, json!([version("shop-v3", "ephemeral", Some("pr1"))]));
    let table = server.table("app versions -a shop --ephemeral").await.out;
    assert!(!table.contains("shop-v2") && !table.contains("2999"), "{table}");
    assert!(table.contains("  in 3"), "{table}");
}

#[tokio::test]
async fn e13_the_status_of_an_app_tells_its_urls_pools_previews_and_deploys_once() {
    let pool = json!({
        "id": "pool-1", "app": "shop", "service": "web", "spec_hash": "abc", "versions": ["shop-v1"], "desired": 1,
        "current": 1, "ready": 1, "crash_count": 0, "cooldown_until": null, "state": "active",
    });
    let deploy = |seq: u64| {
        json!({
            "id": format!("dep-{seq}"), "app": "shop", "version": "shop-v1", "seq": seq, "status": "FAILED",
            "pool": null, "reused": false, "urls": [], "started_at": "2026-01-02T03:04:05Z",
            "finished_at": "2026-01-02T03:04:06Z", "error": "no luck\nat all", "steps": [],
        })
    };
    let server = Answers::of([
        (
            "GET /v1/apps/shop",
            json!({"name": "shop", "version": "shop-v1", "health": "healthy", "ready": 1, "desired": 1,
                   "routes": ["shop.example.com"], "urls": ["http://shop.example.com:8080"]}),
        ),
        ("GET /v1/pools", json!({"items": [pool]})),
        ("GET /v1/apps/shop/ephemeral", json!({"items": [preview("pr1", 0)]})),
        (
            "GET /v1/apps/shop/deploys",
            json!({"items": (1..8).map(deploy).collect::<Vec<_>>()}),
        ),
    ]);
    let outcome = server.table("app status -a shop").await;
    assert_eq!(outcome.exit, 0, "{}", outcome.err);
    let text = outcome.out;
    assert!(text.contains("Health:    healthy\n"), "{text}");
    for once in [
        "http://shop.example.com:8080",
        "http://pr1.shop.example.com:8080",
        "\nPools\nID ",
        "\nPreviews\nLABEL ",
        "\nDeploys\nSEQ ",
    ] {
        assert_eq!(text.matches(once).count(), 1, "{once:?} in\n{text}");
    }
    assert_eq!(text.matches("no luck").count(), 5, "{text}");
    assert!(!text.contains("at all"), "{text}");
    let document = server.json("app status -a shop").await.document();
    let seqs: Vec<u64> = document["deploys"]
        .as_array()
        .unwrap()
        .iter()
        .map(|deploy| deploy["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, [7, 6, 5, 4, 3]);
    assert_eq!(
        (&document["name"], &document["pools"][0]["id"]),
        (&json!("shop"), &json!("pool-1"))
    );
    assert_eq!(document["ephemeral"][0], preview("pr1", 0));
}
