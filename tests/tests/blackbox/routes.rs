//! Routes as a user has them: wildcards, labels, hosts that are down, limits of time, and a default that is never missing.

use miren_bench::load::{Load, Options};
use miren_blackbox::http::{self, Response};
use miren_blackbox::{AppFolder, Node, wait_until};
use serde_json::Value;
use std::time::Duration;

const HOST: &str = "shop.example.com";
const PATIENCE: Duration = Duration::from_secs(60);

#[track_caller]
fn route(node: &Node, arguments: &[&str]) -> Value {
    node.cli.json(&[&["route"], arguments].concat())
}

/// Waits until a host answers like this: status, code, and the app.
#[track_caller]
fn answers(node: &Node, host: &str, expected: (u16, &str, &str)) -> Response {
    wait_until(&format!("{host} to answer {expected:?}"), PATIENCE, || {
        let response = node.get(host, "/info");
        let app = if response.status == 200 {
            response.field("app")
        } else {
            String::new()
        };
        match (response.status, response.code(), app.as_str()) == expected {
            true => Ok(response),
            false => Err(format!("{response:?}")),
        }
    })
}

#[test]
fn e2_the_most_specific_route_wins_and_labels_come_after_routes() {
    let node = Node::start();
    for name in ["shop", "wild", "deep", "fallback"] {
        node.deploy(&AppFolder::rust(name).fixed(1));
    }
    route(&node, &["set-default", "fallback"]);
    for (host, app) in [(HOST, "shop"), ("*.example.com", "wild"), ("*.a.example.com", "deep")] {
        route(&node, &["set", host, app]);
    }
    for app in ["shop", "wild", "fallback"] {
        let folder = AppFolder::rust(app).release("preview");
        let folder = folder.path().to_str().unwrap();
        let made = node
            .cli
            .call_json(&["deploy", "-a", app, "-d", folder, "--ephemeral", "pr1"]);
        assert_eq!(made.code, 0, "{made}");
    }
    for (host, release, app) in [
        (HOST, "", "shop"),
        ("x.example.com", "", "wild"),
        ("x.a.example.com", "", "deep"),
        ("a.example.com", "", "wild"),
        ("pr1.shop.example.com", "preview", "shop"),
        ("pr1.x.example.com", "preview", "wild"),
        ("pr1.fallback.localhost", "preview", "fallback"),
        ("pr1.localhost", "preview", "fallback"),
        ("pr1.shop.localhost", "preview", "shop"),
        ("elsewhere.net", "", "fallback"),
        ("example.com", "", "fallback"),
    ] {
        let response = answers(&node, host, (200, "", app));
        assert_eq!(response.field("release"), release, "{host}");
    }
    for host in ["pr2.shop.example.com", "pr2.x.example.com", "pr2.fallback.localhost"] {
        answers(&node, host, (404, "no_such_ephemeral", ""));
    }
    node.stop();
}

#[test]
fn a_host_that_is_down_says_when_to_come_back_and_its_preview_is_served() {
    let node = Node::start();
    let app = AppFolder::rust("shop").fixed(1);
    node.deploy_at(&app, HOST);
    let folder = app.path().to_str().unwrap();
    assert_eq!(
        node.cli.call_json(&["deploy", "-d", folder, "--ephemeral", "pr1"]).code,
        0
    );
    let down = route(&node, &["down", HOST, "--retry-after", "2m"]);
    assert_eq!(down["maintenance"]["retry_after"], 120);
    let refused = answers(&node, HOST, (503, "maintenance", ""));
    assert_eq!(refused.header("retry-after"), Some("120"));
    assert_eq!(refused.header("cache-control"), Some("no-store"));
    let request = format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nAccept: application/json\r\n\r\n");
    let json: Value = serde_json::from_slice(&http::raw(node.http, request.as_bytes()).unwrap().body).unwrap();
    assert_eq!(json["error"]["code"], "maintenance", "{json}");
    answers(&node, &format!("pr1.{HOST}"), (200, "", "shop"));
    node.deploy(&app);
    assert_eq!(
        node.get(HOST, "/info").code(),
        "maintenance",
        "a deploy does not bring it up"
    );
    for _ in 0..2 {
        assert_eq!(route(&node, &["up", HOST])["maintenance"], Value::Null);
    }
    answers(&node, HOST, (200, "", "shop"));
    node.stop();
}

#[test]
fn a_route_has_its_own_limit_of_time() {
    let node = Node::start();
    node.deploy_at(&AppFolder::rust("shop").fixed(1), HOST);
    // Far from each other: what is quick is below the limit, also on a busy machine, and what is slow is above it.
    assert_eq!(node.get(HOST, "/sleep?ms=6000").status, 200);
    let limited = route(&node, &["timeout", "set", HOST, "3s"]);
    assert_eq!(limited["timeout_ms"], 3000);
    wait_until("the limit to hold", PATIENCE, || {
        match node.get(HOST, "/sleep?ms=6000") {
            response if (response.status, response.code()) == (504, "upstream_timeout") => Ok(()),
            response => Err(format!("{response:?}")),
        }
    });
    assert_eq!(node.get(HOST, "/info").status, 200);
    route(&node, &["timeout", "clear", HOST]);
    wait_until("the limit to be gone", PATIENCE, || {
        match node.get(HOST, "/sleep?ms=6000").status {
            200 => Ok(()),
            status => Err(status.to_string()),
        }
    });
    let refused = node.cli.call_json(&["route", "timeout", "set", HOST, "soon"]);
    assert_ne!(refused.code, 0, "{refused}");
    node.stop();
}

#[test]
fn x16_there_is_a_default_at_every_moment_while_it_is_switched() {
    let node = Node::start();
    for name in ["one", "two"] {
        node.deploy(&AppFolder::rust(name).fixed(1));
    }
    assert_eq!(
        node.get("anything.net", "/info").field("app"),
        "one",
        "the first app of the node"
    );
    let mut options = Options::get(&format!("http://{}/info", node.http), 300.0).unwrap();
    options.host = Some("anything.net".into());
    let load = Load::start(options).unwrap();
    for app in ["two", "one", "two", "one", "two"] {
        route(&node, &["set-default", app]);
        answers(&node, "anything.net", (200, "", app));
    }
    let report = load.stop().unwrap();
    assert_eq!(report.failed, 0, "{report}");
    node.stop();
}
