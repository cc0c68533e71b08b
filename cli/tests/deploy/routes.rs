//! `miren route`: what is asked of the server, and what is said of its answers.

use super::answers::Answers;
use serde_json::{Value, json};
use std::io::{self, IsTerminal};

fn route(host: &str, timeout_ms: Option<u64>, retry_after: Option<u64>) -> Value {
    json!({
        "host": host, "app": "shop", "service": "web", "default": host == "(default)", "wildcard": false,
        "timeout_ms": timeout_ms, "maintenance": retry_after.map(|retry_after| json!({ "retry_after": retry_after })),
    })
}

#[tokio::test]
async fn a_route_goes_down_and_comes_up_again() {
    let server = Answers::of([
        (
            "PUT /v1/routes/a.example/maintenance",
            route("a.example", None, Some(120)),
        ),
        (
            "DELETE /v1/routes/a.example/maintenance",
            route("a.example", None, None),
        ),
    ]);
    let outcome = server.table("route down a.example --retry-after 2m").await;
    let sentence = "Route a.example is down: requests are told to come back after 2m\n";
    assert_eq!((outcome.exit, outcome.out.as_str()), (0, sentence), "{}", outcome.err);
    let outcome = server.json("route down a.example").await;
    assert_eq!(outcome.document()["maintenance"]["retry_after"], 120);
    let outcome = server.table("route up a.example").await;
    assert_eq!(
        (outcome.exit, outcome.out.as_str()),
        (0, "Route a.example is up: shop answers\n")
    );
    let path = "PUT /v1/routes/a.example/maintenance".to_owned();
    assert_eq!(
        server.changes(),
        [
            (path.clone(), json!({"retry_after": 120})),
            (path, json!({"retry_after": 60})),
            ("DELETE /v1/routes/a.example/maintenance".into(), Value::Null),
        ]
    );
    assert_eq!(server.table("route up b.example").await.exit, 3);
}

#[tokio::test]
async fn the_default_route_goes_down_only_when_that_is_meant() {
    let answer = route("(default)", None, Some(60));
    let server = Answers::of([("PUT /v1/routes/%28default%29/maintenance", answer)]);
    // On a terminal there is somebody to ask, which is the other case.
    if !io::stdin().is_terminal() {
        for line in ["route down --default", "route down (default)"] {
            let outcome = server.table(line).await;
            assert_eq!(outcome.exit, 2);
            assert!(
                outcome.err.contains("try: miren route down --default -f"),
                "{}",
                outcome.err
            );
        }
        assert_eq!(server.changes(), []);
    }
    let outcome = server.table("route down --default -f").await;
    assert!(outcome.out.starts_with("Route (default) is down: "), "{}", outcome.out);
    assert_eq!(server.changes().len(), 1);
}

#[tokio::test]
async fn e2_a_timeout_is_sent_for_the_host_as_typed_and_told_as_the_server_has_it() {
    let path = "/v1/routes/b%C3%BCcher.example/timeout".to_owned();
    let answer = route("xn--bcher-kva.example", Some(5_000), None);
    let server = Answers::of([
        ("PUT /v1/routes/b%C3%BCcher.example/timeout", answer.clone()),
        ("DELETE /v1/routes/b%C3%BCcher.example/timeout", answer.clone()),
        ("GET /v1/routes/b%C3%BCcher.example", answer),
    ]);
    let outcome = server.table("route timeout set bücher.example 5s").await;
    let sentence = "Route xn--bcher-kva.example: shop has 5s to begin an answer\n";
    assert_eq!((outcome.exit, outcome.out.as_str()), (0, sentence), "{}", outcome.err);
    let shown = server.table("route timeout show bücher.example").await.out;
    assert_eq!(shown, "Host:    xn--bcher-kva.example\nApp:     shop\nTimeout: 5s\n");
    assert_eq!(server.table("route timeout clear bücher.example").await.exit, 0);
    assert_eq!(
        server.changes(),
        [
            (format!("PUT {path}"), json!({"timeout": "5s"})),
            (format!("DELETE {path}"), Value::Null),
        ]
    );
    let outcome = server.json("route timeout set a_b.example 5s").await;
    assert_eq!(
        (outcome.exit, &outcome.document()["error"]["code"]),
        (2, &json!("usage"))
    );
}

#[tokio::test]
async fn lists_tell_which_routes_are_down_or_limited() {
    let items = [
        route("(default)", None, Some(120)),
        route("a.example", Some(2_000), None),
    ];
    let server = Answers::of([("GET /v1/routes", json!({ "items": items }))]);
    let text = server.table("route list").await.out;
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].ends_with("TIMEOUT  STATE"), "{text}");
    assert!(lines[1].ends_with("-        down, retry after 2m"), "{text}");
    assert!(lines[2].ends_with("2s       up"), "{text}");
    assert_eq!(
        server.json("route list").await.document()[1],
        route("a.example", Some(2_000), None)
    );
}
